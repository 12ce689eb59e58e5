/* op_attention.c - scaled dot-product attention of several heads, and the layer of projections around it.
 *
 *   in   q (N,L,D)   k (N,S,D)   v (N,S,E)   bias (L,S) or absent; head h uses channels h D/heads.. of q and k, h E/heads.. of v
 *   out  y (N,L,E)   per image and head:
 *
 *   forward   z = scale q k^T + bias + M     p = softmax(z) over the keys     y = p v
 *             M = -inf where the key is hidden: causal, j > i; neighbour, rows and columns of both at most `half` apart; else 0
 *   backward  dv += p^T dy    dz = p (dp - sum(p dp)), dp = dy v^T    dq = scale dz k    dk += scale dz^T q    dbias = sum dz
 *   saved     nothing: p is computed again        source: torch.nn.functional.scaled_dot_product_attention
 *
 * Entry: adze_attention(), adze_mha(). A query whose keys are all hidden would be NaN: the masks that do so are refused. */
#include <inttypes.h>
#include <math.h>

#include "core/memory.h"
#include "core/op.h"
#include "core/ops.h"

enum { ATTENTION_Q, ATTENTION_K, ATTENTION_V, ATTENTION_BIAS, ATTENTION_OPERANDS };

typedef struct {
    int64_t heads, grid[2], half;
    float scale;
    adze_attention_mask mask;
} attention_attrs;

typedef struct {
    int64_t N, L, S, D, E;
    int64_t d, e; /* of one head */
} attention_sizes;

static attention_sizes sizes_of(const adze_call *c)
{
    const adze_shape *q = &c->in[ATTENTION_Q].shape, *v = &c->in[ATTENTION_V].shape;
    int64_t heads = ((const attention_attrs *)c->attrs)->heads;
    return (attention_sizes){ .N = q->dim[0], .L = q->dim[1], .S = v->dim[1], .D = q->dim[2], .E = v->dim[2],
                              .d = q->dim[2] / heads, .e = v->dim[2] / heads };
}

/* The mask fits the numbers of queries and keys, and leaves each query a key. */
static adze_status check_mask(const attention_attrs *a, int64_t L, int64_t S)
{
    if (a->mask != ADZE_ATTENTION_NEIGHBOUR) return ADZE_OK;
    int64_t H = a->grid[0], W = a->grid[1];
    if (H < 1 || W < 1 || L != S || S % W != 0 || S / W != H)
        return adze_fail(ADZE_ESHAPE, "%" PRId64 " queries and %" PRId64 " keys on a grid of %" PRId64 " x %" PRId64, L, S, H, W);
    if (a->half < 0 || (H / 2 <= a->half && W / 2 <= a->half))
        return adze_fail(ADZE_EINVAL, "neighbours up to %" PRId64 " apart hide all of %" PRId64 " x %" PRId64, a->half, H, W);
    return ADZE_OK;
}

static adze_status attention_shape(adze_call *c)
{
    const attention_attrs *a = c->attrs;
    const adze_shape *q = &c->in[ATTENTION_Q].shape, *k = &c->in[ATTENTION_K].shape, *v = &c->in[ATTENTION_V].shape;
    const adze_arg *bias = &c->in[ATTENTION_BIAS];
    char qs[ADZE_SHAPE_TEXT], ks[ADZE_SHAPE_TEXT], vs[ADZE_SHAPE_TEXT];
    bool fits = q->rank == 3 && k->rank == 3 && v->rank == 3 && q->dim[0] == k->dim[0] && q->dim[0] == v->dim[0] &&
                k->dim[1] == v->dim[1] && q->dim[2] == k->dim[2] && q->dim[2] % a->heads == 0 && v->dim[2] % a->heads == 0;
    if (!fits)
        return adze_fail(ADZE_ESHAPE, "queries %s, keys %s and values %s in %" PRId64 " heads", adze_shape_text(q, qs),
                         adze_shape_text(k, ks), adze_shape_text(v, vs), a->heads);
    adze_shape pairs = ADZE_SHAPE(q->dim[1], k->dim[1]);
    if (bias->present && !adze_shape_equal(&bias->shape, &pairs))
        return adze_fail(ADZE_ESHAPE, "bias %s, want %s", adze_shape_text(&bias->shape, qs), adze_shape_text(&pairs, ks));
    c->out[0].shape = ADZE_SHAPE(q->dim[0], q->dim[1], v->dim[2]);
    return check_mask(a, q->dim[1], k->dim[1]);
}

