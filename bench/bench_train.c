/* bench_train.c - time of one training step of a method: frozen part, forward, backward, clipping and optimiser, on one fixed
 * batch, as train/trainer.c does it: statistics put aside, judgement and update belong to the run, recorded where the device records.
 * Weights and pictures are made by the rule of tests/golden/README.md (parameters by their own names, the frozen
 * network's without prefix), so that another program can check the losses. bench/compare_train_rd.py puts it beside PyTorch.
 *
 * The floor of an op is the longer of its FLOPs at the rate of a large matrix product and its bytes at the rate of a large
 * copy, both measured here just before. A kernel that keeps data in a cache, or needs fewer products, can pass it. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench_main.h"
#include "bench/device_rates.h"
#include "core/backend.h"
#include "core/clock.h"
#include "core/memory.h"
#include "core/ops.h"
#include "core/options.h"
#include "core/params.h"
#include "core/plan.h"
#include "core/split.h"
#include "models/backbone.h"
#include "models/method.h"
#include "tests/golden/case_tensor.h"
#include "train/optimizer.h"
#include "train/statistics.h"

static const adze_option table[] = {
    { .name = "method", .type = ADZE_OPTION_STRING, .fallback = "rd", .metavar = "NAME", .help = "a method with gradients" },
    { .name = "backbone", .type = ADZE_OPTION_STRING, .metavar = "NAME", .help = "network (default: the benchmark's)" },
    { .name = "batch", .type = ADZE_OPTION_INT, .fallback = "16", .min = 1, .max = 1024, .help = "pictures per step" },
    { .name = "size", .type = ADZE_OPTION_INT, .fallback = "256", .min = 32, .max = 4096, .help = "side of a picture" },
    { .name = "device", .type = ADZE_OPTION_STRING, .fallback = "cpu", .metavar = "NAME", .help = "cpu, cuda, cuda:N, cusim" },
    { .name = "threads", .type = ADZE_OPTION_INT, .fallback = "0", .min = 0, .max = 4096, .help = "0: all there are" },
    { .name = "precision", .type = ADZE_OPTION_CHOICE, .fallback = "f32", .choices = "f32|tf32|bf16", .help = "of products" },
    { .name = "part", .type = ADZE_OPTION_INT, .fallback = "0", .min = 0, .max = ADZE_TRAINING_PARTS - 1,
      .help = "which part of a training with several, from 0" },
    { .name = "cached", .type = ADZE_OPTION_FLAG, .help = "the frozen part's values are given, as after the first epoch" },
    { .name = "check", .type = ADZE_OPTION_INT, .fallback = "3", .min = 1, .max = 8, .help = "first steps whose losses are shown" },
    { .name = "repeat", .type = ADZE_OPTION_INT, .fallback = "5", .min = 1, .max = 100000, .help = "timed steps" },
    { .name = "serve", .type = ADZE_OPTION_FLAG, .help = "one step per line on stdin, its seconds on stdout" },
    { .name = "profile", .type = ADZE_OPTION_FLAG, .help = "the time of each op beside its floor" },
    { .name = "json", .type = ADZE_OPTION_FLAG, .help = "the profile as JSON, step by step, and nothing else" },
    { .name = "set", .type = ADZE_OPTION_PAIRS, .metavar = "KEY=VALUE", .help = "an option of the method" },
    { .name = "help", .letter = 'h', .type = ADZE_OPTION_FLAG, .properties = ADZE_OPTION_ACTION, .help = "this page" },
};

/* One method under training. */
typedef struct {
    adze_ctx *ctx;
    const adze_method *method;
    adze_options *method_options;
    adze_graph *backbone; /* for the shapes of its tensors */
    float *weight;        /* the tensor last asked for */
    adze_model *model;
    adze_training parts;
    adze_graph_parts split;
    adze_plan *frozen, *rest; /* frozen: NULL if there is none */
    adze_optim *optim[ADZE_TRAINING_OPTIMS];
    adze_statistics *statistics; /* as they were before the run in work */
    adze_outcome *outcome;       /* on the device: of the last run */
    void *letters;               /* one: the outcome */
    adze_value loss;
    float *picture, *cut[ADZE_GRAPH_CUTS];
    float *input[ADZE_TRAINING_INPUTS]; /* those per picture: always the same */
    float *drawn[ADZE_TRAINING_INPUTS]; /* those of a step, where the device has memory of its own */
    int64_t step;
    int part, first, end; /* of the training; its optimisers */
    bool cached, profiled;
    double update_seconds; /* of the last run, profiled */
} training;

