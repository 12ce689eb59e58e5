/* onednn.c - the only file that touches oneDNN (2.6; version 3 has another interface and can replace this file).
 * Entry: the kernels adze_onednn_*.
 *
 * Activations are NHWC, weights are packed into the layout that the primitive asks for, with batch norm folded in. A
 * packed copy is made when the parameters' versions have changed: once for frozen ones. Scratchpads belong to the
 * plan's arena (scratchpad mode "user"), so that memory is known beforehand and a run allocates nothing.
 *
 * With --precision bf16 the operands of a product are rounded to bfloat16 just before it, by one pass into the scratch memory
 * (weights when they are packed); sums and results are float32. tried: the attribute fpmath_mode, which changes nothing in
 * these primitives (EPYC 9004, 1 thread, 256 -> 256 channels 3x3: 125 GFLOP/s with and without, 249 with rounded operands). */
#include <dnnl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/backend.h"
#include "core/cpu/bf16.h"
#include "core/cpu/kernels_cpu.h"
#include "core/memory.h"
#include "core/op_conv2d.h"
#include "core/op_linear.h"
#include "core/op_matmul.h"
#include "core/op_pool2d.h"

typedef struct {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
} onednn;

/* Turns a oneDNN result into a status with the name of the call. */
static adze_status check(dnnl_status_t result, const char *what)
{
    if (result == dnnl_success) return ADZE_OK;
    if (result == dnnl_out_of_memory) return adze_fail(ADZE_ENOMEM, "oneDNN: %s: out of memory", what);
    return adze_fail(ADZE_EBACKEND, "oneDNN: %s: status %d", what, (int)result);
}

adze_status adze_onednn_open(void **state)
{
    adze_status st = ADZE_OK;
    onednn *e = adze_calloc(1, sizeof *e);
    *state = NULL;
    REQUIRE(e, ADZE_ENOMEM, "oneDNN: %zu host bytes", sizeof *e);
    TRY(check(dnnl_engine_create(&e->engine, dnnl_cpu, 0), "engine"));
    TRY(check(dnnl_stream_create(&e->stream, e->engine, dnnl_stream_default_flags), "stream"));
    *state = e;
    e = NULL;
done:
    adze_onednn_close(e);
    return st;
}

void adze_onednn_close(void *state)
{
    onednn *e = state;
    if (!e) return;
    if (e->stream) dnnl_stream_destroy(e->stream);
    if (e->engine) dnnl_engine_destroy(e->engine);
    adze_free(e);
}

const char *adze_onednn_version(void)
{
    static _Thread_local char text[32];
    const dnnl_version_t *v = dnnl_version();
    snprintf(text, sizeof text, "%d.%d.%d", v->major, v->minor, v->patch);
    return text;
}

/* A prepared primitive with its operands. Slots are filled once with memory objects; run only sets their handles. */
enum { MAX_ARGS = 6 };
typedef struct {
    dnnl_primitive_t primitive, pack;     /* pack: plain weights -> packed weights; NULL if the layouts agree */
    dnnl_exec_arg_t arg[MAX_ARGS];
    int n_args;
    dnnl_memory_t plain, packed;
    float *weights, *bias;                /* owned packed copies */
    uint64_t version;                     /* sum of the parameters' versions at packing time */
    int64_t n_rounded;                    /* elements of the source that are rounded to bfloat16 first; 0: it is float32 */
    size_t rounded_at;                    /* where in the scratch memory */
} prepared;

static void prepared_destroy(prepared *p)
{
    if (!p) return;
    for (int i = 0; i < p->n_args; i++) dnnl_memory_destroy(p->arg[i].memory);
    if (p->plain) dnnl_memory_destroy(p->plain);
    if (p->primitive) dnnl_primitive_destroy(p->primitive);
    if (p->pack) dnnl_primitive_destroy(p->pack);
    adze_free(p->weights);
    adze_free(p->bias);
    adze_free(p);
}

static void release(adze_call *c)
{
    prepared_destroy(c->state);
    c->state = NULL;
}

static adze_status add_arg(prepared *p, const onednn *e, int which, const dnnl_memory_desc_t *md, void *handle)
{
    dnnl_memory_t memory;
    adze_status st = check(dnnl_memory_create(&memory, md, e->engine, handle), "memory");
    if (st == ADZE_OK) p->arg[p->n_args++] = (dnnl_exec_arg_t){ which, memory };
    return st;
}

static void set_handle(const prepared *p, int which, void *handle)
{
    for (int i = 0; i < p->n_args; i++)
        if (p->arg[i].arg == which) dnnl_memory_set_data_handle(p->arg[i].memory, handle);
}

static adze_status execute_on(const onednn *e, const prepared *p, const char *what)
{
    adze_status st = check(dnnl_primitive_execute(p->primitive, e->stream, p->n_args, p->arg), what);
    if (st == ADZE_OK) st = check(dnnl_stream_wait(e->stream), what);
    return st;
}

static adze_status execute(const prepared *p, const adze_call *c) { return execute_on(c->ctx->state, p, c->op->name); }

static dnnl_memory_desc_t typed_md(int rank, const int64_t *dim, dnnl_data_type_t type, dnnl_format_tag_t tag)
{
    dnnl_memory_desc_t md;
    dnnl_dims_t dims;
    for (int d = 0; d < rank; d++) dims[d] = dim[d];
    dnnl_memory_desc_init_by_tag(&md, rank, dims, type, tag);
    return md;
}

static dnnl_memory_desc_t plain_md(int rank, const int64_t *dim, dnnl_format_tag_t tag)
{
    return typed_md(rank, dim, dnnl_f32, tag);
}

/* (N,H,W,C) as oneDNN sees it: dimensions NCHW, channels last in memory. */
static dnnl_memory_desc_t nhwc_md(const adze_shape *s, dnnl_data_type_t type)
{
    return typed_md(4, (int64_t[]){ s->dim[0], s->dim[3], s->dim[1], s->dim[2] }, type, dnnl_nhwc);
}

static size_t aligned(size_t n_bytes)
{
    return (n_bytes + ADZE_MEMORY_ALIGN - 1) / ADZE_MEMORY_ALIGN * ADZE_MEMORY_ALIGN;
}

static bool wants_bf16(const adze_call *c)
{
    return c->ctx->opts.precision == ADZE_PRECISION_BF16;
}

/* From one layout to another; `add`: to what is there. */
static adze_status reorder_create(dnnl_primitive_t *out, const onednn *e, const dnnl_memory_desc_t *from, const dnnl_memory_desc_t *to, bool add)
{
    adze_status st = ADZE_OK;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t ops = NULL;
    dnnl_primitive_desc_t pd = NULL;
    TRY(check(dnnl_primitive_attr_create(&attr), "attributes"));
    if (add) {
        TRY(check(dnnl_post_ops_create(&ops), "post-ops"));
        TRY(check(dnnl_post_ops_append_sum(ops, 1.0f), "post-ops"));
        TRY(check(dnnl_primitive_attr_set_post_ops(attr, ops), "post-ops"));
    }
    TRY(check(dnnl_reorder_primitive_desc_create(&pd, from, e->engine, to, e->engine, attr), "reorder"));
    TRY(check(dnnl_primitive_create(out, pd), "reorder"));
done:
    if (pd) dnnl_primitive_desc_destroy(pd);
    if (ops) dnnl_post_ops_destroy(ops);
    if (attr) dnnl_primitive_attr_destroy(attr);
    return st;
}

static adze_status reorder_run(const onednn *e, dnnl_primitive_t reorder, dnnl_memory_t from, dnnl_memory_t to)
{
    dnnl_exec_arg_t args[2] = { { DNNL_ARG_FROM, from }, { DNNL_ARG_TO, to } };
    adze_status st = check(dnnl_primitive_execute(reorder, e->stream, 2, args), "reorder");
    return st == ADZE_OK ? check(dnnl_stream_wait(e->stream), "reorder") : st;
}

/* Makes the memory for packed weights and the reorder that fills it. */
static adze_status prepare_weights(prepared *p, const onednn *e, const dnnl_memory_desc_t *plain,
                                   const dnnl_memory_desc_t *packed, const dnnl_memory_desc_t *bias)
{
    adze_status st = ADZE_OK;
    REQUIRE(p->weights = adze_malloc(dnnl_memory_desc_get_size(packed)), ADZE_ENOMEM, "%zu host bytes for packed weights",
            dnnl_memory_desc_get_size(packed));
    TRY(add_arg(p, e, DNNL_ARG_WEIGHTS, packed, p->weights));
    p->packed = p->arg[p->n_args - 1].memory;
    TRY(check(dnnl_memory_create(&p->plain, plain, e->engine, DNNL_MEMORY_NONE), "memory"));
    TRY(reorder_create(&p->pack, e, plain, packed, false));
    if (bias) {
        REQUIRE(p->bias = adze_malloc(dnnl_memory_desc_get_size(bias)), ADZE_ENOMEM, "host bytes for a bias");
        TRY(add_arg(p, e, DNNL_ARG_BIAS, bias, p->bias));
    }
done:
    return st;
}

