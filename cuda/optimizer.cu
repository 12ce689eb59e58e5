/* optimizer.cu - gradient norms, fused optimiser steps over all parameters at once, and how a step went: core/optim_step.h.
 * bytes   adam 28 per parameter (read p g m v, write p m v), sgd 20, the norm 4
 * floor   RD's 44 M trained parameters: adam 1.23 GB: 1.22 ms at 1008 GB/s, 0.37 ms at 3350 GB/s
 * launch  a block of 256 threads per piece of 16384 floats, 4 neighbouring ones per thread and turn
 * order   elements are independent; a piece's squares are summed in double by a fixed tree, the pieces' sums likewise
 * judge_kernel and copy_kernel are the ends of a training step (train/trainer.c): a few numbers, or running statistics.
 * Nothing is contracted, roots and divisions are rounded: parameters have the bits that core/cpu/optimizer_cpu.c computes. */
#include <math.h>

#include "cuda/sums.cuh"

namespace {

/* What does not change from step to step, rounded to float32 as PyTorch does; the rest is read from `rates`, and the gradient's
 * scale follows from the norm: a recorded step is replayed with other numbers in these places. */
struct step_consts {
    const adze_optim_rates *rates;
    float mu, w1, b2, w2, eps;
    double clip;
    const double *norm;
    const int32_t *stop;
};

/* The numbers of this step and a piece's group. */
struct step_rates {
    float scale, decay, shrink, lr, rate, root_c2;
};

__device__ float gradient_scale(const step_consts &c)
{
    if (!(c.clip > 0.0)) return 1.0f;
    const double scale = c.clip / (*c.norm + 1e-6);
    return scale < 1.0 ? (float)scale : 1.0f;
}

/* torch.lerp takes the end that is nearer. */
template <bool ADAM> __device__ void update(const step_consts &c, const step_rates &q, float g, float &p, float &s0, float &s1)
{
    const float gi = g * q.scale + q.decay * p;
    if (ADAM) {
        const float d = gi - s0;
        s0 = c.w1 < 0.5f ? s0 + c.w1 * d : gi - d * (1.0f - c.w1);
        s1 = s1 * c.b2 + c.w2 * gi * gi;
        p = p * q.shrink - q.rate * s0 / (sqrtf(s1) / q.root_c2 + c.eps);
    } else {
        s0 = s0 * c.mu + gi;
        p -= q.lr * s0;
    }
}

/* s0, s1: the moments' blocks; sgd without momentum has none, and adam needs both. */
template <bool ADAM, int V>
__device__ void update_at(const step_consts &c, const step_rates &q, int64_t i, float *p, const float *g, float *s0, float *s1)
{
    pack<V> vp = load<V>(p + i), v0 = {}, v1 = {};
    const pack<V> vg = load<V>(g + i);
    if (s0) v0 = load<V>(s0 + i);
    if (ADAM) v1 = load<V>(s1 + i);
#pragma unroll
    for (int j = 0; j < V; j++) update<ADAM>(c, q, vg.v[j], vp.v[j], v0.v[j], v1.v[j]);
    store<V>(p + i, vp);
    if (s0) store<V>(s0 + i, v0);
    if (ADAM) store<V>(s1 + i, v1);
}

template <bool ADAM>
__global__ void __launch_bounds__(CELL_THREADS, CELL_BLOCKS)
    step_kernel(const step_consts c, const adze_optim_piece *piece, float *p, const float *g, float *s0, float *s1)
{
    if (c.stop && *c.stop) return;
    const adze_optim_piece q = piece[blockIdx.x];
    const auto &group = c.rates->group[q.group];
    const step_rates r = { gradient_scale(c), group.decay, group.shrink, group.lr, group.rate, c.rates->root_c2 };
    const int whole = q.first % 4 == 0 ? q.count / 4 * 4 : 0;
    for (int i = 4 * (int)threadIdx.x; i < whole; i += 4 * CELL_THREADS) update_at<ADAM, 4>(c, r, q.first + i, p, g, s0, s1);
    for (int i = whole + (int)threadIdx.x; i < q.count; i += CELL_THREADS) update_at<ADAM, 1>(c, r, q.first + i, p, g, s0, s1);
}

__global__ void __launch_bounds__(LINE_THREADS) squares_kernel(const adze_optim_piece *piece, const float *g, double *partial)
{
    const adze_optim_piece q = piece[blockIdx.x];
    double sum = 0.0;
    for (int i = (int)threadIdx.x; i < q.count; i += LINE_THREADS) sum = fma((double)g[q.first + i], (double)g[q.first + i], sum);
    sum = group_sum<LINE_THREADS>(sum);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(LINE_THREADS) norm_kernel(const double *partial, int64_t n, double *norm)
{
    double sum = 0.0;
    for (int64_t i = threadIdx.x; i < n; i += LINE_THREADS) sum += partial[i];
    sum = group_sum<LINE_THREADS>(sum);
    if (threadIdx.x == 0) *norm = sqrt(sum);
}

/* A thread per value or norm. */
__global__ void __launch_bounds__(32) judge_kernel(const adze_optim_judge a)
{
    const int i = (int)threadIdx.x, k = i - a.n_values;
    bool bad = false;
    if (i < a.n_values) {
        a.outcome->value[i] = *a.value[i];
        bad = i == 0 && !isfinite(*a.value[i]);
    } else if (k < a.n_norms) {
        a.outcome->norm[k] = *a.norm[k];
        bad = !isfinite(*a.norm[k]);
    }
    if (__any_sync(0xffffffffu, bad) && i == 0) a.outcome->stop = 1;
}

__global__ void __launch_bounds__(CELL_THREADS) copy_kernel(float *to, const float *from, int64_t n, const int32_t *when)
{
    if (!*when) return;
    for (int64_t i = (int64_t)blockIdx.x * CELL_THREADS + threadIdx.x; i < n; i += (int64_t)gridDim.x * CELL_THREADS) to[i] = from[i];
}

} /* namespace */

adze_status adze_cuda_optim_norm(adze_ctx *ctx, const adze_optim_norm *a)
{
    cudaStream_t stream = adze_cuda_stream(ctx);
    cudaError_t e = cudaSuccess;
    if (a->n_pieces > CELL_MAX_BLOCKS) return adze_fail(ADZE_ESHAPE, "optimiser: %" PRId64 " pieces are too many", a->n_pieces);
    if (a->n_pieces > 0)
        e = ADZE_LAUNCH(squares_kernel, dim3((unsigned)a->n_pieces), dim3(LINE_THREADS), 0, stream, a->piece, a->grad, a->partial);
    if (e == cudaSuccess)
        e = ADZE_LAUNCH(norm_kernel, dim3(1), dim3(LINE_THREADS), 0, stream, (const double *)a->partial, a->n_pieces, a->norm);
    return adze_cuda_check(e, "gradient norm");
}

adze_status adze_cuda_optim_update(adze_ctx *ctx, const adze_optim_update *u)
{
    const bool adam = u->kind != ADZE_OPTIM_SGD;
    step_consts c = {};
    c.rates = u->rates;
    c.mu = (float)u->momentum;
    c.w1 = (float)(1.0 - u->beta1), c.b2 = (float)u->beta2, c.w2 = (float)(1.0 - u->beta2);
    c.eps = (float)u->eps;
    c.clip = u->clip, c.norm = u->norm, c.stop = u->stop;
    if (u->n_pieces == 0) return ADZE_OK;
    if (u->n_pieces > CELL_MAX_BLOCKS) return adze_fail(ADZE_ESHAPE, "optimiser: %" PRId64 " pieces are too many", u->n_pieces);
    const auto kernel = adam ? step_kernel<true> : step_kernel<false>;
    return adze_cuda_check(ADZE_LAUNCH(kernel, dim3((unsigned)u->n_pieces), dim3(CELL_THREADS), 0, adze_cuda_stream(ctx), c, u->piece, u->param,
                                       u->grad, u->state[0], u->state[1]),
                           "optimiser step");
}

cudaError_t adze_cuda_kernel_image(void)
{
    cudaFuncAttributes of_one;
    return cudaFuncGetAttributes(&of_one, (const void *)judge_kernel);
}

adze_status adze_cuda_optim_judge(adze_ctx *ctx, const adze_optim_judge *a)
{
    static_assert(ADZE_OUTCOME_VALUES + ADZE_OUTCOME_NORMS <= 32, "one warp");
    return adze_cuda_check(ADZE_LAUNCH(judge_kernel, dim3(1), dim3(32), 0, adze_cuda_stream(ctx), *a), "outcome of a step");
}

adze_status adze_cuda_copy_if(adze_ctx *ctx, float *to, const float *from, int64_t n, const int32_t *when)
{
    cudaStream_t stream = adze_cuda_stream(ctx);
    if (n == 0) return ADZE_OK;
    const unsigned blocks = (unsigned)((n + CELL_THREADS - 1) / CELL_THREADS < 256 ? (n + CELL_THREADS - 1) / CELL_THREADS : 256);
    return adze_cuda_check(ADZE_LAUNCH(copy_kernel, dim3(blocks), dim3(CELL_THREADS), 0, stream, to, from, n, when), "copy");
}