/* Seconds of one step, of what the method draws for it before, and of its last part. */
typedef struct {
    double total, inputs, optimizer;
} step_seconds;

static void training_destroy(training *t)
{
    for (int k = 0; k < ADZE_TRAINING_OPTIMS; k++) adze_optim_destroy(t->optim[k]);
    adze_statistics_destroy(t->statistics);
    if (t->letters) t->ctx->backend->letters_destroy(t->ctx, t->letters);
    if (t->outcome) t->ctx->backend->free(t->ctx, t->outcome);
    adze_plan_destroy(t->rest);
    adze_plan_destroy(t->frozen);
    adze_graph_parts_destroy(&t->split);
    if (t->model) t->method->destroy(t->model);
    adze_graph_destroy(t->backbone);
    adze_options_destroy(t->method_options);
    adze_ctx_destroy(t->ctx);
    for (int c = 0; c < ADZE_GRAPH_CUTS; c++) free(t->cut[c]);
    for (int i = 0; i < ADZE_TRAINING_INPUTS; i++) free(t->input[i]), free(t->drawn[i]);
    free(t->picture);
    free(t->weight);
}

/* The source of the frozen network's tensors. */
static adze_status find_weight(void *user, const char *name, adze_shape *shape, const float **data)
{
    training *t = user;
    adze_value v = adze_graph_find(t->backbone, name);
    if (v == ADZE_NONE) return adze_fail(ADZE_EINPUT, "no weight '%s'", name);
    *shape = adze_graph_shape(t->backbone, v);
    free(t->weight);
    *data = t->weight = golden_weight(name, shape->dim, shape->rank);
    return ADZE_OK;
}

/* Every trainable parameter by the rule; what the method drew for it is overwritten. */
static adze_status fill_trainable(adze_params *params)
{
    adze_status st = ADZE_OK;
    for (int i = 0; i < adze_params_count(params) && st == ADZE_OK; i++) {
        if (!adze_params_trainable(params, i)) continue;
        adze_shape shape = adze_params_shape(params, i);
        float *w = golden_weight(adze_params_name(params, i), shape.dim, shape.rank);
        st = adze_params_write(params, i, w);
        free(w);
    }
    return st;
}

/* `unit` pictures, given as NCHW by the rule, as NHWC; of one channel: a mask, 1 where the rule exceeds 0.5. */
static float *make_pictures(const char *name, adze_shape s)
{
    int64_t N = s.dim[0], P = s.dim[1] * s.dim[2], C = s.dim[3];
    float *nchw = golden_unit(name, N * C * P), *x = golden_floats(N * C * P);
    for (int64_t n = 0; n < N; n++)
        for (int64_t c = 0; c < C; c++)
            for (int64_t p = 0; p < P; p++) x[(n * P + p) * C + c] = nchw[(n * C + c) * P + p];
    for (int64_t i = 0; C == 1 && i < N * P; i++) x[i] = x[i] > 0.5f ? 1.0f : 0.0f;
    free(nchw);
    return x;
}