static adze_status pack_weights(prepared *p, const onednn *e, const float *plain)
{
    dnnl_memory_set_data_handle(p->plain, (void *)plain);
    return reorder_run(e, p->pack, p->plain, p->packed);
}

static adze_status user_scratchpad(dnnl_primitive_attr_t *attr)
{
    adze_status st = check(dnnl_primitive_attr_create(attr), "attributes");
    if (st == ADZE_OK) st = check(dnnl_primitive_attr_set_scratchpad_mode(*attr, dnnl_scratchpad_mode_user), "scratchpad");
    return st;
}

/* Reads the scratchpad's size from the primitive descriptor and books it with the plan. */
static adze_status book_scratchpad(adze_call *c, prepared *p, dnnl_primitive_desc_t pd)
{
    const dnnl_memory_desc_t *md = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    size_t n = md ? dnnl_memory_desc_get_size(md) : 0;
    if (n == 0) return ADZE_OK;
    c->scratch_bytes = n;
    return add_arg(p, c->ctx->state, DNNL_ARG_SCRATCHPAD, md, DNNL_MEMORY_NONE);
}

/* The descriptor of a primitive with a scratchpad of ours; `attr` NULL: no post-ops. */
static adze_status pd_create(dnnl_primitive_desc_t *pd, const void *desc, const_dnnl_primitive_attr_t attr, const onednn *e,
                             dnnl_primitive_desc_t hint, const char *what)
{
    dnnl_primitive_attr_t plain = NULL;
    adze_status st = attr ? ADZE_OK : user_scratchpad(&plain);
    if (st == ADZE_OK) st = check(dnnl_primitive_desc_create(pd, desc, attr ? attr : plain, e->engine, hint), what);
    if (plain) dnnl_primitive_attr_destroy(plain);
    return st;
}

/* A forward primitive between two tensors; *pd for what else it wants. On failure nothing is left. */
static adze_status start(const onednn *e, const char *what, const void *desc, const_dnnl_primitive_attr_t attr, const dnnl_memory_desc_t *src,
                         const dnnl_memory_desc_t *dst, prepared **out, dnnl_primitive_desc_t *pd)
{
    adze_status st = ADZE_OK;
    prepared *p = adze_calloc(1, sizeof *p);
    *out = NULL, *pd = NULL;
    REQUIRE(p, ADZE_ENOMEM, "%s: host bytes", what);
    TRY(pd_create(pd, desc, attr, e, NULL, what));
    TRY(check(dnnl_primitive_create(&p->primitive, *pd), what));
    TRY(add_arg(p, e, DNNL_ARG_SRC, src, DNNL_MEMORY_NONE));
    TRY(add_arg(p, e, DNNL_ARG_DST, dst, DNNL_MEMORY_NONE));
    if (src->data_type == dnnl_bf16) p->n_rounded = (int64_t)(dnnl_memory_desc_get_size(src) / sizeof(uint16_t));
    *out = p;
    p = NULL;
done:
    prepared_destroy(p);
    return st;
}

/* The other end of every prepare: books the scratchpad and hands the state over, or cleans up after `st`. */
static adze_status finish(adze_call *c, prepared *p, dnnl_primitive_desc_t pd, adze_status st)
{
    if (st == ADZE_OK) st = book_scratchpad(c, p, pd);
    if (pd) dnnl_primitive_desc_destroy(pd);
    if (st != ADZE_OK) {
        prepared_destroy(p);
        return st;
    }
    if (p->n_rounded > 0) {
        p->rounded_at = aligned(c->scratch_bytes);
        c->scratch_bytes = p->rounded_at + (size_t)p->n_rounded * sizeof(uint16_t);
    }
    c->state = p;
    return st;
}

/* `n` elements of x as bfloat16 at an offset of the call's scratch memory. */
static void *rounded(const adze_call *c, const float *x, int64_t n, size_t at)
{
    uint16_t *to = (uint16_t *)((unsigned char *)c->scratch + at);
    adze_bf16_convert(x, n, to);
    return to;
}

static adze_status run_between(const adze_call *c)
{
    const prepared *p = c->state;
    set_handle(p, DNNL_ARG_SRC, p->n_rounded > 0 ? rounded(c, c->in[0].data, p->n_rounded, p->rounded_at) : c->in[0].data);
    set_handle(p, DNNL_ARG_DST, c->out[0].data);
    set_handle(p, DNNL_ARG_SCRATCHPAD, c->scratch);
    return execute(p, c);
}

/* Packs the weights in[w] and copies the bias in[b] if one of them changed since the last time. */
static adze_status refresh(const adze_call *c, prepared *p, int w, int b)
{
    uint64_t version = *c->in[w].version + (c->in[b].version ? *c->in[b].version : 0);
    if (version == p->version) return ADZE_OK;
    if (p->bias) memcpy(p->bias, c->in[b].data, (size_t)adze_shape_count(&c->in[b].shape) * sizeof(float));
    adze_status st = pack_weights(p, c->ctx->state, c->in[w].data);
    if (st == ADZE_OK) p->version = version;
    return st;
}

/* ---- convolution ---- */

/* The shapes of a convolution as oneDNN wants them; for a transposed one x and y change roles. What is computed is float32,
 * what goes into a product (the names with _in) has the type of the products. */
typedef struct {
    bool transposed;
    dnnl_memory_desc_t src, src_in, dst, dst_in, plain, any, any_in, bias;
    dnnl_dims_t strides, dilates, pad_l, pad_r;
} conv_geometry;

static conv_geometry geometry_of(const adze_call *c, dnnl_data_type_t type)
{
    conv_geometry g = { .transposed = c->op == &adze_op_conv_transpose2d };
    const adze_conv2d_opts *o = &((const conv2d_attrs *)c->attrs)->o;
    const adze_shape *w = &c->in[CONV2D_W].shape;
    int64_t G = o->groups, Co = g.transposed ? w->dim[1] * G : w->dim[0];
    g.src = nhwc_md(&c->in[CONV2D_X].shape, dnnl_f32), g.src_in = nhwc_md(&c->in[CONV2D_X].shape, type);
    g.dst = nhwc_md(&c->out[0].shape, dnnl_f32), g.dst_in = nhwc_md(&c->out[0].shape, type);
    if (!g.transposed)
        g.plain = G == 1 ? plain_md(4, w->dim, dnnl_oihw)
                         : plain_md(5, (int64_t[]){ G, Co / G, w->dim[1], w->dim[2], w->dim[3] }, dnnl_goihw);
    else /* stored (in, out/groups, kh, kw) */
        g.plain = G == 1 ? plain_md(4, (int64_t[]){ w->dim[1], w->dim[0], w->dim[2], w->dim[3] }, dnnl_iohw)
                         : plain_md(5, (int64_t[]){ G, w->dim[1], w->dim[0] / G, w->dim[2], w->dim[3] }, dnnl_giohw);
    dnnl_memory_desc_init_by_tag(&g.any, g.plain.ndims, g.plain.dims, dnnl_f32, dnnl_format_tag_any);
    dnnl_memory_desc_init_by_tag(&g.any_in, g.plain.ndims, g.plain.dims, type, dnnl_format_tag_any);
    g.bias = plain_md(1, &Co, dnnl_a);
    for (int d = 0; d < 2; d++) {
        g.strides[d] = o->stride[d];
        g.dilates[d] = o->dilation[d] - 1;
        g.pad_l[d] = o->pad[d];
        g.pad_r[d] = o->pad[d + 2];
    }
    return g;
}

static bool conv2d_accepts(const adze_call *c)
{
    const conv2d_attrs *a = c->attrs;
    return a->act == ADZE_ACT_NONE || a->act == ADZE_ACT_RELU || a->act == ADZE_ACT_RELU6 || a->act == ADZE_ACT_SILU;
}

