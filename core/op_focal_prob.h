/* op_focal_prob.h - the attributes and operands of focal_prob, for the backends. */
#ifndef ADZE_CORE_OP_FOCAL_PROB_H
#define ADZE_CORE_OP_FOCAL_PROB_H

#include "core/op.h"

enum { FOCAL_X, FOCAL_MASK };

typedef struct {
    float threshold, gamma, smooth;
} focal_prob_attrs;

#endif