static adze_status create_model(training *t, const adze_options *o)
{
    adze_status st = ADZE_OK;
    const adze_backbone_info *info;
    adze_value tap[ADZE_BACKBONE_TAPS];
    TRY(adze_method_find(adze_options_string(o, "method"), &t->method));
    REQUIRE(t->method->recipe, ADZE_EINVAL, "%s is not trained by gradients", t->method->name);
    const char *name = adze_options_given(o, "backbone") ? adze_options_string(o, "backbone") : t->method->backbone;
    TRY(adze_backbone_find(name, &info));
    TRY(adze_options_create(&t->method_options));
    TRY(adze_options_add(t->method_options, t->method->options, t->method->n_options));
    TRY(adze_options_apply_set(t->method_options, o));
    TRY(adze_graph_create(&t->backbone));
    adze_value image = adze_graph_input(t->backbone, "image", ADZE_SHAPE(1, 64, 64, 3));
    TRY(adze_backbone_build(t->backbone, info->name, image, &ADZE_BACKBONE_OPTS, tap, NULL));
    TRY(adze_graph_check(t->backbone));
    adze_model_setup setup = {
        .ctx = t->ctx,
        .backbone = info->name,
        .H = adze_options_int(o, "size"),
        .W = adze_options_int(o, "size"),
        .batch = adze_options_int(o, "batch"),
        .options = t->method_options,
        .weights = { find_weight, t },
        .fit = true,
    };
    TRY(t->method->create(&t->model, &setup));
    t->method->training(t->model, t->method->recipe->epochs, &t->parts);
    t->part = (int)adze_options_int(o, "part");
    REQUIRE(t->part < t->parts.n_parts, ADZE_EINVAL, "%s has %d parts, --part is %d", t->method->name, t->parts.n_parts, t->part);
    t->first = t->parts.part[t->part].first_optim, t->end = t->first + t->parts.part[t->part].n_optims;
    REQUIRE(t->parts.part[t->part].runs > 0, ADZE_EINVAL, "%s: part %d does nothing with %" PRId64 " pictures of %" PRId64 " pixels: larger --batch or --size",
            t->method->name, t->part, adze_options_int(o, "batch"), adze_options_int(o, "size"));
    for (int i = 0; i < t->parts.n_inputs; i++)
        if (t->parts.input[i].per_picture) {
            const char *name_of = t->parts.input[i].name;
            t->input[i] = make_pictures(name_of, adze_graph_shape(t->parts.graph, adze_graph_find(t->parts.graph, name_of)));
        }
    TRY(fill_trainable(t->parts.params));
done:
    return st;
}

static adze_status make_plans(training *t)
{
    adze_status st = ADZE_OK;
    adze_plan_opts opts = ADZE_PLAN_OPTS;
    enum { PREFIXES = 16 };
    const char *prefix[PREFIXES];
    adze_graph_goal goal = { .loss = t->parts.part[t->part].loss };
    int n = 0;
    bool all = false;
    for (int k = t->first; k < t->end; k++) {
        const char *const *from = t->parts.optim[k].opts.prefixes;
        all |= !from;
        for (; from && *from && n < PREFIXES - 1; from++) prefix[n++] = *from;
    }
    prefix[n] = NULL;
    if (!all) goal.trained = prefix;
    TRY(adze_graph_split(&t->split, t->parts.graph, t->parts.image, &goal, 1));
    REQUIRE(t->split.frozen || !t->cached, ADZE_EINVAL, "%s has no frozen part that could be cached", t->method->name);
    if (t->split.frozen) TRY(adze_plan_create(&t->frozen, t->ctx, t->split.frozen, t->parts.params, &opts));
    opts.loss = t->loss = t->split.rest[0].loss;
    TRY(adze_plan_create(&t->rest, t->ctx, t->split.rest[0].graph, t->parts.params, &opts));
done:
    return st;
}

