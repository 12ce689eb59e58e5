/* op_upfirdn_blur.h - the attributes of upfirdn_blur, for the backends. */
#ifndef ADZE_CORE_OP_UPFIRDN_BLUR_H
#define ADZE_CORE_OP_UPFIRDN_BLUR_H

#include "core/op.h"

enum { UPFIRDN_TAPS = 4 }; /* [1 3 3 1]/8 */

typedef struct {
    int32_t before, after;
    float gain;
} upfirdn_blur_attrs;

#endif
