/* map_post_kernels.c - the inner loops of upsampling and blur, written once and compiled for each instruction set.
 * Entry: adze_map_kernels_get(). Vectors run over pixels, so that every version rounds alike. */
#include "core/cpu/map_post_kernels.h"

enum { BLOCK = 32 }; /* pixels whose sums stay in registers while the taps pass by */

#define BODY static inline __attribute__((always_inline)) void

BODY blend_f32_body(const float *a, const float *b, float lo, float hi, int64_t n, float *y)
{
    for (int64_t i = 0; i < n; i++) y[i] = lo * a[i] + hi * b[i];
}

BODY blend_f64_body(const double *a, const double *b, double lo, double hi, int64_t n, double *y)
{
    for (int64_t i = 0; i < n; i++) y[i] = lo * a[i] + hi * b[i];
}

BODY gather_f32_body(const float *a, const int32_t *left, const int32_t *right, const float *lo, const float *hi,
                     int64_t n, float *y)
{
    for (int64_t i = 0; i < n; i++) y[i] = lo[i] * a[left[i]] + hi[i] * a[right[i]];
}

BODY gather_f64_body(const double *a, const int32_t *left, const int32_t *right, const double *lo, const double *hi,
                     int64_t n, double *y)
{
    for (int64_t i = 0; i < n; i++) y[i] = lo[i] * a[left[i]] + hi[i] * a[right[i]];
}

BODY taps_body(const double *const *tap, const double *weight, int r, int64_t n, double *y)
{
    int64_t i0 = 0;
    for (; i0 + BLOCK <= n; i0 += BLOCK) {
        double sum[BLOCK];
        const double *centre = tap[r] + i0;
        for (int i = 0; i < BLOCK; i++) sum[i] = centre[i] * weight[0];
        for (int t = r; t >= 1; t--) {
            const double *a = tap[r - t] + i0, *b = tap[r + t] + i0;
            for (int i = 0; i < BLOCK; i++) sum[i] += (a[i] + b[i]) * weight[t];
        }
        for (int i = 0; i < BLOCK; i++) y[i0 + i] = sum[i];
    }
    for (; i0 < n; i0++) {
        double sum = tap[r][i0] * weight[0];
        for (int t = r; t >= 1; t--) sum += (tap[r - t][i0] + tap[r + t][i0]) * weight[t];
        y[i0] = sum;
    }
}

#define VERSION(name, target)                                                                                            \
    target static void blend_f32_##name(const float *a, const float *b, float lo, float hi, int64_t n, float *y)         \
    {                                                                                                                    \
        blend_f32_body(a, b, lo, hi, n, y);                                                                              \
    }                                                                                                                    \
    target static void blend_f64_##name(const double *a, const double *b, double lo, double hi, int64_t n, double *y)    \
    {                                                                                                                    \
        blend_f64_body(a, b, lo, hi, n, y);                                                                              \
    }                                                                                                                    \
    target static void gather_f32_##name(const float *a, const int32_t *left, const int32_t *right, const float *lo,     \
                                         const float *hi, int64_t n, float *y)                                           \
    {                                                                                                                    \
        gather_f32_body(a, left, right, lo, hi, n, y);                                                                   \
    }                                                                                                                    \
    target static void gather_f64_##name(const double *a, const int32_t *left, const int32_t *right, const double *lo,   \
                                         const double *hi, int64_t n, double *y)                                         \
    {                                                                                                                    \
        gather_f64_body(a, left, right, lo, hi, n, y);                                                                   \
    }                                                                                                                    \
    target static void taps_##name(const double *const *tap, const double *weight, int r, int64_t n, double *y)          \
    {                                                                                                                    \
        taps_body(tap, weight, r, n, y);                                                                                 \
    }                                                                                                                    \
    static const adze_map_kernels kernels_##name = { blend_f32_##name, blend_f64_##name, gather_f32_##name,              \
                                                     gather_f64_##name, taps_##name };

VERSION(reference, )
#if defined(__x86_64__)
VERSION(avx2, __attribute__((target("avx2"))))
VERSION(avx512, __attribute__((target("avx512f,avx512dq,avx512vl,prefer-vector-width=512"))))
#endif

const adze_map_kernels *adze_map_kernels_get(adze_isa isa)
{
#if defined(__x86_64__)
    if (isa >= ADZE_ISA_AVX512) return &kernels_avx512;
    if (isa == ADZE_ISA_AVX2) return &kernels_avx2;
#endif
    (void)isa;
    return &kernels_reference;
}
