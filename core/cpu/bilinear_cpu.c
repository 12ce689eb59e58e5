/* bilinear_cpu.c - bilinear resizing of (N,H,W,C) maps, vectorised over channels, split over output rows.
 * Floor: x read once, y written once. Weights are computed per row and column in double and rounded once. */
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

const adze_kernel adze_cpu_bilinear = { .name = "cpu", .accepts = accepts, .run = run };
