/* op_linear.c - fully connected layer.
 *
 *   in   x (...,K)   w (M,K)   [b (M)]        y = x w^T + b, (...,M)
 *   dx   dy w      dw   dy^T x      db   column sums of dy
 *   source: torch.nn.functional.linear */
#include "core/op_linear.h"

#include "core/ops.h"

static adze_status linear_shape(adze_call *c)
{
    const adze_shape *x = &c->in[LINEAR_X].shape, *w = &c->in[LINEAR_W].shape;
    char xs[ADZE_SHAPE_TEXT], ws[ADZE_SHAPE_TEXT];
    if (x->rank < 1 || w->rank != 2 || x->dim[x->rank - 1] != w->dim[1])
        return adze_fail(ADZE_ESHAPE, "x %s and w %s", adze_shape_text(x, xs), adze_shape_text(w, ws));
    if (c->in[LINEAR_B].present && adze_shape_count(&c->in[LINEAR_B].shape) != w->dim[0])
        return adze_fail(ADZE_ESHAPE, "w %s and bias %s", adze_shape_text(w, ws),
                         adze_shape_text(&c->in[LINEAR_B].shape, xs));
    c->out[0].shape = *x;
    c->out[0].shape.dim[x->rank - 1] = w->dim[0];
    return ADZE_OK;
}

static double linear_flops(const adze_call *c)
{
    return 2.0 * (double)adze_shape_count(&c->out[0].shape) * (double)c->in[LINEAR_W].shape.dim[1];
}

static adze_status linear_fwd(const adze_call *c)
{
    int64_t M = c->in[LINEAR_W].shape.dim[0], K = c->in[LINEAR_W].shape.dim[1];
    int64_t rows = adze_shape_count(&c->in[LINEAR_X].shape) / K;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t m = 0; m < M; m++) {
            double sum = c->in[LINEAR_B].data ? c->in[LINEAR_B].data[m] : 0.0;
            for (int64_t k = 0; k < K; k++)
                sum += (double)c->in[LINEAR_X].data[r * K + k] * c->in[LINEAR_W].data[m * K + k];
            c->out[0].data[r * M + m] = (float)sum;
        }
    return ADZE_OK;
}

static adze_status linear_bwd(const adze_call *c)
{
    int64_t M = c->in[LINEAR_W].shape.dim[0], K = c->in[LINEAR_W].shape.dim[1];
    int64_t rows = adze_shape_count(&c->in[LINEAR_X].shape) / K;
    const float *dy = c->out[0].grad, *x = c->in[LINEAR_X].data, *w = c->in[LINEAR_W].data;
    for (int64_t i = 0; i < rows * K && c->in[LINEAR_X].wanted; i++) {
        double sum = 0.0;
        for (int64_t m = 0; m < M; m++) sum += (double)dy[i / K * M + m] * w[m * K + i % K];
        adze_grad_put(&c->in[LINEAR_X], i, sum);
    }
    for (int64_t i = 0; i < M * K && c->in[LINEAR_W].wanted; i++) {
        double sum = 0.0;
        for (int64_t r = 0; r < rows; r++) sum += (double)dy[r * M + i / K] * x[r * K + i % K];
        adze_grad_put(&c->in[LINEAR_W], i, sum);
    }
    for (int64_t m = 0; m < M && c->in[LINEAR_B].wanted; m++) {
        double sum = 0.0;
        for (int64_t r = 0; r < rows; r++) sum += dy[r * M + m];
        adze_grad_put(&c->in[LINEAR_B], m, sum);
    }
    return ADZE_OK;
}

const adze_op_def adze_op_linear = {
    .name = "linear",
    .shape = linear_shape,
    .flops = linear_flops,
    .forward = linear_fwd,
    .backward = linear_bwd,
    .backward_reads_in = 1u << LINEAR_X | 1u << LINEAR_W,
    .in_place_input = -1,
};

adze_value adze_linear(adze_graph *g, adze_value x, adze_value w, adze_value b)
{
    return adze_graph_add(g, ADZE_OP_linear, NULL, (adze_value[]){ x, w, b }, 3, 1);
}
