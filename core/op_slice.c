/* op_slice.c - some neighbouring steps of one dimension.
 *
 *   in   x            y[i] = x[from + i] along `dim`, i < size
 *   dx   dy at those steps, 0 at the others         source: torch.narrow */
#include "core/op_slice.h"

#include <inttypes.h>
#include <string.h>

#include "core/axis.h"
#include "core/ops.h"

static adze_status slice_shape(adze_call *c)
{
    const slice_attrs *a = c->attrs;
    const adze_shape *x = &c->in[0].shape;
    char text[ADZE_SHAPE_TEXT];
    int dim = adze_axis_index(x, a->dim);
    if (dim < 0 || a->from < 0 || a->size < 1 || a->size > x->dim[dim] - a->from)
        return adze_fail(ADZE_ESHAPE, "x %s has no %" PRId64 " steps from %" PRId64 " on along dimension %d", adze_shape_text(x, text),
                         a->size, a->from, (int)a->dim);
    c->out[0].shape = *x;
    c->out[0].shape.dim[dim] = a->size;
    return ADZE_OK;
}

static double slice_flops(const adze_call *c)
{
    (void)c;
    return 0.0;
}

static adze_status slice_fwd(const adze_call *c)
{
    const slice_attrs *a = c->attrs;
    adze_axis x = adze_axis_of(&c->in[0].shape, a->dim);
    int64_t n = a->size * x.inner;
    for (int64_t o = 0; o < x.outer; o++)
        memcpy(c->out[0].data + o * n, c->in[0].data + (o * x.n + a->from) * x.inner, (size_t)n * sizeof(float));
    return ADZE_OK;
}

static adze_status slice_bwd(const adze_call *c)
{
    const slice_attrs *a = c->attrs;
    const adze_arg *in = &c->in[0];
    adze_axis x = adze_axis_of(&in->shape, a->dim);
    int64_t n = a->size * x.inner;
    if (!in->accumulate) memset(in->grad, 0, (size_t)adze_shape_count(&in->shape) * sizeof(float));
    for (int64_t o = 0; o < x.outer; o++) {
        float *to = in->grad + (o * x.n + a->from) * x.inner;
        for (int64_t k = 0; k < n; k++) to[k] += c->out[0].grad[o * n + k];
    }
    return ADZE_OK;
}

const adze_op_def adze_op_slice = {
    .name = "slice",
    .attrs_bytes = sizeof(slice_attrs),
    .shape = slice_shape,
    .flops = slice_flops,
    .forward = slice_fwd,
    .backward = slice_bwd,
    .in_place_input = -1,
};

adze_value adze_slice(adze_graph *g, adze_value x, int dim, int64_t from, int64_t size)
{
    slice_attrs a = { .dim = dim, .from = from, .size = size };
    return adze_graph_add(g, ADZE_OP_slice, &a, &x, 1, 1);
}
