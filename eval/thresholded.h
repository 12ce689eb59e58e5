/* thresholded.h - F1, accuracy, IoU and Dice at fixed thresholds of the normalised map. Internal to eval/. */
#ifndef ADZE_EVAL_THRESHOLDED_H
#define ADZE_EVAL_THRESHOLDED_H

#include "eval/pixel_sweep.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { ADZE_THRESHOLDED_MEAN = 7, ADZE_THRESHOLDED_MAX = 21, ADZE_THRESHOLDED_CUTS = 28 };
typedef enum { ADZE_THRESHOLDED_F1, ADZE_THRESHOLDED_ACC, ADZE_THRESHOLDED_IOU, ADZE_THRESHOLDED_DICE } adze_thresholded;

/* Writes ADZE_THRESHOLDED_CUTS cuts. min and max finite; if they are equal every normalised score is 0. */
void adze_thresholded_place(const adze_pixels *px, adze_cut *cut);
/* From the filled cuts, by adze_thresholded: mean over 0.2, 0.3 ... 0.8; maximum over 0, 0.05 ... 1. */
void adze_thresholded_finish(const adze_pixels *px, const adze_cut *cut, double mean[4], double max[4]);

#ifdef __cplusplus
}
#endif
#endif
