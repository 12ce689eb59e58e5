/* tiny_method.c - a registry with one method, "tiny": a student of a few hundred parameters learns what the backbone's first
 * convolution gives. With it adze-train becomes a program whose runs take no time and use all that training has: a frozen
 * part, running statistics, moments, several loss terms. With parts=yes a head is trained on the finished student in the
 * second half of the epochs, twice per batch, by an optimiser of its own, with an input per run and one per picture, on
 * pictures drawn with replacement and read as OpenCV does. plain=yes is for several ranks. It cannot score. Two variables of the
 * environment, which no record knows of: ADZE_TINY_NAN=K makes step K (from 0) go wrong, ADZE_TINY_STOP=K interrupts the program in it. */
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/ops.h"
#include "core/philox.h"
#include "models/method.h"
#include "models/model_params.h"

struct adze_model {
    adze_graph *graph;   /* owned */
    adze_params *params; /* owned */
    adze_value image, loss, head_loss, term[2];
    bool parts, plain, watched;
    double rotate;
};

/* The step in the environment, or one that does not come. */
static int64_t step_of(const char *variable)
{
    const char *text = getenv(variable);
    return text ? atoll(text) : -1;
}

static const adze_option options[] = {
    { .name = "parts", .type = ADZE_OPTION_FLAG, .help = "also a head" },
    { .name = "plain", .type = ADZE_OPTION_FLAG, .help = "no batch norm, and only the loss that is a mean over pictures" },
    { .name = "rotate", .type = ADZE_OPTION_REAL, .fallback = "0", .min = 0, .max = 180, .help = "degrees" },
};

static const char *const term_name[3] = { "flat", "map", "head" }, *const student_prefix[] = { "student.", NULL },
                  *const head_prefix[] = { "head.", NULL };

static adze_status build_graph(adze_model *m, const adze_model_setup *s)
{
    adze_status st = ADZE_OK;
    enum { TEACHER = 64, CODE = 4 };
    TRY(adze_graph_create(&m->graph));
    adze_graph *g = m->graph;
    adze_conv2d_opts opts = ADZE_CONV2D_OPTS;
    adze_batch_norm_opts norm = ADZE_BATCH_NORM_OPTS;
    m->image = adze_graph_input(g, "image", ADZE_SHAPE(s->batch, s->H, s->W, 3));
    adze_conv2d_opts first = { .stride = { 4, 4 }, .dilation = { 1, 1 }, .pad = { 3, 3, 3, 3 }, .groups = 1 };
    adze_value teacher = adze_conv2d(g, m->image, adze_graph_param(g, "backbone.conv1.weight", ADZE_SHAPE(TEACHER, 3, 7, 7), false),
                                     ADZE_NONE, &first);
    adze_value code = adze_conv2d(g, teacher, adze_graph_param(g, "student.code.weight", ADZE_SHAPE(CODE, TEACHER, 1, 1), true),
                                  ADZE_NONE, &opts);
    if (!m->plain)
        code = adze_batch_norm_train(g, code, adze_graph_param(g, "student.norm.weight", ADZE_SHAPE(CODE), true),
                                     adze_graph_param(g, "student.norm.bias", ADZE_SHAPE(CODE), true),
                                     adze_graph_param(g, "student.norm.running_mean", ADZE_SHAPE(CODE), false),
                                     adze_graph_param(g, "student.norm.running_var", ADZE_SHAPE(CODE), false), ADZE_NONE, &norm);
    adze_value student = adze_conv2d(g, code, adze_graph_param(g, "student.out.weight", ADZE_SHAPE(TEACHER, CODE, 1, 1), true),
                                     ADZE_NONE, &opts);
    m->term[0] = adze_cosine_loss(g, student, teacher);
    m->term[1] = adze_cosine_map_loss(g, student, teacher);
    m->loss = m->plain ? adze_mean(g, m->term[0]) : adze_binary(g, ADZE_BINARY_ADD, m->term[0], m->term[1]);
    for (int i = 0; i < (m->plain ? 1 : 2); i++) adze_graph_output(g, term_name[i], m->term[i]);
    if (m->watched && !m->parts) m->loss = adze_binary(g, ADZE_BINARY_ADD, m->loss, adze_graph_input(g, "watch", ADZE_SHAPE(1)));
    adze_graph_output(g, "loss", m->loss);
    if (m->parts) {
        adze_value noise = adze_graph_input(g, "noise", ADZE_SHAPE(1)), shade = adze_graph_input(g, "shade", ADZE_SHAPE(s->batch, 1, 1, 1));
        adze_value head = adze_conv2d(g, student, adze_graph_param(g, "head.weight", ADZE_SHAPE(1, TEACHER, 1, 1), true), ADZE_NONE, &opts);
        head = adze_binary(g, ADZE_BINARY_SUB, adze_binary(g, ADZE_BINARY_ADD, head, noise), shade);
        m->head_loss = adze_mean(g, adze_binary(g, ADZE_BINARY_MUL, head, head));
        adze_graph_output(g, "head", m->head_loss);
    }
    TRY(adze_graph_check(g));
done:
    return st;
}

static adze_status init(adze_params *params, uint64_t seed)
{
    adze_status st = ADZE_OK;
    float x[256];
    for (int i = 0; i < adze_params_count(params); i++) {
        const char *name = adze_params_name(params, i);
        if (strncmp(name, "backbone.", 9) == 0) continue;
        adze_shape s = adze_params_shape(params, i);
        int64_t n = adze_shape_count(&s);
        REQUIRE(n <= 256, ADZE_EINTERNAL, "tiny: %s is not", name);
        adze_philox_fill_normal((adze_philox){ .seed = seed, .stream = ADZE_STREAM_INIT, .item = (uint32_t)i }, 0, x, n);
        for (int64_t k = 0; k < n && s.rank == 1; k++) x[k] = strstr(name, "weight") || strstr(name, "var") ? 1.0f : 0.0f;
        TRY(adze_params_write(params, i, x));
    }
done:
    return st;
}

