/* op_l2_normalize.c - vectors along one dimension to unit length.          r = ||x||
 *
 *   max   y = x / max(r, eps)       dx = (dy - k y) / r where r > eps, else dy / eps (clamp active)      k = <y,dy>
 *   add   y = x / (r + eps)         dx = dy / (r + eps) - k y / r, the second term 0 at r = 0
 *   saved y, r (one per vector)     source: torch.nn.functional.normalize(p=2); `add`: x / (x.norm() + eps) */
#include "core/op_l2_normalize.h"

#include <math.h>

#include "core/axis.h"
#include "core/ops.h"

static adze_status l2_normalize_shape(adze_call *c)
{
    const l2_normalize_attrs *a = c->attrs;
    char text[ADZE_SHAPE_TEXT];
    if (adze_axis_index(&c->in[0].shape, a->dim) < 0)
        return adze_fail(ADZE_ESHAPE, "%s has no dimension %d", adze_shape_text(&c->in[0].shape, text), (int)a->dim);
    adze_axis s = adze_axis_of(&c->in[0].shape, a->dim);
    c->out[0].shape = c->in[0].shape;
    c->out[1].shape = ADZE_SHAPE(s.outer * s.inner);
    return ADZE_OK;
}

static double l2_normalize_flops(const adze_call *c)
{
    return 3.0 * (double)adze_shape_count(&c->in[0].shape);
}

static adze_status l2_normalize_fwd(const adze_call *c)
{
    const l2_normalize_attrs *a = c->attrs;
    adze_axis s = adze_axis_of(&c->in[0].shape, a->dim);
    for (int64_t line = 0; line < s.outer * s.inner; line++) {
        int64_t at = line / s.inner * s.n * s.inner + line % s.inner;
        const float *x = c->in[0].data + at;
        float *y = c->out[0].data + at;
        double sum = 0.0;
        for (int64_t i = 0; i < s.n; i++) sum += (double)x[i * s.inner] * x[i * s.inner];
        double r = sqrt(sum), length = a->form == ADZE_L2_ADD ? r + a->eps : fmax(r, a->eps);
        for (int64_t i = 0; i < s.n; i++) y[i * s.inner] = (float)(x[i * s.inner] / length);
        c->out[1].data[line] = (float)r;
    }
    return ADZE_OK;
}

static adze_status l2_normalize_bwd(const adze_call *c)
{
    const l2_normalize_attrs *a = c->attrs;
    adze_axis s = adze_axis_of(&c->in[0].shape, a->dim);
    for (int64_t line = 0; line < s.outer * s.inner; line++) {
        int64_t at = line / s.inner * s.n * s.inner + line % s.inner;
        const float *y = c->out[0].data + at, *dy = c->out[0].grad + at;
        double r = c->out[1].data[line], k = 0.0;
        double length = a->form == ADZE_L2_ADD ? r + a->eps : fmax(r, a->eps);
        for (int64_t i = 0; i < s.n; i++) k += (double)y[i * s.inner] * dy[i * s.inner];
        double back = r > (a->form == ADZE_L2_ADD ? 0.0 : a->eps) ? k / r : 0.0;
        for (int64_t i = 0; i < s.n; i++) adze_grad_put(&c->in[0], at + i * s.inner, dy[i * s.inner] / length - back * y[i * s.inner]);
    }
    return ADZE_OK;
}

const adze_op_def adze_op_l2_normalize = {
    .name = "l2_normalize",
    .attrs_bytes = sizeof(l2_normalize_attrs),
    .shape = l2_normalize_shape,
    .flops = l2_normalize_flops,
    .forward = l2_normalize_fwd,
    .backward = l2_normalize_bwd,
    .backward_reads_out = true,
    .in_place_input = 0,
};

adze_value adze_l2_normalize(adze_graph *g, adze_value x, int dim, adze_l2_form form, float eps)
{
    l2_normalize_attrs a = { .dim = dim, .form = form, .eps = eps };
    return adze_graph_add(g, ADZE_OP_l2_normalize, &a, &x, 1, 2);
}
