/* backend_cuda.c - the cuda backend: opening a device, memory, recording, and the kernels per op, best first. Entry:
 * adze_backend_table(), the only symbol of the shared object. Built by nvcc's gcc as adze_cuda.so, and against the emulator in
 * tests/cusim as adze_cusim.so. */
#ifdef ADZE_CUSIM
#include <cuda.h>
#else
#include <dlfcn.h>
#endif
#include <nvtx3/nvToolsExt.h>
#include <stdio.h>
#include <string.h>

#include "core/memory.h"
#include "cuda/conv_plan.h"
#include "cuda/cuda_state.h"
#include "cuda/kernels_cuda.h"
#include "cuda/matmul_lt.h"
#include "cuda/ranks_nccl.h"
#include "cuda/services.h"

#ifdef ADZE_CUSIM
#define BACKEND_NAME "cusim"
#else
#define BACKEND_NAME "cuda"
#endif

adze_status adze_cuda_check(cudaError_t result, const char *what)
{
    if (result == cudaSuccess) return ADZE_OK;
    cudaGetLastError(); /* clears it, where it can be cleared */
    adze_status code = ADZE_EBACKEND;
    if (result == cudaErrorMemoryAllocation) code = ADZE_ENOMEM;
    /* A kernel's own mistake; a failed check of the emulator is cudaErrorAssert. */
    if (result == cudaErrorAssert || result == cudaErrorIllegalAddress || result == cudaErrorMisalignedAddress) code = ADZE_EINTERNAL;
    return adze_fail(code, "CUDA: %s: %s", what, cudaGetErrorString(result));
}

adze_status adze_cuda_go_to_device(const adze_cuda_state *s, int *before)
{
    adze_status st = adze_cuda_check(cudaGetDevice(before), "device of this thread");
    if (st == ADZE_OK && *before != s->device) st = adze_cuda_check(cudaSetDevice(s->device), "change of device");
    return st;
}

void adze_cuda_go_back(const adze_cuda_state *s, int before)
{
    unsigned flags = 0;
    int active = 0;
    if (before != s->device && s->context_state(before, &flags, &active) == 0 && active) cudaSetDevice(before);
}

/* ---- memory ---- */

/* Room for one more in the list of what is held. */
static adze_status grow_list(adze_cuda_state *s)
{
    if (s->n_held < s->cap_held) return ADZE_OK;
    int cap = s->cap_held > 0 ? 2 * s->cap_held : 64;
    adze_cuda_held *grown = adze_realloc(s->held, (size_t)cap * sizeof *grown);
    if (!grown) return adze_fail(ADZE_ENOMEM, "a list of %d blocks", cap);
    s->held = grown, s->cap_held = cap;
    return ADZE_OK;
}

static void count_block(adze_cuda_state *s, void *p, size_t n_bytes, adze_block block)
{
    s->held[s->n_held++] = (adze_cuda_held){ p, n_bytes, block };
    s->live_bytes += n_bytes, s->of[block] += n_bytes;
    if (s->live_bytes > s->peak_bytes) s->peak_bytes = s->live_bytes;
}

static void forget_block(adze_cuda_state *s, const void *p)
{
    int i = s->n_held - 1;
    while (i > 0 && s->held[i].p != p) i--; /* the latest are freed first */
    s->live_bytes -= s->held[i].n_bytes, s->of[s->held[i].block] -= s->held[i].n_bytes;
    s->held[i] = s->held[--s->n_held];
}

adze_status adze_cuda_alloc(adze_ctx *ctx, size_t n_bytes, adze_block block, void **out)
{
    adze_status st = ADZE_OK;
    adze_cuda_state *s = adze_cuda_state_of(ctx);
    int before;
    *out = NULL;
    n_bytes = n_bytes > 0 ? n_bytes : 1;
    TRY(grow_list(s));
    TRY(adze_cuda_go_to_device(s, &before));
    cudaError_t result = cudaMalloc(out, n_bytes);
    if (result == cudaErrorMemoryAllocation) {
        size_t free_bytes = 0, total_bytes = 0;
        cudaGetLastError();
        cudaMemGetInfo(&free_bytes, &total_bytes);
        st = adze_fail(ADZE_ENOMEM, "%s: no %zu bytes on " BACKEND_NAME ":%d, where %zu of %zu are free; %s", adze_block_name(block), n_bytes,
                       s->device, free_bytes, total_bytes, adze_block_remedy(block));
    } else st = adze_cuda_check(result, adze_block_name(block));
    if (st == ADZE_OK) count_block(s, *out, n_bytes, block);
    adze_cuda_go_back(s, before);
done:
    return st;
}

