/* destseg_net.h - the trained networks of DeSTSeg: the denoising student and the segmentation network on the products of
 * teacher's and student's features. */
#ifndef ADZE_MODELS_DESTSEG_NET_H
#define ADZE_MODELS_DESTSEG_NET_H

#include <stdbool.h>

#include "core/graph.h"
#include "core/params.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { DESTSEG_LEVELS = 3, DESTSEG_BRANCHES = 4 };

typedef struct {
    bool trainable;     /* parameters are; else they are frozen */
    bool train;         /* batch norm by the statistics of the batch; else by the running ones */
    const char *prefix; /* before "net_s." and "destseg."; NULL: none */
} destseg_net_opts;

/* x (N,H,W,3), the picture with defects -> b[k] of the teacher's shapes at taps 1, 2, 3. */
adze_status destseg_student(adze_graph *g, const char *backbone, adze_value x, const destseg_net_opts *opts, adze_value b[DESTSEG_LEVELS]);
/* Negative products of unit features, each brought to the first level's size: (N, H/4, W/4, C1 + C2 + C3). */
adze_value destseg_product(adze_graph *g, const adze_value t[DESTSEG_LEVELS], const adze_value b[DESTSEG_LEVELS]);

/* Values along the way, for tests; branch[0] (N,1,1,256). */
typedef struct {
    adze_value res, branch[DESTSEG_BRANCHES], aspp, hidden, logit;
} destseg_inside;
/* The probability of a defect per position, (N,h,w,1), of destseg_product()'s value. `inside` may be NULL. */
adze_value destseg_segmentation(adze_graph *g, adze_value x, const destseg_net_opts *opts, destseg_inside *inside);

/* The losses, (1). Student: the sum over levels and batch of the mean over positions of 1 - cos; level[k] its parts. Segmentation:
 * mean |p - m| + mean of BCE times (1 - probability given to m)^4; part[0] and part[1] these; m (N,h,w,1) of 0 and 1. */
adze_value destseg_student_loss(adze_graph *g, const adze_value b[DESTSEG_LEVELS], const adze_value t[DESTSEG_LEVELS], adze_value level[DESTSEG_LEVELS]);
adze_value destseg_segmentation_loss(adze_graph *g, adze_value p, adze_value m, adze_value part[2]);

/* Initial values of the parameters below `prefix`: convolutions of encoder, decoder and residual blocks normal with deviation
 * sqrt(2/fan_out), those of the head uniform within 1/sqrt(fan_in); batch norm 1 and 0, but 0 and 0 at the end of the encoder's
 * blocks. */
adze_status destseg_net_init(adze_params *params, const char *prefix, uint64_t seed);

#ifdef __cplusplus
}
#endif
#endif
