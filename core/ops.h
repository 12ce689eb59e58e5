/* ops.h - builder functions: each adds one node to a graph and returns its output (ADZE_NONE after an error).
 *
 * Shapes: x (N,H,W,C) unless stated; weights in the reference's shapes. Sources: the operations of torch.nn.functional
 * of the same names; golden values under golden/ops. */
#ifndef ADZE_CORE_OPS_H
#define ADZE_CORE_OPS_H

#include "core/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int stride[2], dilation[2]; /* rows, columns */
    int pad[4];                 /* top, left, bottom, right; zeros */
    int groups;
} adze_conv2d_opts;
#define ADZE_CONV2D_OPTS ((adze_conv2d_opts){ .stride = { 1, 1 }, .dilation = { 1, 1 }, .pad = { 0, 0, 0, 0 }, .groups = 1 })

/* w (Co, C/groups, Kh, Kw); b (Co) or ADZE_NONE. y (N,Ho,Wo,Co), Ho = floor((H + top + bottom - dilation*(Kh-1) - 1)/stride) + 1. */
adze_value adze_conv2d(adze_graph *g, adze_value x, adze_value w, adze_value b, const adze_conv2d_opts *opts);
/* Transposed: w (C, Co/groups, Kh, Kw); y's side = (H-1)*stride - top - bottom + dilation*(Kh-1) + 1, where bottom is the
 * padding less the output padding (it may be negative). */
adze_value adze_conv_transpose2d(adze_graph *g, adze_value x, adze_value w, adze_value b, const adze_conv2d_opts *opts);
/* Padding of TensorFlow's "SAME": out = ceil(n/s), total = max((out-1)*s + k - n, 0), the odd pixel at the end. */
adze_conv2d_opts adze_conv2d_same_opts(adze_shape x, int64_t Kh, int64_t Kw, int stride, int groups);

/* Along the tokens of x (N,L,D), channel by channel and without looking ahead: y[l] = sum over j of w[j] x[l - (K-1) + j] + b,
 * zeros before the first token. w (D,1,1,K): the reference's (D,1,K); b (D) or ADZE_NONE. */
adze_value adze_conv1d_causal(adze_graph *g, adze_value x, adze_value w, adze_value b);

/* Over all but the last dimension, with given statistics: y = (x - mean)/sqrt(var + eps)*gamma + beta; all (C). */
adze_value adze_batch_norm(adze_graph *g, adze_value x, adze_value gamma, adze_value beta, adze_value mean,
                           adze_value var, float eps);

typedef struct {
    float eps, momentum;
    bool relu;   /* y = max(z, slope z) behind everything */
    float slope; /* of the ReLU below 0: from 0 to 1, without 1 */
} adze_batch_norm_opts;
#define ADZE_BATCH_NORM_OPTS ((adze_batch_norm_opts){ .eps = 1e-5f, .momentum = 0.1f })
/* With the statistics of the batch (biased variance): y = [relu](normalised x * gamma + beta [+ residual]). Moves the
 * running statistics: r = (1 - momentum) r + momentum * batch, the variance unbiased. running_mean and running_var are
 * frozen parameters that this op writes; residual of y's shape or ADZE_NONE. */
adze_value adze_batch_norm_train(adze_graph *g, adze_value x, adze_value gamma, adze_value beta, adze_value running_mean,
                                 adze_value running_var, adze_value residual, const adze_batch_norm_opts *opts);

typedef enum {
    ADZE_ACT_NONE, ADZE_ACT_RELU, ADZE_ACT_RELU6, ADZE_ACT_LEAKY_RELU /* a = slope */, ADZE_ACT_GELU, ADZE_ACT_GELU_TANH,
    ADZE_ACT_QUICK_GELU, ADZE_ACT_SILU, ADZE_ACT_SIGMOID, ADZE_ACT_TANH, ADZE_ACT_SOFTPLUS /* a = beta, b = threshold */,
    ADZE_ACT_LOG_SIGMOID, ADZE_ACT_EXP, ADZE_ACT_LOG, ADZE_ACT_SQRT, ADZE_ACT_SOFT_CLAMP /* a*tanh(x/b) */,
    ADZE_ACT_COUNT
} adze_act;
/* Elementwise, any shape. a and b: see the enum; ignored elsewhere. */
adze_value adze_activation(adze_graph *g, adze_value x, adze_act act, float a, float b);
const char *adze_act_name(adze_act act);

