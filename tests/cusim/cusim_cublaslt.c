/* cusim_cublaslt.c - cuBLASLt for the emulator: the argument rules of the real library, products in plain C. Entry:
 * cublasLtMatmul(). Column-major, float32; every refusal is the status that the real library gives for that mistake. */
#include <cublasLt.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cusim.h"
#include "cusim_impl.h"

struct cublasLtContext {
    int open;
};

struct cusim_lt_operation {
    cublasComputeType_t compute;
    cublasOperation_t transpose_a, transpose_b;
    cublasLtEpilogue_t epilogue;
    const float *bias;
};

struct cusim_lt_layout {
    uint64_t rows, columns;
    int64_t ld, stride;
    int32_t batch;
};

struct cusim_lt_preference {
    size_t workspace_bytes;
    uint32_t alignment[4];
};

/* Algorithms: number, workspace, and the alignment that was promised for A, B, C and D. The second one needs more workspace than
 * it uses, as split-K does. */
enum { ALGORITHMS = 2, SPLIT_WORKSPACE = 4096, ALIGNMENT = 16, MAGIC = 0x61647a65 };
enum { ALGORITHM_MAGIC, ALGORITHM_NUMBER, ALGORITHM_ALIGNMENT };
static const size_t workspace_of[ALGORITHMS] = { 0, SPLIT_WORKSPACE };

size_t cublasLtGetVersion(void) { return 130100; }

const char *cublasLtGetStatusString(cublasStatus_t status)
{
    switch (status) {
    case CUBLAS_STATUS_SUCCESS: return "success";
    case CUBLAS_STATUS_NOT_INITIALIZED: return "not initialised";
    case CUBLAS_STATUS_ALLOC_FAILED: return "out of memory";
    case CUBLAS_STATUS_INVALID_VALUE: return "invalid value";
    case CUBLAS_STATUS_EXECUTION_FAILED: return "execution failed";
    case CUBLAS_STATUS_INTERNAL_ERROR: return "internal error";
    case CUBLAS_STATUS_NOT_SUPPORTED: return "not supported";
    }
    return "unknown";
}

static cublasStatus_t make(void **out, size_t n_bytes)
{
    *out = calloc(1, n_bytes);
    return *out ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_ALLOC_FAILED;
}

static cublasStatus_t drop(void *p)
{
    if (!p) return CUBLAS_STATUS_INVALID_VALUE;
    free(p);
    return CUBLAS_STATUS_SUCCESS;
}

