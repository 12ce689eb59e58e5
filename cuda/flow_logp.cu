/* flow_logp.cu - likelihood of the rows of a normalising flow, forward and backward: core/op_flow_logp.c.
 * bytes   forward reads the state: 4 per element; backward reads z and writes dz: 8 (12 where it adds)
 * floor   256 rows of 2048: 2.1 MB, 2.1 us at 1008 GB/s, 0.6 us at 3350 GB/s; backward twice that
 * launch  forward: a warp per row, a block of 256 threads from 2048 columns on; backward: 256 threads, up to 4 elements each
 * order   sums in double by sums.cuh; then elements are independent */
#include "core/op_flow_logp.h"
#include "cuda/sums.cuh"

namespace {

struct forward_body {
    const float *state;
    float *logp;
    int64_t C, R;
    template <int G> __device__ void line(int64_t row, int lane) const
    {
        double sum = 0.0;
        for (int64_t k = lane; k < C; k += G) {
            const double z = state[row * C + k];
            sum = fma(z, z, sum);
        }
        sum = group_sum<G>(sum);
        if (lane == 0) logp[row] = (float)(((double)C * FLOW_LOG_NORMAL - 0.5 * sum + state[R * C + row]) / (double)C);
    }
};

struct backward_body {
    const float *state, *dlogp;
    float *grad;
    int64_t C, R;
    bool add;
    template <int V> __device__ void at(int row, int k) const
    {
        const float d = dlogp[row] / (float)C;
        pack<V> z = load<V>(state + row * C + k);
#pragma unroll
        for (int i = 0; i < V; i++) z.v[i] *= -d;
        put<V>(grad + row * C + k, add, z);
        if (k == 0) put(grad + R * C + row, add, d);
    }
};

static int64_t columns(const adze_call *c) { return static_cast<const flow_logp_attrs *>(c->attrs)->C; }
static int64_t rows(const adze_call *c) { return adze_shape_count(&c->out[0].shape); }

static adze_status run(const adze_call *c)
{
    return lines_launch(c, forward_body{ c->in[0].data, c->out[0].data, columns(c), rows(c) }, rows(c), columns(c), 1);
}

static adze_status run_backward(const adze_call *c)
{
    const adze_arg *in = &c->in[0];
    return cells_launch(c, backward_body{ in->data, c->out[0].grad, in->grad, columns(c), rows(c), in->accumulate }, rows(c), columns(c),
                        columns(c) % 4 == 0);
}

} /* namespace */

const adze_kernel adze_cuda_flow_logp = cuda_kernel(accepts_all, NULL, run);
const adze_kernel adze_cuda_flow_logp_backward = cuda_kernel(accepts_all, NULL, run_backward);
