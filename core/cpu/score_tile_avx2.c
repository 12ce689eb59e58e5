/* score_tile_avx2.c - the micro-kernels in AVX2 with FMA: 4 queries x 24 rows per register block, four blocks a tile. */
#include "core/cpu/score_tile.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma")))
enum { Q = ADZE_SCORE_QUERIES, R = ADZE_SCORE_ROWS };

TARGET static void tile_f32(const float *panel, const float *tile, const float *init, const float *t, int64_t D,
                            adze_score_hits *out)
{
    uint64_t hit[Q] = { 0 };
    float s[Q][R];
    for (int q0 = 0; q0 < Q; q0 += 4)
        for (int r0 = 0; r0 < R; r0 += 24) {
            __m256 acc[4][3];
            for (int i = 0; i < 4; i++)
                for (int v = 0; v < 3; v++) acc[i][v] = _mm256_loadu_ps(init + r0 + 8 * v);
            for (int64_t d = 0; d < D; d++) {
                __m256 b[3];
                for (int v = 0; v < 3; v++) b[v] = _mm256_loadu_ps(tile + d * R + r0 + 8 * v);
                for (int i = 0; i < 4; i++) {
                    __m256 a = _mm256_broadcast_ss(panel + d * Q + q0 + i);
                    for (int v = 0; v < 3; v++) acc[i][v] = _mm256_fmadd_ps(a, b[v], acc[i][v]);
                }
            }
            for (int i = 0; i < 4; i++) {
                __m256 limit = _mm256_set1_ps(t[q0 + i]);
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

TARGET static double distance2(const float *a, const float *b, int64_t D)
{
    __m256d low = _mm256_setzero_pd(), high = _mm256_setzero_pd();
    int64_t d = 0;
    for (; d + 8 <= D; d += 8) {
        __m256 x = _mm256_loadu_ps(a + d), y = _mm256_loadu_ps(b + d);
        __m256d p = _mm256_sub_pd(_mm256_cvtps_pd(_mm256_castps256_ps128(x)), _mm256_cvtps_pd(_mm256_castps256_ps128(y)));
        __m256d q = _mm256_sub_pd(_mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)),
                                  _mm256_cvtps_pd(_mm256_extractf128_ps(y, 1)));
        low = _mm256_add_pd(low, _mm256_mul_pd(p, p));
        high = _mm256_add_pd(high, _mm256_mul_pd(q, q));
    }
    double lane[8];
    _mm256_storeu_pd(lane, low), _mm256_storeu_pd(lane + 4, high);
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

const adze_score_kernels adze_score_kernels_avx2 = { tile_f32, NULL, distance2, distance2_f32 };
#endif
