/* backend_cpu.c - the cpu backend: host memory and the list of kernels per op, best first. */
#include <omp.h>
#include <stdio.h>
#include <string.h>

#include "core/backend.h"
#include "core/cpu/kernels_cpu.h"
#include "core/isa.h"
#include "core/memory.h"

static adze_status cpu_open(adze_ctx *ctx)
{
    const adze_precision precision = ctx->opts.precision;
    if (precision == ADZE_PRECISION_TF32)
        return adze_fail(ADZE_EINVAL, "precision tf32: the cpu backend computes in f32 or bf16");
    if (precision == ADZE_PRECISION_BF16 && !adze_isa_available(ADZE_ISA_AVX512))
        return adze_fail(ADZE_EBACKEND, "precision bf16: this processor has no AVX-512, without which it would be slower than f32; --precision f32 works");
    omp_set_num_threads(ctx->threads);
    const char *isa = __builtin_cpu_supports("avx512f") ? "AVX-512" : __builtin_cpu_supports("avx2") ? "AVX2" : "no AVX2";
    const char *bf16 = precision != ADZE_PRECISION_BF16 ? "" : adze_isa_available(ADZE_ISA_AVX512_BF16) ? ", bf16" : ", bf16 emulated";
    snprintf(ctx->description, sizeof ctx->description, "cpu, %d threads, %s, oneDNN %s%s", ctx->threads, isa, adze_onednn_version(), bf16);
    snprintf(ctx->numerics, sizeof ctx->numerics, "cpu, %s, oneDNN %s%s", isa, adze_onednn_version(), bf16);
    return adze_onednn_open(&ctx->state);
}

static void cpu_close(adze_ctx *ctx)
{
    adze_onednn_close(ctx->state);
}

static adze_status cpu_alloc(adze_ctx *ctx, size_t n_bytes, adze_block block, void **out)
{
    (void)ctx;
    *out = adze_malloc(n_bytes);
    if (!*out)
        return adze_fail(ADZE_ENOMEM, "%s: %zu host bytes (limit %zu, in use %zu); a larger --memory-limit helps; %s",
                         adze_block_name(block), n_bytes, adze_memory_limit(), adze_memory_live_bytes(), adze_block_remedy(block));
    return ADZE_OK;
}

static void cpu_free(adze_ctx *ctx, void *p)
{
    (void)ctx;
    adze_free(p);
}

static adze_status cpu_copy(adze_ctx *ctx, void *to, const void *from, size_t n_bytes)
{
    (void)ctx;
    memcpy(to, from, n_bytes);
    return ADZE_OK;
}

static adze_status cpu_clear(adze_ctx *ctx, void *p, size_t n_bytes)
{
    (void)ctx;
    memset(p, 0, n_bytes);
    return ADZE_OK;
}

static adze_status cpu_copy_if(adze_ctx *ctx, float *to, const float *from, int64_t n, const int32_t *when)
{
    (void)ctx;
    if (*when) memcpy(to, from, (size_t)n * sizeof *to);
    return ADZE_OK;
}

/* Nothing is ever outstanding here: a letter is written when it is sent. */
typedef struct {
    size_t n_bytes; /* of one */
    unsigned char content[];
} letters;

static adze_status cpu_letters_create(adze_ctx *ctx, void **box, int n_letters, size_t n_bytes)
{
    (void)ctx;
    letters *l = adze_calloc(1, sizeof *l + (size_t)n_letters * n_bytes);
    *box = l;
    if (!l) return adze_fail(ADZE_ENOMEM, "%d letters of %zu bytes", n_letters, n_bytes);
    l->n_bytes = n_bytes;
    return ADZE_OK;
}

static adze_status cpu_letter_send(adze_ctx *ctx, void *box, int letter, const void *from)
{
    (void)ctx;
    letters *l = box;
    memcpy(l->content + (size_t)letter * l->n_bytes, from, l->n_bytes);
    return ADZE_OK;
}

static adze_status cpu_letter_open(adze_ctx *ctx, void *box, int letter, const void **content)
{
    (void)ctx;
    letters *l = box;
    *content = l->content + (size_t)letter * l->n_bytes;
    return ADZE_OK;
}

/* The thread count is a property of the calling thread in OpenMP: set it anew, plans may run on any thread. */
static adze_status cpu_begin(adze_ctx *ctx)
{
    if (omp_get_max_threads() != ctx->threads) omp_set_num_threads(ctx->threads);
    return ADZE_OK;
}

static adze_status cpu_end(adze_ctx *ctx)
{
    (void)ctx;
    return ADZE_OK;
}

