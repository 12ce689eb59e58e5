/* aupro.c - area under the per-region overlap curve up to a false-positive rate. Entry: adze_aupro_step().
 *
 *   PRO(t) = mean over regions of the share of the region with score >= t      FPR(t) = share of the other pixels
 *   area   = trapezoids between (0,0), one vertex per distinct score, (1,1); the one that crosses the limit is cut by linear
 *            interpolation; divided by the limit
 *
 * Equal scores form one threshold: splitting them would make the result depend on the sort. Between two scores that
 * regions have, the overlap does not change: the vertices of all scores there lie on one horizontal line, so one
 * step is as exact as a thousand. Source: the evaluation code of MVTec AD. */
#include "eval/aupro.h"

#include <math.h>

#include "eval/pixel_sweep.h"

void adze_aupro_begin(adze_aupro *a, double limit, int64_t K, int64_t N, adze_curve *curve)
{
    *a = (adze_aupro){ .limit = limit, .n_negative = (double)N, .scale = ldexp(1.0, -ADZE_WEIGHT_BITS) / (double)K };
    adze_curve_begin(&a->pen, curve, limit, 0);
    adze_curve_add(&a->pen, 0.0, 0.0);
}

static void vertex(adze_aupro *a, double f, double p)
{
    if (a->f >= a->limit) return;
    if (f > a->limit) {
        p = a->p + (p - a->p) * ((a->limit - a->f) / (f - a->f));
        f = a->limit;
    }
    adze_exact_sum_add(&a->area, (f - a->f) * (p + a->p) / 2.0);
    a->f = f, a->p = p;
    adze_curve_add(&a->pen, f, p);
}

void adze_aupro_step(adze_aupro *a, int64_t passed, int64_t negatives, adze_u128 overlap)
{
    if (passed > 0) vertex(a, (double)(a->fp + passed) / a->n_negative, a->p);
    a->fp += passed + negatives;
    vertex(a, (double)a->fp / a->n_negative, fmin((double)overlap * a->scale, 1.0));
}

double adze_aupro_end(adze_aupro *a)
{
    vertex(a, 1.0, 1.0);
    adze_curve_end(&a->pen);
    return (a->area.sum + a->area.error) / a->limit;
}
