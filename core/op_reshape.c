/* op_reshape.c - the same elements under another shape; an alias, no work. */
#include "core/op.h"
#include "core/ops.h"

typedef struct {
    int32_t rank;
    int64_t dim[ADZE_MAX_RANK];
} reshape_attrs;

static adze_status reshape_shape(adze_call *c)
{
    const reshape_attrs *a = c->attrs;
    char xs[ADZE_SHAPE_TEXT], ys[ADZE_SHAPE_TEXT];
    adze_shape y = adze_shape_of(a->rank, a->dim);
    if (adze_shape_count(&y) != adze_shape_count(&c->in[0].shape))
        return adze_fail(ADZE_ESHAPE, "%s cannot be seen as %s", adze_shape_text(&c->in[0].shape, xs),
                         adze_shape_text(&y, ys));
    c->out[0].shape = y;
    return ADZE_OK;
}

static adze_status reshape_fwd(const adze_call *c)
{
    (void)c;
    return ADZE_OK;
}

static double reshape_flops(const adze_call *c)
{
    (void)c;
    return 0.0;
}

const adze_op_def adze_op_reshape = {
    .name = "reshape",
    .attrs_bytes = sizeof(reshape_attrs),
    .shape = reshape_shape,
    .flops = reshape_flops,
    .forward = reshape_fwd,
    .in_place_input = -1,
    .alias = true,
};

adze_value adze_reshape(adze_graph *g, adze_value x, adze_shape shape)
{
    reshape_attrs a = { .rank = shape.rank };
    for (int d = 0; d < shape.rank; d++) a.dim[d] = shape.dim[d];
    return adze_graph_add(g, ADZE_OP_reshape, &a, &x, 1, 1);
}
