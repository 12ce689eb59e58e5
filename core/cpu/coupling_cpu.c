/* coupling_cpu.c - the coupling block of normalising flows: products by oneDNN, everything between them in fused passes.
 *
 * bytes   forward 2 R C e (x in, state out; the condition is small); the weights come on top: (M(h+P) + CM + C^2) e, which at
 *         256 rows are more. flops 2 R (M(h+P) + CM + C^2), two thirds of them in the subnet: arithmetic is the floor
 * passes  forward: [x1 | cond] into one operand; soft clamp, exp, affine, scale, offset and log-determinant in one. Biases and
 *         ReLU belong to the products. backward: those of the former and the four column sums in one; ReLU's mask and its column
 *         sums in one
 * order   a row or a column belongs to one thread; sums in double, in order; a row's log-scales in LANES sums
 *
 * With --precision bf16 the operands of the products are bfloat16: weights and rotation are rounded when they change, the others
 * by the pass or the product that makes them. The hidden layer exists in no other form then, nor does its gradient; it is kept for
 * backward in the first half of its place. */
#include <math.h>
#include <string.h>

#include "core/cpu/bf16.h"
#include "core/cpu/elementary.h"
#include "core/cpu/kernels_cpu.h"
#include "core/isa.h"
#include "core/memory.h"
#include "core/op_coupling.h"

#define INLINE static inline __attribute__((always_inline))

enum { COLUMNS = 64, PIECE = 256, LANES = 16 }; /* columns of a row at a time, and of all rows */

/* What the passes need to know. Operands of products have their type: float32 or bfloat16. */
typedef struct {
    coupling_sizes s;
    float clamp, slope;
    bool bf16;
    const float *g, *offset; /* (C); g: of this call */
    double log_scales;       /* sum of log g */
} pass;

/* j (n) to LANES sums. */
INLINE void add_lanes(const float *j, int64_t n, double *lane)
{
    int64_t k = 0;
    for (; k + LANES <= n; k += LANES)
        for (int l = 0; l < LANES; l++) lane[l] += j[k + l];
    for (int l = 0; k + l < n; l++) lane[l] += j[k + l];
}

INLINE double sum_lanes(double *lane)
{
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int l = 0; l < half; l++) lane[l] += lane[l + half];
    return lane[0];
}

/* Row of x, row of r -> row of v, an operand; the log-determinant's change. */
INLINE double affine_body(const pass *p, const float *x, const float *r, void *v)
{
    const int64_t h = p->s.h;
    const float *g = p->g, *o = p->offset, clamp = p->clamp, slope = 0.1f * p->slope;
    double lane[LANES] = { 0.0 };
    float j[COLUMNS], near[2][COLUMNS];
    for (int64_t k0 = 0; k0 < h; k0 += COLUMNS) {
        int64_t n = h - k0 < COLUMNS ? h - k0 : COLUMNS;
        const float *x1 = x + k0, *x2 = x1 + h, *r1 = r + k0, *r2 = r1 + h;
        float *v1 = p->bf16 ? near[0] : (float *)v + k0, *v2 = p->bf16 ? near[1] : v1 + h;
#pragma omp simd
        for (int64_t k = 0; k < n; k++) {
            j[k] = clamp * elementary_tanh(slope * r1[k]);
            v1[k] = x1[k] * g[k0 + k] + o[k0 + k];
            v2[k] = (x2[k] * elementary_exp(j[k]) + 0.1f * r2[k]) * g[k0 + h + k] + o[k0 + h + k];
        }
        add_lanes(j, n, lane);
        if (!p->bf16) continue;
        adze_bf16_convert_row(v1, n, (uint16_t *)v + k0);
        adze_bf16_convert_row(v2, n, (uint16_t *)v + k0 + h);
    }
    return sum_lanes(lane);
}

