/* test_ops_train.c - gradients of the ops that training needs, on odd shapes: against a central difference along a random
 * direction, the kernels against the reference, a value used twice, and twice the same bits whatever the threads.
 * ADZE_TEST_DEVICE names the device whose kernels are meant: cpu, cuda, cusim. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/context.h"
#include "core/isa.h"
#include "core/memory.h"
#include "core/op.h"
#include "core/ops.h"
#include "core/params.h"
#include "core/philox.h"
#include "core/plan.h"

typedef adze_value (*builder)(adze_graph *g, int which);

typedef struct {
    const char *name;
    builder build;
    int which;
    double K;    /* terms per output element */
    bool smooth; /* no kinks: a difference quotient is meaningful everywhere */
} op_case;

typedef struct {
    bool reference, twice; /* twice: y = op(x) + op(x), so that every gradient is written and then added to */
    int threads;
    double step; /* how far inputs and parameters are moved along the direction */
} run_opts;

/* y, then every wanted gradient; and where the inputs' gradients start. */
typedef struct {
    float *data;
    int64_t n, n_y;
    double slope; /* <gradient, direction> */
    double value; /* <seed, y> */
    double noise; /* root of the summed squares of the terms of `value` */
} outcome;

/* What an input holds follows from its first letter: x, z in [-1,1); p a probability; u in [0,1); k whole numbers below 5. */
static void fill(const char *name, float *x, int64_t n, uint32_t item)
{
    adze_philox_fill_uniform((adze_philox){ .seed = 11, .stream = ADZE_STREAM_TEST, .item = item }, 0, x, n);
    for (int64_t i = 0; i < n; i++) {
        if (name[0] == 'p') x[i] = 0.2f + 0.6f * x[i];
        else if (name[0] == 'k') x[i] = floorf(5.0f * x[i]);
        else if (name[0] != 'u') x[i] = 2.0f * x[i] - 1.0f;
    }
}

static bool wants_gradient(const char *name)
{
    return name[0] != 'k' && name[0] != 'u' && name[0] != 'm';
}

static void move(float *x, int64_t n, uint32_t item, double step, float *direction)
{
    fill("x", direction, n, 1000 + item);
    for (int64_t i = 0; i < n; i++) x[i] = (float)(x[i] + step * direction[i]);
}

static double dot(const float *a, const float *b, int64_t n)
{
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) sum += (double)a[i] * b[i];
    return sum;
}

enum { MAX_FLOATS = 1 << 20 };
static const char *const inputs[] = { "x", "z", "p", "u", "k", "m", "x2", "p2" };
enum { N_INPUTS = sizeof inputs / sizeof *inputs };

/* Where the kernels run; the reference always does on the cpu. */
static const char *device(void)
{
    const char *name = getenv("ADZE_TEST_DEVICE");
    return name ? name : "cpu";
}

/* Matrix products run through libraries; others are no part of a trained method
 * yet; padding on one side alone is none of cuDNN's gradients. */
static bool has_own_kernel(const char *op, const char *name)
{
    if (strcmp(op, "conv2d") == 0 && strncmp(name, "conv1d_causal", strlen("conv1d_causal")) == 0) return false;
    static const char *const products[] = { "linear", "matmul", "attention", "selective_scan" };
    for (size_t i = 0; i < sizeof products / sizeof *products; i++)
        if (strcmp(op, products[i]) == 0) return false;
    return true;
}

static outcome run(const op_case *test, run_opts o)
{
    adze_ctx *ctx;
    adze_graph *g;
    adze_params *params;
    adze_plan *plan;
    adze_ctx_opts ctx_opts = ADZE_CTX_OPTS;
    outcome out = { .data = malloc(MAX_FLOATS * sizeof(float)) };
    float *buffer = malloc(MAX_FLOATS * sizeof *buffer), *direction = malloc(MAX_FLOATS * sizeof *direction);
    ctx_opts.reference_only = o.reference;
    ctx_opts.threads = o.threads;
    ctx_opts.device = o.reference ? "cpu" : device();
    if (adze_ctx_create(&ctx, &ctx_opts) != ADZE_OK) fail_msg("%s", adze_error_message());
    assert_int_equal(adze_graph_create(&g), ADZE_OK);
    adze_value y = test->build(g, test->which);
    if (o.twice) y = adze_binary(g, ADZE_BINARY_ADD, y, test->build(g, test->which));
    adze_graph_output(g, "y", y);
    for (int i = 0; i < N_INPUTS; i++)
        if (wants_gradient(inputs[i])) adze_graph_want_grad(g, adze_graph_find(g, inputs[i]));
    if (adze_graph_check(g) != ADZE_OK) fail_msg("%s: %s", test->name, adze_error_message());
    assert_int_equal(adze_params_create(&params, ctx, g), ADZE_OK);
    for (int i = 0; i < adze_params_count(params); i++) {
        adze_shape s = adze_params_shape(params, i);
        fill("x", buffer, adze_shape_count(&s), 100 + (uint32_t)i);
        move(buffer, adze_shape_count(&s), 100 + (uint32_t)i, o.step, direction);
        assert_int_equal(adze_params_write(params, i, buffer), ADZE_OK);
    }
    adze_plan_opts opts = { .loss = y };
    if (adze_plan_create(&plan, ctx, g, params, &opts) != ADZE_OK) fail_msg("%s: %s", test->name, adze_error_message());
    for (int32_t i = 0; i < adze_plan_step_count(plan); i++) {
        adze_plan_step step = adze_plan_step_at(plan, i);
        if (has_own_kernel(step.op, test->name) && strstr(step.kernel, "(host)")) fail_msg("%s: %s has no kernel", test->name, step.op);
    }
    for (uint32_t i = 0; i < N_INPUTS; i++) {
        adze_value v = adze_graph_find(g, inputs[i]);
        if (v == ADZE_NONE) continue;
        adze_shape s = adze_graph_shape(g, v);
        fill(inputs[i], buffer, adze_shape_count(&s), i);
        if (wants_gradient(inputs[i])) move(buffer, adze_shape_count(&s), i, o.step, direction);
        assert_int_equal(adze_plan_write(plan, v, buffer), ADZE_OK);
    }
    adze_shape s = adze_graph_shape(g, y);
    out.n = out.n_y = adze_shape_count(&s);
    fill("x", buffer, out.n_y, 77);
    assert_int_equal(adze_plan_write_seed(plan, buffer), ADZE_OK);
    size_t live = adze_memory_live_bytes();
    for (int i = 0; i < 2; i++) /* a second run must not depend on the first */
        if (adze_plan_run(plan) != ADZE_OK) fail_msg("%s: %s", test->name, adze_error_message());
    assert_true(adze_memory_live_bytes() == live);
    assert_int_equal(adze_plan_read(plan, y, out.data), ADZE_OK);
    out.value = dot(out.data, buffer, out.n_y);
    for (int64_t i = 0; i < out.n_y; i++) out.noise += pow((double)out.data[i] * buffer[i], 2.0);
    out.noise = sqrt(out.noise);
    for (uint32_t i = 0; i < N_INPUTS; i++) {
        adze_value v = adze_graph_find(g, inputs[i]);
        if (v == ADZE_NONE || !wants_gradient(inputs[i])) continue;
        s = adze_graph_shape(g, v);
        assert_int_equal(adze_plan_read_grad(plan, v, out.data + out.n), ADZE_OK);
        fill("x", direction, adze_shape_count(&s), 1000 + i);
        out.slope += dot(out.data + out.n, direction, adze_shape_count(&s));
        out.n += adze_shape_count(&s);
    }
    for (int i = 0; i < adze_params_count(params); i++) {
        if (!adze_params_trainable(params, i)) continue;
        s = adze_params_shape(params, i);
        assert_int_equal(adze_params_read_grad(params, i, out.data + out.n), ADZE_OK);
        fill("x", direction, adze_shape_count(&s), 1100 + (uint32_t)i);
        out.slope += dot(out.data + out.n, direction, adze_shape_count(&s));
        out.n += adze_shape_count(&s);
    }
    assert_true(out.n < MAX_FLOATS);
    adze_plan_destroy(plan);
    adze_params_destroy(params);
    adze_graph_destroy(g);
    adze_ctx_destroy(ctx);
    free(buffer), free(direction);
    return out;
}

