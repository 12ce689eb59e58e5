/* op_linear.h - the operand numbers of linear, for the backends. */
#ifndef ADZE_CORE_OP_LINEAR_H
#define ADZE_CORE_OP_LINEAR_H

#include "core/op.h"

enum { LINEAR_X, LINEAR_W, LINEAR_B, LINEAR_OPERANDS };

#endif
