/* op_unit_product.c - the negative product, element by element, of two vectors of unit length.          x, z, y (...,C)
 *
 *   u = x / (r_x + eps)      v = z / (r_z + eps)      r = length along the last dimension
 *   y  = -u v                k = <y,dy>
 *   dx = -dy v / (r_x + eps) - k u / r_x, the second term 0 at r_x = 0; dz alike
 *   saved r_x, r_z           source: DeSTSeg (Zhang et al., CVPR 2023), the input of its segmentation network */
#include "core/op_unit_product.h"

#include <math.h>

#include "core/axis.h"
#include "core/ops.h"

static adze_status unit_product_shape(adze_call *c)
{
    const adze_shape *x = &c->in[UNIT_PRODUCT_X].shape, *z = &c->in[UNIT_PRODUCT_Z].shape;
    char xs[ADZE_SHAPE_TEXT], zs[ADZE_SHAPE_TEXT];
    if (x->rank < 1 || !adze_shape_equal(x, z))
        return adze_fail(ADZE_ESHAPE, "vectors of %s and %s", adze_shape_text(x, xs), adze_shape_text(z, zs));
    c->out[0].shape = *x;
    c->out[1].shape = ADZE_SHAPE(adze_shape_span(x, 0, x->rank - 1), UNIT_PRODUCT_SAVED);
    return ADZE_OK;
}

static double unit_product_flops(const adze_call *c)
{
    return 6.0 * (double)adze_shape_count(&c->out[0].shape);
}

static double length(const float *x, int64_t n)
{
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i] * x[i];
    return sqrt(sum);
}

static adze_status unit_product_fwd(const adze_call *c)
{
    const unit_product_attrs *a = c->attrs;
    adze_axis s = adze_axis_of(&c->in[0].shape, -1);
    for (int64_t row = 0; row < s.outer; row++) {
        const float *x = c->in[UNIT_PRODUCT_X].data + row * s.n, *z = c->in[UNIT_PRODUCT_Z].data + row * s.n;
        float *saved = c->out[1].data + row * UNIT_PRODUCT_SAVED;
        double rx = length(x, s.n), rz = length(z, s.n);
        for (int64_t i = 0; i < s.n; i++) c->out[0].data[row * s.n + i] = (float)-(x[i] / (rx + a->eps) * (z[i] / (rz + a->eps)));
        saved[UNIT_PRODUCT_RX] = (float)rx, saved[UNIT_PRODUCT_RZ] = (float)rz;
    }
    return ADZE_OK;
}

static adze_status unit_product_bwd(const adze_call *c)
{
    const unit_product_attrs *a = c->attrs;
    adze_axis s = adze_axis_of(&c->in[0].shape, -1);
    for (int64_t row = 0; row < s.outer; row++) {
        const float *y = c->out[0].data + row * s.n, *dy = c->out[0].grad + row * s.n;
        const float *saved = c->out[1].data + row * UNIT_PRODUCT_SAVED;
        double k = 0.0;
        for (int64_t i = 0; i < s.n; i++) k += (double)y[i] * dy[i];
        for (int j = UNIT_PRODUCT_X; j <= UNIT_PRODUCT_Z; j++) {
            if (!c->in[j].wanted) continue;
            const float *own = c->in[j].data + row * s.n, *other = c->in[1 - j].data + row * s.n;
            double r = saved[UNIT_PRODUCT_RX + j], l = r + a->eps, toward = 1.0 / (l * (saved[UNIT_PRODUCT_RX + 1 - j] + a->eps));
            double back = r > 0.0 ? k / (r * l) : 0.0;
            for (int64_t i = 0; i < s.n; i++) adze_grad_put(&c->in[j], row * s.n + i, -toward * dy[i] * other[i] - back * own[i]);
        }
    }
    return ADZE_OK;
}

const adze_op_def adze_op_unit_product = {
    .name = "unit_product",
    .attrs_bytes = sizeof(unit_product_attrs),
    .shape = unit_product_shape,
    .flops = unit_product_flops,
    .forward = unit_product_fwd,
    .backward = unit_product_bwd,
    .backward_reads_in = 1u << UNIT_PRODUCT_X | 1u << UNIT_PRODUCT_Z,
    .backward_reads_out = true,
    .in_place_input = -1,
};

adze_value adze_unit_product(adze_graph *g, adze_value x, adze_value z, float eps)
{
    unit_product_attrs a = { .eps = eps };
    return adze_graph_add(g, ADZE_OP_unit_product, &a, (adze_value[]){ x, z }, 2, 2);
}
