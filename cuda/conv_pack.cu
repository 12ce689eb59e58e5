/* conv_pack.cu - around a convolution of cuDNN: order of the weights, folding, padding, rounding, bias gradient, epilogue.
 * bytes   weights: 8 per element, once per change where they are frozen, once per step where they are trained; epilogue: 8 per
 *         element, 12 with a residual; padding: 8; bias gradient: 4 per element of dy; rounding to bfloat16: 6
 * floor   the 50 M weights of RD's decoder: 400 MB, 0.4 ms at 1008 GB/s, 0.12 ms at 3350 GB/s, of a step of 24 ms and more
 * launch  256 threads of 4 elements; weights are read R apart: the taps of one pair of channels are neighbours, R floats that serve
 *         R threads of the same or the next blocks from cache
 * order   elements are independent; bias gradients as in sums.cuh
 * Folding is computed in double, like the cpu's: gamma/sqrt(var + eps) rounds once per element. */
#include "core/ops.h"
#include "cuda/conv_pack.h"
#include "cuda/sums.cuh"

namespace {

struct weights_body {
    const float *w, *gamma, *var;
    float *packed;
    int64_t Cg, R;
    float eps;
    template <int V> __device__ void at(int64_t first) const
    {
        pack<V> out;
#pragma unroll
        for (int j = 0; j < V; j++) {
            const int64_t i = first + j, ci = i % Cg, r = i / Cg % R, co = i / Cg / R;
            const float x = w[(co * Cg + ci) * R + r];
            out.v[j] = gamma ? (float)((double)x * (gamma[co] / sqrt((double)var[co] + (double)eps))) : x;
        }
        store<V>(packed + first, out);
    }
};

struct bias_body {
    const float *b, *gamma, *beta, *mean, *var;
    float *folded;
    float eps;
    template <int V> __device__ void at(int64_t first) const
    {
        const pack<V> g = load<V>(gamma + first), v = load<V>(var + first), m = load<V>(mean + first), add = load<V>(beta + first);
        pack<V> out = {};
        if (b) out = load<V>(b + first);
#pragma unroll
        for (int j = 0; j < V; j++) {
            const double scale = g.v[j] / sqrt((double)v.v[j] + (double)eps);
            out.v[j] = (float)(((double)out.v[j] - (double)m.v[j]) * scale + (double)add.v[j]);
        }
        store<V>(folded + first, out);
    }
};

struct unpack_body {
    const float *packed;
    float *grad;
    int64_t Cg, R;
    bool add;
    template <int V> __device__ void at(int64_t first) const
    {
        pack<V> out;
#pragma unroll
        for (int j = 0; j < V; j++) {
            const int64_t i = first + j, r = i % R, ci = i / R % Cg, co = i / R / Cg;
            out.v[j] = packed[(co * R + r) * Cg + ci];
        }
        put<V>(grad + first, add, out);
    }
};

struct pad_body {
    const float *x;
    float *y;
    int64_t H, W, C, top, left, Hp, Wp;
    template <int V> __device__ void at(int64_t first) const
    {
        pack<V> out;
        const bool whole = V > 1 && C % V == 0; /* all of them are one pixel's */
#pragma unroll
        for (int j = 0; j < V; j++) {
            const int64_t i = first + j, k = i % C, ix = i / C % Wp - left, iy = i / C / Wp % Hp - top, n = i / C / Wp / Hp;
            const bool inside = ix >= 0 && ix < W && iy >= 0 && iy < H;
            const float *from = x + ((n * H + iy) * W + ix) * C + k;
            if (whole) {
                if (inside) out = load<V>(from);
                else out = pack<V>{};
                break;
            }
            out.v[j] = inside ? *from : 0.0f;
        }
        store<V>(y + first, out);
    }
};

template <int ACT> __device__ static inline float activated(float x)
{
    switch (ACT) {
    case ADZE_ACT_RELU: return x > 0.0f ? x : 0.0f;
    case ADZE_ACT_RELU6: return x > 0.0f ? (x < 6.0f ? x : 6.0f) : 0.0f;
    case ADZE_ACT_SILU: return x / (1.0f + expf(-x));
    }
    return x;
}

template <int ACT> struct epilogue_body {
    float *y;
    const float *r, *b;
    int64_t Co;
    template <int V> __device__ void at(int row, int k) const
    {
        const int64_t i = (int64_t)row * Co + k;
        pack<V> v = load<V>(y + i);
        if (r) {
            const pack<V> add = load<V>(r + i);
#pragma unroll
            for (int j = 0; j < V; j++) v.v[j] += add.v[j];
        }
        if (b) {
            const pack<V> add = load<V>(b + k);
#pragma unroll
            for (int j = 0; j < V; j++) v.v[j] += add.v[j];
        }
#pragma unroll
        for (int j = 0; j < V; j++) v.v[j] = activated<ACT>(v.v[j]);
        store<V>(y + i, v);
    }
};

struct add_body {
    float *to;
    const float *from;
    template <int V> __device__ void at(int64_t i) const { put<V>(to + i, true, load<V>(from + i)); }
};

struct bias_gradient_body {
    const float *dy;
    float *db;
    int64_t Co;
    bool add_to;
    enum { SUMS = 1 };
    __device__ void add(int64_t column, int64_t row, double *sum) const { sum[0] += dy[row * Co + column]; }
    __device__ void finish(int64_t column, const double *sum) const
    {
        db[column] = add_to ? (float)(db[column] + sum[0]) : (float)sum[0];
    }
};

} /* namespace */

