/* result_table.h - the results of all classes, and the files that hold them: metrics.json .md .csv .tex, scores.csv.
 *
 * The same results give the same bytes. Text may be any bytes: invalid UTF-8 becomes U+FFFD, and each format has its
 * own escaping. */
#ifndef ADZE_EVAL_RESULT_TABLE_H
#define ADZE_EVAL_RESULT_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"
#include "core/text.h"
#include "eval/metrics.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One named value, borrowed. `is_number`: the value is a JSON number or true/false/null and goes out unquoted. */
typedef struct {
    const char *key, *value;
    bool is_number;
} adze_fact;

/* One test image. Everything is borrowed. */
typedef struct {
    const char *path; /* relative to the data root */
    bool anomalous;   /* by folder or list */
    int label;        /* the one that the image metrics use */
    double score;
} adze_image_row;

typedef struct {
    const char *name;
    const adze_metrics_result *metrics;
    const adze_image_row *image; /* (n_images) */
    int64_t n_images;
    double threshold;         /* image threshold in use, shown in the report; NaN = the one of image_f1_max */
    const char *const *note;  /* (n_notes) limits to be told, NULL allowed when n_notes is 0 */
    int64_t n_notes;
} adze_class_result;

typedef struct {
    const char *model;
    const adze_fact *protocol; /* (n_protocol) how the numbers came about: size, limit, label rule, ... */
    int64_t n_protocol;
    const adze_class_result *cls; /* (n_classes), in the order of all tables */
    int64_t n_classes;
} adze_results;

/* Unweighted mean of a metric over the classes that have it; NaN if none has. `n_used` may be NULL. */
double adze_results_mean(const adze_results *r, adze_metric metric, int64_t *n_used);

/* Each appends one whole file to `out`; ADZE_ENOMEM.
 * JSON: values in [0,1] that read back to the same double, null with its reason under "notes". Markdown and TeX: the
 * eight main metrics times 100 with one decimal, "-" where undefined. CSV: all metrics as in the JSON, empty where
 * undefined; text cells that a spreadsheet would take for a formula start with an apostrophe. */
adze_status adze_results_json(const adze_results *r, adze_text *out);
adze_status adze_results_markdown(const adze_results *r, adze_text *out);
adze_status adze_results_csv(const adze_results *r, adze_text *out);
adze_status adze_results_tex(const adze_results *r, adze_text *out);
adze_status adze_results_scores(const adze_results *r, adze_text *out);

/* Writes metrics.json, metrics.md, metrics.csv, metrics.tex and scores.csv into the existing folder `dir`, each
 * atomically. ADZE_EIO names the file. */
adze_status adze_results_write(const adze_results *r, const char *dir);

#ifdef __cplusplus
}
#endif
#endif
