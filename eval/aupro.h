/* aupro.h - the exact area under the per-region overlap curve. Internal to eval/. */
#ifndef ADZE_EVAL_AUPRO_H
#define ADZE_EVAL_AUPRO_H

#include <stdint.h>

#include "eval/rank_curve.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    double limit, n_negative, scale; /* scale: of the overlap's unit to the mean over regions */
    int64_t fp;
    double f, p; /* the last vertex */
    adze_exact_sum area;
    adze_curve_pen pen;
} adze_aupro;

/* K regions, N negatives, both > 0. */
void adze_aupro_begin(adze_aupro *a, double limit, int64_t K, int64_t N, adze_curve *curve);
/* As adze_rank_curve_step: `passed` negatives alone, then one threshold with `negatives` and an overlap of `overlap`
 * (sum so far, at 2^96 a region). */
void adze_aupro_step(adze_aupro *a, int64_t passed, int64_t negatives, adze_u128 overlap);
/* The area divided by the limit. */
double adze_aupro_end(adze_aupro *a);

#ifdef __cplusplus
}
#endif
#endif
