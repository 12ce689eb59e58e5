/* test_recording.c - a recorded and replayed plan does what its kernels do one by one: the same bits in outputs, gradients, running
 * statistics and parameters over several training steps; and what changes between runs is seen by the replay. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/backend.h"
#include "core/memory.h"
#include "core/ops.h"
#include "core/params.h"
#include "core/philox.h"
#include "core/plan.h"
#include "core/plan_impl.h"
#include "train/optimizer.h"

enum { N = 2, SIDE = 6, C = 4, STEPS = 4 };

#define OK(call) \
    do { \
        if ((call) != ADZE_OK) fail_msg("%s", adze_error_message()); \
    } while (0)

static adze_ctx *ctx;

static int open_device(void **state)
{
    (void)state;
    adze_ctx_opts opts = ADZE_CTX_OPTS;
    const char *device = getenv("ADZE_TEST_DEVICE");
    opts.device = device ? device : "cusim";
    if (adze_ctx_create(&ctx, &opts) != ADZE_OK) fail_msg("%s", adze_error_message());
    return 0;
}

static int close_device(void **state)
{
    (void)state;
    adze_ctx_destroy(ctx);
    return 0;
}

static void random_floats(float *x, int64_t n, uint32_t item)
{
    adze_philox_fill_uniform((adze_philox){ .seed = 11, .stream = ADZE_STREAM_TEST, .item = item }, 0, x, n);
    for (int64_t i = 0; i < n; i++) x[i] -= 0.5f;
}

/* A small net with a convolution that is folded, one that is trained, a transposed one, batch norm, and a product. */
typedef struct {
    adze_graph *g;
    adze_params *params;
    adze_plan *plan;
    adze_optim *optim;
    adze_value x, loss;
} net;

static adze_value weight(net *n, const char *name, adze_shape shape, bool trainable)
{
    return adze_graph_param(n->g, name, shape, trainable);
}

static void build(net *n, bool no_recording)
{
    OK(adze_graph_create(&n->g));
    adze_conv2d_opts same = ADZE_CONV2D_OPTS, down = ADZE_CONV2D_OPTS;
    for (int i = 0; i < 4; i++) same.pad[i] = 1;
    down.stride[0] = down.stride[1] = 2;
    n->x = adze_graph_input(n->g, "x", ADZE_SHAPE(N, SIDE, SIDE, 3));
    adze_value h = adze_conv2d(n->g, n->x, weight(n, "frozen.w", ADZE_SHAPE(C, 3, 3, 3), false), ADZE_NONE, &same);
    h = adze_batch_norm(n->g, h, weight(n, "f.gamma", ADZE_SHAPE(C), false), weight(n, "f.beta", ADZE_SHAPE(C), false),
                        weight(n, "f.mean", ADZE_SHAPE(C), false), weight(n, "f.var", ADZE_SHAPE(C), false), 1e-5f);
    h = adze_activation(n->g, h, ADZE_ACT_RELU, 0.0f, 0.0f);
    h = adze_conv2d(n->g, h, weight(n, "conv.w", ADZE_SHAPE(C, C, 3, 3), true), weight(n, "conv.b", ADZE_SHAPE(C), true), &same);
    adze_batch_norm_opts bn = { .eps = 1e-5f, .momentum = 0.1f, .relu = true };
    h = adze_batch_norm_train(n->g, h, weight(n, "bn.gamma", ADZE_SHAPE(C), true), weight(n, "bn.beta", ADZE_SHAPE(C), true),
                              weight(n, "bn.mean", ADZE_SHAPE(C), false), weight(n, "bn.var", ADZE_SHAPE(C), false), ADZE_NONE, &bn);
    h = adze_conv_transpose2d(n->g, h, weight(n, "up.w", ADZE_SHAPE(C, 2, 2, 2), true), ADZE_NONE, &down);
    h = adze_linear(n->g, h, weight(n, "head.w", ADZE_SHAPE(1, 2), true), weight(n, "head.b", ADZE_SHAPE(1), true));
    n->loss = adze_mean(n->g, adze_binary(n->g, ADZE_BINARY_MUL, h, h));
    OK(adze_graph_check(n->g));
    OK(adze_params_create(&n->params, ctx, n->g));
    for (int i = 0; i < adze_params_count(n->params); i++) {
        float w[C * C * 9];
        adze_shape s = adze_params_shape(n->params, i);
        random_floats(w, adze_shape_count(&s), 100 + (uint32_t)i);
        if (strstr(adze_params_name(n->params, i), "var"))
            for (int k = 0; k < C; k++) w[k] += 1.0f;
        OK(adze_params_write(n->params, i, w));
    }
    adze_plan_opts opts = ADZE_PLAN_OPTS;
    opts.loss = n->loss;
    opts.no_recording = no_recording;
    OK(adze_plan_create(&n->plan, ctx, n->g, n->params, &opts));
    adze_optim_opts adam = ADZE_OPTIM_OPTS;
    OK(adze_optim_create(&n->optim, n->params, &adam));
}

