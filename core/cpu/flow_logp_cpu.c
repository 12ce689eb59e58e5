/* flow_logp_cpu.c - likelihoods of the rows of a normalising flow, forward and backward.
 *
 * bytes   forward 4 R C, backward 8 R C, 12 where it adds: memory is the floor
 * order   a row belongs to one thread; its squares are added in LANES sums in double, so that neither the threads nor the
 *         instruction set change a bit */
#include "core/cpu/kernels_cpu.h"
#include "core/op_flow_logp.h"

enum { LANES = 16 };

static bool accepts(const adze_call *c)
{
    (void)c;
    return true;
}

static int64_t columns(const adze_call *c) { return ((const flow_logp_attrs *)c->attrs)->C; }

__attribute__((noinline, target_clones("avx512f", "avx2", "default"))) static double squares(const float *z, int64_t C)
{
    double lane[LANES] = { 0.0 };
    int64_t k = 0;
    for (; k + LANES <= C; k += LANES)
        for (int l = 0; l < LANES; l++) lane[l] += (double)z[k + l] * z[k + l];
    for (int l = 0; k + l < C; l++) lane[l] += (double)z[k + l] * z[k + l];
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int l = 0; l < half; l++) lane[l] += lane[l + half];
    return lane[0];
}

__attribute__((noinline, target_clones("avx512f", "avx2", "default"))) static void slopes(const float *z, double factor, int64_t C, bool add,
                                                                                          float *restrict dz)
{
    if (add)
        for (int64_t k = 0; k < C; k++) dz[k] = (float)(dz[k] + factor * z[k]);
    else
        for (int64_t k = 0; k < C; k++) dz[k] = (float)(factor * z[k]);
}

static adze_status run(const adze_call *c)
{
    const int64_t C = columns(c), R = adze_shape_count(&c->out[0].shape);
    const float *z = c->in[0].data, *logdet = z + R * C;
    float *logp = c->out[0].data;
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < R; n++)
        logp[n] = (float)(((double)C * FLOW_LOG_NORMAL - 0.5 * squares(z + n * C, C) + logdet[n]) / (double)C);
    return ADZE_OK;
}

static adze_status run_backward(const adze_call *c)
{
    const int64_t C = columns(c), R = adze_shape_count(&c->out[0].shape);
    const adze_arg *in = &c->in[0];
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < R; n++) {
        const double d = c->out[0].grad[n] / (double)C;
        slopes(in->data + n * C, -d, C, in->accumulate, in->grad + n * C);
        adze_grad_put(in, R * C + n, d);
    }
    return ADZE_OK;
}

const adze_kernel adze_cpu_flow_logp = { .name = "cpu", .accepts = accepts, .run = run };
const adze_kernel adze_cpu_flow_logp_backward = { .name = "cpu", .accepts = accepts, .run = run_backward };
