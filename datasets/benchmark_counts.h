/* benchmark_counts.h - how many pictures the published data sets have, to notice an incomplete copy. Private to datasets/. */
#ifndef ADZE_DATASETS_BENCHMARK_COUNTS_H
#define ADZE_DATASETS_BENCHMARK_COUNTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    const char *class_name;
    int64_t train, test_good, test_bad; /* -1: not published per class */
    int64_t defects;                    /* folders; -1: unknown or not separated */
} adze_benchmark_class;

typedef struct {
    const char *name;
    const adze_benchmark_class *classes;
    int64_t n_classes;
    int64_t train, test; /* totals; test = good + bad */
} adze_benchmark;

/* The benchmark that has all the given classes (in any order), NULL if none has; *complete: at least half of its classes
 * are among them. */
const adze_benchmark *adze_benchmark_find(const char *const *classes, int64_t n, bool *complete);
const adze_benchmark_class *adze_benchmark_class_of(const adze_benchmark *b, const char *class_name);

#endif
