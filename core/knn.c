/* knn.c - exact k nearest neighbours: the bank, pass 1, the certificate, pass 2, reruns. Entry: adze_bank_query().
 *
 * Loop order: a thread owns a group of up to 128 queries, packed once; bank tiles of 48 rows (at D = 1024
 * 192 KB in float32, 96 in bfloat16, 48 in integers) pass by, each used by all panels of the group while it is in L2. Every query sees the tiles
 * in the same order whatever the number of threads, so the statistics repeat too. */
#include "core/knn.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "core/backend.h"
#include "core/cpu/score_tile.h"
#include "core/memory.h"

enum {
    PANEL = ADZE_SCORE_QUERIES,
    TILE = ADZE_SCORE_ROWS,
    GROUP = 128,           /* queries per thread and turn: their panels and one tile fit the L2 of 1 MB */
    CANDIDATES_FLOOR = 256 /* candidate buffer: this + 2 k */
};

static const double NORM_LIMIT = 1e18; /* squares and products stay far inside float32 */

struct adze_bank {
    int64_t M, D, count;
    bool sealed;
    adze_score_type type;
    int threads;
    const adze_score_kernels *kernels;
    float *rows;            /* (M,D) owned, as appended */
    float *mean;            /* (D) owned */
    void *tiles;            /* (n_tiles) owned, packed as `type` */
    float *init;            /* (n_tiles*48) owned: -|b|^2/2, -FLT_MAX beyond the end */
    float *norm, *residual; /* (n_tiles*48) owned: NB, rb; 0 beyond the end */
    float *scale;           /* (n_tiles*48) owned, for integers, as the next */
    int32_t *shift;         /* (n_tiles*48) -128 * the sum of the row's integers */
    adze_ctx *ctx;          /* borrowed; NULL: queries run on the cpu */
    adze_knn_precision precision;
    void *device;           /* owned by the backend: the rows, for queries; instead of the packed copies */
};

static int64_t tiles_of(int64_t M) { return (M + TILE - 1) / TILE; }

/* What pass 1 computes in; FASTEST resolved, float32 where the kernels have nothing else. */
static adze_score_type type_of(adze_knn_precision precision, const adze_score_kernels *kernels)
{
    adze_score_type type = precision == ADZE_KNN_F32    ? ADZE_SCORE_F32
                           : precision == ADZE_KNN_BF16 ? ADZE_SCORE_BF16
                                                        : ADZE_SCORE_INT8;
    return kernels->tile[type] ? type : ADZE_SCORE_F32;
}

static adze_status options_resolve(int64_t M, int64_t D, const adze_bank_opts *o, const adze_score_kernels **kernels)
{
    adze_status st = ADZE_OK;
    adze_isa isa;
    REQUIRE(M >= 1 && M <= INT32_MAX && D >= 1 && D <= ADZE_BANK_MAX_D, ADZE_EINVAL,
            "bank: M=%" PRId64 " D=%" PRId64 ", want 1 <= M < 2^31, 1 <= D <= %d", M, D, ADZE_BANK_MAX_D);
    REQUIRE(o->precision >= ADZE_KNN_FASTEST && o->precision <= ADZE_KNN_INT8, ADZE_EINVAL, "bank: precision %d is none",
            (int)o->precision);
    TRY(adze_isa_resolve(o->isa, &isa));
    *kernels = adze_score_kernels_get(isa);
done:
    return st;
}

size_t adze_bank_bytes(int64_t M, int64_t D, adze_knn_precision precision)
{
    const adze_bank_opts o = { .precision = precision };
    const adze_score_kernels *kernels = NULL;
    if (options_resolve(M, D, &o, &kernels) != ADZE_OK) return SIZE_MAX;
    size_t padded = (size_t)tiles_of(M) * TILE; /* no overflow: below 2^32 * 2^17 * 4 */
    return sizeof(adze_bank) + (size_t)M * (size_t)D * sizeof(float) + (size_t)D * sizeof(float) +
           adze_score_packed_bytes(type_of(o.precision, kernels), D, (int64_t)padded) + 5 * padded * sizeof(float);
}

