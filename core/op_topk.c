/* op_topk.c - the k largest or smallest elements along one dimension, best first; of equals the earlier one first.
 *
 *   in   x      y: `dim` has length k      saved: the index of each, whole numbers in float32
 *   dx   dy where an element was taken, else 0       source: torch.topk */
#include "core/op_topk.h"

#include <inttypes.h>
#include <string.h>

#include "core/axis.h"
#include "core/ops.h"

static adze_status topk_shape(adze_call *c)
{
    const topk_attrs *a = c->attrs;
    const adze_shape *x = &c->in[0].shape;
    char text[ADZE_SHAPE_TEXT];
    int dim = adze_axis_index(x, a->dim);
    if (dim < 0 || a->k < 1 || a->k > x->dim[dim])
        return adze_fail(ADZE_ESHAPE, "%" PRId64 " of %s along dimension %d", a->k, adze_shape_text(x, text), (int)a->dim);
    for (int i = 0; i < 2; i++) {
        c->out[i].shape = *x;
        c->out[i].shape.dim[dim] = a->k;
    }
    return ADZE_OK;
}

static double topk_flops(const adze_call *c)
{
    return (double)adze_shape_count(&c->in[0].shape);
}

/* Keeps the best k seen so far in order: an element moves up past all that it beats. */
static adze_status topk_fwd(const adze_call *c)
{
    const topk_attrs *a = c->attrs;
    adze_axis s = adze_axis_of(&c->in[0].shape, a->dim);
    for (int64_t line = 0; line < s.outer * s.inner; line++) {
        const float *x = c->in[0].data + line / s.inner * s.n * s.inner + line % s.inner;
        int64_t at = line / s.inner * a->k * s.inner + line % s.inner, kept = 0;
        float *y = c->out[0].data + at, *index = c->out[1].data + at;
        for (int64_t i = 0; i < s.n; i++) {
            float v = x[i * s.inner];
            int64_t j = kept;
            while (j > 0 && (a->largest ? v > y[(j - 1) * s.inner] : v < y[(j - 1) * s.inner])) j--;
            if (j == a->k) continue;
            if (kept < a->k) kept++;
            for (int64_t m = kept - 1; m > j; m--) {
                y[m * s.inner] = y[(m - 1) * s.inner];
                index[m * s.inner] = index[(m - 1) * s.inner];
            }
            y[j * s.inner] = v, index[j * s.inner] = (float)i;
        }
    }
    return ADZE_OK;
}

static adze_status topk_bwd(const adze_call *c)
{
    const topk_attrs *a = c->attrs;
    adze_axis s = adze_axis_of(&c->in[0].shape, a->dim);
    float *dx = c->in[0].grad;
    if (!c->in[0].accumulate) memset(dx, 0, (size_t)adze_shape_count(&c->in[0].shape) * sizeof *dx);
    for (int64_t e = 0; e < s.outer * a->k * s.inner; e++) {
        int64_t o = e / s.inner / a->k;
        dx[(o * s.n + (int64_t)c->out[1].data[e]) * s.inner + e % s.inner] += c->out[0].grad[e];
    }
    return ADZE_OK;
}

const adze_op_def adze_op_topk = {
    .name = "topk",
    .attrs_bytes = sizeof(topk_attrs),
    .shape = topk_shape,
    .flops = topk_flops,
    .forward = topk_fwd,
    .backward = topk_bwd,
    .in_place_input = -1,
};

adze_value adze_topk(adze_graph *g, adze_value x, int64_t k, int dim, bool largest, adze_value *index)
{
    topk_attrs a = { .k = k, .dim = dim, .largest = largest };
    adze_value y = adze_graph_add(g, ADZE_OP_topk, &a, &x, 1, 2);
    if (index) *index = y != ADZE_NONE ? y + 1 : ADZE_NONE;
    return y;
}
