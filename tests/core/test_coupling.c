/* test_coupling.c - the coupling block of flows on the cpu, float32 and bfloat16, against the plain-C reference: weights that stay
 * (kept in the library's layout) and weights that are trained, with and without each gradient, written and added, blocks behind one
 * another, the inverse, weights that are no parameters; twice the same bits, and packed copies that follow their parameters. */
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
#include "core/ops.h"
#include "core/params.h"
#include "core/philox.h"
#include "core/plan.h"

enum { PARAMS = 7, TRAINED = 6, VALUES = 3 + PARAMS }; /* of VALUES: y, x, cond, then the block's operands */

typedef struct {
    const char *name;
    int64_t R, h, P, M;
    bool train, x_grad, cond_grad; /* none of them: no loss, nothing is kept */
    bool twice;                    /* y = block(x) + block(x): the second one adds its gradients */
    bool chain;                    /* y = block(block(x)) */
    bool inverse, over_clamp;
    bool weights_are_inputs;
} block_case;

static const block_case cases[] = {
    { .name = "evaluated", .R = 257, .h = 47, .P = 5, .M = 129 },
    { .name = "evaluated, smallest", .R = 1, .h = 1, .P = 1, .M = 1 },
    { .name = "evaluated, narrow condition", .R = 33, .h = 65, .P = 31, .M = 17 },
    { .name = "evaluated, wide condition", .R = 31, .h = 3, .P = 37, .M = 33 },
    { .name = "evaluated, two", .R = 31, .h = 33, .P = 5, .M = 61, .chain = true, .over_clamp = true },
    { .name = "trained", .R = 257, .h = 47, .P = 5, .M = 129, .train = true, .x_grad = true, .cond_grad = true },
    { .name = "trained, smallest", .R = 1, .h = 1, .P = 1, .M = 1, .train = true, .x_grad = true, .cond_grad = true },
    { .name = "trained, wide", .R = 33, .h = 131, .P = 31, .M = 67, .train = true, .x_grad = true, .cond_grad = true, .over_clamp = true },
    { .name = "trained, the first of a flow", .R = 61, .h = 31, .P = 7, .M = 33, .train = true },
    { .name = "trained, whole blocks", .R = 65, .h = 64, .P = 64, .M = 192, .train = true, .x_grad = true, .cond_grad = true },
    { .name = "trained, no condition", .R = 61, .h = 31, .P = 7, .M = 33, .train = true, .x_grad = true },
    { .name = "trained, two", .R = 61, .h = 31, .P = 7, .M = 33, .train = true, .x_grad = true, .cond_grad = true, .chain = true },
    { .name = "trained, added", .R = 61, .h = 31, .P = 7, .M = 33, .train = true, .x_grad = true, .cond_grad = true, .twice = true },
    { .name = "frozen, towards x", .R = 61, .h = 31, .P = 7, .M = 33, .x_grad = true },
    { .name = "frozen, towards both, added", .R = 61, .h = 31, .P = 7, .M = 33, .x_grad = true, .cond_grad = true, .twice = true },
    { .name = "inverse", .R = 61, .h = 47, .P = 5, .M = 129, .inverse = true },
    { .name = "no parameters", .R = 61, .h = 47, .P = 5, .M = 129, .x_grad = true, .cond_grad = true, .weights_are_inputs = true },
};
enum { CASES = sizeof cases / sizeof *cases };

typedef struct {
    const block_case *is;
    adze_ctx *ctx;
    adze_graph *graph;
    adze_params *params;
    adze_plan *plan;
    adze_value v[VALUES];
} block;

static bool wanted(const block_case *is, int i)
{
    return i == 1 ? is->x_grad : i == 2 ? is->cond_grad : is->train && i < 3 + TRAINED;
}

static bool has_loss(const block_case *is) { return is->train || is->x_grad || is->cond_grad; }

