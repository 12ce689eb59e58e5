/* op_cosine.c - cosine of the angle between the vectors of two tensors along one dimension, or its distance from 1.
 *
 *   in     x, z of one shape             r = length, m = max(r, eps)
 *   y      <x,z> / (m_x m_z), or 1 minus it; the shape of x without `dim`
 *   dx     dy (z/(m_x m_z) - <x,z>/(m_x^2 m_z) x/r_x), the second term 0 at r_x = 0; dz alike; 1 - cos: the negative
 *   saved  <x,z>, r_x, r_z per vector: 12 bytes
 *   source torch.nn.functional.cosine_similarity; its backward passes the clamp through as if it were the identity
 *
 * The losses of reverse distillation are this op over (B, H*W*C), its map over (B,H,W,C). */
#include "core/op_cosine.h"

#include <math.h>

#include "core/axis.h"
#include "core/ops.h"

static adze_status cosine_shape(adze_call *c)
{
    const cosine_attrs *a = c->attrs;
    const adze_shape *x = &c->in[COSINE_X].shape;
    char xs[ADZE_SHAPE_TEXT], zs[ADZE_SHAPE_TEXT];
    int dim = adze_axis_index(x, a->dim);
    if (dim < 0 || !adze_shape_equal(x, &c->in[COSINE_Z].shape))
        return adze_fail(ADZE_ESHAPE, "%s and %s along dimension %d", adze_shape_text(x, xs),
                         adze_shape_text(&c->in[COSINE_Z].shape, zs), (int)a->dim);
    adze_shape y = *x;
    y.dim[dim] = 1;
    if (x->rank > 1) {
        for (int d = dim; d + 1 < y.rank; d++) y.dim[d] = y.dim[d + 1];
        y.rank--;
    }
    c->out[0].shape = y;
    c->out[1].shape = ADZE_SHAPE(adze_shape_count(&y), COSINE_SAVED);
    return ADZE_OK;
}

static double cosine_flops(const adze_call *c)
{
    return 6.0 * (double)adze_shape_count(&c->in[COSINE_X].shape);
}

static adze_status cosine_fwd(const adze_call *c)
{
    const cosine_attrs *a = c->attrs;
    adze_axis s = adze_axis_of(&c->in[COSINE_X].shape, a->dim);
    for (int64_t line = 0; line < s.outer * s.inner; line++) {
        int64_t at = line / s.inner * s.n * s.inner + line % s.inner;
        const float *x = c->in[COSINE_X].data + at, *z = c->in[COSINE_Z].data + at;
        double xx = 0.0, zz = 0.0, xz = 0.0;
        for (int64_t i = 0; i < s.n * s.inner; i += s.inner) {
            xx += (double)x[i] * x[i];
            zz += (double)z[i] * z[i];
            xz += (double)x[i] * z[i];
        }
        double cosine = xz / (fmax(sqrt(xx), a->eps) * fmax(sqrt(zz), a->eps));
        float *saved = c->out[1].data + line * COSINE_SAVED;
        saved[COSINE_DOT] = (float)xz, saved[COSINE_RX] = (float)sqrt(xx), saved[COSINE_RZ] = (float)sqrt(zz);
        c->out[0].data[line] = (float)(a->distance ? 1.0 - cosine : cosine);
    }
    return ADZE_OK;
}

static adze_status cosine_bwd(const adze_call *c)
{
    const cosine_attrs *a = c->attrs;
    adze_axis s = adze_axis_of(&c->in[COSINE_X].shape, a->dim);
    for (int k = COSINE_X; k <= COSINE_Z; k++) {
        if (!c->in[k].wanted) continue;
        for (int64_t line = 0; line < s.outer * s.inner; line++) {
            int64_t at = line / s.inner * s.n * s.inner + line % s.inner;
            const float *own = c->in[k].data + at, *other = c->in[1 - k].data + at;
            const float *saved = c->out[1].data + line * COSINE_SAVED;
            double r = saved[COSINE_RX + k], m = fmax(r, a->eps), m_other = fmax(saved[COSINE_RX + 1 - k], a->eps);
            double dy = a->distance ? -c->out[0].grad[line] : c->out[0].grad[line];
            double toward = dy / (m * m_other), back = r > 0.0 ? dy * saved[COSINE_DOT] / (m * m * m_other * r) : 0.0;
            for (int64_t i = 0; i < s.n * s.inner; i += s.inner) adze_grad_put(&c->in[k], at + i, toward * other[i] - back * own[i]);
        }
    }
    return ADZE_OK;
}

const adze_op_def adze_op_cosine = {
    .name = "cosine",
    .attrs_bytes = sizeof(cosine_attrs),
    .shape = cosine_shape,
    .flops = cosine_flops,
    .forward = cosine_fwd,
    .backward = cosine_bwd,
    .backward_reads_in = 1u << COSINE_X | 1u << COSINE_Z,
    .in_place_input = -1,
};

static adze_value add_cosine(adze_graph *g, adze_value x, adze_value z, int dim, float eps, bool distance)
{
    cosine_attrs a = { .dim = dim, .eps = eps, .distance = distance };
    return adze_graph_add(g, ADZE_OP_cosine, &a, (adze_value[]){ x, z }, 2, 2);
}

adze_value adze_cosine_similarity(adze_graph *g, adze_value x, adze_value z, int dim, float eps)
{
    return add_cosine(g, x, z, dim, eps, false);
}

adze_value adze_cosine_map(adze_graph *g, adze_value x, adze_value z)
{
    return add_cosine(g, x, z, -1, ADZE_COSINE_EPS, true);
}

adze_value adze_cosine_loss(adze_graph *g, adze_value x, adze_value z)
{
    adze_shape s = adze_graph_shape(g, x), flat = ADZE_SHAPE(s.dim[0], adze_shape_span(&s, 1, s.rank));
    return adze_mean(g, add_cosine(g, adze_reshape(g, x, flat), adze_reshape(g, z, flat), 1, ADZE_COSINE_EPS, true));
}

adze_value adze_cosine_map_loss(adze_graph *g, adze_value x, adze_value z)
{
    adze_value map = adze_cosine_map(g, x, z);
    adze_shape s = adze_graph_shape(g, map), flat = ADZE_SHAPE(s.dim[0], adze_shape_span(&s, 1, s.rank));
    adze_value means = adze_reduce(g, adze_reshape(g, map, flat), ADZE_REDUCE_MEAN, 1, false, NULL);
    return adze_reduce(g, means, ADZE_REDUCE_SUM, 0, true, NULL);
}
