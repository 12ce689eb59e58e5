/* op_cross_entropy.c - mean of -log softmax(x)[target] over rows.
 *
 *   in   x (...,C)   target (...): classes, whole numbers held in float32      y (1)
 *   dx   dy (softmax(x) - [class = target]) / rows
 *   source: torch.nn.functional.cross_entropy; a target outside is ADZE_EINVAL when the plan runs */
#include "core/op_cross_entropy.h"

#include <inttypes.h>
#include <math.h>

#include "core/ops.h"

static adze_status cross_entropy_shape(adze_call *c)
{
    const adze_shape *x = &c->in[CROSS_ENTROPY_X].shape, *t = &c->in[CROSS_ENTROPY_TARGET].shape;
    char xs[ADZE_SHAPE_TEXT], ts[ADZE_SHAPE_TEXT];
    if (x->rank < 1 || adze_shape_count(x) / x->dim[x->rank - 1] != adze_shape_count(t))
        return adze_fail(ADZE_ESHAPE, "x %s and target %s", adze_shape_text(x, xs), adze_shape_text(t, ts));
    c->out[0].shape = ADZE_SHAPE(1);
    return ADZE_OK;
}

static double cross_entropy_flops(const adze_call *c)
{
    return 3.0 * (double)adze_shape_count(&c->in[CROSS_ENTROPY_X].shape);
}

/* log(sum exp(x)) of one row. */
static double log_sum(const float *x, int64_t C)
{
    double m = -INFINITY, sum = 0.0;
    for (int64_t k = 0; k < C; k++) m = fmax(m, x[k]);
    for (int64_t k = 0; k < C; k++) sum += exp(x[k] - m);
    return m + log(sum);
}

static adze_status cross_entropy_fwd(const adze_call *c)
{
    const adze_shape *s = &c->in[CROSS_ENTROPY_X].shape;
    int64_t C = s->dim[s->rank - 1], rows = adze_shape_count(s) / C;
    double sum = 0.0;
    for (int64_t r = 0; r < rows; r++) {
        const float *x = c->in[CROSS_ENTROPY_X].data + r * C;
        float t = c->in[CROSS_ENTROPY_TARGET].data[r];
        if (!(t >= 0.0f && t < (float)C && t == (float)(int64_t)t))
            return adze_fail(ADZE_EINVAL, "cross_entropy: target %" PRId64 " is %g, want a whole number below %" PRId64, r, (double)t, C);
        sum += log_sum(x, C) - x[(int64_t)t];
    }
    c->out[0].data[0] = (float)(sum / (double)rows);
    return ADZE_OK;
}

static adze_status cross_entropy_bwd(const adze_call *c)
{
    const adze_shape *s = &c->in[CROSS_ENTROPY_X].shape;
    int64_t C = s->dim[s->rank - 1], rows = adze_shape_count(s) / C;
    double dy = c->out[0].grad[0] / (double)rows;
    if (c->in[CROSS_ENTROPY_TARGET].wanted) return adze_fail(ADZE_EINVAL, "cross_entropy: a class has no gradient");
    for (int64_t r = 0; r < rows; r++) {
        const float *x = c->in[CROSS_ENTROPY_X].data + r * C;
        double all = log_sum(x, C);
        for (int64_t k = 0; k < C; k++)
            adze_grad_put(&c->in[CROSS_ENTROPY_X], r * C + k, dy * (exp(x[k] - all) - ((float)k == c->in[CROSS_ENTROPY_TARGET].data[r])));
    }
    return ADZE_OK;
}

const adze_op_def adze_op_cross_entropy = {
    .name = "cross_entropy",
    .shape = cross_entropy_shape,
    .flops = cross_entropy_flops,
    .forward = cross_entropy_fwd,
    .backward = cross_entropy_bwd,
    .backward_reads_in = 1u << CROSS_ENTROPY_X | 1u << CROSS_ENTROPY_TARGET,
    .in_place_input = -1,
};

adze_value adze_cross_entropy(adze_graph *g, adze_value x, adze_value target)
{
    return adze_graph_add(g, ADZE_OP_cross_entropy, NULL, (adze_value[]){ x, target }, 2, 1);
}
