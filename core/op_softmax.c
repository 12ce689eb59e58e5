/* op_softmax.c - softmax and its logarithm along one dimension.
 *
 *   y    exp(x - m) / sum exp(x - m), m = max x         log: x - m - log(sum exp(x - m))
 *   dx   y (dy - sum(y dy))                             log: dy - exp(y) sum(dy)
 *   source: torch.softmax, torch.log_softmax */
#include "core/op_softmax.h"

#include <math.h>

#include "core/axis.h"
#include "core/ops.h"

static adze_status softmax_shape(adze_call *c)
{
    const softmax_attrs *a = c->attrs;
    char text[ADZE_SHAPE_TEXT];
    if (adze_axis_index(&c->in[0].shape, a->dim) < 0)
        return adze_fail(ADZE_ESHAPE, "%s has no dimension %d", adze_shape_text(&c->in[0].shape, text), (int)a->dim);
    c->out[0].shape = c->in[0].shape;
    return ADZE_OK;
}

static double softmax_flops(const adze_call *c)
{
    return 4.0 * (double)adze_shape_count(&c->in[0].shape);
}

static adze_status softmax_fwd(const adze_call *c)
{
    const softmax_attrs *a = c->attrs;
    adze_axis s = adze_axis_of(&c->in[0].shape, a->dim);
    for (int64_t line = 0; line < s.outer * s.inner; line++) {
        int64_t at = line / s.inner * s.n * s.inner + line % s.inner;
        const float *x = c->in[0].data + at;
        float *y = c->out[0].data + at;
        double m = -INFINITY, sum = 0.0;
        for (int64_t i = 0; i < s.n; i++) m = fmax(m, x[i * s.inner]);
        for (int64_t i = 0; i < s.n; i++) sum += exp(x[i * s.inner] - m);
        for (int64_t i = 0; i < s.n; i++) {
            double d = x[i * s.inner] - m;
            y[i * s.inner] = (float)(a->log ? d - log(sum) : exp(d) / sum);
        }
    }
    return ADZE_OK;
}

static adze_status softmax_bwd(const adze_call *c)
{
    const softmax_attrs *a = c->attrs;
    adze_axis s = adze_axis_of(&c->in[0].shape, a->dim);
    for (int64_t line = 0; line < s.outer * s.inner; line++) {
        int64_t at = line / s.inner * s.n * s.inner + line % s.inner;
        const float *y = c->out[0].data + at, *dy = c->out[0].grad + at;
        double k = 0.0;
        for (int64_t i = 0; i < s.n; i++) k += a->log ? dy[i * s.inner] : (double)y[i * s.inner] * dy[i * s.inner];
        for (int64_t i = 0; i < s.n; i++) {
            double v = y[i * s.inner], d = dy[i * s.inner];
            adze_grad_put(&c->in[0], at + i * s.inner, a->log ? d - exp(v) * k : v * (d - k));
        }
    }
    return ADZE_OK;
}

static const char *softmax_label(const adze_call *c)
{
    return ((const softmax_attrs *)c->attrs)->log ? "log_softmax" : "softmax";
}

const adze_op_def adze_op_softmax = {
    .name = "softmax",
    .attrs_bytes = sizeof(softmax_attrs),
    .shape = softmax_shape,
    .flops = softmax_flops,
    .forward = softmax_fwd,
    .backward = softmax_bwd,
    .backward_reads_out = true,
    .in_place_input = 0,
    .label = softmax_label,
};

adze_value adze_softmax(adze_graph *g, adze_value x, int dim)
{
    softmax_attrs a = { .dim = dim, .log = false };
    return adze_graph_add(g, ADZE_OP_softmax, &a, &x, 1, 1);
}

adze_value adze_log_softmax(adze_graph *g, adze_value x, int dim)
{
    softmax_attrs a = { .dim = dim, .log = true };
    return adze_graph_add(g, ADZE_OP_softmax, &a, &x, 1, 1);
}
