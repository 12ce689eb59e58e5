/* score_tile.h - internal: the micro-kernels that core/knn.c and core/kcenter.c share. Entry: adze_score_kernels_get().
 *
 * One tile is 8 queries x 48 rows over all D: s = init + <q,b>, 24 accumulators of 16 lanes. The scores stay in
 * registers; what leaves them is a bit per pair with s >= t (the query's threshold), and the scores of queries with any.
 *
 *   f32    panel (D,8)            tile (D,48)
 *   bf16   panel (ceil(D/2),8,2)  tile (ceil(D/2),48,2)
 *   int8   panel (ceil(D/4),8,4)  tile (ceil(D/4),48,4); queries are stored + 128 as bytes without sign
 * Columns beyond the last row are zeros, and so are tile elements beyond D.
 *
 * floor on Zen 4: one 512-bit FMA, VDPBF16PS or VPDPBUSD per cycle, 24 per step (1, 2 or 4 elements of D), with 3 loads
 * and 8 broadcasts beside them. */
#ifndef ADZE_CORE_CPU_SCORE_TILE_H
#define ADZE_CORE_CPU_SCORE_TILE_H

#include <stddef.h>
#include <stdint.h>

#include "core/cpu/bf16.h"
#include "core/isa.h"

enum {
    ADZE_SCORE_QUERIES = 8,
    ADZE_SCORE_ROWS = 48
};

typedef enum { ADZE_SCORE_F32 = 0, ADZE_SCORE_BF16, ADZE_SCORE_INT8 } adze_score_type;

/* Bytes of `columns` packed columns. */
static inline size_t adze_score_packed_bytes(adze_score_type type, int64_t D, int64_t columns)
{
    int64_t per_column = type == ADZE_SCORE_F32 ? D * 4 : type == ADZE_SCORE_BF16 ? (D + 1) / 2 * 4 : (D + 3) / 4 * 4;
    return (size_t)per_column * (size_t)columns;
}

/* Result of one tile: `any` has bit i set if query i has hits; then hit[i] (bit j = row j) and s[i] are written. */
typedef struct {
    unsigned any;
    uint64_t hit[ADZE_SCORE_QUERIES];
    float s[ADZE_SCORE_QUERIES][ADZE_SCORE_ROWS];
} adze_score_hits;

/* What the error bound of core/knn.h needs of one packed row, and how its integers are scaled. */
typedef struct {
    double norm2;   /* |x - m|^2 */
    float norm;     /* >= |x - m| and >= the norm of what was packed */
    float residual; /* >= |packed - (x - m)| */
    float scale;    /* int8: value = scale * integer; else 1 */
    int32_t sum;    /* int8: of the integers; else 0 */
} adze_packed_row;

/* The operands of one tile. */
typedef struct {
    const void *panel, *tile;
    const float *init;        /* (48) what the score starts from: -|b|^2/2, -FLT_MAX for no row */
    const float *t;           /* (8) thresholds */
    const float *query_scale; /* (8)  int8 only */
    const float *row_scale;   /* (48) int8 only */
    const int32_t *row_shift; /* (48) int8 only: -128 * the sum of the row's integers */
    int64_t D;
} adze_score_operands;

/* Packs n <= width rows, x[row[i]] or x + i*D for row == NULL, minus m, into a panel or tile of `width` columns. */
typedef void (*adze_score_pack)(const float *x, const int64_t *row, int n, int64_t D, const float *m, int width, void *dst,
                                adze_packed_row *info);

typedef struct {
    /* indexed by adze_score_type; NULL: this instruction set has none worth having */
    void (*tile[3])(const adze_score_operands *o, adze_score_hits *out);
    adze_score_pack pack[3];
    /* sum of squared differences in double, lane j mod 16, then a fixed tree: the same bits everywhere */
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

/* The packing of score_pack.c for each instruction set. */
void adze_score_pack_f32_reference(const float *x, const int64_t *row, int n, int64_t D, const float *m, int width,
                                   void *dst, adze_packed_row *info);
void adze_score_pack_bf16_reference(const float *x, const int64_t *row, int n, int64_t D, const float *m, int width,
                                    void *dst, adze_packed_row *info);
void adze_score_pack_int8_reference(const float *x, const int64_t *row, int n, int64_t D, const float *m, int width,
                                    void *dst, adze_packed_row *info);
#if defined(__x86_64__)
void adze_score_pack_f32_avx2(const float *x, const int64_t *row, int n, int64_t D, const float *m, int width, void *dst,
                              adze_packed_row *info);
void adze_score_pack_f32_avx512(const float *x, const int64_t *row, int n, int64_t D, const float *m, int width, void *dst,
                                adze_packed_row *info);
void adze_score_pack_bf16_avx512(const float *x, const int64_t *row, int n, int64_t D, const float *m, int width,
                                 void *dst, adze_packed_row *info);
#endif

/* A of the bound. */
double adze_score_accumulation(int64_t D, adze_score_type type);

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
