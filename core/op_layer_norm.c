/* op_layer_norm.c - rows of the last `dims` dimensions together to mean 0 and variance 1.         D elements per row
 *
 *   in      x (...,D)   [gamma beta (D)]        u = (x - mean) rstd, rstd = 1/sqrt(var + eps), biased variance
 *   y       u gamma + beta
 *   dx      rstd (g - mean(g) - u mean(g u)), g = dy gamma      dgamma  sum of dy u      dbeta  sum of dy
 *   saved   mean, rstd per row                  source: torch.nn.functional.layer_norm */
#include "core/op_layer_norm.h"

#include <math.h>

#include "core/ops.h"

static int64_t row_of(const adze_call *c)
{
    const adze_shape *x = &c->in[LAYER_NORM_X].shape;
    return adze_shape_span(x, x->rank - ((const layer_norm_attrs *)c->attrs)->dims, x->rank);
}

static adze_status layer_norm_shape(adze_call *c)
{
    const layer_norm_attrs *a = c->attrs;
    const adze_shape *x = &c->in[LAYER_NORM_X].shape;
    char xs[ADZE_SHAPE_TEXT], ws[ADZE_SHAPE_TEXT];
    if (a->dims < 1 || a->dims > x->rank)
        return adze_fail(ADZE_ESHAPE, "x %s has not %d dimensions to normalise", adze_shape_text(x, xs), (int)a->dims);
    int64_t D = row_of(c);
    for (int i = LAYER_NORM_GAMMA; i <= LAYER_NORM_BETA; i++)
        if (c->in[i].present && adze_shape_count(&c->in[i].shape) != D)
            return adze_fail(ADZE_ESHAPE, "x %s over %d dimensions and factors %s", adze_shape_text(x, xs), (int)a->dims,
                             adze_shape_text(&c->in[i].shape, ws));
    c->out[0].shape = *x;
    c->out[1].shape = ADZE_SHAPE(adze_shape_count(x) / D, 2);
    return ADZE_OK;
}

static double layer_norm_flops(const adze_call *c)
{
    return 8.0 * (double)adze_shape_count(&c->out[0].shape);
}

static adze_status layer_norm_fwd(const adze_call *c)
{
    const layer_norm_attrs *a = c->attrs;
    const float *gamma = c->in[LAYER_NORM_GAMMA].data, *beta = c->in[LAYER_NORM_BETA].data;
    int64_t D = row_of(c), rows = adze_shape_count(&c->in[LAYER_NORM_X].shape) / D;
    for (int64_t r = 0; r < rows; r++) {
        const float *x = c->in[LAYER_NORM_X].data + r * D;
        double mean = 0.0, var = 0.0;
        for (int64_t d = 0; d < D; d++) mean += x[d];
        mean /= (double)D;
        for (int64_t d = 0; d < D; d++) var += (x[d] - mean) * (x[d] - mean);
        double rstd = 1.0 / sqrt(var / (double)D + a->eps);
        for (int64_t d = 0; d < D; d++)
            c->out[0].data[r * D + d] = (float)((x[d] - mean) * rstd * (gamma ? gamma[d] : 1.0f) + (beta ? beta[d] : 0.0f));
        c->out[1].data[2 * r] = (float)mean, c->out[1].data[2 * r + 1] = (float)rstd;
    }
    return ADZE_OK;
}

static adze_status layer_norm_bwd(const adze_call *c)
{
    const float *gamma = c->in[LAYER_NORM_GAMMA].data, *saved = c->out[1].data, *x = c->in[LAYER_NORM_X].data, *dy = c->out[0].grad;
    int64_t D = row_of(c), rows = adze_shape_count(&c->in[LAYER_NORM_X].shape) / D;
    for (int64_t d = 0; d < D; d++) {
        double sum = 0.0, product = 0.0;
        for (int64_t r = 0; r < rows; r++) {
            sum += dy[r * D + d];
            product += dy[r * D + d] * ((double)x[r * D + d] - saved[2 * r]) * saved[2 * r + 1];
        }
        if (c->in[LAYER_NORM_GAMMA].wanted) adze_grad_put(&c->in[LAYER_NORM_GAMMA], d, product);
        if (c->in[LAYER_NORM_BETA].wanted) adze_grad_put(&c->in[LAYER_NORM_BETA], d, sum);
    }
    for (int64_t r = 0; r < rows && c->in[LAYER_NORM_X].wanted; r++) {
        double mean = saved[2 * r], rstd = saved[2 * r + 1], sum = 0.0, product = 0.0;
        for (int64_t d = 0; d < D; d++) {
            double g = dy[r * D + d] * (gamma ? (double)gamma[d] : 1.0);
            sum += g;
            product += g * (x[r * D + d] - mean) * rstd;
        }
        for (int64_t d = 0; d < D; d++) {
            double g = dy[r * D + d] * (gamma ? (double)gamma[d] : 1.0), u = (x[r * D + d] - mean) * rstd;
            adze_grad_put(&c->in[LAYER_NORM_X], r * D + d, rstd * (g - sum / (double)D - u * product / (double)D));
        }
    }
    return ADZE_OK;
}

const adze_op_def adze_op_layer_norm = {
    .name = "layer_norm",
    .attrs_bytes = sizeof(layer_norm_attrs),
    .shape = layer_norm_shape,
    .flops = layer_norm_flops,
    .forward = layer_norm_fwd,
    .backward = layer_norm_bwd,
    .backward_reads_in = 1u << LAYER_NORM_X | 1u << LAYER_NORM_GAMMA,
    .in_place_input = LAYER_NORM_X,
};

adze_value adze_layer_norm(adze_graph *g, adze_value x, adze_value gamma, adze_value beta, int dims, float eps)
{
    layer_norm_attrs a = { .dims = dims, .eps = eps };
    return adze_graph_add(g, ADZE_OP_layer_norm, &a, (adze_value[]){ x, gamma, beta }, 3, 2);
}
