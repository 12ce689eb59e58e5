/* test_cusim_kernels.cu - kernels that the emulator's own test launches. */
#include "cuda/launch.h"
#include "tests/cusim/test_cusim_kernels.h"

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
