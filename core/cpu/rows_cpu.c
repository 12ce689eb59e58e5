/* rows_cpu.c - softmax, l2_normalize and unit_product along the last dimension, a row per turn of the loop, in both
 * directions. Floor: 8 bytes per element forward, 12 backward (unit_product 12, and 20 for one gradient); a row is read again from cache. Sums in double, in a fixed order. */
#include <math.h>

#include "core/axis.h"
#include "core/cpu/kernels_cpu.h"
#include "core/op_l2_normalize.h"
#include "core/op_softmax.h"
#include "core/op_unit_product.h"
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

static adze_status unit_product_run(const adze_call *c)
{
    const unit_product_attrs *a = c->attrs;
    adze_axis s = adze_axis_of(&c->in[0].shape, -1);
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < s.outer; row++) {
        const float *x = c->in[UNIT_PRODUCT_X].data + row * s.n, *z = c->in[UNIT_PRODUCT_Z].data + row * s.n;
        float *y = c->out[0].data + row * s.n, *saved = c->out[1].data + row * UNIT_PRODUCT_SAVED;
        double rx = sqrt(sum_of_products(x, x, s.n)), rz = sqrt(sum_of_products(z, z, s.n));
        float p = (float)(1.0 / (rx + a->eps)), q = (float)(-1.0 / (rz + a->eps));
        for (int64_t i = 0; i < s.n; i++) y[i] = x[i] * p * (z[i] * q);
        saved[UNIT_PRODUCT_RX] = (float)rx, saved[UNIT_PRODUCT_RZ] = (float)rz;
    }
    return ADZE_OK;
}

static adze_status unit_product_backward(const adze_call *c)
{
    const unit_product_attrs *a = c->attrs;
    adze_axis s = adze_axis_of(&c->in[0].shape, -1);
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < s.outer; row++) {
        const float *dy = c->out[0].grad + row * s.n, *saved = c->out[1].data + row * UNIT_PRODUCT_SAVED;
        double k = sum_of_products(c->out[0].data + row * s.n, dy, s.n);
        for (int j = UNIT_PRODUCT_X; j <= UNIT_PRODUCT_Z; j++) {
            if (!c->in[j].wanted) continue;
            const float *own = c->in[j].data + row * s.n, *other = c->in[1 - j].data + row * s.n;
            double r = saved[UNIT_PRODUCT_RX + j], l = r + a->eps;
            float toward = (float)(1.0 / (l * (saved[UNIT_PRODUCT_RX + 1 - j] + a->eps))), back = (float)(r > 0.0 ? k / (r * l) : 0.0);
            float *grad = c->in[j].grad + row * s.n;
            bool add = c->in[j].accumulate;
            for (int64_t i = 0; i < s.n; i++) grad[i] = (add ? grad[i] : 0.0f) - (toward * dy[i] * other[i] + back * own[i]);
        }
    }
    return ADZE_OK;
}

static bool unit_product_accepts(const adze_call *c)
{
    (void)c;
    return true;
}

const adze_kernel adze_cpu_softmax = { .name = "cpu", .accepts = softmax_accepts, .run = softmax_run };
const adze_kernel adze_cpu_softmax_backward = { .name = "cpu", .accepts = softmax_accepts, .run = softmax_backward };
const adze_kernel adze_cpu_l2_normalize = { .name = "cpu", .accepts = l2_accepts, .run = l2_run };
const adze_kernel adze_cpu_l2_normalize_backward = { .name = "cpu", .accepts = l2_accepts, .run = l2_backward };
const adze_kernel adze_cpu_unit_product = { .name = "cpu", .accepts = unit_product_accepts, .run = unit_product_run };
const adze_kernel adze_cpu_unit_product_backward = { .name = "cpu", .accepts = unit_product_accepts, .run = unit_product_backward };
