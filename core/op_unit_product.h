/* op_unit_product.h - the attributes and operands of unit_product, for the backends. */
#ifndef ADZE_CORE_OP_UNIT_PRODUCT_H
#define ADZE_CORE_OP_UNIT_PRODUCT_H

#include "core/op.h"

enum { UNIT_PRODUCT_X, UNIT_PRODUCT_Z };
/* out[1] holds both lengths of a pair of vectors. */
enum { UNIT_PRODUCT_RX, UNIT_PRODUCT_RZ, UNIT_PRODUCT_SAVED };

typedef struct {
    float eps;
} unit_product_attrs;

#endif
