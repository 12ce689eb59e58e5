/* destseg_net.c - student and segmentation network of DeSTSeg. Entry: destseg_student(), destseg_segmentation().
 *
 *   student       the teacher's backbone up to tap 4, untrained; then four stages of two basic blocks, from the second one on
 *                 behind a bilinear resize to the size of the encoder's next shallower tap; no skip connections
 *   product       -unit(t_k) unit(b_k), resized to the first level, side by side
 *   segmentation  two basic blocks to 256; ASPP (mean of the map, dilations 6, 12, 18), fused by 3x3; 3x3; 1x1; sigmoid
 * Names and numerics of ADer model/destseg.py. For backbones other than the benchmark's ResNet-18 the decoder's stages take the
 * widths of the taps. Source: specs/destseg.md. */
#include "models/destseg_net.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/ops.h"
#include "models/backbone.h"
#include "models/layers.h"

#define DESTSEG_EPS 1e-12f
#define HEAD "destseg.segmentation_net.head"
enum { WIDTH = 256 };

/* Two basic blocks. */
static adze_value stage(const layer_builder *b, adze_value x, const char *name, int64_t Co)
{
    for (int i = 0; i < 2; i++) {
        char at[96];
        snprintf(at, sizeof at, "%s.%d", name, i);
        x = layer_basic_block(b, x, at, Co, 1);
    }
    return x;
}

static adze_value resize_to(adze_graph *g, adze_value x, int64_t H, int64_t W)
{
    adze_shape s = adze_graph_shape(g, x);
    if (s.rank != 4 || (s.dim[1] == H && s.dim[2] == W)) return x;
    adze_interpolate_opts o = { .mode = ADZE_INTERPOLATE_BILINEAR, .out = { H, W } };
    return adze_interpolate(g, x, &o);
}

adze_status destseg_student(adze_graph *g, const char *backbone, adze_value x, const destseg_net_opts *opts, adze_value b[DESTSEG_LEVELS])
{
    adze_status st = ADZE_OK;
    char prefix[64], name[64];
    adze_value tap[ADZE_BACKBONE_TAPS];
    adze_backbone_opts encoder = ADZE_BACKBONE_OPTS;
    layer_builder layers = { .g = g, .prefix = opts->prefix, .trainable = opts->trainable, .train = opts->train };
    snprintf(prefix, sizeof prefix, "%snet_s.", opts->prefix ? opts->prefix : "");
    encoder.prefix = prefix, encoder.trainable = opts->trainable, encoder.train = opts->train, encoder.last_tap = 4;
    TRY(adze_backbone_build(g, backbone, x, &encoder, tap, NULL));
    adze_value y = tap[4];
    for (int k = 4; k >= 1; k--) {
        adze_shape to = adze_graph_shape(g, tap[k]);
        snprintf(name, sizeof name, "destseg.student_net.decoder_layer%d", k);
        y = stage(&layers, resize_to(g, y, to.dim[1], to.dim[2]), name, to.dim[3]);
        if (k <= DESTSEG_LEVELS) b[k - 1] = y;
    }
    TRY(adze_graph_check(g));
done:
    return st;
}

adze_value destseg_product(adze_graph *g, const adze_value t[DESTSEG_LEVELS], const adze_value b[DESTSEG_LEVELS])
{
    adze_value part[DESTSEG_LEVELS];
    adze_shape to = adze_graph_shape(g, t[0]);
    for (int k = 0; k < DESTSEG_LEVELS; k++)
        part[k] = resize_to(g, adze_unit_product(g, t[k], b[k], DESTSEG_EPS), to.dim[1], to.dim[2]);
    return adze_concat(g, part, DESTSEG_LEVELS, 3);
}

/* The four branches, of the map's size. */
static void build_branches(const layer_builder *b, adze_value x, adze_value branch[DESTSEG_BRANCHES])
{
    for (int k = 0; k < DESTSEG_BRANCHES; k++) {
        char at[96];
        snprintf(at, sizeof at, HEAD ".0.aspp_feature_extractors.%d%s", k, k == 0 ? ".1" : "");
        adze_value y = k == 0 ? layer_conv(b, adze_adaptive_pool2d(b->g, x, 1, 1), at, "conv", WIDTH, 1, 1, 1)
                              : layer_conv(b, x, at, "conv", WIDTH, 3, 1, 6 * k);
        branch[k] = layer_norm(b, y, at, "norm", ADZE_NONE, true);
    }
}

