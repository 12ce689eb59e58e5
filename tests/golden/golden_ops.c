/* golden_ops.c - cases of single operations, each run through a graph and a plan on the chosen device.
 *
 * A case's tensors have PyTorch's order; spatial ones are turned to (N,H,W,C) before and back after. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/context.h"
#include "core/map_post.h"
#include "core/ops.h"
#include "core/params.h"
#include "core/plan.h"
#include "tests/golden/golden.h"

enum { MAX_TENSORS = 16 };

typedef struct {
    const char *name;
    float *data;
    int64_t shape[8], n;
    int rank;
    adze_value value; /* ADZE_NONE until it is part of the graph */
} tensor;

typedef struct {
    golden *g;
    const json_t *item, *attrs;
    const char *op;
    tensor input[MAX_TENSORS];
    int n_inputs;
    adze_ctx *ctx;
    adze_graph *graph;
    bool spatial; /* x and y are (N,C,H,W) in the case */
    bool train;   /* gradients are wanted */
} run;

static tensor *find(run *r, const char *name)
{
    for (int i = 0; i < r->n_inputs; i++)
        if (strcmp(r->input[i].name, name) == 0) return &r->input[i];
    return NULL;
}

static adze_shape shape_of(const run *r, const tensor *t, bool spatial)
{
    adze_shape s = adze_shape_of(t->rank, t->shape);
    if (spatial && r->spatial && t->rank == 4) s = ADZE_SHAPE(t->shape[0], t->shape[2], t->shape[3], t->shape[1]);
    return s;
}

/* The graph input for a tensor of the case. */
static adze_value in(run *r, const char *name)
{
    tensor *t = find(r, name);
    if (!t) return ADZE_NONE;
    if (r->spatial && t->rank == 4) {
        float *nhwc = malloc((size_t)t->n * sizeof *nhwc);
        golden_nchw_to_nhwc(t->data, t->shape[0], t->shape[1], t->shape[2], t->shape[3], nhwc);
        free(t->data);
        t->data = nhwc;
    }
    t->value = adze_graph_input(r->graph, name, shape_of(r, t, true));
    if (r->train) adze_graph_want_grad(r->graph, t->value);
    return t->value;
}

static adze_value param_of_kind(run *r, const char *name, bool trainable)
{
    tensor *t = find(r, name);
    if (!t) return ADZE_NONE;
    return t->value = adze_graph_param(r->graph, name, shape_of(r, t, false), trainable);
}

static adze_value param(run *r, const char *name)
{
    return param_of_kind(r, name, r->train);
}

static adze_value statistic(run *r, const char *name)
{
    return param_of_kind(r, name, false);
}

/* attrs.key as one or two integers. */
static void pair(const run *r, const char *key, int fallback, int out[2])
{
    const json_t *v = json_object_get(r->attrs, key);
    bool list = json_is_array(v);
    for (size_t d = 0; d < 2; d++) {
        const json_t *e = list ? json_array_get(v, json_array_size(v) == 1 ? 0 : d) : v;
        out[d] = json_is_integer(e) ? (int)json_integer_value(e) : fallback;
    }
}

static adze_value build_conv(run *r)
{
    adze_conv2d_opts o = ADZE_CONV2D_OPTS;
    adze_value x = in(r, "x"), w = param(r, "weight"), b = param(r, "bias");
    if (strcmp(r->op, "conv2d_same") == 0) {
        const tensor *t = find(r, "weight");
        o = adze_conv2d_same_opts(adze_graph_shape(r->graph, x), t->shape[2], t->shape[3],
                                  (int)golden_int(r->attrs, "stride", 1), (int)golden_int(r->attrs, "groups", 1));
    } else {
        int pad[2];
        pair(r, "stride", 1, o.stride);
        pair(r, "dilation", 1, o.dilation);
        pair(r, "padding", 0, pad);
        o.pad[0] = o.pad[2] = pad[0], o.pad[1] = o.pad[3] = pad[1];
        o.groups = (int)golden_int(r->attrs, "groups", 1);
    }
    if (strcmp(r->op, "conv_transpose2d") == 0) {
        int extra[2];
        pair(r, "output_padding", 0, extra);
        o.pad[2] -= extra[0], o.pad[3] -= extra[1];
        return adze_conv_transpose2d(r->graph, x, w, b, &o);
    }
    return adze_conv2d(r->graph, x, w, b, &o);
}

static adze_value build_pool(run *r)
{
    adze_pool2d_opts o = { .max = strcmp(r->op, "max_pool2d") == 0 };
    int pad[2];
    pair(r, "kernel", 1, o.kernel);
    pair(r, "stride", o.kernel[0], o.stride);
    pair(r, "padding", 0, pad);
    o.pad[0] = o.pad[2] = pad[0], o.pad[1] = o.pad[3] = pad[1];
    o.count_include_pad = json_is_true(json_object_get(r->attrs, "count_include_pad"));
    return adze_pool2d(r->graph, in(r, "x"), &o);
}