void adze_cuda_free(adze_ctx *ctx, void *p)
{
    adze_cuda_state *s = adze_cuda_state_of(ctx);
    int before;
    if (!p || adze_cuda_go_to_device(s, &before) != ADZE_OK) return;
    cudaStreamSynchronize(s->stream);
    cudaFree(p);
    forget_block(s, p);
    adze_cuda_go_back(s, before);
}

static void cuda_memory(const adze_ctx *ctx, adze_device_memory *m)
{
    const adze_cuda_state *s = adze_cuda_state_of(ctx);
    int before;
    m->live_bytes = s->live_bytes, m->peak_bytes = s->peak_bytes;
    memcpy(m->of, s->of, sizeof m->of);
    if (adze_cuda_go_to_device(s, &before) != ADZE_OK) return;
    if (cudaMemGetInfo(&m->free_bytes, &m->total_bytes) != cudaSuccess) cudaGetLastError();
    adze_cuda_go_back(s, before);
}

/* Makes and ends a function of the table: `call` with the context's device as the thread's. */
#define ON_DEVICE(ctx, call)                             \
    const adze_cuda_state *state = adze_cuda_state_of(ctx); \
    int before;                                          \
    adze_status st = adze_cuda_go_to_device(state, &before); \
    if (st != ADZE_OK) return st;                        \
    st = (call);                                         \
    adze_cuda_go_back(state, before);                    \
    return st

static adze_status cuda_clear(adze_ctx *ctx, void *p, size_t n_bytes)
{
    ON_DEVICE(ctx, adze_cuda_check(cudaMemsetAsync(p, 0, n_bytes, state->stream), "clearing"));
}

static adze_status cuda_copy(adze_ctx *ctx, void *to, const void *from, size_t n_bytes)
{
    ON_DEVICE(ctx, adze_cuda_check(cudaMemcpyAsync(to, from, n_bytes, cudaMemcpyDeviceToDevice, state->stream), "a copy"));
}

static adze_status cuda_copy_if(adze_ctx *ctx, float *to, const float *from, int64_t n, const int32_t *when)
{
    ON_DEVICE(ctx, adze_cuda_copy_if(ctx, to, from, n, when));
}

static adze_status cuda_read(adze_ctx *ctx, void *to_host, const void *from, size_t n_bytes)
{
    ON_DEVICE(ctx, adze_cuda_read(ctx, to_host, from, n_bytes));
}

static adze_status cuda_letter_send(adze_ctx *ctx, void *box, int letter, const void *from)
{
    ON_DEVICE(ctx, adze_cuda_letter_send(ctx, box, letter, from));
}

/* ---- opening ---- */

static void cuda_close(adze_ctx *ctx)
{
    adze_cuda_state *s = adze_cuda_state_of(ctx);
    int before;
    if (!s) return;
    if (s->context_state && adze_cuda_go_to_device(s, &before) == ADZE_OK) {
        adze_cuda_ranks_close(ctx);
        conv_plan_close(ctx);
        matmul_lt_close(ctx);
        if (s->stream) cudaStreamSynchronize(s->stream);
        adze_cuda_transfer_close(ctx);
        if (s->upload) cudaStreamDestroy(s->upload);
        if (s->stream) cudaStreamDestroy(s->stream);
        adze_cuda_go_back(s, before);
    }
    adze_free(s->held);
    adze_free(s);
    ctx->state = NULL;
}

#ifdef ADZE_CUSIM
static adze_status find_driver(adze_cuda_state *s)
{
    s->context_state = cuDevicePrimaryCtxGetState;
    return ADZE_OK;
}
#else
/* The runtime, which is linked in, has loaded the driver; it has no call for this. */
static adze_status find_driver(adze_cuda_state *s)
{
    s->driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    void *symbol = s->driver ? dlsym(s->driver, "cuDevicePrimaryCtxGetState") : NULL;
    if (!symbol) return adze_fail(ADZE_EBACKEND, "device " BACKEND_NAME ": the driver cannot be asked: %s", dlerror());
    memcpy(&s->context_state, &symbol, sizeof symbol);
    return ADZE_OK;
}
#endif

