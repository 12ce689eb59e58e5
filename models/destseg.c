/* destseg.c - DeSTSeg: a student learns to give a frozen teacher's features of the clean picture when it sees one with synthetic
 * defects; then a segmentation network learns where the defects are from the products of both features.
 *
 *   train   phase 1, the first fifth of the epochs: student(defective) against teacher(clean), whose features are kept
 *           phase 2: segmentation of unit(teacher(defective)) * unit(student(defective)) against the defect's mask; the student
 *           rests, its batch norm by running statistics. SGD with constant rates, gradients clipped
 *   score   the probability of a defect, (H/4,W/4) -> (H,W) bilinear, no blur
 * Pictures are drawn with replacement; defect and texture of draw i are functions of (seed, epoch, i). As in the reference,
 * pictures come as OpenCV reads them, blue first, and are normalised as if red came first.
 * The defaults are those of ADer's destseg_256_100e configuration. Source: Zhang et al., CVPR 2023; ADer model/destseg.py. */
#include "models/destseg.h"

#include <inttypes.h>
#include <string.h>

#include "core/map_post.h"
#include "core/memory.h"
#include "core/ops.h"
#include "core/params.h"
#include "core/plan.h"
#include "models/backbone.h"
#include "models/defect.h"
#include "models/destseg_net.h"
#include "models/map_score.h"
#include "models/model_params.h"

enum { ORDER_BGR, ORDER_RGB };
enum { SCORE_MAX, SCORE_TOP_SMALL, SCORE_TOP_LARGE };

static const adze_option options[] = {
    { .name = "textures", .type = ADZE_OPTION_STRING, .metavar = "DIR", .group = "Training",
      .help = "pictures below DIR show through as defects, e.g. DTD (unset: good pictures of the data set's other classes; where there "
              "are none, built-in patterns)" },
    { .name = "channel_order", .type = ADZE_OPTION_CHOICE, .fallback = "bgr", .choices = "bgr|rgb", .group = "Pictures",
      .help = "bgr: read, resized and ordered as by OpenCV, which is what the reference does; rgb: as all other methods" },
    { .name = "image_score", .type = ADZE_OPTION_CHOICE, .fallback = "max", .choices = "max|topk100_64|topk100_256", .group = "Scores",
      .help = "a picture's score: the map's maximum (benchmark), or the mean of the 100 largest values of the small or the full map" },
};

static const adze_recipe recipe = { .epochs = 100, .batch = 32, .lr = 0.01, .rate = ADZE_RATE_CONSTANT, .replace = true };

enum { INPUT_AUGMENTED, INPUT_MASK };
enum { TEXTURE_DRAW = ADZE_DEFECT_DRAWS - 1 }; /* behind the numbers of the defect itself */

struct adze_model {
    adze_model_setup setup;
    adze_graph *graph; /* owned, as all below */
    adze_params *params;
    adze_plan *plan;   /* models that score only */
    adze_value image, student_loss, level[DESTSEG_LEVELS], segmentation_loss, part[2], p;
    int channel_order, image_score;
    int64_t h, w;      /* of the small map */
    float *small;      /* (batch,h,w) while scoring */
};

static const char *const level_name[DESTSEG_LEVELS] = { "level1", "level2", "level3" }, *const part_name[2] = { "l1", "focal" };
static const char *const student_prefixes[] = { "net_s.", "destseg.student_net.", NULL };
static const char *const segmentation_prefixes[] = { "destseg.segmentation_net.", NULL };

static adze_status teacher(adze_model *m, adze_value x, adze_value t[DESTSEG_LEVELS])
{
    adze_backbone_opts opts = ADZE_BACKBONE_OPTS;
    adze_value tap[ADZE_BACKBONE_TAPS];
    opts.prefix = "backbone.", opts.folded = m->setup.folded, opts.last_tap = DESTSEG_LEVELS;
    adze_status st = adze_backbone_build(m->graph, m->setup.backbone, x, &opts, tap, NULL);
    for (int k = 0; k < DESTSEG_LEVELS; k++) t[k] = tap[k + 1];
    return st;
}

