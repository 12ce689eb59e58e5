/* test_optimizer.c - train/optimizer.h: groups, subsets, clipping, refusals; the loops of every instruction set against each
 * other. The arithmetic itself is judged by the cases tests/golden/ops/optimizer.json and clip_grad_norm.json. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#include "core/cpu/optimizer_cpu.h"
#include "core/memory.h"
#include "core/ops.h"
#include "core/philox.h"
#include "core/plan.h"
#include "train/optimizer.h"

typedef struct {
    adze_ctx *ctx;
    adze_graph *g;
    adze_params *params;
} model;

static const struct {
    const char *name;
    adze_shape shape;
    bool trainable;
} layout[] = {
    { "a.conv.weight", { 4, { 5, 3, 3, 3 } }, true },     { "a.conv.bias", { 1, { 5 } }, true },
    { "a.bn.running_mean", { 1, { 5 } }, false },         { "a.bn.weight", { 1, { 5 } }, true },
    { "b.linear.weight", { 2, { 211, 331 } }, true },     { "b.linear.bias", { 2, { 1, 211 } }, true },
};
enum { N = sizeof layout / sizeof *layout };

static void fill(float *x, int64_t n, uint32_t item)
{
    adze_philox_fill_normal((adze_philox){ .seed = 4, .stream = ADZE_STREAM_TEST, .item = item }, 0, x, n);
}

static int64_t count_of(const model *m, int i)
{
    adze_shape s = adze_params_shape(m->params, i);
    return adze_shape_count(&s);
}

static model make(int threads, bool reference)
{
    model m = { NULL };
    adze_ctx_opts opts = ADZE_CTX_OPTS;
    opts.device = "cpu", opts.threads = threads, opts.reference_only = reference;
    assert_int_equal(adze_ctx_create(&m.ctx, &opts), ADZE_OK);
    assert_int_equal(adze_graph_create(&m.g), ADZE_OK);
    for (int i = 0; i < N; i++) adze_graph_param(m.g, layout[i].name, layout[i].shape, layout[i].trainable);
    assert_int_equal(adze_params_create(&m.params, m.ctx, m.g), ADZE_OK);
    for (int i = 0; i < N; i++) {
        float *x = malloc((size_t)count_of(&m, i) * sizeof *x);
        fill(x, count_of(&m, i), (uint32_t)i);
        assert_int_equal(adze_params_write(m.params, i, x), ADZE_OK);
        free(x);
    }
    return m;
}

static void set_gradients(model *m, uint32_t step)
{
    for (int i = 0; i < N; i++) {
        if (!adze_params_trainable(m->params, i)) continue;
        float *x = malloc((size_t)count_of(m, i) * sizeof *x);
        fill(x, count_of(m, i), 100 * (step + 1) + (uint32_t)i);
        assert_int_equal(adze_params_write_grad(m->params, i, x), ADZE_OK);
        free(x);
    }
}

static void destroy(model *m)
{
    adze_params_destroy(m->params);
    adze_graph_destroy(m->g);
    adze_ctx_destroy(m->ctx);
}

static float *copy_of(const model *m, const char *name)
{
    int i = adze_params_find(m->params, name);
    assert_true(i >= 0);
    float *x = malloc((size_t)count_of(m, i) * sizeof *x);
    assert_int_equal(adze_params_read(m->params, i, x), ADZE_OK);
    return x;
}

static void same_params(const model *a, const model *b)
{
    assert_int_equal(adze_params_bytes(a->params), adze_params_bytes(b->params));
    assert_memory_equal(adze_params_block(a->params), adze_params_block(b->params), adze_params_bytes(a->params));
}

/* ---- the loops ---- */

