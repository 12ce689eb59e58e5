/* optimizer_cpu.h - internal: the loops of core/cpu/optimizer_cpu.c for one instruction set. */
#ifndef ADZE_CORE_CPU_OPTIMIZER_CPU_H
#define ADZE_CORE_CPU_OPTIMIZER_CPU_H

#include <stdint.h>

#include "core/isa.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Constants of one step and group, rounded to float32 as PyTorch does. */
typedef struct {
    float scale;              /* of the gradient: clipping */
    float decay;              /* added to the gradient, times p */
    float shrink;             /* p is multiplied by it first */
    float mu, lr;             /* sgd */
    float w1, b2, w2;         /* 1 - beta1, beta2, 1 - beta2 */
    float rate, root_c2, eps; /* lr / (1 - beta1^t), sqrt(1 - beta2^t) */
} adze_optim_consts;

/* Every instruction set gives the same bits: no contraction, vectors run over elements. */
typedef struct {
    void (*sgd)(const adze_optim_consts *k, int64_t n, float *p, const float *g, float *b); /* b may be NULL */
    void (*adam)(const adze_optim_consts *k, int64_t n, float *p, const float *g, float *m, float *v);
    double (*sum_squares)(int64_t n, const float *g); /* in double, 16 lanes, then a tree */
} adze_optim_kernels;

/* ADZE_EBACKEND if the machine lacks `isa`. */
adze_status adze_cpu_optim_kernels_get(adze_isa isa, adze_optim_kernels *out);

#ifdef __cplusplus
}
#endif
#endif
