/* op_l2_normalize.h - the attributes of l2_normalize, for the backends. */
#ifndef ADZE_CORE_OP_L2_NORMALIZE_H
#define ADZE_CORE_OP_L2_NORMALIZE_H

#include "core/op.h"

typedef struct {
    int32_t dim, form; /* adze_l2_form */
    float eps;
} l2_normalize_attrs;

#endif
