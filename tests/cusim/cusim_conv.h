/* cusim_conv.h - convolutions for the emulated cuDNN, in plain C over device memory. Entry: cusim_conv_run(). */
#ifndef CUSIM_CONV_H
#define CUSIM_CONV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { CUSIM_CONV_FORWARD, CUSIM_CONV_DATA, CUSIM_CONV_WEIGHTS } cusim_conv_direction;

/* x (N,H,W,C), w (Co,Kh,Kw,Cg), y (N,Ho,Wo,Co); the one that the direction names is written. Forward: then each `add`, of y's shape
 * or per channel, then max(0, y) and min(upper_clip, y) where that is above 0. */
typedef struct {
    cusim_conv_direction direction;
    int64_t N, H, W, C, Ho, Wo, Co, Cg, Kh, Kw;
    int64_t stride[2], dilation[2], pad[2];
    const float *x, *w, *y, *add[2];
    bool add_per_channel[2], relu, tf32; /* tf32: inputs are rounded to ten bits of the fraction */
    bool bf16;                           /* the two that are read are bfloat16 */
    int n_adds;
    float upper_clip;
    void *workspace; /* overwritten, as split sums do; NULL: none */
    size_t workspace_bytes;
} cusim_conv;

/* `args`: a cusim_conv. */
void cusim_conv_run(void *args);

#endif
