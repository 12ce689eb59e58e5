/* test_destseg_net.c - DeSTSeg's networks: numbers of parameters, initial values, shapes on every backbone. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/context.h"
#include "core/ops.h"
#include "models/backbone.h"
#include "models/destseg_net.h"
#include "models/layers.h"

typedef struct {
    adze_ctx *ctx;
    adze_graph *graph;
    adze_params *params;
    adze_value product, p;
} net;

static void build(net *n, const char *backbone)
{
    const destseg_net_opts opts = { .trainable = true, .train = true };
    adze_backbone_opts teacher = { .prefix = "backbone.", .last_tap = 3 };
    adze_value tap[ADZE_BACKBONE_TAPS], b[DESTSEG_LEVELS];
    assert_int_equal(adze_ctx_create(&n->ctx, &ADZE_CTX_OPTS), ADZE_OK);
    assert_int_equal(adze_graph_create(&n->graph), ADZE_OK);
    adze_value x = adze_graph_input(n->graph, "x", ADZE_SHAPE(2, 64, 64, 3));
    assert_int_equal(adze_backbone_build(n->graph, backbone, x, &teacher, tap, NULL), ADZE_OK);
    assert_int_equal(destseg_student(n->graph, backbone, x, &opts, b), ADZE_OK);
    for (int k = 0; k < DESTSEG_LEVELS; k++) {
        adze_shape s = adze_graph_shape(n->graph, b[k]), t = adze_graph_shape(n->graph, tap[k + 1]);
        assert_true(adze_shape_equal(&s, &t));
    }
    n->product = destseg_product(n->graph, tap + 1, b);
    n->p = destseg_segmentation(n->graph, n->product, &opts, NULL);
    assert_int_equal(adze_graph_check(n->graph), ADZE_OK);
    assert_int_equal(adze_params_create(&n->params, n->ctx, n->graph), ADZE_OK);
}

static void destroy(net *n)
{
    adze_params_destroy(n->params);
    adze_graph_destroy(n->graph);
    adze_ctx_destroy(n->ctx);
}

static int64_t trainable(const net *n, const char *prefix)
{
    int64_t sum = 0;
    for (int i = 0; i < adze_params_count(n->params); i++) {
        adze_shape s = adze_params_shape(n->params, i);
        if (adze_params_trainable(n->params, i) && strncmp(adze_params_name(n->params, i), prefix, strlen(prefix)) == 0)
            sum += adze_shape_count(&s);
    }
    return sum;
}

static void has_the_benchmark_parameters(void **state)
{
    (void)state;
    net n;
    build(&n, "resnet18");
    assert_int_equal(trainable(&n, "backbone."), 0);
    assert_int_equal(trainable(&n, "net_s."), 11176512);
    assert_int_equal(trainable(&n, "destseg.student_net."), 13488512);
    assert_int_equal(trainable(&n, "destseg.segmentation_net.res."), 2918912);
    assert_int_equal(trainable(&n, "destseg.segmentation_net.head."), 4787457);
    destroy(&n);
}

/* Deviation of a parameter's values from 0. */
static double deviation(const net *n, const char *name)
{
    int i = adze_params_find(n->params, name);
    assert_true(i >= 0);
    adze_shape s = adze_params_shape(n->params, i);
    int64_t count = adze_shape_count(&s);
    float *x = malloc((size_t)count * sizeof *x);
    double sum = 0.0;
    assert_int_equal(adze_params_read(n->params, i, x), ADZE_OK);
    for (int64_t k = 0; k < count; k++) sum += (double)x[k] * x[k];
    free(x);
    return sqrt(sum / (double)count);
}

static void starts_as_the_reference(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        double deviation, bound; /* bound 0: exact; else of a sample's deviation, five of 1/sqrt(2 n) */
    } want[] = {
        { "net_s.conv1.weight", 0.0252538, 0.037 },                /* sqrt(2/(64*49)), n = 9408 */
        { "net_s.layer4.1.conv2.weight", 0.0208333, 0.0024 },      /* sqrt(2/(512*9)) */
        { "net_s.bn1.weight", 1.0, 0.0 },
        { "net_s.layer1.0.bn1.weight", 1.0, 0.0 },
        { "net_s.layer1.0.bn2.weight", 0.0, 0.0 },
        { "net_s.layer2.0.downsample.1.weight", 1.0, 0.0 },
        { "destseg.student_net.decoder_layer1.1.bn2.weight", 1.0, 0.0 },
        { "destseg.student_net.decoder_layer1.1.bn2.bias", 0.0, 0.0 },
        { "destseg.segmentation_net.res.0.conv1.weight", 0.0294628, 0.0035 }, /* sqrt(2/(256*9)) */
        { "destseg.segmentation_net.head.1.weight", 0.0120281, 0.0047 },      /* 1/sqrt(3*256*9) */
        { "destseg.segmentation_net.head.4.weight", 0.0360844, 0.23 },        /* 1/(16 sqrt 3) */
        { "destseg.segmentation_net.head.0.aspp_fusion_layer.norm.running_var", 1.0, 0.0 },
    };
    net n;
    build(&n, "resnet18");
    assert_int_equal(destseg_net_init(n.params, "net_s.", 42), ADZE_OK);
    assert_int_equal(destseg_net_init(n.params, "destseg.", 42), ADZE_OK);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        double got = deviation(&n, want[i].name);
        if (fabs(got - want[i].deviation) > want[i].bound * want[i].deviation) fail_msg("%s: deviation %g, want %g", want[i].name, got, want[i].deviation);
    }
    double bias = deviation(&n, "destseg.segmentation_net.head.4.bias");
    assert_true(bias > 0.0 && bias <= 1.0 / 16.0);
    assert_true(deviation(&n, "backbone.conv1.weight") == 0.0); /* not its business */
    destroy(&n);
}

/* The last batch norm of a bottleneck block is bn3; bn2 there starts at 1. */
static void fits_every_backbone(void **state)
{
    (void)state;
    const adze_backbone_info *info;
    for (int i = 0; (info = adze_backbone_at(i)); i++) {
        net n;
        build(&n, info->name);
        adze_shape p = adze_graph_shape(n.graph, n.p), x = adze_graph_shape(n.graph, n.product), want = ADZE_SHAPE(2, 16, 16, 1);
        assert_true(adze_shape_equal(&p, &want));
        assert_int_equal(x.dim[3], info->channels[1] + info->channels[2] + info->channels[3]);
        if (strcmp(info->name, "resnet50") == 0) {
            assert_int_equal(destseg_net_init(n.params, "net_s.", 1), ADZE_OK);
            assert_true(deviation(&n, "net_s.layer1.0.bn3.weight") == 0.0 && deviation(&n, "net_s.layer1.0.bn2.weight") == 1.0);
        }
        destroy(&n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(has_the_benchmark_parameters),
        cmocka_unit_test(starts_as_the_reference),
        cmocka_unit_test(fits_every_backbone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
