/* test_ops.c - every op's kernel against its plain-C reference on odd shapes; twice, for bitwise repeatability; with one and
 * with several threads. ADZE_TEST_DEVICE names the device whose kernels are meant: cpu, cuda, cusim. Bound:
 * both sides round the result once from sums of K terms, the kernel in float32: 4 sqrt(K) * 2^-24 of the largest sum of
 * magnitudes, which unit inputs keep below K. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/context.h"
#include "core/op.h"
#include "core/ops.h"
#include "core/params.h"
#include "core/philox.h"
#include "core/plan.h"

static void fill(float *x, int64_t n, uint32_t item)
{
    adze_philox_fill_uniform((adze_philox){ .seed = 7, .stream = ADZE_STREAM_TEST, .item = item }, 0, x, n);
    for (int64_t i = 0; i < n; i++) x[i] = 2.0f * x[i] - 1.0f;
}

typedef adze_value (*builder)(adze_graph *g, int which);

/* Runs the graph that `build` makes; the output in new memory. */
static float *run(builder build, int which, bool reference, int threads, bool no_fusion, int64_t *n)
{
    adze_ctx *ctx;
    adze_graph *g;
    adze_params *params;
    adze_plan *plan;
    adze_ctx_opts opts = ADZE_CTX_OPTS;
    opts.reference_only = reference;
    opts.threads = threads;
    opts.device = reference || !getenv("ADZE_TEST_DEVICE") ? "cpu" : getenv("ADZE_TEST_DEVICE");
    if (adze_ctx_create(&ctx, &opts) != ADZE_OK) fail_msg("%s", adze_error_message());
    assert_int_equal(adze_graph_create(&g), ADZE_OK);
    adze_value y = build(g, which);
    adze_graph_output(g, "y", y);
    if (adze_graph_check(g) != ADZE_OK) fail_msg("case %d: %s", which, adze_error_message());
    assert_int_equal(adze_params_create(&params, ctx, g), ADZE_OK);
    for (int i = 0; i < adze_params_count(params); i++) {
        adze_shape s = adze_params_shape(params, i);
        float *w = malloc((size_t)adze_shape_count(&s) * sizeof *w);
        fill(w, adze_shape_count(&s), 100 + (uint32_t)i);
        if (strstr(adze_params_name(params, i), "var"))
            for (int64_t k = 0; k < adze_shape_count(&s); k++) w[k] = 0.5f + fabsf(w[k]);
        assert_int_equal(adze_params_write(params, i, w), ADZE_OK);
        free(w);
    }
    adze_plan_opts plan_opts = ADZE_PLAN_OPTS;
    plan_opts.no_fusion = no_fusion;
    if (adze_plan_create(&plan, ctx, g, params, &plan_opts) != ADZE_OK) fail_msg("case %d: %s", which, adze_error_message());
    static const char *const inputs[] = { "x", "z" };
    for (uint32_t i = 0; i < 2; i++) {
        adze_value v = adze_graph_find(g, inputs[i]);
        if (v == ADZE_NONE) continue;
        adze_shape s = adze_graph_shape(g, v);
        float *x = malloc((size_t)adze_shape_count(&s) * sizeof *x);
        fill(x, adze_shape_count(&s), i);
        assert_int_equal(adze_plan_write(plan, v, x), ADZE_OK);
        free(x);
    }
    assert_int_equal(adze_plan_run(plan), ADZE_OK);
    assert_int_equal(adze_plan_run(plan), ADZE_OK); /* a second run must not depend on the first */
    adze_shape s = adze_graph_shape(g, y);
    *n = adze_shape_count(&s);
    float *out = malloc((size_t)*n * sizeof *out);
    assert_int_equal(adze_plan_read(plan, y, out), ADZE_OK);
    adze_plan_destroy(plan);
    adze_params_destroy(params);
    adze_graph_destroy(g);
    adze_ctx_destroy(ctx);
    return out;
}

/* K: terms per output element. */
static void compare(builder build, int which, double K)
{
    int64_t n, m;
    float *want = run(build, which, true, 1, true, &n), *got = run(build, which, false, 2, false, &m);
    float *again = run(build, which, false, 2, false, &m), *one = run(build, which, false, 1, false, &m);
    assert_int_equal(n, m);
    double bound = 4.0 * sqrt(K) * 0x1p-24 * (K > 16.0 ? sqrt(K) : 4.0) * 4.0;
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)want[i] - got[i]) <= bound)) fail_msg("case %d, element %lld: %g, want %g, bound %g", which, (long long)i, (double)got[i], (double)want[i], bound);
    assert_memory_equal(got, again, (size_t)n * sizeof *got);
    for (int64_t i = 0; i < n; i++) assert_true(fabs((double)one[i] - got[i]) <= bound);
    free(want), free(got), free(again), free(one);
}

