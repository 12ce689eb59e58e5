/* conv_pack.h - what goes around a convolution of cuDNN: weights from the parameters' order (Co,C/g,Kh,Kw) to (Co,Kh,Kw,C/g) and
 * gradients back, a batch norm folded in, padding, bias gradients, and the epilogue where no engine fuses it. All asynchronous. */
#ifndef ADZE_CUDA_CONV_PACK_H
#define ADZE_CUDA_CONV_PACK_H

#include <stdbool.h>

#include "core/op_conv2d.h"

#ifdef __cplusplus
extern "C" {
#endif

/* w (Co,Cg,R) -> packed (Co,R,Cg); with `bn` times gamma/sqrt(var + eps). */
adze_status adze_conv_pack_weights(const adze_call *c, const float *w, int64_t Co, int64_t Cg, int64_t R, const adze_norm_stats *bn,
                                   float *packed);
/* The bias with `bn` folded in: (b - mean) gamma/sqrt(var + eps) + beta; b (Co) may be NULL. */
adze_status adze_conv_fold_bias(const adze_call *c, const float *b, int64_t Co, const adze_norm_stats *bn, float *folded);
/* The way back: packed (Co,R,Cg) -> grad (Co,Cg,R), added where `add`. */
adze_status adze_conv_unpack_gradient(const adze_call *c, const float *packed, int64_t Co, int64_t Cg, int64_t R, bool add, float *grad);
/* x (N,H,W,C) -> y (N,H+top+bottom,W+left+right,C) with zeros around. */
adze_status adze_conv_pad(const adze_call *c, const float *x, const adze_shape *shape, const int pad[4], float *y);
/* y = act(y + r + b), y (rows,Co); r and b may be NULL, r may be y's own memory. */
adze_status adze_conv_epilogue(const adze_call *c, float *y, const float *r, const float *b, int64_t rows, int64_t Co, int act);
adze_status adze_conv_add(const adze_call *c, float *to, const float *from, int64_t n);
/* x (n) to bfloat16, to nearest, ties to even. */
adze_status adze_conv_round(const adze_ctx *ctx, const float *x, int64_t n, void *to);
/* db (Co) = sums of the columns of dy (rows,Co), in double and in fixed order; `part`: adze_conv_bias_gradient_bytes(). */
size_t adze_conv_bias_gradient_bytes(int64_t rows, int64_t Co);
adze_status adze_conv_bias_gradient(const adze_call *c, const float *dy, int64_t rows, int64_t Co, bool add, float *db, void *part);

#ifdef __cplusplus
}
#endif
#endif
