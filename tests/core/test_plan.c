/* test_plan.c - fusion, memory placement, profiles, and failing allocations of the plan. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/context.h"
#include "core/memory.h"
#include "core/ops.h"
#include "core/params.h"
#include "core/plan.h"
#include "core/plan_impl.h"
#include "models/backbone.h"

static adze_status build(adze_ctx *ctx, adze_graph **g, adze_params **params, adze_plan **plan, const char *net, bool no_fusion)
{
    adze_status st = ADZE_OK;
    *g = NULL, *params = NULL, *plan = NULL;
    TRY(adze_graph_create(g));
    adze_value x = adze_graph_input(*g, "x", ADZE_SHAPE(2, 64, 64, 3)), tap[ADZE_BACKBONE_TAPS];
    adze_backbone_opts opts = ADZE_BACKBONE_OPTS;
    opts.last_tap = 3;
    TRY(adze_backbone_build(*g, net, x, &opts, tap, NULL));
    adze_graph_output(*g, "mid", tap[2]);
    adze_graph_output(*g, "deep", tap[3]);
    TRY(adze_params_create(params, ctx, *g));
    for (int i = 0; i < adze_params_count(*params); i++) {
        adze_shape s = adze_params_shape(*params, i);
        float *w = adze_malloc((size_t)adze_shape_count(&s) * sizeof *w);
        REQUIRE(w, ADZE_ENOMEM, "weights");
        for (int64_t k = 0; k < adze_shape_count(&s); k++) w[k] = s.rank > 1 ? (float)(k % 7 - 3) * 0.02f : 0.5f + (float)(k % 5) * 0.1f;
        st = adze_params_write(*params, i, w);
        adze_free(w);
        if (st != ADZE_OK) goto done;
    }
    adze_plan_opts plan_opts = ADZE_PLAN_OPTS;
    plan_opts.no_fusion = no_fusion;
    TRY(adze_plan_create(plan, ctx, *g, *params, &plan_opts));
done:
    return st;
}

static void destroy(adze_graph *g, adze_params *params, adze_plan *plan)
{
    adze_plan_destroy(plan);
    adze_params_destroy(params);
    adze_graph_destroy(g);
}

static void residual_nets_fuse_to_convolutions_and_one_pool(void **state)
{
    (void)state;
    static const struct {
        const char *net;
        int convs;
    } nets[] = { { "resnet18", 15 }, { "resnet34", 29 }, { "resnet50", 43 }, { "wide_resnet50_2", 43 }, { "efficientnet_lite0", 0 } };
    adze_ctx *ctx;
    assert_int_equal(adze_ctx_create(&ctx, &ADZE_CTX_OPTS), ADZE_OK);
    for (size_t i = 0; i < sizeof nets / sizeof *nets; i++) {
        adze_graph *g;
        adze_params *params;
        adze_plan *plan;
        assert_int_equal(build(ctx, &g, &params, &plan, nets[i].net, false), ADZE_OK);
        int convs = 0, others = 0;
        for (int32_t s = 0; s < plan->n_steps; s++)
            if (plan->step[s].node.op == ADZE_OP_conv2d) convs++;
            else others++;
        assert_int_equal(others, nets[i].convs > 0 ? 1 : 0); /* the max pool */
        if (nets[i].convs > 0) assert_int_equal(convs, nets[i].convs);
        adze_text t = ADZE_TEXT_EMPTY;
        adze_plan_print(plan, &t);
        assert_non_null(strstr(t.s, "arena"));
        adze_text_destroy(&t);
        destroy(g, params, plan);
    }
    adze_ctx_destroy(ctx);
}

