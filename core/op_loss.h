/* op_loss.h - the attributes and operands of loss, for the backends. */
#ifndef ADZE_CORE_OP_LOSS_H
#define ADZE_CORE_OP_LOSS_H

#include "core/op.h"

enum { LOSS_X, LOSS_Z };

typedef struct {
    int32_t fn; /* adze_loss_fn */
    float a, b;
} loss_attrs;

#endif
