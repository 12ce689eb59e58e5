/* golden_cflow.c - CFLOW-AD: one coupling block with every gradient and its inverse, the position code, the training rotation,
 * training steps of all levels, and scoring of a whole test set by the method itself. Kinds cflow.coupling, cflow.poscode,
 * cflow.rotate, cflow.step, cflow.test (cflow.lr: golden_train.c). With --precision bf16 the bounds of tests/golden/README.md. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/context.h"
#include "core/map_post.h"
#include "core/ops.h"
#include "core/params.h"
#include "core/plan.h"
#include "core/split.h"
#include "datasets/resize.h"
#include "models/backbone.h"
#include "models/cflow.h"
#include "models/cflow_net.h"
#include "tests/golden/golden.h"
#include "train/optimizer.h"

enum { LEVELS = 3 };

static bool ends(const char *name, const char *tail)
{
    size_t n = strlen(name), m = strlen(tail);
    return n >= m && strcmp(name + n - m, tail) == 0;
}

static adze_status open_ctx(const golden *g, adze_ctx **ctx)
{
    adze_ctx_opts opts = ADZE_CTX_OPTS;
    opts.device = g->device;
    adze_status st = adze_precision_parse(g->precision, &opts.precision);
    return st == ADZE_OK ? adze_ctx_create(ctx, &opts) : st;
}

/* The identity times `n` reflections from the right; in double, rounded once. */
static float *reflections(const char *name, int64_t C, int n)
{
    double *w = calloc((size_t)(C * C), sizeof *w);
    float *out = golden_floats(C * C);
    for (int64_t i = 0; i < C; i++) w[i * C + i] = 1.0;
    for (int r = 0; r < n; r++) {
        char of[256];
        snprintf(of, sizeof of, "%s.v%d", name, r);
        float *v = golden_unit(of, C);
        double vv = 0.0;
        for (int64_t i = 0; i < C; i++) vv += (double)v[i] * v[i];
        for (int64_t i = 0; i < C; i++) {
            double dot = 0.0;
            for (int64_t k = 0; k < C; k++) dot += w[i * C + k] * v[k];
            for (int64_t k = 0; k < C; k++) w[i * C + k] -= 2.0 * dot * v[k] / vv;
        }
        free(v);
    }
    for (int64_t i = 0; i < C * C; i++) out[i] = (float)w[i];
    free(w);
    return out;
}

static double factor_of(const json_t *factors, const char *name)
{
    const char *tail;
    json_t *factor;
    json_object_foreach((json_t *)factors, tail, factor)
        if (ends(name, tail)) return json_number_value(factor);
    return 1.0;
}

/* A parameter by the case's rules; `name` with its prefix. */
static float *weight_of(const golden *g, const char *name, const adze_shape *s)
{
    const json_t *init = json_object_get(g->setup, "init");
    int64_t n = adze_shape_count(s);
    double lo, hi;
    int count;
    float *w;
    const char *scale = golden_string(init, "global_scale", ""), *offset = golden_string(init, "global_offset", "");
    if (ends(name, "w_perm") && sscanf(golden_string(init, "w_perm", ""), "reflections %d", &count) == 1) return reflections(name, s->dim[0], count);
    if (ends(name, "global_scale") && sscanf(scale, "uniform %lf %lf", &lo, &hi) == 2) return golden_uniform(name, lo, hi, n);
    if (ends(name, "global_offset") && sscanf(offset, "uniform %lf %lf", &lo, &hi) == 2) return golden_uniform(name, lo, hi, n);
    w = golden_weight(name, s->dim, s->rank);
    double factor = factor_of(json_object_get(g->setup, strstr(name, "encoder.") ? "encoder_scale" : "scale"), name);
    for (int64_t i = 0; i < n && factor != 1.0; i++) w[i] = (float)(w[i] * factor);
    return w;
}

static float *input_of(const golden *g, const char *name, int64_t shape[8], int64_t *n)
{
    int rank;
    return golden_tensor(json_object_get(json_object_get(g->root, "inputs"), name), shape, &rank, n);
}

static adze_coupling_opts coupling_opts(const golden *g)
{
    adze_coupling_opts o = ADZE_COUPLING_OPTS;
    o.clamp = (float)golden_real(g->setup, "clamp", 1.9);
    o.over_clamp = strcmp(golden_string(g->setup, "clamp_form", "tanh"), "tanh_over_clamp") == 0;
    return o;
}

