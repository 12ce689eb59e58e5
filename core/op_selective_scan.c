/* op_selective_scan.c - the linear recurrence of state-space models whose coefficients depend on the input.
 *
 *   in   u, delta (N,K,L,D)   A_logs (K D,S)   B, C (N,K,L,S)   Ds, delta_bias (K D); K groups (directions), S states a channel
 *   out  y (N,K,L,D)   last_state (N,K D,S)   per image, group and channel, t = 0 .. L-1:
 *
 *   forward   x_t = delta_t + delta_bias    s_t = softplus(x_t), x_t above 20 (or s_t = x_t)    A = -exp(A_logs)
 *             h_t = exp(s_t A) h_t-1 + s_t B_t u_t, h_-1 = 0        y_t = <C_t,h_t> + Ds u_t
 *   backward  g_t = C_t dy_t + exp(s_t+1 A) g_t+1, from the end     e_t = exp(s_t A) h_t-1
 *             du_t = Ds dy_t + s_t <g_t,B_t>    ddelta_t = <g_t, B_t u_t + A e_t> ds_t/dx_t    ddelta_bias += ddelta_t
 *             dA_logs += g_t s_t e_t A    dB_t += g_t s_t u_t    dC_t += h_t dy_t    dDs += dy_t u_t
 *   saved     nothing: the states are computed again; last_state has no gradient
 *   source    Gu and Dao, Mamba (2023), selective_scan_ref; MambaAD (NeurIPS 2024) for the groups */
#include <inttypes.h>
#include <math.h>

#include "core/memory.h"
#include "core/op.h"
#include "core/ops.h"

enum { SCAN_U, SCAN_DELTA, SCAN_A_LOGS, SCAN_B, SCAN_C, SCAN_DS, SCAN_DELTA_BIAS, SCAN_OPERANDS };

#define SOFTPLUS_LINEAR 20.0 /* above it, the reference takes the identity */

typedef struct {
    bool softplus;
} scan_attrs;

typedef struct {
    int64_t N, K, L, D, S;
} scan_sizes;

static scan_sizes sizes_of(const adze_call *c)
{
    const int64_t *u = c->in[SCAN_U].shape.dim;
    return (scan_sizes){ .N = u[0], .K = u[1], .L = u[2], .D = u[3], .S = c->in[SCAN_A_LOGS].shape.dim[1] };
}

static bool has_shape(const adze_call *c, int i, adze_shape want)
{
    return adze_shape_equal(&c->in[i].shape, &want);
}

static adze_status selective_scan_shape(adze_call *c)
{
    const adze_shape *u = &c->in[SCAN_U].shape, *a = &c->in[SCAN_A_LOGS].shape, *b = &c->in[SCAN_B].shape;
    char us[ADZE_SHAPE_TEXT], as[ADZE_SHAPE_TEXT], bs[ADZE_SHAPE_TEXT];
    bool fits = u->rank == 4 && a->rank == 2;
    if (fits) {
        scan_sizes s = sizes_of(c);
        adze_shape states = ADZE_SHAPE(s.N, s.K, s.L, s.S), channels = ADZE_SHAPE(s.K * s.D);
        fits = has_shape(c, SCAN_DELTA, *u) && a->dim[0] == s.K * s.D && has_shape(c, SCAN_B, states) && has_shape(c, SCAN_C, states) &&
               has_shape(c, SCAN_DS, channels) && has_shape(c, SCAN_DELTA_BIAS, channels);
        c->out[0].shape = *u;
        c->out[1].shape = ADZE_SHAPE(s.N, s.K * s.D, s.S);
    }
    if (!fits)
        return adze_fail(ADZE_ESHAPE, "u %s, A_logs %s and B %s do not fit each other or the other operands", adze_shape_text(u, us),
                         adze_shape_text(a, as), adze_shape_text(b, bs));
    return ADZE_OK;
}

/* Per step, channel and state: the recurrence and the sum over states, seven; backward, with the states again, about 22. */
static double selective_scan_flops(const adze_call *c)
{
    scan_sizes s = sizes_of(c);
    return (c->backward ? 22.0 : 7.0) * (double)(s.N * s.K * s.L * s.D) * (double)s.S;
}

