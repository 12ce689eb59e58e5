/* batch_norm.cu - batch normalisation with given statistics, forward and backward: core/op_batch_norm.c in float32.
 * bytes   forward 8 per element; backward reads dy, writes dx: 8, and reads x, dy for the sums: 8 more where gamma or beta learn
 * floor   (16,64,64,256): 134 MB: 133 us at 1008 GB/s, 40 us at 3350 GB/s
 * launch  256 threads of 4 channels each, factors from cache
 * order   sums over rows in double by sums.cuh */
#include "core/op_batch_norm.h"
#include "cuda/sums.cuh"

namespace {

struct forward_body {
    const float *x, *gamma, *beta, *mean, *var;
    float *y;
    int64_t C;
    float eps;
    template <int V> __device__ void at(int row, int k) const
    {
        pack<V> v = load<V>(x + row * C + k);
        const pack<V> g = load<V>(gamma + k), b = load<V>(beta + k), m = load<V>(mean + k), s = load<V>(var + k);
#pragma unroll
        for (int j = 0; j < V; j++) v.v[j] = (v.v[j] - m.v[j]) * (g.v[j] / sqrtf(s.v[j] + eps)) + b.v[j];
        store<V>(y + row * C + k, v);
    }
};

struct backward_body {
    const float *dy, *gamma, *var;
    float *dx;
    int64_t C;
    float eps;
    bool add;
    template <int V> __device__ void at(int row, int k) const
    {
        pack<V> d = load<V>(dy + row * C + k);
        const pack<V> g = load<V>(gamma + k), s = load<V>(var + k);
#pragma unroll
        for (int j = 0; j < V; j++) d.v[j] *= g.v[j] / sqrtf(s.v[j] + eps);
        put<V>(dx + row * C + k, add, d);
    }
};

struct factors_body {
    enum { SUMS = 2 };
    const float *x, *dy, *mean, *var;
    float *dgamma, *dbeta; /* NULL: not wanted */
    int64_t C;
    float eps;
    bool add_gamma, add_beta;
    __device__ void add(int64_t k, int64_t row, double *sum) const
    {
        const double d = dy[row * C + k];
        sum[0] += d;
        sum[1] += d * ((double)x[row * C + k] - mean[k]);
    }
    __device__ void finish(int64_t k, const double *sum) const
    {
        if (dgamma) put(dgamma + k, add_gamma, (float)(sum[1] / sqrt((double)var[k] + eps)));
        if (dbeta) put(dbeta + k, add_beta, (float)sum[0]);
    }
};

static int64_t channels(const adze_call *c) { return c->in[BATCH_NORM_GAMMA].shape.dim[0]; }
static int64_t rows(const adze_call *c) { return adze_shape_count(&c->in[BATCH_NORM_X].shape) / channels(c); }

static adze_status run(const adze_call *c)
{
    const int64_t C = channels(c);
    const forward_body body = { c->in[BATCH_NORM_X].data,    c->in[BATCH_NORM_GAMMA].data, c->in[BATCH_NORM_BETA].data,
                                c->in[BATCH_NORM_MEAN].data, c->in[BATCH_NORM_VAR].data,   c->out[0].data,
                                C,                           static_cast<const batch_norm_attrs *>(c->attrs)->eps };
    return cells_launch(c, body, rows(c), C, C % 4 == 0);
}

static adze_status prepare_backward(adze_call *c)
{
    c->scratch_bytes = column_sums_bytes(rows(c), channels(c), factors_body::SUMS);
    return ADZE_OK;
}

static adze_status run_backward(const adze_call *c)
{
    const int64_t C = channels(c);
    const float eps = static_cast<const batch_norm_attrs *>(c->attrs)->eps, *dy = c->out[0].grad;
    const adze_arg *x = &c->in[BATCH_NORM_X], *gamma = &c->in[BATCH_NORM_GAMMA], *beta = &c->in[BATCH_NORM_BETA];
    adze_status st = ADZE_OK;
    if (c->in[BATCH_NORM_MEAN].wanted || c->in[BATCH_NORM_VAR].wanted)
        return adze_fail(ADZE_EINVAL, "batch_norm: the given statistics have no gradient");
    if (gamma->wanted || beta->wanted)
        st = column_sums_launch(c,
                                factors_body{ x->data, dy, c->in[BATCH_NORM_MEAN].data, c->in[BATCH_NORM_VAR].data,
                                              gamma->wanted ? gamma->grad : NULL, beta->wanted ? beta->grad : NULL, C, eps,
                                              gamma->accumulate, beta->accumulate },
                                rows(c), C, c->scratch);
    if (st == ADZE_OK && x->wanted)
        st = cells_launch(c, backward_body{ dy, gamma->data, c->in[BATCH_NORM_VAR].data, x->grad, C, eps, x->accumulate }, rows(c), C, C % 4 == 0);
    return st;
}

} /* namespace */

const adze_kernel adze_cuda_batch_norm = cuda_kernel(accepts_all, NULL, run);
const adze_kernel adze_cuda_batch_norm_backward = cuda_kernel(accepts_all, prepare_backward, run_backward);
