/* patchcore.c - PatchCore: a bank of patch features of good images, thinned by greedy k-center; the score of a patch is its
 * squared distance to the nearest bank row.
 *
 *   embed   backbone taps -> patch_embed -> rows (images * h * w, target_dim), order image, y, x
 *   fit     R = F W^T (projection_dim), W uniform in +-1/sqrt(target_dim); floor(coreset * N) picks of greedy k-center on R;
 *           bank = the picked rows of F
 *   score   mean of the squared distances to the `neighbours` nearest bank rows; (h,w) -> (H,W) bilinear; Gaussian blur
 *
 * The defaults are those of ADer's patchcore_256_100e configuration. What the reference leaves to chance comes from
 * Philox streams, or with draw=named from the deterministic tensors of tests/golden/README.md, so that a run can be
 * compared with the reference's number for number.
 * Source: Roth et al., CVPR 2022; ADer model/patchcore.py; score re-weighting as in anomalib. */
#include "models/patchcore.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/device_memory.h"
#include "core/hash.h"
#include "core/kcenter.h"
#include "core/knn.h"
#include "core/map_post.h"
#include "core/memory.h"
#include "core/ops.h"
#include "core/params.h"
#include "core/philox.h"
#include "core/plan.h"
#include "core/split.h"
#include "models/model_params.h"
#include "models/patch_features.h"

typedef enum { SAMPLER_APPROXIMATE, SAMPLER_EXACT, SAMPLER_FIRST, SAMPLER_NONE } sampler;
typedef enum { DRAW_PHILOX, DRAW_NAMED } draw;

static const adze_option options[] = {
    { .name = "layers", .type = ADZE_OPTION_STRING, .metavar = "A,B", .group = "Features",
      .help = "taps of the backbone, the first one sets the grid (unset: the ones with strides 8 and 16)" },
    { .name = "patch", .type = ADZE_OPTION_INT, .fallback = "3", .min = 1, .max = 15, .metavar = "N", .group = "Features",
      .help = "odd side of the neighbourhood that is pooled around a position" },
    { .name = "pretrain_dim", .type = ADZE_OPTION_INT, .fallback = "1024", .min = 1, .max = 16384, .metavar = "N",
      .group = "Features", .help = "length to which each layer's patch is averaged" },
    { .name = "target_dim", .type = ADZE_OPTION_INT, .fallback = "1024", .min = 1, .max = 16384, .metavar = "N",
      .group = "Features", .help = "length of a patch feature" },
    { .name = "sampler", .type = ADZE_OPTION_CHOICE, .fallback = "approximate", .choices = "approximate|exact|first|none",
      .group = "Memory bank",
      .help = "start of the greedy k-center selection: mean distance to random rows, norm of the full distance matrix, "
              "distance to one random row; none keeps every row" },
    { .name = "coreset", .type = ADZE_OPTION_REAL, .fallback = "0.1", .min = 1e-6, .max = 1, .metavar = "RATIO",
      .group = "Memory bank", .help = "share of the rows that is kept" },
    { .name = "projection_dim", .type = ADZE_OPTION_INT, .fallback = "128", .min = 0, .max = 16384, .metavar = "N",
      .group = "Memory bank", .help = "dimensions of the random projection in which rows are selected; 0: none" },
    { .name = "starting_points", .type = ADZE_OPTION_INT, .fallback = "10", .min = 1, .max = 10000, .metavar = "N",
      .group = "Memory bank", .help = "random rows of the approximate start" },
    { .name = "drop_last", .type = ADZE_OPTION_FLAG, .fallback = "yes", .group = "Memory bank",
      .help = "leave one random image out when their number is odd, as the benchmark's loader does (batches of 2)" },
    { .name = "draw", .type = ADZE_OPTION_CHOICE, .fallback = "philox", .choices = "philox|named", .group = "Memory bank",
      .help = "random numbers: own streams of --seed, or the deterministic tensors of the reference cases" },
    { .name = "neighbours", .type = ADZE_OPTION_INT, .fallback = "1", .min = 1, .max = ADZE_BANK_MAX_K, .metavar = "K",
      .group = "Scores", .help = "bank rows whose squared distances are averaged" },
    { .name = "score_reweight", .type = ADZE_OPTION_INT, .fallback = "0", .min = 0, .max = ADZE_BANK_MAX_K, .metavar = "B",
      .group = "Scores",
      .help = "support of the paper's equation 7 for the model's own image score (anomalib: 9); 0: off, as the benchmark" },
    { .name = "sigma", .type = ADZE_OPTION_REAL, .fallback = "4", .min = 0, .max = 100, .metavar = "PIXELS",
      .group = "Scores", .help = "of the Gaussian blur of the map" },
    { .name = "search", .type = ADZE_OPTION_CHOICE, .fallback = "fastest", .choices = "fastest|f32|bf16|int8", .group = "Scores",
      .help = "precision of the first pass of the nearest-neighbour search; the result is exact either way" },
};

