/* kernel_cases.c - the operations of ResNet-18, WRN-50, RD, PatchCore, SimpleNet, CFlow and DeSTSeg at their shapes, and families
 * of operations that no method trains yet at the shapes of those that will. Entry: kernel_case_at(). */
#include "bench/kernel_cases.h"

#include "core/ops.h"

const char *const kernel_inputs[KERNEL_INPUTS] = { "x", "z", "u", "m" };

int64_t kernel_side(kernel_size s, int64_t side)
{
    int64_t n = side / s.shrink;
    return n < 2 ? 2 : n;
}

int64_t kernel_rows(kernel_size s, int64_t rows)
{
    int64_t n = rows / (s.shrink * s.shrink);
    return n < 8 ? 8 : n;
}

static adze_value in(adze_graph *g, const char *name, adze_shape s) { return adze_graph_input(g, name, s); }
static adze_value param(adze_graph *g, const char *name, adze_shape s, bool trainable) { return adze_graph_param(g, name, s, trainable); }

/* (N,H,H,C) of the benchmark. */
static adze_shape map(kernel_size s, int64_t H, int64_t C)
{
    const int64_t side = kernel_side(s, H);
    return ADZE_SHAPE(s.N, side, side, C);
}

/* ---- convolutions ---- */

typedef struct {
    int64_t H, C, Co, k;
    int stride;
} conv_shape;

static const conv_shape convs[] = {
    { 256, 3, 64, 7, 2 },                                              /* the stem of every ResNet */
    { 64, 64, 64, 3, 1 },    { 64, 64, 128, 3, 2 },  { 64, 64, 128, 1, 2 },  { 32, 128, 128, 3, 1 }, /* ResNet-18 */
    { 32, 128, 256, 3, 2 },  { 16, 256, 256, 3, 1 }, { 16, 256, 512, 3, 2 }, { 8, 512, 512, 3, 1 },
    { 64, 64, 128, 1, 1 },   { 64, 128, 128, 3, 1 }, { 64, 128, 256, 1, 1 }, { 64, 256, 256, 3, 2 }, /* WRN-50 */
    { 32, 512, 256, 1, 1 },  { 32, 256, 256, 3, 1 }, { 16, 1024, 512, 1, 1 }, { 16, 512, 512, 3, 1 }, { 16, 512, 1024, 1, 1 },
};

static adze_conv2d_opts conv_opts(int64_t k, int stride)
{
    adze_conv2d_opts o = ADZE_CONV2D_OPTS;
    for (int i = 0; i < 4; i++) o.pad[i] = (int)k / 2;
    for (int i = 0; i < 2; i++) o.stride[i] = stride;
    return o;
}

static adze_value build_conv(adze_graph *g, kernel_size s, int which)
{
    const conv_shape *c = &convs[which];
    adze_conv2d_opts o = conv_opts(c->k, c->stride);
    return adze_conv2d(g, in(g, "x", map(s, c->H, c->C)), param(g, "w", ADZE_SHAPE(c->Co, c->C, c->k, c->k), true), ADZE_NONE, &o);
}

/* What surrounds a convolution: folded statistics, activations and residuals of a frozen network; a bias with its gradient; uneven
 * padding; the transposed one of RD's decoder. */
static adze_value build_conv_with(adze_graph *g, kernel_size s, int which)
{
    static const adze_act acts[] = { ADZE_ACT_RELU, ADZE_ACT_RELU, ADZE_ACT_RELU6, ADZE_ACT_SILU };
    adze_conv2d_opts o = conv_opts(3, 1);
    const adze_shape filter = ADZE_SHAPE(128, 128, 3, 3);
    if (which == 4) return adze_conv2d(g, in(g, "x", map(s, 32, 128)), param(g, "w", filter, true), param(g, "b", ADZE_SHAPE(128), true), &o);
    if (which == 5) {
        o.stride[0] = o.stride[1] = 2, o.pad[0] = o.pad[1] = 0;
        return adze_conv2d(g, in(g, "x", map(s, 32, 128)), param(g, "w", filter, false), ADZE_NONE, &o);
    }
    if (which == 6) {
        o = conv_opts(0, 2);
        return adze_conv_transpose2d(g, in(g, "x", map(s, 16, 256)), param(g, "w", ADZE_SHAPE(256, 128, 2, 2), true), ADZE_NONE, &o);
    }
    adze_value p[4], y = adze_conv2d(g, in(g, "x", map(s, 32, 128)), param(g, "w", filter, false), ADZE_NONE, &o);
    for (int i = 0; i < 4; i++) p[i] = param(g, (const char *[]){ "gamma", "beta", "mean", "var" }[i], ADZE_SHAPE(128), false);
    y = adze_batch_norm(g, y, p[0], p[1], p[2], p[3], 1e-5f);
    if (which == 1) y = adze_binary(g, ADZE_BINARY_ADD, y, in(g, "z", map(s, 32, 128)));
    return adze_activation(g, y, acts[which], 0.0f, 0.0f);
}