static void test_instruction_sets_agree(void **state)
{
    (void)state;
    static const int64_t sizes[] = { 1, 31, 33, 101, 4096 };
    static const adze_optim_consts consts[] = {
        { .scale = 1.0f, .decay = 0.0f, .shrink = 1.0f, .mu = 0.9f, .lr = 0.1f, .w1 = 0.1f, .b2 = 0.999f, .w2 = 0.001f,
          .rate = 0.01f, .root_c2 = 0.03f, .eps = 1e-8f },
        { .scale = 0.37f, .decay = 1e-4f, .shrink = 0.9995f, .mu = 0.5f, .lr = 0.4f, .w1 = 0.5f, .b2 = 0.99f, .w2 = 0.01f,
          .rate = 0.004f, .root_c2 = 0.1f, .eps = 1e-8f },
        { .scale = 1.0f, .decay = 0.0f, .shrink = 1.0f, .mu = 0.0f, .lr = 1.0f, .w1 = 1.0f, .b2 = 0.99f, .w2 = 0.01f,
          .rate = 0.004f, .root_c2 = 0.1f, .eps = 1e-8f },
    };
    adze_optim_kernels want, got;
    assert_int_equal(adze_cpu_optim_kernels_get(ADZE_ISA_REFERENCE, &want), ADZE_OK);
    static float x[2][4][4096 + 16];
    for (adze_isa isa = ADZE_ISA_AVX2; isa <= ADZE_ISA_AVX512; isa++) {
        if (!adze_isa_available(isa)) continue;
        assert_int_equal(adze_cpu_optim_kernels_get(isa, &got), ADZE_OK);
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
            for (size_t c = 0; c < sizeof consts / sizeof *consts; c++)
                for (int what = 0; what < 3; what++) {
                    for (int b = 0; b < 4; b++) {
                        fill(x[0][b], 4096 + 16, (uint32_t)b);
                        for (int k = 0; b == 3 && k < 4096 + 16; k++) x[0][b][k] = fabsf(x[0][b][k]);
                        memcpy(x[1][b], x[0][b], sizeof x[0][b]);
                    }
                    for (int k = 0; k < 2; k++) {
                        const adze_optim_kernels *run = k ? &got : &want;
                        if (what == 0) run->sgd(&consts[c], sizes[s], x[k][0], x[k][1], x[k][2]);
                        if (what == 1) run->sgd(&consts[c], sizes[s], x[k][0], x[k][1], NULL);
                        if (what == 2) run->adam(&consts[c], sizes[s], x[k][0], x[k][1], x[k][2], x[k][3]);
                    }
                    assert_memory_equal(x[0], x[1], sizeof x[0]); /* the 16 floats behind the end too */
                    double a = want.sum_squares(sizes[s], x[0][1]), b = got.sum_squares(sizes[s], x[0][1]);
                    assert_memory_equal(&a, &b, sizeof a);
                }
    }
    assert_int_equal(adze_cpu_optim_kernels_get((adze_isa)99, &got), ADZE_EINVAL);
}

/* Sums in double of at most 2^17 squares: 2^17 * 2^-53 relative is far below 1e-10. */
static void test_norm_and_threads(void **state)
{
    (void)state;
    adze_optim_opts opts = ADZE_OPTIM_OPTS;
    opts.clip = 5.0;
    double norm[3];
    model m[3];
    for (int k = 0; k < 3; k++) {
        adze_optim *o;
        m[k] = make(k + 1, k == 2);
        assert_int_equal(adze_optim_create(&o, m[k].params, &opts), ADZE_OK);
        for (uint32_t step = 0; step < 3; step++) {
            set_gradients(&m[k], step);
            assert_int_equal(adze_optim_step(o, 0.01), ADZE_OK);
        }
        norm[k] = adze_optim_last_norm(o);
        adze_optim_destroy(o);
    }
    double sum = 0.0;
    for (int i = 0; i < N; i++) {
        if (!adze_params_trainable(m[0].params, i)) continue;
        float *x = malloc((size_t)count_of(&m[0], i) * sizeof *x);
        assert_int_equal(adze_params_read_grad(m[0].params, i, x), ADZE_OK);
        for (int64_t k = 0; k < count_of(&m[0], i); k++) sum += (double)x[k] * x[k];
        free(x);
    }
    assert_true(fabs(norm[0] - sqrt(sum)) <= 1e-10 * norm[0]);
    for (int k = 1; k < 3; k++) {
        assert_memory_equal(&norm[0], &norm[k], sizeof norm[0]);
        same_params(&m[0], &m[k]);
    }
    for (int k = 0; k < 3; k++) destroy(&m[k]);
}

/* ---- groups and subsets ---- */

/* SGD without momentum: p - lr f (g + wd p), each operation rounded to float32. */
static void check_sgd(const model *m, const float *before, const char *name, double lr, double decay)
{
    int i = adze_params_find(m->params, name);
    float *g = malloc((size_t)count_of(m, i) * sizeof *g), *after = copy_of(m, name);
    assert_int_equal(adze_params_read_grad(m->params, i, g), ADZE_OK);
    for (int64_t k = 0; k < count_of(m, i); k++) {
        float step = (float)lr * (g[k] + (float)decay * before[k]);
        assert_true(after[k] == before[k] - step);
    }
    free(g);
    free(after);
}