typedef enum { ADZE_BINARY_ADD, ADZE_BINARY_SUB, ADZE_BINARY_MUL, ADZE_BINARY_DIV } adze_binary_fn;
/* Elementwise with broadcasting: shapes aligned at the last dimension, a dimension of 1 is repeated. */
adze_value adze_binary(adze_graph *g, adze_binary_fn fn, adze_value x, adze_value z);

typedef struct {
    int kernel[2], stride[2];
    int pad[4];             /* top, left, bottom, right */
    bool max;               /* else mean */
    bool count_include_pad; /* mean only: padding counts in the divisor */
} adze_pool2d_opts;
adze_value adze_pool2d(adze_graph *g, adze_value x, const adze_pool2d_opts *opts);
/* Mean over the window floor(i*n/m) .. ceil((i+1)*n/m)-1 per axis; (N,H,W,C) -> (N,Ho,Wo,C). */
adze_value adze_adaptive_pool2d(adze_graph *g, adze_value x, int64_t Ho, int64_t Wo);
/* The same along the last dimension: (...,n) -> (...,m). */
adze_value adze_adaptive_pool1d(adze_graph *g, adze_value x, int64_t m);

/* x (...,K), w (M,K), b (M) or ADZE_NONE: y = x w^T + b, (...,M). */
adze_value adze_linear(adze_graph *g, adze_value x, adze_value w, adze_value b);
/* Same elements, other shape; costs nothing. */
adze_value adze_reshape(adze_graph *g, adze_value x, adze_shape shape);

typedef enum { ADZE_INTERPOLATE_NEAREST, ADZE_INTERPOLATE_BILINEAR, ADZE_INTERPOLATE_BICUBIC } adze_interpolate_mode;
typedef struct {
    adze_interpolate_mode mode;
    int64_t out[2]; /* Ho, Wo */
    bool align_corners, antialias;
} adze_interpolate_opts;
/* As torch.nn.functional.interpolate with a given size. bicubic: a = -0.75; with antialias the kernel is widened by
 * max(1, in/out) and bicubic uses a = -0.5. */
adze_value adze_interpolate(adze_graph *g, adze_value x, const adze_interpolate_opts *opts);

/* Every channel by the outer product of [1 3 3 1]/8 with itself, times gain; zeros: `before` at the top and left, `after` at
 * the bottom and right, from 0. (N,H,W,C) -> (N, H + before + after - 3, W + before + after - 3, C). Source: StyleGAN2 upfirdn2d. */
adze_value adze_upfirdn_blur(adze_graph *g, adze_value x, int before, int after, float gain);

typedef struct {
    int kernel[2], stride[2], pad[2], dilation[2];
} adze_unfold_opts;
/* Patches as rows: (N, Ho*Wo, C*Kh*Kw), element order c, ky, kx; zeros outside. */
adze_value adze_unfold(adze_graph *g, adze_value x, const adze_unfold_opts *opts);

enum { ADZE_PATCH_EMBED_LAYERS = 4 };
typedef struct {
    int patch;            /* odd side of the neighbourhood */
    int64_t pretrain_dim; /* D1: each layer's patch is averaged to this length */
    int64_t target_dim;   /* D2: the concatenated layers are averaged to this length */
} adze_patch_embed_opts;
/* PatchCore's locally aware patch features (Roth et al., CVPR 2022; specs: steps 2-6 as one linear map per layer).
 * features[k] (N,Hk,Wk,Ck), the first sets the grid; y (N, H0*W0, D2). Inference only. */
adze_value adze_patch_embed(adze_graph *g, const adze_value *features, int n_features, const adze_patch_embed_opts *opts);

/* One behind the other along `dim` (-1: the last); at most ADZE_MAX_IN tensors, equal in every other dimension. */
adze_value adze_concat(adze_graph *g, const adze_value *x, int n, int dim);
/* Steps [from, from + size) of `dim` (-1: the last). */
adze_value adze_slice(adze_graph *g, adze_value x, int dim, int64_t from, int64_t size);
/* y[i] = x[index[i]] along `dim`; index (K): whole numbers held in float32. */
adze_value adze_index_select(adze_graph *g, adze_value x, adze_value index, int dim);
/* y[index[i]] += x[i] along `dim`, where y has `size` steps. */
adze_value adze_index_put(adze_graph *g, adze_value x, adze_value index, int dim, int64_t size);
/* (N,H,W,C*f*f) -> (N,H*f,W*f,C); channels_inner: channel (p*f + q)*C + c instead of c*f*f + p*f + q. */
adze_value adze_pixel_shuffle(adze_graph *g, adze_value x, int64_t factor, bool channels_inner);

