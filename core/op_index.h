/* op_index.h - the attributes and operands of index_select and index_put, for the backends. */
#ifndef ADZE_CORE_OP_INDEX_H
#define ADZE_CORE_OP_INDEX_H

#include "core/op.h"

enum { INDEX_X, INDEX_INDEX };

typedef struct {
    int32_t dim;
    int64_t size; /* put: length of y */
} index_attrs;

#endif
