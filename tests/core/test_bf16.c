/* test_bf16.c - rounding to bfloat16, and the products of the cpu backend with --precision bf16, in both directions. Their
 * operands are rounded once and sums are float32: given operands that are rounded already, the plain-C reference (float32
 * operands, sums in double) must agree within the bound of float32, 4 K 2^-24 for sums of K terms of at most 1. */
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
#include "core/cpu/bf16.h"
#include "core/isa.h"
#include "core/ops.h"
#include "core/params.h"
#include "core/philox.h"
#include "core/plan.h"

static void rounding(void **state)
{
    (void)state;
    static const struct {
        float x;
        uint16_t want;
    } cases[] = {
        { 0.0f, 0 },           { -0.0f, 0x8000 },     { 1.0f, 0x3f80 },        { -2.5f, 0xc020 },
        { 1.00390625f, 0x3f80 }, /* a tie, to even */  { 1.01171875f, 0x3f82 }, /* a tie, to even */
        { 1.0039065f, 0x3f81 }, { FLT_MAX, 0x7f80 },  { INFINITY, 0x7f80 },    { -INFINITY, 0xff80 },
        { FLT_MIN, 0x0080 },   { FLT_MIN / 2.0f, 0 },  { -FLT_MIN / 2.0f, 0x8000 },
    };
    enum { CASES = sizeof cases / sizeof *cases, N = 200 };
    float x[N];
    uint16_t y[N];
    for (int i = 0; i < N; i++) x[i] = cases[i % CASES].x;
    adze_bf16_convert(x, N, y);
    for (int i = 0; i < N; i++) {
        assert_int_equal(adze_bf16_round(x[i]), cases[i % CASES].want);
        assert_int_equal(y[i], cases[i % CASES].want);
    }
    for (int i = 0; i < N; i++) x[i] = i % 2 ? NAN : -NAN;
    adze_bf16_convert(x, N, y);
    for (int i = 0; i < N; i++) assert_true(isnan(adze_bf16_value(y[i])) && isnan(adze_bf16_value(adze_bf16_round(x[i]))));
}

/* Every length, so that the pieces with and without the instruction meet; nothing is written behind the end. */
static void arrays(void **state)
{
    (void)state;
    enum { N = 40000 };
    float *x = malloc(N * sizeof *x);
    uint16_t *y = malloc((N + 1) * sizeof *y);
    adze_philox_fill_uniform((adze_philox){ .seed = 7, .stream = ADZE_STREAM_TEST }, 0, x, N);
    for (int n = 0; n <= N; n += n < 100 ? 1 : 3990) {
        for (int row = 0; row < 2; row++) {
            memset(y, 0xa5, (N + 1) * sizeof *y);
            if (row) adze_bf16_convert_row(x, n, y);
            else adze_bf16_convert(x, n, y);
            for (int i = 0; i < n; i++) assert_int_equal(y[i], adze_bf16_round(x[i]));
            assert_int_equal(y[n], 0xa5a5);
        }
    }
    free(x), free(y);
}

/* Each element at its place, whichever way the matrix is stored. */
static void packing(void **state)
{
    (void)state;
    if (!adze_isa_available(ADZE_ISA_AVX512_BF16)) {
        print_message("SKIPPED: no AVX512_BF16, which packing needs\n");
        skip();
        return;
    }
    static const int64_t sizes[][3] = { { 32, 64, 0 }, { 96, 64, 1 }, { 64, 192, 7 }, { 160, 128, 3 } }; /* K, N, floats between rows */
    for (int c = 0; c < 2 * (int)(sizeof sizes / sizeof *sizes); c++) {
        const bool transposed = c % 2;
        const int64_t K = sizes[c / 2][0], N = sizes[c / 2][1], ld = (transposed ? K : N) + sizes[c / 2][2], n = (transposed ? N : K) * ld;
        float *x = malloc((size_t)n * sizeof *x);
        uint16_t *y = malloc((size_t)(K * N + 1) * sizeof *y);
        memset(y, 0xa5, (size_t)(K * N + 1) * sizeof *y);
        adze_philox_fill_uniform((adze_philox){ .seed = 7, .stream = ADZE_STREAM_TEST }, 0, x, n);
        assert_true(adze_bf16_can_pack(K, N));
        adze_bf16_pack(x, K, N, ld, transposed, y);
        for (int64_t k = 0; k < K; k++)
            for (int64_t m = 0; m < N; m++) {
                const int64_t at = ((((m / 64) * (K / 32) + k / 32) * 16 + k % 32 / 2) * 64 + m % 64) * 2 + k % 2;
                assert_int_equal(y[at], adze_bf16_round(transposed ? x[m * ld + k] : x[k * ld + m]));
            }
        assert_int_equal(y[K * N], 0xa5a5);
        free(x), free(y);
    }
    assert_false(adze_bf16_can_pack(33, 64) || adze_bf16_can_pack(32, 63));
}

