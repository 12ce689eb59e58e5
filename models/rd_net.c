/* rd_net.c - MFF_OCE and the decoder of reverse distillation. Entry: rd_net_build().
 *
 *   MFF_OCE   l1 = 2 x (3x3 s2) of t1;  l2 = 3x3 s2 of t2;  [l1 | l2 | t3] -> residual blocks, the first one of stride 2 -> code
 *   decoder   mirrors the teacher: each stage's first block doubles the side by a transposed 2x2 convolution
 * Names and shapes of ADer model/rd.py; basic blocks for ResNet-18 and 34 as in RD4AD's table. Source: specs/rd.md. */
#include "models/rd_net.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/ops.h"
#include "models/layers.h"

typedef struct {
    const char *backbone;
    bool bottleneck;
    int oce_blocks, decoder_blocks[3];
    int64_t width; /* of the decoder's last stage's 3x3 */
} rd_shape;

static const rd_shape shapes[] = {
    { "resnet18", false, 2, { 2, 2, 2 }, 64 },
    { "resnet34", false, 3, { 3, 4, 6 }, 64 },
    { "resnet50", true, 3, { 3, 4, 6 }, 64 },
    { "wide_resnet50_2", true, 3, { 3, 4, 6 }, 128 },
};

typedef struct {
    layer_builder layers;
    rd_net_inside *inside;
} builder;

/* Batch norm, then the residual and ReLU behind it. */
static adze_value norm(const builder *b, adze_value x, const char *at, const char *part, adze_value residual, bool relu)
{
    return layer_norm(&b->layers, x, at, part, residual, relu);
}

/* k x k convolution without bias; padding k/2. */
static adze_value conv(const builder *b, adze_value x, const char *at, const char *part, int64_t Co, int k, int stride)
{
    return layer_conv(&b->layers, x, at, part, Co, k, stride, 1);
}

/* Transposed 2x2 of stride 2. */
static adze_value deconv(const builder *b, adze_value x, const char *at, const char *part, int64_t Co)
{
    adze_graph *g = b->layers.g;
    adze_shape s = adze_graph_shape(g, x);
    if (s.rank != 4) return ADZE_NONE;
    adze_conv2d_opts o = ADZE_CONV2D_OPTS;
    o.stride[0] = o.stride[1] = 2;
    adze_value w = layer_param(&b->layers, at, part, "weight", ADZE_SHAPE(s.dim[3], Co, 2, 2), true);
    return adze_conv_transpose2d(g, x, w, ADZE_NONE, &o);
}

/* An encoder block of MFF_OCE's bottleneck. */
static adze_value oce_block(const builder *b, const rd_shape *r, const char *at, adze_value x, int stride)
{
    if (!r->bottleneck) return layer_basic_block(&b->layers, x, at, 512, stride);
    adze_value y = x, shortcut = x;
    if (stride != 1 || adze_graph_shape(b->layers.g, x).dim[3] != 2048) {
        shortcut = conv(b, x, at, "downsample.0", 2048, 1, stride);
        shortcut = norm(b, shortcut, at, "downsample.1", ADZE_NONE, false);
    }
    y = norm(b, conv(b, y, at, "conv1", 512, 1, 1), at, "bn1", ADZE_NONE, true);
    y = norm(b, conv(b, y, at, "conv2", 512, 3, stride), at, "bn2", ADZE_NONE, true);
    return norm(b, conv(b, y, at, "conv3", 2048, 1, 1), at, "bn3", shortcut, true);
}

