/* op_dropout_mask.c - dropout with given uniform numbers, so that the caller's generator decides and a run can be repeated.
 *
 *   in   x   u in [0,1), the shape of x or 1 in some dimensions ((N,1,1,1): whole samples, drop path)
 *   y    x/(1 - p) where u >= p, else 0       dx  the same of dy       source: torch.nn.functional.dropout */
#include "core/op_dropout_mask.h"

#include "core/ops.h"

static adze_status dropout_shape(adze_call *c)
{
    const dropout_attrs *a = c->attrs;
    const adze_shape *x = &c->in[DROPOUT_X].shape, *u = &c->in[DROPOUT_U].shape;
    char xs[ADZE_SHAPE_TEXT], us[ADZE_SHAPE_TEXT];
    bool fits = x->rank == u->rank;
    for (int d = 0; fits && d < x->rank; d++) fits = u->dim[d] == x->dim[d] || u->dim[d] == 1;
    if (!fits) return adze_fail(ADZE_ESHAPE, "x %s and u %s", adze_shape_text(x, xs), adze_shape_text(u, us));
    if (!(a->p >= 0.0f && a->p < 1.0f)) return adze_fail(ADZE_EINVAL, "p = %g, want 0 <= p < 1", (double)a->p);
    c->out[0].shape = *x;
    return ADZE_OK;
}

/* What element i is multiplied with. */
static double factor_of(const adze_call *c, int64_t i)
{
    const dropout_attrs *a = c->attrs;
    const adze_shape *x = &c->in[DROPOUT_X].shape, *u = &c->in[DROPOUT_U].shape;
    int64_t at = 0, step = 1;
    for (int d = x->rank - 1; d >= 0; d--) {
        if (u->dim[d] > 1) at += i % x->dim[d] * step;
        i /= x->dim[d];
        step *= u->dim[d];
    }
    return c->in[DROPOUT_U].data[at] >= a->p ? 1.0 / (1.0 - (double)a->p) : 0.0;
}

static adze_status dropout_fwd(const adze_call *c)
{
    for (int64_t i = 0; i < adze_shape_count(&c->out[0].shape); i++)
        c->out[0].data[i] = (float)(c->in[DROPOUT_X].data[i] * factor_of(c, i));
    return ADZE_OK;
}

static adze_status dropout_bwd(const adze_call *c)
{
    if (c->in[DROPOUT_U].wanted) return adze_fail(ADZE_EINVAL, "dropout_mask: u has no gradient");
    for (int64_t i = 0; i < adze_shape_count(&c->out[0].shape); i++)
        adze_grad_put(&c->in[DROPOUT_X], i, c->out[0].grad[i] * factor_of(c, i));
    return ADZE_OK;
}

const adze_op_def adze_op_dropout_mask = {
    .name = "dropout_mask",
    .attrs_bytes = sizeof(dropout_attrs),
    .shape = dropout_shape,
    .forward = dropout_fwd,
    .backward = dropout_bwd,
    .backward_reads_in = 1u << DROPOUT_U,
    .in_place_input = DROPOUT_X,
};

adze_value adze_dropout_mask(adze_graph *g, adze_value x, adze_value u, float p)
{
    dropout_attrs a = { .p = p };
    return adze_graph_add(g, ADZE_OP_dropout_mask, &a, (adze_value[]){ x, u }, 2, 1);
}
