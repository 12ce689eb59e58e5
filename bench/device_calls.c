/* device_calls.c - calls beside the graph at the benchmark's shapes: a bank of 24576 rows of 1024 (one class of 240 pictures), a coreset
 * of it, maps of 256x256, the noise of a step of SimpleNet, an optimiser over 44 M parameters (RD's decoder). Entry: device_call_create(). */
#include "bench/device_calls.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "core/backend.h"
#include "core/clock.h"
#include "core/map_post.h"
#include "core/memory.h"
#include "core/ops.h"
#include "core/philox.h"
#include "core/plan.h"
#include "datasets/normalize.h"
#include "train/optimizer.h"

typedef enum { NEIGHBOURS, SELECTION, MAPS, PIXELS, NOISE, OPTIMISER } call_kind;

typedef struct {
    const char *name;
    call_kind kind;
    int k;                        /* neighbours */
    adze_knn_precision precision; /* neighbours */
    adze_optim_kind optim;
    double momentum, clip;
} call_def;

static const call_def defs[] = {
    { .name = "knn", .kind = NEIGHBOURS, .k = 1 },
    { .name = "knn f32", .kind = NEIGHBOURS, .k = 1, .precision = ADZE_KNN_F32 },
    { .name = "knn k=9", .kind = NEIGHBOURS, .k = 9 },
    { .name = "knn k=9 f32", .kind = NEIGHBOURS, .k = 9, .precision = ADZE_KNN_F32 },
    { .name = "knn k=13", .kind = NEIGHBOURS, .k = 13 },
    { .name = "k-center", .kind = SELECTION },
    { .name = "map_post", .kind = MAPS },
    { .name = "normalise", .kind = PIXELS },
    { .name = "noise", .kind = NOISE },
    { .name = "adam", .kind = OPTIMISER, .optim = ADZE_OPTIM_ADAM },
    { .name = "adamw, clipped", .kind = OPTIMISER, .optim = ADZE_OPTIM_ADAMW, .clip = 1e-5 },
    { .name = "sgd with momentum", .kind = OPTIMISER, .optim = ADZE_OPTIM_SGD, .momentum = 0.9 },
};

struct device_call {
    const call_def *def;
    adze_ctx *ctx;
    kernel_size size;
    float *x, *result; /* host */
    int64_t n_result;
    double tolerance;  /* of the result's largest element; 0: the same bits */
    /* nearest neighbours */
    adze_bank *bank;
    void *q;           /* on the device; NULL: none */
    int32_t *idx;
    /* selection */
    int64_t *picks;
    /* pixels */
    adze_normalize table;
    unsigned char *rgb;
    void *y;           /* on the device */
    /* optimiser */
    adze_graph *graph;
    adze_params *params;
    adze_plan *plan;
    adze_optim *optim;
};

int device_call_count(void) { return sizeof defs / sizeof *defs; }

/* ---- sizes ---- */

enum { STARTS = 10 };

static int64_t bank_rows(kernel_size s) { return s.shrink == 1 ? 24576 : 256; }
static int64_t bank_dim(kernel_size s) { return s.shrink == 1 ? 1024 : 128; }
static int64_t queries(const call_def *d, kernel_size s) { return d->k > 12 ? 8 : s.shrink == 1 ? 1024 * s.N : 128; }
static int64_t coreset_rows(kernel_size s) { return s.shrink == 1 ? 61440 : 512; }
static int64_t coreset_picks(kernel_size s) { return coreset_rows(s) / 10; }
enum { CORESET_DIM = 128 };
static int64_t noise_numbers(kernel_size s) { return s.N * kernel_side(s, 32) * kernel_side(s, 32) * 1536; }
static int64_t parameters(kernel_size s) { return s.shrink == 1 ? 44 << 20 : 1 << 16; }

