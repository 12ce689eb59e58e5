/* op_activation.h - the attributes of activation, for the plan's fusion and the backends. */
#ifndef ADZE_CORE_OP_ACTIVATION_H
#define ADZE_CORE_OP_ACTIVATION_H

#include "core/op.h"

typedef struct {
    int32_t act; /* adze_act */
    float a, b;
} activation_attrs;

#endif
