/* layer_norm.cu - rows to mean 0 and variance 1, forward and backward: core/op_layer_norm.c.
 * bytes   forward reads x three times (twice from cache), writes y: 8 per element; backward x, dy, dx: 12, and x, dy once more
 *         for the factors: 8
 * floor   4096 rows of 768: forward 25 MB, 25 us at 1008 GB/s, 8 us at 3350 GB/s
 * launch  a warp per row, a block from 2048 elements on; factors: 32 columns x 8 rows per block
 * order   sums in double by sums.cuh; y may lie where x does */
#include "core/op_layer_norm.h"
#include "cuda/sums.cuh"

namespace {

struct forward_body {
    const float *x, *gamma, *beta; /* factors: NULL for none */
    float *y, *saved;
    int64_t D;
    float eps;
    template <int G> __device__ void line(int64_t row, int lane) const
    {
        const float *in = x + row * D;
        double sum = 0.0, square = 0.0;
        for (int64_t d = lane; d < D; d += G) sum += (double)in[d];
        const double mean = group_sum<G>(sum) / (double)D;
        for (int64_t d = lane; d < D; d += G) square += ((double)in[d] - mean) * ((double)in[d] - mean);
        const double rstd = 1.0 / sqrt(group_sum<G>(square) / (double)D + eps);
        for (int64_t d = lane; d < D; d += G)
            y[row * D + d] = (float)(((double)in[d] - mean) * rstd) * (gamma ? gamma[d] : 1.0f) + (beta ? beta[d] : 0.0f);
        if (lane == 0) saved[2 * row] = (float)mean, saved[2 * row + 1] = (float)rstd;
    }
};

struct backward_body {
    const float *x, *dy, *gamma, *saved;
    float *dx;
    int64_t D;
    bool add;
    template <int G> __device__ void line(int64_t row, int lane) const
    {
        const float *in = x + row * D, *d_out = dy + row * D, mean = saved[2 * row], rstd = saved[2 * row + 1];
        double sum = 0.0, product = 0.0;
        for (int64_t d = lane; d < D; d += G) {
            const double g = (double)(d_out[d] * (gamma ? gamma[d] : 1.0f));
            sum += g;
            product = fma(g, (double)((in[d] - mean) * rstd), product);
        }
        const float mean_g = (float)(group_sum<G>(sum) / (double)D), mean_gu = (float)(group_sum<G>(product) / (double)D);
        for (int64_t d = lane; d < D; d += G) {
            const float g = d_out[d] * (gamma ? gamma[d] : 1.0f), u = (in[d] - mean) * rstd;
            put(dx + row * D + d, add, rstd * (g - mean_g - u * mean_gu));
        }
    }
};

struct factors_body {
    enum { SUMS = 2 };
    const float *x, *dy, *saved;
    float *dgamma, *dbeta; /* NULL: not wanted */
    int64_t D;
    bool add_gamma, add_beta;
    __device__ void add(int64_t d, int64_t row, double *sum) const
    {
        const double g = (double)dy[row * D + d];
        sum[0] += g;
        sum[1] = fma(g, (double)((x[row * D + d] - saved[2 * row]) * saved[2 * row + 1]), sum[1]);
    }
    __device__ void finish(int64_t d, const double *sum) const
    {
        if (dgamma) put(dgamma + d, add_gamma, (float)sum[1]);
        if (dbeta) put(dbeta + d, add_beta, (float)sum[0]);
    }
};

static int64_t rows(const adze_call *c) { return c->out[1].shape.dim[0]; }
static int64_t row_length(const adze_call *c) { return adze_shape_count(&c->out[0].shape) / rows(c); }

static adze_status run(const adze_call *c)
{
    const forward_body body = { c->in[LAYER_NORM_X].data, c->in[LAYER_NORM_GAMMA].data, c->in[LAYER_NORM_BETA].data, c->out[0].data,
                                c->out[1].data, row_length(c), static_cast<const layer_norm_attrs *>(c->attrs)->eps };
    return lines_launch(c, body, rows(c), body.D, 1);
}

static adze_status prepare_backward(adze_call *c)
{
    c->scratch_bytes = column_sums_bytes(rows(c), row_length(c), factors_body::SUMS);
    return ADZE_OK;
}

static adze_status run_backward(const adze_call *c)
{
    const adze_arg *x = &c->in[LAYER_NORM_X], *gamma = &c->in[LAYER_NORM_GAMMA], *beta = &c->in[LAYER_NORM_BETA];
    const float *dy = c->out[0].grad, *saved = c->out[1].data;
    const int64_t D = row_length(c);
    adze_status st = ADZE_OK;
    if (gamma->wanted || beta->wanted)
        st = column_sums_launch(c,
                                factors_body{ x->data, dy, saved, gamma->wanted ? gamma->grad : NULL, beta->wanted ? beta->grad : NULL, D,
                                              gamma->accumulate, beta->accumulate },
                                rows(c), D, c->scratch);
    if (st == ADZE_OK && x->wanted)
        st = lines_launch(c, backward_body{ x->data, dy, gamma->data, saved, x->grad, D, x->accumulate }, rows(c), D, 1);
    return st;
}

} /* namespace */

const adze_kernel adze_cuda_layer_norm = cuda_kernel(accepts_all, NULL, run);
const adze_kernel adze_cuda_layer_norm_backward = cuda_kernel(accepts_all, prepare_backward, run_backward);
