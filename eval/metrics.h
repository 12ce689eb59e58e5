/* metrics.h - image, pixel and region metrics of one class of test images.
 *
 * create, add each image, finish, destroy. Memory grows with the pixels of one class: 4 bytes (float64 maps: 8) per
 * normal pixel, 16 (24) per anomalous one while finishing. Results are integers until the last division: they do not
 * depend on the number of threads nor on how equal scores happen to be ordered. */
#ifndef ADZE_EVAL_METRICS_H
#define ADZE_EVAL_METRICS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* All in [0,1], larger is better. Keys of metrics.json in the comments. */
typedef enum {
    ADZE_METRIC_IMAGE_AUROC,       /* image_auroc */
    ADZE_METRIC_IMAGE_AP,          /* image_ap: step-wise average precision */
    ADZE_METRIC_IMAGE_F1_MAX,      /* image_f1_max: over all thresholds */
    ADZE_METRIC_PIXEL_AUROC,       /* pixel_auroc, exact */
    ADZE_METRIC_PIXEL_AP,          /* pixel_ap, exact */
    ADZE_METRIC_PIXEL_F1_MAX,      /* pixel_f1_max, exact */
    ADZE_METRIC_AUPRO,             /* aupro: exact area under the per-region overlap curve up to opts.limit */
    ADZE_METRIC_AUPRO_STRIPS,      /* aupro_strips: the benchmark's histogram estimate (adeval) */
    ADZE_METRIC_PIXEL_AUROC_ADER,  /* pixel_auroc_ader: from the same histogram */
    ADZE_METRIC_PIXEL_AP_ADER,     /* pixel_ap_ader: trapezoid of precision over recall of that histogram */
    ADZE_METRIC_PIXEL_F1_MAX_ADER, /* pixel_f1_max_ader = mF1_max_px: best of 21 thresholds */
    ADZE_METRIC_AUPRO_LOOP,        /* aupro_loop: ADer's 100-threshold loop */
    ADZE_METRIC_F1_MEAN,           /* mF1_px_0.2_0.8_0.1: mean of 7 thresholds; the next three likewise */
    ADZE_METRIC_ACC_MEAN,          /* mAcc_px_0.2_0.8_0.1 */
    ADZE_METRIC_IOU_MEAN,          /* mIoU_px_0.2_0.8_0.1 */
    ADZE_METRIC_DICE_MEAN,         /* mDice_px_0.2_0.8_0.1 */
    ADZE_METRIC_ACC_MAX,           /* mAcc_max_px: best of 21 thresholds; the next two likewise */
    ADZE_METRIC_IOU_MAX,           /* mIoU_max_px */
    ADZE_METRIC_DICE_MAX,          /* mDice_max_px */
    ADZE_METRIC_IMAGE_AUROC_FILE,  /* image_auroc_file: image metrics with the folder's label instead of the mask's */
    ADZE_METRIC_IMAGE_AP_FILE,     /* image_ap_file */
    ADZE_METRIC_IMAGE_F1_MAX_FILE, /* image_f1_max_file */
    ADZE_METRIC_COUNT
} adze_metric;

enum { ADZE_METRIC_MAIN_COUNT = 8 }; /* the first eight make the tables */

/* The key in metrics.json. */
const char *adze_metric_name(adze_metric m);

typedef struct {
    int64_t H, W;       /* size of every map and mask */
    int64_t max_images; /* room is reserved for so many */
    double limit;       /* AUPRO: false-positive rate up to which the curve is integrated, in (0,1] */
    int strips;         /* histogram strips of the *_ADER and _STRIPS metrics, in [1,100000] */
    int loop_steps;     /* thresholds asked for by AUPRO_LOOP, in [1,100000] */
    int pooling;        /* image score: 0 = maximum of the map; else maximum of its pooling x pooling mean, stride 1,
                           no padding; a power of two not above H and W (the benchmark: 16 for some methods) */
    bool float64;       /* maps are double: adze_metrics_add_f64 */
    int threads;        /* 0 = OpenMP's default */
} adze_metrics_opts;
#define ADZE_METRICS_OPTS \
    ((adze_metrics_opts){ .H = 256, .W = 256, .limit = 0.3, .strips = 50, .loop_steps = 100 })

