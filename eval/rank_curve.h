/* rank_curve.h - AUROC, average precision and best F1 from one walk down the distinct scores.
 * Used for images and for pixels alike. */
#ifndef ADZE_EVAL_RANK_CURVE_H
#define ADZE_EVAL_RANK_CURVE_H

#include <stdint.h>

#include "core/status.h"
#include "eval/curve.h"

#ifdef __cplusplus
extern "C" {
#endif

__extension__ typedef unsigned __int128 adze_u128;

/* A sum with its rounding error beside it (Neumaier): the result is good to the last bits whatever the order. */
typedef struct {
    double sum, error;
} adze_exact_sum;

static inline void adze_exact_sum_add(adze_exact_sum *s, double x)
{
    double t = s->sum + x, big = s->sum, small = x;
    if ((x < 0 ? -x : x) > (s->sum < 0 ? -s->sum : s->sum)) big = x, small = s->sum;
    s->error += (big - t) + small;
    s->sum = t;
}

typedef struct {
    int64_t n_positive, n_negative; /* totals */
    int64_t tp, fp;                 /* so far */
    adze_u128 pairs2;               /* twice the (positive above negative) pairs, ties counted half */
    adze_exact_sum ap;              /* sum of positives times precision */
    double f1_max, threshold;
    adze_curve_pen roc, pr;
} adze_rank_curve;

/* roc and pr: where the thinned curves go, NULL allowed. */
void adze_rank_curve_begin(adze_rank_curve *c, int64_t n_positive, int64_t n_negative, adze_curve *roc, adze_curve *pr);

/* The next lower score that some positive has: `passed` negatives lie strictly between it and the score before,
 * `negatives` and `positives` (> 0) have it. Scores that only negatives have need no step of their own: no best F1 and no
 * change of recall can lie there. */
void adze_rank_curve_step(adze_rank_curve *c, double score, int64_t passed, int64_t negatives, int64_t positives);

/* value: AUROC, AP, F1-max; NaN if either class is empty. */
void adze_rank_curve_end(adze_rank_curve *c, double value[3], double *threshold);

#ifdef __cplusplus
}
#endif
#endif