/* ---- the cases ---- */

static adze_value known_or_new(adze_graph *g, const char *name, adze_shape shape)
{
    adze_value v = adze_graph_find(g, name);
    return v != ADZE_NONE ? v : adze_graph_input(g, name, shape);
}
#define IN(name, ...) known_or_new(g, name, ADZE_SHAPE(__VA_ARGS__))

static adze_value build_concat(adze_graph *g, int dim)
{
    adze_value x[3] = { IN("x", 2, 3, 5, 7), ADZE_NONE, ADZE_NONE };
    x[1] = dim == 1 ? IN("z", 2, 1, 5, 7) : IN("z", 2, 3, 5, 31);
    x[2] = x[0]; /* one operand twice */
    return adze_concat(g, x, 3, dim);
}

static adze_value build_softmax(adze_graph *g, int which)
{
    adze_value x = which & 2 ? IN("x", 3, 33, 5) : IN("x", 3, 5, 31);
    int dim = which & 2 ? 1 : -1;
    return which & 1 ? adze_log_softmax(g, x, dim) : adze_softmax(g, x, dim);
}

static adze_value build_l2_normalize(adze_graph *g, int which)
{
    adze_value x = which & 2 ? IN("x", 2, 13, 5, 3) : IN("x", 7, 33);
    return adze_l2_normalize(g, x, which & 2 ? 1 : -1, which & 1 ? ADZE_L2_ADD : ADZE_L2_MAX, which & 4 ? 50.0f : 1e-3f);
}

static adze_value build_reduce(adze_graph *g, int which)
{
    return adze_reduce(g, IN("x", 5, 31, 3), (adze_reduce_fn)(which / 3), which % 3, which % 2 == 0, NULL);
}

static adze_value build_topk(adze_graph *g, int which)
{
    return adze_topk(g, IN("x", 5, 31, 3), which ? 31 : 7, 1, which, NULL);
}

static adze_value build_cosine(adze_graph *g, int which)
{
    adze_value x = which < 3 ? IN("x", 2, 7, 5, 33) : IN("x", 3, 31, 33, 17), z = which < 3 ? IN("z", 2, 7, 5, 33) : IN("z", 3, 31, 33, 17);
    switch (which) {
    case 0: return adze_cosine_map(g, x, z);
    case 1: return adze_cosine_similarity(g, x, z, 1, 1e-8f);
    case 2: return adze_cosine_similarity(g, x, z, -1, 1e-8f);
    case 3: return adze_cosine_loss(g, x, z);
    default: return adze_cosine_map_loss(g, x, z);
    }
}

static adze_value build_unit_product(adze_graph *g, int which)
{
    adze_value x = which & 1 ? IN("x", 37) : IN("x", 2, 5, 3, 33), z = which & 1 ? IN("z", 37) : IN("z", 2, 5, 3, 33);
    return adze_unit_product(g, x, z, which & 2 ? 0.5f : 1e-12f);
}

static adze_value build_matmul(adze_graph *g, int which)
{
    bool ta = which & 1, tb = which & 2, shared = which & 4;
    adze_value a = ta ? IN("x", 3, 17, 13) : IN("x", 3, 13, 17), b;
    if (shared) b = tb ? IN("z", 31, 17) : IN("z", 17, 31);
    else b = tb ? IN("z", 3, 31, 17) : IN("z", 3, 17, 31);
    return adze_matmul(g, a, b, ta, tb);
}

static adze_value build_linear(adze_graph *g, int which)
{
    adze_value x = which == 2 ? IN("x", 1, 1) : IN("x", 2, 13, 33);
    int64_t K = which == 2 ? 1 : 33;
    adze_value b = which == 1 ? ADZE_NONE : adze_graph_param(g, "b", ADZE_SHAPE(31), true);
    return adze_linear(g, x, adze_graph_param(g, "w", ADZE_SHAPE(31, K), true), b);
}

