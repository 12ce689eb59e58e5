/* op_coupling.c - one conditional coupling block of a normalising flow, followed by its rotation.
 *
 *   in   x (R,C), or (R C + R): rows, then the log-determinants so far; h = C/2, x = [x1 | x2]
 *        cond (R,P), w1 (M,h+P), b1 (M), w2 (C,M), b2 (C), scale (1,C), offset (1,C), w_perm (C,C)
 *   out  (R C + R): rows, then log-determinants; and what backward needs again (op_coupling.h)
 *
 *   forward   r = w2 relu(w1 [x1 | cond] + b1) + b2      a = 0.1 r1   j = clamp tanh(slope a)   t = 0.1 r2
 *             y = [x1 | x2 exp(j) + t]   v = g y + offset, g = 0.1 softplus_0.5(scale)   out = v w_perm^T
 *             logdet += sum j + sum log g
 *   inverse   the same blocks backwards, logdet -= the same; has no backward
 *   backward  u = dout w_perm   doffset = sum u   dscale = (sum u y + (sum dlogdet)/g) dg/dscale   dy = g u
 *             dj = dy2 x2 exp(j) + dlogdet   dr = 0.1 [dj clamp slope (1 - tanh^2) | dy2]   dx = [dy1 + (d[x1|cond])_1 | dy2 exp(j)]
 *             and the two layers as ever; w_perm has no gradient
 *   saved     hidden layer, r        source: FrEIA AllInOneBlock (Ardizzone et al.) as CFLOW-AD uses it (Gudovskiy et al., WACV 2022) */
#include "core/op_coupling.h"

#include <inttypes.h>
#include <math.h>

#include "core/memory.h"
#include "core/ops.h"

coupling_sizes adze_coupling_sizes(const adze_call *c)
{
    const adze_shape *x = &c->in[COUPLING_X].shape, *cond = &c->in[COUPLING_COND].shape, *w2 = &c->in[COUPLING_W2].shape;
    return (coupling_sizes){ .R = cond->dim[0], .C = w2->dim[0], .h = w2->dim[0] / 2, .P = cond->dim[1], .M = w2->dim[1], .state = x->rank == 1 };
}

double adze_coupling_scale(double global_scale)
{
    double z = 0.5 * global_scale;
    return z > 20.0 ? 0.1 * global_scale : 0.2 * log1p(exp(z));
}

double adze_coupling_scale_slope(double global_scale)
{
    double z = 0.5 * global_scale;
    return z > 20.0 ? 0.1 : 0.1 / (1.0 + exp(-z));
}

static bool has_shape(const adze_call *c, int i, adze_shape want)
{
    return c->in[i].present && adze_shape_equal(&c->in[i].shape, &want);
}

static adze_status coupling_shape(adze_call *c)
{
    const adze_shape *x = &c->in[COUPLING_X].shape, *cond = &c->in[COUPLING_COND].shape, *w2 = &c->in[COUPLING_W2].shape;
    char xs[ADZE_SHAPE_TEXT], cs[ADZE_SHAPE_TEXT], ws[ADZE_SHAPE_TEXT];
    bool fits = cond->rank == 2 && w2->rank == 2 && w2->dim[0] % 2 == 0;
    if (fits) {
        coupling_sizes s = adze_coupling_sizes(c);
        adze_shape rows = ADZE_SHAPE(s.R, s.C), state = ADZE_SHAPE(s.R * s.C + s.R), vector = ADZE_SHAPE(1, s.C);
        fits = (adze_shape_equal(x, &rows) || adze_shape_equal(x, &state)) && has_shape(c, COUPLING_W1, ADZE_SHAPE(s.M, s.h + s.P)) &&
               has_shape(c, COUPLING_B1, ADZE_SHAPE(s.M)) && has_shape(c, COUPLING_B2, ADZE_SHAPE(s.C)) && has_shape(c, COUPLING_SCALE, vector) &&
               has_shape(c, COUPLING_OFFSET, vector) && has_shape(c, COUPLING_W_PERM, ADZE_SHAPE(s.C, s.C));
        c->out[0].shape = state;
        c->out[1].shape = ADZE_SHAPE(s.R * (s.M + s.C));
    }
    if (!fits)
        return adze_fail(ADZE_ESHAPE, "x %s, condition %s and second weights %s do not fit each other or the other parameters",
                         adze_shape_text(x, xs), adze_shape_text(cond, cs), adze_shape_text(w2, ws));
    return ADZE_OK;
}

