/* op_cross_entropy.h - the operands of cross_entropy, for the backends. */
#ifndef ADZE_CORE_OP_CROSS_ENTROPY_H
#define ADZE_CORE_OP_CROSS_ENTROPY_H

#include "core/op.h"

enum { CROSS_ENTROPY_X, CROSS_ENTROPY_TARGET };

#endif