adze_status adze_bank_create(adze_bank **out, int64_t M, int64_t D, const adze_bank_opts *opts)
{
    adze_status st = ADZE_OK;
    adze_bank *b = NULL;
    const adze_score_kernels *kernels = NULL;
    const adze_bank_opts o = opts ? *opts : ADZE_BANK_OPTS;
    *out = NULL;
    TRY(options_resolve(M, D, &o, &kernels));
    REQUIRE(b = adze_calloc(1, sizeof *b), ADZE_ENOMEM, "bank: %zu host bytes", sizeof *b);
    b->M = M, b->D = D;
    b->ctx = o.ctx && o.ctx->backend->bank_create ? o.ctx : NULL;
    b->precision = o.precision;
    b->threads = adze_threads_resolve(o.threads);
    b->kernels = kernels;
    b->type = type_of(o.precision, kernels);
    size_t rows_bytes = (size_t)M * (size_t)D * sizeof(float);
    REQUIRE(b->rows = adze_malloc(rows_bytes), ADZE_ENOMEM, "bank: %zu host bytes for %" PRId64 " rows of %" PRId64,
            rows_bytes, M, D);
    REQUIRE(b->mean = adze_malloc((size_t)D * sizeof(float)), ADZE_ENOMEM, "bank: %zu host bytes for the mean",
            (size_t)D * sizeof(float));

    *out = b;
    b = NULL;
done:
    adze_bank_destroy(b);
    return st;
}

void adze_bank_destroy(adze_bank *b)
{
    if (!b) return;
    if (b->device) b->ctx->backend->bank_destroy(b->ctx, b->device);
    adze_free(b->rows), adze_free(b->mean), adze_free(b->tiles);
    adze_free(b->init), adze_free(b->norm), adze_free(b->residual), adze_free(b->scale), adze_free(b->shift);
    adze_free(b);
}

int64_t adze_bank_count(const adze_bank *b) { return b->count; }
int64_t adze_bank_dim(const adze_bank *b) { return b->D; }
const float *adze_bank_rows(const adze_bank *b) { return b->rows; }

/* Finite and not too long; the sum of a NaN or infinity is neither. */
static bool row_is_sound(const float *x, int64_t D)
{
    double sum[8] = { 0 }, total = 0.0;
    int64_t d = 0;
    for (; d + 8 <= D; d += 8)
        for (int l = 0; l < 8; l++) sum[l] += (double)x[d + l] * (double)x[d + l];
    for (; d < D; d++) total += (double)x[d] * (double)x[d];
    for (int l = 0; l < 8; l++) total += sum[l];
    return total <= NORM_LIMIT * NORM_LIMIT;
}

static adze_status append_room(const adze_bank *b, int64_t n)
{
    if (b->sealed) return adze_fail(ADZE_EINVAL, "bank: appending after sealing");
    if (n < 0 || n > b->M - b->count)
        return adze_fail(ADZE_EINVAL, "bank: %" PRId64 " more rows, room for %" PRId64, n, b->M - b->count);
    return ADZE_OK;
}

adze_status adze_bank_append(adze_bank *b, const float *x, int64_t n)
{
    adze_status st = ADZE_OK;
    TRY(append_room(b, n));
    for (int64_t i = 0; i < n; i++)
        REQUIRE(row_is_sound(x + i * b->D, b->D), ADZE_ENUMERIC,
                "bank: row %" PRId64 " holds NaN or infinity or is longer than 1e18", b->count + i);
    if (n > 0) memcpy(b->rows + b->count * b->D, x, (size_t)(n * b->D) * sizeof(float));
    b->count += n;
done:
    return st;
}

