/* backbone_tensors.c - what a backbone's state dict holds. Entry: adze_backbone_tensors().
 * Written from the structure of the networks; a file that was cut behind the last tap lacks whole tail parts. The names of
 * efficientnet_pytorch number batch norms by role, timm's by order: the two differ in the first stage. */
#include "checkpoints/backbone_tensors.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/memory.h"
#include "core/text.h"

typedef struct {
    const char *name;
    bool bottleneck;
    int blocks[4];
    int64_t base_width;
} resnet;

typedef struct {
    const char *name;
    int64_t stem, head;
    int blocks[7];
    int64_t channels[7];
    bool squeeze_excite;
} efficientnet;

static const resnet resnets[] = {
    { "resnet18", false, { 2, 2, 2, 2 }, 64 },
    { "resnet34", false, { 3, 4, 6, 3 }, 64 },
    { "resnet50", true, { 3, 4, 6, 3 }, 64 },
    { "wide_resnet50_2", true, { 3, 4, 6, 3 }, 128 },
};
static const efficientnet efficientnets[] = {
    { "efficientnet_lite0", 32, 1280, { 1, 2, 2, 3, 3, 4, 1 }, { 16, 24, 40, 80, 112, 192, 320 }, false },
    { "tf_efficientnet_b4", 48, 1792, { 2, 4, 4, 6, 6, 8, 2 }, { 24, 32, 56, 112, 160, 272, 448 }, true },
};
enum {
    N_RESNETS = sizeof resnets / sizeof *resnets,
    N_EFFICIENTNETS = sizeof efficientnets / sizeof *efficientnets
};
static const int kernels[7] = { 3, 3, 5, 3, 5, 5, 3 };

typedef struct {
    adze_backbone_list *list;
    int64_t room;
    bool folded, failed;
    int part; /* tail part of what is added */
} builder;

/* A tensor "at.leaf" whose other name is "other.leaf". */
static void add(builder *b, const char *at, const char *other, const char *leaf, int rank, const int64_t *dim)
{
    adze_backbone_list *l = b->list;
    if (b->failed) return;
    if (l->count == b->room) {
        int64_t room = b->room ? 2 * b->room : 128;
        adze_backbone_tensor *more = adze_realloc(l->tensor, (size_t)room * sizeof *more);
        if (!more) {
            b->failed = true;
            return;
        }
        l->tensor = more;
        b->room = room;
    }
    adze_backbone_tensor *t = &l->tensor[l->count++];
    *t = (adze_backbone_tensor){ .rank = rank, .need = b->part ? ADZE_NEED_TAIL : ADZE_NEED_ALWAYS, .part = b->part };
    snprintf(t->name, sizeof t->name, "%s.%s", at, leaf);
    if (other) snprintf(t->source_name, sizeof t->source_name, "%s.%s", other, leaf);
    if (strcmp(leaf, "num_batches_tracked") == 0) t->need = ADZE_NEED_COUNTER;
    for (int d = 0; d < rank; d++) t->dim[d] = dim[d];
}

/* Convolution and the batch norm behind it. */
static void conv_bn(builder *b, const char *conv, const char *bn, const char *conv_other, const char *bn_other, int64_t Co,
                    int64_t Ci, int64_t k)
{
    add(b, conv, conv_other, "weight", 4, (int64_t[]){ Co, Ci, k, k });
    if (b->folded) {
        add(b, conv, conv_other, "bias", 1, &Co);
        return;
    }
    static const char *const leaves[] = { "weight", "bias", "running_mean", "running_var" };
    for (int i = 0; i < 4; i++) add(b, bn, bn_other, leaves[i], 1, &Co);
    add(b, bn, bn_other, "num_batches_tracked", 0, NULL);
}

static void classifier(builder *b, const char *name, const char *other, int64_t C)
{
    b->part = 2;
    add(b, name, other, "weight", 2, (int64_t[]){ 1000, C });
    add(b, name, other, "bias", 1, (int64_t[]){ 1000 });
}

static void build_resnet(builder *b, const resnet *net)
{
    char conv[64], bn[64];
    int64_t in = 64;
    conv_bn(b, "conv1", "bn1", NULL, NULL, 64, 3, 7);
    for (int s = 0; s < 4; s++) {
        int64_t planes = (int64_t)64 << s, width = net->base_width << s, out = net->bottleneck ? 4 * planes : planes;
        b->part = s == 3 ? 1 : 0;
        for (int i = 0; i < net->blocks[s]; i++, in = out) {
            int n_convs = net->bottleneck ? 3 : 2;
            int64_t from = in;
            for (int c = 1; c <= n_convs; c++) {
                int64_t to = c == n_convs ? out : width;
                snprintf(conv, sizeof conv, "layer%d.%d.conv%d", s + 1, i, c);
                snprintf(bn, sizeof bn, "layer%d.%d.bn%d", s + 1, i, c);
                conv_bn(b, conv, bn, NULL, NULL, to, from, net->bottleneck && c != 2 ? 1 : 3);
                from = to;
            }
            if (i > 0 || in == out) continue;
            snprintf(conv, sizeof conv, "layer%d.0.downsample.0", s + 1);
            snprintf(bn, sizeof bn, "layer%d.0.downsample.1", s + 1);
            conv_bn(b, conv, bn, NULL, NULL, out, in, 1);
        }
    }
    classifier(b, "fc", NULL, in);
}

