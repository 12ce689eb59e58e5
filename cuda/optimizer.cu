/* optimizer.cu - gradient norms and fused optimiser steps over all parameters at once: core/optim_step.h.
 * bytes   adam 28 per parameter (read p g m v, write p m v), sgd 20, the norm 4
 * floor   RD's 44 M trained parameters: adam 1.23 GB: 1.22 ms at 1008 GB/s, 0.37 ms at 3350 GB/s
 * launch  a block of 256 threads per piece of 16384 floats, 4 neighbouring ones per thread and turn
 * order   elements are independent; a piece's squares are summed in double by a fixed tree, the pieces' sums likewise
 * Nothing is contracted, roots and divisions are rounded: parameters have the bits that core/cpu/optimizer_cpu.c computes. */
#include <math.h>

#include "cuda/sums.cuh"

namespace {

/* Constants of one group, rounded to float32 as PyTorch does; the gradient's scale follows from the norm on the device. */
struct group_consts {
    float decay, shrink, lr, rate;
};

struct step_consts {
    group_consts group[ADZE_OPTIM_GROUPS];
    float mu, w1, b2, w2, root_c2, eps;
    double clip;
    const double *norm;
};

__device__ float gradient_scale(const step_consts &c)
{
    if (!(c.clip > 0.0)) return 1.0f;
    const double scale = c.clip / (*c.norm + 1e-6);
    return scale < 1.0 ? (float)scale : 1.0f;
}

/* torch.lerp takes the end that is nearer. */
template <bool ADAM> __device__ void update(const step_consts &c, const group_consts &q, float scale, float g, float &p, float &s0, float &s1)
{
    const float gi = g * scale + q.decay * p;
    if (ADAM) {
        const float d = gi - s0;
        s0 = c.w1 < 0.5f ? s0 + c.w1 * d : gi - d * (1.0f - c.w1);
        s1 = s1 * c.b2 + c.w2 * gi * gi;
        p = p * q.shrink - q.rate * s0 / (sqrtf(s1) / c.root_c2 + c.eps);
    } else {
        s0 = s0 * c.mu + gi;
        p -= q.lr * s0;
    }
}

/* s0, s1: the moments' blocks; sgd without momentum has none, and adam needs both. */
template <bool ADAM, int V>
__device__ void update_at(const step_consts &c, const group_consts &q, float scale, int64_t i, float *p, const float *g, float *s0, float *s1)
{
    pack<V> vp = load<V>(p + i), v0 = {}, v1 = {};
    const pack<V> vg = load<V>(g + i);
    if (s0) v0 = load<V>(s0 + i);
    if (ADAM) v1 = load<V>(s1 + i);
#pragma unroll
    for (int j = 0; j < V; j++) update<ADAM>(c, q, scale, vg.v[j], vp.v[j], v0.v[j], v1.v[j]);
    store<V>(p + i, vp);
    if (s0) store<V>(s0 + i, v0);
    if (ADAM) store<V>(s1 + i, v1);
}

template <bool ADAM>
__global__ void __launch_bounds__(CELL_THREADS, CELL_BLOCKS)
    step_kernel(const step_consts c, const adze_optim_piece *piece, float *p, const float *g, float *s0, float *s1)
{
    const adze_optim_piece q = piece[blockIdx.x];
    const group_consts group = c.group[q.group];
    const float scale = gradient_scale(c);
    const int whole = q.first % 4 == 0 ? q.count / 4 * 4 : 0;
    for (int i = 4 * (int)threadIdx.x; i < whole; i += 4 * CELL_THREADS) update_at<ADAM, 4>(c, group, scale, q.first + i, p, g, s0, s1);
    for (int i = whole + (int)threadIdx.x; i < q.count; i += CELL_THREADS) update_at<ADAM, 1>(c, group, scale, q.first + i, p, g, s0, s1);
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
    const bool decoupled = u->kind == ADZE_OPTIM_ADAMW, adam = u->kind != ADZE_OPTIM_SGD;
    const double c1 = 1.0 - pow(u->beta1, (double)u->step), c2 = 1.0 - pow(u->beta2, (double)u->step);
    step_consts c = {};
    for (int i = 0; i < ADZE_OPTIM_GROUPS; i++) {
        const adze_optim_group *g = &u->group[i];
        c.group[i].decay = decoupled ? 0.0f : (float)g->weight_decay;
        c.group[i].shrink = decoupled ? (float)(1.0 - g->lr * g->weight_decay) : 1.0f;
        c.group[i].lr = (float)g->lr;
        c.group[i].rate = (float)(g->lr / c1);
    }
    c.mu = (float)u->momentum;
    c.w1 = (float)(1.0 - u->beta1), c.b2 = (float)u->beta2, c.w2 = (float)(1.0 - u->beta2);
    c.root_c2 = (float)sqrt(c2), c.eps = (float)u->eps;
    c.clip = u->clip, c.norm = u->norm;
    if (u->n_pieces == 0) return ADZE_OK;
    if (u->n_pieces > CELL_MAX_BLOCKS) return adze_fail(ADZE_ESHAPE, "optimiser: %" PRId64 " pieces are too many", u->n_pieces);
    const auto kernel = adam ? step_kernel<true> : step_kernel<false>;
    return adze_cuda_check(ADZE_LAUNCH(kernel, dim3((unsigned)u->n_pieces), dim3(CELL_THREADS), 0, adze_cuda_stream(ctx), c, u->piece, u->param,
                                       u->grad, u->state[0], u->state[1]),
                           "optimiser step");
}