device_call_facts device_call_facts_at(int i, kernel_size s)
{
    const call_def *d = &defs[i];
    const double M = (double)bank_rows(s), D = (double)bank_dim(s), Q = (double)queries(d, s), side = (double)kernel_side(s, 256);
    const double pixels = (double)s.N * side * side, n = (double)parameters(s);
    device_call_facts f = { .name = d->name };
    switch (d->kind) {
    case NEIGHBOURS:
        f.half = d->precision != ADZE_KNN_F32 && d->k <= 12;
        f.bytes = (f.half ? 2.0 : 4.0) * D * (M + Q) + 8.0 * Q * d->k, f.flops = 2.0 * Q * M * D;
        f.transfers = true;
        break;
    case SELECTION: /* every row once, and its distance to each pick if none were spared */
        f.bytes = 4.0 * (double)coreset_rows(s) * CORESET_DIM;
        f.flops = 3.0 * (double)coreset_rows(s) * (double)coreset_picks(s) * CORESET_DIM;
        f.transfers = true;
        break;
    case MAPS: f.bytes = pixels * (4.0 + 4.0 / 64.0), f.flops = 2.0 * 50.0 * pixels, f.transfers = true; break;
    case PIXELS: f.bytes = 15.0 * pixels, f.transfers = true; break;
    case NOISE: f.bytes = 4.0 * (double)noise_numbers(s), f.flops = 25.0 * (double)noise_numbers(s); break; /* without Philox's integers */
    case OPTIMISER: f.bytes = n * ((d->optim == ADZE_OPTIM_SGD ? 20.0 : 28.0) + (d->clip > 0.0 ? 4.0 : 0.0)), f.flops = 12.0 * n; break;
    }
    return f;
}

/* ---- making ready ---- */

static float *uniform(int64_t n, uint32_t item)
{
    float *x = adze_malloc((size_t)n * sizeof *x);
    if (x) adze_philox_fill_uniform((adze_philox){ .seed = 2, .stream = ADZE_STREAM_TEST, .item = item }, 0, x, n);
    return x;
}

static adze_status create_neighbours(device_call *c)
{
    adze_status st = ADZE_OK;
    const int64_t M = bank_rows(c->size), D = bank_dim(c->size), Q = queries(c->def, c->size);
    adze_bank_opts opts = ADZE_BANK_OPTS;
    float *rows = uniform(M * D, 1);
    opts.precision = c->def->precision, opts.ctx = c->ctx;
    c->n_result = Q * c->def->k;
    REQUIRE(rows && (c->x = uniform(Q * D, 2)) && (c->result = adze_calloc((size_t)c->n_result, sizeof *c->result)) &&
                (c->idx = adze_calloc((size_t)c->n_result, sizeof *c->idx)),
            ADZE_ENOMEM, "no memory for neighbours");
    TRY(adze_bank_create(&c->bank, M, D, &opts));
    TRY(adze_bank_append(c->bank, rows, M));
    TRY(adze_bank_seal(c->bank));
    if (adze_bank_on_device(c->bank)) {
        const size_t n_bytes = (size_t)(Q * D) * sizeof *c->x;
        TRY(c->ctx->backend->alloc(c->ctx, n_bytes, ADZE_BLOCK_QUERIES, &c->q));
        TRY(c->ctx->backend->write(c->ctx, c->q, c->x, n_bytes));
    }
done:
    adze_free(rows);
    return st;
}

static adze_status create_selection(device_call *c)
{
    c->n_result = coreset_rows(c->size);
    c->x = uniform(coreset_rows(c->size) * CORESET_DIM, 3);
    c->result = adze_calloc((size_t)c->n_result, sizeof *c->result);
    c->picks = adze_calloc((size_t)coreset_picks(c->size), sizeof *c->picks);
    return c->x && c->result && c->picks ? ADZE_OK : adze_fail(ADZE_ENOMEM, "no memory for a selection");
}

static adze_status create_maps(device_call *c)
{
    const int64_t h = kernel_side(c->size, 32), H = kernel_side(c->size, 256);
    c->n_result = c->size.N * H * H;
    c->x = uniform(c->size.N * h * h, 4);
    c->result = adze_calloc((size_t)c->n_result, sizeof *c->result);
    return c->x && c->result ? ADZE_OK : adze_fail(ADZE_ENOMEM, "no memory for maps");
}