/* ---- matrix products ---- */

static adze_value build_product(adze_graph *g, kernel_size s, int which)
{
    switch (which) {
    case 0: /* SimpleNet's projection of 32x32 positions */
        return adze_linear(g, in(g, "x", ADZE_SHAPE(s.N * kernel_rows(s, 1024), 1536)), param(g, "w", ADZE_SHAPE(1536, 1536), true), ADZE_NONE);
    case 1: /* its discriminator */
        return adze_linear(g, in(g, "x", ADZE_SHAPE(s.N * kernel_rows(s, 1024), 1536)), param(g, "w", ADZE_SHAPE(1024, 1536), true),
                           param(g, "b", ADZE_SHAPE(1024), true));
    case 2: /* one fibre of CFlow's second level: C/2 + 128 to C + 256 */
        return adze_linear(g, in(g, "x", ADZE_SHAPE(256, 640)), param(g, "w", ADZE_SHAPE(1280, 640), true), param(g, "b", ADZE_SHAPE(1280), true));
    case 3: /* tokens of a transformer */
        return adze_linear(g, in(g, "x", ADZE_SHAPE(s.N, kernel_rows(s, 256), 768)), param(g, "w", ADZE_SHAPE(768, 768), true), ADZE_NONE);
    default: {
        const int64_t L = kernel_rows(s, 256);
        return adze_matmul(g, in(g, "x", ADZE_SHAPE(s.N, L, 768)), in(g, "z", ADZE_SHAPE(s.N, L, 768)), false, true);
    }
    }
}

/* ---- normalisations ---- */

static adze_value build_norm(adze_graph *g, kernel_size s, int which)
{
    const int64_t C = which == 1 ? 512 : 256;
    adze_batch_norm_opts o = ADZE_BATCH_NORM_OPTS;
    adze_shape x = map(s, which == 1 ? 32 : 64, C);
    adze_value p[4];
    for (int i = 0; i < 4; i++) p[i] = param(g, (const char *[]){ "gamma", "beta", "mean", "var" }[i], ADZE_SHAPE(C), i < 2);
    o.relu = which != 3;
    if (which == 2) return adze_batch_norm(g, in(g, "x", x), p[0], p[1], p[2], p[3], 1e-5f);
    return adze_batch_norm_train(g, in(g, "x", x), p[0], p[1], p[2], p[3], which == 1 ? in(g, "z", x) : ADZE_NONE, &o);
}

