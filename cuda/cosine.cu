/* cosine.cu - cosines of the vectors of two tensors, forward and backward, each in one pass: core/op_cosine.c. The losses of
 * reverse distillation are this over (B, H W C), its anomaly map over (B,H,W,C).
 * bytes   forward reads x and z: 8 per pair of elements; backward reads both, writes one gradient: 12 (both gradients: 16)
 * floor   RD at 256x256, batch 16: 29.4 M pairs: forward 235 MB, 233 us at 1008 GB/s, 70 us at 3350 GB/s; backward 352 MB,
 *         350 us, 105 us
 * flops   five operations of the FP64 pipe per pair: 228 us of sm_89's, below the memory's time
 * launch  long vectors: 256 threads of 4 elements, up to 1024 blocks, then one thread per vector; short ones: a warp per vector
 * order   sums in double by sums.cuh; backward's elements are independent */
#include "core/axis.h"
#include "core/op_cosine.h"
#include "cuda/sums.cuh"

namespace {

struct forward_body {
    enum { SUMS = 3 };
    const float *x, *z;
    float *y, *saved;
    int64_t n, inner;
    double eps;
    bool distance;
    template <int V> __device__ void add(int64_t line, int64_t i, double *sum) const
    {
        const pack<V> a = load<V>(x + line * n + i), b = load<V>(z + line * n + i);
#pragma unroll
        for (int j = 0; j < V; j++) term(a.v[j], b.v[j], sum);
    }
    __device__ static void term(float a, float b, double *sum)
    {
        sum[0] = fma((double)a, (double)b, sum[0]);
        sum[1] = fma((double)a, (double)a, sum[1]);
        sum[2] = fma((double)b, (double)b, sum[2]);
    }
    __device__ void finish(int64_t line, const double *sum) const
    {
        const double rx = sqrt(sum[1]), rz = sqrt(sum[2]), cosine = sum[0] / (fmax(rx, eps) * fmax(rz, eps));
        float *s = saved + line * COSINE_SAVED;
        s[COSINE_DOT] = (float)sum[0], s[COSINE_RX] = (float)rx, s[COSINE_RZ] = (float)rz;
        y[line] = (float)(distance ? 1.0 - cosine : cosine);
    }
    template <int G> __device__ void line(int64_t line, int lane) const
    {
        const int64_t at = line / inner * n * inner + line % inner;
        double sum[SUMS] = { 0.0, 0.0, 0.0 };
        for (int64_t i = lane; i < n; i += G) term(x[at + i * inner], z[at + i * inner], sum);
        for (int s = 0; s < SUMS; s++) sum[s] = group_sum<G>(sum[s]);
        if (lane == 0) finish(line, sum);
    }
};

/* Rows and columns are vectors and their elements, or (ACROSS) elements and vectors. */
template <bool ACROSS> struct backward_body {
    const float *in[2], *saved, *dy;
    float *grad[2]; /* NULL: not wanted */
    int64_t n, inner;
    float eps;
    bool distance, add[2];
    template <int V> __device__ void at(int row, int k) const
    {
        const int64_t line = ACROSS ? row / n * inner + k : row, i = (int64_t)row * (ACROSS ? inner : n) + k;
        const float *s = saved + line * COSINE_SAVED;
        const float d = distance ? -dy[line] : dy[line], mx = fmaxf(s[COSINE_RX], eps), mz = fmaxf(s[COSINE_RZ], eps);
        const float toward = d / mx / mz, cosine = s[COSINE_DOT] / mx / mz * d;
        const pack<V> x = load<V>(in[0] + i), z = load<V>(in[1] + i);
        pack<V> g;
#pragma unroll
        for (int w = 0; w < 2; w++) {
            if (!grad[w]) continue;
            const float r = s[COSINE_RX + w], back = r > 0.0f ? cosine / (w == 0 ? mx : mz) / r : 0.0f;
#pragma unroll
            for (int j = 0; j < V; j++) g.v[j] = toward * (w == 0 ? z.v[j] : x.v[j]) - back * (w == 0 ? x.v[j] : z.v[j]);
            put<V>(grad[w] + i, add[w], g);
        }
    }
};

static adze_axis axis_of(const adze_call *c)
{
    return adze_axis_of(&c->in[COSINE_X].shape, static_cast<const cosine_attrs *>(c->attrs)->dim);
}

static bool is_split(adze_axis s) { return s.inner == 1 && s.n >= 2 * LINE_LONG; }

static adze_status prepare(adze_call *c)
{
    const adze_axis s = axis_of(c);
    c->scratch_bytes = is_split(s) ? line_sums_bytes(s.outer, s.n, forward_body::SUMS) : 0;
    return ADZE_OK;
}

static adze_status run(const adze_call *c)
{
    const cosine_attrs *a = static_cast<const cosine_attrs *>(c->attrs);
    const adze_axis s = axis_of(c);
    const forward_body body = { c->in[COSINE_X].data, c->in[COSINE_Z].data, c->out[0].data, c->out[1].data, s.n, s.inner, a->eps, a->distance };
    if (is_split(s)) return line_sums_launch(c, body, s.outer, s.n, s.n % 4 == 0, c->scratch);
    return lines_launch(c, body, s.outer * s.inner, s.n, s.inner);
}

template <bool ACROSS> static adze_status gradient(const adze_call *c, adze_axis s)
{
    const cosine_attrs *a = static_cast<const cosine_attrs *>(c->attrs);
    const adze_arg *x = &c->in[COSINE_X], *z = &c->in[COSINE_Z];
    const backward_body<ACROSS> body = { { x->data, z->data }, c->out[1].data, c->out[0].grad,
                                         { x->wanted ? x->grad : NULL, z->wanted ? z->grad : NULL }, s.n, s.inner, a->eps, a->distance,
                                         { x->accumulate, z->accumulate } };
    if (ACROSS) return cells_launch_packs<backward_body<ACROSS>, 1>(c, body, s.outer * s.n, s.inner);
    return cells_launch(c, body, s.outer, s.n, s.n % 4 == 0);
}

static adze_status run_backward(const adze_call *c)
{
    const adze_axis s = axis_of(c);
    return s.inner == 1 ? gradient<false>(c, s) : gradient<true>(c, s);
}

} /* namespace */

const adze_kernel adze_cuda_cosine = cuda_kernel(accepts_all, prepare, run);
const adze_kernel adze_cuda_cosine_backward = cuda_kernel(accepts_all, NULL, run_backward);
