/* layers.h - trained layers by their reference names: what the networks of the methods are built from, and how their
 * parameters start. */
#ifndef ADZE_MODELS_LAYERS_H
#define ADZE_MODELS_LAYERS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/graph.h"
#include "core/ops.h"
#include "core/params.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    adze_graph *g;
    const char *prefix; /* before every name; NULL: none */
    bool trainable;     /* parameters are; else they are frozen */
    bool train;         /* batch norm by the statistics of the batch; else by the running ones */
} layer_builder;

/* The parameter [prefix]at.part.tail, e.g. "mff_oce.bn_layer.0" "conv1" "weight"; "at" may be "". */
adze_value layer_param(const layer_builder *b, const char *at, const char *part, const char *tail, adze_shape shape, bool trainable);
/* Square k x k convolution without bias that keeps the side (padding dilation * (k - 1)/2) at stride 1. */
adze_value layer_conv(const layer_builder *b, adze_value x, const char *at, const char *part, int64_t Co, int k, int stride, int dilation);
/* Batch norm, then the residual (or ADZE_NONE) and ReLU behind it. */
adze_value layer_norm(const layer_builder *b, adze_value x, const char *at, const char *part, adze_value residual, bool relu);
/* [relu](bn2(conv2(relu(bn1(conv1 x)))) + shortcut): 3x3 convolutions, the first one of `stride`; the shortcut is x, or
 * downsample.1(downsample.0 x) where stride or channels differ. */
adze_value layer_basic_block(const layer_builder *b, adze_value x, const char *at, int64_t Co, int stride);

typedef enum {
    LAYER_INIT_NORMAL,  /* mean 0, deviation `scale` */
    LAYER_INIT_UNIFORM, /* in [-scale, scale) */
    LAYER_INIT_CONSTANT /* scale */
} layer_init_rule;
/* Initial values of parameter i by Philox, a stream per parameter number. */
adze_status layer_init(adze_params *params, int i, layer_init_rule rule, double scale, uint64_t seed);
/* sqrt(2/fan_out) of a convolution's weight (Co,C,Kh,Kw): Kaiming's rule, mode fan_out. */
double layer_kaiming(adze_shape weight);
/* 1 for weights and running variances of batch norm, 0 for biases and running means. */
double layer_norm_start(const char *name);
/* Inputs of the layer that parameter i is a weight or bias of (PyTorch's fan_in); 0: of none that multiplies. */
int64_t layer_fan_in(const adze_params *params, int i);
/* Whether `name` ends in `tail`. */
bool layer_name_ends(const char *name, const char *tail);

#ifdef __cplusplus
}
#endif
#endif
