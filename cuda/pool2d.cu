/* pool2d.cu - maximum and mean over windows, forward and backward: core/op_pool2d.c in float32.
 * bytes   forward: x once (overlapping windows come from cache) and y; backward of the maximum: x, dy, dx
 * floor   WRN-50's stem (16,128,128,64) -> (16,64,64,64): 84 MB: 83 us at 1008 GB/s, 25 us at 3350 GB/s
 * launch  256 threads, 4 channels each
 * order   backward is a gather: an element adds the windows that hold it in ascending order; the first maximum of each is found
 *         again from x instead of being kept */
#include "core/op_pool2d.h"
#include "cuda/cells.cuh"

namespace {

struct window {
    int H, W, Ho, Wo, Kh, Kw, Sh, Sw, top, left;
    int64_t C;
    bool include_pad;
};

/* Rows [y0, y1) and columns [x0, x1) of the map in window (oy, ox). */
struct span {
    int y0, y1, x0, x1;
};

__device__ static inline span span_of(const window &w, int oy, int ox)
{
    span s;
    s.y0 = oy * w.Sh - w.top, s.x0 = ox * w.Sw - w.left;
    s.y1 = min(s.y0 + w.Kh, w.H), s.x1 = min(s.x0 + w.Kw, w.W);
    s.y0 = max(s.y0, 0), s.x0 = max(s.x0, 0);
    return s;
}

__device__ static inline float divisor(const window &w, const span &s)
{
    return (float)(w.include_pad ? w.Kh * w.Kw : (s.y1 - s.y0) * (s.x1 - s.x0));
}

template <bool MAX> struct forward_body {
    const float *x;
    float *y;
    window w;
    template <int V> __device__ void at(int row, int k) const
    {
        const int ox = row % w.Wo, oy = row / w.Wo % w.Ho, n = row / w.Wo / w.Ho;
        const span s = span_of(w, oy, ox);
        pack<V> out;
#pragma unroll
        for (int j = 0; j < V; j++) out.v[j] = MAX ? -INFINITY : 0.0f;
        for (int iy = s.y0; iy < s.y1; iy++)
            for (int ix = s.x0; ix < s.x1; ix++) {
                const pack<V> v = load<V>(x + ((int64_t)(n * w.H + iy) * w.W + ix) * w.C + k);
#pragma unroll
                for (int j = 0; j < V; j++) {
                    if (!MAX) out.v[j] += v.v[j];
                    else if (v.v[j] > out.v[j] || v.v[j] != v.v[j]) out.v[j] = v.v[j];
                }
            }
        if (!MAX) {
            const float d = divisor(w, s);
#pragma unroll
            for (int j = 0; j < V; j++) out.v[j] /= d;
        }
        store<V>(y + row * w.C + k, out);
    }
};

/* The first and the last window of one axis that hold element i; there may be none. */
__device__ static inline int first_window(int i, int pad, int kernel, int stride)
{
    const int from = i + pad - kernel + 1;
    return from <= 0 ? 0 : (from + stride - 1) / stride;
}

__device__ static inline int last_window(int i, int pad, int stride, int windows) { return min((i + pad) / stride, windows - 1); }

template <bool MAX> struct backward_body {
    const float *x, *dy;
    float *dx;
    window w;
    bool add;
    template <int V> __device__ void at(int row, int k) const
    {
        const int ix = row % w.W, iy = row / w.W % w.H, n = row / w.W / w.H;
        pack<V> sum;
#pragma unroll
        for (int j = 0; j < V; j++) sum.v[j] = 0.0f;
        for (int oy = first_window(iy, w.top, w.Kh, w.Sh); oy <= last_window(iy, w.top, w.Sh, w.Ho); oy++)
            for (int ox = first_window(ix, w.left, w.Kw, w.Sw); ox <= last_window(ix, w.left, w.Sw, w.Wo); ox++) {
                const span s = span_of(w, oy, ox);
                const pack<V> d = load<V>(dy + ((int64_t)(n * w.Ho + oy) * w.Wo + ox) * w.C + k);
                if (!MAX) {
                    const float all = divisor(w, s);
#pragma unroll
                    for (int j = 0; j < V; j++) sum.v[j] += d.v[j] / all;
                    continue;
                }
                pack<V> best = load<V>(x + ((int64_t)(n * w.H + s.y0) * w.W + s.x0) * w.C + k);
                int first[V]; /* where the first maximum of each channel is */
#pragma unroll
                for (int j = 0; j < V; j++) first[j] = s.y0 * w.W + s.x0;
                for (int jy = s.y0; jy < s.y1; jy++)
                    for (int jx = s.x0; jx < s.x1; jx++) {
                        const pack<V> v = load<V>(x + ((int64_t)(n * w.H + jy) * w.W + jx) * w.C + k);
#pragma unroll
                        for (int j = 0; j < V; j++) {
                            if (!(v.v[j] > best.v[j])) continue;
                            best.v[j] = v.v[j];
                            first[j] = jy * w.W + jx;
                        }
                    }
#pragma unroll
                for (int j = 0; j < V; j++)
                    if (first[j] == iy * w.W + ix) sum.v[j] += d.v[j];
            }
        put<V>(dx + row * w.C + k, add, sum);
    }
};

static window window_of(const adze_call *c)
{
    const adze_pool2d_opts *o = &static_cast<const pool2d_attrs *>(c->attrs)->o;
    const int64_t *x = c->in[0].shape.dim, *y = c->out[0].shape.dim;
    return window{ (int)x[1],     (int)x[2],  (int)y[1], (int)y[2], o->kernel[0], o->kernel[1], o->stride[0], o->stride[1], o->pad[0],
                   o->pad[1],     x[3],       o->count_include_pad };
}

static adze_status run(const adze_call *c)
{
    const window w = window_of(c);
    const int64_t rows = adze_shape_span(&c->out[0].shape, 0, 3);
    if (static_cast<const pool2d_attrs *>(c->attrs)->o.max)
        return cells_launch(c, forward_body<true>{ c->in[0].data, c->out[0].data, w }, rows, w.C, w.C % 4 == 0);
    return cells_launch(c, forward_body<false>{ c->in[0].data, c->out[0].data, w }, rows, w.C, w.C % 4 == 0);
}

static adze_status run_backward(const adze_call *c)
{
    const window w = window_of(c);
    const int64_t rows = adze_shape_span(&c->in[0].shape, 0, 3);
    const adze_arg *x = &c->in[0];
    if (static_cast<const pool2d_attrs *>(c->attrs)->o.max)
        return cells_launch(c, backward_body<true>{ x->data, c->out[0].grad, x->grad, w, x->accumulate }, rows, w.C, w.C % 4 == 0);
    return cells_launch(c, backward_body<false>{ x->data, c->out[0].grad, x->grad, w, x->accumulate }, rows, w.C, w.C % 4 == 0);
}

} /* namespace */

const adze_kernel adze_cuda_pool2d = cuda_kernel(accepts_all, NULL, run);
const adze_kernel adze_cuda_pool2d_backward = cuda_kernel(accepts_all, NULL, run_backward);