static adze_value build_interpolate(run *r)
{
    adze_interpolate_opts o = { .align_corners = json_is_true(json_object_get(r->attrs, "align_corners")),
                                .antialias = json_is_true(json_object_get(r->attrs, "antialias")) };
    const char *mode = golden_string(r->attrs, "mode", "");
    o.mode = strcmp(mode, "nearest") == 0    ? ADZE_INTERPOLATE_NEAREST
             : strcmp(mode, "bicubic") == 0 ? ADZE_INTERPOLATE_BICUBIC
                                             : ADZE_INTERPOLATE_BILINEAR;
    int out[2];
    pair(r, "out", 1, out);
    o.out[0] = out[0], o.out[1] = out[1];
    return adze_interpolate(r->graph, in(r, "x"), &o);
}

static adze_value build_act(run *r)
{
    static const struct {
        const char *name, *a, *b;
        adze_act act;
    } acts[] = {
        { "relu", "", "", ADZE_ACT_RELU },
        { "relu6", "", "", ADZE_ACT_RELU6 },
        { "leaky_relu", "slope", "", ADZE_ACT_LEAKY_RELU },
        { "gelu", "", "", ADZE_ACT_GELU },
        { "gelu_tanh", "", "", ADZE_ACT_GELU_TANH },
        { "quick_gelu", "", "", ADZE_ACT_QUICK_GELU },
        { "silu", "", "", ADZE_ACT_SILU },
        { "sigmoid", "", "", ADZE_ACT_SIGMOID },
        { "tanh", "", "", ADZE_ACT_TANH },
        { "softplus", "beta", "threshold", ADZE_ACT_SOFTPLUS },
        { "log_sigmoid", "", "", ADZE_ACT_LOG_SIGMOID },
        { "exp", "", "", ADZE_ACT_EXP },
        { "log", "", "", ADZE_ACT_LOG },
        { "sqrt", "", "", ADZE_ACT_SQRT },
        { "soft_clamp", "clamp", "divisor", ADZE_ACT_SOFT_CLAMP },
    };
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++)
        if (strcmp(acts[i].name, r->op) == 0)
            return adze_activation(r->graph, in(r, "x"), acts[i].act, (float)golden_real(r->attrs, acts[i].a, 0.0),
                                   (float)golden_real(r->attrs, acts[i].b, 0.0));
    return ADZE_NONE;
}

/* sqrt(2) * leaky_relu_0.2(x + bias per channel), from three operations. */
static adze_value build_fused_leaky_relu(run *r)
{
    static const float root2 = 1.41421356f;
    adze_value x = in(r, "x"), bias = in(r, "bias");
    adze_value scale = adze_graph_input(r->graph, "scale", ADZE_SHAPE(1));
    tensor *t = &r->input[r->n_inputs++];
    *t = (tensor){ .name = "scale", .data = malloc(sizeof(float)), .shape = { 1 }, .n = 1, .rank = 1, .value = scale };
    t->data[0] = root2;
    adze_value y = adze_binary(r->graph, ADZE_BINARY_ADD, x, bias);
    y = adze_activation(r->graph, y, ADZE_ACT_LEAKY_RELU, 0.2f, 0.0f);
    return adze_binary(r->graph, ADZE_BINARY_MUL, y, scale);
}

static adze_value build_batch_norm(run *r)
{
    if (json_is_true(json_object_get(r->attrs, "train"))) {
        adze_batch_norm_opts o = ADZE_BATCH_NORM_OPTS;
        o.eps = (float)golden_real(r->attrs, "eps", 1e-5);
        o.momentum = (float)golden_real(r->attrs, "momentum", 0.1);
        adze_value x = in(r, "x"), gamma = param(r, "weight"), beta = param(r, "bias");
        adze_value mean = statistic(r, "running_mean"), var = statistic(r, "running_var");
        return adze_batch_norm_train(r->graph, x, gamma, beta, mean, var, ADZE_NONE, &o);
    }
    adze_value x = in(r, "x"), gamma = param(r, "weight"), beta = param(r, "bias");
    adze_value mean = statistic(r, "running_mean"), var = statistic(r, "running_var");
    return adze_batch_norm(r->graph, x, gamma, beta, mean, var, (float)golden_real(r->attrs, "eps", 1e-5));
}

static adze_value build_unfold(run *r)
{
    adze_unfold_opts o;
    pair(r, "kernel", 1, o.kernel);
    pair(r, "stride", 1, o.stride);
    pair(r, "padding", 0, o.pad);
    pair(r, "dilation", 1, o.dilation);
    return adze_unfold(r->graph, in(r, "x"), &o);
}

