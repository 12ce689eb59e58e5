/* op_topk.h - the attributes of topk, for the backends. */
#ifndef ADZE_CORE_OP_TOPK_H
#define ADZE_CORE_OP_TOPK_H

#include "core/op.h"

typedef struct {
    int64_t k;
    int32_t dim;
    bool largest;
} topk_attrs;

#endif