/* The frozen part's values in the rest's inputs. */
static adze_status feed(training *t)
{
    adze_status st = ADZE_OK;
    for (int i = 0; i < t->parts.n_inputs; i++) {
        adze_value v = adze_graph_find(t->split.rest[0].graph, t->parts.input[i].name);
        if (t->input[i] && v != ADZE_NONE) TRY(adze_plan_write(t->rest, v, t->input[i]));
    }
    if (!t->frozen) {
        adze_value image = adze_graph_find(t->split.rest[0].graph, "image");
        return image == ADZE_NONE ? ADZE_OK : adze_plan_write(t->rest, image, t->picture);
    }
    if (!t->cached) {
        TRY(adze_plan_write(t->frozen, t->split.image, t->picture));
        TRY(adze_plan_run(t->frozen));
        for (int c = 0; c < t->split.n_cuts; c++) TRY(adze_plan_read(t->frozen, t->split.from[c], t->cut[c]));
    }
    for (int c = 0; c < t->split.n_cuts; c++) TRY(adze_plan_write(t->rest, t->split.rest[0].to[c], t->cut[c]));
done:
    return st;
}

/* The inputs that are drawn anew in every step, where the plan has them. */
static adze_status draw(training *t)
{
    adze_status st = ADZE_OK;
    const adze_training_at at = { .step = t->step++, .part = t->part };
    for (int i = 0; i < t->parts.n_inputs; i++) {
        const char *name = t->parts.input[i].name;
        if (t->input[i] || adze_graph_find(t->split.rest[0].graph, name) == ADZE_NONE) continue;
        if (t->parts.input[i].noise) {
            const adze_noise noise = t->method->noise(t->model, &at, name);
            adze_value v = adze_graph_find(t->split.rest[0].graph, name);
            adze_shape shape = adze_graph_shape(t->split.rest[0].graph, v);
            TRY(adze_noise_draw(t->ctx, &noise, adze_plan_device_data(t->rest, v), adze_shape_count(&shape)));
            continue;
        }
        const adze_value v = adze_graph_find(t->split.rest[0].graph, name);
        const adze_shape shape = adze_graph_shape(t->split.rest[0].graph, v);
        float *x = adze_plan_host_data(t->rest, v);
        if (!x && !t->drawn[i]) t->drawn[i] = golden_floats(adze_shape_count(&shape));
        TRY(t->method->fill(t->model, &at, name, x ? x : t->drawn[i]));
        if (!x) TRY(adze_plan_write(t->rest, v, t->drawn[i]));
    }
done:
    return st;
}

/* ---- what belongs to a run besides its plan's steps ---- */

static adze_status before_run(void *user) { return adze_statistics_save(((training *)user)->statistics); }

static adze_status update(training *t)
{
    adze_status st = ADZE_OK;
    adze_optim_judge judge = { .value = { adze_plan_device_data(t->rest, t->loss) }, .n_values = 1, .outcome = t->outcome };
    for (int k = t->first; k < t->end; k++) {
        if (!adze_optim_norm_place(t->optim[k])) continue;
        TRY(adze_optim_queue_norm(t->optim[k]));
        judge.norm[judge.n_norms++] = adze_optim_norm_place(t->optim[k]);
    }
    TRY(t->ctx->backend->optim_judge(t->ctx, &judge));
    for (int k = t->first; k < t->end; k++) TRY(adze_optim_queue_update(t->optim[k], &t->outcome->stop));
    TRY(adze_statistics_restore(t->statistics, &t->outcome->stop));
done:
    return st;
}

static adze_status after_run(void *user)
{
    training *t = user;
    const adze_backend *b = t->ctx->backend;
    const bool wait = t->profiled && b->wait; /* a profiled run is not recorded */
    adze_status st = wait ? b->wait(t->ctx) : ADZE_OK;
    const double begin = adze_clock_seconds();
    if (st == ADZE_OK) st = update(t);
    if (st == ADZE_OK && wait) st = b->wait(t->ctx);
    t->update_seconds = adze_clock_seconds() - begin;
    return st;
}

