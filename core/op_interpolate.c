/* op_interpolate.c - resizing of maps as torch.nn.functional.interpolate does with a given size.
 *
 *   in    x (N,H,W,C)           y (N,Ho,Wo,C)
 *   nearest   source floor(i*n/m)
 *   bilinear  source (i + 0.5)*n/m - 0.5 clamped below at 0, or i*(n-1)/(m-1) with align_corners
 *   bicubic   a = -0.75, taps clamped to the map; same source without the clamp
 *   antialias kernel widened by max(1, n/m), weights normalised; bicubic then uses a = -0.5
 *
 * Every mode is two one-dimensional weightings, rows and columns: taps_of() lists them for one output position. */
#include <math.h>
#include <string.h>

#include "core/memory.h"
#include "core/op_interpolate.h"

static adze_status interpolate_shape(adze_call *c)
{
    const adze_interpolate_opts *o = &((const interpolate_attrs *)c->attrs)->o;
    const adze_shape *x = &c->in[0].shape;
    char text[ADZE_SHAPE_TEXT];
    if (x->rank != 4) return adze_fail(ADZE_ESHAPE, "x %s, want (N,H,W,C)", adze_shape_text(x, text));
    if (o->antialias && o->mode == ADZE_INTERPOLATE_NEAREST) return adze_fail(ADZE_EINVAL, "antialias needs a linear or cubic kernel");
    c->out[0].shape = ADZE_SHAPE(x->dim[0], o->out[0], o->out[1], x->dim[3]);
    return ADZE_OK;
}

static double cubic(double x, double a)
{
    x = fabs(x);
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    if (x < 2.0) return a * (((x - 5.0) * x + 8.0) * x - 4.0);
    return 0.0;
}

/* Source position of output i; the scale is rounded to float as the reference does without align_corners too. */
static double source_of(const adze_interpolate_opts *o, int64_t i, int64_t n, int64_t m)
{
    if (o->align_corners) return m > 1 ? (double)i * ((double)(n - 1) / (double)(m - 1)) : 0.0;
    return ((double)i + 0.5) * ((double)n / (double)m) - 0.5;
}

static int64_t clamp(int64_t i, int64_t n)
{
    return i < 0 ? 0 : i >= n ? n - 1 : i;
}

enum { MAX_TAPS = 4096 };

/* Indices and weights of the source elements that make output i; returns their number. */
static int taps_of(const adze_interpolate_opts *o, int64_t i, int64_t n, int64_t m, int64_t *index, double *weight)
{
    if (o->mode == ADZE_INTERPOLATE_NEAREST) {
        index[0] = clamp(i * n / m, n), weight[0] = 1.0;
        return 1;
    }
    if (o->antialias) {
        double scale = o->align_corners ? (m > 1 ? (double)(n - 1) / (double)(m - 1) : 0.0) : (double)n / (double)m;
        double widen = scale > 1.0 ? scale : 1.0;
        double support = (o->mode == ADZE_INTERPOLATE_BILINEAR ? 1.0 : 2.0) * widen;
        double center = scale * ((double)i + 0.5), sum = 0.0;
        int64_t from = (int64_t)(center - support + 0.5), to = (int64_t)(center + support + 0.5);
        from = from < 0 ? 0 : from, to = to > n ? n : to;
        int count = 0;
        for (int64_t j = from; j < to && count < MAX_TAPS; j++) {
            double d = ((double)j - center + 0.5) / widen;
            double w = o->mode == ADZE_INTERPOLATE_BILINEAR ? fmax(0.0, 1.0 - fabs(d)) : cubic(d, -0.5);
            index[count] = j, weight[count++] = w, sum += w;
        }
        for (int t = 0; t < count; t++) weight[t] /= sum;
        return count;
    }
    double s = source_of(o, i, n, m);
    if (o->mode == ADZE_INTERPOLATE_BILINEAR) {
        if (s < 0.0) s = 0.0;
        int64_t j = clamp((int64_t)s, n);
        index[0] = j, index[1] = clamp(j + 1, n);
        weight[1] = s - (double)j, weight[0] = 1.0 - weight[1];
        return 2;
    }
    int64_t j = (int64_t)floor(s);
    for (int t = 0; t < 4; t++) index[t] = clamp(j - 1 + t, n), weight[t] = cubic(s - (double)(j - 1 + t), -0.75);
    return 4;
}

