/* noise.cu - normal numbers from Philox: core/noise.h.
 * bytes   4 written per number
 * floor   SimpleNet's (16,32,32,1536): 100 MB: 100 us at 1008 GB/s, 30 us at 3350 GB/s; its upload took 4 ms at 25 GB/s
 * launch  256 threads of four numbers each: one block of the counter, 10 rounds of two 32x32 products
 * order   each number is a function of its index: the cpu's bits, since both compile core/noise_values.h without contraction */
#include "core/noise_values.h"
#include "cuda/cells.cuh"

namespace {

__global__ void __launch_bounds__(CELL_THREADS) noise_kernel(const adze_noise noise, int64_t n, float *x)
{
    const int64_t block = (int64_t)blockIdx.x * CELL_THREADS + threadIdx.x, i = 4 * block;
    uint32_t c0 = (uint32_t)block, c1 = (uint32_t)(block >> 32), c2 = noise.r.stream, c3 = noise.r.item;
    uint32_t k0 = (uint32_t)noise.r.seed, k1 = (uint32_t)(noise.r.seed >> 32);
    float z[4];
    if (i >= n) return;
#pragma unroll
    for (int round = 0; round < 10; round++) {
        adze_noise_round(&c0, &c1, &c2, &c3, k0, k1);
        adze_noise_bump(&k0, &k1);
    }
    adze_noise_pair(c0, c1, noise.deviation, &z[0], &z[1]);
    adze_noise_pair(c2, c3, noise.deviation, &z[2], &z[3]);
    if (i + 4 <= n) store<4>(x + i, pack<4>{ { z[0], z[1], z[2], z[3] } });
    else
        for (int k = 0; i + k < n; k++) x[i + k] = z[k];
}

} /* namespace */

adze_status adze_cuda_noise(adze_ctx *ctx, const adze_noise *noise, float *x, int64_t n)
{
    const int64_t blocks = pieces(n, 4 * CELL_THREADS);
    if (n == 0) return ADZE_OK;
    if (blocks > CELL_MAX_BLOCKS) return adze_fail(ADZE_ESHAPE, "%" PRId64 " numbers are too many", n);
    return adze_cuda_check(ADZE_LAUNCH(noise_kernel, dim3((unsigned)blocks), dim3(CELL_THREADS), 0, adze_cuda_stream(ctx), *noise, n, x), "noise");
}
