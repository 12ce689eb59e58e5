/* op_batch_norm.h - the attributes and operand numbers of batch_norm, for the plan's fusion and the backends. */
#ifndef ADZE_CORE_OP_BATCH_NORM_H
#define ADZE_CORE_OP_BATCH_NORM_H

#include "core/op.h"

enum { BATCH_NORM_X, BATCH_NORM_GAMMA, BATCH_NORM_BETA, BATCH_NORM_MEAN, BATCH_NORM_VAR, BATCH_NORM_OPERANDS };

typedef struct {
    float eps;
} batch_norm_attrs;

#endif
