/* backbone.c - the list of backbones and what their builders share. Entry: adze_backbone_build(). */
#include "models/backbone.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/memory.h"
#include "core/text.h"
#include "models/backbone_impl.h"

#define IMAGENET .mean = { 0.485f, 0.456f, 0.406f }, .std = { 0.229f, 0.224f, 0.225f }
#define RESNET_TAPS .n_taps = 5, .tap_name = { "stem", "layer1", "layer2", "layer3", "layer4" }, .stride = { 2, 4, 8, 16, 32 }

static const adze_backbone_info known[] = {
    { .name = "resnet18", RESNET_TAPS, .channels = { 64, 64, 128, 256, 512 }, IMAGENET,
      .reference_weights = "resnet18-5c106cde.pth" },
    { .name = "resnet34", RESNET_TAPS, .channels = { 64, 64, 128, 256, 512 }, IMAGENET,
      .reference_weights = "resnet34-43635321.pth" },
    { .name = "resnet50", RESNET_TAPS, .channels = { 64, 256, 512, 1024, 2048 }, IMAGENET,
      .reference_weights = "resnet50_a1_0-14fe96d1.pth" },
    { .name = "wide_resnet50_2", RESNET_TAPS, .channels = { 64, 256, 512, 1024, 2048 }, IMAGENET,
      .reference_weights = "wide_resnet50_2-95faca4d.pth" },
    { .name = "efficientnet_lite0", .n_taps = 5, .tap_name = { "tap0", "tap1", "tap2", "tap3", "tap4" },
      .stride = { 2, 4, 8, 16, 32 }, .channels = { 16, 24, 40, 112, 320 },
      .mean = { 127.0f / 255.0f, 127.0f / 255.0f, 127.0f / 255.0f },
      .std = { 128.0f / 255.0f, 128.0f / 255.0f, 128.0f / 255.0f },
      .reference_weights = "efficientnet-lite0-57934424.pth" },
};

const adze_backbone_info *adze_backbone_at(int i)
{
    return i >= 0 && i < (int)(sizeof known / sizeof *known) ? &known[i] : NULL;
}

adze_status adze_backbone_find(const char *name, const adze_backbone_info **out)
{
    const adze_backbone_info *b, *nearest = known;
    for (int i = 0; (b = adze_backbone_at(i)); i++) {
        if (strcmp(b->name, name) == 0) {
            *out = b;
            return ADZE_OK;
        }
        if (adze_text_distance(b->name, name) < adze_text_distance(nearest->name, name)) nearest = b;
    }
    return adze_fail(ADZE_EINVAL, "backbone '%s' is unknown; did you mean '%s'?", name, nearest->name);
}

adze_status adze_backbone_tap(const adze_backbone_info *b, const char *name, int *out)
{
    adze_text names = ADZE_TEXT_EMPTY;
    for (int i = 0; i < b->n_taps; i++) {
        if (strcmp(b->tap_name[i], name) == 0) {
            *out = i;
            adze_text_destroy(&names);
            return ADZE_OK;
        }
        adze_text_printf(&names, " %s", b->tap_name[i]);
    }
    adze_status st = adze_fail(ADZE_EINVAL, "layer '%s' is unknown to %s; it has%s", name, b->name, names.s ? names.s : "");
    adze_text_destroy(&names);
    return st;
}

const char *backbone_name(const backbone_builder *b, const char *fmt, ...)
{
    static _Thread_local char text[256];
    int n = snprintf(text, sizeof text, "%s", b->opts->prefix ? b->opts->prefix : "");
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text + n, sizeof text - (size_t)n, fmt, ap);
    va_end(ap);
    return text;
}

adze_value backbone_param(const backbone_builder *b, const char *name, adze_shape shape)
{
    return adze_graph_param(b->g, name, shape, b->opts->trainable);
}

