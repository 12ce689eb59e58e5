/* cuda_state.h - what an open CUDA device is to the files of cuda/: streams, library handles, staging; and the check of a result.
 *
 * All work of a context goes to one stream, in order; uploads run beside it on a second one. Kernels use adze_cuda_stream()
 * and may not allocate, wait or touch another stream: their calls are captured and replayed. */
#ifndef ADZE_CUDA_CUDA_STATE_H
#define ADZE_CUDA_CUDA_STATE_H

#include <cuda_runtime.h>
#include <stddef.h>

#include "core/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { ADZE_CUDA_SLOTS = 4 };

/* A piece of an upload: host copy, copy on the device, and when each is free again. */
typedef struct {
    void *pinned, *device; /* owned */
    size_t size_bytes;
    cudaEvent_t copied, done;
} adze_cuda_slot;

/* A block of device memory that is held. */
typedef struct {
    void *p;
    size_t n_bytes;
    adze_block block;
} adze_cuda_held;

typedef struct {
    int device;
    int before; /* the thread's device, put back by `end` */
    char name[128];
    int sm_count, major, minor;
    cudaStream_t stream, upload;
    adze_cuda_slot slot[ADZE_CUDA_SLOTS];
    int next_slot;
    adze_cuda_held *held; /* owned, (n_held) */
    int n_held, cap_held;
    size_t live_bytes, peak_bytes, of[ADZE_BLOCKS];
    void *conv;   /* conv_plan.c; owned by it */
    void *matmul; /* matmul_lt.c; owned by it */
    void *ranks;  /* ranks_nccl.c; owned by it */
} adze_cuda_state;

static inline adze_cuda_state *adze_cuda_state_of(const adze_ctx *ctx)
{
    return (adze_cuda_state *)ctx->state;
}

static inline cudaStream_t adze_cuda_stream(const adze_ctx *ctx)
{
    return adze_cuda_state_of(ctx)->stream;
}

/* Reads and clears a CUDA result; ADZE_ENOMEM or ADZE_EBACKEND with "what: reason". */
adze_status adze_cuda_check(cudaError_t result, const char *what);

/* Device memory, 256-byte aligned, counted. The message names what it is for, what is free, and what helps. */
adze_status adze_cuda_alloc(adze_ctx *ctx, size_t n_bytes, adze_block block, void **out);
void adze_cuda_free(adze_ctx *ctx, void *p);
/* Copies through pinned memory, beside the computation and in order with it; the host's bytes may change after the return. */
adze_status adze_cuda_write(adze_ctx *ctx, void *to, const void *from_host, size_t n_bytes);
/* Makes room for writes of up to n_bytes; what that takes of the device's memory. */
adze_status adze_cuda_reserve(adze_ctx *ctx, size_t n_bytes);
size_t adze_cuda_reserve_bytes(const adze_ctx *ctx, size_t n_bytes);
/* Waits for all work before, and copies. */
adze_status adze_cuda_read(adze_ctx *ctx, void *to_host, const void *from, size_t n_bytes);

#ifdef __cplusplus
}
#endif
#endif
