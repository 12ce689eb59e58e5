/* defect.h - synthetic defects: a texture shows through a picture where Perlin noise exceeds a threshold.
 *
 * What is random is drawn from Philox by number alone: the same defect for the same (seed, epoch, item), whatever the order of
 * work. Source: DeSTSeg (Zhang et al., CVPR 2023), ADer data/ad_dataset.py; specs/destseg.md 2. */
#ifndef ADZE_MODELS_DEFECT_H
#define ADZE_MODELS_DEFECT_H

#include <stdint.h>

#include "core/philox.h"
#include "core/status.h"
#include "models/perlin.h"

#ifdef __cplusplus
extern "C" {
#endif

#define ADZE_DEFECT_THRESHOLD 0.5
enum { ADZE_DEFECT_CORNERS = (ADZE_PERLIN_MAX_CELLS + 1) * (ADZE_PERLIN_MAX_CELLS + 1) };

/* One defect before it has a size in pixels. */
typedef struct {
    int log2_rx, log2_ry;              /* cells of the noise per side, 0..5 each */
    double degrees;                    /* by which it is turned, [-90, 90) */
    double beta;                       /* weight of the picture below the texture, [0, 0.8) */
    double turn[ADZE_DEFECT_CORNERS];  /* of the gradient at corner (p,q): number p * (ry + 1) + q, in turns, [0, 1) */
} adze_defect;

/* Numbers of a stream that one defect takes: item i of an epoch begins at i * ADZE_DEFECT_DRAWS. */
enum { ADZE_DEFECT_DRAWS = 2048 };
/* Draws defect `i` of (seed, stream, item = epoch). */
void adze_defect_draw(adze_defect *d, adze_philox r, int64_t i);

/* Where it is: mask (H,W), 0 or 1. noise, rotated (H,W): work space that holds the fields afterwards. */
void adze_defect_mask(const adze_defect *d, int64_t H, int64_t W, double *noise, double *rotated, unsigned char *mask);
/* out (n,3), normalised as (v/255 - mean)/std: the picture's bytes where mask is 0, else beta * picture + (1 - beta) * texture. */
void adze_defect_blend(const float mean[3], const float std[3], const unsigned char *picture, const unsigned char *texture,
                       const unsigned char *mask, double beta, int64_t n_pixels, float *out);
/* mask (H,W) -> out (H/4,W/4), 0 or 1: bilinear to a quarter, which is the mean of the inner 2x2 of each 4x4, and at least 0.5.
 * H and W are multiples of 4. */
void adze_defect_mask_quarter(const unsigned char *mask, int64_t H, int64_t W, float *out);

/* Built-in texture `number` (0 .. ADZE_TEXTURES - 1), for data without any: rgb (H,W,3) of colour gradients, stripes, checks
 * and speckles bent by noise. The numbers come from `seed`. */
enum { ADZE_TEXTURES = 1 << 16 };
adze_status adze_texture_draw(unsigned char *rgb, int64_t H, int64_t W, uint64_t seed, int64_t number);

#ifdef __cplusplus
}
#endif
#endif
