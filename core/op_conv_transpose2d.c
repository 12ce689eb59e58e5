/* op_conv_transpose2d.c - transposed two-dimensional convolution.
 *
 *   in   x (N,H,W,C)   w (C,Co/groups,Kh,Kw)   [b (Co)]
 *   y    (N,Ho,Wo,Co), Ho = (H-1)*stride - top - bottom + dilation*(Kh-1) + 1; bottom = padding - output_padding
 *        y[oy,ox,co] += x[iy,ix,ci] w[ci,co,ky,kx] for oy = iy*stride - top + ky*dilation, likewise ox
 *   dx   the convolution of dy with w      dw   x dy over positions      db   sum of dy
 *   source: torch.nn.functional.conv_transpose2d */
#include <inttypes.h>

#include "core/memory.h"
#include "core/op_conv2d.h"

static adze_status conv_transpose2d_shape(adze_call *c)
{
    const conv2d_attrs *a = c->attrs;
    const adze_shape *x = &c->in[CONV2D_X].shape, *w = &c->in[CONV2D_W].shape;
    char xs[ADZE_SHAPE_TEXT], ws[ADZE_SHAPE_TEXT];
    if (x->rank != 4 || w->rank != 4 || a->o.groups < 1 || x->dim[3] % a->o.groups != 0 || w->dim[0] != x->dim[3])
        return adze_fail(ADZE_ESHAPE, "x %s and w %s with %d groups", adze_shape_text(x, xs), adze_shape_text(w, ws), a->o.groups);
    int64_t Co = w->dim[1] * a->o.groups, out[2];
    if (c->in[CONV2D_B].present && adze_shape_count(&c->in[CONV2D_B].shape) != Co)
        return adze_fail(ADZE_ESHAPE, "bias of %" PRId64 " for %" PRId64 " channels", adze_shape_count(&c->in[CONV2D_B].shape), Co);
    for (int d = 0; d < 2; d++) {
        if (a->o.stride[d] < 1 || a->o.dilation[d] < 1) return adze_fail(ADZE_EINVAL, "stride and dilation start at 1");
        out[d] = (x->dim[1 + d] - 1) * a->o.stride[d] - a->o.pad[d] - a->o.pad[d + 2] + a->o.dilation[d] * (w->dim[2 + d] - 1) + 1;
    }
    c->out[0].shape = ADZE_SHAPE(x->dim[0], out[0], out[1], Co);
    return ADZE_OK;
}

static double conv_transpose2d_flops(const adze_call *c)
{
    return 2.0 * (double)adze_shape_count(&c->in[CONV2D_X].shape) * (double)adze_shape_span(&c->in[CONV2D_W].shape, 1, 4);
}

/* One product of the sum: where it is read and where it goes. */
typedef struct {
    int64_t x, w, y;
} term;

/* Calls visit(state, term) for every product, in a fixed order. */
static void for_each_term(const adze_call *c, void (*visit)(void *state, term t), void *state)
{
    const conv2d_attrs *a = c->attrs;
    const adze_shape *xs = &c->in[CONV2D_X].shape, *ws = &c->in[CONV2D_W].shape, *ys = &c->out[0].shape;
    int64_t C = xs->dim[3], Cog = ws->dim[1], Kh = ws->dim[2], Kw = ws->dim[3], Ho = ys->dim[1], Wo = ys->dim[2], Co = ys->dim[3];
    for (int64_t i = 0; i < adze_shape_count(xs); i++) {
        int64_t ci = i % C, ix = i / C % xs->dim[2], iy = i / C / xs->dim[2] % xs->dim[1], n = i / C / xs->dim[2] / xs->dim[1];
        int64_t first = ci / (C / a->o.groups) * Cog;
        for (int64_t k = 0; k < Cog * Kh * Kw; k++) {
            int64_t co = k / (Kh * Kw), ky = k / Kw % Kh, kx = k % Kw;
            int64_t oy = iy * a->o.stride[0] - a->o.pad[0] + ky * a->o.dilation[0];
            int64_t ox = ix * a->o.stride[1] - a->o.pad[1] + kx * a->o.dilation[1];
            if (oy < 0 || oy >= Ho || ox < 0 || ox >= Wo) continue;
            visit(state, (term){ i, ci * Cog * Kh * Kw + k, ((n * Ho + oy) * Wo + ox) * Co + first + co });
        }
    }
}