_Static_assert((int)ADZE_FROZEN_VALUES == (int)ADZE_GRAPH_CUTS, "every cut has its place");

struct adze_model {
    adze_model_setup setup;
    adze_graph *graph;   /* owned, as all below */
    adze_graph_parts parts; /* with setup.from_features: the backbone, and what follows it */
    const adze_graph *planned; /* borrowed: the graph or its second part; the values below belong to it */
    adze_params *params;
    adze_plan *plan;
    adze_value image, embedding, projected;
    int64_t h, w, D;     /* grid and length of a feature row */
    float *staging;      /* (batch*h*w, D), for backends without host memory */

    int64_t n_rows, cap_rows;
    float *rows;         /* (cap_rows, D) while fitting */
    float *low;          /* (cap_rows, projection_dim) while fitting */
    adze_bank *bank;
    int64_t *picks;      /* (bank rows) */
    int64_t n_fit_rows;
    float cover;         /* largest distance (projected) of a row to its nearest pick */

    int64_t pretrain_dim, target_dim, projection_dim, n_starts, neighbours, reweight, patch;
    sampler sampler;
    draw draw;
    bool drop_last;
    double coreset, sigma;
    adze_knn_precision search;
    float *dist;         /* (batch*h*w, neighbours) while scoring */
    int32_t *idx;
    float *patch_score;  /* (batch*h*w) */
    adze_bank_stats stats; /* summed over all queries */
};

static void read_options(adze_model *m, const adze_options *o)
{
    m->patch = adze_options_int(o, "patch");
    m->pretrain_dim = adze_options_int(o, "pretrain_dim");
    m->target_dim = adze_options_int(o, "target_dim");
    m->sampler = (sampler)adze_options_choice(o, "sampler");
    m->coreset = adze_options_real(o, "coreset");
    m->projection_dim = adze_options_int(o, "projection_dim");
    m->n_starts = m->sampler == SAMPLER_FIRST ? 1 : adze_options_int(o, "starting_points");
    m->drop_last = adze_options_flag(o, "drop_last");
    m->draw = (draw)adze_options_choice(o, "draw");
    m->neighbours = adze_options_int(o, "neighbours");
    m->reweight = adze_options_int(o, "score_reweight");
    m->sigma = adze_options_real(o, "sigma");
    m->search = (adze_knn_precision)adze_options_choice(o, "search");
    if (m->sampler == SAMPLER_NONE) m->projection_dim = 0;
}

static adze_status build_graph(adze_model *m, const char *layers)
{
    adze_status st = ADZE_OK;
    const adze_model_setup *s = &m->setup;
    const adze_patch_embed_opts embed = { .patch = (int)m->patch, .pretrain_dim = m->pretrain_dim, .target_dim = m->target_dim };
    patch_features features;
    TRY(adze_graph_create(&m->graph));
    TRY(patch_features_build(m->graph, s, layers, &embed, &features));
    m->image = features.image, m->embedding = features.rows;
    m->h = features.h, m->w = features.w, m->D = m->target_dim;
    TRY(adze_graph_check(m->graph));
done:
    return st;
}

/* What follows the embedding in `g`, which has it as v; all that a plan of g needs. */
static adze_status build_outputs(adze_model *m, adze_graph *g, adze_value v)
{
    adze_graph_output(g, "embedding", v);
    m->planned = g;
    m->embedding = v;
    m->projected = ADZE_NONE;
    if (m->setup.fit && m->projection_dim > 0) {
        adze_value w = adze_graph_param(g, "projection.weight", ADZE_SHAPE(m->projection_dim, m->D), false);
        m->projected = adze_linear(g, v, w, ADZE_NONE);
        adze_graph_output(g, "projected", m->projected);
    }
    return adze_graph_check(g);
}