/* Buffers that are alive at the same step must not overlap, and the arena must be near its lower bound. */
static void buffers_alive_together_do_not_overlap(void **state)
{
    (void)state;
    adze_ctx *ctx;
    adze_graph *g;
    adze_params *params;
    adze_plan *plan;
    assert_int_equal(adze_ctx_create(&ctx, &ADZE_CTX_OPTS), ADZE_OK);
    assert_int_equal(build(ctx, &g, &params, &plan, "resnet50", false), ADZE_OK);
    size_t lower_bound = 0;
    for (int32_t s = 0; s <= plan->n_steps; s++) {
        size_t alive = 0;
        for (int32_t i = 0; i < plan->n_buffers; i++)
            if (plan->buffer[i].first <= s && s <= plan->buffer[i].last) alive += plan->buffer[i].n_bytes;
        lower_bound = alive > lower_bound ? alive : lower_bound;
    }
    for (int32_t i = 0; i < plan->n_buffers; i++)
        for (int32_t j = 0; j < i; j++) {
            const plan_buffer *a = &plan->buffer[i], *b = &plan->buffer[j];
            if (a->n_bytes == 0 || b->n_bytes == 0 || a->first > b->last || b->first > a->last) continue;
            assert_true(a->offset + a->n_bytes <= b->offset || b->offset + b->n_bytes <= a->offset);
        }
    assert_true(plan->arena_bytes >= lower_bound);
    assert_true((double)plan->arena_bytes <= 1.25 * (double)lower_bound);
    destroy(g, params, plan);
    adze_ctx_destroy(ctx);
}

static void a_run_allocates_nothing(void **state)
{
    (void)state;
    adze_ctx *ctx;
    adze_graph *g;
    adze_params *params;
    adze_plan *plan;
    assert_int_equal(adze_ctx_create(&ctx, &ADZE_CTX_OPTS), ADZE_OK);
    assert_int_equal(build(ctx, &g, &params, &plan, "resnet18", false), ADZE_OK);
    memset(adze_plan_host_data(plan, adze_graph_find(g, "x")), 0, 2 * 64 * 64 * 3 * sizeof(float));
    assert_int_equal(adze_plan_run(plan), ADZE_OK); /* packs the weights */
    int64_t before = adze_memory_alloc_count();
    adze_plan_profile(plan, true);
    assert_int_equal(adze_plan_run(plan), ADZE_OK);
    assert_int_equal(adze_plan_run(plan), ADZE_OK);
    assert_int_equal(adze_memory_alloc_count(), before);
    double flops = 0.0;
    for (int32_t i = 0; i < adze_plan_step_count(plan); i++) {
        adze_plan_step s = adze_plan_step_at(plan, i);
        assert_true(s.seconds > 0.0 && s.n_bytes > 0.0 && !s.backward && *s.op && *s.kernel);
        flops += s.flops;
    }
    assert_true(flops == adze_plan_flops(plan)); /* the same sum in the same order */
    adze_text t = ADZE_TEXT_EMPTY;
    adze_plan_profile_print(plan, &t);
    assert_non_null(strstr(t.s, "over 2 runs"));
    adze_text_destroy(&t);
    destroy(g, params, plan);
    adze_ctx_destroy(ctx);
}

