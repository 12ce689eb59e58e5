/* op_conv2d.h - the attributes and operand numbers of conv2d, for the plan's fusion and the backends. */
#ifndef ADZE_CORE_OP_CONV2D_H
#define ADZE_CORE_OP_CONV2D_H

#include "core/op.h"
#include "core/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Operands: x, w and the optional rest; fused convolutions use the later ones. */
enum { CONV2D_X, CONV2D_W, CONV2D_B, CONV2D_GAMMA, CONV2D_BETA, CONV2D_MEAN, CONV2D_VAR, CONV2D_RESIDUAL, CONV2D_OPERANDS };

typedef struct {
    adze_conv2d_opts o;
    float eps;           /* of the folded batch norm */
    int32_t act;         /* adze_act behind everything */
    float act_a, act_b;
} conv2d_attrs;

/* Statistics and affine parameters of a batch norm, (Co) each. */
typedef struct {
    const float *gamma, *beta, *mean, *var;
    float eps;
} adze_norm_stats;

/* Folds a batch norm into the convolution before it: w (Co,K) and b (Co, or NULL) -> w_out, b_out. Computed in double. */
void adze_batch_norm_fold(const adze_norm_stats *bn, int64_t Co, int64_t K, const float *w, const float *b, float *w_out,
                          float *b_out);

/* One element of an activation, in double (op_activation.c). */
double adze_act_apply(int act, float a, float b, double x);
/* Its derivative at x. */
double adze_act_slope(int act, float a, float b, double x);

#ifdef __cplusplus
}
#endif
#endif
