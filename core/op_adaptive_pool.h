/* op_adaptive_pool.h - the attributes of adaptive_pool2d and adaptive_pool1d and their windows, for the backends. */
#ifndef ADZE_CORE_OP_ADAPTIVE_POOL_H
#define ADZE_CORE_OP_ADAPTIVE_POOL_H

#include "core/op.h"

typedef struct {
    int64_t out[2];
} adaptive_attrs;

static inline int64_t window_begin(int64_t i, int64_t n, int64_t m) { return i * n / m; }
static inline int64_t window_end(int64_t i, int64_t n, int64_t m) { return ((i + 1) * n + m - 1) / m; }

#endif
