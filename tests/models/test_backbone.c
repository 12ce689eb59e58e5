/* test_backbone.c - the networks' parameters against the table of weight files, shapes of the taps, errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "checkpoints/backbone_tensors.h"
#include "core/ops.h"
#include "core/params.h"
#include "models/backbone.h"

static void compare_with_table(const char *net, bool folded)
{
    adze_backbone_list list;
    adze_ctx *ctx;
    adze_graph *g;
    adze_params *params;
    assert_int_equal(adze_backbone_tensors(net, folded, &list), ADZE_OK);
    assert_int_equal(adze_ctx_create(&ctx, &ADZE_CTX_OPTS), ADZE_OK);
    assert_int_equal(adze_graph_create(&g), ADZE_OK);
    adze_backbone_opts opts = ADZE_BACKBONE_OPTS;
    opts.folded = folded;
    opts.head = !folded;
    opts.last_tap = folded ? 3 : 4;
    adze_value tap[ADZE_BACKBONE_TAPS], logits;
    adze_value x = adze_graph_input(g, "x", ADZE_SHAPE(1, 64, 64, 3));
    assert_int_equal(adze_backbone_build(g, net, x, &opts, tap, &logits), ADZE_OK);
    assert_int_equal(adze_params_create(&params, ctx, g), ADZE_OK);
    int64_t found = 0;
    for (int64_t i = 0; i < list.count; i++) {
        const adze_backbone_tensor *t = &list.tensor[i];
        int p = adze_params_find(params, t->name);
        if (p < 0) { /* counters, and the tail of folded files */
            assert_true(t->need == ADZE_NEED_COUNTER || (folded && t->need == ADZE_NEED_TAIL));
            continue;
        }
        found++;
        adze_shape have = adze_params_shape(params, p), want = adze_shape_of(t->rank, t->dim);
        if (!adze_shape_equal(&have, &want)) fail_msg("%s: %s has another shape", net, t->name);
    }
    assert_int_equal(found, adze_params_count(params));
    adze_params_destroy(params);
    adze_graph_destroy(g);
    adze_ctx_destroy(ctx);
    adze_backbone_list_destroy(&list);
}

static void parameters_are_those_of_the_weight_files(void **state)
{
    (void)state;
    const adze_backbone_info *b;
    for (int i = 0; (b = adze_backbone_at(i)); i++) compare_with_table(b->name, false);
    compare_with_table("resnet18", true);
}

static void taps_have_the_stated_channels_and_strides(void **state)
{
    (void)state;
    const adze_backbone_info *b;
    for (int i = 0; (b = adze_backbone_at(i)); i++) {
        adze_graph *g;
        adze_value tap[ADZE_BACKBONE_TAPS];
        assert_int_equal(adze_graph_create(&g), ADZE_OK);
        adze_value x = adze_graph_input(g, "x", ADZE_SHAPE(2, 256, 128, 3));
        assert_int_equal(adze_backbone_build(g, b->name, x, &ADZE_BACKBONE_OPTS, tap, NULL), ADZE_OK);
        for (int t = 0; t < b->n_taps; t++) {
            adze_shape s = adze_graph_shape(g, tap[t]), want = ADZE_SHAPE(2, 256 / b->stride[t], 128 / b->stride[t], b->channels[t]);
            assert_true(adze_shape_equal(&s, &want));
            int index;
            assert_int_equal(adze_backbone_tap(b, b->tap_name[t], &index), ADZE_OK);
            assert_int_equal(index, t);
        }
        adze_graph_destroy(g);
    }
}

static void unknown_names_get_the_nearest_one(void **state)
{
    (void)state;
    const adze_backbone_info *b;
    int tap;
    assert_int_equal(adze_backbone_find("resent18", &b), ADZE_EINVAL);
    assert_non_null(strstr(adze_error_message(), "resnet18"));
    assert_int_equal(adze_backbone_find("resnet18", &b), ADZE_OK);
    assert_int_equal(adze_backbone_tap(b, "layer7", &tap), ADZE_EINVAL);
    assert_non_null(strstr(adze_error_message(), "layer3"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parameters_are_those_of_the_weight_files),
        cmocka_unit_test(taps_have_the_stated_channels_and_strides),
        cmocka_unit_test(unknown_names_get_the_nearest_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
