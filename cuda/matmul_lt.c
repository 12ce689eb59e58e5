/* matmul_lt.c - matrix products by cuBLASLt. Entry: matmul_lt_create(), matmul_lt_run(). */
#include "cuda/matmul_lt.h"

#include <cublasLt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/memory.h"
#include "cuda/cuda_state.h"
#include "cuda/plan_cache.h"

enum { MAX_ALGORITHMS = 8, REPETITIONS = 3, MAX_KEY_BYTES = 512, ALIGNMENT = 16 };
static const size_t max_workspace_bytes = (size_t)32 << 20;

struct matmul_lt {
    adze_ctx *ctx; /* borrowed */
    matmul_problem problem;
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t a, b, d;
    cublasLtMatmulAlgo_t algorithm;
    size_t workspace_bytes;
    adze_engine chosen;
};

static adze_status check(cublasStatus_t result, const char *what)
{
    if (result == CUBLAS_STATUS_SUCCESS) return ADZE_OK;
    return adze_fail(result == CUBLAS_STATUS_ALLOC_FAILED ? ADZE_ENOMEM : ADZE_EBACKEND, "cuBLASLt: %s: %s", what,
                     cublasLtGetStatusString(result));
}

static adze_status handle_of(adze_ctx *ctx, cublasLtHandle_t *handle)
{
    adze_cuda_state *s = adze_cuda_state_of(ctx);
    adze_status st = s->matmul ? ADZE_OK : check(cublasLtCreate(handle), "start");
    if (st == ADZE_OK && !s->matmul) s->matmul = *handle;
    *handle = s->matmul;
    return st;
}

void matmul_lt_close(adze_ctx *ctx)
{
    adze_cuda_state *s = adze_cuda_state_of(ctx);
    if (s->matmul) cublasLtDestroy(s->matmul);
    s->matmul = NULL;
}

static adze_status make_layout(cublasLtMatrixLayout_t *out, int64_t rows, int64_t columns, int64_t ld, int64_t batch, int64_t stride)
{
    adze_status st = ADZE_OK;
    const int32_t count = (int32_t)batch;
    TRY(check(cublasLtMatrixLayoutCreate(out, CUDA_R_32F, (uint64_t)rows, (uint64_t)columns, ld), "a layout"));
    if (batch > 1) {
        TRY(check(cublasLtMatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count), "a batch"));
        TRY(check(cublasLtMatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof stride), "a batch"));
    }
done:
    return st;
}

static cublasComputeType_t compute_type(const adze_ctx *ctx)
{
    switch (ctx->opts.precision) {
    case ADZE_PRECISION_TF32: return CUBLAS_COMPUTE_32F_FAST_TF32;
    case ADZE_PRECISION_BF16: return CUBLAS_COMPUTE_32F_FAST_16BF;
    default: return CUBLAS_COMPUTE_32F;
    }
}

static adze_status describe(matmul_lt *p)
{
    adze_status st = ADZE_OK;
    const matmul_problem *q = &p->problem;
    const cublasOperation_t ta = q->transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N, tb = q->transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasLtEpilogue_t epilogue = q->relu ? CUBLASLT_EPILOGUE_RELU_BIAS : q->bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    TRY(check(cublasLtMatmulDescCreate(&p->operation, compute_type(p->ctx), CUDA_R_32F), "an operation"));
    TRY(check(cublasLtMatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_TRANSA, &ta, sizeof ta), "an operation"));
    TRY(check(cublasLtMatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_TRANSB, &tb, sizeof tb), "an operation"));
    TRY(check(cublasLtMatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue), "an epilogue"));
    const void *aligned = (const void *)(uintptr_t)ALIGNMENT; /* not read: the heuristic looks at its alignment */
    if (q->bias) TRY(check(cublasLtMatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &aligned, sizeof aligned), "a bias"));
    TRY(make_layout(&p->a, q->transpose_a ? q->k : q->m, q->transpose_a ? q->m : q->k, q->lda, q->batch, q->stride_a));
    TRY(make_layout(&p->b, q->transpose_b ? q->n : q->k, q->transpose_b ? q->k : q->n, q->ldb, q->batch, q->stride_b));
    TRY(make_layout(&p->d, q->m, q->n, q->ldd, q->batch, q->stride_d));
done:
    return st;
}