static adze_value build_rearranged(adze_graph *g, int which)
{
    switch (which) {
    case 0: return adze_index_select(g, IN("x", 3, 5, 7), IN("k", 11), 1);
    case 1: return adze_index_put(g, IN("x", 3, 11, 7), IN("k", 11), 1, 5);
    case 2: return adze_pixel_shuffle(g, IN("x", 1, 3, 5, 28), 2, false);
    case 3: return adze_pixel_shuffle(g, IN("x", 1, 3, 5, 27), 3, true);
    case 4: return adze_dropout_mask(g, IN("x", 5, 3, 7), IN("u", 5, 3, 7), 0.3f);
    case 5: return adze_dropout_mask(g, IN("x", 5, 3, 7), IN("u", 5, 1, 1), 0.5f);
    case 6: return adze_slice(g, IN("x", 3, 11, 7), 1, 4, 5);
    default: return adze_slice(g, IN("x", 31, 1), 0, 0, 31);
    }
}

static adze_value build_layer_norm(adze_graph *g, int which)
{
    adze_value gamma = which == 1 ? ADZE_NONE : adze_graph_param(g, "gamma", ADZE_SHAPE(31), true);
    adze_value beta = which == 1 ? ADZE_NONE : adze_graph_param(g, "beta", ADZE_SHAPE(31), true);
    return adze_layer_norm(g, IN("x", 3, 5, 31), gamma, beta, which == 1 ? 2 : 1, 1e-5f);
}

static adze_value build_group_norm(adze_graph *g, int groups)
{
    bool plain = groups == 31; /* instance normalisation */
    adze_value gamma = plain ? ADZE_NONE : adze_graph_param(g, "gamma", ADZE_SHAPE(33), true);
    adze_value beta = plain ? ADZE_NONE : adze_graph_param(g, "beta", ADZE_SHAPE(33), true);
    return adze_group_norm(g, plain ? IN("x", 2, 5, 7, 31) : IN("x", 2, 5, 7, 33), gamma, beta, groups, 1e-5f);
}

static adze_value build_blur(adze_graph *g, int before)
{
    return adze_upfirdn_blur(g, before == 3 ? IN("x", 2, 1, 2, 5) : IN("x", 2, 9, 7, 5), before, 2, before == 1 ? 4.0f : 1.0f);
}

/* K taps along L tokens; there may be fewer tokens than taps. */
static adze_value build_conv1d(adze_graph *g, int K)
{
    int64_t L = K == 7 ? 5 : 31, D = K == 4 ? 16 : 13;
    adze_value b = K == 1 ? ADZE_NONE : adze_graph_param(g, "b", ADZE_SHAPE(D), true);
    return adze_conv1d_causal(g, IN("x", 3, L, D), adze_graph_param(g, "w", ADZE_SHAPE(D, 1, 1, K), true), b);
}

/* 0: alone, 1: residual and ReLU, 2: leaky ReLU, 3: as 1, with channels for vectors. */
static adze_value build_batch_norm(adze_graph *g, int which)
{
    int64_t C = which == 3 ? 8 : 33;
    adze_value gamma = adze_graph_param(g, "gamma", ADZE_SHAPE(C), true), beta = adze_graph_param(g, "beta", ADZE_SHAPE(C), true);
    adze_value mean = adze_graph_param(g, "mean", ADZE_SHAPE(C), false), var = adze_graph_param(g, "var", ADZE_SHAPE(C), false);
    adze_batch_norm_opts o = ADZE_BATCH_NORM_OPTS;
    o.relu = which > 0, o.slope = which == 2 ? 0.2f : 0.0f;
    return adze_batch_norm_train(g, IN("x", 5, 7, C), gamma, beta, mean, var, which & 1 ? IN("z", 5, 7, C) : ADZE_NONE, &o);
}

/* What Winograd's algorithm takes: one piece of the batch and a bias, or several pieces and tiles that hang over. */
static adze_value build_conv3x3(adze_graph *g, int which)
{
    adze_conv2d_opts o = ADZE_CONV2D_OPTS;
    for (int i = 0; i < 4; i++) o.pad[i] = 1;
    adze_value x = which == 0 ? IN("x", 8, 16, 16, 16) : IN("x", 3, 62, 61, 16), b = ADZE_NONE;
    if (which == 0) b = adze_graph_param(g, "b", ADZE_SHAPE(32), true);
    return adze_conv2d(g, x, adze_graph_param(g, "w", ADZE_SHAPE(which == 0 ? 32 : 16, 16, 3, 3), true), b, &o);
}
/* Its transforms multiply by up to 5 and subtract: about ten times the error of plain sums, as of a hundred times the terms. */
enum { WINOGRAD_TERMS = 100 };

static adze_value build_loss(adze_graph *g, int fn)
{
    bool mask = fn == ADZE_LOSS_BCE || fn == ADZE_LOSS_FOCAL_BCE;
    adze_value x = mask ? IN("p", 3, 31, 7) : IN("x", 3, 31, 7);
    adze_value z = mask ? IN("m", 3, 31, 7) : fn == ADZE_LOSS_NEG_LOG_SIGMOID ? ADZE_NONE : IN("z", 3, 31, 7);
    return adze_loss(g, (adze_loss_fn)fn, x, z, fn == ADZE_LOSS_SMOOTH_L1 ? 4.0f : 0.3f, 4.0f);
}

static adze_value build_other_loss(adze_graph *g, int which)
{
    switch (which) {
    case 0: return adze_cross_entropy(g, IN("x", 13, 5), IN("k", 13));
    case 1: return adze_focal_prob(g, IN("p", 3, 7, 2), IN("m", 3, 7), 0.2f, 2.0f, 1e-5f);
    case 2: return adze_dice(g, IN("p", 3, 31), IN("m", 3, 31), 0.2f, false);
    default: return adze_dice(g, IN("p", 3, 31), IN("m", 3, 31), 0.2f, true);
    }
}

static adze_value build_activation(adze_graph *g, int act)
{
    return adze_activation(g, IN("p", 3, 31, 33), (adze_act)act, act == ADZE_ACT_SOFT_CLAMP ? 1.9f : 0.2f, 0.7f);
}

