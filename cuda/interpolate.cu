/* interpolate.cu - resizing of maps, all modes, forward and backward: core/op_interpolate.c in float32.
 * bytes   x once (taps come from cache) and y; backward dy once and dx
 * floor   (16,16,16,1024) -> (16,32,32,1024): 84 MB: 83 us at 1008 GB/s, 25 us at 3350 GB/s
 * launch  256 threads of 4 channels each; source positions in double, three operations per axis and thread
 * order   taps ascending; backward is a gather: an element visits the outputs that may have used it */
#include "core/op_interpolate.h"
#include "cuda/cells.cuh"

namespace {

/* One axis: n -> m elements. */
struct axis {
    int n, m;
    double scale; /* source steps per output step */
    double widen; /* antialias: of the kernel */
    bool align_corners;
};

struct taps {
    int from, count;
};

__device__ static inline int clamped(int i, int n) { return min(max(i, 0), n - 1); }

__device__ static inline double cubic(double x, double a)
{
    x = fabs(x);
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    if (x < 2.0) return a * (((x - 5.0) * x + 8.0) * x - 4.0);
    return 0.0;
}

enum { NEAREST, BILINEAR, BICUBIC, WIDE_BILINEAR, WIDE_BICUBIC };

__device__ static inline double source(const axis &a, int i)
{
    return a.align_corners ? (double)i * a.scale : ((double)i + 0.5) * a.scale - 0.5;
}

/* The taps of output i are source elements from .. from+count-1, clamped to the map, and weigh weight_of(). */
template <int MODE> __device__ static inline taps taps_of(const axis &a, int i)
{
    if (MODE == NEAREST) return taps{ (int)((int64_t)i * a.n / a.m), 1 };
    if (MODE == BILINEAR) return taps{ min((int)fmax(source(a, i), 0.0), a.n - 1), 2 };
    if (MODE == BICUBIC) return taps{ (int)floor(source(a, i)) - 1, 4 };
    const double support = (MODE == WIDE_BILINEAR ? 1.0 : 2.0) * a.widen, center = a.scale * ((double)i + 0.5);
    const int from = max((int)(center - support + 0.5), 0), to = min((int)(center + support + 0.5), a.n);
    return taps{ from, to - from };
}

/* The weight of tap t, not yet normalised in the wide modes. */
template <int MODE> __device__ static inline double raw_weight(const axis &a, int i, const taps &s, int t)
{
    if (MODE == NEAREST) return 1.0;
    if (MODE == BILINEAR) {
        const double hi = fmax(source(a, i), 0.0) - (double)s.from;
        return t == 0 ? 1.0 - hi : hi;
    }
    if (MODE == BICUBIC) return cubic(source(a, i) - (double)(s.from + t), -0.75);
    const double d = ((double)(s.from + t) - a.scale * ((double)i + 0.5) + 0.5) / a.widen;
    return MODE == WIDE_BILINEAR ? fmax(0.0, 1.0 - fabs(d)) : cubic(d, -0.5);
}

template <int MODE> __device__ static inline double weight_sum(const axis &a, int i, const taps &s)
{
    if (MODE < WIDE_BILINEAR) return 1.0;
    double sum = 0.0;
    for (int t = 0; t < s.count; t++) sum += raw_weight<MODE>(a, i, s, t);
    return sum;
}

template <int MODE> struct forward_body {
    const float *x;
    float *y;
    axis v, h; /* rows, columns */
    int64_t C;
    template <int V> __device__ void at(int row, int k) const
    {
        const int ox = row % h.m, oy = row / h.m % v.m, n = row / h.m / v.m;
        const taps ty = taps_of<MODE>(v, oy), tx = taps_of<MODE>(h, ox);
        const double all = weight_sum<MODE>(v, oy, ty) * weight_sum<MODE>(h, ox, tx);
        pack<V> out;
#pragma unroll
        for (int j = 0; j < V; j++) out.v[j] = 0.0f;
        for (int a = 0; a < ty.count; a++) {
            const int64_t line = (int64_t)(n * v.n + clamped(ty.from + a, v.n)) * h.n;
            const double wy = raw_weight<MODE>(v, oy, ty, a) / all;
            for (int b = 0; b < tx.count; b++) {
                const float w = (float)(wy * raw_weight<MODE>(h, ox, tx, b));
                const pack<V> in = load<V>(x + (line + clamped(tx.from + b, h.n)) * C + k);
#pragma unroll
                for (int j = 0; j < V; j++) out.v[j] += w * in.v[j];
            }
        }
        store<V>(y + row * C + k, out);
    }
};

/* The outputs whose taps may include element j; at the borders clamping brings in the rest. */
template <int MODE> __device__ static inline taps outputs_of(const axis &a, int j)
{
    const bool centred = MODE == NEAREST || MODE >= WIDE_BILINEAR || !a.align_corners;
    const double shift = centred ? 0.5 : 0.0, support = MODE == BICUBIC || MODE == WIDE_BICUBIC ? 2.0 : 1.0;
    const double reach = support * a.widen + (MODE == BILINEAR || MODE == BICUBIC ? 0.0 : 1.0);
    if (a.n == 1 || a.scale == 0.0) return taps{ 0, a.m };
    const int from = j == 0 ? 0 : max((int)floor(((double)j - reach + shift) / a.scale - shift), 0);
    const int to = j == a.n - 1 ? a.m : min((int)ceil(((double)j + reach + shift) / a.scale - shift) + 1, a.m);
    return taps{ from, max(to - from, 0) };
}

/* What output i weighs element j with. */
template <int MODE> __device__ static inline double weight_between(const axis &a, int i, int j)
{
    const taps s = taps_of<MODE>(a, i);
    double sum = 0.0;
    for (int t = 0; t < s.count; t++)
        if (clamped(s.from + t, a.n) == j) sum += raw_weight<MODE>(a, i, s, t);
    return sum != 0.0 ? sum / weight_sum<MODE>(a, i, s) : 0.0;
}

template <int MODE> struct backward_body {
    const float *dy;
    float *dx;
    axis v, h;
    int64_t C;
    bool add;
    template <int V> __device__ void at(int row, int k) const
    {
        const int ix = row % h.n, iy = row / h.n % v.n, n = row / h.n / v.n;
        const taps ry = outputs_of<MODE>(v, iy), rx = outputs_of<MODE>(h, ix);
        double sum[V];
#pragma unroll
        for (int j = 0; j < V; j++) sum[j] = 0.0;
        for (int oy = ry.from; oy < ry.from + ry.count; oy++) {
            const double wy = weight_between<MODE>(v, oy, iy);
            if (wy == 0.0) continue;
            for (int ox = rx.from; ox < rx.from + rx.count; ox++) {
                const double w = wy * weight_between<MODE>(h, ox, ix);
                if (w == 0.0) continue;
                const pack<V> d = load<V>(dy + ((int64_t)(n * v.m + oy) * h.m + ox) * C + k);
#pragma unroll
                for (int j = 0; j < V; j++) sum[j] += w * (double)d.v[j];
            }
        }
        pack<V> out;
#pragma unroll
        for (int j = 0; j < V; j++) out.v[j] = (float)sum[j];
        put<V>(dx + row * C + k, add, out);
    }
};

static axis axis_between(const adze_interpolate_opts *o, int64_t n, int64_t m)
{
    axis a = { (int)n, (int)m, (double)n / (double)m, 1.0, o->align_corners };
    if (o->align_corners && o->mode != ADZE_INTERPOLATE_NEAREST) a.scale = m > 1 ? (double)(n - 1) / (double)(m - 1) : 0.0;
    if (o->antialias && a.scale > 1.0) a.widen = a.scale;
    return a;
}

template <int MODE> static adze_status run_mode(const adze_call *c)
{
    const adze_interpolate_opts *o = &static_cast<const interpolate_attrs *>(c->attrs)->o;
    const int64_t *x = c->in[0].shape.dim, *y = c->out[0].shape.dim, C = x[3];
    const axis v = axis_between(o, x[1], y[1]), h = axis_between(o, x[2], y[2]);
    if (c->backward)
        return cells_launch(c, backward_body<MODE>{ c->out[0].grad, c->in[0].grad, v, h, C, c->in[0].accumulate },
                            adze_shape_span(&c->in[0].shape, 0, 3), C, C % 4 == 0);
    return cells_launch(c, forward_body<MODE>{ c->in[0].data, c->out[0].data, v, h, C }, adze_shape_span(&c->out[0].shape, 0, 3), C, C % 4 == 0);
}

static adze_status run(const adze_call *c)
{
    const adze_interpolate_opts *o = &static_cast<const interpolate_attrs *>(c->attrs)->o;
    switch (o->mode) {
    case ADZE_INTERPOLATE_NEAREST: return run_mode<NEAREST>(c);
    case ADZE_INTERPOLATE_BILINEAR: return o->antialias ? run_mode<WIDE_BILINEAR>(c) : run_mode<BILINEAR>(c);
    default: return o->antialias ? run_mode<WIDE_BICUBIC>(c) : run_mode<BICUBIC>(c);
    }
}

} /* namespace */

const adze_kernel adze_cuda_interpolate = cuda_kernel(accepts_all, NULL, run);
const adze_kernel adze_cuda_interpolate_backward = cuda_kernel(accepts_all, NULL, run);
