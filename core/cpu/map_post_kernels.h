/* map_post_kernels.h - internal: the inner loops of core/map_post.c for each instruction set. */
#ifndef ADZE_CORE_CPU_MAP_POST_KERNELS_H
#define ADZE_CORE_CPU_MAP_POST_KERNELS_H

#include <stdint.h>

#include "core/isa.h"

typedef struct {
    /* y[i] = lo a[i] + hi b[i] */
    void (*blend_f32)(const float *a, const float *b, float lo, float hi, int64_t n, float *y);
    void (*blend_f64)(const double *a, const double *b, double lo, double hi, int64_t n, double *y);
    /* y[i] = lo[i] a[left[i]] + hi[i] a[right[i]] */
    void (*gather_f32)(const float *a, const int32_t *left, const int32_t *right, const float *lo, const float *hi,
                       int64_t n, float *y);
    void (*gather_f64)(const double *a, const int32_t *left, const int32_t *right, const double *lo, const double *hi,
                       int64_t n, double *y);
    /* y[i] = tap[r][i] weight[0] + sum over t = r..1 of (tap[r-t][i] + tap[r+t][i]) weight[t], in that order */
    void (*taps)(const double *const *tap, const double *weight, int r, int64_t n, double *y);
} adze_map_kernels;

const adze_map_kernels *adze_map_kernels_get(adze_isa isa);

#endif