/* Copies an attribute of exactly this size. */
static cublasStatus_t set(void *field, size_t field_bytes, const void *value, size_t n_bytes)
{
    if (!value || n_bytes != field_bytes) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(field, value, n_bytes);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    void *p;
    *handle = NULL;
    if (cusim_refuse_in_capture("cublasLtCreate") != cudaSuccess) return CUBLAS_STATUS_ALLOC_FAILED; /* of the device's resources */
    cublasStatus_t st = make(&p, sizeof **handle);
    *handle = p;
    if (*handle) (*handle)->open = MAGIC;
    return st;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    return cusim_refuse_in_capture("cublasLtDestroy") == cudaSuccess ? drop(handle) : CUBLAS_STATUS_INTERNAL_ERROR;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *operation, cublasComputeType_t compute, cudaDataType scale)
{
    void *p;
    if (scale != CUDA_R_32F) return CUBLAS_STATUS_INVALID_VALUE;
    cublasStatus_t st = make(&p, sizeof **operation);
    *operation = p;
    if (*operation) (*operation)->compute = compute, (*operation)->epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    return st;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation) { return drop(operation); }

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t o, cublasLtMatmulDescAttributes_t name, const void *value, size_t n_bytes)
{
    if (!o) return CUBLAS_STATUS_INVALID_VALUE;
    switch (name) {
    case CUBLASLT_MATMUL_DESC_TRANSA: return set(&o->transpose_a, sizeof o->transpose_a, value, n_bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB: return set(&o->transpose_b, sizeof o->transpose_b, value, n_bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return set(&o->epilogue, sizeof o->epilogue, value, n_bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return set(&o->bias, sizeof o->bias, value, n_bytes);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, cudaDataType type, uint64_t rows, uint64_t columns, int64_t ld)
{
    void *p;
    if (type != CUDA_R_32F || rows == 0 || columns == 0 || ld < (int64_t)rows) return CUBLAS_STATUS_INVALID_VALUE;
    cublasStatus_t st = make(&p, sizeof **layout);
    *layout = p;
    if (*layout) **layout = (struct cusim_lt_layout){ rows, columns, ld, 0, 1 };
    return st;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) { return drop(layout); }

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t l, cublasLtMatrixLayoutAttribute_t name, const void *value, size_t n_bytes)
{
    if (!l) return CUBLAS_STATUS_INVALID_VALUE;
    if (name == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT) return set(&l->batch, sizeof l->batch, value, n_bytes);
    if (name == CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET) return set(&l->stride, sizeof l->stride, value, n_bytes);
    return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference)
{
    void *p;
    cublasStatus_t st = make(&p, sizeof **preference);
    *preference = p;
    for (int i = 0; i < 4 && *preference; i++) (*preference)->alignment[i] = 256;
    return st;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) { return drop(preference); }

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p, cublasLtMatmulPreferenceAttributes_t name,
                                                    const void *value, size_t n_bytes)
{
    if (!p) return CUBLAS_STATUS_INVALID_VALUE;
    if (name == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) return set(&p->workspace_bytes, sizeof p->workspace_bytes, value, n_bytes);
    int which = (int)name - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES;
    return which < 0 || which > 3 ? CUBLAS_STATUS_INVALID_VALUE : set(&p->alignment[which], sizeof p->alignment[which], value, n_bytes);
}

/* Whether the shapes belong to one product. */
static cublasStatus_t check_shapes(const struct cusim_lt_operation *o, const struct cusim_lt_layout *a, const struct cusim_lt_layout *b,
                                   const struct cusim_lt_layout *c, const struct cusim_lt_layout *d)
{
    if (!o || !a || !b || !c || !d) return CUBLAS_STATUS_INVALID_VALUE;
    uint64_t m = o->transpose_a ? a->columns : a->rows, k = o->transpose_a ? a->rows : a->columns;
    uint64_t n = o->transpose_b ? b->rows : b->columns, kb = o->transpose_b ? b->columns : b->rows;
    if (k != kb || d->rows != m || d->columns != n || c->rows != m || c->columns != n) return CUBLAS_STATUS_INVALID_VALUE;
    if (a->batch != d->batch || b->batch != d->batch || c->batch != d->batch || d->batch < 1) return CUBLAS_STATUS_INVALID_VALUE;
    if (d->batch > 1 && d->stride < d->ld * (int64_t)(d->columns - 1) + (int64_t)d->rows) return CUBLAS_STATUS_INVALID_VALUE;
    switch (o->epilogue) {
    case CUBLASLT_EPILOGUE_DEFAULT:
    case CUBLASLT_EPILOGUE_BIAS: break;
    case CUBLASLT_EPILOGUE_RELU_BIAS:
        if (getenv("ADZE_CUSIM_NO_RELU")) return CUBLAS_STATUS_NOT_SUPPORTED;
        break;
    default: return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted, cublasLtMatmulHeuristicResult_t *results,
                                              int *count)
{
    if (!handle || handle->open != MAGIC) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (wanted < 1 || !results || !count || !preference) return CUBLAS_STATUS_INVALID_VALUE;
    cublasStatus_t st = check_shapes(operation, a, b, c, d);
    if (st != CUBLAS_STATUS_SUCCESS) return st;
    *count = 0;
    for (int i = 0; i < ALGORITHMS && *count < wanted; i++) {
        if (workspace_of[i] > preference->workspace_bytes) continue;
        results[*count] = (cublasLtMatmulHeuristicResult_t){ .algo = { { MAGIC, (uint64_t)i } }, .workspaceSize = workspace_of[i],
                                                             .state = CUBLAS_STATUS_SUCCESS, .wavesCount = 1.0f };
        for (int k = 0; k < 4; k++) results[*count].algo.data[ALGORITHM_ALIGNMENT + k] = preference->alignment[k];
        ++*count;
    }
    return *count > 0 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

typedef struct {
    struct cusim_lt_operation o;
    struct cusim_lt_layout a, b, d;
    const float *pa, *pb;
    float *pd;
    float alpha, beta;
    int algorithm;
} job;

/* What the tensor cores read of a float32: 10 bits of the fraction for TF32, 7 for bfloat16, to nearest. */
static float rounded(float x, cublasComputeType_t compute)
{
    uint32_t bits, drop = compute == CUBLAS_COMPUTE_32F_FAST_TF32 ? 13 : compute == CUBLAS_COMPUTE_32F_FAST_16BF ? 16 : 0;
    if (drop == 0 || !isfinite(x)) return x;
    memcpy(&bits, &x, sizeof bits);
    bits += (1u << (drop - 1)) - 1 + (bits >> drop & 1u);
    bits = bits >> drop << drop;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* A (or, with `transposed` turned round, B) read from the device, with the k elements of each sum together. */
static float *gather(const struct cusim_lt_layout *l, const float *from, bool transposed, cublasComputeType_t compute)
{
    size_t n = (size_t)l->ld * (l->columns - 1) + l->rows;
    float *raw = malloc(n * sizeof *raw), *out = malloc(l->rows * l->columns * sizeof *out);
    for (uint64_t j = 0; raw && out && j < l->columns; j++)
        if (!cusim_read(raw + (size_t)l->ld * j, from + (size_t)l->ld * j, l->rows * sizeof *raw)) memset(raw + (size_t)l->ld * j, 0, l->rows * sizeof *raw);
    uint64_t m = transposed ? l->columns : l->rows, k = transposed ? l->rows : l->columns;
    for (uint64_t i = 0; raw && out && i < m; i++)
        for (uint64_t p = 0; p < k; p++)
            out[i * k + p] = rounded(transposed ? raw[(size_t)l->ld * i + p] : raw[(size_t)l->ld * p + i], compute);
    free(raw);
    return out;
}

static void run_job(void *args)
{
    const job *q = args;
    const uint64_t m = q->d.rows, n = q->d.columns, k = q->o.transpose_a ? q->a.rows : q->a.columns;
    float *bias = q->o.epilogue != CUBLASLT_EPILOGUE_DEFAULT ? malloc(m * sizeof *bias) : NULL;
    if (bias && !cusim_read(bias, q->o.bias, m * sizeof *bias)) memset(bias, 0, m * sizeof *bias);
    for (int32_t p = 0; p < q->d.batch; p++) {
        float *a = gather(&q->a, q->pa + q->a.stride * p, q->o.transpose_a == CUBLAS_OP_T, q->o.compute);
        float *b = gather(&q->b, q->pb + q->b.stride * p, q->o.transpose_b != CUBLAS_OP_T, q->o.compute);
        float *column = malloc(m * sizeof *column);
        for (uint64_t j = 0; a && b && column && j < n; j++) {
            float *d = q->pd + q->d.stride * p + (size_t)q->d.ld * j;
            if (q->beta != 0.0f && !cusim_read(column, d, m * sizeof *column)) memset(column, 0, m * sizeof *column);
            for (uint64_t i = 0; i < m; i++) {
                double sum = 0.0;
                for (uint64_t t = 0; t < k; t++) sum += (double)a[i * k + t] * b[j * k + t];
                sum *= q->alpha;
                if (q->beta != 0.0f) sum += (double)q->beta * column[i];
                column[i] = (float)(sum + (bias ? bias[i] : 0.0f));
                if (q->o.epilogue == CUBLASLT_EPILOGUE_RELU_BIAS && !(column[i] > 0.0f)) column[i] = 0.0f;
            }
            cusim_write(d, column, m * sizeof *column);
        }
        free(a);
        free(b);
        free(column);
    }
    free(bias);
}

static bool aligned(const void *p, uint64_t to) { return (uintptr_t)p % to == 0; }

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *algorithm, cublasLtMatmulAlgoConfigAttributes_t name, void *value,
                                                    size_t n_bytes, size_t *written)
{
    if (!algorithm || !value || name != CUBLASLT_ALGO_CONFIG_ID || n_bytes != sizeof(int32_t)) return CUBLAS_STATUS_INVALID_VALUE;
    if (algorithm->data[ALGORITHM_MAGIC] != MAGIC) return CUBLAS_STATUS_INVALID_VALUE;
    *(int32_t *)value = (int32_t)algorithm->data[ALGORITHM_NUMBER];
    if (written) *written = n_bytes;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, const void *alpha, const void *a,
                              cublasLtMatrixLayout_t a_layout, const void *b, cublasLtMatrixLayout_t b_layout, const void *beta, const void *c,
                              cublasLtMatrixLayout_t c_layout, void *d, cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algorithm,
                              void *workspace, size_t workspace_bytes, cudaStream_t stream)
{
    if (!handle || handle->open != MAGIC) return CUBLAS_STATUS_NOT_INITIALIZED;
    cublasStatus_t st = check_shapes(operation, a_layout, b_layout, c_layout, d_layout);
    if (st != CUBLAS_STATUS_SUCCESS) return st;
    if (!alpha || !beta || !a || !b || !d || c != d) return CUBLAS_STATUS_INVALID_VALUE; /* out of place is not used */
    if (!algorithm || algorithm->data[ALGORITHM_MAGIC] != MAGIC || algorithm->data[ALGORITHM_NUMBER] >= ALGORITHMS) return CUBLAS_STATUS_INVALID_VALUE;
    const uint64_t number = algorithm->data[ALGORITHM_NUMBER], *promised = algorithm->data + ALGORITHM_ALIGNMENT;
    if (workspace_of[number] > workspace_bytes || (workspace_bytes > 0 && (!workspace || !aligned(workspace, ALIGNMENT))))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!aligned(a, promised[0]) || !aligned(b, promised[1]) || !aligned(c, promised[2]) || !aligned(d, promised[3]))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (operation->epilogue != CUBLASLT_EPILOGUE_DEFAULT && (!operation->bias || !aligned(operation->bias, ALIGNMENT)))
        return CUBLAS_STATUS_INVALID_VALUE;
    const job q = { *operation, *a_layout, *b_layout, *d_layout, a, b, d, *(const float *)alpha, *(const float *)beta,
                    (int)number };
    return cusim_enqueue(stream, "cublasLtMatmul", run_job, &q, sizeof q) == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}