/* The algorithms that fit, best guess first. */
static adze_status ask(const matmul_lt *p, cublasLtHandle_t handle, cublasLtMatmulHeuristicResult_t *found, int *n)
{
    adze_status st = ADZE_OK;
    cublasLtMatmulPreference_t preference = NULL;
    const uint32_t alignment = p->problem.unaligned ? (uint32_t)sizeof(float) : ALIGNMENT;
    static const cublasLtMatmulPreferenceAttributes_t aligned[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
    };
    *n = 0;
    TRY(check(cublasLtMatmulPreferenceCreate(&preference), "a preference"));
    TRY(check(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &max_workspace_bytes,
                                                   sizeof max_workspace_bytes),
              "the workspace"));
    for (size_t i = 0; i < sizeof aligned / sizeof *aligned; i++)
        TRY(check(cublasLtMatmulPreferenceSetAttribute(preference, aligned[i], &alignment, sizeof alignment), "an alignment"));
    cublasStatus_t result = cublasLtMatmulAlgoGetHeuristic(handle, p->operation, p->a, p->b, p->d, p->d, preference, MAX_ALGORITHMS, found, n);
    if (result == CUBLAS_STATUS_NOT_SUPPORTED) *n = 0;
    else TRY(check(result, "heuristics"));
    int kept = 0;
    for (int i = 0; i < *n; i++)
        if (found[i].state == CUBLAS_STATUS_SUCCESS && found[i].workspaceSize <= max_workspace_bytes) found[kept++] = found[i];
    *n = kept;
    REQUIRE(kept > 0, ADZE_EBACKEND, "cuBLASLt: no algorithm for a product of %" PRId64 "x%" PRId64 "x%" PRId64, p->problem.m, p->problem.n,
            p->problem.k);
done:
    if (preference) cublasLtMatmulPreferenceDestroy(preference);
    return st;
}

adze_status matmul_lt_run(const matmul_lt *p, const float *a, const float *b, const float *bias, float *d, void *workspace)
{
    adze_status st = ADZE_OK;
    const adze_cuda_state *s = adze_cuda_state_of(p->ctx);
    const float one = 1.0f, beta = p->problem.accumulate ? 1.0f : 0.0f;
    if (p->problem.bias) /* read at the call, on the host */
        TRY(check(cublasLtMatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias), "a bias"));
    TRY(check(cublasLtMatmul(s->matmul, p->operation, &one, a, p->a, b, p->b, &beta, d, p->d, d, p->d, &p->algorithm, workspace,
                             p->workspace_bytes, s->stream),
              "product"));
done:
    return st;
}

typedef struct {
    const matmul_lt *product;
    float *memory[5]; /* of matmul_lt_run() */
} trial;

static adze_status run_trial(void *user)
{
    const trial *t = user;
    return matmul_lt_run(t->product, t->memory[0], t->memory[1], t->memory[2], t->memory[3], t->memory[4]);
}

/* Bytes from the first to the last element of a batch of matrices with `columns` stored columns. */
static size_t extent(int64_t ld, int64_t columns, int64_t batch, int64_t stride)
{
    return (size_t)(ld * columns + (batch - 1) * stride) * sizeof(float);
}

static void take(matmul_lt *p, const cublasLtMatmulHeuristicResult_t *found)
{
    p->algorithm = found->algo;
    p->workspace_bytes = found->workspaceSize;
}

/* Runs each algorithm on zeros; *best is the index of the fastest, *first of the first that runs at all. One that fails when run or recorded
 * is passed over. */
static adze_status time_algorithms(matmul_lt *p, const cublasLtMatmulHeuristicResult_t *found, int n, int *best, int *first, double *best_ms)
{
    adze_status st = ADZE_OK;
    const matmul_problem *q = &p->problem;
    const size_t n_bytes[5] = { extent(q->lda, q->transpose_a ? q->m : q->k, q->batch, q->stride_a),
                                extent(q->ldb, q->transpose_b ? q->k : q->n, q->batch, q->stride_b), (size_t)q->m * sizeof(float),
                                extent(q->ldd, q->n, q->batch, q->stride_d), max_workspace_bytes };
    trial t = { p, { NULL } };
    float least = 0.0f;
    *best = *first = -1;
    for (int i = 0; i < 5; i++) {
        void *block;
        TRY(adze_cuda_alloc(p->ctx, n_bytes[i], ADZE_BLOCK_TIMING, &block));
        t.memory[i] = block;
        if (i < 4) TRY(adze_cuda_check(cudaMemsetAsync(block, 0, n_bytes[i], adze_cuda_stream(p->ctx)), "timing"));
    }
    for (int i = 0; i < n; i++) {
        float ms = 0.0f;
        take(p, &found[i]);
        const bool ran = adze_cuda_time(p->ctx, run_trial, &t, REPETITIONS, &ms) == ADZE_OK;
        if (ran && *first < 0) *first = i;
        if (ran && (*best < 0 || ms < least)) *best = i, least = ms;
    }
    REQUIRE(*best >= 0, ADZE_EBACKEND, "cuBLASLt: no algorithm could run this product");
    *best_ms = (double)least / REPETITIONS;
done:
    for (int i = 0; i < 5; i++) adze_cuda_free(p->ctx, t.memory[i]);
    return st;
}

