/* pixel_sweep.h - one walk down the scores of all pixels of a class, from which every pixel metric follows.
 *
 * Histogram and threshold metrics are monotone in the score, so that they, too, need only counts of scores at or
 * above certain values: the "cuts". Internal to eval/. */
#ifndef ADZE_EVAL_PIXEL_SWEEP_H
#define ADZE_EVAL_PIXEL_SWEEP_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"
#include "eval/rank_curve.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The pixels. Positive ones are (key, region): for float maps key = adze_rank_key_f32 in the high word with the region in
 * the low one and `region` is NULL; for double maps key = adze_rank_key_f64. The sweep sorts them in place. */
typedef struct {
    bool float64;
    const void *negative; /* (n_negative) float or double */
    uint64_t *key;        /* (n_positive) */
    uint32_t *region;     /* (n_positive) or NULL */
    int64_t n_negative, n_positive, n_regions;
    const int64_t *area;  /* (n_regions) */
    double min, max;      /* of all scores, in the maps' type */
} adze_pixels;

/* Sums of per-region weights are integers, in units of 2^-96: exact order does not matter, and the rounding of 1/area
 * is below 2^-70 for any area. */
enum { ADZE_WEIGHT_BITS = 96 };

typedef struct {
    double value;                /* in: a finite score, or infinity */
    int64_t negatives, positives; /* out: pixels with a score >= value */
    adze_u128 overlap;           /* out: sum over those positives of 1/area, at 2^96 */
    adze_u128 weight;            /* out: the same with 1/area rounded to float32, as the reference's histogram has it */
} adze_cut;

typedef struct {
    double rank[3], threshold; /* AUROC, AP, F1-max and its threshold */
    double aupro;
} adze_pixel_exact;

/* Fills the cuts (in any order) and the exact metrics; NaN where undefined. The curves are written (NULL allowed).
 * ADZE_ENOMEM. */
adze_status adze_pixel_sweep(adze_pixels *px, double limit, int threads, adze_cut *cut, int64_t n_cuts,
                             adze_pixel_exact *exact, adze_curve *roc, adze_curve *pr, adze_curve *pro);

/* Smallest score v in [min, max] of the maps' type with holds(ctx, v), for a test that stays true once it is; infinity if it
 * fails at max. */
double adze_pixels_first(const adze_pixels *px, bool (*holds)(const void *ctx, double v), const void *ctx);

#ifdef __cplusplus
}
#endif
#endif
