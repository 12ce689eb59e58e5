/* decode.c - chooses the decoder by content, turns by EXIF, converts the channels. Entry: adze_image_decode_file(). */
#include "datasets/decode.h"

#include <string.h>

#include "core/file.h"
#include "core/memory.h"

/* Orientation o maps the stored picture to the upright one: bit 2 of o-1 swaps the axes, the others mirror. */
static adze_status turn(adze_image *im, int orientation)
{
    static const struct { bool swap, flip_y, flip_x; } rule[9] = {
        { 0, 0, 0 }, { 0, 0, 0 }, { 0, 0, 1 }, { 0, 1, 1 }, { 0, 1, 0 }, { 1, 0, 0 }, { 1, 1, 0 }, { 1, 1, 1 }, { 1, 0, 1 },
    }; /* flips name the axis of the source that runs backward */
    if (orientation < 2 || orientation > 8) return ADZE_OK;
    bool swap = rule[orientation].swap;
    adze_image out;
    adze_status st = adze_image_create(&out, swap ? im->W : im->H, swap ? im->H : im->W, im->C);
    if (st != ADZE_OK) return st;
    unsigned char *p = out.data;
    for (int64_t y = 0; y < out.H; y++)
        for (int64_t x = 0; x < out.W; x++, p += im->C) {
            int64_t sy = swap ? x : y, sx = swap ? y : x;
            if (rule[orientation].flip_y) sy = im->H - 1 - sy;
            if (rule[orientation].flip_x) sx = im->W - 1 - sx;
            memcpy(p, im->data + (sy * im->W + sx) * im->C, (size_t)im->C);
        }
    adze_image_destroy(im);
    *im = out;
    return ADZE_OK;
}

adze_status adze_image_decode(adze_image *out, const void *data, size_t n_bytes, const char *name,
                              const adze_decode_opts *opts, adze_decode_info *info)
{
    static const unsigned char png[8] = { 0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n' }, jpeg[3] = { 0xff, 0xd8, 0xff };
    adze_status st = ADZE_OK;
    adze_image im = ADZE_IMAGE_EMPTY, converted = ADZE_IMAGE_EMPTY;
    adze_decode_info seen = { false, 0 };
    adze_decode_opts o = opts ? *opts : ADZE_DECODE_OPTS;
    int orientation = 1;
    *out = ADZE_IMAGE_EMPTY;
    if (n_bytes >= sizeof png && memcmp(data, png, sizeof png) == 0)
        TRY(adze_decode_png(&im, data, n_bytes, o.gray16_shift, &seen));
    else if (n_bytes >= sizeof jpeg && memcmp(data, jpeg, sizeof jpeg) == 0)
        TRY(adze_decode_jpeg(&im, data, n_bytes, &orientation, &seen));
    else if (n_bytes == 0) TRY(adze_fail(ADZE_EINPUT, "the file is empty"));
    else TRY(adze_fail(ADZE_EINPUT, "neither PNG nor JPEG (by its first bytes)"));
    if (o.exif_orientation) TRY(turn(&im, orientation));
    if (o.mode != ADZE_DECODE_ANY && im.C != (o.mode == ADZE_DECODE_L ? 1 : 3)) {
        TRY(adze_image_convert(&converted, &im, o.mode == ADZE_DECODE_L ? 1 : 3));
        adze_image_destroy(&im);
        im = converted;
    }
    *out = im;
    im = ADZE_IMAGE_EMPTY;
    if (info) *info = seen;
done:
    adze_image_destroy(&im);
    if (st != ADZE_OK) adze_fail_prefix(st, "%s", name);
    return st;
}

adze_status adze_image_decode_file(adze_image *out, const char *path, const adze_decode_opts *opts, adze_decode_info *info)
{
    unsigned char *data;
    size_t n_bytes;
    *out = ADZE_IMAGE_EMPTY;
    adze_status st = adze_file_read(path, ADZE_DECODE_MAX_FILE_BYTES, &data, &n_bytes);
    if (st != ADZE_OK) return st;
    st = adze_image_decode(out, data, n_bytes, path, opts, info);
    adze_free(data);
    return st;
}
