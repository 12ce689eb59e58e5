/* backbone.h - the feature extractors: one builder for all, with taps; frozen unless asked otherwise.
 *
 * Names, shapes and numerics are those of torchvision and timm (specs/backbone-resnet.md, backbone-efficientnet.md). */
#ifndef ADZE_MODELS_BACKBONE_H
#define ADZE_MODELS_BACKBONE_H

#include <stdbool.h>

#include "core/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { ADZE_BACKBONE_TAPS = 5 };

typedef struct {
    const char *name;                      /* "resnet18", ... */
    int n_taps;
    const char *tap_name[ADZE_BACKBONE_TAPS]; /* "layer2", ... or "tap2"; deepest last */
    int64_t channels[ADZE_BACKBONE_TAPS];
    int stride[ADZE_BACKBONE_TAPS];
    float mean[3], std[3];                 /* input normalisation that the usual weights want, pixel/255 */
    const char *reference_weights;         /* the public file that the benchmark uses, for messages */
} adze_backbone_info;

/* Known backbones, in a fixed order; NULL past the end. */
const adze_backbone_info *adze_backbone_at(int i);
/* ADZE_EINVAL with the nearest known name. */
adze_status adze_backbone_find(const char *name, const adze_backbone_info **out);
/* Index of a tap by name ("layer3"); ADZE_EINVAL lists the names. */
adze_status adze_backbone_tap(const adze_backbone_info *b, const char *name, int *out);

typedef struct {
    const char *prefix; /* before every parameter's name, e.g. "backbone."; NULL: none */
    bool folded;        /* the weights have batch norm folded in: convolutions with a bias, no statistics */
    bool trainable;     /* parameters are; not with `folded` */
    bool train;         /* batch norm by the statistics of the batch; not with `folded` */
    int last_tap;       /* nothing behind this tap is built */
    bool head;          /* also the classifier behind the last tap */
    int keep;           /* 1: block outputs are kept as outputs under their names; 2: inner tensors too (for tests) */
} adze_backbone_opts;
#define ADZE_BACKBONE_OPTS ((adze_backbone_opts){ .last_tap = ADZE_BACKBONE_TAPS - 1 })

/* x (N,H,W,3), normalised. Sets tap[0 .. last_tap] (and *logits, (N,1000), when opts->head). */
adze_status adze_backbone_build(adze_graph *g, const char *name, adze_value x, const adze_backbone_opts *opts,
                                adze_value tap[ADZE_BACKBONE_TAPS], adze_value *logits);

#ifdef __cplusplus
}
#endif
#endif