/* Cuts the backbone off: the embedding's inputs are what is kept. */
static adze_status split_graph(adze_model *m)
{
    adze_status st = ADZE_OK;
    const adze_graph_goal goal = { .loss = m->embedding };
    TRY(adze_graph_split(&m->parts, m->graph, m->image, &goal, 1));
    if (m->projection_dim > 0) /* the parameter block is made after the whole graph */
        adze_graph_param(m->graph, "projection.weight", ADZE_SHAPE(m->projection_dim, m->D), false);
    TRY(adze_graph_check(m->graph));
    TRY(build_outputs(m, m->parts.rest[0].graph, m->parts.rest[0].loss));
done:
    return st;
}

/* Element i of the named deterministic tensor: unit(name) in [-1, 1). */
static float named_unit(const char *name, int64_t i)
{
    uint64_t h = adze_splitmix64(adze_fnv1a64(ADZE_FNV1A64_OFFSET, name, strlen(name)) + (uint64_t)i);
    return (float)((double)(h >> 40) * 0x1p-23 - 1.0);
}

static adze_philox stream(const adze_model *m, uint32_t purpose)
{
    return (adze_philox){ .seed = m->setup.seed, .stream = purpose, .item = 0 };
}

static adze_status draw_projection(adze_model *m, int param)
{
    adze_status st = ADZE_OK;
    int64_t n = m->projection_dim * m->D;
    float bound = (float)(1.0 / sqrt((double)m->D)), *w = adze_malloc((size_t)n * sizeof *w);
    char name[64];
    REQUIRE(w, ADZE_ENOMEM, "patchcore: a projection of %" PRId64 " floats", n);
    snprintf(name, sizeof name, "patchcore.projection.seed%" PRIu64, m->setup.seed);
    for (int64_t i = 0; i < n; i++) {
        float unit = m->draw == DRAW_NAMED ? named_unit(name, i)
                                           : 2.0f * adze_philox_uniform(stream(m, ADZE_STREAM_PROJECTION), (uint64_t)i) - 1.0f;
        w[i] = unit * bound;
    }
    TRY(adze_params_write(m->params, param, w));
done:
    adze_free(w);
    return st;
}

/* n distinct rows of N. */
static void draw_starts(const adze_model *m, int64_t N, int64_t n, int64_t *starts)
{
    char name[64];
    snprintf(name, sizeof name, "patchcore.start.seed%" PRIu64, m->setup.seed);
    uint64_t seed = adze_fnv1a64(ADZE_FNV1A64_OFFSET, name, strlen(name));
    int64_t found = 0;
    for (uint64_t i = 0; found < n; i++) {
        int64_t row = m->draw == DRAW_NAMED ? (int64_t)(adze_splitmix64(seed + i) % (uint64_t)N)
                                            : (int64_t)adze_philox_below(stream(m, ADZE_STREAM_CORESET), i, (uint64_t)N);
        bool known = false;
        for (int64_t j = 0; j < found; j++) known |= starts[j] == row;
        if (!known) starts[found++] = row;
    }
}

static adze_status load_weights(adze_model *m)
{
    adze_status st = ADZE_OK;
    int projection = adze_params_find(m->params, "projection.weight");
    TRY(model_params_load(m->params, "backbone.", "backbone.", &m->setup.weights));
    if (projection >= 0) TRY(draw_projection(m, projection));
done:
    return st;
}

static void patchcore_destroy(adze_model *m)
{
    if (!m) return;
    adze_plan_destroy(m->plan);
    adze_params_destroy(m->params);
    adze_graph_destroy(m->graph);
    adze_graph_parts_destroy(&m->parts);
    adze_bank_destroy(m->bank);
    adze_free(m->staging);
    adze_free(m->rows);
    adze_free(m->low);
    adze_free(m->picks);
    adze_free(m->dist);
    adze_free(m->idx);
    adze_free(m->patch_score);
    adze_free(m);
}

static adze_status patchcore_create(adze_model **out, const adze_model_setup *setup)
{
    adze_status st = ADZE_OK;
    *out = NULL;
    adze_model *m = adze_calloc(1, sizeof *m);
    REQUIRE(m, ADZE_ENOMEM, "patchcore: %zu host bytes", sizeof *m);
    m->setup = *setup;
    read_options(m, setup->options);
    TRY(build_graph(m, adze_options_string(setup->options, "layers")));
    TRY(setup->from_features ? split_graph(m) : build_outputs(m, m->graph, m->embedding));
    TRY(adze_params_create(&m->params, setup->ctx, m->graph));
    TRY(load_weights(m));
    TRY(adze_plan_create(&m->plan, setup->ctx, m->planned, m->params, &ADZE_PLAN_OPTS));
    m->setup.options = NULL; /* borrowed during create only */
    *out = m;
    m = NULL;
done:
    patchcore_destroy(m);
    return st;
}