/* The residual is added by "sum" when the output took over its memory, else by a binary post-op. */
static adze_status conv2d_post_ops(const adze_call *c, dnnl_primitive_attr_t attr, const dnnl_memory_desc_t *dst)
{
    adze_status st = ADZE_OK;
    const conv2d_attrs *a = c->attrs;
    dnnl_post_ops_t ops = NULL;
    TRY(check(dnnl_post_ops_create(&ops), "post-ops"));
    if (c->in[CONV2D_RESIDUAL].present)
        TRY(check(c->in_place ? dnnl_post_ops_append_sum(ops, 1.0f) : dnnl_post_ops_append_binary(ops, dnnl_binary_add, dst),
                  "residual"));
    if (a->act == ADZE_ACT_RELU) TRY(check(dnnl_post_ops_append_eltwise(ops, 1.0f, dnnl_eltwise_relu, 0.0f, 0.0f), "relu"));
    if (a->act == ADZE_ACT_RELU6) TRY(check(dnnl_post_ops_append_eltwise(ops, 1.0f, dnnl_eltwise_clip, 0.0f, 6.0f), "relu6"));
    if (a->act == ADZE_ACT_SILU) TRY(check(dnnl_post_ops_append_eltwise(ops, 1.0f, dnnl_eltwise_swish, 1.0f, 0.0f), "silu"));
    TRY(check(dnnl_primitive_attr_set_post_ops(attr, ops), "post-ops"));
done:
    if (ops) dnnl_post_ops_destroy(ops);
    return st;
}

/* Groups, of one channel as a rule, are bound by memory: they stay float32. */
static bool conv2d_bf16_accepts(const adze_call *c)
{
    return wants_bf16(c) && ((const conv2d_attrs *)c->attrs)->o.groups == 1 && conv2d_accepts(c);
}

static adze_status prepare_conv2d(adze_call *c, dnnl_data_type_t type)
{
    adze_status st = ADZE_OK;
    const onednn *e = c->ctx->state;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t pd = NULL;
    prepared *p = NULL;
    conv_geometry g = geometry_of(c, type);
    const dnnl_memory_desc_t *bias = c->in[CONV2D_B].present || c->in[CONV2D_GAMMA].present ? &g.bias : NULL;
    dnnl_convolution_desc_t desc;
    TRY(check(dnnl_dilated_convolution_forward_desc_init(&desc, dnnl_forward_inference, dnnl_convolution_direct, &g.src_in, &g.any_in,
                                                         bias, &g.dst, g.strides, g.dilates, g.pad_l, g.pad_r), "convolution"));
    TRY(user_scratchpad(&attr));
    TRY(conv2d_post_ops(c, attr, &g.dst));
    TRY(start(e, c->op->name, &desc, attr, &g.src_in, &g.dst, &p, &pd));
    if (c->in[CONV2D_RESIDUAL].present && !c->in_place)
        TRY(add_arg(p, e, DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1, &g.dst, DNNL_MEMORY_NONE));
    TRY(prepare_weights(p, e, &g.plain, dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0), bias));
done:
    if (attr) dnnl_primitive_attr_destroy(attr);
    return finish(c, p, pd, st);
}

static adze_status conv2d_prepare(adze_call *c) { return prepare_conv2d(c, dnnl_f32); }
static adze_status conv2d_bf16_prepare(adze_call *c) { return prepare_conv2d(c, dnnl_bf16); }

/* Folds and packs the weights if a parameter changed since the last time. */
static adze_status conv2d_refresh(const adze_call *c)
{
    adze_status st = ADZE_OK;
    prepared *p = c->state;
    uint64_t version = 0;
    for (int i = CONV2D_W; i <= CONV2D_VAR; i++)
        if (c->in[i].version) version += *c->in[i].version;
    if (version == p->version && version != 0) return ADZE_OK;

    int64_t Co = c->in[CONV2D_W].shape.dim[0], K = adze_shape_span(&c->in[CONV2D_W].shape, 1, 4);
    float *folded = NULL;
    if (c->in[CONV2D_GAMMA].present) {
        const conv2d_attrs *a = c->attrs;
        adze_norm_stats bn = { .gamma = c->in[CONV2D_GAMMA].data, .beta = c->in[CONV2D_BETA].data,
                               .mean = c->in[CONV2D_MEAN].data, .var = c->in[CONV2D_VAR].data, .eps = a->eps };
        REQUIRE(folded = adze_malloc((size_t)(Co * K) * sizeof *folded), ADZE_ENOMEM, "conv2d: folding");
        adze_batch_norm_fold(&bn, Co, K, c->in[CONV2D_W].data, c->in[CONV2D_B].data, folded, p->bias);
    } else if (c->in[CONV2D_B].present) memcpy(p->bias, c->in[CONV2D_B].data, (size_t)Co * sizeof(float));
    TRY(pack_weights(p, c->ctx->state, folded ? folded : c->in[CONV2D_W].data));
    p->version = version;
done:
    adze_free(folded);
    return st;
}

static adze_status conv2d_run(const adze_call *c)
{
    adze_status st = conv2d_refresh(c);
    if (st != ADZE_OK) return st;
    set_handle(c->state, DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1, c->in[CONV2D_RESIDUAL].data);
    return run_between(c);
}

const adze_kernel adze_onednn_conv2d = {
    .name = "onednn", .accepts = conv2d_accepts, .prepare = conv2d_prepare, .run = conv2d_run, .release = release,
};
const adze_kernel adze_onednn_conv2d_bf16 = {
    .name = "onednn-bf16", .accepts = conv2d_bf16_accepts, .prepare = conv2d_bf16_prepare, .run = conv2d_run, .release = release,
};

/* ---- pooling ---- */

static bool pool2d_accepts(const adze_call *c)
{
    (void)c;
    return true;
}

static adze_status pool2d_prepare(adze_call *c)
{
    adze_status st = ADZE_OK;
    const adze_pool2d_opts *o = &((const pool2d_attrs *)c->attrs)->o;
    dnnl_primitive_desc_t pd = NULL;
    prepared *p = NULL;
    dnnl_memory_desc_t src = nhwc_md(&c->in[0].shape, dnnl_f32), dst = nhwc_md(&c->out[0].shape, dnnl_f32);
    dnnl_pooling_v2_desc_t desc;
    dnnl_alg_kind_t kind = o->max                 ? dnnl_pooling_max
                           : o->count_include_pad ? dnnl_pooling_avg_include_padding
                                                  : dnnl_pooling_avg_exclude_padding;
    TRY(check(dnnl_pooling_v2_forward_desc_init(
                  &desc, dnnl_forward_inference, kind, &src, &dst, (dnnl_dims_t){ o->stride[0], o->stride[1] },
                  (dnnl_dims_t){ o->kernel[0], o->kernel[1] }, (dnnl_dims_t){ 0, 0 },
                  (dnnl_dims_t){ o->pad[0], o->pad[1] }, (dnnl_dims_t){ o->pad[2], o->pad[3] }),
              "pooling"));
    TRY(start(c->ctx->state, c->op->name, &desc, NULL, &src, &dst, &p, &pd));
done:
    return finish(c, p, pd, st);
}

const adze_kernel adze_onednn_pool2d = {
    .name = "onednn", .accepts = pool2d_accepts, .prepare = pool2d_prepare, .run = run_between, .release = release,
};

/* ---- fully connected ---- */

static bool linear_accepts(const adze_call *c)
{
    return c->in[LINEAR_W].version != NULL; /* packed once per change: worth it for parameters */
}

static bool linear_bf16_accepts(const adze_call *c)
{
    return wants_bf16(c) && linear_accepts(c);
}

static adze_status prepare_linear(adze_call *c, dnnl_data_type_t type)
{
    adze_status st = ADZE_OK;
    dnnl_primitive_desc_t pd = NULL;
    prepared *p = NULL;
    int64_t M = c->in[LINEAR_W].shape.dim[0], K = c->in[LINEAR_W].shape.dim[1];
    int64_t rows = adze_shape_count(&c->in[LINEAR_X].shape) / K;
    dnnl_memory_desc_t src = typed_md(2, (int64_t[]){ rows, K }, type, dnnl_ab), dst = plain_md(2, (int64_t[]){ rows, M }, dnnl_ab);
    dnnl_memory_desc_t plain = plain_md(2, (int64_t[]){ K, M }, dnnl_ba), bias = plain_md(2, (int64_t[]){ 1, M }, dnnl_ab);
    dnnl_memory_desc_t weights;
    dnnl_memory_desc_init_by_tag(&weights, 2, plain.dims, type, dnnl_format_tag_any);
    const dnnl_memory_desc_t *b = c->in[LINEAR_B].present ? &bias : NULL;
    dnnl_matmul_desc_t desc;
    TRY(check(dnnl_matmul_desc_init(&desc, &src, &weights, b, &dst), "matmul"));
    TRY(start(c->ctx->state, c->op->name, &desc, NULL, &src, &dst, &p, &pd));
    TRY(prepare_weights(p, c->ctx->state, &plain, dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0), b));
done:
    return finish(c, p, pd, st);
}

static adze_status linear_prepare(adze_call *c) { return prepare_linear(c, dnnl_f32); }
static adze_status linear_bf16_prepare(adze_call *c) { return prepare_linear(c, dnnl_bf16); }

