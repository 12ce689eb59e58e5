/* broadcast_cpu.c - sum, difference, product, quotient of two tensors, one of which may be repeated, in both directions.
 *
 * y is seen as (outer, period, repeat): the repeated operand has `period` elements, each standing for `repeat` neighbours,
 * all of it `outer` times: per channel repeat = 1, per sample outer = 1. Floor: operands read once, results written once. */
#include "core/cpu/kernels_cpu.h"
#include "core/op_binary.h"
#include "core/ops.h"

typedef struct {
    int64_t outer, period, repeat;
} pattern;

/* How operand `s` lies in y; false if its repeated dimensions are not all in front or all behind the others. */
static bool pattern_of(const adze_shape *s, const adze_shape *y, pattern *p)
{
    int first = y->rank, last = -1;
    for (int d = 0; d < y->rank; d++) {
        int ds = d - (y->rank - s->rank);
        if (y->dim[d] == 1 || ds < 0 || s->dim[ds] == 1) continue;
        first = d < first ? d : first, last = d;
    }
    if (last < 0) first = last = y->rank - 1, p->repeat = adze_shape_count(y), p->period = p->outer = 1;
    else p->repeat = adze_shape_span(y, last + 1, y->rank), p->period = adze_shape_span(y, first, last + 1), p->outer = adze_shape_span(y, 0, first);
    return p->period == adze_shape_count(s);
}

static bool is_full(pattern p) { return p.outer == 1 && p.repeat == 1; }

static bool accepts(const adze_call *c)
{
    pattern x, z;
    return pattern_of(&c->in[0].shape, &c->out[0].shape, &x) && pattern_of(&c->in[1].shape, &c->out[0].shape, &z) &&
           (is_full(x) || is_full(z));
}

#define INLINE static inline __attribute__((always_inline))

INLINE float apply(int fn, float x, float z)
{
    return fn == ADZE_BINARY_ADD ? x + z : fn == ADZE_BINARY_SUB ? x - z : fn == ADZE_BINARY_MUL ? x * z : x / z;
}

/* d(x fn z) with respect to operand k, times dy. */
INLINE float pulled_back(int fn, int k, float x, float z, float dy)
{
    switch ((adze_binary_fn)fn) {
    case ADZE_BINARY_ADD: return dy;
    case ADZE_BINARY_SUB: return k == 0 ? dy : -dy;
    case ADZE_BINARY_MUL: return dy * (k == 0 ? z : x);
    case ADZE_BINARY_DIV: return k == 0 ? dy / z : -dy * x / (z * z);
    }
    return 0.0f;
}

/* Both operands of y's size. */
INLINE void combine_equal(int fn, const float *x, const float *z, int64_t n, float *y)
{
#pragma omp parallel for simd schedule(static) if (n >= 16384) /* scalars: losses are added here */
    for (int64_t i = 0; i < n; i++) y[i] = apply(fn, x[i], z[i]);
}

/* q is the repeated one; `left` says that it is x. */
INLINE void combine_repeated(int fn, bool left, const float *full, const float *q, pattern p, float *y)
{
    if (p.repeat == 1) {
#pragma omp parallel for schedule(static)
        for (int64_t o = 0; o < p.outer; o++)
            for (int64_t i = 0; i < p.period; i++) {
                int64_t at = o * p.period + i;
                y[at] = left ? apply(fn, q[i], full[at]) : apply(fn, full[at], q[i]);
            }
        return;
    }
#pragma omp parallel for schedule(static)
    for (int64_t line = 0; line < p.outer * p.period; line++) {
        float v = q[line % p.period];
        for (int64_t at = line * p.repeat; at < (line + 1) * p.repeat; at++)
            y[at] = left ? apply(fn, v, full[at]) : apply(fn, full[at], v);
    }
}

INLINE void run_fn(int fn, const adze_call *c)
{
    pattern x, z;
    pattern_of(&c->in[0].shape, &c->out[0].shape, &x);
    pattern_of(&c->in[1].shape, &c->out[0].shape, &z);
    const float *a = c->in[0].data, *b = c->in[1].data;
    if (is_full(x) && is_full(z)) combine_equal(fn, a, b, x.period, c->out[0].data);
    else if (is_full(x)) combine_repeated(fn, false, a, b, z, c->out[0].data);
    else combine_repeated(fn, true, b, a, x, c->out[0].data);
}

/* The gradient of an operand of y's size; the other one (o, its pattern p) may be repeated. */
INLINE void full_gradient(int fn, int k, const float *own, const float *o, pattern p, const float *dy, bool add, float *grad)
{
    if (is_full(p)) {
#pragma omp parallel for simd schedule(static) if (p.period >= 16384)
        for (int64_t i = 0; i < p.period; i++) {
            float a = own ? own[i] : 0.0f, b = o ? o[i] : 0.0f;
            float g = k == 0 ? pulled_back(fn, 0, a, b, dy[i]) : pulled_back(fn, 1, b, a, dy[i]);
            grad[i] = add ? grad[i] + g : g;
        }
        return;
    }
#pragma omp parallel for schedule(static)
    for (int64_t block = 0; block < p.outer * (p.repeat == 1 ? 1 : p.period); block++) {
        int64_t n = p.repeat == 1 ? p.period : p.repeat, from = block * n;
        const float *other = o && p.repeat > 1 ? o + block % p.period : o;
        for (int64_t i = 0; i < n; i++) {
            float a = own ? own[from + i] : 0.0f, b = other ? other[p.repeat == 1 ? i : 0] : 0.0f;
            float g = k == 0 ? pulled_back(fn, 0, a, b, dy[from + i]) : pulled_back(fn, 1, b, a, dy[from + i]);
            grad[from + i] = add ? grad[from + i] + g : g;
        }
    }
}

