/* op_batch_norm_train.h - the attributes and operand numbers of batch_norm_train, for the backends. */
#ifndef ADZE_CORE_OP_BATCH_NORM_TRAIN_H
#define ADZE_CORE_OP_BATCH_NORM_TRAIN_H

#include "core/op.h"
#include "core/ops.h"

/* out[1] (2,C): mean and rstd of the batch, for backward. */
enum { BN_TRAIN_X, BN_TRAIN_GAMMA, BN_TRAIN_BETA, BN_TRAIN_MEAN, BN_TRAIN_VAR, BN_TRAIN_RESIDUAL, BN_TRAIN_OPERANDS };

typedef struct {
    adze_batch_norm_opts o;
} batch_norm_train_attrs;

/* From the sums over n rows of one channel: sets mean and rstd and moves the running statistics at k. */
void adze_batch_norm_statistics(const adze_call *c, int64_t k, double sum, double sum2, int64_t n);

#endif
