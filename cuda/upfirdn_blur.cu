/* upfirdn_blur.cu - the filter [1 3 3 1]/8 along both sides of maps, forward and backward: core/op_upfirdn_blur.c.
 * bytes   reads x (16 times, 15 of them from cache), writes y: 8 per element; backward the same of dy and dx (12 where it adds)
 * floor   (16,64,64,256): 134 MB, 133 us at 1008 GB/s, 40 us at 3350 GB/s; flops 40 per element, below that
 * launch  256 threads of 4 channels (1 where rows are odd)
 * order   elements are independent; rows of taps, then their sum, in float32 */
#include "core/op_upfirdn_blur.h"
#include "cuda/cells.cuh"

namespace {

struct blur_body {
    const float *from;
    float *to, gain;
    int64_t H, W, Ho, Wo, C; /* from, to */
    int before;
    bool add;
    template <int V> __device__ void at(int row, int k) const
    {
        const float w[UPFIRDN_TAPS] = { 0.125f, 0.375f, 0.375f, 0.125f };
        const int64_t ox = row % Wo, oy = row / Wo % Ho, n = row / Wo / Ho;
        pack<V> y = {};
#pragma unroll
        for (int ky = 0; ky < UPFIRDN_TAPS; ky++) {
            const int64_t iy = oy - before + ky;
            if (iy < 0 || iy >= H) continue;
            pack<V> line = {};
#pragma unroll
            for (int kx = 0; kx < UPFIRDN_TAPS; kx++) {
                const int64_t ix = ox - before + kx;
                if (ix < 0 || ix >= W) continue;
                const pack<V> x = load<V>(from + ((n * H + iy) * W + ix) * C + k);
#pragma unroll
                for (int j = 0; j < V; j++) line.v[j] += w[kx] * x.v[j];
            }
#pragma unroll
            for (int j = 0; j < V; j++) y.v[j] += w[ky] * line.v[j];
        }
#pragma unroll
        for (int j = 0; j < V; j++) y.v[j] *= gain;
        put<V>(to + row * C + k, add, y);
    }
};

static adze_status blur(const adze_call *c, const float *from, const adze_shape *x, float *to, const adze_shape *y, int before, bool add)
{
    const blur_body body = { from, to, static_cast<const upfirdn_blur_attrs *>(c->attrs)->gain, x->dim[1], x->dim[2], y->dim[1], y->dim[2],
                             x->dim[3], before, add };
    return cells_launch(c, body, y->dim[0] * y->dim[1] * y->dim[2], body.C, body.C % 4 == 0);
}

static adze_status run(const adze_call *c)
{
    return blur(c, c->in[0].data, &c->in[0].shape, c->out[0].data, &c->out[0].shape, static_cast<const upfirdn_blur_attrs *>(c->attrs)->before,
                false);
}

static adze_status run_backward(const adze_call *c)
{
    const int before = UPFIRDN_TAPS - 1 - static_cast<const upfirdn_blur_attrs *>(c->attrs)->before;
    return blur(c, c->out[0].grad, &c->out[0].shape, c->in[0].grad, &c->in[0].shape, before, c->in[0].accumulate);
}

} /* namespace */

const adze_kernel adze_cuda_upfirdn_blur = cuda_kernel(accepts_all, NULL, run);
const adze_kernel adze_cuda_upfirdn_blur_backward = cuda_kernel(accepts_all, NULL, run_backward);