static adze_value build_row_norm(adze_graph *g, kernel_size s, int which)
{
    const int64_t L = kernel_rows(s, 256);
    switch (which) {
    case 0: return adze_softmax(g, in(g, "x", ADZE_SHAPE(s.N, 8, L, 256)), -1);
    case 1: return adze_log_softmax(g, in(g, "x", ADZE_SHAPE(s.N, 8, L, 256)), -1);
    case 2: return adze_softmax(g, in(g, "x", map(s, 64, 64)), 1); /* across the memory */
    case 3:
        return adze_layer_norm(g, in(g, "x", ADZE_SHAPE(s.N, L, 768)), param(g, "w", ADZE_SHAPE(768), true), param(g, "b", ADZE_SHAPE(768), true),
                               1, 1e-5f);
    case 4: return adze_l2_normalize(g, in(g, "x", ADZE_SHAPE(s.N, kernel_rows(s, 1024), 1024)), -1, ADZE_L2_MAX, 1e-12f);
    case 5: return adze_l2_normalize(g, in(g, "x", ADZE_SHAPE(s.N, 8, 4096)), -1, ADZE_L2_MAX, 1e-12f); /* long lines */
    case 6: return adze_unit_product(g, in(g, "x", map(s, 64, 128)), in(g, "z", map(s, 64, 128)), 1e-8f);
    case 7:
        return adze_group_norm(g, in(g, "x", map(s, 64, 256)), param(g, "w", ADZE_SHAPE(256), true), param(g, "b", ADZE_SHAPE(256), true), 32,
                               1e-5f);
    default: return adze_group_norm(g, in(g, "x", map(s, 64, 256)), ADZE_NONE, ADZE_NONE, 256, 1e-5f); /* instance_norm */
    }
}

/* ---- elementwise ---- */

static adze_value build_activation(adze_graph *g, kernel_size s, int which)
{
    adze_value x = in(g, which == ADZE_ACT_LOG || which == ADZE_ACT_SQRT ? "u" : "x", map(s, 64, 256));
    if (which == ADZE_ACT_LOG || which == ADZE_ACT_SQRT) /* of numbers from 1 to 2 */
        x = adze_binary(g, ADZE_BINARY_ADD, x, param(g, "w", ADZE_SHAPE(1), false));
    return adze_activation(g, x, (adze_act)which, which == ADZE_ACT_LEAKY_RELU ? 0.2f : 1.9f, 2.0f);
}

static adze_value build_binary(adze_graph *g, kernel_size s, int which)
{
    adze_value x = in(g, "x", map(s, 64, 256));
    if (which < 4) return adze_binary(g, (adze_binary_fn)which, x, in(g, which == ADZE_BINARY_DIV ? "u" : "z", map(s, 64, 256)));
    if (which == 8) return adze_dropout_mask(g, x, in(g, "u", map(s, 64, 256)), 0.1f);
    if (which == 9) return adze_binary(g, ADZE_BINARY_MUL, x, in(g, "z", map(s, 64, 1))); /* a weight per position */
    return adze_binary(g, (adze_binary_fn)(which - 4), x, param(g, "w", ADZE_SHAPE(256), true));
}

/* ---- maps ---- */

static adze_value build_spatial(adze_graph *g, kernel_size s, int which)
{
    adze_pool2d_opts pool = { .kernel = { 3, 3 }, .stride = { 2, 2 }, .pad = { 1, 1, 1, 1 }, .max = which == 0 };
    adze_interpolate_opts resize = { .mode = ADZE_INTERPOLATE_BILINEAR, .out = { kernel_side(s, 32), kernel_side(s, 32) } };
    adze_unfold_opts unfold = { .kernel = { 3, 3 }, .stride = { 1, 1 }, .pad = { 1, 1 }, .dilation = { 1, 1 } };
    switch (which) {
    case 0:
    case 1: return adze_pool2d(g, in(g, "x", map(s, 128, 64)), &pool);
    case 2: return adze_interpolate(g, in(g, "x", map(s, 16, 1024)), &resize);
    case 3:
        resize.mode = ADZE_INTERPOLATE_NEAREST;
        return adze_interpolate(g, in(g, "x", map(s, 16, 256)), &resize);
    case 4: /* anomaly maps, one channel */
        resize.out[0] = resize.out[1] = kernel_side(s, 256), resize.align_corners = true;
        return adze_interpolate(g, in(g, "x", map(s, 64, 1)), &resize);
    case 5: return adze_adaptive_pool2d(g, in(g, "x", map(s, 8, 2048)), 1, 1);
    case 6: return adze_adaptive_pool1d(g, in(g, "x", ADZE_SHAPE(s.N, kernel_rows(s, 1024), 1536)), 1024);
    case 7: return adze_unfold(g, in(g, "x", map(s, 32, 128)), &unfold);
    case 8: return adze_concat(g, (adze_value[]){ in(g, "x", map(s, 16, 1024)), in(g, "z", map(s, 16, 1024)) }, 2, 3);
    case 9: return adze_slice(g, in(g, "x", map(s, 32, 512)), 3, 256, 256);
    case 12: return adze_upfirdn_blur(g, in(g, "x", map(s, 64, 256)), 2, 2, 4.0f);
    default: return adze_pixel_shuffle(g, in(g, "x", map(s, 16, 1024)), 2, which == 11);
    }
}

