/* op_dropout_mask.h - the attributes and operands of dropout_mask, for the backends. */
#ifndef ADZE_CORE_OP_DROPOUT_MASK_H
#define ADZE_CORE_OP_DROPOUT_MASK_H

#include "core/op.h"

enum { DROPOUT_X, DROPOUT_U };

typedef struct {
    float p;
} dropout_attrs;

#endif