static adze_status linear_run(const adze_call *c)
{
    adze_status st = refresh(c, c->state, LINEAR_W, LINEAR_B);
    return st == ADZE_OK ? run_between(c) : st;
}

const adze_kernel adze_onednn_linear = {
    .name = "onednn", .accepts = linear_accepts, .prepare = linear_prepare, .run = linear_run, .release = release,
};
const adze_kernel adze_onednn_linear_bf16 = {
    .name = "onednn-bf16", .accepts = linear_bf16_accepts, .prepare = linear_bf16_prepare, .run = linear_run, .release = release,
};

/* ---- gradients of convolutions and transposed convolutions ---- */

/* Both gradients of one convolution: towards x and towards the weights (with the bias). */
typedef struct {
    prepared *data, *weights;
    dnnl_primitive_t unpack;      /* gradient in the primitive's layout -> the parameter's own */
    dnnl_memory_t packed_grad, plain_grad;
    float *grad;                  /* owned: gradient of the weights in the primitive's layout */
    float *bias_grad;             /* owned */
    size_t data_scratch, weights_scratch; /* bytes, one at a time at the start of the call's scratch memory; behind them: */
    size_t sum_at, x_at, dy_at;           /* a gradient that will be added; x and dy rounded to bfloat16 */
    bool bf16;
} conv_backward;

static void conv_backward_destroy(conv_backward *b)
{
    if (!b) return;
    prepared_destroy(b->data);
    prepared_destroy(b->weights);
    if (b->unpack) dnnl_primitive_destroy(b->unpack);
    if (b->packed_grad) dnnl_memory_destroy(b->packed_grad);
    if (b->plain_grad) dnnl_memory_destroy(b->plain_grad);
    adze_free(b->grad);
    adze_free(b->bias_grad);
    adze_free(b);
}

static void release_conv_backward(adze_call *c)
{
    conv_backward_destroy(c->state);
    c->state = NULL;
}

/* The forward primitive descriptor that the backward ones take as a hint. */
static adze_status forward_hint(const conv_geometry *g, const onednn *e, dnnl_primitive_desc_t *pd)
{
    if (g->transposed) {
        dnnl_deconvolution_desc_t desc;
        adze_status st = check(dnnl_dilated_deconvolution_forward_desc_init(&desc, dnnl_forward_training, dnnl_deconvolution_direct,
                                                                            &g->src_in, &g->any_in, NULL, &g->dst_in, g->strides,
                                                                            g->dilates, g->pad_l, g->pad_r), "transposed convolution");
        return st == ADZE_OK ? pd_create(pd, &desc, NULL, e, NULL, "transposed convolution") : st;
    }
    dnnl_convolution_desc_t desc;
    adze_status st = check(dnnl_dilated_convolution_forward_desc_init(&desc, dnnl_forward_training, dnnl_convolution_direct, &g->src_in,
                                                                      &g->any_in, NULL, &g->dst_in, g->strides, g->dilates, g->pad_l,
                                                                      g->pad_r), "convolution");
    return st == ADZE_OK ? pd_create(pd, &desc, NULL, e, NULL, "convolution") : st;
}

static size_t scratch_of(dnnl_primitive_desc_t pd)
{
    const dnnl_memory_desc_t *md = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    return aligned(md ? dnnl_memory_desc_get_size(md) : 0);
}

static adze_status add_scratch_arg(prepared *p, const onednn *e, dnnl_primitive_desc_t pd, size_t n_bytes)
{
    if (n_bytes == 0) return ADZE_OK;
    return add_arg(p, e, DNNL_ARG_SCRATCHPAD, dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0), DNNL_MEMORY_NONE);
}

static adze_status prepare_data_gradient(const adze_call *c, conv_backward *b, const conv_geometry *g, dnnl_primitive_desc_t hint)
{
    adze_status st = ADZE_OK;
    const onednn *e = c->ctx->state;
    dnnl_primitive_desc_t pd = NULL;
    REQUIRE(b->data = adze_calloc(1, sizeof *b->data), ADZE_ENOMEM, "convolution: host bytes");
    prepared *p = b->data;
    if (g->transposed) {
        dnnl_deconvolution_desc_t desc;
        TRY(check(dnnl_dilated_deconvolution_backward_data_desc_init(&desc, dnnl_deconvolution_direct, &g->src, &g->any_in, &g->dst_in,
                                                                     g->strides, g->dilates, g->pad_l, g->pad_r), "gradient"));
        TRY(pd_create(&pd, &desc, NULL, e, hint, "gradient of x"));
    } else {
        dnnl_convolution_desc_t desc;
        TRY(check(dnnl_dilated_convolution_backward_data_desc_init(&desc, dnnl_convolution_direct, &g->src, &g->any_in, &g->dst_in,
                                                                   g->strides, g->dilates, g->pad_l, g->pad_r), "gradient"));
        TRY(pd_create(&pd, &desc, NULL, e, hint, "gradient of x"));
    }
    TRY(check(dnnl_primitive_create(&p->primitive, pd), "gradient of x"));
    TRY(add_arg(p, e, DNNL_ARG_DIFF_DST, &g->dst_in, DNNL_MEMORY_NONE));
    TRY(add_arg(p, e, DNNL_ARG_DIFF_SRC, &g->src, DNNL_MEMORY_NONE));
    TRY(prepare_weights(p, e, &g->plain, dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0), NULL));
    b->data_scratch = scratch_of(pd);
    TRY(add_scratch_arg(p, e, pd, b->data_scratch));
done:
    if (pd) dnnl_primitive_desc_destroy(pd);
    return st;
}

static adze_status prepare_weights_gradient(const adze_call *c, conv_backward *b, const conv_geometry *g, dnnl_primitive_desc_t hint)
{
    adze_status st = ADZE_OK;
    const onednn *e = c->ctx->state;
    dnnl_primitive_desc_t pd = NULL;
    bool bias = c->in[CONV2D_B].wanted;
    REQUIRE(b->weights = adze_calloc(1, sizeof *b->weights), ADZE_ENOMEM, "convolution: host bytes");
    prepared *p = b->weights;
    if (g->transposed) {
        dnnl_deconvolution_desc_t desc;
        TRY(check(dnnl_dilated_deconvolution_backward_weights_desc_init(&desc, dnnl_deconvolution_direct, &g->src_in, &g->any,
                                                                        bias ? &g->bias : NULL, &g->dst_in, g->strides, g->dilates,
                                                                        g->pad_l, g->pad_r), "gradient"));
        TRY(pd_create(&pd, &desc, NULL, e, hint, "gradient of w"));
    } else {
        dnnl_convolution_desc_t desc;
        TRY(check(dnnl_dilated_convolution_backward_weights_desc_init(&desc, dnnl_convolution_direct, &g->src_in, &g->any,
                                                                      bias ? &g->bias : NULL, &g->dst_in, g->strides, g->dilates,
                                                                      g->pad_l, g->pad_r), "gradient"));
        TRY(pd_create(&pd, &desc, NULL, e, hint, "gradient of w"));
    }
    const dnnl_memory_desc_t *md = dnnl_primitive_desc_query_md(pd, dnnl_query_diff_weights_md, 0);
    TRY(check(dnnl_primitive_create(&p->primitive, pd), "gradient of w"));
    REQUIRE(b->grad = adze_malloc(dnnl_memory_desc_get_size(md)), ADZE_ENOMEM, "a gradient of %zu bytes", dnnl_memory_desc_get_size(md));
    TRY(add_arg(p, e, DNNL_ARG_SRC, &g->src_in, DNNL_MEMORY_NONE));
    TRY(add_arg(p, e, DNNL_ARG_DIFF_DST, &g->dst_in, DNNL_MEMORY_NONE));
    TRY(add_arg(p, e, DNNL_ARG_DIFF_WEIGHTS, md, b->grad));
    if (bias) {
        REQUIRE(b->bias_grad = adze_malloc(dnnl_memory_desc_get_size(&g->bias)), ADZE_ENOMEM, "a bias's gradient");
        TRY(add_arg(p, e, DNNL_ARG_DIFF_BIAS, &g->bias, b->bias_grad));
    }
    TRY(check(dnnl_memory_create(&b->packed_grad, md, e->engine, b->grad), "memory"));
    TRY(check(dnnl_memory_create(&b->plain_grad, &g->plain, e->engine, DNNL_MEMORY_NONE), "memory"));
    TRY(reorder_create(&b->unpack, e, md, &g->plain, c->in[CONV2D_W].accumulate));
    b->weights_scratch = scratch_of(pd);
    TRY(add_scratch_arg(p, e, pd, b->weights_scratch));
done:
    if (pd) dnnl_primitive_desc_destroy(pd);
    return st;
}

