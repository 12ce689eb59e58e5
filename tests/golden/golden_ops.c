/* golden_ops.c - cases of single operations, each run through a graph and a plan on the chosen device.
 *
 * A case's tensors have PyTorch's order; spatial ones are turned to (N,H,W,C) before and back after. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/context.h"
#include "core/knn.h"
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
    bool rows;    /* what has three dimensions is (N,D,L) in the case and (N,L,D) here */
    bool train;   /* gradients are wanted */
    adze_value second; /* a second output, ADZE_NONE if there is none */
    const char *second_name;
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
    if (spatial && r->rows && t->rank == 3) s = ADZE_SHAPE(t->shape[0], t->shape[2], t->shape[1]);
    return s;
}

/* The graph input for a tensor of the case. */
static adze_value in(run *r, const char *name)
{
    tensor *t = find(r, name);
    if (!t) return ADZE_NONE;
    bool map = r->spatial && t->rank == 4, rows = r->rows && t->rank == 3;
    if (map || rows) {
        float *last = malloc((size_t)t->n * sizeof *last);
        golden_nchw_to_nhwc(t->data, t->shape[0], t->shape[1], map ? t->shape[2] : 1, t->shape[t->rank - 1], last);
        free(t->data);
        t->data = last;
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

/* A graph input that is no tensor of the case. */
static adze_value extra(run *r, const char *name, const float *data, int64_t n)
{
    tensor *t = &r->input[r->n_inputs++];
    *t = (tensor){ .name = name, .data = malloc((size_t)n * sizeof *data), .shape = { n }, .n = n, .rank = 1 };
    memcpy(t->data, data, (size_t)n * sizeof *data);
    return t->value = adze_graph_input(r->graph, name, ADZE_SHAPE(n));
}

/* attrs.key, a list of whole numbers, as a graph input. */
static adze_value whole_numbers(run *r, const char *key)
{
    const json_t *list = json_object_get(r->attrs, key);
    size_t n = json_array_size(list);
    float *x = malloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = (float)json_integer_value(json_array_get(list, i));
    adze_value v = extra(r, key, x, (int64_t)n);
    free(x);
    return v;
}

/* attrs.dim where the tensor has it: channels are last here. */
static int dim_of(const run *r, const char *name)
{
    static const int nhwc[] = { 0, 3, 1, 2 };
    int dim = (int)golden_int(r->attrs, "dim", -1), rank = 0;
    for (int i = 0; i < r->n_inputs; i++)
        if (strcmp(r->input[i].name, name) == 0) rank = r->input[i].rank;
    if (dim < 0) dim += rank;
    return r->spatial && rank == 4 ? nhwc[dim] : dim;
}

static bool flag(const run *r, const char *key)
{
    return json_is_true(json_object_get(r->attrs, key));
}

static float real(const run *r, const char *key)
{
    return (float)golden_real(r->attrs, key, 0.0);
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

static adze_value build_conv1d(run *r)
{
    r->rows = true;
    tensor *w = find(r, "weight");
    w->rank = 4, w->shape[3] = w->shape[2], w->shape[2] = 1;
    return adze_conv1d_causal(r->graph, in(r, "x"), param(r, "weight"), param(r, "bias"));
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

static adze_value build_blur(run *r)
{
    int pad[2];
    pair(r, "pad", 0, pad);
    return adze_upfirdn_blur(r->graph, in(r, "x"), pad[0], pad[1], real(r, "gain"));
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
    adze_value scale = extra(r, "scale", &root2, 1);
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
    r->rows = true;
    return adze_unfold(r->graph, in(r, "x"), &o);
}

static adze_value build_binary(run *r)
{
    static const char *const names[] = { "add", "sub", "mul", "div" };
    for (int i = 0; i < 4; i++)
        if (strcmp(names[i], r->op) == 0) return adze_binary(r->graph, (adze_binary_fn)i, in(r, "x"), in(r, "z"));
    return ADZE_NONE;
}

static adze_value build_concat(run *r)
{
    static const char *const names[] = { "x0", "x1", "x2", "x3" };
    adze_value x[4];
    int n = 0;
    for (; n < 4 && find(r, names[n]); n++) x[n] = in(r, names[n]);
    return adze_concat(r->graph, x, n, dim_of(r, "x0"));
}

static adze_value build_reduce(run *r)
{
    static const char *const names[] = { "sum", "mean", "var", "norm", "max", "argmax" };
    const char *fn = golden_string(r->attrs, "fn", "");
    for (int i = 0; i < 6; i++)
        if (strcmp(names[i], fn) == 0)
            return adze_reduce(r->graph, in(r, "x"), i > ADZE_REDUCE_MAX ? ADZE_REDUCE_MAX : (adze_reduce_fn)i, dim_of(r, "x"),
                               flag(r, "keepdim"), &r->second);
    return ADZE_NONE;
}

static adze_value build_cosine(run *r)
{
    adze_value x = in(r, "x"), z = in(r, "z");
    int dim = dim_of(r, "x");
    if (flag(r, "flatten")) {
        adze_shape s = adze_graph_shape(r->graph, x), flat = ADZE_SHAPE(s.dim[0], adze_shape_span(&s, 1, s.rank));
        x = adze_reshape(r->graph, x, flat), z = adze_reshape(r->graph, z, flat);
        dim = 1;
    }
    return adze_cosine_similarity(r->graph, x, z, dim, real(r, "eps"));
}

/* (1,H,W) as (H,W) where the rows are what the loss is taken over. */
static adze_value squeezed(run *r, adze_value x)
{
    adze_shape s = adze_graph_shape(r->graph, x);
    return flag(r, "rows") ? adze_reshape(r->graph, x, ADZE_SHAPE(s.dim[1], s.dim[2])) : x;
}

static adze_value build_loss(run *r)
{
    static const struct {
        const char *name, *a, *b;
        adze_loss_fn fn;
    } losses[] = {
        { "mse_loss", "", "", ADZE_LOSS_MSE },
        { "l1_loss", "", "", ADZE_LOSS_L1 },
        { "smooth_l1_loss", "beta", "", ADZE_LOSS_SMOOTH_L1 },
        { "bce_with_logits", "", "", ADZE_LOSS_BCE_WITH_LOGITS },
        { "bce", "threshold", "", ADZE_LOSS_BCE },
        { "focal_bce", "threshold", "gamma", ADZE_LOSS_FOCAL_BCE },
        { "hinge", "margin", "", ADZE_LOSS_HINGE },
        { "neg_log_sigmoid", "", "", ADZE_LOSS_NEG_LOG_SIGMOID },
    };
    bool train = r->train;
    for (size_t i = 0; i < sizeof losses / sizeof *losses; i++) {
        if (strcmp(losses[i].name, r->op) != 0) continue;
        adze_value x = in(r, "x"), z = in(r, "z");
        r->train = false; /* a mask has no gradient */
        if (z == ADZE_NONE) z = in(r, "g");
        r->train = train;
        return adze_loss(r->graph, losses[i].fn, x, z, real(r, losses[i].a), real(r, losses[i].b));
    }
    if (strcmp(r->op, "cross_entropy") == 0) return adze_cross_entropy(r->graph, in(r, "x"), whole_numbers(r, "target"));
    if (strcmp(r->op, "focal_prob") != 0 && strcmp(r->op, "dice") != 0) return ADZE_NONE;
    adze_value x = in(r, "x");
    r->train = false;
    adze_value mask = in(r, "g");
    r->train = train;
    if (strcmp(r->op, "focal_prob") == 0)
        return adze_focal_prob(r->graph, x, mask, real(r, "threshold"), real(r, "gamma"), real(r, "smooth"));
    return adze_dice(r->graph, squeezed(r, x), squeezed(r, mask), real(r, "threshold"), flag(r, "complement"));
}

static adze_value build_layer_norm(run *r)
{
    adze_value x = in(r, "x"), gamma = param(r, "weight"), beta = param(r, "bias");
    return adze_layer_norm(r->graph, x, gamma, beta, (int)golden_int(r->attrs, "dims", 1), real(r, "eps"));
}

/* Instance normalisation: as many groups as channels. */
static adze_value build_group_norm(run *r)
{
    adze_value x = in(r, "x"), gamma = param(r, "weight"), beta = param(r, "bias");
    adze_shape s = adze_graph_shape(r->graph, x);
    return adze_group_norm(r->graph, x, gamma, beta, golden_int(r->attrs, "groups", s.dim[s.rank - 1]), real(r, "eps"));
}

static void read_mask(const run *r, adze_attention_opts *o)
{
    const json_t *mask = json_object_get(r->attrs, "mask");
    const char *kind = golden_string(mask, "kind", "");
    if (strcmp(kind, "causal") == 0) o->mask = ADZE_ATTENTION_CAUSAL;
    if (strcmp(kind, "neighbour") != 0) return;
    o->mask = ADZE_ATTENTION_NEIGHBOUR;
    o->grid[0] = golden_int(mask, "h", 0), o->grid[1] = golden_int(mask, "w", 0), o->half = golden_int(mask, "half", -1);
}

/* (B,h,L,d): heads are images here. Queries and keys that are not given are the values. */
static adze_value build_attention(run *r)
{
    static const char *const names[] = { "q", "k", "v" };
    adze_attention_opts o = ADZE_ATTENTION_OPTS;
    adze_value rows[3], v = in(r, "v");
    adze_shape s = { 0 };
    o.scale = real(r, "scale");
    read_mask(r, &o);
    for (int i = 2; i >= 0; i--) {
        adze_value x = i == 2 ? v : in(r, names[i]);
        if (x == ADZE_NONE) x = v;
        s = adze_graph_shape(r->graph, x);
        rows[i] = adze_reshape(r->graph, x, ADZE_SHAPE(s.dim[0] * s.dim[1], s.dim[2], s.dim[3]));
    }
    return adze_reshape(r->graph, adze_attention(r->graph, rows[0], rows[1], rows[2], in(r, "bias"), &o), s);
}

/* (L,B,...) as (B,L,...), or back with L and B exchanged; `name` of the order that does it. */
static adze_value exchanged(run *r, adze_value x, const char *name)
{
    adze_shape s = adze_graph_shape(r->graph, x);
    int64_t L = s.dim[0], B = s.dim[1], D = s.dim[2];
    float *order = malloc((size_t)(L * B) * sizeof *order);
    for (int64_t i = 0; i < L * B; i++) order[i] = (float)(i % L * B + i / L);
    adze_value index = extra(r, name, order, L * B);
    free(order);
    x = adze_index_select(r->graph, adze_reshape(r->graph, x, ADZE_SHAPE(L * B, D)), index, 0);
    return adze_reshape(r->graph, x, ADZE_SHAPE(B, L, D));
}

static adze_value build_mha(run *r)
{
    adze_attention_opts o = ADZE_ATTENTION_OPTS;
    adze_mha_params p = { .in_weight = param(r, "in_proj_weight"), .in_bias = param(r, "in_proj_bias"),
                          .out_weight = param(r, "out_proj.weight"), .out_bias = param(r, "out_proj.bias") };
    o.heads = golden_int(r->attrs, "heads", 1);
    read_mask(r, &o);
    adze_value q = exchanged(r, in(r, "q"), "order_q"), k = exchanged(r, in(r, "k"), "order_k"), v = exchanged(r, in(r, "v"), "order_v");
    return exchanged(r, adze_mha(r->graph, q, k, v, &p, &o), "order_y");
}

/* A sequence (B,K*C,L) or (B,K,C,L) as (B,K,L,C). */
static adze_value sequence(run *r, const char *name, int64_t B, int64_t K)
{
    tensor *t = find(r, name);
    int64_t L = t->shape[t->rank - 1], C = t->n / (B * K * L);
    memcpy(t->shape, (const int64_t[]){ B * K, C, 1, L }, 4 * sizeof *t->shape);
    t->rank = 4;
    return adze_reshape(r->graph, in(r, name), ADZE_SHAPE(B, K, L, C));
}

static adze_value build_selective_scan(run *r)
{
    const tensor *b = find(r, "B");
    int64_t B = b->shape[0], K = b->shape[1];
    adze_value u = sequence(r, "u", B, K), delta = sequence(r, "delta", B, K);
    adze_selective_scan_params p = { .A_logs = param(r, "A_logs"), .B = sequence(r, "B", B, K), .C = sequence(r, "C", B, K),
                                     .Ds = param(r, "Ds"), .delta_bias = param(r, "delta_bias") };
    r->second_name = "last_state";
    adze_value y = adze_selective_scan(r->graph, u, delta, &p, flag(r, "softplus"), &r->second);
    adze_shape s = adze_graph_shape(r->graph, y);
    return adze_reshape(r->graph, y, ADZE_SHAPE(B * K, 1, s.dim[2], s.dim[3]));
}

static adze_value build_dropout(run *r)
{
    bool train = r->train;
    adze_value x = in(r, "x");
    r->train = false;
    adze_value u = in(r, "u");
    r->train = train;
    return adze_dropout_mask(r->graph, x, u, real(r, "p"));
}

/* Operations along a dimension, and what else needs (N,H,W,C). */
static adze_value build_along_dim(run *r)
{
    const char *op = r->op;
    adze_graph *g = r->graph;
    if (strcmp(op, "concat") == 0) return build_concat(r);
    if (strcmp(op, "softmax") == 0) return adze_softmax(g, in(r, "x"), dim_of(r, "x"));
    if (strcmp(op, "log_softmax") == 0) return adze_log_softmax(g, in(r, "x"), dim_of(r, "x"));
    if (strcmp(op, "l2_normalize") == 0) {
        adze_l2_form form = strcmp(golden_string(r->attrs, "form", ""), "add") == 0 ? ADZE_L2_ADD : ADZE_L2_MAX;
        return adze_l2_normalize(g, in(r, "x"), dim_of(r, "x"), form, real(r, "eps"));
    }
    if (strcmp(op, "reduce") == 0) return build_reduce(r);
    if (strcmp(op, "topk") == 0)
        return adze_topk(g, in(r, "x"), golden_int(r->attrs, "k", 1), dim_of(r, "x"), flag(r, "largest"), &r->second);
    if (strcmp(op, "cosine_similarity") == 0) return build_cosine(r);
    if (strcmp(op, "cosine_loss") == 0) {
        adze_value x = in(r, "x"), z = in(r, "z");
        bool map = strcmp(golden_string(r->attrs, "form", ""), "map") == 0;
        return map ? adze_cosine_map_loss(g, x, z) : adze_cosine_loss(g, x, z);
    }
    if (strcmp(op, "index_select") == 0) return adze_index_select(g, in(r, "x"), whole_numbers(r, "index"), dim_of(r, "x"));
    if (strcmp(op, "index_put") == 0)
        return adze_index_put(g, in(r, "x"), whole_numbers(r, "index"), dim_of(r, "x"), golden_int(r->attrs, "size", 1));
    if (strcmp(op, "pixel_shuffle") == 0) return adze_pixel_shuffle(g, in(r, "x"), golden_int(r->attrs, "factor", 1), false);
    return build_loss(r);
}

/* ADZE_NONE without an error in the graph: this op or attribute is not known here. */
static adze_value build(run *r)
{
    const char *op = r->op;
    r->spatial = true;
    if (strncmp(op, "conv2d", 6) == 0 || strcmp(op, "conv_transpose2d") == 0) return build_conv(r);
    if (strcmp(op, "conv1d_causal") == 0) return build_conv1d(r);
    if (strcmp(op, "max_pool2d") == 0 || strcmp(op, "avg_pool2d") == 0) return build_pool(r);
    if (strcmp(op, "adaptive_avg_pool2d") == 0) {
        int out[2];
        pair(r, "out", 1, out);
        return adze_adaptive_pool2d(r->graph, in(r, "x"), out[0], out[1]);
    }
    if (strcmp(op, "interpolate") == 0) return build_interpolate(r);
    if (strcmp(op, "upfirdn_blur") == 0) return build_blur(r);
    if (strcmp(op, "batch_norm") == 0) return build_batch_norm(r);
    if (strcmp(op, "group_norm") == 0 || strcmp(op, "instance_norm") == 0) return build_group_norm(r);
    if (strcmp(op, "selective_scan") == 0) return build_selective_scan(r);
    if (strcmp(op, "unfold") == 0) return build_unfold(r);
    if (strcmp(op, "fused_leaky_relu") == 0) return build_fused_leaky_relu(r);
    adze_value y = build_along_dim(r);
    if (y != ADZE_NONE || adze_graph_check(r->graph) != ADZE_OK) return y;
    r->spatial = false;
    if (strcmp(op, "patch_expand") == 0) return adze_pixel_shuffle(r->graph, in(r, "x"), 2, true);
    if (strcmp(op, "layer_norm") == 0) return build_layer_norm(r);
    if (strcmp(op, "dropout_mask") == 0) return build_dropout(r);
    if (strcmp(op, "attention") == 0) return build_attention(r);
    if (strcmp(op, "mha") == 0) return build_mha(r);
    if (strcmp(op, "matmul") == 0)
        return adze_matmul(r->graph, in(r, "a"), in(r, "b"), flag(r, "transpose_a"), flag(r, "transpose_b"));
    if (strcmp(op, "adaptive_avg_pool1d") == 0)
        return adze_adaptive_pool1d(r->graph, in(r, "x"), golden_int(r->attrs, "out", 1));
    if (strcmp(op, "linear") == 0) return adze_linear(r->graph, in(r, "x"), param(r, "weight"), param(r, "bias"));
    y = build_binary(r);
    return y != ADZE_NONE ? y : build_act(r);
}

/* From our order (N,H,W,C), or patches as rows, to the case's. In place of `x`, which is freed. */
static float *turn_back(const run *r, float *x, adze_shape s)
{
    int64_t n = adze_shape_count(&s);
    float *y = malloc((size_t)n * sizeof *y);
    if (r->spatial && s.rank == 4) golden_nhwc_to_nchw(x, s.dim[0], s.dim[3], s.dim[1], s.dim[2], y);
    else if (r->rows && s.rank == 3) golden_nhwc_to_nchw(x, s.dim[0], s.dim[2], 1, s.dim[1], y);
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
    else if (r->rows && s.rank == 3) golden_nchw_to_nhwc(dy, s.dim[0], s.dim[2], 1, s.dim[1], turned);
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

static adze_status check_output(run *r, adze_plan *plan, const char *name, adze_value v)
{
    adze_shape s = adze_graph_shape(r->graph, v);
    if (!json_object_get(json_object_get(r->item, "values"), name)) return ADZE_OK;
    float *out = malloc((size_t)adze_shape_count(&s) * sizeof *out);
    adze_status st = adze_plan_read(plan, v, out);
    if (st == ADZE_OK) check(r, name, out, s);
    else free(out);
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
    if (r->second != ADZE_NONE) adze_graph_output(r->graph, r->second_name, r->second);
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
    TRY(check_output(r, plan, "y", y));
    if (r->second != ADZE_NONE) TRY(check_output(r, plan, r->second_name, r->second));
    for (int i = 0; i < r->n_inputs; i++) { /* running statistics that the operation moved */
        tensor *t = &r->input[i];
        int p = adze_params_find(params, t->name);
        if (p < 0 || !json_object_get(json_object_get(r->item, "values"), t->name)) continue;
        float *moved = malloc((size_t)t->n * sizeof *moved);
        st = adze_params_read(params, p, moved);
        if (st == ADZE_OK) check(r, t->name, moved, adze_shape_of(t->rank, t->shape));
        else free(moved);
        TRY(st);
    }
    if (r->train) TRY(check_grads(r, params, plan));
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
    run r = { .g = g, .item = item, .attrs = json_object_get(item, "attrs"), .op = golden_string(item, "op", ""), .train = train,
              .second = ADZE_NONE, .second_name = "index" };
    const char *name = golden_string(item, "name", "?");
    bool known = true;
    const char *key;
    json_t *spec;
    json_object_foreach(json_object_get(item, "inputs"), key, spec) {
        tensor *t = &r.input[r.n_inputs++];
        t->name = key, t->value = ADZE_NONE;
        t->data = golden_tensor(spec, t->shape, &t->rank, &t->n);
    }
    adze_status st = golden_context(g, &r.ctx);
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

/* Nearest rows: no operation of the graph but the memory bank's search. */
static void run_cdist(golden *g, const json_t *item)
{
    adze_status st = ADZE_OK;
    const json_t *attrs = json_object_get(item, "attrs"), *inputs = json_object_get(item, "inputs"), *values = json_object_get(item, "values");
    int64_t qs[8], ms[8], n;
    int rank, k = (int)golden_int(attrs, "k", 1);
    float *q = golden_tensor(json_object_get(inputs, "q"), qs, &rank, &n), *m = golden_tensor(json_object_get(inputs, "m"), ms, &rank, &n);
    n = qs[0] * k;
    float *dist = malloc((size_t)n * sizeof *dist), *index = malloc((size_t)n * sizeof *index);
    int32_t *row = malloc((size_t)n * sizeof *row);
    adze_bank *bank = NULL;
    adze_bank_opts opts = ADZE_BANK_OPTS;
    if (strcmp(g->device, "reference") == 0) opts.isa = ADZE_ISA_REFERENCE;
    TRY(adze_bank_create(&bank, ms[0], ms[1], &opts));
    TRY(adze_bank_append(bank, m, ms[0]));
    TRY(adze_bank_seal(bank));
    TRY(adze_bank_query(bank, q, qs[0], k, dist, row, NULL));
    for (int64_t i = 0; i < n; i++) {
        index[i] = (float)row[i];
        if (!json_is_true(json_object_get(attrs, "squared"))) dist[i] = sqrtf(dist[i]);
    }
    char label[256];
    snprintf(label, sizeof label, "%s.y", golden_string(item, "name", "?"));
    golden_check_value(g, label, json_object_get(values, "y"), dist, n, 1.0);
    snprintf(label, sizeof label, "%s.index", golden_string(item, "name", "?"));
    golden_check_value(g, label, json_object_get(values, "index"), index, n, 1.0);
done:
    if (st != ADZE_OK) golden_expect(g, golden_string(item, "name", "?"), false, "%s", adze_error_message());
    adze_bank_destroy(bank);
    free(q), free(m), free(dist), free(index), free(row);
}

bool golden_ops(golden *g)
{
    bool known = true;
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(g->root, "cases"), i, item) {
        if (strcmp(golden_string(item, "op", ""), "cdist") == 0) {
            run_cdist(g, item);
            continue;
        }
        bool here = run_case(g, item, false);
        if (here && json_object_get(item, "upstream")) here = run_case(g, item, true);
        known &= here;
    }
    return known;
}
