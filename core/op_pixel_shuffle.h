/* op_pixel_shuffle.h - the attributes of pixel_shuffle, for the backends. */
#ifndef ADZE_CORE_OP_PIXEL_SHUFFLE_H
#define ADZE_CORE_OP_PIXEL_SHUFFLE_H

#include "core/op.h"

typedef struct {
    int64_t factor;
    bool channels_inner;
} pixel_shuffle_attrs;

#endif
