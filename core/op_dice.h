/* op_dice.h - the attributes and operands of dice, for the backends. */
#ifndef ADZE_CORE_OP_DICE_H
#define ADZE_CORE_OP_DICE_H

#include "core/op.h"

enum { DICE_X, DICE_MASK };

typedef struct {
    float threshold;
    bool complement;
} dice_attrs;

#endif