static adze_value build_binary(adze_graph *g, int which)
{
    adze_value x = IN("p", 5, 7, 31), z;
    switch (which / 4) {
    case 0: z = IN("x2", 5, 7, 31); break;
    case 3: z = x; break;
    case 1: z = adze_graph_param(g, "w", ADZE_SHAPE(31), true); break;
    default: z = IN("x2", 5, 1, 1); break;
    }
    if (which % 4 == ADZE_BINARY_DIV) return adze_binary(g, ADZE_BINARY_DIV, z, x);
    return adze_binary(g, (adze_binary_fn)(which % 4), x, z);
}

/* The gradient of the product lies in the memory of its own: nobody else wants it. */
static adze_value build_product_of_values(adze_graph *g, int which)
{
    adze_value x = adze_activation(g, IN("x", 5, 31), ADZE_ACT_TANH, 0.0f, 0.0f);
    adze_value z = adze_activation(g, IN("z", 5, 31), ADZE_ACT_SIGMOID, 0.0f, 0.0f);
    return adze_activation(g, adze_binary(g, (adze_binary_fn)which, x, z), ADZE_ACT_TANH, 0.0f, 0.0f);
}

static adze_value build_map(adze_graph *g, int which)
{
    adze_value x = IN("x", 2, 13, 11, 33);
    adze_pool2d_opts pool = { .kernel = { 3, 3 }, .stride = { 2, 2 }, .pad = { 1, 1, 1, 1 }, .max = true };
    if (which == 5) pool.kernel[0] = 5, pool.pad[0] = 2, pool.stride[1] = 1;
    adze_interpolate_opts resize = { .mode = ADZE_INTERPOLATE_BILINEAR, .out = { which & 2 ? 5 : 31, which & 2 ? 3 : 29 },
                                     .align_corners = which & 1 };
    return which >= 4 ? adze_pool2d(g, x, &pool) : adze_interpolate(g, x, &resize);
}

/* Channels that are multiples of a vector, and lines long enough for a whole block of a GPU. */
static adze_value build_wide(adze_graph *g, int which)
{
    bool two = which == 4 || which == 9 || which == 13;
    adze_value x = which < 6 ? IN("x", 2, 9, 7, 8) : which == 12 ? IN("p", 3, 2052) : IN("x", 3, 2052);
    adze_value z = !two ? ADZE_NONE : which < 6 ? IN("z", 2, 9, 7, 8) : IN("z", 3, 2052);
    adze_pool2d_opts pool = { .kernel = { 3, 2 }, .stride = { 2, 1 }, .pad = { 1, 0, 1, 1 }, .max = which == 0, .count_include_pad = which == 2 };
    switch (which) {
    case 0: case 1: case 2: return adze_pool2d(g, x, &pool);
    case 3: return adze_adaptive_pool2d(g, x, 4, 3);
    case 4: return adze_concat(g, (adze_value[]){ x, z }, 2, -1);
    case 5: return adze_slice(g, x, 3, 4, 4);
    case 6: return adze_softmax(g, x, -1);
    case 7: return adze_log_softmax(g, x, -1);
    case 8: return adze_l2_normalize(g, x, -1, ADZE_L2_MAX, 1e-3f);
    case 9: return adze_cosine_similarity(g, x, z, -1, 1e-8f);
    case 10: return adze_layer_norm(g, x, adze_graph_param(g, "gamma", ADZE_SHAPE(2052), true), ADZE_NONE, 1, 1e-5f);
    case 11: return adze_cross_entropy(g, x, IN("k", 3));
    case 12: return adze_dice(g, x, IN("m", 3, 2052), 0.2f, false);
    case 13: return adze_loss(g, ADZE_LOSS_MSE, x, z, 0.0f, 0.0f);
    default: return adze_reduce(g, x, (adze_reduce_fn)(which - 14), -1, false, NULL);
    }
}

static adze_value build_long_cosine(adze_graph *g, int which)
{
    return which ? adze_cosine_loss(g, IN("x", 2, 64, 65, 4), IN("z", 2, 64, 65, 4))
                 : adze_cosine_similarity(g, IN("x", 2, 33, 4), IN("z", 2, 33, 4), 1, 1e-8f);
}

/* No slope: the given statistics move along the direction too, and have no gradient. */
static adze_value build_batch_norm_eval(adze_graph *g, int C)
{
    return adze_batch_norm(g, IN("x", 3, 35, C), adze_graph_param(g, "gamma", ADZE_SHAPE(C), true), adze_graph_param(g, "beta", ADZE_SHAPE(C), true),
                           adze_graph_param(g, "mean", ADZE_SHAPE(C), false), adze_graph_param(g, "var", ADZE_SHAPE(C), false), 3.0f);
}

/* Bits: 1 bicubic, 8 down, 16 corners, 32 antialias, 64 channels for vectors, 128 nearest. */
static adze_value build_resized(adze_graph *g, int which)
{
    adze_interpolate_mode mode = which & 128 ? ADZE_INTERPOLATE_NEAREST : which & 1 ? ADZE_INTERPOLATE_BICUBIC : ADZE_INTERPOLATE_BILINEAR;
    adze_interpolate_opts o = { .mode = mode, .out = { which & 8 ? 5 : 23, which & 8 ? 3 : 17 },
                                .align_corners = which & 16, .antialias = which & 32 };
    return adze_interpolate(g, which & 64 ? IN("x", 2, 11, 7, 8) : IN("x", 2, 11, 7, 5), &o);
}

static adze_value build_patches(adze_graph *g, int which)
{
    adze_unfold_opts o = { .kernel = { 3, 2 }, .stride = { 2, 1 }, .pad = { 1, 1 }, .dilation = { 1, 2 } };
    if (which == 1) return adze_adaptive_pool1d(g, IN("x", 13, 31), 7);
    if (which == 3) return adze_adaptive_pool2d(g, IN("x", 2, 9, 7, 5), 1, 1);
    return which == 2 ? adze_adaptive_pool2d(g, IN("x", 2, 9, 7, 5), 11, 3) : adze_unfold(g, IN("x", 2, 9, 7, 5), &o);
}

