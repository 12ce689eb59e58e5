/* op_pool2d.c - maximum and mean over windows.
 *
 *   in   x (N,H,W,C)       y (N,Ho,Wo,C), Ho = floor((H + top + bottom - kernel)/stride) + 1
 *   max  padding is -infinity      mean  padding is 0; divisor = window, or its part inside the map
 *   dx   max: to the first maximum of each window; mean: dy / divisor to each element of the window
 *   source: torch.nn.functional.max_pool2d, avg_pool2d */
#include "core/op_pool2d.h"

#include <math.h>
#include <string.h>

static adze_status pool2d_shape(adze_call *c)
{
    const adze_pool2d_opts *o = &((const pool2d_attrs *)c->attrs)->o;
    const adze_shape *x = &c->in[0].shape;
    char text[ADZE_SHAPE_TEXT];
    if (x->rank != 4) return adze_fail(ADZE_ESHAPE, "x %s, want (N,H,W,C)", adze_shape_text(x, text));
    int64_t out[2];
    for (int d = 0; d < 2; d++) {
        int64_t room = x->dim[1 + d] + o->pad[d] + o->pad[d + 2] - o->kernel[d];
        if (o->kernel[d] < 1 || o->stride[d] < 1 || o->pad[d] < 0 || o->pad[d + 2] < 0 || 2 * o->pad[d] > o->kernel[d] ||
            room < 0)
            return adze_fail(ADZE_ESHAPE, "x %s: window %d, stride %d, padding %d+%d do not fit", adze_shape_text(x, text),
                             o->kernel[d], o->stride[d], o->pad[d], o->pad[d + 2]);
        out[d] = room / o->stride[d] + 1;
    }
    c->out[0].shape = ADZE_SHAPE(x->dim[0], out[0], out[1], x->dim[3]);
    return ADZE_OK;
}

static double pool2d_flops(const adze_call *c)
{
    const adze_pool2d_opts *o = &((const pool2d_attrs *)c->attrs)->o;
    return (double)adze_shape_count(&c->out[0].shape) * o->kernel[0] * o->kernel[1];
}

static adze_status pool2d_fwd(const adze_call *c)
{
    const adze_pool2d_opts *o = &((const pool2d_attrs *)c->attrs)->o;
    const adze_shape *x = &c->in[0].shape, *y = &c->out[0].shape;
    int64_t H = x->dim[1], W = x->dim[2], C = x->dim[3], Ho = y->dim[1], Wo = y->dim[2];
    for (int64_t i = 0; i < adze_shape_count(y); i++) {
        int64_t k = i % C, ox = i / C % Wo, oy = i / C / Wo % Ho, n = i / C / Wo / Ho;
        double best = -INFINITY, sum = 0.0;
        int64_t inside = 0;
        for (int64_t iy = oy * o->stride[0] - o->pad[0]; iy < oy * o->stride[0] - o->pad[0] + o->kernel[0]; iy++)
            for (int64_t ix = ox * o->stride[1] - o->pad[1]; ix < ox * o->stride[1] - o->pad[1] + o->kernel[1]; ix++) {
                if (iy < 0 || iy >= H || ix < 0 || ix >= W) continue;
                double v = c->in[0].data[((n * H + iy) * W + ix) * C + k];
                if (v > best || isnan(v)) best = v;
                sum += v;
                inside++;
            }
        double divisor = o->count_include_pad ? (double)(o->kernel[0] * o->kernel[1]) : (double)inside;
        c->out[0].data[i] = (float)(o->max ? best : sum / divisor);
    }
    return ADZE_OK;
}

static adze_status pool2d_bwd(const adze_call *c)
{
    const adze_pool2d_opts *o = &((const pool2d_attrs *)c->attrs)->o;
    const adze_shape *x = &c->in[0].shape, *y = &c->out[0].shape;
    int64_t H = x->dim[1], W = x->dim[2], C = x->dim[3], Ho = y->dim[1], Wo = y->dim[2];
    float *dx = c->in[0].grad;
    if (!c->in[0].accumulate) memset(dx, 0, (size_t)adze_shape_count(x) * sizeof *dx);
    for (int64_t i = 0; i < adze_shape_count(y); i++) {
        int64_t k = i % C, ox = i / C % Wo, oy = i / C / Wo % Ho, n = i / C / Wo / Ho;
        int64_t y0 = oy * o->stride[0] - o->pad[0], x0 = ox * o->stride[1] - o->pad[1], best = -1, inside = 0;
        for (int64_t iy = y0 < 0 ? 0 : y0; iy < H && iy < y0 + o->kernel[0]; iy++)
            for (int64_t ix = x0 < 0 ? 0 : x0; ix < W && ix < x0 + o->kernel[1]; ix++) {
                int64_t at = ((n * H + iy) * W + ix) * C + k;
                if (best < 0 || c->in[0].data[at] > c->in[0].data[best]) best = at;
                inside++;
            }
        if (o->max) {
            dx[best] += c->out[0].grad[i];
            continue;
        }
        float part = c->out[0].grad[i] / (float)(o->count_include_pad ? o->kernel[0] * o->kernel[1] : inside);
        for (int64_t iy = y0 < 0 ? 0 : y0; iy < H && iy < y0 + o->kernel[0]; iy++)
            for (int64_t ix = x0 < 0 ? 0 : x0; ix < W && ix < x0 + o->kernel[1]; ix++) dx[((n * H + iy) * W + ix) * C + k] += part;
    }
    return ADZE_OK;
}

static const char *pool2d_label(const adze_call *c)
{
    return ((const pool2d_attrs *)c->attrs)->o.max ? "max_pool2d" : "avg_pool2d";
}

const adze_op_def adze_op_pool2d = {
    .name = "pool2d",
    .attrs_bytes = sizeof(pool2d_attrs),
    .shape = pool2d_shape,
    .flops = pool2d_flops,
    .forward = pool2d_fwd,
    .backward = pool2d_bwd,
    .backward_reads_in = 1u,
    .in_place_input = -1,
    .label = pool2d_label,
};

adze_value adze_pool2d(adze_graph *g, adze_value x, const adze_pool2d_opts *opts)
{
    pool2d_attrs a;
    memset(&a, 0, sizeof a); /* padding counts in keys of the graph */
    memcpy(a.o.kernel, opts->kernel, sizeof a.o.kernel);
    memcpy(a.o.stride, opts->stride, sizeof a.o.stride);
    memcpy(a.o.pad, opts->pad, sizeof a.o.pad);
    a.o.max = opts->max, a.o.count_include_pad = opts->count_include_pad;
    return adze_graph_add(g, ADZE_OP_pool2d, &a, &x, 1, 1);
}
