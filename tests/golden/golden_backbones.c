/* golden_backbones.c - cases of whole networks: every kept block, taps, logits, and folded weights. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/context.h"
#include "core/op_conv2d.h"
#include "core/params.h"
#include "core/plan.h"
#include "models/backbone.h"
#include "tests/golden/golden.h"

/* "tf_efficientnet_lite0" -> "efficientnet_lite0"; NULL if we have no such net. */
static const adze_backbone_info *net_of(const golden *g)
{
    const char *name = golden_string(g->setup, "net", "");
    if (strncmp(name, "tf_", 3) == 0) name += 3;
    const adze_backbone_info *info;
    return adze_backbone_find(name, &info) == ADZE_OK ? info : NULL;
}

/* Weight rule, times the case's factor for names that end in a listed suffix. */
static float *weights_for(const golden *g, const char *name, adze_shape shape)
{
    float *w = golden_weight(name, shape.dim, shape.rank);
    const char *suffix;
    json_t *factor;
    json_object_foreach(json_object_get(g->setup, "scale"), suffix, factor) {
        size_t n = strlen(name), m = strlen(suffix);
        if (n < m || strcmp(name + n - m, suffix) != 0) continue;
        for (int64_t i = 0; i < adze_shape_count(&shape); i++) w[i] *= (float)json_number_value(factor);
    }
    return w;
}

static adze_status fill(const golden *g, adze_params *params)
{
    adze_status st = ADZE_OK;
    for (int i = 0; i < adze_params_count(params) && st == ADZE_OK; i++) {
        float *w = weights_for(g, adze_params_name(params, i), adze_params_shape(params, i));
        st = adze_params_write(params, i, w);
        free(w);
    }
    return st;
}

/* The value `name` of the case against the output `kept` of our graph. */
static adze_status check_output(golden *g, adze_plan *plan, const adze_graph *graph, const char *name, const char *kept)
{
    adze_value v = adze_graph_find(graph, kept);
    if (v == ADZE_NONE) {
        golden_expect(g, name, false, "the network has no such value");
        return ADZE_OK;
    }
    adze_shape s = adze_graph_shape(graph, v);
    int64_t n = adze_shape_count(&s);
    float *x = malloc((size_t)n * sizeof *x), *y = malloc((size_t)n * sizeof *y);
    adze_status st = adze_plan_read(plan, v, x);
    if (s.rank == 4) golden_nhwc_to_nchw(x, s.dim[0], s.dim[3], s.dim[1], s.dim[2], y);
    else memcpy(y, x, (size_t)n * sizeof *y);
    if (st == ADZE_OK) golden_check(g, name, y, n);
    free(x), free(y);
    return st;
}

/* "layer3" is the last block of its stage, the block's own name in our graph. */
static const char *alias_of(const golden *g, const char *name, char text[32])
{
    size_t i;
    json_t *stage;
    json_array_foreach(json_object_get(g->setup, "stages"), i, stage) {
        if (strcmp(golden_string(stage, "name", ""), name) != 0 || !json_object_get(stage, "blocks")) continue;
        snprintf(text, 32, "%s.%d", name, (int)golden_int(stage, "blocks", 1) - 1);
        return text;
    }
    return name;
}

