/* backend.h - a backend is one table of functions: memory, copies, and kernels per op, tried best first.
 *
 * The cpu backend is part of the library. Others are shared objects that are loaded on demand (backend_load.h): they call the
 * library only through the adze_services that they are given, so that they work in statically linked programs too. */
#ifndef ADZE_CORE_BACKEND_H
#define ADZE_CORE_BACKEND_H

#include <stdarg.h>

#include "core/context.h"
#include "core/device_memory.h"
#include "core/kcenter.h"
#include "core/knn.h"
#include "core/noise.h"
#include "core/op.h"
#include "core/optim_step.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Receives one fact, for people. */
typedef void (*adze_backend_put)(void *user, const char *key, const char *value);

enum { ADZE_RANKS_ID_BYTES = 128 };

typedef struct adze_backend {
    const char *name;
    /* Fills ctx->state and ctx->description; ADZE_EBACKEND if there is no such device. */
    adze_status (*open)(adze_ctx *ctx);
    void (*close)(adze_ctx *ctx);
    /* ADZE_ENOMEM says what it was for, its size, what is free, and what helps. */
    adze_status (*alloc)(adze_ctx *ctx, size_t n_bytes, adze_block block, void **out);
    void (*free)(adze_ctx *ctx, void *p);
    adze_status (*write)(adze_ctx *ctx, void *to, const void *from_host, size_t n_bytes);
    adze_status (*read)(adze_ctx *ctx, void *to_host, const void *from, size_t n_bytes);
    adze_status (*clear)(adze_ctx *ctx, void *p, size_t n_bytes); /* zero bytes; asynchronous where the backend is */
    /* Between blocks of the device; asynchronous where the backend is. */
    adze_status (*copy)(adze_ctx *ctx, void *to, const void *from, size_t n_bytes);
    /* Backends with memory of their own. Page-locks host memory, which then is read by write_pinned without a copy between:
     * asynchronous, so that the bytes may not change before all is done. */
    adze_status (*pin)(adze_ctx *ctx, void *host, size_t n_bytes);
    void (*unpin)(adze_ctx *ctx, void *host);
    adze_status (*write_pinned)(adze_ctx *ctx, void *to, const void *from_pinned, size_t n_bytes);
    /* What device_memory.h asks; and room so that writes of n_bytes in all can be under way at once: more wait, and allocate nothing. */
    void (*memory)(const adze_ctx *ctx, adze_device_memory *m);
    adze_status (*reserve)(adze_ctx *ctx, size_t n_bytes);
    /* n floats from one place of the device to another if *when, there too, is not 0; asynchronous where the backend is. */
    adze_status (*copy_if)(adze_ctx *ctx, float *to, const float *from, int64_t n, const int32_t *when);
    /* Small reads that wait for nothing: a box has places for n_letters of n_bytes. letter_send fills one with what lies at
     * `from` when all work before is done; letter_open waits for that and gives it, valid until the next one is sent there. */
    adze_status (*letters_create)(adze_ctx *ctx, void **box, int n_letters, size_t n_bytes);
    void (*letters_destroy)(adze_ctx *ctx, void *box); /* NULL is fine */
    adze_status (*letter_send)(adze_ctx *ctx, void *box, int letter, const void *from);
    adze_status (*letter_open)(adze_ctx *ctx, void *box, int letter, const void **content);
    /* Called once before and after the kernels of a plan run. */
    adze_status (*begin)(adze_ctx *ctx);
    adze_status (*end)(adze_ctx *ctx);
    adze_status (*wait)(adze_ctx *ctx); /* until all is done; NULL where nothing is asynchronous */
    /* Recording (NULL: none): what kernels do between record and recorded is noted, not done; replay does all of it at once, as
     * often as wanted. `forget` takes NULL. After a failure between the two, recorded is called all the same. */
    adze_status (*record)(adze_ctx *ctx);
    adze_status (*recorded)(adze_ctx *ctx, void **recording);
    adze_status (*replay)(adze_ctx *ctx, void *recording);
    void (*forget)(adze_ctx *ctx, void *recording);
    /* Processes with a device each that train one model (NULL: none): rank 0 makes an id, all join with it and wait for each other.
     * ranks_mean makes each number its mean over them, the same bits for all; asynchronous, and may be recorded by all alike. */
    adze_status (*ranks_id)(adze_ctx *ctx, unsigned char id[ADZE_RANKS_ID_BYTES]);
    adze_status (*ranks_join)(adze_ctx *ctx, const unsigned char id[ADZE_RANKS_ID_BYTES], int rank, int count);
    adze_status (*ranks_mean)(adze_ctx *ctx, float *x, int64_t n);
    /* A named range for profilers around what follows; leave ends the last one (both NULL: none). */
    void (*enter)(adze_ctx *ctx, const char *name);
    void (*leave)(adze_ctx *ctx);
    /* Optimisers (optim_step.h); asynchronous where the backend is. */
    adze_status (*optim_norm)(adze_ctx *ctx, const adze_optim_norm *a);
    adze_status (*optim_update)(adze_ctx *ctx, const adze_optim_update *u);
    adze_status (*optim_judge)(adze_ctx *ctx, const adze_optim_judge *a);
    /* What is no operation of a graph (NULL: the cpu's code runs on host memory instead); results as the headers of the cpu's
     * functions define them. Pointers ending in _host are host memory, the others the device's; all calls return when done.
     *
     * Nearest neighbours (knn.h): a copy of the M rows of a sealed bank, for queries. */
    adze_status (*bank_create)(adze_ctx *ctx, void **bank, const float *rows_host, int64_t M, int64_t D, adze_knn_precision precision);
    void (*bank_destroy)(adze_ctx *ctx, void *bank);
    adze_status (*bank_query)(adze_ctx *ctx, const void *bank, const float *q, int64_t Q, int k, float *dist_host, int32_t *idx_host,
                              adze_bank_stats *stats);
    /* Greedy selection (kcenter.h); arguments are checked, opts->starts is host memory; start_host and rest_host may be NULL. */
    adze_status (*kcenter)(adze_ctx *ctx, const float *x_host, int64_t N, int64_t d, int64_t K, const adze_kcenter_opts *opts,
                           int64_t *picks_host, float *start_host, float *rest_host);
    /* Device memory that the calls take while they run: for forecasts. */
    size_t (*bank_query_bytes)(const adze_ctx *ctx, const void *bank, int64_t Q, int k);
    size_t (*kcenter_bytes)(const adze_ctx *ctx, int64_t N, int64_t d, int64_t K, int64_t n_starts);
    size_t (*map_post_bytes)(const adze_ctx *ctx, int64_t B, int64_t h, int64_t w, int64_t H, int64_t W, double sigma);
    /* Upsampling and blur (map_post.h). */
    adze_status (*map_post)(adze_ctx *ctx, const float *x_host, int64_t B, int64_t h, int64_t w, int64_t H, int64_t W, double sigma,
                            bool align_corners, float *y_host);
    /* Normal numbers (noise.h) to x; asynchronous where the backend is. NULL: x is host memory. */
    adze_status (*noise)(adze_ctx *ctx, const adze_noise *noise, float *x, int64_t n);
    /* Pixels of three bytes to y (n_pixels,3): table_host (3,256) gives the value of each byte of each channel. */
    adze_status (*normalize)(adze_ctx *ctx, const unsigned char *rgb_host, int64_t n_pixels, const float *table_host, float *y);
    /* Versions, devices and memory; NULL: none. Needs no open context and never fails: what is missing is a fact, too. */
    void (*facts)(adze_backend_put put, void *user);
    bool host_memory; /* alloc gives host memory: the plain-C reference can run in place */
    bool apart[ADZE_OP_COUNT]; /* ops whose output never takes over an input's memory here */
    /* NULL-terminated lists, best first; the list itself may be NULL. A kernel whose prepare says ADZE_EBACKEND has nothing for
     * this call, and the next is tried. */
    const adze_kernel *const *kernels[ADZE_OP_COUNT];
    const adze_kernel *const *backward[ADZE_OP_COUNT];
} adze_backend;