/* The same backwards: y1 stands in v[:h], y2 in v[h:] and gives way to x2. */
INLINE double inverse_body(const pass *p, const float *r, float *v)
{
    const int64_t h = p->s.h;
    const float clamp = p->clamp, slope = 0.1f * p->slope;
    double lane[LANES] = { 0.0 };
    float j[COLUMNS];
    for (int64_t k0 = 0; k0 < h; k0 += COLUMNS) {
        int64_t n = h - k0 < COLUMNS ? h - k0 : COLUMNS;
        const float *r1 = r + k0, *r2 = r1 + h;
        float *v2 = v + k0 + h;
#pragma omp simd
        for (int64_t k = 0; k < n; k++) {
            j[k] = clamp * elementary_tanh(slope * r1[k]);
            v2[k] = (v2[k] - 0.1f * r2[k]) * elementary_exp(-j[k]);
        }
        add_lanes(j, n, lane);
    }
    return -sum_lanes(lane);
}

/* Gradients that one pass over a block of columns of all rows gives. */
typedef struct {
    const float *x, *r, *u, *dlogdet; /* (R,C), (R,C), (R,C): d v, (R) */
    void *dr;                         /* (R,C), an operand; may have the memory of u if float32 */
    float *dx;                        /* (R,C) or NULL */
    bool add;                         /* to dx */
} affine_grads;

/* Sums over the rows of columns k0 .. of both halves: d scale without its slope, d offset, d b2. */
typedef struct {
    double scale[2][PIECE], offset[2][PIECE], bias[2][PIECE];
} column_sums;

INLINE void affine_backward_body(const pass *p, const affine_grads *a, int64_t k0, int64_t n, column_sums *sum)
{
    const int64_t C = p->s.C, h = p->s.h;
    const float *g1 = p->g + k0, *g2 = g1 + h, clamp = p->clamp, slope = 0.1f * p->slope;
    float dx1[PIECE], dx2[PIECE], near[2][PIECE];
    memset(sum, 0, sizeof *sum);
    for (int64_t row = 0; row < p->s.R; row++) {
        const int64_t at = row * C + k0;
        const float *x1 = a->x + at, *x2 = x1 + h, *r1 = a->r + at, *r2 = r1 + h, *u1 = a->u + at, *u2 = u1 + h, dlogdet = a->dlogdet[row];
        float *dr1 = p->bf16 ? near[0] : (float *)a->dr + at, *dr2 = p->bf16 ? near[1] : dr1 + h;
#pragma omp simd
        for (int64_t k = 0; k < n; k++) {
            float th = elementary_tanh(slope * r1[k]), e = elementary_exp(clamp * th), xe = x2[k] * e;
            sum->offset[0][k] += u1[k], sum->offset[1][k] += u2[k];
            sum->scale[0][k] += (double)u1[k] * x1[k], sum->scale[1][k] += (double)u2[k] * (xe + 0.1f * r2[k]);
            float dy1 = u1[k] * g1[k], dy2 = u2[k] * g2[k];
            dx1[k] = dy1, dx2[k] = dy2 * e;
            dr1[k] = (dy2 * xe + dlogdet) * (clamp * slope) * (1.0f - th * th), dr2[k] = 0.1f * dy2;
            sum->bias[0][k] += dr1[k], sum->bias[1][k] += dr2[k];
        }
        if (p->bf16) {
            adze_bf16_convert_row(dr1, n, (uint16_t *)a->dr + at);
            adze_bf16_convert_row(dr2, n, (uint16_t *)a->dr + at + h);
        }
        if (!a->dx) continue;
        float *to1 = a->dx + at, *to2 = to1 + h;
        if (a->add)
            for (int64_t k = 0; k < n; k++) to1[k] += dx1[k], to2[k] += dx2[k];
        else
            for (int64_t k = 0; k < n; k++) to1[k] = dx1[k], to2[k] = dx2[k];
    }
}

