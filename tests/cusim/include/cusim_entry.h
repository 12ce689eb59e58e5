/* cusim_entry.h - the C functions through which kernel code reaches the emulator. */
#ifndef CUSIM_ENTRY_H
#define CUSIM_ENTRY_H

#include <stdbool.h>

#include "cuda_runtime_api.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where the running thread stands; 12 words in this order (cusim_device.h reads them by number). */
typedef struct cusim_place {
    uint3 thread, block;
    dim3 block_dim, grid_dim;
} cusim_place;

/* Queues a launch: `run` calls the kernel with a copy of `args`, once per thread. */
cudaError_t cusim_launch_kernel(const char *name, const void *kernel, dim3 grid, dim3 block, size_t shared_bytes,
                                cudaStream_t stream, void (*run)(const void *args), const void *args, size_t args_bytes);

/* The block's array that belongs to `key`, and the launch's dynamic shared memory. */
void *cusim_shared_static(const void *key, const char *name, size_t n_bytes);
void *cusim_shared_dynamic(void);

/* __syncthreads and its votes. */
typedef enum cusim_vote { CUSIM_VOTE_NONE, CUSIM_VOTE_COUNT, CUSIM_VOTE_AND, CUSIM_VOTE_OR } cusim_vote;
int cusim_barrier(cusim_vote vote, int predicate, const char *file, int line);

/* Operations of a warp: meets the other lanes of `mask`, gives this lane's result. */
typedef enum cusim_warp_op {
    CUSIM_SYNC, CUSIM_SHFL, CUSIM_SHFL_UP, CUSIM_SHFL_DOWN, CUSIM_SHFL_XOR, CUSIM_BALLOT, CUSIM_ANY, CUSIM_ALL, CUSIM_MATCH_ANY,
    CUSIM_MATCH_ALL, CUSIM_REDUCE_ADD, CUSIM_REDUCE_MIN, CUSIM_REDUCE_MAX, CUSIM_REDUCE_UMIN, CUSIM_REDUCE_UMAX,
    CUSIM_REDUCE_AND, CUSIM_REDUCE_OR, CUSIM_REDUCE_XOR, CUSIM_LDMATRIX, CUSIM_MMA
} cusim_warp_op;
uint64_t cusim_warp(cusim_warp_op op, unsigned mask, uint64_t value, int lane, int width, const char *file, int line);
unsigned cusim_active_mask(void);

/* Tensor cores, and loads for them; lane maps in cuda/ptx.h. */
typedef enum cusim_mma_kind { CUSIM_MMA_BF16, CUSIM_MMA_F16, CUSIM_MMA_TF32, CUSIM_MMA_S8 } cusim_mma_kind;
void cusim_mma(cusim_mma_kind kind, void *d, const uint32_t *a, const uint32_t *b);
void cusim_ldmatrix(uint32_t *r, const void *row, int n_matrices, bool transposed);

/* Copies that happen when they are waited for. */
void cusim_cp_async(void *shared, const void *global, int n_bytes, int n_valid);
void cusim_cp_async_commit(void);
void cusim_cp_async_wait(int pending);

/* bar.sync and bar.arrive. */
void cusim_named_barrier(int id, int threads, bool wait, const char *file, int line);

/* A fence of this thread; and what all earlier blocks wrote becomes visible to this block. */
void cusim_fence(void);
void cusim_acquire_blocks(void);

/* Always a failed check: floating-point atomics are not for us. */
void cusim_float_atomic(const char *file, int line);

#ifdef __cplusplus
}
#endif
#endif
