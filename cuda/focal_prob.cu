/* focal_prob.cu - focal loss of two probabilities per position against a mask, forward and backward: core/op_focal_prob.c.
 * bytes   forward 12 per position, backward 20
 * floor   (16,256,256,2): 13 MB forward: 12 us at 1008 GB/s, 4 us at 3350 GB/s
 * launch  forward: 256 threads, up to 1024 blocks, then one thread; backward: 256 threads of 4 positions
 * order   sums in double by sums.cuh */
#include "core/op_focal_prob.h"
#include "cuda/sums.cuh"

namespace {

struct mix {
    double q, w0, w1;
};

/* In double: 1 - q is small where the network is right. */
__device__ static inline mix mix_of(const float *x, const float *mask, int64_t i, double threshold, double smooth)
{
    const bool anomalous = mask[i] > threshold;
    mix m;
    m.w0 = anomalous ? smooth : 1.0 - smooth;
    m.w1 = anomalous ? 1.0 - smooth : smooth;
    m.q = m.w0 * (double)x[2 * i] + m.w1 * (double)x[2 * i + 1] + smooth;
    return m;
}

struct forward_body {
    enum { SUMS = 1 };
    const float *x, *mask;
    float *y;
    int64_t n;
    double threshold, gamma, smooth;
    template <int V> __device__ void add(int64_t, int64_t i, double *sum) const
    {
        const double q = mix_of(x, mask, i, threshold, smooth).q;
        sum[0] -= pow(1.0 - q, gamma) * log(q);
    }
    __device__ void finish(int64_t, const double *sum) const { *y = (float)(sum[0] / (double)n); }
};

struct backward_body {
    const float *x, *mask, *dy;
    float *dx;
    int64_t n;
    double threshold, gamma, smooth;
    bool accumulate;
    template <int V> __device__ void at(int64_t i) const
    {
        for (int j = 0; j < V; j++) {
            const mix m = mix_of(x, mask, i + j, threshold, smooth);
            const double d = (double)*dy / (double)n;
            const double slope = d * (gamma * pow(1.0 - m.q, gamma - 1.0) * log(m.q) - pow(1.0 - m.q, gamma) / m.q);
            put(dx + 2 * (i + j), accumulate, (float)(slope * m.w0));
            put(dx + 2 * (i + j) + 1, accumulate, (float)(slope * m.w1));
        }
    }
};

static int64_t positions(const adze_call *c) { return adze_shape_count(&c->in[FOCAL_MASK].shape); }

static adze_status prepare(adze_call *c)
{
    c->scratch_bytes = line_sums_bytes(1, positions(c), 1);
    return ADZE_OK;
}

static adze_status run(const adze_call *c)
{
    const focal_prob_attrs *a = static_cast<const focal_prob_attrs *>(c->attrs);
    const forward_body body = { c->in[FOCAL_X].data, c->in[FOCAL_MASK].data, c->out[0].data, positions(c), a->threshold, a->gamma, a->smooth };
    return line_sums_launch(c, body, 1, body.n, false, c->scratch);
}

static adze_status run_backward(const adze_call *c)
{
    const focal_prob_attrs *a = static_cast<const focal_prob_attrs *>(c->attrs);
    const adze_arg *x = &c->in[FOCAL_X], *mask = &c->in[FOCAL_MASK];
    if (mask->wanted) return adze_fail(ADZE_EINVAL, "focal_prob: a mask has no gradient");
    return flat_launch(c,
                       backward_body{ x->data, mask->data, c->out[0].grad, x->grad, positions(c), a->threshold, a->gamma, a->smooth,
                                      x->accumulate },
                       positions(c));
}

} /* namespace */

const adze_kernel adze_cuda_focal_prob = cuda_kernel(accepts_all, prepare, run);
const adze_kernel adze_cuda_focal_prob_backward = cuda_kernel(accepts_all, NULL, run_backward);
