/* knn.h - exact k nearest rows of a memory bank. Entry: adze_bank_create(), adze_bank_query().
 *
 * Fused distance and selection: no (Q,M) matrix exists at any time. Results are exact: they equal a full scan with
 * direct differences summed in double, ordered by (distance, row), whatever the precision, the instruction set and the
 * number of threads.
 *
 * Pass 1 finds candidates by the expanded form in float32, bfloat16 or 8-bit integers; pass 2 computes their distances
 * by direct differences. The certificate that no other row belongs to the result, for query q and bank row b, both centred by
 * the bank's mean m (a common shift changes no distance):
 *
 *   |q - b|^2 = |q|^2 - 2 s,   s = <q,b> - |b|^2 / 2         the k nearest rows have the k largest s
 *   q', b'                      what pass 1 multiplies: q - m and b - m rounded to float32, to bfloat16, or to 255 steps
 *                               of 1/127 of the row's largest element
 *   rq = |q' - q|, rb = |b' - b|  measured in double while packing; a priori <= 2^-9 |q| for bfloat16, whose unit roundoff
 *                               (8 significant bits, nearest) that is, and <= 2^-24 |q| for float32
 *   NQ >= |q|, |q'| and NB >= |b|, |b'|
 *
 *   |<q',b'> - <q,b>| = |<q'-q, b'> + <q, b'-b>| <= rq NB + NQ rb                              (Cauchy-Schwarz)
 *   the accumulation starts at -|b|^2/2 and adds D products, one after the other:
 *   |computed - exact| <= A (NQ NB + NB^2 / 2),   A = (D + 8) 2^-24 in float32; VDPBF16PS rounds at most three times
 *   per pair of products, possibly by truncation: A = (1.5 D + 8) 2^-23; integers are summed exactly and scaled
 *   afterwards: A = 8 2^-24; all times 1.01 for the higher orders
 *
 *   e(q,b) = NB (rq + A NQ) + NQ rb + A NB^2 / 2 + 2^-40 (NQ + NB)^2 + 2^-100
 *
 * where the last terms cover the double arithmetic of pass 2 and underflow. With L the s of the k-th nearest row known so
 * far (from its direct distance), a row with s + e < L is not among the k nearest. Of all others, those with s >= L get
 * their direct distance at once, which raises L; the rest wait in a buffer until the end of pass 1. A query whose buffer
 * overflows is run again: bfloat16 and integers in float32, float32 as a direct scan. The numbers of such reruns are
 * reported.
 *
 * Source: PatchCore (Roth et al., CVPR 2022), patch score and equation 7. */
#ifndef ADZE_CORE_KNN_H
#define ADZE_CORE_KNN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/isa.h"
#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    ADZE_BANK_MAX_K = 256,
    ADZE_BANK_MAX_D = 65536
};

typedef struct adze_bank adze_bank; /* opaque: owns rows and packed copies */

/* Arithmetic of pass 1; the results are the same. Where the instruction set lacks it, float32 is taken. */
typedef enum {
    ADZE_KNN_FASTEST = 0, /* INT8, if the instruction set has it, else F32 */
    ADZE_KNN_F32,
    ADZE_KNN_BF16,
    ADZE_KNN_INT8
} adze_knn_precision;

typedef struct {
    adze_knn_precision precision;
    adze_isa isa; /* pass 1 and 2 */
    int threads;  /* 0 = OpenMP's maximum */
    struct adze_ctx *ctx; /* queries run on its device, if its backend has them; borrowed; NULL: the cpu */
} adze_bank_opts;
#define ADZE_BANK_OPTS ((adze_bank_opts){ .precision = ADZE_KNN_FASTEST, .isa = ADZE_ISA_AUTO, .threads = 0, .ctx = NULL })

/* What one adze_bank_query() did. */
typedef struct {
    int64_t queries;
    int64_t candidates;   /* direct distances computed, those of direct reruns excepted */
    int64_t rerun_f32;    /* queries run again in float32: the certificate of pass 1 failed */
    int64_t rerun_direct; /* queries scanned directly: the float32 certificate failed */
} adze_bank_stats;

