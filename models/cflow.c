/* cflow.c - CFLOW-AD: one conditional normalising flow per level of a frozen backbone learns how likely the feature vector
 * at a place is in good pictures; unlikely ones are anomalous.
 *
 *   train   of a batch's feature vectors, level by level, random ones are taken `fiber` at a time, each lot a step of the
 *           level's own Adam: loss = mean of softplus(-lp), lp the log-likelihood per dimension; what does not fill a lot is
 *           left out. The condition is the position code of the place
 *   score   per level p = exp(lp - the largest lp of all pictures scored together), resized with align_corners; S = sum over
 *           the levels; map = the largest S of all pictures - S; in double
 * The defaults are those of ADer's cflow_256_100e configuration. Source: Gudovskiy et al., WACV 2022; ADer model/cflow.py. */
#include "models/cflow.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/memory.h"
#include "core/ops.h"
#include "core/params.h"
#include "core/philox.h"
#include "core/plan.h"
#include "models/backbone.h"
#include "models/cflow_net.h"
#include "models/map_sum.h"
#include "models/model_params.h"
#include "models/tap_choice.h"

static const adze_option options[] = {
    { .name = "rotate", .type = ADZE_OPTION_REAL, .fallback = "5", .min = 0, .max = 180, .metavar = "DEGREES", .group = "Training",
      .help = "training pictures are turned by a random angle of at most so much, anew in every epoch; 0: not at all, and what the "
              "backbone computes can be kept (--cache)" },
    { .name = "levels", .type = ADZE_OPTION_STRING, .fallback = "2,3,4", .metavar = "LIST", .group = "Features",
      .help = "taps of the backbone, by number or name, rising, each with a flow of its own" },
    { .name = "blocks", .type = ADZE_OPTION_INT, .fallback = "8", .min = 1, .max = 64, .metavar = "N", .group = "Flow",
      .help = "coupling blocks of each flow" },
    { .name = "condition", .type = ADZE_OPTION_INT, .fallback = "128", .min = 4, .max = 4096, .metavar = "N", .group = "Flow",
      .help = "length of the position code, a multiple of 4" },
    { .name = "clamp", .type = ADZE_OPTION_CHOICE, .fallback = "package", .choices = "package|current", .group = "Flow",
      .help = "soft clamp of the log-scales: 1.9 tanh(a) as in FrEIA's package 0.2, which the benchmark installs, or 1.9 tanh(a/1.9) as in "
              "its repository since 2023" },
    { .name = "fiber", .type = ADZE_OPTION_INT, .fallback = "256", .min = 1, .max = 1 << 20, .metavar = "ROWS", .group = "Training",
      .help = "feature vectors of one optimiser step" },
    { .name = "meta", .type = ADZE_OPTION_INT, .fallback = "10", .min = 1, .max = 1000000, .metavar = "N", .group = "Training",
      .help = "stairs of the learning rate: the epochs are dealt to so many meta epochs, at most one for each; over the first two it rises" },
};

static const adze_recipe recipe = { .epochs = 100, .batch = 32, .lr = 2e-4, .rate = ADZE_RATE_META };

enum { LEVELS = 3 };

/* One flow. */
typedef struct {
    int tap;
    int64_t C, H, W;
    adze_value result;          /* fit: the loss, (1); else the log-likelihoods, (batch*H*W) */
    char name[24], optim[24], prefix[24], code[24];
    const char *prefixes[2];
    double peak;                /* the largest log-likelihood of all pictures scored together */
} flow;

struct adze_model {
    adze_model_setup setup;
    adze_graph *graph; /* owned, as all below */
    adze_params *params;
    adze_plan *plan;   /* models that score only */
    adze_value image;
    flow level[LEVELS];
    int n_levels;
    int64_t blocks, condition, fiber, meta;
    double rotate;
    bool over_clamp;
    int64_t *order, order_step; /* fit: rows of level order_part in step order_step, as they are taken; -1: none */
    int order_part;
    float *logp;                /* score: of one level and batch */
    double peak_sum;            /* the largest S */
    int64_t n_scored;
};

