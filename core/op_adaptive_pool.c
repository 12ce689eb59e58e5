/* op_adaptive_pool.c - mean over windows that are chosen so that the output has a wanted size.
 *
 *   window i of n -> m: floor(i*n/m) .. ceil((i+1)*n/m) - 1; windows overlap by one where m does not divide n
 *   2d  (N,H,W,C) -> (N,Ho,Wo,C)      1d  (...,n) -> (...,m)
 *   source: torch.nn.functional.adaptive_avg_pool2d, adaptive_avg_pool1d */
#include "core/op_adaptive_pool.h"

#include <string.h>

#include "core/ops.h"

static adze_status pool2d_shape(adze_call *c)
{
    const adaptive_attrs *a = c->attrs;
    const adze_shape *x = &c->in[0].shape;
    char text[ADZE_SHAPE_TEXT];
    if (x->rank != 4) return adze_fail(ADZE_ESHAPE, "x %s, want (N,H,W,C)", adze_shape_text(x, text));
    c->out[0].shape = ADZE_SHAPE(x->dim[0], a->out[0], a->out[1], x->dim[3]);
    return ADZE_OK;
}

static double pool_flops(const adze_call *c)
{
    return (double)adze_shape_count(&c->in[0].shape);
}

static adze_status pool2d_fwd(const adze_call *c)
{
    const adze_shape *x = &c->in[0].shape, *y = &c->out[0].shape;
    int64_t H = x->dim[1], W = x->dim[2], C = x->dim[3], Ho = y->dim[1], Wo = y->dim[2];
    for (int64_t n = 0; n < x->dim[0]; n++)
        for (int64_t oy = 0; oy < Ho; oy++)
            for (int64_t ox = 0; ox < Wo; ox++) {
                int64_t y0 = window_begin(oy, H, Ho), y1 = window_end(oy, H, Ho);
                int64_t x0 = window_begin(ox, W, Wo), x1 = window_end(ox, W, Wo);
                for (int64_t k = 0; k < C; k++) {
                    double sum = 0.0;
                    for (int64_t iy = y0; iy < y1; iy++)
                        for (int64_t ix = x0; ix < x1; ix++) sum += c->in[0].data[((n * H + iy) * W + ix) * C + k];
                    c->out[0].data[((n * Ho + oy) * Wo + ox) * C + k] = (float)(sum / (double)((y1 - y0) * (x1 - x0)));
                }
            }
    return ADZE_OK;
}

static adze_status pool2d_bwd(const adze_call *c)
{
    const adze_shape *x = &c->in[0].shape, *y = &c->out[0].shape;
    int64_t H = x->dim[1], W = x->dim[2], C = x->dim[3], Ho = y->dim[1], Wo = y->dim[2];
    if (!c->in[0].accumulate) memset(c->in[0].grad, 0, (size_t)adze_shape_count(x) * sizeof(float));
    for (int64_t i = 0; i < adze_shape_count(y); i++) {
        int64_t k = i % C, ox = i / C % Wo, oy = i / C / Wo % Ho, n = i / C / Wo / Ho;
        int64_t y0 = window_begin(oy, H, Ho), y1 = window_end(oy, H, Ho), x0 = window_begin(ox, W, Wo), x1 = window_end(ox, W, Wo);
        float part = c->out[0].grad[i] / (float)((y1 - y0) * (x1 - x0));
        for (int64_t iy = y0; iy < y1; iy++)
            for (int64_t ix = x0; ix < x1; ix++) c->in[0].grad[((n * H + iy) * W + ix) * C + k] += part;
    }
    return ADZE_OK;
}

static adze_status pool1d_shape(adze_call *c)
{
    const adaptive_attrs *a = c->attrs;
    adze_shape y = c->in[0].shape;
    if (y.rank < 1) return adze_fail(ADZE_ESHAPE, "x is a scalar");
    y.dim[y.rank - 1] = a->out[0];
    c->out[0].shape = y;
    return ADZE_OK;
}

static adze_status pool1d_fwd(const adze_call *c)
{
    const adze_shape *x = &c->in[0].shape, *y = &c->out[0].shape;
    int64_t n = x->dim[x->rank - 1], m = y->dim[y->rank - 1], rows = adze_shape_count(x) / n;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < m; i++) {
            int64_t from = window_begin(i, n, m), to = window_end(i, n, m);
            double sum = 0.0;
            for (int64_t j = from; j < to; j++) sum += c->in[0].data[r * n + j];
            c->out[0].data[r * m + i] = (float)(sum / (double)(to - from));
        }
    return ADZE_OK;
}

static adze_status pool1d_bwd(const adze_call *c)
{
    const adze_shape *x = &c->in[0].shape, *y = &c->out[0].shape;
    int64_t n = x->dim[x->rank - 1], m = y->dim[y->rank - 1];
    if (!c->in[0].accumulate) memset(c->in[0].grad, 0, (size_t)adze_shape_count(x) * sizeof(float));
    for (int64_t i = 0; i < adze_shape_count(y); i++) {
        int64_t from = window_begin(i % m, n, m), to = window_end(i % m, n, m);
        for (int64_t j = from; j < to; j++) c->in[0].grad[i / m * n + j] += c->out[0].grad[i] / (float)(to - from);
    }
    return ADZE_OK;
}

const adze_op_def adze_op_adaptive_pool2d = {
    .name = "adaptive_pool2d",
    .attrs_bytes = sizeof(adaptive_attrs),
    .shape = pool2d_shape,
    .flops = pool_flops,
    .forward = pool2d_fwd,
    .backward = pool2d_bwd,
    .in_place_input = -1,
};

const adze_op_def adze_op_adaptive_pool1d = {
    .name = "adaptive_pool1d",
    .attrs_bytes = sizeof(adaptive_attrs),
    .shape = pool1d_shape,
    .flops = pool_flops,
    .forward = pool1d_fwd,
    .backward = pool1d_bwd,
    .in_place_input = -1,
};

adze_value adze_adaptive_pool2d(adze_graph *g, adze_value x, int64_t Ho, int64_t Wo)
{
    adaptive_attrs a = { .out = { Ho, Wo } };
    return adze_graph_add(g, ADZE_OP_adaptive_pool2d, &a, &x, 1, 1);
}

adze_value adze_adaptive_pool1d(adze_graph *g, adze_value x, int64_t m)
{
    adaptive_attrs a = { .out = { m, 0 } };
    return adze_graph_add(g, ADZE_OP_adaptive_pool1d, &a, &x, 1, 1);
}