static void test_groups(void **state)
{
    (void)state;
    static const adze_optim_rule rules[] = {
        { .prefix = "b.", .suffix = "weight", .lr_factor = 0.1, .weight_decay = 0.25 },
        { .suffix = "bn.weight", .vectors = true, .lr_factor = 0.0 },
    };
    adze_optim_opts opts = ADZE_OPTIM_OPTS;
    opts.kind = ADZE_OPTIM_SGD, opts.weight_decay = 0.5, opts.rule = rules, opts.n_rules = 2;
    adze_optim *o;
    model m = make(0, false);
    float *before[N];
    for (int i = 0; i < N; i++) before[i] = copy_of(&m, layout[i].name);
    assert_int_equal(adze_optim_create(&o, m.params, &opts), ADZE_OK);
    assert_int_equal(adze_optim_count(o), 5);
    assert_null(adze_optim_state_name(o, 0));
    set_gradients(&m, 0);
    assert_int_equal(adze_optim_step(o, 0.5), ADZE_OK);
    check_sgd(&m, before[0], "a.conv.weight", 0.5, 0.5);
    check_sgd(&m, before[1], "a.conv.bias", 0.5, 0.0);
    check_sgd(&m, before[3], "a.bn.weight", 0.0, 0.0);
    check_sgd(&m, before[4], "b.linear.weight", 0.5 * 0.1, 0.25);
    check_sgd(&m, before[5], "b.linear.bias", 0.5, 0.0); /* by its name: it has two dimensions */
    float *frozen = copy_of(&m, "a.bn.running_mean");
    assert_memory_equal(frozen, before[2], 5 * sizeof *frozen);
    free(frozen);
    for (int i = 0; i < N; i++) free(before[i]);
    adze_optim_destroy(o);
    destroy(&m);
}

/* Without clipping, optimisers over disjoint subsets do what one over all does. */
static void test_subsets(void **state)
{
    (void)state;
    static const char *const first[] = { "a.", NULL }, *const second[] = { "b.linear.bias", "b.linear.weight", NULL };
    model whole = make(0, false), split = make(0, false);
    adze_optim *all, *part[2];
    adze_optim_opts opts = ADZE_OPTIM_OPTS;
    opts.kind = ADZE_OPTIM_ADAMW, opts.weight_decay = 0.01;
    assert_int_equal(adze_optim_create(&all, whole.params, &opts), ADZE_OK);
    opts.prefixes = first, opts.name = "first";
    assert_int_equal(adze_optim_create(&part[0], split.params, &opts), ADZE_OK);
    opts.prefixes = second, opts.name = "second";
    assert_int_equal(adze_optim_create(&part[1], split.params, &opts), ADZE_OK);
    assert_string_equal(adze_optim_name(part[1]), "second");
    assert_int_equal(adze_optim_count(part[0]) + adze_optim_count(part[1]), adze_optim_count(all));
    assert_true(adze_optim_bytes(part[0]) < adze_optim_bytes(all));
    for (uint32_t step = 0; step < 4; step++) {
        set_gradients(&whole, step);
        set_gradients(&split, step);
        assert_int_equal(adze_optim_step(all, 0.02), ADZE_OK);
        for (int k = 0; k < 2; k++) assert_int_equal(adze_optim_step(part[k], 0.02), ADZE_OK);
    }
    same_params(&whole, &split);
    adze_optim_destroy(all);
    for (int k = 0; k < 2; k++) adze_optim_destroy(part[k]);
    destroy(&whole);
    destroy(&split);
}

