/* op_conv2d.c - two-dimensional convolution, with an optional epilogue that the plan may fuse into it.
 *
 *   in    x (N,H,W,C)   w (Co,C/groups,Kh,Kw)   [b (Co)]   [gamma beta mean var (Co)]   [r = y's shape]
 *   y     act( fold(conv(x, w) + b) + r )        fold(t) = (t - mean)/sqrt(var + eps)*gamma + beta
 *
 *   dx    sum over the outputs that x was multiplied into: dy w      dw   dy x      db   sum of dy over positions
 *         (only the bare convolution has gradients: nothing is fused where one passes)
 *
 * A batch norm behind the convolution is folded into the weights: W' = W g, b' = (b - mean) g + beta, g = gamma/sqrt(var + eps).
 * Source: torch.nn.functional.conv2d. */
#include "core/op_conv2d.h"

#include <inttypes.h>
#include <math.h>

#include "core/memory.h"
#include "core/ops.h"

static adze_status conv2d_shape(adze_call *c)
{
    const conv2d_attrs *a = c->attrs;
    const adze_shape *x = &c->in[CONV2D_X].shape, *w = &c->in[CONV2D_W].shape;
    char xs[ADZE_SHAPE_TEXT], ws[ADZE_SHAPE_TEXT];
    if (x->rank != 4 || w->rank != 4 || a->o.groups < 1 || x->dim[3] % a->o.groups != 0 ||
        w->dim[1] * a->o.groups != x->dim[3] || w->dim[0] % a->o.groups != 0)
        return adze_fail(ADZE_ESHAPE, "x %s and w %s with %d groups", adze_shape_text(x, xs), adze_shape_text(w, ws),
                         a->o.groups);
    if (c->in[CONV2D_B].present && adze_shape_count(&c->in[CONV2D_B].shape) != w->dim[0])
        return adze_fail(ADZE_ESHAPE, "bias of %" PRId64 " for %" PRId64 " channels",
                         adze_shape_count(&c->in[CONV2D_B].shape), w->dim[0]);
    int64_t out[2];
    for (int d = 0; d < 2; d++) {
        int64_t span = (int64_t)a->o.dilation[d] * (w->dim[2 + d] - 1) + 1;
        int64_t room = x->dim[1 + d] + a->o.pad[d] + a->o.pad[d + 2] - span;
        if (a->o.stride[d] < 1 || a->o.dilation[d] < 1 || a->o.pad[d] < 0 || a->o.pad[d + 2] < 0 || room < 0)
            return adze_fail(ADZE_ESHAPE, "x %s and w %s: the kernel does not fit (stride %d, dilation %d, padding %d+%d)",
                             adze_shape_text(x, xs), adze_shape_text(w, ws), a->o.stride[d], a->o.dilation[d],
                             a->o.pad[d], a->o.pad[d + 2]);
        out[d] = room / a->o.stride[d] + 1;
    }
    c->out[0].shape = ADZE_SHAPE(x->dim[0], out[0], out[1], w->dim[0]);
    return ADZE_OK;
}

static double conv2d_flops(const adze_call *c)
{
    const adze_shape *w = &c->in[CONV2D_W].shape;
    return 2.0 * (double)adze_shape_count(&c->out[0].shape) * (double)adze_shape_span(w, 1, 4);
}

void adze_batch_norm_fold(const adze_norm_stats *bn, int64_t Co, int64_t K, const float *w, const float *b, float *w_out,
                          float *b_out)
{
    for (int64_t k = 0; k < Co; k++) {
        double g = bn->gamma[k] / sqrt((double)bn->var[k] + bn->eps), bias = b ? b[k] : 0.0;
        b_out[k] = (float)((bias - bn->mean[k]) * g + bn->beta[k]);
        for (int64_t i = 0; i < K; i++) w_out[k * K + i] = (float)(w[k * K + i] * g);
    }
}

