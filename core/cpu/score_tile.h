/* score_tile.h - internal: the micro-kernels that core/knn.c and core/kcenter.c share. Entry: adze_score_kernels_get().
 *
 * One tile is 8 queries x 48 rows over all D: s = init + <q,b>, 24 accumulators of 16 lanes. The scores stay in
 * registers; what leaves them is a bit per pair with s >= t (the query's threshold), and the scores of queries with any.
 *
 *   panel f32   (D,8)    panel bf16  (ceil(D/2),8,2)     rows beyond the end and the odd last element are zeros
 *   tile  f32   (D,48)   tile  bf16  (ceil(D/2),48,2)
 *
 * floor on Zen 4: one 512-bit FMA or VDPBF16PS per cycle, 24 per step, with 3 loads and 8 broadcasts beside them. */
#ifndef ADZE_CORE_CPU_SCORE_TILE_H
#define ADZE_CORE_CPU_SCORE_TILE_H

#include <stdint.h>

#include "core/isa.h"

enum {
    ADZE_SCORE_QUERIES = 8,
    ADZE_SCORE_ROWS = 48
};

/* Result of one tile: `any` has bit i set if query i has hits; then hit[i] (bit j = row j) and s[i] are written. */
typedef struct {
    unsigned any;
    uint64_t hit[ADZE_SCORE_QUERIES];
    float s[ADZE_SCORE_QUERIES][ADZE_SCORE_ROWS];
} adze_score_hits;

typedef void (*adze_score_tile_f32)(const float *panel, const float *tile, const float *init, const float *t, int64_t D,
                                    adze_score_hits *out);
typedef void (*adze_score_tile_bf16)(const uint16_t *panel, const uint16_t *tile, const float *init, const float *t,
                                     int64_t D, adze_score_hits *out);

typedef struct {
    adze_score_tile_f32 tile_f32;
    adze_score_tile_bf16 tile_bf16; /* NULL: this instruction set has none worth having */
    /* sum of squared differences in double, lane j mod 8, then a fixed tree: the same bits everywhere */
    double (*distance2)(const float *a, const float *b, int64_t D);
    /* the distance of core/kcenter.h, squared */
    float (*distance2_f32)(const float *a, const float *b, int64_t D);
} adze_score_kernels;

/* `isa` resolved and available. */
const adze_score_kernels *adze_score_kernels_get(adze_isa isa);

extern const adze_score_kernels adze_score_kernels_reference;
#if defined(__x86_64__)
extern const adze_score_kernels adze_score_kernels_avx2, adze_score_kernels_avx512, adze_score_kernels_bf16;
#endif

/* Rounds to bfloat16, nearest even; subnormals to zero, as the instruction reads them. */
static inline uint16_t adze_bf16_round(float x)
{
    union {
        float f;
        uint32_t u;
    } v = { x };
    if ((v.u & 0x7f800000u) == 0) return (uint16_t)(v.u >> 16 & 0x8000u);
    return (uint16_t)((v.u + 0x7fffu + (v.u >> 16 & 1u)) >> 16);
}

static inline float adze_bf16_value(uint16_t h)
{
    union {
        uint32_t u;
        float f;
    } v = { (uint32_t)h << 16 };
    return v.f;
}

/* What the error bound of core/knn.h needs of one packed row. */
typedef struct {
    double norm2;    /* |x - m|^2 */
    float norm;      /* >= |x - m| and >= the norm of what was packed */
    float residual;  /* >= |packed - (x - m)| */
} adze_packed_row;

/* Packs x (n rows at x[row[i]] or x + i*D for row == NULL, n <= width) minus m into a panel or tile of `width` columns;
 * columns beyond n are zero. info (n). dst: float or uint16_t. */
void adze_score_pack_f32(const float *x, const int64_t *row, int n, int64_t D, const float *m, int width, float *dst,
                         adze_packed_row *info);
void adze_score_pack_bf16(const float *x, const int64_t *row, int n, int64_t D, const float *m, int width, uint16_t *dst,
                          adze_packed_row *info);

/* A of the bound. */
double adze_score_accumulation(int64_t D, bool bf16);

/* e(q,b) of core/knn.h for a query, split so that a row costs two multiplications. */
typedef struct {
    float norm;   /* NQ */
    float scaled; /* rq + A NQ */
    float half_a; /* A / 2 */
} adze_score_margin;

adze_score_margin adze_score_margin_of(const adze_packed_row *q, double A);
static inline float adze_score_error(const adze_score_margin *q, float NB, float rb)
{
    float both = q->norm + NB;
    return 1.000001f * (NB * q->scaled + q->norm * rb + q->half_a * NB * NB + 0x1p-40f * both * both + 0x1p-100f);
}

#endif
