/* conv_plan.c - convolutions by cuDNN's graph interface. Entry: conv_plan_create(), conv_plan_run(). */
#include "cuda/conv_plan.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/memory.h"
#include "core/ops.h"
#include "cuda/conv_pack.h"
#include "cuda/cuda_state.h"
#include "cuda/cudnn_graph.h"
#include "cuda/plan_cache.h"

enum { X = 1, W, Y, RESIDUAL, BIAS, AFTER_CONV, AFTER_RESIDUAL, AFTER_BIAS, TENSORS }; /* also the unique numbers */
enum { ALIGN = 256, MAX_CANDIDATES = 8, REPETITIONS = 3, MAX_KEY_BYTES = 640 };
static const int64_t max_workspace_bytes = (int64_t)256 << 20;

struct conv_plan {
    adze_ctx *ctx; /* borrowed */
    conv_problem problem;
    bool bf16; /* what is read is rounded first, behind the library's workspace */
    cudnn_set parts;
    cudnnBackendDescriptor_t graph;       /* of `parts` */
    cudnnBackendDescriptor_t plan, pack;  /* owned */
    cudnnBackendDescriptor_t config;      /* owned: of `plan` */
    conv_operands operands;               /* of `pack` */
    int64_t workspace_bytes;
    adze_engine chosen;
};

/* ---- the library's handle ---- */

static adze_status handle_of(adze_ctx *ctx, cudnnHandle_t *handle)
{
    adze_status st = ADZE_OK;
    adze_cuda_state *s = adze_cuda_state_of(ctx);
    if (!s->conv) {
        TRY(adze_cudnn_check(cudnnCreate(handle), "start"));
        s->conv = *handle;
        TRY(adze_cudnn_check(cudnnSetStream(*handle, s->stream), "its stream"));
    }
    *handle = s->conv;
done:
    return st;
}

void conv_plan_close(adze_ctx *ctx)
{
    adze_cuda_state *s = adze_cuda_state_of(ctx);
    if (s->conv) cudnnDestroy(s->conv);
    s->conv = NULL;
}

/* ---- the operation graph ---- */

static bool is_read(const conv_problem *p, int which)
{
    return which <= Y && which != (p->direction == CONV_FORWARD ? Y : p->direction == CONV_DATA_GRADIENT ? X : W);
}

static cudnn_tensor tensor_of(const conv_plan *plan, int which)
{
    const conv_problem *p = &plan->problem;
    const cudnnDataType_t type = plan->bf16 && is_read(p, which) ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
    switch (which) {
    case X: return cudnn_tensor_nhwc(which, type, p->N, p->C, p->H, p->W);
    case W: return cudnn_tensor_nhwc(which, type, p->Co, p->C / p->groups, p->Kh, p->Kw);
    case BIAS: return cudnn_tensor_nhwc(which, type, 1, p->Co, 1, 1);
    default: return cudnn_tensor_nhwc(which, type, p->N, p->Co, p->Ho, p->Wo);
    }
}

