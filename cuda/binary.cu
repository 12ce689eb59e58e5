/* binary.cu - sum, difference, product, quotient with broadcasting, forward and backward: core/op_binary.c in float32.
 * bytes   equal shapes: forward 12 per element, backward 8 (add, sub) or 16 per operand; a repeated operand is read from cache
 * floor   residual sum of (16,64,64,256): 201 MB: 200 us at 1008 GB/s, 60 us at 3350 GB/s
 * launch  equal shapes: 256 threads of 4 elements; else the same threads find their operands by at most 6 divisions, per element
 *         where the innermost dimension is no multiple of 4
 * order   the gradient of a repeated operand is a sum in double by sums.cuh: columns where its last dimension is its own, lines
 *         where it is repeated */
#include "core/op_binary.h"
#include "core/ops.h"
#include "cuda/sums.cuh"

namespace {

template <int FN> __device__ static inline float apply(float x, float z)
{
    return FN == ADZE_BINARY_ADD ? x + z : FN == ADZE_BINARY_SUB ? x - z : FN == ADZE_BINARY_MUL ? x * z : x / z;
}

/* d(x fn z) with respect to operand k, times dy. */
template <int FN> __device__ static inline float pulled_back(int k, float x, float z, float dy)
{
    switch (FN) {
    case ADZE_BINARY_SUB: return k == 0 ? dy : -dy;
    case ADZE_BINARY_MUL: return dy * (k == 0 ? z : x);
    case ADZE_BINARY_DIV: return k == 0 ? dy / z : -dy * x / (z * z);
    }
    return dy;
}

/* Some of y's dimensions, the innermost first: how far one step in each goes in y and in the operands. */
struct space {
    int rank;
    uint32_t dim[ADZE_MAX_RANK];
    int64_t y[ADZE_MAX_RANK], in[2][ADZE_MAX_RANK];
};

struct place {
    int64_t y, in[2];
};

__device__ static inline place place_of(const space &s, uint32_t i)
{
    place p = { 0, { 0, 0 } };
    for (int d = 0; d < s.rank; d++) {
        const uint32_t at = i % s.dim[d];
        i /= s.dim[d];
        p.y += at * s.y[d], p.in[0] += at * s.in[0][d], p.in[1] += at * s.in[1][d];
    }
    return p;
}

/* The dimensions of y longer than 1; neighbours are joined where both operands go on or both stand still. */
static space space_of(const adze_call *c)
{
    const adze_shape *y = &c->out[0].shape;
    space s = {};
    int64_t step[3] = { 1, 1, 1 }; /* y, in[0], in[1] */
    for (int d = y->rank - 1; d >= 0; d--) {
        int64_t stride[3] = { step[0], 0, 0 };
        for (int k = 0; k < 2; k++) {
            const adze_shape *x = &c->in[k].shape;
            const int dx = d - (y->rank - x->rank);
            const int64_t n = dx >= 0 ? x->dim[dx] : 1;
            stride[1 + k] = n == 1 ? 0 : step[1 + k];
            step[1 + k] *= n;
        }
        step[0] *= y->dim[d];
        if (y->dim[d] == 1) continue;
        const int last = s.rank - 1;
        bool joins = last >= 0;
        for (int k = 0; k < 2 && joins; k++)
            joins = s.in[k][last] == 0 ? stride[1 + k] == 0 : stride[1 + k] == s.in[k][last] * (int64_t)s.dim[last];
        if (joins) {
            s.dim[last] *= (uint32_t)y->dim[d];
            continue;
        }
        s.dim[s.rank] = (uint32_t)y->dim[d], s.y[s.rank] = stride[0], s.in[0][s.rank] = stride[1], s.in[1][s.rank] = stride[2];
        s.rank++;
    }
    return s;
}

/* The dimensions in which operand k goes on (`own`) or is repeated. */
static space part_of(const space &s, int k, bool own)
{
    space part = {};
    for (int d = 0; d < s.rank; d++) {
        if ((s.in[k][d] != 0) != own) continue;
        part.dim[part.rank] = s.dim[d], part.y[part.rank] = s.y[d];
        part.in[0][part.rank] = s.in[0][d], part.in[1][part.rank] = s.in[1][d];
        part.rank++;
    }
    return part;
}

static bool is_full(const adze_call *c, int k) { return adze_shape_count(&c->in[k].shape) == adze_shape_count(&c->out[0].shape); }

/* Elements i .. i+V-1 of operand k. Where the innermost dimension holds whole packs, an operand goes on or stands still in one. */
template <int V> __device__ static inline pack<V> operand(const float *x, const space &s, int k, int64_t i)
{
    pack<V> out;
    if (V > 1 && s.dim[0] % V == 0) {
        const int64_t at = place_of(s, (uint32_t)i).in[k];
        if (s.in[k][0] != 0) return load<V>(x + at);
        const float same = x[at];
#pragma unroll
        for (int j = 0; j < V; j++) out.v[j] = same;
    } else
#pragma unroll
        for (int j = 0; j < V; j++) out.v[j] = x[place_of(s, (uint32_t)(i + j)).in[k]];
    return out;
}

template <int FN> struct equal_body {
    const float *x, *z;
    float *y;
    template <int V> __device__ void at(int64_t i) const
    {
        pack<V> a = load<V>(x + i);
        const pack<V> b = load<V>(z + i);
#pragma unroll
        for (int j = 0; j < V; j++) a.v[j] = apply<FN>(a.v[j], b.v[j]);
        store<V>(y + i, a);
    }
};

template <int FN> struct repeated_body {
    const float *x, *z;
    float *y;
    space s;
    template <int V> __device__ void at(int64_t i) const
    {
        pack<V> a = operand<V>(x, s, 0, i);
        const pack<V> b = operand<V>(z, s, 1, i);
#pragma unroll
        for (int j = 0; j < V; j++) a.v[j] = apply<FN>(a.v[j], b.v[j]);
        store<V>(y + i, a);
    }
};

/* The gradient of an operand of y's size. Operands are read for products and quotients only: else they may be gone. */
template <int FN> struct gradient_body {
    enum { READS = FN == ADZE_BINARY_MUL || FN == ADZE_BINARY_DIV };
    const float *x, *z, *dy;
    float *grad;
    bool add, equal;
    int k;
    space s;
    template <int V> __device__ void at(int64_t i) const
    {
        pack<V> d = load<V>(dy + i), a = {}, b = {};
        if (READS) a = equal ? load<V>(x + i) : operand<V>(x, s, 0, i), b = equal ? load<V>(z + i) : operand<V>(z, s, 1, i);
#pragma unroll
        for (int j = 0; j < V; j++) d.v[j] = pulled_back<FN>(k, a.v[j], b.v[j], d.v[j]);
        put<V>(grad + i, add, d);
    }
};

/* The gradient of a repeated operand: element `own` of it, summed over the repetitions. */
template <int FN> struct repeated_gradient_body {
    enum { SUMS = 1, READS = FN == ADZE_BINARY_MUL || FN == ADZE_BINARY_DIV };
    const float *x, *z, *dy;
    float *grad;
    bool accumulate;
    int k;
    space own, repeated;
    __device__ void add(int64_t element, int64_t i, double *sum) const
    {
        const place a = place_of(own, (uint32_t)element), b = place_of(repeated, (uint32_t)i);
        const float d = dy[a.y + b.y];
        sum[0] += READS ? pulled_back<FN>(k, x[a.in[0] + b.in[0]], z[a.in[1] + b.in[1]], d) : pulled_back<FN>(k, 0.0f, 0.0f, d);
    }
    template <int V> __device__ void add(int64_t element, int64_t i, double *sum) const
    {
        add(element, i, sum);
    }
    __device__ void finish(int64_t element, const double *sum) const { put(grad + element, accumulate, (float)sum[0]); }
};

static bool lies_in_columns(const space &s, int k) { return s.rank > 0 && s.in[k][0] != 0; }

static bool accepts(const adze_call *c) { return adze_shape_count(&c->out[0].shape) <= UINT32_MAX; }

static adze_status prepare_backward(adze_call *c)
{
    const space s = space_of(c);
    const int64_t n = adze_shape_count(&c->out[0].shape);
    c->scratch_bytes = 0;
    for (int k = 0; k < 2; k++) {
        const int64_t m = adze_shape_count(&c->in[k].shape);
        if (is_full(c, k)) continue;
        const size_t n_bytes = lies_in_columns(s, k) ? column_sums_bytes(n / m, m, 1) : line_sums_bytes(m, n / m, 1);
        c->scratch_bytes = n_bytes > c->scratch_bytes ? n_bytes : c->scratch_bytes;
    }
    return ADZE_OK;
}

template <int FN> static adze_status gradient(const adze_call *c, const space &s, int k)
{
    const int64_t n = adze_shape_count(&c->out[0].shape), m = adze_shape_count(&c->in[k].shape);
    const float *x = c->in[0].data, *z = c->in[1].data, *dy = c->out[0].grad;
    const adze_arg *in = &c->in[k];
    if (is_full(c, k))
        return flat_launch(c, gradient_body<FN>{ x, z, dy, in->grad, in->accumulate, is_full(c, 1 - k), k, s }, n);
    const repeated_gradient_body<FN> body = { x, z, dy, in->grad, in->accumulate, k, part_of(s, k, true), part_of(s, k, false) };
    return lies_in_columns(s, k) ? column_sums_launch(c, body, n / m, m, c->scratch)
                                 : line_sums_launch(c, body, m, n / m, false, c->scratch);
}

template <int FN> static adze_status run_fn(const adze_call *c)
{
    adze_status st = ADZE_OK;
    const int64_t n = adze_shape_count(&c->out[0].shape);
    if (!c->backward) {
        if (is_full(c, 0) && is_full(c, 1)) return flat_launch(c, equal_body<FN>{ c->in[0].data, c->in[1].data, c->out[0].data }, n);
        return flat_launch(c, repeated_body<FN>{ c->in[0].data, c->in[1].data, c->out[0].data, space_of(c) }, n);
    }
    for (int turn = 0; turn < 2 && st == ADZE_OK; turn++) {
        const int k = c->in_place ? 1 - turn : turn; /* see op_binary.c */
        if (c->in[k].wanted) st = gradient<FN>(c, space_of(c), k);
    }
    return st;
}

static adze_status run(const adze_call *c)
{
    switch (static_cast<const binary_attrs *>(c->attrs)->fn) {
    case ADZE_BINARY_ADD: return run_fn<ADZE_BINARY_ADD>(c);
    case ADZE_BINARY_SUB: return run_fn<ADZE_BINARY_SUB>(c);
    case ADZE_BINARY_MUL: return run_fn<ADZE_BINARY_MUL>(c);
    default: return run_fn<ADZE_BINARY_DIV>(c);
    }
}

} /* namespace */

const adze_kernel adze_cuda_binary = cuda_kernel(accepts, NULL, run);
const adze_kernel adze_cuda_binary_backward = cuda_kernel(accepts, prepare_backward, run);