/* ---- making ---- */

static adze_status read_options(adze_model *m)
{
    adze_status st = ADZE_OK;
    const adze_options *o = m->setup.options;
    const adze_backbone_info *b;
    const char *levels = adze_options_string(o, "levels");
    tap_choice use;
    TRY(adze_backbone_find(m->setup.backbone, &b));
    REQUIRE(*levels, ADZE_EINVAL, "cflow: no levels");
    TRY(tap_choice_parse(&use, b, "levels", levels, 0, 0, LEVELS));
    for (m->n_levels = 0; m->n_levels < use.n; m->n_levels++) {
        REQUIRE(m->n_levels == 0 || use.index[m->n_levels] > use.index[m->n_levels - 1], ADZE_EINVAL, "cflow: levels '%s', want them to rise", levels);
        m->level[m->n_levels].tap = use.index[m->n_levels];
    }
    m->blocks = adze_options_int(o, "blocks");
    m->condition = adze_options_int(o, "condition");
    m->fiber = adze_options_int(o, "fiber");
    m->meta = adze_options_int(o, "meta");
    m->rotate = adze_options_real(o, "rotate");
    m->over_clamp = adze_options_choice(o, "clamp") == 1;
    REQUIRE(m->condition % 4 == 0, ADZE_EINVAL, "cflow: condition=%" PRId64 ", want a multiple of 4", m->condition);
    m->setup.options = NULL; /* borrowed during create only */
done:
    return st;
}

/* The rows of a level and their position codes, in training those that the inputs name; then the flow. */
static adze_status build_level(adze_model *m, int l, adze_value tap, const adze_value index[2])
{
    adze_status st = ADZE_OK;
    const adze_model_setup *s = &m->setup;
    flow *f = &m->level[l];
    adze_shape shape = adze_graph_shape(m->graph, tap);
    f->H = shape.dim[1], f->W = shape.dim[2], f->C = shape.dim[3];
    REQUIRE(f->C % 2 == 0, ADZE_EINVAL, "cflow: level %d of '%s' has %" PRId64 " channels, want an even number", f->tap, s->backbone, f->C);
    snprintf(f->name, sizeof f->name, "level%d", f->tap);
    snprintf(f->optim, sizeof f->optim, "decoder%d", l);
    snprintf(f->prefix, sizeof f->prefix, "decoders.%d.", l);
    snprintf(f->code, sizeof f->code, "place%d", l);
    f->prefixes[0] = f->prefix;
    adze_value x = adze_reshape(m->graph, tap, ADZE_SHAPE(s->batch * f->H * f->W, f->C)), logp;
    adze_value cond = adze_graph_param(m->graph, f->code, ADZE_SHAPE((s->fit ? 1 : s->batch) * f->H * f->W, m->condition), false);
    if (s->fit) {
        x = adze_index_select(m->graph, x, index[0], 0);
        cond = adze_index_select(m->graph, cond, index[1], 0);
    }
    cflow_net_opts opts = CFLOW_NET_OPTS;
    opts.train = s->fit;
    opts.blocks = m->blocks;
    opts.coupling.over_clamp = m->over_clamp;
    TRY(cflow_net_build(m->graph, l, x, cond, &opts, &logp, NULL));
    f->result = s->fit ? adze_loss(m->graph, ADZE_LOSS_NEG_LOG_SIGMOID, logp, ADZE_NONE, 0.0f, 0.0f) : logp;
    adze_graph_output(m->graph, f->name, f->result);
done:
    return st;
}

