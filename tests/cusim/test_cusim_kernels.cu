/* test_cusim_kernels.cu - kernels that the emulator's own test launches. */
#include "cuda/ptx.h"
#include "tests/cusim/test_cusim_kernels.h"

#include <cuda_bf16.h>

/* Sums 256 floats per block through shared memory and shuffles. */
static __global__ void block_sum_kernel(const float *x, float *sum, int n)
{
    ADZE_SHARED(float, partial, 8);
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x), lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    float v = i < n ? x[i] : 0.0f;
    for (int d = 16; d > 0; d /= 2) v += __shfl_down_sync(0xffffffffu, v, (unsigned)d);
    if (lane == 0) partial[warp] = v;
    __syncthreads();
    if (threadIdx.x == 0) {
        float s = 0.0f;
        for (int w = 0; w < 8; w++) s += partial[w];
        sum[blockIdx.x] = s;
    }
}

cudaError_t test_block_sum(const float *x, float *sum, int n, cudaStream_t stream)
{
    return ADZE_LAUNCH(block_sum_kernel, (n + 255) / 256, 256, 0, stream, x, sum, n);
}

/* d (16,8) = a (16,16) b, b by columns (8,16): once with matrix loads and bf16, once with registers and tf32. */
static __global__ void mma_kernel(const float *a, const float *b, float *bf16, float *tf32)
{
    ADZE_SHARED(__nv_bfloat16, tile, 24 * 16);
    int lane = (int)threadIdx.x, g = lane / 4, t = lane % 4;
    for (int i = lane; i < 24 * 16; i += 32) tile[i] = __float2bfloat16(i < 256 ? a[i] : b[i - 256]);
    __syncwarp();
    uint32_t ra[4], rb[2];
    adze_ldmatrix(ra, &tile[(lane % 16) * 16 + lane / 16 * 8]);
    adze_ldmatrix(rb, &tile[256 + (lane % 8) * 16 + lane / 8 % 2 * 8]);
    float d[4] = {0.0f, 0.0f, 0.0f, 0.0f}, e[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    adze_mma_bf16(d, ra, rb);
    for (int k = 0; k < 16; k += 8) {
        for (int r = 0; r < 4; r++) ra[r] = adze_to_tf32(a[(g + 8 * (r & 1)) * 16 + k + t + 4 * (r / 2)]);
        for (int r = 0; r < 2; r++) rb[r] = adze_to_tf32(b[g * 16 + k + t + 4 * r]);
        adze_mma_tf32(e, ra, rb);
    }
    for (int i = 0; i < 4; i++) {
        bf16[(g + 8 * (i / 2)) * 8 + 2 * t + (i & 1)] = d[i];
        tf32[(g + 8 * (i / 2)) * 8 + 2 * t + (i & 1)] = e[i];
    }
}

cudaError_t test_mma(const float *a, const float *b, float *bf16, float *tf32, cudaStream_t stream)
{
    return ADZE_LAUNCH(mma_kernel, 1, 32, 0, stream, a, b, bf16, tf32);
}

/* Doubles n floats, staged through shared memory by asynchronous copies. */
static __global__ void staged_kernel(const float *x, float *y, int n)
{
    ADZE_SHARED_DYNAMIC(float, stage);
    int i = 4 * (int)(blockIdx.x * blockDim.x + threadIdx.x), s = 4 * (int)threadIdx.x;
    int valid = n - i > 4 ? 4 : n - i > 0 ? n - i : 0;
    adze_cp_async<16>(&stage[s], valid ? &x[i] : x, 4 * valid);
    adze_cp_async_commit();
    adze_cp_async_wait<0>();
    __syncthreads();
    int other = 4 * ((int)threadIdx.x ^ 1), j = i - s + other; /* what the neighbour fetched */
    for (int k = 0; k < 4; k++)
        if (j + k < n) y[j + k] = 2.0f * stage[other + k];
}

cudaError_t test_staged(const float *x, float *y, int n, cudaStream_t stream)
{
    return ADZE_LAUNCH(staged_kernel, (n + 255) / 256, 64, 64 * 16, stream, x, y, n);
}

/* Reads with a stride, four values at once, and a transposition through shared memory with rows of `pitch` floats. */
static __global__ void strided_kernel(const float *x, float *y, int stride) { y[threadIdx.x] = x[threadIdx.x * stride]; }
static __global__ void vector_kernel(const float4 *x, float4 *y) { y[threadIdx.x] = x[threadIdx.x]; }
static __global__ void transpose_kernel(const float *x, float *y, int pitch)
{
    ADZE_SHARED(float, tile, 32 * 33);
    int lane = (int)threadIdx.x % 32, row = (int)threadIdx.x / 32;
    for (int r = row; r < 32; r += 4) tile[r * pitch + lane] = x[r * 32 + lane];
    __syncthreads();
    for (int r = row; r < 32; r += 4) y[r * 32 + lane] = tile[lane * pitch + r];
}

cudaError_t test_strided(const float *x, float *y, int stride) { return ADZE_LAUNCH(strided_kernel, 1, 32, 0, NULL, x, y, stride); }
cudaError_t test_vector(const float *x, float *y)
{
    return ADZE_LAUNCH(vector_kernel, 1, 32, 0, NULL, reinterpret_cast<const float4 *>(x), reinterpret_cast<float4 *>(y));
}
cudaError_t test_transpose(const float *x, float *y, int pitch) { return ADZE_LAUNCH(transpose_kernel, 1, 128, 0, NULL, x, y, pitch); }

/* Adds 1 to n floats, `turns` times: nothing but accesses. */
static __global__ void sweep_kernel(float *x, int n, int turns)
{
    const int step = (int)(gridDim.x * blockDim.x);
    for (int t = 0; t < turns; t++)
        for (int i = (int)(blockIdx.x * blockDim.x + threadIdx.x); i < n; i += step) x[i] += 1.0f;
}

cudaError_t test_sweep(float *x, int n, int turns) { return ADZE_LAUNCH(sweep_kernel, 16, 256, 0, NULL, x, n, turns); }
