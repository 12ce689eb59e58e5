/* adaptive_pool.cu - means over windows chosen for a wanted size, forward and backward: core/op_adaptive_pool.c in float32.
 * bytes   x and y once each way (windows overlap by one element at most)
 * floor   global mean of (16,8,8,2048): 8.5 MB: 8 us at 1008 GB/s, 3 us at 3350 GB/s
 * launch  2d: 256 threads of 4 channels each; 1d: a thread per element of the result
 * order   a window is summed in double in ascending order; backward is a gather over the windows that hold an element */
#include "core/op_adaptive_pool.h"
#include "cuda/cells.cuh"

namespace {

/* I: int where the products fit. Window i of n -> m is [i*n/m, ceil((i+1)*n/m)); element j lies in the windows [first, last]. */
template <class I> __device__ static inline I begin_of(I i, I n, I m) { return i * n / m; }
template <class I> __device__ static inline I end_of(I i, I n, I m) { return ((i + 1) * n + m - 1) / m; }
template <class I> __device__ static inline I first_of(I j, I n, I m) { return j * m / n; }
template <class I> __device__ static inline I last_of(I j, I n, I m) { return ((j + 1) * m + n - 1) / n - 1; }

struct sizes {
    int H, W, Ho, Wo;
    int64_t C;
};

struct forward_body {
    const float *x;
    float *y;
    sizes s;
    template <int V> __device__ void at(int row, int k) const
    {
        const int ox = row % s.Wo, oy = row / s.Wo % s.Ho, n = row / s.Wo / s.Ho;
        const int y0 = begin_of(oy, s.H, s.Ho), y1 = end_of(oy, s.H, s.Ho);
        const int x0 = begin_of(ox, s.W, s.Wo), x1 = end_of(ox, s.W, s.Wo);
        double sum[V];
#pragma unroll
        for (int j = 0; j < V; j++) sum[j] = 0.0;
        for (int iy = y0; iy < y1; iy++)
            for (int ix = x0; ix < x1; ix++) {
                const pack<V> v = load<V>(x + ((int64_t)(n * s.H + iy) * s.W + ix) * s.C + k);
#pragma unroll
                for (int j = 0; j < V; j++) sum[j] += (double)v.v[j];
            }
        pack<V> out;
#pragma unroll
        for (int j = 0; j < V; j++) out.v[j] = (float)(sum[j] / (double)((y1 - y0) * (x1 - x0)));
        store<V>(y + row * s.C + k, out);
    }
};

struct backward_body {
    const float *dy;
    float *dx;
    sizes s;
    bool add;
    template <int V> __device__ void at(int row, int k) const
    {
        const int ix = row % s.W, iy = row / s.W % s.H, n = row / s.W / s.H;
        pack<V> sum;
#pragma unroll
        for (int j = 0; j < V; j++) sum.v[j] = 0.0f;
        for (int oy = first_of(iy, s.H, s.Ho); oy <= last_of(iy, s.H, s.Ho); oy++)
            for (int ox = first_of(ix, s.W, s.Wo); ox <= last_of(ix, s.W, s.Wo); ox++) {
                const int height = end_of(oy, s.H, s.Ho) - begin_of(oy, s.H, s.Ho), width = end_of(ox, s.W, s.Wo) - begin_of(ox, s.W, s.Wo);
                const pack<V> d = load<V>(dy + ((int64_t)(n * s.Ho + oy) * s.Wo + ox) * s.C + k);
#pragma unroll
                for (int j = 0; j < V; j++) sum.v[j] += d.v[j] / (float)(height * width);
            }
        put<V>(dx + row * s.C + k, add, sum);
    }
};

struct forward_1d_body {
    const float *x;
    float *y;
    int64_t n, m;
    template <int V> __device__ void at(int64_t i) const
    {
        pack<V> out;
#pragma unroll
        for (int j = 0; j < V; j++) {
            const int64_t line = (i + j) / m, at = (i + j) % m, from = begin_of(at, n, m), to = end_of(at, n, m);
            double sum = 0.0;
            for (int64_t e = from; e < to; e++) sum += (double)x[line * n + e];
            out.v[j] = (float)(sum / (double)(to - from));
        }
        store<V>(y + i, out);
    }
};

struct backward_1d_body {
    const float *dy;
    float *dx;
    int64_t n, m;
    bool add;
    template <int V> __device__ void at(int64_t i) const
    {
        pack<V> out;
#pragma unroll
        for (int j = 0; j < V; j++) {
            const int64_t line = (i + j) / n, e = (i + j) % n;
            out.v[j] = 0.0f;
            for (int64_t at = first_of(e, n, m); at <= last_of(e, n, m); at++)
                out.v[j] += dy[line * m + at] / (float)(end_of(at, n, m) - begin_of(at, n, m));
        }
        put<V>(dx + i, add, out);
    }
};

static bool accepts_2d(const adze_call *c)
{
    const int64_t *x = c->in[0].shape.dim, *y = c->out[0].shape.dim;
    return (x[1] + 1) * (y[1] + 1) <= INT32_MAX && (x[2] + 1) * (y[2] + 1) <= INT32_MAX;
}

static sizes sizes_of(const adze_call *c)
{
    const int64_t *x = c->in[0].shape.dim, *y = c->out[0].shape.dim;
    return sizes{ (int)x[1], (int)x[2], (int)y[1], (int)y[2], x[3] };
}

static adze_status run_2d(const adze_call *c)
{
    const sizes s = sizes_of(c);
    return cells_launch(c, forward_body{ c->in[0].data, c->out[0].data, s }, adze_shape_span(&c->out[0].shape, 0, 3), s.C, s.C % 4 == 0);
}

static adze_status run_2d_backward(const adze_call *c)
{
    const sizes s = sizes_of(c);
    return cells_launch(c, backward_body{ c->out[0].grad, c->in[0].grad, s, c->in[0].accumulate }, adze_shape_span(&c->in[0].shape, 0, 3), s.C,
                        s.C % 4 == 0);
}

static int64_t last_dim(const adze_shape *s) { return s->dim[s->rank - 1]; }

static adze_status run_1d(const adze_call *c)
{
    return flat_launch(c, forward_1d_body{ c->in[0].data, c->out[0].data, last_dim(&c->in[0].shape), last_dim(&c->out[0].shape) },
                       adze_shape_count(&c->out[0].shape));
}

static adze_status run_1d_backward(const adze_call *c)
{
    return flat_launch(c,
                       backward_1d_body{ c->out[0].grad, c->in[0].grad, last_dim(&c->in[0].shape), last_dim(&c->out[0].shape),
                                         c->in[0].accumulate },
                       adze_shape_count(&c->in[0].shape));
}

} /* namespace */

const adze_kernel adze_cuda_adaptive_pool2d = cuda_kernel(accepts_2d, NULL, run_2d);
const adze_kernel adze_cuda_adaptive_pool2d_backward = cuda_kernel(accepts_2d, NULL, run_2d_backward);
const adze_kernel adze_cuda_adaptive_pool1d = cuda_kernel(accepts_all, NULL, run_1d);
const adze_kernel adze_cuda_adaptive_pool1d_backward = cuda_kernel(accepts_all, NULL, run_1d_backward);
