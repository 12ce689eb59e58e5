/* activation_cpu.c - the activations that training uses, forward and backward, in float32 over threads.
 * The piecewise linear ones vectorise (floor: 8 bytes forward, 12 backward per element); the others call the C library. */
#include <math.h>

#include "core/cpu/kernels_cpu.h"
#include "core/op_activation.h"
#include "core/ops.h"

static bool accepts(const adze_call *c)
{
    switch ((adze_act)((const activation_attrs *)c->attrs)->act) {
    case ADZE_ACT_RELU:
    case ADZE_ACT_RELU6:
    case ADZE_ACT_LEAKY_RELU:
    case ADZE_ACT_SIGMOID:
    case ADZE_ACT_TANH:
    case ADZE_ACT_EXP:
    case ADZE_ACT_SOFT_CLAMP:
    case ADZE_ACT_LOG_SIGMOID:
    case ADZE_ACT_SILU: return true;
    default: return false;
    }
}

#define INLINE static inline __attribute__((always_inline))

INLINE float sigmoid(float x)
{
    float e = expf(-fabsf(x));
    return (x >= 0.0f ? 1.0f : e) / (1.0f + e);
}

INLINE float apply(int act, float a, float b, float x)
{
    switch ((adze_act)act) {
    case ADZE_ACT_RELU: return x > 0.0f ? x : 0.0f;
    case ADZE_ACT_RELU6: return x > 0.0f ? (x < 6.0f ? x : 6.0f) : 0.0f;
    case ADZE_ACT_LEAKY_RELU: return x > 0.0f ? x : a * x;
    case ADZE_ACT_SIGMOID: return sigmoid(x);
    case ADZE_ACT_TANH: return tanhf(x);
    case ADZE_ACT_EXP: return expf(x);
    case ADZE_ACT_SOFT_CLAMP: return a * tanhf(x / b);
    case ADZE_ACT_LOG_SIGMOID: return fminf(x, 0.0f) - log1pf(expf(-fabsf(x)));
    case ADZE_ACT_SILU: return x * sigmoid(x);
    default: return x;
    }
}

INLINE float slope(int act, float a, float b, float x)
{
    float s;
    switch ((adze_act)act) {
    case ADZE_ACT_RELU: return x > 0.0f ? 1.0f : 0.0f;
    case ADZE_ACT_RELU6: return x > 0.0f && x < 6.0f ? 1.0f : 0.0f;
    case ADZE_ACT_LEAKY_RELU: return x > 0.0f ? 1.0f : a;
    case ADZE_ACT_SIGMOID: return sigmoid(x) * sigmoid(-x);
    case ADZE_ACT_TANH: s = 1.0f / coshf(x); return s * s;
    case ADZE_ACT_EXP: return expf(x);
    case ADZE_ACT_SOFT_CLAMP: s = 1.0f / coshf(x / b); return a / b * s * s;
    case ADZE_ACT_LOG_SIGMOID: return sigmoid(-x);
    case ADZE_ACT_SILU: s = sigmoid(x); return s + x * s * sigmoid(-x);
    default: return 1.0f;
    }
}

INLINE void run_act(int act, const adze_call *c)
{
    const activation_attrs *attrs = c->attrs;
    const float *x = c->in[0].data;
    float *y = c->out[0].data, a = attrs->a, b = attrs->b;
    int64_t n = adze_shape_count(&c->in[0].shape);
#pragma omp parallel for simd schedule(static) if (n >= 16384)
    for (int64_t i = 0; i < n; i++) y[i] = apply(act, a, b, x[i]);
}

INLINE void run_backward_act(int act, const adze_call *c)
{
    const activation_attrs *attrs = c->attrs;
    const float *x = c->in[0].data, *dy = c->out[0].grad;
    float *dx = c->in[0].grad, a = attrs->a, b = attrs->b;
    int64_t n = adze_shape_count(&c->in[0].shape);
    if (c->in[0].accumulate) {
#pragma omp parallel for simd schedule(static) if (n >= 16384)
        for (int64_t i = 0; i < n; i++) dx[i] += dy[i] * slope(act, a, b, x[i]);
    } else {
#pragma omp parallel for simd schedule(static) if (n >= 16384)
        for (int64_t i = 0; i < n; i++) dx[i] = dy[i] * slope(act, a, b, x[i]);
    }
}

/* One body per function, so that the choice is made outside the loops. */
#define FOR_EACH_ACT(act, body, c)                                              \
    switch ((adze_act)(act)) {                                                  \
    case ADZE_ACT_RELU: body(ADZE_ACT_RELU, c); break;                          \
    case ADZE_ACT_RELU6: body(ADZE_ACT_RELU6, c); break;                        \
    case ADZE_ACT_LEAKY_RELU: body(ADZE_ACT_LEAKY_RELU, c); break;              \
    case ADZE_ACT_SIGMOID: body(ADZE_ACT_SIGMOID, c); break;                    \
    case ADZE_ACT_TANH: body(ADZE_ACT_TANH, c); break;                          \
    case ADZE_ACT_EXP: body(ADZE_ACT_EXP, c); break;                            \
    case ADZE_ACT_SOFT_CLAMP: body(ADZE_ACT_SOFT_CLAMP, c); break;              \
    case ADZE_ACT_LOG_SIGMOID: body(ADZE_ACT_LOG_SIGMOID, c); break;            \
    case ADZE_ACT_SILU: body(ADZE_ACT_SILU, c); break;                          \
    default: return adze_fail(ADZE_EINTERNAL, "activation: no kernel for %d", (int)(act)); \
    }

static adze_status run(const adze_call *c)
{
    FOR_EACH_ACT(((const activation_attrs *)c->attrs)->act, run_act, c)
    return ADZE_OK;
}

static adze_status run_backward(const adze_call *c)
{
    FOR_EACH_ACT(((const activation_attrs *)c->attrs)->act, run_backward_act, c)
    return ADZE_OK;
}

const adze_kernel adze_cpu_activation = { .name = "cpu", .accepts = accepts, .run = run };
const adze_kernel adze_cpu_activation_backward = { .name = "cpu", .accepts = accepts, .run = run_backward };