/* One channel of one image. */
typedef struct {
    scan_sizes s;
    int64_t row, group; /* of A_logs, Ds, delta_bias; of B and C: n K + k */
    int64_t at;         /* where its u_0 is; u_t lies t D behind */
    double *h;          /* (L,S) or (S): its states */
} scan_channel;

static scan_channel channel_of(const scan_sizes *s, int64_t group, int64_t d, double *h)
{
    return (scan_channel){ .s = *s, .row = group % s->K * s->D + d, .group = group, .at = group * s->L * s->D + d, .h = h };
}

/* s_t, and its slope where that is asked for. */
static double step_of(const adze_call *c, const scan_channel *x, int64_t t, double *slope)
{
    double z = (double)c->in[SCAN_DELTA].data[x->at + t * x->s.D] + c->in[SCAN_DELTA_BIAS].data[x->row];
    bool linear = !((const scan_attrs *)c->attrs)->softplus || z > SOFTPLUS_LINEAR;
    if (slope) *slope = linear ? 1.0 : 1.0 / (1.0 + exp(-z));
    return linear ? z : log1p(exp(z));
}

static double rate_of(const adze_call *c, const scan_channel *x, int64_t n)
{
    return -exp((double)c->in[SCAN_A_LOGS].data[x->row * x->s.S + n]);
}

/* h_t from h_t-1, which is NULL at the start; they may be the same. */
static void advance(const adze_call *c, const scan_channel *x, int64_t t, const double *before, double *h)
{
    const float *b = c->in[SCAN_B].data + (x->group * x->s.L + t) * x->s.S;
    double step = step_of(c, x, t, NULL), input = step * c->in[SCAN_U].data[x->at + t * x->s.D];
    for (int64_t n = 0; n < x->s.S; n++)
        h[n] = (before ? exp(step * rate_of(c, x, n)) * before[n] : 0.0) + input * b[n];
}

static adze_status selective_scan_fwd(const adze_call *c)
{
    scan_sizes s = sizes_of(c);
    double *h = adze_malloc((size_t)s.S * sizeof *h);
    if (!h) return adze_fail(ADZE_ENOMEM, "selective_scan: %" PRId64 " states", s.S);
    for (int64_t i = 0; i < s.N * s.K * s.D; i++) {
        scan_channel x = channel_of(&s, i / s.D, i % s.D, h);
        for (int64_t t = 0; t < s.L; t++) {
            const float *ct = c->in[SCAN_C].data + (x.group * s.L + t) * s.S;
            int64_t at = x.at + t * s.D;
            double sum = (double)c->in[SCAN_DS].data[x.row] * c->in[SCAN_U].data[at];
            advance(c, &x, t, t > 0 ? h : NULL, h);
            for (int64_t n = 0; n < s.S; n++) sum += ct[n] * h[n];
            c->out[0].data[at] = (float)sum;
        }
        for (int64_t n = 0; n < s.S; n++) c->out[1].data[i * s.S + n] = (float)h[n];
    }
    adze_free(h);
    return ADZE_OK;
}

/* What several channels or images add up in; in double. */
typedef struct {
    double *h, *g;              /* one channel: (L,S), (S) */
    double *b, *c;              /* gradients of one group of one image: (L,S) */
    double *a_logs, *ds, *bias; /* of everything */
} scan_sums;

