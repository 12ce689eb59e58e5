/* op_index.c - gather and scatter along one dimension.
 *
 *   in       x, index (K): whole numbers held in float32, exact to 2^24
 *   select   y[i] = x[index[i]]       dx[index[i]] += dy[i]
 *   put      y[index[i]] += x[i], y of length `size` there       dx[i] = dy[index[i]]
 *   source   torch.index_select, torch.Tensor.index_add_; an index outside is ADZE_EINVAL when the plan runs */
#include "core/op_index.h"

#include <inttypes.h>
#include <string.h>

#include "core/axis.h"
#include "core/ops.h"

static adze_status index_shape(adze_call *c, bool put)
{
    const index_attrs *a = c->attrs;
    const adze_shape *x = &c->in[INDEX_X].shape, *index = &c->in[INDEX_INDEX].shape;
    char xs[ADZE_SHAPE_TEXT], is[ADZE_SHAPE_TEXT];
    int dim = adze_axis_index(x, a->dim);
    if (dim < 0 || index->rank != 1 || (put && index->dim[0] != x->dim[dim]))
        return adze_fail(ADZE_ESHAPE, "x %s and index %s along dimension %d", adze_shape_text(x, xs), adze_shape_text(index, is),
                         (int)a->dim);
    c->out[0].shape = *x;
    c->out[0].shape.dim[dim] = put ? a->size : index->dim[0];
    return ADZE_OK;
}

static adze_status select_shape(adze_call *c) { return index_shape(c, false); }
static adze_status put_shape(adze_call *c) { return index_shape(c, true); }

static double index_flops(const adze_call *c)
{
    (void)c;
    return 0.0;
}

static adze_status check_index(const adze_call *c, int64_t n)
{
    for (int64_t i = 0; i < c->in[INDEX_INDEX].shape.dim[0]; i++) {
        float k = c->in[INDEX_INDEX].data[i];
        if (!(k >= 0.0f && k < (float)n && k == (float)(int64_t)k))
            return adze_fail(ADZE_EINVAL, "%s: index %" PRId64 " is %g, want a whole number below %" PRId64, c->op->name, i, (double)k, n);
    }
    return ADZE_OK;
}

/* to[i] (=) from[index[i]] for i < K; with `add` instead of overwriting. */
static void gather(const adze_call *c, const float *from, int64_t n_from, float *to, adze_axis s, bool add)
{
    for (int64_t o = 0; o < s.outer; o++)
        for (int64_t i = 0; i < s.n; i++) {
            const float *a = from + (o * n_from + (int64_t)c->in[INDEX_INDEX].data[i]) * s.inner;
            float *b = to + (o * s.n + i) * s.inner;
            for (int64_t k = 0; k < s.inner; k++) b[k] = add ? b[k] + a[k] : a[k];
        }
}

/* to[index[i]] += from[i] for i < K, in the order of i. */
static void scatter(const adze_call *c, const float *from, adze_axis s, float *to, int64_t n_to)
{
    for (int64_t o = 0; o < s.outer; o++)
        for (int64_t i = 0; i < s.n; i++) {
            const float *a = from + (o * s.n + i) * s.inner;
            float *b = to + (o * n_to + (int64_t)c->in[INDEX_INDEX].data[i]) * s.inner;
            for (int64_t k = 0; k < s.inner; k++) b[k] += a[k];
        }
}

static adze_status no_index_gradient(const adze_call *c)
{
    return c->in[INDEX_INDEX].wanted ? adze_fail(ADZE_EINVAL, "%s: an index has no gradient", c->op->name) : ADZE_OK;
}

static adze_status select_fwd(const adze_call *c)
{
    const index_attrs *a = c->attrs;
    adze_axis x = adze_axis_of(&c->in[INDEX_X].shape, a->dim), y = adze_axis_of(&c->out[0].shape, a->dim);
    adze_status st = check_index(c, x.n);
    if (st == ADZE_OK) gather(c, c->in[INDEX_X].data, x.n, c->out[0].data, y, false);
    return st;
}

static adze_status select_bwd(const adze_call *c)
{
    const index_attrs *a = c->attrs;
    adze_axis x = adze_axis_of(&c->in[INDEX_X].shape, a->dim), y = adze_axis_of(&c->out[0].shape, a->dim);
    const adze_arg *in = &c->in[INDEX_X];
    if (!in->accumulate) memset(in->grad, 0, (size_t)adze_shape_count(&in->shape) * sizeof(float));
    scatter(c, c->out[0].grad, y, in->grad, x.n);
    return no_index_gradient(c);
}

static adze_status put_fwd(const adze_call *c)
{
    const index_attrs *a = c->attrs;
    adze_axis x = adze_axis_of(&c->in[INDEX_X].shape, a->dim);
    adze_status st = check_index(c, a->size);
    memset(c->out[0].data, 0, (size_t)adze_shape_count(&c->out[0].shape) * sizeof(float));
    if (st == ADZE_OK) scatter(c, c->in[INDEX_X].data, x, c->out[0].data, a->size);
    return st;
}

static adze_status put_bwd(const adze_call *c)
{
    const index_attrs *a = c->attrs;
    gather(c, c->out[0].grad, a->size, c->in[INDEX_X].grad, adze_axis_of(&c->in[INDEX_X].shape, a->dim), c->in[INDEX_X].accumulate);
    return no_index_gradient(c);
}

const adze_op_def adze_op_index_select = {
    .name = "index_select",
    .attrs_bytes = sizeof(index_attrs),
    .shape = select_shape,
    .flops = index_flops,
    .forward = select_fwd,
    .backward = select_bwd,
    .backward_reads_in = 1u << INDEX_INDEX,
    .in_place_input = -1,
};

const adze_op_def adze_op_index_put = {
    .name = "index_put",
    .attrs_bytes = sizeof(index_attrs),
    .shape = put_shape,
    .flops = index_flops,
    .forward = put_fwd,
    .backward = put_bwd,
    .backward_reads_in = 1u << INDEX_INDEX,
    .in_place_input = -1,
};

adze_value adze_index_select(adze_graph *g, adze_value x, adze_value index, int dim)
{
    index_attrs a = { .dim = dim };
    return adze_graph_add(g, ADZE_OP_index_select, &a, (adze_value[]){ x, index }, 2, 1);
}

adze_value adze_index_put(adze_graph *g, adze_value x, adze_value index, int dim, int64_t size)
{
    index_attrs a = { .dim = dim, .size = size };
    return adze_graph_add(g, ADZE_OP_index_put, &a, (adze_value[]){ x, index }, 2, 1);
}
