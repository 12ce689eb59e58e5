/* op_focal_prob.c - focal loss of two probabilities per position against a mask.
 *
 *   in   x (...,2) probabilities   mask (...): class 1 where mask > threshold                 y (1)
 *   q    sum_c w_c x_c + smooth    w = one-hot of the class, clamped to [smooth, 1 - smooth]
 *   y    mean of -(1 - q)^gamma log q
 *   dx   dy w_c (gamma (1 - q)^(gamma - 1) log q - (1 - q)^gamma / q) / positions
 *   source: AnomalyCLIP (ICLR 2024), its focal loss on probabilities */
#include "core/op_focal_prob.h"

#include <math.h>

#include "core/ops.h"

static adze_status focal_prob_shape(adze_call *c)
{
    const adze_shape *x = &c->in[FOCAL_X].shape, *m = &c->in[FOCAL_MASK].shape;
    char xs[ADZE_SHAPE_TEXT], ms[ADZE_SHAPE_TEXT];
    if (x->rank < 1 || x->dim[x->rank - 1] != 2 || adze_shape_count(x) != 2 * adze_shape_count(m))
        return adze_fail(ADZE_ESHAPE, "x %s and mask %s", adze_shape_text(x, xs), adze_shape_text(m, ms));
    c->out[0].shape = ADZE_SHAPE(1);
    return ADZE_OK;
}

static double focal_prob_flops(const adze_call *c)
{
    return 4.0 * (double)adze_shape_count(&c->in[FOCAL_X].shape);
}

/* Weights of the two probabilities at position i; returns q. */
static double mixed(const adze_call *c, int64_t i, double w[2])
{
    const focal_prob_attrs *a = c->attrs;
    bool anomalous = c->in[FOCAL_MASK].data[i] > a->threshold;
    w[0] = anomalous ? a->smooth : 1.0 - a->smooth;
    w[1] = anomalous ? 1.0 - a->smooth : a->smooth;
    return w[0] * c->in[FOCAL_X].data[2 * i] + w[1] * c->in[FOCAL_X].data[2 * i + 1] + a->smooth;
}

static adze_status focal_prob_fwd(const adze_call *c)
{
    const focal_prob_attrs *a = c->attrs;
    int64_t n = adze_shape_count(&c->in[FOCAL_MASK].shape);
    double sum = 0.0, w[2];
    for (int64_t i = 0; i < n; i++) {
        double q = mixed(c, i, w);
        sum -= pow(1.0 - q, a->gamma) * log(q);
    }
    c->out[0].data[0] = (float)(sum / (double)n);
    return ADZE_OK;
}

static adze_status focal_prob_bwd(const adze_call *c)
{
    const focal_prob_attrs *a = c->attrs;
    int64_t n = adze_shape_count(&c->in[FOCAL_MASK].shape);
    double dy = c->out[0].grad[0] / (double)n, w[2];
    if (c->in[FOCAL_MASK].wanted) return adze_fail(ADZE_EINVAL, "focal_prob: a mask has no gradient");
    for (int64_t i = 0; i < n; i++) {
        double q = mixed(c, i, w), dq = a->gamma * pow(1.0 - q, a->gamma - 1.0) * log(q) - pow(1.0 - q, a->gamma) / q;
        for (int64_t k = 0; k < 2; k++) adze_grad_put(&c->in[FOCAL_X], 2 * i + k, dy * w[k] * dq);
    }
    return ADZE_OK;
}

const adze_op_def adze_op_focal_prob = {
    .name = "focal_prob",
    .attrs_bytes = sizeof(focal_prob_attrs),
    .shape = focal_prob_shape,
    .flops = focal_prob_flops,
    .forward = focal_prob_fwd,
    .backward = focal_prob_bwd,
    .backward_reads_in = 1u << FOCAL_X | 1u << FOCAL_MASK,
    .in_place_input = -1,
};

adze_value adze_focal_prob(adze_graph *g, adze_value x, adze_value mask, float threshold, float gamma, float smooth)
{
    focal_prob_attrs a = { .threshold = threshold, .gamma = gamma, .smooth = smooth };
    return adze_graph_add(g, ADZE_OP_focal_prob, &a, (adze_value[]){ x, mask }, 2, 1);
}