static adze_value build_embed(adze_graph *g, kernel_size s, int which)
{
    adze_value f[2] = { in(g, "x", map(s, 32, which ? 128 : 512)), in(g, "z", map(s, 16, which ? 256 : 1024)) };
    return adze_patch_embed(g, f, 2, &(adze_patch_embed_opts){ .patch = 3, .pretrain_dim = 1024, .target_dim = 1024 });
}

static adze_value build_gather(adze_graph *g, kernel_size s, int which)
{
    const int64_t L = kernel_rows(s, 1024);
    adze_value index;
    if (which == 0) return adze_topk(g, in(g, "x", ADZE_SHAPE(s.N, L)), L / 8, -1, true, &index);
    adze_topk(g, in(g, "z", ADZE_SHAPE(L)), L, -1, true, &index); /* a permutation */
    adze_value x = in(g, "x", ADZE_SHAPE(s.N, L, 256));
    return which == 1 ? adze_index_select(g, x, index, 1) : adze_index_put(g, x, index, 1, L);
}

/* ---- sums and losses ---- */

static adze_value build_reduce(adze_graph *g, kernel_size s, int which)
{
    const adze_reduce_fn fn = (adze_reduce_fn)(which % 5);
    if (which < 5) return adze_reduce(g, in(g, "x", ADZE_SHAPE(s.N, kernel_rows(s, 4096), 64)), fn, 1, false, NULL); /* over positions */
    if (which < 10) return adze_reduce(g, in(g, "x", map(s, 64, 256)), fn, 3, false, NULL);                          /* over channels */
    return adze_reduce(g, in(g, "x", ADZE_SHAPE(s.N, 4096)), fn, 1, false, NULL);                                     /* long lines */
}

static adze_value build_loss(adze_graph *g, kernel_size s, int which)
{
    const adze_loss_fn fn = (adze_loss_fn)which;
    const bool probability = fn == ADZE_LOSS_BCE || fn == ADZE_LOSS_FOCAL_BCE;
    adze_value x = in(g, probability ? "u" : "x", map(s, 64, 256));
    return adze_loss(g, fn, x, fn == ADZE_LOSS_NEG_LOG_SIGMOID ? ADZE_NONE : in(g, probability ? "m" : "z", map(s, 64, 256)), 0.5f, 2.0f);
}

static adze_value build_segmentation(adze_graph *g, kernel_size s, int which)
{
    const int64_t H = kernel_side(s, 256);
    adze_value mask = in(g, "m", ADZE_SHAPE(s.N, H, H));
    if (which == 0) return adze_dice(g, in(g, "u", ADZE_SHAPE(s.N, H, H)), mask, 0.5f, false);
    adze_value x = in(g, "x", ADZE_SHAPE(s.N, H, H, 2));
    if (which == 1) return adze_focal_prob(g, adze_softmax(g, x, -1), mask, 0.5f, 4.0f, 1e-5f);
    return adze_cross_entropy(g, x, adze_binary(g, ADZE_BINARY_SUB, mask, mask)); /* class 0 everywhere */
}

static adze_value build_cosine(adze_graph *g, kernel_size s, int which)
{
    adze_value x = in(g, "x", map(s, 64, 256)), z = in(g, "z", map(s, 64, 256));
    return which == 0 ? adze_cosine_loss(g, x, z) : which == 1 ? adze_cosine_map(g, x, z) : adze_cosine_map_loss(g, x, z);
}