static adze_value build_binary(run *r)
{
    static const char *const names[] = { "add", "sub", "mul", "div" };
    for (int i = 0; i < 4; i++)
        if (strcmp(names[i], r->op) == 0) return adze_binary(r->graph, (adze_binary_fn)i, in(r, "x"), in(r, "z"));
    return ADZE_NONE;
}

/* ADZE_NONE without an error in the graph: this op or attribute is not known here. */
static adze_value build(run *r)
{
    const char *op = r->op;
    r->spatial = true;
    if (strncmp(op, "conv2d", 6) == 0 || strcmp(op, "conv_transpose2d") == 0) return build_conv(r);
    if (strcmp(op, "max_pool2d") == 0 || strcmp(op, "avg_pool2d") == 0) return build_pool(r);
    if (strcmp(op, "adaptive_avg_pool2d") == 0) {
        int out[2];
        pair(r, "out", 1, out);
        return adze_adaptive_pool2d(r->graph, in(r, "x"), out[0], out[1]);
    }
    if (strcmp(op, "interpolate") == 0) return build_interpolate(r);
    if (strcmp(op, "batch_norm") == 0) return build_batch_norm(r);
    if (strcmp(op, "unfold") == 0) return build_unfold(r);
    if (strcmp(op, "fused_leaky_relu") == 0) return build_fused_leaky_relu(r);
    r->spatial = false;
    if (strcmp(op, "adaptive_avg_pool1d") == 0)
        return adze_adaptive_pool1d(r->graph, in(r, "x"), golden_int(r->attrs, "out", 1));
    if (strcmp(op, "linear") == 0) return adze_linear(r->graph, in(r, "x"), param(r, "weight"), param(r, "bias"));
    adze_value y = build_binary(r);
    return y != ADZE_NONE ? y : build_act(r);
}

/* From our order (N,H,W,C), or patches as rows, to the case's. In place of `x`, which is freed. */
static float *turn_back(const run *r, float *x, adze_shape s)
{
    int64_t n = adze_shape_count(&s);
    float *y = malloc((size_t)n * sizeof *y);
    if (r->spatial && s.rank == 4) golden_nhwc_to_nchw(x, s.dim[0], s.dim[3], s.dim[1], s.dim[2], y);
    else if (strcmp(r->op, "unfold") == 0 && s.rank == 3) golden_nhwc_to_nchw(x, s.dim[0], s.dim[2], 1, s.dim[1], y);
    else memcpy(y, x, (size_t)n * sizeof *y);
    free(x);
    return y;
}

static void check(run *r, const char *name, float *x, adze_shape s)
{
    char label[256];
    snprintf(label, sizeof label, "%s.%s", golden_string(r->item, "name", "?"), name);
    float *y = turn_back(r, x, s);
    golden_check_value(r->g, label, json_object_get(json_object_get(r->item, "values"), name), y, adze_shape_count(&s), 1.0);
    free(y);
}

/* The gradient that flows into y, in our order. */
static adze_status write_upstream(run *r, adze_plan *plan, adze_value y)
{
    int64_t shape[8], n;
    int rank;
    adze_shape s = adze_graph_shape(r->graph, y);
    float *dy = golden_tensor(json_object_get(json_object_get(r->item, "upstream"), "y"), shape, &rank, &n);
    float *turned = malloc((size_t)n * sizeof *turned);
    if (r->spatial && s.rank == 4) golden_nchw_to_nhwc(dy, s.dim[0], s.dim[3], s.dim[1], s.dim[2], turned);
    else if (strcmp(r->op, "unfold") == 0) golden_nchw_to_nhwc(dy, s.dim[0], s.dim[2], 1, s.dim[1], turned);
    else memcpy(turned, dy, (size_t)n * sizeof *turned);
    adze_status st = adze_plan_write_seed(plan, turned);
    free(dy), free(turned);
    return st;
}

static adze_status check_grads(run *r, const adze_params *params, adze_plan *plan)
{
    adze_status st = ADZE_OK;
    for (int i = 0; i < r->n_inputs; i++) {
        tensor *t = &r->input[i];
        char name[64];
        snprintf(name, sizeof name, "grad_%s", t->name);
        if (t->value == ADZE_NONE || !json_object_get(json_object_get(r->item, "values"), name)) continue;
        float *grad = malloc((size_t)t->n * sizeof *grad);
        int p = adze_params_find(params, t->name);
        st = p >= 0 ? adze_params_read_grad(params, p, grad) : adze_plan_read_grad(plan, t->value, grad);
        if (p >= 0 && st == ADZE_OK) {
            char label[256];
            snprintf(label, sizeof label, "%s.%s", golden_string(r->item, "name", "?"), name);
            golden_check_value(r->g, label, json_object_get(json_object_get(r->item, "values"), name), grad, t->n, 1.0);
            free(grad);
        } else if (st == ADZE_OK) check(r, name, grad, adze_graph_shape(r->graph, t->value));
        else free(grad);
        if (st != ADZE_OK) return st;
    }
    return st;
}

