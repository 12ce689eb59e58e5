/* op_patch_embed.c - PatchCore's patch features: neighbourhoods of several layers, averaged to one row per position.
 *
 *   in    x_k (N,Hk,Wk,Ck)                        k < layers; the first one sets the grid H0 x W0
 *   patch v_k = zero-padded p x p neighbourhood, order c, ky, kx        (p*p*Ck)
 *   pool  u_k = adaptive mean of v_k to D1
 *   y     adaptive mean of [u_0 | u_1 | ...] to D2, layers k > 0 resized bilinearly to H0 x W0
 *
 * All steps are linear, so the resize is done last, on D2 instead of p*p*Ck channels (the same up to rounding).
 * Source: Roth et al., CVPR 2022; amazon-science/patchcore-inspection. */
#include "core/op_patch_embed.h"

#include <inttypes.h>
#include <string.h>

#include "core/memory.h"

static adze_status patch_embed_shape(adze_call *c)
{
    const adze_patch_embed_opts *o = &((const patch_embed_attrs *)c->attrs)->o;
    char text[ADZE_SHAPE_TEXT];
    if (o->patch < 1 || o->patch % 2 == 0 || o->pretrain_dim < 1 || o->target_dim < 1)
        return adze_fail(ADZE_EINVAL, "patch %d, dimensions %" PRId64 " and %" PRId64 "; want an odd patch and both above 0",
                         o->patch, o->pretrain_dim, o->target_dim);
    for (int k = 0; k < c->n_in; k++) {
        const adze_shape *x = &c->in[k].shape;
        if (x->rank != 4 || x->dim[0] != c->in[0].shape.dim[0])
            return adze_fail(ADZE_ESHAPE, "feature %d has shape %s", k, adze_shape_text(x, text));
    }
    const adze_shape *x0 = &c->in[0].shape;
    c->out[0].shape = ADZE_SHAPE(x0->dim[0], x0->dim[1] * x0->dim[2], o->target_dim);
    return ADZE_OK;
}

static double patch_embed_flops(const adze_call *c)
{
    const adze_patch_embed_opts *o = &((const patch_embed_attrs *)c->attrs)->o;
    double sum = 0.0;
    for (int k = 0; k < c->n_in; k++) {
        double positions = (double)adze_shape_span(&c->in[k].shape, 0, 3);
        sum += positions * ((double)c->in[k].shape.dim[3] * o->patch * o->patch + (double)o->pretrain_dim);
    }
    return sum + 3.0 * (double)adze_shape_count(&c->out[0].shape) * (c->n_in - 1);
}

/* A_k v for one position of layer k, as one row of D2 doubles. `pooled` holds D1 doubles. */
static void embed_row(const adze_call *c, int k, int64_t n, int64_t y, int64_t x, double *pooled, double *row)
{
    const adze_patch_embed_opts *o = &((const patch_embed_attrs *)c->attrs)->o;
    const adze_shape *s = &c->in[k].shape;
    int64_t H = s->dim[1], W = s->dim[2], C = s->dim[3], taps = (int64_t)o->patch * o->patch, half = o->patch / 2;
    int64_t D1 = o->pretrain_dim, D2 = o->target_dim, D = D1 * c->n_in;
    for (int64_t d = 0; d < D1; d++) {
        int64_t from = patch_embed_begin(d, C * taps, D1), to = patch_embed_end(d, C * taps, D1);
        double sum = 0.0;
        for (int64_t e = from; e < to; e++) {
            int64_t iy = y + e % taps / o->patch - half, ix = x + e % taps % o->patch - half;
            if (iy >= 0 && iy < H && ix >= 0 && ix < W) sum += c->in[k].data[((n * H + iy) * W + ix) * C + e / taps];
        }
        pooled[d] = sum / (double)(to - from);
    }
    for (int64_t j = 0; j < D2; j++) {
        int64_t from = patch_embed_begin(j, D, D2), to = patch_embed_end(j, D, D2);
        double sum = 0.0;
        for (int64_t d = from; d < to; d++)
            if (d / D1 == k) sum += pooled[d % D1];
        row[j] = sum / (double)(to - from);
    }
}

static adze_status patch_embed_fwd(const adze_call *c)
{
    adze_status st = ADZE_OK;
    const adze_patch_embed_opts *o = &((const patch_embed_attrs *)c->attrs)->o;
    int64_t N = c->in[0].shape.dim[0], H0 = c->in[0].shape.dim[1], W0 = c->in[0].shape.dim[2], D2 = o->target_dim;
    double *pooled = adze_calloc((size_t)o->pretrain_dim, sizeof *pooled), *rows = NULL;
    REQUIRE(pooled, ADZE_ENOMEM, "patch_embed: %" PRId64 " doubles", o->pretrain_dim);
    for (int k = 0; k < c->n_in; k++) {
        int64_t H = c->in[k].shape.dim[1], W = c->in[k].shape.dim[2];
        adze_free(rows);
        rows = adze_calloc((size_t)(H * W * D2), sizeof *rows);
        REQUIRE(rows, ADZE_ENOMEM, "patch_embed: %" PRId64 " doubles", H * W * D2);
        for (int64_t n = 0; n < N; n++) {
            for (int64_t p = 0; p < H * W; p++) embed_row(c, k, n, p / W, p % W, pooled, rows + p * D2);
            for (int64_t p = 0; p < H0 * W0; p++) {
                int64_t y0, y1, x0, x1;
                double wy = patch_embed_source(p / W0, H, H0, &y0, &y1), wx = patch_embed_source(p % W0, W, W0, &x0, &x1);
                float *out = c->out[0].data + (n * H0 * W0 + p) * D2;
                for (int64_t j = 0; j < D2; j++) {
                    double top = rows[(y0 * W + x0) * D2 + j] * (1.0 - wx) + rows[(y0 * W + x1) * D2 + j] * wx;
                    double bottom = rows[(y1 * W + x0) * D2 + j] * (1.0 - wx) + rows[(y1 * W + x1) * D2 + j] * wx;
                    double value = top * (1.0 - wy) + bottom * wy;
                    out[j] = (float)(k == 0 ? value : out[j] + value);
                }
            }
        }
    }
done:
    adze_free(pooled);
    adze_free(rows);
    return st;
}

const adze_op_def adze_op_patch_embed = {
    .name = "patch_embed",
    .attrs_bytes = sizeof(patch_embed_attrs),
    .shape = patch_embed_shape,
    .flops = patch_embed_flops,
    .forward = patch_embed_fwd,
    .remade = true,
    .in_place_input = -1,
};

adze_value adze_patch_embed(adze_graph *g, const adze_value *features, int n_features, const adze_patch_embed_opts *opts)
{
    if (n_features < 1 || n_features > ADZE_PATCH_EMBED_LAYERS)
        return adze_graph_fail(g, ADZE_EINVAL, "patch_embed: %d layers, want 1 to %d", n_features, ADZE_PATCH_EMBED_LAYERS);
    patch_embed_attrs a;
    memset(&a, 0, sizeof a); /* padding counts in keys of the graph */
    a.o.patch = opts->patch, a.o.pretrain_dim = opts->pretrain_dim, a.o.target_dim = opts->target_dim;
    return adze_graph_add(g, ADZE_OP_patch_embed, &a, features, n_features, 1);
}
