/* op_reduce.c - one dimension to one number: sum, mean, variance, length, maximum.
 *
 *   sum, mean          dx  dy, dy/n
 *   var  sum (x - mean)^2 / n             dx  2 dy (x - mean)/n
 *   norm sqrt(sum x^2)                    dx  dy x / norm, 0 at norm 0
 *   max  the first of equal maxima; its index is the second output        dx  dy there
 *   source: torch.sum, mean, var(unbiased=False), linalg.vector_norm, max */
#include "core/op_reduce.h"

#include <math.h>

#include "core/axis.h"
#include "core/ops.h"

static adze_status reduce_shape(adze_call *c)
{
    const reduce_attrs *a = c->attrs;
    const adze_shape *x = &c->in[0].shape;
    char text[ADZE_SHAPE_TEXT];
    int dim = adze_axis_index(x, a->dim);
    if (dim < 0) return adze_fail(ADZE_ESHAPE, "%s has no dimension %d", adze_shape_text(x, text), (int)a->dim);
    adze_shape y = *x;
    y.dim[dim] = 1;
    if (!a->keepdim && x->rank > 1) {
        for (int d = dim; d + 1 < y.rank; d++) y.dim[d] = y.dim[d + 1];
        y.rank--;
    }
    for (int i = 0; i < c->n_out; i++) c->out[i].shape = y;
    return ADZE_OK;
}

static double reduce_flops(const adze_call *c)
{
    return (double)adze_shape_count(&c->in[0].shape);
}

static double mean_of(const float *x, adze_axis s)
{
    double sum = 0.0;
    for (int64_t i = 0; i < s.n; i++) sum += x[i * s.inner];
    return sum / (double)s.n;
}

static double norm_of(const float *x, adze_axis s)
{
    double sum = 0.0;
    for (int64_t i = 0; i < s.n; i++) sum += (double)x[i * s.inner] * x[i * s.inner];
    return sqrt(sum);
}

static double var_of(const float *x, adze_axis s)
{
    double mean = mean_of(x, s), sum = 0.0;
    for (int64_t i = 0; i < s.n; i++) sum += (x[i * s.inner] - mean) * (x[i * s.inner] - mean);
    return sum / (double)s.n;
}

static int64_t first_maximum(const float *x, adze_axis s)
{
    int64_t best = 0;
    for (int64_t i = 1; i < s.n; i++)
        if (x[i * s.inner] > x[best * s.inner] || (isnan(x[i * s.inner]) && !isnan(x[best * s.inner]))) best = i;
    return best;
}

static adze_status reduce_fwd(const adze_call *c)
{
    const reduce_attrs *a = c->attrs;
    adze_axis s = adze_axis_of(&c->in[0].shape, a->dim);
    for (int64_t line = 0; line < s.outer * s.inner; line++) {
        const float *x = c->in[0].data + line / s.inner * s.n * s.inner + line % s.inner;
        double y = 0.0;
        switch ((adze_reduce_fn)a->fn) {
        case ADZE_REDUCE_SUM: y = mean_of(x, s) * (double)s.n; break;
        case ADZE_REDUCE_MEAN: y = mean_of(x, s); break;
        case ADZE_REDUCE_VAR: y = var_of(x, s); break;
        case ADZE_REDUCE_NORM: y = norm_of(x, s); break;
        case ADZE_REDUCE_MAX:
            c->out[1].data[line] = (float)first_maximum(x, s);
            y = x[first_maximum(x, s) * s.inner];
            break;
        }
        c->out[0].data[line] = (float)y;
    }
    return ADZE_OK;
}

static unsigned reduce_reads(const void *attrs)
{
    int fn = ((const reduce_attrs *)attrs)->fn;
    return fn == ADZE_REDUCE_VAR || fn == ADZE_REDUCE_NORM ? 1u : 0u;
}

static adze_status reduce_bwd(const adze_call *c)
{
    const reduce_attrs *a = c->attrs;
    adze_axis s = adze_axis_of(&c->in[0].shape, a->dim);
    for (int64_t line = 0; line < s.outer * s.inner; line++) {
        int64_t at = line / s.inner * s.n * s.inner + line % s.inner;
        const float *x = c->in[0].data + (reduce_reads(a) ? at : 0);
        double dy = c->out[0].grad[line], mean = a->fn == ADZE_REDUCE_VAR ? mean_of(x, s) : 0.0;
        double norm = a->fn == ADZE_REDUCE_NORM ? norm_of(x, s) : 0.0;
        for (int64_t i = 0; i < s.n; i++) {
            double dx = 0.0;
            switch ((adze_reduce_fn)a->fn) {
            case ADZE_REDUCE_SUM: dx = dy; break;
            case ADZE_REDUCE_MEAN: dx = dy / (double)s.n; break;
            case ADZE_REDUCE_VAR: dx = 2.0 * dy * (x[i * s.inner] - mean) / (double)s.n; break;
            case ADZE_REDUCE_NORM: dx = norm > 0.0 ? dy * x[i * s.inner] / norm : 0.0; break;
            case ADZE_REDUCE_MAX: dx = (float)i == c->out[1].data[line] ? dy : 0.0; break;
            }
            adze_grad_put(&c->in[0], at + i * s.inner, dx);
        }
    }
    return ADZE_OK;
}

static const char *reduce_label(const adze_call *c)
{
    static const char *const names[] = { "sum", "mean", "var", "norm", "max" };
    return names[((const reduce_attrs *)c->attrs)->fn];
}

const adze_op_def adze_op_reduce = {
    .name = "reduce",
    .attrs_bytes = sizeof(reduce_attrs),
    .shape = reduce_shape,
    .flops = reduce_flops,
    .forward = reduce_fwd,
    .backward = reduce_bwd,
    .backward_reads = reduce_reads,
    .in_place_input = -1,
    .label = reduce_label,
};

adze_value adze_reduce(adze_graph *g, adze_value x, adze_reduce_fn fn, int dim, bool keepdim, adze_value *index)
{
    reduce_attrs a = { .fn = fn, .dim = dim, .keepdim = keepdim };
    bool max = fn == ADZE_REDUCE_MAX;
    adze_value y = adze_graph_add(g, ADZE_OP_reduce, &a, &x, 1, max ? 2 : 1);
    if (index) *index = max && y != ADZE_NONE ? y + 1 : ADZE_NONE;
    return y;
}

adze_value adze_mean(adze_graph *g, adze_value x)
{
    adze_shape s = adze_graph_shape(g, x);
    return adze_reduce(g, adze_reshape(g, x, ADZE_SHAPE(adze_shape_count(&s))), ADZE_REDUCE_MEAN, 0, true, NULL);
}
