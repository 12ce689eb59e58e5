/* score_tile_avx512.c - the micro-kernels in AVX-512, with its BF16 and VNNI parts: all 8 x 48 scores in 24 registers. */
#include "core/cpu/score_tile.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include <string.h>

#define TARGET      __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))
#define TARGET_BF16 __attribute__((target("avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))
#define TARGET_VNNI __attribute__((target("avx512vnni,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))
enum { Q = ADZE_SCORE_QUERIES, R = ADZE_SCORE_ROWS };

/* In place: with the intrinsic GCC 12 copies the accumulators around and spills them (half the speed). */
#define VPDPBUSD(sum, a, b) __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b))

/* Compares the 24 accumulators with the thresholds; only queries with a hit are stored. */
TARGET static inline __attribute__((always_inline)) void keep_hits(__m512 (*acc)[3], const float *t, adze_score_hits *out)
{
    unsigned any = 0;
#pragma GCC unroll 8
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

TARGET static void tile_f32(const adze_score_operands *o, adze_score_hits *out)
{
    const float *panel = o->panel, *tile = o->tile;
    __m512 acc[Q][3];
    for (int i = 0; i < Q; i++)
        for (int v = 0; v < 3; v++) acc[i][v] = _mm512_loadu_ps(o->init + 16 * v);
    for (int64_t d = 0; d < o->D; d++) {
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
    keep_hits(acc, o->t, out);
}

TARGET_BF16 static void tile_bf16(const adze_score_operands *o, adze_score_hits *out)
{
    const uint16_t *panel = o->panel, *tile = o->tile;
    __m512 acc[Q][3];
    for (int i = 0; i < Q; i++)
        for (int v = 0; v < 3; v++) acc[i][v] = _mm512_loadu_ps(o->init + 16 * v);
    for (int64_t d = 0; d < o->D; d += 2) {
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
    keep_hits(acc, o->t, out);
}

TARGET_VNNI static void tile_int8(const adze_score_operands *o, adze_score_hits *out)
{
    const uint8_t *panel = o->panel;
    const int8_t *tile = o->tile;
    __m512i sum[Q][3];
    __m512 acc[Q][3];
#pragma GCC unroll 8
    for (int i = 0; i < Q; i++)
#pragma GCC unroll 3
        for (int v = 0; v < 3; v++) sum[i][v] = _mm512_loadu_si512(o->row_shift + 16 * v);
    for (int64_t d = 0; d < o->D; d += 4) {
        __m512i b0 = _mm512_loadu_si512(tile), b1 = _mm512_loadu_si512(tile + 64), b2 = _mm512_loadu_si512(tile + 128);
#pragma GCC unroll 8
        for (int i = 0; i < Q; i++) {
            int32_t four;
            memcpy(&four, panel + 4 * i, sizeof four);
            __m512i a = _mm512_set1_epi32(four);
            VPDPBUSD(sum[i][0], a, b0);
            VPDPBUSD(sum[i][1], a, b1);
            VPDPBUSD(sum[i][2], a, b2);
        }
        panel += 4 * Q;
        tile += 4 * R;
    }
    /* every loop that touches the accumulators is unrolled, else GCC 12 keeps them in memory (half the speed) */
#pragma GCC unroll 8
    for (int i = 0; i < Q; i++) {
        __m512 scale = _mm512_set1_ps(o->query_scale[i]);
#pragma GCC unroll 3
        for (int v = 0; v < 3; v++) {
            __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps(sum[i][v]), _mm512_loadu_ps(o->row_scale + 16 * v));
            acc[i][v] = _mm512_fmadd_ps(product, scale, _mm512_loadu_ps(o->init + 16 * v));
        }
    }
    keep_hits(acc, o->t, out);
}

TARGET static double distance2(const float *a, const float *b, int64_t D)
{
    __m512d low = _mm512_setzero_pd(), high = _mm512_setzero_pd();
    int64_t d = 0;
    for (; d + 16 <= D; d += 16) {
        __m512d p = _mm512_sub_pd(_mm512_cvtps_pd(_mm256_loadu_ps(a + d)), _mm512_cvtps_pd(_mm256_loadu_ps(b + d)));
        __m512d q = _mm512_sub_pd(_mm512_cvtps_pd(_mm256_loadu_ps(a + d + 8)), _mm512_cvtps_pd(_mm256_loadu_ps(b + d + 8)));
        low = _mm512_add_pd(low, _mm512_mul_pd(p, p));
        high = _mm512_add_pd(high, _mm512_mul_pd(q, q));
    }
    double lane[16];
    _mm512_storeu_pd(lane, low), _mm512_storeu_pd(lane + 8, high);
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

/* Loads x - m of up to 16 elements; zeros behind. */
TARGET static inline __attribute__((always_inline)) __m512 centred(const float *x, const float *m, __mmask16 mask)
{
    return _mm512_sub_ps(_mm512_maskz_loadu_ps(mask, x), _mm512_maskz_loadu_ps(mask, m));
}

TARGET static inline __attribute__((always_inline)) __mmask16 mask_of(int64_t left)
{
    return left >= 16 ? (__mmask16)0xffff : (__mmask16)((1u << left) - 1);
}

/* As score_pack.c, but the lost part is taken in float32; its bound covers that: the rounding of x - m is at most
 * 2^-24 of it, and D/16 + 20 float roundings enter the sum. */
TARGET static void pack_int8(const float *x, const int64_t *row, int n, int64_t D, const float *m, int width, void *dst,
                             adze_packed_row *info)
{
    uint8_t *out = dst;
    const __m128i bias = _mm_set1_epi8(width == ADZE_SCORE_QUERIES ? -128 : 0);
    const double roundings = ((double)D / 16.0 + 20.0) * 0x1p-23;
    if (n < width) memset(out, 0, adze_score_packed_bytes(ADZE_SCORE_INT8, D, width));
    for (int i = 0; i < n; i++) {
        const float *p = x + (row ? row[i] : i) * D;
        __m512 most = _mm512_setzero_ps(), lost = _mm512_setzero_ps();
        __m512d low = _mm512_setzero_pd(), high = _mm512_setzero_pd();
        __m512i sum = _mm512_setzero_si512();
        for (int64_t d = 0; d < D; d += 16) most = _mm512_max_ps(most, _mm512_abs_ps(centred(p + d, m + d, mask_of(D - d))));
        float largest = _mm512_reduce_max_ps(most);
        float scale = largest > 0x1p-100f ? largest / 127.0f : 0.0f, inverse = scale > 0.0f ? 1.0f / scale : 0.0f;
        __m512 s = _mm512_set1_ps(scale), by = _mm512_set1_ps(inverse);
        for (int64_t d = 0; d < D; d += 16) {
            __mmask16 mask = mask_of(D - d);
            __m512 a = _mm512_maskz_loadu_ps(mask, p + d), b = _mm512_maskz_loadu_ps(mask, m + d), c = _mm512_sub_ps(a, b);
            __m512d c0 = _mm512_sub_pd(_mm512_cvtps_pd(_mm512_castps512_ps256(a)), _mm512_cvtps_pd(_mm512_castps512_ps256(b)));
            __m512d c1 = _mm512_sub_pd(_mm512_cvtps_pd(_mm512_extractf32x8_ps(a, 1)),
                                       _mm512_cvtps_pd(_mm512_extractf32x8_ps(b, 1)));
            low = _mm512_fmadd_pd(c0, c0, low), high = _mm512_fmadd_pd(c1, c1, high);
            __m512i v = _mm512_cvtps_epi32(_mm512_mul_ps(c, by));
            __m512 r = _mm512_fnmadd_ps(s, _mm512_cvtepi32_ps(v), c);
            lost = _mm512_fmadd_ps(r, r, lost);
            sum = _mm512_add_epi32(sum, v);
            __m128i byte = _mm_xor_si128(_mm512_cvtepi32_epi8(v), bias);
            uint32_t four[4];
            _mm_storeu_si128((__m128i *)four, byte);
            for (int64_t f = 0; f < 4 && d + 4 * f < D; f++) memcpy(out + ((d / 4 + f) * width + i) * 4, &four[f], 4);
        }
        double norm2 = _mm512_reduce_add_pd(_mm512_add_pd(low, high)), norm = sqrt(norm2) * (1.0 + 1e-6);
        float residual = (float)(sqrt((double)_mm512_reduce_add_ps(lost)) * (1.0 + roundings) + norm * 0x1p-23 + 0x1p-60);
        info[i] = (adze_packed_row){ .norm2 = norm2, .norm = (float)norm + residual, .residual = residual, .scale = scale,
                                     .sum = _mm512_reduce_add_epi32(sum) };
    }
}

const adze_score_kernels adze_score_kernels_avx512 = { { tile_f32, NULL, NULL },
                                                       { adze_score_pack_f32_avx512, NULL, NULL },
                                                       distance2,
                                                       distance2_f32 };
const adze_score_kernels adze_score_kernels_bf16 = {
    { tile_f32, tile_bf16, tile_int8 },
    { adze_score_pack_f32_avx512, adze_score_pack_bf16_avx512, pack_int8 },
    distance2,
    distance2_f32
};
#endif
