/* activation.cu - elementwise functions of one input, forward and backward: core/op_activation.c in float32.
 * bytes   forward reads x, writes y: 8 per element; backward reads x, dy, writes dx (adds: reads it too): 12 (16)
 * floor   ReLU of RD's largest map (16,64,64,256): 16.8 M elements, 134 MB: 133 us at 1008 GB/s, 40 us at 3350 GB/s
 * launch  256 threads of 4 neighbouring elements each, one kernel per function: the choice is made on the host
 * order   elements are independent; y may lie where x does, dx where dy does */
#include "core/op_activation.h"
#include "core/ops.h"
#include "cuda/cells.cuh"

namespace {

__device__ static inline float sigmoid(float x)
{
    const float e = expf(-fabsf(x));
    return x >= 0.0f ? 1.0f / (1.0f + e) : e / (1.0f + e);
}

constexpr float ROOT_HALF = 0.70710678f, ROOT_2_OVER_PI = 0.79788456f, ROOT_1_OVER_2PI = 0.39894228f, CUBIC = 0.044715f;

template <int ACT> __device__ static inline float apply(float a, float b, float x)
{
    switch (ACT) {
    case ADZE_ACT_RELU: return x > 0.0f ? x : 0.0f;
    case ADZE_ACT_RELU6: return x > 0.0f ? (x < 6.0f ? x : 6.0f) : 0.0f;
    case ADZE_ACT_LEAKY_RELU: return x > 0.0f ? x : a * x;
    case ADZE_ACT_GELU: return 0.5f * x * erfcf(-x * ROOT_HALF);
    case ADZE_ACT_GELU_TANH: return 0.5f * x * (1.0f + tanhf(ROOT_2_OVER_PI * (x + CUBIC * x * x * x)));
    case ADZE_ACT_QUICK_GELU: return x * sigmoid(1.702f * x);
    case ADZE_ACT_SILU: return x * sigmoid(x);
    case ADZE_ACT_SIGMOID: return sigmoid(x);
    case ADZE_ACT_TANH: return tanhf(x);
    case ADZE_ACT_SOFTPLUS: return a * x > b ? x : log1pf(expf(a * x)) / a;
    case ADZE_ACT_LOG_SIGMOID: return x >= 0.0f ? -log1pf(expf(-x)) : x - log1pf(expf(x));
    case ADZE_ACT_EXP: return expf(x);
    case ADZE_ACT_LOG: return logf(x);
    case ADZE_ACT_SQRT: return sqrtf(x);
    case ADZE_ACT_SOFT_CLAMP: return a * tanhf(x / b);
    }
    return x;
}

template <int ACT> __device__ static inline float slope(float a, float b, float x)
{
    float s, t;
    switch (ACT) {
    case ADZE_ACT_RELU: return x > 0.0f ? 1.0f : 0.0f;
    case ADZE_ACT_RELU6: return x > 0.0f && x < 6.0f ? 1.0f : 0.0f;
    case ADZE_ACT_LEAKY_RELU: return x > 0.0f ? 1.0f : a;
    case ADZE_ACT_GELU: return 0.5f * erfcf(-x * ROOT_HALF) + x * expf(-0.5f * x * x) * ROOT_1_OVER_2PI;
    case ADZE_ACT_GELU_TANH:
        t = tanhf(ROOT_2_OVER_PI * (x + CUBIC * x * x * x));
        return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * ROOT_2_OVER_PI * (1.0f + 3.0f * CUBIC * x * x);
    case ADZE_ACT_QUICK_GELU: s = sigmoid(1.702f * x); return s + 1.702f * x * s * (1.0f - s);
    case ADZE_ACT_SILU: s = sigmoid(x); return s + x * s * (1.0f - s);
    case ADZE_ACT_SIGMOID: s = sigmoid(x); return s * (1.0f - s);
    case ADZE_ACT_TANH: t = tanhf(x); return 1.0f - t * t;
    case ADZE_ACT_SOFTPLUS: return a * x > b ? 1.0f : sigmoid(a * x);
    case ADZE_ACT_LOG_SIGMOID: return sigmoid(-x);
    case ADZE_ACT_EXP: return expf(x);
    case ADZE_ACT_LOG: return 1.0f / x;
    case ADZE_ACT_SQRT: return 0.5f / sqrtf(x);
    case ADZE_ACT_SOFT_CLAMP: t = tanhf(x / b); return a / b * (1.0f - t * t);
    }
    return 0.0f;
}

template <int ACT> struct forward_body {
    const float *x;
    float *y;
    float a, b;
    template <int V> __device__ void at(int64_t i) const
    {
        pack<V> v = load<V>(x + i);
#pragma unroll
        for (int j = 0; j < V; j++) v.v[j] = apply<ACT>(a, b, v.v[j]);
        store<V>(y + i, v);
    }
};

template <int ACT> struct backward_body {
    const float *x, *dy;
    float *dx;
    bool add;
    float a, b;
    template <int V> __device__ void at(int64_t i) const
    {
        const pack<V> v = load<V>(x + i);
        pack<V> d = load<V>(dy + i);
#pragma unroll
        for (int j = 0; j < V; j++) d.v[j] *= slope<ACT>(a, b, v.v[j]);
        put<V>(dx + i, add, d);
    }
};

template <int ACT> static adze_status run_act(const adze_call *c)
{
    const activation_attrs *f = static_cast<const activation_attrs *>(c->attrs);
    const int64_t n = adze_shape_count(&c->in[0].shape);
    if (!c->backward) return flat_launch(c, forward_body<ACT>{ c->in[0].data, c->out[0].data, f->a, f->b }, n);
    return flat_launch(c, backward_body<ACT>{ c->in[0].data, c->out[0].grad, c->in[0].grad, c->in[0].accumulate, f->a, f->b }, n);
}

static adze_status run(const adze_call *c)
{
    switch (static_cast<const activation_attrs *>(c->attrs)->act) {
    case ADZE_ACT_RELU: return run_act<ADZE_ACT_RELU>(c);
    case ADZE_ACT_RELU6: return run_act<ADZE_ACT_RELU6>(c);
    case ADZE_ACT_LEAKY_RELU: return run_act<ADZE_ACT_LEAKY_RELU>(c);
    case ADZE_ACT_GELU: return run_act<ADZE_ACT_GELU>(c);
    case ADZE_ACT_GELU_TANH: return run_act<ADZE_ACT_GELU_TANH>(c);
    case ADZE_ACT_QUICK_GELU: return run_act<ADZE_ACT_QUICK_GELU>(c);
    case ADZE_ACT_SILU: return run_act<ADZE_ACT_SILU>(c);
    case ADZE_ACT_SIGMOID: return run_act<ADZE_ACT_SIGMOID>(c);
    case ADZE_ACT_TANH: return run_act<ADZE_ACT_TANH>(c);
    case ADZE_ACT_SOFTPLUS: return run_act<ADZE_ACT_SOFTPLUS>(c);
    case ADZE_ACT_LOG_SIGMOID: return run_act<ADZE_ACT_LOG_SIGMOID>(c);
    case ADZE_ACT_EXP: return run_act<ADZE_ACT_EXP>(c);
    case ADZE_ACT_LOG: return run_act<ADZE_ACT_LOG>(c);
    case ADZE_ACT_SQRT: return run_act<ADZE_ACT_SQRT>(c);
    default: return run_act<ADZE_ACT_SOFT_CLAMP>(c);
    }
}

} /* namespace */

const adze_kernel adze_cuda_activation = cuda_kernel(accepts_all, NULL, run);
const adze_kernel adze_cuda_activation_backward = cuda_kernel(accepts_all, NULL, run);