struct adze_ctx {
    const adze_backend *backend;
    adze_ctx_opts opts;
    int threads;
    int device_index; /* of cuda:N */
    char description[160];
    char numerics[96]; /* what of it decides about the bits of a result; "": all of it */
    void *state; /* the backend's; owned by it */
};

extern const adze_backend adze_backend_cpu;

enum { ADZE_BACKEND_ABI = 3 }; /* grows when adze_services, adze_backend or adze_call change */

/* What a loaded backend may call. The rest of core/ that it uses keeps no state, and is linked into it. */
typedef struct {
    int abi, op_count;
    size_t backend_bytes, call_bytes; /* sizeof of the library's structs: the backend compares them with its own */
    adze_status (*vfail)(adze_status code, const char *fmt, va_list ap);
    adze_status (*vfail_prefix)(adze_status code, const char *fmt, va_list ap);
    const char *(*error_message)(void);
    void *(*malloc)(size_t n_bytes);
    void *(*calloc)(size_t count, size_t size_bytes);
    void *(*realloc)(void *p, size_t n_bytes);
    void (*free)(void *p);
} adze_services;

/* The one symbol of a backend's shared object, `adze_backend_table`: NULL if the services are not what it was built for.
 * `services` must stay. */
typedef const adze_backend *(*adze_backend_table_fn)(const adze_services *services);

#ifdef __cplusplus
}
#endif
#endif