adze_status adze_bank_gather(adze_bank *b, const float *x, int64_t N, const int64_t *index, int64_t n)
{
    adze_status st = ADZE_OK;
    TRY(append_room(b, n));
    for (int64_t i = 0; i < n; i++) {
        REQUIRE(index[i] >= 0 && index[i] < N, ADZE_EINVAL, "bank: row %" PRId64 " of %" PRId64, index[i], N);
        REQUIRE(row_is_sound(x + index[i] * b->D, b->D), ADZE_ENUMERIC,
                "bank: row %" PRId64 " holds NaN or infinity or is longer than 1e18", index[i]);
    }
    for (int64_t i = 0; i < n; i++)
        memcpy(b->rows + (b->count + i) * b->D, x + index[i] * b->D, (size_t)b->D * sizeof(float));
    b->count += n;
done:
    return st;
}

/* Column means, each summed in row order by one thread. */
static void mean_of_rows(const adze_bank *b)
{
    enum { STRIP = 64 };
    int64_t strips = (b->D + STRIP - 1) / STRIP;
#pragma omp parallel for num_threads(b->threads) schedule(static)
    for (int64_t strip = 0; strip < strips; strip++) {
        double sum[STRIP] = { 0 };
        int64_t d0 = strip * STRIP, n = b->D - d0 < STRIP ? b->D - d0 : STRIP;
        for (int64_t i = 0; i < b->count; i++)
            for (int64_t d = 0; d < n; d++) sum[d] += (double)b->rows[i * b->D + d0 + d];
        for (int64_t d = 0; d < n; d++) b->mean[d0 + d] = (float)(sum[d] / (double)b->count);
    }
}

static void *tile_at(const adze_bank *b, int64_t tile)
{
    return (unsigned char *)b->tiles + adze_score_packed_bytes(b->type, b->D, tile * TILE);
}

static int tile_rows(const adze_bank *b, int64_t tile)
{
    int64_t left = b->count - tile * TILE;
    return left < TILE ? (int)left : TILE;
}

static void pack_tile(adze_bank *b, int64_t tile)
{
    adze_packed_row info[TILE];
    int n = tile_rows(b, tile);
    const float *x = b->rows + tile * TILE * b->D;
    b->kernels->pack[b->type](x, NULL, n, b->D, b->mean, TILE, tile_at(b, tile), info);
    for (int j = 0; j < TILE; j++) {
        int64_t at = tile * TILE + j;
        b->init[at] = j < n ? (float)(-0.5 * info[j].norm2) : -FLT_MAX;
        b->norm[at] = j < n ? info[j].norm : 0.0f;
        b->residual[at] = j < n ? info[j].residual : 0.0f;
        b->scale[at] = j < n ? info[j].scale : 0.0f;
        b->shift[at] = j < n ? -128 * info[j].sum : 0;
    }
}

adze_status adze_bank_seal(adze_bank *b)
{
    adze_status st = ADZE_OK;
    REQUIRE(!b->sealed && b->count > 0, ADZE_EINVAL, "bank: sealing %s", b->sealed ? "twice" : "without rows");
    if (b->ctx) {
        TRY(b->ctx->backend->bank_create(b->ctx, &b->device, b->rows, b->count, b->D, b->precision));
        b->sealed = true;
        goto done;
    }
    int64_t n_tiles = tiles_of(b->count);
    size_t padded = (size_t)n_tiles * TILE;
    size_t tiles_bytes = adze_score_packed_bytes(b->type, b->D, (int64_t)padded);
    adze_free(b->tiles), adze_free(b->init), adze_free(b->norm); /* of a seal that failed */
    adze_free(b->residual), adze_free(b->scale), adze_free(b->shift);
    b->tiles = adze_malloc(tiles_bytes);
    b->init = adze_malloc(padded * sizeof(float));
    b->norm = adze_malloc(padded * sizeof(float));
    b->residual = adze_malloc(padded * sizeof(float));
    b->scale = adze_malloc(padded * sizeof(float));
    b->shift = adze_malloc(padded * sizeof(int32_t));
    REQUIRE(b->tiles && b->init && b->norm && b->residual && b->scale && b->shift, ADZE_ENOMEM,
            "bank: %zu host bytes for the packed rows", tiles_bytes + 5 * padded * sizeof(float));
    mean_of_rows(b);
#pragma omp parallel for num_threads(b->threads) schedule(static)
    for (int64_t tile = 0; tile < n_tiles; tile++) pack_tile(b, tile);
    b->sealed = true;
done:
    return st;
}

