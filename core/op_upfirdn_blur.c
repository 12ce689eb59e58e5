/* op_upfirdn_blur.c - the smoothing behind an upsampling convolution: every channel by the fixed filter w w^T, w = [1 3 3 1]/8.
 *
 *   in   x (N,H,W,C), zeros around it: `before` rows and columns at the top and left, `after` at the bottom and right
 *   y    (N,Ho,Wo,C), Ho = H + before + after - 3     y[o] = gain * sum over i, j of w[i] w[j] x[o - before + (i,j)]
 *   dx   the same filter over dy with 3 - before in place of `before` (w is symmetric)
 *   source: StyleGAN2 upfirdn2d with up = down = 1; specs: InvAD */
#include "core/op_upfirdn_blur.h"

#include <inttypes.h>

#include "core/ops.h"

static adze_status upfirdn_blur_shape(adze_call *c)
{
    const upfirdn_blur_attrs *a = c->attrs;
    const adze_shape *x = &c->in[0].shape;
    char xs[ADZE_SHAPE_TEXT];
    int64_t grown = (int64_t)a->before + a->after - (UPFIRDN_TAPS - 1);
    if (x->rank != 4 || a->before < 0 || a->after < 0 || x->dim[1] + grown < 1 || x->dim[2] + grown < 1)
        return adze_fail(ADZE_ESHAPE, "x %s with padding %" PRId32 "+%" PRId32 " and %d taps", adze_shape_text(x, xs), a->before,
                         a->after, UPFIRDN_TAPS);
    c->out[0].shape = ADZE_SHAPE(x->dim[0], x->dim[1] + grown, x->dim[2] + grown, x->dim[3]);
    return ADZE_OK;
}

static double upfirdn_blur_flops(const adze_call *c)
{
    return 2.0 * UPFIRDN_TAPS * UPFIRDN_TAPS * (double)adze_shape_count(&c->out[0].shape);
}

/* Element `i` of an output of shape `to`, from `x` of shape `from`. */
static double filtered(const float *x, const adze_shape *from, const adze_shape *to, int64_t i, int before)
{
    static const double w[UPFIRDN_TAPS] = { 0.125, 0.375, 0.375, 0.125 };
    int64_t H = from->dim[1], W = from->dim[2], C = from->dim[3], Ho = to->dim[1], Wo = to->dim[2];
    int64_t ch = i % C, ox = i / C % Wo, oy = i / C / Wo % Ho, n = i / C / Wo / Ho;
    double sum = 0.0;
    for (int ky = 0; ky < UPFIRDN_TAPS; ky++) {
        int64_t iy = oy - before + ky;
        if (iy < 0 || iy >= H) continue;
        for (int kx = 0; kx < UPFIRDN_TAPS; kx++) {
            int64_t ix = ox - before + kx;
            if (ix >= 0 && ix < W) sum += w[ky] * w[kx] * x[((n * H + iy) * W + ix) * C + ch];
        }
    }
    return sum;
}

static adze_status upfirdn_blur_fwd(const adze_call *c)
{
    const upfirdn_blur_attrs *a = c->attrs;
    const adze_shape *x = &c->in[0].shape, *y = &c->out[0].shape;
    for (int64_t i = 0; i < adze_shape_count(y); i++)
        c->out[0].data[i] = (float)(a->gain * filtered(c->in[0].data, x, y, i, a->before));
    return ADZE_OK;
}

static adze_status upfirdn_blur_bwd(const adze_call *c)
{
    const upfirdn_blur_attrs *a = c->attrs;
    const adze_shape *x = &c->in[0].shape, *y = &c->out[0].shape;
    for (int64_t i = 0; i < adze_shape_count(x); i++)
        adze_grad_put(&c->in[0], i, a->gain * filtered(c->out[0].grad, y, x, i, UPFIRDN_TAPS - 1 - a->before));
    return ADZE_OK;
}

const adze_op_def adze_op_upfirdn_blur = {
    .name = "upfirdn_blur",
    .attrs_bytes = sizeof(upfirdn_blur_attrs),
    .shape = upfirdn_blur_shape,
    .flops = upfirdn_blur_flops,
    .forward = upfirdn_blur_fwd,
    .backward = upfirdn_blur_bwd,
    .in_place_input = -1,
};

adze_value adze_upfirdn_blur(adze_graph *g, adze_value x, int before, int after, float gain)
{
    upfirdn_blur_attrs a = { .before = before, .after = after, .gain = gain };
    return adze_graph_add(g, ADZE_OP_upfirdn_blur, &a, &x, 1, 1);
}