static void forward(golden *g, const adze_backbone_info *info)
{
    adze_status st = ADZE_OK;
    adze_ctx *ctx = NULL;
    adze_graph *graph = NULL;
    adze_params *params = NULL;
    adze_plan *plan = NULL;
    int64_t N = golden_int(g->setup, "batch", 1), H = golden_int(g->setup, "height", 0), W = golden_int(g->setup, "width", 0);
    float *x = golden_unit(golden_string(g->setup, "input", ""), N * 3 * H * W);
    float *nhwc = malloc((size_t)(N * 3 * H * W) * sizeof *nhwc);
    golden_nchw_to_nhwc(x, N, 3, H, W, nhwc);

    adze_backbone_opts opts = ADZE_BACKBONE_OPTS;
    opts.prefix = golden_string(g->setup, "prefix", "");
    opts.head = json_object_get(json_object_get(g->root, "values"), "logits") != NULL;
    bool inner = false;
    const char *name;
    json_t *value;
    json_object_foreach(json_object_get(g->root, "values"), name, value) inner |= strstr(name, "conv_") != NULL;
    opts.keep = inner ? 2 : 1;
    TRY(golden_context(g, &ctx));
    TRY(adze_graph_create(&graph));
    adze_value input = adze_graph_input(graph, "image", ADZE_SHAPE(N, H, W, 3)), tap[ADZE_BACKBONE_TAPS];
    TRY(adze_backbone_build(graph, info->name, input, &opts, tap, NULL));
    TRY(adze_params_create(&params, ctx, graph));
    TRY(fill(g, params));
    TRY(adze_plan_create(&plan, ctx, graph, params, &ADZE_PLAN_OPTS));
    TRY(adze_plan_write(plan, input, nhwc));
    TRY(adze_plan_run(plan));
    json_object_foreach(json_object_get(g->root, "values"), name, value) {
        char text[32];
        TRY(check_output(g, plan, graph, name, alias_of(g, name, text)));
    }
done:
    if (st != ADZE_OK) golden_expect(g, "run", false, "%s", adze_error_message());
    adze_plan_destroy(plan);
    adze_params_destroy(params);
    adze_graph_destroy(graph);
    adze_ctx_destroy(ctx);
    free(x), free(nhwc);
}

/* A tensor of the case's network by its reference name. */
static float *named(const golden *g, const char *stem, const char *tail, adze_shape shape)
{
    char name[256];
    snprintf(name, sizeof name, "%s%s%s", golden_string(g->setup, "prefix", ""), stem, tail);
    return golden_weight(name, shape.dim, shape.rank);
}

/* "layer1.0.conv2" -> "layer1.0.bn2", "layer2.0.downsample.0" -> "layer2.0.downsample.1". */
static void norm_name(const char *conv, char text[64])
{
    snprintf(text, 64, "%s", conv);
    char *p = strstr(text, "conv");
    if (p) memmove(p + 2, p + 4, strlen(p + 4) + 1), memcpy(p, "bn", 2);
    else text[strlen(text) - 1] = '1';
}

static void fold(golden *g)
{
    const char *name;
    json_t *value;
    json_object_foreach(json_object_get(g->root, "values"), name, value) {
        size_t n = strlen(name);
        if (n < 7 || strcmp(name + n - 7, ".weight") != 0) continue;
        char conv[64], bn[64], bias_name[72];
        snprintf(conv, sizeof conv, "%.*s", (int)(n - 7), name);
        snprintf(bias_name, sizeof bias_name, "%s.bias", conv);
        norm_name(conv, bn);
        const json_t *dims = json_object_get(value, "shape");
        adze_shape ws = { .rank = (int)json_array_size(dims) };
        for (int d = 0; d < ws.rank; d++) ws.dim[d] = json_integer_value(json_array_get(dims, (size_t)d));
        adze_shape channels = ADZE_SHAPE(ws.dim[0]);
        int64_t Co = ws.dim[0], K = adze_shape_span(&ws, 1, ws.rank);
        float *w = named(g, conv, ".weight", ws), *b = malloc((size_t)Co * sizeof *b);
        float *gamma = named(g, bn, ".weight", channels), *beta = named(g, bn, ".bias", channels);
        float *mean = named(g, bn, ".running_mean", channels), *var = named(g, bn, ".running_var", channels);
        adze_norm_stats stats = { gamma, beta, mean, var, (float)golden_real(g->setup, "eps", 1e-5) };
        adze_batch_norm_fold(&stats, Co, K, w, NULL, w, b);
        golden_check(g, name, w, Co * K);
        golden_check(g, bias_name, b, Co);
        free(w), free(b), free(gamma), free(beta), free(mean), free(var);
    }
}

bool golden_backbones(golden *g)
{
    if (strcmp(g->kind, "backbone.fold") == 0) {
        fold(g);
        return true;
    }
    bool known_kind = strcmp(g->kind, "backbone.resnet") == 0 || strcmp(g->kind, "backbone.efficientnet") == 0;
    const adze_backbone_info *info = net_of(g);
    if (!known_kind || !info) return false;
    forward(g, info);
    return true;
}