/* A decoder block; `grow`: the side doubles. */
static adze_value decoder_block(const builder *b, const rd_shape *r, const char *at, adze_value x, int64_t w, int64_t out, bool grow, bool first)
{
    adze_value y = x, shortcut = x, up = ADZE_NONE, middle;
    if (grow) {
        up = deconv(b, x, at, "upsample.0", out);
        shortcut = norm(b, up, at, "upsample.1", ADZE_NONE, false);
    }
    if (r->bottleneck) {
        y = norm(b, conv(b, y, at, "conv1", w, 1, 1), at, "bn1", ADZE_NONE, true);
        middle = grow ? deconv(b, y, at, "conv2", w) : conv(b, y, at, "conv2", w, 3, 1);
        y = norm(b, middle, at, "bn2", ADZE_NONE, true);
        y = norm(b, conv(b, y, at, "conv3", out, 1, 1), at, "bn3", shortcut, true);
    } else {
        middle = grow ? deconv(b, y, at, "conv1", out) : conv(b, y, at, "conv1", out, 3, 1);
        y = norm(b, middle, at, "bn1", ADZE_NONE, true);
        y = norm(b, conv(b, y, at, "conv2", out, 3, 1), at, "bn2", shortcut, true);
    }
    if (first && b->inside) b->inside->deconv = middle, b->inside->upsample = up;
    return y;
}

static adze_value build_oce(const builder *b, const rd_shape *r, const adze_value t[3])
{
    int64_t e = r->bottleneck ? 4 : 1;
    adze_value l1 = norm(b, conv(b, t[0], "mff_oce", "conv1", 128 * e, 3, 2), "mff_oce", "bn1", ADZE_NONE, true);
    l1 = norm(b, conv(b, l1, "mff_oce", "conv2", 256 * e, 3, 2), "mff_oce", "bn2", ADZE_NONE, true);
    adze_value l2 = norm(b, conv(b, t[1], "mff_oce", "conv3", 256 * e, 3, 2), "mff_oce", "bn3", ADZE_NONE, true);
    if (b->inside) b->inside->l1 = l1, b->inside->l2 = l2;
    adze_value x = adze_concat(b->layers.g, (adze_value[]){ l1, l2, t[2] }, 3, 3);
    for (int i = 0; i < r->oce_blocks; i++) {
        char at[64];
        snprintf(at, sizeof at, "mff_oce.bn_layer.%d", i);
        x = oce_block(b, r, at, x, i == 0 ? 2 : 1);
    }
    if (b->inside) b->inside->code = x;
    return x;
}

adze_status rd_net_build(adze_graph *g, const char *backbone, const adze_value t[3], const rd_net_opts *opts, adze_value s[3],
                         rd_net_inside *inside)
{
    const rd_shape *r = NULL;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        if (strcmp(shapes[i].backbone, backbone) == 0) r = &shapes[i];
    if (!r)
        return adze_fail(ADZE_EINVAL, "rd: no decoder mirrors %s; resnet18, resnet34, resnet50 and wide_resnet50_2 have one", backbone);
    builder b = { .layers = { .g = g, .prefix = opts->prefix, .trainable = opts->train, .train = opts->train }, .inside = inside };
    adze_value x = build_oce(&b, r, t);
    for (int stage = 0; stage < 3; stage++) {
        int64_t w = r->width << (2 - stage), out = r->bottleneck ? 1024 >> stage : 256 >> stage;
        for (int i = 0; i < r->decoder_blocks[stage]; i++) {
            char at[64];
            snprintf(at, sizeof at, "net_s.layer%d.%d", stage + 1, i);
            x = decoder_block(&b, r, at, x, w, out, i == 0, stage == 0 && i == 0);
        }
        s[2 - stage] = x;
    }
    return adze_graph_check(g);
}

adze_status rd_net_init(adze_params *params, const char *prefix, uint64_t seed)
{
    adze_status st = ADZE_OK;
    for (int i = 0; i < adze_params_count(params); i++) {
        const char *name = adze_params_name(params, i);
        if (strncmp(name, prefix, strlen(prefix)) != 0) continue;
        adze_shape s = adze_params_shape(params, i);
        if (s.rank == 4 && s.dim[2] == 2) /* transposed: PyTorch's default, fan_in taken from dimension 1 */
            TRY(layer_init(params, i, LAYER_INIT_UNIFORM, 1.0 / sqrt(4.0 * (double)s.dim[1]), seed));
        else if (s.rank == 4) TRY(layer_init(params, i, LAYER_INIT_NORMAL, layer_kaiming(s), seed));
        else TRY(layer_init(params, i, LAYER_INIT_CONSTANT, layer_norm_start(name), seed));
    }
done:
    return st;
}