/* A gradient that came through the ReLUs of `layers` blocks and is a sum over `rows`; bf16: its rms error as README.md has it. */
static void check_behind_relu(golden *g, const char *name, const float *x, int64_t n, int64_t layers, int64_t rows)
{
    const double u = 0x1p-9, pi = 3.14159265358979323846;
    const json_t *value = json_object_get(json_object_get(g->root, "values"), name);
    if (!golden_is_bf16(g)) {
        golden_check(g, name, x, n);
        return;
    }
    size_t samples;
    double rms = golden_sampled_rms(value, x, &samples), flips = 2.0 * u / pi * (double)(samples * (size_t)rows);
    double share = 2.0 * u * (double)(layers * (layers + 1)) / pi * (1.0 + 4.0 / sqrt(flips)), bound = (sqrt(share) + 4.0 * u) * golden_size(value);
    golden_expect(g, name, samples > 0 && rms <= bound, "rms error %.3g bound %.3g", rms, bound);
}

/* ---- one block ---- */

typedef struct {
    golden *g;
    adze_ctx *ctx;
    adze_graph *graph;
    adze_params *params;
    adze_plan *plan;
    adze_value x, cond, hidden, state, inverse;
    int64_t R, C, P, M;
} block_case;

static void block_close(block_case *b)
{
    adze_plan_destroy(b->plan);
    adze_params_destroy(b->params);
    adze_graph_destroy(b->graph);
    adze_ctx_destroy(b->ctx);
}

static adze_status block_build(block_case *b)
{
    adze_status st = ADZE_OK;
    int64_t R = b->R, C = b->C, P = b->P, M = b->M;
    TRY(open_ctx(b->g, &b->ctx));
    TRY(adze_graph_create(&b->graph));
    adze_graph *g = b->graph;
    b->x = adze_graph_input(g, "x", ADZE_SHAPE(R, C));
    b->cond = adze_graph_input(g, "cond", ADZE_SHAPE(R, P));
    adze_coupling_params p;
    p.w1 = adze_graph_param(g, "subnet.0.weight", ADZE_SHAPE(M, C / 2 + P), true);
    p.b1 = adze_graph_param(g, "subnet.0.bias", ADZE_SHAPE(M), true);
    p.w2 = adze_graph_param(g, "subnet.2.weight", ADZE_SHAPE(C, M), true);
    p.b2 = adze_graph_param(g, "subnet.2.bias", ADZE_SHAPE(C), true);
    p.scale = adze_graph_param(g, "global_scale", ADZE_SHAPE(1, C), true);
    p.offset = adze_graph_param(g, "global_offset", ADZE_SHAPE(1, C), true);
    p.w_perm = adze_graph_param(g, "w_perm", ADZE_SHAPE(C, C), false);
    adze_coupling_opts opts = coupling_opts(b->g);
    adze_graph_want_grad(g, b->x);
    adze_graph_want_grad(g, b->cond);
    b->state = adze_coupling(g, b->x, b->cond, &p, &opts);
    adze_graph_output(g, "state", b->state);
    adze_graph_output(g, "kept", b->state + 1);
    b->hidden = adze_linear(g, adze_concat(g, (adze_value[]){ adze_slice(g, b->x, 1, 0, C / 2), b->cond }, 2, 1), p.w1, p.b1);
    adze_graph_output(g, "hidden", b->hidden);
    opts.inverse = true;
    b->inverse = adze_coupling(g, adze_reshape(g, adze_slice(g, b->state, 0, 0, R * C), ADZE_SHAPE(R, C)), b->cond, &p, &opts);
    adze_graph_output(g, "inverse", b->inverse);
    TRY(adze_params_create(&b->params, b->ctx, g));
    adze_plan_opts plan = { .loss = b->state };
    TRY(adze_plan_create(&b->plan, b->ctx, g, b->params, &plan));
done:
    return st;
}

static adze_status block_fill(block_case *b)
{
    adze_status st = ADZE_OK;
    int64_t shape[8], n;
    for (int i = 0; i < adze_params_count(b->params); i++) {
        char name[192];
        adze_shape s = adze_params_shape(b->params, i);
        snprintf(name, sizeof name, "%s%s", golden_string(b->g->setup, "prefix", ""), adze_params_name(b->params, i));
        float *w = weight_of(b->g, name, &s);
        st = adze_params_write(b->params, i, w);
        free(w);
        TRY(st);
    }
    float *x = input_of(b->g, "x", shape, &n), *cond = input_of(b->g, "cond", shape, &n);
    float *seed = golden_floats(b->R * (b->C + 1)), *rows = input_of(b->g, "grad_out", shape, &n), *logdet = input_of(b->g, "grad_logdet", shape, &n);
    memcpy(seed, rows, (size_t)(b->R * b->C) * sizeof *seed);
    memcpy(seed + b->R * b->C, logdet, (size_t)b->R * sizeof *seed);
    st = adze_plan_write(b->plan, b->x, x);
    if (st == ADZE_OK) st = adze_plan_write(b->plan, b->cond, cond);
    if (st == ADZE_OK) st = adze_plan_write_seed(b->plan, seed);
    free(x), free(cond), free(seed), free(rows), free(logdet);
done:
    return st;
}