/* An empty bank with room for M rows of D values.
 *
 *   bytes  M D 4 (rows) + after sealing ceil(M/48) 48 (D times 4 float32, 2 bfloat16, 1 integers + 20)
 *
 * `opts` NULL = ADZE_BANK_OPTS. ADZE_EINVAL for sizes outside 1 <= M < 2^31, 1 <= D <= ADZE_BANK_MAX_D; ADZE_ENOMEM;
 * ADZE_EBACKEND if the machine lacks opts->isa. */
adze_status adze_bank_create(adze_bank **out, int64_t M, int64_t D, const adze_bank_opts *opts);
void adze_bank_destroy(adze_bank *b); /* NULL is fine */

/* Bytes that a sealed bank of this size holds (isa AUTO): for the plan printed before the start. SIZE_MAX for what
 * adze_bank_create() refuses. */
size_t adze_bank_bytes(int64_t M, int64_t D, adze_knn_precision precision);

/* Appends `n` rows x (n,D) float32 (copied). ADZE_EINVAL beyond the M rows of the creation or after sealing;
 * ADZE_ENUMERIC for NaN, infinity or a row longer than 1e18. */
adze_status adze_bank_append(adze_bank *b, const float *x, int64_t n);

/* Appends rows index[0..n) of x (N,D), e.g. the picks of a coreset. */
adze_status adze_bank_gather(adze_bank *b, const float *x, int64_t N, const int64_t *index, int64_t n);

/* Ends the appending: computes the mean, packs. At least one row. Queries need a sealed bank. */
adze_status adze_bank_seal(adze_bank *b);

int64_t adze_bank_count(const adze_bank *b);     /* rows appended so far */
int64_t adze_bank_dim(const adze_bank *b);       /* D */
const float *adze_bank_rows(const adze_bank *b); /* (count,D), borrowed, as appended */

/* The k nearest bank rows of each query, ascending.
 *
 *   q     (Q,D) float32
 *   dist  (Q,k) float32, squared Euclidean, written; NULL is fine
 *   idx   (Q,k) int32, row in the bank; equal distances: lower row first; NULL is fine
 *   stats written; NULL is fine
 *
 * ADZE_EINVAL if k < 1, k > count or k > ADZE_BANK_MAX_K, or the bank is not sealed; ADZE_ENUMERIC for NaN, infinity or
 * a query longer than 1e18; ADZE_ENOMEM. Several threads may query one bank at once. */
adze_status adze_bank_query(const adze_bank *b, const float *q, int64_t Q, int k, float *dist, int32_t *idx,
                            adze_bank_stats *stats);

/* Whether queries run on a device with memory of its own. */
bool adze_bank_on_device(const adze_bank *b);
/* Memory that Q queries will take there beyond what is held; 0 for a bank in host memory. */
size_t adze_bank_query_device_bytes(const adze_bank *b, int64_t Q, int k);
/* The same with q in the memory of that device, e.g. adze_plan_device_data(); dist and idx are host memory and may not be NULL. */
adze_status adze_bank_query_device(const adze_bank *b, const float *q, int64_t Q, int k, float *dist, int32_t *idx,
                                   adze_bank_stats *stats);

/* The `n` bank rows nearest to bank row `row`, itself included (and first, unless a lower row is its duplicate);
 * idx (n), dist (n) or NULL. ADZE_EINVAL as for the query, or if there is no such row. */
adze_status adze_bank_neighbours(const adze_bank *b, int64_t row, int n, float *dist, int32_t *idx);

typedef struct {
    int64_t patch;   /* the query with the largest nearest distance; lowest on ties */
    int32_t nearest; /* its nearest bank row */
    float max;       /* that distance, root */
    float weight;    /* 1 - softmax over the support, entry of `nearest` */
    float score;     /* weight * max */
} adze_bank_reweight;

/* Image score weighted by the neighbourhood of the nearest bank row (equation 7 of the paper in anomalib's form): the
 * support are the min(support, count) bank rows nearest to `nearest`.
 *
 *   q (Q,D) the patches of one image; dist (Q) and idx (Q): their nearest rows as adze_bank_query() with k = 1 gives
 */
adze_status adze_bank_reweight_score(const adze_bank *b, const float *q, int64_t Q, const float *dist,
                                     const int32_t *idx, int support, adze_bank_reweight *out);

#ifdef __cplusplus
}
#endif
#endif
