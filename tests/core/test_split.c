/* test_split.c - cutting a training graph: what is frozen, what each goal trains, what its steps change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/graph_impl.h"
#include "core/memory.h"
#include "core/ops.h"
#include "core/split.h"

enum { N = 2, SIDE = 4, C = 3 };

/* image -> frozen teacher -> trained student with moving statistics -> loss A; student + noise -> trained head -> loss B. */
typedef struct {
    adze_graph *g;
    adze_value image, loss[2];
} network;

static void build(network *n)
{
    adze_conv2d_opts conv = ADZE_CONV2D_OPTS;
    adze_batch_norm_opts norm = ADZE_BATCH_NORM_OPTS;
    assert_int_equal(adze_graph_create(&n->g), ADZE_OK);
    adze_graph *g = n->g;
    n->image = adze_graph_input(g, "image", ADZE_SHAPE(N, SIDE, SIDE, C));
    adze_value noise = adze_graph_input(g, "noise", ADZE_SHAPE(1));
    adze_value teacher = adze_conv2d(g, n->image, adze_graph_param(g, "teacher", ADZE_SHAPE(C, C, 1, 1), false), ADZE_NONE, &conv);
    adze_value student = adze_conv2d(g, teacher, adze_graph_param(g, "student.w", ADZE_SHAPE(C, C, 1, 1), true), ADZE_NONE, &conv);
    student = adze_batch_norm_train(g, student, adze_graph_param(g, "student.gamma", ADZE_SHAPE(C), true),
                                    adze_graph_param(g, "student.beta", ADZE_SHAPE(C), true), adze_graph_param(g, "student.mean", ADZE_SHAPE(C), false),
                                    adze_graph_param(g, "student.var", ADZE_SHAPE(C), false), ADZE_NONE, &norm);
    n->loss[0] = adze_cosine_loss(g, student, teacher);
    adze_graph_output(g, "a", n->loss[0]);
    adze_value rotated = adze_conv2d(g, student, adze_graph_param(g, "rotation", ADZE_SHAPE(C, C, 1, 1), false), ADZE_NONE, &conv);
    adze_value head = adze_conv2d(g, adze_binary(g, ADZE_BINARY_ADD, rotated, noise), adze_graph_param(g, "head.w", ADZE_SHAPE(1, C, 1, 1), true),
                                  ADZE_NONE, &conv);
    n->loss[1] = adze_mean(g, head);
    adze_graph_output(g, "b", n->loss[1]);
    assert_int_equal(adze_graph_check(g), ADZE_OK);
}

static const char *const student_prefix[] = { "student.", NULL }, *const head_prefix[] = { "head.", NULL };

static adze_value_kind kind(const adze_graph *g, const char *name)
{
    adze_value v = adze_graph_find(g, name);
    assert_int_not_equal(v, ADZE_NONE);
    return g->value[v].kind;
}

static void each_goal_has_what_it_needs_and_trains_what_it_names(void **state)
{
    (void)state;
    network n;
    adze_graph_parts s;
    build(&n);
    const adze_graph_goal goal[2] = { { n.loss[0], student_prefix }, { n.loss[1], head_prefix } };
    assert_int_equal(adze_graph_split(&s, n.g, n.image, goal, 2), ADZE_OK);
    assert_int_equal(s.n_cuts, 1); /* the teacher's output, which both read, one of them also as rows */
    assert_int_equal(s.floats[0], SIDE * SIDE * C);
    assert_int_equal(adze_graph_find(s.frozen, "student.w"), ADZE_NONE);
    const adze_graph *a = s.rest[0].graph, *b = s.rest[1].graph;
    for (int k = 0; k < 2; k++) {
        assert_int_not_equal(s.rest[k].to[0], ADZE_NONE);
        assert_int_equal(adze_graph_find(s.rest[k].graph, "image"), ADZE_NONE);
        assert_int_equal(adze_graph_find(s.rest[k].graph, k == 0 ? "a" : "b"), s.rest[k].loss);
    }
    assert_int_equal(adze_graph_find(a, "head.w"), ADZE_NONE);
    assert_int_equal(adze_graph_find(a, "noise"), ADZE_NONE);
    assert_int_equal(adze_graph_find(a, "b"), ADZE_NONE);
    assert_int_not_equal(adze_graph_find(b, "noise"), ADZE_NONE);
    assert_int_equal(kind(a, "student.w"), ADZE_VALUE_PARAM);
    assert_int_equal(kind(b, "student.w"), ADZE_VALUE_FROZEN); /* a constant in this step */
    assert_int_equal(kind(b, "head.w"), ADZE_VALUE_PARAM);
    assert_true(adze_graph_changes(a, "student.w") && adze_graph_changes(a, "student.mean"));
    assert_true(adze_graph_changes(b, "head.w"));
    assert_false(adze_graph_changes(b, "student.w"));
    assert_false(adze_graph_changes(b, "rotation"));
    assert_false(adze_graph_changes(a, "head.w"));
    adze_graph_parts_destroy(&s);
    adze_graph_destroy(n.g);
}