/* The optimisers and what they work with. */
static adze_status make_update(training *t)
{
    adze_status st = ADZE_OK;
    const adze_plan_around around = { .before = before_run, .after = after_run, .user = t };
    const int n = adze_params_count(t->parts.params);
    bool *changes = adze_calloc((size_t)n + 1, sizeof *changes);
    void *outcome;
    REQUIRE(changes, ADZE_ENOMEM, "no memory for a list of parameters");
    for (int i = 0; i < n; i++) changes[i] = adze_graph_changes(t->split.rest[0].graph, adze_params_name(t->parts.params, i));
    TRY(adze_statistics_create(&t->statistics, t->parts.params, changes));
    for (int k = t->first; k < t->end; k++) TRY(adze_optim_create(&t->optim[k], t->parts.params, &t->parts.optim[k].opts));
    TRY(t->ctx->backend->alloc(t->ctx, sizeof *t->outcome, ADZE_BLOCK_OPTIMISER, &outcome));
    t->outcome = outcome;
    TRY(t->ctx->backend->clear(t->ctx, t->outcome, sizeof *t->outcome));
    TRY(t->ctx->backend->letters_create(t->ctx, &t->letters, 1, sizeof *t->outcome));
    adze_plan_set_around(t->rest, &around);
done:
    adze_free(changes);
    return st;
}

static adze_status one_step(training *t, float *loss, step_seconds *s)
{
    adze_status st = ADZE_OK;
    const double begin = adze_clock_seconds();
    TRY(draw(t));
    const double drawn = adze_clock_seconds();
    TRY(feed(t));
    for (int k = t->first; k < t->end; k++) TRY(adze_optim_begin(t->optim[k], t->method->recipe->lr * t->parts.optim[k].lr_factor));
    TRY(adze_plan_run(t->rest));
    for (int k = t->first; k < t->end; k++) adze_optim_end(t->optim[k]);
    const void *letter;
    TRY(t->ctx->backend->letter_send(t->ctx, t->letters, 0, t->outcome));
    TRY(t->ctx->backend->letter_open(t->ctx, t->letters, 0, &letter));
    const adze_outcome *outcome = letter;
    *s = (step_seconds){ adze_clock_seconds() - begin, drawn - begin, t->update_seconds };
    *loss = outcome->value[0];
    REQUIRE(!outcome->stop, ADZE_ENUMERIC, "step %lld: the loss %g or a gradient is not finite", (long long)t->step, (double)*loss);
done:
    return st;
}

static adze_status training_create(training *t, const adze_options *o)
{
    adze_status st = ADZE_OK;
    const int64_t N = adze_options_int(o, "batch");
    adze_ctx_opts ctx_opts = ADZE_CTX_OPTS;
    ctx_opts.device = adze_options_string(o, "device");
    ctx_opts.threads = (int)adze_options_int(o, "threads");
    TRY(adze_precision_parse(adze_options_string(o, "precision"), &ctx_opts.precision));
    TRY(adze_ctx_create(&t->ctx, &ctx_opts));
    TRY(create_model(t, o));
    TRY(make_plans(t));
    TRY(make_update(t));
    t->picture = make_pictures("image", ADZE_SHAPE(N, adze_options_int(o, "size"), adze_options_int(o, "size"), 3));
    for (int c = 0; c < t->split.n_cuts; c++) t->cut[c] = golden_floats(N * t->split.floats[c]);
    if (t->cached) {
        t->cached = false;
        TRY(feed(t));
        t->cached = true;
    }
done:
    return st;
}

/* The steps of both plans one after the other: the frozen one only where it runs in every step. */
static int32_t step_count(const training *t)
{
    return adze_plan_step_count(t->rest) + (t->frozen && !t->cached ? adze_plan_step_count(t->frozen) : 0);
}

static adze_plan_step step_at(const training *t, int32_t i, const char **part)
{
    const int32_t n = t->frozen && !t->cached ? adze_plan_step_count(t->frozen) : 0;
    adze_plan_step s = i < n ? adze_plan_step_at(t->frozen, i) : adze_plan_step_at(t->rest, i - n);
    *part = i < n ? "frozen" : s.backward ? "backward" : "forward";
    return s;
}