static bool conv_backward_accepts(const adze_call *c)
{
    const adze_conv2d_opts *o = &((const conv2d_attrs *)c->attrs)->o;
    return o->pad[2] >= 0 && o->pad[3] >= 0;
}

static bool conv_backward_bf16_accepts(const adze_call *c)
{
    return wants_bf16(c) && ((const conv2d_attrs *)c->attrs)->o.groups == 1 && conv_backward_accepts(c);
}

/* Takes n_bytes behind what is booked of the call's scratch memory. */
static size_t book(adze_call *c, size_t n_bytes)
{
    size_t at = aligned(c->scratch_bytes);
    c->scratch_bytes = at + n_bytes;
    return at;
}

static adze_status prepare_conv_backward(adze_call *c, dnnl_data_type_t type)
{
    adze_status st = ADZE_OK;
    dnnl_primitive_desc_t hint = NULL;
    conv_geometry g = geometry_of(c, type);
    conv_backward *b = adze_calloc(1, sizeof *b);
    REQUIRE(b, ADZE_ENOMEM, "convolution: host bytes");
    b->bf16 = type == dnnl_bf16;
    TRY(forward_hint(&g, c->ctx->state, &hint));
    if (c->in[CONV2D_X].wanted) TRY(prepare_data_gradient(c, b, &g, hint));
    if (c->in[CONV2D_W].wanted || c->in[CONV2D_B].wanted) TRY(prepare_weights_gradient(c, b, &g, hint));
    c->scratch_bytes = b->data_scratch > b->weights_scratch ? b->data_scratch : b->weights_scratch;
    if (c->in[CONV2D_X].wanted && c->in[CONV2D_X].accumulate) b->sum_at = book(c, dnnl_memory_desc_get_size(&g.src));
    if (b->bf16) b->dy_at = book(c, dnnl_memory_desc_get_size(&g.dst_in));
    if (b->bf16 && b->weights) b->x_at = book(c, dnnl_memory_desc_get_size(&g.src_in));
    c->state = b;
    b = NULL;
done:
    if (hint) dnnl_primitive_desc_destroy(hint);
    conv_backward_destroy(b);
    return st;
}

static adze_status conv_backward_prepare(adze_call *c) { return prepare_conv_backward(c, dnnl_f32); }
static adze_status conv_backward_bf16_prepare(adze_call *c) { return prepare_conv_backward(c, dnnl_bf16); }

static void add_floats(float *to, const float *from, int64_t n)
{
#pragma omp parallel for simd schedule(static) if (n >= 16384)
    for (int64_t i = 0; i < n; i++) to[i] += from[i];
}

static adze_status run_data_gradient(const adze_call *c, conv_backward *b, void *dy)
{
    prepared *p = b->data;
    const adze_arg *x = &c->in[CONV2D_X];
    adze_status st = refresh(c, p, CONV2D_W, CONV2D_B);
    if (st != ADZE_OK) return st;
    unsigned char *scratch = c->scratch;
    float *to = x->accumulate ? (float *)(scratch + b->sum_at) : x->grad;
    set_handle(p, DNNL_ARG_DIFF_DST, dy);
    set_handle(p, DNNL_ARG_DIFF_SRC, to);
    set_handle(p, DNNL_ARG_SCRATCHPAD, scratch);
    st = execute(p, c);
    if (st == ADZE_OK && x->accumulate) add_floats(x->grad, to, adze_shape_count(&x->shape));
    return st;
}

static adze_status run_weights_gradient(const adze_call *c, conv_backward *b, void *dy)
{
    prepared *p = b->weights;
    const onednn *e = c->ctx->state;
    const adze_arg *x = &c->in[CONV2D_X];
    set_handle(p, DNNL_ARG_SRC, b->bf16 ? rounded(c, x->data, adze_shape_count(&x->shape), b->x_at) : x->data);
    set_handle(p, DNNL_ARG_DIFF_DST, dy);
    set_handle(p, DNNL_ARG_SCRATCHPAD, c->scratch);
    adze_status st = execute(p, c);
    if (st == ADZE_OK && c->in[CONV2D_W].wanted) {
        dnnl_memory_set_data_handle(b->plain_grad, c->in[CONV2D_W].grad);
        st = reorder_run(e, b->unpack, b->packed_grad, b->plain_grad);
    }
    const adze_arg *bias = &c->in[CONV2D_B];
    if (bias->wanted)
        for (int64_t k = 0; k < adze_shape_count(&bias->shape); k++) adze_grad_put(bias, k, b->bias_grad[k]);
    return st;
}

static adze_status conv_backward_run(const adze_call *c)
{
    conv_backward *b = c->state;
    adze_status st = ADZE_OK;
    void *dy = b->bf16 ? rounded(c, c->out[0].grad, adze_shape_count(&c->out[0].shape), b->dy_at) : c->out[0].grad;
    if (b->data) st = run_data_gradient(c, b, dy);
    if (st == ADZE_OK && b->weights) st = run_weights_gradient(c, b, dy);
    return st;
}

const adze_kernel adze_onednn_conv_backward = {
    .name = "onednn", .accepts = conv_backward_accepts, .prepare = conv_backward_prepare, .run = conv_backward_run,
    .release = release_conv_backward,
};
const adze_kernel adze_onednn_conv_backward_bf16 = {
    .name = "onednn-bf16", .accepts = conv_backward_bf16_accepts, .prepare = conv_backward_bf16_prepare, .run = conv_backward_run,
    .release = release_conv_backward,
};

/* ---- gradients of convolutions 3x3 by Winograd's algorithm ----
 *
 * F(4x4,3x3): 36 products for each 4x4 of the output instead of 144. The gradients are about 1e-6 of their norm from those of plain
 * sums. The primitives want channels in blocks of 16 and a multiple of their operands as scratch memory, so that the batch is
 * taken in pieces, which are brought into that layout and back. EPYC 9004, 2 threads, busy, 8 x 64x64x256 -> 256: gradient of x
 * 668 -> 300 ms, of w 974 -> 200.
 * tried: forward, too, 490 -> 272 ms there. Its difference makes more of the ReLUs behind switch than plain sums do, which is beyond the
 * bounds of golden cases, and the loss would no longer be the one of the network that is scored. */

enum { WINOGRAD_TILE = 4, WINOGRAD_TILES_LEAST = 128, WINOGRAD_TILES_PIECE = 256 };

/* Between NHWC and the layout of a primitive. */
typedef struct {
    dnnl_primitive_t reorder;
    dnnl_memory_t plain, blocked;
    bool out; /* from the primitive's layout */
} relayout;

/* Both gradients of one convolution, a piece of the batch at a time. */
typedef struct {
    int64_t n_pieces;
    prepared *data, *weights;          /* NULL where not wanted */
    relayout x, dy, dx, dw;
    size_t x_at, dy_at, dw_at, dw_bytes; /* in the scratch memory, behind the primitives' own; x_at: dx, too; dw_at: a sum and a summand */
} winograd;

static void relayout_destroy(relayout *r)
{
    if (r->reorder) dnnl_primitive_destroy(r->reorder);
    if (r->plain) dnnl_memory_destroy(r->plain);
    if (r->blocked) dnnl_memory_destroy(r->blocked);
}

static void winograd_destroy(winograd *w)
{
    if (!w) return;
    prepared_destroy(w->data);
    prepared_destroy(w->weights);
    relayout_destroy(&w->x);
    relayout_destroy(&w->dy);
    relayout_destroy(&w->dx);
    relayout_destroy(&w->dw);
    adze_free(w);
}

static void release_winograd(adze_call *c)
{
    winograd_destroy(c->state);
    c->state = NULL;
}

static adze_status relayout_create(relayout *r, const onednn *e, const dnnl_memory_desc_t *plain, const dnnl_memory_desc_t *blocked, bool out,
                                   bool add)
{
    adze_status st = ADZE_OK;
    r->out = out;
    TRY(check(dnnl_memory_create(&r->plain, plain, e->engine, DNNL_MEMORY_NONE), "memory"));
    TRY(check(dnnl_memory_create(&r->blocked, blocked, e->engine, DNNL_MEMORY_NONE), "memory"));
    TRY(reorder_create(&r->reorder, e, out ? blocked : plain, out ? plain : blocked, add));
done:
    return st;
}

static adze_status relayout_run(const relayout *r, const onednn *e, float *plain, void *blocked)
{
    dnnl_memory_set_data_handle(r->plain, plain);
    dnnl_memory_set_data_handle(r->blocked, blocked);
    return r->out ? reorder_run(e, r->reorder, r->blocked, r->plain) : reorder_run(e, r->reorder, r->plain, r->blocked);
}

