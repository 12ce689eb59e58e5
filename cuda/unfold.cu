/* unfold.cu - patches as rows, forward and backward: core/op_unfold.c.
 * bytes   forward reads x from cache K = Kh Kw times, writes y: 4 (1 + K) per element of x; backward the same
 * floor   (16,32,32,512), 3x3: 336 MB: 333 us at 1008 GB/s, 100 us at 3350 GB/s
 * launch  forward: 256 threads along a patch (c, ky, kx), writes coalesced; backward: along the channels
 * order   backward is a gather: an element adds the patches that hold it in the order of the taps */
#include "core/op_unfold.h"
#include "cuda/cells.cuh"

namespace {

struct patches {
    int H, W, Ho, Wo, Kw, K, Sh, Sw, top, left, Dh, Dw;
    int64_t C;
};

struct forward_body {
    const float *x;
    float *y;
    patches p;
    template <int V> __device__ void at(int row, int e) const
    {
        const int t = e % p.K, k = e / p.K, ox = row % p.Wo, oy = row / p.Wo % p.Ho, n = row / p.Wo / p.Ho;
        const int iy = oy * p.Sh - p.top + t / p.Kw * p.Dh, ix = ox * p.Sw - p.left + t % p.Kw * p.Dw;
        const bool inside = iy >= 0 && iy < p.H && ix >= 0 && ix < p.W;
        y[row * p.C * p.K + e] = inside ? x[((int64_t)(n * p.H + iy) * p.W + ix) * p.C + k] : 0.0f;
    }
};

struct backward_body {
    const float *dy;
    float *dx;
    patches p;
    bool add;
    template <int V> __device__ void at(int row, int k) const
    {
        const int ix = row % p.W, iy = row / p.W % p.H, n = row / p.W / p.H;
        float sum = 0.0f;
        for (int t = 0; t < p.K; t++) {
            const int y = iy + p.top - t / p.Kw * p.Dh, x = ix + p.left - t % p.Kw * p.Dw;
            if (y < 0 || x < 0 || y % p.Sh != 0 || x % p.Sw != 0 || y / p.Sh >= p.Ho || x / p.Sw >= p.Wo) continue;
            sum += dy[(((int64_t)(n * p.Ho + y / p.Sh) * p.Wo + x / p.Sw) * p.C + k) * p.K + t];
        }
        put(dx + row * p.C + k, add, sum);
    }
};

static int positions(const adze_unfold_opts *o, int64_t n, int d)
{
    return (int)((n + 2 * (int64_t)o->pad[d] - (int64_t)o->dilation[d] * (o->kernel[d] - 1) - 1) / o->stride[d] + 1);
}

static patches patches_of(const adze_call *c)
{
    const adze_unfold_opts *o = &static_cast<const unfold_attrs *>(c->attrs)->o;
    const int64_t *x = c->in[0].shape.dim;
    return patches{ (int)x[1],    (int)x[2],    positions(o, x[1], 0), positions(o, x[2], 1), o->kernel[1],   o->kernel[0] * o->kernel[1],
                    o->stride[0], o->stride[1], o->pad[0],             o->pad[1],             o->dilation[0], o->dilation[1],
                    x[3] };
}

static adze_status run(const adze_call *c)
{
    const patches p = patches_of(c);
    return cells_launch_packs<forward_body, 1>(c, forward_body{ c->in[0].data, c->out[0].data, p }, adze_shape_span(&c->out[0].shape, 0, 2),
                                               p.C * p.K);
}

static adze_status run_backward(const adze_call *c)
{
    const patches p = patches_of(c);
    return cells_launch_packs<backward_body, 1>(c, backward_body{ c->out[0].grad, c->in[0].grad, p, c->in[0].accumulate },
                                                adze_shape_span(&c->in[0].shape, 0, 3), p.C);
}

} /* namespace */

const adze_kernel adze_cuda_unfold = cuda_kernel(accepts_all, NULL, run);
const adze_kernel adze_cuda_unfold_backward = cuda_kernel(accepts_all, NULL, run_backward);