static adze_status create_pixels(device_call *c)
{
    adze_status st = ADZE_OK;
    const int64_t H = kernel_side(c->size, 256);
    const adze_philox r = { .seed = 2, .stream = ADZE_STREAM_TEST, .item = 5 };
    c->n_result = c->size.N * H * H * 3;
    adze_normalize_init(&c->table, adze_imagenet_mean, adze_imagenet_std);
    REQUIRE((c->rgb = adze_malloc((size_t)c->n_result)) && (c->result = adze_calloc((size_t)c->n_result, sizeof *c->result)), ADZE_ENOMEM,
            "no memory for pictures");
    for (int64_t i = 0; i < c->n_result; i++) c->rgb[i] = (unsigned char)adze_philox_u32(r, (uint64_t)i);
    TRY(c->ctx->backend->alloc(c->ctx, (size_t)c->n_result * sizeof *c->result, ADZE_BLOCK_OTHER, &c->y));
done:
    return st;
}

static adze_status create_noise(device_call *c)
{
    adze_status st = ADZE_OK;
    c->n_result = noise_numbers(c->size);
    REQUIRE(c->result = adze_calloc((size_t)c->n_result, sizeof *c->result), ADZE_ENOMEM, "no memory for noise");
    TRY(c->ctx->backend->alloc(c->ctx, (size_t)c->n_result * sizeof *c->result, ADZE_BLOCK_OTHER, &c->y));
done:
    return st;
}

/* The mean of (1,w) products over one input: its gradient is the input's share, the same for every output. */
static adze_status create_optimiser(device_call *c)
{
    adze_status st = ADZE_OK;
    const int64_t n = parameters(c->size);
    adze_plan_opts plan = ADZE_PLAN_OPTS;
    adze_optim_opts opts = ADZE_OPTIM_OPTS;
    TRY(adze_graph_create(&c->graph));
    adze_value x = adze_graph_input(c->graph, "x", ADZE_SHAPE(n)), w = adze_graph_param(c->graph, "w", ADZE_SHAPE(n), true);
    plan.loss = adze_mean(c->graph, adze_binary(c->graph, ADZE_BINARY_MUL, x, w));
    TRY(adze_graph_check(c->graph));
    TRY(adze_params_create(&c->params, c->ctx, c->graph));
    REQUIRE((c->x = uniform(n, 6)) && (c->result = adze_calloc((size_t)n, sizeof *c->result)), ADZE_ENOMEM, "no memory for parameters");
    c->n_result = n;
    c->tolerance = c->def->clip > 0.0 ? 16.0 * 0x1p-24 : 0.0; /* the norm's order may change the scale by a unit in the last place */
    TRY(adze_params_write(c->params, 0, c->x));
    TRY(adze_plan_create(&c->plan, c->ctx, c->graph, c->params, &plan));
    TRY(adze_plan_write(c->plan, x, c->x));
    TRY(adze_plan_run(c->plan));
    opts.kind = c->def->optim, opts.momentum = c->def->momentum, opts.clip = c->def->clip, opts.weight_decay = 1e-4, opts.decay_vectors = true;
    TRY(adze_optim_create(&c->optim, c->params, &opts));
done:
    return st;
}

adze_status device_call_create(device_call **out, int i, adze_ctx *ctx, kernel_size s)
{
    static adze_status (*const create[])(device_call *) = { create_neighbours, create_selection, create_maps, create_pixels, create_noise, create_optimiser };
    device_call *c = adze_calloc(1, sizeof *c);
    *out = NULL;
    if (!c) return adze_fail(ADZE_ENOMEM, "no memory for a call");
    c->def = &defs[i], c->ctx = ctx, c->size = s;
    const adze_status st = create[c->def->kind](c);
    if (st != ADZE_OK) device_call_destroy(c);
    else *out = c;
    return st;
}

void device_call_destroy(device_call *c)
{
    if (!c) return;
    if (c->q) c->ctx->backend->free(c->ctx, c->q);
    if (c->y) c->ctx->backend->free(c->ctx, c->y);
    adze_optim_destroy(c->optim);
    adze_plan_destroy(c->plan);
    adze_params_destroy(c->params);
    adze_graph_destroy(c->graph);
    adze_bank_destroy(c->bank);
    adze_free(c->x), adze_free(c->result), adze_free(c->idx), adze_free(c->picks), adze_free(c->rgb);
    adze_free(c);
}