static int64_t winograd_tiles(const adze_call *c)
{
    const adze_shape *y = &c->out[0].shape;
    return (y->dim[1] + WINOGRAD_TILE - 1) / WINOGRAD_TILE * ((y->dim[2] + WINOGRAD_TILE - 1) / WINOGRAD_TILE);
}

/* Few tiles do not pay for the transform of the weights. */
static bool winograd_accepts(const adze_call *c)
{
    const adze_conv2d_opts *o = &((const conv2d_attrs *)c->attrs)->o;
    const adze_shape *w = &c->in[CONV2D_W].shape;
    for (int i = 0; i < 4; i++)
        if (o->pad[i] < 0 || o->pad[i] > 1) return false;
    for (int d = 0; d < 2; d++)
        if (o->stride[d] != 1 || o->dilation[d] != 1 || w->dim[2 + d] != 3 || w->dim[d] % 16 != 0) return false;
    return o->groups == 1 && c->out[0].shape.dim[0] * winograd_tiles(c) >= WINOGRAD_TILES_LEAST;
}

/* Pictures per piece: the fewest that divide the batch and are worth a call. */
static int64_t winograd_piece(const adze_call *c)
{
    const int64_t N = c->out[0].shape.dim[0];
    int64_t n = 1;
    while (n < N && (N % n != 0 || n * winograd_tiles(c) < WINOGRAD_TILES_PIECE)) n++;
    return n;
}

static adze_status winograd_primitive(prepared **out, const onednn *e, const void *desc, dnnl_primitive_desc_t hint, dnnl_primitive_desc_t *pd)
{
    adze_status st = ADZE_OK;
    REQUIRE(*out = adze_calloc(1, sizeof **out), ADZE_ENOMEM, "convolution: host bytes");
    TRY(pd_create(pd, desc, NULL, e, hint, "Winograd"));
    TRY(check(dnnl_primitive_create(&(*out)->primitive, *pd), "Winograd"));
    TRY(add_scratch_arg(*out, e, *pd, scratch_of(*pd)));
done:
    return st;
}

static adze_status winograd_prepare(adze_call *c)
{
    adze_status st = ADZE_OK;
    const onednn *e = c->ctx->state;
    const conv_geometry g = geometry_of(c, dnnl_f32);
    dnnl_primitive_desc_t hint = NULL, data = NULL, weights = NULL;
    winograd *w = adze_calloc(1, sizeof *w);
    adze_shape xs = c->in[CONV2D_X].shape, ys = c->out[0].shape;
    xs.dim[0] = ys.dim[0] = winograd_piece(c);
    const dnnl_memory_desc_t plain_x = nhwc_md(&xs, dnnl_f32), plain_y = nhwc_md(&ys, dnnl_f32), *dw = NULL;
    dnnl_memory_desc_t any_x, any_y;
    dnnl_memory_desc_init_by_tag(&any_x, 4, plain_x.dims, dnnl_f32, dnnl_format_tag_any);
    dnnl_memory_desc_init_by_tag(&any_y, 4, plain_y.dims, dnnl_f32, dnnl_format_tag_any);
    dnnl_convolution_desc_t desc;
    REQUIRE(w, ADZE_ENOMEM, "convolution: host bytes");
    w->n_pieces = c->out[0].shape.dim[0] / ys.dim[0];
    TRY(check(dnnl_convolution_forward_desc_init(&desc, dnnl_forward_training, dnnl_convolution_winograd, &any_x, &g.any, NULL, &any_y, g.strides,
                                                 g.pad_l, g.pad_r), "Winograd"));
    TRY(pd_create(&hint, &desc, NULL, e, NULL, "Winograd"));
    const dnnl_memory_desc_t *x = dnnl_primitive_desc_query_md(hint, dnnl_query_src_md, 0);
    const dnnl_memory_desc_t *y = dnnl_primitive_desc_query_md(hint, dnnl_query_dst_md, 0);
    if (c->in[CONV2D_X].wanted) {
        TRY(check(dnnl_convolution_backward_data_desc_init(&desc, dnnl_convolution_winograd, x, &g.any, y, g.strides, g.pad_l, g.pad_r), "Winograd"));
        TRY(winograd_primitive(&w->data, e, &desc, hint, &data));
        TRY(add_arg(w->data, e, DNNL_ARG_DIFF_DST, y, DNNL_MEMORY_NONE));
        TRY(add_arg(w->data, e, DNNL_ARG_DIFF_SRC, x, DNNL_MEMORY_NONE));
        TRY(prepare_weights(w->data, e, &g.plain, dnnl_primitive_desc_query_md(data, dnnl_query_weights_md, 0), NULL));
        TRY(relayout_create(&w->dx, e, &plain_x, x, true, c->in[CONV2D_X].accumulate));
    }
    if (c->in[CONV2D_W].wanted) {
        TRY(check(dnnl_convolution_backward_weights_desc_init(&desc, dnnl_convolution_winograd, x, &g.any, NULL, y, g.strides, g.pad_l, g.pad_r),
                  "Winograd"));
        TRY(winograd_primitive(&w->weights, e, &desc, hint, &weights));
        dw = dnnl_primitive_desc_query_md(weights, dnnl_query_diff_weights_md, 0);
        TRY(add_arg(w->weights, e, DNNL_ARG_SRC, x, DNNL_MEMORY_NONE));
        TRY(add_arg(w->weights, e, DNNL_ARG_DIFF_DST, y, DNNL_MEMORY_NONE));
        TRY(add_arg(w->weights, e, DNNL_ARG_DIFF_WEIGHTS, dw, DNNL_MEMORY_NONE));
        TRY(relayout_create(&w->x, e, &plain_x, x, false, false));
        TRY(relayout_create(&w->dw, e, &g.plain, dw, true, c->in[CONV2D_W].accumulate));
    }
    TRY(relayout_create(&w->dy, e, &plain_y, y, false, false));
    size_t own[2] = { data ? scratch_of(data) : 0, weights ? scratch_of(weights) : 0 };
    c->scratch_bytes = own[own[0] < own[1]];
    w->x_at = book(c, dnnl_memory_desc_get_size(x));
    w->dy_at = book(c, dnnl_memory_desc_get_size(y));
    if (dw) w->dw_bytes = aligned(dnnl_memory_desc_get_size(dw)), w->dw_at = book(c, 2 * w->dw_bytes);
    c->state = w;
    w = NULL;
done:
    if (hint) dnnl_primitive_desc_destroy(hint);
    if (data) dnnl_primitive_desc_destroy(data);
    if (weights) dnnl_primitive_desc_destroy(weights);
    winograd_destroy(w);
    return st;
}

/* The weights' gradient of a piece; its sum over the pieces, in their order. */
static adze_status winograd_add_weights(const adze_call *c, const winograd *w, int64_t piece)
{
    unsigned char *sum = (unsigned char *)c->scratch + w->dw_at, *summand = sum + w->dw_bytes;
    set_handle(w->weights, DNNL_ARG_DIFF_WEIGHTS, piece == 0 ? sum : summand);
    adze_status st = execute(w->weights, c);
    if (st == ADZE_OK && piece > 0) add_floats((float *)sum, (const float *)summand, adze_shape_count(&c->in[CONV2D_W].shape));
    return st;
}

static adze_status winograd_run(const adze_call *c)
{
    adze_status st = ADZE_OK;
    const winograd *w = c->state;
    const onednn *e = c->ctx->state;
    unsigned char *scratch = c->scratch, *x = scratch + w->x_at, *dy = scratch + w->dy_at;
    const int64_t X = adze_shape_count(&c->in[CONV2D_X].shape) / w->n_pieces, Y = adze_shape_count(&c->out[0].shape) / w->n_pieces;
    if (w->weights) {
        set_handle(w->weights, DNNL_ARG_SRC, x);
        set_handle(w->weights, DNNL_ARG_DIFF_DST, dy);
        set_handle(w->weights, DNNL_ARG_SCRATCHPAD, scratch);
    }
    if (w->data) {
        TRY(refresh(c, w->data, CONV2D_W, CONV2D_B));
        set_handle(w->data, DNNL_ARG_DIFF_DST, dy);
        set_handle(w->data, DNNL_ARG_DIFF_SRC, x);
        set_handle(w->data, DNNL_ARG_SCRATCHPAD, scratch);
    }
    for (int64_t i = 0; i < w->n_pieces && (w->weights || w->data); i++) {
        TRY(relayout_run(&w->dy, e, c->out[0].grad + i * Y, dy));
        if (w->weights) {
            TRY(relayout_run(&w->x, e, c->in[CONV2D_X].data + i * X, x));
            TRY(winograd_add_weights(c, w, i));
        }
        if (w->data) {
            TRY(execute(w->data, c));
            TRY(relayout_run(&w->dx, e, c->in[CONV2D_X].grad + i * X, x));
        }
    }
    if (w->weights) TRY(relayout_run(&w->dw, e, c->in[CONV2D_W].grad, scratch + w->dw_at));
    if (c->in[CONV2D_B].wanted) adze_cpu_sum_columns(&c->out[0], &c->in[CONV2D_B]);
done:
    return st;
}

