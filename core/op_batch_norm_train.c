/* op_batch_norm_train.c - batch normalisation with the batch's own statistics, with an optional residual and (leaky) ReLU behind it.
 *
 *   in      x (...,C)   gamma beta (C)   running mean, var (C), written   [r = x's shape]        n rows per channel
 *   mean    sum x / n        var  sum x^2 / n - mean^2 (in double)        rstd = 1/sqrt(var + eps)
 *   y       z = (x - mean) rstd gamma + beta [+ r], with ReLU max(z, slope z)
 *   dz      dy where y > 0 or without ReLU, else slope dy       dr   dz
 *   dbeta   sum dz        dgamma  sum dz h,  h = (x - mean) rstd
 *   dx      gamma rstd (dz - dbeta/n - h dgamma/n)
 *   running r = (1 - momentum) r + momentum * batch, the variance times n/(n-1)
 *   source  torch.nn.BatchNorm2d in train mode */
#include "core/op_batch_norm_train.h"

#include <inttypes.h>
#include <math.h>

static adze_status batch_norm_train_shape(adze_call *c)
{
    const adze_shape *x = &c->in[BN_TRAIN_X].shape;
    char text[ADZE_SHAPE_TEXT];
    if (x->rank < 2) return adze_fail(ADZE_ESHAPE, "x %s, want rows of channels", adze_shape_text(x, text));
    int64_t C = x->dim[x->rank - 1];
    for (int i = BN_TRAIN_GAMMA; i <= BN_TRAIN_VAR; i++)
        if (!c->in[i].present || c->in[i].shape.rank != 1 || c->in[i].shape.dim[0] != C)
            return adze_fail(ADZE_ESHAPE, "operand %d has shape %s, want (%" PRId64 ")", i, adze_shape_text(&c->in[i].shape, text), C);
    if (c->in[BN_TRAIN_RESIDUAL].present && !adze_shape_equal(&c->in[BN_TRAIN_RESIDUAL].shape, x))
        return adze_fail(ADZE_ESHAPE, "a residual of shape %s", adze_shape_text(&c->in[BN_TRAIN_RESIDUAL].shape, text));
    if (adze_shape_count(x) / C < 2) return adze_fail(ADZE_ESHAPE, "x %s: one value per channel has no variance", adze_shape_text(x, text));
    float slope = ((const batch_norm_train_attrs *)c->attrs)->o.slope;
    if (!(slope >= 0.0f && slope < 1.0f)) return adze_fail(ADZE_EINVAL, "slope %g, want 0 to below 1", (double)slope);
    c->out[0].shape = *x;
    c->out[1].shape = ADZE_SHAPE(2, C);
    return ADZE_OK;
}

static double batch_norm_train_flops(const adze_call *c)
{
    return 6.0 * (double)adze_shape_count(&c->out[0].shape);
}

void adze_batch_norm_statistics(const adze_call *c, int64_t k, double sum, double sum2, int64_t n)
{
    const batch_norm_train_attrs *a = c->attrs;
    int64_t C = c->out[1].shape.dim[1];
    double mean = sum / (double)n, var = sum2 / (double)n - mean * mean;
    if (var < 0.0) var = 0.0;
    c->out[1].data[k] = (float)mean;
    c->out[1].data[C + k] = (float)(1.0 / sqrt(var + (double)a->o.eps));
    float *rm = &c->in[BN_TRAIN_MEAN].data[k], *rv = &c->in[BN_TRAIN_VAR].data[k];
    double m = (double)a->o.momentum;
    *rm = (float)((1.0 - m) * *rm + m * mean);
    *rv = (float)((1.0 - m) * *rv + m * var * ((double)n / (double)(n - 1)));
}

