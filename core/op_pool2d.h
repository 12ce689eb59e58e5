/* op_pool2d.h - the attributes of pool2d, for the backends. */
#ifndef ADZE_CORE_OP_POOL2D_H
#define ADZE_CORE_OP_POOL2D_H

#include "core/op.h"
#include "core/ops.h"

typedef struct {
    adze_pool2d_opts o;
} pool2d_attrs;

#endif