static adze_status block_check(block_case *b)
{
    adze_status st = ADZE_OK;
    int64_t R = b->R, C = b->C, M = b->M, most = (R + C) * (M + C + b->P) + M * M;
    float *x = golden_floats(most);
    TRY(adze_plan_run(b->plan));
    TRY(adze_plan_read(b->plan, b->state, x));
    golden_check(b->g, "out", x, R * C);
    golden_check(b->g, "logdet", x + R * C, R);
    TRY(adze_plan_read(b->plan, b->state + 1, x));
    golden_check(b->g, "subnet_out", x + R * M, R * C);
    TRY(adze_plan_read(b->plan, b->hidden, x));
    golden_check(b->g, "hidden_pre", x, R * M);
    TRY(adze_plan_read(b->plan, b->inverse, x));
    golden_check(b->g, "inverse_x", x, R * C);
    golden_check(b->g, "inverse_logdet", x + R * C, R);
    TRY(adze_plan_read_grad(b->plan, b->x, x));
    check_behind_relu(b->g, "d_x", x, R * C, 1, R);
    TRY(adze_plan_read_grad(b->plan, b->cond, x));
    check_behind_relu(b->g, "d_cond", x, R * b->P, 1, R);
    for (int i = 0; i < adze_params_count(b->params); i++) {
        char name[96];
        adze_shape s = adze_params_shape(b->params, i);
        bool trained = adze_params_trainable(b->params, i);
        snprintf(name, sizeof name, "%s%s", trained ? "d_" : "", adze_params_name(b->params, i));
        TRY(trained ? adze_params_read_grad(b->params, i, x) : adze_params_read(b->params, i, x));
        if (strncmp(name, "d_subnet.0", strlen("d_subnet.0")) == 0) check_behind_relu(b->g, name, x, adze_shape_count(&s), 1, R);
        else golden_check(b->g, name, x, adze_shape_count(&s));
    }
done:
    free(x);
    return st;
}

static adze_status run_coupling(golden *g)
{
    adze_status st = ADZE_OK;
    block_case b = { .g = g, .R = golden_int(g->setup, "rows", 1), .C = golden_int(g->setup, "channels", 2), .P = golden_int(g->setup, "condition", 4) };
    b.M = 2 * (b.C / 2 + b.P);
    TRY(block_build(&b));
    TRY(block_fill(&b));
    TRY(block_check(&b));
done:
    block_close(&b);
    return st;
}

/* ---- small things ---- */

/* The case keeps the code as (P,H,W). */
static void run_poscode(golden *g)
{
    int64_t P = golden_int(g->setup, "condition", 4), H = golden_int(g->setup, "height", 1), W = golden_int(g->setup, "width", 1);
    float *code = golden_floats(P * H * W), *planes = golden_floats(P * H * W);
    cflow_position_code(H, W, P, code);
    golden_nhwc_to_nchw(code, 1, P, H, W, planes);
    golden_check(g, "code", planes, P * H * W);
    free(code), free(planes);
}

static adze_status run_rotate(golden *g)
{
    adze_status st = ADZE_OK;
    adze_image im = ADZE_IMAGE_EMPTY, turned = ADZE_IMAGE_EMPTY;
    double *got = NULL;
    const json_t *degrees = json_object_get(g->setup, "degrees");
    for (size_t k = 0; k < json_array_size(degrees); k++) {
        char in[32], out[32];
        snprintf(in, sizeof in, "image.%zu", k);
        snprintf(out, sizeof out, "out.%zu", k);
        const json_t *spec = json_object_get(json_object_get(g->root, "inputs"), in), *dims = json_object_get(spec, "shape");
        int64_t H = json_integer_value(json_array_get(dims, 0)), W = json_integer_value(json_array_get(dims, 1)), n = H * W * 3;
        TRY(adze_image_create(&im, H, W, 3));
        float *unit = golden_unit(golden_string(spec, "name", ""), n);
        for (int64_t i = 0; i < n; i++) im.data[i] = (unsigned char)floor((unit[i] + 1.0) * 128.0);
        free(unit);
        TRY(adze_image_rotate(&turned, &im, json_number_value(json_array_get(degrees, k))));
        got = realloc(got, (size_t)n * sizeof *got);
        for (int64_t i = 0; i < n; i++) got[i] = turned.data[i];
        golden_check_double(g, out, json_object_get(json_object_get(g->root, "values"), out), got, n, golden_real(g->setup, "bound", 0.0));
        adze_image_destroy(&im);
        adze_image_destroy(&turned);
    }
done:
    free(got);
    adze_image_destroy(&im);
    adze_image_destroy(&turned);
    return st;
}