/* Teacher, resting student and segmentation network on x. */
static adze_status build_segmentation(adze_model *m, adze_value x)
{
    adze_status st = ADZE_OK;
    adze_value t[DESTSEG_LEVELS], b[DESTSEG_LEVELS];
    const destseg_net_opts student = { .trainable = m->setup.fit }, net = { .trainable = m->setup.fit, .train = m->setup.fit };
    TRY(teacher(m, x, t));
    TRY(destseg_student(m->graph, m->setup.backbone, x, &student, b));
    m->p = destseg_segmentation(m->graph, destseg_product(m->graph, t, b), &net, NULL);
    adze_shape s = adze_graph_shape(m->graph, m->p);
    m->h = s.dim[1], m->w = s.dim[2];
done:
    return st;
}

static adze_status build_training(adze_model *m)
{
    adze_status st = ADZE_OK;
    const adze_model_setup *s = &m->setup;
    adze_value t[DESTSEG_LEVELS], b[DESTSEG_LEVELS];
    const destseg_net_opts student = { .trainable = true, .train = true };
    adze_value augmented = adze_graph_input(m->graph, "augmented", ADZE_SHAPE(s->batch, s->H, s->W, 3));
    TRY(teacher(m, m->image, t));
    TRY(destseg_student(m->graph, s->backbone, augmented, &student, b));
    m->student_loss = destseg_student_loss(m->graph, b, t, m->level);
    TRY(build_segmentation(m, augmented));
    adze_value mask = adze_graph_input(m->graph, "mask", adze_graph_shape(m->graph, m->p));
    m->segmentation_loss = destseg_segmentation_loss(m->graph, m->p, mask, m->part);
    for (int k = 0; k < DESTSEG_LEVELS; k++) adze_graph_output(m->graph, level_name[k], m->level[k]);
    for (int k = 0; k < 2; k++) adze_graph_output(m->graph, part_name[k], m->part[k]);
    adze_graph_output(m->graph, "student loss", m->student_loss);
    adze_graph_output(m->graph, "segmentation loss", m->segmentation_loss);
done:
    return st;
}

static adze_status build_graph(adze_model *m)
{
    adze_status st = ADZE_OK;
    const adze_model_setup *s = &m->setup;
    REQUIRE(s->H % 32 == 0 && s->W % 32 == 0, ADZE_EINVAL, "destseg: size %" PRId64 "x%" PRId64 ", want multiples of 32", s->H, s->W);
    REQUIRE(!s->fit || s->batch > 1, ADZE_EINVAL, "destseg: a batch of 1 has no statistics, want --batch 2 or more");
    TRY(adze_graph_create(&m->graph));
    m->image = adze_graph_input(m->graph, "image", ADZE_SHAPE(s->batch, s->H, s->W, 3));
    if (s->fit) TRY(build_training(m));
    else {
        TRY(build_segmentation(m, m->image));
        adze_graph_output(m->graph, "probability", m->p);
    }
    TRY(adze_graph_check(m->graph));
done:
    return st;
}

static void destseg_destroy(adze_model *m)
{
    if (!m) return;
    adze_plan_destroy(m->plan);
    adze_params_destroy(m->params);
    adze_graph_destroy(m->graph);
    adze_free(m->small);
    adze_free(m);
}

static adze_status destseg_create(adze_model **out, const adze_model_setup *setup)
{
    adze_status st = ADZE_OK;
    *out = NULL;
    adze_model *m = adze_calloc(1, sizeof *m);
    REQUIRE(m, ADZE_ENOMEM, "destseg: %zu host bytes", sizeof *m);
    m->setup = *setup;
    m->channel_order = adze_options_choice(setup->options, "channel_order");
    m->image_score = adze_options_choice(setup->options, "image_score");
    TRY(build_graph(m));
    TRY(adze_params_create(&m->params, setup->ctx, m->graph));
    TRY(model_params_load(m->params, "backbone.", "backbone.", &setup->weights));
    if (setup->fit) {
        TRY(destseg_net_init(m->params, "net_s.", setup->seed));
        TRY(destseg_net_init(m->params, "destseg.", setup->seed));
    }
    m->setup.options = NULL; /* borrowed during create only */
    *out = m;
    m = NULL;
done:
    destseg_destroy(m);
    return st;
}

