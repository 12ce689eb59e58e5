/* op_concat.h - the attributes of concat, for the backends. */
#ifndef ADZE_CORE_OP_CONCAT_H
#define ADZE_CORE_OP_CONCAT_H

#include "core/op.h"

typedef struct {
    int32_t dim;
} concat_attrs;

#endif