/* Taken out and put back, moments and counter make a second optimiser go on as the first. */
static void test_state_round_trip(void **state)
{
    (void)state;
    for (adze_optim_kind kind = ADZE_OPTIM_SGD; kind <= ADZE_OPTIM_ADAMW; kind++) {
        adze_optim_opts opts = ADZE_OPTIM_OPTS;
        opts.kind = kind, opts.momentum = 0.9, opts.clip = 5.0;
        model m = make(0, false), n = make(0, false);
        adze_optim *a, *b;
        assert_int_equal(adze_optim_create(&a, m.params, &opts), ADZE_OK);
        for (uint32_t step = 0; step < 3; step++) {
            set_gradients(&m, step);
            assert_int_equal(adze_optim_step(a, 0.1), ADZE_OK);
        }
        assert_int_equal(adze_optim_create(&b, n.params, &opts), ADZE_OK);
        for (int j = 0; j < adze_optim_count(a); j++) {
            int i = adze_optim_param(a, j);
            float *x = malloc((size_t)count_of(&m, i) * sizeof *x);
            assert_int_equal(adze_params_read(m.params, i, x), ADZE_OK);
            assert_int_equal(adze_params_write(n.params, i, x), ADZE_OK);
            for (int s = 0; adze_optim_state_name(a, s); s++) {
                assert_int_equal(adze_optim_state_read(a, s, j, x), ADZE_OK);
                assert_int_equal(adze_optim_state_write(b, s, j, x), ADZE_OK);
            }
            free(x);
        }
        adze_optim_set_steps(b, adze_optim_steps(a));
        set_gradients(&m, 7);
        set_gradients(&n, 7);
        assert_int_equal(adze_optim_step(a, 0.1), ADZE_OK);
        assert_int_equal(adze_optim_step(b, 0.1), ADZE_OK);
        same_params(&m, &n);
        adze_optim_destroy(a);
        adze_optim_destroy(b);
        destroy(&m);
        destroy(&n);
    }
}

/* Floats between the parameters stay zero, so that hashes and norms over the block mean something. */
static void test_padding_stays_zero(void **state)
{
    (void)state;
    model m = make(0, false);
    adze_optim *o;
    adze_optim_opts opts = ADZE_OPTIM_OPTS;
    opts.weight_decay = 0.1, opts.decay_vectors = true;
    assert_int_equal(adze_optim_create(&o, m.params, &opts), ADZE_OK);
    set_gradients(&m, 0);
    assert_int_equal(adze_optim_step(o, 0.1), ADZE_OK);
    int64_t total = (int64_t)(adze_params_bytes(m.params) / sizeof(float));
    char *used = calloc((size_t)total, 1);
    for (int i = 0; i < N; i++) memset(used + adze_params_offset(m.params, i), 1, (size_t)count_of(&m, i));
    for (int64_t k = 0; k < total; k++) assert_true(used[k] || adze_params_block(m.params)[k] == 0.0f);
    free(used);
    adze_optim_destroy(o);
    destroy(&m);
}

/* A plan that keeps packed copies of its weights sees the step. */
static void test_plans_see_the_step(void **state)
{
    (void)state;
    enum { ROWS = 3, IN = 64, OUT = 48 };
    adze_ctx *ctx;
    adze_graph *g;
    adze_params *params;
    adze_plan *plan;
    adze_optim *o;
    adze_ctx_opts copts = ADZE_CTX_OPTS;
    adze_plan_opts popts = ADZE_PLAN_OPTS;
    adze_optim_opts opts = ADZE_OPTIM_OPTS;
    static float w[OUT * IN], x[ROWS * IN], before[ROWS * OUT], after[ROWS * OUT];
    opts.kind = ADZE_OPTIM_SGD;
    assert_int_equal(adze_ctx_create(&ctx, &copts), ADZE_OK);
    assert_int_equal(adze_graph_create(&g), ADZE_OK);
    adze_value in = adze_graph_input(g, "x", ADZE_SHAPE(ROWS, IN));
    adze_value y = adze_linear(g, in, adze_graph_param(g, "w", ADZE_SHAPE(OUT, IN), true), ADZE_NONE);
    adze_graph_output(g, "y", y);
    assert_int_equal(adze_params_create(&params, ctx, g), ADZE_OK);
    fill(w, OUT * IN, 1);
    fill(x, ROWS * IN, 2);
    assert_int_equal(adze_params_write(params, 0, w), ADZE_OK);
    assert_int_equal(adze_plan_create(&plan, ctx, g, params, &popts), ADZE_OK);
    assert_int_equal(adze_plan_write(plan, in, x), ADZE_OK);
    assert_int_equal(adze_plan_run(plan), ADZE_OK);
    assert_int_equal(adze_plan_read(plan, y, before), ADZE_OK);
    assert_int_equal(adze_optim_create(&o, params, &opts), ADZE_OK);
    assert_int_equal(adze_optim_step(o, 1.0), ADZE_EINVAL); /* no gradients yet */
    assert_int_equal(adze_params_write_grad(params, 0, w), ADZE_OK);
    assert_int_equal(adze_optim_step(o, 2.0), ADZE_OK); /* w becomes w - 2 w, exactly */
    assert_int_equal(adze_plan_run(plan), ADZE_OK);
    assert_int_equal(adze_plan_read(plan, y, after), ADZE_OK);
    for (int i = 0; i < ROWS * OUT; i++) assert_true(after[i] == -before[i]);
    adze_optim_destroy(o);
    adze_plan_destroy(plan);
    adze_params_destroy(params);
    adze_graph_destroy(g);
    adze_ctx_destroy(ctx);
}

