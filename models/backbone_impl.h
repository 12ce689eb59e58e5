/* backbone_impl.h - what the backbone files share: named convolution + batch norm + activation. Not installed. */
#ifndef ADZE_MODELS_BACKBONE_IMPL_H
#define ADZE_MODELS_BACKBONE_IMPL_H

#include "core/ops.h"
#include "models/backbone.h"

typedef struct {
    adze_graph *g;
    const adze_backbone_opts *opts;
    const adze_backbone_info *info;
    float bn_eps;
} backbone_builder;

/* prefix + printf'd name, in a buffer of this thread that the next call overwrites. */
const char *backbone_name(const backbone_builder *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A parameter, trainable if the backbone is. */
adze_value backbone_param(const backbone_builder *b, const char *name, adze_shape shape);
/* What stands behind a batch norm: the sum with a value or ADZE_NONE, then ReLU. */
typedef struct {
    adze_value residual;
    bool relu;
} backbone_tail;
#define BACKBONE_PLAIN ((backbone_tail){ ADZE_NONE, false })
#define BACKBONE_RELU ((backbone_tail){ ADZE_NONE, true })
/* Convolution `conv` (weight Co x C/groups x k x k) with batch norm `bn`, or with a bias if the weights are folded. */
adze_value backbone_conv_bn(const backbone_builder *b, adze_value x, const char *conv, const char *bn, int64_t Co, int k,
                            const adze_conv2d_opts *opts, backbone_tail tail);
/* Keeps `v` under `name` if opts->keep is at least `level`. */
adze_value backbone_keep(const backbone_builder *b, int level, const char *name, adze_value v);
/* Mean over positions, then `fc` (1000, C). */
adze_value backbone_head(const backbone_builder *b, adze_value x, const char *fc);

adze_status backbone_build_resnet(backbone_builder *b, adze_value x, adze_value *tap, adze_value *logits);
adze_status backbone_build_efficientnet(backbone_builder *b, adze_value x, adze_value *tap, adze_value *logits);

#endif