static adze_status conv2d_fwd(const adze_call *c)
{
    const conv2d_attrs *a = c->attrs;
    const adze_shape *x = &c->in[CONV2D_X].shape, *w = &c->in[CONV2D_W].shape, *y = &c->out[0].shape;
    int64_t N = x->dim[0], H = x->dim[1], W = x->dim[2], C = x->dim[3];
    int64_t Ho = y->dim[1], Wo = y->dim[2], Co = y->dim[3], Kh = w->dim[2], Kw = w->dim[3];
    int64_t Cg = C / a->o.groups, Cog = Co / a->o.groups;
    const float *residual = c->in[CONV2D_RESIDUAL].data, *b = c->in[CONV2D_B].data;
    for (int64_t i = 0; i < N * Ho * Wo * Co; i++) {
        int64_t co = i % Co, ox = i / Co % Wo, oy = i / Co / Wo % Ho, n = i / Co / Wo / Ho;
        double sum = b ? b[co] : 0.0;
        for (int64_t ky = 0; ky < Kh; ky++) {
            int64_t iy = oy * a->o.stride[0] - a->o.pad[0] + ky * a->o.dilation[0];
            if (iy < 0 || iy >= H) continue;
            for (int64_t kx = 0; kx < Kw; kx++) {
                int64_t ix = ox * a->o.stride[1] - a->o.pad[1] + kx * a->o.dilation[1];
                if (ix < 0 || ix >= W) continue;
                const float *px = c->in[CONV2D_X].data + ((n * H + iy) * W + ix) * C + co / Cog * Cg;
                const float *pw = c->in[CONV2D_W].data + (co * Cg * Kh + ky) * Kw + kx;
                for (int64_t ci = 0; ci < Cg; ci++) sum += (double)px[ci] * pw[ci * Kh * Kw];
            }
        }
        if (c->in[CONV2D_GAMMA].present) {
            double rstd = 1.0 / sqrt((double)c->in[CONV2D_VAR].data[co] + a->eps);
            sum = (sum - c->in[CONV2D_MEAN].data[co]) * rstd * c->in[CONV2D_GAMMA].data[co] + c->in[CONV2D_BETA].data[co];
        }
        if (residual) sum += residual[i];
        c->out[0].data[i] = (float)adze_act_apply(a->act, a->act_a, a->act_b, sum);
    }
    return ADZE_OK;
}

/* Calls of the innermost product: y[i] gets x[px] * w[pw]. The three gradients walk the same list. */
typedef struct {
    int64_t y, x, w;
} term;

#define FOR_EACH_TERM(t, body)                                                                                  \
    for (int64_t i = 0; i < N * Ho * Wo * Co; i++) {                                                            \
        int64_t co = i % Co, ox = i / Co % Wo, oy = i / Co / Wo % Ho, n = i / Co / Wo / Ho;                     \
        for (int64_t ky = 0; ky < Kh; ky++) {                                                                   \
            int64_t iy = oy * a->o.stride[0] - a->o.pad[0] + ky * a->o.dilation[0];                             \
            if (iy < 0 || iy >= H) continue;                                                                    \
            for (int64_t kx = 0; kx < Kw; kx++) {                                                               \
                int64_t ix = ox * a->o.stride[1] - a->o.pad[1] + kx * a->o.dilation[1];                         \
                if (ix < 0 || ix >= W) continue;                                                                \
                for (int64_t ci = 0; ci < Cg; ci++) {                                                           \
                    term t = { i, ((n * H + iy) * W + ix) * C + co / Cog * Cg + ci, ((co * Cg + ci) * Kh + ky) * Kw + kx }; \
                    body;                                                                                       \
                }                                                                                               \
            }                                                                                                   \
        }                                                                                                       \
    }