static void tiny_destroy(adze_model *m)
{
    if (!m) return;
    adze_params_destroy(m->params);
    adze_graph_destroy(m->graph);
    adze_free(m);
}

static adze_status tiny_create(adze_model **out, const adze_model_setup *setup)
{
    adze_status st = ADZE_OK;
    *out = NULL;
    adze_model *m = adze_calloc(1, sizeof *m);
    REQUIRE(m, ADZE_ENOMEM, "tiny: %zu host bytes", sizeof *m);
    m->parts = adze_options_flag(setup->options, "parts");
    m->plain = adze_options_flag(setup->options, "plain");
    m->rotate = adze_options_real(setup->options, "rotate");
    m->watched = step_of("ADZE_TINY_NAN") >= 0 || step_of("ADZE_TINY_STOP") >= 0;
    TRY(build_graph(m, setup));
    TRY(adze_params_create(&m->params, setup->ctx, m->graph));
    TRY(model_params_load(m->params, "backbone.", "backbone.", &setup->weights));
    TRY(init(m->params, setup->seed));
    *out = m;
    m = NULL;
done:
    tiny_destroy(m);
    return st;
}

static void tiny_training(adze_model *m, int64_t epochs, adze_training *out)
{
    *out = (adze_training){
        .graph = m->graph, .params = m->params, .image = m->image, .rotate = m->rotate,
        .part = { { .name = m->parts ? "student" : "", .loss = m->loss, .runs = 1, .n_optims = 1 } },
        .n_parts = 1,
        .optim = { { .opts = ADZE_OPTIM_OPTS, .lr_factor = 1.0 } },
        .n_optims = 1,
        .n_terms = m->plain ? 1 : 2,
    };
    out->optim[0].opts.beta1 = 0.5;
    out->optim[0].opts.clip = 5.0;
    for (int i = 0; i < 3; i++) out->term_name[i] = term_name[i];
    if (m->watched && !m->parts) out->input[out->n_inputs++] = (adze_training_input){ .name = "watch" };
    if (!m->parts) return;
    out->part[0].n_epochs = epochs / 2;
    out->part[out->n_parts++] = (adze_training_part){ .name = "head", .loss = m->head_loss, .first_epoch = epochs / 2, .runs = 2, .first_optim = 1, .n_optims = 1 };
    out->optim[0].opts.name = "student", out->optim[0].opts.prefixes = student_prefix;
    out->optim[out->n_optims++] = (adze_training_optim){
        .opts = { .name = "head", .kind = ADZE_OPTIM_SGD, .momentum = 0.9, .weight_decay = 1e-4, .beta2 = 0.999, .eps = 1e-8, .clip = 1.0, .prefixes = head_prefix },
        .lr_factor = 2.0,
    };
    out->input[out->n_inputs++] = (adze_training_input){ .name = "noise" };
    out->input[out->n_inputs++] = (adze_training_input){ .name = "shade", .per_picture = true };
    out->term_part[out->n_terms++] = 1;
}

static adze_status tiny_fill(adze_model *m, const adze_training_at *at, const char *input, float *x)
{
    (void)m;
    if (strcmp(input, "watch") == 0) {
        *x = at->step == step_of("ADZE_TINY_NAN") ? NAN : 0.0f;
        if (at->step == step_of("ADZE_TINY_STOP")) raise(SIGINT);
        return ADZE_OK;
    }
    if (strcmp(input, "noise") != 0) return adze_fail(ADZE_EINTERNAL, "tiny: no input '%s'", input);
    *x = adze_philox_normal((adze_philox){ .seed = at->seed, .stream = ADZE_STREAM_NOISE, .item = (uint32_t)at->step }, (uint64_t)at->run);
    return ADZE_OK;
}

/* The first pixel's blue, and a number of the picture's own. */
static adze_status tiny_picture(const adze_model *m, const adze_training_picture *p, float *const *x)
{
    (void)m;
    const adze_philox r = { .seed = p->seed, .stream = ADZE_STREAM_AUGMENT, .item = (uint32_t)p->epoch };
    *x[1] = (float)(p->pixels[0] / 255.0) + adze_philox_uniform(r, (uint64_t)p->draw);
    return ADZE_OK;
}

static bool tiny_reads_as_opencv(const adze_model *m) { return m->parts; }

static adze_status tiny_save(const adze_model *m, const adze_tensor_sink *sink) { return model_params_save(m->params, "", sink); }

static void tiny_facts(const adze_model *m, adze_text *text) { adze_text_printf(text, "%zu bytes", adze_params_bytes(m->params)); }

static const adze_recipe recipe = { .epochs = 40, .batch = 2, .lr = 5e-3, .rate = ADZE_RATE_STEP };

static const adze_method tiny = {
    .name = "tiny", .summary = "for tests", .source = "this file", .options = options, .n_options = sizeof options / sizeof *options, .backbone = "resnet18", .batch = 2, .seed = 42, .recipe = &recipe,
    .create = tiny_create, .destroy = tiny_destroy, .training = tiny_training, .fill = tiny_fill, .picture = tiny_picture,
    .reads_as_opencv = tiny_reads_as_opencv, .save = tiny_save, .facts = tiny_facts,
};

const adze_method *adze_method_at(int i) { return i == 0 ? &tiny : NULL; }

adze_status adze_method_find(const char *name, const adze_method **out)
{
    *out = &tiny;
    return strcmp(name, tiny.name) == 0 ? ADZE_OK : adze_fail(ADZE_EINVAL, "method '%s': this program has only tiny", name);
}
