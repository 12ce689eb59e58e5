/* loss.cu - losses that are the mean of a term per element, forward and backward: core/op_loss.c in float32, sums in double.
 * bytes   forward reads x and z: 8 per element; backward reads both, writes dx: 12 (dz as well: 16)
 * floor   (32,64,64,1) maps: 1 MB: launch-bound; (16,32,32,512): 67 MB forward, 67 us at 1008 GB/s, 20 us at 3350 GB/s
 * launch  forward: 256 threads of 4 elements, up to 1024 blocks, then one thread; backward: 256 threads of 4 elements
 * order   sums by sums.cuh */
#include "core/op_loss.h"
#include "core/ops.h"
#include "cuda/sums.cuh"

namespace {

__device__ static inline float sigmoid(float x)
{
    const float e = expf(-fabsf(x));
    return x >= 0.0f ? 1.0f / (1.0f + e) : e / (1.0f + e);
}

__device__ static inline float softplus(float x) { return fmaxf(x, 0.0f) + log1pf(expf(-fabsf(x))); }

/* -log of the probability that x gives to the truth (m: 1 or 0), at most 100. */
__device__ static inline float clamped_bce(float x, bool m) { return -fmaxf(m ? logf(x) : log1pf(-x), -100.0f); }

template <int FN> __device__ static inline float term(float a, float b, float x, float z)
{
    const float d = x - z, other = z > a ? 1.0f - x : x; /* masks: one minus the probability of the truth */
    switch (FN) {
    case ADZE_LOSS_MSE: return d * d;
    case ADZE_LOSS_L1: return fabsf(d);
    case ADZE_LOSS_SMOOTH_L1: return fabsf(d) < a ? 0.5f * d * d / a : fabsf(d) - 0.5f * a;
    case ADZE_LOSS_BCE_WITH_LOGITS: return softplus(x) - x * z;
    case ADZE_LOSS_BCE: return clamped_bce(x, z > a);
    case ADZE_LOSS_FOCAL_BCE: return clamped_bce(x, z > a) * powf(other, b);
    case ADZE_LOSS_HINGE: return fmaxf(0.0f, a - x) + fmaxf(0.0f, a + z);
    }
    return softplus(-x); /* ADZE_LOSS_NEG_LOG_SIGMOID */
}

template <int FN> __device__ static inline float slope_of_x(float a, float b, float x, float z)
{
    const float d = x - z, sign = d > 0.0f ? 1.0f : d < 0.0f ? -1.0f : 0.0f;
    const bool m = z > a;
    const float other = m ? 1.0f - x : x, bce = (m ? x - 1.0f : x) / fmaxf(x * (1.0f - x), 1e-12f);
    switch (FN) {
    case ADZE_LOSS_MSE: return 2.0f * d;
    case ADZE_LOSS_L1: return sign;
    case ADZE_LOSS_SMOOTH_L1: return fabsf(d) < a ? d / a : sign;
    case ADZE_LOSS_BCE_WITH_LOGITS: return sigmoid(x) - z;
    case ADZE_LOSS_BCE: return bce;
    case ADZE_LOSS_FOCAL_BCE: return bce * powf(other, b) + clamped_bce(x, m) * b * powf(other, b - 1.0f) * (m ? -1.0f : 1.0f);
    case ADZE_LOSS_HINGE: return a - x > 0.0f ? -1.0f : 0.0f;
    }
    return -sigmoid(-x);
}

template <int FN> __device__ static inline float slope_of_z(float a, float b, float x, float z)
{
    if (FN == ADZE_LOSS_HINGE) return a + z > 0.0f ? 1.0f : 0.0f;
    if (FN == ADZE_LOSS_BCE_WITH_LOGITS) return -x;
    return -slope_of_x<FN>(a, b, x, z);
}

template <int FN> struct forward_body {
    enum { SUMS = 1, TARGET = FN != ADZE_LOSS_NEG_LOG_SIGMOID };
    const float *x, *z;
    float *y;
    int64_t n;
    float a, b;
    template <int V> __device__ void add(int64_t, int64_t i, double *sum) const
    {
        const pack<V> v = load<V>(x + i), w = TARGET ? load<V>(z + i) : pack<V>{};
#pragma unroll
        for (int j = 0; j < V; j++) sum[0] += (double)term<FN>(a, b, v.v[j], w.v[j]);
    }
    __device__ void finish(int64_t, const double *sum) const { *y = (float)(sum[0] / (double)n); }
};

template <int FN> struct backward_body {
    const float *x, *z, *dy;
    float *dx, *dz; /* NULL: not wanted */
    int64_t n;
    float a, b;
    bool add_x, add_z;
    template <int V> __device__ void at(int64_t i) const
    {
        const float d = (float)((double)*dy / (double)n);
        const pack<V> v = load<V>(x + i), w = z ? load<V>(z + i) : pack<V>{};
        pack<V> g;
        if (dx) {
#pragma unroll
            for (int j = 0; j < V; j++) g.v[j] = d * slope_of_x<FN>(a, b, v.v[j], w.v[j]);
            put<V>(dx + i, add_x, g);
        }
        if (dz) {
#pragma unroll
            for (int j = 0; j < V; j++) g.v[j] = d * slope_of_z<FN>(a, b, v.v[j], w.v[j]);
            put<V>(dz + i, add_z, g);
        }
    }
};

static adze_status prepare(adze_call *c)
{
    c->scratch_bytes = line_sums_bytes(1, adze_shape_count(&c->in[LOSS_X].shape), 1);
    return ADZE_OK;
}

template <int FN> static adze_status run_fn(const adze_call *c)
{
    const loss_attrs *f = static_cast<const loss_attrs *>(c->attrs);
    const adze_arg *x = &c->in[LOSS_X], *z = &c->in[LOSS_Z];
    const int64_t n = adze_shape_count(&x->shape);
    if (!c->backward) return line_sums_launch(c, forward_body<FN>{ x->data, z->data, c->out[0].data, n, f->a, f->b }, 1, n, n % 4 == 0, c->scratch);
    if (z->wanted && (FN == ADZE_LOSS_BCE || FN == ADZE_LOSS_FOCAL_BCE)) return adze_fail(ADZE_EINVAL, "loss: a mask has no gradient");
    const backward_body<FN> body = { x->data, z->data, c->out[0].grad, x->wanted ? x->grad : NULL, z->wanted ? z->grad : NULL, n, f->a, f->b,
                                     x->accumulate, z->accumulate };
    return flat_launch(c, body, n);
}

static adze_status run(const adze_call *c)
{
    switch (static_cast<const loss_attrs *>(c->attrs)->fn) {
    case ADZE_LOSS_MSE: return run_fn<ADZE_LOSS_MSE>(c);
    case ADZE_LOSS_L1: return run_fn<ADZE_LOSS_L1>(c);
    case ADZE_LOSS_SMOOTH_L1: return run_fn<ADZE_LOSS_SMOOTH_L1>(c);
    case ADZE_LOSS_BCE_WITH_LOGITS: return run_fn<ADZE_LOSS_BCE_WITH_LOGITS>(c);
    case ADZE_LOSS_BCE: return run_fn<ADZE_LOSS_BCE>(c);
    case ADZE_LOSS_FOCAL_BCE: return run_fn<ADZE_LOSS_FOCAL_BCE>(c);
    case ADZE_LOSS_HINGE: return run_fn<ADZE_LOSS_HINGE>(c);
    default: return run_fn<ADZE_LOSS_NEG_LOG_SIGMOID>(c);
    }
}

} /* namespace */

const adze_kernel adze_cuda_loss = cuda_kernel(accepts_all, prepare, run);
const adze_kernel adze_cuda_loss_backward = cuda_kernel(accepts_all, NULL, run);
