/* loop_aupro.h - the overlap area of ADer's threshold loop, which some papers print. Internal to eval/. */
#ifndef ADZE_EVAL_LOOP_AUPRO_H
#define ADZE_EVAL_LOOP_AUPRO_H

#include "eval/pixel_sweep.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Number of thresholds that arise when `steps` are asked for: steps or steps + 1. min < max, both finite. */
int64_t adze_loop_aupro_count(const adze_pixels *px, int steps);
/* Writes that many cuts. */
void adze_loop_aupro_place(const adze_pixels *px, int steps, adze_cut *cut);
/* From the filled cuts; NaN with its reason. kept: points below the limit. */
double adze_loop_aupro_finish(const adze_pixels *px, int64_t n, const adze_cut *cut, double limit, int64_t *kept,
                              const char **reason);

#ifdef __cplusplus
}
#endif
#endif