/* Two 1x1 convolutions: the first needs the gradient of its weights alone, the second of its input too. */
static void backward_steps_count_their_gradients(void **state)
{
    (void)state;
    adze_ctx *ctx;
    adze_graph *g;
    adze_params *params;
    adze_plan *plan;
    assert_int_equal(adze_ctx_create(&ctx, &ADZE_CTX_OPTS), ADZE_OK);
    assert_int_equal(adze_graph_create(&g), ADZE_OK);
    adze_value x = adze_graph_input(g, "x", ADZE_SHAPE(1, 4, 4, 3)), z = adze_graph_input(g, "z", ADZE_SHAPE(1, 4, 4, 5));
    adze_value a = adze_graph_param(g, "a", ADZE_SHAPE(2, 3, 1, 1), true), b = adze_graph_param(g, "b", ADZE_SHAPE(5, 2, 1, 1), true);
    adze_value y = adze_conv2d(g, adze_conv2d(g, x, a, ADZE_NONE, &ADZE_CONV2D_OPTS), b, ADZE_NONE, &ADZE_CONV2D_OPTS);
    adze_plan_opts opts = ADZE_PLAN_OPTS;
    opts.loss = adze_cosine_loss(g, y, z);
    assert_int_equal(adze_graph_check(g), ADZE_OK);
    assert_int_equal(adze_params_create(&params, ctx, g), ADZE_OK);
    assert_int_equal(adze_plan_create(&plan, ctx, g, params, &opts), ADZE_OK);
    double forward[2], backward[2], n_bytes[2];
    int n_forward = 0, n_backward = 0;
    for (int32_t i = 0; i < adze_plan_step_count(plan); i++) {
        adze_plan_step s = adze_plan_step_at(plan, i);
        if (strcmp(s.op, "conv2d") != 0) continue;
        if (!s.backward) forward[n_forward++] = s.flops;
        else backward[n_backward] = s.flops, n_bytes[n_backward++] = s.n_bytes;
    }
    assert_int_equal(n_forward, 2);
    assert_int_equal(n_backward, 2);
    assert_true(forward[0] == 2.0 * 16 * 2 * 3 && forward[1] == 2.0 * 16 * 5 * 2);
    assert_true(backward[0] == 2.0 * forward[1] && backward[1] == forward[0]); /* the last op comes first */
    assert_true(n_bytes[0] == sizeof(float) * (2 * (16 * 2 + 5 * 2) + 16 * 5)); /* x, w, dx, dw and dy */
    destroy(g, params, plan);
    adze_ctx_destroy(ctx);
}

static void changed_weights_are_packed_anew(void **state)
{
    (void)state;
    adze_ctx *ctx;
    adze_graph *g;
    adze_params *params;
    adze_plan *plan;
    assert_int_equal(adze_ctx_create(&ctx, &ADZE_CTX_OPTS), ADZE_OK);
    assert_int_equal(build(ctx, &g, &params, &plan, "resnet18", false), ADZE_OK);
    adze_value x = adze_graph_find(g, "x"), y = adze_graph_find(g, "deep");
    float *in = adze_plan_host_data(plan, x);
    for (int i = 0; i < 2 * 64 * 64 * 3; i++) in[i] = (float)(i % 11) * 0.1f;
    assert_int_equal(adze_plan_run(plan), ADZE_OK);
    float before = adze_plan_host_data(plan, y)[5];
    int bias = adze_params_find(params, "layer3.1.bn2.bias");
    float shift[256];
    for (int i = 0; i < 256; i++) shift[i] = 1e6f;
    assert_int_equal(adze_params_write(params, bias, shift), ADZE_OK);
    assert_int_equal(adze_plan_run(plan), ADZE_OK);
    assert_true(adze_plan_host_data(plan, y)[5] > before + 1e5f);
    destroy(g, params, plan);
    adze_ctx_destroy(ctx);
}