/* ---- training ---- */

typedef struct {
    golden *g;
    adze_ctx *ctx;
    adze_graph *graph;
    adze_graph_parts split;
    adze_params *params;
    adze_plan *frozen, *level[LEVELS];
    adze_optim *optim[LEVELS];
    adze_value image;
    const char *prefix, *backbone;
    int64_t batch, size, condition, blocks, fiber, C[LEVELS], side[LEVELS];
    float *trace;
    int64_t n_steps;
} step_case;

static void step_close(step_case *c)
{
    for (int l = 0; l < LEVELS; l++) {
        adze_optim_destroy(c->optim[l]);
        adze_plan_destroy(c->level[l]);
    }
    adze_plan_destroy(c->frozen);
    adze_graph_parts_destroy(&c->split);
    adze_params_destroy(c->params);
    adze_graph_destroy(c->graph);
    adze_ctx_destroy(c->ctx);
    free(c->trace);
}

static void output(step_case *c, const char *what, int l, adze_value v)
{
    char name[32];
    snprintf(name, sizeof name, "%s.%d", what, l);
    adze_graph_output(c->graph, name, v);
}

static adze_status step_build(step_case *c)
{
    adze_status st = ADZE_OK;
    char encoder[64], prefix[LEVELS][64];
    const char *prefixes[LEVELS][2] = { { NULL } };
    adze_value tap[ADZE_BACKBONE_TAPS];
    adze_graph_goal goal[LEVELS];
    TRY(open_ctx(c->g, &c->ctx));
    TRY(adze_graph_create(&c->graph));
    adze_graph *g = c->graph;
    c->image = adze_graph_input(g, "image", ADZE_SHAPE(c->batch, c->size, c->size, 3));
    adze_value row = adze_graph_input(g, "row", ADZE_SHAPE(c->fiber)), place = adze_graph_input(g, "place", ADZE_SHAPE(c->fiber));
    snprintf(encoder, sizeof encoder, "%sencoder.", c->prefix);
    adze_backbone_opts backbone = ADZE_BACKBONE_OPTS;
    backbone.prefix = encoder;
    TRY(adze_backbone_build(g, c->backbone, c->image, &backbone, tap, NULL));
    cflow_net_opts net = CFLOW_NET_OPTS;
    net.train = true, net.prefix = c->prefix, net.blocks = c->blocks, net.coupling = coupling_opts(c->g);
    for (int l = 0; l < LEVELS; l++) {
        adze_value feature = tap[2 + l], state, logp;
        adze_shape s = adze_graph_shape(g, feature);
        c->side[l] = s.dim[1], c->C[l] = s.dim[3];
        output(c, "feature", l, feature);
        char code[32];
        snprintf(code, sizeof code, "code.%d", l);
        adze_value x = adze_index_select(g, adze_reshape(g, feature, ADZE_SHAPE(c->batch * s.dim[1] * s.dim[2], s.dim[3])), row, 0);
        adze_value cond = adze_index_select(g, adze_graph_param(g, code, ADZE_SHAPE(s.dim[1] * s.dim[2], c->condition), false), place, 0);
        output(c, "fiber", l, x);
        output(c, "condition", l, cond);
        TRY(cflow_net_build(g, l, x, cond, &net, &logp, &state));
        output(c, "state", l, state);
        output(c, "logp_per_dim", l, logp);
        goal[l].loss = adze_loss(g, ADZE_LOSS_NEG_LOG_SIGMOID, logp, ADZE_NONE, 0.0f, 0.0f);
        output(c, "loss", l, goal[l].loss);
        snprintf(prefix[l], sizeof prefix[l], "%sdecoders.%d.", c->prefix, l);
        prefixes[l][0] = prefix[l];
        goal[l].trained = prefixes[l];
    }
    TRY(adze_params_create(&c->params, c->ctx, g));
    TRY(adze_graph_split(&c->split, g, c->image, goal, LEVELS));
    adze_plan_opts plan = ADZE_PLAN_OPTS;
    TRY(adze_plan_create(&c->frozen, c->ctx, c->split.frozen, c->params, &plan));
    for (int l = 0; l < LEVELS; l++) {
        adze_optim_opts optim = ADZE_OPTIM_OPTS;
        optim.prefixes = prefixes[l];
        plan.loss = c->split.rest[l].loss;
        TRY(adze_plan_create(&c->level[l], c->ctx, c->split.rest[l].graph, c->params, &plan));
        TRY(adze_optim_create(&c->optim[l], c->params, &optim));
    }
done:
    return st;
}

