/* rd.c - reverse distillation: a decoder learns to rebuild a frozen teacher's features from a narrow code; where it cannot,
 * the picture is anomalous.
 *
 *   train   loss = sum over three levels of the mean over the batch of 1 - cos of the flattened maps
 *   score   per level 1 - cos over channels at each position, resized with align_corners, summed, divided by 9 (levels times
 *           the sum of their weights, as the reference does), blurred; resize in float32, the rest in double
 * The defaults are those of ADer's rd_256_100e configuration. Source: Deng and Li, CVPR 2022; ADer model/rd.py. */
#include "models/rd.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/map_post.h"
#include "core/memory.h"
#include "core/ops.h"
#include "core/params.h"
#include "core/plan.h"
#include "models/backbone.h"
#include "models/map_sum.h"
#include "models/model_params.h"
#include "models/rd_net.h"

static const adze_option options[] = {
    { .name = "sigma", .type = ADZE_OPTION_REAL, .fallback = "4", .min = 0, .max = 100, .metavar = "PIXELS", .group = "Scores",
      .help = "of the Gaussian blur of the map" },
};

static const adze_recipe recipe = { .epochs = 100, .batch = 16, .lr = 5e-3, .rate = ADZE_RATE_STEP };

enum { LEVELS = 3 };

struct adze_model {
    adze_model_setup setup;
    adze_graph *graph; /* owned, as all below */
    adze_params *params;
    adze_plan *plan;   /* models that score only */
    adze_value image, loss, level_loss[LEVELS], distance[LEVELS];
    adze_shape distance_shape[LEVELS];
    float *small;        /* one level's maps of a batch, (batch,h,w) */
    double *large, *sum; /* (batch,H,W) */
    double sigma;
    int64_t n_scored;
};

static const char *const level_name[LEVELS] = { "level1", "level2", "level3" };

static adze_status build_graph(adze_model *m)
{
    adze_status st = ADZE_OK;
    const adze_model_setup *s = &m->setup;
    REQUIRE(s->H % 32 == 0 && s->W % 32 == 0, ADZE_EINVAL, "rd: size %" PRId64 "x%" PRId64 ", want multiples of 32", s->H, s->W);
    TRY(adze_graph_create(&m->graph));
    m->image = adze_graph_input(m->graph, "image", ADZE_SHAPE(s->batch, s->H, s->W, 3));
    adze_backbone_opts opts = ADZE_BACKBONE_OPTS;
    opts.prefix = "backbone.";
    opts.folded = s->folded;
    opts.last_tap = 3;
    adze_value tap[ADZE_BACKBONE_TAPS], decoded[LEVELS];
    TRY(adze_backbone_build(m->graph, s->backbone, m->image, &opts, tap, NULL));
    rd_net_opts net = { .train = s->fit };
    TRY(rd_net_build(m->graph, s->backbone, tap + 1, &net, decoded, NULL));
    m->loss = ADZE_NONE;
    for (int k = 0; k < LEVELS; k++) {
        if (s->fit) {
            m->level_loss[k] = adze_cosine_loss(m->graph, decoded[k], tap[1 + k]);
            m->loss = k == 0 ? m->level_loss[0] : adze_binary(m->graph, ADZE_BINARY_ADD, m->loss, m->level_loss[k]);
            adze_graph_output(m->graph, level_name[k], m->level_loss[k]);
        } else {
            m->distance[k] = adze_cosine_map(m->graph, tap[1 + k], decoded[k]);
            m->distance_shape[k] = adze_graph_shape(m->graph, m->distance[k]);
            adze_graph_output(m->graph, level_name[k], m->distance[k]);
        }
    }
    if (s->fit) adze_graph_output(m->graph, "loss", m->loss);
    TRY(adze_graph_check(m->graph));
done:
    return st;
}

static void rd_destroy(adze_model *m)
{
    if (!m) return;
    adze_plan_destroy(m->plan);
    adze_params_destroy(m->params);
    adze_graph_destroy(m->graph);
    adze_free(m->small);
    adze_free(m->large);
    adze_free(m->sum);
    adze_free(m);
}

static adze_status rd_create(adze_model **out, const adze_model_setup *setup)
{
    adze_status st = ADZE_OK;
    *out = NULL;
    adze_model *m = adze_calloc(1, sizeof *m);
    REQUIRE(m, ADZE_ENOMEM, "rd: %zu host bytes", sizeof *m);
    m->setup = *setup;
    m->sigma = adze_options_real(setup->options, "sigma");
    TRY(build_graph(m));
    TRY(adze_params_create(&m->params, setup->ctx, m->graph));
    TRY(model_params_load(m->params, "backbone.", "backbone.", &setup->weights));
    if (setup->fit) {
        TRY(rd_net_init(m->params, "mff_oce.", setup->seed));
        TRY(rd_net_init(m->params, "net_s.", setup->seed));
    }
    m->setup.options = NULL; /* borrowed during create only */
    *out = m;
    m = NULL;
done:
    rd_destroy(m);
    return st;
}