/* The squeeze-excite pair, with biases. */
static void squeeze_excite(builder *b, const char *at, const char *other, int64_t mid, int64_t squeezed)
{
    static const char *const names[2] = { "conv_reduce", "conv_expand" }, *const others[2] = { "reduce", "expand" };
    for (int i = 0; i < 2; i++) {
        char name[56], name_other[56];
        int64_t out = i ? mid : squeezed, in = i ? squeezed : mid;
        snprintf(name, sizeof name, "%s.se.%s", at, names[i]);
        snprintf(name_other, sizeof name_other, "%s._se_%s", other, others[i]);
        add(b, name, name_other, "weight", 4, (int64_t[]){ out, in, 1, 1 });
        add(b, name, name_other, "bias", 1, &out);
    }
}

static void block_conv(builder *b, const char *at, const char *other, const char *conv, const char *bn, const char *conv_other,
                       const char *bn_other, int64_t Co, int64_t Ci, int64_t k)
{
    char name[4][64];
    snprintf(name[0], sizeof name[0], "%s.%s", at, conv);
    snprintf(name[1], sizeof name[1], "%s.%s", at, bn);
    snprintf(name[2], sizeof name[2], "%s.%s", other, conv_other);
    snprintf(name[3], sizeof name[3], "%s.%s", other, bn_other);
    conv_bn(b, name[0], name[1], name[2], name[3], Co, Ci, k);
}

static void build_efficientnet(builder *b, const efficientnet *net)
{
    char at[40], other[40];
    int64_t in = net->stem;
    int g = 0;
    conv_bn(b, "conv_stem", "bn1", "_conv_stem", "_bn0", net->stem, 3, 3);
    for (int s = 0; s < 7; s++) {
        int64_t out = net->channels[s], k = kernels[s];
        for (int i = 0; i < net->blocks[s]; i++, in = out) {
            int64_t mid = s == 0 ? in : 6 * in;
            snprintf(at, sizeof at, "blocks.%d.%d", s, i);
            snprintf(other, sizeof other, "_blocks.%d", g++);
            if (s > 0) block_conv(b, at, other, "conv_pw", "bn1", "_expand_conv", "_bn0", mid, in, 1);
            block_conv(b, at, other, "conv_dw", s > 0 ? "bn2" : "bn1", "_depthwise_conv", "_bn1", mid, 1, k);
            if (net->squeeze_excite) squeeze_excite(b, at, other, mid, in / 4);
            block_conv(b, at, other, s > 0 ? "conv_pwl" : "conv_pw", s > 0 ? "bn3" : "bn2", "_project_conv", "_bn2", out, mid, 1);
        }
    }
    b->part = 1;
    conv_bn(b, "conv_head", "bn2", "_conv_head", "_bn1", net->head, in, 1);
    classifier(b, "classifier", "_fc", net->head);
}

const char *adze_backbone_tensors_name(int i)
{
    if (i < 0 || i >= N_RESNETS + N_EFFICIENTNETS) return NULL;
    return i < N_RESNETS ? resnets[i].name : efficientnets[i - N_RESNETS].name;
}

adze_status adze_backbone_tensors(const char *backbone, bool folded, adze_backbone_list *list)
{
    adze_status st = ADZE_OK;
    builder b = { .list = list, .folded = folded };
    const char *name, *nearest = resnets[0].name;
    int found = -1;
    *list = (adze_backbone_list){ NULL, 0 };
    for (int i = 0; (name = adze_backbone_tensors_name(i)); i++) {
        if (strcmp(name, backbone) == 0) found = i;
        if (adze_text_distance(name, backbone) < adze_text_distance(nearest, backbone)) nearest = name;
    }
    REQUIRE(found >= 0, ADZE_EINVAL, "backbone '%s' is unknown; did you mean '%s'?", backbone, nearest);
    if (found < N_RESNETS) build_resnet(&b, &resnets[found]);
    else build_efficientnet(&b, &efficientnets[found - N_RESNETS]);
    REQUIRE(!b.failed, ADZE_ENOMEM, "%s: no memory for its list of tensors", backbone);
done:
    if (st != ADZE_OK) adze_backbone_list_destroy(list);
    return st;
}

void adze_backbone_list_destroy(adze_backbone_list *list)
{
    adze_free(list->tensor);
    *list = (adze_backbone_list){ NULL, 0 };
}
