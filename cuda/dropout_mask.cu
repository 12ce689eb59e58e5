/* dropout_mask.cu - dropout with given uniform numbers, forward and backward: core/op_dropout_mask.c.
 * bytes   12 per element (8 where one number serves a whole sample)
 * floor   (16,256,1024): 50 MB: 50 us at 1008 GB/s, 15 us at 3350 GB/s
 * launch  256 threads of 4 elements each
 * order   elements are independent; y may lie where x does */
#include "core/op_dropout_mask.h"
#include "cuda/cells.cuh"

namespace {

struct body {
    const float *from, *u;
    float *to;
    float p, scale;
    bool add, same; /* same: u has the shape of x */
    int rank;
    int64_t dim[ADZE_MAX_RANK], step[ADZE_MAX_RANK]; /* the innermost first; a step of 0 where u is repeated */
    template <int V> __device__ void at(int64_t i) const
    {
        pack<V> v = load<V>(from + i), r;
        if (same) r = load<V>(u + i);
        else
#pragma unroll
            for (int j = 0; j < V; j++) r.v[j] = u[place_of(i + j)];
#pragma unroll
        for (int j = 0; j < V; j++) v.v[j] *= r.v[j] >= p ? scale : 0.0f;
        put<V>(to + i, add, v);
    }
    __device__ int64_t place_of(int64_t i) const
    {
        int64_t at = 0;
        for (int d = 0; d < rank; d++) {
            at += i % dim[d] * step[d];
            i /= dim[d];
        }
        return at;
    }
};

static adze_status run(const adze_call *c)
{
    const adze_shape *x = &c->in[DROPOUT_X].shape, *u = &c->in[DROPOUT_U].shape;
    const float p = static_cast<const dropout_attrs *>(c->attrs)->p;
    body b = {};
    int64_t step = 1;
    if (c->backward && c->in[DROPOUT_U].wanted) return adze_fail(ADZE_EINVAL, "dropout_mask: u has no gradient");
    b.from = c->backward ? c->out[0].grad : c->in[DROPOUT_X].data, b.to = c->backward ? c->in[DROPOUT_X].grad : c->out[0].data;
    b.u = c->in[DROPOUT_U].data;
    b.p = p, b.scale = (float)(1.0 / (1.0 - (double)p));
    b.add = c->backward && c->in[DROPOUT_X].accumulate;
    b.same = adze_shape_equal(x, u);
    b.rank = x->rank;
    for (int d = 0; d < x->rank; d++) {
        const int from = x->rank - 1 - d;
        b.dim[d] = x->dim[from], b.step[d] = u->dim[from] > 1 ? step : 0;
        step *= u->dim[from];
    }
    return flat_launch(c, b, adze_shape_count(x));
}

} /* namespace */

const adze_kernel adze_cuda_dropout_mask = cuda_kernel(accepts_all, NULL, run);
const adze_kernel adze_cuda_dropout_mask_backward = cuda_kernel(accepts_all, NULL, run);
