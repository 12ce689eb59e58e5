/* map_sum.h - maps of several resolutions as one. */
#ifndef ADZE_MODELS_MAP_SUM_H
#define ADZE_MODELS_MAP_SUM_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Maps (n,h,w) of one level, in either precision; the other is NULL. */
typedef struct {
    const float *f32;
    const double *f64;
    int64_t h, w;
} map_level;

/* sum (n,H,W) += the level resized to H x W with align_corners, in its own precision; with `first` sum = that alone. `large` is
 * scratch for n*H*W doubles. Errors as adze_map_upsample()'s. */
adze_status map_sum_add(double *sum, bool first, const map_level *level, int64_t n, int64_t H, int64_t W, int threads, double *large);

#ifdef __cplusplus
}
#endif
#endif
