/* pixel_shuffle.cu - channels to pixels, forward and backward: core/op_pixel_shuffle.c.
 * bytes   8 per element each way (12 where a gradient is added to)
 * floor   (16,16,16,4*384): 50 MB: 50 us at 1008 GB/s, 15 us at 3350 GB/s
 * launch  256 threads along the channels of the larger map; with inner channels both sides are coalesced
 * order   elements are independent */
#include "core/op_pixel_shuffle.h"
#include "cuda/cells.cuh"

namespace {

/* The larger map (N,H,W,C), where each element lies in the smaller one. */
struct shuffle_body {
    const float *from;
    float *to;
    int W, f;
    int64_t C;
    bool channels_inner, backward, add;
    template <int V> __device__ void at(int row, int k) const
    {
        const int x = row % W, y = row / W, p = y % f, q = x % f;
        const int64_t e = channels_inner ? (int64_t)(p * f + q) * C + k : ((int64_t)k * f + p) * f + q;
        const int64_t small = ((int64_t)(y / f) * (W / f) + x / f) * C * f * f + e, large = (int64_t)row * C + k;
        if (backward) put(to + small, add, from[large]);
        else to[large] = from[small];
    }
};

static adze_status run(const adze_call *c)
{
    const pixel_shuffle_attrs *a = static_cast<const pixel_shuffle_attrs *>(c->attrs);
    const adze_shape *y = &c->out[0].shape;
    shuffle_body body = { c->in[0].data, c->out[0].data, (int)y->dim[2], (int)a->factor, y->dim[3], a->channels_inner, c->backward,
                          c->in[0].accumulate };
    if (c->backward) body.from = c->out[0].grad, body.to = c->in[0].grad;
    return cells_launch_packs<shuffle_body, 1>(c, body, adze_shape_span(y, 0, 3), y->dim[3]);
}

} /* namespace */

const adze_kernel adze_cuda_pixel_shuffle = cuda_kernel(accepts_all, NULL, run);
const adze_kernel adze_cuda_pixel_shuffle_backward = cuda_kernel(accepts_all, NULL, run);
