/* simplenet.c - SimpleNet: a discriminator learns to tell projected patch features of good pictures from the same features
 * with noise on them; what it takes for noisy is anomalous.
 *
 *   train   x = patch features (frozen, PatchCore's, wider); f = projection; hinge on D(f) and D(f + noise): simplenet_net.c;
 *           AdamW on the projection, Adam on the discriminator, each with its own clipping, constant rates
 *   score   -D(f) per position by the running statistics; (h,w) -> (H,W) bilinear; Gaussian blur
 * The reference draws noise on the host; here element i of the rows in step t is a pure function of (seed, t, i).
 * The defaults are those of ADer's simplenet_256_100e configuration. Source: Liu et al., CVPR 2023; ADer model/simplenet.py. */
#include "models/simplenet.h"

#include <inttypes.h>
#include <string.h>

#include "core/device_memory.h"
#include "core/map_post.h"
#include "core/memory.h"
#include "core/noise.h"
#include "core/ops.h"
#include "core/params.h"
#include "core/plan.h"
#include "models/model_params.h"
#include "models/patch_features.h"
#include "models/simplenet_net.h"

static const adze_option options[] = {
    { .name = "layers", .type = ADZE_OPTION_STRING, .metavar = "A,B", .group = "Features",
      .help = "taps of the backbone, the first one sets the grid (unset: the ones with strides 8 and 16)" },
    { .name = "patch", .type = ADZE_OPTION_INT, .fallback = "3", .min = 1, .max = 15, .metavar = "N", .group = "Features",
      .help = "odd side of the neighbourhood that is pooled around a position" },
    { .name = "pretrain_dim", .type = ADZE_OPTION_INT, .fallback = "1536", .min = 1, .max = 16384, .metavar = "N", .group = "Features",
      .help = "length to which each layer's patch is averaged" },
    { .name = "target_dim", .type = ADZE_OPTION_INT, .fallback = "1536", .min = 1, .max = 16384, .metavar = "N", .group = "Features",
      .help = "length of a patch feature, and of its projection" },
    { .name = "hidden", .type = ADZE_OPTION_INT, .fallback = "1024", .min = 1, .max = 16384, .metavar = "N", .group = "Training",
      .help = "width of the discriminator" },
    { .name = "noise", .type = ADZE_OPTION_REAL, .fallback = "0.015", .min = 0, .max = 100, .metavar = "DEVIATION", .group = "Training",
      .help = "of the normal noise on the projected features" },
    { .name = "margin", .type = ADZE_OPTION_REAL, .fallback = "0.5", .min = 0, .max = 100, .metavar = "M", .group = "Training",
      .help = "of the hinge: good features shall score above M, noisy ones below -M" },
    { .name = "sigma", .type = ADZE_OPTION_REAL, .fallback = "4", .min = 0, .max = 100, .metavar = "PIXELS", .group = "Scores",
      .help = "of the Gaussian blur of the map" },
};

static const adze_recipe recipe = { .epochs = 100, .batch = 32, .lr = 1e-3, .rate = ADZE_RATE_CONSTANT };

struct adze_model {
    adze_model_setup setup;
    adze_graph *graph; /* owned, as all below */
    adze_params *params;
    adze_plan *plan;   /* models that score only */
    patch_features features;
    adze_value scores, loss;
    float noise;
    double sigma;
    float *patch_score; /* (batch, h*w) while scoring */
};

static const char *const projection[] = { SIMPLENET_PROJECTION, NULL }, *const discriminator[] = { SIMPLENET_DISCRIMINATOR, NULL };

