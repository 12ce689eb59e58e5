/* resize.h - 8-bit resizing bit for bit as the reference pipelines do it: Pillow's antialiased filters, OpenCV's
 * INTER_LINEAR, nearest, centre crop, rotation.
 *
 * Integer arithmetic throughout: the SIMD paths give the same bytes as the plain C path. Nothing here starts threads;
 * the loader's workers each resize their own picture. */
#ifndef ADZE_DATASETS_RESIZE_H
#define ADZE_DATASETS_RESIZE_H

#include <stdint.h>

#include "core/status.h"
#include "datasets/image.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    ADZE_FILTER_NEAREST,
    ADZE_FILTER_BOX,
    ADZE_FILTER_BILINEAR, /* triangle widened by the scale: what torchvision does to pictures */
    ADZE_FILTER_HAMMING,
    ADZE_FILTER_BICUBIC, /* a = -0.5 */
    ADZE_FILTER_LANCZOS,
    ADZE_FILTER_OPENCV_LINEAR, /* cv2.INTER_LINEAR, no antialiasing */
    ADZE_FILTER_COUNT
} adze_filter;

/* "bilinear", ... "opencv"; NULL out of range. From a name: ADZE_EINVAL with the nearest one. */
const char *adze_filter_name(adze_filter filter);
adze_status adze_filter_parse(adze_filter *out, const char *name);

/* Which code resizes. The same bytes from each; AUTO is the widest that the processor has. */
typedef enum { ADZE_RESIZE_AUTO, ADZE_RESIZE_PLAIN, ADZE_RESIZE_AVX2, ADZE_RESIZE_AVX512 } adze_resize_path;

/* `im` to H x W. Pillow's filters: horizontal pass first, rounded to 8 bits, then vertical (Pillow 9.5 to 12; Pillow 13
 * orders by cost). ADZE_EINPUT if H*W is not in 1..2^28, ADZE_ENOMEM. Source: Pillow Resample.c, OpenCV resize. */
adze_status adze_image_resize(adze_image *out, const adze_image *im, int64_t H, int64_t W, adze_filter filter);
/* The same by a given path; ADZE_EBACKEND if the processor lacks it. */
adze_status adze_image_resize_by(adze_image *out, const adze_image *im, int64_t H, int64_t W, adze_filter filter,
                                 adze_resize_path path);

/* Size after scaling the shorter side to `shorter`: longer = int(shorter * long / short). Source: torchvision Resize(int). */
void adze_resize_short_size(int64_t H, int64_t W, int64_t shorter, int64_t *H_out, int64_t *W_out);
/* Centre crop to H x W, zeros around a smaller picture. Source: torchvision CenterCrop. */
adze_status adze_image_crop_center(adze_image *out, const adze_image *im, int64_t H, int64_t W);
/* Counter-clockwise by `degrees` about the centre, same size, nearest, zeros outside. Source: Pillow Image.rotate. */
adze_status adze_image_rotate(adze_image *out, const adze_image *im, double degrees);

#ifdef __cplusplus
}
#endif
#endif
