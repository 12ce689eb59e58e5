/* slice.cu - some neighbouring steps of one dimension, forward and backward: core/op_slice.c.
 * bytes   forward 8 per element of y; backward reads dy, writes all of dx
 * floor   half of (16,16,16,1024): 17 MB: 17 us at 1008 GB/s, 5 us at 3350 GB/s
 * launch  256 threads of 4 neighbouring elements where all lengths are multiples of 4
 * order   elements are independent */
#include "core/axis.h"
#include "core/op_slice.h"
#include "cuda/cells.cuh"

namespace {

/* Rows of `wide` (outer, width) and their part from `at` on, n long. */
struct forward_body {
    const float *wide;
    float *narrow;
    int64_t width, n;
    template <int V> __device__ void at(int row, int k) const
    {
        store<V>(narrow + row * n + k, load<V>(wide + row * width + k));
    }
};

struct backward_body {
    const float *narrow;
    float *wide;
    int64_t width, from, n;
    bool add;
    template <int V> __device__ void at(int row, int k) const
    {
        pack<V> g = {};
        if (k >= from && k < from + n) g = load<V>(narrow + row * n + k - from);
        else if (add) return;
        put<V>(wide + row * width + k, add, g);
    }
};

static adze_status run(const adze_call *c)
{
    const slice_attrs *a = static_cast<const slice_attrs *>(c->attrs);
    const adze_axis x = adze_axis_of(&c->in[0].shape, a->dim);
    const int64_t width = x.n * x.inner, from = a->from * x.inner, n = a->size * x.inner;
    const bool vector = width % 4 == 0 && from % 4 == 0 && n % 4 == 0;
    if (c->backward)
        return cells_launch(c, backward_body{ c->out[0].grad, c->in[0].grad, width, from, n, c->in[0].accumulate }, x.outer, width, vector);
    return cells_launch(c, forward_body{ c->in[0].data + from, c->out[0].data, width, n }, x.outer, n, vector);
}

} /* namespace */

const adze_kernel adze_cuda_slice = cuda_kernel(accepts_all, NULL, run);
const adze_kernel adze_cuda_slice_backward = cuda_kernel(accepts_all, NULL, run);