/* ---- refusals ---- */

static void test_not_finite(void **state)
{
    (void)state;
    static const float bad[] = { NAN, INFINITY, -INFINITY };
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        model m = make(0, false), untouched = make(0, false);
        adze_optim *o;
        adze_optim_opts opts = ADZE_OPTIM_OPTS;
        opts.clip = 5.0;
        assert_int_equal(adze_optim_create(&o, m.params, &opts), ADZE_OK);
        set_gradients(&m, 0);
        float g[5] = { 0.0f, 1.0f, 0.0f, bad[k], 0.0f };
        assert_int_equal(adze_params_write_grad(m.params, adze_params_find(m.params, "a.conv.bias"), g), ADZE_OK);
        assert_int_equal(adze_optim_step(o, 0.1), ADZE_ENUMERIC);
        assert_non_null(strstr(adze_error_message(), "'a.conv.bias'"));
        assert_int_equal(adze_optim_steps(o), 0);
        same_params(&m, &untouched);
        adze_optim_destroy(o);
        destroy(&m);
        destroy(&untouched);
    }
}

static void test_refusals(void **state)
{
    (void)state;
    static const adze_optim_rule useless = { .prefix = "c.", .lr_factor = 1.0 };
    static const char *const unknown[] = { "a.", "zz", NULL }, *const none[] = { NULL }, *const frozen[] = { "a.bn.running", NULL };
    adze_optim_opts ok = ADZE_OPTIM_OPTS, bad[11];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) bad[i] = ok;
    bad[0].kind = (adze_optim_kind)7;
    bad[1].beta1 = 1.0;
    bad[2].beta2 = -0.1;
    bad[3].eps = 0.0;
    bad[4].momentum = NAN;
    bad[5].clip = -1.0;
    bad[6].weight_decay = 1.5;
    bad[7].rule = &useless, bad[7].n_rules = 1;
    bad[8].prefixes = unknown;
    bad[9].prefixes = none;
    bad[10].prefixes = frozen;
    model m = make(0, false);
    adze_optim *o;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(adze_optim_create(&o, m.params, &bad[i]), ADZE_EINVAL);
        assert_null(o);
    }
    assert_int_equal(adze_optim_create(&o, m.params, &ok), ADZE_OK);
    set_gradients(&m, 0);
    assert_int_equal(adze_optim_step(o, NAN), ADZE_EINVAL);
    assert_int_equal(adze_optim_step(o, -1.0), ADZE_EINVAL);
    adze_optim_destroy(o);
    destroy(&m);
}

static void test_memory(void **state)
{
    (void)state;
    model m = make(0, false);
    adze_optim *o = NULL;
    adze_optim_opts opts = ADZE_OPTIM_OPTS;
    opts.clip = 1.0;
    size_t live = adze_memory_live_bytes();
    int failures = 0;
    for (adze_status st = ADZE_ENOMEM; st != ADZE_OK; failures++) {
        adze_memory_fail_after(failures + 1, false);
        st = adze_optim_create(&o, m.params, &opts);
        adze_memory_fail_after(0, false);
        assert_true(st == ADZE_OK || st == ADZE_ENOMEM);
        if (st != ADZE_OK) assert_int_equal(adze_memory_live_bytes(), live);
    }
    assert_true(failures > 5);
    set_gradients(&m, 0);
    int64_t before = adze_memory_alloc_count();
    for (int k = 0; k < 3; k++) assert_int_equal(adze_optim_step(o, 0.1), ADZE_OK);
    assert_int_equal(adze_memory_alloc_count(), before);
    adze_optim_destroy(o);
    destroy(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_instruction_sets_agree), cmocka_unit_test(test_norm_and_threads),
        cmocka_unit_test(test_groups),                 cmocka_unit_test(test_subsets),
        cmocka_unit_test(test_state_round_trip),       cmocka_unit_test(test_padding_stays_zero),
        cmocka_unit_test(test_plans_see_the_step),     cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_refusals),               cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