static int64_t rows_per_batch(const adze_model *m)
{
    return m->setup.batch * m->h * m->w;
}

static void patchcore_memory(const adze_model *m, int64_t n_images, adze_memory_item items[ADZE_MEMORY_ITEMS])
{
    int n = 0;
    int64_t N = n_images * m->h * m->w, K = m->sampler == SAMPLER_NONE ? N : adze_kcenter_count(m->coreset, N);
    if (m->setup.fit) {
        items[n++] = (adze_memory_item){ .what = "patch features", .n_bytes = (size_t)(N * m->D) * sizeof(float) };
        if (m->projected != ADZE_NONE)
            items[n++] = (adze_memory_item){ .what = "projected features", .n_bytes = (size_t)(N * m->projection_dim) * sizeof(float) };
        if (m->sampler != SAMPLER_NONE)
            items[n++] = (adze_memory_item){ .what = "k-center selection",
                                             .n_bytes = adze_kcenter_bytes(N, m->projection_dim ? m->projection_dim : m->D, K) };
        items[n++] = (adze_memory_item){ .what = "memory bank", .n_bytes = (size_t)(K * m->D) * sizeof(float) };
    }
    items[n] = (adze_memory_item){ .what = NULL };
}

static void patchcore_device_memory(const adze_model *m, int64_t n_images, adze_memory_item items[ADZE_MEMORY_ITEMS])
{
    int n = 0;
    const adze_ctx *ctx = m->setup.ctx;
    int64_t N = n_images * m->h * m->w, Q = rows_per_batch(m), d = m->projection_dim > 0 ? m->projection_dim : m->D;
    if (m->setup.fit && m->sampler != SAMPLER_NONE)
        items[n++] = (adze_memory_item){ .what = adze_block_name(ADZE_BLOCK_SELECTION),
                                         .n_bytes = adze_kcenter_device_bytes(ctx, N, d, adze_kcenter_count(m->coreset, N), m->n_starts < N ? m->n_starts : N) };
    if (m->bank) {
        items[n++] = (adze_memory_item){ .what = adze_block_name(ADZE_BLOCK_QUERIES), .n_bytes = adze_bank_query_device_bytes(m->bank, Q, (int)m->neighbours) };
        items[n++] = (adze_memory_item){ .what = adze_block_name(ADZE_BLOCK_MAPS),
                                         .n_bytes = adze_map_device_bytes(ctx, m->setup.batch, m->h, m->w, m->setup.H, m->setup.W, m->sigma) };
    }
    items[n] = (adze_memory_item){ .what = NULL };
}

static void patchcore_choose(const adze_model *m, int64_t n_images, bool *keep)
{
    for (int64_t i = 0; i < n_images; i++) keep[i] = true;
    if (m->drop_last && n_images % 2 == 1 && n_images > 1)
        keep[adze_philox_below(stream(m, ADZE_STREAM_SHUFFLE), 0, (uint64_t)n_images)] = false;
}

static adze_status patchcore_fit_begin(adze_model *m, int64_t n_images)
{
    adze_status st = ADZE_OK;
    size_t rows, bytes;
    REQUIRE(n_images > 0, ADZE_EINPUT, "patchcore: no training image");
    m->n_rows = 0;
    m->cap_rows = n_images * m->h * m->w;
    REQUIRE(adze_mul_size((size_t)m->cap_rows, (size_t)m->D, &rows) && adze_mul_size(rows, sizeof(float), &bytes),
            ADZE_ENOMEM, "patchcore: %" PRId64 " feature rows", m->cap_rows);
    REQUIRE(m->rows = adze_malloc(bytes), ADZE_ENOMEM,
            "patchcore: %zu bytes for the patch features of %" PRId64 " images; a larger --memory-limit, or --set target_dim=N with a smaller N, helps",
            bytes, n_images);
    if (m->projected != ADZE_NONE) {
        bytes = (size_t)m->cap_rows * (size_t)m->projection_dim * sizeof(float);
        REQUIRE(m->low = adze_malloc(bytes), ADZE_ENOMEM, "patchcore: %zu bytes for the projected features", bytes);
    }
done:
    return st;
}