static bool destseg_reads_as_opencv(const adze_model *m) { return m->channel_order == ORDER_BGR; }

static bool destseg_scores_images(const adze_model *m) { return m->image_score != SCORE_MAX; }

/* The schedule's rate is the configuration's 0.01; student 40 times, residual blocks 10 times, head once. */
static void destseg_training(adze_model *m, int64_t epochs, adze_training *out)
{
    static const adze_optim_rule blocks = { .prefix = "destseg.segmentation_net.res.", .lr_factor = 10.0, .weight_decay = 1e-4 };
    int64_t first = (epochs + 4) / 5; /* epochs numbered below a fifth of them */
    *out = (adze_training){
        .graph = m->graph, .params = m->params, .image = m->image,
        .part = { { .name = "student", .loss = m->student_loss, .n_epochs = first, .runs = 1, .n_optims = 1 },
                  { .name = "segmentation", .loss = m->segmentation_loss, .first_epoch = first, .runs = 1, .first_optim = 1, .n_optims = 1 } },
        .n_parts = 2,
        .optim = { { .opts = ADZE_OPTIM_OPTS, .lr_factor = 40.0 }, { .opts = ADZE_OPTIM_OPTS, .lr_factor = 1.0 } },
        .n_optims = 2,
        .input = { [INPUT_AUGMENTED] = { "augmented", true }, [INPUT_MASK] = { "mask", true } },
        .n_inputs = 2,
        .n_terms = DESTSEG_LEVELS + 2,
    };
    for (int k = 0; k < 2; k++) {
        adze_optim_opts *o = &out->optim[k].opts;
        o->name = out->part[k].name, o->kind = ADZE_OPTIM_SGD, o->momentum = 0.9, o->weight_decay = 1e-4, o->clip = 5.0;
        o->prefixes = k == 0 ? student_prefixes : segmentation_prefixes;
    }
    out->optim[1].opts.decay_vectors = true, out->optim[1].opts.rule = &blocks, out->optim[1].opts.n_rules = 1;
    for (int k = 0; k < DESTSEG_LEVELS; k++) out->term_name[k] = level_name[k], out->term_part[k] = 0;
    for (int k = 0; k < 2; k++) out->term_name[DESTSEG_LEVELS + k] = part_name[k], out->term_part[DESTSEG_LEVELS + k] = 1;
}

/* Texture for a picture: one of the source's that is not of the picture's own class, or a built-in one. */
static adze_status take_texture(const adze_model *m, const adze_training_picture *p, adze_philox r, unsigned char *rgb)
{
    const adze_texture_source *from = &m->setup.textures;
    int64_t first = 0, count = 0;
    double u = (double)adze_philox_uniform(r, (uint64_t)p->draw * ADZE_DEFECT_DRAWS + TEXTURE_DRAW);
    if (from->n > 0 && from->own) from->own(from->user, p->item, &first, &count);
    if (from->n - count <= 0) return adze_texture_draw(rgb, m->setup.H, m->setup.W, p->seed, (int64_t)(u * ADZE_TEXTURES));
    int64_t i = (int64_t)(u * (double)(from->n - count));
    return from->read(from->user, i < first ? i : i + count, rgb);
}

static adze_status destseg_picture(const adze_model *m, const adze_training_picture *p, float *const *x)
{
    adze_status st = ADZE_OK;
    int64_t H = m->setup.H, W = m->setup.W, P = H * W;
    const adze_philox r = { .seed = p->seed, .stream = ADZE_STREAM_AUGMENT, .item = (uint32_t)p->epoch };
    adze_defect *d = adze_malloc(sizeof *d);
    double *fields = adze_malloc((size_t)(2 * P) * sizeof *fields);
    unsigned char *mask = adze_malloc((size_t)(4 * P)), *texture = mask ? mask + P : NULL;
    REQUIRE(d && fields && mask, ADZE_ENOMEM, "destseg: %" PRId64 " pixels of a defect", P);
    adze_defect_draw(d, r, p->draw);
    adze_defect_mask(d, H, W, fields, fields + P, mask);
    TRY(take_texture(m, p, r, texture));
    adze_defect_blend(p->mean, p->std, p->pixels, texture, mask, d->beta, P, x[INPUT_AUGMENTED]);
    adze_defect_mask_quarter(mask, H, W, x[INPUT_MASK]);
done:
    adze_free(d);
    adze_free(fields);
    adze_free(mask);
    return st;
}

