/* coupling_cpu.c - the coupling block of normalising flows: products by oneDNN, everything between them in fused passes.
 *
 * bytes   forward 2 R C e (x in, state out; the condition is small); the weights come on top: (M(h+P) + CM + C^2) e, which at
 *         256 rows are more. flops 2 R (M(h+P) + CM + C^2), two thirds of them in the subnet: arithmetic is the floor
 * passes  forward: bias + ReLU over the hidden layer; bias, soft clamp, exp, affine, scale, offset and log-determinant in one.
 *         backward: those of the latter and the four column sums in one; ReLU's mask and its column sums in one
 * order   a row or a column belongs to one thread; sums in double, in order
 * The condition is a second product into the hidden layer: nothing is concatenated. */
#include <math.h>
#include <string.h>

#include "core/cpu/elementary.h"
#include "core/cpu/kernels_cpu.h"
#include "core/isa.h"
#include "core/op_coupling.h"

#define INLINE static inline __attribute__((always_inline))

enum { COLUMNS = 64 }; /* of a block of columns */

/* What the passes need to know. */
typedef struct {
    coupling_sizes s;
    float clamp, slope;
    const float *g, *offset, *b2; /* (C); g: of this call */
    double log_scales;            /* sum of log g */
} pass;

/* Row of x, row of r (bias still missing) -> r, v; the log-determinant's change. */
INLINE double affine_body(const pass *p, const float *x, float *r, float *v)
{
    const int64_t h = p->s.h;
    const float *g = p->g, *o = p->offset, *b2 = p->b2, clamp = p->clamp, slope = 0.1f * p->slope;
    double logdet = 0.0;
    float j[COLUMNS];
    for (int64_t k0 = 0; k0 < h; k0 += COLUMNS) {
        int64_t n = h - k0 < COLUMNS ? h - k0 : COLUMNS;
        const float *x1 = x + k0, *x2 = x1 + h;
        float *r1 = r + k0, *r2 = r1 + h, *v1 = v + k0, *v2 = v1 + h;
#pragma omp simd
        for (int64_t k = 0; k < n; k++) {
            r1[k] += b2[k0 + k], r2[k] += b2[k0 + h + k];
            j[k] = clamp * elementary_tanh(slope * r1[k]);
            v1[k] = x1[k] * g[k0 + k] + o[k0 + k];
            v2[k] = (x2[k] * elementary_exp(j[k]) + 0.1f * r2[k]) * g[k0 + h + k] + o[k0 + h + k];
        }
        for (int64_t k = 0; k < n; k++) logdet += j[k];
    }
    return logdet;
}

/* The same backwards: y1 stands in v[:h], y2 in v[h:] and gives way to x2. */
INLINE double inverse_body(const pass *p, float *r, float *v)
{
    const int64_t h = p->s.h;
    const float *b2 = p->b2, clamp = p->clamp, slope = 0.1f * p->slope;
    double logdet = 0.0;
    float j[COLUMNS];
    for (int64_t k0 = 0; k0 < h; k0 += COLUMNS) {
        int64_t n = h - k0 < COLUMNS ? h - k0 : COLUMNS;
        float *r1 = r + k0, *r2 = r1 + h, *v2 = v + k0 + h;
#pragma omp simd
        for (int64_t k = 0; k < n; k++) {
            r1[k] += b2[k0 + k], r2[k] += b2[k0 + h + k];
            j[k] = clamp * elementary_tanh(slope * r1[k]);
            v2[k] = (v2[k] - 0.1f * r2[k]) * elementary_exp(-j[k]);
        }
        for (int64_t k = 0; k < n; k++) logdet -= j[k];
    }
    return logdet;
}

/* Gradients that one pass over a block of columns of all rows gives. */
typedef struct {
    const float *x, *r, *dlogdet; /* (R,C), (R,C), (R) */
    float *u;                     /* (R,C): d v, becomes d r */
    float *dx;                    /* (R,C) or NULL */
    bool add;                     /* to dx */
} affine_grads;

/* Sums over the rows of columns k0 .. of both halves: d scale without its slope, d offset, d b2. */
typedef struct {
    double scale[2][COLUMNS], offset[2][COLUMNS], bias[2][COLUMNS];
} column_sums;