const adze_kernel adze_onednn_winograd_backward = {
    .name = "onednn-winograd", .accepts = winograd_accepts, .prepare = winograd_prepare, .run = winograd_run, .release = release_winograd,
};

/* ---- transposed convolution ---- */

static adze_status prepare_conv_transpose2d(adze_call *c, dnnl_data_type_t type)
{
    adze_status st = ADZE_OK;
    dnnl_primitive_desc_t pd = NULL;
    prepared *p = NULL;
    conv_geometry g = geometry_of(c, type);
    const dnnl_memory_desc_t *bias = c->in[CONV2D_B].present ? &g.bias : NULL;
    dnnl_deconvolution_desc_t desc;
    TRY(check(dnnl_dilated_deconvolution_forward_desc_init(&desc, dnnl_forward_inference, dnnl_deconvolution_direct, &g.src_in, &g.any_in,
                                                           bias, &g.dst, g.strides, g.dilates, g.pad_l, g.pad_r), c->op->name));
    TRY(start(c->ctx->state, c->op->name, &desc, NULL, &g.src_in, &g.dst, &p, &pd));
    TRY(prepare_weights(p, c->ctx->state, &g.plain, dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0), bias));
done:
    return finish(c, p, pd, st);
}

static adze_status conv_transpose2d_prepare(adze_call *c) { return prepare_conv_transpose2d(c, dnnl_f32); }
static adze_status conv_transpose2d_bf16_prepare(adze_call *c) { return prepare_conv_transpose2d(c, dnnl_bf16); }

static adze_status conv_transpose2d_run(const adze_call *c)
{
    adze_status st = refresh(c, c->state, CONV2D_W, CONV2D_B);
    return st == ADZE_OK ? run_between(c) : st;
}

const adze_kernel adze_onednn_conv_transpose2d = {
    .name = "onednn", .accepts = conv_backward_accepts, .prepare = conv_transpose2d_prepare, .run = conv_transpose2d_run,
    .release = release,
};
const adze_kernel adze_onednn_conv_transpose2d_bf16 = {
    .name = "onednn-bf16", .accepts = conv_backward_bf16_accepts, .prepare = conv_transpose2d_bf16_prepare,
    .run = conv_transpose2d_run, .release = release,
};

/* ---- matrix products in bfloat16: matmul in both directions, the gradients of linear ---- */

/* `batch` matrices (rows,cols), or one for all; transposed: stored (cols,rows). */
typedef struct {
    int64_t batch, rows, cols;
    bool transposed;
} matrix;

/* a (m,k) b (k,n) = y (m,n): matmul as it is; linear with the weights (n,k) as b. */
typedef struct {
    matrix a, b, y;
} product;

/* Forward y, backward the gradients of a and b; each with the operands it reads. */
enum { OPERAND_A, OPERAND_B, OPERAND_DY, OPERANDS };
typedef struct {
    prepared *p[2];
    int src[2], weights[2];   /* operands of p[i] */
    bool read[OPERANDS];
    size_t at[OPERANDS];      /* where in the scratch memory they lie as bfloat16 */
} bf16_products;

static matrix turned(matrix m) { return (matrix){ m.batch, m.cols, m.rows, !m.transposed }; }

static dnnl_memory_desc_t matrix_md(const matrix *m, dnnl_data_type_t type, int rank)
{
    dnnl_memory_desc_t md;
    dnnl_dims_t dims = { m->batch, m->rows, m->cols };
    dnnl_dims_t strides = { m->rows * m->cols, m->transposed ? 1 : m->cols, m->transposed ? m->rows : 1 };
    dnnl_memory_desc_init_by_strides(&md, rank, dims + 3 - rank, type, strides + 3 - rank);
    return md;
}

static product product_of(const adze_call *c)
{
    if (c->op == &adze_op_linear) {
        const adze_shape *w = &c->in[LINEAR_W].shape;
        int64_t M = w->dim[0], K = w->dim[1], rows = adze_shape_count(&c->in[LINEAR_X].shape) / K;
        return (product){ { 1, rows, K, false }, { 1, K, M, true }, { 1, rows, M, false } };
    }
    const matmul_attrs *t = c->attrs;
    matmul_sizes s = adze_matmul_sizes(c);
    if (s.b_shared && !t->transpose_a) s.m *= s.batch, s.batch = 1;
    return (product){ { s.batch, s.m, s.k, t->transpose_a }, { s.b_shared ? 1 : s.batch, s.k, s.n, t->transpose_b }, { s.batch, s.m, s.n, false } };
}

static void bf16_products_destroy(bf16_products *s)
{
    if (!s) return;
    for (int i = 0; i < 2; i++) prepared_destroy(s->p[i]);
    adze_free(s);
}

static void release_bf16_products(adze_call *c)
{
    bf16_products_destroy(c->state);
    c->state = NULL;
}

/* dst = src weights + bias, or += ; then ReLU where wanted. `weights` is "any" where the primitive chooses their layout; bias may be NULL. */
static adze_status product_start(const onednn *e, const dnnl_memory_desc_t *src, const dnnl_memory_desc_t *weights, const dnnl_memory_desc_t *bias,
                                 const dnnl_memory_desc_t *dst, bool add, bool relu, prepared **p, dnnl_primitive_desc_t *pd)
{
    adze_status st = ADZE_OK;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t ops = NULL;
    dnnl_matmul_desc_t desc;
    TRY(check(dnnl_matmul_desc_init(&desc, src, weights, bias, dst), "matmul"));
    TRY(user_scratchpad(&attr));
    TRY(check(dnnl_post_ops_create(&ops), "post-ops"));
    if (add) TRY(check(dnnl_post_ops_append_sum(ops, 1.0f), "post-ops"));
    if (relu) TRY(check(dnnl_post_ops_append_eltwise(ops, 1.0f, dnnl_eltwise_relu, 0.0f, 0.0f), "post-ops"));
    TRY(check(dnnl_primitive_attr_set_post_ops(attr, ops), "post-ops"));
    TRY(start(e, "matmul", &desc, attr, src, dst, p, pd));
    TRY(add_scratch_arg(*p, e, *pd, scratch_of(*pd)));
    if (bias) TRY(add_arg(*p, e, DNNL_ARG_BIAS, bias, DNNL_MEMORY_NONE));
done:
    if (ops) dnnl_post_ops_destroy(ops);
    if (attr) dnnl_primitive_attr_destroy(attr);
    return st;
}

/* Product number i: y = a b, or += ; a and b are the operands of those numbers. A transposed y is computed as y' = b' a'. */
static adze_status prepare_product(adze_call *c, bf16_products *s, int i, matrix a, int a_is, matrix b, int b_is, matrix y, bool add)
{
    adze_status st = ADZE_OK;
    const onednn *e = c->ctx->state;
    dnnl_primitive_desc_t pd = NULL;
    if (y.transposed) {
        matrix first = a;
        int first_is = a_is;
        a = turned(b), a_is = b_is;
        b = turned(first), b_is = first_is;
        y = turned(y);
    }
    int rank = y.batch > 1 ? 3 : 2;
    dnnl_memory_desc_t src = matrix_md(&a, dnnl_bf16, rank), weights = matrix_md(&b, dnnl_bf16, rank), dst = matrix_md(&y, dnnl_f32, rank);
    size_t n_bytes;
    TRY(product_start(e, &src, &weights, NULL, &dst, add, false, &s->p[i], &pd));
    TRY(add_arg(s->p[i], e, DNNL_ARG_WEIGHTS, &weights, DNNL_MEMORY_NONE));
    n_bytes = scratch_of(pd);
    if (n_bytes > c->scratch_bytes) c->scratch_bytes = n_bytes;
    s->src[i] = a_is, s->weights[i] = b_is;
    s->read[a_is] = s->read[b_is] = true;
done:
    if (pd) dnnl_primitive_desc_destroy(pd);
    return st;
}

static const adze_arg *operand(const adze_call *c, int which) { return which == OPERAND_DY ? &c->out[0] : &c->in[which]; }

