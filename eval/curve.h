/* curve.h - thinning a curve to the points that a drawing can show. Source of the points: rank_curve.c, pixel_sweep.c. */
#ifndef ADZE_EVAL_CURVE_H
#define ADZE_EVAL_CURVE_H

#include "eval/metrics.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Points come in order of x; x runs over a span of `span`, y over at most 1. A point is kept if it lies far enough from
 * the last one kept. By default far means x and y together; with `by_x` x alone, for a y that goes up and down. */
typedef struct {
    adze_curve *curve; /* borrowed; NULL = nothing is kept */
    double span, x, y; /* x, y: the last point given */
    int by_x;
} adze_curve_pen;

void adze_curve_begin(adze_curve_pen *p, adze_curve *curve, double span, int by_x);
void adze_curve_add(adze_curve_pen *p, double x, double y);
/* Keeps the last point given. */
void adze_curve_end(adze_curve_pen *p);

#ifdef __cplusplus
}
#endif
#endif
