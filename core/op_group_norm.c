/* op_group_norm.c - the channels of an image in groups, each to mean 0 and variance 1 over its positions.   D elements per group
 *
 *   in      x (N,...,C)   [gamma beta (C)]      u = (x - mean) rstd, rstd = 1/sqrt(var + eps), biased variance
 *   y       u gamma + beta
 *   dx      rstd (g - mean(g) - u mean(g u)), g = dy gamma      dgamma  sum of dy u      dbeta  sum of dy
 *   saved   mean, rstd per image and group      source: torch.nn.functional.group_norm; C groups: instance_norm */
#include "core/op_group_norm.h"

#include <inttypes.h>
#include <math.h>

#include "core/ops.h"

group_norm_sizes adze_group_norm_sizes(const adze_call *c)
{
    const adze_shape *x = &c->in[GROUP_NORM_X].shape;
    group_norm_sizes s = { .N = x->dim[0], .P = adze_shape_span(x, 1, x->rank - 1), .C = x->dim[x->rank - 1],
                           .G = ((const group_norm_attrs *)c->attrs)->groups };
    s.Cg = s.C / s.G;
    return s;
}

/* Where element d of group k = n*G + g lies. */
static int64_t place(const group_norm_sizes *s, int64_t k, int64_t d)
{
    return (k / s->G * s->P + d / s->Cg) * s->C + k % s->G * s->Cg + d % s->Cg;
}

static adze_status group_norm_shape(adze_call *c)
{
    const group_norm_attrs *a = c->attrs;
    const adze_shape *x = &c->in[GROUP_NORM_X].shape;
    char xs[ADZE_SHAPE_TEXT], ws[ADZE_SHAPE_TEXT];
    if (x->rank < 2 || a->groups < 1 || x->dim[x->rank - 1] % a->groups != 0)
        return adze_fail(ADZE_ESHAPE, "x %s in %" PRId64 " groups of channels", adze_shape_text(x, xs), a->groups);
    for (int i = GROUP_NORM_GAMMA; i <= GROUP_NORM_BETA; i++)
        if (c->in[i].present && adze_shape_count(&c->in[i].shape) != x->dim[x->rank - 1])
            return adze_fail(ADZE_ESHAPE, "x %s and factors %s", adze_shape_text(x, xs), adze_shape_text(&c->in[i].shape, ws));
    c->out[0].shape = *x;
    c->out[1].shape = ADZE_SHAPE(x->dim[0] * a->groups, 2);
    return ADZE_OK;
}

static double group_norm_flops(const adze_call *c)
{
    return 8.0 * (double)adze_shape_count(&c->out[0].shape);
}

static adze_status group_norm_fwd(const adze_call *c)
{
    const float *x = c->in[GROUP_NORM_X].data, *gamma = c->in[GROUP_NORM_GAMMA].data, *beta = c->in[GROUP_NORM_BETA].data;
    group_norm_sizes s = adze_group_norm_sizes(c);
    int64_t D = s.P * s.Cg;
    for (int64_t k = 0; k < s.N * s.G; k++) {
        double mean = 0.0, var = 0.0;
        for (int64_t d = 0; d < D; d++) mean += x[place(&s, k, d)];
        mean /= (double)D;
        for (int64_t d = 0; d < D; d++) var += (x[place(&s, k, d)] - mean) * (x[place(&s, k, d)] - mean);
        double rstd = 1.0 / sqrt(var / (double)D + ((const group_norm_attrs *)c->attrs)->eps);
        for (int64_t d = 0; d < D; d++) {
            int64_t i = place(&s, k, d), ch = i % s.C;
            c->out[0].data[i] = (float)((x[i] - mean) * rstd * (gamma ? gamma[ch] : 1.0f) + (beta ? beta[ch] : 0.0f));
        }
        c->out[1].data[2 * k] = (float)mean, c->out[1].data[2 * k + 1] = (float)rstd;
    }
    return ADZE_OK;
}

static adze_status group_norm_bwd(const adze_call *c)
{
    const float *x = c->in[GROUP_NORM_X].data, *gamma = c->in[GROUP_NORM_GAMMA].data, *saved = c->out[1].data, *dy = c->out[0].grad;
    group_norm_sizes s = adze_group_norm_sizes(c);
    int64_t D = s.P * s.Cg;
    for (int64_t ch = 0; ch < s.C; ch++) {
        double sum = 0.0, product = 0.0;
        for (int64_t r = 0; r < s.N * s.P; r++) {
            int64_t i = r * s.C + ch, k = r / s.P * s.G + ch / s.Cg;
            sum += dy[i];
            product += dy[i] * ((double)x[i] - saved[2 * k]) * saved[2 * k + 1];
        }
        if (c->in[GROUP_NORM_GAMMA].wanted) adze_grad_put(&c->in[GROUP_NORM_GAMMA], ch, product);
        if (c->in[GROUP_NORM_BETA].wanted) adze_grad_put(&c->in[GROUP_NORM_BETA], ch, sum);
    }
    for (int64_t k = 0; k < s.N * s.G && c->in[GROUP_NORM_X].wanted; k++) {
        double mean = saved[2 * k], rstd = saved[2 * k + 1], sum = 0.0, product = 0.0;
        for (int64_t d = 0; d < D; d++) {
            int64_t i = place(&s, k, d);
            double g = dy[i] * (gamma ? (double)gamma[i % s.C] : 1.0);
            sum += g;
            product += g * (x[i] - mean) * rstd;
        }
        for (int64_t d = 0; d < D; d++) {
            int64_t i = place(&s, k, d);
            double g = dy[i] * (gamma ? (double)gamma[i % s.C] : 1.0), u = (x[i] - mean) * rstd;
            adze_grad_put(&c->in[GROUP_NORM_X], i, rstd * (g - sum / (double)D - u * product / (double)D));
        }
    }
    return ADZE_OK;
}

const adze_op_def adze_op_group_norm = {
    .name = "group_norm",
    .attrs_bytes = sizeof(group_norm_attrs),
    .shape = group_norm_shape,
    .flops = group_norm_flops,
    .forward = group_norm_fwd,
    .backward = group_norm_bwd,
    .backward_reads_in = 1u << GROUP_NORM_X | 1u << GROUP_NORM_GAMMA,
    .in_place_input = GROUP_NORM_X,
};

adze_value adze_group_norm(adze_graph *g, adze_value x, adze_value gamma, adze_value beta, int64_t groups, float eps)
{
    group_norm_attrs a = { .groups = groups, .eps = eps };
    return adze_graph_add(g, ADZE_OP_group_norm, &a, (adze_value[]){ x, gamma, beta }, 3, 2);
}
