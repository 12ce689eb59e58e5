/* loop_aupro.c - ADer's cal_pro_score without its loop over images. Entry: adze_loop_aupro_finish().
 *
 * Thresholds min + i d are equally spaced in the score; points with FPR < limit are kept, their FPR stretched to
 * [0,1], and the trapezoid taken. So this is the mean overlap between the lowest and highest kept FPR, neither
 * anchored at 0 nor interpolated at the limit: a different number from aupro.c's. */
#include "eval/loop_aupro.h"

#include <math.h>
#include <stddef.h>

static double span_of(const adze_pixels *px)
{
    return px->float64 ? px->max - px->min : (double)((float)px->max - (float)px->min);
}

int64_t adze_loop_aupro_count(const adze_pixels *px, int steps)
{
    double span = span_of(px), delta = span / steps;
    return delta > 0.0 ? (int64_t)ceil(span / delta) : 0;
}

typedef struct {
    double t;
    bool float64;
} above_test;

static bool is_above(const void *ctx, double v)
{
    const above_test *a = ctx;
    return a->float64 ? v > a->t : (float)v > (float)a->t;
}

void adze_loop_aupro_place(const adze_pixels *px, int steps, adze_cut *cut)
{
    double step = (px->min + span_of(px) / steps) - px->min; /* numpy's arange: the second element minus the first */
    for (int64_t i = 0; i < adze_loop_aupro_count(px, steps); i++) {
        above_test a = { px->min + (double)i * step, px->float64 };
        cut[i].value = adze_pixels_first(px, is_above, &a);
    }
}

double adze_loop_aupro_finish(const adze_pixels *px, int64_t n, const adze_cut *cut, double limit, int64_t *kept,
                              const char **reason)
{
    const double N = (double)px->n_negative, K = (double)px->n_regions;
    double first = 0.0, f_before = 0.0, p_before = 0.0;
    adze_exact_sum area = { 0.0, 0.0 };
    *kept = 0;
    *reason = px->n_negative == 0 ? "no normal pixel" : NULL;
    if (*reason) return NAN;
    for (int64_t i = 0; i < n; i++) { /* thresholds rise, rates fall */
        double f = (double)cut[i].negatives / N, p = ldexp((double)cut[i].overlap, -ADZE_WEIGHT_BITS) / K;
        if (!(f < limit)) continue;
        if (*kept == 0) first = f;
        else adze_exact_sum_add(&area, (f_before - f) * (p_before + p) / 2.0);
        (*kept)++;
        f_before = f, p_before = p;
    }
    *reason = px->n_regions == 0 ? "no anomalous pixel"
              : *kept == 0       ? "no threshold of the loop has a false-positive rate below the limit"
              : first == f_before ? "all thresholds of the loop below the limit have one false-positive rate"
                                  : NULL;
    return *reason ? NAN : (area.sum + area.error) / (first - f_before);
}
