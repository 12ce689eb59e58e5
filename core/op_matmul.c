/* op_matmul.c - batched matrix products.
 *
 *   in   a (...,m,k)   b (...,k,n), or (k,n) for all of the batch; each may be stored transposed
 *   y    a b, (...,m,n)
 *   da   dy b^T        db  a^T dy, summed over the batch where b is shared       source: torch.matmul */
#include "core/op_matmul.h"

#include "core/ops.h"

matmul_sizes adze_matmul_sizes(const adze_call *c)
{
    const matmul_attrs *t = c->attrs;
    const adze_shape *a = &c->in[0].shape, *b = &c->in[1].shape;
    matmul_sizes s = { .batch = adze_shape_span(a, 0, a->rank - 2), .b_shared = b->rank == 2 };
    s.m = a->dim[a->rank - (t->transpose_a ? 1 : 2)];
    s.k = a->dim[a->rank - (t->transpose_a ? 2 : 1)];
    s.n = b->dim[b->rank - (t->transpose_b ? 2 : 1)];
    return s;
}

static adze_status matmul_shape(adze_call *c)
{
    const matmul_attrs *t = c->attrs;
    const adze_shape *a = &c->in[0].shape, *b = &c->in[1].shape;
    char as[ADZE_SHAPE_TEXT], bs[ADZE_SHAPE_TEXT];
    bool fits = a->rank >= 2 && b->rank >= 2 && (b->rank == 2 || b->rank == a->rank);
    for (int d = 0; fits && b->rank > 2 && d < b->rank - 2; d++) fits = a->dim[d] == b->dim[d];
    matmul_sizes s = { 0 };
    if (fits) s = adze_matmul_sizes(c);
    if (!fits || b->dim[b->rank - (t->transpose_b ? 1 : 2)] != s.k)
        return adze_fail(ADZE_ESHAPE, "%s%s and %s%s", adze_shape_text(a, as), t->transpose_a ? " transposed" : "",
                         adze_shape_text(b, bs), t->transpose_b ? " transposed" : "");
    c->out[0].shape = *a;
    c->out[0].shape.dim[a->rank - 2] = s.m;
    c->out[0].shape.dim[a->rank - 1] = s.n;
    return ADZE_OK;
}

static double matmul_flops(const adze_call *c)
{
    matmul_sizes s = adze_matmul_sizes(c);
    return 2.0 * (double)s.batch * (double)s.m * (double)s.n * (double)s.k;
}

static int64_t at_a(const adze_call *c, const matmul_sizes *s, int64_t p, int64_t i, int64_t k)
{
    return p * s->m * s->k + (((const matmul_attrs *)c->attrs)->transpose_a ? k * s->m + i : i * s->k + k);
}

static int64_t at_b(const adze_call *c, const matmul_sizes *s, int64_t p, int64_t k, int64_t j)
{
    return (s->b_shared ? 0 : p * s->k * s->n) + (((const matmul_attrs *)c->attrs)->transpose_b ? j * s->k + k : k * s->n + j);
}

static adze_status matmul_fwd(const adze_call *c)
{
    matmul_sizes s = adze_matmul_sizes(c);
    for (int64_t p = 0; p < s.batch; p++)
        for (int64_t i = 0; i < s.m; i++)
            for (int64_t j = 0; j < s.n; j++) {
                double sum = 0.0;
                for (int64_t k = 0; k < s.k; k++)
                    sum += (double)c->in[0].data[at_a(c, &s, p, i, k)] * c->in[1].data[at_b(c, &s, p, k, j)];
                c->out[0].data[(p * s.m + i) * s.n + j] = (float)sum;
            }
    return ADZE_OK;
}

static adze_status matmul_bwd(const adze_call *c)
{
    matmul_sizes s = adze_matmul_sizes(c);
    const float *dy = c->out[0].grad;
    for (int64_t p = 0; p < s.batch && c->in[0].wanted; p++)
        for (int64_t i = 0; i < s.m; i++)
            for (int64_t k = 0; k < s.k; k++) {
                double sum = 0.0;
                for (int64_t j = 0; j < s.n; j++) sum += (double)dy[(p * s.m + i) * s.n + j] * c->in[1].data[at_b(c, &s, p, k, j)];
                adze_grad_put(&c->in[0], at_a(c, &s, p, i, k), sum);
            }
    int64_t sums = s.b_shared ? 1 : s.batch, terms = s.b_shared ? s.batch : 1;
    for (int64_t p = 0; p < sums && c->in[1].wanted; p++)
        for (int64_t k = 0; k < s.k; k++)
            for (int64_t j = 0; j < s.n; j++) {
                double sum = 0.0;
                for (int64_t q = p; q < p + terms; q++)
                    for (int64_t i = 0; i < s.m; i++)
                        sum += (double)c->in[0].data[at_a(c, &s, q, i, k)] * dy[(q * s.m + i) * s.n + j];
                adze_grad_put(&c->in[1], at_b(c, &s, p, k, j), sum);
            }
    return ADZE_OK;
}

const adze_op_def adze_op_matmul = {
    .name = "matmul",
    .attrs_bytes = sizeof(matmul_attrs),
    .shape = matmul_shape,
    .flops = matmul_flops,
    .forward = matmul_fwd,
    .backward = matmul_bwd,
    .backward_reads_in = 3u,
    .in_place_input = -1,
};

adze_value adze_matmul(adze_graph *g, adze_value a, adze_value b, bool transpose_a, bool transpose_b)
{
    matmul_attrs t = { .transpose_a = transpose_a, .transpose_b = transpose_b };
    return adze_graph_add(g, ADZE_OP_matmul, &t, (adze_value[]){ a, b }, 2, 1);
}