static adze_status step_fill(step_case *c)
{
    adze_status st = ADZE_OK;
    for (int i = 0; i < adze_params_count(c->params) && st == ADZE_OK; i++) {
        const char *name = adze_params_name(c->params, i);
        adze_shape s = adze_params_shape(c->params, i);
        int l;
        float *w;
        if (sscanf(name, "code.%d", &l) == 1) {
            w = golden_floats(adze_shape_count(&s));
            cflow_position_code(c->side[l], c->side[l], c->condition, w);
        } else {
            w = weight_of(c->g, name, &s);
        }
        st = adze_params_write(c->params, i, w);
        free(w);
    }
    return st;
}

/* An output of a plan, in new memory. */
static float *take(step_case *c, adze_plan *plan, const adze_graph *g, const char *what, int l, int64_t *n)
{
    char name[32];
    snprintf(name, sizeof name, "%s.%d", what, l);
    adze_value v = adze_graph_find(g, name);
    adze_shape s = adze_graph_shape(g, v);
    *n = adze_shape_count(&s);
    float *x = golden_floats(*n);
    if (adze_plan_read(plan, v, x) != ADZE_OK) golden_expect(c->g, name, false, "%s", adze_error_message());
    return x;
}

static void check_output(step_case *c, const char *what, int l)
{
    int64_t n;
    char name[32];
    float *x = take(c, c->level[l], c->split.rest[l].graph, what, l, &n);
    snprintf(name, sizeof name, "%s.%d", what, l);
    golden_check(c->g, name, x, n);
    free(x);
}

/* All values "HEAD.L.BLOCK.TENSOR" of the case, from gradients or parameters. */
static adze_status check_tensors(step_case *c, const char *head, int l, bool grad)
{
    adze_status st = ADZE_OK;
    const char *name;
    json_t *value;
    char start[48], full[192];
    snprintf(start, sizeof start, "%s.%d.", head, l);
    json_object_foreach(json_object_get(c->g->root, "values"), name, value) {
        int block, at;
        if (strncmp(name, start, strlen(start)) != 0 || sscanf(name + strlen(start), "%d.%n", &block, &at) != 1) continue;
        snprintf(full, sizeof full, "%sdecoders.%d.module_list.%d.%s", c->prefix, l, block, name + strlen(start) + at);
        int i = adze_params_find(c->params, full);
        REQUIRE(i >= 0, ADZE_EINTERNAL, "no parameter '%s'", full);
        adze_shape s = adze_params_shape(c->params, i);
        float *x = golden_floats(adze_shape_count(&s));
        st = grad ? adze_params_read_grad(c->params, i, x) : adze_params_read(c->params, i, x);
        if (st == ADZE_OK && grad) check_behind_relu(c->g, name, x, adze_shape_count(&s), c->blocks - block, c->fiber);
        else if (st == ADZE_OK) golden_check(c->g, name, x, adze_shape_count(&s));
        free(x);
        TRY(st);
    }
done:
    return st;
}

static adze_status check_first(step_case *c, int l)
{
    adze_status st = ADZE_OK;
    int64_t n;
    char name[32];
    double norm;
    check_output(c, "fiber", l);
    check_output(c, "condition", l);
    check_output(c, "logp_per_dim", l);
    float *state = take(c, c->level[l], c->split.rest[l].graph, "state", l, &n);
    snprintf(name, sizeof name, "z.%d", l);
    golden_check(c->g, name, state, c->fiber * c->C[l]);
    snprintf(name, sizeof name, "logdet.%d", l);
    golden_check(c->g, name, state + c->fiber * c->C[l], c->fiber);
    free(state);
    TRY(check_tensors(c, "grad", l, true));
    TRY(adze_optim_norm_now(c->optim[l], &norm));
    snprintf(name, sizeof name, "grad_norm.%d", l);
    golden_check(c->g, name, &(float){ (float)norm }, 1);
done:
    return st;
}

static adze_status frozen_part(step_case *c, size_t b)
{
    adze_status st = ADZE_OK;
    char name[32];
    int64_t shape[8], n;
    snprintf(name, sizeof name, "images.%zu", b);
    float *nchw = input_of(c->g, name, shape, &n), *nhwc = golden_floats(n);
    golden_nchw_to_nhwc(nchw, shape[0], shape[1], shape[2], shape[3], nhwc);
    st = adze_plan_write(c->frozen, c->split.image, nhwc);
    free(nchw), free(nhwc);
    TRY(st);
    TRY(adze_plan_run(c->frozen));
    for (int l = 0; l < LEVELS; l++)
        for (int k = 0; k < c->split.n_cuts; k++) {
            adze_value to = c->split.rest[l].to[k];
            if (to == ADZE_NONE) continue;
            float *x = golden_floats(c->batch * c->split.floats[k]), *y = golden_floats(c->batch * c->split.floats[k]);
            st = adze_plan_read(c->frozen, c->split.from[k], x);
            if (st == ADZE_OK) st = adze_plan_write(c->level[l], to, x);
            snprintf(name, sizeof name, "feature.%d", l);
            golden_nhwc_to_nchw(x, c->batch, c->C[l], c->side[l], c->side[l], y);
            if (st == ADZE_OK && b == 0) golden_check(c->g, name, y, c->batch * c->split.floats[k]);
            free(x), free(y);
            TRY(st);
        }
done:
    return st;
}