/* Backward: d v, d hidden and the gradients of both layers; towards x the plan asks for one gradient at most. */
static double coupling_flops(const adze_call *c)
{
    coupling_sizes s = adze_coupling_sizes(c);
    double first = (double)(s.M * (s.h + s.P)), second = (double)(s.C * s.M), rotation = (double)(s.C * s.C);
    double forward = first + second + rotation, towards_x = c->in[COUPLING_X].wanted ? (double)(s.M * s.h) : 0.0;
    return 2.0 * (double)s.R * (c->backward ? forward + second + towards_x : forward);
}

/* Hidden layer and r of row n whose first half is x1. */
static void subnet(const adze_call *c, const coupling_sizes *s, int64_t n, const float *x1)
{
    const float *cond = c->in[COUPLING_COND].data + n * s->P, *w1 = c->in[COUPLING_W1].data, *w2 = c->in[COUPLING_W2].data;
    float *hidden = adze_coupling_hidden(c) + n * s->M, *r = adze_coupling_subnet(c, s) + n * s->C;
    for (int64_t m = 0; m < s->M; m++) {
        const float *w = w1 + m * (s->h + s->P);
        double sum = c->in[COUPLING_B1].data[m];
        for (int64_t k = 0; k < s->h; k++) sum += (double)w[k] * x1[k];
        for (int64_t k = 0; k < s->P; k++) sum += (double)w[s->h + k] * cond[k];
        hidden[m] = sum > 0.0 ? (float)sum : 0.0f;
    }
    for (int64_t k = 0; k < s->C; k++) {
        double sum = c->in[COUPLING_B2].data[k];
        for (int64_t m = 0; m < s->M; m++) sum += (double)w2[k * s->M + m] * hidden[m];
        r[k] = (float)sum;
    }
}

static double log_scales(const adze_call *c, int64_t C)
{
    double sum = 0.0;
    for (int64_t k = 0; k < C; k++) sum += log(adze_coupling_scale(c->in[COUPLING_SCALE].data[k]));
    return sum;
}

static double clamped(const coupling_attrs *a, float r) { return a->clamp * tanh(a->slope * 0.1 * r); }

static adze_status forward(const adze_call *c, const coupling_sizes *s, double *v)
{
    const coupling_attrs *a = c->attrs;
    const float *w = c->in[COUPLING_W_PERM].data;
    double scales = log_scales(c, s->C);
    for (int64_t n = 0; n < s->R; n++) {
        const float *x = c->in[COUPLING_X].data + n * s->C, *r = adze_coupling_subnet(c, s) + n * s->C;
        float *y = c->out[0].data + n * s->C;
        double logdet = s->state ? c->in[COUPLING_X].data[s->R * s->C + n] : 0.0;
        subnet(c, s, n, x);
        for (int64_t k = 0; k < s->C; k++) v[k] = x[k];
        for (int64_t k = 0; k < s->h; k++) {
            double j = clamped(a, r[k]);
            v[s->h + k] = x[s->h + k] * exp(j) + 0.1 * r[s->h + k];
            logdet += j;
        }
        for (int64_t k = 0; k < s->C; k++)
            v[k] = v[k] * adze_coupling_scale(c->in[COUPLING_SCALE].data[k]) + c->in[COUPLING_OFFSET].data[k];
        for (int64_t p = 0; p < s->C; p++) {
            double sum = 0.0;
            for (int64_t q = 0; q < s->C; q++) sum += v[q] * w[p * s->C + q];
            y[p] = (float)sum;
        }
        c->out[0].data[s->R * s->C + n] = (float)(logdet + scales);
    }
    return ADZE_OK;
}

