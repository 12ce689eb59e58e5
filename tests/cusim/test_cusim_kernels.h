/* test_cusim_kernels.h - launchers of test_cusim_kernels.cu. */
#ifndef TEST_CUSIM_KERNELS_H
#define TEST_CUSIM_KERNELS_H

#include <cuda_runtime.h>

#ifdef __cplusplus
extern "C" {
#endif

/* sum[b] = the sum of block b's 256 values of x. */
cudaError_t test_block_sum(const float *x, float *sum, int n, cudaStream_t stream);

/* a (16,16), b (8,16): both get a b^T (16,8), by way of bf16 and of tf32. */
cudaError_t test_mma(const float *a, const float *b, float *bf16, float *tf32, cudaStream_t stream);

/* y = 2 x. */
cudaError_t test_staged(const float *x, float *y, int n, cudaStream_t stream);

/* y[i] = x[stride i], 32 values; y = x, 128 values; y = the transposed of x (32,32). */
cudaError_t test_strided(const float *x, float *y, int stride);
cudaError_t test_vector(const float *x, float *y);
cudaError_t test_transpose(const float *x, float *y, int pitch);

/* x += turns, n values: reads and writes each of them so often. */
cudaError_t test_sweep(float *x, int n, int turns);

#ifdef __cplusplus
}
#endif
#endif