static adze_status level_steps(step_case *c, size_t b, int l, const json_t *order, int64_t steps, double lr)
{
    adze_status st = ADZE_OK;
    const adze_graph *g = c->split.rest[l].graph;
    float *row = golden_floats(c->fiber), *place = golden_floats(c->fiber);
    int64_t places = c->side[l] * c->side[l];
    for (int64_t f = 0; f < steps; f++) {
        for (int64_t i = 0; i < c->fiber; i++) {
            int64_t r = json_integer_value(json_array_get(order, (size_t)(f * c->fiber + i)));
            row[i] = (float)r, place[i] = (float)(r % places);
        }
        TRY(adze_plan_write(c->level[l], adze_graph_find(g, "row"), row));
        TRY(adze_plan_write(c->level[l], adze_graph_find(g, "place"), place));
        TRY(adze_plan_run(c->level[l]));
        TRY(adze_plan_read(c->level[l], c->split.rest[l].loss, &c->trace[c->n_steps++]));
        if (b == 0 && f == 0) TRY(check_first(c, l));
        TRY(adze_optim_step(c->optim[l], lr));
        if (b == 0 && f == 0) TRY(check_tensors(c, "after1", l, false));
    }
done:
    free(row), free(place);
    return st;
}

static void check_trace(step_case *c)
{
    const json_t *trace = json_object_get(json_object_get(c->g->root, "values"), "loss_trace"), *is = json_object_get(trace, "is");
    golden_expect(c->g, "steps", c->n_steps == (int64_t)json_array_size(is), "%lld, want %zu", (long long)c->n_steps, json_array_size(is));
    for (size_t i = 0; i < json_array_size(is) && (int64_t)i < c->n_steps; i++) {
        char name[32];
        double want = json_number_value(json_array_get(is, i)), error = fabs(c->trace[i] - want);
        double rounding = json_number_value(json_array_get(json_object_get(trace, "f32_err_each"), i));
        double bound = golden_is_bf16(c->g) ? golden_bound(c->g, rounding, fabs(want), 1.0) : 4.0 * rounding + 1e-5;
        snprintf(name, sizeof name, "loss_trace.%zu", i);
        golden_expect(c->g, name, error <= bound, "error %.3g bound %.3g", error, bound);
    }
}

static adze_status run_step(golden *g)
{
    adze_status st = ADZE_OK;
    step_case c = { .g = g, .prefix = golden_string(g->setup, "prefix", ""), .backbone = golden_string(g->setup, "backbone", ""),
                    .batch = golden_int(g->setup, "batch", 1), .size = golden_int(g->setup, "size", 64), .condition = golden_int(g->setup, "condition", 4),
                    .blocks = golden_int(g->setup, "blocks", 1), .fiber = golden_int(g->setup, "fiber_batch", 1) };
    const json_t *orders = json_object_get(g->setup, "permutations"), *steps = json_object_get(g->setup, "steps");
    int64_t total = 0;
    size_t b, k;
    json_t *per_level, *n;
    json_array_foreach(steps, b, per_level)
        json_array_foreach(per_level, k, n) total += json_integer_value(n);
    c.trace = golden_floats(total + 1);
    TRY(step_build(&c));
    TRY(step_fill(&c));
    for (b = 0; b < json_array_size(steps); b++) {
        double lr = json_number_value(json_array_get(json_object_get(g->setup, "lr"), b));
        TRY(frozen_part(&c, b));
        for (int l = 0; l < LEVELS; l++) {
            const json_t *count = json_array_get(json_array_get(steps, b), (size_t)l);
            TRY(level_steps(&c, b, l, json_array_get(json_array_get(orders, b), (size_t)l), json_integer_value(count), lr));
        }
        for (int l = 0; l < LEVELS; l++) {
            char head[32];
            snprintf(head, sizeof head, "after_batch%zu", b + 1);
            TRY(check_tensors(&c, head, l, false));
        }
    }
    check_trace(&c);
done:
    step_close(&c);
    return st;
}

/* ---- scoring ---- */