/* The optimisers as one op: norm, then moments and parameters. */
static adze_plan_step optimizer_step(const training *t, double seconds)
{
    int64_t n = 0;
    adze_plan_step step = { .op = adze_optim_kind_name(t->parts.optim[t->first].opts.kind), .kernel = "optimizer", .seconds = seconds };
    for (int k = t->first; k < t->end; k++) {
        int64_t held = 0;
        for (int j = 0; j < adze_optim_count(t->optim[k]); j++) {
            adze_shape shape = adze_params_shape(t->parts.params, adze_optim_param(t->optim[k], j));
            held += adze_shape_count(&shape);
        }
        const adze_optim_opts *o = adze_optim_options(t->optim[k]);
        const int moments = o->kind == ADZE_OPTIM_SGD ? o->momentum != 0.0 : 2;
        step.flops += (double)held * (2.0 + 5.0 * moments + (o->clip > 0.0 ? 3.0 : 0.0));
        step.n_bytes += (double)held * sizeof(float) * (3.0 + 2.0 * moments + (o->clip > 0.0 ? 1.0 : 0.0));
        n += held;
    }
    step.output = ADZE_SHAPE(n);
    return step;
}

/* What fill() or the loader writes, as one op. */
static adze_plan_step inputs_step(const training *t, double seconds)
{
    int64_t n = 0;
    for (int i = 0; i < t->parts.n_inputs; i++) {
        adze_shape shape = adze_graph_shape(t->parts.graph, adze_graph_find(t->parts.graph, t->parts.input[i].name));
        n += adze_shape_count(&shape);
    }
    return (adze_plan_step){ .op = "inputs", .kernel = "fill", .output = ADZE_SHAPE(n), .n_bytes = (double)n * sizeof(float), .seconds = seconds };
}

static double total_flops(const training *t)
{
    return adze_plan_flops(t->rest) + (t->frozen && !t->cached ? adze_plan_flops(t->frozen) : 0.0);
}

/* 0 on the emulator, whose times say nothing. */
static double floor_of(const adze_plan_step *s, const device_rates *r)
{
    return r->bytes > 0.0 ? fmax(s->flops / r->flops, s->n_bytes / r->bytes) : 0.0;
}

/* What the steps of one kind took together. */
typedef struct {
    const char *part, *op, *kernel;
    int64_t count;
    double seconds, flops, n_bytes, floor;
} op_row;

static void add_row(op_row *rows, int *n, const char *part, const adze_plan_step *s, const device_rates *r)
{
    int k = 0;
    while (k < *n && (strcmp(rows[k].part, part) != 0 || strcmp(rows[k].op, s->op) != 0 || strcmp(rows[k].kernel, s->kernel) != 0)) k++;
    if (k == *n) rows[(*n)++] = (op_row){ .part = part, .op = s->op, .kernel = s->kernel };
    rows[k].count++;
    rows[k].seconds += s->seconds;
    rows[k].flops += s->flops;
    rows[k].n_bytes += s->n_bytes;
    rows[k].floor += floor_of(s, r);
}

static int slower_first(const void *a, const void *b)
{
    const op_row *x = a, *y = b;
    return (x->seconds < y->seconds) - (x->seconds > y->seconds);
}

static void print_row(const op_row *r, double total)
{
    printf("%-9s %-18s %-16s %5lld %9.2f %6.1f %10.2f %9.1f %9.2f %8.0f\n", r->part, r->op, r->kernel, (long long)r->count,
           1e3 * r->seconds, 100.0 * r->seconds / total, 1e-9 * r->flops, 1e-6 * r->n_bytes, 1e3 * r->floor,
           100.0 * r->floor / r->seconds);
}