/* ---- running ---- */

static adze_status run_neighbours(device_call *c)
{
    const int64_t Q = queries(c->def, c->size);
    if (c->q) return adze_bank_query_device(c->bank, c->q, Q, c->def->k, c->result, c->idx, NULL);
    return adze_bank_query(c->bank, c->x, Q, c->def->k, c->result, c->idx, NULL);
}

static adze_status run_selection(device_call *c)
{
    int64_t starts[STARTS];
    adze_kcenter_opts opts = ADZE_KCENTER_OPTS;
    for (int i = 0; i < STARTS; i++) starts[i] = i * coreset_rows(c->size) / STARTS;
    opts.starts = starts, opts.n_starts = STARTS, opts.ctx = c->ctx;
    return adze_kcenter_select(c->x, coreset_rows(c->size), CORESET_DIM, coreset_picks(c->size), &opts, c->picks, NULL, c->result, NULL);
}

static adze_status run_maps(device_call *c)
{
    const int64_t h = kernel_side(c->size, 32), H = kernel_side(c->size, 256);
    adze_map_opts opts = ADZE_MAP_OPTS;
    opts.ctx = c->ctx;
    return adze_map_post(c->x, c->size.N, h, h, H, H, 4.0, &opts, c->result);
}

static adze_status run_pixels(device_call *c)
{
    if (c->ctx->backend->normalize) return c->ctx->backend->normalize(c->ctx, c->rgb, c->n_result / 3, &c->table.value[0][0], c->y);
    adze_normalize_nhwc(&c->table, c->rgb, c->n_result / 3, c->y);
    return ADZE_OK;
}

static adze_status run_noise(device_call *c)
{
    const adze_noise noise = { .r = { .seed = 2, .stream = ADZE_STREAM_TEST, .item = 7 }, .deviation = 0.015f };
    return adze_noise_draw(c->ctx, &noise, c->y, c->n_result);
}

static adze_status run_optimiser(device_call *c) { return adze_optim_step(c->optim, 1e-3); }

adze_status device_call_run(device_call *c, double *seconds)
{
    static adze_status (*const run[])(device_call *) = { run_neighbours, run_selection, run_maps, run_pixels, run_noise, run_optimiser };
    const double begin = adze_clock_seconds();
    adze_status st = run[c->def->kind](c);
    if (st == ADZE_OK && c->ctx->backend->wait) st = c->ctx->backend->wait(c->ctx);
    *seconds = adze_clock_seconds() - begin;
    return st;
}

static adze_status fetch(device_call *c)
{
    if (c->params) return adze_params_read(c->params, 0, c->result);
    if (c->y) return c->ctx->backend->read(c->ctx, c->result, c->y, (size_t)c->n_result * sizeof *c->result);
    return ADZE_OK;
}

adze_status device_call_compare(device_call *got, device_call *want)
{
    adze_status st = ADZE_OK;
    double most = 0.0;
    TRY(fetch(got));
    TRY(fetch(want));
    for (int64_t i = 0; i < want->n_result; i++) most = fmax(most, fabs((double)want->result[i]));
    for (int64_t i = 0; i < want->n_result; i++)
        REQUIRE(fabs((double)got->result[i] - want->result[i]) <= want->tolerance * most, ADZE_ENUMERIC, "%s: result %" PRId64 " is %.9g, the cpu says %.9g",
                want->def->name, i, (double)got->result[i], (double)want->result[i]);
    if (want->idx)
        REQUIRE(memcmp(got->idx, want->idx, (size_t)want->n_result * sizeof *want->idx) == 0, ADZE_ENUMERIC, "%s: other rows than the cpu's", want->def->name);
    if (want->picks)
        REQUIRE(memcmp(got->picks, want->picks, (size_t)coreset_picks(want->size) * sizeof *want->picks) == 0, ADZE_ENUMERIC, "%s: other picks than the cpu's",
                want->def->name);
done:
    return st;
}