/* ---- pass 1 ---------------------------------------------------------------------------------------------------- */

typedef struct {
    float high; /* s + e */
    int32_t row;
} candidate;

typedef struct {
    double dist;
    int32_t row;
} neighbour;

/* One query's state during pass 1. */
typedef struct {
    adze_packed_row packed;
    adze_score_margin margin;
    int64_t at;  /* its number among all queries */
    float limit; /* L: s of the k-th nearest row so far; -inf before k rows, +inf after an overflow */
    int n_nearest, n_kept;
} query;

/* One thread's memory. */
typedef struct {
    void *panels;       /* GROUP queries, packed */
    float *tile;        /* one float32 tile packed for a rerun; NULL for a float32 bank */
    query *queries;     /* (GROUP) */
    candidate *kept;    /* (GROUP,room) */
    neighbour *nearest; /* (GROUP,k) ascending */
    int64_t candidates; /* direct distances computed */
    adze_score_hits hits;
} worker;

typedef struct {
    const adze_bank *b;
    const float *q;
    int64_t Q;
    int k, room;
    adze_score_type type; /* of pass 1 in this round */
    double A;             /* accumulation constant of this round */
    float *dist;          /* may be NULL */
    int32_t *idx;         /* may be NULL */
    unsigned char *again; /* (Q) 1: the certificate failed */
    worker *workers;
} search;

/* Puts (dist, row) into the ascending list of at most k; equal distances: lower row first. */
static int insert_neighbour(neighbour *list, int n, int k, double dist, int32_t row)
{
    if (n == k && (dist > list[k - 1].dist || (dist == list[k - 1].dist && row > list[k - 1].row))) return n;
    int at = n < k ? n++ : k - 1;
    for (; at > 0 && (list[at - 1].dist > dist || (list[at - 1].dist == dist && list[at - 1].row > row)); at--)
        list[at] = list[at - 1];
    list[at] = (neighbour){ .dist = dist, .row = row };
    return n;
}

/* The direct distance of query i of the group to a row; raises L. */
static void measure(const search *s, worker *w, int64_t i, int32_t row)
{
    const adze_bank *b = s->b;
    query *q = &w->queries[i];
    neighbour *nearest = w->nearest + i * s->k;
    double dist = b->kernels->distance2(s->q + q->at * b->D, b->rows + row * b->D, b->D);
    q->n_nearest = insert_neighbour(nearest, q->n_nearest, s->k, dist, row);
    w->candidates++;
    if (q->n_nearest < s->k) return;
    double limit = 0.5 * (q->packed.norm2 - nearest[s->k - 1].dist);
    q->limit = (float)(limit - fabs(limit) * 0x1p-23);
}

/* Drops the candidates that can no longer win. */
static int compact(candidate *kept, int n, float limit)
{
    int left = 0;
    for (int c = 0; c < n; c++)
        if (kept[c].high >= limit) kept[left++] = kept[c];
    return left;
}

static void keep(const search *s, worker *w, int64_t i, int32_t row, float high)
{
    query *q = &w->queries[i];
    candidate *kept = w->kept + i * s->room;
    if (high < q->limit) return;
    if (q->n_kept == s->room) q->n_kept = compact(kept, q->n_kept, q->limit);
    if (q->n_kept == s->room) q->limit = INFINITY;
    else kept[q->n_kept++] = (candidate){ .high = high, .row = row };
}