/* a (...,m,k), b (...,k,n) of the same batch or (k,n) for all of it: y (...,m,n). The flags say that the last two
 * dimensions are stored the other way round. */
adze_value adze_matmul(adze_graph *g, adze_value a, adze_value b, bool transpose_a, bool transpose_b);

typedef enum {
    ADZE_ATTENTION_ALL,
    ADZE_ATTENTION_CAUSAL,   /* hides later keys */
    ADZE_ATTENTION_NEIGHBOUR /* hides keys at most `half` rows and `half` columns away on a grid, the token itself too */
} adze_attention_mask;
typedef struct {
    int64_t heads;
    float scale; /* of the products; 0: 1/sqrt(D/heads) */
    adze_attention_mask mask;
    int64_t grid[2], half; /* neighbour only: rows and columns of tokens, row-major */
} adze_attention_opts;
#define ADZE_ATTENTION_OPTS ((adze_attention_opts){ .heads = 1, .mask = ADZE_ATTENTION_ALL })
/* q (N,L,D), k (N,S,D), v (N,S,E): y (N,L,E) = softmax(scale q k^T + bias + mask) v in each head, heads side by side in the
 * channels; bias (L,S) or ADZE_NONE. Formulas in op_attention.c. */
adze_value adze_attention(adze_graph *g, adze_value q, adze_value k, adze_value v, adze_value bias, const adze_attention_opts *opts);

/* in_weight (3D,D), in_bias (3D): rows of the queries, keys, values; out_weight (M,D), out_bias (M). Biases or ADZE_NONE. */
typedef struct {
    adze_value in_weight, in_bias, out_weight, out_bias;
} adze_mha_params;
/* Projections, attention, projection: q (N,L,D), k and v (N,S,D), y (N,L,M). Source: torch.nn.MultiheadAttention with batch_first. */
adze_value adze_mha(adze_graph *g, adze_value q, adze_value k, adze_value v, const adze_mha_params *p, const adze_attention_opts *opts);

/* A_logs (K D,S), B and C (N,K,L,S), Ds and delta_bias (K D): K groups of D channels with S states each. */
typedef struct {
    adze_value A_logs, B, C, Ds, delta_bias;
} adze_selective_scan_params;
/* u, delta, y (N,K,L,D): along L, h = exp(s A) h + s B u, y = <C,h> + Ds u, with A = -exp(A_logs) and s = softplus(delta +
 * delta_bias), or without the softplus. `last_state`: NULL, or receives h behind the last step, (N,K D,S), through which no
 * gradient flows. Formulas and source in op_selective_scan.c. */
adze_value adze_selective_scan(adze_graph *g, adze_value u, adze_value delta, const adze_selective_scan_params *p, bool softplus,
                               adze_value *last_state);

/* Along `dim`, any shape. */
adze_value adze_softmax(adze_graph *g, adze_value x, int dim);
adze_value adze_log_softmax(adze_graph *g, adze_value x, int dim);
typedef enum { ADZE_L2_MAX /* x/max(r, eps) */, ADZE_L2_ADD /* x/(r + eps) */ } adze_l2_form;
adze_value adze_l2_normalize(adze_graph *g, adze_value x, int dim, adze_l2_form form, float eps);
/* Over the last `dims` dimensions together; gamma, beta of their size or ADZE_NONE. */
adze_value adze_layer_norm(adze_graph *g, adze_value x, adze_value gamma, adze_value beta, int dims, float eps);
/* x (N,...,C): each image's channels in `groups` of neighbours, over all positions; gamma, beta (C) or ADZE_NONE. As many
 * groups as channels: instance normalisation with the statistics of the image. */
adze_value adze_group_norm(adze_graph *g, adze_value x, adze_value gamma, adze_value beta, int64_t groups, float eps);
typedef enum { ADZE_REDUCE_SUM, ADZE_REDUCE_MEAN, ADZE_REDUCE_VAR /* biased: / n */, ADZE_REDUCE_NORM, ADZE_REDUCE_MAX } adze_reduce_fn;
/* One dimension to length 1, and away unless keepdim (a vector becomes (1) either way). `index`: NULL, or receives the
 * value that holds where each maximum was (the first of equals; whole numbers), ADZE_NONE for the other functions. */
