/* score_pack.c - packing of rows into panels and tiles, with what the error bound needs of each. Written once, compiled
 * for each instruction set (integers have a version of their own in score_tile_avx512.c: they are the fastest search,
 * and packing its queries was a fifth of it). Sums run in 8 lanes in double. */
#include <math.h>
#include <string.h>

#include "core/cpu/score_tile.h"

enum { STRIP = 16, LANES = 8 }; /* elements per row and turn: the strip of a tile stays in L1 while its columns are written */

#define BODY static inline __attribute__((always_inline)) void

/* Upper bound of the root in float: the factor covers the double sum and the rounding to float. */
static inline float root_up(double x2)
{
    return (float)(sqrt(x2) * (1.0 + 1e-6));
}

static inline double fold(const double *lane)
{
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

/* c = x - m over n <= STRIP elements, zeros behind, and its squares added to the lanes. */
BODY centre_strip(const float *x, const float *m, int64_t n, double *c, double *lane)
{
    float a[STRIP] = { 0 }, b[STRIP] = { 0 };
    if (n == STRIP) memcpy(a, x, sizeof a), memcpy(b, m, sizeof b);
    else memcpy(a, x, (size_t)n * sizeof *a), memcpy(b, m, (size_t)n * sizeof *b);
    for (int d = 0; d < STRIP; d++) c[d] = (double)a[d] - (double)b[d];
    for (int half = 0; half < STRIP; half += LANES)
        for (int l = 0; l < LANES; l++) lane[l] += c[half + l] * c[half + l];
}

BODY pack_f32_body(const float *x, const int64_t *row, int n, int64_t D, const float *m, int width, void *dst,
                   adze_packed_row *info)
{
    float *out = dst;
    double lane[ADZE_SCORE_ROWS][LANES] = { { 0 } };
    if (n < width) memset(out, 0, adze_score_packed_bytes(ADZE_SCORE_F32, D, width));
    for (int64_t d0 = 0; d0 < D; d0 += STRIP) {
        int64_t left = D - d0 < STRIP ? D - d0 : STRIP;
        for (int i = 0; i < n; i++) {
            double c[STRIP];
            centre_strip(x + (row ? row[i] : i) * D + d0, m + d0, left, c, lane[i]);
            for (int64_t d = 0; d < left; d++) out[(d0 + d) * width + i] = (float)c[d];
        }
    }
    for (int i = 0; i < n; i++) {
        double norm2 = fold(lane[i]);
        float residual = (float)(sqrt(norm2) * 0x1.0001p-24 + 0x1p-130);
        info[i] = (adze_packed_row){ .norm2 = norm2, .norm = root_up(norm2) + residual, .residual = residual, .scale = 1.0f };
    }
}

BODY pack_bf16_body(const float *x, const int64_t *row, int n, int64_t D, const float *m, int width, void *dst,
                    adze_packed_row *info)
{
    uint16_t *out = dst;
    double lane[ADZE_SCORE_ROWS][LANES] = { { 0 } }, lost[ADZE_SCORE_ROWS][LANES] = { { 0 } };
    if (n < width || D % 2 != 0) memset(out, 0, adze_score_packed_bytes(ADZE_SCORE_BF16, D, width));
    for (int64_t d0 = 0; d0 < D; d0 += STRIP) {
        int64_t left = D - d0 < STRIP ? D - d0 : STRIP;
        for (int i = 0; i < n; i++) {
            double c[STRIP], r[STRIP];
            uint16_t h[STRIP];
            centre_strip(x + (row ? row[i] : i) * D + d0, m + d0, left, c, lane[i]);
            for (int d = 0; d < STRIP; d++) h[d] = adze_bf16_round((float)c[d]);
            for (int d = 0; d < STRIP; d++) r[d] = c[d] - (double)adze_bf16_value(h[d]);
            for (int half = 0; half < STRIP; half += LANES)
                for (int l = 0; l < LANES; l++) lost[i][l] += r[half + l] * r[half + l];
            for (int64_t d = 0; d < left; d++) out[((d0 + d) / 2 * width + i) * 2 + d % 2] = h[d];
        }
    }
    for (int i = 0; i < n; i++) {
        double norm2 = fold(lane[i]);
        float residual = root_up(fold(lost[i]));
        info[i] = (adze_packed_row){ .norm2 = norm2, .norm = root_up(norm2) + residual, .residual = residual, .scale = 1.0f };
    }
}

/* Largest |x - m|, rounded up. */
static inline __attribute__((always_inline)) float largest_of(const float *x, const float *m, int64_t D)
{
    float most[STRIP] = { 0 };
    int64_t d0 = 0;
    for (; d0 + STRIP <= D; d0 += STRIP)
        for (int d = 0; d < STRIP; d++) {
            float c = fabsf(x[d0 + d] - m[d0 + d]);
            most[d] = c > most[d] ? c : most[d];
        }
    for (; d0 < D; d0++) {
        float c = fabsf(x[d0] - m[d0]);
        most[0] = c > most[0] ? c : most[0];
    }
    for (int d = 1; d < STRIP; d++) most[0] = most[d] > most[0] ? most[d] : most[0];
    return most[0];
}

/* Integers in [-127,127]; a panel of queries (width 8) holds them + 128. */
BODY pack_int8_body(const float *x, const int64_t *row, int n, int64_t D, const float *m, int width, void *dst,
                    adze_packed_row *info)
{
    uint8_t *out = dst, bias = width == ADZE_SCORE_QUERIES ? 128 : 0;
    if (n < width || D % 4 != 0) memset(out, 0, adze_score_packed_bytes(ADZE_SCORE_INT8, D, width));
    for (int i = 0; i < n; i++) {
        const float *p = x + (row ? row[i] : i) * D;
        float largest = largest_of(p, m, D);
        float scale = largest > 0x1p-100f ? largest / 127.0f : 0.0f, inverse = scale > 0.0f ? 1.0f / scale : 0.0f;
        double lane[LANES] = { 0 }, lost[LANES] = { 0 };
        int32_t sums[LANES] = { 0 }, sum = 0;
        for (int64_t d0 = 0; d0 < D; d0 += STRIP) {
            int64_t left = D - d0 < STRIP ? D - d0 : STRIP;
            double c[STRIP], r[STRIP];
            int32_t v[STRIP];
            uint8_t byte[STRIP];
            centre_strip(p + d0, m + d0, left, c, lane);
            for (int d = 0; d < STRIP; d++) {
                float steps = (float)c[d] * inverse;
                steps = steps > 127.0f ? 127.0f : steps < -127.0f ? -127.0f : steps;
                v[d] = (int32_t)(steps + 12582912.0f - 12582912.0f); /* to the nearest integer */
                r[d] = c[d] - (double)scale * (double)v[d];
                byte[d] = (uint8_t)(v[d] + bias);
            }
            for (int half = 0; half < STRIP; half += LANES)
                for (int l = 0; l < LANES; l++) {
                    lost[l] += r[half + l] * r[half + l];
                    sums[l] += v[half + l];
                }
            uint8_t *to = out + (d0 / 4 * width + i) * 4;
            if (left == STRIP)
                for (int four = 0; four < STRIP / 4; four++) memcpy(to + 4 * four * width, byte + 4 * four, 4);
            else
                for (int64_t d = 0; d < left; d++) to[d / 4 * 4 * width + d % 4] = byte[d];
        }
        for (int l = 0; l < LANES; l++) sum += sums[l];
        double norm2 = fold(lane);
        float residual = root_up(fold(lost));
        info[i] = (adze_packed_row){ .norm2 = norm2, .norm = root_up(norm2) + residual, .residual = residual,
                                     .scale = scale, .sum = sum };
    }
}

#define VERSION(type, name, target)                                                                                    \
    target void adze_score_pack_##type##_##name(const float *x, const int64_t *row, int n, int64_t D, const float *m,  \
                                                int width, void *dst, adze_packed_row *info)                           \
    {                                                                                                                  \
        pack_##type##_body(x, row, n, D, m, width, dst, info);                                                         \
    }

VERSION(f32, reference, )
VERSION(bf16, reference, )
VERSION(int8, reference, )
#if defined(__x86_64__)
#define AVX2   __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")))
VERSION(f32, avx2, AVX2)
VERSION(f32, avx512, AVX512)
VERSION(bf16, avx512, AVX512)
#endif