INLINE void affine_backward_body(const pass *p, const affine_grads *a, int64_t k0, int64_t n, column_sums *sum)
{
    const int64_t C = p->s.C, h = p->s.h;
    const float *g1 = p->g + k0, *g2 = g1 + h, clamp = p->clamp, slope = 0.1f * p->slope;
    float dx1[COLUMNS], dx2[COLUMNS];
    memset(sum, 0, sizeof *sum);
    for (int64_t row = 0; row < p->s.R; row++) {
        const float *x1 = a->x + row * C + k0, *x2 = x1 + h, *r1 = a->r + row * C + k0, *r2 = r1 + h, dlogdet = a->dlogdet[row];
        float *u1 = a->u + row * C + k0, *u2 = u1 + h;
#pragma omp simd
        for (int64_t k = 0; k < n; k++) {
            float th = elementary_tanh(slope * r1[k]), e = elementary_exp(clamp * th), xe = x2[k] * e;
            sum->offset[0][k] += u1[k], sum->offset[1][k] += u2[k];
            sum->scale[0][k] += (double)u1[k] * x1[k], sum->scale[1][k] += (double)u2[k] * (xe + 0.1f * r2[k]);
            float dy1 = u1[k] * g1[k], dy2 = u2[k] * g2[k], dr1 = (dy2 * xe + dlogdet) * (clamp * slope) * (1.0f - th * th);
            dx1[k] = dy1, dx2[k] = dy2 * e;
            u1[k] = dr1, u2[k] = 0.1f * dy2;
            sum->bias[0][k] += dr1, sum->bias[1][k] += u2[k];
        }
        if (!a->dx) continue;
        float *to1 = a->dx + row * C + k0, *to2 = to1 + h;
        if (a->add)
            for (int64_t k = 0; k < n; k++) to1[k] += dx1[k], to2[k] += dx2[k];
        else
            for (int64_t k = 0; k < n; k++) to1[k] = dx1[k], to2[k] = dx2[k];
    }
}

typedef struct {
    double (*affine)(const pass *p, const float *x, float *r, float *v);
    double (*inverse)(const pass *p, float *r, float *v);
    void (*affine_backward)(const pass *p, const affine_grads *a, int64_t k0, int64_t n, column_sums *sum);
} passes;

#define VERSION(suffix, target)                                                                                               \
    target static double affine_##suffix(const pass *p, const float *x, float *r, float *v) { return affine_body(p, x, r, v); } \
    target static double inverse_##suffix(const pass *p, float *r, float *v) { return inverse_body(p, r, v); }                  \
    target static void affine_backward_##suffix(const pass *p, const affine_grads *a, int64_t k0, int64_t n, column_sums *sum)  \
    {                                                                                                                         \
        affine_backward_body(p, a, k0, n, sum);                                                                               \
    }

VERSION(plain, )
#if defined(__x86_64__)
VERSION(avx2, __attribute__((target("avx2"))))
VERSION(avx512, __attribute__((target("avx512f,avx512dq,avx512vl,prefer-vector-width=512"))))
#endif

static passes best_passes(void)
{
#if defined(__x86_64__)
    if (adze_isa_available(ADZE_ISA_AVX512)) return (passes){ affine_avx512, inverse_avx512, affine_backward_avx512 };
    if (adze_isa_available(ADZE_ISA_AVX2)) return (passes){ affine_avx2, inverse_avx2, affine_backward_avx2 };
#endif
    return (passes){ affine_plain, inverse_plain, affine_backward_plain };
}

static bool accepts(const adze_call *c)
{
    (void)c;
    return true;
}

/* Scratch: g (C); v, or u and then dr (R,C); backward also dh (R,M). */
static adze_status prepare(adze_call *c)
{
    coupling_sizes s = adze_coupling_sizes(c);
    c->scratch_bytes = (size_t)(s.C + s.R * s.C + (c->backward ? s.R * s.M : 0)) * sizeof(float);
    return ADZE_OK;
}

static pass start(const adze_call *c)
{
    const coupling_attrs *a = c->attrs;
    float *g = c->scratch;
    pass p = { .s = adze_coupling_sizes(c), .clamp = a->clamp, .slope = a->slope, .g = g, .offset = c->in[COUPLING_OFFSET].data,
               .b2 = c->in[COUPLING_B2].data };
    for (int64_t k = 0; k < p.s.C; k++) {
        double scale = adze_coupling_scale(c->in[COUPLING_SCALE].data[k]);
        g[k] = (float)scale;
        p.log_scales += log(scale);
    }
    return p;
}