static adze_status build_graph(adze_model *m)
{
    adze_status st = ADZE_OK;
    const adze_model_setup *s = &m->setup;
    adze_value tap[ADZE_BACKBONE_TAPS], index[2] = { ADZE_NONE, ADZE_NONE };
    TRY(adze_graph_create(&m->graph));
    m->image = adze_graph_input(m->graph, "image", ADZE_SHAPE(s->batch, s->H, s->W, 3));
    if (s->fit) {
        index[0] = adze_graph_input(m->graph, "row", ADZE_SHAPE(m->fiber));
        index[1] = adze_graph_input(m->graph, "place", ADZE_SHAPE(m->fiber));
    }
    adze_backbone_opts opts = ADZE_BACKBONE_OPTS;
    opts.prefix = "backbone.";
    opts.folded = s->folded;
    opts.last_tap = m->level[m->n_levels - 1].tap;
    TRY(adze_backbone_build(m->graph, s->backbone, m->image, &opts, tap, NULL));
    for (int l = 0; l < m->n_levels; l++) TRY(build_level(m, l, tap[m->level[l].tap], index));
    TRY(adze_graph_check(m->graph));
done:
    return st;
}

static int64_t rows_of(const adze_model *m, const flow *f) { return m->setup.batch * f->H * f->W; }

/* Position codes of one picture in training, of a batch for scoring; and what a step needs in host memory. */
static adze_status fill_codes(adze_model *m)
{
    adze_status st = ADZE_OK;
    float *code = NULL;
    int64_t most = 0;
    for (int l = 0; l < m->n_levels; l++) {
        const flow *f = &m->level[l];
        int64_t one = f->H * f->W * m->condition, copies = m->setup.fit ? 1 : m->setup.batch;
        most = rows_of(m, f) > most ? rows_of(m, f) : most;
        adze_free(code);
        REQUIRE(code = adze_malloc((size_t)(copies * one) * sizeof *code), ADZE_ENOMEM, "cflow: position codes");
        cflow_position_code(f->H, f->W, m->condition, code);
        for (int64_t i = 1; i < copies; i++) memcpy(code + i * one, code, (size_t)one * sizeof *code);
        TRY(adze_params_write(m->params, adze_params_find(m->params, f->code), code));
    }
    if (m->setup.fit) REQUIRE(m->order = adze_malloc((size_t)most * sizeof *m->order), ADZE_ENOMEM, "cflow: an order of %" PRId64 " rows", most);
    else REQUIRE(m->logp = adze_malloc((size_t)most * sizeof *m->logp), ADZE_ENOMEM, "cflow: %" PRId64 " likelihoods", most);
done:
    adze_free(code);
    return st;
}

static void cflow_destroy(adze_model *m)
{
    if (!m) return;
    adze_plan_destroy(m->plan);
    adze_params_destroy(m->params);
    adze_graph_destroy(m->graph);
    adze_free(m->order);
    adze_free(m->logp);
    adze_free(m);
}

static adze_status cflow_create(adze_model **out, const adze_model_setup *setup)
{
    adze_status st = ADZE_OK;
    *out = NULL;
    adze_model *m = adze_calloc(1, sizeof *m);
    REQUIRE(m, ADZE_ENOMEM, "cflow: %zu host bytes", sizeof *m);
    m->setup = *setup;
    m->order_step = -1;
    TRY(read_options(m));
    TRY(build_graph(m));
    TRY(adze_params_create(&m->params, setup->ctx, m->graph));
    TRY(model_params_load(m->params, "backbone.", "backbone.", &setup->weights));
    TRY(fill_codes(m));
    if (setup->fit) TRY(cflow_net_init(m->params, "decoders.", setup->seed));
    *out = m;
    m = NULL;
done:
    cflow_destroy(m);
    return st;
}

/* ---- training ---- */

static void cflow_training(adze_model *m, int64_t epochs, adze_training *out)
{
    (void)epochs;
    *out = (adze_training){
        .graph = m->graph, .params = m->params, .image = m->image, .rotate = m->rotate, .meta_epochs = m->meta,
        .n_parts = m->n_levels, .n_optims = m->n_levels, .n_terms = m->n_levels,
        .input = { { .name = "row" }, { .name = "place" } },
        .n_inputs = 2,
    };
    for (int l = 0; l < m->n_levels; l++) {
        const flow *f = &m->level[l];
        out->part[l] = (adze_training_part){ .name = f->name, .loss = f->result, .runs = rows_of(m, f) / m->fiber, .first_optim = l, .n_optims = 1 };
        out->optim[l] = (adze_training_optim){ .opts = ADZE_OPTIM_OPTS, .lr_factor = 1.0 };
        out->optim[l].opts.name = f->optim;
        out->optim[l].opts.prefixes = f->prefixes;
        out->term_name[l] = f->name, out->term_part[l] = l;
    }
}

