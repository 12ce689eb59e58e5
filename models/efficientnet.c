/* efficientnet.c - EfficientNet-Lite0 (Tan and Le, 2019; the "Lite" variant without squeeze-excite, with ReLU6), names of
 * timm's tf_efficientnet_lite0. Entry: backbone_build_efficientnet().
 * Padding is TensorFlow's SAME: asymmetric where the stride is 2. Batch norm eps is 1e-3. */
#include <stdio.h>

#include "models/backbone_impl.h"

typedef struct {
    int blocks, kernel, stride, expand;
    int64_t out;
    int tap; /* index of the tap that this stage's last block is, or -1 */
} stage;

static const stage lite0[] = {
    { 1, 3, 1, 1, 16, 0 },  { 2, 3, 2, 6, 24, 1 },   { 2, 5, 2, 6, 40, 2 },  { 3, 3, 2, 6, 80, -1 },
    { 3, 5, 1, 6, 112, 3 }, { 4, 5, 2, 6, 192, -1 }, { 1, 3, 1, 6, 320, 4 },
};

static adze_value relu6(const backbone_builder *b, adze_value x)
{
    return adze_activation(b->g, x, ADZE_ACT_RELU6, 0.0f, 0.0f);
}

/* One block at "blocks.S.B": [expand] -> depthwise -> project (+ x where stride 1 and equal channels). */
static adze_value block(const backbone_builder *b, const stage *s, const char *at, adze_value x, int stride)
{
    char conv[64], bn[64];
    const adze_conv2d_opts one = ADZE_CONV2D_OPTS;
    int64_t in = adze_graph_shape(b->g, x).dim[3], mid = in * s->expand;
    int n = 1; /* number of the batch norm: by order in the block */
    adze_value y = x;
    if (s->expand > 1) {
        snprintf(conv, sizeof conv, "%s.conv_pw", at);
        snprintf(bn, sizeof bn, "%s.bn%d", at, n++);
        y = backbone_keep(b, 2, bn, relu6(b, backbone_conv_bn(b, y, conv, bn, mid, 1, &one, BACKBONE_PLAIN)));
    }
    adze_conv2d_opts depthwise = adze_conv2d_same_opts(adze_graph_shape(b->g, y), s->kernel, s->kernel, stride, (int)mid);
    snprintf(conv, sizeof conv, "%s.conv_dw", at);
    snprintf(bn, sizeof bn, "%s.bn%d", at, n++);
    y = backbone_keep(b, 2, bn, relu6(b, backbone_conv_bn(b, y, conv, bn, mid, s->kernel, &depthwise, BACKBONE_PLAIN)));
    snprintf(conv, sizeof conv, "%s.%s", at, s->expand > 1 ? "conv_pwl" : "conv_pw");
    snprintf(bn, sizeof bn, "%s.bn%d", at, n);
    y = backbone_conv_bn(b, y, conv, bn, s->out, 1, &one, BACKBONE_PLAIN);
    if (stride == 1 && in == s->out) y = adze_binary(b->g, ADZE_BINARY_ADD, y, x);
    return backbone_keep(b, 1, at, y);
}

adze_status backbone_build_efficientnet(backbone_builder *b, adze_value x, adze_value *tap, adze_value *logits)
{
    b->bn_eps = 1e-3f;
    adze_conv2d_opts stem = adze_conv2d_same_opts(adze_graph_shape(b->g, x), 3, 3, 2, 1);
    adze_value y = backbone_keep(b, 1, "stem", relu6(b, backbone_conv_bn(b, x, "conv_stem", "bn1", 32, 3, &stem, BACKBONE_PLAIN)));
    for (int s = 0; s < (int)(sizeof lite0 / sizeof *lite0); s++) {
        for (int i = 0; i < lite0[s].blocks; i++) {
            char at[32];
            snprintf(at, sizeof at, "blocks.%d.%d", s, i);
            y = block(b, &lite0[s], at, y, i == 0 ? lite0[s].stride : 1);
        }
        if (lite0[s].tap < 0) continue;
        tap[lite0[s].tap] = y;
        if (lite0[s].tap == b->opts->last_tap) break;
    }
    if (b->opts->head) {
        const adze_conv2d_opts one = ADZE_CONV2D_OPTS;
        y = relu6(b, backbone_conv_bn(b, y, "conv_head", "bn2", 1280, 1, &one, BACKBONE_PLAIN));
        *logits = backbone_head(b, y, "classifier");
    }
    return ADZE_OK;
}