/* Why there is no device, in terms of what can be done about it. */
static adze_status no_device(cudaError_t result)
{
    int driver = 0;
    if (result != cudaErrorInsufficientDriver || cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0)
        return adze_fail(ADZE_EBACKEND, "device " BACKEND_NAME ": no GPU here (%s); --device cpu works",
                         result == cudaErrorInsufficientDriver ? "no NVIDIA driver" : cudaGetErrorString(result));
    return adze_fail(ADZE_EBACKEND, "device " BACKEND_NAME ": the NVIDIA driver is for CUDA %d.%d, this build wants %d.%d: a newer driver, or a build with an "
                     "older toolkit; --device cpu works",
                     driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
}

/* Kernels are built for some compute capabilities, and run on later ones. */
static adze_status check_kernels(const adze_cuda_state *s)
{
    const cudaError_t result = adze_cuda_kernel_image();
    if (result == cudaSuccess) return ADZE_OK;
    cudaGetLastError();
    return adze_fail(ADZE_EBACKEND, "device " BACKEND_NAME ":%d: %s is sm_%d%d, and this build has no kernels for it (%s): build with -DADZE_CUDA_ARCHS=%d%d",
                     s->device, s->name, s->major, s->minor, cudaGetErrorString(result), s->major, s->minor);
}

static adze_status choose_device(adze_ctx *ctx, adze_cuda_state *s)
{
    adze_status st = ADZE_OK;
    int count = 0;
    cudaError_t result = cudaGetDeviceCount(&count);
    if (result != cudaSuccess || count == 0) {
        cudaGetLastError();
        return no_device(result);
    }
    REQUIRE(ctx->device_index < count, ADZE_EBACKEND, "device " BACKEND_NAME ":%d: there are %d, counted from 0", ctx->device_index, count);
    s->device = ctx->device_index;
    struct cudaDeviceProp p;
    TRY(adze_cuda_check(cudaGetDeviceProperties(&p, s->device), "properties of the device"));
    snprintf(s->name, sizeof s->name, "%.*s", (int)sizeof s->name - 1, p.name);
    s->sm_count = p.multiProcessorCount, s->major = p.major, s->minor = p.minor;
    REQUIRE(s->major >= 8, ADZE_EBACKEND, "device " BACKEND_NAME ":%d: %s has compute capability %d.%d, want 8.0 or more", s->device, s->name,
            s->major, s->minor);
    snprintf(ctx->description, sizeof ctx->description, BACKEND_NAME ":%d, %.80s, sm_%d%d, %.1f GB", s->device, s->name, s->major, s->minor,
             (double)p.totalGlobalMem / 1e9);
done:
    return st;
}

static adze_status make_streams(adze_cuda_state *s)
{
    cudaError_t e = cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking);
    if (e == cudaSuccess) e = cudaStreamCreateWithFlags(&s->upload, cudaStreamNonBlocking);
    return adze_cuda_check(e, "streams");
}

static adze_status cuda_open(adze_ctx *ctx)
{
    adze_status st = ADZE_OK;
    int before;
    adze_cuda_state *s = adze_calloc(1, sizeof *s);
    REQUIRE(s, ADZE_ENOMEM, BACKEND_NAME ": host bytes");
    ctx->state = s;
    TRY(choose_device(ctx, s));
    TRY(find_driver(s));
    TRY(adze_cuda_go_to_device(s, &before));
    st = check_kernels(s);
    if (st == ADZE_OK) st = make_streams(s);
    adze_cuda_go_back(s, before);
done:
    if (st != ADZE_OK) cuda_close(ctx);
    return st;
}

/* ---- running ---- */

static adze_status cuda_begin(adze_ctx *ctx)
{
    adze_cuda_state *s = adze_cuda_state_of(ctx);
    return adze_cuda_go_to_device(s, &s->before);
}

static adze_status cuda_end(adze_ctx *ctx)
{
    const adze_cuda_state *s = adze_cuda_state_of(ctx);
    adze_cuda_go_back(s, s->before);
    return ADZE_OK;
}

static adze_status cuda_wait(adze_ctx *ctx)
{
    return adze_cuda_check(cudaStreamSynchronize(adze_cuda_stream(ctx)), "running");
}

