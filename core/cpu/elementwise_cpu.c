/* elementwise_cpu.c - memory-bound loops: batch norm with given statistics, mean pooling and its gradient.
 * Floor: every operand read once and the output written once; the loops vectorise and are split over threads. */
#include <math.h>
#include <stdbool.h>

#include "core/cpu/kernels_cpu.h"
#include "core/op_batch_norm.h"

static bool always(const adze_call *c)
{
    (void)c;
    return true;
}

static adze_status batch_norm_run(const adze_call *c)
{
    const batch_norm_attrs *a = c->attrs;
    const adze_shape *s = &c->in[BATCH_NORM_X].shape;
    int64_t C = s->dim[s->rank - 1], rows = adze_shape_count(s) / C;
    const float *x = c->in[BATCH_NORM_X].data, *gamma = c->in[BATCH_NORM_GAMMA].data, *beta = c->in[BATCH_NORM_BETA].data;
    const float *mean = c->in[BATCH_NORM_MEAN].data, *var = c->in[BATCH_NORM_VAR].data;
    float *y = c->out[0].data;
    enum { BLOCK = 256 }; /* channels whose factors are kept at hand */
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t k0 = 0; k0 < C; k0 += BLOCK) {
            int64_t k1 = k0 + BLOCK < C ? k0 + BLOCK : C;
            for (int64_t k = k0; k < k1; k++)
                y[r * C + k] = (x[r * C + k] - mean[k]) * (1.0f / sqrtf(var[k] + a->eps)) * gamma[k] + beta[k];
        }
    }
    return ADZE_OK;
}

const adze_kernel adze_cpu_batch_norm = { .name = "cpu", .accepts = always, .run = batch_norm_run };

static bool mean_pool_accepts(const adze_call *c)
{
    return adze_shape_span(&c->out[0].shape, 1, 3) == 1;
}

/* Mean over all positions; sums in double, channels in blocks so that the sums stay in registers and cache. */
static adze_status mean_pool_run(const adze_call *c)
{
    const adze_shape *s = &c->in[0].shape;
    int64_t N = s->dim[0], P = s->dim[1] * s->dim[2], C = s->dim[3];
    enum { BLOCK = 64 };
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t n = 0; n < N; n++)
        for (int64_t k0 = 0; k0 < C; k0 += BLOCK) {
            int64_t m = C - k0 < BLOCK ? C - k0 : BLOCK;
            double sum[BLOCK] = { 0.0 };
            for (int64_t p = 0; p < P; p++)
                for (int64_t k = 0; k < m; k++) sum[k] += c->in[0].data[(n * P + p) * C + k0 + k];
            for (int64_t k = 0; k < m; k++) c->out[0].data[n * C + k0 + k] = (float)(sum[k] / (double)P);
        }
    return ADZE_OK;
}

const adze_kernel adze_cpu_mean_pool = { .name = "cpu", .accepts = mean_pool_accepts, .run = mean_pool_run };

/* Every position gets its share of the mean's gradient. */
static adze_status mean_pool_backward(const adze_call *c)
{
    const adze_shape *s = &c->in[0].shape;
    const int64_t P = s->dim[1] * s->dim[2], C = s->dim[3], rows = s->dim[0] * P;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        const float *dy = c->out[0].grad + r / P * C;
        float *dx = c->in[0].grad + r * C;
        if (c->in[0].accumulate)
            for (int64_t k = 0; k < C; k++) dx[k] += dy[k] / (float)P;
        else
            for (int64_t k = 0; k < C; k++) dx[k] = dy[k] / (float)P;
    }
    return ADZE_OK;
}

const adze_kernel adze_cpu_mean_pool_backward = { .name = "cpu", .accepts = mean_pool_accepts, .run = mean_pool_backward };