#define LIST(...) (const adze_kernel *const[]){ __VA_ARGS__, NULL }

const adze_backend adze_backend_cpu = {
    .name = "cpu",
    .open = cpu_open,
    .close = cpu_close,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .write = cpu_copy,
    .read = cpu_copy,
    .clear = cpu_clear,
    .copy = cpu_copy,
    .copy_if = cpu_copy_if,
    .letters_create = cpu_letters_create,
    .letters_destroy = cpu_free,
    .letter_send = cpu_letter_send,
    .letter_open = cpu_letter_open,
    .begin = cpu_begin,
    .end = cpu_end,
    .optim_norm = adze_cpu_optim_norm,
    .optim_update = adze_cpu_optim_update,
    .optim_judge = adze_cpu_optim_judge,
    .host_memory = true,
    .kernels = {
        [ADZE_OP_conv2d] = LIST(&adze_onednn_conv2d_bf16, &adze_onednn_conv2d),
        [ADZE_OP_conv_transpose2d] = LIST(&adze_onednn_conv_transpose2d_bf16, &adze_onednn_conv_transpose2d),
        [ADZE_OP_batch_norm_train] = LIST(&adze_cpu_batch_norm_train),
        [ADZE_OP_batch_norm] = LIST(&adze_cpu_batch_norm),
        [ADZE_OP_activation] = LIST(&adze_cpu_activation),
        [ADZE_OP_binary] = LIST(&adze_cpu_binary),
        [ADZE_OP_pool2d] = LIST(&adze_onednn_pool2d),
        [ADZE_OP_adaptive_pool2d] = LIST(&adze_cpu_mean_pool),
        [ADZE_OP_linear] = LIST(&adze_onednn_linear_bf16, &adze_onednn_linear),
        [ADZE_OP_interpolate] = LIST(&adze_cpu_bilinear),
        [ADZE_OP_patch_embed] = LIST(&adze_cpu_patch_embed),
        [ADZE_OP_matmul] = LIST(&adze_onednn_products_bf16, &adze_cpu_matmul),
        [ADZE_OP_cosine] = LIST(&adze_cpu_cosine),
        [ADZE_OP_coupling] = LIST(&adze_cpu_coupling_bf16, &adze_cpu_coupling),
        [ADZE_OP_flow_logp] = LIST(&adze_cpu_flow_logp),
        [ADZE_OP_concat] = LIST(&adze_cpu_concat),
        [ADZE_OP_softmax] = LIST(&adze_cpu_softmax),
        [ADZE_OP_l2_normalize] = LIST(&adze_cpu_l2_normalize),
        [ADZE_OP_unit_product] = LIST(&adze_cpu_unit_product),
    },
    .backward = {
        [ADZE_OP_conv2d] = LIST(&adze_onednn_conv_backward_bf16, &adze_onednn_winograd_backward, &adze_onednn_conv_backward),
        [ADZE_OP_conv_transpose2d] = LIST(&adze_onednn_conv_backward_bf16, &adze_onednn_conv_backward),
        [ADZE_OP_batch_norm_train] = LIST(&adze_cpu_batch_norm_train_backward),
        [ADZE_OP_activation] = LIST(&adze_cpu_activation_backward),
        [ADZE_OP_binary] = LIST(&adze_cpu_binary_backward),
        [ADZE_OP_linear] = LIST(&adze_onednn_products_bf16, &adze_cpu_linear_backward),
        [ADZE_OP_matmul] = LIST(&adze_onednn_products_bf16, &adze_cpu_matmul_backward),
        [ADZE_OP_cosine] = LIST(&adze_cpu_cosine_backward),
        [ADZE_OP_coupling] = LIST(&adze_cpu_coupling_backward_bf16, &adze_cpu_coupling_backward),
        [ADZE_OP_flow_logp] = LIST(&adze_cpu_flow_logp_backward),
        [ADZE_OP_concat] = LIST(&adze_cpu_concat_backward),
        [ADZE_OP_softmax] = LIST(&adze_cpu_softmax_backward),
        [ADZE_OP_l2_normalize] = LIST(&adze_cpu_l2_normalize_backward),
        [ADZE_OP_unit_product] = LIST(&adze_cpu_unit_product_backward),
        [ADZE_OP_pool2d] = LIST(&adze_cpu_max_pool_backward),
        [ADZE_OP_adaptive_pool2d] = LIST(&adze_cpu_mean_pool_backward),
        [ADZE_OP_interpolate] = LIST(&adze_cpu_bilinear_backward),
    },
};