static adze_status print_profile(const training *t, const step_seconds *mean, const device_rates *r)
{
    adze_status st = ADZE_OK;
    int n = 0;
    op_row sum = { .part = "all", .op = "", .kernel = "" }, *rows = adze_calloc((size_t)step_count(t) + 2, sizeof *rows);
    REQUIRE(rows, ADZE_ENOMEM, "no memory for a table");
    for (int32_t i = 0; i < step_count(t); i++) {
        const char *part;
        adze_plan_step s = step_at(t, i, &part);
        add_row(rows, &n, part, &s, r);
    }
    adze_plan_step optimizer = optimizer_step(t, mean->optimizer), inputs = inputs_step(t, mean->inputs);
    add_row(rows, &n, "update", &optimizer, r);
    if (t->parts.n_inputs > 0) add_row(rows, &n, "before", &inputs, r);
    qsort(rows, (size_t)n, sizeof *rows, slower_first);
    for (int k = 0; k < n; k++) {
        sum.count += rows[k].count, sum.seconds += rows[k].seconds, sum.flops += rows[k].flops;
        sum.n_bytes += rows[k].n_bytes, sum.floor += rows[k].floor;
    }
    printf("floor: %.1f GFLOP/s (products), %.1f GB/s (copy)\n", 1e-9 * r->flops, 1e-9 * r->bytes);
    printf("%-9s %-18s %-16s %5s %9s %6s %10s %9s %9s %8s\n", "part", "op", "kernel", "steps", "ms", "share", "GFLOP", "MB", "floor ms",
           "% of it");
    for (int k = 0; k < n; k++) print_row(&rows[k], sum.seconds);
    print_row(&sum, sum.seconds);
    printf("mean step %.2f ms, %.2f ms of it outside the ops\n", 1e3 * mean->total, 1e3 * (mean->total - sum.seconds));
done:
    adze_free(rows);
    return st;
}

static void json_step(adze_text *text, const char *part, const adze_plan_step *s, const device_rates *r)
{
    char shape[ADZE_SHAPE_TEXT];
    adze_text_printf(text, "{\"part\": \"%s\", \"op\": ", part);
    adze_text_json(text, s->op);
    adze_text_append(text, ", \"kernel\": ");
    adze_text_json(text, s->kernel);
    adze_text_printf(text, ", \"output\": \"%s\", \"seconds\": %.9f, \"flops\": %.0f, \"bytes\": %.0f, \"floor_s\": %.9f, \"floor_share\": %.4f}",
                     adze_shape_text(&s->output, shape), s->seconds, s->flops, s->n_bytes, floor_of(s, r), floor_of(s, r) / fmax(s->seconds, 1e-9));
}

static adze_status print_json(const training *t, const step_seconds *mean, const device_rates *r)
{
    adze_status st = ADZE_OK;
    adze_text text = ADZE_TEXT_EMPTY;
    adze_text_append(&text, "{\"machine\": ");
    adze_text_json(&text, adze_ctx_description(t->ctx));
    adze_text_printf(&text, ", \"threads\": %d, \"method\": \"%s\", \"matrix_flops_per_s\": %.0f, \"copy_bytes_per_s\": %.0f, "
                     "\"step_seconds\": %.9f, \"steps\": [\n", adze_ctx_threads(t->ctx), t->method->name, r->flops, r->bytes, mean->total);
    for (int32_t i = 0; i < step_count(t); i++) {
        const char *part;
        adze_plan_step s = step_at(t, i, &part);
        json_step(&text, part, &s, r);
        adze_text_append(&text, ",\n");
    }
    adze_plan_step optimizer = optimizer_step(t, mean->optimizer), inputs = inputs_step(t, mean->inputs);
    json_step(&text, "update", &optimizer, r);
    if (t->parts.n_inputs > 0) {
        adze_text_append(&text, ",\n");
        json_step(&text, "before", &inputs, r);
    }
    adze_text_append(&text, "\n]}\n");
    TRY(adze_text_check(&text, "profile"));
    fputs(text.s, stdout);
done:
    adze_text_destroy(&text);
    return st;
}

static void profile(training *t, bool on)
{
    t->profiled = on;
    adze_plan_profile(t->rest, on);
    if (t->frozen) adze_plan_profile(t->frozen, on);
}

static adze_status serve(training *t)
{
    adze_status st = ADZE_OK;
    char line[64];
    float loss;
    step_seconds s;
    while (fgets(line, sizeof line, stdin)) {
        TRY(one_step(t, &loss, &s));
        printf("%.9f\n", s.total);
        fflush(stdout);
    }
done:
    return st;
}

