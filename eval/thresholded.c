/* thresholded.c - ADer's pixel metrics at fixed thresholds. Entry: adze_thresholded_place(), adze_thresholded_finish().
 *
 *   A' = (A - min) / (max - min) over all pixels of the class, in the maps' type; predicted where A' > t, t rounded to that type
 *   I = |M and P|  Q = |P|  L = |M|  U = |M or P|  eps = 1e-8
 *   precision I/(Q+eps)  recall = accuracy I/(L+eps)  F1 2pr/(p+r+eps)  IoU I/(U+eps)  Dice 2I/(Q+L+eps)
 *
 * The thresholds are written as numpy's arange forms them: 0.3 is not 0.2 + 0.1 to the last bit, which decides ties. */
#include "eval/thresholded.h"

#include <math.h>

typedef struct {
    double min, max, t;
    bool float64;
} normalised_test;

static bool is_predicted(const void *ctx, double v)
{
    const normalised_test *n = ctx;
    if (n->max == n->min) return 0.0 > n->t;
    if (n->float64) return (v - n->min) / (n->max - n->min) > n->t;
    float low = (float)n->min;
    return ((float)v - low) / ((float)n->max - low) > (float)n->t;
}

void adze_thresholded_place(const adze_pixels *px, adze_cut *cut)
{
    for (int i = 0; i < ADZE_THRESHOLDED_CUTS; i++) {
        double t = i < ADZE_THRESHOLDED_MEAN ? 0.2 + i * ((0.2 + 0.1) - 0.2) : (i - ADZE_THRESHOLDED_MEAN) * 0.05;
        normalised_test n = { px->min, px->max, t, px->float64 };
        cut[i].value = adze_pixels_first(px, is_predicted, &n);
    }
}

static void at_threshold(const adze_pixels *px, const adze_cut *cut, double value[4])
{
    const double eps = 1e-8, I = (double)cut->positives, Q = I + (double)cut->negatives, L = (double)px->n_positive;
    const double precision = I / (Q + eps), recall = I / (L + eps);
    value[ADZE_THRESHOLDED_F1] = 2.0 * precision * recall / (precision + recall + eps);
    value[ADZE_THRESHOLDED_ACC] = recall;
    value[ADZE_THRESHOLDED_IOU] = I / (L + Q - I + eps);
    value[ADZE_THRESHOLDED_DICE] = 2.0 * I / (Q + L + eps);
}

void adze_thresholded_finish(const adze_pixels *px, const adze_cut *cut, double mean[4], double max[4])
{
    double value[4];
    for (int k = 0; k < 4; k++) mean[k] = max[k] = 0.0;
    for (int i = 0; i < ADZE_THRESHOLDED_CUTS; i++) {
        at_threshold(px, &cut[i], value);
        for (int k = 0; k < 4; k++) {
            if (i < ADZE_THRESHOLDED_MEAN) mean[k] += value[k] / ADZE_THRESHOLDED_MEAN;
            else max[k] = fmax(max[k], value[k]);
        }
    }
}
