/* score_tile.c - the plain C micro-kernels and the error bound. Entry: adze_score_kernels_get(). */
#include "core/cpu/score_tile.h"

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

static void tile_f32(const adze_score_operands *o, adze_score_hits *out)
{
    const float *panel = o->panel, *tile = o->tile;
    float s[Q][R];
    for (int i = 0; i < Q; i++) memcpy(s[i], o->init, sizeof s[i]);
    for (int64_t d = 0; d < o->D; d++)
        for (int i = 0; i < Q; i++)
            for (int j = 0; j < R; j++) s[i][j] += panel[d * Q + i] * tile[d * R + j];
    keep_hits(s, o->t, out);
}

static void tile_bf16(const adze_score_operands *o, adze_score_hits *out)
{
    const uint16_t *panel = o->panel, *tile = o->tile;
    float s[Q][R];
    for (int i = 0; i < Q; i++) memcpy(s[i], o->init, sizeof s[i]);
    for (int64_t d = 0; d < o->D; d++)
        for (int i = 0; i < Q; i++) {
            float q = adze_bf16_value(panel[(d / 2 * Q + i) * 2 + d % 2]);
            for (int j = 0; j < R; j++) s[i][j] += q * adze_bf16_value(tile[(d / 2 * R + j) * 2 + d % 2]);
        }
    keep_hits(s, o->t, out);
}

static void tile_int8(const adze_score_operands *o, adze_score_hits *out)
{
    const uint8_t *panel = o->panel;
    const int8_t *tile = o->tile;
    float s[Q][R];
    for (int i = 0; i < Q; i++)
        for (int j = 0; j < R; j++) {
            int32_t sum = o->row_shift[j];
            for (int64_t d = 0; d < o->D; d++)
                sum += (int32_t)panel[(d / 4 * Q + i) * 4 + d % 4] * (int32_t)tile[(d / 4 * R + j) * 4 + d % 4];
            s[i][j] = o->init[j] + o->query_scale[i] * (o->row_scale[j] * (float)sum);
        }
    keep_hits(s, o->t, out);
}

static double distance2(const float *a, const float *b, int64_t D)
{
    double lane[16] = { 0 };
    for (int64_t d = 0; d < D; d++) {
        double diff = (double)a[d] - (double)b[d];
        lane[d % 16] += diff * diff;
    }
    for (int half = 8; half > 0; half /= 2)
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

const adze_score_kernels adze_score_kernels_reference = {
    { tile_f32, tile_bf16, tile_int8 },
    { adze_score_pack_f32_reference, adze_score_pack_bf16_reference, adze_score_pack_int8_reference },
    distance2,
    distance2_f32
};

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

double adze_score_accumulation(int64_t D, adze_score_type type)
{
    double D_ = (double)D;
    return 1.01 * (type == ADZE_SCORE_F32    ? (D_ + 8.0) * 0x1p-24
                   : type == ADZE_SCORE_BF16 ? (1.5 * D_ + 8.0) * 0x1p-23
                                             : 8.0 * 0x1p-24);
}

adze_score_margin adze_score_margin_of(const adze_packed_row *q, double A)
{
    return (adze_score_margin){ .norm = q->norm,
                                .scaled = (float)((q->residual + A * q->norm) * (1.0 + 1e-6)),
                                .half_a = (float)(0.5 * A * (1.0 + 1e-6)) };
}