static adze_status cuda_record(adze_ctx *ctx)
{
    return adze_cuda_check(cudaStreamBeginCapture(adze_cuda_stream(ctx), cudaStreamCaptureModeThreadLocal), "begin of a capture");
}

static adze_status cuda_recorded(adze_ctx *ctx, void **recording)
{
    adze_status st = ADZE_OK;
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    *recording = NULL;
    TRY(adze_cuda_check(cudaStreamEndCapture(adze_cuda_stream(ctx), &graph), "end of a capture"));
    TRY(adze_cuda_check(cudaGraphInstantiate(&exec, graph, 0), "a CUDA graph"));
    *recording = exec;
done:
    if (graph) cudaGraphDestroy(graph);
    return st;
}

static adze_status cuda_replay(adze_ctx *ctx, void *recording)
{
    return adze_cuda_check(cudaGraphLaunch((cudaGraphExec_t)recording, adze_cuda_stream(ctx)), "launch of a CUDA graph");
}

static void cuda_forget(adze_ctx *ctx, void *recording)
{
    cudaStreamSynchronize(adze_cuda_stream(ctx));
    if (recording) cudaGraphExecDestroy((cudaGraphExec_t)recording);
}

/* ---- calls that are no operations ---- */

static adze_status cuda_ranks_mean(adze_ctx *ctx, float *x, int64_t n) { ON_DEVICE(ctx, adze_cuda_ranks_mean(ctx, x, n)); }
static adze_status cuda_optim_norm(adze_ctx *ctx, const adze_optim_norm *a) { ON_DEVICE(ctx, adze_cuda_optim_norm(ctx, a)); }
static adze_status cuda_optim_update(adze_ctx *ctx, const adze_optim_update *u) { ON_DEVICE(ctx, adze_cuda_optim_update(ctx, u)); }
static adze_status cuda_optim_judge(adze_ctx *ctx, const adze_optim_judge *a) { ON_DEVICE(ctx, adze_cuda_optim_judge(ctx, a)); }

static adze_status cuda_bank_create(adze_ctx *ctx, void **bank, const float *rows_host, int64_t M, int64_t D, adze_knn_precision precision)
{
    ON_DEVICE(ctx, adze_cuda_bank_create(ctx, bank, rows_host, M, D, precision));
}

static adze_status cuda_bank_query(adze_ctx *ctx, const void *bank, const float *q, int64_t Q, int k, float *dist_host, int32_t *idx_host,
                                   adze_bank_stats *stats)
{
    ON_DEVICE(ctx, adze_cuda_bank_query(ctx, bank, q, Q, k, dist_host, idx_host, stats));
}

static adze_status cuda_kcenter(adze_ctx *ctx, const float *x_host, int64_t N, int64_t d, int64_t K, const adze_kcenter_opts *opts, int64_t *picks_host,
                                float *start_host, float *rest_host)
{
    ON_DEVICE(ctx, adze_cuda_kcenter(ctx, x_host, N, d, K, opts, picks_host, start_host, rest_host));
}

static adze_status cuda_map_post(adze_ctx *ctx, const float *x_host, int64_t B, int64_t h, int64_t w, int64_t H, int64_t W, double sigma,
                                 bool align_corners, float *y_host)
{
    ON_DEVICE(ctx, adze_cuda_map_post(ctx, x_host, B, h, w, H, W, sigma, align_corners, y_host));
}

static adze_status cuda_noise(adze_ctx *ctx, const adze_noise *noise, float *x, int64_t n) { ON_DEVICE(ctx, adze_cuda_noise(ctx, noise, x, n)); }

static adze_status cuda_normalize(adze_ctx *ctx, const unsigned char *rgb_host, int64_t n_pixels, const float *table_host, float *y)
{
    ON_DEVICE(ctx, adze_cuda_normalize(ctx, rgb_host, n_pixels, table_host, y));
}

static void cuda_enter(adze_ctx *ctx, const char *name)
{
    (void)ctx;
    nvtxRangePushA(name);
}

static void cuda_leave(adze_ctx *ctx)
{
    (void)ctx;
    nvtxRangePop();
}

#define LIST(...) (const adze_kernel *const[]){ __VA_ARGS__, NULL }