typedef struct {
    const float *a, *b;
    double *sum;
} products;

static void add_y(void *state, term t) { products *p = state; p->sum[t.y] += (double)p->a[t.x] * p->b[t.w]; }
static void add_x(void *state, term t) { products *p = state; p->sum[t.x] += (double)p->a[t.y] * p->b[t.w]; }
static void add_w(void *state, term t) { products *p = state; p->sum[t.w] += (double)p->a[t.y] * p->b[t.x]; }

static adze_status conv_transpose2d_fwd(const adze_call *c)
{
    int64_t n = adze_shape_count(&c->out[0].shape), Co = c->out[0].shape.dim[3];
    products p = { c->in[CONV2D_X].data, c->in[CONV2D_W].data, adze_calloc((size_t)n, sizeof(double)) };
    if (!p.sum) return adze_fail(ADZE_ENOMEM, "conv_transpose2d: %" PRId64 " sums", n);
    for_each_term(c, add_y, &p);
    for (int64_t i = 0; i < n; i++) c->out[0].data[i] = (float)(p.sum[i] + (c->in[CONV2D_B].data ? c->in[CONV2D_B].data[i % Co] : 0.0));
    adze_free(p.sum);
    return ADZE_OK;
}

/* One gradient: all sums of `visit` into arg. */
static adze_status gradient(const adze_call *c, const adze_arg *arg, void (*visit)(void *, term), const float *b)
{
    int64_t n = adze_shape_count(&arg->shape);
    products p = { c->out[0].grad, b, adze_calloc((size_t)n, sizeof(double)) };
    if (!p.sum) return adze_fail(ADZE_ENOMEM, "conv_transpose2d: %" PRId64 " sums", n);
    for_each_term(c, visit, &p);
    for (int64_t i = 0; i < n; i++) adze_grad_put(arg, i, p.sum[i]);
    adze_free(p.sum);
    return ADZE_OK;
}

static adze_status conv_transpose2d_bwd(const adze_call *c)
{
    adze_status st = ADZE_OK;
    int64_t Co = c->out[0].shape.dim[3], n = adze_shape_count(&c->out[0].shape);
    if (c->in[CONV2D_X].wanted) TRY(gradient(c, &c->in[CONV2D_X], add_x, c->in[CONV2D_W].data));
    if (c->in[CONV2D_W].wanted) TRY(gradient(c, &c->in[CONV2D_W], add_w, c->in[CONV2D_X].data));
    for (int64_t k = 0; k < Co && c->in[CONV2D_B].wanted; k++) {
        double sum = 0.0;
        for (int64_t i = k; i < n; i += Co) sum += c->out[0].grad[i];
        adze_grad_put(&c->in[CONV2D_B], k, sum);
    }
done:
    return st;
}

const adze_op_def adze_op_conv_transpose2d = {
    .name = "conv_transpose2d",
    .attrs_bytes = sizeof(conv2d_attrs),
    .shape = conv_transpose2d_shape,
    .flops = conv_transpose2d_flops,
    .forward = conv_transpose2d_fwd,
    .backward = conv_transpose2d_bwd,
    .backward_reads_in = 1u << CONV2D_X | 1u << CONV2D_W,
    .in_place_input = -1,
};

adze_value adze_conv_transpose2d(adze_graph *g, adze_value x, adze_value w, adze_value b, const adze_conv2d_opts *opts)
{
    conv2d_attrs a = { .o = *opts, .act = ADZE_ACT_NONE };
    return adze_graph_add(g, ADZE_OP_conv_transpose2d, &a, (adze_value[]){ x, w, b }, 3, 1);
}
