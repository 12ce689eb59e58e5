/* op_flow_logp.c - likelihood per dimension of the rows of a normalising flow under a standard normal.
 *
 *   in   state (R C + R): rows z, then log-determinants       lp = (C G - |z|^2 / 2 + logdet) / C, (R), G = -log(2 pi)/2
 *   dz   -dlp z / C    dlogdet  dlp / C                       source: CFLOW-AD (Gudovskiy et al., WACV 2022) */
#include "core/op_flow_logp.h"

#include "core/ops.h"

static int64_t rows_of(const adze_call *c)
{
    return c->in[0].shape.dim[0] / (((const flow_logp_attrs *)c->attrs)->C + 1);
}

static adze_status flow_logp_shape(adze_call *c)
{
    int64_t C = ((const flow_logp_attrs *)c->attrs)->C;
    char text[ADZE_SHAPE_TEXT];
    if (C < 1 || c->in[0].shape.rank != 1 || c->in[0].shape.dim[0] % (C + 1) != 0)
        return adze_fail(ADZE_ESHAPE, "%s is no state of rows of %d", adze_shape_text(&c->in[0].shape, text), (int)C);
    c->out[0].shape = ADZE_SHAPE(rows_of(c));
    return ADZE_OK;
}

static double flow_logp_flops(const adze_call *c) { return 2.0 * (double)adze_shape_count(&c->in[0].shape); }

static adze_status flow_logp_fwd(const adze_call *c)
{
    int64_t C = ((const flow_logp_attrs *)c->attrs)->C, R = rows_of(c);
    for (int64_t n = 0; n < R; n++) {
        const float *z = c->in[0].data + n * C;
        double sum = 0.0;
        for (int64_t k = 0; k < C; k++) sum += (double)z[k] * z[k];
        c->out[0].data[n] = (float)(((double)C * FLOW_LOG_NORMAL - 0.5 * sum + c->in[0].data[R * C + n]) / (double)C);
    }
    return ADZE_OK;
}

static adze_status flow_logp_bwd(const adze_call *c)
{
    int64_t C = ((const flow_logp_attrs *)c->attrs)->C, R = rows_of(c);
    const adze_arg *in = &c->in[0];
    for (int64_t n = 0; n < R; n++) {
        double d = c->out[0].grad[n] / (double)C;
        for (int64_t k = n * C; k < (n + 1) * C; k++) adze_grad_put(in, k, -d * in->data[k]);
        adze_grad_put(in, R * C + n, d);
    }
    return ADZE_OK;
}

const adze_op_def adze_op_flow_logp = {
    .name = "flow_logp",
    .attrs_bytes = sizeof(flow_logp_attrs),
    .shape = flow_logp_shape,
    .flops = flow_logp_flops,
    .forward = flow_logp_fwd,
    .backward = flow_logp_bwd,
    .backward_reads_in = 1u,
    .in_place_input = -1,
};

adze_value adze_flow_logp(adze_graph *g, adze_value state, int64_t C)
{
    flow_logp_attrs a = { .C = C };
    return adze_graph_add(g, ADZE_OP_flow_logp, &a, &state, 1, 1);
}