static void destseg_memory(const adze_model *m, int64_t n_images, adze_memory_item items[ADZE_MEMORY_ITEMS])
{
    (void)m, (void)n_images;
    items[0] = (adze_memory_item){ .what = NULL }; /* the trainer knows its plans */
}

static adze_status destseg_save(const adze_model *m, const adze_tensor_sink *sink)
{
    return model_params_save(m->params, "", sink);
}

static adze_status destseg_load(adze_model *m, const adze_tensor_source *source)
{
    adze_status st = ADZE_OK;
    const adze_model_setup *s = &m->setup;
    TRY(model_params_load(m->params, "net_s.", "", source));
    TRY(model_params_load(m->params, "destseg.", "", source));
    TRY(adze_plan_create(&m->plan, s->ctx, m->graph, m->params, &ADZE_PLAN_OPTS));
    REQUIRE(m->small = adze_malloc((size_t)(s->batch * m->h * m->w) * sizeof *m->small), ADZE_ENOMEM, "destseg: maps");
done:
    return st;
}

static adze_status destseg_score(adze_model *m, const float *x, int64_t n, float *map, float *own)
{
    enum { TOP = 100 };
    adze_status st = ADZE_OK;
    const adze_model_setup *s = &m->setup;
    int64_t P = s->H * s->W, p = m->h * m->w;
    REQUIRE(n > 0 && n <= s->batch, ADZE_EINVAL, "destseg: %" PRId64 " images in a batch of %" PRId64, n, s->batch);
    TRY(adze_plan_write(m->plan, m->image, x));
    TRY(adze_plan_run(m->plan));
    TRY(adze_plan_read(m->plan, m->p, m->small));
    adze_map_opts opts = ADZE_MAP_OPTS;
    opts.threads = adze_ctx_threads(s->ctx);
    TRY(adze_map_upsample(m->small, n, m->h, m->w, s->H, s->W, &opts, map));
    for (int64_t i = 0; own && i < n; i++) {
        if (m->image_score == SCORE_TOP_SMALL) own[i] = map_score_top(m->small + i * p, p, p < TOP ? p : TOP);
        else own[i] = map_score_top(map + i * P, P, m->image_score == SCORE_MAX ? 1 : TOP);
    }
done:
    return st;
}

static void destseg_facts(const adze_model *m, adze_text *text)
{
    adze_text_printf(text, "%.2f million parameters with the teacher", (double)adze_params_bytes(m->params) / sizeof(float) / 1e6);
    if (m->setup.textures.what) adze_text_printf(text, ", textures: %s", m->setup.textures.what);
}

static void destseg_print_plan(const adze_model *m, adze_text *text)
{
    if (m->plan) adze_plan_print(m->plan, text);
}

const adze_method adze_destseg = {
    .name = "destseg",
    .summary = "a denoising student and a segmentation network, trained on synthetic defects",
    .source = "Zhang et al., CVPR 2023; defaults of ADer destseg_256_100e",
    .options = options,
    .n_options = sizeof options / sizeof *options,
    .backbone = "resnet18",
    .batch = 32,
    .seed = 42,
    .recipe = &recipe,
    .pastes_textures = true,
    .create = destseg_create,
    .destroy = destseg_destroy,
    .reads_as_opencv = destseg_reads_as_opencv,
    .scores_images = destseg_scores_images,
    .training = destseg_training,
    .picture = destseg_picture,
    .memory = destseg_memory,
    .save = destseg_save,
    .load = destseg_load,
    .score = destseg_score,
    .facts = destseg_facts,
    .print_plan = destseg_print_plan,
};
