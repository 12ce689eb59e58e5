/* op_unfold.c - patches as rows.
 *
 *   in   x (N,H,W,C)      y (N, Ho*Wo, C*Kh*Kw), element order c, ky, kx; zeros outside the map
 *   source: torch.nn.functional.unfold (transposed: a patch is a row here) */
#include "core/op_unfold.h"

#include <string.h>

#include "core/ops.h"

static int64_t positions(const adze_unfold_opts *o, const adze_shape *x, int d)
{
    int64_t room = x->dim[1 + d] + 2 * (int64_t)o->pad[d] - (int64_t)o->dilation[d] * (o->kernel[d] - 1) - 1;
    return room < 0 ? 0 : room / o->stride[d] + 1;
}

static adze_status unfold_shape(adze_call *c)
{
    const adze_unfold_opts *o = &((const unfold_attrs *)c->attrs)->o;
    const adze_shape *x = &c->in[0].shape;
    char text[ADZE_SHAPE_TEXT];
    if (x->rank != 4 || positions(o, x, 0) < 1 || positions(o, x, 1) < 1)
        return adze_fail(ADZE_ESHAPE, "x %s: a window of %dx%d does not fit", adze_shape_text(x, text), o->kernel[0],
                         o->kernel[1]);
    c->out[0].shape =
        ADZE_SHAPE(x->dim[0], positions(o, x, 0) * positions(o, x, 1), x->dim[3] * o->kernel[0] * o->kernel[1]);
    return ADZE_OK;
}

static adze_status unfold_fwd(const adze_call *c)
{
    const adze_unfold_opts *o = &((const unfold_attrs *)c->attrs)->o;
    const adze_shape *x = &c->in[0].shape;
    int64_t H = x->dim[1], W = x->dim[2], C = x->dim[3], Ho = positions(o, x, 0), Wo = positions(o, x, 1);
    int64_t K = (int64_t)o->kernel[0] * o->kernel[1];
    for (int64_t row = 0; row < x->dim[0] * Ho * Wo; row++) {
        int64_t ox = row % Wo, oy = row / Wo % Ho, n = row / Wo / Ho;
        for (int64_t t = 0; t < K; t++) {
            int64_t iy = oy * o->stride[0] - o->pad[0] + t / o->kernel[1] * o->dilation[0];
            int64_t ix = ox * o->stride[1] - o->pad[1] + t % o->kernel[1] * o->dilation[1];
            bool inside = iy >= 0 && iy < H && ix >= 0 && ix < W;
            for (int64_t k = 0; k < C; k++)
                c->out[0].data[(row * C + k) * K + t] = inside ? c->in[0].data[((n * H + iy) * W + ix) * C + k] : 0.0f;
        }
    }
    return ADZE_OK;
}

static adze_status unfold_bwd(const adze_call *c)
{
    const adze_unfold_opts *o = &((const unfold_attrs *)c->attrs)->o;
    const adze_shape *x = &c->in[0].shape;
    int64_t H = x->dim[1], W = x->dim[2], C = x->dim[3], Ho = positions(o, x, 0), Wo = positions(o, x, 1);
    int64_t K = (int64_t)o->kernel[0] * o->kernel[1];
    if (!c->in[0].accumulate) memset(c->in[0].grad, 0, (size_t)adze_shape_count(x) * sizeof(float));
    for (int64_t row = 0; row < x->dim[0] * Ho * Wo; row++)
        for (int64_t t = 0; t < K; t++) {
            int64_t iy = row / Wo % Ho * o->stride[0] - o->pad[0] + t / o->kernel[1] * o->dilation[0];
            int64_t ix = row % Wo * o->stride[1] - o->pad[1] + t % o->kernel[1] * o->dilation[1];
            if (iy < 0 || iy >= H || ix < 0 || ix >= W) continue;
            float *dx = c->in[0].grad + ((row / Wo / Ho * H + iy) * W + ix) * C;
            for (int64_t k = 0; k < C; k++) dx[k] += c->out[0].grad[(row * C + k) * K + t];
        }
    return ADZE_OK;
}

const adze_op_def adze_op_unfold = {
    .name = "unfold",
    .attrs_bytes = sizeof(unfold_attrs),
    .shape = unfold_shape,
    .forward = unfold_fwd,
    .backward = unfold_bwd,
    .in_place_input = -1,
};

adze_value adze_unfold(adze_graph *g, adze_value x, const adze_unfold_opts *opts)
{
    unfold_attrs a = { .o = *opts };
    return adze_graph_add(g, ADZE_OP_unfold, &a, &x, 1, 1);
}
