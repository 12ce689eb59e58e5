/* elementwise_cpu.c - memory-bound loops: batch norm with given statistics, activations, sums, mean pooling.
 * Floor: every operand read once and the output written once; the loops vectorise and are split over threads. */
#include <math.h>
#include <stdbool.h>

#include "core/cpu/kernels_cpu.h"
#include "core/op_activation.h"
#include "core/op_batch_norm.h"
#include "core/op_binary.h"
#include "core/op_conv2d.h"

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

static bool activation_accepts(const adze_call *c)
{
    const activation_attrs *a = c->attrs;
    return a->act == ADZE_ACT_RELU || a->act == ADZE_ACT_RELU6 || a->act == ADZE_ACT_LEAKY_RELU;
}

static adze_status activation_run(const adze_call *c)
{
    const activation_attrs *a = c->attrs;
    const float *x = c->in[0].data;
    float *y = c->out[0].data;
    int64_t n = adze_shape_count(&c->in[0].shape);
    float slope = a->act == ADZE_ACT_LEAKY_RELU ? a->a : 0.0f, top = a->act == ADZE_ACT_RELU6 ? 6.0f : INFINITY;
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < n; i++) {
        float v = x[i] > 0.0f ? x[i] : slope * x[i];
        y[i] = v < top ? v : top;
    }
    return ADZE_OK;
}

const adze_kernel adze_cpu_activation = { .name = "cpu", .accepts = activation_accepts, .run = activation_run };

static bool binary_accepts(const adze_call *c)
{
    return adze_shape_equal(&c->in[0].shape, &c->in[1].shape);
}

static adze_status binary_run(const adze_call *c)
{
    const binary_attrs *a = c->attrs;
    const float *x = c->in[0].data, *z = c->in[1].data;
    float *y = c->out[0].data;
    int64_t n = adze_shape_count(&c->out[0].shape);
    int fn = a->fn;
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < n; i++)
        y[i] = fn == ADZE_BINARY_ADD ? x[i] + z[i] : fn == ADZE_BINARY_SUB ? x[i] - z[i] : fn == ADZE_BINARY_MUL ? x[i] * z[i] : x[i] / z[i];
    return ADZE_OK;
}

const adze_kernel adze_cpu_binary = { .name = "cpu", .accepts = binary_accepts, .run = binary_run };

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
