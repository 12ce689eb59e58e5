/* score_tile.c - the plain C micro-kernels, packing and the error bound. Entry: adze_score_kernels_get(). */
#include "core/cpu/score_tile.h"

#include <math.h>
#include <string.h>

enum { Q = ADZE_SCORE_QUERIES, R = ADZE_SCORE_ROWS };

static void keep_hits(float (*s)[R], const float *t, adze_score_hits *out)
{
    out->any = 0;
    for (int i = 0; i < Q; i++) {
        uint64_t hit = 0;
        for (int j = 0; j < R; j++) hit |= (uint64_t)(s[i][j] >= t[i]) << j;
        if (!hit) continue;
        out->any |= 1u << i;
        out->hit[i] = hit;
        memcpy(out->s[i], s[i], sizeof s[i]);
    }
}

static void tile_f32(const float *panel, const float *tile, const float *init, const float *t, int64_t D,
                     adze_score_hits *out)
{
    float s[Q][R];
    for (int i = 0; i < Q; i++) memcpy(s[i], init, sizeof s[i]);
    for (int64_t d = 0; d < D; d++)
        for (int i = 0; i < Q; i++)
            for (int j = 0; j < R; j++) s[i][j] += panel[d * Q + i] * tile[d * R + j];
    keep_hits(s, t, out);
}

static void tile_bf16(const uint16_t *panel, const uint16_t *tile, const float *init, const float *t, int64_t D,
                      adze_score_hits *out)
{
    float s[Q][R];
    for (int i = 0; i < Q; i++) memcpy(s[i], init, sizeof s[i]);
    for (int64_t d = 0; d < D; d++)
        for (int i = 0; i < Q; i++) {
            float q = adze_bf16_value(panel[(d / 2 * Q + i) * 2 + d % 2]);
            for (int j = 0; j < R; j++) s[i][j] += q * adze_bf16_value(tile[(d / 2 * R + j) * 2 + d % 2]);
        }
    keep_hits(s, t, out);
}

static double distance2(const float *a, const float *b, int64_t D)
{
    double lane[8] = { 0 };
    for (int64_t d = 0; d < D; d++) {
        double diff = (double)a[d] - (double)b[d];
        lane[d % 8] += diff * diff;
    }
    for (int half = 4; half > 0; half /= 2)
        for (int l = 0; l < half; l++) lane[l] += lane[l + half];
    return lane[0];
}

static float distance2_f32(const float *a, const float *b, int64_t D)
{
    float lane[16] = { 0 };
    for (int64_t d = 0; d < D; d++) {
        float diff = a[d] - b[d];
        lane[d % 16] += diff * diff;
    }
    for (int half = 8; half > 0; half /= 2)
        for (int l = 0; l < half; l++) lane[l] += lane[l + half];
    return lane[0];
}

const adze_score_kernels adze_score_kernels_reference = { tile_f32, tile_bf16, distance2, distance2_f32 };

const adze_score_kernels *adze_score_kernels_get(adze_isa isa)
{
#if defined(__x86_64__)
    switch (isa) {
    case ADZE_ISA_AVX2: return &adze_score_kernels_avx2;
    case ADZE_ISA_AVX512: return &adze_score_kernels_avx512;
    case ADZE_ISA_AVX512_BF16: return &adze_score_kernels_bf16;
    default: break;
    }
#endif
    (void)isa;
    return &adze_score_kernels_reference;
}

/* Upper bound of sqrt(x2) in float: the factor covers the double sum and the rounding to float. */
static float root_up(double x2)
{
    return (float)(sqrt(x2) * (1.0 + 1e-6));
}

enum { STRIP = 16 }; /* elements per row and turn: the strip of a tile stays in L1 while its columns are written */

void adze_score_pack_f32(const float *x, const int64_t *row, int n, int64_t D, const float *m, int width, float *dst,
                         adze_packed_row *info)
{
    double norm2[ADZE_SCORE_ROWS] = { 0 };
    for (int64_t d0 = 0; d0 < D; d0 += STRIP) {
        int64_t d1 = d0 + STRIP < D ? d0 + STRIP : D;
        if (n < width) memset(dst + d0 * width, 0, (size_t)((d1 - d0) * width) * sizeof *dst);
        for (int i = 0; i < n; i++) {
            const float *p = x + (row ? row[i] : i) * D;
            double sum = 0.0;
            for (int64_t d = d0; d < d1; d++) {
                double c = (double)p[d] - (double)m[d];
                dst[d * width + i] = (float)c;
                sum += c * c;
            }
            norm2[i] += sum;
        }
    }
    for (int i = 0; i < n; i++) {
        double norm = sqrt(norm2[i]);
        info[i].norm2 = norm2[i];
        info[i].residual = (float)(norm * 0x1.0001p-24 + 0x1p-130);
        info[i].norm = root_up(norm2[i]) + info[i].residual;
    }
}

void adze_score_pack_bf16(const float *x, const int64_t *row, int n, int64_t D, const float *m, int width, uint16_t *dst,
                          adze_packed_row *info)
{
    double norm2[ADZE_SCORE_ROWS] = { 0 }, lost2[ADZE_SCORE_ROWS] = { 0 };
    for (int64_t d0 = 0; d0 < D; d0 += STRIP) {
        int64_t d1 = d0 + STRIP < D ? d0 + STRIP : D;
        if (n < width || d1 % 2 != 0)
            memset(dst + d0 * width, 0, (size_t)((d1 + d1 % 2 - d0) * width) * sizeof *dst);
        for (int i = 0; i < n; i++) {
            const float *p = x + (row ? row[i] : i) * D;
            double sum = 0.0, lost = 0.0;
            for (int64_t d = d0; d < d1; d++) {
                double c = (double)p[d] - (double)m[d];
                uint16_t h = adze_bf16_round((float)c);
                double r = c - (double)adze_bf16_value(h);
                dst[(d / 2 * width + i) * 2 + d % 2] = h;
                sum += c * c;
                lost += r * r;
            }
            norm2[i] += sum;
            lost2[i] += lost;
        }
    }
    for (int i = 0; i < n; i++) {
        info[i].norm2 = norm2[i];
        info[i].residual = root_up(lost2[i]);
        info[i].norm = root_up(norm2[i]) + info[i].residual;
    }
}

double adze_score_accumulation(int64_t D, bool bf16)
{
    return 1.01 * (bf16 ? (1.5 * (double)D + 8.0) * 0x1p-23 : ((double)D + 8.0) * 0x1p-24);
}

adze_score_margin adze_score_margin_of(const adze_packed_row *q, double A)
{
    return (adze_score_margin){ .norm = q->norm,
                                .scaled = (float)((q->residual + A * q->norm) * (1.0 + 1e-6)),
                                .half_a = (float)(0.5 * A * (1.0 + 1e-6)) };
}