/* n columns of all rows: d = 0 where the hidden layer is; the column sums. */
INLINE void mask_body(const float *restrict hidden, float *restrict d, int64_t rows, int64_t M, int64_t n, double *restrict sum)
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

/* The same in bfloat16, whose sign bit is that of an int16_t. */
INLINE void mask_bf16_body(const int16_t *restrict hidden, uint16_t *restrict d, int64_t rows, int64_t M, int64_t n, double *restrict sum)
{
    for (int64_t m = 0; m < n; m++) sum[m] = 0.0;
    for (int64_t r = 0; r < rows; r++, hidden += M, d += M) {
#pragma omp simd
        for (int64_t m = 0; m < n; m++) {
            const uint16_t now = hidden[m] > 0 ? d[m] : 0;
            d[m] = now;
            sum[m] += (double)adze_bf16_value(now);
        }
    }
}

typedef struct {
    double (*affine)(const pass *p, const float *x, const float *r, void *v);
    double (*inverse)(const pass *p, const float *r, float *v);
    void (*affine_backward)(const pass *p, const affine_grads *a, int64_t k0, int64_t n, column_sums *sum);
    void (*mask)(const float *hidden, float *d, int64_t rows, int64_t M, int64_t n, double *sum);
    void (*mask_bf16)(const int16_t *hidden, uint16_t *d, int64_t rows, int64_t M, int64_t n, double *sum);
} passes;

#define VERSION(suffix, target)                                                                                                    \
    target static double affine_##suffix(const pass *p, const float *x, const float *r, void *v) { return affine_body(p, x, r, v); } \
    target static double inverse_##suffix(const pass *p, const float *r, float *v) { return inverse_body(p, r, v); }                 \
    target static void affine_backward_##suffix(const pass *p, const affine_grads *a, int64_t k0, int64_t n, column_sums *sum)       \
    {                                                                                                                              \
        affine_backward_body(p, a, k0, n, sum);                                                                                    \
    }                                                                                                                              \
    target static void mask_##suffix(const float *hidden, float *d, int64_t rows, int64_t M, int64_t n, double *sum)                 \
    {                                                                                                                              \
        mask_body(hidden, d, rows, M, n, sum);                                                                                     \
    }                                                                                                                              \
    target static void mask_bf16_##suffix(const int16_t *hidden, uint16_t *d, int64_t rows, int64_t M, int64_t n, double *sum)       \
    {                                                                                                                              \
        mask_bf16_body(hidden, d, rows, M, n, sum);                                                                                \
    }                                                                                                                              \
    static const passes passes_##suffix = { affine_##suffix, inverse_##suffix, affine_backward_##suffix, mask_##suffix, mask_bf16_##suffix };