/* The first n images' part of an output, into `to`. */
static adze_status take_output(adze_model *m, adze_value v, int64_t n_floats, float *to)
{
    adze_status st = ADZE_OK;
    const float *from = adze_plan_host_data(m->plan, v);
    if (!from) {
        adze_shape s = adze_graph_shape(m->planned, v);
        adze_free(m->staging);
        REQUIRE(m->staging = adze_malloc((size_t)adze_shape_count(&s) * sizeof(float)), ADZE_ENOMEM, "patchcore: staging");
        TRY(adze_plan_read(m->plan, v, m->staging));
        from = m->staging;
    }
    memcpy(to, from, (size_t)n_floats * sizeof(float));
done:
    return st;
}

/* Rows of n images whose batch has been written to the plan. */
static adze_status add_rows(adze_model *m, int64_t n)
{
    adze_status st = ADZE_OK;
    int64_t rows = n * m->h * m->w;
    REQUIRE(n > 0 && n <= m->setup.batch && m->n_rows + rows <= m->cap_rows, ADZE_EINVAL,
            "patchcore: %" PRId64 " images in a batch of %" PRId64, n, m->setup.batch);
    TRY(adze_plan_run(m->plan));
    TRY(take_output(m, m->embedding, rows * m->D, m->rows + m->n_rows * m->D));
    if (m->projected != ADZE_NONE)
        TRY(take_output(m, m->projected, rows * m->projection_dim, m->low + m->n_rows * m->projection_dim));
    m->n_rows += rows;
done:
    return st;
}

static adze_status patchcore_fit_add(adze_model *m, const float *x, int64_t n)
{
    adze_status st = adze_plan_write(m->plan, m->image, x);
    return st == ADZE_OK ? add_rows(m, n) : st;
}

static void patchcore_frozen(adze_model *m, adze_frozen_part *out)
{
    *out = (adze_frozen_part){ .graph = m->parts.frozen, .params = m->params, .image = m->parts.image, .n = m->parts.n_cuts };
    memcpy(out->value, m->parts.from, sizeof out->value);
}

static adze_status patchcore_fit_add_features(adze_model *m, const float *const *x, int64_t n)
{
    for (int k = 0; k < m->parts.n_cuts; k++) {
        adze_status st = adze_plan_write(m->plan, m->parts.rest[0].to[k], x[k]);
        if (st != ADZE_OK) return st;
    }
    return add_rows(m, n);
}

static bool report_selection(void *user, int64_t done, int64_t total)
{
    const adze_work_progress *p = user;
    return !p || !p->step || p->step(p->user, "select", done, total);
}

static adze_status select_rows(adze_model *m, const adze_work_progress *progress, int64_t K)
{
    adze_status st = ADZE_OK;
    int64_t N = m->n_rows, *starts = NULL;
    float *rest = NULL;
    REQUIRE(m->picks = adze_malloc((size_t)K * sizeof *m->picks), ADZE_ENOMEM, "patchcore: %" PRId64 " picks", K);
    m->cover = 0.0f;
    if (m->sampler == SAMPLER_NONE) {
        for (int64_t i = 0; i < K; i++) m->picks[i] = i;
        goto done;
    }
    adze_kcenter_opts opts = ADZE_KCENTER_OPTS;
    opts.init = m->sampler == SAMPLER_EXACT ? ADZE_KCENTER_NORM : m->sampler == SAMPLER_FIRST ? ADZE_KCENTER_FIRST : ADZE_KCENTER_MEAN;
    opts.threads = adze_ctx_threads(m->setup.ctx);
    opts.ctx = m->setup.ctx;
    opts.progress = report_selection;
    opts.progress_arg = (void *)progress;
    if (m->sampler != SAMPLER_EXACT) {
        opts.n_starts = m->n_starts < N ? m->n_starts : N;
        REQUIRE(starts = adze_malloc((size_t)opts.n_starts * sizeof *starts), ADZE_ENOMEM, "patchcore: starts");
        draw_starts(m, N, opts.n_starts, starts);
        opts.starts = starts;
    }
    REQUIRE(rest = adze_malloc((size_t)N * sizeof *rest), ADZE_ENOMEM, "patchcore: %" PRId64 " distances", N);
    const float *points = m->low ? m->low : m->rows;
    TRY(adze_kcenter_select(points, N, m->low ? m->projection_dim : m->D, K, &opts, m->picks, NULL, rest, NULL));
    for (int64_t i = 0; i < N; i++) m->cover = rest[i] > m->cover ? rest[i] : m->cover;
done:
    adze_free(starts);
    adze_free(rest);
    return st;
}

