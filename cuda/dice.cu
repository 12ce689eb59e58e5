/* dice.cu - dice loss of probabilities against a mask, forward and backward: core/op_dice.c.
 * bytes   forward reads x and mask: 8 per element; backward reads them twice, writes dx: 20
 * floor   (16,256,256): 8 MB forward: 8 us at 1008 GB/s, 3 us at 3350 GB/s
 * launch  sums: 256 threads of 4 elements, up to 1024 blocks over all slices; then one thread per slice, one block
 * order   sums in double by sums.cuh */
#include "core/op_dice.h"
#include "cuda/sums.cuh"

namespace {

/* Per slice: q and its denominator s. */
struct quotients_body {
    enum { SUMS = 2 };
    const float *x, *mask;
    double *quotient; /* (B,2) */
    int64_t n;
    float threshold;
    bool complement;
    template <int V> __device__ void add(int64_t b, int64_t i, double *sum) const
    {
        const pack<V> v = load<V>(x + b * n + i), m = load<V>(mask + b * n + i);
#pragma unroll
        for (int j = 0; j < V; j++) {
            const bool on = (m.v[j] > threshold) != complement;
            if (on) sum[0] += (double)v.v[j];
            sum[1] += (double)v.v[j] + (on ? 1.0 : 0.0);
        }
    }
    __device__ void finish(int64_t b, const double *sum) const
    {
        quotient[2 * b] = (2.0 * sum[0] + 1.0) / (sum[1] + 1.0);
        quotient[2 * b + 1] = sum[1] + 1.0;
    }
};

struct mean_body {
    const double *quotient;
    float *y;
    int64_t B;
    template <int G> __device__ void line(int64_t, int lane) const
    {
        double sum = 0.0;
        for (int64_t b = lane; b < B; b += G) sum += quotient[2 * b];
        sum = group_sum<G>(sum);
        if (lane == 0) *y = (float)(1.0 - sum / (double)B);
    }
};

struct backward_body {
    const float *mask, *dy;
    const double *quotient;
    float *dx;
    int64_t n, B;
    float threshold;
    bool complement, accumulate;
    template <int V> __device__ void at(int b, int i) const
    {
        const double d = -(double)*dy / (double)B / quotient[2 * b + 1];
        const float on = (float)(d * (2.0 - quotient[2 * b])), off = (float)(-d * quotient[2 * b]);
        pack<V> m = load<V>(mask + b * n + i);
#pragma unroll
        for (int j = 0; j < V; j++) m.v[j] = (m.v[j] > threshold) != complement ? on : off;
        put<V>(dx + b * n + i, accumulate, m);
    }
};

static int64_t slices(const adze_call *c) { return c->in[DICE_X].shape.dim[0]; }
static int64_t slice_length(const adze_call *c) { return adze_shape_count(&c->in[DICE_X].shape) / slices(c); }
static size_t sums_bytes(const adze_call *c) { return line_sums_bytes(slices(c), slice_length(c), quotients_body::SUMS); }

static adze_status prepare(adze_call *c)
{
    c->scratch_bytes = sums_bytes(c) + 2 * (size_t)slices(c) * sizeof(double);
    return ADZE_OK;
}

static double *quotients_of(const adze_call *c) { return reinterpret_cast<double *>(static_cast<char *>(c->scratch) + sums_bytes(c)); }

static adze_status quotients(const adze_call *c)
{
    const dice_attrs *a = static_cast<const dice_attrs *>(c->attrs);
    const quotients_body body = { c->in[DICE_X].data, c->in[DICE_MASK].data, quotients_of(c), slice_length(c), a->threshold, a->complement };
    return line_sums_launch(c, body, slices(c), body.n, body.n % 4 == 0, c->scratch);
}

static adze_status run(const adze_call *c)
{
    const adze_status st = quotients(c);
    return st != ADZE_OK ? st : lines_launch_groups<mean_body, 32>(c, mean_body{ quotients_of(c), c->out[0].data, slices(c) }, 1);
}

static adze_status run_backward(const adze_call *c)
{
    const dice_attrs *a = static_cast<const dice_attrs *>(c->attrs);
    const adze_arg *x = &c->in[DICE_X], *mask = &c->in[DICE_MASK];
    if (mask->wanted) return adze_fail(ADZE_EINVAL, "dice: a mask has no gradient");
    const adze_status st = quotients(c);
    if (st != ADZE_OK) return st;
    const backward_body body = { mask->data, c->out[0].grad, quotients_of(c), x->grad, slice_length(c), slices(c), a->threshold, a->complement,
                                 x->accumulate };
    return cells_launch(c, body, slices(c), body.n, body.n % 4 == 0);
}

} /* namespace */

const adze_kernel adze_cuda_dice = cuda_kernel(accepts_all, prepare, run);
const adze_kernel adze_cuda_dice_backward = cuda_kernel(accepts_all, prepare, run_backward);
