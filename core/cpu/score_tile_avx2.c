/* score_tile_avx2.c - the micro-kernels in AVX2 with FMA: 4 queries x 24 rows per register block, four blocks a tile. */
#include "core/cpu/score_tile.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma")))
enum { Q = ADZE_SCORE_QUERIES, R = ADZE_SCORE_ROWS };

TARGET static void tile_f32(const adze_score_operands *o, adze_score_hits *out)
{
    const float *panel = o->panel, *tile = o->tile;
    uint64_t hit[Q] = { 0 };
    float s[Q][R];
    for (int q0 = 0; q0 < Q; q0 += 4)
        for (int r0 = 0; r0 < R; r0 += 24) {
            __m256 acc[4][3];
            for (int i = 0; i < 4; i++)
                for (int v = 0; v < 3; v++) acc[i][v] = _mm256_loadu_ps(o->init + r0 + 8 * v);
            for (int64_t d = 0; d < o->D; d++) {
                __m256 b[3];
                for (int v = 0; v < 3; v++) b[v] = _mm256_loadu_ps(tile + d * R + r0 + 8 * v);
                for (int i = 0; i < 4; i++) {
                    __m256 a = _mm256_broadcast_ss(panel + d * Q + q0 + i);
                    for (int v = 0; v < 3; v++) acc[i][v] = _mm256_fmadd_ps(a, b[v], acc[i][v]);
                }
            }
            for (int i = 0; i < 4; i++) {
                __m256 limit = _mm256_set1_ps(o->t[q0 + i]);
                for (int v = 0; v < 3; v++) {
                    int mask = _mm256_movemask_ps(_mm256_cmp_ps(acc[i][v], limit, _CMP_GE_OQ));
                    hit[q0 + i] |= (uint64_t)(unsigned)mask << (r0 + 8 * v);
                    _mm256_storeu_ps(s[q0 + i] + r0 + 8 * v, acc[i][v]);
                }
            }
        }
    out->any = 0;
    for (int i = 0; i < Q; i++) {
        if (!hit[i]) continue;
        out->any |= 1u << i;
        out->hit[i] = hit[i];
        for (int j = 0; j < R; j++) out->s[i][j] = s[i][j];
    }
}

TARGET static inline __attribute__((always_inline)) __m256d square4(const float *a, const float *b, __m256d sum)
{
    __m256d diff = _mm256_sub_pd(_mm256_cvtps_pd(_mm_loadu_ps(a)), _mm256_cvtps_pd(_mm_loadu_ps(b)));
    return _mm256_add_pd(sum, _mm256_mul_pd(diff, diff));
}

TARGET static double distance2(const float *a, const float *b, int64_t D)
{
    __m256d sum[4] = { _mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd() };
    int64_t d = 0;
    for (; d + 16 <= D; d += 16)
        for (int v = 0; v < 4; v++) sum[v] = square4(a + d + 4 * v, b + d + 4 * v, sum[v]);
    double lane[16];
    for (int v = 0; v < 4; v++) _mm256_storeu_pd(lane + 4 * v, sum[v]);
    for (; d < D; d++) {
        double diff = (double)a[d] - (double)b[d];
        lane[d % 16] += diff * diff;
    }
    for (int half = 8; half > 0; half /= 2)
        for (int l = 0; l < half; l++) lane[l] += lane[l + half];
    return lane[0];
}

TARGET static float distance2_f32(const float *a, const float *b, int64_t D)
{
    __m256 low = _mm256_setzero_ps(), high = _mm256_setzero_ps();
    int64_t d = 0;
    for (; d + 16 <= D; d += 16) {
        __m256 p = _mm256_sub_ps(_mm256_loadu_ps(a + d), _mm256_loadu_ps(b + d));
        __m256 q = _mm256_sub_ps(_mm256_loadu_ps(a + d + 8), _mm256_loadu_ps(b + d + 8));
        low = _mm256_add_ps(low, _mm256_mul_ps(p, p));
        high = _mm256_add_ps(high, _mm256_mul_ps(q, q));
    }
    float lane[16];
    _mm256_storeu_ps(lane, low), _mm256_storeu_ps(lane + 8, high);
    for (; d < D; d++) {
        float diff = a[d] - b[d];
        lane[d % 16] += diff * diff;
    }
    for (int half = 8; half > 0; half /= 2)
        for (int l = 0; l < half; l++) lane[l] += lane[l + half];
    return lane[0];
}

const adze_score_kernels adze_score_kernels_avx2 = { { tile_f32, NULL, NULL },
                                                     { adze_score_pack_f32_avx2, NULL, NULL },
                                                     distance2,
                                                     distance2_f32 };
#endif
