/* batch_norm_train.cu - batch normalisation with the batch's own statistics, residual and (leaky) ReLU, forward and
 * backward: core/op_batch_norm_train.c.
 * bytes   forward reads x twice, the residual, writes y: 12 (16) per element; backward reads x, dy, y twice, writes dx (and the
 *         residual's gradient): 28 (32)
 * floor   (16,64,64,256) with residual and ReLU: forward 268 MB, 266 us at 1008 GB/s; backward 537 MB, 533 us
 * flops   statistics: two double multiply-adds and a conversion per element: 78 us of the FP64 pipe of sm_89, below the memory's
 * launch  sums: 32 channels x 8 rows per block, up to 1024 blocks; rows: 256 threads of 4 channels
 * order   sums in double by sums.cuh, so that the variance keeps its digits; then elements are independent */
#include "core/op_batch_norm_train.h"
#include "cuda/sums.cuh"

namespace {

struct statistics_body {
    enum { SUMS = 2 };
    const float *x;
    float *mean, *rstd, *running_mean, *running_var;
    int64_t C, n;
    double eps, momentum;
    __device__ void add(int64_t k, int64_t row, double *sum) const
    {
        const double v = x[row * C + k];
        sum[0] += v;
        sum[1] = fma(v, v, sum[1]);
    }
    /* adze_batch_norm_statistics() */
    __device__ void finish(int64_t k, const double *sum) const
    {
        const double m = sum[0] / (double)n, var = fmax(sum[1] / (double)n - m * m, 0.0);
        mean[k] = (float)m;
        rstd[k] = (float)(1.0 / sqrt(var + eps));
        running_mean[k] = (float)((1.0 - momentum) * running_mean[k] + momentum * m);
        running_var[k] = (float)((1.0 - momentum) * running_var[k] + momentum * var * ((double)n / (double)(n - 1)));
    }
};

template <bool RESIDUAL, bool RELU> struct rows_body {
    const float *x, *residual, *gamma, *beta, *mean, *rstd;
    float *y, slope;
    int64_t C;
    template <int V> __device__ void at(int row, int k) const
    {
        pack<V> v = load<V>(x + row * C + k), r = {};
        const pack<V> g = load<V>(gamma + k), b = load<V>(beta + k), m = load<V>(mean + k), s = load<V>(rstd + k);
        if (RESIDUAL) r = load<V>(residual + row * C + k);
#pragma unroll
        for (int j = 0; j < V; j++) {
            v.v[j] = (v.v[j] - m.v[j]) * (s.v[j] * g.v[j]) + b.v[j];
            if (RESIDUAL) v.v[j] += r.v[j];
            if (RELU) v.v[j] = v.v[j] > 0.0f ? v.v[j] : slope * v.v[j];
        }
        store<V>(y + row * C + k, v);
    }
};

/* The sums of dz and dz h, from which come dgamma, dbeta and the factors of dx = a dz + b h + d. */
template <bool RELU> struct gradient_sums_body {
    enum { SUMS = 2 };
    const float *x, *dy, *y, *mean, *rstd, *gamma;
    float *dgamma, *dbeta, *factor; /* the first two NULL: not wanted; factor (3,C) */
    float slope;
    int64_t C, n;
    bool add_gamma, add_beta;
    __device__ void add(int64_t k, int64_t row, double *sum) const
    {
        const int64_t i = row * C + k;
        const float d = dy[i], dz = RELU && !(y[i] > 0.0f) ? slope * d : d;
        sum[0] += (double)dz;
        sum[1] = fma((double)dz, (double)((x[i] - mean[k]) * rstd[k]), sum[1]);
    }
    __device__ void finish(int64_t k, const double *sum) const
    {
        const double a = (double)gamma[k] * rstd[k];
        factor[k] = (float)a;
        factor[C + k] = (float)(-a * sum[1] / (double)n);
        factor[2 * C + k] = (float)(-a * sum[0] / (double)n);
        if (dgamma) put(dgamma + k, add_gamma, (float)sum[1]);
        if (dbeta) put(dbeta + k, add_beta, (float)sum[0]);
    }
};

template <bool RELU> struct gradient_rows_body {
    const float *x, *dy, *y, *mean, *rstd, *factor;
    float *dx, *dr; /* NULL: not wanted; dr may lie where dy does */
    float slope;
    int64_t C;
    bool add_x, add_r;
    template <int V> __device__ void at(int row, int k) const
    {
        const int64_t i = row * C + k;
        pack<V> dz = load<V>(dy + i), v = load<V>(x + i), out = {};
        const pack<V> m = load<V>(mean + k), s = load<V>(rstd + k);
        const pack<V> f = load<V>(factor + k), fh = load<V>(factor + C + k), f1 = load<V>(factor + 2 * C + k);
        if (RELU) out = load<V>(y + i);
#pragma unroll
        for (int j = 0; j < V; j++) {
            if (RELU && !(out.v[j] > 0.0f)) dz.v[j] *= slope;
            const float h = (v.v[j] - m.v[j]) * s.v[j];
            v.v[j] = f.v[j] * dz.v[j] + fh.v[j] * h + f1.v[j];
        }
        if (dr) put<V>(dr + i, add_r, dz);
        if (dx) put<V>(dx + i, add_x, v);
    }
};

static float slope_of(const adze_call *c) { return static_cast<const batch_norm_train_attrs *>(c->attrs)->o.slope; }
static int64_t channels(const adze_call *c) { return c->out[1].shape.dim[1]; }
static int64_t rows(const adze_call *c) { return adze_shape_count(&c->in[BN_TRAIN_X].shape) / channels(c); }
static size_t sums_bytes(const adze_call *c) { return column_sums_bytes(rows(c), channels(c), 2); }

static adze_status prepare(adze_call *c)
{
    c->scratch_bytes = sums_bytes(c) + (c->backward ? 3 * (size_t)channels(c) * sizeof(float) : 0);
    return ADZE_OK;
}

template <bool RESIDUAL, bool RELU> static adze_status forward_rows(const adze_call *c)
{
    const int64_t C = channels(c);
    return cells_launch(c,
                        rows_body<RESIDUAL, RELU>{ c->in[BN_TRAIN_X].data, c->in[BN_TRAIN_RESIDUAL].data, c->in[BN_TRAIN_GAMMA].data,
                                                   c->in[BN_TRAIN_BETA].data, c->out[1].data, c->out[1].data + C, c->out[0].data, slope_of(c), C },
                        rows(c), C, C % 4 == 0);
}

static adze_status run(const adze_call *c)
{
    const adze_batch_norm_opts *o = &static_cast<const batch_norm_train_attrs *>(c->attrs)->o;
    const int64_t C = channels(c), n = rows(c);
    const statistics_body statistics = { c->in[BN_TRAIN_X].data,    c->out[1].data,            c->out[1].data + C,
                                         c->in[BN_TRAIN_MEAN].data, c->in[BN_TRAIN_VAR].data,  C,
                                         n,                         (double)o->eps,            (double)o->momentum };
    const adze_status st = column_sums_launch(c, statistics, n, C, c->scratch);
    if (st != ADZE_OK) return st;
    if (c->in[BN_TRAIN_RESIDUAL].data) return o->relu ? forward_rows<true, true>(c) : forward_rows<true, false>(c);
    return o->relu ? forward_rows<false, true>(c) : forward_rows<false, false>(c);
}

template <bool RELU> static adze_status gradient(const adze_call *c)
{
    const int64_t C = channels(c), n = rows(c);
    const adze_arg *x = &c->in[BN_TRAIN_X], *r = &c->in[BN_TRAIN_RESIDUAL], *gamma = &c->in[BN_TRAIN_GAMMA], *beta = &c->in[BN_TRAIN_BETA];
    const float *mean = c->out[1].data, *rstd = mean + C, *dy = c->out[0].grad, *y = c->out[0].data;
    float *factor = reinterpret_cast<float *>(static_cast<char *>(c->scratch) + sums_bytes(c));
    const gradient_sums_body<RELU> sums = { x->data, dy,          y, mean, rstd, gamma->data, gamma->wanted ? gamma->grad : NULL,
                                            beta->wanted ? beta->grad : NULL, factor, slope_of(c), C, n, gamma->accumulate, beta->accumulate };
    const adze_status st = column_sums_launch(c, sums, n, C, c->scratch);
    if (st != ADZE_OK || (!x->wanted && !r->wanted)) return st;
    const gradient_rows_body<RELU> body = { x->data, dy, y, mean, rstd, factor, x->wanted ? x->grad : NULL, r->wanted ? r->grad : NULL,
                                            slope_of(c), C, x->accumulate, r->accumulate };
    return cells_launch(c, body, n, C, C % 4 == 0);
}

static adze_status run_backward(const adze_call *c)
{
    return static_cast<const batch_norm_train_attrs *>(c->attrs)->o.relu ? gradient<true>(c) : gradient<false>(c);
}

} /* namespace */

const adze_kernel adze_cuda_batch_norm_train = cuda_kernel(accepts_all, prepare, run);
const adze_kernel adze_cuda_batch_norm_train_backward = cuda_kernel(accepts_all, prepare, run_backward);
