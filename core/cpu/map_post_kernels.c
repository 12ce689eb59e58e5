/* map_post_kernels.c - the inner loops of upsampling and blur, written once and compiled for each instruction set.
 * Entry: adze_map_kernels_get(). Vectors run over pixels, so that every version rounds alike. */
#include "core/cpu/map_post_kernels.h"

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

/* Pixels of one register: loops over arrays of sums GCC 12 takes apart into scalars, and types wider than the registers it
 * passes through memory (0.36 against 0.79 ms per map of 256x256 on one Zen 4 core in AVX-512). */
typedef double vector_reference __attribute__((vector_size(16), aligned(8), may_alias));
#if defined(__x86_64__)
typedef double vector_avx2 __attribute__((vector_size(32), aligned(8), may_alias));
typedef double vector_avx512 __attribute__((vector_size(64), aligned(8), may_alias));
#endif

#define TAPS(name, target)                                                                                             \
    target static void taps_##name(const double *const *tap, const double *weight, int r, int64_t n, double *y)        \
    {                                                                                                                  \
        const int64_t block = 4 * (int64_t)(sizeof(vector_##name) / sizeof(double));                                   \
        int64_t i0 = 0;                                                                                                \
        for (; i0 + block <= n; i0 += block) {                                                                         \
            const vector_##name *centre = (const vector_##name *)(tap[r] + i0);                                        \
            vector_##name s0 = centre[0] * weight[0], s1 = centre[1] * weight[0];                                      \
            vector_##name s2 = centre[2] * weight[0], s3 = centre[3] * weight[0];                                      \
            for (int t = r; t >= 1; t--) {                                                                             \
                const vector_##name *a = (const vector_##name *)(tap[r - t] + i0);                                     \
                const vector_##name *b = (const vector_##name *)(tap[r + t] + i0);                                     \
                s0 += (a[0] + b[0]) * weight[t];                                                                       \
                s1 += (a[1] + b[1]) * weight[t];                                                                       \
                s2 += (a[2] + b[2]) * weight[t];                                                                       \
                s3 += (a[3] + b[3]) * weight[t];                                                                       \
            }                                                                                                          \
            vector_##name *out = (vector_##name *)(y + i0);                                                            \
            out[0] = s0, out[1] = s1, out[2] = s2, out[3] = s3;                                                        \
        }                                                                                                              \
        for (; i0 < n; i0++) {                                                                                         \
            double sum = tap[r][i0] * weight[0];                                                                       \
            for (int t = r; t >= 1; t--) sum += (tap[r - t][i0] + tap[r + t][i0]) * weight[t];                         \
            y[i0] = sum;                                                                                               \
        }                                                                                                              \
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
    TAPS(name, target)                                                                                                   \
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
