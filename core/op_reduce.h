/* op_reduce.h - the attributes of reduce, for the backends. */
#ifndef ADZE_CORE_OP_REDUCE_H
#define ADZE_CORE_OP_REDUCE_H

#include "core/op.h"

typedef struct {
    int32_t fn, dim; /* adze_reduce_fn */
    bool keepdim;
} reduce_attrs;

#endif
