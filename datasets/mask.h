/* mask.h - defect masks: any non-zero luminance is defect, resized like the picture, then cut at one half. */
#ifndef ADZE_DATASETS_MASK_H
#define ADZE_DATASETS_MASK_H

#include <stdint.h>

#include "core/status.h"
#include "datasets/image.h"
#include "datasets/resize.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int64_t ones;    /* bytes >= 128: the mask of all methods */
    int64_t full;    /* bytes == 255 */
    int64_t touched; /* bytes > 0 */
} adze_mask_counts;

/* Binarises `mask` (C = 1) in place: L > 0 -> 255. */
void adze_mask_binarize(adze_image *mask);
/* Soft bytes 0..255 after the resize: binarised copy of `mask`, resized (ADZE_FILTER_BILINEAR, or
 * ADZE_FILTER_OPENCV_LINEAR for DeSTSeg). ADZE_EINVAL if C is not 1. */
adze_status adze_mask_resize(adze_image *out, const adze_image *mask, int64_t H, int64_t W, adze_filter filter);
/* n soft bytes to 0/1 (>= 128), counting. `out` may be `soft`. */
adze_mask_counts adze_mask_threshold(const unsigned char *soft, int64_t n, unsigned char *out);

#ifdef __cplusplus
}
#endif
#endif
