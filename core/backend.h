/* backend.h - a backend is one table of functions: memory, copies, and kernels per op, tried best first. */
#ifndef ADZE_CORE_BACKEND_H
#define ADZE_CORE_BACKEND_H

#include "core/context.h"
#include "core/op.h"
#include "core/optim_step.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct adze_backend {
    const char *name;
    /* Fills ctx->state and ctx->description; ADZE_EBACKEND if there is no such device. */
    adze_status (*open)(adze_ctx *ctx);
    void (*close)(adze_ctx *ctx);
    adze_status (*alloc)(adze_ctx *ctx, size_t n_bytes, void **out);
    void (*free)(adze_ctx *ctx, void *p);
    adze_status (*write)(adze_ctx *ctx, void *to, const void *from_host, size_t n_bytes);
    adze_status (*read)(adze_ctx *ctx, void *to_host, const void *from, size_t n_bytes);
    /* Called once before and after the kernels of a plan run. */
    adze_status (*begin)(adze_ctx *ctx);
    adze_status (*end)(adze_ctx *ctx);
    /* Optimisers (optim_step.h); asynchronous where the backend is. */
    adze_status (*optim_norm)(adze_ctx *ctx, const adze_optim_norm *a);
    adze_status (*optim_update)(adze_ctx *ctx, const adze_optim_update *u);
    bool host_memory; /* alloc gives host memory: the plain-C reference can run */
    /* NULL-terminated lists, best first; the list itself may be NULL. */
    const adze_kernel *const *kernels[ADZE_OP_COUNT];
    const adze_kernel *const *backward[ADZE_OP_COUNT];
} adze_backend;

struct adze_ctx {
    const adze_backend *backend;
    adze_ctx_opts opts;
    int threads;
    char description[160];
    void *state; /* the backend's; owned by it */
};

extern const adze_backend adze_backend_cpu;

#ifdef __cplusplus
}
#endif
#endif
