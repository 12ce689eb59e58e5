/* index.cu - gather and scatter along one dimension, forward and backward: core/op_index.c.
 * An index outside cannot stop a recorded step: what it would have gathered is NaN, what it would have scattered is lost.
 * bytes   gather 8 per element; scatter reads the index list from cache once per element: 4 (1 + 1) per element
 * floor   (16,256,256): 8 MB: 8 us at 1008 GB/s, 3 us at 3350 GB/s
 * launch  256 threads along what lies behind the dimension, 4 elements each where it is a multiple of 4
 * order   scatter is a gather: an element adds what is put there in the order of the index list */
#include "core/axis.h"
#include "core/op_index.h"
#include "cuda/cells.cuh"

namespace {

/* Row r of `to` (outer, n) is row index[r % n] of `from` (outer, n_from). */
struct gather_body {
    const float *from, *index;
    float *to;
    int n, n_from;
    int64_t inner;
    bool add;
    template <int V> __device__ void at(int row, int k) const
    {
        const float f = index[row % n];
        const bool sound = f >= 0.0f && f < (float)n_from && f == floorf(f);
        pack<V> v;
#pragma unroll
        for (int j = 0; j < V; j++) v.v[j] = NAN;
        if (sound) v = load<V>(from + ((int64_t)(row / n) * n_from + (int)f) * inner + k);
        put<V>(to + (int64_t)row * inner + k, add, v);
    }
};

/* Row r of `to` (outer, n_to) adds the rows i of `from` (outer, n) with index[i] = r % n_to. */
struct scatter_body {
    const float *from, *index;
    float *to;
    int n, n_to;
    int64_t inner;
    bool add;
    template <int V> __device__ void at(int row, int k) const
    {
        const float here = (float)(row % n_to);
        float *out = to + (int64_t)row * inner + k;
        pack<V> sum;
#pragma unroll
        for (int j = 0; j < V; j++) sum.v[j] = 0.0f;
        if (add) sum = load<V>(out);
        for (int i = 0; i < n; i++) {
            if (index[i] != here) continue;
            const pack<V> v = load<V>(from + ((int64_t)(row / n_to) * n + i) * inner + k);
#pragma unroll
            for (int j = 0; j < V; j++) sum.v[j] += v.v[j];
        }
        store<V>(out, sum);
    }
};

/* Of x for a selection, of y when it is put: the tensor with as many steps as the index list is that of `list`. */
static adze_status gather(const adze_call *c, const float *from, const adze_shape *from_shape, float *to, const adze_shape *to_shape, bool add)
{
    const int dim = static_cast<const index_attrs *>(c->attrs)->dim;
    const adze_axis a = adze_axis_of(from_shape, dim), b = adze_axis_of(to_shape, dim);
    const gather_body body = { from, c->in[INDEX_INDEX].data, to, (int)b.n, (int)a.n, b.inner, add };
    return cells_launch(c, body, b.outer * b.n, b.inner, b.inner % 4 == 0);
}

static adze_status scatter(const adze_call *c, const float *from, const adze_shape *from_shape, float *to, const adze_shape *to_shape, bool add)
{
    const int dim = static_cast<const index_attrs *>(c->attrs)->dim;
    const adze_axis a = adze_axis_of(from_shape, dim), b = adze_axis_of(to_shape, dim);
    const scatter_body body = { from, c->in[INDEX_INDEX].data, to, (int)a.n, (int)b.n, b.inner, add };
    return cells_launch(c, body, b.outer * b.n, b.inner, b.inner % 4 == 0);
}

static adze_status select(const adze_call *c)
{
    return gather(c, c->in[INDEX_X].data, &c->in[INDEX_X].shape, c->out[0].data, &c->out[0].shape, false);
}

static adze_status put_rows(const adze_call *c)
{
    return scatter(c, c->in[INDEX_X].data, &c->in[INDEX_X].shape, c->out[0].data, &c->out[0].shape, false);
}

static adze_status no_index_gradient(const adze_call *c)
{
    return c->in[INDEX_INDEX].wanted ? adze_fail(ADZE_EINVAL, "%s: an index has no gradient", c->op->name) : ADZE_OK;
}

static adze_status select_backward(const adze_call *c)
{
    const adze_arg *x = &c->in[INDEX_X];
    const adze_status st = no_index_gradient(c);
    return st != ADZE_OK ? st : scatter(c, c->out[0].grad, &c->out[0].shape, x->grad, &x->shape, x->accumulate);
}

static adze_status put_backward(const adze_call *c)
{
    const adze_arg *x = &c->in[INDEX_X];
    const adze_status st = no_index_gradient(c);
    return st != ADZE_OK ? st : gather(c, c->out[0].grad, &c->out[0].shape, x->grad, &x->shape, x->accumulate);
}

} /* namespace */

const adze_kernel adze_cuda_index_select = cuda_kernel(accepts_all, NULL, select);
const adze_kernel adze_cuda_index_select_backward = cuda_kernel(accepts_all, NULL, select_backward);
const adze_kernel adze_cuda_index_put = cuda_kernel(accepts_all, NULL, put_rows);
const adze_kernel adze_cuda_index_put_backward = cuda_kernel(accepts_all, NULL, put_backward);
