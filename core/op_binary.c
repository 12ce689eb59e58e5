/* op_binary.c - elementwise sum, difference, product, quotient with broadcasting.
 *
 *   in   x, z: aligned at the last dimension, a dimension of 1 is repeated
 *   y    x fn z       source: torch.add, sub, mul, div */
#include "core/op_binary.h"

#include "core/memory.h"
#include "core/ops.h"

/* The broadcast shape; false if the shapes do not fit. */
static bool broadcast(const adze_shape *x, const adze_shape *z, adze_shape *y)
{
    y->rank = x->rank > z->rank ? x->rank : z->rank;
    for (int d = 0; d < y->rank; d++) {
        int dx = d - (y->rank - x->rank), dz = d - (y->rank - z->rank);
        int64_t nx = dx >= 0 ? x->dim[dx] : 1, nz = dz >= 0 ? z->dim[dz] : 1;
        if (nx != nz && nx != 1 && nz != 1) return false;
        y->dim[d] = nx == 1 ? nz : nx;
    }
    return true;
}

static adze_status binary_shape(adze_call *c)
{
    char xs[ADZE_SHAPE_TEXT], zs[ADZE_SHAPE_TEXT];
    if (!broadcast(&c->in[0].shape, &c->in[1].shape, &c->out[0].shape))
        return adze_fail(ADZE_ESHAPE, "%s and %s cannot be broadcast", adze_shape_text(&c->in[0].shape, xs),
                         adze_shape_text(&c->in[1].shape, zs));
    return ADZE_OK;
}

/* Strides (in elements) of an operand seen in y's dimensions; 0 where it is repeated. */
static void strides_in(const adze_shape *s, const adze_shape *y, int64_t stride[ADZE_MAX_RANK])
{
    int64_t step = 1;
    for (int d = y->rank - 1; d >= 0; d--) {
        int ds = d - (y->rank - s->rank);
        int64_t n = ds >= 0 ? s->dim[ds] : 1;
        stride[d] = n == 1 ? 0 : step;
        step *= n;
    }
}

static double apply(int fn, double x, double z)
{
    switch ((adze_binary_fn)fn) {
    case ADZE_BINARY_ADD: return x + z;
    case ADZE_BINARY_SUB: return x - z;
    case ADZE_BINARY_MUL: return x * z;
    case ADZE_BINARY_DIV: return x / z;
    }
    return 0.0;
}

static adze_status binary_fwd(const adze_call *c)
{
    const binary_attrs *a = c->attrs;
    const adze_shape *y = &c->out[0].shape;
    int64_t sx[ADZE_MAX_RANK], sz[ADZE_MAX_RANK], n = adze_shape_count(y);
    strides_in(&c->in[0].shape, y, sx);
    strides_in(&c->in[1].shape, y, sz);
    for (int64_t i = 0; i < n; i++) {
        int64_t rest = i, px = 0, pz = 0;
        for (int d = y->rank - 1; d >= 0; d--) {
            px += rest % y->dim[d] * sx[d];
            pz += rest % y->dim[d] * sz[d];
            rest /= y->dim[d];
        }
        c->out[0].data[i] = (float)apply(a->fn, c->in[0].data[px], c->in[1].data[pz]);
    }
    return ADZE_OK;
}

static unsigned binary_reads(const void *attrs)
{
    int fn = ((const binary_attrs *)attrs)->fn;
    return fn == ADZE_BINARY_MUL || fn == ADZE_BINARY_DIV ? 3u : 0u;
}

/* d(x fn z) with respect to operand `which`. */
static double slope(int fn, int which, double x, double z)
{
    switch ((adze_binary_fn)fn) {
    case ADZE_BINARY_ADD: return 1.0;
    case ADZE_BINARY_SUB: return which == 0 ? 1.0 : -1.0;
    case ADZE_BINARY_MUL: return which == 0 ? z : x;
    case ADZE_BINARY_DIV: return which == 0 ? 1.0 / z : -x / (z * z);
    }
    return 0.0;
}

/* Where a dimension was repeated its gradient is the sum over the repetitions. In place, dx takes the memory of dy: then z is
 * first; else x is, because x and z may be one value, to which the second writer adds. */
static adze_status binary_bwd(const adze_call *c)
{
    adze_status st = ADZE_OK;
    const binary_attrs *a = c->attrs;
    const adze_shape *y = &c->out[0].shape;
    int64_t stride[2][ADZE_MAX_RANK], n = adze_shape_count(y);
    double *sum = NULL;
    for (int k = 0; k < 2; k++) strides_in(&c->in[k].shape, y, stride[k]);
    for (int turn = 0; turn < 2; turn++) {
        int k = c->in_place ? 1 - turn : turn;
        if (!c->in[k].wanted) continue;
        int64_t m = adze_shape_count(&c->in[k].shape);
        adze_free(sum);
        REQUIRE(sum = adze_calloc((size_t)m, sizeof *sum), ADZE_ENOMEM, "binary: sums");
        for (int64_t i = 0; i < n; i++) {
            int64_t rest = i, at[2] = { 0, 0 };
            for (int d = y->rank - 1; d >= 0; d--) {
                at[0] += rest % y->dim[d] * stride[0][d];
                at[1] += rest % y->dim[d] * stride[1][d];
                rest /= y->dim[d];
            }
            sum[at[k]] += c->out[0].grad[i] * (binary_reads(a) ? slope(a->fn, k, c->in[0].data[at[0]], c->in[1].data[at[1]]) : slope(a->fn, k, 0.0, 0.0));
        }
        for (int64_t i = 0; i < m; i++) adze_grad_put(&c->in[k], i, sum[i]);
    }
done:
    adze_free(sum);
    return st;
}

static const char *binary_label(const adze_call *c)
{
    static const char *const names[] = { "add", "sub", "mul", "div" };
    return names[((const binary_attrs *)c->attrs)->fn];
}

const adze_op_def adze_op_binary = {
    .name = "binary",
    .attrs_bytes = sizeof(binary_attrs),
    .shape = binary_shape,
    .forward = binary_fwd,
    .backward = binary_bwd,
    .backward_reads = binary_reads,
    .in_place_input = 0, /* the plan checks that the sizes agree */
    .label = binary_label,
};

adze_value adze_binary(adze_graph *g, adze_binary_fn fn, adze_value x, adze_value z)
{
    binary_attrs a = { .fn = fn };
    return adze_graph_add(g, ADZE_OP_binary, &a, (adze_value[]){ x, z }, 2, 1);
}