static void block_create(block *b, const block_case *is, adze_precision precision, bool reference, int threads)
{
    static const char *const name[PARAMS] = { "w1", "b1", "w2", "b2", "scale", "offset", "perm" };
    const int64_t C = 2 * is->h;
    const adze_shape shape[PARAMS] = { ADZE_SHAPE(is->M, is->h + is->P), ADZE_SHAPE(is->M), ADZE_SHAPE(C, is->M), ADZE_SHAPE(C),
                                       ADZE_SHAPE(1, C), ADZE_SHAPE(1, C), ADZE_SHAPE(C, C) };
    adze_ctx_opts opts = ADZE_CTX_OPTS;
    adze_plan_opts plan = ADZE_PLAN_OPTS;
    adze_coupling_opts coupling = ADZE_COUPLING_OPTS;
    adze_value *v = b->v, *p = v + 3;
    b->is = is;
    opts.device = "cpu", opts.threads = threads, opts.reference_only = reference, opts.precision = precision;
    coupling.over_clamp = is->over_clamp, coupling.inverse = is->inverse;
    assert_int_equal(adze_ctx_create(&b->ctx, &opts), ADZE_OK);
    assert_int_equal(adze_graph_create(&b->graph), ADZE_OK);
    v[1] = adze_graph_input(b->graph, "x", ADZE_SHAPE(is->R, C));
    v[2] = adze_graph_input(b->graph, "cond", ADZE_SHAPE(is->R, is->P));
    for (int i = 0; i < PARAMS; i++)
        p[i] = is->weights_are_inputs ? adze_graph_input(b->graph, name[i], shape[i])
                                      : adze_graph_param(b->graph, name[i], shape[i], is->train && i < TRAINED);
    const adze_coupling_params params = { p[0], p[1], p[2], p[3], p[4], p[5], p[6] };
    v[0] = adze_coupling(b->graph, v[1], v[2], &params, &coupling);
    if (is->chain) v[0] = adze_coupling(b->graph, v[0], v[2], &params, &coupling);
    if (is->twice) v[0] = adze_binary(b->graph, ADZE_BINARY_ADD, v[0], adze_coupling(b->graph, v[1], v[2], &params, &coupling));
    adze_graph_output(b->graph, "y", v[0]);
    for (int i = 1; i < 3; i++)
        if (wanted(is, i)) adze_graph_want_grad(b->graph, v[i]);
    if (adze_graph_check(b->graph) != ADZE_OK) fail_msg("%s: %s", is->name, adze_error_message());
    if (has_loss(is)) plan.loss = v[0];
    assert_int_equal(adze_params_create(&b->params, b->ctx, b->graph), ADZE_OK);
    if (adze_plan_create(&b->plan, b->ctx, b->graph, b->params, &plan) != ADZE_OK) fail_msg("%s: %s", is->name, adze_error_message());
    const char *kernel = reference ? "reference" : precision == ADZE_PRECISION_BF16 && !is->inverse && !is->weights_are_inputs ? "onednn-bf16+fused" : "onednn+fused";
    for (int32_t i = 0; i < adze_plan_step_count(b->plan); i++) {
        const adze_plan_step step = adze_plan_step_at(b->plan, i);
        if (strcmp(step.op, "coupling") == 0) assert_string_equal(step.kernel, kernel);
    }
}

static void block_destroy(block *b)
{
    adze_plan_destroy(b->plan);
    adze_params_destroy(b->params);
    adze_graph_destroy(b->graph);
    adze_ctx_destroy(b->ctx);
}

/* What comes out: y, then the gradients that are wanted. */
typedef struct {
    float *data[VALUES];
    int64_t n[VALUES];
} results;

static void results_free(results *r)
{
    for (int i = 0; i < VALUES; i++) free(r->data[i]);
}

