/* image.h - an 8-bit picture in memory: H rows of W pixels of C interleaved channels, no padding. */
#ifndef ADZE_DATASETS_IMAGE_H
#define ADZE_DATASETS_IMAGE_H

#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { ADZE_IMAGE_MAX_PIXELS = 1 << 28 }; /* larger pictures are refused before anything is allocated */

/* Start with ADZE_IMAGE_EMPTY, end with adze_image_destroy(). */
typedef struct {
    unsigned char *data; /* owned, (H,W,C) */
    int64_t H, W, C;     /* C is 1 (grey) or 3 (RGB, or BGR where a function says so) */
} adze_image;
#define ADZE_IMAGE_EMPTY ((adze_image){ 0, 0, 0, 0 })

/* Unset pixels. ADZE_EINPUT if H*W is not in 1..2^28; ADZE_ENOMEM. */
adze_status adze_image_create(adze_image *out, int64_t H, int64_t W, int64_t C);
void adze_image_destroy(adze_image *im);

/* Grey to three equal channels, RGB to luminance (19595 R + 38470 G + 7471 B + 32768) >> 16; a copy if C fits already.
 * `out` must be empty and not `im`. */
adze_status adze_image_convert(adze_image *out, const adze_image *im, int64_t C);

/* The same on bare pixels: n pixels from (n) to (n,3), and from (n,3) to (n). */
void adze_pixels_gray_to_rgb(const unsigned char *gray, int64_t n, unsigned char *rgb);
void adze_pixels_rgb_to_gray(const unsigned char *rgb, int64_t n, unsigned char *gray);
/* First and third channel of n pixels (n,3) exchanged: RGB to BGR and back. */
void adze_pixels_swap_red_blue(unsigned char *rgb, int64_t n);

#ifdef __cplusplus
}
#endif
#endif