static const adze_backend backend = {
    .name = BACKEND_NAME,
    .open = cuda_open,
    .close = cuda_close,
    .alloc = adze_cuda_alloc,
    .free = adze_cuda_free,
    .write = adze_cuda_write,
    .read = cuda_read,
    .clear = cuda_clear,
    .copy = cuda_copy,
    .pin = adze_cuda_pin,
    .unpin = adze_cuda_unpin,
    .write_pinned = adze_cuda_write_pinned,
    .memory = cuda_memory,
    .reserve = adze_cuda_reserve,
    .copy_if = cuda_copy_if,
    .letters_create = adze_cuda_letters_create,
    .letters_destroy = adze_cuda_letters_destroy,
    .letter_send = cuda_letter_send,
    .letter_open = adze_cuda_letter_open,
    .begin = cuda_begin,
    .end = cuda_end,
    .wait = cuda_wait,
    .record = cuda_record,
    .recorded = cuda_recorded,
    .replay = cuda_replay,
    .forget = cuda_forget,
    .ranks_id = adze_cuda_ranks_id,
    .ranks_join = adze_cuda_ranks_join,
    .ranks_mean = cuda_ranks_mean,
    .enter = cuda_enter,
    .leave = cuda_leave,
    .optim_norm = cuda_optim_norm,
    .optim_update = cuda_optim_update,
    .optim_judge = cuda_optim_judge,
    .bank_create = cuda_bank_create,
    .bank_destroy = adze_cuda_bank_destroy,
    .bank_query = cuda_bank_query,
    .kcenter = cuda_kcenter,
    .bank_query_bytes = adze_cuda_bank_query_bytes,
    .kcenter_bytes = adze_cuda_kcenter_bytes,
    .map_post_bytes = adze_cuda_map_post_bytes,
    .map_post = cuda_map_post,
    .noise = cuda_noise,
    .normalize = cuda_normalize,
    .facts = adze_cuda_facts,
    .apart = { [ADZE_OP_conv2d] = true }, /* cuDNN does not say that a fused residual may be the output */
    .kernels = {
        [ADZE_OP_conv2d] = LIST(&adze_cuda_conv2d),
        [ADZE_OP_conv_transpose2d] = LIST(&adze_cuda_conv_transpose2d),
        [ADZE_OP_linear] = LIST(&adze_cuda_linear),
        [ADZE_OP_matmul] = LIST(&adze_cuda_matmul),
        [ADZE_OP_batch_norm] = LIST(&adze_cuda_batch_norm),
        [ADZE_OP_batch_norm_train] = LIST(&adze_cuda_batch_norm_train),
        [ADZE_OP_activation] = LIST(&adze_cuda_activation),
        [ADZE_OP_binary] = LIST(&adze_cuda_binary),
        [ADZE_OP_pool2d] = LIST(&adze_cuda_pool2d),
        [ADZE_OP_adaptive_pool2d] = LIST(&adze_cuda_adaptive_pool2d),
        [ADZE_OP_adaptive_pool1d] = LIST(&adze_cuda_adaptive_pool1d),
        [ADZE_OP_interpolate] = LIST(&adze_cuda_interpolate),
        [ADZE_OP_unfold] = LIST(&adze_cuda_unfold),
        [ADZE_OP_upfirdn_blur] = LIST(&adze_cuda_upfirdn_blur),
        [ADZE_OP_patch_embed] = LIST(&adze_cuda_patch_embed),
        [ADZE_OP_concat] = LIST(&adze_cuda_concat),
        [ADZE_OP_slice] = LIST(&adze_cuda_slice),
        [ADZE_OP_index_select] = LIST(&adze_cuda_index_select),
        [ADZE_OP_index_put] = LIST(&adze_cuda_index_put),
        [ADZE_OP_pixel_shuffle] = LIST(&adze_cuda_pixel_shuffle),
        [ADZE_OP_softmax] = LIST(&adze_cuda_softmax),
        [ADZE_OP_l2_normalize] = LIST(&adze_cuda_l2_normalize),
        [ADZE_OP_layer_norm] = LIST(&adze_cuda_layer_norm),
        [ADZE_OP_group_norm] = LIST(&adze_cuda_group_norm),
        [ADZE_OP_reduce] = LIST(&adze_cuda_reduce),
        [ADZE_OP_dropout_mask] = LIST(&adze_cuda_dropout_mask),
        [ADZE_OP_cosine] = LIST(&adze_cuda_cosine),
        [ADZE_OP_unit_product] = LIST(&adze_cuda_unit_product),
        [ADZE_OP_loss] = LIST(&adze_cuda_loss),
        [ADZE_OP_cross_entropy] = LIST(&adze_cuda_cross_entropy),
        [ADZE_OP_focal_prob] = LIST(&adze_cuda_focal_prob),
        [ADZE_OP_dice] = LIST(&adze_cuda_dice),
        [ADZE_OP_topk] = LIST(&adze_cuda_topk),
        [ADZE_OP_coupling] = LIST(&adze_cuda_coupling),
        [ADZE_OP_flow_logp] = LIST(&adze_cuda_flow_logp),
    },
    .backward = {
        [ADZE_OP_conv2d] = LIST(&adze_cuda_conv2d_backward),
        [ADZE_OP_conv_transpose2d] = LIST(&adze_cuda_conv_transpose2d_backward),
        [ADZE_OP_linear] = LIST(&adze_cuda_linear_backward),
        [ADZE_OP_matmul] = LIST(&adze_cuda_matmul_backward),
        [ADZE_OP_batch_norm] = LIST(&adze_cuda_batch_norm_backward),
        [ADZE_OP_batch_norm_train] = LIST(&adze_cuda_batch_norm_train_backward),
        [ADZE_OP_activation] = LIST(&adze_cuda_activation_backward),
        [ADZE_OP_binary] = LIST(&adze_cuda_binary_backward),
        [ADZE_OP_pool2d] = LIST(&adze_cuda_pool2d_backward),
        [ADZE_OP_adaptive_pool2d] = LIST(&adze_cuda_adaptive_pool2d_backward),
        [ADZE_OP_adaptive_pool1d] = LIST(&adze_cuda_adaptive_pool1d_backward),
        [ADZE_OP_interpolate] = LIST(&adze_cuda_interpolate_backward),
        [ADZE_OP_unfold] = LIST(&adze_cuda_unfold_backward),
        [ADZE_OP_upfirdn_blur] = LIST(&adze_cuda_upfirdn_blur_backward),
        [ADZE_OP_concat] = LIST(&adze_cuda_concat_backward),
        [ADZE_OP_slice] = LIST(&adze_cuda_slice_backward),
        [ADZE_OP_index_select] = LIST(&adze_cuda_index_select_backward),
        [ADZE_OP_index_put] = LIST(&adze_cuda_index_put_backward),
        [ADZE_OP_pixel_shuffle] = LIST(&adze_cuda_pixel_shuffle_backward),
        [ADZE_OP_softmax] = LIST(&adze_cuda_softmax_backward),
        [ADZE_OP_l2_normalize] = LIST(&adze_cuda_l2_normalize_backward),
        [ADZE_OP_layer_norm] = LIST(&adze_cuda_layer_norm_backward),
        [ADZE_OP_group_norm] = LIST(&adze_cuda_group_norm_backward),
        [ADZE_OP_reduce] = LIST(&adze_cuda_reduce_backward),
        [ADZE_OP_dropout_mask] = LIST(&adze_cuda_dropout_mask_backward),
        [ADZE_OP_cosine] = LIST(&adze_cuda_cosine_backward),
        [ADZE_OP_unit_product] = LIST(&adze_cuda_unit_product_backward),
        [ADZE_OP_loss] = LIST(&adze_cuda_loss_backward),
        [ADZE_OP_cross_entropy] = LIST(&adze_cuda_cross_entropy_backward),
        [ADZE_OP_focal_prob] = LIST(&adze_cuda_focal_prob_backward),
        [ADZE_OP_dice] = LIST(&adze_cuda_dice_backward),
        [ADZE_OP_topk] = LIST(&adze_cuda_topk_backward),
        [ADZE_OP_coupling] = LIST(&adze_cuda_coupling_backward),
        [ADZE_OP_flow_logp] = LIST(&adze_cuda_flow_logp_backward),
    },
};

__attribute__((visibility("default"))) const adze_backend *adze_backend_table(const adze_services *services);

const adze_backend *adze_backend_table(const adze_services *services)
{
    return adze_services_set(services) ? &backend : NULL;
}