/* ---- products ---- */

enum { RESULTS = 4 };

typedef struct {
    float *data[RESULTS]; /* y, dx, dw, db */
    int64_t n[RESULTS];
    const char *kernel[2]; /* of the first product and of its backward step */
} results;

/* In [-1,1]; rounded to what bfloat16 can hold, where asked. */
static float *values(int64_t n, uint32_t item, bool rounded)
{
    float *x = malloc((size_t)n * sizeof *x);
    adze_philox_fill_uniform((adze_philox){ .seed = 7, .stream = ADZE_STREAM_TEST, .item = item }, 0, x, n);
    for (int64_t i = 0; i < n; i++) x[i] = 2.0f * x[i] - 1.0f;
    for (int64_t i = 0; i < n && rounded; i++) x[i] = adze_bf16_value(adze_bf16_round(x[i]));
    return x;
}

typedef adze_value (*builder)(adze_graph *g, int which);

/* The graph of `build`, forward and backward: x is an input, w and b are parameters or inputs. */
static results run(builder build, int which, bool reference, int threads)
{
    static const char *const names[RESULTS] = { "", "x", "w", "b" };
    results r = { .kernel = { "", "" } };
    adze_ctx *ctx;
    adze_graph *g;
    adze_params *params;
    adze_plan *plan;
    adze_ctx_opts opts = ADZE_CTX_OPTS;
    adze_plan_opts plan_opts = ADZE_PLAN_OPTS;
    opts.device = "cpu";
    opts.threads = threads;
    opts.reference_only = reference;
    opts.precision = reference ? ADZE_PRECISION_F32 : ADZE_PRECISION_BF16;
    assert_int_equal(adze_ctx_create(&ctx, &opts), ADZE_OK);
    assert_int_equal(adze_graph_create(&g), ADZE_OK);
    adze_value y = build(g, which), v[RESULTS] = { y, adze_graph_find(g, "x"), adze_graph_find(g, "w"), adze_graph_find(g, "b") };
    if (adze_graph_check(g) != ADZE_OK) fail_msg("case %d: %s", which, adze_error_message());
    adze_graph_output(g, "y", y);
    plan_opts.loss = y;
    assert_int_equal(adze_params_create(&params, ctx, g), ADZE_OK);
    for (int i = 1; i < RESULTS; i++)
        if (v[i] != ADZE_NONE && adze_params_find(params, names[i]) < 0) adze_graph_want_grad(g, v[i]);
    if (adze_plan_create(&plan, ctx, g, params, &plan_opts) != ADZE_OK) fail_msg("case %d: %s", which, adze_error_message());
    for (int i = 0; i < RESULTS; i++) {
        if (v[i] == ADZE_NONE) continue;
        adze_shape s = adze_graph_shape(g, v[i]);
        r.n[i] = adze_shape_count(&s);
        float *x = values(r.n[i], (uint32_t)i, reference && i < 3);
        int p = i > 0 ? adze_params_find(params, names[i]) : -1;
        if (i == 0) assert_int_equal(adze_plan_write_seed(plan, x), ADZE_OK);
        else assert_int_equal(p >= 0 ? adze_params_write(params, p, x) : adze_plan_write(plan, v[i], x), ADZE_OK);
        free(x);
    }
    for (int k = 0; k < 2; k++) assert_int_equal(adze_plan_run(plan), ADZE_OK); /* the second must not depend on the first */
    for (int i = 0; i < RESULTS; i++) {
        if (v[i] == ADZE_NONE) continue;
        r.data[i] = malloc((size_t)r.n[i] * sizeof(float));
        int p = i > 0 ? adze_params_find(params, names[i]) : -1;
        assert_int_equal(i == 0   ? adze_plan_read(plan, y, r.data[i])
                         : p >= 0 ? adze_params_read_grad(params, p, r.data[i])
                                  : adze_plan_read_grad(plan, v[i], r.data[i]), ADZE_OK);
    }
    for (int32_t s = 0; s < adze_plan_step_count(plan); s++) {
        adze_plan_step step = adze_plan_step_at(plan, s);
        const char **kernel = &r.kernel[step.backward];
        if (**kernel == 0 && strcmp(step.op, "add") != 0) *kernel = strcmp(step.kernel, "onednn-bf16") == 0 ? "bf16" : "f32";
    }
    adze_plan_destroy(plan);
    adze_params_destroy(params);
    adze_graph_destroy(g);
    adze_ctx_destroy(ctx);
    return r;
}

