/* op_concat.c - tensors one behind the other along one dimension.
 *
 *   in   x_i, equal but for dimension `dim`          y: sum of their lengths there
 *   dx_i   the part of dy that x_i became            source: torch.cat */
#include "core/op_concat.h"

#include <string.h>

#include "core/axis.h"
#include "core/ops.h"

static adze_status concat_shape(adze_call *c)
{
    const concat_attrs *a = c->attrs;
    char xs[ADZE_SHAPE_TEXT], zs[ADZE_SHAPE_TEXT];
    adze_shape y = c->in[0].shape;
    int dim = adze_axis_index(&y, a->dim);
    if (dim < 0) return adze_fail(ADZE_ESHAPE, "%s has no dimension %d", adze_shape_text(&y, xs), (int)a->dim);
    for (int i = 1; i < c->n_in; i++) {
        adze_shape z = c->in[i].shape;
        int64_t n = z.rank == y.rank ? z.dim[dim] : 0;
        if (n > 0) z.dim[dim] = y.dim[dim];
        if (!adze_shape_equal(&y, &z))
            return adze_fail(ADZE_ESHAPE, "%s and %s differ beside dimension %d", adze_shape_text(&c->in[0].shape, xs),
                             adze_shape_text(&c->in[i].shape, zs), dim);
        y.dim[dim] += n;
    }
    c->out[0].shape = y;
    return ADZE_OK;
}

static double concat_flops(const adze_call *c)
{
    (void)c;
    return 0.0;
}

static adze_status concat_fwd(const adze_call *c)
{
    const concat_attrs *a = c->attrs;
    adze_axis y = adze_axis_of(&c->out[0].shape, a->dim);
    int64_t width = y.n * y.inner, at = 0;
    for (int i = 0; i < c->n_in; i++) {
        adze_axis x = adze_axis_of(&c->in[i].shape, a->dim);
        int64_t n = x.n * x.inner;
        for (int64_t o = 0; o < y.outer; o++)
            memcpy(c->out[0].data + o * width + at, c->in[i].data + o * n, (size_t)n * sizeof(float));
        at += n;
    }
    return ADZE_OK;
}

static adze_status concat_bwd(const adze_call *c)
{
    const concat_attrs *a = c->attrs;
    adze_axis y = adze_axis_of(&c->out[0].shape, a->dim);
    int64_t width = y.n * y.inner, at = 0;
    for (int i = 0; i < c->n_in; i++) {
        adze_axis x = adze_axis_of(&c->in[i].shape, a->dim);
        int64_t n = x.n * x.inner;
        for (int64_t e = 0; e < y.outer * n && c->in[i].wanted; e++)
            adze_grad_put(&c->in[i], e, c->out[0].grad[e / n * width + at + e % n]);
        at += n;
    }
    return ADZE_OK;
}

const adze_op_def adze_op_concat = {
    .name = "concat",
    .attrs_bytes = sizeof(concat_attrs),
    .shape = concat_shape,
    .flops = concat_flops,
    .forward = concat_fwd,
    .backward = concat_bwd,
    .in_place_input = -1,
};

adze_value adze_concat(adze_graph *g, const adze_value *x, int n, int dim)
{
    concat_attrs a = { .dim = dim };
    if (n < 1 || n > ADZE_MAX_IN) return adze_graph_fail(g, ADZE_EINVAL, "concat: %d inputs, want 1 to %d", n, ADZE_MAX_IN);
    return adze_graph_add(g, ADZE_OP_concat, &a, x, n, 1);
}
