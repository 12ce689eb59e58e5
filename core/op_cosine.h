/* op_cosine.h - the attributes and operands of cosine, for the backends. */
#ifndef ADZE_CORE_OP_COSINE_H
#define ADZE_CORE_OP_COSINE_H

#include "core/op.h"

enum { COSINE_X, COSINE_Z };
/* out[1] holds COSINE_SAVED numbers per pair of vectors: the dot product and both lengths. */
enum { COSINE_DOT, COSINE_RX, COSINE_RZ, COSINE_SAVED };

typedef struct {
    int32_t dim;
    float eps;
    bool distance; /* 1 - cos */
} cosine_attrs;

#endif
