/* concat.cu - tensors one behind the other, forward and backward: core/op_concat.c. One launch per operand.
 * bytes   8 per element each way (12 where a gradient is added to)
 * floor   RD's fusion (16,16,16,3*1024): 12.6 M elements, 101 MB: 100 us at 1008 GB/s, 30 us at 3350 GB/s
 * launch  256 threads of 4 neighbouring elements where all lengths are multiples of 4
 * order   elements are independent */
#include "core/axis.h"
#include "core/op_concat.h"
#include "cuda/cells.cuh"

namespace {

/* Part `at` .. of each row of `wide` and the rows of `narrow`; from the narrow to the wide one, or back. */
struct forward_body {
    const float *narrow;
    float *wide;
    int64_t n, width;
    template <int V> __device__ void at(int row, int k) const
    {
        store<V>(wide + row * width + k, load<V>(narrow + row * n + k));
    }
};

struct backward_body {
    const float *wide;
    float *narrow;
    int64_t n, width;
    bool add;
    template <int V> __device__ void at(int row, int k) const
    {
        put<V>(narrow + row * n + k, add, load<V>(wide + row * width + k));
    }
};

static adze_status run(const adze_call *c)
{
    const concat_attrs *a = static_cast<const concat_attrs *>(c->attrs);
    const adze_axis y = adze_axis_of(&c->out[0].shape, a->dim);
    const int64_t width = y.n * y.inner;
    int64_t at = 0;
    for (int i = 0; i < c->n_in; i++) {
        const adze_axis x = adze_axis_of(&c->in[i].shape, a->dim);
        const int64_t n = x.n * x.inner;
        const bool vector = n % 4 == 0 && width % 4 == 0 && at % 4 == 0;
        adze_status st = ADZE_OK;
        if (!c->backward) st = cells_launch(c, forward_body{ c->in[i].data, c->out[0].data + at, n, width }, y.outer, n, vector);
        else if (c->in[i].wanted)
            st = cells_launch(c, backward_body{ c->out[0].grad + at, c->in[i].grad, n, width, c->in[i].accumulate }, y.outer, n, vector);
        if (st != ADZE_OK) return st;
        at += n;
    }
    return ADZE_OK;
}

} /* namespace */

const adze_kernel adze_cuda_concat = cuda_kernel(accepts_all, NULL, run);
const adze_kernel adze_cuda_concat_backward = cuda_kernel(accepts_all, NULL, run);
