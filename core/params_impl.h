/* params_impl.h - the inside of adze_params, shared by params.c and the plan. Not installed. */
#ifndef ADZE_CORE_PARAMS_IMPL_H
#define ADZE_CORE_PARAMS_IMPL_H

#include "core/params.h"

typedef struct {
    char *name; /* owned */
    adze_shape shape;
    int64_t offset; /* in floats */
    bool trainable;
    uint64_t version; /* changes so far; packed copies compare it */
} param;

struct adze_params {
    adze_ctx *ctx; /* borrowed */
    param *param;  /* owned */
    int n;
    int64_t n_floats, n_trainable; /* the trainable ones come first */
    float *data;                   /* owned, on the device */
    float *grad;                   /* (n_trainable) owned, laid out as data; NULL until a plan with a loss is made */
};

/* Makes the gradient block if there is none. */
adze_status adze_params_need_grad(adze_params *p);

#endif