/* The hits of query i in one tile, the best first: it raises L for the others. */
static void consider(const search *s, worker *w, int64_t i, int64_t first, uint64_t hit, const float *score,
                     const float *NB, const float *rb)
{
    query *q = &w->queries[i];
    int best = __builtin_ctzll(hit);
    for (uint64_t left = hit & (hit - 1); left; left &= left - 1)
        if (score[__builtin_ctzll(left)] > score[best]) best = __builtin_ctzll(left);
    if (score[best] >= q->limit) {
        measure(s, w, i, (int32_t)(first + best));
        hit &= ~(UINT64_C(1) << best);
    }
    for (; hit; hit &= hit - 1) {
        int j = __builtin_ctzll(hit);
        if (score[j] >= q->limit) measure(s, w, i, (int32_t)(first + j));
        else keep(s, w, i, (int32_t)(first + j), score[j] + adze_score_error(&q->margin, NB[j], rb[j]));
    }
}

/* One tile against all panels of a group of n queries. NB, rb (48): the tile's rows as packed for this round. */
static void scan_tile(const search *s, worker *w, int64_t n, int64_t tile, const void *rows, const float *NB,
                      const float *rb)
{
    const adze_bank *b = s->b;
    float t[PANEL], scale[PANEL];
    adze_score_operands o = { .tile = rows, .init = b->init + tile * TILE, .t = t, .query_scale = scale,
                              .row_scale = b->scale + tile * TILE, .row_shift = b->shift + tile * TILE, .D = b->D };
    uint64_t valid = ~UINT64_C(0) >> (64 - tile_rows(b, tile));
    float NB_max = 0.0f, rb_max = 0.0f;
    for (int j = 0; j < TILE; j++) {
        NB_max = NB[j] > NB_max ? NB[j] : NB_max;
        rb_max = rb[j] > rb_max ? rb[j] : rb_max;
    }
    for (int64_t i0 = 0; i0 < n; i0 += PANEL) {
        o.panel = (const unsigned char *)w->panels + adze_score_packed_bytes(s->type, b->D, i0);
        for (int i = 0; i < PANEL; i++) {
            const query *q = &w->queries[i0 + i];
            t[i] = i0 + i < n ? q->limit - adze_score_error(&q->margin, NB_max, rb_max) : INFINITY;
            scale[i] = q->packed.scale;
        }
        b->kernels->tile[s->type](&o, &w->hits);
        for (unsigned any = w->hits.any; any; any &= any - 1) {
            int i = __builtin_ctz(any);
            uint64_t hit = w->hits.hit[i] & valid;
            if (hit) consider(s, w, i0 + i, tile * TILE, hit, w->hits.s[i], NB, rb);
        }
    }
}

/* ---- pass 2 ---------------------------------------------------------------------------------------------------- */

