/* op_layer_norm.h - the attributes and operands of layer_norm, for the backends. */
#ifndef ADZE_CORE_OP_LAYER_NORM_H
#define ADZE_CORE_OP_LAYER_NORM_H

#include "core/op.h"

enum { LAYER_NORM_X, LAYER_NORM_GAMMA, LAYER_NORM_BETA };

typedef struct {
    int32_t dims;
    float eps;
} layer_norm_attrs;

#endif
