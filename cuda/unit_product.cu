/* unit_product.cu - negative products of unit vectors, forward and backward: core/op_unit_product.c.
 * bytes   forward reads x and z twice (the second time from cache), writes y: 12 per element; backward reads y, dy, x, z, writes
 *         one gradient: 20 (both gradients: 24)
 * floor   DeSTSeg at 256x256, batch 32, resnet18: 14.7 M elements: forward 176 MB, 175 us at 1008 GB/s, 53 us at 3350 GB/s
 * launch  a warp per vector, a block from 2048 elements on
 * order   sums in double by sums.cuh */
#include "core/axis.h"
#include "core/op_unit_product.h"
#include "cuda/sums.cuh"

namespace {

struct forward_body {
    const float *x, *z;
    float *y, *saved;
    int64_t n;
    float eps;
    template <int G> __device__ void line(int64_t line, int lane) const
    {
        const int64_t at = line * n;
        double xx = 0.0, zz = 0.0;
        for (int64_t i = lane; i < n; i += G) {
            xx = fma((double)x[at + i], (double)x[at + i], xx);
            zz = fma((double)z[at + i], (double)z[at + i], zz);
        }
        const double rx = sqrt(group_sum<G>(xx)), rz = sqrt(group_sum<G>(zz));
        const float p = (float)(1.0 / (rx + eps)), q = (float)(-1.0 / (rz + eps));
        for (int64_t i = lane; i < n; i += G) y[at + i] = x[at + i] * p * (z[at + i] * q);
        if (lane > 0) return;
        saved[line * UNIT_PRODUCT_SAVED + UNIT_PRODUCT_RX] = (float)rx;
        saved[line * UNIT_PRODUCT_SAVED + UNIT_PRODUCT_RZ] = (float)rz;
    }
};

struct backward_body {
    const float *in[2], *y, *saved, *dy;
    float *grad[2]; /* NULL: not wanted */
    int64_t n;
    float eps;
    bool add[2];
    template <int G> __device__ void line(int64_t line, int lane) const
    {
        const int64_t at = line * n;
        const float *r = saved + line * UNIT_PRODUCT_SAVED;
        double sum = 0.0;
        for (int64_t i = lane; i < n; i += G) sum = fma((double)y[at + i], (double)dy[at + i], sum);
        const double k = group_sum<G>(sum);
        for (int w = 0; w < 2; w++) {
            if (!grad[w]) continue;
            const double length = (double)r[w] + eps;
            const float toward = (float)(1.0 / (length * ((double)r[1 - w] + eps))), back = r[w] > 0.0f ? (float)(k / (r[w] * length)) : 0.0f;
            for (int64_t i = lane; i < n; i += G) {
                const int64_t e = at + i;
                put(grad[w] + e, add[w], -(toward * dy[e] * in[1 - w][e] + back * in[w][e]));
            }
        }
    }
};

static adze_status run(const adze_call *c)
{
    const adze_axis s = adze_axis_of(&c->in[UNIT_PRODUCT_X].shape, -1);
    const forward_body body = { c->in[UNIT_PRODUCT_X].data, c->in[UNIT_PRODUCT_Z].data, c->out[0].data, c->out[1].data, s.n,
                                static_cast<const unit_product_attrs *>(c->attrs)->eps };
    return lines_launch(c, body, s.outer, s.n, 1);
}

static adze_status run_backward(const adze_call *c)
{
    const adze_axis s = adze_axis_of(&c->in[UNIT_PRODUCT_X].shape, -1);
    const adze_arg *x = &c->in[UNIT_PRODUCT_X], *z = &c->in[UNIT_PRODUCT_Z];
    const backward_body body = { { x->data, z->data }, c->out[0].data, c->out[1].data, c->out[0].grad,
                                 { x->wanted ? x->grad : NULL, z->wanted ? z->grad : NULL }, s.n,
                                 static_cast<const unit_product_attrs *>(c->attrs)->eps, { x->accumulate, z->accumulate } };
    return lines_launch(c, body, s.outer, s.n, 1);
}

} /* namespace */

const adze_kernel adze_cuda_unit_product = cuda_kernel(accepts_all, NULL, run);
const adze_kernel adze_cuda_unit_product_backward = cuda_kernel(accepts_all, NULL, run_backward);
