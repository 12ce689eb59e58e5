/* label.h - 8-connected regions of a binary mask, as runs of pixels. */
#ifndef ADZE_EVAL_LABEL_H
#define ADZE_EVAL_LABEL_H

#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Pixels [x_begin, x_end) of row y, all in one region. */
typedef struct {
    int32_t y, x_begin, x_end, region;
} adze_label_run;

/* The workspace and the last result; owns both. Regions are numbered 0.. in raster order of their first pixel, runs
 * stand in raster order. */
typedef struct {
    int64_t H, W, n_runs, n_regions;
    adze_label_run *run; /* (n_runs) */
    int64_t *area;       /* (n_regions) pixels */
} adze_labels;

/* Room for any (H,W) mask: about 12 bytes a pixel. ADZE_EINVAL if a side is not in [1, 2^30], ADZE_ENOMEM. */
adze_status adze_labels_create(adze_labels *l, int64_t H, int64_t W);
void adze_labels_destroy(adze_labels *l);

/* Labels `mask` (H,W): a nonzero byte belongs to a region. Two pixels are connected if they touch by side or corner
 * (specs: every AUPRO implementation but a 4-connected one agrees on this). Cannot fail, allocates nothing. */
void adze_labels_find(adze_labels *l, const unsigned char *mask);

#ifdef __cplusplus
}
#endif
#endif
