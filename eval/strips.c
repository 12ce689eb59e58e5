/* strips.c - AUPRO, AUROC and "AP" from a histogram of B equal strips, value by value as adeval computes them on CUDA.
 * Entry: adze_strips_place(), adze_strips_finish().
 *
 *   strip(a) = int((a - min) * B / (max - min)), left to right, each step rounded to the maps' type; B becomes B-1
 *   cell 0 is empty, cell b+1 counts strip b, cell B+1 counts the maximum once more
 *
 * What surprised us: the pixels equal to the maximum are counted twice, the curves have no anchor at (0,0), and the
 * area called AP is a trapezoid of precision over recall that lacks the part left of its first point. All of it
 * is reproduced here, because published numbers are made of it. */
#include "eval/strips.h"

#include <math.h>
#include <stddef.h>

typedef struct {
    double min, max;
    bool float64;
    int B, strip;
} strip_test;

static bool reaches_strip(const void *ctx, double v)
{
    const strip_test *t = ctx;
    int strip;
    if (t->float64) {
        double s = (v - t->min) * t->B / (t->max - t->min);
        strip = s < t->B ? (int)s : t->B - 1;
    } else {
        float low = (float)t->min, s = (float)v - low;
        s = s * (float)t->B;
        s = s / ((float)t->max - low);
        strip = s < (float)t->B ? (int)s : t->B - 1;
    }
    return strip >= t->strip;
}

void adze_strips_place(const adze_pixels *px, int B, adze_cut *cut)
{
    for (int b = 0; b < B; b++) {
        strip_test t = { px->min, px->max, px->float64, B, b };
        cut[b].value = adze_pixels_first(px, reaches_strip, &t);
    }
    cut[B].value = px->max;
}

static double at_scale(adze_u128 w)
{
    return ldexp((double)w, -ADZE_WEIGHT_BITS);
}

/* Area below the segment (x1,p1)-(x2,p2) from x1 to the limit inside it, in the reference's form, which is 0/0 where both
 * overlaps are 0. */
static double crossing_area(double x1, double p1, double x2, double p2, double limit)
{
    double t = (limit - x1) / (x2 - x1), r = p1 / (p1 + (p2 - p1) / 2.0);
    return (x2 - x1) * (p1 + p2) / 2.0 * (r * t + (1.0 - r) * t * t);
}

void adze_strips_finish(const adze_pixels *px, int B, double limit, const adze_cut *cut, double *cells,
                        double value[3], const char *reason[3])
{
    double *positive = cells, *negative = cells + B + 2, *weighted = cells + 2 * (B + 2);
    positive[0] = negative[0] = weighted[0] = 0.0;
    for (int b = 0; b < B; b++) {
        const adze_cut *low = &cut[b], zero = { 0 }, *next = b + 1 < B ? &cut[b + 1] : &zero;
        positive[b + 1] = (double)(low->positives - next->positives);
        negative[b + 1] = (double)(low->negatives - next->negatives);
        weighted[b + 1] = at_scale(low->weight - next->weight);
    }
    positive[B + 1] = (double)cut[B].positives;
    negative[B + 1] = (double)cut[B].negatives;
    weighted[B + 1] = at_scale(cut[B].weight);

    const char *why = NULL;
    const double P = (double)(px->n_positive + cut[B].positives), N = (double)(px->n_negative + cut[B].negatives);
    if (px->n_positive == 0) why = "no anomalous pixel";
    else if (px->n_negative == 0) why = "no normal pixel";
    else if ((double)cut[B].negatives / N > limit) why = "too many normal pixels have the maximal score";
    for (int k = 0; k < 3; k++) value[k] = NAN, reason[k] = why;
    if (why) return;

    /* From the highest cell down, in ascending order of the false-positive rate. The first point starts no area. */
    const double W = at_scale(cut[0].weight + cut[B].weight);
    double tp = positive[B + 1], fp = negative[B + 1], wp = at_scale(cut[B].weight), crossing = 0.0;
    double fpr = fp / N, recall = tp / P, overlap = wp / W, precision = tp / (tp + fp);
    adze_exact_sum auroc = { 0.0, 0.0 }, ap = { 0.0, 0.0 }, pro = { 0.0, 0.0 };
    for (int cell = B; cell >= 1; cell--) {
        tp += positive[cell], fp += negative[cell], wp += weighted[cell];
        double f = fp / N, r = tp / P, o = wp / W, p = tp / (tp + fp);
        adze_exact_sum_add(&auroc, (f - fpr) * (r + recall) / 2.0);
        adze_exact_sum_add(&ap, (r - recall) * (p + precision) / 2.0);
        if (f <= limit) adze_exact_sum_add(&pro, (f - fpr) * (o + overlap) / 2.0);
        else if (fpr <= limit) crossing = crossing_area(fpr, overlap, f, o, limit);
        fpr = f, recall = r, overlap = o, precision = p;
    }
    value[0] = (pro.sum + pro.error + crossing) / limit;
    value[1] = auroc.sum + auroc.error;
    value[2] = ap.sum + ap.error;
    if (isnan(value[0])) reason[0] = "no overlap on either side of the limit";
}