/* Median and fastest of the steps, and the same operations at the device's rate of products (none on the emulator). */
static void print_summary(const training *t, const adze_options *o, const device_rates *r, double *seconds, int64_t count)
{
    const double flops = total_flops(t);
    bench_sort(seconds, count);
    printf("%s; %s, batch %lld, %.1f GFLOP%s\n", adze_ctx_description(t->ctx), t->method->name, (long long)adze_options_int(o, "batch"),
           1e-9 * flops, t->cached ? ", frozen part cached" : "");
    printf("median %.2f ms, fastest of %lld %.2f ms: %.2f pictures/s, %.1f GFLOP/s", 1e3 * seconds[count / 2], (long long)count, 1e3 * seconds[0],
           (double)adze_options_int(o, "batch") / seconds[0], 1e-9 * flops / seconds[0]);
    if (r->flops > 0.0)
        printf("; floor %.2f ms at %.1f GFLOP/s, %.0f %% of it reached\n", 1e3 * flops / r->flops, 1e-9 * r->flops, 100.0 * flops / r->flops / seconds[0]);
    else printf("; an emulator's times say nothing\n");
}

static adze_status repeat(training *t, const adze_options *o)
{
    adze_status st = ADZE_OK;
    const bool json = adze_options_flag(o, "json"), table_wanted = json || adze_options_flag(o, "profile");
    const int64_t count = adze_options_int(o, "repeat");
    step_seconds s, mean = { 0.0, 0.0, 0.0 };
    double *seconds = adze_calloc((size_t)count, sizeof *seconds);
    float loss;
    device_rates r;
    REQUIRE(seconds, ADZE_ENOMEM, "no memory for %lld times", (long long)count);
    TRY(device_rates_measure(t->ctx, &r));
    if (table_wanted) profile(t, true);
    for (int64_t i = 0; i < count; i++) {
        TRY(one_step(t, &loss, &s));
        seconds[i] = s.total;
        mean.optimizer += s.optimizer / (double)count;
        mean.inputs += s.inputs / (double)count;
        mean.total += s.total / (double)count;
        if (!json) printf("seconds %.9f loss %.7g\n", s.total, (double)loss);
        fflush(stdout);
    }
    if (!json) print_summary(t, o, &r, seconds, count);
    if (json) TRY(print_json(t, &mean, &r));
    else if (table_wanted) TRY(print_profile(t, &mean, &r));
done:
    adze_free(seconds);
    return st;
}

/* The first steps: they touch all memory, and their losses are the answer that others check. */
static adze_status first_steps(training *t, int64_t n, bool quiet)
{
    adze_status st = ADZE_OK;
    size_t arena = adze_plan_arena_bytes(t->rest) + (t->frozen ? adze_plan_arena_bytes(t->frozen) : 0);
    if (!quiet) printf("flops %.0f arena_bytes %zu", total_flops(t), arena);
    for (int64_t i = 0; i < n; i++) {
        float loss;
        step_seconds s;
        TRY(one_step(t, &loss, &s));
        if (!quiet) printf(" loss%lld %.9g", (long long)i, (double)loss);
    }
    if (!quiet) printf("\n");
    fflush(stdout);
done:
    return st;
}

static adze_status run(const adze_options *o)
{
    adze_status st = ADZE_OK;
    training t = { .cached = adze_options_flag(o, "cached") };
    TRY(training_create(&t, o));
    TRY(first_steps(&t, adze_options_int(o, "check"), adze_options_flag(o, "json")));
    TRY(adze_options_flag(o, "serve") ? serve(&t) : repeat(&t, o));
done:
    training_destroy(&t);
    return st;
}

int main(int argc, char **argv)
{
    static const bench_program program = { .name = "bench-train", .usage = "bench-train [options]",
                                           .about = "Times a training step with made-up weights and pictures.",
                                           .table = table, .n_options = sizeof table / sizeof *table, .max_args = 0, .run = run };
    return bench_main(&program, argc, argv);
}