enum { ADZE_CURVE_POINTS = 512 };

/* A curve thinned to at most ADZE_CURVE_POINTS of its vertices, first and last kept. For drawing only. */
typedef struct {
    int n;
    double x[ADZE_CURVE_POINTS], y[ADZE_CURVE_POINTS];
} adze_curve;

typedef struct {
    double value[ADZE_METRIC_COUNT];       /* NaN if undefined */
    const char *reason[ADZE_METRIC_COUNT]; /* why it is NaN, a static string; NULL if defined */
    int64_t n_images, n_good, n_bad;       /* by the label that the image metrics use: the mask's */
    int64_t n_vanished;                    /* anomalous by folder, but the mask is empty at this size: counted good */
    int64_t n_without_mask;                /* anomalous images given without a mask: pixel metrics are undefined */
    int64_t n_pixels_good, n_pixels_bad, n_regions;
    double map_min, map_max;               /* over all maps of the class */
    double image_threshold;                /* score >= this gives image_f1_max; NaN if undefined */
    double pixel_threshold;                /* likewise for pixel_f1_max */
    double limit;                          /* as in the options */
    int64_t loop_thresholds, loop_kept;    /* AUPRO_LOOP: thresholds that arose, points below the limit */
    adze_curve image_roc, image_pr;        /* x false-positive rate, y true-positive rate; x recall, y precision */
    adze_curve pixel_roc, pixel_pr, pro;   /* pro: x false-positive rate from 0 to limit, y mean region overlap */
} adze_metrics_result;

typedef struct adze_metrics adze_metrics; /* opaque: owns the scores of one class */

/* ADZE_EINVAL: an option outside the range above; ADZE_ENOMEM. */
adze_status adze_metrics_create(adze_metrics **out, const adze_metrics_opts *opts);
void adze_metrics_destroy(adze_metrics *m);

/* Adds one image.
 *
 *   name      for messages, e.g. the path
 *   map       (H,W) anomaly map, borrowed for the call
 *   mask      (H,W) nonzero = anomalous, borrowed for the call; NULL = no mask: the image is good, or, with
 *             anomalous = true, only its image label is known
 *   anomalous the label of the folder or list
 *   score     the image score, written (NULL allowed)
 *   label     the label that the image metrics use, written (NULL allowed): 1 if the mask has a pixel
 *
 * ADZE_ENUMERIC naming the image: NaN or infinity in the map. ADZE_EINVAL: more than max_images, or the wrong one of the two
 * functions for opts.float64. ADZE_ENOMEM. After a failure the collector is as before the call. */
adze_status adze_metrics_add(adze_metrics *m, const char *name, const float *map, const unsigned char *mask,
                             bool anomalous, double *score, int *label);
adze_status adze_metrics_add_f64(adze_metrics *m, const char *name, const double *map, const unsigned char *mask,
                                 bool anomalous, double *score, int *label);

/* Gives the image added last another score than its map's: a method's own. ADZE_EINVAL: there is none; ADZE_ENUMERIC: not finite. */
adze_status adze_metrics_set_score(adze_metrics *m, double score);

/* Computes everything; once only, the stored scores are used up. ADZE_EINVAL: no image was added; ADZE_ENOMEM.
 * Definitions: specs/metrics.md; exact area by the MVTec AD evaluation code's rules with ties as one threshold. */
adze_status adze_metrics_finish(adze_metrics *m, adze_metrics_result *result);

/* The histograms behind the strip metrics, after finish: strips + 2 cells each, the maximum counted twice, in
 * borrowed memory. NULL pointers if all scores were equal. */
void adze_metrics_strips(const adze_metrics *m, const double **positives, const double **negatives,
                         const double **weighted);

/* The image metrics alone: n scores with labels 0/1. Writes the three values (AUROC, AP, F1-max; NaN if a class is
 * missing), the threshold, and, where not NULL, the thinned curves. ADZE_ENUMERIC if a score is NaN; ADZE_ENOMEM. */
adze_status adze_image_metrics(const double *score, const int *label, int64_t n, double value[3], double *threshold,
                               adze_curve *roc, adze_curve *pr);

#ifdef __cplusplus
}
#endif
#endif