static int by_high_descending(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    if (x->high != y->high) return x->high > y->high ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

static void write_result(const search *s, const neighbour *nearest, int64_t at)
{
    for (int j = 0; j < s->k; j++) {
        if (s->dist) s->dist[at * s->k + j] = (float)nearest[j].dist;
        if (s->idx) s->idx[at * s->k + j] = nearest[j].row;
    }
}

/* Direct distances of query i's waiting candidates, best first, until the bound says that no other can enter. */
static void rank_candidates(const search *s, worker *w, int64_t i)
{
    query *q = &w->queries[i];
    candidate *kept = w->kept + i * s->room;
    int n = compact(kept, q->n_kept, q->limit);
    qsort(kept, (size_t)n, sizeof *kept, by_high_descending);
    for (int c = 0; c < n && kept[c].high >= q->limit; c++) measure(s, w, i, kept[c].row);
    write_result(s, w->nearest + i * s->k, q->at);
}

/* Pass 1 and 2 for queries which[0..n) (n <= GROUP) or, with `which` NULL, first, first + 1, ... */
static void search_group(const search *s, worker *w, int64_t first, const int64_t *which, int64_t n)
{
    const adze_bank *b = s->b;
    for (int64_t i0 = 0; i0 < n; i0 += PANEL) {
        adze_packed_row info[PANEL];
        int width = n - i0 < PANEL ? (int)(n - i0) : PANEL;
        const float *x = which ? s->q : s->q + (first + i0) * b->D;
        unsigned char *panel = (unsigned char *)w->panels + adze_score_packed_bytes(s->type, b->D, i0);
        b->kernels->pack[s->type](x, which ? which + i0 : NULL, width, b->D, b->mean, PANEL, panel, info);
        for (int i = 0; i < PANEL; i++) {
            query *q = &w->queries[i0 + i];
            *q = (query){ .limit = -INFINITY };
            if (i >= width) continue;
            q->packed = info[i];
            q->margin = adze_score_margin_of(&info[i], s->A);
            q->at = which ? which[i0 + i] : first + i0 + i;
        }
    }
    for (int64_t tile = 0; tile < tiles_of(b->count); tile++) {
        if (s->type == b->type) {
            scan_tile(s, w, n, tile, tile_at(b, tile), b->norm + tile * TILE, b->residual + tile * TILE);
            continue;
        }
        adze_packed_row info[TILE]; /* a rerun: the bank keeps no float32 tiles */
        float norm[TILE] = { 0 }, residual[TILE] = { 0 };
        int rows = tile_rows(b, tile);
        b->kernels->pack[s->type](b->rows + tile * TILE * b->D, NULL, rows, b->D, b->mean, TILE, w->tile, info);
        for (int j = 0; j < rows; j++) norm[j] = info[j].norm, residual[j] = info[j].residual;
        scan_tile(s, w, n, tile, w->tile, norm, residual);
    }
    for (int64_t i = 0; i < n; i++) {
        const query *q = &w->queries[i];
        s->again[q->at] = q->limit == INFINITY;
        if (!s->again[q->at]) rank_candidates(s, w, i);
    }
}

static void search_directly(const search *s, worker *w, int64_t at)
{
    const adze_bank *b = s->b;
    int found = 0;
    for (int64_t j = 0; j < b->count; j++) {
        double dist = b->kernels->distance2(s->q + at * b->D, b->rows + j * b->D, b->D);
        found = insert_neighbour(w->nearest, found, s->k, dist, (int32_t)j);
    }
    write_result(s, w->nearest, at);
}

static int64_t list_again(const search *s, int64_t *which)
{
    int64_t n = 0;
    for (int64_t i = 0; i < s->Q; i++)
        if (s->again[i]) which[n++] = i;
    return n;
}

/* Splits n queries into groups of equal size, a multiple of the number of threads where that is possible. */
static int64_t group_size(int64_t n, int threads)
{
    int64_t turns = (n + (int64_t)threads * GROUP - 1) / ((int64_t)threads * GROUP);
    int64_t size = (n + turns * threads - 1) / (turns * threads);
    return (size + PANEL - 1) / PANEL * PANEL;
}

static void search_round(search *s, int threads, const int64_t *which, int64_t n)
{
    s->A = adze_score_accumulation(s->b->D, s->type);
    int64_t size = group_size(n, threads), groups = (n + size - 1) / size;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int64_t g = 0; g < groups; g++) {
        int64_t first = g * size, left = n - first < size ? n - first : size;
        search_group(s, &s->workers[omp_get_thread_num()], first, which ? which + first : NULL, left);
    }
}

/* Cuts the scratch into the workers' parts; false if it does not hold them. */
static bool workers_place(search *s, adze_scratch *scratch, int threads, int64_t **which)
{
    size_t D = (size_t)s->b->D;
    *which = adze_scratch_take(scratch, (size_t)s->Q * sizeof **which);
    s->again = adze_scratch_take(scratch, (size_t)s->Q);
    s->workers = adze_scratch_take(scratch, (size_t)threads * sizeof *s->workers);
    bool ok = *which && s->again && s->workers;
    for (int t = 0; ok && t < threads; t++) {
        worker *w = &s->workers[t];
        *w = (worker){ .panels = adze_scratch_take(scratch, GROUP * D * sizeof(float)),
                       .tile = s->b->type != ADZE_SCORE_F32 ? adze_scratch_take(scratch, TILE * D * sizeof(float)) : NULL,
                       .queries = adze_scratch_take(scratch, GROUP * sizeof(query)),
                       .kept = adze_scratch_take(scratch, GROUP * (size_t)s->room * sizeof(candidate)),
                       .nearest = adze_scratch_take(scratch, GROUP * (size_t)s->k * sizeof(neighbour)) };
        ok = w->panels && (w->tile || s->b->type == ADZE_SCORE_F32) && w->queries && w->kept && w->nearest;
    }
    return ok;
}