/* ---- convolution: sizes 1, 31, 33, primes; strides, asymmetric padding, groups, every epilogue ---- */

typedef struct {
    int64_t N, H, W, C, Co, k;
    int stride, pad0, pad1, groups;
} conv_case;

static const conv_case conv_cases[] = {
    { 1, 1, 1, 1, 1, 1, 1, 0, 0, 1 },   { 2, 7, 5, 3, 31, 3, 2, 0, 1, 1 },  { 1, 33, 31, 16, 33, 3, 1, 1, 1, 1 },
    { 2, 13, 11, 31, 17, 5, 2, 1, 2, 1 }, { 3, 9, 9, 64, 64, 1, 1, 0, 0, 1 }, { 1, 16, 17, 37, 37, 3, 1, 1, 1, 37 },
    { 2, 15, 16, 24, 48, 3, 2, 1, 1, 2 }, { 1, 31, 33, 3, 64, 7, 2, 3, 3, 1 },
};

static adze_value build_conv(adze_graph *g, int which)
{
    const conv_case *c = &conv_cases[which / 8];
    int epilogue = which % 8;
    adze_value x = adze_graph_input(g, "x", ADZE_SHAPE(c->N, c->H, c->W, c->C));
    adze_value w = adze_graph_param(g, "w", ADZE_SHAPE(c->Co, c->C / c->groups, c->k, c->k), false);
    adze_value b = epilogue & 1 ? adze_graph_param(g, "b", ADZE_SHAPE(c->Co), false) : ADZE_NONE;
    adze_conv2d_opts o = ADZE_CONV2D_OPTS;
    o.stride[0] = o.stride[1] = c->stride;
    o.pad[0] = o.pad[1] = c->pad0, o.pad[2] = o.pad[3] = c->pad1;
    o.groups = c->groups;
    adze_value y = adze_conv2d(g, x, w, b, &o);
    if (epilogue & 2)
        y = adze_batch_norm(g, y, adze_graph_param(g, "gamma", ADZE_SHAPE(c->Co), false),
                            adze_graph_param(g, "beta", ADZE_SHAPE(c->Co), false), adze_graph_param(g, "mean", ADZE_SHAPE(c->Co), false),
                            adze_graph_param(g, "var", ADZE_SHAPE(c->Co), false), 1e-5f);
    if (epilogue & 4) y = adze_binary(g, ADZE_BINARY_ADD, y, adze_graph_input(g, "z", adze_graph_shape(g, y)));
    if (epilogue > 0) y = adze_activation(g, y, epilogue == 7 ? ADZE_ACT_RELU : epilogue == 3 ? ADZE_ACT_RELU6 : ADZE_ACT_SILU, 0.0f, 0.0f);
    return y;
}

static void convolutions(void **state)
{
    (void)state;
    for (int i = 0; i < (int)(sizeof conv_cases / sizeof *conv_cases) * 8; i++) {
        const conv_case *c = &conv_cases[i / 8];
        compare(build_conv, i, (double)(c->C / c->groups * c->k * c->k) + 4.0);
    }
}

/* The residual's memory is taken over (z is computed and dies) or not (z is read again). */
static adze_value build_residual(adze_graph *g, int which)
{
    adze_value x = adze_graph_input(g, "x", ADZE_SHAPE(2, 9, 7, 16));
    adze_value w1 = adze_graph_param(g, "w1", ADZE_SHAPE(16, 16, 1, 1), false), w2 = adze_graph_param(g, "w2", ADZE_SHAPE(16, 16, 3, 3), false);
    adze_conv2d_opts one = ADZE_CONV2D_OPTS, three = ADZE_CONV2D_OPTS;
    for (int i = 0; i < 4; i++) three.pad[i] = 1;
    adze_value a = adze_conv2d(g, x, w1, ADZE_NONE, &one);
    adze_value y = adze_binary(g, ADZE_BINARY_ADD, adze_conv2d(g, x, w2, ADZE_NONE, &three), a);
    y = adze_activation(g, y, ADZE_ACT_RELU, 0.0f, 0.0f);
    return which == 0 ? y : adze_binary(g, ADZE_BINARY_MUL, y, a);
}

static void residuals_in_place_and_beside(void **state)
{
    (void)state;
    compare(build_residual, 0, 160.0);
    compare(build_residual, 1, 160.0);
}