VERSION(plain, )
#if defined(__x86_64__)
VERSION(avx2, __attribute__((target("avx2"))))
VERSION(avx512, __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512"))))
#endif

static const passes *best_passes(void)
{
#if defined(__x86_64__)
    if (adze_isa_available(ADZE_ISA_AVX512)) return &passes_avx512;
    if (adze_isa_available(ADZE_ISA_AVX2)) return &passes_avx2;
#endif
    return &passes_plain;
}

/* ---- products ---- */

enum { HIDDEN, SUBNET, ROTATION, TO_V, TO_HIDDEN, TO_W2, TO_W1, TO_X, TO_COND, PRODUCTS }; /* backward: gradients of */
enum { INPUT, V, U, DR, DH, PARTS };                                                       /* of the scratch memory */

typedef struct {
    adze_onednn_product *product[PRODUCTS];
    size_t at[PARTS], inside; /* in the scratch memory, in bytes; inside: what a product needs for itself */
    bool bf16;
    double log_scales;
    uint64_t version; /* of the scales when g was made; 0: never */
    float g[];        /* (C) */
} coupling_state;

static void release(adze_call *c)
{
    coupling_state *b = c->state;
    for (int k = 0; b && k < PRODUCTS; k++) adze_onednn_product_destroy(b->product[k]);
    adze_free(b);
    c->state = NULL;
}

static bool accepts(const adze_call *c)
{
    (void)c;
    return true;
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

static adze_status create_products(adze_call *c, adze_onednn_product_opts opts[PRODUCTS])
{
    adze_status st = ADZE_OK;
    coupling_state *b = c->state;
    size_t most = 0;
    for (int k = 0; k < PRODUCTS; k++) {
        if (opts[k].m == 0) continue;
        opts[k].bf16 = b->bf16;
        TRY(adze_onednn_product_create(&b->product[k], c->ctx, &opts[k]));
        const size_t n_bytes = adze_onednn_product_scratch_bytes(b->product[k]);
        most = n_bytes > most ? n_bytes : most;
    }
    b->inside = book(c, most);
done:
    return st;
}

/* Whether a product keeps a copy of a parameter in the library's layout: bfloat16 needs one; else if it stays between runs. */
static bool packs(const adze_call *c, int param)
{
    const coupling_state *b = c->state;
    return c->in[param].version && (b->bf16 || param == COUPLING_W_PERM || !c->trains);
}

static adze_status prepare_forward(adze_call *c)
{
    const coupling_sizes s = adze_coupling_sizes(c);
    const int64_t R = s.R, C = s.C, M = s.M, i = s.h + s.P;
    coupling_state *b = c->state;
    const bool inverse = ((const coupling_attrs *)c->attrs)->inverse;
    const size_t bytes = b->bf16 ? sizeof(uint16_t) : sizeof(float);
    b->at[INPUT] = b->at[V] = book(c, (size_t)(R * (i > C ? i : C)) * bytes); /* one after the other */
    adze_onednn_product_opts opts[PRODUCTS] = {
        [HIDDEN] = { .m = R, .n = M, .k = i, .tb = true, .ldb = i, .ldc = M, .packed = packs(c, COUPLING_W1), .bf16_out = b->bf16, .bias = true, .relu = true },
        [SUBNET] = { .m = R, .n = C, .k = M, .tb = true, .ldb = M, .ldc = C, .packed = packs(c, COUPLING_W2), .bias = true },
        [ROTATION] = { .m = inverse ? 0 : R, .n = C, .k = C, .tb = true, .ldb = C, .ldc = C, .packed = packs(c, COUPLING_W_PERM) },
        [TO_V] = { .m = inverse ? R : 0, .n = C, .k = C, .ldb = C, .ldc = C, .packed = packs(c, COUPLING_W_PERM) },
    };
    return create_products(c, opts);
}

/* Without a gradient towards a parameter, x or the condition its product is left out. */
static adze_status prepare_backward(adze_call *c)
{
    const coupling_sizes s = adze_coupling_sizes(c);
    const int64_t R = s.R, C = s.C, M = s.M, h = s.h, P = s.P, i = h + P;
    const adze_arg *in = c->in, *w1 = &in[COUPLING_W1], *w2 = &in[COUPLING_W2], *cond = &in[COUPLING_COND];
    coupling_state *b = c->state;
    const size_t bytes = b->bf16 ? sizeof(uint16_t) : sizeof(float);
    b->at[U] = book(c, (size_t)(R * C) * sizeof(float));
    b->at[DR] = b->bf16 ? book(c, (size_t)(R * C) * bytes) : b->at[U];
    b->at[DH] = book(c, (size_t)(R * M) * bytes);
    b->at[INPUT] = w1->wanted ? book(c, (size_t)(R * i) * bytes) : 0;
    adze_onednn_product_opts opts[PRODUCTS] = {
        [TO_V] = { .m = R, .n = C, .k = C, .ldb = C, .ldc = C, .packed = packs(c, COUPLING_W_PERM) },
        [TO_HIDDEN] = { .m = R, .n = M, .k = C, .ldb = M, .ldc = M, .packed = packs(c, COUPLING_W2), .bf16_out = b->bf16 },
        [TO_W2] = { .m = w2->wanted ? C : 0, .n = M, .k = R, .ta = true, .ldb = M, .ldc = M, .add = w2->accumulate },
        [TO_W1] = { .m = w1->wanted ? M : 0, .n = i, .k = R, .ta = true, .ldb = i, .ldc = i, .add = w1->accumulate },
        [TO_X] = { .m = in[COUPLING_X].wanted ? R : 0, .n = h, .k = M, .ldb = i, .ldc = C, .packed = packs(c, COUPLING_W1), .add = true },
        [TO_COND] = { .m = cond->wanted ? R : 0, .n = P, .k = M, .ldb = i, .ldc = P, .packed = packs(c, COUPLING_W1), .add = cond->accumulate },
    };
    return create_products(c, opts);
}

static adze_status prepare_type(adze_call *c, bool bf16)
{
    adze_status st = ADZE_OK;
    coupling_state *b = c->state = adze_calloc(1, sizeof *b + (size_t)adze_coupling_sizes(c).C * sizeof *b->g);
    REQUIRE(b, ADZE_ENOMEM, "coupling: host bytes");
    b->bf16 = bf16;
    TRY(c->backward ? prepare_backward(c) : prepare_forward(c));
done:
    if (st != ADZE_OK) release(c);
    return st;
}

static adze_status prepare(adze_call *c) { return prepare_type(c, false); }

/* No other kernel may step in for one direction only: forward keeps the hidden layer as backward of the same precision reads it. */
static adze_status prepare_bf16(adze_call *c)
{
    adze_status st = prepare_type(c, true);
    return st == ADZE_EBACKEND ? adze_fail_prefix(ADZE_EINTERNAL, "coupling in bfloat16: ") : st;
}

static void *part(const adze_call *c, int which) { return (unsigned char *)c->scratch + ((const coupling_state *)c->state)->at[which]; }

static adze_status multiply(const adze_call *c, int which, const void *a, const void *b, void *out)
{
    const coupling_state *s = c->state;
    return adze_onednn_product_run(s->product[which], a, b, 0, NULL, out, (unsigned char *)c->scratch + s->inside);
}

/* a times a parameter from its column `first` on, plus a bias or NULL. */
static adze_status multiply_param(const adze_call *c, int which, const void *a, int param, int64_t first, const float *bias, void *out)
{
    const coupling_state *s = c->state;
    const adze_arg *b = &c->in[param];
    return adze_onednn_product_run(s->product[which], a, b->data + first, b->version ? *b->version : 0, bias, out, (unsigned char *)c->scratch + s->inside);
}

/* ---- passes over all rows ---- */

/* The scales, computed when they have changed. */
static pass start(const adze_call *c)
{
    const coupling_attrs *a = c->attrs;
    const adze_arg *scale = &c->in[COUPLING_SCALE];
    coupling_state *b = c->state;
    const uint64_t version = scale->version ? *scale->version : 0;
    const coupling_sizes s = adze_coupling_sizes(c);
    if (version == 0 || version != b->version) {
        b->log_scales = 0.0;
        for (int64_t k = 0; k < s.C; k++) {
            const double g = adze_coupling_scale(scale->data[k]);
            b->g[k] = (float)g;
            b->log_scales += log(g);
        }
        b->version = version;
    }
    return (pass){ .s = s, .clamp = a->clamp, .slope = a->slope, .bf16 = b->bf16, .g = b->g, .offset = c->in[COUPLING_OFFSET].data,
                   .log_scales = b->log_scales };
}

/* [x1 | cond] as an operand; x1 are the first h of C columns of x. */
static void gather_input(const adze_call *c, const pass *p, const float *x, void *to)
{
    const coupling_sizes s = p->s;
    const int64_t i = s.h + s.P;
    const float *cond = c->in[COUPLING_COND].data;
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < s.R; n++) {
        if (p->bf16) {
            adze_bf16_convert_row(x + n * s.C, s.h, (uint16_t *)to + n * i);
            adze_bf16_convert_row(cond + n * s.P, s.P, (uint16_t *)to + n * i + s.h);
        } else {
            memcpy((float *)to + n * i, x + n * s.C, (size_t)s.h * sizeof(float));
            memcpy((float *)to + n * i + s.h, cond + n * s.P, (size_t)s.P * sizeof(float));
        }
    }
}

/* Hidden layer and r of rows whose first halves are x1. */
static adze_status subnet(const adze_call *c, const pass *p, const float *x)
{
    adze_status st = ADZE_OK;
    void *input = part(c, INPUT), *hidden = adze_coupling_hidden(c);
    gather_input(c, p, x, input);
    TRY(multiply_param(c, HIDDEN, input, COUPLING_W1, 0, c->in[COUPLING_B1].data, hidden));
    TRY(multiply_param(c, SUBNET, hidden, COUPLING_W2, 0, c->in[COUPLING_B2].data, adze_coupling_subnet(c, &p->s)));
done:
    return st;
}

static adze_status run_inverse(const adze_call *c, const pass *p)
{
    adze_status st = ADZE_OK;
    const int64_t R = p->s.R, C = p->s.C;
    const passes *k = best_passes();
    const float *x = c->in[COUPLING_X].data, *before = p->s.state ? x + R * C : NULL, *r = adze_coupling_subnet(c, &p->s);
    float *v = c->out[0].data;
    TRY(multiply_param(c, TO_V, x, COUPLING_W_PERM, 0, NULL, v));
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < R; n++)
        for (int64_t q = 0; q < C; q++) v[n * C + q] = (v[n * C + q] - p->offset[q]) / p->g[q];
    TRY(subnet(c, p, v));
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < R; n++) {
        double logdet = k->inverse(p, r + n * C, v + n * C) - p->log_scales;
        v[R * C + n] = (float)((before ? before[n] : 0.0) + logdet);
    }
