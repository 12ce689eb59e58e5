/* strips.h - the metrics that the benchmark's authors compute from a histogram (adeval). Internal to eval/. */
#ifndef ADZE_EVAL_STRIPS_H
#define ADZE_EVAL_STRIPS_H

#include "eval/pixel_sweep.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Writes the lower edges of B strips and the maximum into cut[0..B] (B + 1 cuts). min < max, both finite. */
void adze_strips_place(const adze_pixels *px, int B, adze_cut *cut);

/* From the filled cuts: three histograms of B + 2 cells each into `cells` (3 * (B + 2)): positives, negatives, weighted
 * positives; and value[3] = AUPRO up to `limit`, AUROC, AP. A NaN has its reason in `reason`. */
void adze_strips_finish(const adze_pixels *px, int B, double limit, const adze_cut *cut, double *cells,
                        double value[3], const char *reason[3]);

#ifdef __cplusplus
}
#endif
#endif
