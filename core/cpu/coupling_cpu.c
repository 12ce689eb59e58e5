/* coupling_cpu.c - the coupling block of normalising flows: products by oneDNN, everything between them in fused passes.
 *
 * bytes   forward 2 R C e (x in, state out; the condition is small); the weights come on top: (M(h+P) + CM + C^2) e, which at
 *         256 rows are more. flops 2 R (M(h+P) + CM + C^2), two thirds of them in the subnet: arithmetic is the floor
 * passes  forward: bias + ReLU over the hidden layer; bias, soft clamp, exp, affine, scale, offset and log-determinant in one.
 *         backward: those of the latter and the four column sums in one; ReLU's mask and its column sums in one
 * order   a row or a column belongs to one thread; sums in double, in order
 * The condition is a second product into the hidden layer: nothing is concatenated.
 *
 * With --precision bf16 the operands of the products are rounded to bfloat16, weights and rotation when they change, the others by a
 * pass each; there [x1 | cond] is one operand, since the rounded copy can as well be one matrix. All between the products, and what is
 * kept for backward, is the same. */
#include <math.h>
#include <string.h>

#include "core/cpu/bf16.h"
#include "core/cpu/elementary.h"
#include "core/cpu/kernels_cpu.h"
#include "core/isa.h"
#include "core/memory.h"
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
    return adze_onednn_gemm_begin();
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
#pragma omp simd
        for (int64_t m = 0; m < M; m++) {
            const float now = row[m] + b1[m];
            row[m] = now > 0.0f ? now : 0.0f;
        }
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

/* All rows of x and r -> r, v; and the log-determinants. */
static void affine_rows(const adze_call *c, const pass *p, float *v)
{
    const int64_t R = p->s.R, C = p->s.C;
    const passes k = best_passes();
    const float *x = c->in[COUPLING_X].data, *before = p->s.state ? x + R * C : NULL;
    float *logdets = c->out[0].data + R * C, *r = adze_coupling_subnet(c, &p->s);
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < R; n++) {
        double logdet = k.affine(p, x + n * C, r + n * C, v + n * C) + p->log_scales;
        logdets[n] = (float)((before ? before[n] : 0.0) + logdet);
    }
}

static adze_status run(const adze_call *c)
{
    adze_status st = ADZE_OK;
    const pass p = start(c);
    const int64_t R = p.s.R, C = p.s.C;
    if (((const coupling_attrs *)c->attrs)->inverse) return run_inverse(c, &p);
    float *v = (float *)c->scratch + C, *out = c->out[0].data;
    TRY(subnet(c, &p.s, c->in[COUPLING_X].data));
    affine_rows(c, &p, v);
    TRY(adze_onednn_gemm(false, true, R, C, C, v, C, c->in[COUPLING_W_PERM].data, C, false, out, C));
done:
    return st;
}