/* The case's weights under the names that a checkpoint has. */
typedef struct {
    const golden *g;
    const char *backbone;
    adze_graph *shapes; /* of the backbone; owned */
    float *last;        /* owned */
    int64_t blocks, condition;
} weight_source;

static adze_status find_backbone(void *user, const char *name, adze_shape *shape, const float **data)
{
    weight_source *w = user;
    char full[192];
    adze_value v = adze_graph_find(w->shapes, name);
    if (v == ADZE_NONE) return adze_fail(ADZE_EINPUT, "no weight '%s'", name);
    *shape = adze_graph_shape(w->shapes, v);
    snprintf(full, sizeof full, "%sencoder.%s", golden_string(w->g->setup, "prefix", ""), name);
    free(w->last);
    *data = w->last = weight_of(w->g, full, shape);
    return ADZE_OK;
}

static adze_status find_decoder(void *user, const char *name, adze_shape *shape, const float **data)
{
    weight_source *w = user;
    const adze_backbone_info *info;
    char full[192];
    int level, block, at;
    if (sscanf(name, "decoders.%d.module_list.%d.%n", &level, &block, &at) != 2 || level < 0 || level >= LEVELS)
        return adze_fail(ADZE_EINPUT, "no tensor '%s'", name);
    adze_status st = adze_backbone_find(w->backbone, &info);
    if (st != ADZE_OK) return st;
    int64_t C = info->channels[2 + level], in = C / 2 + w->condition;
    const char *tail = name + at;
    if (strcmp(tail, "subnet.0.weight") == 0) *shape = ADZE_SHAPE(2 * in, in);
    else if (strcmp(tail, "subnet.0.bias") == 0) *shape = ADZE_SHAPE(2 * in);
    else if (strcmp(tail, "subnet.2.weight") == 0) *shape = ADZE_SHAPE(C, 2 * in);
    else if (strcmp(tail, "subnet.2.bias") == 0) *shape = ADZE_SHAPE(C);
    else if (strcmp(tail, "w_perm") == 0) *shape = ADZE_SHAPE(C, C);
    else *shape = ADZE_SHAPE(1, C);
    snprintf(full, sizeof full, "%s%s", golden_string(w->g->setup, "prefix", ""), name);
    free(w->last);
    *data = w->last = weight_of(w->g, full, shape);
    return ADZE_OK;
}

static adze_status load_model(golden *g, adze_ctx *ctx, weight_source *w, adze_options *options, adze_model **model)
{
    adze_status st = ADZE_OK;
    char text[32];
    adze_value tap[ADZE_BACKBONE_TAPS];
    int64_t size = golden_int(g->setup, "size", 64);
    TRY(adze_graph_create(&w->shapes));
    adze_value image = adze_graph_input(w->shapes, "image", ADZE_SHAPE(1, size, size, 3));
    TRY(adze_backbone_build(w->shapes, w->backbone, image, &ADZE_BACKBONE_OPTS, tap, NULL));
    TRY(adze_options_add(options, adze_cflow.options, adze_cflow.n_options));
    snprintf(text, sizeof text, "%lld", (long long)w->blocks);
    TRY(adze_options_set(options, "blocks", text, ADZE_ORIGIN_COMMAND, NULL));
    snprintf(text, sizeof text, "%lld", (long long)w->condition);
    TRY(adze_options_set(options, "condition", text, ADZE_ORIGIN_COMMAND, NULL));
    if (coupling_opts(g).over_clamp) TRY(adze_options_set(options, "clamp", "current", ADZE_ORIGIN_COMMAND, NULL));
    const adze_model_setup setup = { .ctx = ctx, .backbone = w->backbone, .H = size, .W = size, .batch = golden_int(g->setup, "batch", 1),
                                     .options = options, .weights = { find_backbone, w } };
    const adze_tensor_source own = { find_decoder, w };
    TRY(adze_cflow.create(model, &setup));
    TRY(adze_cflow.load(*model, &own));
done:
    return st;
}

