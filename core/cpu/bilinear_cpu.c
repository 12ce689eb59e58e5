/* bilinear_cpu.c - bilinear resizing of (N,H,W,C) maps, vectorised over channels, split over output rows.
 * Floor: x read once, y written once; backward the other way round. Weights are computed per row and column in double and rounded once. */
#include "core/cpu/kernels_cpu.h"
#include "core/op_interpolate.h"

static bool accepts(const adze_call *c)
{
    const adze_interpolate_opts *o = &((const interpolate_attrs *)c->attrs)->o;
    return o->mode == ADZE_INTERPOLATE_BILINEAR && !o->antialias;
}

/* Lower index, upper index and the upper one's weight for output i. */
static float source_of(bool align_corners, int64_t i, int64_t n, int64_t m, int64_t *lower, int64_t *upper)
{
    double s = align_corners ? (m > 1 ? (double)i * ((double)(n - 1) / (double)(m - 1)) : 0.0)
                             : ((double)i + 0.5) * ((double)n / (double)m) - 0.5;
    if (s < 0.0) s = 0.0;
    *lower = (int64_t)s < n ? (int64_t)s : n - 1;
    *upper = *lower + 1 < n ? *lower + 1 : *lower;
    return (float)(s - (double)*lower);
}

static adze_status run(const adze_call *c)
{
    const adze_interpolate_opts *o = &((const interpolate_attrs *)c->attrs)->o;
    const adze_shape *xs = &c->in[0].shape, *ys = &c->out[0].shape;
    int64_t N = xs->dim[0], H = xs->dim[1], W = xs->dim[2], C = xs->dim[3], Ho = ys->dim[1], Wo = ys->dim[2];
    const float *x = c->in[0].data;
    float *y = c->out[0].data;
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < N * Ho; row++) {
        int64_t y0, y1, x0, x1, n = row / Ho;
        float wy = source_of(o->align_corners, row % Ho, H, Ho, &y0, &y1);
        for (int64_t ox = 0; ox < Wo; ox++) {
            float wx = source_of(o->align_corners, ox, W, Wo, &x0, &x1);
            const float *a = x + ((n * H + y0) * W + x0) * C, *b = x + ((n * H + y0) * W + x1) * C;
            const float *d = x + ((n * H + y1) * W + x0) * C, *e = x + ((n * H + y1) * W + x1) * C;
            float *out = y + (row * Wo + ox) * C;
            for (int64_t k = 0; k < C; k++)
                out[k] = (1.0f - wy) * ((1.0f - wx) * a[k] + wx * b[k]) + wy * ((1.0f - wx) * d[k] + wx * e[k]);
        }
    }
    return ADZE_OK;
}

/* One axis for the backward pass: each output's lower source and the upper one's weight; each source's outputs. */
typedef struct {
    int64_t *lower, *first, *end; /* (m), (n), (n) */
    float *weight;                /* (m) */
    int64_t n, m;
} axis_table;

static size_t table_bytes(int64_t n, int64_t m)
{
    return (size_t)(m + 2 * n) * sizeof(int64_t) + (size_t)((m + 1) / 2 * 2) * sizeof(float);
}

/* Fills a table in `memory`; sources are monotone in the output, so that the outputs of a source are neighbours. */
static axis_table make_table(void *memory, bool align_corners, int64_t n, int64_t m)
{
    axis_table t = { .lower = memory, .n = n, .m = m };
    t.first = t.lower + m, t.end = t.first + n, t.weight = (float *)(t.end + n);
    for (int64_t j = 0; j < n; j++) t.first[j] = t.end[j] = 0;
    for (int64_t i = 0; i < m; i++) {
        int64_t source[2];
        t.weight[i] = source_of(align_corners, i, n, m, &source[0], &source[1]);
        t.lower[i] = source[0];
        for (int k = 0; k < 2; k++) {
            if (t.end[source[k]] == 0) t.first[source[k]] = i;
            t.end[source[k]] = i + 1;
        }
    }
    return t;
}

/* The share of source j in output i, one of its outputs; both taps are the same source at the far edge. */
static float share_of(const axis_table *t, int64_t j, int64_t i)
{
    int64_t upper = t->lower[i] + 1 < t->n ? t->lower[i] + 1 : t->lower[i];
    return (t->lower[i] == j ? 1.0f - t->weight[i] : 0.0f) + (upper == j ? t->weight[i] : 0.0f);
}

static adze_status prepare_backward(adze_call *c)
{
    const adze_shape *xs = &c->in[0].shape, *ys = &c->out[0].shape;
    c->scratch_bytes = table_bytes(xs->dim[1], ys->dim[1]) + table_bytes(xs->dim[2], ys->dim[2]);
    return ADZE_OK;
}

/* Each source gathers from its outputs, rows first: no two threads write one element, and the order is fixed. */
static adze_status run_backward(const adze_call *c)
{
    const adze_interpolate_opts *o = &((const interpolate_attrs *)c->attrs)->o;
    const adze_shape *xs = &c->in[0].shape, *ys = &c->out[0].shape;
    int64_t N = xs->dim[0], H = xs->dim[1], W = xs->dim[2], C = xs->dim[3], Ho = ys->dim[1], Wo = ys->dim[2];
    axis_table rows = make_table(c->scratch, o->align_corners, H, Ho);
    axis_table columns = make_table((unsigned char *)c->scratch + table_bytes(H, Ho), o->align_corners, W, Wo);
    const float *dy = c->out[0].grad;
#pragma omp parallel for schedule(static)
    for (int64_t p = 0; p < N * H * W; p++) {
        int64_t ix = p % W, iy = p / W % H, n = p / W / H;
        float *dx = c->in[0].grad + p * C;
        if (!c->in[0].accumulate)
            for (int64_t k = 0; k < C; k++) dx[k] = 0.0f;
        for (int64_t oy = rows.first[iy]; oy < rows.end[iy]; oy++)
            for (int64_t ox = columns.first[ix]; ox < columns.end[ix]; ox++) {
                float share = share_of(&rows, iy, oy) * share_of(&columns, ix, ox);
                const float *from = dy + ((n * Ho + oy) * Wo + ox) * C;
                for (int64_t k = 0; k < C; k++) dx[k] += share * from[k];
            }
    }
    return ADZE_OK;
}

const adze_kernel adze_cpu_bilinear = { .name = "cpu", .accepts = accepts, .run = run };
const adze_kernel adze_cpu_bilinear_backward = {
    .name = "cpu", .accepts = accepts, .prepare = prepare_backward, .run = run_backward,
};