static adze_value build_broadcast(adze_graph *g, int which)
{
    adze_value x = IN("p", 4, 5, 7, 3);
    return which < 4 ? adze_binary(g, (adze_binary_fn)which, IN("x2", 5, 1, 3), x)
                     : adze_binary(g, (adze_binary_fn)(which - 4), adze_reshape(g, x, ADZE_SHAPE(4, 105, 1)), IN("z", 1, 31));
}

/* 0: one block on rows; 1: two of them, the other clamp; 2: the smallest; 3: columns for vectors, and enough for a block of a GPU. */
static adze_value build_coupling(adze_graph *g, int which)
{
    static const struct {
        int64_t R, h, P, M;
    } sizes[] = { { 31, 7, 5, 33 }, { 31, 65, 5, 33 }, { 1, 1, 1, 1 }, { 5, 132, 8, 36 } };
    int64_t R = sizes[which].R, h = sizes[which].h, P = sizes[which].P, M = sizes[which].M, C = 2 * h;
    adze_value x = IN("x", R, C), cond = IN("z", R, P);
    adze_coupling_opts opts = ADZE_COUPLING_OPTS;
    opts.over_clamp = which == 1;
    for (int k = 0; k < (which == 1 ? 2 : 1); k++) {
        static const char *const name[2][7] = { { "w1", "b1", "w2", "b2", "scale", "offset", "perm" }, { "v1", "c1", "v2", "c2", "scale2", "offset2", "perm2" } };
        adze_coupling_params p;
        p.w1 = adze_graph_param(g, name[k][0], ADZE_SHAPE(M, h + P), true);
        p.b1 = adze_graph_param(g, name[k][1], ADZE_SHAPE(M), true);
        p.w2 = adze_graph_param(g, name[k][2], ADZE_SHAPE(C, M), true);
        p.b2 = adze_graph_param(g, name[k][3], ADZE_SHAPE(C), true);
        p.scale = adze_graph_param(g, name[k][4], ADZE_SHAPE(1, C), true);
        p.offset = adze_graph_param(g, name[k][5], ADZE_SHAPE(1, C), true);
        p.w_perm = adze_graph_param(g, name[k][6], ADZE_SHAPE(C, C), false);
        x = adze_coupling(g, x, cond, &p, &opts);
    }
    return x;
}

static adze_value build_flow_logp(adze_graph *g, int which)
{
    return adze_flow_logp(g, IN("x", which * 13 + 13), which);
}

/* 0: all keys, 1: causal, 2: bias, 3: neighbours, 4: queries, keys and values are one. */
static adze_value build_attention(adze_graph *g, int which)
{
    adze_attention_opts o = ADZE_ATTENTION_OPTS;
    o.heads = which == 1 ? 1 : 3;
    o.mask = which == 1 ? ADZE_ATTENTION_CAUSAL : which == 3 ? ADZE_ATTENTION_NEIGHBOUR : ADZE_ATTENTION_ALL;
    o.grid[0] = 3, o.grid[1] = 5, o.half = 1;
    if (which == 2) o.scale = 0.7f;
    adze_value q = IN("x", 2, 15, 33);
    if (which == 4) return adze_attention(g, q, q, q, ADZE_NONE, &o);
    int64_t S = which == 3 ? 15 : 31;
    adze_value bias = which == 2 ? adze_graph_param(g, "bias", ADZE_SHAPE(15, S), true) : ADZE_NONE;
    return adze_attention(g, q, IN("z", 2, S, 33), IN("x2", 2, S, 21), bias, &o);
}

static adze_value build_mha(adze_graph *g, int heads)
{
    adze_mha_params p = { .in_bias = ADZE_NONE, .out_bias = ADZE_NONE };
    p.in_weight = adze_graph_param(g, "in_w", ADZE_SHAPE(63, 21), true);
    p.out_weight = adze_graph_param(g, "out_w", ADZE_SHAPE(13, 21), true);
    if (heads > 1) {
        p.in_bias = adze_graph_param(g, "in_b", ADZE_SHAPE(63), true);
        p.out_bias = adze_graph_param(g, "out_b", ADZE_SHAPE(13), true);
    }
    adze_attention_opts o = ADZE_ATTENTION_OPTS;
    o.heads = heads;
    adze_value x = IN("x", 2, 7, 21), memory = IN("z", 2, 11, 21);
    return adze_mha(g, x, memory, memory, &p, &o);
}

/* 0: one group, 1: three, with the softplus; 2: as 1 without it, B and C are one. */
static adze_value build_selective_scan(adze_graph *g, int which)
{
    int64_t N = which == 0 ? 1 : 2, K = which == 0 ? 1 : 3, L = 13, D = 5, S = which == 0 ? 1 : 7;
    adze_value u = IN("x", N, K, L, D), delta = which == 2 ? IN("p", N, K, L, D) : IN("z", N, K, L, D);
    adze_selective_scan_params p = { .B = IN("x2", N, K, L, S) };
    p.C = which == 2 ? p.B : IN("p2", N, K, L, S);
    p.A_logs = adze_graph_param(g, "A_logs", ADZE_SHAPE(K * D, S), true);
    p.Ds = adze_graph_param(g, "Ds", ADZE_SHAPE(K * D), true);
    p.delta_bias = adze_graph_param(g, "delta_bias", ADZE_SHAPE(K * D), true);
    return adze_selective_scan(g, u, delta, &p, which < 2, NULL);
}

