/* op_batch_norm.c - batch normalisation with given statistics (evaluation mode).
 *
 *   in      x (...,C)   gamma beta mean var (C)
 *   y       (x - mean)/sqrt(var + eps)*gamma + beta
 *   dx      dy gamma rstd      dgamma  sum of dy (x - mean) rstd      dbeta  sum of dy      rstd = 1/sqrt(var + eps)
 *   source  torch.nn.BatchNorm2d in eval mode */
#include <inttypes.h>
#include <math.h>

#include "core/op_batch_norm.h"
#include "core/ops.h"

static adze_status batch_norm_shape(adze_call *c)
{
    const adze_shape *x = &c->in[BATCH_NORM_X].shape;
    if (x->rank < 1) return adze_fail(ADZE_ESHAPE, "x is a scalar");
    int64_t C = x->dim[x->rank - 1];
    for (int i = BATCH_NORM_GAMMA; i < BATCH_NORM_OPERANDS; i++) {
        if (c->in[i].present && c->in[i].shape.rank == 1 && c->in[i].shape.dim[0] == C) continue;
        char text[ADZE_SHAPE_TEXT];
        return adze_fail(ADZE_ESHAPE, "operand %d has shape %s, want (%" PRId64 ")", i,
                         adze_shape_text(&c->in[i].shape, text), C);
    }
    c->out[0].shape = *x;
    return ADZE_OK;
}

static double batch_norm_flops(const adze_call *c)
{
    return 2.0 * (double)adze_shape_count(&c->out[0].shape);
}

static adze_status batch_norm_fwd(const adze_call *c)
{
    const batch_norm_attrs *a = c->attrs;
    const adze_shape *s = &c->in[BATCH_NORM_X].shape;
    int64_t C = s->dim[s->rank - 1], rows = adze_shape_count(s) / C;
    for (int64_t k = 0; k < C; k++) {
        double rstd = 1.0 / sqrt((double)c->in[BATCH_NORM_VAR].data[k] + a->eps);
        double gamma = c->in[BATCH_NORM_GAMMA].data[k], beta = c->in[BATCH_NORM_BETA].data[k];
        double mean = c->in[BATCH_NORM_MEAN].data[k];
        for (int64_t r = 0; r < rows; r++)
            c->out[0].data[r * C + k] = (float)((c->in[BATCH_NORM_X].data[r * C + k] - mean) * rstd * gamma + beta);
    }
    return ADZE_OK;
}

static adze_status batch_norm_bwd(const adze_call *c)
{
    const batch_norm_attrs *a = c->attrs;
    const adze_shape *s = &c->in[BATCH_NORM_X].shape;
    int64_t C = s->dim[s->rank - 1], rows = adze_shape_count(s) / C;
    const float *dy = c->out[0].grad;
    if (c->in[BATCH_NORM_MEAN].wanted || c->in[BATCH_NORM_VAR].wanted)
        return adze_fail(ADZE_EINVAL, "batch_norm: the given statistics have no gradient");
    for (int64_t k = 0; k < C; k++) {
        double rstd = 1.0 / sqrt((double)c->in[BATCH_NORM_VAR].data[k] + a->eps), sum = 0.0, product = 0.0;
        for (int64_t r = 0; r < rows; r++) {
            sum += dy[r * C + k];
            product += dy[r * C + k] * ((double)c->in[BATCH_NORM_X].data[r * C + k] - c->in[BATCH_NORM_MEAN].data[k]) * rstd;
            if (c->in[BATCH_NORM_X].wanted)
                adze_grad_put(&c->in[BATCH_NORM_X], r * C + k, dy[r * C + k] * rstd * c->in[BATCH_NORM_GAMMA].data[k]);
        }
        if (c->in[BATCH_NORM_GAMMA].wanted) adze_grad_put(&c->in[BATCH_NORM_GAMMA], k, product);
        if (c->in[BATCH_NORM_BETA].wanted) adze_grad_put(&c->in[BATCH_NORM_BETA], k, sum);
    }
    return ADZE_OK;
}

const adze_op_def adze_op_batch_norm = {
    .name = "batch_norm",
    .attrs_bytes = sizeof(batch_norm_attrs),
    .shape = batch_norm_shape,
    .flops = batch_norm_flops,
    .forward = batch_norm_fwd,
    .backward = batch_norm_bwd,
    .backward_reads_in = 1u << BATCH_NORM_X | 1u << BATCH_NORM_GAMMA | 1u << BATCH_NORM_MEAN | 1u << BATCH_NORM_VAR,
    .in_place_input = BATCH_NORM_X,
};

adze_value adze_batch_norm(adze_graph *g, adze_value x, adze_value gamma, adze_value beta, adze_value mean,
                           adze_value var, float eps)
{
    batch_norm_attrs a = { .eps = eps };
    return adze_graph_add(g, ADZE_OP_batch_norm, &a, (adze_value[]){ x, gamma, beta, mean, var }, 5, 1);
}