/* Runs the graph, forward or in both directions, and checks what came out. */
static adze_status compute(run *r, adze_value y)
{
    adze_params *params = NULL;
    adze_plan *plan = NULL;
    adze_status st = ADZE_OK;
    adze_plan_opts opts = ADZE_PLAN_OPTS;
    adze_graph_output(r->graph, "y", y);
    if (r->train) opts.loss = y;
    TRY(adze_params_create(&params, r->ctx, r->graph));
    TRY(adze_plan_create(&plan, r->ctx, r->graph, params, &opts));
    for (int i = 0; i < r->n_inputs; i++) {
        tensor *t = &r->input[i];
        if (t->value == ADZE_NONE) continue;
        int p = adze_params_find(params, t->name);
        if (p >= 0) TRY(adze_params_write(params, p, t->data));
        else TRY(adze_plan_write(plan, t->value, t->data));
    }
    if (r->train) TRY(write_upstream(r, plan, y));
    TRY(adze_plan_run(plan));
    adze_shape s = adze_graph_shape(r->graph, y);
    float *out = malloc((size_t)adze_shape_count(&s) * sizeof *out);
    if ((st = adze_plan_read(plan, y, out)) == ADZE_OK) check(r, "y", out, s);
    else free(out);
    for (int i = 0; i < r->n_inputs && st == ADZE_OK; i++) { /* running statistics that the operation moved */
        tensor *t = &r->input[i];
        int p = adze_params_find(params, t->name);
        if (p < 0 || !json_object_get(json_object_get(r->item, "values"), t->name)) continue;
        float *moved = malloc((size_t)t->n * sizeof *moved);
        if ((st = adze_params_read(params, p, moved)) == ADZE_OK) check(r, t->name, moved, adze_shape_of(t->rank, t->shape));
        else free(moved);
    }
    if (st == ADZE_OK && r->train) TRY(check_grads(r, params, plan));
done:
    adze_plan_destroy(plan);
    adze_params_destroy(params);
    return st;
}

/* Not an operation of the graph: maps (H,W) on the host. */
static adze_status blur(run *r)
{
    tensor *x = find(r, "x");
    adze_status st = adze_map_blur(x->data, 1, x->shape[0], x->shape[1], golden_real(r->attrs, "sigma", 0.0), NULL, x->data);
    char label[256];
    snprintf(label, sizeof label, "%s.y", golden_string(r->item, "name", "?"));
    if (st == ADZE_OK)
        golden_check_value(r->g, label, json_object_get(json_object_get(r->item, "values"), "y"), x->data, x->n, 1.0);
    return st;
}

/* One direction or both. False if the operation is unknown here. */
static bool run_case(golden *g, const json_t *item, bool train)
{
    run r = { .g = g, .item = item, .attrs = json_object_get(item, "attrs"), .op = golden_string(item, "op", ""), .train = train };
    const char *name = golden_string(item, "name", "?");
    bool known = true;
    const char *key;
    json_t *spec;
    json_object_foreach(json_object_get(item, "inputs"), key, spec) {
        tensor *t = &r.input[r.n_inputs++];
        t->name = key, t->value = ADZE_NONE;
        t->data = golden_tensor(spec, t->shape, &t->rank, &t->n);
    }
    adze_ctx_opts opts = ADZE_CTX_OPTS;
    opts.device = g->device;
    opts.reference_only = strcmp(g->device, "reference") == 0;
    if (opts.reference_only) opts.device = "cpu";
    adze_status st = adze_ctx_create(&r.ctx, &opts);
    if (st == ADZE_OK) st = adze_graph_create(&r.graph);
    if (st == ADZE_OK && strcmp(r.op, "gaussian_blur") == 0) st = blur(&r);
    else if (st == ADZE_OK) {
        adze_value y = build(&r);
        st = adze_graph_check(r.graph);
        known = y != ADZE_NONE || st != ADZE_OK;
        if (y != ADZE_NONE) st = compute(&r, y);
    }
    if (!known) fprintf(stderr, "golden: %s %s: operation '%s' with these attributes is unknown\n", g->file, name, r.op);
    if (st != ADZE_OK) golden_expect(g, name, false, "%s", adze_error_message());
    adze_graph_destroy(r.graph);
    adze_ctx_destroy(r.ctx);
    for (int i = 0; i < r.n_inputs; i++) free(r.input[i].data);
    return known;
}

bool golden_ops(golden *g)
{
    bool known = true;
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(g->root, "cases"), i, item) {
        bool here = run_case(g, item, false);
        if (here && json_object_get(item, "upstream")) here = run_case(g, item, true);
        known &= here;
    }
    return known;
}