/* A fibre of CFlow: 256 rows of its first level, of its third one for the likelihood. */
static adze_value build_flow(adze_graph *g, kernel_size s, int which)
{
    const int64_t R = kernel_rows(s, 256), C = which == 3 ? 2048 : 512, P = 128, M = 2 * (C / 2 + P);
    if (which >= 2) return adze_flow_logp(g, in(g, "x", ADZE_SHAPE(R * C + R)), C);
    adze_coupling_opts o = ADZE_COUPLING_OPTS;
    o.inverse = which == 1;
    const adze_coupling_params p = { .w1 = param(g, "w1", ADZE_SHAPE(M, C / 2 + P), true), .b1 = param(g, "b1", ADZE_SHAPE(M), true),
                                     .w2 = param(g, "w2", ADZE_SHAPE(C, M), true), .b2 = param(g, "b2", ADZE_SHAPE(C), true),
                                     .scale = param(g, "scale", ADZE_SHAPE(1, C), true), .offset = param(g, "offset", ADZE_SHAPE(1, C), true),
                                     .w_perm = param(g, "w_perm", ADZE_SHAPE(C, C), false) };
    return adze_coupling(g, in(g, "x", ADZE_SHAPE(R * C + R)), in(g, "z", ADZE_SHAPE(R, P)), &p, &o);
}

