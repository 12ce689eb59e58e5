/* kernels_cuda.h - the kernels of the cuda backend, by the file that holds them. Each also stands in the table of
 * backend_cuda.c; an op without one there runs through core/host_fallback.c. */
#ifndef ADZE_CUDA_KERNELS_CUDA_H
#define ADZE_CUDA_KERNELS_CUDA_H

#include <cuda_runtime.h>

#include "core/backend.h"
#include "core/op.h"
#include "core/optim_step.h"

#ifdef __cplusplus
extern "C" {
#endif

/* device_facts.c */
void adze_cuda_facts(adze_backend_put put, void *user);
/* conv_cuda.c: cuDNN */
extern const adze_kernel adze_cuda_conv2d, adze_cuda_conv2d_backward;
extern const adze_kernel adze_cuda_conv_transpose2d, adze_cuda_conv_transpose2d_backward;
/* gemm_cuda.c: cuBLASLt */
extern const adze_kernel adze_cuda_linear, adze_cuda_linear_backward, adze_cuda_matmul, adze_cuda_matmul_backward;
/* Own kernels, each in the .cu file of its name (the adaptive pools and the index ops share theirs). */
extern const adze_kernel adze_cuda_activation, adze_cuda_activation_backward;
extern const adze_kernel adze_cuda_adaptive_pool2d, adze_cuda_adaptive_pool2d_backward;
extern const adze_kernel adze_cuda_adaptive_pool1d, adze_cuda_adaptive_pool1d_backward;
extern const adze_kernel adze_cuda_batch_norm, adze_cuda_batch_norm_backward;
extern const adze_kernel adze_cuda_batch_norm_train, adze_cuda_batch_norm_train_backward;
extern const adze_kernel adze_cuda_binary, adze_cuda_binary_backward;
extern const adze_kernel adze_cuda_concat, adze_cuda_concat_backward;
extern const adze_kernel adze_cuda_cosine, adze_cuda_cosine_backward;
extern const adze_kernel adze_cuda_coupling, adze_cuda_coupling_backward;
extern const adze_kernel adze_cuda_cross_entropy, adze_cuda_cross_entropy_backward;
extern const adze_kernel adze_cuda_dice, adze_cuda_dice_backward;
extern const adze_kernel adze_cuda_dropout_mask, adze_cuda_dropout_mask_backward;
extern const adze_kernel adze_cuda_flow_logp, adze_cuda_flow_logp_backward;
extern const adze_kernel adze_cuda_focal_prob, adze_cuda_focal_prob_backward;
extern const adze_kernel adze_cuda_group_norm, adze_cuda_group_norm_backward;
extern const adze_kernel adze_cuda_index_select, adze_cuda_index_select_backward;
extern const adze_kernel adze_cuda_index_put, adze_cuda_index_put_backward;
extern const adze_kernel adze_cuda_interpolate, adze_cuda_interpolate_backward;
extern const adze_kernel adze_cuda_l2_normalize, adze_cuda_l2_normalize_backward;
extern const adze_kernel adze_cuda_layer_norm, adze_cuda_layer_norm_backward;
extern const adze_kernel adze_cuda_loss, adze_cuda_loss_backward;
extern const adze_kernel adze_cuda_patch_embed;
extern const adze_kernel adze_cuda_pixel_shuffle, adze_cuda_pixel_shuffle_backward;
extern const adze_kernel adze_cuda_pool2d, adze_cuda_pool2d_backward;
extern const adze_kernel adze_cuda_reduce, adze_cuda_reduce_backward;
extern const adze_kernel adze_cuda_slice, adze_cuda_slice_backward;
extern const adze_kernel adze_cuda_softmax, adze_cuda_softmax_backward;
extern const adze_kernel adze_cuda_topk, adze_cuda_topk_backward;
extern const adze_kernel adze_cuda_unfold, adze_cuda_unfold_backward;
extern const adze_kernel adze_cuda_unit_product, adze_cuda_unit_product_backward;
extern const adze_kernel adze_cuda_upfirdn_blur, adze_cuda_upfirdn_blur_backward;

/* optimizer.cu; the first: whether this build has kernels for the thread's device */
cudaError_t adze_cuda_kernel_image(void);
adze_status adze_cuda_optim_norm(adze_ctx *ctx, const adze_optim_norm *a);
adze_status adze_cuda_optim_update(adze_ctx *ctx, const adze_optim_update *u);
adze_status adze_cuda_optim_judge(adze_ctx *ctx, const adze_optim_judge *a);
adze_status adze_cuda_copy_if(adze_ctx *ctx, float *to, const float *from, int64_t n, const int32_t *when);

/* map_post.cu, noise.cu, normalize.cu: see core/backend.h. */
adze_status adze_cuda_noise(adze_ctx *ctx, const adze_noise *noise, float *x, int64_t n);
adze_status adze_cuda_map_post(adze_ctx *ctx, const float *x_host, int64_t B, int64_t h, int64_t w, int64_t H, int64_t W, double sigma,
                               bool align_corners, float *y_host);
size_t adze_cuda_map_post_bytes(const adze_ctx *ctx, int64_t B, int64_t h, int64_t w, int64_t H, int64_t W, double sigma);
adze_status adze_cuda_normalize(adze_ctx *ctx, const unsigned char *rgb_host, int64_t n_pixels, const float *table_host, float *y);

/* knn.cu: see core/backend.h. */
adze_status adze_cuda_bank_create(adze_ctx *ctx, void **bank, const float *rows_host, int64_t M, int64_t D, adze_knn_precision precision);
void adze_cuda_bank_destroy(adze_ctx *ctx, void *bank);
adze_status adze_cuda_bank_query(adze_ctx *ctx, const void *bank, const float *q, int64_t Q, int k, float *dist_host, int32_t *idx_host,
                                 adze_bank_stats *stats);
size_t adze_cuda_bank_query_bytes(const adze_ctx *ctx, const void *bank, int64_t Q, int k);

/* kcenter.cu: see core/backend.h. */
adze_status adze_cuda_kcenter(adze_ctx *ctx, const float *x_host, int64_t N, int64_t d, int64_t K, const adze_kcenter_opts *opts, int64_t *picks_host,
                              float *start_host, float *rest_host);
size_t adze_cuda_kcenter_bytes(const adze_ctx *ctx, int64_t N, int64_t d, int64_t K, int64_t n_starts);

#ifdef __cplusplus
}
#endif
#endif