static void destroy(net *n)
{
    adze_optim_destroy(n->optim);
    adze_plan_destroy(n->plan);
    adze_params_destroy(n->params);
    adze_graph_destroy(n->g);
}

/* One training step; the loss. */
static float step(net *n, uint32_t item)
{
    float x[N * SIDE * SIDE * 3], loss;
    random_floats(x, N * SIDE * SIDE * 3, item);
    OK(adze_plan_write(n->plan, n->x, x));
    OK(adze_plan_run(n->plan));
    OK(adze_plan_read(n->plan, n->loss, &loss));
    OK(adze_optim_step(n->optim, 0.01));
    return loss;
}

static void same_parameters(const net *a, const net *b)
{
    for (int i = 0; i < adze_params_count(a->params); i++) {
        float p[C * C * 9], q[C * C * 9];
        adze_shape s = adze_params_shape(a->params, i);
        OK(adze_params_read(a->params, i, p));
        OK(adze_params_read(b->params, i, q));
        assert_memory_equal(p, q, (size_t)adze_shape_count(&s) * sizeof *p);
    }
}

static void replays_give_the_bits_of_single_launches(void **state)
{
    (void)state;
    net recorded = { 0 }, single = { 0 };
    build(&recorded, false);
    build(&single, true);
    float first = 0.0f;
    for (uint32_t k = 0; k < STEPS; k++) {
        float a = step(&recorded, k), b = step(&single, k);
        assert_true(isfinite(a));
        assert_memory_equal(&a, &b, sizeof a);
        if (k == 0) first = a;
        else assert_true(a != first);
        same_parameters(&recorded, &single);
    }
    assert_non_null(recorded.plan->recording);
    assert_null(single.plan->recording);
    destroy(&recorded);
    destroy(&single);
}

static void a_changed_frozen_parameter_reaches_the_replay(void **state)
{
    (void)state;
    net recorded = { 0 }, single = { 0 };
    build(&recorded, false);
    build(&single, true);
    net *both[2] = { &recorded, &single };
    float loss[2];
    for (int i = 0; i < 2; i++) {
        float w[C * 27];
        for (uint32_t k = 0; k < 3; k++) step(both[i], k);
        random_floats(w, C * 27, 77);
        OK(adze_params_write(both[i]->params, adze_params_find(both[i]->params, "frozen.w"), w));
        loss[i] = step(both[i], 3);
    }
    assert_memory_equal(&loss[0], &loss[1], sizeof loss[0]);
    destroy(&recorded);
    destroy(&single);
}

static void a_step_allocates_nothing_after_the_second(void **state)
{
    (void)state;
    net n = { 0 };
    build(&n, false);
    step(&n, 0), step(&n, 1);
    int64_t before = adze_memory_alloc_count();
    step(&n, 2), step(&n, 3);
    assert_int_equal(adze_memory_alloc_count(), before);
    destroy(&n);
}

static void the_first_operation_with_nan_is_named(void **state)
{
    (void)state;
    net n = { 0 };
    build(&n, false);
    float x[N * SIDE * SIDE * 3], loss;
    step(&n, 0), step(&n, 1);
    random_floats(x, N * SIDE * SIDE * 3, 0);
    float bad[C] = { NAN, NAN, NAN, NAN };
    OK(adze_params_write(n.params, adze_params_find(n.params, "bn.beta"), bad));
    OK(adze_plan_write(n.plan, n.x, x));
    OK(adze_plan_run(n.plan));
    OK(adze_plan_read(n.plan, n.loss, &loss));
    assert_true(isnan(loss));
    assert_non_null(strstr(adze_plan_first_nonfinite(n.plan), "bn"));
    destroy(&n);
}

static void every_operation_that_cannot_be_recorded_says_so(void **state)
{
    (void)state;
    net n = { 0 };
    build(&n, false);
    for (int32_t i = 0; i < adze_plan_step_count(n.plan); i++)
        assert_string_not_equal(adze_plan_step_at(n.plan, i).kernel, "reference (host)");
    assert_true(n.plan->recordable);
    destroy(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replays_give_the_bits_of_single_launches),
        cmocka_unit_test(a_changed_frozen_parameter_reaches_the_replay),
        cmocka_unit_test(a_step_allocates_nothing_after_the_second),
        cmocka_unit_test(the_first_operation_with_nan_is_named),
        cmocka_unit_test(every_operation_that_cannot_be_recorded_says_so),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