static void results_free(results *r)
{
    for (int i = 0; i < RESULTS; i++) free(r->data[i]);
}

/* K: the most terms of any sum. A bias is no operand of a product: its gradient may come from dy itself, 2^-9 per term away. */
static void compare(builder build, int which, double K, const char *backward)
{
    results want = run(build, which, true, 1), got = run(build, which, false, 2), again = run(build, which, false, 2), one = run(build, which, false, 1);
    assert_string_equal(got.kernel[0], "bf16");
    assert_string_equal(got.kernel[1], backward);
    for (int i = 0; i < RESULTS; i++) {
        if (!want.data[i]) continue;
        double bound = 4.0 * K * 0x1p-24 + (i == 3 || strcmp(backward, "f32") == 0 ? 2.0 * K * 0x1p-9 : 0.0);
        for (int64_t k = 0; k < want.n[i]; k++)
            if (!(fabs((double)want.data[i][k] - got.data[i][k]) <= bound))
                fail_msg("case %d, result %d, element %lld: %g, want %g, bound %g", which, i, (long long)k, (double)got.data[i][k], (double)want.data[i][k], bound);
        assert_memory_equal(got.data[i], again.data[i], (size_t)got.n[i] * sizeof(float));
        for (int64_t k = 0; k < want.n[i]; k++) assert_true(fabs((double)one.data[i][k] - got.data[i][k]) <= bound);
    }
    results_free(&want), results_free(&got), results_free(&again), results_free(&one);
}

static bool possible(void)
{
    if (adze_isa_available(ADZE_ISA_AVX512)) return true;
    print_message("SKIPPED: no AVX-512, which --precision bf16 needs\n");
    skip();
    return false;
}

typedef struct {
    int64_t N, H, W, C, Co, k;
    int stride, pad0, pad1;
    bool transposed;
} conv_case;

static const conv_case conv_cases[] = {
    { 1, 1, 1, 1, 1, 1, 1, 0, 0, false },   { 2, 7, 5, 3, 31, 3, 2, 0, 1, false },   { 1, 33, 31, 16, 33, 3, 1, 1, 1, false },
    { 2, 13, 11, 31, 17, 5, 2, 1, 2, false }, { 3, 9, 9, 64, 64, 1, 1, 0, 0, false },  { 1, 31, 33, 3, 64, 7, 2, 3, 3, false },
    { 2, 5, 7, 33, 16, 2, 2, 0, 0, true },    { 1, 4, 3, 64, 31, 2, 2, 0, 0, true },   { 2, 3, 5, 7, 13, 3, 2, 1, 0, true },
};

static adze_value build_conv(adze_graph *g, int which)
{
    const conv_case *c = &conv_cases[which];
    adze_conv2d_opts o = ADZE_CONV2D_OPTS;
    o.stride[0] = o.stride[1] = c->stride;
    o.pad[0] = o.pad[1] = c->pad0, o.pad[2] = o.pad[3] = c->pad1;
    adze_value x = adze_graph_input(g, "x", ADZE_SHAPE(c->N, c->H, c->W, c->C)), b = adze_graph_param(g, "b", ADZE_SHAPE(c->Co), true);
    adze_value w = adze_graph_param(g, "w", c->transposed ? ADZE_SHAPE(c->C, c->Co, c->k, c->k) : ADZE_SHAPE(c->Co, c->C, c->k, c->k), true);
    return c->transposed ? adze_conv_transpose2d(g, x, w, b, &o) : adze_conv2d(g, x, w, b, &o);
}