static void without_names_everything_trainable_is_trained(void **state)
{
    (void)state;
    network n;
    adze_graph_parts s;
    build(&n);
    const adze_graph_goal goal = { n.loss[1], NULL };
    assert_int_equal(adze_graph_split(&s, n.g, n.image, &goal, 1), ADZE_OK);
    assert_int_equal(kind(s.rest[0].graph, "student.w"), ADZE_VALUE_PARAM);
    assert_int_equal(kind(s.rest[0].graph, "head.w"), ADZE_VALUE_PARAM);
    adze_graph_parts_destroy(&s);
    adze_graph_destroy(n.g);
}

/* What is cheap to make anew is left to the step: the taps of a network are kept, not the patch features made of them. */
static void patch_features_are_made_anew(void **state)
{
    (void)state;
    adze_graph *g;
    adze_graph_parts s;
    assert_int_equal(adze_graph_create(&g), ADZE_OK);
    adze_value image = adze_graph_input(g, "image", ADZE_SHAPE(2, SIDE, SIDE, 3)), tap[2];
    adze_value w = adze_graph_param(g, "w", ADZE_SHAPE(C, 3, 1, 1), false), v = adze_graph_param(g, "v", ADZE_SHAPE(C, C, 1, 1), false);
    tap[0] = adze_conv2d(g, image, w, ADZE_NONE, &ADZE_CONV2D_OPTS);
    tap[1] = adze_conv2d(g, tap[0], v, ADZE_NONE, &ADZE_CONV2D_OPTS);
    const adze_patch_embed_opts embed = { .patch = 3, .pretrain_dim = 4, .target_dim = 6 };
    adze_value rows = adze_patch_embed(g, tap, 2, &embed);
    adze_value loss = adze_mean(g, adze_linear(g, rows, adze_graph_param(g, "head", ADZE_SHAPE(5, 6), true), ADZE_NONE));
    const adze_graph_goal goal = { loss, NULL };
    assert_int_equal(adze_graph_split(&s, g, image, &goal, 1), ADZE_OK);
    assert_int_equal(s.n_cuts, 2);
    for (int k = 0; k < 2; k++) {
        adze_shape shape = adze_graph_shape(s.frozen, s.from[k]);
        assert_int_equal(s.floats[k], SIDE * SIDE * C);
        assert_int_equal(shape.rank, 4);
        assert_int_not_equal(s.rest[0].to[k], ADZE_NONE);
    }
    adze_graph_parts_destroy(&s);
    adze_graph_destroy(g);
}

static void a_failed_allocation_leaves_nothing(void **state)
{
    (void)state;
    network n;
    adze_graph_parts s;
    build(&n);
    const adze_graph_goal goal[2] = { { n.loss[0], student_prefix }, { n.loss[1], head_prefix } };
    size_t in_use = adze_memory_live_bytes();
    adze_status st = ADZE_ENOMEM;
    for (int64_t k = 1; st != ADZE_OK; k++) {
        adze_memory_fail_after(k, false);
        st = adze_graph_split(&s, n.g, n.image, goal, 2);
        adze_memory_fail_after(0, false);
        if (st == ADZE_OK) break;
        assert_int_equal(st, ADZE_ENOMEM);
        assert_int_equal(adze_memory_live_bytes(), in_use);
    }
    adze_graph_parts_destroy(&s);
    assert_int_equal(adze_memory_live_bytes(), in_use);
    adze_graph_destroy(n.g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_goal_has_what_it_needs_and_trains_what_it_names),
        cmocka_unit_test(without_names_everything_trainable_is_trained),
        cmocka_unit_test(patch_features_are_made_anew),
        cmocka_unit_test(a_failed_allocation_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
