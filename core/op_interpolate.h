/* op_interpolate.h - the attributes of interpolate, for the backends. */
#ifndef ADZE_CORE_OP_INTERPOLATE_H
#define ADZE_CORE_OP_INTERPOLATE_H

#include "core/op.h"
#include "core/ops.h"

typedef struct {
    adze_interpolate_opts o;
} interpolate_attrs;

#endif