static adze_status patchcore_fit_end(adze_model *m, const adze_work_progress *progress)
{
    adze_status st = ADZE_OK;
    int64_t N = m->n_rows, K = m->sampler == SAMPLER_NONE ? N : adze_kcenter_count(m->coreset, N);
    REQUIRE(N > 0, ADZE_EINPUT, "patchcore: no training image was read");
    TRY(select_rows(m, progress, K));
    adze_free(m->low);
    m->low = NULL;
    adze_bank_opts opts = ADZE_BANK_OPTS;
    opts.precision = m->search;
    opts.threads = adze_ctx_threads(m->setup.ctx);
    TRY(adze_bank_create(&m->bank, K, m->D, &opts));
    TRY(adze_bank_gather(m->bank, m->rows, N, m->picks, K));
    m->n_fit_rows = N;
    adze_free(m->rows);
    m->rows = NULL;
done:
    return st;
}

static adze_status patchcore_save(const adze_model *m, const adze_tensor_sink *sink)
{
    adze_status st = ADZE_OK;
    TRY(model_params_save(m->params, "backbone.", sink));
    int64_t K = adze_bank_count(m->bank);
    TRY(sink->put(sink->user, "memory_bank/features", ADZE_TENSOR_F32, ADZE_SHAPE(K, m->D), adze_bank_rows(m->bank)));
    TRY(sink->put(sink->user, "memory_bank/coreset_index", ADZE_TENSOR_I64, ADZE_SHAPE(K), m->picks));
done:
    return st;
}

static adze_status patchcore_load(adze_model *m, const adze_tensor_source *source)
{
    adze_status st = ADZE_OK;
    adze_shape s;
    const float *rows;
    char text[ADZE_SHAPE_TEXT];
    TRY(source->find(source->user, "memory_bank/features", &s, &rows));
    REQUIRE(s.rank == 2 && s.dim[1] == m->D && s.dim[0] > 0, ADZE_EINPUT,
            "the memory bank has shape %s, want (rows,%" PRId64 ")", adze_shape_text(&s, text), m->D);
    REQUIRE(m->neighbours <= s.dim[0], ADZE_EINPUT, "the memory bank has %" PRId64 " rows, neighbours=%" PRId64, s.dim[0],
            m->neighbours);
    adze_bank_opts opts = ADZE_BANK_OPTS;
    opts.precision = m->search;
    opts.threads = adze_ctx_threads(m->setup.ctx);
    opts.ctx = m->setup.ctx;
    TRY(adze_bank_create(&m->bank, s.dim[0], m->D, &opts));
    TRY(adze_bank_append(m->bank, rows, s.dim[0]));
    TRY(adze_bank_seal(m->bank));
    size_t Q = (size_t)rows_per_batch(m);
    REQUIRE(m->dist = adze_malloc(Q * (size_t)m->neighbours * sizeof *m->dist), ADZE_ENOMEM, "patchcore: distances");
    REQUIRE(m->idx = adze_malloc(Q * (size_t)m->neighbours * sizeof *m->idx), ADZE_ENOMEM, "patchcore: distances");
    REQUIRE(m->patch_score = adze_malloc(Q * sizeof *m->patch_score), ADZE_ENOMEM, "patchcore: scores");
done:
    return st;
}

/* The model's own image score: largest patch score, or re-weighted by the neighbourhood of the nearest bank row. */
static adze_status own_score(adze_model *m, const float *rows, int64_t image, float *own)
{
    int64_t P = m->h * m->w;
    const float *score = m->patch_score + image * P;
    *own = score[0];
    for (int64_t p = 1; p < P; p++) *own = score[p] > *own ? score[p] : *own;
    if (m->reweight == 0) return ADZE_OK;
    adze_bank_reweight r;
    float *nearest = m->dist + image * P * m->neighbours;
    int32_t *which = m->idx + image * P * m->neighbours;
    for (int64_t p = 1; p < P; p++) nearest[p] = nearest[p * m->neighbours], which[p] = which[p * m->neighbours];
    adze_status st = adze_bank_reweight_score(m->bank, rows + image * P * m->D, P, nearest, which, (int)m->reweight, &r);
    if (st == ADZE_OK) *own = r.score;
    return st;
}