done:
    return st;
}

/* All rows of x and r -> v; and the log-determinants. */
static void affine_rows(const adze_call *c, const pass *p, unsigned char *v)
{
    const int64_t R = p->s.R, C = p->s.C;
    const size_t row_bytes = (size_t)C * (p->bf16 ? sizeof(uint16_t) : sizeof(float));
    const passes *k = best_passes();
    const float *x = c->in[COUPLING_X].data, *before = p->s.state ? x + R * C : NULL, *r = adze_coupling_subnet(c, &p->s);
    float *logdets = c->out[0].data + R * C;
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < R; n++) {
        double logdet = k->affine(p, x + n * C, r + n * C, v + (size_t)n * row_bytes) + p->log_scales;
        logdets[n] = (float)((before ? before[n] : 0.0) + logdet);
    }
}

static adze_status run(const adze_call *c)
{
    adze_status st = ADZE_OK;
    const pass p = start(c);
    if (((const coupling_attrs *)c->attrs)->inverse) return run_inverse(c, &p);
    TRY(subnet(c, &p, c->in[COUPLING_X].data));
    affine_rows(c, &p, part(c, V));
    TRY(multiply_param(c, ROTATION, part(c, V), COUPLING_W_PERM, 0, NULL, c->out[0].data));
done:
    return st;
}