static adze_status inverse(const adze_call *c, const coupling_sizes *s)
{
    const coupling_attrs *a = c->attrs;
    const float *w = c->in[COUPLING_W_PERM].data;
    double scales = log_scales(c, s->C);
    for (int64_t n = 0; n < s->R; n++) {
        const float *x = c->in[COUPLING_X].data + n * s->C, *r = adze_coupling_subnet(c, s) + n * s->C;
        float *y = c->out[0].data + n * s->C;
        double logdet = s->state ? c->in[COUPLING_X].data[s->R * s->C + n] : 0.0;
        for (int64_t q = 0; q < s->C; q++) {
            double sum = 0.0;
            for (int64_t p = 0; p < s->C; p++) sum += (double)x[p] * w[p * s->C + q];
            y[q] = (float)((sum - c->in[COUPLING_OFFSET].data[q]) / adze_coupling_scale(c->in[COUPLING_SCALE].data[q]));
        }
        subnet(c, s, n, y);
        for (int64_t k = 0; k < s->h; k++) {
            double j = clamped(a, r[k]);
            y[s->h + k] = (float)((y[s->h + k] - 0.1 * r[s->h + k]) * exp(-j));
            logdet -= j;
        }
        c->out[0].data[s->R * s->C + n] = (float)(logdet - scales);
    }
    return ADZE_OK;
}

static adze_status coupling_fwd(const adze_call *c)
{
    adze_status st = ADZE_OK;
    double *v = NULL;
    coupling_sizes s = adze_coupling_sizes(c);
    if (((const coupling_attrs *)c->attrs)->inverse) return inverse(c, &s);
    REQUIRE(v = adze_malloc((size_t)s.C * sizeof *v), ADZE_ENOMEM, "coupling: a row");
    TRY(forward(c, &s, v));
done:
    adze_free(v);
    return st;
}

/* What all rows add up in; in double. */
typedef struct {
    double *u, *dr, *dh;      /* one row: (C), (C), (M) */
    double *w1, *b1, *w2, *b2, *scale, *offset; /* gradients */
    double logdet;            /* sum of its gradients */
} coupling_sums;

/* One row's share of all gradients. */
static void backward_row(const adze_call *c, const coupling_sizes *s, int64_t n, coupling_sums *g)
{
    const coupling_attrs *a = c->attrs;
    const adze_arg *in = c->in;
    int64_t C = s->C, h = s->h, M = s->M, i = h + s->P;
    const float *x = in[COUPLING_X].data + n * C, *cond = in[COUPLING_COND].data + n * s->P, *dout = c->out[0].grad + n * C;
    const float *hidden = adze_coupling_hidden(c) + n * M, *r = adze_coupling_subnet(c, s) + n * C;
    double dlogdet = c->out[0].grad[s->R * C + n];
    g->logdet += dlogdet;
    for (int64_t q = 0; q < C; q++) {
        g->u[q] = 0.0;
        for (int64_t p = 0; p < C; p++) g->u[q] += (double)dout[p] * in[COUPLING_W_PERM].data[p * C + q];
        g->offset[q] += g->u[q];
    }
    for (int64_t k = 0; k < h; k++) {
        double th = tanh(a->slope * 0.1 * r[k]), e = exp(a->clamp * th);
        g->scale[k] += g->u[k] * x[k];
        g->scale[h + k] += g->u[h + k] * (x[h + k] * e + 0.1 * r[h + k]);
        double dy1 = g->u[k] * adze_coupling_scale(in[COUPLING_SCALE].data[k]);
        double dy2 = g->u[h + k] * adze_coupling_scale(in[COUPLING_SCALE].data[h + k]);
        g->dr[k] = 0.1 * (dy2 * x[h + k] * e + dlogdet) * a->clamp * a->slope * (1.0 - th * th);
        g->dr[h + k] = 0.1 * dy2;
        g->u[k] = dy1, g->u[h + k] = dy2 * e; /* from here on: dx without the subnet's part */
    }
    for (int64_t m = 0; m < M; m++) {
        g->dh[m] = 0.0;
        for (int64_t k = 0; k < C; k++) {
            g->w2[k * M + m] += g->dr[k] * hidden[m];
            if (hidden[m] > 0.0f) g->dh[m] += g->dr[k] * in[COUPLING_W2].data[k * M + m];
        }
        g->b1[m] += g->dh[m];
        for (int64_t k = 0; k < i; k++) g->w1[m * i + k] += g->dh[m] * (k < h ? x[k] : cond[k - h]);
    }
    for (int64_t k = 0; k < C; k++) g->b2[k] += g->dr[k];
    for (int64_t k = 0; k < i; k++) {
        double dq = 0.0;
        for (int64_t m = 0; m < M; m++) dq += g->dh[m] * in[COUPLING_W1].data[m * i + k];
        if (k < h) g->u[k] += dq;
        else if (in[COUPLING_COND].wanted) adze_grad_put(&in[COUPLING_COND], n * s->P + k - h, dq);
    }
    if (!in[COUPLING_X].wanted) return;
    for (int64_t k = 0; k < C; k++) adze_grad_put(&in[COUPLING_X], n * C + k, g->u[k]);
    if (s->state) adze_grad_put(&in[COUPLING_X], s->R * C + n, dlogdet);
}