enum { BLOCK = 64 };

/* Sums over `outer` of elements [from, from + n) of the period, in double; repeat = 1. */
INLINE void column_sums(int fn, int k, const float *own, const float *full, const float *dy, pattern p, int64_t from, int64_t n, double *sum)
{
    for (int64_t i = 0; i < n; i++) sum[i] = 0.0;
    for (int64_t o = 0; o < p.outer; o++)
        for (int64_t i = 0; i < n; i++) {
            int64_t at = o * p.period + from + i;
            float a = own ? own[from + i] : 0.0f, b = full ? full[at] : 0.0f;
            sum[i] += k == 0 ? pulled_back(fn, 0, a, b, dy[at]) : pulled_back(fn, 1, b, a, dy[at]);
        }
}

/* Sum over all that element i of the period stands for. */
INLINE double element_sum(int fn, int k, const float *own, const float *full, const float *dy, pattern p, int64_t i)
{
    double sum = 0.0;
    float a = own ? own[i] : 0.0f;
    for (int64_t o = 0; o < p.outer; o++) {
        int64_t from = (o * p.period + i) * p.repeat;
        double part = 0.0;
#pragma omp simd reduction(+ : part)
        for (int64_t at = from; at < from + p.repeat; at++) {
            float b = full ? full[at] : 0.0f;
            part += k == 0 ? pulled_back(fn, 0, a, b, dy[at]) : pulled_back(fn, 1, b, a, dy[at]);
        }
        sum += part;
    }
    return sum;
}

/* The gradient of the repeated operand: sums over the repetitions, in double and in a fixed order. */
INLINE void repeated_gradient(int fn, int k, const float *own, const float *full, const float *dy, pattern p, const adze_arg *arg)
{
    if (p.repeat == 1) {
#pragma omp parallel for schedule(static)
        for (int64_t from = 0; from < p.period; from += BLOCK) {
            int64_t n = p.period - from < BLOCK ? p.period - from : BLOCK;
            double sum[BLOCK];
            column_sums(fn, k, own, full, dy, p, from, n, sum);
            for (int64_t i = 0; i < n; i++) adze_grad_put(arg, from + i, sum[i]);
        }
        return;
    }
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < p.period; i++) adze_grad_put(arg, i, element_sum(fn, k, own, full, dy, p, i));
}

INLINE void run_backward_fn(int fn, const adze_call *c)
{
    bool reads = fn == ADZE_BINARY_MUL || fn == ADZE_BINARY_DIV; /* else the operands may be gone */
    const float *data[2] = { reads ? c->in[0].data : NULL, reads ? c->in[1].data : NULL }, *dy = c->out[0].grad;
    pattern p[2];
    for (int k = 0; k < 2; k++) pattern_of(&c->in[k].shape, &c->out[0].shape, &p[k]);
    for (int turn = 0; turn < 2; turn++) {
        int k = c->in_place ? 1 - turn : turn; /* see op_binary.c */
        if (!c->in[k].wanted) continue;
        bool copied = fn == ADZE_BINARY_ADD || (fn == ADZE_BINARY_SUB && k == 0); /* the gradient is dy, or sums of it */
        if (copied && is_full(p[k]) && c->in[k].grad == dy && !c->in[k].accumulate) continue;
        if (copied && !is_full(p[k]) && p[k].repeat == 1) {
            adze_cpu_sum_columns(&c->out[0], &c->in[k]);
            continue;
        }
        if (!is_full(p[k])) {
            if (k == 0) repeated_gradient(fn, 0, data[0], data[1], dy, p[0], &c->in[0]);
            else repeated_gradient(fn, 1, data[1], data[0], dy, p[1], &c->in[1]);
        } else if (k == 0) full_gradient(fn, 0, data[0], data[1], p[1], dy, c->in[0].accumulate, c->in[0].grad);
        else full_gradient(fn, 1, data[1], data[0], p[0], dy, c->in[1].accumulate, c->in[1].grad);
    }
}

/* One body per function, so that the choice is made outside the loops. */
#define FOR_EACH_FN(fn, body, c)                                    \
    switch ((adze_binary_fn)(fn)) {                                 \
    case ADZE_BINARY_ADD: body(ADZE_BINARY_ADD, c); break;          \
    case ADZE_BINARY_SUB: body(ADZE_BINARY_SUB, c); break;          \
    case ADZE_BINARY_MUL: body(ADZE_BINARY_MUL, c); break;          \
    case ADZE_BINARY_DIV: body(ADZE_BINARY_DIV, c); break;          \
    }

static adze_status run(const adze_call *c)
{
    FOR_EACH_FN(((const binary_attrs *)c->attrs)->fn, run_fn, c)
    return ADZE_OK;
}

static adze_status run_backward(const adze_call *c)
{
    FOR_EACH_FN(((const binary_attrs *)c->attrs)->fn, run_backward_fn, c)
    return ADZE_OK;
}

const adze_kernel adze_cpu_binary = { .name = "cpu", .accepts = accepts, .run = run };
const adze_kernel adze_cpu_binary_backward = { .name = "cpu", .accepts = accepts, .run = run_backward };