/* The gradients of one channel: its own u and delta, its share of the others. */
static void backward_channel(const adze_call *c, const scan_channel *x, scan_sums *sum)
{
    const adze_arg *in = c->in;
    const int64_t S = x->s.S, L = x->s.L, D = x->s.D;
    for (int64_t t = 0; t < L; t++) advance(c, x, t, t > 0 ? x->h + (t - 1) * S : NULL, x->h + t * S);
    for (int64_t n = 0; n < S; n++) sum->g[n] = 0.0; /* exp(s_t+1 A) g_t+1 */
    for (int64_t t = L - 1; t >= 0; t--) {
        const int64_t at = x->at + t * D;
        const float *bt = in[SCAN_B].data + (x->group * L + t) * S, *ct = in[SCAN_C].data + (x->group * L + t) * S;
        double slope, step = step_of(c, x, t, &slope), u = in[SCAN_U].data[at], dy = c->out[0].grad[at];
        double du = 0.0, dstep = 0.0;
        for (int64_t n = 0; n < S; n++) {
            double rate = rate_of(c, x, n), g = sum->g[n] + ct[n] * dy;
            double decay = exp(step * rate), e = t > 0 ? decay * x->h[(t - 1) * S + n] : 0.0;
            du += g * bt[n];
            dstep += g * (bt[n] * u + rate * e);
            sum->a_logs[x->row * S + n] += g * step * e * rate;
            sum->b[t * S + n] += g * step * u;
            sum->c[t * S + n] += x->h[t * S + n] * dy;
            sum->g[n] = decay * g;
        }
        sum->ds[x->row] += dy * u;
        sum->bias[x->row] += dstep * slope;
        if (in[SCAN_U].wanted) adze_grad_put(&in[SCAN_U], at, in[SCAN_DS].data[x->row] * dy + step * du);
        if (in[SCAN_DELTA].wanted) adze_grad_put(&in[SCAN_DELTA], at, dstep * slope);
    }
}

static void put(const adze_arg *arg, int64_t from, int64_t n, const double *sum)
{
    for (int64_t i = 0; i < n && arg->wanted; i++) adze_grad_put(arg, from + i, sum[i]);
}

static adze_status selective_scan_bwd(const adze_call *c)
{
    adze_status st = ADZE_OK;
    const scan_sizes s = sizes_of(c);
    const int64_t states = s.L * s.S, channels = s.K * s.D;
    double *all = adze_calloc((size_t)(3 * states + s.S + channels * (s.S + 2)), sizeof *all);
    REQUIRE(all, ADZE_ENOMEM, "selective_scan: sums of gradients");
    scan_sums sum = { .h = all, .b = all + states, .c = all + 2 * states, .g = all + 3 * states };
    sum.a_logs = sum.g + s.S, sum.ds = sum.a_logs + channels * s.S, sum.bias = sum.ds + channels;
    for (int64_t group = 0; group < s.N * s.K; group++) {
        for (int64_t i = 0; i < states; i++) sum.b[i] = sum.c[i] = 0.0;
        for (int64_t d = 0; d < s.D; d++) {
            scan_channel x = channel_of(&s, group, d, sum.h);
            backward_channel(c, &x, &sum);
        }
        put(&c->in[SCAN_B], group * states, states, sum.b);
        put(&c->in[SCAN_C], group * states, states, sum.c);
    }
    put(&c->in[SCAN_A_LOGS], 0, channels * s.S, sum.a_logs);
    put(&c->in[SCAN_DS], 0, channels, sum.ds);
    put(&c->in[SCAN_DELTA_BIAS], 0, channels, sum.bias);
done:
    adze_free(all);
    return st;
}

const adze_op_def adze_op_selective_scan = {
    .name = "selective_scan",
    .attrs_bytes = sizeof(scan_attrs),
    .shape = selective_scan_shape,
    .flops = selective_scan_flops,
    .forward = selective_scan_fwd,
    .backward = selective_scan_bwd,
    .backward_reads_in = (1u << SCAN_OPERANDS) - 1u,
    .in_place_input = -1,
};

adze_value adze_selective_scan(adze_graph *g, adze_value u, adze_value delta, const adze_selective_scan_params *p, bool softplus,
                               adze_value *last_state)
{
    const adze_value in[SCAN_OPERANDS] = { u, delta, p->A_logs, p->B, p->C, p->Ds, p->delta_bias };
    scan_attrs a = { .softplus = softplus };
    adze_value y = adze_graph_add(g, ADZE_OP_selective_scan, &a, in, SCAN_OPERANDS, 2);
    if (last_state) *last_state = y == ADZE_NONE ? ADZE_NONE : y + 1;
    return y;
}