static cudnnBackendDescriptor_t convolution_descriptor(cudnn_set *s, const conv_problem *p)
{
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const int64_t dims = 2;
    cudnnBackendDescriptor_t d = cudnn_set_add(s, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, "a convolution");
    cudnn_set_attribute(s, d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    cudnn_set_attribute(s, d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    cudnn_set_attribute(s, d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &dims);
    cudnn_set_attribute(s, d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, p->pad);
    cudnn_set_attribute(s, d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, p->pad);
    cudnn_set_attribute(s, d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, p->stride);
    cudnn_set_attribute(s, d, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, p->dilation);
    cudnn_set_finalize(s, d);
    return d;
}

/* The names of one operation's attributes. */
typedef struct {
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t x, w, y, conv, alpha, beta;
} operation_names;

static const operation_names names_of[] = {
    [CONV_FORWARD] = { CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                       CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
                       CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                       CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA },
    [CONV_DATA_GRADIENT] = { CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA },
    [CONV_WEIGHTS_GRADIENT] = { CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
                                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA },
};

static cudnnBackendDescriptor_t convolution(cudnn_set *s, const conv_problem *p, cudnnBackendDescriptor_t x, cudnnBackendDescriptor_t w,
                                            cudnnBackendDescriptor_t y)
{
    const operation_names *n = &names_of[p->direction];
    const float one = 1.0f, zero = 0.0f;
    cudnnBackendDescriptor_t shape = convolution_descriptor(s, p), d = cudnn_set_add(s, n->type, "a convolution's operation");
    cudnn_set_attribute(s, d, n->conv, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &shape);
    cudnn_set_attribute(s, d, n->x, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &x);
    cudnn_set_attribute(s, d, n->w, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &w);
    cudnn_set_attribute(s, d, n->y, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &y);
    cudnn_set_attribute(s, d, n->alpha, CUDNN_TYPE_FLOAT, 1, &one);
    cudnn_set_attribute(s, d, n->beta, CUDNN_TYPE_FLOAT, 1, &zero);
    cudnn_set_finalize(s, d);
    return d;
}

/* y = x + b, or y = f(x) if b is NULL. */
static cudnnBackendDescriptor_t pointwise(cudnn_set *s, cudnnPointwiseMode_t mode, const double *upper_clip, cudnnBackendDescriptor_t x,
                                          cudnnBackendDescriptor_t b, cudnnBackendDescriptor_t y)
{
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    const double zero = 0.0;
    cudnnBackendDescriptor_t f = cudnn_set_add(s, CUDNN_BACKEND_POINTWISE_DESCRIPTOR, "a pointwise function");
    cudnn_set_attribute(s, f, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    cudnn_set_attribute(s, f, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    if (mode == CUDNN_POINTWISE_RELU_FWD) cudnn_set_attribute(s, f, CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP, CUDNN_TYPE_DOUBLE, 1, &zero);
    if (upper_clip) cudnn_set_attribute(s, f, CUDNN_ATTR_POINTWISE_RELU_UPPER_CLIP, CUDNN_TYPE_DOUBLE, 1, upper_clip);
    cudnn_set_finalize(s, f);
    cudnnBackendDescriptor_t d = cudnn_set_add(s, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, "a pointwise operation");
    cudnn_set_attribute(s, d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &f);
    cudnn_set_attribute(s, d, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &x);
    if (b) cudnn_set_attribute(s, d, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &b);
    cudnn_set_attribute(s, d, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &y);
    cudnn_set_finalize(s, d);
    return d;
}

/* A tensor of the graph: virtual if a later operation follows, else y. */
static cudnnBackendDescriptor_t result_tensor(cudnn_set *s, const conv_plan *p, int uid, bool last)
{
    cudnn_tensor t = tensor_of(p, last ? Y : uid);
    t.is_virtual = !last;
    return cudnn_set_tensor(s, &t);
}

static cudnnBackendDescriptor_t operand_tensor(cudnn_set *s, const conv_plan *p, int which)
{
    cudnn_tensor t = tensor_of(p, which);
    return cudnn_set_tensor(s, &t);
}

/* conv, + residual, + bias, activation: the order of the engines that fuse them. plan->graph stays NULL if the library has no such pattern. */
static adze_status make_graph(conv_plan *plan, cudnnHandle_t handle)
{
    const conv_problem *p = &plan->problem;
    cudnn_set *s = &plan->parts;
    cudnnBackendDescriptor_t op[4];
    int64_t n = 0;
    const bool act = p->act != ADZE_ACT_NONE;
    cudnnBackendDescriptor_t x = operand_tensor(s, plan, X), w = operand_tensor(s, plan, W);
    cudnnBackendDescriptor_t y = result_tensor(s, plan, AFTER_CONV, !p->residual && !p->bias && !act);
    op[n++] = convolution(s, p, x, w, y);
    if (p->residual) {
        cudnnBackendDescriptor_t r = operand_tensor(s, plan, RESIDUAL), sum = result_tensor(s, plan, AFTER_RESIDUAL, !p->bias && !act);
        op[n++] = pointwise(s, CUDNN_POINTWISE_ADD, NULL, y, r, sum);
        y = sum;
    }
    if (p->bias) {
        cudnnBackendDescriptor_t b = operand_tensor(s, plan, BIAS), sum = result_tensor(s, plan, AFTER_BIAS, !act);
        op[n++] = pointwise(s, CUDNN_POINTWISE_ADD, NULL, y, b, sum);
        y = sum;
    }
    if (act) {
        const double six = 6.0;
        cudnnBackendDescriptor_t last = result_tensor(s, plan, Y, true);
        op[n++] = pointwise(s, p->act == ADZE_ACT_SILU ? CUDNN_POINTWISE_SWISH_FWD : CUDNN_POINTWISE_RELU_FWD,
                            p->act == ADZE_ACT_RELU6 ? &six : NULL, y, NULL, last);
    }
    plan->graph = cudnn_set_add(s, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, "an operation graph");
    cudnn_set_attribute(s, plan->graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
    cudnn_set_attribute(s, plan->graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, n, op);
    cudnn_set_finalize(s, plan->graph);
    if (adze_cudnn_unsupported(s->result)) {
        plan->graph = NULL;
        return ADZE_OK;
    }
    return adze_cudnn_check(s->result, s->what ? s->what : "an operation graph");
}

/* ---- choosing an engine ---- */

static unsigned unwanted_notes(const adze_ctx_opts *o)
{
    unsigned notes = 1u << CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION;
    if (o->precision == ADZE_PRECISION_F32)
        notes |= 1u << CUDNN_NUMERICAL_NOTE_TENSOR_CORE | 1u << CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS | 1u << CUDNN_NUMERICAL_NOTE_FFT |
                 1u << CUDNN_NUMERICAL_NOTE_WINOGRAD | 1u << CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_4x4 |
                 1u << CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6 | 1u << CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13;
    if (o->deterministic) notes |= 1u << CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC;
    return notes;
}

/* The configurations that the notes leave, counted in the order of the heuristics; those built so far. */
typedef struct {
    cudnnHandle_t handle;
    unsigned unwanted;
    int64_t only;     /* build this one alone; -1: the first MAX_CANDIDATES that can be built */
    int64_t counted;
    int n;
    struct {
        cudnnBackendDescriptor_t plan, config; /* owned until taken */
        int64_t ordinal, workspace_bytes, engine;
        double ms; /* of one run, timed; else 0 */
    } built[MAX_CANDIDATES];
} candidates;

static cudnnBackendDescriptor_t build(cudnnHandle_t handle, cudnnBackendDescriptor_t config, int64_t *workspace_bytes)
{
    cudnnBackendDescriptor_t plan = NULL;
    int64_t got = 0;
    cudnnStatus_t result = cudnnBackendCreateDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &plan);
    if (result == CUDNN_STATUS_SUCCESS)
        result = cudnnBackendSetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
    if (result == CUDNN_STATUS_SUCCESS)
        result = cudnnBackendSetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &config);
    if (result == CUDNN_STATUS_SUCCESS) result = cudnnBackendFinalize(plan);
    if (result == CUDNN_STATUS_SUCCESS)
        result = cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &got, workspace_bytes);
    if (result == CUDNN_STATUS_SUCCESS && *workspace_bytes <= max_workspace_bytes) return plan;
    if (plan) cudnnBackendDestroyDescriptor(plan);
    return NULL;
}

static bool consider(void *state, cudnnBackendDescriptor_t *config)
{
    candidates *c = state;
    cudnn_engine engine;
    if (cudnn_engine_of(*config, &engine) != ADZE_OK || (engine.notes & c->unwanted)) return true;
    int64_t ordinal = c->counted++, workspace_bytes = 0;
    if (c->only >= 0 && ordinal != c->only) return true;
    cudnnBackendDescriptor_t plan = build(c->handle, *config, &workspace_bytes);
    if (plan) {
        c->built[c->n].plan = plan;
        c->built[c->n].config = *config;
        *config = NULL;
        c->built[c->n].ordinal = ordinal, c->built[c->n].engine = engine.index;
        c->built[c->n++].workspace_bytes = workspace_bytes;
    }
    return c->only < 0 && c->n < MAX_CANDIDATES;
}

static void candidates_destroy(candidates *c)
{
    for (int i = 0; i < c->n; i++) {
        if (!c->built[i].plan) continue;
        cudnnBackendDestroyDescriptor(c->built[i].plan);
        cudnnBackendDestroyDescriptor(c->built[i].config);
    }
}

static adze_status find_candidates(const conv_plan *plan, candidates *c)
{
    adze_status st = cudnn_configs(plan->graph, CUDNN_HEUR_MODE_A, consider, c);
    bool enough = c->n == MAX_CANDIDATES || (c->only >= 0 && c->counted > c->only);
    return st == ADZE_OK && !enough ? cudnn_configs(plan->graph, CUDNN_HEUR_MODE_FALLBACK, consider, c) : st;
}

static void take(conv_plan *plan, candidates *c, int i)
{
    plan->plan = c->built[i].plan;
    plan->config = c->built[i].config;
    plan->workspace_bytes = c->built[i].workspace_bytes;
    plan->chosen = (adze_engine){ .library = "cuDNN", .engine = c->built[i].engine, .choice = c->built[i].ordinal,
                                  .workspace_bytes = (size_t)c->built[i].workspace_bytes, .ms = c->built[i].ms };
    c->built[i].plan = NULL;
}

static int64_t count_of(const conv_plan *plan, int which)
{
    const cudnn_tensor t = tensor_of(plan, which);
    return t.dim[0] * t.dim[1] * t.dim[2] * t.dim[3];
}

static size_t aligned(size_t n_bytes) { return (n_bytes + ALIGN - 1) / ALIGN * ALIGN; }

static size_t rounded_bytes(const conv_plan *plan, int which)
{
    return plan->bf16 && is_read(&plan->problem, which) ? aligned((size_t)count_of(plan, which) * sizeof(uint16_t)) : 0;
}

/* Workspace of `own_bytes` for the library, and what is rounded. */
static size_t with_rounded(const conv_plan *plan, int64_t own_bytes)
{
    return aligned((size_t)own_bytes) + rounded_bytes(plan, X) + rounded_bytes(plan, W) + rounded_bytes(plan, Y);
}

typedef struct {
    conv_plan *plan;
    conv_operands operands;
} trial;

static adze_status run_trial(void *user)
{
    const trial *t = user;
    return conv_plan_run(t->plan, &t->operands);
}

static void drop_plan(conv_plan *plan)
{
    if (plan->pack) cudnnBackendDestroyDescriptor(plan->pack);
    if (plan->plan) cudnnBackendDestroyDescriptor(plan->plan);
    if (plan->config) cudnnBackendDestroyDescriptor(plan->config);
    plan->pack = plan->plan = plan->config = NULL;
}

/* Runs each candidate on zeros; *best is the index of the fastest, *first of the first that runs at all. One that fails when run or recorded
 * is passed over. */
static adze_status time_candidates(conv_plan *plan, candidates *c, int *best, int *first)
{
    adze_status st = ADZE_OK;
    void *memory[TENSORS] = { NULL }, *workspace = NULL;
    int64_t most = 0;
    float least = 0.0f;
    *best = *first = -1;
    for (int i = 0; i < c->n; i++) most = c->built[i].workspace_bytes > most ? c->built[i].workspace_bytes : most;
    for (int t = X; t <= BIAS; t++) {
        if ((t == RESIDUAL && !plan->problem.residual) || (t == BIAS && !plan->problem.bias)) continue;
        TRY(adze_cuda_alloc(plan->ctx, (size_t)count_of(plan, t) * sizeof(float), ADZE_BLOCK_TIMING, &memory[t]));
        TRY(adze_cuda_check(cudaMemsetAsync(memory[t], 0, (size_t)count_of(plan, t) * sizeof(float), adze_cuda_stream(plan->ctx)), "timing"));
    }
    TRY(adze_cuda_alloc(plan->ctx, with_rounded(plan, most), ADZE_BLOCK_TIMING, &workspace));
    trial one = { plan, { memory[X], memory[W], memory[Y], memory[RESIDUAL], memory[BIAS], workspace } };
    for (int i = 0; i < c->n; i++) {
        float ms = 0.0f;
        take(plan, c, i);
        bool ran = adze_cuda_time(plan->ctx, run_trial, &one, REPETITIONS, &ms) == ADZE_OK;
        c->built[i].ms = ran ? (double)ms / REPETITIONS : 0.0;
        c->built[i].plan = plan->plan;
        plan->plan = plan->config = NULL;
        drop_plan(plan);
        if (ran && *first < 0) *first = i;
        if (ran && (*best < 0 || ms < least)) *best = i, least = ms;
    }
done:
    for (int t = X; t <= BIAS; t++) adze_cuda_free(plan->ctx, memory[t]);
    adze_cuda_free(plan->ctx, workspace);
    return st;
}

/* Everything that the choice depends on. */
static adze_status make_key(const conv_plan *plan, unsigned unwanted, char key[MAX_KEY_BYTES])
{
    const adze_cuda_state *s = adze_cuda_state_of(plan->ctx);
    const conv_problem *p = &plan->problem;
    struct cudaDeviceProp device;
    adze_status st = adze_cuda_check(cudaGetDeviceProperties(&device, s->device), "properties of the device");
    if (st != ADZE_OK) return st;
    int n = snprintf(key, MAX_KEY_BYTES, "convolution 2, cuDNN %zu, %.100s, device ", cudnnGetVersion(), s->name);
    for (size_t i = 0; i < sizeof device.uuid.bytes; i++) n += snprintf(key + n, MAX_KEY_BYTES - (size_t)n, "%02x", device.uuid.bytes[i] & 0xff);
    snprintf(key + n, MAX_KEY_BYTES - (size_t)n,
             ", %s NHWC, without notes %x, workspace %" PRId64 ", direction %d, x %" PRId64 "x%" PRId64 "x%" PRId64 "x%" PRId64 ", y %" PRId64
             "x%" PRId64 "x%" PRId64 ", w %" PRId64 "x%" PRId64 ", groups %" PRId64 ", stride %" PRId64 "x%" PRId64 ", dilation %" PRId64
             "x%" PRId64 ", pad %" PRId64 "x%" PRId64 ", residual %d, bias %d, act %d",
             plan->bf16 ? "bf16" : "f32", unwanted, max_workspace_bytes, (int)p->direction, p->N, p->H, p->W, p->C, p->Ho, p->Wo, p->Co, p->Kh, p->Kw, p->groups,
             p->stride[0], p->stride[1], p->dilation[0], p->dilation[1], p->pad[0], p->pad[1], p->residual, p->bias, p->act);
    return ADZE_OK;
}

static int index_of(const candidates *c, int64_t ordinal)
{
    for (int i = 0; i < c->n; i++)
        if (c->built[i].ordinal == ordinal) return i;
    return -1;
}

/* Sets plan->plan: the choice of the cache, or the fastest; stays NULL where there is none. */
static adze_status choose(conv_plan *plan, cudnnHandle_t handle)
{
    adze_status st = ADZE_OK;
    candidates known = { .handle = handle, .unwanted = unwanted_notes(&plan->ctx->opts), .only = -1 }, all = known;
    char key[MAX_KEY_BYTES];
    int best, first;
    TRY(make_key(plan, all.unwanted, key));
    if (plan_cache_read(key, &known.only)) {
        TRY(find_candidates(plan, &known));
        if (known.n > 0) {
            take(plan, &known, 0);
            plan->chosen.chosen = "cache";
            goto done;
        }
    }
    TRY(find_candidates(plan, &all));
    if (all.n == 0) goto done;
    TRY(time_candidates(plan, &all, &best, &first));
    REQUIRE(best >= 0, ADZE_EBACKEND, "cuDNN: no engine could run this convolution");
    int64_t choice = all.built[best].ordinal;
    bool stored = plan_cache_write(key, &choice);
    /* Without a place to keep it, a timed choice could differ from run to run. */
    if (!stored && plan->ctx->opts.deterministic) best = first;
    else if (stored && index_of(&all, choice) >= 0) best = index_of(&all, choice);
    take(plan, &all, best);
    plan->chosen.chosen = all.n == 1 ? "only" : stored || !plan->ctx->opts.deterministic ? "timed" : "first";
done:
    candidates_destroy(&known);
    candidates_destroy(&all);
    return st;
}

/* *out is NULL without an error if no engine does it. */
static adze_status create(conv_plan **out, adze_ctx *ctx, const conv_problem *problem, bool bf16)
{
    adze_status st = ADZE_OK;
    cudnnHandle_t handle;
    *out = NULL;
    conv_plan *p = adze_calloc(1, sizeof *p);
    REQUIRE(p, ADZE_ENOMEM, "convolution: %zu host bytes", sizeof *p);
    p->ctx = ctx;
    p->problem = *problem;
    p->bf16 = bf16;
    TRY(handle_of(ctx, &handle));
    TRY(make_graph(p, handle));
    if (p->graph) TRY(choose(p, handle));
    if (!p->plan) goto done;
    *out = p;
    p = NULL;
done:
    conv_plan_destroy(p);
    return st;
}

adze_status conv_plan_create(conv_plan **out, adze_ctx *ctx, const conv_problem *problem)
{
    adze_status st = ADZE_OK;
    *out = NULL;
    if (ctx->opts.precision == ADZE_PRECISION_BF16) TRY(create(out, ctx, problem, true));
    if (!*out) TRY(create(out, ctx, problem, false));
done:
    return st;
}

void conv_plan_destroy(conv_plan *p)
{
    if (!p) return;
    drop_plan(p);
    cudnn_set_destroy(&p->parts);
    adze_free(p);
}

size_t conv_plan_workspace_bytes(const conv_plan *p) { return with_rounded(p, p->workspace_bytes); }
adze_engine conv_plan_engine(const conv_plan *p) { return p->chosen; }

/* ---- running ---- */

static adze_status make_pack(conv_plan *p, const conv_operands *o)
{
    adze_status st = ADZE_OK;
    const void *pointer[TENSORS];
    void *workspace = o->workspace;
    int64_t uid[TENSORS], n = 0;
    if (p->pack) cudnnBackendDestroyDescriptor(p->pack);
    p->pack = NULL;
    pointer[n] = o->x, uid[n++] = X;
    pointer[n] = o->w, uid[n++] = W;
    pointer[n] = o->y, uid[n++] = Y;
    if (p->problem.residual) pointer[n] = o->residual, uid[n++] = RESIDUAL;
    if (p->problem.bias) pointer[n] = o->bias, uid[n++] = BIAS;
    TRY(adze_cudnn_check(cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &p->pack), "a variant pack"));
    TRY(adze_cudnn_check(cudnnBackendSetAttribute(p->pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, n, pointer), "pointers"));
    TRY(adze_cudnn_check(cudnnBackendSetAttribute(p->pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, n, uid), "pointers"));
    TRY(adze_cudnn_check(cudnnBackendSetAttribute(p->pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace), "the workspace"));
    TRY(adze_cudnn_check(cudnnBackendFinalize(p->pack), "a variant pack"));
    p->operands = *o;
done:
    return st;
}

/* Puts bfloat16 copies in place of the operands that are read. */
static adze_status round_operands(const conv_plan *p, conv_operands *o)
{
    adze_status st = ADZE_OK;
    unsigned char *at = (unsigned char *)o->workspace + aligned((size_t)p->workspace_bytes);
    const void **const operand[] = { [X] = &o->x, [W] = &o->w, [Y] = &o->y };
    for (int which = X; which <= Y; which++) {
        if (!is_read(&p->problem, which)) continue;
        TRY(adze_conv_round(p->ctx, *operand[which], count_of(p, which), at));
        *operand[which] = at;
        at += rounded_bytes(p, which);
    }
done:
    return st;
}

adze_status conv_plan_run(conv_plan *p, const conv_operands *operands)
{
    adze_status st = ADZE_OK;
    cudnnHandle_t handle = adze_cuda_state_of(p->ctx)->conv;
    conv_operands o = *operands;
    if (p->bf16) TRY(round_operands(p, &o));
    if (!p->pack || memcmp(&p->operands, &o, sizeof o) != 0) TRY(make_pack(p, &o));
    TRY(adze_cudnn_check(cudnnBackendExecute(handle, p->plan, p->pack), "convolution"));
done:
    return st;
}