static adze_status conv2d_bwd(const adze_call *c)
{
    adze_status st = ADZE_OK;
    const conv2d_attrs *a = c->attrs;
    const adze_shape *xs = &c->in[CONV2D_X].shape, *ws = &c->in[CONV2D_W].shape, *ys = &c->out[0].shape;
    int64_t N = xs->dim[0], H = xs->dim[1], W = xs->dim[2], C = xs->dim[3];
    int64_t Ho = ys->dim[1], Wo = ys->dim[2], Co = ys->dim[3], Kh = ws->dim[2], Kw = ws->dim[3];
    int64_t Cg = C / a->o.groups, Cog = Co / a->o.groups, n_sums = adze_shape_count(xs) + adze_shape_count(ws) + Co;
    const float *dy = c->out[0].grad, *x = c->in[CONV2D_X].data, *w = c->in[CONV2D_W].data;
    double *dx = adze_calloc((size_t)n_sums, sizeof *dx), *dw = dx ? dx + adze_shape_count(xs) : NULL;
    REQUIRE(dx, ADZE_ENOMEM, "conv2d: %" PRId64 " sums", n_sums);
    if (c->in[CONV2D_X].wanted) {
        FOR_EACH_TERM(t, dx[t.x] += (double)dy[t.y] * w[t.w])
        for (int64_t i = 0; i < adze_shape_count(xs); i++) adze_grad_put(&c->in[CONV2D_X], i, dx[i]);
    }
    if (c->in[CONV2D_W].wanted) {
        FOR_EACH_TERM(t, dw[t.w] += (double)dy[t.y] * x[t.x])
        for (int64_t i = 0; i < adze_shape_count(ws); i++) adze_grad_put(&c->in[CONV2D_W], i, dw[i]);
    }
    if (c->in[CONV2D_B].wanted) {
        double *db = dw + adze_shape_count(ws);
        for (int64_t i = 0; i < N * Ho * Wo * Co; i++) db[i % Co] += dy[i];
        for (int64_t k = 0; k < Co; k++) adze_grad_put(&c->in[CONV2D_B], k, db[k]);
    }
done:
    adze_free(dx);
    return st;
}

static const char *conv2d_label(const adze_call *c)
{
    const conv2d_attrs *a = c->attrs;
    bool bn = c->in[CONV2D_GAMMA].present, add = c->in[CONV2D_RESIDUAL].present, act = a->act != ADZE_ACT_NONE;
    static const char *const names[8] = { "conv2d",     "conv2d+act",    "conv2d+add",    "conv2d+add+act",
                                          "conv2d+bn",  "conv2d+bn+act", "conv2d+bn+add", "conv2d+bn+add+act" };
    return names[(bn ? 4 : 0) + (add ? 2 : 0) + (act ? 1 : 0)];
}

const adze_op_def adze_op_conv2d = {
    .name = "conv2d",
    .attrs_bytes = sizeof(conv2d_attrs),
    .shape = conv2d_shape,
    .flops = conv2d_flops,
    .forward = conv2d_fwd,
    .backward = conv2d_bwd,
    .backward_reads_in = 1u << CONV2D_X | 1u << CONV2D_W,
    .in_place_input = CONV2D_RESIDUAL,
    .label = conv2d_label,
};

adze_value adze_conv2d(adze_graph *g, adze_value x, adze_value w, adze_value b, const adze_conv2d_opts *opts)
{
    conv2d_attrs a = { .o = *opts, .act = ADZE_ACT_NONE };
    return adze_graph_add(g, ADZE_OP_conv2d, &a, (adze_value[]){ x, w, b }, 3, 1);
}

adze_conv2d_opts adze_conv2d_same_opts(adze_shape x, int64_t Kh, int64_t Kw, int stride, int groups)
{
    adze_conv2d_opts o = ADZE_CONV2D_OPTS;
    int64_t kernel[2] = { Kh, Kw };
    o.groups = groups;
    for (int d = 0; d < 2; d++) {
        int64_t n = x.dim[1 + d], out = (n + stride - 1) / stride;
        int64_t total = (out - 1) * stride + kernel[d] - n;
        if (total < 0) total = 0;
        o.stride[d] = stride;
        o.pad[d] = (int)(total / 2);
        o.pad[d + 2] = (int)(total - total / 2);
    }
    return o;
}

/* An image of one row, padded on the left alone. */
adze_value adze_conv1d_causal(adze_graph *g, adze_value x, adze_value w, adze_value b)
{
    adze_shape xs = adze_graph_shape(g, x), ws = adze_graph_shape(g, w);
    char xt[ADZE_SHAPE_TEXT], wt[ADZE_SHAPE_TEXT];
    if (xs.rank != 3 || ws.rank != 4 || ws.dim[0] != xs.dim[2] || ws.dim[2] != 1)
        return adze_graph_fail(g, ADZE_ESHAPE, "conv1d_causal: x %s and w %s", adze_shape_text(&xs, xt), adze_shape_text(&ws, wt));
    adze_conv2d_opts o = ADZE_CONV2D_OPTS;
    o.groups = (int)xs.dim[2];
    o.pad[1] = (int)ws.dim[3] - 1;
    return adze_reshape(g, adze_conv2d(g, adze_reshape(g, x, ADZE_SHAPE(xs.dim[0], 1, xs.dim[1], xs.dim[2])), w, b, &o), xs);
}
