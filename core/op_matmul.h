/* op_matmul.h - the attributes of matmul, for the backends. */
#ifndef ADZE_CORE_OP_MATMUL_H
#define ADZE_CORE_OP_MATMUL_H

#include "core/op.h"

typedef struct {
    bool transpose_a, transpose_b;
} matmul_attrs;

/* A product of `batch` pairs: y (m,n) = a b over k; one b serves all if b_shared. */
typedef struct {
    int64_t batch, m, n, k;
    bool b_shared;
} matmul_sizes;

matmul_sizes adze_matmul_sizes(const adze_call *c);

#endif