static void convolutions(void **state)
{
    (void)state;
    if (!possible()) return;
    for (int i = 0; i < (int)(sizeof conv_cases / sizeof *conv_cases); i++) {
        const conv_case *c = &conv_cases[i];
        double taps = (double)(c->k * c->k), pixels = (double)(c->N * (c->H + 4) * (c->W + 4)) * (c->transposed ? 4.0 : 1.0);
        compare(build_conv, i, fmax(taps * (double)(c->C > c->Co ? c->C : c->Co) + 1.0, pixels), "bf16");
    }
}

/* x (rows,33) or (3,rows,33) with a second operand that is stored either way, shared or not. */
static adze_value build_product(adze_graph *g, int which)
{
    bool ta = which & 1, tb = which & 2, shared = which & 4;
    if (which == 8)
        return adze_linear(g, adze_graph_input(g, "x", ADZE_SHAPE(2, 31, 33)), adze_graph_param(g, "w", ADZE_SHAPE(17, 33), true),
                           adze_graph_param(g, "b", ADZE_SHAPE(17), true));
    adze_value x = adze_graph_input(g, "x", ta ? ADZE_SHAPE(3, 33, 31) : ADZE_SHAPE(3, 31, 33));
    adze_shape w = tb ? ADZE_SHAPE(3, 17, 33) : ADZE_SHAPE(3, 33, 17);
    if (shared) w = tb ? ADZE_SHAPE(17, 33) : ADZE_SHAPE(33, 17);
    return adze_matmul(g, x, adze_graph_input(g, "w", w), ta, tb);
}

static void matrix_products(void **state)
{
    (void)state;
    if (!possible()) return;
    for (int i = 0; i <= 8; i++) compare(build_product, i, 93.0, i == 5 || i == 7 ? "f32" : "bf16");
}

/* Two products read the same x: the gradients of the second are added to those of the first. */
static adze_value build_twice(adze_graph *g, int which)
{
    adze_value x = adze_graph_input(g, "x", which == 0 ? ADZE_SHAPE(2, 9, 7, 16) : ADZE_SHAPE(1, 31, 16));
    if (which == 0) {
        adze_value w = adze_graph_param(g, "w", ADZE_SHAPE(16, 16, 1, 1), true);
        return adze_binary(g, ADZE_BINARY_ADD, adze_conv2d(g, x, w, ADZE_NONE, &ADZE_CONV2D_OPTS), adze_conv2d(g, x, w, ADZE_NONE, &ADZE_CONV2D_OPTS));
    }
    adze_value w = adze_graph_input(g, "w", ADZE_SHAPE(16, 16));
    return adze_binary(g, ADZE_BINARY_ADD, adze_matmul(g, x, w, false, false), adze_matmul(g, x, w, false, true));
}

static void gradients_are_added(void **state)
{
    (void)state;
    if (!possible()) return;
    for (int i = 0; i < 2; i++) {
        results want = run(build_twice, i, true, 1), got = run(build_twice, i, false, 2);
        for (int k = 1; k < 3; k++)
            for (int64_t e = 0; e < want.n[k]; e++) assert_true(fabs((double)want.data[k][e] - got.data[k][e]) <= 4.0 * 252.0 * 0x1p-24);
        results_free(&want), results_free(&got);
    }
}

static void precisions_of_the_cpu(void **state)
{
    (void)state;
    adze_ctx *ctx;
    adze_ctx_opts opts = ADZE_CTX_OPTS;
    opts.device = "cpu";
    opts.precision = ADZE_PRECISION_TF32;
    assert_int_equal(adze_ctx_create(&ctx, &opts), ADZE_EINVAL);
    assert_non_null(strstr(adze_error_message(), "f32 or bf16"));
    opts.precision = ADZE_PRECISION_BF16;
    assert_int_equal(adze_ctx_create(&ctx, &opts), adze_isa_available(ADZE_ISA_AVX512) ? ADZE_OK : ADZE_EBACKEND);
    if (ctx) assert_int_equal(adze_ctx_precision(ctx), ADZE_PRECISION_BF16);
    adze_ctx_destroy(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rounding),        cmocka_unit_test(arrays),         cmocka_unit_test(packing),
        cmocka_unit_test(convolutions),    cmocka_unit_test(matrix_products),
        cmocka_unit_test(gradients_are_added), cmocka_unit_test(precisions_of_the_cpu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
