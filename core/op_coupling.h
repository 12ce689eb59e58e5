/* op_coupling.h - the attributes and operands of coupling, for the backends. */
#ifndef ADZE_CORE_OP_COUPLING_H
#define ADZE_CORE_OP_COUPLING_H

#include "core/op.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    COUPLING_X, COUPLING_COND, COUPLING_W1, COUPLING_B1, COUPLING_W2, COUPLING_B2, COUPLING_SCALE, COUPLING_OFFSET, COUPLING_W_PERM,
    COUPLING_OPERANDS
};

typedef struct {
    float clamp, slope; /* j = clamp tanh(slope a) */
    bool inverse;
} coupling_attrs;

/* R rows of C columns, h = C/2 of which pass; P columns of the condition; M hidden units. */
typedef struct {
    int64_t R, C, h, P, M;
    bool state; /* x carries log-determinants behind its rows */
} coupling_sizes;

coupling_sizes adze_coupling_sizes(const adze_call *c);

/* out[1] keeps the hidden layer (R,M), behind its ReLU, and the subnet's output (R,C) for the way back. Kernels of a pair may keep
 * the hidden layer in another form of at most that size. */
static inline float *adze_coupling_hidden(const adze_call *c) { return c->out[1].data; }
static inline float *adze_coupling_subnet(const adze_call *c, const coupling_sizes *s) { return c->out[1].data + s->R * s->M; }

/* g = 0.1 softplus_0.5(global_scale) and its slope; in double, torch's threshold included. */
double adze_coupling_scale(double global_scale);
double adze_coupling_scale_slope(double global_scale);

#ifdef __cplusplus
}
#endif
#endif