/* u -> dr in place, dx without the subnet's part, and the gradients of scale, offset and b2. */
static void affine_gradients(const adze_call *c, const pass *p, float *u)
{
    const int64_t h = p->s.h;
    const passes kernel = best_passes();
    const adze_arg *x = &c->in[COUPLING_X];
    const affine_grads a = { .x = x->data, .r = adze_coupling_subnet(c, &p->s), .dlogdet = c->out[0].grad + p->s.R * p->s.C, .u = u,
                             .dx = x->wanted ? x->grad : NULL, .add = x->accumulate };
    const adze_arg *scale = &c->in[COUPLING_SCALE], *offset = &c->in[COUPLING_OFFSET], *b2 = &c->in[COUPLING_B2];
    double dlogdet = 0.0;
    for (int64_t n = 0; n < p->s.R; n++) dlogdet += a.dlogdet[n];
#pragma omp parallel for schedule(static)
    for (int64_t k0 = 0; k0 < h; k0 += COLUMNS) {
        const int64_t n = h - k0 < COLUMNS ? h - k0 : COLUMNS;
        column_sums sum;
        kernel.affine_backward(p, &a, k0, n, &sum);
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

/* n columns of all rows: d = 0 where the hidden layer is; the column sums. */
__attribute__((noinline, target_clones("avx512f", "avx2", "default"))) static void mask_piece(const float *restrict hidden, float *restrict d, int64_t rows,
                                                                                              int64_t M, int64_t n, double *restrict sum)
{
    for (int64_t m = 0; m < n; m++) sum[m] = 0.0;
    for (int64_t r = 0; r < rows; r++, hidden += M, d += M) {
#pragma omp simd
        for (int64_t m = 0; m < n; m++) {
            const float now = hidden[m] > 0.0f ? d[m] : 0.0f;
            d[m] = now;
            sum[m] += (double)now;
        }
    }
}

/* dh = 0 where the hidden layer is; its column sums are the gradient of b1. */
static void mask_hidden(const adze_call *c, const coupling_sizes *s, float *dh)
{
    const float *hidden = adze_coupling_hidden(c);
    const adze_arg *b1 = &c->in[COUPLING_B1];
    const int64_t piece = adze_cpu_column_piece(s->M);
#pragma omp parallel for schedule(static)
    for (int64_t m0 = 0; m0 < s->M; m0 += piece) {
        const int64_t n = s->M - m0 < piece ? s->M - m0 : piece;
        double sum[ADZE_CPU_COLUMNS];
        mask_piece(hidden + m0, dh + m0, s->R, s->M, n, sum);
        for (int64_t m = 0; m < n && b1->wanted; m++) adze_grad_put(b1, m0 + m, sum[m]);
    }
}

static adze_status check_gradients(const adze_call *c)
{
    if (((const coupling_attrs *)c->attrs)->inverse) return adze_fail(ADZE_EINVAL, "coupling: the inverse has no gradient");
    if (c->in[COUPLING_W_PERM].wanted) return adze_fail(ADZE_EINVAL, "coupling: w_perm has no gradient");
    return ADZE_OK;
}

/* The log-determinants' gradients pass on as they are. */
static void pass_logdets(const adze_arg *x, const coupling_sizes *s, const float *dlogdet)
{
    for (int64_t n = 0; s->state && n < s->R; n++) adze_grad_put(x, s->R * s->C + n, dlogdet[n]);
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
    TRY(check_gradients(c));
    TRY(adze_onednn_gemm(false, false, R, C, C, dout, C, in[COUPLING_W_PERM].data, C, false, u, C));
    affine_gradients(c, &p, u);
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
    pass_logdets(x, s, dout + R * C);
done:
    return st;
}


/* ---- the same with products in bfloat16 ---- */

enum { HIDDEN, SUBNET, ROTATION };                                    /* forward */
enum { TO_V, TO_HIDDEN, TO_W2, TO_W1, TO_X, TO_COND, PRODUCTS };      /* backward: gradients of */
enum { ACROSS, BACK_HIDDEN, BACK_V, OPERANDS };                       /* rounded matrices of R rows */

typedef struct {
    adze_onednn_product *product[PRODUCTS];
    size_t at[OPERANDS], inside; /* where the operands and what a product needs for itself lie in the scratch memory, in bytes */
} bf16_state;

static void release_bf16(adze_call *c)
{
    bf16_state *b = c->state;
    for (int k = 0; b && k < PRODUCTS; k++) adze_onednn_product_destroy(b->product[k]);
    adze_free(b);
    c->state = NULL;
}

/* The weights are packed once per change: worth it for parameters. */
static bool accepts_bf16(const adze_call *c)
{
    return c->ctx->opts.precision == ADZE_PRECISION_BF16 && !((const coupling_attrs *)c->attrs)->inverse && c->in[COUPLING_W1].version &&
           c->in[COUPLING_W2].version && c->in[COUPLING_W_PERM].version;
}

static size_t book(adze_call *c, size_t n_bytes)
{
    const size_t at = (c->scratch_bytes + ADZE_MEMORY_ALIGN - 1) / ADZE_MEMORY_ALIGN * ADZE_MEMORY_ALIGN;
    c->scratch_bytes = at + n_bytes;
    return at;
}

static adze_status create_products(adze_call *c, const adze_onednn_product_opts *opts, int n)
{
    adze_status st = ADZE_OK;
    bf16_state *b = c->state;
    size_t most = 0;
    for (int k = 0; k < n; k++) {
        if (opts[k].m == 0) continue;
        TRY(adze_onednn_product_create(&b->product[k], c->ctx, &opts[k]));
        const size_t n_bytes = adze_onednn_product_scratch_bytes(b->product[k]);
        most = n_bytes > most ? n_bytes : most;
    }
    b->inside = book(c, most);
done:
    return st;
}

/* Scratch: as above, and the operands. Without a gradient towards x or the condition its product is left out. */
static adze_status prepare_bf16(adze_call *c)
{
    adze_status st = ADZE_OK;
    const coupling_sizes s = adze_coupling_sizes(c);
    const int64_t R = s.R, C = s.C, M = s.M, h = s.h, P = s.P, i = h + P, widest = i > M ? i : M;
    bf16_state *b = c->state = adze_calloc(1, sizeof *b);
    REQUIRE(b, ADZE_ENOMEM, "coupling: host bytes");
    TRY(prepare(c));
    b->at[ACROSS] = book(c, (size_t)(R * (c->backward || widest > C ? widest : C)) * sizeof(uint16_t));
    if (c->backward) {
        const adze_arg *in = c->in;
        b->at[BACK_V] = book(c, (size_t)(R * C) * sizeof(uint16_t));
        b->at[BACK_HIDDEN] = book(c, (size_t)(R * M) * sizeof(uint16_t));
        const adze_onednn_product_opts opts[PRODUCTS] = {
            [TO_V] = { .m = R, .n = C, .k = C, .ldb = C, .ldc = C, .packed = true },
            [TO_HIDDEN] = { .m = R, .n = M, .k = C, .ldb = M, .ldc = M, .packed = true },
            [TO_W2] = { .m = in[COUPLING_W2].wanted ? C : 0, .n = M, .k = R, .ta = true, .ldb = M, .ldc = M, .add = in[COUPLING_W2].accumulate },
            [TO_W1] = { .m = in[COUPLING_W1].wanted ? M : 0, .n = i, .k = R, .ta = true, .ldb = i, .ldc = i, .add = in[COUPLING_W1].accumulate },
            [TO_X] = { .m = in[COUPLING_X].wanted ? R : 0, .n = h, .k = M, .ldb = i, .ldc = C, .packed = true, .add = true },
            [TO_COND] = { .m = in[COUPLING_COND].wanted ? R : 0, .n = P, .k = M, .ldb = i, .ldc = P, .packed = true, .add = in[COUPLING_COND].accumulate },
        };
        TRY(create_products(c, opts, PRODUCTS));
    } else {
        const adze_onednn_product_opts opts[] = {
            [HIDDEN] = { .m = R, .n = M, .k = i, .tb = true, .ldb = i, .ldc = M, .packed = true, .relu = true },
            [SUBNET] = { .m = R, .n = C, .k = M, .tb = true, .ldb = M, .ldc = C, .packed = true },
            [ROTATION] = { .m = R, .n = C, .k = C, .tb = true, .ldb = C, .ldc = C, .packed = true },
        };
        TRY(create_products(c, opts, sizeof opts / sizeof *opts));
    }
done:
    if (st != ADZE_OK) release_bf16(c);
    return st;
}

static uint16_t *operand(const adze_call *c, int which)
{
    return (uint16_t *)((unsigned char *)c->scratch + ((const bf16_state *)c->state)->at[which]);
}

static adze_status multiply(const adze_call *c, int which, const uint16_t *a, const uint16_t *b, const float *bias, float *out)
{
    const bf16_state *s = c->state;
    return adze_onednn_product_run(s->product[which], a, b, bias, out, (unsigned char *)c->scratch + s->inside);
}

/* a times a parameter from its column `first` on, which is packed anew if it has changed. */
static adze_status multiply_param(const adze_call *c, int which, const uint16_t *a, int param, int64_t first, const float *bias, float *out)
{
    const bf16_state *s = c->state;
    adze_status st = adze_onednn_product_pack(s->product[which], c->in[param].data + first, *c->in[param].version);
    return st == ADZE_OK ? multiply(c, which, a, NULL, bias, out) : st;
}

/* [x1 | cond] */
static void round_inputs(const adze_call *c, const coupling_sizes *s, uint16_t *to)
{
    adze_bf16_convert_columns(c->in[COUPLING_X].data, s->R, s->h, s->C, to, s->h + s->P);
    adze_bf16_convert_columns(c->in[COUPLING_COND].data, s->R, s->P, s->P, to + s->h, s->h + s->P);
}

static adze_status run_bf16(const adze_call *c)
{
    adze_status st = ADZE_OK;
    const pass p = start(c);
    const coupling_sizes *s = &p.s;
    float *v = (float *)c->scratch + s->C, *hidden = adze_coupling_hidden(c);
    uint16_t *across = operand(c, ACROSS);
    round_inputs(c, s, across);
    TRY(multiply_param(c, HIDDEN, across, COUPLING_W1, 0, c->in[COUPLING_B1].data, hidden));
    adze_bf16_convert(hidden, s->R * s->M, across);
    TRY(multiply_param(c, SUBNET, across, COUPLING_W2, 0, NULL, adze_coupling_subnet(c, s)));
    affine_rows(c, &p, v);
    adze_bf16_convert(v, s->R * s->C, across);
    TRY(multiply_param(c, ROTATION, across, COUPLING_W_PERM, 0, NULL, c->out[0].data));
done:
    return st;
}

static adze_status run_backward_bf16(const adze_call *c)
{
    adze_status st = ADZE_OK;
    const adze_arg *x = &c->in[COUPLING_X], *cond = &c->in[COUPLING_COND], *w1 = &c->in[COUPLING_W1], *w2 = &c->in[COUPLING_W2];
    const pass p = start(c);
    const coupling_sizes *s = &p.s;
    const int64_t R = s->R, C = s->C, M = s->M;
    const float *dout = c->out[0].grad;
    float *u = (float *)c->scratch + C, *dh = u + R * C;
    uint16_t *across = operand(c, ACROSS), *back_v = operand(c, BACK_V), *back_hidden = operand(c, BACK_HIDDEN);
    TRY(check_gradients(c));
    adze_bf16_convert(dout, R * C, back_v);
    TRY(multiply_param(c, TO_V, back_v, COUPLING_W_PERM, 0, NULL, u));
    affine_gradients(c, &p, u);
    adze_bf16_convert(u, R * C, back_v);
    TRY(multiply_param(c, TO_HIDDEN, back_v, COUPLING_W2, 0, NULL, dh));
    mask_hidden(c, s, dh);
    adze_bf16_convert(dh, R * M, back_hidden);
    if (w2->wanted) {
        adze_bf16_convert(adze_coupling_hidden(c), R * M, across);
        TRY(multiply(c, TO_W2, back_v, across, NULL, w2->grad));
    }
    if (w1->wanted) {
        round_inputs(c, s, across);
        TRY(multiply(c, TO_W1, back_hidden, across, NULL, w1->grad));
    }
    if (cond->wanted) TRY(multiply_param(c, TO_COND, back_hidden, COUPLING_W1, s->h, NULL, cond->grad));
    if (!x->wanted) goto done;
    TRY(multiply_param(c, TO_X, back_hidden, COUPLING_W1, 0, NULL, x->grad));
    pass_logdets(x, s, dout + R * C);
done:
    return st;
}

const adze_kernel adze_cpu_coupling = { .name = "onednn+fused", .accepts = accepts, .prepare = prepare, .run = run };
const adze_kernel adze_cpu_coupling_backward = { .name = "onednn+fused", .accepts = accepts, .prepare = prepare, .run = run_backward };
const adze_kernel adze_cpu_coupling_bf16 = {
    .name = "onednn-bf16+fused", .accepts = accepts_bf16, .prepare = prepare_bf16, .run = run_bf16, .release = release_bf16,
};
const adze_kernel adze_cpu_coupling_backward_bf16 = {
    .name = "onednn-bf16+fused", .accepts = accepts_bf16, .prepare = prepare_bf16, .run = run_backward_bf16, .release = release_bf16,
};