/* Two products forward; backward the first again and four. */
static double attention_flops(const adze_call *c)
{
    attention_sizes s = sizes_of(c);
    double pairs = 2.0 * (double)(s.N * s.L * s.S);
    return pairs * (double)(c->backward ? 3 * s.D + 2 * s.E : s.D + s.E);
}

static bool hidden(const attention_attrs *a, int64_t query, int64_t key)
{
    if (a->mask == ADZE_ATTENTION_CAUSAL) return key > query;
    if (a->mask != ADZE_ATTENTION_NEIGHBOUR) return false;
    int64_t W = a->grid[1], rows = query / W - key / W, columns = query % W - key % W;
    return rows >= -a->half && rows <= a->half && columns >= -a->half && columns <= a->half;
}

/* p (S): how much query l of image n attends to each key in head h. */
static void probabilities(const adze_call *c, const attention_sizes *s, int64_t n, int64_t h, int64_t l, double *p)
{
    const attention_attrs *a = c->attrs;
    const float *q = c->in[ATTENTION_Q].data + (n * s->L + l) * s->D + h * s->d;
    const float *bias = c->in[ATTENTION_BIAS].present ? c->in[ATTENTION_BIAS].data + l * s->S : NULL;
    double m = -INFINITY, sum = 0.0;
    for (int64_t j = 0; j < s->S; j++) {
        const float *k = c->in[ATTENTION_K].data + (n * s->S + j) * s->D + h * s->d;
        double z = 0.0;
        for (int64_t i = 0; i < s->d; i++) z += (double)q[i] * k[i];
        p[j] = hidden(a, l, j) ? -INFINITY : a->scale * z + (bias ? bias[j] : 0.0f);
        m = fmax(m, p[j]);
    }
    for (int64_t j = 0; j < s->S; j++) sum += p[j] = exp(p[j] - m);
    for (int64_t j = 0; j < s->S; j++) p[j] /= sum;
}

static adze_status attention_fwd(const adze_call *c)
{
    attention_sizes s = sizes_of(c);
    double *p = adze_malloc((size_t)s.S * sizeof *p);
    if (!p) return adze_fail(ADZE_ENOMEM, "attention: a row of %" PRId64 " keys", s.S);
    for (int64_t row = 0; row < s.N * s.L; row++) {
        int64_t n = row / s.L;
        float *y = c->out[0].data + row * s.E;
        for (int64_t o = 0; o < s.E; o++) {
            const float *v = c->in[ATTENTION_V].data + n * s.S * s.E + o;
            double sum = 0.0;
            if (o % s.e == 0) probabilities(c, &s, n, o / s.e, row % s.L, p);
            for (int64_t j = 0; j < s.S; j++) sum += p[j] * v[j * s.E];
            y[o] = (float)sum;
        }
    }
    adze_free(p);
    return ADZE_OK;
}

typedef struct {
    double *p, *dz;  /* (S) */
    double *dk, *dv; /* (S,d), (S,e): one head of one image */
    double *dbias;   /* (L,S): sums over all heads and images; NULL if not wanted */
} attention_sums;

/* Query l of image n in head h: dq, and its share of the other gradients. */
static void backward_row(const adze_call *c, const attention_sizes *s, int64_t n, int64_t h, int64_t l, attention_sums *g)
{
    const adze_arg *in = c->in;
    const double scale = ((const attention_attrs *)c->attrs)->scale;
    const int64_t at = (n * s->L + l) * s->D + h * s->d;
    const float *q = in[ATTENTION_Q].data + at, *dy = c->out[0].grad + (n * s->L + l) * s->E + h * s->e;
    const float *k = in[ATTENTION_K].data + n * s->S * s->D + h * s->d, *v = in[ATTENTION_V].data + n * s->S * s->E + h * s->e;
    double mean = 0.0;
    probabilities(c, s, n, h, l, g->p);
    for (int64_t j = 0; j < s->S; j++) {
        g->dz[j] = 0.0;
        for (int64_t i = 0; i < s->e; i++) {
            g->dz[j] += (double)dy[i] * v[j * s->E + i];
            g->dv[j * s->e + i] += g->p[j] * dy[i];
        }
        mean += g->p[j] * g->dz[j];
    }
    for (int64_t j = 0; j < s->S; j++) {
        g->dz[j] = g->p[j] * (g->dz[j] - mean);
        if (g->dbias) g->dbias[l * s->S + j] += g->dz[j];
        for (int64_t i = 0; i < s->d; i++) g->dk[j * s->d + i] += scale * g->dz[j] * q[i];
    }
    for (int64_t i = 0; i < s->d && in[ATTENTION_Q].wanted; i++) {
        double sum = 0.0;
        for (int64_t j = 0; j < s->S; j++) sum += g->dz[j] * k[j * s->D + i];
        adze_grad_put(&in[ATTENTION_Q], at + i, scale * sum);
    }
}