static const op_case cases[] = {
    { "max_pool2d 8", build_wide, 0, 6, false },       { "avg_pool2d 8", build_wide, 1, 6, true },
    { "avg_pool2d pad", build_wide, 2, 6, true },      { "adaptive 8", build_wide, 3, 12, true },
    { "concat 8", build_wide, 4, 1, true },            { "slice 8", build_wide, 5, 1, true },
    { "softmax long", build_wide, 6, 2052, true },     { "log_softmax long", build_wide, 7, 2052, true },
    { "l2 long", build_wide, 8, 2052, true },          { "cosine long", build_wide, 9, 2052, true },
    { "layer_norm long", build_wide, 10, 2052, true }, { "cross_entropy long", build_wide, 11, 2052, true },
    { "dice long", build_wide, 12, 2052, true },       { "mse long", build_wide, 13, 6156, true },
    { "sum long", build_wide, 14, 2052, true },        { "mean long", build_wide, 15, 2052, true },
    { "var long", build_wide, 16, 2052, true },        { "norm long", build_wide, 17, 2052, true },
    { "max long", build_wide, 18, 1, false },          { "cosine loss 4", build_long_cosine, 1, 16640, true },
    { "cosine across", build_long_cosine, 0, 33, true }, { "batch_norm", build_batch_norm_eval, 33, 105, false },
    { "batch_norm 8", build_batch_norm_eval, 8, 105, false }, { "bn 8", build_batch_norm, 3, 35, false },
    { "nearest up", build_resized, 128, 9, true },     { "nearest down", build_resized, 128 + 8 + 64, 1, true },
    { "bicubic up", build_resized, 1, 64, true },      { "bicubic down, corners", build_resized, 1 + 8 + 16, 64, true },
    { "bilinear wide", build_resized, 8 + 32 + 64, 64, true }, { "bicubic wide", build_resized, 1 + 8 + 32 + 64, 64, true },
    { "bilinear 8", build_resized, 64, 16, true },     { "bicubic up, corners", build_resized, 1 + 16, 64, true },
    { "unfold", build_patches, 0, 6, true },           { "adaptive 1d", build_patches, 1, 6, true },
    { "adaptive up", build_patches, 2, 6, true },      { "mean pool", build_patches, 3, 63, true },
    { "add inside", build_broadcast, 0, 28, true },    { "sub inside", build_broadcast, 1, 28, true },
    { "mul inside", build_broadcast, 2, 28, true },    { "div inside", build_broadcast, 3, 28, true },
    { "mul outer", build_broadcast, 6, 420, true },
    { "gelu", build_activation, ADZE_ACT_GELU, 1, true }, { "gelu_tanh", build_activation, ADZE_ACT_GELU_TANH, 1, true },
    { "quick_gelu", build_activation, ADZE_ACT_QUICK_GELU, 1, true }, { "softplus", build_activation, ADZE_ACT_SOFTPLUS, 1, false },
    { "log", build_activation, ADZE_ACT_LOG, 1, true }, { "sqrt", build_activation, ADZE_ACT_SQRT, 1, true },
    { "concat 1", build_concat, 1, 1, true },          { "concat last", build_concat, -1, 1, true },
    { "softmax last", build_softmax, 0, 31, true },    { "log_softmax last", build_softmax, 1, 31, true },
    { "softmax", build_softmax, 2, 33, true },         { "log_softmax", build_softmax, 3, 33, true },
    { "l2 max", build_l2_normalize, 0, 33, true },     { "l2 add", build_l2_normalize, 1, 33, true },
    { "l2 max 1", build_l2_normalize, 2, 13, true },   { "l2 clamp", build_l2_normalize, 4, 33, true },
    { "sum", build_reduce, 0, 5, true },               { "mean", build_reduce, 4, 31, true },
    { "var", build_reduce, 8, 3, true },               { "norm", build_reduce, 10, 31, true },
    { "max", build_reduce, 13, 31, false },            { "cosine map", build_cosine, 0, 33, true },
    { "topk smallest", build_topk, 0, 1, false },      { "topk all", build_topk, 1, 1, false },
    { "cosine 1", build_cosine, 1, 7, true },          { "cosine", build_cosine, 2, 33, true },
    { "cosine loss", build_cosine, 3, 17391, true },   { "cosine map loss", build_cosine, 4, 17, true },
    { "unit product", build_unit_product, 0, 33, true }, { "unit product (C)", build_unit_product, 1, 37, true },
    { "unit product, eps", build_unit_product, 2, 33, true },
    { "matmul nn", build_matmul, 0, 31, true },        { "matmul tn", build_matmul, 1, 31, true },
    { "matmul nt", build_matmul, 2, 31, true },        { "matmul tt", build_matmul, 3, 31, true },
    { "matmul shared", build_matmul, 4, 93, true },    { "matmul tn shared", build_matmul, 5, 93, true },
    { "matmul nt shared", build_matmul, 6, 93, true }, { "matmul tt shared", build_matmul, 7, 93, true },
    { "linear", build_linear, 0, 33, true },           { "linear, no bias", build_linear, 1, 33, true },
    { "linear 1", build_linear, 2, 31, true },         { "index_select", build_rearranged, 0, 11, true },
    { "index_put", build_rearranged, 1, 11, true },    { "pixel_shuffle", build_rearranged, 2, 1, true },
    { "patch expansion", build_rearranged, 3, 1, true }, { "dropout", build_rearranged, 4, 1, true },
    { "slice", build_rearranged, 6, 1, true },         { "slice all", build_rearranged, 7, 1, true },
    { "bn", build_batch_norm, 0, 35, true },           { "bn+add+relu", build_batch_norm, 1, 35, false },
    { "bn+leaky_relu", build_batch_norm, 2, 35, false },
    { "drop path", build_rearranged, 5, 1, true },     { "layer_norm", build_layer_norm, 0, 31, true },
    { "layer_norm 2", build_layer_norm, 1, 155, true }, { "mse", build_loss, ADZE_LOSS_MSE, 651, true },
    { "l1", build_loss, ADZE_LOSS_L1, 651, false },    { "smooth_l1", build_loss, ADZE_LOSS_SMOOTH_L1, 651, true },
    { "bce_with_logits", build_loss, ADZE_LOSS_BCE_WITH_LOGITS, 651, true }, { "bce", build_loss, ADZE_LOSS_BCE, 651, true },
    { "focal_bce", build_loss, ADZE_LOSS_FOCAL_BCE, 651, true }, { "hinge", build_loss, ADZE_LOSS_HINGE, 651, false },
    { "neg_log_sigmoid", build_loss, ADZE_LOSS_NEG_LOG_SIGMOID, 651, true }, { "cross_entropy", build_other_loss, 0, 13, true },
    { "focal_prob", build_other_loss, 1, 21, true },   { "dice", build_other_loss, 2, 31, true },
    { "dice complement", build_other_loss, 3, 31, true }, { "relu", build_activation, ADZE_ACT_RELU, 1, true },
    { "relu6", build_activation, ADZE_ACT_RELU6, 1, true }, { "leaky_relu", build_activation, ADZE_ACT_LEAKY_RELU, 1, true },
    { "silu", build_activation, ADZE_ACT_SILU, 1, true }, { "sigmoid", build_activation, ADZE_ACT_SIGMOID, 1, true },
    { "tanh", build_activation, ADZE_ACT_TANH, 1, true }, { "log_sigmoid", build_activation, ADZE_ACT_LOG_SIGMOID, 1, true },
    { "exp", build_activation, ADZE_ACT_EXP, 1, true }, { "soft_clamp", build_activation, ADZE_ACT_SOFT_CLAMP, 1, true },
    { "add", build_binary, 0, 1, true },               { "sub", build_binary, 1, 1, true },
    { "mul", build_binary, 2, 1, true },               { "div", build_binary, 3, 1, true },
    { "add per channel", build_binary, 4, 35, true },  { "sub per channel", build_binary, 5, 35, true },
    { "mul per channel", build_binary, 6, 35, true },  { "div per channel", build_binary, 7, 35, true },
    { "add per sample", build_binary, 8, 217, true },  { "mul per sample", build_binary, 10, 217, true },
    { "sum with itself", build_binary, 12, 2, true },  { "square", build_binary, 14, 2, true },
    { "difference of values", build_product_of_values, ADZE_BINARY_SUB, 2, true },
    { "product of values", build_product_of_values, ADZE_BINARY_MUL, 2, true },
    { "bilinear up", build_map, 0, 36, true },         { "bilinear up, corners", build_map, 1, 36, true },
    { "bilinear down", build_map, 2, 4, true },        { "bilinear down, corners", build_map, 3, 4, true },
    { "coupling", build_coupling, 0, 33, false },      { "couplings", build_coupling, 1, 33 * 130, false },
    { "coupling 1", build_coupling, 2, 1, false },     { "coupling wide", build_coupling, 3, 5 * 264, false },
    { "flow_logp", build_flow_logp, 31, 31, true },
    { "group_norm 1", build_group_norm, 1, 1155, true }, { "group_norm 3", build_group_norm, 3, 385, true },
    { "instance_norm", build_group_norm, 31, 35, true },
    { "conv1d_causal 1", build_conv1d, 1, 93, true },  { "conv1d_causal 4", build_conv1d, 4, 93, true },
    { "conv1d_causal 7", build_conv1d, 7, 15, true },
    { "upfirdn_blur 0", build_blur, 0, 16, true },     { "upfirdn_blur 1", build_blur, 1, 16, true },
    { "upfirdn_blur 3", build_blur, 3, 16, true },
    { "attention", build_attention, 0, 33, true },     { "attention, causal", build_attention, 1, 33, true },
    { "attention, bias", build_attention, 2, 33, true }, { "attention, neighbours", build_attention, 3, 33, true },
    { "attention with itself", build_attention, 4, 33, true }, { "mha", build_mha, 3, 231, true },
    { "mha, one head", build_mha, 1, 231, true },
    { "selective_scan", build_selective_scan, 0, 13, true }, { "selective_scan 3", build_selective_scan, 1, 91, true },
    { "selective_scan, B is C", build_selective_scan, 2, 91, true },
    { "conv 3x3, bias", build_conv3x3, 0, WINOGRAD_TERMS * 2048, false },
    { "conv 3x3, pieces", build_conv3x3, 1, WINOGRAD_TERMS * 3 * 62 * 61, false },
    { "max_pool2d", build_map, 4, 4, false },          { "max_pool2d 5x3", build_map, 5, 15, false },
};
enum { N_CASES = sizeof cases / sizeof *cases };

