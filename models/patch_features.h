/* patch_features.h - rows of locally pooled backbone features: what PatchCore remembers and SimpleNet projects. */
#ifndef ADZE_MODELS_PATCH_FEATURES_H
#define ADZE_MODELS_PATCH_FEATURES_H

#include "core/ops.h"
#include "models/method.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    adze_value image; /* input "image" (batch,H,W,3) */
    adze_value rows;  /* (batch, h*w, embed->target_dim) */
    int64_t h, w;     /* the first layer's grid */
} patch_features;

/* Builds image -> backbone -> patch_embed of the taps that `layers` names (empty: those with strides 8 and 16). */
adze_status patch_features_build(adze_graph *g, const adze_model_setup *s, const char *layers, const adze_patch_embed_opts *embed,
                                 patch_features *out);

#ifdef __cplusplus
}
#endif
#endif
