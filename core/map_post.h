/* map_post.h - from patch scores to anomaly maps: bilinear upsampling and Gaussian blur. Entry: adze_map_post().
 *
 * Every instruction set gives the same bits: vectors run over pixels, never over taps, and nothing is contracted.
 *
 *   upsample  source coordinate y(i) = max(0, (i + 0.5) h/H - 0.5), with align_corners i (h-1)/(H-1) (0 for H = 1);
 *             y0 = floor(y), y1 = min(y0 + 1, h - 1), weights y - y0 and its complement, computed in double and rounded
 *             to the map's type; rows are blended first, then columns
 *   blur      radius r = int(4 sigma + 0.5), weights exp(-x^2 / (2 sigma^2)) normalised in double; border half-sample
 *             symmetric (d c b a | a b c d | d c b a), reflected again where the map is smaller than r; axis 0, then
 *             axis 1; each output summed in double: centre, then pairs from the farthest inwards; each pass stored in
 *             the map's type. Equal to scipy.ndimage.gaussian_filter. */
#ifndef ADZE_CORE_MAP_POST_H
#define ADZE_CORE_MAP_POST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/isa.h"
#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    bool align_corners;
    adze_isa isa;
    int threads; /* over maps; 0 = OpenMP's maximum */
    struct adze_ctx *ctx; /* adze_map_post() runs on its device, if its backend has it; NULL: the cpu */
} adze_map_opts;
#define ADZE_MAP_OPTS ((adze_map_opts){ .align_corners = false })

/* The blur's radius, and its radius + 1 weights, the centre's first: for the backends. sigma >= 0 and at most 1000. */
int adze_map_radius(double sigma);
void adze_map_weights(double sigma, double *weight);

/* x (B,h,w) -> y (B,H,W), not overlapping; sizes from 1 to 65536 each. `opts` NULL = ADZE_MAP_OPTS.
 * ADZE_EINVAL for sizes, ADZE_ENOMEM, ADZE_EBACKEND if the machine lacks opts->isa. */
adze_status adze_map_upsample(const float *x, int64_t B, int64_t h, int64_t w, int64_t H, int64_t W,
                              const adze_map_opts *opts, float *y);
adze_status adze_map_upsample_f64(const double *x, int64_t B, int64_t h, int64_t w, int64_t H, int64_t W,
                                  const adze_map_opts *opts, double *y);

/* x (B,H,W) -> y (B,H,W); y may be x. sigma >= 0 and at most 1000; 0 (radius 0) copies. Errors as above. */
adze_status adze_map_blur(const float *x, int64_t B, int64_t H, int64_t W, double sigma, const adze_map_opts *opts,
                          float *y);
adze_status adze_map_blur_f64(const double *x, int64_t B, int64_t H, int64_t W, double sigma, const adze_map_opts *opts,
                              double *y);

/* Both, map by map while it is in the cache: patch scores x (B,h,w) -> maps y (B,H,W). */
adze_status adze_map_post(const float *x, int64_t B, int64_t h, int64_t w, int64_t H, int64_t W, double sigma,
                          const adze_map_opts *opts, float *y);

/* Memory that a call with these sizes takes of the device of `ctx`; 0 where it runs in host memory. */
size_t adze_map_device_bytes(const struct adze_ctx *ctx, int64_t B, int64_t h, int64_t w, int64_t H, int64_t W, double sigma);

#ifdef __cplusplus
}
#endif
#endif