/* D(h) = slope + c h^2 + ...: the difference between D(h) and D(h/2) is three quarters of the larger one's error, so it bounds
 * that of D(h/2) (a third). Rounding: y is rounded once, 2^-24 of it and random, four standard deviations over the step. */
static void gradients_are_slopes(void **state)
{
    (void)state;
    const double h = 0x1p-6;
    for (int i = 0; i < N_CASES; i++) {
        if (!cases[i].smooth) continue;
        outcome at = run(&cases[i], (run_opts){ .reference = true, .threads = 1 });
        double quotient[2];
        for (int k = 0; k < 2; k++) {
            double step = k == 0 ? h : h / 2.0;
            outcome up = run(&cases[i], (run_opts){ .reference = true, .threads = 1, .step = step });
            outcome down = run(&cases[i], (run_opts){ .reference = true, .threads = 1, .step = -step });
            quotient[k] = (up.value - down.value) / (2.0 * step);
            free(up.data), free(down.data);
        }
        double bound = fabs(quotient[0] - quotient[1]) + 4.0 * 0x1p-24 * (at.noise + fabs(at.value)) / h + 0x1p-20 * fabs(at.slope);
        if (!(fabs(at.slope - quotient[1]) <= bound))
            fail_msg("%s: slope %.9g, difference quotient %.9g, bound %g", cases[i].name, at.slope, quotient[1], bound);
        free(at.data);
    }
}

static double largest(const outcome *o, int64_t from, int64_t to)
{
    double max = 0.0;
    for (int64_t i = from; i < to; i++) max = fmax(max, fabs((double)o->data[i]));
    return max;
}

/* Sums of K terms in float32 against sums in double: 4 sqrt(K) * 2^-24 of the largest element; elementwise kernels of a few
 * roundings each: 16 of them. */