/* The gradient of one head of all keys, or values, of image n: width channels of `channels`. */
static void put_head(const adze_arg *arg, int64_t S, int64_t channels, int64_t width, int64_t n, int64_t h, const double *sum)
{
    for (int64_t j = 0; j < S * width && arg->wanted; j++)
        adze_grad_put(arg, (n * S + j / width) * channels + h * width + j % width, sum[j]);
}

static adze_status attention_bwd(const adze_call *c)
{
    adze_status st = ADZE_OK;
    const attention_sizes s = sizes_of(c);
    const adze_arg *bias = &c->in[ATTENTION_BIAS];
    const int64_t head = s.S * (s.d + s.e), pairs = bias->wanted ? s.L * s.S : 0;
    double *all = adze_calloc((size_t)(2 * s.S + head + pairs), sizeof *all);
    REQUIRE(all, ADZE_ENOMEM, "attention: sums of gradients");
    attention_sums g = { .p = all, .dz = all + s.S, .dk = all + 2 * s.S };
    g.dv = g.dk + s.S * s.d;
    g.dbias = bias->wanted ? g.dv + s.S * s.e : NULL;
    for (int64_t n = 0; n < s.N; n++)
        for (int64_t h = 0; h < s.D / s.d; h++) {
            for (int64_t i = 0; i < head; i++) g.dk[i] = 0.0;
            for (int64_t l = 0; l < s.L; l++) backward_row(c, &s, n, h, l, &g);
            put_head(&c->in[ATTENTION_K], s.S, s.D, s.d, n, h, g.dk);
            put_head(&c->in[ATTENTION_V], s.S, s.E, s.e, n, h, g.dv);
        }
    for (int64_t i = 0; i < pairs; i++) adze_grad_put(bias, i, g.dbias[i]);
done:
    adze_free(all);
    return st;
}

const adze_op_def adze_op_attention = {
    .name = "attention",
    .attrs_bytes = sizeof(attention_attrs),
    .shape = attention_shape,
    .flops = attention_flops,
    .forward = attention_fwd,
    .backward = attention_bwd,
    .backward_reads_in = 1u << ATTENTION_Q | 1u << ATTENTION_K | 1u << ATTENTION_V | 1u << ATTENTION_BIAS,
    .in_place_input = -1,
};

adze_value adze_attention(adze_graph *g, adze_value q, adze_value k, adze_value v, adze_value bias, const adze_attention_opts *opts)
{
    const adze_value in[ATTENTION_OPERANDS] = { q, k, v, bias };
    if (opts->heads < 1) return adze_graph_fail(g, ADZE_EINVAL, "attention: %" PRId64 " heads, want at least 1", opts->heads);
    adze_shape s = adze_graph_shape(g, q);
    attention_attrs a = { .heads = opts->heads, .grid = { opts->grid[0], opts->grid[1] }, .half = opts->half, .scale = opts->scale,
                          .mask = opts->mask };
    if (a.scale == 0.0f && s.rank > 0) a.scale = (float)(1.0 / sqrt((double)s.dim[s.rank - 1] / (double)a.heads));
    return adze_graph_add(g, ADZE_OP_attention, &a, in, ATTENTION_OPERANDS, 1);
}

/* x projected by the i-th of the three blocks of in_proj. */
static adze_value project(adze_graph *g, adze_value x, const adze_mha_params *p, int64_t i)
{
    adze_shape w = adze_graph_shape(g, p->in_weight);
    int64_t rows = w.dim[0] / 3;
    adze_value bias = p->in_bias == ADZE_NONE ? ADZE_NONE : adze_slice(g, p->in_bias, 0, i * rows, rows);
    return adze_linear(g, x, adze_slice(g, p->in_weight, 0, i * rows, rows), bias);
}

adze_value adze_mha(adze_graph *g, adze_value q, adze_value k, adze_value v, const adze_mha_params *p, const adze_attention_opts *opts)
{
    adze_shape w = adze_graph_shape(g, p->in_weight);
    char text[ADZE_SHAPE_TEXT];
    if (w.rank != 2 || w.dim[0] != 3 * w.dim[1])
        return adze_graph_fail(g, ADZE_ESHAPE, "mha: in_proj %s, want (3D,D)", adze_shape_text(&w, text));
    adze_value y = adze_attention(g, project(g, q, p, 0), project(g, k, p, 1), project(g, v, p, 2), ADZE_NONE, opts);
    return adze_linear(g, y, p->out_weight, p->out_bias);
}