/* Every allocation fails once in turn: an error, no leak, no crash (the sanitizer build watches). */
/* A parameter under another shape, read twice, is the parameter: forward, backward, after a change, and as an output. */
static void views_of_parameters_are_parameters(void **state)
{
    (void)state;
    enum { ROWS = 3, K = 4, M = 6 };
    adze_ctx *ctx;
    adze_graph *g;
    adze_params *params;
    adze_plan *plan;
    adze_plan_opts opts = ADZE_PLAN_OPTS;
    float x[ROWS * K], w[M * K], y[ROWS * M], read[M * K], grad[M * K];
    assert_int_equal(adze_ctx_create(&ctx, &ADZE_CTX_OPTS), ADZE_OK);
    assert_int_equal(adze_graph_create(&g), ADZE_OK);
    adze_value in = adze_graph_input(g, "x", ADZE_SHAPE(ROWS, K)), weight = adze_graph_param(g, "w", ADZE_SHAPE(M, 2, K / 2), true);
    adze_value flat = adze_reshape(g, weight, ADZE_SHAPE(M, K)), again = adze_reshape(g, adze_reshape(g, weight, ADZE_SHAPE(M * K)), ADZE_SHAPE(M, K));
    adze_value out = adze_binary(g, ADZE_BINARY_ADD, adze_linear(g, in, flat, ADZE_NONE), adze_linear(g, in, again, ADZE_NONE));
    adze_graph_output(g, "y", out);
    adze_graph_output(g, "flat", flat);
    assert_int_equal(adze_graph_check(g), ADZE_OK);
    assert_int_equal(adze_params_create(&params, ctx, g), ADZE_OK);
    opts.loss = flat;
    assert_int_equal(adze_plan_create(&plan, ctx, g, params, &opts), ADZE_EINVAL);
    assert_null(plan);
    opts.loss = out;
    assert_int_equal(adze_plan_create(&plan, ctx, g, params, &opts), ADZE_OK);
    for (int i = 0; i < ROWS * K; i++) x[i] = (float)(i % 5 - 2);
    assert_int_equal(adze_plan_write(plan, in, x), ADZE_OK);
    for (int round = 1; round <= 2; round++) {
        for (int i = 0; i < M * K; i++) w[i] = (float)(round * (i % 7 - 3));
        assert_int_equal(adze_params_write(params, 0, w), ADZE_OK);
        assert_int_equal(adze_plan_run(plan), ADZE_OK);
        assert_int_equal(adze_plan_read(plan, out, y), ADZE_OK);
        assert_int_equal(adze_plan_read(plan, flat, read), ADZE_OK);
        assert_int_equal(adze_params_read_grad(params, 0, grad), ADZE_OK);
        assert_memory_equal(read, w, sizeof w);
        for (int r = 0; r < ROWS; r++)
            for (int m = 0; m < M; m++) {
                float sum = 0.0f; /* small whole numbers: exact */
                for (int k = 0; k < K; k++) sum += 2.0f * x[r * K + k] * w[m * K + k];
                assert_true(y[r * M + m] == sum);
            }
        for (int i = 0; i < M * K; i++) {
            float sum = 0.0f;
            for (int r = 0; r < ROWS; r++) sum += 2.0f * x[r * K + i % K];
            assert_true(grad[i] == sum);
        }
    }
    destroy(g, params, plan);
    adze_ctx_destroy(ctx);
}

static void failing_allocations_leave_nothing_behind(void **state)
{
    (void)state;
    adze_ctx *ctx;
    assert_int_equal(adze_ctx_create(&ctx, &ADZE_CTX_OPTS), ADZE_OK);
    size_t live = adze_memory_live_bytes();
    int64_t n = 1;
    for (bool ok = false; !ok; n += n < 60 ? 1 : 17) {
        adze_graph *g;
        adze_params *params;
        adze_plan *plan;
        adze_memory_fail_after(n, n % 2 == 0);
        adze_status st = build(ctx, &g, &params, &plan, "resnet18", false);
        adze_memory_fail_after(0, false);
        ok = st == ADZE_OK;
        if (!ok) assert_int_equal(st, ADZE_ENOMEM);
        destroy(g, params, plan);
        assert_int_equal(adze_memory_live_bytes(), live);
    }
    assert_true(n > 100);
    adze_ctx_destroy(ctx);
}

static void unknown_devices_are_refused_by_kind(void **state)
{
    (void)state;
    adze_ctx *ctx;
    adze_ctx_opts opts = ADZE_CTX_OPTS;
    opts.device = "cuda";
    assert_int_equal(adze_ctx_create(&ctx, &opts), ADZE_EBACKEND);
    opts.device = "gpu";
    assert_int_equal(adze_ctx_create(&ctx, &opts), ADZE_EINVAL);
    assert_null(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(residual_nets_fuse_to_convolutions_and_one_pool),
        cmocka_unit_test(buffers_alive_together_do_not_overlap),
        cmocka_unit_test(a_run_allocates_nothing),
        cmocka_unit_test(backward_steps_count_their_gradients),
        cmocka_unit_test(changed_weights_are_packed_anew),
        cmocka_unit_test(views_of_parameters_are_parameters),
        cmocka_unit_test(failing_allocations_leave_nothing_behind),
        cmocka_unit_test(unknown_devices_are_refused_by_kind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
