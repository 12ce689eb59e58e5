/* normalize.c - bytes to normalised float32 by table. Entry: adze_normalize_nhwc(). */
#include "datasets/normalize.h"

const float adze_imagenet_mean[3] = { 0.485f, 0.456f, 0.406f }, adze_imagenet_std[3] = { 0.229f, 0.224f, 0.225f };
const float adze_clip_mean[3] = { 0.48145466f, 0.4578275f, 0.40821073f };
const float adze_clip_std[3] = { 0.26862954f, 0.26130258f, 0.27577711f };

void adze_normalize_init(adze_normalize *t, const float mean[3], const float std[3])
{
    for (int c = 0; c < 3; c++)
        for (int v = 0; v < 256; v++) t->value[c][v] = ((float)v / 255.0f - mean[c]) / std[c];
}

void adze_normalize_nhwc(const adze_normalize *t, const unsigned char *rgb, int64_t n_pixels, float *out)
{
    for (int64_t i = 0; i < n_pixels; i++, rgb += 3, out += 3) {
        out[0] = t->value[0][rgb[0]];
        out[1] = t->value[1][rgb[1]];
        out[2] = t->value[2][rgb[2]];
    }
}

void adze_normalize_chw(const adze_normalize *t, const unsigned char *rgb, int64_t n_pixels, float *out)
{
    for (int c = 0; c < 3; c++)
        for (int64_t i = 0; i < n_pixels; i++) out[c * n_pixels + i] = t->value[c][rgb[3 * i + c]];
}
