/* mask.c - defect masks. Entry: adze_mask_resize(). */
#include "datasets/mask.h"

#include <inttypes.h>

void adze_mask_binarize(adze_image *mask)
{
    for (int64_t i = 0; i < mask->H * mask->W; i++) mask->data[i] = mask->data[i] ? 255 : 0;
}

adze_status adze_mask_resize(adze_image *out, const adze_image *mask, int64_t H, int64_t W, adze_filter filter)
{
    adze_image hard;
    *out = ADZE_IMAGE_EMPTY;
    if (mask->C != 1) return adze_fail(ADZE_EINVAL, "mask of %" PRId64 " channels, want 1", mask->C);
    adze_status st = adze_image_convert(&hard, mask, 1);
    if (st != ADZE_OK) return st;
    adze_mask_binarize(&hard);
    st = adze_image_resize(out, &hard, H, W, filter);
    adze_image_destroy(&hard);
    return st;
}

adze_mask_counts adze_mask_threshold(const unsigned char *soft, int64_t n, unsigned char *out)
{
    adze_mask_counts c = { 0, 0, 0 };
    for (int64_t i = 0; i < n; i++) {
        unsigned char v = soft[i];
        c.full += v == 255;
        c.touched += v > 0;
        c.ones += v >= 128;
        out[i] = v >= 128;
    }
    return c;
}
