/* reduce.cu - one dimension to one number, forward and backward: core/op_reduce.c.
 * bytes   forward reads x (the variance a second time from cache): 4 per element; backward writes dx: 4 (8 where x is read)
 * floor   mean of (16,64,64): 0.3 MB: launch-bound
 * launch  a warp per line, a block from 2048 elements on, a thread where lines lie across the memory
 * order   sums in double by sums.cuh; of equal maxima the first */
#include "core/axis.h"
#include "core/op_reduce.h"
#include "core/ops.h"
#include "cuda/sums.cuh"

namespace {

template <int FN, int G> __device__ static inline double sum_of(const float *x, int64_t n, int64_t inner, int lane, double shift)
{
    double sum = 0.0;
    for (int64_t i = lane; i < n; i += G) {
        const double v = (double)x[i * inner] - shift;
        sum += FN == ADZE_REDUCE_VAR || FN == ADZE_REDUCE_NORM ? v * v : v;
    }
    return group_sum<G>(sum);
}

template <int FN> struct forward_body {
    const float *x;
    float *y, *index; /* index: of the maximum only */
    int64_t n, inner;
    template <int G> __device__ void line(int64_t line, int lane) const
    {
        const float *in = x + line / inner * n * inner + line % inner;
        double out = 0.0;
        if (FN == ADZE_REDUCE_MAX) {
            float best = -INFINITY;
            int64_t at = n; /* behind all: the first -infinity beats it */
            for (int64_t i = lane; i < n; i += G)
                if (beats(in[i * inner], i, best, at)) best = in[i * inner], at = i;
            group_first_maximum<G>(&best, &at);
            if (lane == 0) y[line] = best, index[line] = (float)at;
            return;
        }
        const double mean = FN == ADZE_REDUCE_VAR ? sum_of<ADZE_REDUCE_SUM, G>(in, n, inner, lane, 0.0) / (double)n : 0.0;
        out = sum_of<FN, G>(in, n, inner, lane, mean);
        if (FN == ADZE_REDUCE_MEAN || FN == ADZE_REDUCE_VAR) out /= (double)n;
        if (FN == ADZE_REDUCE_NORM) out = sqrt(out);
        if (lane == 0) y[line] = (float)out;
    }
};

/* Sum, mean and maximum do not read x: it may be gone. */
template <int FN> struct backward_body {
    const float *x, *index, *dy;
    float *dx;
    int64_t n, inner;
    bool add;
    template <int G> __device__ void line(int64_t line, int lane) const
    {
        const int64_t from = line / inner * n * inner + line % inner;
        const double d = dy[line];
        double mean = 0.0, norm = 0.0;
        if (FN == ADZE_REDUCE_VAR) mean = sum_of<ADZE_REDUCE_SUM, G>(x + from, n, inner, lane, 0.0) / (double)n;
        if (FN == ADZE_REDUCE_NORM) norm = sqrt(sum_of<FN, G>(x + from, n, inner, lane, 0.0));
        for (int64_t i = lane; i < n; i += G) {
            double g = d;
            switch (FN) {
            case ADZE_REDUCE_MEAN: g = d / (double)n; break;
            case ADZE_REDUCE_VAR: g = 2.0 * d * ((double)x[from + i * inner] - mean) / (double)n; break;
            case ADZE_REDUCE_NORM: g = norm > 0.0 ? d * (double)x[from + i * inner] / norm : 0.0; break;
            case ADZE_REDUCE_MAX: g = (float)i == index[line] ? d : 0.0; break;
            }
            put(dx + from + i * inner, add, (float)g);
        }
    }
};

template <int FN> static adze_status run_fn(const adze_call *c)
{
    const adze_axis s = adze_axis_of(&c->in[0].shape, static_cast<const reduce_attrs *>(c->attrs)->dim);
    float *index = FN == ADZE_REDUCE_MAX ? c->out[1].data : NULL;
    if (c->backward)
        return lines_launch(c, backward_body<FN>{ c->in[0].data, index, c->out[0].grad, c->in[0].grad, s.n, s.inner, c->in[0].accumulate },
                            s.outer * s.inner, s.n, s.inner);
    return lines_launch(c, forward_body<FN>{ c->in[0].data, c->out[0].data, index, s.n, s.inner }, s.outer * s.inner, s.n, s.inner);
}

static adze_status run(const adze_call *c)
{
    switch (static_cast<const reduce_attrs *>(c->attrs)->fn) {
    case ADZE_REDUCE_SUM: return run_fn<ADZE_REDUCE_SUM>(c);
    case ADZE_REDUCE_MEAN: return run_fn<ADZE_REDUCE_MEAN>(c);
    case ADZE_REDUCE_VAR: return run_fn<ADZE_REDUCE_VAR>(c);
    case ADZE_REDUCE_NORM: return run_fn<ADZE_REDUCE_NORM>(c);
    default: return run_fn<ADZE_REDUCE_MAX>(c);
    }
}

} /* namespace */

const adze_kernel adze_cuda_reduce = cuda_kernel(accepts_all, NULL, run);
const adze_kernel adze_cuda_reduce_backward = cuda_kernel(accepts_all, NULL, run);