/* Other numbers for every `item`, in [-1,1), the weights' times sqrt(3/columns). */
static results block_run(block *b, uint32_t item)
{
    results r = { .data = { NULL } };
    for (int i = has_loss(b->is) ? 0 : 1; i < VALUES; i++) {
        const adze_shape s = adze_graph_shape(b->graph, b->v[i]);
        const int64_t n = adze_shape_count(&s);
        const bool param = i >= 3 && !b->is->weights_are_inputs;
        float *x = malloc((size_t)n * sizeof *x);
        adze_philox_fill_uniform((adze_philox){ .seed = 7, .stream = ADZE_STREAM_TEST, .item = 100 * item + (uint32_t)i }, 0, x, n);
        for (int64_t k = 0; k < n; k++) x[k] = (2.0f * x[k] - 1.0f) * (s.rank > 1 && i >= 3 ? sqrtf(3.0f / (float)s.dim[1]) : 1.0f);
        assert_int_equal(i == 0 ? adze_plan_write_seed(b->plan, x) : param ? adze_params_write(b->params, i - 3, x) : adze_plan_write(b->plan, b->v[i], x), ADZE_OK);
        free(x);
    }
    if (adze_plan_run(b->plan) != ADZE_OK) fail_msg("%s: %s", b->is->name, adze_error_message());
    for (int i = 0; i < VALUES; i++) {
        if (i > 0 && !wanted(b->is, i)) continue;
        const adze_shape s = adze_graph_shape(b->graph, b->v[i]);
        r.n[i] = adze_shape_count(&s);
        r.data[i] = malloc((size_t)r.n[i] * sizeof(float));
        assert_int_equal(i == 0  ? adze_plan_read(b->plan, b->v[0], r.data[0])
                         : i < 3 ? adze_plan_read_grad(b->plan, b->v[i], r.data[i])
                                 : adze_params_read_grad(b->params, i - 3, r.data[i]), ADZE_OK);
    }
    return r;
}

/* float32: sums of M C terms through both layers, 4 sqrt(M C) 2^-24 of the largest element, and 16 roundings of elementwise
 * steps, for each block. bfloat16: the rule of tests/golden/README.md for what came through one ReLU, of which `flips` values fall
 * on the other side; twice that for two blocks. */
static void check(const block_case *is, bool bf16, uint32_t item, const results *got, const results *want)
{
    const double blocks = is->chain ? 2.0 : 1.0, u = 0x1p-9, pi = 3.14159265358979323846, flips = (double)(is->R * is->M) * 2.0 * u / pi;
    const double rms = blocks * (sqrt(4.0 * u / pi * (1.0 + 4.0 / sqrt(flips))) + 4.0 * u);
    for (int i = 0; i < VALUES; i++) {
        double error = 0.0, size = 0.0, furthest = 0.0, largest = 0.0;
        if (!want->data[i]) continue;
        for (int64_t k = 0; k < want->n[i]; k++) {
            const double w = want->data[i][k], d = got->data[i][k] - w;
            assert_true(isfinite(d));
            error += d * d, size += w * w, furthest = fmax(furthest, fabs(d)), largest = fmax(largest, fabs(w));
        }
        const double bound = blocks * (16.0 + 4.0 * sqrt(2.0 * (double)(is->M * is->h))) * 0x1p-24;
        if (bf16 ? !(sqrt(error) <= rms * sqrt(size)) : !(furthest <= bound * largest))
            fail_msg("%s, numbers %u, result %d: error %g of its size (bound %g), %g of its largest (bound %g)", is->name, item, i,
                     sqrt(error / size), rms, furthest / largest, bound);
    }
}

static void same_bits(const results *a, const results *b)
{
    for (int i = 0; i < VALUES; i++)
        if (a->data[i]) assert_memory_equal(a->data[i], b->data[i], (size_t)a->n[i] * sizeof(float));
}

static void agree(adze_precision precision)
{
    for (int k = 0; k < CASES; k++) {
        block reference, two, one;
        const bool bf16 = precision == ADZE_PRECISION_BF16 && !cases[k].inverse && !cases[k].weights_are_inputs;
        block_create(&reference, &cases[k], ADZE_PRECISION_F32, true, 1);
        block_create(&two, &cases[k], precision, false, 2), block_create(&one, &cases[k], precision, false, 1);
        for (uint32_t item = 0; item < 3; item++) {
            results want = block_run(&reference, item), got = block_run(&two, item), again = block_run(&two, item), alone = block_run(&one, item);
            check(&cases[k], bf16, item, &got, &want), check(&cases[k], bf16, item, &alone, &want);
            same_bits(&got, &again);
            results_free(&want), results_free(&got), results_free(&again), results_free(&alone);
        }
        block_destroy(&reference), block_destroy(&two), block_destroy(&one);
    }
}

