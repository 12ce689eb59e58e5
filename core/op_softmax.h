/* op_softmax.h - the attributes of softmax, for the backends. */
#ifndef ADZE_CORE_OP_SOFTMAX_H
#define ADZE_CORE_OP_SOFTMAX_H

#include "core/op.h"

typedef struct {
    int32_t dim;
    bool log;
} softmax_attrs;

#endif
