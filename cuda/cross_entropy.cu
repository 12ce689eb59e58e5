/* cross_entropy.cu - mean of -log softmax(x)[target] over rows, forward and backward: core/op_cross_entropy.c.
 * A target outside cannot stop a recorded step: it makes the loss NaN.
 * bytes   forward reads x twice (once from cache): 4 per element; backward x twice, dx: 8
 * floor   4096 rows of 1000: forward 16 MB, 16 us at 1008 GB/s, 5 us at 3350 GB/s
 * launch  a warp per row, a block from 2048 classes on; the rows' terms (8 bytes each) are added by one block
 * order   sums in double by sums.cuh */
#include "core/op_cross_entropy.h"
#include "cuda/sums.cuh"

namespace {

/* log(sum exp(x)) of a row. */
template <int G> __device__ static inline double log_sum(const float *x, int64_t C, int lane)
{
    float m = -INFINITY;
    int64_t from = 0;
    double sum = 0.0;
    for (int64_t k = lane; k < C; k += G) m = fmaxf(m, x[k]);
    group_first_maximum<G>(&m, &from);
    for (int64_t k = lane; k < C; k += G) sum += (double)expf(x[k] - m);
    return (double)m + log(group_sum<G>(sum));
}

struct rows_body {
    const float *x, *target;
    double *part;
    int64_t C;
    template <int G> __device__ void line(int64_t row, int lane) const
    {
        const double all = log_sum<G>(x + row * C, C, lane);
        const float t = target[row];
        const bool sound = t >= 0.0f && t < (float)C && t == floorf(t);
        if (lane == 0) part[row] = sound ? all - (double)x[row * C + (int64_t)t] : (double)NAN;
    }
};

struct mean_body {
    const double *part;
    float *y;
    int64_t rows;
    template <int G> __device__ void line(int64_t, int lane) const
    {
        double sum = 0.0;
        for (int64_t r = lane; r < rows; r += G) sum += part[r];
        sum = group_sum<G>(sum);
        if (lane == 0) *y = (float)(sum / (double)rows);
    }
};

struct backward_body {
    const float *x, *target, *dy;
    float *dx;
    int64_t C, rows;
    bool add;
    template <int G> __device__ void line(int64_t row, int lane) const
    {
        const float all = (float)log_sum<G>(x + row * C, C, lane), d = (float)((double)*dy / (double)rows), t = target[row];
        for (int64_t k = lane; k < C; k += G) put(dx + row * C + k, add, d * (expf(x[row * C + k] - all) - ((float)k == t ? 1.0f : 0.0f)));
    }
};

static int64_t rows(const adze_call *c) { return adze_shape_count(&c->in[CROSS_ENTROPY_TARGET].shape); }
static int64_t classes(const adze_call *c) { return c->in[CROSS_ENTROPY_X].shape.dim[c->in[CROSS_ENTROPY_X].shape.rank - 1]; }

static adze_status prepare(adze_call *c)
{
    c->scratch_bytes = (size_t)rows(c) * sizeof(double);
    return ADZE_OK;
}

static adze_status run(const adze_call *c)
{
    double *part = static_cast<double *>(c->scratch);
    const adze_status st =
        lines_launch(c, rows_body{ c->in[CROSS_ENTROPY_X].data, c->in[CROSS_ENTROPY_TARGET].data, part, classes(c) }, rows(c), classes(c), 1);
    return st != ADZE_OK ? st : lines_launch_groups<mean_body, LINE_THREADS>(c, mean_body{ part, c->out[0].data, rows(c) }, 1);
}

static adze_status run_backward(const adze_call *c)
{
    const adze_arg *x = &c->in[CROSS_ENTROPY_X], *target = &c->in[CROSS_ENTROPY_TARGET];
    if (target->wanted) return adze_fail(ADZE_EINVAL, "cross_entropy: a class has no gradient");
    return lines_launch(c, backward_body{ x->data, target->data, c->out[0].grad, x->grad, classes(c), rows(c), x->accumulate }, rows(c), classes(c), 1);
}

} /* namespace */

const adze_kernel adze_cuda_cross_entropy = cuda_kernel(accepts_all, prepare, run);
const adze_kernel adze_cuda_cross_entropy_backward = cuda_kernel(accepts_all, NULL, run_backward);