static adze_value build_other(adze_graph *g, int which)
{
    adze_value x = adze_graph_input(g, "x", which >= 20 ? ADZE_SHAPE(3, 31, 33) : ADZE_SHAPE(2, 13, 11, 33));
    adze_pool2d_opts pool = { .kernel = { 3, 3 }, .stride = { 2, 2 }, .pad = { 1, 1, 1, 1 }, .max = which == 0, .count_include_pad = which == 2 };
    adze_interpolate_opts resize = { .mode = ADZE_INTERPOLATE_BILINEAR, .out = { 31, 7 }, .align_corners = which == 6 };
    switch (which) {
    case 0: case 1: case 2: return adze_pool2d(g, x, &pool);
    case 3: return adze_adaptive_pool2d(g, x, 1, 1);
    case 4: return adze_adaptive_pool2d(g, x, 4, 5);
    case 5: case 6: return adze_interpolate(g, x, &resize);
    case 7: return adze_activation(g, x, ADZE_ACT_LEAKY_RELU, 0.2f, 0.0f);
    case 8: return adze_binary(g, ADZE_BINARY_MUL, x, adze_graph_input(g, "z", ADZE_SHAPE(2, 13, 11, 33)));
    case 9: return adze_binary(g, ADZE_BINARY_SUB, x, adze_graph_input(g, "z", ADZE_SHAPE(1, 11, 1)));
    case 10: return adze_batch_norm(g, x, adze_graph_param(g, "gamma", ADZE_SHAPE(33), false), adze_graph_param(g, "beta", ADZE_SHAPE(33), false),
                                    adze_graph_param(g, "mean", ADZE_SHAPE(33), false), adze_graph_param(g, "var", ADZE_SHAPE(33), false), 1e-3f);
    case 20: return adze_linear(g, x, adze_graph_param(g, "w", ADZE_SHAPE(17, 33), false), adze_graph_param(g, "b", ADZE_SHAPE(17), false));
    case 21: return adze_adaptive_pool1d(g, adze_reshape(g, x, ADZE_SHAPE(93, 33)), 7);
    default: return adze_activation(g, x, ADZE_ACT_GELU, 0.0f, 0.0f);
    }
}

static void other_ops(void **state)
{
    (void)state;
    for (int i = 0; i <= 10; i++) compare(build_other, i, 150.0);
    for (int i = 20; i <= 22; i++) compare(build_other, i, 34.0);
}

static adze_value build_embed(adze_graph *g, int which)
{
    adze_value f[3];
    f[0] = adze_graph_input(g, "x", ADZE_SHAPE(2, 7, 9, 13));
    f[1] = adze_graph_input(g, "z", ADZE_SHAPE(2, 4, 5, 31));
    f[2] = f[1];
    adze_patch_embed_opts o = { .patch = which == 2 ? 5 : 3, .pretrain_dim = which == 1 ? 17 : 100, .target_dim = which == 1 ? 53 : 70 };
    return adze_patch_embed(g, f, which == 2 ? 3 : 2, &o);
}

static void patch_features(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) compare(build_embed, i, 32.0);
}

static void errors_stick_and_name_the_shapes(void **state)
{
    (void)state;
    adze_graph *g;
    assert_int_equal(adze_graph_create(&g), ADZE_OK);
    adze_value x = adze_graph_input(g, "x", ADZE_SHAPE(1, 8, 8, 3));
    adze_value w = adze_graph_param(g, "w", ADZE_SHAPE(4, 5, 3, 3), false);
    assert_int_equal(adze_conv2d(g, x, w, ADZE_NONE, &ADZE_CONV2D_OPTS), ADZE_NONE);
    assert_int_equal(adze_activation(g, x, ADZE_ACT_RELU, 0.0f, 0.0f), ADZE_NONE);
    assert_int_equal(adze_graph_check(g), ADZE_ESHAPE);
    assert_non_null(strstr(adze_error_message(), "conv2d"));
    assert_non_null(strstr(adze_error_message(), "(4,5,3,3)"));
    adze_graph_destroy(g);
}

static void same_padding_follows_the_formula(void **state)
{
    (void)state;
    for (int64_t n = 7; n <= 64; n++)
        for (int64_t k = 3; k <= 5; k += 2)
            for (int s = 1; s <= 2; s++) {
                adze_conv2d_opts o = adze_conv2d_same_opts(ADZE_SHAPE(1, n, n + 1, 1), k, k, s, 1);
                int64_t out = (n + s - 1) / s, total = (out - 1) * s + k - n > 0 ? (out - 1) * s + k - n : 0;
                assert_int_equal(o.pad[0], total / 2);
                assert_int_equal(o.pad[0] + o.pad[2], total);
                assert_int_equal((n + o.pad[0] + o.pad[2] - k) / s + 1, out);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolutions),
        cmocka_unit_test(residuals_in_place_and_beside),
        cmocka_unit_test(other_ops),
        cmocka_unit_test(patch_features),
        cmocka_unit_test(errors_stick_and_name_the_shapes),
        cmocka_unit_test(same_padding_follows_the_formula),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
