/* score_tile_avx512.c - the micro-kernels in AVX-512 and AVX-512-BF16: all 8 x 48 scores in 24 registers. */
#include "core/cpu/score_tile.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#define TARGET      __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))
#define TARGET_BF16 __attribute__((target("avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))
enum { Q = ADZE_SCORE_QUERIES, R = ADZE_SCORE_ROWS };

/* Compares the 24 accumulators with the thresholds; only queries with a hit are stored. */
TARGET static inline __attribute__((always_inline)) void keep_hits(__m512 (*acc)[3], const float *t, adze_score_hits *out)
{
    unsigned any = 0;
    for (int i = 0; i < Q; i++) {
        __m512 limit = _mm512_set1_ps(t[i]);
        uint64_t hit = (uint64_t)_mm512_cmp_ps_mask(acc[i][0], limit, _CMP_GE_OQ) |
                       (uint64_t)_mm512_cmp_ps_mask(acc[i][1], limit, _CMP_GE_OQ) << 16 |
                       (uint64_t)_mm512_cmp_ps_mask(acc[i][2], limit, _CMP_GE_OQ) << 32;
        if (__builtin_expect(hit != 0, 0)) {
            any |= 1u << i;
            out->hit[i] = hit;
            for (int v = 0; v < 3; v++) _mm512_storeu_ps(out->s[i] + 16 * v, acc[i][v]);
        }
    }
    out->any = any;
}

TARGET static void tile_f32(const float *panel, const float *tile, const float *init, const float *t, int64_t D,
                            adze_score_hits *out)
{
    __m512 acc[Q][3];
    for (int i = 0; i < Q; i++)
        for (int v = 0; v < 3; v++) acc[i][v] = _mm512_loadu_ps(init + 16 * v);
    for (int64_t d = 0; d < D; d++) {
        __m512 b0 = _mm512_loadu_ps(tile), b1 = _mm512_loadu_ps(tile + 16), b2 = _mm512_loadu_ps(tile + 32);
#pragma GCC unroll 8
        for (int i = 0; i < Q; i++) {
            __m512 a = _mm512_set1_ps(panel[i]);
            acc[i][0] = _mm512_fmadd_ps(a, b0, acc[i][0]);
            acc[i][1] = _mm512_fmadd_ps(a, b1, acc[i][1]);
            acc[i][2] = _mm512_fmadd_ps(a, b2, acc[i][2]);
        }
        panel += Q;
        tile += R;
    }
    keep_hits(acc, t, out);
}

TARGET_BF16 static void tile_bf16(const uint16_t *panel, const uint16_t *tile, const float *init, const float *t,
                                  int64_t D, adze_score_hits *out)
{
    __m512 acc[Q][3];
    for (int i = 0; i < Q; i++)
        for (int v = 0; v < 3; v++) acc[i][v] = _mm512_loadu_ps(init + 16 * v);
    for (int64_t d = 0; d < D; d += 2) {
        __m512bh b0 = (__m512bh)_mm512_loadu_si512(tile), b1 = (__m512bh)_mm512_loadu_si512(tile + 32),
                 b2 = (__m512bh)_mm512_loadu_si512(tile + 64);
#pragma GCC unroll 8
        for (int i = 0; i < Q; i++) {
            int32_t pair;
            memcpy(&pair, panel + 2 * i, sizeof pair);
            __m512bh a = (__m512bh)_mm512_set1_epi32(pair);
            acc[i][0] = _mm512_dpbf16_ps(acc[i][0], a, b0);
            acc[i][1] = _mm512_dpbf16_ps(acc[i][1], a, b1);
            acc[i][2] = _mm512_dpbf16_ps(acc[i][2], a, b2);
        }
        panel += 2 * Q;
        tile += 2 * R;
    }
    keep_hits(acc, t, out);
}

TARGET static double distance2(const float *a, const float *b, int64_t D)
{
    __m512d sum = _mm512_setzero_pd();
    int64_t d = 0;
    for (; d + 8 <= D; d += 8) {
        __m512d diff = _mm512_sub_pd(_mm512_cvtps_pd(_mm256_loadu_ps(a + d)), _mm512_cvtps_pd(_mm256_loadu_ps(b + d)));
        sum = _mm512_add_pd(sum, _mm512_mul_pd(diff, diff));
    }
    double lane[8];
    _mm512_storeu_pd(lane, sum);
    for (; d < D; d++) {
        double diff = (double)a[d] - (double)b[d];
        lane[d % 8] += diff * diff;
    }
    for (int half = 4; half > 0; half /= 2)
        for (int l = 0; l < half; l++) lane[l] += lane[l + half];
    return lane[0];
}

TARGET static float distance2_f32(const float *a, const float *b, int64_t D)
{
    __m512 sum = _mm512_setzero_ps();
    int64_t d = 0;
    for (; d + 16 <= D; d += 16) {
        __m512 diff = _mm512_sub_ps(_mm512_loadu_ps(a + d), _mm512_loadu_ps(b + d));
        sum = _mm512_add_ps(sum, _mm512_mul_ps(diff, diff));
    }
    if (d < D) {
        __mmask16 tail = (__mmask16)((1u << (D - d)) - 1);
        __m512 diff = _mm512_sub_ps(_mm512_maskz_loadu_ps(tail, a + d), _mm512_maskz_loadu_ps(tail, b + d));
        sum = _mm512_add_ps(sum, _mm512_mul_ps(diff, diff)); /* lanes beyond the end add +0 */
    }
    __m256 h8 = _mm256_add_ps(_mm512_castps512_ps256(sum), _mm512_extractf32x8_ps(sum, 1));
    __m128 h4 = _mm_add_ps(_mm256_castps256_ps128(h8), _mm256_extractf128_ps(h8, 1));
    __m128 h2 = _mm_add_ps(h4, _mm_movehl_ps(h4, h4));
    return _mm_cvtss_f32(_mm_add_ss(h2, _mm_shuffle_ps(h2, h2, 1)));
}

const adze_score_kernels adze_score_kernels_avx512 = { tile_f32, NULL, distance2, distance2_f32 };
const adze_score_kernels adze_score_kernels_bf16 = { tile_f32, tile_bf16, distance2, distance2_f32 };
#endif
