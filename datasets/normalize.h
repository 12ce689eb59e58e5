/* normalize.h - bytes to normalised float32, by table: everything after the resize depends on the byte and the channel
 * only, so a look-up is bit-identical to ToTensor + Normalize. */
#ifndef ADZE_DATASETS_NORMALIZE_H
#define ADZE_DATASETS_NORMALIZE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* value[c][v] = ((v/255) - mean[c]) / std[c], each step rounded to float32. */
typedef struct {
    float value[3][256];
} adze_normalize;

extern const float adze_imagenet_mean[3], adze_imagenet_std[3], adze_clip_mean[3], adze_clip_std[3];

void adze_normalize_init(adze_normalize *t, const float mean[3], const float std[3]);
/* n_pixels of (n,3) bytes to (n,3) float32: one picture or a whole NHWC batch. */
void adze_normalize_nhwc(const adze_normalize *t, const unsigned char *rgb, int64_t n_pixels, float *out);
/* One picture of n_pixels to three planes (3,n): the reference's order. */
void adze_normalize_chw(const adze_normalize *t, const unsigned char *rgb, int64_t n_pixels, float *out);

#ifdef __cplusplus
}
#endif
#endif
