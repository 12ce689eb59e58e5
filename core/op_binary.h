/* op_binary.h - the attributes of binary, for the plan's fusion and the backends. */
#ifndef ADZE_CORE_OP_BINARY_H
#define ADZE_CORE_OP_BINARY_H

#include "core/op.h"

typedef struct {
    int32_t fn; /* adze_binary_fn */
} binary_attrs;

#endif