static size_t scratch_bytes(const search *s, int threads)
{
    size_t D = (size_t)s->b->D, align = ADZE_MEMORY_ALIGN;
    size_t each = (GROUP + (s->b->type != ADZE_SCORE_F32 ? TILE : 0)) * D * sizeof(float) +
                  GROUP * (sizeof(query) + (size_t)s->k * sizeof(neighbour) + (size_t)s->room * sizeof(candidate)) +
                  5 * align;
    return (size_t)s->Q * (sizeof(int64_t) + 1) + (size_t)threads * (each + sizeof(worker)) + 3 * align;
}

static adze_status check_query(const adze_bank *b, int64_t Q, int k)
{
    adze_status st = ADZE_OK;
    REQUIRE(b->sealed, ADZE_EINVAL, "bank: a query before sealing");
    REQUIRE(k >= 1 && k <= b->count && k <= ADZE_BANK_MAX_K, ADZE_EINVAL,
            "bank: k=%d, want 1 to %" PRId64, k, b->count < ADZE_BANK_MAX_K ? b->count : ADZE_BANK_MAX_K);
    REQUIRE(Q >= 0 && Q <= INT32_MAX, ADZE_EINVAL, "bank: Q=%" PRId64, Q);
done:
    return st;
}

bool adze_bank_on_device(const adze_bank *b) { return b->ctx != NULL; }

size_t adze_bank_query_device_bytes(const adze_bank *b, int64_t Q, int k)
{
    return b->ctx && b->device ? b->ctx->backend->bank_query_bytes(b->ctx, b->device, Q, k) : 0;
}

adze_status adze_bank_query_device(const adze_bank *b, const float *q, int64_t Q, int k, float *dist, int32_t *idx,
                                   adze_bank_stats *stats)
{
    adze_status st = ADZE_OK;
    adze_bank_stats here = { .queries = Q };
    TRY(check_query(b, Q, k));
    REQUIRE(b->device, ADZE_EINVAL, "bank: its queries run on the cpu");
    if (Q > 0) TRY(b->ctx->backend->bank_query(b->ctx, b->device, q, Q, k, dist, idx, &here));
    if (stats) *stats = here;
done:
    return st;
}

/* Host queries and results of a bank on a device. */
static adze_status query_copies(const adze_bank *b, const float *q, int64_t Q, int k, float *dist, int32_t *idx, adze_bank_stats *stats)
{
    adze_status st = ADZE_OK;
    const adze_backend *backend = b->ctx->backend;
    size_t count = (size_t)Q * (size_t)k;
    void *copy = NULL;
    float *own_dist = dist ? NULL : adze_malloc(count * sizeof *own_dist);
    int32_t *own_idx = idx ? NULL : adze_malloc(count * sizeof *own_idx);
    REQUIRE((dist || own_dist) && (idx || own_idx), ADZE_ENOMEM, "bank: %zu results", count);
    TRY(backend->alloc(b->ctx, (size_t)Q * (size_t)b->D * sizeof *q, ADZE_BLOCK_QUERIES, &copy));
    TRY(backend->write(b->ctx, copy, q, (size_t)Q * (size_t)b->D * sizeof *q));
    TRY(adze_bank_query_device(b, copy, Q, k, dist ? dist : own_dist, idx ? idx : own_idx, stats));
done:
    if (copy) backend->free(b->ctx, copy);
    adze_free(own_dist);
    adze_free(own_idx);
    return st;
}