adze_value adze_reduce(adze_graph *g, adze_value x, adze_reduce_fn fn, int dim, bool keepdim, adze_value *index);
/* The k largest or smallest along `dim`, best first, of equals the earlier one; `index` as above. */
adze_value adze_topk(adze_graph *g, adze_value x, int64_t k, int dim, bool largest, adze_value *index);
/* The mean of all elements, (1). */
adze_value adze_mean(adze_graph *g, adze_value x);
/* x/(1 - p) where u >= p, else 0; u in [0,1) of the shape of x, or 1 in some dimensions. */
adze_value adze_dropout_mask(adze_graph *g, adze_value x, adze_value u, float p);

/* <x,z>/(max(|x|, eps) max(|z|, eps)) along `dim`, which disappears. */
adze_value adze_cosine_similarity(adze_graph *g, adze_value x, adze_value z, int dim, float eps);
#define ADZE_COSINE_EPS 1e-8f
/* 1 - cosine over the last dimension: (N,H,W,C) -> (N,H,W). Source: Reverse Distillation (Deng and Li, CVPR 2022). */
adze_value adze_cosine_map(adze_graph *g, adze_value x, adze_value z);
/* Mean over the batch of 1 - cosine of everything behind the first dimension, (1). Source: as above. */
adze_value adze_cosine_loss(adze_graph *g, adze_value x, adze_value z);
/* Sum over the batch of the mean over positions of the cosine map of (N,H,W,C), (1). Source: DeSTSeg (CVPR 2023). */
adze_value adze_cosine_map_loss(adze_graph *g, adze_value x, adze_value z);

/* -x z/((|x| + eps)(|z| + eps)), element by element, lengths along the last dimension. Source: as above. */
adze_value adze_unit_product(adze_graph *g, adze_value x, adze_value z, float eps);

typedef enum {
    ADZE_LOSS_MSE, ADZE_LOSS_L1, ADZE_LOSS_SMOOTH_L1 /* a = beta */, ADZE_LOSS_BCE_WITH_LOGITS,
    ADZE_LOSS_BCE /* z a mask, a = threshold */, ADZE_LOSS_FOCAL_BCE /* the same, b = gamma */, ADZE_LOSS_HINGE /* a = margin */,
    ADZE_LOSS_NEG_LOG_SIGMOID /* no z */,
    ADZE_LOSS_COUNT
} adze_loss_fn;
/* Mean over all elements, (1); formulas in op_loss.c. z has the shape of x. */
adze_value adze_loss(adze_graph *g, adze_loss_fn fn, adze_value x, adze_value z, float a, float b);
/* x (...,C) logits, target (...) classes as whole numbers in float32: the mean, (1). */
adze_value adze_cross_entropy(adze_graph *g, adze_value x, adze_value target);
/* x (...,2) probabilities, mask (...): formulas in op_focal_prob.c. (1). */
adze_value adze_focal_prob(adze_graph *g, adze_value x, adze_value mask, float threshold, float gamma, float smooth);
/* x and mask (B,...): 1 - mean over B of the dice quotient with smoothing 1; complement: against 1 - mask. (1). */
adze_value adze_dice(adze_graph *g, adze_value x, adze_value mask, float threshold, bool complement);

/* A block of a conditional normalising flow: affine coupling, scale and offset, rotation. h = C/2; w1 (M,h+P), b1 (M), w2 (C,M),
 * b2 (C), scale and offset (1,C), w_perm (C,C) frozen. */
typedef struct {
    adze_value w1, b1, w2, b2, scale, offset, w_perm;
} adze_coupling_params;
typedef struct {
    float clamp;
    bool over_clamp; /* clamp*tanh(a/clamp) in place of clamp*tanh(a) */
    bool inverse;    /* no gradient */
} adze_coupling_opts;
#define ADZE_COUPLING_OPTS ((adze_coupling_opts){ .clamp = 1.9f })
/* x (R,C), or the state that another block gave; cond (R,P). y (R C + R), a state: R rows, then R log-determinants, summed over
 * the blocks so far. Source: FrEIA 0.2 AllInOneBlock; formulas in op_coupling.c. */
adze_value adze_coupling(adze_graph *g, adze_value x, adze_value cond, const adze_coupling_params *p, const adze_coupling_opts *opts);
/* A state of rows of C: the log-likelihood of each row under the flow, per dimension, (R). Source: CFLOW-AD (WACV 2022). */
adze_value adze_flow_logp(adze_graph *g, adze_value state, int64_t C);

#ifdef __cplusplus
}
#endif
#endif
