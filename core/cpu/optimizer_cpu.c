/* optimizer_cpu.c - optimiser steps and gradient norms on the cpu. Entry: adze_cpu_optim_update(), adze_cpu_optim_norm().
 *
 * bytes   adam 28 per parameter (read p g m v, write p m v), sgd 20, the norm 4; a few flops each: memory is the floor
 * order   elements are independent; the norm adds its pieces in order, so threads do not matter
 * One plain-C body per loop, compiled for each instruction set: square roots and divisions round alike everywhere. */
#include "core/cpu/optimizer_cpu.h"

#include <math.h>
#include <stddef.h>

#include "core/backend.h"
#include "core/cpu/kernels_cpu.h"
#include "core/optim_step.h"

#define INLINE static inline __attribute__((always_inline))

INLINE void sgd_body(const adze_optim_consts *c, int64_t n, float *restrict p, const float *restrict g, float *restrict b)
{
    const float scale = c->scale, decay = c->decay, mu = c->mu, lr = c->lr;
    if (!b)
        for (int64_t i = 0; i < n; i++) p[i] -= lr * (g[i] * scale + decay * p[i]);
    else
        for (int64_t i = 0; i < n; i++) {
            b[i] = b[i] * mu + (g[i] * scale + decay * p[i]);
            p[i] -= lr * b[i];
        }
}

INLINE void adam_body(const adze_optim_consts *c, int64_t n, float *restrict p, const float *restrict g,
                      float *restrict m, float *restrict v)
{
    const float scale = c->scale, decay = c->decay, shrink = c->shrink, w1 = c->w1, b2 = c->b2, w2 = c->w2;
    const float rate = c->rate, root_c2 = c->root_c2, eps = c->eps;
    const int near = w1 < 0.5f; /* torch.lerp takes the end that is nearer */
    for (int64_t i = 0; i < n; i++) {
        float gi = g[i] * scale + decay * p[i], d = gi - m[i];
        float mi = near ? m[i] + w1 * d : gi - d * (1.0f - w1);
        float vi = v[i] * b2 + w2 * gi * gi;
        m[i] = mi;
        v[i] = vi;
        p[i] = p[i] * shrink - rate * mi / (sqrtf(vi) / root_c2 + eps);
    }
}

INLINE double squares_body(int64_t n, const float *g)
{
    double lane[16] = { 0 };
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int l = 0; l < 16; l++) lane[l] += (double)g[i + l] * g[i + l];
    for (int l = 0; i + l < n; l++) lane[l] += (double)g[i + l] * g[i + l];
    for (int half = 8; half > 0; half /= 2)
        for (int l = 0; l < half; l++) lane[l] += lane[l + half];
    return lane[0];
}

#define VERSION(suffix, target)                                                                                            \
    target static void sgd_##suffix(const adze_optim_consts *k, int64_t n, float *p, const float *g, float *b)             \
    {                                                                                                                      \
        sgd_body(k, n, p, g, b);                                                                                           \
    }                                                                                                                      \
    target static void adam_##suffix(const adze_optim_consts *k, int64_t n, float *p, const float *g, float *m, float *v)  \
    {                                                                                                                      \
        adam_body(k, n, p, g, m, v);                                                                                       \
    }                                                                                                                      \
    target static double squares_##suffix(int64_t n, const float *g) { return squares_body(n, g); }

VERSION(reference, )
#if defined(__x86_64__)
VERSION(avx2, __attribute__((target("avx2"))))
VERSION(avx512, __attribute__((target("avx512f,avx512dq,avx512vl,prefer-vector-width=512"))))
#endif

adze_status adze_cpu_optim_kernels_get(adze_isa isa, adze_optim_kernels *out)
{
    adze_status st = adze_isa_resolve(isa, &isa);
    if (st != ADZE_OK) return st;
    *out = (adze_optim_kernels){ sgd_reference, adam_reference, squares_reference };
#if defined(__x86_64__)
    if (isa == ADZE_ISA_AVX2) *out = (adze_optim_kernels){ sgd_avx2, adam_avx2, squares_avx2 };
    if (isa >= ADZE_ISA_AVX512) *out = (adze_optim_kernels){ sgd_avx512, adam_avx512, squares_avx512 };
#endif
    return ADZE_OK;
}

static adze_isa isa_of(const adze_ctx *ctx) { return ctx->opts.reference_only ? ADZE_ISA_REFERENCE : ADZE_ISA_AUTO; }

adze_status adze_cpu_optim_norm(adze_ctx *ctx, const adze_optim_norm *a)
{
    adze_optim_kernels kernels;
    adze_status st = adze_cpu_optim_kernels_get(isa_of(ctx), &kernels);
    if (st != ADZE_OK) return st;
#pragma omp parallel for schedule(dynamic, 4) num_threads(ctx->threads)
    for (int64_t i = 0; i < a->n_pieces; i++)
        a->partial[i] = kernels.sum_squares(a->piece[i].count, a->grad + a->piece[i].first);
    double sum = 0.0;
    for (int64_t i = 0; i < a->n_pieces; i++) sum += a->partial[i];
    *a->norm = sqrt(sum);
    return ADZE_OK;
}

static adze_optim_consts consts_of(const adze_optim_update *u, int group)
{
    const double scale = u->clip > 0.0 ? u->clip / (*u->norm + 1e-6) : 1.0;
    return (adze_optim_consts){
        .scale = scale < 1.0 ? (float)scale : 1.0f,
        .decay = u->rates->group[group].decay,
        .shrink = u->rates->group[group].shrink,
        .mu = (float)u->momentum,
        .lr = u->rates->group[group].lr,
        .w1 = (float)(1.0 - u->beta1),
        .b2 = (float)u->beta2,
        .w2 = (float)(1.0 - u->beta2),
        .rate = u->rates->group[group].rate,
        .root_c2 = u->rates->root_c2,
        .eps = (float)u->eps,
    };
}

adze_status adze_cpu_optim_update(adze_ctx *ctx, const adze_optim_update *u)
{
    adze_optim_kernels kernels;
    adze_optim_consts consts[ADZE_OPTIM_GROUPS];
    adze_status st = adze_cpu_optim_kernels_get(isa_of(ctx), &kernels);
    if (st != ADZE_OK || (u->stop && *u->stop)) return st;
    for (int i = 0; i < ADZE_OPTIM_GROUPS; i++) consts[i] = consts_of(u, i);
#pragma omp parallel for schedule(dynamic, 4) num_threads(ctx->threads)
    for (int64_t i = 0; i < u->n_pieces; i++) {
        const adze_optim_piece *q = &u->piece[i];
        float *p = u->param + q->first, *s0 = u->state[0] ? u->state[0] + q->first : NULL;
        const float *g = u->grad + q->first;
        if (u->kind == ADZE_OPTIM_SGD) kernels.sgd(&consts[q->group], q->count, p, g, s0);
        else kernels.adam(&consts[q->group], q->count, p, g, s0, u->state[1] + q->first);
    }
    return ADZE_OK;
}

adze_status adze_cpu_optim_judge(adze_ctx *ctx, const adze_optim_judge *a)
{
    (void)ctx;
    adze_outcome *o = a->outcome;
    if (!isfinite(*a->value[0])) o->stop = 1;
    for (int i = 0; i < a->n_values; i++) o->value[i] = *a->value[i];
    for (int i = 0; i < a->n_norms; i++) {
        o->norm[i] = *a->norm[i];
        if (!isfinite(o->norm[i])) o->stop = 1;
    }
    return ADZE_OK;
}