static adze_status make_key(const matmul_lt *p, int n, char key[MAX_KEY_BYTES])
{
    const adze_cuda_state *s = adze_cuda_state_of(p->ctx);
    const matmul_problem *q = &p->problem;
    struct cudaDeviceProp device;
    adze_status st = adze_cuda_check(cudaGetDeviceProperties(&device, s->device), "properties of the device");
    if (st != ADZE_OK) return st;
    int at = snprintf(key, MAX_KEY_BYTES, "product 2, cuBLASLt %zu, %.100s, device ", cublasLtGetVersion(), s->name);
    for (size_t i = 0; i < sizeof device.uuid.bytes; i++) at += snprintf(key + at, MAX_KEY_BYTES - (size_t)at, "%02x", device.uuid.bytes[i] & 0xff);
    snprintf(key + at, MAX_KEY_BYTES - (size_t)at,
             ", precision %d, of %d, %d%d, %" PRId64 "x%" PRId64 "x%" PRId64 "x%" PRId64 ", ld %" PRId64 " %" PRId64 " %" PRId64
             ", strides %" PRId64 " %" PRId64 " %" PRId64 ", bias %d, relu %d, add %d, unaligned %d",
             (int)p->ctx->opts.precision, n, q->transpose_a, q->transpose_b, q->m, q->n, q->k, q->batch, q->lda, q->ldb, q->ldd, q->stride_a,
             q->stride_b, q->stride_d, q->bias, q->relu, q->accumulate, q->unaligned);
    return ADZE_OK;
}

/* As for convolutions: the stored choice, or the fastest; where nothing can be stored, the first in deterministic runs. */
static adze_status choose(matmul_lt *p, cublasLtHandle_t handle)
{
    adze_status st = ADZE_OK;
    cublasLtMatmulHeuristicResult_t found[MAX_ALGORITHMS];
    char key[MAX_KEY_BYTES];
    int n, best = 0, first = 0, number = 0;
    int64_t choice;
    double ms = 0.0;
    const char *chosen = "only";
    TRY(ask(p, handle, found, &n));
    TRY(make_key(p, n, key));
    if (plan_cache_read(key, &choice) && choice < n) best = (int)choice, chosen = "cache";
    else if (n > 1) {
        TRY(time_algorithms(p, found, n, &best, &first, &ms));
        choice = best, chosen = "timed";
        if (plan_cache_write(key, &choice)) best = choice < n ? (int)choice : best;
        else if (p->ctx->opts.deterministic) best = first, chosen = "first";
        if (best != (int)choice || strcmp(chosen, "first") == 0) ms = 0.0; /* the time is another one's */
    }
    take(p, &found[best]);
    TRY(check(cublasLtMatmulAlgoConfigGetAttribute(&p->algorithm, CUBLASLT_ALGO_CONFIG_ID, &number, sizeof number, NULL), "an algorithm's number"));
    p->chosen = (adze_engine){ .library = "cuBLASLt", .engine = number, .choice = best, .workspace_bytes = p->workspace_bytes, .chosen = chosen,
                               .ms = ms };
done:
    return st;
}

adze_status matmul_lt_create(matmul_lt **out, adze_ctx *ctx, const matmul_problem *problem)
{
    adze_status st = ADZE_OK;
    cublasLtHandle_t handle;
    *out = NULL;
    matmul_lt *p = adze_calloc(1, sizeof *p);
    REQUIRE(p, ADZE_ENOMEM, "matrix product: %zu host bytes", sizeof *p);
    p->ctx = ctx;
    p->problem = *problem;
    TRY(handle_of(ctx, &handle));
    TRY(describe(p));
    TRY(choose(p, handle));
    *out = p;
    p = NULL;
done:
    matmul_lt_destroy(p);
    return st;
}

void matmul_lt_destroy(matmul_lt *p)
{
    if (!p) return;
    if (p->operation) cublasLtMatmulDescDestroy(p->operation);
    if (p->a) cublasLtMatrixLayoutDestroy(p->a);
    if (p->b) cublasLtMatrixLayoutDestroy(p->b);
    if (p->d) cublasLtMatrixLayoutDestroy(p->d);
    adze_free(p);
}

size_t matmul_lt_workspace_bytes(const matmul_lt *p) { return p->workspace_bytes; }
adze_engine matmul_lt_engine(const matmul_lt *p) { return p->chosen; }
