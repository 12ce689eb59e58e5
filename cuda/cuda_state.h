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

enum { ADZE_CUDA_SLOTS = 128, ADZE_CUDA_SEGMENTS = 8, ADZE_CUDA_SEGMENT_BYTES = 64 << 10 };

/* Pieces of uploads: host copy, copy on the device, and when each is free again. */
typedef struct {
    void *pinned, *device; /* owned */
    size_t used;           /* bytes of both, since it was free */
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
    int n_slots, current_slot;
    unsigned char *small; /* ring of pinned memory in segments; owned */
    cudaEvent_t segment_done[ADZE_CUDA_SEGMENTS];
    int segment;          /* in use, with so many bytes: */
    size_t segment_used;
    adze_cuda_held *held; /* owned, (n_held) */
    int n_held, cap_held;
    size_t live_bytes, peak_bytes, of[ADZE_BLOCKS];
    void *conv;   /* conv_plan.c; owned by it */
    void *matmul; /* matmul_lt.c; owned by it */
    void *ranks;  /* ranks_nccl.c; owned by it */
    void *driver; /* dlopen's; stays loaded */
    int (*context_state)(int device, unsigned *flags, int *active); /* of the driver */
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

/* Makes the context's device the thread's one; the one before, for going back. Going back to a device that nobody uses is left out:
 * since CUDA 12 it would give this process a context there, some hundred MB of every other rank's GPU. */
adze_status adze_cuda_go_to_device(const adze_cuda_state *s, int *before);
void adze_cuda_go_back(const adze_cuda_state *s, int before);

/* Device memory, 256-byte aligned, counted. The message names what it is for, what is free, and what helps. */
adze_status adze_cuda_alloc(adze_ctx *ctx, size_t n_bytes, adze_block block, void **out);
void adze_cuda_free(adze_ctx *ctx, void *p);
/* Copies through pinned memory, beside the computation and in order with it; the host's bytes may change after the return. */
adze_status adze_cuda_write(adze_ctx *ctx, void *to, const void *from_host, size_t n_bytes);
/* Makes room for writes of n_bytes at once; what that takes of the device's memory. */
adze_status adze_cuda_reserve(adze_ctx *ctx, size_t n_bytes);
size_t adze_cuda_reserve_bytes(const adze_ctx *ctx, size_t n_bytes);
/* Waits for all work before, and copies. */
adze_status adze_cuda_read(adze_ctx *ctx, void *to_host, const void *from, size_t n_bytes);
void adze_cuda_transfer_close(adze_ctx *ctx);

/* Milliseconds that `repetitions` runs take when they are replayed, after one that warms up. What cannot be recorded is an error. */
adze_status adze_cuda_time(adze_ctx *ctx, adze_status (*run)(void *user), void *user, int repetitions, float *ms);

/* See core/backend.h. */
adze_status adze_cuda_write_pinned(adze_ctx *ctx, void *to, const void *from_pinned, size_t n_bytes);
adze_status adze_cuda_pin(adze_ctx *ctx, void *host, size_t n_bytes);
void adze_cuda_unpin(adze_ctx *ctx, void *host);
adze_status adze_cuda_letters_create(adze_ctx *ctx, void **box, int n_letters, size_t n_bytes);
void adze_cuda_letters_destroy(adze_ctx *ctx, void *box);
adze_status adze_cuda_letter_send(adze_ctx *ctx, void *box, int letter, const void *from);
adze_status adze_cuda_letter_open(adze_ctx *ctx, void *box, int letter, const void **content);

#ifdef __cplusplus
}
#endif
#endif
