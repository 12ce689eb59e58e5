/* encode_png.h - 8-bit grey and RGB pictures to PNG: heat-maps, pictures inside the report, synthetic data sets. */
#ifndef ADZE_DATASETS_ENCODE_PNG_H
#define ADZE_DATASETS_ENCODE_PNG_H

#include <stddef.h>

#include "core/status.h"
#include "datasets/image.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The whole file in new memory (*data: adze_free). The same picture gives the same bytes. ADZE_ENOMEM. */
adze_status adze_image_encode_png(const adze_image *im, unsigned char **data, size_t *n_bytes);
/* The same into a file, atomically. ADZE_EIO names the path. */
adze_status adze_image_write_png(const adze_image *im, const char *path);

#ifdef __cplusplus
}
#endif
#endif