static adze_status build_graph(adze_model *m, const adze_options *o)
{
    adze_status st = ADZE_OK;
    const adze_model_setup *s = &m->setup;
    const adze_patch_embed_opts embed = { .patch = (int)adze_options_int(o, "patch"), .pretrain_dim = adze_options_int(o, "pretrain_dim"),
                                          .target_dim = adze_options_int(o, "target_dim") };
    const simplenet_net_opts net = { .hidden = adze_options_int(o, "hidden"), .margin = (float)adze_options_real(o, "margin") };
    TRY(adze_graph_create(&m->graph));
    TRY(patch_features_build(m->graph, s, adze_options_string(o, "layers"), &embed, &m->features));
    if (s->fit) {
        adze_value noise = adze_graph_input(m->graph, "noise", adze_graph_shape(m->graph, m->features.rows));
        simplenet_net built;
        TRY(simplenet_net_train(m->graph, m->features.rows, noise, &net, &built));
        m->loss = built.loss;
        adze_graph_output(m->graph, "loss", m->loss);
    } else {
        TRY(simplenet_net_score(m->graph, m->features.rows, &net, &m->scores));
        adze_graph_output(m->graph, "scores", m->scores);
    }
    TRY(adze_graph_check(m->graph));
done:
    return st;
}

static void simplenet_destroy(adze_model *m)
{
    if (!m) return;
    adze_plan_destroy(m->plan);
    adze_params_destroy(m->params);
    adze_graph_destroy(m->graph);
    adze_free(m->patch_score);
    adze_free(m);
}

static adze_status simplenet_create(adze_model **out, const adze_model_setup *setup)
{
    adze_status st = ADZE_OK;
    *out = NULL;
    adze_model *m = adze_calloc(1, sizeof *m);
    REQUIRE(m, ADZE_ENOMEM, "simplenet: %zu host bytes", sizeof *m);
    m->setup = *setup;
    m->sigma = adze_options_real(setup->options, "sigma");
    m->noise = (float)adze_options_real(setup->options, "noise");
    TRY(build_graph(m, setup->options));
    TRY(adze_params_create(&m->params, setup->ctx, m->graph));
    TRY(model_params_load(m->params, "backbone.", "backbone.", &setup->weights));
    if (setup->fit) TRY(simplenet_net_init(m->params, setup->seed));
    m->setup.options = NULL; /* borrowed during create only */
    *out = m;
    m = NULL;
done:
    simplenet_destroy(m);
    return st;
}

/* One backward serves both optimisers: the reference makes two over one graph, with equal values. */
static void simplenet_training(adze_model *m, int64_t epochs, adze_training *out)
{
    (void)epochs;
    *out = (adze_training){
        .graph = m->graph, .params = m->params, .image = m->features.image,
        .part = { { .name = "", .loss = m->loss, .runs = 1, .n_optims = 2 } },
        .n_parts = 1,
        .optim = { { .opts = ADZE_OPTIM_OPTS, .lr_factor = 0.1 }, { .opts = ADZE_OPTIM_OPTS, .lr_factor = 0.2 } },
        .n_optims = 2,
        .input = { { .name = "noise", .noise = true } },
        .n_inputs = 1,
    };
    adze_optim_opts *p = &out->optim[0].opts, *d = &out->optim[1].opts;
    p->name = "projection", p->prefixes = projection, p->kind = ADZE_OPTIM_ADAMW, p->weight_decay = 0.01, p->clip = 5.0;
    d->name = "discriminator", d->prefixes = discriminator, d->kind = ADZE_OPTIM_ADAM, d->weight_decay = 1e-5, d->clip = 5.0;
}

static adze_noise simplenet_noise(const adze_model *m, const adze_training_at *at, const char *input)
{
    (void)input; /* there is one only */
    return (adze_noise){ { .seed = at->seed, .stream = ADZE_STREAM_NOISE, .item = (uint32_t)at->step }, m->noise };
}

static void simplenet_memory(const adze_model *m, int64_t n_images, adze_memory_item items[ADZE_MEMORY_ITEMS])
{
    (void)m, (void)n_images;
    items[0] = (adze_memory_item){ .what = NULL }; /* the trainer knows its plans */
}

