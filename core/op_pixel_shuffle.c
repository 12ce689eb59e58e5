/* op_pixel_shuffle.c - channels to pixels: a larger map of fewer channels.
 *
 *   in   x (N,H,W,C*f*f)                       y (N,H*f,W*f,C)
 *   y[n, h*f+p, w*f+q, c] = x[n, h, w, e]      e = c*f*f + p*f + q, or (p*f + q)*C + c (patch expansion)
 *   dx   the way back                          source: torch.nn.functional.pixel_shuffle */
#include "core/op_pixel_shuffle.h"

#include "core/ops.h"

static adze_status pixel_shuffle_shape(adze_call *c)
{
    const pixel_shuffle_attrs *a = c->attrs;
    const adze_shape *x = &c->in[0].shape;
    char text[ADZE_SHAPE_TEXT];
    if (x->rank != 4 || a->factor < 1 || x->dim[3] % (a->factor * a->factor) != 0)
        return adze_fail(ADZE_ESHAPE, "x %s, factor %d", adze_shape_text(x, text), (int)a->factor);
    c->out[0].shape = ADZE_SHAPE(x->dim[0], x->dim[1] * a->factor, x->dim[2] * a->factor, x->dim[3] / (a->factor * a->factor));
    return ADZE_OK;
}

static double pixel_shuffle_flops(const adze_call *c)
{
    (void)c;
    return 0.0;
}

/* The element of x that becomes element i of y. */
static int64_t source_of(const adze_call *c, int64_t i)
{
    const pixel_shuffle_attrs *a = c->attrs;
    const adze_shape *y = &c->out[0].shape;
    int64_t C = y->dim[3], W = y->dim[2], f = a->factor, k = i % C, x = i / C % W, row = i / C / W;
    int64_t p = row % f, q = x % f, e = a->channels_inner ? (p * f + q) * C + k : (k * f + p) * f + q;
    return (row / f * (W / f) + x / f) * (C * f * f) + e;
}

static adze_status pixel_shuffle_fwd(const adze_call *c)
{
    for (int64_t i = 0; i < adze_shape_count(&c->out[0].shape); i++) c->out[0].data[i] = c->in[0].data[source_of(c, i)];
    return ADZE_OK;
}

static adze_status pixel_shuffle_bwd(const adze_call *c)
{
    for (int64_t i = 0; i < adze_shape_count(&c->out[0].shape); i++) adze_grad_put(&c->in[0], source_of(c, i), c->out[0].grad[i]);
    return ADZE_OK;
}

const adze_op_def adze_op_pixel_shuffle = {
    .name = "pixel_shuffle",
    .attrs_bytes = sizeof(pixel_shuffle_attrs),
    .shape = pixel_shuffle_shape,
    .flops = pixel_shuffle_flops,
    .forward = pixel_shuffle_fwd,
    .backward = pixel_shuffle_bwd,
    .in_place_input = -1,
};

adze_value adze_pixel_shuffle(adze_graph *g, adze_value x, int64_t factor, bool channels_inner)
{
    pixel_shuffle_attrs a = { .factor = factor, .channels_inner = channels_inner };
    return adze_graph_add(g, ADZE_OP_pixel_shuffle, &a, &x, 1, 1);
}