static adze_status patchcore_score(adze_model *m, const float *x, int64_t n, float *map, float *own)
{
    adze_status st = ADZE_OK;
    int64_t P = m->h * m->w, Q = n * P, k = m->neighbours;
    REQUIRE(n > 0 && n <= m->setup.batch, ADZE_EINVAL, "patchcore: %" PRId64 " images in a batch of %" PRId64, n, m->setup.batch);
    TRY(adze_plan_write(m->plan, m->image, x));
    TRY(adze_plan_run(m->plan));
    const float *rows = adze_plan_host_data(m->plan, m->embedding);
    const bool device = adze_bank_on_device(m->bank);
    if (!rows && (!device || (own && m->reweight > 0))) {
        if (!m->staging) REQUIRE(m->staging = adze_malloc((size_t)(rows_per_batch(m) * m->D) * sizeof(float)), ADZE_ENOMEM, "patchcore: staging");
        TRY(adze_plan_read(m->plan, m->embedding, m->staging));
        rows = m->staging;
    }
    adze_bank_stats stats;
    if (device) TRY(adze_bank_query_device(m->bank, adze_plan_device_data(m->plan, m->embedding), Q, (int)k, m->dist, m->idx, &stats));
    else TRY(adze_bank_query(m->bank, rows, Q, (int)k, m->dist, m->idx, &stats));
    m->stats.queries += stats.queries;
    m->stats.candidates += stats.candidates;
    m->stats.rerun_f32 += stats.rerun_f32;
    m->stats.rerun_direct += stats.rerun_direct;
    for (int64_t q = 0; q < Q; q++) {
        double sum = 0.0;
        for (int64_t j = 0; j < k; j++) sum += m->dist[q * k + j];
        m->patch_score[q] = (float)(sum / (double)k);
    }
    adze_map_opts opts = ADZE_MAP_OPTS;
    opts.threads = adze_ctx_threads(m->setup.ctx);
    opts.ctx = m->setup.ctx;
    TRY(adze_map_post(m->patch_score, n, m->h, m->w, m->setup.H, m->setup.W, m->sigma, &opts, map));
    for (int64_t i = 0; i < n && own; i++) TRY(own_score(m, rows, i, &own[i]));
done:
    return st;
}

static void patchcore_facts(const adze_model *m, adze_text *text)
{
    if (m->bank) adze_text_printf(text, "bank of %" PRId64 " rows x %" PRId64, adze_bank_count(m->bank), m->D);
    if (m->n_fit_rows > 0)
        adze_text_printf(text, " from %" PRId64 " patches, cover %.6g", m->n_fit_rows, (double)m->cover);
    if (m->stats.queries > 0)
        adze_text_printf(text, "; %" PRId64 " patches searched, %.2f candidates each, %" PRId64 " rerun in float32, %" PRId64 " scanned directly",
                         m->stats.queries, (double)m->stats.candidates / (double)m->stats.queries, m->stats.rerun_f32,
                         m->stats.rerun_direct);
}

static void patchcore_print_plan(const adze_model *m, adze_text *text)
{
    adze_plan_print(m->plan, text);
}

static adze_status patchcore_engines(const adze_model *m, adze_text *list)
{
    return adze_plan_engines(m->plan, list);
}

const adze_method adze_patchcore = {
    .name = "patchcore",
    .summary = "memory bank of patch features of good images, thinned by greedy k-center; nearest-neighbour distance",
    .source = "Roth et al., CVPR 2022; defaults of ADer patchcore_256_100e",
    .options = options,
    .n_options = sizeof options / sizeof *options,
    .backbone = "wide_resnet50_2",
    .batch = 8,
    .seed = 42,
    .create = patchcore_create,
    .destroy = patchcore_destroy,
    .memory = patchcore_memory,
    .device_memory = patchcore_device_memory,
    .fit_choose = patchcore_choose,
    .fit_begin = patchcore_fit_begin,
    .fit_add = patchcore_fit_add,
    .fit_end = patchcore_fit_end,
    .frozen = patchcore_frozen,
    .fit_add_features = patchcore_fit_add_features,
    .save = patchcore_save,
    .load = patchcore_load,
    .score = patchcore_score,
    .facts = patchcore_facts,
    .engines = patchcore_engines,
    .print_plan = patchcore_print_plan,
};