static void simplenet_device_memory(const adze_model *m, int64_t n_images, adze_memory_item items[ADZE_MEMORY_ITEMS])
{
    const adze_model_setup *s = &m->setup;
    (void)n_images;
    items[0] = (adze_memory_item){ .what = NULL };
    items[1] = (adze_memory_item){ .what = NULL };
    if (!s->fit)
        items[0] = (adze_memory_item){ .what = adze_block_name(ADZE_BLOCK_MAPS),
                                       .n_bytes = adze_map_device_bytes(s->ctx, s->batch, m->features.h, m->features.w, s->H, s->W, m->sigma) };
}

static adze_status simplenet_save(const adze_model *m, const adze_tensor_sink *sink)
{
    return model_params_save(m->params, "", sink);
}

static adze_status simplenet_load(adze_model *m, const adze_tensor_source *source)
{
    adze_status st = ADZE_OK;
    const adze_model_setup *s = &m->setup;
    TRY(model_params_load(m->params, SIMPLENET_PROJECTION, "", source));
    TRY(model_params_load(m->params, SIMPLENET_DISCRIMINATOR, "", source));
    TRY(adze_plan_create(&m->plan, s->ctx, m->graph, m->params, &ADZE_PLAN_OPTS));
    size_t n = (size_t)(s->batch * m->features.h * m->features.w);
    REQUIRE(m->patch_score = adze_malloc(n * sizeof *m->patch_score), ADZE_ENOMEM, "simplenet: scores");
done:
    return st;
}

static adze_status simplenet_score(adze_model *m, const float *x, int64_t n, float *map, float *own)
{
    adze_status st = ADZE_OK;
    const adze_model_setup *s = &m->setup;
    int64_t P = m->features.h * m->features.w;
    REQUIRE(n > 0 && n <= s->batch, ADZE_EINVAL, "simplenet: %" PRId64 " images in a batch of %" PRId64, n, s->batch);
    TRY(adze_plan_write(m->plan, m->features.image, x));
    TRY(adze_plan_run(m->plan));
    TRY(adze_plan_read(m->plan, m->scores, m->patch_score));
    for (int64_t i = 0; i < n * P; i++) {
        m->patch_score[i] = -m->patch_score[i];
        if (own && (i % P == 0 || m->patch_score[i] > own[i / P])) own[i / P] = m->patch_score[i];
    }
    adze_map_opts opts = ADZE_MAP_OPTS;
    opts.threads = adze_ctx_threads(s->ctx);
    opts.ctx = s->ctx;
    TRY(adze_map_post(m->patch_score, n, m->features.h, m->features.w, s->H, s->W, m->sigma, &opts, map));
done:
    return st;
}

static void simplenet_facts(const adze_model *m, adze_text *text)
{
    int64_t trained = 0;
    for (int i = 0; i < adze_params_count(m->params); i++) {
        adze_shape s = adze_params_shape(m->params, i);
        if (strncmp(adze_params_name(m->params, i), "backbone.", strlen("backbone.")) != 0) trained += adze_shape_count(&s);
    }
    adze_text_printf(text, "projection and discriminator of %.2f million numbers", (double)trained / 1e6);
}

static void simplenet_print_plan(const adze_model *m, adze_text *text)
{
    if (m->plan) adze_plan_print(m->plan, text);
}

const adze_method adze_simplenet = {
    .name = "simplenet",
    .summary = "a discriminator between projected patch features and the same with noise on them",
    .source = "Liu et al., CVPR 2023; defaults of ADer simplenet_256_100e",
    .options = options,
    .n_options = sizeof options / sizeof *options,
    .backbone = "wide_resnet50_2",
    .batch = 32,
    .seed = 0,
    .recipe = &recipe,
    .create = simplenet_create,
    .destroy = simplenet_destroy,
    .training = simplenet_training,
    .noise = simplenet_noise,
    .memory = simplenet_memory,
    .device_memory = simplenet_device_memory,
    .save = simplenet_save,
    .load = simplenet_load,
    .score = simplenet_score,
    .facts = simplenet_facts,
    .print_plan = simplenet_print_plan,
};