static adze_status prepare_products(adze_call *c)
{
    adze_status st = ADZE_OK;
    product m = product_of(c);
    bf16_products *s = adze_calloc(1, sizeof *s);
    REQUIRE(s, ADZE_ENOMEM, "%s: host bytes", c->op->name);
    if (!c->backward) TRY(prepare_product(c, s, 0, m.a, OPERAND_A, m.b, OPERAND_B, m.y, false));
    if (c->backward && c->in[0].wanted) TRY(prepare_product(c, s, 0, m.y, OPERAND_DY, turned(m.b), OPERAND_B, m.a, c->in[0].accumulate));
    if (c->backward && c->in[1].wanted) TRY(prepare_product(c, s, 1, turned(m.a), OPERAND_A, m.y, OPERAND_DY, m.b, c->in[1].accumulate));
    for (int k = 0; k < OPERANDS; k++)
        if (s->read[k]) s->at[k] = book(c, (size_t)adze_shape_count(&operand(c, k)->shape) * sizeof(uint16_t));
    c->state = s;
    s = NULL;
done:
    bf16_products_destroy(s);
    return st;
}

static adze_status run_products(const adze_call *c)
{
    adze_status st = ADZE_OK;
    const bf16_products *s = c->state;
    void *data[OPERANDS] = { NULL };
    for (int k = 0; k < OPERANDS; k++) {
        const adze_arg *arg = operand(c, k);
        if (s->read[k]) data[k] = rounded(c, k == OPERAND_DY ? arg->grad : arg->data, adze_shape_count(&arg->shape), s->at[k]);
    }
    for (int i = 0; i < 2 && st == ADZE_OK; i++) {
        if (!s->p[i]) continue;
        set_handle(s->p[i], DNNL_ARG_SRC, data[s->src[i]]);
        set_handle(s->p[i], DNNL_ARG_WEIGHTS, data[s->weights[i]]);
        set_handle(s->p[i], DNNL_ARG_DST, c->backward ? c->in[i].grad : c->out[0].data);
        set_handle(s->p[i], DNNL_ARG_SCRATCHPAD, c->scratch);
        st = execute(s->p[i], c);
    }
    if (st == ADZE_OK && c->backward && c->op == &adze_op_linear && c->in[LINEAR_B].wanted) adze_cpu_sum_columns(&c->out[0], &c->in[LINEAR_B]);
    return st;
}

/* A gradient that is summed over a batch (of a second operand shared by transposed first ones) stays float32. */
static bool products_accept(const adze_call *c)
{
    product m = product_of(c);
    return wants_bf16(c) && !(c->backward && m.b.batch < m.a.batch);
}

const adze_kernel adze_onednn_products_bf16 = {
    .name = "onednn-bf16", .accepts = products_accept, .prepare = prepare_products, .run = run_products,
    .release = release_bf16_products,
};

/* ---- single products, for kernels that are made of several ---- */

/* Float32 products of a plain b that is not transposed run through the library's gemm (EPYC with AVX-512, 2 threads, C (2048,2304) from
 * 256 terms: 22.2 ms, the primitive 23.4); with a transposed one it packs badly ((256,2304) from 1152: 14.6 ms, the primitive 13.0). */
struct adze_onednn_product {
    const onednn *e;
    prepared *p;                /* NULL: gemm */
    bool packs;                 /* b by adze_bf16_pack() */
    adze_onednn_product_opts o;
    size_t scratch_bytes;
};

static adze_status gemm(const adze_onednn_product_opts *o, const float *a, const float *b, float *c)
{
    return check(dnnl_sgemm(o->ta ? 'T' : 'N', 'N', o->m, o->n, o->k, 1.0f, a, o->ta ? o->m : o->k, b, o->ldb, o->add ? 1.0f : 0.0f, c, o->ldc), "product");
}

/* What the library makes at its first product, 8 MB of code, is then there when memory is announced. */
static adze_status gemm_begin(bool ta, bool add)
{
    enum { N = 16 };
    const float a[N * N] = { 0.0f };
    float c[N * N] = { 0.0f };
    return gemm(&(adze_onednn_product_opts){ .m = N, .n = N, .k = N, .ldb = N, .ldc = N, .ta = ta, .add = add }, a, a, c);
}

/* (rows,cols), stored by rows of `ld` numbers, of the transpose where it says so. */
static dnnl_memory_desc_t rows_md(int64_t rows, int64_t cols, bool transposed, int64_t ld, dnnl_data_type_t type)
{
    dnnl_memory_desc_t md;
    dnnl_memory_desc_init_by_strides(&md, 2, (dnnl_dims_t){ rows, cols }, type, (dnnl_dims_t){ transposed ? 1 : ld, transposed ? ld : 1 });
    return md;
}

/* Whether that layout is BA16a64b2a. */
static bool is_packable(const dnnl_memory_desc_t *md)
{
    const dnnl_blocking_desc_t *f = &md->format_desc.blocking;
    const int64_t K = md->dims[0], N = md->dims[1], block = ADZE_BF16_BLOCK_K * ADZE_BF16_BLOCK_N;
    return md->data_type == dnnl_bf16 && md->format_kind == dnnl_blocked && f->inner_nblks == 3 && f->inner_idxs[0] == 0 && f->inner_blks[0] == 16 &&
           f->inner_idxs[1] == 1 && f->inner_blks[1] == 64 && f->inner_idxs[2] == 0 && f->inner_blks[2] == 2 && f->strides[0] == block &&
           f->strides[1] == K / ADZE_BF16_BLOCK_K * block && md->extra.flags == dnnl_memory_extra_flag_none && adze_bf16_can_pack(K, N);
}

adze_status adze_onednn_product_create(adze_onednn_product **out, const adze_ctx *ctx, const adze_onednn_product_opts *o)
{
    adze_status st = ADZE_OK;
    dnnl_primitive_desc_t pd = NULL;
    adze_onednn_product *q = adze_calloc(1, sizeof *q);
    *out = NULL;
    REQUIRE(q, ADZE_ENOMEM, "product: host bytes");
    q->e = ctx->state, q->o = *o;
    if (!o->bf16 && !o->bf16_out && !o->packed && !o->tb && !o->bias && !o->relu) {
        TRY(gemm_begin(o->ta, o->add));
        *out = q;
        return ADZE_OK;
    }
    const dnnl_data_type_t type = o->bf16 ? dnnl_bf16 : dnnl_f32;
    dnnl_memory_desc_t a = rows_md(o->m, o->k, o->ta, o->ta ? o->m : o->k, type), bias = rows_md(1, o->n, false, o->n, dnnl_f32);
    dnnl_memory_desc_t b = rows_md(o->k, o->n, o->tb, o->ldb, o->packed ? dnnl_f32 : type), any = b;
    dnnl_memory_desc_t c = rows_md(o->m, o->n, false, o->ldc, o->bf16_out ? dnnl_bf16 : dnnl_f32);
    if (o->packed) dnnl_memory_desc_init_by_tag(&any, 2, b.dims, type, dnnl_format_tag_any);
    TRY(product_start(q->e, &a, &any, o->bias ? &bias : NULL, &c, o->add, o->relu, &q->p, &pd));
    q->scratch_bytes = scratch_of(pd);
    if (o->packed) {
        const dnnl_memory_desc_t *layout = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
        TRY(prepare_weights(q->p, q->e, &b, layout, NULL));
        q->packs = is_packable(layout);
    } else TRY(add_arg(q->p, q->e, DNNL_ARG_WEIGHTS, &b, DNNL_MEMORY_NONE));
    *out = q;
    q = NULL;
done:
    if (pd) dnnl_primitive_desc_destroy(pd);
    adze_onednn_product_destroy(q);
    return st;
}

void adze_onednn_product_destroy(adze_onednn_product *q)
{
    if (!q) return;
    prepared_destroy(q->p);
    adze_free(q);
}

size_t adze_onednn_product_scratch_bytes(const adze_onednn_product *q) { return q->scratch_bytes; }

adze_status adze_onednn_product_run(adze_onednn_product *q, const void *a, const void *b, uint64_t version, const float *bias, void *c, void *scratch)
{
    adze_status st = ADZE_OK;
    prepared *p = q->p;
    if (!p) return gemm(&q->o, a, b, c);
    if (p->pack && p->version != version) {
        if (q->packs) adze_bf16_pack(b, q->o.k, q->o.n, q->o.ldb, q->o.tb, (uint16_t *)p->weights);
        else TRY(pack_weights(p, q->e, b));
        p->version = version;
    }
    set_handle(p, DNNL_ARG_SRC, (void *)a);
    if (!p->pack) set_handle(p, DNNL_ARG_WEIGHTS, (void *)b);
    set_handle(p, DNNL_ARG_BIAS, (void *)bias);
    set_handle(p, DNNL_ARG_DST, c);
    set_handle(p, DNNL_ARG_SCRATCHPAD, scratch);
    TRY(execute_on(q->e, p, "matmul"));
done:
    return st;
}
