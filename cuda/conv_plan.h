/* conv_plan.h - one convolution, or one of its gradients, as an execution plan of cuDNN. Entry: conv_plan_create().
 *
 * x (N,H,W,C), y (N,Ho,Wo,Co) in NHWC, w (Co,Kh,Kw,C/groups); float32 in memory. With bf16 the two that are read are rounded to
 * bfloat16 in the workspace, products are summed in float32; where no engine does so (odd numbers of channels), as tf32. Of the engines that the heuristics name, those
 * stay whose numerical notes fit the context: float32 wants no tensor cores, no reduced reduction, no FFT, no Winograd; with
 * --deterministic none that is marked nondeterministic. The first eight that need at most 256 MiB of workspace are timed, and the
 * fastest is kept in the plan cache (plan_cache.h), so that the next run takes the same: another engine rounds differently. */
#ifndef ADZE_CUDA_CONV_PLAN_H
#define ADZE_CUDA_CONV_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/backend.h"

typedef struct conv_plan conv_plan; /* opaque: owns descriptors */

typedef enum { CONV_FORWARD, CONV_DATA_GRADIENT, CONV_WEIGHTS_GRADIENT } conv_direction;

typedef struct {
    conv_direction direction;
    int64_t N, H, W, C, Ho, Wo, Co, Kh, Kw, groups;
    int64_t stride[2], dilation[2], pad[2]; /* the padding is the same on both sides */
    bool residual, bias; /* forward: y = act(conv + r + b) */
    int act;             /* forward: NONE, RELU, RELU6 or SILU of adze_act */
} conv_problem;

/* What a run reads and writes: x from w and y for the gradient of the data, w from x and y for that of the weights. */
typedef struct {
    const void *x, *w, *y, *residual, *bias;
    void *workspace;
} conv_operands;

/* *out is NULL without an error if no engine computes this (a fused one may have none: then ask for its parts). */
adze_status conv_plan_create(conv_plan **out, adze_ctx *ctx, const conv_problem *problem);
void conv_plan_destroy(conv_plan *p);
size_t conv_plan_workspace_bytes(const conv_plan *p);
/* All but `part`. */
adze_engine conv_plan_engine(const conv_plan *p);
/* Asynchronous; may be captured. The first call with other pointers than the last makes a new pack of them. */
adze_status conv_plan_run(conv_plan *p, const conv_operands *o);

/* The library handles of a context; created at the first use. */
void conv_plan_close(adze_ctx *ctx);

#endif