static void put_all(const adze_arg *arg, const double *sum)
{
    int64_t n = adze_shape_count(&arg->shape);
    for (int64_t i = 0; arg->wanted && i < n; i++) adze_grad_put(arg, i, sum[i]);
}

static adze_status coupling_bwd(const adze_call *c)
{
    adze_status st = ADZE_OK;
    const coupling_sizes s = adze_coupling_sizes(c);
    const int64_t i = s.h + s.P;
    double *all = NULL;
    REQUIRE(!((const coupling_attrs *)c->attrs)->inverse, ADZE_EINVAL, "coupling: the inverse has no gradient");
    REQUIRE(!c->in[COUPLING_W_PERM].wanted, ADZE_EINVAL, "coupling: w_perm has no gradient");
    all = adze_calloc((size_t)(5 * s.C + 2 * s.M + s.M * i + s.C * s.M), sizeof *all);
    REQUIRE(all, ADZE_ENOMEM, "coupling: sums of gradients");
    coupling_sums g = { .u = all };
    g.dr = g.u + s.C, g.b2 = g.dr + s.C, g.scale = g.b2 + s.C, g.offset = g.scale + s.C, g.dh = g.offset + s.C, g.b1 = g.dh + s.M;
    g.w1 = g.b1 + s.M, g.w2 = g.w1 + s.M * i;
    for (int64_t n = 0; n < s.R; n++) backward_row(c, &s, n, &g);
    for (int64_t k = 0; k < s.C; k++) {
        double gs = c->in[COUPLING_SCALE].data[k];
        g.scale[k] = (g.scale[k] + g.logdet / adze_coupling_scale(gs)) * adze_coupling_scale_slope(gs);
    }
    put_all(&c->in[COUPLING_W1], g.w1);
    put_all(&c->in[COUPLING_B1], g.b1);
    put_all(&c->in[COUPLING_W2], g.w2);
    put_all(&c->in[COUPLING_B2], g.b2);
    put_all(&c->in[COUPLING_SCALE], g.scale);
    put_all(&c->in[COUPLING_OFFSET], g.offset);
done:
    adze_free(all);
    return st;
}

const adze_op_def adze_op_coupling = {
    .name = "coupling",
    .attrs_bytes = sizeof(coupling_attrs),
    .shape = coupling_shape,
    .flops = coupling_flops,
    .forward = coupling_fwd,
    .backward = coupling_bwd,
    .backward_reads_in = 1u << COUPLING_X | 1u << COUPLING_COND | 1u << COUPLING_W1 | 1u << COUPLING_W2 | 1u << COUPLING_SCALE |
                         1u << COUPLING_W_PERM,
    .in_place_input = -1,
};

adze_value adze_coupling(adze_graph *g, adze_value x, adze_value cond, const adze_coupling_params *p, const adze_coupling_opts *opts)
{
    coupling_attrs a = { .clamp = opts->clamp, .slope = opts->over_clamp ? 1.0f / opts->clamp : 1.0f, .inverse = opts->inverse };
    const adze_value in[COUPLING_OPERANDS] = { x, cond, p->w1, p->b1, p->w2, p->b2, p->scale, p->offset, p->w_perm };
    if (!(opts->clamp > 0.0f)) return adze_graph_fail(g, ADZE_EINVAL, "coupling: clamp %g, want > 0", (double)opts->clamp);
    return adze_graph_add(g, ADZE_OP_coupling, &a, in, COUPLING_OPERANDS, 2);
}