static adze_status batch_norm_train_fwd(const adze_call *c)
{
    const batch_norm_train_attrs *a = c->attrs;
    int64_t C = c->out[1].shape.dim[1], n = adze_shape_count(&c->in[BN_TRAIN_X].shape) / C;
    const float *x = c->in[BN_TRAIN_X].data, *residual = c->in[BN_TRAIN_RESIDUAL].data;
    for (int64_t k = 0; k < C; k++) {
        double sum = 0.0, sum2 = 0.0;
        for (int64_t r = 0; r < n; r++) sum += x[r * C + k];
        for (int64_t r = 0; r < n; r++) sum2 += (double)x[r * C + k] * x[r * C + k];
        adze_batch_norm_statistics(c, k, sum, sum2, n);
        double mean = sum / (double)n, var = fmax(0.0, sum2 / (double)n - mean * mean), rstd = 1.0 / sqrt(var + (double)a->o.eps);
        for (int64_t r = 0; r < n; r++) {
            double y = (x[r * C + k] - mean) * rstd * c->in[BN_TRAIN_GAMMA].data[k] + c->in[BN_TRAIN_BETA].data[k];
            if (residual) y += residual[r * C + k];
            c->out[0].data[r * C + k] = (float)(a->o.relu && y < 0.0 ? a->o.slope * y : y);
        }
    }
    return ADZE_OK;
}

static adze_status batch_norm_train_bwd(const adze_call *c)
{
    const batch_norm_train_attrs *a = c->attrs;
    int64_t C = c->out[1].shape.dim[1], n = adze_shape_count(&c->in[BN_TRAIN_X].shape) / C;
    const float *x = c->in[BN_TRAIN_X].data, *dy = c->out[0].grad, *y = c->out[0].data;
    for (int64_t k = 0; k < C; k++) {
        double mean = c->out[1].data[k], rstd = c->out[1].data[C + k], gamma = c->in[BN_TRAIN_GAMMA].data[k], sum = 0.0, product = 0.0;
        for (int64_t i = k; i < n * C; i += C) {
            double dz = a->o.relu && !(y[i] > 0.0f) ? (double)a->o.slope * dy[i] : dy[i];
            sum += dz;
            product += dz * (x[i] - mean) * rstd;
        }
        for (int64_t i = k; i < n * C; i += C) {
            double dz = a->o.relu && !(y[i] > 0.0f) ? (double)a->o.slope * dy[i] : dy[i], h = (x[i] - mean) * rstd;
            if (c->in[BN_TRAIN_X].wanted)
                adze_grad_put(&c->in[BN_TRAIN_X], i, gamma * rstd * (dz - sum / (double)n - h * product / (double)n));
            if (c->in[BN_TRAIN_RESIDUAL].wanted) adze_grad_put(&c->in[BN_TRAIN_RESIDUAL], i, dz);
        }
        if (c->in[BN_TRAIN_GAMMA].wanted) adze_grad_put(&c->in[BN_TRAIN_GAMMA], k, product);
        if (c->in[BN_TRAIN_BETA].wanted) adze_grad_put(&c->in[BN_TRAIN_BETA], k, sum);
    }
    return ADZE_OK;
}

static const char *batch_norm_train_label(const adze_call *c)
{
    const adze_batch_norm_opts *o = &((const batch_norm_train_attrs *)c->attrs)->o;
    bool add = c->in[BN_TRAIN_RESIDUAL].present;
    if (o->relu && o->slope > 0.0f) return add ? "bn+add+leaky_relu" : "bn+leaky_relu";
    return add ? (o->relu ? "bn+add+relu" : "bn+add") : o->relu ? "bn+relu" : "bn";
}

const adze_op_def adze_op_batch_norm_train = {
    .name = "batch_norm_train",
    .attrs_bytes = sizeof(batch_norm_train_attrs),
    .shape = batch_norm_train_shape,
    .flops = batch_norm_train_flops,
    .forward = batch_norm_train_fwd,
    .backward = batch_norm_train_bwd,
    .backward_reads_in = 1u << BN_TRAIN_X | 1u << BN_TRAIN_GAMMA,
    .writes_in = 1u << BN_TRAIN_MEAN | 1u << BN_TRAIN_VAR,
    .backward_reads_out = true,
    .in_place_input = BN_TRAIN_RESIDUAL,
    .label = batch_norm_train_label,
};

adze_value adze_batch_norm_train(adze_graph *g, adze_value x, adze_value gamma, adze_value beta, adze_value running_mean,
                                 adze_value running_var, adze_value residual, const adze_batch_norm_opts *opts)
{
    batch_norm_train_attrs a = { .o = *opts };
    return adze_graph_add(g, ADZE_OP_batch_norm_train, &a,
                          (adze_value[]){ x, gamma, beta, running_mean, running_var, residual }, BN_TRAIN_OPERANDS, 2);
}