/* hidden = relu(x1 w1a^T + cond w1b^T + b1), r = hidden w2^T; x1 are the first h of C columns of x. */
static adze_status subnet(const adze_call *c, const coupling_sizes *s, const float *x)
{
    adze_status st = ADZE_OK;
    const int64_t i = s->h + s->P, M = s->M;
    const float *w1 = c->in[COUPLING_W1].data, *b1 = c->in[COUPLING_B1].data;
    float *hidden = adze_coupling_hidden(c);
    TRY(adze_onednn_gemm(false, true, s->R, M, s->h, x, s->C, w1, i, false, hidden, M));
    TRY(adze_onednn_gemm(false, true, s->R, M, s->P, c->in[COUPLING_COND].data, s->P, w1 + s->h, i, true, hidden, M));
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < s->R; n++) {
        float *row = hidden + n * M;
        for (int64_t m = 0; m < M; m++) row[m] = row[m] + b1[m] > 0.0f ? row[m] + b1[m] : 0.0f;
    }
    TRY(adze_onednn_gemm(false, true, s->R, s->C, M, hidden, M, c->in[COUPLING_W2].data, M, false, adze_coupling_subnet(c, s), s->C));
done:
    return st;
}

static adze_status run_inverse(const adze_call *c, const pass *p)
{
    adze_status st = ADZE_OK;
    const coupling_sizes *s = &p->s;
    const int64_t R = s->R, C = s->C;
    const passes k = best_passes();
    const float *before = s->state ? c->in[COUPLING_X].data + R * C : NULL;
    float *v = c->out[0].data, *r = adze_coupling_subnet(c, s);
    TRY(adze_onednn_gemm(false, false, R, C, C, c->in[COUPLING_X].data, C, c->in[COUPLING_W_PERM].data, C, false, v, C));
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < R; n++)
        for (int64_t q = 0; q < C; q++) v[n * C + q] = (v[n * C + q] - p->offset[q]) / p->g[q];
    TRY(subnet(c, s, v));
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < R; n++) {
        double logdet = k.inverse(p, r + n * C, v + n * C) - p->log_scales;
        v[R * C + n] = (float)((before ? before[n] : 0.0) + logdet);
    }
done:
    return st;
}

static adze_status run(const adze_call *c)
{
    adze_status st = ADZE_OK;
    const pass p = start(c);
    const coupling_sizes *s = &p.s;
    const int64_t R = s->R, C = s->C;
    if (((const coupling_attrs *)c->attrs)->inverse) return run_inverse(c, &p);
    const passes k = best_passes();
    const float *x = c->in[COUPLING_X].data, *before = s->state ? x + R * C : NULL;
    float *v = (float *)c->scratch + C, *out = c->out[0].data, *r = adze_coupling_subnet(c, s);
    TRY(subnet(c, s, x));
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < R; n++) {
        double logdet = k.affine(&p, x + n * C, r + n * C, v + n * C) + p.log_scales;
        out[R * C + n] = (float)((before ? before[n] : 0.0) + logdet);
    }
    TRY(adze_onednn_gemm(false, true, R, C, C, v, C, c->in[COUPLING_W_PERM].data, C, false, out, C));
done:
    return st;
}

/* u -> dr in place, dx without the subnet's part, and the gradients of scale, offset and b2. */
static void affine_gradients(const adze_call *c, const pass *p, const affine_grads *a)
{
    const int64_t h = p->s.h;
    const passes kernel = best_passes();
    const adze_arg *scale = &c->in[COUPLING_SCALE], *offset = &c->in[COUPLING_OFFSET], *b2 = &c->in[COUPLING_B2];
    double dlogdet = 0.0;
    for (int64_t n = 0; n < p->s.R; n++) dlogdet += a->dlogdet[n];
#pragma omp parallel for schedule(static)
    for (int64_t k0 = 0; k0 < h; k0 += COLUMNS) {
        const int64_t n = h - k0 < COLUMNS ? h - k0 : COLUMNS;
        column_sums sum;
        kernel.affine_backward(p, a, k0, n, &sum);
        for (int half = 0; half < 2; half++)
            for (int64_t k = 0; k < n; k++) {
                const int64_t at = half * h + k0 + k;
                const double gs = scale->data[at];
                if (scale->wanted) adze_grad_put(scale, at, (sum.scale[half][k] + dlogdet / adze_coupling_scale(gs)) * adze_coupling_scale_slope(gs));
                if (offset->wanted) adze_grad_put(offset, at, sum.offset[half][k]);
                if (b2->wanted) adze_grad_put(b2, at, sum.bias[half][k]);
            }
    }
}

