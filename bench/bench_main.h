/* bench_main.h - what the measuring programs share: their main, --help and --version, and sorted times. */
#ifndef ADZE_BENCH_BENCH_MAIN_H
#define ADZE_BENCH_BENCH_MAIN_H

#include "core/options.h"

typedef struct {
    const char *name, *usage, *about, *examples; /* examples: NULL is fine */
    const adze_option *table;                    /* with `help`, and `version` if there is one */
    size_t n_options;
    int64_t max_args;
    adze_status (*run)(const adze_options *o);
} bench_program;

/* Parses, runs, says what failed; the exit status. */
int bench_main(const bench_program *p, int argc, char **argv);

/* Ascending. */
void bench_sort(double *x, int64_t n);

#endif
