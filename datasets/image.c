/* image.c - an 8-bit picture in memory. Entry: adze_image_create(). */
#include "datasets/image.h"

#include <inttypes.h>
#include <string.h>

#include "core/memory.h"

adze_status adze_image_create(adze_image *out, int64_t H, int64_t W, int64_t C)
{
    *out = ADZE_IMAGE_EMPTY;
    if (H < 1 || W < 1 || H > ADZE_IMAGE_MAX_PIXELS / W)
        return adze_fail(ADZE_EINPUT, "picture of %" PRId64 "x%" PRId64 " pixels: want 1 to %d", W, H, ADZE_IMAGE_MAX_PIXELS);
    size_t n_bytes = (size_t)(H * W) * (size_t)C;
    unsigned char *data = adze_malloc(n_bytes);
    if (!data) return adze_fail(ADZE_ENOMEM, "picture of %" PRId64 "x%" PRId64 ": %zu host bytes", W, H, n_bytes);
    *out = (adze_image){ data, H, W, C };
    return ADZE_OK;
}

void adze_image_destroy(adze_image *im)
{
    if (!im) return;
    adze_free(im->data);
    *im = ADZE_IMAGE_EMPTY;
}

void adze_pixels_gray_to_rgb(const unsigned char *gray, int64_t n, unsigned char *rgb)
{
    for (int64_t i = 0; i < n; i++) rgb[3 * i] = rgb[3 * i + 1] = rgb[3 * i + 2] = gray[i];
}

void adze_pixels_swap_red_blue(unsigned char *rgb, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        unsigned char red = rgb[3 * i];
        rgb[3 * i] = rgb[3 * i + 2], rgb[3 * i + 2] = red;
    }
}

void adze_pixels_rgb_to_gray(const unsigned char *rgb, int64_t n, unsigned char *gray)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t l = 19595u * rgb[3 * i] + 38470u * rgb[3 * i + 1] + 7471u * rgb[3 * i + 2] + 32768u;
        gray[i] = (unsigned char)(l >> 16);
    }
}

adze_status adze_image_convert(adze_image *out, const adze_image *im, int64_t C)
{
    adze_status st = adze_image_create(out, im->H, im->W, C);
    if (st != ADZE_OK) return st;
    int64_t n = im->H * im->W;
    if (im->C == C) memcpy(out->data, im->data, (size_t)(n * C));
    else if (C == 3) adze_pixels_gray_to_rgb(im->data, n, out->data);
    else adze_pixels_rgb_to_gray(im->data, n, out->data);
    return ADZE_OK;
}
