/* kernels_cpu.h - the kernels of the cpu backend. */
#ifndef ADZE_CORE_CPU_KERNELS_CPU_H
#define ADZE_CORE_CPU_KERNELS_CPU_H

#include "core/backend.h"
#include "core/op.h"
#include "core/optim_step.h"

#ifdef __cplusplus
extern "C" {
#endif

/* onednn.c: everything that touches oneDNN. open gives the state that ctx->state holds; close takes NULL. */
adze_status adze_onednn_open(void **state);
void adze_onednn_close(void *state);
const char *adze_onednn_version(void);
extern const adze_kernel adze_onednn_conv2d, adze_onednn_pool2d, adze_onednn_linear, adze_onednn_conv_transpose2d;
/* A product c (m,n) = a b with float32 sums, prepared for its shape. a is stored (k,m) and b (n,k) where ta and tb say so;
 * ld: numbers from row to row, a has no gaps. */
typedef struct {
    int64_t m, n, k;
    bool ta, tb;
    int64_t ldb, ldc;
    bool bf16;     /* a and b are bfloat16, not float32 */
    bool bf16_out; /* so is c, rounded at the end */
    bool packed;   /* b is float32, brought into the library's own layout, and rounded with bf16, when it changes */
    bool add;      /* c += */
    bool bias;     /* bias (n), float32, is added to each row */
    bool relu;     /* at the end */
} adze_onednn_product_opts;
typedef struct adze_onednn_product adze_onednn_product; /* opaque: owns the packed b */
adze_status adze_onednn_product_create(adze_onednn_product **out, const adze_ctx *ctx, const adze_onednn_product_opts *opts);
void adze_onednn_product_destroy(adze_onednn_product *q);
size_t adze_onednn_product_scratch_bytes(const adze_onednn_product *q);
/* version: of a packed b, not 0; at the same one as the last time it is not packed anew. bias: NULL without. */
adze_status adze_onednn_product_run(adze_onednn_product *q, const void *a, const void *b, uint64_t version, const float *bias, void *c, void *scratch);
/* Gradients of conv2d and conv_transpose2d. */
extern const adze_kernel adze_onednn_conv_backward;
/* Gradients of convolutions 3x3 with fewer products. */
extern const adze_kernel adze_onednn_winograd_backward;
/* The same with operands rounded to bfloat16: they accept calls of a context with that precision only. */
extern const adze_kernel adze_onednn_conv2d_bf16, adze_onednn_linear_bf16, adze_onednn_conv_transpose2d_bf16, adze_onednn_conv_backward_bf16;
/* matmul in both directions, and the gradients of linear. */
extern const adze_kernel adze_onednn_products_bf16;

/* batch_norm_cpu.c */
extern const adze_kernel adze_cpu_batch_norm_train, adze_cpu_batch_norm_train_backward;

/* elementwise_cpu.c: memory-bound loops over threads. */
extern const adze_kernel adze_cpu_batch_norm, adze_cpu_mean_pool, adze_cpu_mean_pool_backward;
/* activation_cpu.c, broadcast_cpu.c */
extern const adze_kernel adze_cpu_activation, adze_cpu_activation_backward, adze_cpu_binary, adze_cpu_binary_backward;
/* rows_cpu.c */
extern const adze_kernel adze_cpu_softmax, adze_cpu_softmax_backward, adze_cpu_l2_normalize, adze_cpu_l2_normalize_backward;
extern const adze_kernel adze_cpu_unit_product, adze_cpu_unit_product_backward;
/* concat_cpu.c, max_pool_cpu.c */
extern const adze_kernel adze_cpu_concat, adze_cpu_concat_backward, adze_cpu_max_pool_backward;
/* bilinear_cpu.c, patch_embed_cpu.c */
extern const adze_kernel adze_cpu_bilinear, adze_cpu_bilinear_backward, adze_cpu_patch_embed;

/* cosine_cpu.c */
extern const adze_kernel adze_cpu_cosine, adze_cpu_cosine_backward;
/* coupling_cpu.c */
extern const adze_kernel adze_cpu_coupling, adze_cpu_coupling_backward, adze_cpu_coupling_bf16, adze_cpu_coupling_backward_bf16;
/* flow_logp_cpu.c */
extern const adze_kernel adze_cpu_flow_logp, adze_cpu_flow_logp_backward;
/* gemm_cpu.c */
extern const adze_kernel adze_cpu_matmul, adze_cpu_matmul_backward, adze_cpu_linear_backward;
/* Sums of dy's gradient (rows,M) over the rows into that of a bias (M). */
void adze_cpu_sum_columns(const adze_arg *dy, const adze_arg *bias);
/* Columns that a pass down all rows takes at a time: a share for every thread, pieces of a row that are long enough for the hardware to
 * fetch ahead, ADZE_CPU_COLUMNS at most. */
enum { ADZE_CPU_COLUMNS = 512 };
int64_t adze_cpu_column_piece(int64_t M);

/* optimizer_cpu.c */
adze_status adze_cpu_optim_norm(adze_ctx *ctx, const adze_optim_norm *a);
adze_status adze_cpu_optim_update(adze_ctx *ctx, const adze_optim_update *u);
adze_status adze_cpu_optim_judge(adze_ctx *ctx, const adze_optim_judge *a);

#ifdef __cplusplus
}
#endif
#endif