static void rd_training(adze_model *m, int64_t epochs, adze_training *out)
{
    (void)epochs;
    *out = (adze_training){
        .graph = m->graph, .params = m->params, .image = m->image,
        .part = { { .name = "", .loss = m->loss, .runs = 1, .n_optims = 1 } },
        .n_parts = 1,
        .optim = { { .opts = ADZE_OPTIM_OPTS, .lr_factor = 1.0 } },
        .n_optims = 1,
        .n_terms = LEVELS,
    };
    out->optim[0].opts.beta1 = 0.5;
    out->optim[0].opts.clip = 5.0;
    for (int k = 0; k < LEVELS; k++) out->term_name[k] = level_name[k];
}

static void rd_memory(const adze_model *m, int64_t n_images, adze_memory_item items[ADZE_MEMORY_ITEMS])
{
    (void)m, (void)n_images;
    items[0] = (adze_memory_item){ .what = NULL }; /* the trainer knows its plans */
}

static adze_status rd_save(const adze_model *m, const adze_tensor_sink *sink)
{
    return model_params_save(m->params, "", sink);
}

static adze_status rd_load(adze_model *m, const adze_tensor_source *source)
{
    adze_status st = ADZE_OK;
    const adze_model_setup *s = &m->setup;
    size_t pixels = (size_t)(s->batch * s->H * s->W);
    TRY(model_params_load(m->params, "mff_oce.", "", source));
    TRY(model_params_load(m->params, "net_s.", "", source));
    TRY(adze_plan_create(&m->plan, s->ctx, m->graph, m->params, &ADZE_PLAN_OPTS));
    REQUIRE(m->small = adze_malloc((size_t)adze_shape_count(&m->distance_shape[0]) * sizeof *m->small), ADZE_ENOMEM, "rd: maps");
    REQUIRE(m->large = adze_malloc(pixels * sizeof *m->large), ADZE_ENOMEM, "rd: maps");
    REQUIRE(m->sum = adze_malloc(pixels * sizeof *m->sum), ADZE_ENOMEM, "rd: maps");
done:
    return st;
}

static adze_status rd_score(adze_model *m, const float *x, int64_t n, float *map, float *own)
{
    adze_status st = ADZE_OK;
    const adze_model_setup *s = &m->setup;
    int64_t pixels = s->H * s->W;
    REQUIRE(n > 0 && n <= s->batch, ADZE_EINVAL, "rd: %" PRId64 " images in a batch of %" PRId64, n, s->batch);
    TRY(adze_plan_write(m->plan, m->image, x));
    TRY(adze_plan_run(m->plan));
    adze_map_opts opts = ADZE_MAP_OPTS;
    opts.threads = adze_ctx_threads(s->ctx);
    for (int k = 0; k < LEVELS; k++) {
        const map_level level = { .f32 = m->small, .h = m->distance_shape[k].dim[1], .w = m->distance_shape[k].dim[2] };
        TRY(adze_plan_read(m->plan, m->distance[k], m->small));
        TRY(map_sum_add(m->sum, k == 0, &level, n, s->H, s->W, opts.threads, m->large));
    }
    for (int64_t i = 0; i < n * pixels; i++) m->sum[i] /= LEVELS * LEVELS;
    TRY(adze_map_blur_f64(m->sum, n, s->H, s->W, m->sigma, &opts, m->sum));
    for (int64_t i = 0; i < n * pixels; i++) {
        map[i] = (float)m->sum[i];
        if (own && (i % pixels == 0 || map[i] > own[i / pixels])) own[i / pixels] = map[i];
    }
    m->n_scored += n;
done:
    return st;
}

static void rd_facts(const adze_model *m, adze_text *text)
{
    adze_text_printf(text, "%.2f million parameters with the teacher", (double)adze_params_bytes(m->params) / sizeof(float) / 1e6);
}

static void rd_print_plan(const adze_model *m, adze_text *text)
{
    if (m->plan) adze_plan_print(m->plan, text);
}

const adze_method adze_rd = {
    .name = "rd",
    .summary = "reverse distillation: a decoder rebuilds a frozen teacher's features; distance is 1 - cosine",
    .source = "Deng and Li, CVPR 2022; defaults of ADer rd_256_100e",
    .options = options,
    .n_options = sizeof options / sizeof *options,
    .backbone = "wide_resnet50_2",
    .batch = 16,
    .seed = 42,
    .recipe = &recipe,
    .create = rd_create,
    .destroy = rd_destroy,
    .training = rd_training,
    .memory = rd_memory,
    .save = rd_save,
    .load = rd_load,
    .score = rd_score,
    .facts = rd_facts,
    .print_plan = rd_print_plan,
};
