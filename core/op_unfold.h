/* op_unfold.h - the attributes of unfold, for the backends. */
#ifndef ADZE_CORE_OP_UNFOLD_H
#define ADZE_CORE_OP_UNFOLD_H

#include "core/op.h"
#include "core/ops.h"

typedef struct {
    adze_unfold_opts o;
} unfold_attrs;

#endif