adze_status adze_bank_query(const adze_bank *b, const float *q, int64_t Q, int k, float *dist, int32_t *idx,
                            adze_bank_stats *stats)
{
    adze_status st = ADZE_OK;
    adze_scratch scratch = { 0 };
    adze_bank_stats done_stats = { .queries = Q };
    search s = { .b = b, .q = q, .Q = Q, .k = k, .room = CANDIDATES_FLOOR + 2 * k, .type = b->type,
                 .dist = dist, .idx = idx };
    int threads = b->threads;
    int64_t *which = NULL, n_again = 0, unsound = -1;
    TRY(check_query(b, Q, k));
    if (Q == 0) goto report;
    if (threads > (Q + PANEL - 1) / PANEL) threads = (int)((Q + PANEL - 1) / PANEL);
#pragma omp parallel for num_threads(threads) schedule(static) reduction(max : unsound)
    for (int64_t i = 0; i < Q; i++)
        if (!row_is_sound(q + i * b->D, b->D)) unsound = i;
    REQUIRE(unsound < 0, ADZE_ENUMERIC, "bank: query %" PRId64 " holds NaN or infinity or is longer than 1e18", unsound);
    if (b->ctx) {
        st = query_copies(b, q, Q, k, dist, idx, stats);
        goto done;
    }
    TRY(adze_scratch_create(&scratch, scratch_bytes(&s, threads)));
    REQUIRE(workers_place(&s, &scratch, threads, &which), ADZE_EINTERNAL, "bank: scratch of %zu bytes is too small",
            scratch.size_bytes);

    search_round(&s, threads, NULL, Q);
    if (s.type != ADZE_SCORE_F32 && (n_again = list_again(&s, which)) > 0) {
        done_stats.rerun_f32 = n_again;
        s.type = ADZE_SCORE_F32;
        search_round(&s, threads, which, n_again);
    }
    n_again = list_again(&s, which);
    done_stats.rerun_direct = n_again;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int64_t i = 0; i < n_again; i++) search_directly(&s, &s.workers[omp_get_thread_num()], which[i]);
    for (int t = 0; t < threads; t++) done_stats.candidates += s.workers[t].candidates;
report:
    if (stats) *stats = done_stats;
done:
    adze_scratch_destroy(&scratch);
    return st;
}

/* ---- neighbours of bank rows ------------------------------------------------------------------------------------- */

adze_status adze_bank_neighbours(const adze_bank *b, int64_t row, int n, float *dist, int32_t *idx)
{
    adze_status st = ADZE_OK;
    REQUIRE(row >= 0 && row < b->count, ADZE_EINVAL, "bank: row %" PRId64 " of %" PRId64, row, b->count);
    TRY(adze_bank_query(b, b->rows + row * b->D, 1, n, dist, idx, NULL));
done:
    return st;
}

adze_status adze_bank_reweight_score(const adze_bank *b, const float *q, int64_t Q, const float *dist,
                                     const int32_t *idx, int support, adze_bank_reweight *out)
{
    adze_status st = ADZE_OK;
    int32_t around[ADZE_BANK_MAX_K];
    REQUIRE(Q >= 1 && support >= 1 && support <= ADZE_BANK_MAX_K, ADZE_EINVAL,
            "bank: re-weighting %" PRId64 " patches with a support of %d", Q, support);
    int n = support < b->count ? support : (int)b->count;
    int64_t patch = 0;
    for (int64_t i = 1; i < Q; i++)
        if (dist[i] > dist[patch]) patch = i;
    TRY(adze_bank_neighbours(b, idx[patch], n, NULL, around));

    double root[ADZE_BANK_MAX_K], largest = 0.0, sum = 0.0;
    const float *p = q + patch * b->D;
    for (int j = 0; j < n; j++) {
        root[j] = sqrt(b->kernels->distance2(p, b->rows + around[j] * b->D, b->D));
        largest = fmax(largest, root[j]);
    }
    for (int j = 0; j < n; j++) sum += exp(root[j] - largest);
    double max = sqrt(b->kernels->distance2(p, b->rows + idx[patch] * b->D, b->D));
    double weight = 1.0 - exp(max - largest) / sum;
    *out = (adze_bank_reweight){ .patch = patch, .nearest = idx[patch], .max = (float)max, .weight = (float)weight,
                                 .score = (float)(weight * max) };
done:
    return st;
}