static const kernel_case cases[] = {
    { "conv 7x7/2 3-64", build_conv, 0, true },          { "conv 3x3 64", build_conv, 1, true },
    { "conv 3x3/2 64-128", build_conv, 2, true },        { "conv 1x1/2 64-128", build_conv, 3, true },
    { "conv 3x3 128", build_conv, 4, true },             { "conv 3x3/2 128-256", build_conv, 5, true },
    { "conv 3x3 256", build_conv, 6, true },             { "conv 3x3/2 256-512", build_conv, 7, true },
    { "conv 3x3 512", build_conv, 8, true },             { "conv 1x1 64-128", build_conv, 9, true },
    { "conv 3x3 128 at 64", build_conv, 10, true },      { "conv 1x1 128-256", build_conv, 11, true },
    { "conv 3x3/2 256", build_conv, 12, true },          { "conv 1x1 512-256", build_conv, 13, true },
    { "conv 3x3 256 at 32", build_conv, 14, true },      { "conv 1x1 1024-512", build_conv, 15, true },
    { "conv 3x3 512 at 16", build_conv, 16, true },      { "conv 1x1 512-1024", build_conv, 17, true },
    { "conv+bn+relu", build_conv_with, 0, false },       { "conv+bn+add+relu", build_conv_with, 1, false },
    { "conv+bn+relu6", build_conv_with, 2, false },      { "conv+bn+silu", build_conv_with, 3, false },
    { "conv+bias", build_conv_with, 4, true },           { "conv uneven pad", build_conv_with, 5, false },
    { "conv_transpose", build_conv_with, 6, true },      { "linear 1536", build_product, 0, true },
    { "linear 1536-1024+b", build_product, 1, true },    { "linear fibre", build_product, 2, true },
    { "linear tokens", build_product, 3, true },         { "matmul", build_product, 4, true },
    { "bn+relu", build_norm, 0, true },                  { "bn+add+relu", build_norm, 1, true },
    { "batch_norm", build_norm, 2, true },               { "bn", build_norm, 3, true },
    { "softmax", build_row_norm, 0, true },              { "log_softmax", build_row_norm, 1, true },
    { "softmax of columns", build_row_norm, 2, true },   { "layer_norm", build_row_norm, 3, true },
    { "l2_normalize", build_row_norm, 4, true },         { "l2_normalize long", build_row_norm, 5, true },
    { "unit_product", build_row_norm, 6, true },         { "group_norm", build_row_norm, 7, true },
    { "instance_norm", build_row_norm, 8, true },        { "relu", build_activation, ADZE_ACT_RELU, true },
    { "relu6", build_activation, ADZE_ACT_RELU6, true }, { "leaky_relu", build_activation, ADZE_ACT_LEAKY_RELU, true },
    { "gelu", build_activation, ADZE_ACT_GELU, true },   { "gelu_tanh", build_activation, ADZE_ACT_GELU_TANH, true },
    { "quick_gelu", build_activation, ADZE_ACT_QUICK_GELU, true }, { "silu", build_activation, ADZE_ACT_SILU, true },
    { "sigmoid", build_activation, ADZE_ACT_SIGMOID, true },       { "tanh", build_activation, ADZE_ACT_TANH, true },
    { "softplus", build_activation, ADZE_ACT_SOFTPLUS, true },     { "log_sigmoid", build_activation, ADZE_ACT_LOG_SIGMOID, true },
    { "exp", build_activation, ADZE_ACT_EXP, true },               { "log", build_activation, ADZE_ACT_LOG, true },
    { "sqrt", build_activation, ADZE_ACT_SQRT, true },             { "soft_clamp", build_activation, ADZE_ACT_SOFT_CLAMP, true },
    { "add", build_binary, 0, true },                    { "sub", build_binary, 1, true },
    { "mul", build_binary, 2, true },                    { "div", build_binary, 3, false },
    { "add per channel", build_binary, 4, true },        { "sub per channel", build_binary, 5, true },
    { "mul per channel", build_binary, 6, true },        { "div per channel", build_binary, 7, true },
    { "dropout", build_binary, 8, true },                { "mul per position", build_binary, 9, true },
    { "max_pool2d", build_spatial, 0, true },            { "mean_pool2d", build_spatial, 1, true },
    { "bilinear", build_spatial, 2, true },              { "nearest", build_spatial, 3, true },
    { "bilinear of maps", build_spatial, 4, true },      { "global mean", build_spatial, 5, true },
    { "adaptive_pool1d", build_spatial, 6, true },       { "unfold", build_spatial, 7, true },
    { "concat", build_spatial, 8, true },                { "slice", build_spatial, 9, true },
    { "pixel_shuffle", build_spatial, 10, true },        { "pixel_shuffle inner", build_spatial, 11, true },
    { "upfirdn_blur", build_spatial, 12, true },
    { "patch_embed", build_embed, 0, false },            { "patch_embed r18", build_embed, 1, false },
    { "topk", build_gather, 0, true },                   { "index_select", build_gather, 1, true },
    { "index_put", build_gather, 2, true },              { "sum of positions", build_reduce, 0, true },
    { "mean of positions", build_reduce, 1, true },      { "var of positions", build_reduce, 2, true },
    { "norm of positions", build_reduce, 3, true },      { "max of positions", build_reduce, 4, true },
    { "sum of channels", build_reduce, 5, true },        { "mean of channels", build_reduce, 6, true },
    { "var of channels", build_reduce, 7, true },        { "norm of channels", build_reduce, 8, true },
    { "max of channels", build_reduce, 9, true },        { "sum of lines", build_reduce, 10, true },
    { "mean of lines", build_reduce, 11, true },         { "var of lines", build_reduce, 12, true },
    { "norm of lines", build_reduce, 13, true },         { "max of lines", build_reduce, 14, true },
    { "mse", build_loss, ADZE_LOSS_MSE, true },          { "l1", build_loss, ADZE_LOSS_L1, true },
    { "smooth_l1", build_loss, ADZE_LOSS_SMOOTH_L1, true },        { "bce_with_logits", build_loss, ADZE_LOSS_BCE_WITH_LOGITS, true },
    { "bce", build_loss, ADZE_LOSS_BCE, true },          { "focal_bce", build_loss, ADZE_LOSS_FOCAL_BCE, true },
    { "hinge", build_loss, ADZE_LOSS_HINGE, true },      { "neg_log_sigmoid", build_loss, ADZE_LOSS_NEG_LOG_SIGMOID, true },
    { "dice", build_segmentation, 0, true },             { "focal_prob", build_segmentation, 1, true },
    { "cross_entropy", build_segmentation, 2, true },    { "cosine loss", build_cosine, 0, true },
    { "cosine map", build_cosine, 1, true },             { "cosine map loss", build_cosine, 2, true },
    { "coupling 512", build_flow, 0, true },             { "coupling 512 inverse", build_flow, 1, false },
    { "flow_logp 512", build_flow, 2, true },            { "flow_logp 2048", build_flow, 3, true },
};

int kernel_case_count(void) { return sizeof cases / sizeof *cases; }
const kernel_case *kernel_case_at(int i) { return &cases[i]; }
