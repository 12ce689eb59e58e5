/* topk.cu - the k largest or smallest along one dimension, forward and backward: core/op_topk.c.
 * An element's place is the number of those that beat it, so that none waits for another and equals keep their order.
 * bytes   x once per element of the line, from cache; y and index: 8 per element kept
 * flops   n comparisons per element, n^2 per line: 0.1 ms of sm_89 for one line of 65536
 * launch  256 threads, one element each
 * order   elements are independent; backward adds each dy to the one place it came from */
#include "core/axis.h"
#include "core/op_topk.h"
#include "cuda/cells.cuh"

namespace {

struct rank_body {
    const float *x;
    float *y, *index;
    int n, k;
    int64_t inner;
    bool largest;
    template <int V> __device__ void at(int row, int column) const
    {
        const int i = row % n;
        const int64_t line = (int64_t)(row / n) * n * inner + column;
        const float v = x[line + i * inner];
        int rank = 0;
        for (int j = 0; j < n && rank < k; j++) {
            const float w = x[line + j * inner];
            rank += (largest ? w > v : w < v) || (w == v && j < i);
        }
        if (rank >= k) return;
        const int64_t to = ((int64_t)(row / n) * k + rank) * inner + column;
        y[to] = v, index[to] = (float)i;
    }
};

struct backward_body {
    const float *dy, *index;
    float *dx;
    int n, k;
    int64_t inner;
    template <int V> __device__ void at(int row, int column) const
    {
        const int64_t e = (int64_t)row * inner + column;
        dx[((int64_t)(row / k) * n + (int64_t)index[e]) * inner + column] += dy[e];
    }
};

static adze_status run(const adze_call *c)
{
    const topk_attrs *a = static_cast<const topk_attrs *>(c->attrs);
    const adze_axis s = adze_axis_of(&c->in[0].shape, a->dim);
    const rank_body body = { c->in[0].data, c->out[0].data, c->out[1].data, (int)s.n, (int)a->k, s.inner, a->largest };
    return cells_launch_packs<rank_body, 1>(c, body, s.outer * s.n, s.inner);
}

static adze_status run_backward(const adze_call *c)
{
    const topk_attrs *a = static_cast<const topk_attrs *>(c->attrs);
    const adze_axis s = adze_axis_of(&c->in[0].shape, a->dim);
    const adze_arg *x = &c->in[0];
    if (!x->accumulate) {
        const adze_status st = adze_cuda_check(
            cudaMemsetAsync(x->grad, 0, (size_t)adze_shape_count(&x->shape) * sizeof(float), adze_cuda_stream(c->ctx)), "topk");
        if (st != ADZE_OK) return st;
    }
    const backward_body body = { c->out[0].grad, c->out[1].data, x->grad, (int)s.n, (int)a->k, s.inner };
    return cells_launch_packs<backward_body, 1>(c, body, s.outer * a->k, s.inner);
}

} /* namespace */

const adze_kernel adze_cuda_topk = cuda_kernel(accepts_all, NULL, run);
const adze_kernel adze_cuda_topk_backward = cuda_kernel(accepts_all, NULL, run_backward);
