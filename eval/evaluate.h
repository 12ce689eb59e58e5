/* evaluate.h - scoring the test pictures of one class with a model: scores, metrics, and the maps and pictures for the report. */
#ifndef ADZE_EVAL_EVALUATE_H
#define ADZE_EVAL_EVALUATE_H

#include "datasets/dataset.h"
#include "eval/loaded_model.h"
#include "eval/metrics.h"
#include "eval/program.h"
#include "eval/result_table.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One picture of the gallery: PNG bytes, owned; NULL where there is none. */
typedef struct {
    int64_t image; /* row */
    unsigned char *png[3]; /* by adze_report_picture_kind */
    size_t n_bytes[3];
} evaluated_picture;

typedef struct {
    adze_metrics_result metrics;
    adze_image_row *row; /* (n) in order of the items; paths borrowed from the data set */
    int64_t n;
    evaluated_picture *picture;
    int64_t n_pictures;
    double low, high;    /* scale of the heat-maps */
    double seconds, waited_s;
    int64_t n_gray16;
} evaluated_class;

typedef struct {
    bool masks;             /* false: image metrics only */
    bool heatmaps;          /* write OUT/heatmaps/CLASS/... */
    bool gray16_shift;
    int64_t gallery;        /* worst misses, and worst false alarms, to keep pictures of */
    const char *out;        /* folder of the results */
    /* Gets every map (H,W) as it is made; NULL: nobody wants them. */
    adze_status (*take_map)(void *user, const char *class_name, const adze_data_item *item, const float *map);
    void *user;
} evaluate_opts;

adze_status evaluate_class(evaluated_class *out, adze_program *p, loaded_model *m, const char *class_name,
                           const adze_data_item *items, int64_t n, const evaluate_opts *opts);
void evaluated_class_destroy(evaluated_class *c);

#ifdef __cplusplus
}
#endif
#endif