adze_value backbone_conv_bn(const backbone_builder *b, adze_value x, const char *conv, const char *bn, int64_t Co, int k,
                            const adze_conv2d_opts *opts, backbone_tail tail)
{
    adze_shape xs = adze_graph_shape(b->g, x);
    if (xs.rank != 4) return ADZE_NONE; /* an earlier error */
    adze_shape ws = ADZE_SHAPE(Co, xs.dim[3] / opts->groups, k, k), channels = ADZE_SHAPE(Co);
    adze_value w = backbone_param(b, backbone_name(b, "%s.weight", conv), ws), bias = ADZE_NONE;
    if (b->opts->folded) bias = backbone_param(b, backbone_name(b, "%s.bias", conv), channels);
    adze_value y = adze_conv2d(b->g, x, w, bias, opts);
    if (!b->opts->folded) {
        if (b->opts->keep >= 2) backbone_keep(b, 2, conv, y);
        adze_value gamma = backbone_param(b, backbone_name(b, "%s.weight", bn), channels);
        adze_value beta = backbone_param(b, backbone_name(b, "%s.bias", bn), channels);
        adze_value mean = adze_graph_param(b->g, backbone_name(b, "%s.running_mean", bn), channels, false);
        adze_value var = adze_graph_param(b->g, backbone_name(b, "%s.running_var", bn), channels, false);
        adze_batch_norm_opts o = ADZE_BATCH_NORM_OPTS;
        o.eps = b->bn_eps, o.relu = tail.relu;
        if (b->opts->train) return adze_batch_norm_train(b->g, y, gamma, beta, mean, var, tail.residual, &o);
        y = adze_batch_norm(b->g, y, gamma, beta, mean, var, o.eps);
    }
    if (tail.residual != ADZE_NONE) y = adze_binary(b->g, ADZE_BINARY_ADD, y, tail.residual);
    return tail.relu ? adze_activation(b->g, y, ADZE_ACT_RELU, 0.0f, 0.0f) : y;
}

adze_value backbone_keep(const backbone_builder *b, int level, const char *name, adze_value v)
{
    if (b->opts->keep >= level) adze_graph_output(b->g, name, v);
    return v;
}

adze_value backbone_head(const backbone_builder *b, adze_value x, const char *fc)
{
    adze_shape xs = adze_graph_shape(b->g, x);
    if (xs.rank != 4) return ADZE_NONE;
    adze_value pooled = adze_reshape(b->g, adze_adaptive_pool2d(b->g, x, 1, 1), ADZE_SHAPE(xs.dim[0], xs.dim[3]));
    backbone_keep(b, 1, "pool", pooled);
    adze_value w = backbone_param(b, backbone_name(b, "%s.weight", fc), ADZE_SHAPE(1000, xs.dim[3]));
    adze_value bias = backbone_param(b, backbone_name(b, "%s.bias", fc), ADZE_SHAPE(1000));
    return backbone_keep(b, 1, "logits", adze_linear(b->g, pooled, w, bias));
}

adze_status adze_backbone_build(adze_graph *g, const char *name, adze_value x, const adze_backbone_opts *opts,
                                adze_value tap[ADZE_BACKBONE_TAPS], adze_value *logits)
{
    adze_status st = ADZE_OK;
    backbone_builder b = { .g = g, .opts = opts };
    for (int i = 0; i < ADZE_BACKBONE_TAPS; i++) tap[i] = ADZE_NONE;
    TRY(adze_backbone_find(name, &b.info));
    REQUIRE(opts->last_tap >= 0 && opts->last_tap < b.info->n_taps, ADZE_EINVAL, "%s: tap %d, it has 0 to %d", name,
            opts->last_tap, b.info->n_taps - 1);
    REQUIRE(!(opts->folded && (opts->train || opts->trainable)), ADZE_EINVAL, "%s: batch norm that is folded in cannot be trained", name);
    adze_value unused;
    if (!logits) logits = &unused;
    if (strncmp(name, "efficientnet", 12) == 0) TRY(backbone_build_efficientnet(&b, x, tap, logits));
    else TRY(backbone_build_resnet(&b, x, tap, logits));
    TRY(adze_graph_check(g));
done:
    return st;
}
