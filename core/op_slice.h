/* op_slice.h - the attributes of slice, for the backends. */
#ifndef ADZE_CORE_OP_SLICE_H
#define ADZE_CORE_OP_SLICE_H

#include "core/op.h"

typedef struct {
    int32_t dim;
    int64_t from, size;
} slice_attrs;

#endif