/* u -> dr, dx without the subnet's part, and the gradients of scale, offset and b2. */
static void affine_gradients(const adze_call *c, const pass *p)
{
    const int64_t h = p->s.h, share = adze_cpu_column_piece(h), piece = share < PIECE ? share : PIECE;
    const passes *kernel = best_passes();
    const adze_arg *x = &c->in[COUPLING_X];
    const affine_grads a = { .x = x->data, .r = adze_coupling_subnet(c, &p->s), .u = part(c, U), .dlogdet = c->out[0].grad + p->s.R * p->s.C,
                             .dr = part(c, DR), .dx = x->wanted ? x->grad : NULL, .add = x->accumulate };
    const adze_arg *scale = &c->in[COUPLING_SCALE], *offset = &c->in[COUPLING_OFFSET], *b2 = &c->in[COUPLING_B2];
    double dlogdet = 0.0;
    for (int64_t n = 0; n < p->s.R; n++) dlogdet += a.dlogdet[n];
#pragma omp parallel for schedule(static)
    for (int64_t k0 = 0; k0 < h; k0 += piece) {
        const int64_t n = h - k0 < piece ? h - k0 : piece;
        column_sums sum;
        kernel->affine_backward(p, &a, k0, n, &sum);
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
static void mask_hidden(const adze_call *c, const pass *p)
{
    const passes *kernel = best_passes();
    const int64_t M = p->s.M, piece = adze_cpu_column_piece(M);
    const void *hidden = adze_coupling_hidden(c);
    void *dh = part(c, DH);
    const adze_arg *b1 = &c->in[COUPLING_B1];
#pragma omp parallel for schedule(static)
    for (int64_t m0 = 0; m0 < M; m0 += piece) {
        const int64_t n = M - m0 < piece ? M - m0 : piece;
        double sum[ADZE_CPU_COLUMNS];
        if (p->bf16) kernel->mask_bf16((const int16_t *)hidden + m0, (uint16_t *)dh + m0, p->s.R, M, n, sum);
        else kernel->mask((const float *)hidden + m0, (float *)dh + m0, p->s.R, M, n, sum);
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
    const adze_arg *x = &c->in[COUPLING_X], *cond = &c->in[COUPLING_COND], *w1 = &c->in[COUPLING_W1], *w2 = &c->in[COUPLING_W2];
    const pass p = start(c);
    const coupling_sizes *s = &p.s;
    const float *dout = c->out[0].grad;
    void *dr = part(c, DR), *dh = part(c, DH), *input = part(c, INPUT);
    TRY(check_gradients(c));
    if (p.bf16) adze_bf16_convert(dout, s->R * s->C, dr); /* its place is free until then */
    TRY(multiply_param(c, TO_V, p.bf16 ? dr : dout, COUPLING_W_PERM, 0, NULL, part(c, U)));
    affine_gradients(c, &p);
    TRY(multiply_param(c, TO_HIDDEN, dr, COUPLING_W2, 0, NULL, dh));
    mask_hidden(c, &p);
    if (w2->wanted) TRY(multiply(c, TO_W2, dr, adze_coupling_hidden(c), w2->grad));
    if (w1->wanted) {
        gather_input(c, &p, x->data, input);
        TRY(multiply(c, TO_W1, dh, input, w1->grad));
    }
    if (cond->wanted) TRY(multiply_param(c, TO_COND, dh, COUPLING_W1, s->h, NULL, cond->grad));
    if (!x->wanted) goto done;
    TRY(multiply_param(c, TO_X, dh, COUPLING_W1, 0, NULL, x->grad));
    pass_logdets(x, s, dout + s->R * s->C);
done:
    return st;
}

const adze_kernel adze_cpu_coupling = { .name = "onednn+fused", .accepts = accepts, .prepare = prepare, .run = run, .release = release };
const adze_kernel adze_cpu_coupling_backward = {
    .name = "onednn+fused", .accepts = accepts, .prepare = prepare, .run = run_backward, .release = release,
};
const adze_kernel adze_cpu_coupling_bf16 = {
    .name = "onednn-bf16+fused", .accepts = accepts_bf16, .prepare = prepare_bf16, .run = run, .release = release,
};
const adze_kernel adze_cpu_coupling_backward_bf16 = {
    .name = "onednn-bf16+fused", .accepts = accepts_bf16, .prepare = prepare_bf16, .run = run_backward, .release = release,
};