struct alignas(8) uint16_pack {
    uint16_t v[4];
};

__device__ static inline uint16_t bf16_bits(float x)
{
    const uint32_t u = __float_as_uint(x);
    if (x != x) return (uint16_t)(u >> 16 | 0x40u);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

extern "C" adze_status adze_conv_pack_weights(const adze_call *c, const float *w, int64_t Co, int64_t Cg, int64_t R,
                                              const adze_norm_stats *bn, float *packed)
{
    const weights_body body = { w, bn ? bn->gamma : nullptr, bn ? bn->var : nullptr, packed, Cg, R, bn ? bn->eps : 0.0f };
    return flat_launch(c, body, Co * Cg * R);
}

extern "C" adze_status adze_conv_fold_bias(const adze_call *c, const float *b, int64_t Co, const adze_norm_stats *bn, float *folded)
{
    const bias_body body = { b, bn->gamma, bn->beta, bn->mean, bn->var, folded, bn->eps };
    return flat_launch(c, body, Co);
}

extern "C" adze_status adze_conv_unpack_gradient(const adze_call *c, const float *packed, int64_t Co, int64_t Cg, int64_t R, bool add,
                                                 float *grad)
{
    const unpack_body body = { packed, grad, Cg, R, add };
    return flat_launch(c, body, Co * Cg * R);
}

extern "C" adze_status adze_conv_pad(const adze_call *c, const float *x, const adze_shape *s, const int pad[4], float *y)
{
    const int64_t Hp = s->dim[1] + pad[0] + pad[2], Wp = s->dim[2] + pad[1] + pad[3];
    const pad_body body = { x, y, s->dim[1], s->dim[2], s->dim[3], pad[0], pad[1], Hp, Wp };
    return flat_launch(c, body, s->dim[0] * Hp * Wp * s->dim[3]);
}

template <int ACT>
static adze_status epilogue(const adze_call *c, float *y, const float *r, const float *b, int64_t rows, int64_t Co)
{
    const epilogue_body<ACT> body = { y, r, b, Co };
    return cells_launch(c, body, rows, Co, Co % 4 == 0);
}

extern "C" adze_status adze_conv_epilogue(const adze_call *c, float *y, const float *r, const float *b, int64_t rows, int64_t Co, int act)
{
    switch (act) {
    case ADZE_ACT_NONE: return epilogue<ADZE_ACT_NONE>(c, y, r, b, rows, Co);
    case ADZE_ACT_RELU: return epilogue<ADZE_ACT_RELU>(c, y, r, b, rows, Co);
    case ADZE_ACT_RELU6: return epilogue<ADZE_ACT_RELU6>(c, y, r, b, rows, Co);
    case ADZE_ACT_SILU: return epilogue<ADZE_ACT_SILU>(c, y, r, b, rows, Co);
    }
    return adze_fail(ADZE_EINTERNAL, "%s: activation %d behind a convolution", c->op->name, act);
}

extern "C" adze_status adze_conv_add(const adze_call *c, float *to, const float *from, int64_t n)
{
    return flat_launch(c, add_body{ to, from }, n);
}

__global__ void __launch_bounds__(CELL_THREADS, CELL_BLOCKS) round_kernel(const float *x, int64_t n, uint16_t *to)
{
    const int64_t i = 4 * ((int64_t)blockIdx.x * CELL_THREADS + threadIdx.x);
    if (i + 4 <= n) {
        const pack<4> v = load<4>(x + i);
        uint16_pack r;
#pragma unroll
        for (int j = 0; j < 4; j++) r.v[j] = bf16_bits(v.v[j]);
        *reinterpret_cast<uint16_pack *>(to + i) = r;
    } else
        for (int64_t k = i; k < n; k++) to[k] = bf16_bits(x[k]);
}

extern "C" adze_status adze_conv_round(const adze_ctx *ctx, const float *x, int64_t n, void *to)
{
    const int64_t blocks = pieces(n, 4 * CELL_THREADS);
    if (blocks > CELL_MAX_BLOCKS) return adze_fail(ADZE_ESHAPE, "convolution: %" PRId64 " elements are too many", n);
    return adze_cuda_check(ADZE_LAUNCH(round_kernel, dim3((unsigned)blocks), dim3(CELL_THREADS), 0, adze_cuda_stream(ctx), x, n,
                                       static_cast<uint16_t *>(to)),
                           "rounding");
}

extern "C" size_t adze_conv_bias_gradient_bytes(int64_t rows, int64_t Co) { return column_sums_bytes(rows, Co, 1); }

extern "C" adze_status adze_conv_bias_gradient(const adze_call *c, const float *dy, int64_t rows, int64_t Co, bool add, float *db, void *part)
{
    return column_sums_launch(c, bias_gradient_body{ dy, db, Co, add }, rows, Co, part);
}