static void float32(void **state)
{
    (void)state;
    agree(ADZE_PRECISION_F32);
}

static void bfloat16(void **state)
{
    (void)state;
    if (!adze_isa_available(ADZE_ISA_AVX512)) {
        print_message("SKIPPED: no AVX-512, which --precision bf16 needs\n");
        skip();
        return;
    }
    agree(ADZE_PRECISION_BF16);
}

/* Rows of one more or fewer: the likelihoods and their gradients in vectors and tails, added and not. */
static void likelihoods(void **state)
{
    (void)state;
    static const int64_t columns[] = { 1, 15, 16, 17, 33, 512 };
    enum { N = sizeof columns / sizeof *columns, R = 7 };
    for (int k = 0; k < 2 * N; k++) {
        const int64_t C = columns[k / 2], n = R * C + R;
        float *out[2][2];
        for (int reference = 0; reference < 2; reference++) {
            adze_ctx *ctx;
            adze_graph *g;
            adze_params *params;
            adze_plan *plan;
            adze_ctx_opts opts = ADZE_CTX_OPTS;
            adze_plan_opts plan_opts = ADZE_PLAN_OPTS;
            float *x = malloc((size_t)n * sizeof *x), seed[R];
            opts.device = "cpu", opts.threads = 2, opts.reference_only = reference;
            assert_int_equal(adze_ctx_create(&ctx, &opts), ADZE_OK);
            assert_int_equal(adze_graph_create(&g), ADZE_OK);
            adze_value v = adze_graph_input(g, "x", ADZE_SHAPE(n)), y = adze_flow_logp(g, v, C);
            if (k % 2) y = adze_binary(g, ADZE_BINARY_ADD, y, adze_flow_logp(g, v, C));
            adze_graph_output(g, "y", y);
            adze_graph_want_grad(g, v);
            plan_opts.loss = y;
            assert_int_equal(adze_params_create(&params, ctx, g), ADZE_OK);
            assert_int_equal(adze_plan_create(&plan, ctx, g, params, &plan_opts), ADZE_OK);
            for (int32_t i = 0; i < adze_plan_step_count(plan); i++)
                if (strcmp(adze_plan_step_at(plan, i).op, "flow_logp") == 0)
                    assert_string_equal(adze_plan_step_at(plan, i).kernel, reference ? "reference" : "cpu");
            adze_philox_fill_uniform((adze_philox){ .seed = 7, .stream = ADZE_STREAM_TEST }, 0, x, n);
            adze_philox_fill_uniform((adze_philox){ .seed = 7, .stream = ADZE_STREAM_TEST, .item = 1 }, 0, seed, R);
            assert_int_equal(adze_plan_write(plan, v, x), ADZE_OK);
            assert_int_equal(adze_plan_write_seed(plan, seed), ADZE_OK);
            assert_int_equal(adze_plan_run(plan), ADZE_OK);
            out[reference][0] = malloc(R * sizeof(float)), out[reference][1] = x;
            assert_int_equal(adze_plan_read(plan, y, out[reference][0]), ADZE_OK);
            assert_int_equal(adze_plan_read_grad(plan, v, out[reference][1]), ADZE_OK);
            adze_plan_destroy(plan);
            adze_params_destroy(params);
            adze_graph_destroy(g);
            adze_ctx_destroy(ctx);
        }
        /* Sums in double on both sides: one rounding to float32, which two orders of the sum may see differently; gradients alike. */
        for (int i = 0; i < R; i++) assert_true(fabs((double)out[0][0][i] - out[1][0][i]) <= 0x1p-23 * fabs((double)out[1][0][i]));
        assert_memory_equal(out[0][1], out[1][1], (size_t)n * sizeof(float));
        for (int i = 0; i < 2; i++) free(out[i][0]), free(out[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(float32), cmocka_unit_test(bfloat16), cmocka_unit_test(likelihoods) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