static void kernels_agree_with_the_reference(void **state)
{
    (void)state;
    for (int i = 0; i < N_CASES; i++) {
        outcome want = run(&cases[i], (run_opts){ .reference = true, .threads = 1 });
        outcome got = run(&cases[i], (run_opts){ .threads = 2 });
        assert_int_equal(want.n, got.n);
        double scale[2] = { largest(&want, 0, want.n_y), largest(&want, want.n_y, want.n) };
        for (int64_t k = 0; k < want.n; k++) {
            double bound = (16.0 + 4.0 * sqrt(cases[i].K)) * 0x1p-24 * scale[k >= want.n_y];
            if (!(fabs((double)want.data[k] - got.data[k]) <= bound))
                fail_msg("%s, element %lld of %lld (y has %lld): %.9g, want %.9g, bound %g", cases[i].name, (long long)k, (long long)want.n,
                         (long long)want.n_y, (double)got.data[k], (double)want.data[k], bound);
        }
        free(want.data), free(got.data);
    }
}

/* Twice the gradient, from one overwriting and one adding writer (up to the rounding of the sum). */
static void second_writers_add(void **state)
{
    (void)state;
    for (int i = 0; i < 2 * N_CASES; i++) {
        const op_case *test = &cases[i / 2];
        bool reference = i % 2 == 0;
        outcome once = run(test, (run_opts){ .reference = reference, .threads = 2 });
        outcome both = run(test, (run_opts){ .reference = reference, .threads = 2, .twice = true });
        double scale = largest(&once, once.n_y, once.n);
        assert_int_equal(once.n, both.n);
        for (int64_t k = once.n_y; k < once.n; k++)
            if (!(fabs(2.0 * once.data[k] - both.data[k]) <= (16.0 + 4.0 * sqrt(test->K)) * 0x1p-23 * scale))
                fail_msg("%s, element %lld: %.9g, want twice %.9g", test->name, (long long)k, (double)both.data[k], (double)once.data[k]);
        free(once.data), free(both.data);
    }
}

static void repeats_bit_for_bit(void **state)
{
    (void)state;
    for (int i = 0; i < N_CASES; i++) {
        outcome a = run(&cases[i], (run_opts){ .threads = 2 }), b = run(&cases[i], (run_opts){ .threads = 2 });
        assert_int_equal(a.n, b.n);
        assert_memory_equal(a.data, b.data, (size_t)a.n * sizeof(float));
        free(a.data), free(b.data);
    }
}

/* The cases above are of no use if another kernel takes them. */
static void gradients_of_convolutions_use_winograd(void **state)
{
    (void)state;
    if (strcmp(device(), "cpu") != 0 || !adze_isa_available(ADZE_ISA_AVX512)) skip();
    for (int which = 0; which < 2; which++) {
        adze_ctx *ctx;
        adze_graph *g;
        adze_params *params;
        adze_plan *plan;
        assert_int_equal(adze_ctx_create(&ctx, &(adze_ctx_opts){ .device = "cpu" }), ADZE_OK);
        assert_int_equal(adze_graph_create(&g), ADZE_OK);
        adze_value y = build_conv3x3(g, which);
        adze_graph_want_grad(g, adze_graph_find(g, "x"));
        assert_int_equal(adze_params_create(&params, ctx, g), ADZE_OK);
        assert_int_equal(adze_plan_create(&plan, ctx, g, params, &(adze_plan_opts){ .loss = y }), ADZE_OK);
        assert_int_equal(adze_plan_step_count(plan), 2);
        assert_string_equal(adze_plan_step_at(plan, 0).kernel, "onednn");
        assert_string_equal(adze_plan_step_at(plan, 1).kernel, "onednn-winograd");
        adze_plan_destroy(plan);
        adze_params_destroy(params);
        adze_graph_destroy(g);
        adze_ctx_destroy(ctx);
    }
}

/* The cosine kernel adds blocks of fixed size in a fixed order. */
static void cosines_do_not_depend_on_threads(void **state)
{
    (void)state;
    for (int i = 0; i < N_CASES; i++) {
        if (cases[i].build != build_cosine) continue;
        outcome a = run(&cases[i], (run_opts){ .threads = 1 }), b = run(&cases[i], (run_opts){ .threads = 3 });
        assert_memory_equal(a.data, b.data, (size_t)a.n * sizeof(float));
        free(a.data), free(b.data);
    }
}

/* Values that only the run can check are refused by it. */
static void bad_indices_are_named(void **state)
{
    (void)state;
    static const float bad[] = { -1.0f, 5.0f, 1.5f, NAN };
    for (int i = 0; i < 8; i++) {
        adze_ctx *ctx;
        adze_graph *g;
        adze_params *params;
        adze_plan *plan;
        assert_int_equal(adze_ctx_create(&ctx, &ADZE_CTX_OPTS), ADZE_OK);
        assert_int_equal(adze_graph_create(&g), ADZE_OK);
        adze_value x = adze_graph_input(g, "x", ADZE_SHAPE(1, 5)), k = adze_graph_input(g, "k", ADZE_SHAPE(1));
        adze_graph_output(g, "y", i < 4 ? adze_cross_entropy(g, x, k) : adze_index_select(g, x, k, 1));
        assert_int_equal(adze_params_create(&params, ctx, g), ADZE_OK);
        assert_int_equal(adze_plan_create(&plan, ctx, g, params, &ADZE_PLAN_OPTS), ADZE_OK);
        assert_int_equal(adze_plan_write(plan, x, (float[5]){ 0.0f }), ADZE_OK);
        assert_int_equal(adze_plan_write(plan, k, &bad[i % 4]), ADZE_OK);
        assert_int_equal(adze_plan_run(plan), ADZE_EINVAL);
        assert_non_null(strstr(adze_error_message(), i < 4 ? "cross_entropy" : "index_select"));
        adze_plan_destroy(plan);
        adze_params_destroy(params);
        adze_graph_destroy(g);
        adze_ctx_destroy(ctx);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_slopes),
        cmocka_unit_test(kernels_agree_with_the_reference),
        cmocka_unit_test(second_writers_add),
        cmocka_unit_test(repeats_bit_for_bit),
        cmocka_unit_test(gradients_of_convolutions_use_winograd),
        cmocka_unit_test(cosines_do_not_depend_on_threads),
        cmocka_unit_test(bad_indices_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