/* dh = 0 where the hidden layer is; its column sums are the gradient of b1. */
static void mask_hidden(const adze_call *c, const coupling_sizes *s, float *dh)
{
    const float *hidden = adze_coupling_hidden(c);
    const adze_arg *b1 = &c->in[COUPLING_B1];
#pragma omp parallel for schedule(static)
    for (int64_t m0 = 0; m0 < s->M; m0 += COLUMNS) {
        const int64_t n = s->M - m0 < COLUMNS ? s->M - m0 : COLUMNS;
        double sum[COLUMNS] = { 0.0 };
        for (int64_t row = 0; row < s->R; row++) {
            const float *at = hidden + row * s->M + m0;
            float *d = dh + row * s->M + m0;
            for (int64_t m = 0; m < n; m++) {
                d[m] = at[m] > 0.0f ? d[m] : 0.0f;
                sum[m] += d[m];
            }
        }
        for (int64_t m = 0; m < n && b1->wanted; m++) adze_grad_put(b1, m0 + m, sum[m]);
    }
}

static adze_status run_backward(const adze_call *c)
{
    adze_status st = ADZE_OK;
    const adze_arg *in = c->in, *x = &in[COUPLING_X], *cond = &in[COUPLING_COND], *w1 = &in[COUPLING_W1], *w2 = &in[COUPLING_W2];
    const pass p = start(c);
    const coupling_sizes *s = &p.s;
    const int64_t R = s->R, C = s->C, M = s->M, h = s->h, P = s->P, i = h + P;
    const float *dout = c->out[0].grad, *hidden = adze_coupling_hidden(c);
    float *u = (float *)c->scratch + C, *dh = u + R * C;
    REQUIRE(!((const coupling_attrs *)c->attrs)->inverse, ADZE_EINVAL, "coupling: the inverse has no gradient");
    REQUIRE(!in[COUPLING_W_PERM].wanted, ADZE_EINVAL, "coupling: w_perm has no gradient");
    const affine_grads a = { .x = x->data, .r = adze_coupling_subnet(c, s), .dlogdet = dout + R * C, .u = u, .dx = x->wanted ? x->grad : NULL,
                             .add = x->accumulate };
    TRY(adze_onednn_gemm(false, false, R, C, C, dout, C, in[COUPLING_W_PERM].data, C, false, u, C));
    affine_gradients(c, &p, &a);
    TRY(adze_onednn_gemm(false, false, R, M, C, u, C, w2->data, M, false, dh, M));
    mask_hidden(c, s, dh);
    if (w2->wanted) TRY(adze_onednn_gemm(true, false, C, M, R, u, C, hidden, M, w2->accumulate, w2->grad, M));
    if (w1->wanted) {
        TRY(adze_onednn_gemm(true, false, M, h, R, dh, M, x->data, C, w1->accumulate, w1->grad, i));
        TRY(adze_onednn_gemm(true, false, M, P, R, dh, M, cond->data, P, w1->accumulate, w1->grad + h, i));
    }
    if (cond->wanted) TRY(adze_onednn_gemm(false, false, R, P, M, dh, M, w1->data + h, i, cond->accumulate, cond->grad, P));
    if (!x->wanted) goto done;
    TRY(adze_onednn_gemm(false, false, R, h, M, dh, M, w1->data, i, true, x->grad, C));
    for (int64_t n = 0; s->state && n < R; n++) adze_grad_put(x, R * C + n, a.dlogdet[n]);
done:
    return st;
}

const adze_kernel adze_cpu_coupling = { .name = "onednn+fused", .accepts = accepts, .prepare = prepare, .run = run };
const adze_kernel adze_cpu_coupling_backward = { .name = "onednn+fused", .accepts = accepts, .prepare = prepare, .run = run_backward };
