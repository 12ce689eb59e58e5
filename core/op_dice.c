/* op_dice.c - dice loss of probabilities against a mask, per slice of the first dimension.
 *
 *   in   x (B,...)   mask of its shape: m = [mask > threshold], or its complement             y (1)
 *   y    1 - mean_b q_b       q = (2 <x,m> + 1) / s       s = sum x + sum m + 1
 *   dx   -dy (2 m - q) / (s B)
 *   source: AnomalyCLIP (ICLR 2024), its dice loss with smoothing 1 */
#include "core/op_dice.h"

#include "core/ops.h"

static adze_status dice_shape(adze_call *c)
{
    const adze_shape *x = &c->in[DICE_X].shape, *m = &c->in[DICE_MASK].shape;
    char xs[ADZE_SHAPE_TEXT], ms[ADZE_SHAPE_TEXT];
    if (x->rank < 2 || !adze_shape_equal(x, m))
        return adze_fail(ADZE_ESHAPE, "x %s and mask %s", adze_shape_text(x, xs), adze_shape_text(m, ms));
    c->out[0].shape = ADZE_SHAPE(1);
    return ADZE_OK;
}

static double dice_flops(const adze_call *c)
{
    return 3.0 * (double)adze_shape_count(&c->in[DICE_X].shape);
}

static double mask_at(const adze_call *c, int64_t i)
{
    const dice_attrs *a = c->attrs;
    return (c->in[DICE_MASK].data[i] > a->threshold) != a->complement ? 1.0 : 0.0;
}

/* q of slice b; *s: its denominator. */
static double quotient(const adze_call *c, int64_t b, int64_t n, double *s)
{
    double overlap = 0.0, sum = 0.0;
    for (int64_t i = b * n; i < (b + 1) * n; i++) {
        overlap += c->in[DICE_X].data[i] * mask_at(c, i);
        sum += c->in[DICE_X].data[i] + mask_at(c, i);
    }
    *s = sum + 1.0;
    return (2.0 * overlap + 1.0) / *s;
}

static adze_status dice_fwd(const adze_call *c)
{
    int64_t B = c->in[DICE_X].shape.dim[0], n = adze_shape_count(&c->in[DICE_X].shape) / B;
    double sum = 0.0, s;
    for (int64_t b = 0; b < B; b++) sum += quotient(c, b, n, &s);
    c->out[0].data[0] = (float)(1.0 - sum / (double)B);
    return ADZE_OK;
}

static adze_status dice_bwd(const adze_call *c)
{
    int64_t B = c->in[DICE_X].shape.dim[0], n = adze_shape_count(&c->in[DICE_X].shape) / B;
    double dy = c->out[0].grad[0] / (double)B;
    if (c->in[DICE_MASK].wanted) return adze_fail(ADZE_EINVAL, "dice: a mask has no gradient");
    for (int64_t b = 0; b < B; b++) {
        double s, q = quotient(c, b, n, &s);
        for (int64_t i = b * n; i < (b + 1) * n; i++) adze_grad_put(&c->in[DICE_X], i, -dy * (2.0 * mask_at(c, i) - q) / s);
    }
    return ADZE_OK;
}

const adze_op_def adze_op_dice = {
    .name = "dice",
    .attrs_bytes = sizeof(dice_attrs),
    .shape = dice_shape,
    .flops = dice_flops,
    .forward = dice_fwd,
    .backward = dice_bwd,
    .backward_reads_in = 1u << DICE_X | 1u << DICE_MASK,
    .in_place_input = -1,
};

adze_value adze_dice(adze_graph *g, adze_value x, adze_value mask, float threshold, bool complement)
{
    dice_attrs a = { .threshold = threshold, .complement = complement };
    return adze_graph_add(g, ADZE_OP_dice, &a, (adze_value[]){ x, mask }, 2, 1);
}
