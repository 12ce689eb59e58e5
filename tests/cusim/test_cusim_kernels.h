/* test_cusim_kernels.h - launchers of test_cusim_kernels.cu. */
#ifndef TEST_CUSIM_KERNELS_H
#define TEST_CUSIM_KERNELS_H

#include <cuda_runtime.h>

#ifdef __cplusplus
extern "C" {
#endif

/* sum[b] = the sum of block b's 256 values of x. */
cudaError_t test_block_sum(const float *x, float *sum, int n, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