static adze_status cflow_fill(adze_model *m, const adze_training_at *at, const char *input, float *x)
{
    const flow *f = &m->level[at->part];
    bool place = strcmp(input, "place") == 0;
    if (m->order_step != at->step || m->order_part != at->part) {
        adze_philox r = { .seed = at->seed, .stream = ADZE_STREAM_FIBER, .item = (uint32_t)(at->step * LEVELS + at->part) };
        adze_philox_permutation(r, m->order, rows_of(m, f));
        m->order_step = at->step, m->order_part = at->part;
    }
    for (int64_t i = 0; i < m->fiber; i++) {
        int64_t row = m->order[at->run * m->fiber + i];
        x[i] = (float)(place ? row % (f->H * f->W) : row);
    }
    return ADZE_OK;
}

static void cflow_memory(const adze_model *m, int64_t n_images, adze_memory_item items[ADZE_MEMORY_ITEMS])
{
    (void)m, (void)n_images;
    items[0] = (adze_memory_item){ .what = NULL }; /* the trainer knows its plans */
}

static adze_status cflow_save(const adze_model *m, const adze_tensor_sink *sink)
{
    adze_status st = ADZE_OK;
    TRY(model_params_save(m->params, "backbone.", sink));
    TRY(model_params_save(m->params, "decoders.", sink));
done:
    return st;
}

/* ---- scoring ---- */

static adze_status cflow_load(adze_model *m, const adze_tensor_source *source)
{
    adze_status st = ADZE_OK;
    TRY(model_params_load(m->params, "decoders.", "", source));
    TRY(adze_plan_create(&m->plan, m->setup.ctx, m->graph, m->params, &ADZE_PLAN_OPTS));
done:
    return st;
}

/* Likelihoods of all levels, one level behind the other. */
static int64_t cflow_raw_floats(const adze_model *m)
{
    int64_t n = 0;
    for (int l = 0; l < m->n_levels; l++) n += m->level[l].H * m->level[l].W;
    return n;
}

static adze_status cflow_score(adze_model *m, const float *x, int64_t n, float *raw, float *own)
{
    adze_status st = ADZE_OK;
    int64_t floats = cflow_raw_floats(m), at = 0;
    (void)own;
    REQUIRE(n > 0 && n <= m->setup.batch, ADZE_EINVAL, "cflow: %" PRId64 " images in a batch of %" PRId64, n, m->setup.batch);
    TRY(adze_plan_write(m->plan, m->image, x));
    TRY(adze_plan_run(m->plan));
    for (int l = 0; l < m->n_levels; l++) {
        const flow *f = &m->level[l];
        int64_t places = f->H * f->W;
        TRY(adze_plan_read(m->plan, f->result, m->logp));
        for (int64_t i = 0; i < n; i++) memcpy(raw + i * floats + at, m->logp + i * places, (size_t)places * sizeof *raw);
        at += places;
    }
    m->n_scored += n;
done:
    return st;
}

/* S of one picture; small holds any level, large a map. */
static adze_status sum_levels(const adze_model *m, const float *raw, double *small, double *large, double *sum)
{
    adze_status st = ADZE_OK;
    const adze_model_setup *s = &m->setup;
    for (int l = 0; l < m->n_levels; l++) {
        const flow *f = &m->level[l];
        const map_level level = { .f64 = small, .h = f->H, .w = f->W };
        int64_t places = f->H * f->W;
        for (int64_t i = 0; i < places; i++) small[i] = exp((double)raw[i] - f->peak);
        TRY(map_sum_add(sum, l == 0, &level, 1, s->H, s->W, 1, large));
        raw += places;
    }
done:
    return st;
}

