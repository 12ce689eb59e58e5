/* resnet.c - ResNet-18, 34, 50 and Wide-ResNet-50-2 (He et al., 2016; Zagoruyko and Komodakis, 2016), "v1.5": the stride
 * sits in the 3x3 convolution. Tensor names of torchvision and timm. Entry: backbone_build_resnet(). */
#include <stdio.h>
#include <string.h>

#include "models/backbone_impl.h"

typedef struct {
    const char *name;
    bool bottleneck;
    int blocks[4];
    int64_t base_width; /* of the 3x3 convolution in the first stage */
} resnet;

static const resnet nets[] = {
    { "resnet18", false, { 2, 2, 2, 2 }, 64 },
    { "resnet34", false, { 3, 4, 6, 3 }, 64 },
    { "resnet50", true, { 3, 4, 6, 3 }, 64 },
    { "wide_resnet50_2", true, { 3, 4, 6, 3 }, 128 },
};

/* One residual block; `at` = "layer2.0". */
static adze_value block(const backbone_builder *b, const resnet *net, const char *at, adze_value x, int stage, int stride)
{
    char conv[64], bn[64];
    int64_t planes = (int64_t)64 << stage, width = net->base_width << stage, out = net->bottleneck ? 4 * planes : planes;
    const adze_conv2d_opts one = ADZE_CONV2D_OPTS;
    adze_conv2d_opts three = ADZE_CONV2D_OPTS, strided = ADZE_CONV2D_OPTS;
    for (int i = 0; i < 4; i++) three.pad[i] = 1, strided.pad[i] = 1;
    strided.stride[0] = strided.stride[1] = stride;

    adze_value y = x, shortcut = x;
    if (stride != 1 || adze_graph_shape(b->g, x).dim[3] != out) {
        adze_conv2d_opts sampled = one;
        sampled.stride[0] = sampled.stride[1] = stride;
        snprintf(conv, sizeof conv, "%s.downsample.0", at);
        snprintf(bn, sizeof bn, "%s.downsample.1", at);
        shortcut = backbone_conv_bn(b, x, conv, bn, out, 1, &sampled, BACKBONE_PLAIN);
    }
    int n_convs = net->bottleneck ? 3 : 2;
    for (int i = 1; i <= n_convs; i++) {
        bool last = i == n_convs;
        const adze_conv2d_opts *o = net->bottleneck ? (i == 2 ? &strided : &one) : (i == 1 ? &strided : &three);
        snprintf(conv, sizeof conv, "%s.conv%d", at, i);
        snprintf(bn, sizeof bn, "%s.bn%d", at, i);
        backbone_tail tail = { last ? shortcut : ADZE_NONE, true };
        y = backbone_conv_bn(b, y, conv, bn, last ? out : width, o->pad[0] ? 3 : 1, o, tail);
    }
    return backbone_keep(b, 1, at, y);
}

adze_status backbone_build_resnet(backbone_builder *b, adze_value x, adze_value *tap, adze_value *logits)
{
    const resnet *net = NULL;
    for (size_t i = 0; i < sizeof nets / sizeof *nets; i++)
        if (strcmp(nets[i].name, b->info->name) == 0) net = &nets[i];
    if (!net) return adze_fail(ADZE_EINTERNAL, "%s is no residual network", b->info->name);
    b->bn_eps = 1e-5f;

    adze_conv2d_opts stem = ADZE_CONV2D_OPTS;
    stem.stride[0] = stem.stride[1] = 2;
    for (int i = 0; i < 4; i++) stem.pad[i] = 3;
    tap[0] = backbone_keep(b, 1, "stem", backbone_conv_bn(b, x, "conv1", "bn1", 64, 7, &stem, BACKBONE_RELU));
    adze_pool2d_opts pool = { .kernel = { 3, 3 }, .stride = { 2, 2 }, .pad = { 1, 1, 1, 1 }, .max = true };
    adze_value y = tap[0];
    if (b->opts->last_tap > 0) y = backbone_keep(b, 1, "maxpool", adze_pool2d(b->g, y, &pool));
    for (int stage = 0; stage < b->opts->last_tap; stage++) {
        for (int i = 0; i < net->blocks[stage]; i++) {
            char at[32];
            snprintf(at, sizeof at, "layer%d.%d", stage + 1, i);
            y = block(b, net, at, y, stage, stage > 0 && i == 0 ? 2 : 1);
        }
        tap[stage + 1] = y;
    }
    if (b->opts->head) *logits = backbone_head(b, y, "fc");
    return ADZE_OK;
}
