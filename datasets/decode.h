/* decode.h - PNG and JPEG files to 8-bit pictures, byte for byte what Pillow's convert("RGB") and convert("L") give.
 *
 * The kind of file is found from its first bytes, never from its name. Rules (alpha is dropped, 16-bit grey is clipped,
 * every four-component JPEG is inverted CMYK, gamma and ICC are ignored): datasets/README.md. */
#ifndef ADZE_DATASETS_DECODE_H
#define ADZE_DATASETS_DECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "datasets/image.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    ADZE_DECODE_ANY, /* one channel if the file is grey, three otherwise */
    ADZE_DECODE_L,   /* one channel */
    ADZE_DECODE_RGB  /* three channels */
} adze_decode_mode;

typedef struct {
    adze_decode_mode mode;
    bool gray16_shift;     /* 16-bit grey: the high byte instead of clipping at 255 */
    bool exif_orientation; /* turn JPEGs as their EXIF tag says, as OpenCV does and Pillow does not */
} adze_decode_opts;
#define ADZE_DECODE_OPTS ((adze_decode_opts){ ADZE_DECODE_RGB, false, false })

/* What the decoder saw besides the pixels. */
typedef struct {
    bool gray16;        /* the file is 16-bit grey: worth a warning, values above 255 were clipped unless shifted */
    int64_t n_warnings; /* of libpng or libjpeg, all harmless by the reference's rules */
} adze_decode_info;

enum { ADZE_DECODE_MAX_FILE_BYTES = 1 << 30 };

/* `out` gets a new picture (adze_image_destroy), empty after failure. `opts` NULL = ADZE_DECODE_OPTS, `info` may be NULL.
 * ADZE_EINPUT with the path: unreadable, neither PNG nor JPEG, malformed, truncated, over 2^28 pixels or 500 JPEG scans;
 * ADZE_ENOMEM. Thread-safe. */
adze_status adze_image_decode_file(adze_image *out, const char *path, const adze_decode_opts *opts, adze_decode_info *info);
/* The same from memory; `name` stands for the path in messages. */
adze_status adze_image_decode(adze_image *out, const void *data, size_t n_bytes, const char *name,
                              const adze_decode_opts *opts, adze_decode_info *info);

/* The two decoders behind it. Only ADZE_DECODE_ANY's result: grey as one channel, colour as three. */
adze_status adze_decode_png(adze_image *out, const unsigned char *data, size_t n_bytes, bool gray16_shift,
                            adze_decode_info *info);
/* `orientation`: the EXIF tag, 1..8, 1 if there is none. */
adze_status adze_decode_jpeg(adze_image *out, const unsigned char *data, size_t n_bytes, int *orientation,
                             adze_decode_info *info);

#ifdef __cplusplus
}
#endif
#endif