/* Buffers of sum_levels(). */
static adze_status make_sums(const adze_model *m, double **small, double **large, double **sum)
{
    adze_status st = ADZE_OK;
    size_t pixels = (size_t)(m->setup.H * m->setup.W);
    *small = adze_malloc((size_t)cflow_raw_floats(m) * sizeof **small);
    *large = adze_malloc(pixels * sizeof **large);
    *sum = adze_malloc(pixels * sizeof **sum);
    REQUIRE(*small && *large && *sum, ADZE_ENOMEM, "cflow: maps");
done:
    return st;
}

static adze_status cflow_settle(adze_model *m, const float *raw, int64_t n)
{
    adze_status st = ADZE_OK;
    int64_t floats = cflow_raw_floats(m), pixels = m->setup.H * m->setup.W, at = 0;
    double *small = NULL, *large = NULL, *sum = NULL;
    for (int l = 0; l < m->n_levels; l++) {
        flow *f = &m->level[l];
        f->peak = -INFINITY;
        for (int64_t i = 0; i < n; i++)
            for (int64_t k = 0; k < f->H * f->W; k++) f->peak = fmax(f->peak, raw[i * floats + at + k]);
        REQUIRE(isfinite(f->peak), ADZE_ENUMERIC, "cflow: the largest log-likelihood of %s is %g", f->name, f->peak);
        at += f->H * f->W;
    }
    TRY(make_sums(m, &small, &large, &sum));
    m->peak_sum = -INFINITY;
    for (int64_t i = 0; i < n; i++) {
        TRY(sum_levels(m, raw + i * floats, small, large, sum));
        for (int64_t k = 0; k < pixels; k++) m->peak_sum = fmax(m->peak_sum, sum[k]);
    }
done:
    adze_free(small);
    adze_free(large);
    adze_free(sum);
    return st;
}

static adze_status cflow_finish(adze_model *m, const float *raw, int64_t n, float *map)
{
    adze_status st = ADZE_OK;
    int64_t floats = cflow_raw_floats(m), pixels = m->setup.H * m->setup.W;
    double *small = NULL, *large = NULL, *sum = NULL;
    TRY(make_sums(m, &small, &large, &sum));
    for (int64_t i = 0; i < n; i++) {
        TRY(sum_levels(m, raw + i * floats, small, large, sum));
        for (int64_t k = 0; k < pixels; k++) map[i * pixels + k] = (float)(m->peak_sum - sum[k]);
    }
done:
    adze_free(small);
    adze_free(large);
    adze_free(sum);
    return st;
}

static void cflow_facts(const adze_model *m, adze_text *text)
{
    adze_text_printf(text, "%d flows of %" PRId64 " blocks, %.2f million parameters with the backbone", m->n_levels, m->blocks,
                     (double)adze_params_bytes(m->params) / sizeof(float) / 1e6);
}

static void cflow_print_plan(const adze_model *m, adze_text *text)
{
    if (m->plan) adze_plan_print(m->plan, text);
}

const adze_method adze_cflow = {
    .name = "cflow",
    .summary = "conditional normalising flows: likelihoods of feature vectors given their place",
    .source = "Gudovskiy et al., WACV 2022; defaults of ADer cflow_256_100e",
    .options = options,
    .n_options = sizeof options / sizeof *options,
    .backbone = "wide_resnet50_2",
    .batch = 32,
    .seed = 42,
    .pooling = 16,
    .recipe = &recipe,
    .create = cflow_create,
    .destroy = cflow_destroy,
    .training = cflow_training,
    .fill = cflow_fill,
    .memory = cflow_memory,
    .save = cflow_save,
    .load = cflow_load,
    .score = cflow_score,
    .raw_floats = cflow_raw_floats,
    .settle = cflow_settle,
    .finish = cflow_finish,
    .facts = cflow_facts,
    .print_plan = cflow_print_plan,
};
