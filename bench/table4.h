/* table4.h - scores of methods on classes, laid out as Table 4 of the MIRAD paper. */
#ifndef ADZE_BENCH_TABLE4_H
#define ADZE_BENCH_TABLE4_H

#include <stdbool.h>
#include <stdint.h>

#include "core/text.h"

/* One method on one class. Scores in [0,1], NaN where there are none. */
typedef struct {
    double image_auroc, aupro, aupro_strips; /* as metrics.json defines them */
    double train_s, eval_s;
} table4_score;

typedef struct {
    const char *data;                /* name of the data set, for headings */
    const char *const *method;       /* (n_methods); all borrowed */
    const char *const *class_name;   /* (n_classes) */
    int64_t n_methods, n_classes;
    const table4_score *score;       /* (n_classes, n_methods) */
} table4;

/* Each appends one whole file; ADZE_ENOMEM.
 * Markdown: a row per class and the mean, cells "I-AUROC / AUPRO" times 100, AUPRO with 50 strips as the benchmark computes it;
 * last column mean and population deviation over the methods. If the paper has cells for these classes: a table of them and
 * one of the differences. CSV and JSON: every cell with all its numbers, in [0,1], and the paper's. */
adze_status table4_markdown(const table4 *t, adze_text *out);
adze_status table4_csv(const table4 *t, adze_text *out);
adze_status table4_json(const table4 *t, adze_text *out);

#endif
