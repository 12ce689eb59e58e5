/* rows_cpu.c - softmax and l2_normalize along the last dimension, a row per turn of the loop, in both directions.
 * Floor: 8 bytes per element forward, 12 backward; a row is read again from cache. Sums in double, in a fixed order. */
#include <math.h>

#include "core/axis.h"
#include "core/cpu/kernels_cpu.h"
#include "core/op_l2_normalize.h"
#include "core/op_softmax.h"
#include "core/ops.h"

static double sum_of_products(const float *a, const float *b, int64_t n)
{
    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += (double)a[i] * b[i];
    return sum;
}

static double sum_of(const float *a, int64_t n)
{
    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += a[i];
    return sum;
}

/* grad (+)= p * dy - q * y */
static void mix(const float *dy, const float *y, float p, float q, int64_t n, bool add, float *grad)
{
    for (int64_t i = 0; i < n; i++) grad[i] = (add ? grad[i] : 0.0f) + (p * dy[i] - q * y[i]);
}

static bool softmax_accepts(const adze_call *c)
{
    return adze_axis_of(&c->in[0].shape, ((const softmax_attrs *)c->attrs)->dim).inner == 1;
}

static adze_status softmax_run(const adze_call *c)
{
    const softmax_attrs *a = c->attrs;
    adze_axis s = adze_axis_of(&c->in[0].shape, a->dim);
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < s.outer; row++) {
        const float *x = c->in[0].data + row * s.n;
        float *y = c->out[0].data + row * s.n, m = -INFINITY;
        for (int64_t i = 0; i < s.n; i++) m = fmaxf(m, x[i]);
        if (a->log) {
            double sum = 0.0;
            for (int64_t i = 0; i < s.n; i++) sum += expf(x[i] - m);
            double all = m + log(sum);
            for (int64_t i = 0; i < s.n; i++) y[i] = (float)(x[i] - all);
        } else {
            for (int64_t i = 0; i < s.n; i++) y[i] = expf(x[i] - m);
            float scale = (float)(1.0 / sum_of(y, s.n));
            for (int64_t i = 0; i < s.n; i++) y[i] *= scale;
        }
    }
    return ADZE_OK;
}

static adze_status softmax_backward(const adze_call *c)
{
    const softmax_attrs *a = c->attrs;
    adze_axis s = adze_axis_of(&c->in[0].shape, a->dim);
    bool add = c->in[0].accumulate;
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < s.outer; row++) {
        const float *y = c->out[0].data + row * s.n, *dy = c->out[0].grad + row * s.n;
        float *dx = c->in[0].grad + row * s.n;
        float k = (float)(a->log ? sum_of(dy, s.n) : sum_of_products(y, dy, s.n));
        if (a->log)
            for (int64_t i = 0; i < s.n; i++) dx[i] = (add ? dx[i] : 0.0f) + (dy[i] - expf(y[i]) * k);
        else
            for (int64_t i = 0; i < s.n; i++) dx[i] = (add ? dx[i] : 0.0f) + y[i] * (dy[i] - k);
    }
    return ADZE_OK;
}

static bool l2_accepts(const adze_call *c)
{
    return adze_axis_of(&c->in[0].shape, ((const l2_normalize_attrs *)c->attrs)->dim).inner == 1;
}

static adze_status l2_run(const adze_call *c)
{
    const l2_normalize_attrs *a = c->attrs;
    adze_axis s = adze_axis_of(&c->in[0].shape, a->dim);
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < s.outer; row++) {
        const float *x = c->in[0].data + row * s.n;
        float *y = c->out[0].data + row * s.n;
        double r = sqrt(sum_of_products(x, x, s.n));
        float scale = (float)(1.0 / (a->form == ADZE_L2_ADD ? r + a->eps : fmax(r, a->eps)));
        for (int64_t i = 0; i < s.n; i++) y[i] = x[i] * scale;
        c->out[1].data[row] = (float)r;
    }
    return ADZE_OK;
}

static adze_status l2_backward(const adze_call *c)
{
    const l2_normalize_attrs *a = c->attrs;
    adze_axis s = adze_axis_of(&c->in[0].shape, a->dim);
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < s.outer; row++) {
        const float *y = c->out[0].data + row * s.n, *dy = c->out[0].grad + row * s.n;
        double r = c->out[1].data[row], length = a->form == ADZE_L2_ADD ? r + a->eps : fmax(r, a->eps);
        double back = r > (a->form == ADZE_L2_ADD ? 0.0 : a->eps) ? sum_of_products(y, dy, s.n) / r : 0.0;
        mix(dy, y, (float)(1.0 / length), (float)back, s.n, c->in[0].accumulate, c->in[0].grad + row * s.n);
    }
    return ADZE_OK;
}

const adze_kernel adze_cpu_softmax = { .name = "cpu", .accepts = softmax_accepts, .run = softmax_run };
const adze_kernel adze_cpu_softmax_backward = { .name = "cpu", .accepts = softmax_accepts, .run = softmax_backward };
const adze_kernel adze_cpu_l2_normalize = { .name = "cpu", .accepts = l2_accepts, .run = l2_run };
const adze_kernel adze_cpu_l2_normalize_backward = { .name = "cpu", .accepts = l2_accepts, .run = l2_backward };