static double interpolate_flops(const adze_call *c)
{
    const adze_interpolate_opts *o = &((const interpolate_attrs *)c->attrs)->o;
    double taps = o->mode == ADZE_INTERPOLATE_NEAREST ? 1.0 : o->mode == ADZE_INTERPOLATE_BILINEAR ? 4.0 : 16.0;
    return 2.0 * taps * (double)adze_shape_count(&c->out[0].shape);
}

static adze_status interpolate_fwd(const adze_call *c)
{
    const adze_interpolate_opts *o = &((const interpolate_attrs *)c->attrs)->o;
    const adze_shape *x = &c->in[0].shape, *y = &c->out[0].shape;
    int64_t H = x->dim[1], W = x->dim[2], C = x->dim[3], Ho = y->dim[1], Wo = y->dim[2];
    int64_t iy[MAX_TAPS], ix[MAX_TAPS];
    double wy[MAX_TAPS], wx[MAX_TAPS];
    for (int64_t oy = 0; oy < Ho; oy++) {
        int ny = taps_of(o, oy, H, Ho, iy, wy);
        for (int64_t ox = 0; ox < Wo; ox++) {
            int nx = taps_of(o, ox, W, Wo, ix, wx);
            for (int64_t n = 0; n < x->dim[0]; n++)
                for (int64_t k = 0; k < C; k++) {
                    double sum = 0.0;
                    for (int a = 0; a < ny; a++)
                        for (int b = 0; b < nx; b++)
                            sum += wy[a] * wx[b] * c->in[0].data[((n * H + iy[a]) * W + ix[b]) * C + k];
                    c->out[0].data[((n * Ho + oy) * Wo + ox) * C + k] = (float)sum;
                }
        }
    }
    return ADZE_OK;
}

static adze_status interpolate_bwd(const adze_call *c)
{
    const adze_interpolate_opts *o = &((const interpolate_attrs *)c->attrs)->o;
    const adze_shape *x = &c->in[0].shape, *y = &c->out[0].shape;
    int64_t H = x->dim[1], W = x->dim[2], C = x->dim[3], Ho = y->dim[1], Wo = y->dim[2], n_x = adze_shape_count(x);
    int64_t iy[MAX_TAPS], ix[MAX_TAPS];
    double wy[MAX_TAPS], wx[MAX_TAPS], *sum = adze_calloc((size_t)n_x, sizeof *sum);
    if (!sum) return adze_fail(ADZE_ENOMEM, "interpolate: sums");
    for (int64_t oy = 0; oy < Ho; oy++) {
        int ny = taps_of(o, oy, H, Ho, iy, wy);
        for (int64_t ox = 0; ox < Wo; ox++) {
            int nx = taps_of(o, ox, W, Wo, ix, wx);
            for (int64_t n = 0; n < x->dim[0]; n++)
                for (int64_t k = 0; k < C; k++) {
                    double dy = c->out[0].grad[((n * Ho + oy) * Wo + ox) * C + k];
                    for (int a = 0; a < ny; a++)
                        for (int b = 0; b < nx; b++) sum[((n * H + iy[a]) * W + ix[b]) * C + k] += wy[a] * wx[b] * dy;
                }
        }
    }
    for (int64_t i = 0; i < n_x; i++) adze_grad_put(&c->in[0], i, sum[i]);
    adze_free(sum);
    return ADZE_OK;
}

const adze_op_def adze_op_interpolate = {
    .name = "interpolate",
    .attrs_bytes = sizeof(interpolate_attrs),
    .shape = interpolate_shape,
    .flops = interpolate_flops,
    .forward = interpolate_fwd,
    .backward = interpolate_bwd,
    .in_place_input = -1,
};

adze_value adze_interpolate(adze_graph *g, adze_value x, const adze_interpolate_opts *opts)
{
    interpolate_attrs a;
    memset(&a, 0, sizeof a); /* padding counts in keys of the graph */
    a.o.mode = opts->mode, a.o.out[0] = opts->out[0], a.o.out[1] = opts->out[1];
    a.o.align_corners = opts->align_corners, a.o.antialias = opts->antialias;
    return adze_graph_add(g, ADZE_OP_interpolate, &a, &x, 1, 1);
}