adze_value destseg_segmentation(adze_graph *g, adze_value x, const destseg_net_opts *opts, destseg_inside *inside)
{
    layer_builder b = { .g = g, .prefix = opts->prefix, .trainable = opts->trainable, .train = opts->train };
    destseg_inside v;
    adze_conv2d_opts one = ADZE_CONV2D_OPTS;
    adze_value wide[DESTSEG_BRANCHES];
    v.res = stage(&b, x, "destseg.segmentation_net.res", WIDTH);
    adze_shape s = adze_graph_shape(g, v.res);
    build_branches(&b, v.res, v.branch);
    memcpy(wide, v.branch, sizeof wide);
    wide[0] = resize_to(g, v.branch[0], s.dim[1], s.dim[2]);
    adze_value y = layer_conv(&b, adze_concat(g, wide, DESTSEG_BRANCHES, 3), HEAD ".0.aspp_fusion_layer", "conv", WIDTH, 3, 1, 1);
    v.aspp = layer_norm(&b, y, HEAD ".0.aspp_fusion_layer", "norm", ADZE_NONE, true);
    v.hidden = layer_norm(&b, layer_conv(&b, v.aspp, HEAD, "1", WIDTH, 3, 1, 1), HEAD, "2", ADZE_NONE, true);
    adze_value weight = layer_param(&b, HEAD, "4", "weight", ADZE_SHAPE(1, WIDTH, 1, 1), true);
    v.logit = adze_conv2d(g, v.hidden, weight, layer_param(&b, HEAD, "4", "bias", ADZE_SHAPE(1), true), &one);
    if (inside) *inside = v;
    return adze_activation(g, v.logit, ADZE_ACT_SIGMOID, 0.0f, 0.0f);
}

adze_value destseg_student_loss(adze_graph *g, const adze_value b[DESTSEG_LEVELS], const adze_value t[DESTSEG_LEVELS], adze_value level[DESTSEG_LEVELS])
{
    adze_value sum = ADZE_NONE;
    for (int k = 0; k < DESTSEG_LEVELS; k++) {
        level[k] = adze_cosine_map_loss(g, b[k], t[k]);
        sum = k == 0 ? level[k] : adze_binary(g, ADZE_BINARY_ADD, sum, level[k]);
    }
    return sum;
}

adze_value destseg_segmentation_loss(adze_graph *g, adze_value p, adze_value m, adze_value part[2])
{
    part[0] = adze_loss(g, ADZE_LOSS_L1, p, m, 0.0f, 0.0f);
    part[1] = adze_loss(g, ADZE_LOSS_FOCAL_BCE, p, m, 0.5f, 4.0f);
    return adze_binary(g, ADZE_BINARY_ADD, part[0], part[1]);
}

/* Whether the parameter is the scale of the last batch norm of an encoder's block, where the residual branch starts silent. */
static bool ends_a_block(const adze_params *params, const char *name)
{
    char deeper[192];
    size_t n = strlen(name), tail = strlen("bn2.weight");
    if (!strstr(name, "net_s.layer") || n < tail) return false;
    if (layer_name_ends(name, ".bn3.weight")) return true;
    snprintf(deeper, sizeof deeper, "%.*sbn3.weight", (int)(n - tail), name);
    return layer_name_ends(name, ".bn2.weight") && adze_params_find(params, deeper) < 0;
}

adze_status destseg_net_init(adze_params *params, const char *prefix, uint64_t seed)
{
    adze_status st = ADZE_OK;
    for (int i = 0; i < adze_params_count(params); i++) {
        const char *name = adze_params_name(params, i);
        if (strncmp(name, prefix, strlen(prefix)) != 0) continue;
        adze_shape s = adze_params_shape(params, i);
        if (s.rank == 4 && strstr(name, HEAD))
            TRY(layer_init(params, i, LAYER_INIT_UNIFORM, 1.0 / sqrt((double)adze_shape_span(&s, 1, s.rank)), seed));
        else if (layer_name_ends(name, HEAD ".4.bias")) TRY(layer_init(params, i, LAYER_INIT_UNIFORM, 1.0 / sqrt((double)WIDTH), seed));
        else if (s.rank == 4) TRY(layer_init(params, i, LAYER_INIT_NORMAL, layer_kaiming(s), seed));
        else TRY(layer_init(params, i, LAYER_INIT_CONSTANT, ends_a_block(params, name) ? 0.0 : layer_norm_start(name), seed));
    }
done:
    return st;
}