/* Per level: likelihoods, probabilities, their enlargement. */
static adze_status check_levels(golden *g, const char *backbone, const float *raw, int64_t n, int64_t floats, int64_t size)
{
    adze_status st = ADZE_OK;
    const adze_backbone_info *info;
    adze_map_opts opts = ADZE_MAP_OPTS;
    double *p = calloc((size_t)(n * floats), sizeof *p), *large = calloc((size_t)(n * size * size), sizeof *large);
    float *x = golden_floats(n * size * size);
    int64_t at = 0;
    opts.align_corners = true;
    TRY(adze_backbone_find(backbone, &info));
    for (int l = 0; l < LEVELS; l++) {
        char name[32];
        int64_t side = size / info->stride[2 + l], places = side * side;
        double peak = -INFINITY;
        for (int64_t i = 0; i < n; i++)
            for (int64_t k = 0; k < places; k++) peak = fmax(peak, x[i * places + k] = raw[i * floats + at + k]);
        snprintf(name, sizeof name, "logp_per_dim.%d", l);
        golden_check(g, name, x, n * places);
        for (int64_t i = 0; i < n * places; i++) p[i] = exp(x[i] - peak), x[i] = (float)p[i];
        snprintf(name, sizeof name, "prob.%d", l);
        golden_check(g, name, x, n * places);
        TRY(adze_map_upsample_f64(p, n, side, side, size, size, &opts, large));
        for (int64_t i = 0; i < n * size * size; i++) x[i] = (float)large[i];
        snprintf(name, sizeof name, "upsampled.%d", l);
        golden_check(g, name, x, n * size * size);
        at += places;
    }
done:
    free(p), free(large), free(x);
    return st;
}

/* The largest mean of a window of the map of one picture. */
static double pooled_maximum(const float *map, int64_t size, int64_t window)
{
    double best = -INFINITY;
    for (int64_t y = 0; y + window <= size; y++)
        for (int64_t x = 0; x + window <= size; x++) {
            double sum = 0.0;
            for (int64_t i = 0; i < window; i++)
                for (int64_t k = 0; k < window; k++) sum += map[(y + i) * size + x + k];
            best = fmax(best, sum / (double)(window * window));
        }
    return best;
}

static adze_status run_test(golden *g)
{
    adze_status st = ADZE_OK;
    adze_ctx *ctx = NULL;
    adze_options *options = NULL;
    adze_model *model = NULL;
    weight_source w = { .g = g, .backbone = golden_string(g->setup, "backbone", ""), .blocks = golden_int(g->setup, "blocks", 8),
                        .condition = golden_int(g->setup, "condition", 128) };
    int64_t shape[8], n, size = golden_int(g->setup, "size", 64), done = 0, window = json_integer_value(json_array_get(json_object_get(g->setup, "pool"), 0));
    float *nchw = input_of(g, "test_images", shape, &n), *nhwc = golden_floats(n), *raw = NULL, *map = golden_floats(shape[0] * size * size);
    float score[64], largest[64];
    golden_nchw_to_nhwc(nchw, shape[0], shape[1], shape[2], shape[3], nhwc);
    TRY(open_ctx(g, &ctx));
    TRY(adze_options_create(&options));
    TRY(load_model(g, ctx, &w, options, &model));
    int64_t floats = adze_cflow.raw_floats(model), batch = golden_int(g->setup, "batch", 1);
    raw = golden_floats(shape[0] * floats);
    float *x = golden_floats(batch * size * size * 3);
    size_t b;
    json_t *count;
    json_array_foreach(json_object_get(g->setup, "batches"), b, count) {
        int64_t now = json_integer_value(count);
        memcpy(x, nhwc + done * size * size * 3, (size_t)(now * size * size * 3) * sizeof *x);
        st = adze_cflow.score(model, x, now, raw + done * floats, NULL);
        if (st != ADZE_OK) break;
        done += now;
    }
    free(x);
    TRY(st);
    TRY(check_levels(g, w.backbone, raw, done, floats, size));
    TRY(adze_cflow.settle(model, raw, done));
    TRY(adze_cflow.finish(model, raw, done, map));
    golden_check(g, "anomaly_map", map, done * size * size);
    for (int64_t i = 0; i < done && i < 64; i++) {
        score[i] = (float)pooled_maximum(map + i * size * size, size, window);
        largest[i] = (float)pooled_maximum(map + i * size * size, size, 1);
    }
    golden_check(g, "image_score", score, done);
    golden_check(g, "image_score_plain_max", largest, done);
done:
    if (model) adze_cflow.destroy(model);
    adze_options_destroy(options);
    adze_graph_destroy(w.shapes);
    adze_ctx_destroy(ctx);
    free(w.last), free(nchw), free(nhwc), free(raw), free(map);
    return st;
}

bool golden_cflow(golden *g)
{
    adze_status st = ADZE_OK;
    if (strcmp(g->kind, "cflow.coupling") == 0) st = run_coupling(g);
    else if (strcmp(g->kind, "cflow.poscode") == 0) run_poscode(g);
    else if (strcmp(g->kind, "cflow.rotate") == 0) st = run_rotate(g);
    else if (strcmp(g->kind, "cflow.step") == 0) st = run_step(g);
    else if (strcmp(g->kind, "cflow.test") == 0) st = run_test(g);
    else return false;
    if (st != ADZE_OK) golden_expect(g, "run", false, "%s", adze_error_message());
    return true;
}
