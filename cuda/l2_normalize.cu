/* l2_normalize.cu - vectors to unit length, forward and backward: core/op_l2_normalize.c.
 * bytes   forward reads x twice (the second time from cache), writes y: 8 per element; backward y, dy, dx: 12
 * floor   16384 rows of 1024: forward 134 MB, 133 us at 1008 GB/s, 40 us at 3350 GB/s
 * launch  a warp per vector, a block from 2048 elements on, a thread where vectors lie across the memory
 * order   sums in double by sums.cuh; y may lie where x does */
#include "core/axis.h"
#include "core/op_l2_normalize.h"
#include "core/ops.h"
#include "cuda/sums.cuh"

namespace {

struct forward_body {
    const float *x;
    float *y, *r;
    int64_t n, inner;
    float eps;
    bool adds; /* x / (r + eps) */
    template <int G> __device__ void line(int64_t line, int lane) const
    {
        const int64_t at = line / inner * n * inner + line % inner;
        double sum = 0.0;
        for (int64_t i = lane; i < n; i += G) sum = fma((double)x[at + i * inner], (double)x[at + i * inner], sum);
        const double length = sqrt(group_sum<G>(sum));
        const float divisor = (float)(adds ? length + eps : fmax(length, (double)eps));
        for (int64_t i = lane; i < n; i += G) y[at + i * inner] = x[at + i * inner] / divisor;
        if (lane == 0) r[line] = (float)length;
    }
};

struct backward_body {
    const float *y, *r, *dy;
    float *dx;
    int64_t n, inner;
    float eps;
    bool adds, add;
    template <int G> __device__ void line(int64_t line, int lane) const
    {
        const int64_t at = line / inner * n * inner + line % inner;
        const float length = r[line], divisor = adds ? length + eps : fmaxf(length, eps);
        double sum = 0.0;
        for (int64_t i = lane; i < n; i += G) sum = fma((double)y[at + i * inner], (double)dy[at + i * inner], sum);
        const double k = group_sum<G>(sum);
        const float back = length > (adds ? 0.0f : eps) ? (float)(k / length) : 0.0f;
        for (int64_t i = lane; i < n; i += G) {
            const int64_t e = at + i * inner;
            put(dx + e, add, dy[e] / divisor - back * y[e]);
        }
    }
};

static adze_status run(const adze_call *c)
{
    const l2_normalize_attrs *a = static_cast<const l2_normalize_attrs *>(c->attrs);
    const adze_axis s = adze_axis_of(&c->in[0].shape, a->dim);
    const forward_body body = { c->in[0].data, c->out[0].data, c->out[1].data, s.n, s.inner, a->eps, a->form == ADZE_L2_ADD };
    return lines_launch(c, body, s.outer * s.inner, s.n, s.inner);
}

static adze_status run_backward(const adze_call *c)
{
    const l2_normalize_attrs *a = static_cast<const l2_normalize_attrs *>(c->attrs);
    const adze_axis s = adze_axis_of(&c->in[0].shape, a->dim);
    const backward_body body = { c->out[0].data, c->out[1].data, c->out[0].grad, c->in[0].grad, s.n, s.inner, a->eps, a->form == ADZE_L2_ADD,
                                 c->in[0].accumulate };
    return lines_launch(c, body, s.outer * s.inner, s.n, s.inner);
}

} /* namespace */

const adze_kernel adze_cuda_l2_normalize = cuda_kernel(accepts_all, NULL, run);
const adze_kernel adze_cuda_l2_normalize_backward = cuda_kernel(accepts_all, NULL, run_backward);
