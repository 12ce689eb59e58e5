/* test_cusim_libraries.c - what the emulated cuDNN and cuBLASLt refuse, because the real ones do: each row is one mistake in an
 * otherwise correct sequence of calls, which must end with this status, at the call in which the library can see it. Without a
 * mistake the sequence must run and give the right numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <cublasLt.h>
#include <cudnn.h>

#include "cusim.h"

/* The first status that is not success stays; later calls are made all the same only if they need nothing of the failed one. */
#define STEP(call) \
    do { \
        if (st == 0) st = (int)(call); \
    } while (0)

/* ---- cuBLASLt: d (4,4) = a (4,8) b (8,4) + bias ------------------------------------------------------------------------------ */

typedef enum {
    LT_NOTHING, LT_NO_HANDLE, LT_SCALE_TYPE, LT_SHORT_LD, LT_NO_ROWS, LT_INNER, LT_ATTRIBUTE_SIZE, LT_ATTRIBUTE_OF_NULL, LT_EPILOGUE, LT_NULL_LAYOUT,
    LT_BATCHES, LT_OVERLAP, LT_NULL_ALPHA, LT_NULL_A, LT_MISALIGNED_A, LT_MISALIGNED_D, LT_NO_BIAS, LT_MISALIGNED_BIAS, LT_WORKSPACE_SMALL,
    LT_WORKSPACE_NULL, LT_WORKSPACE_MISALIGNED, LT_ALGORITHM, LT_NOTHING_WANTED
} lt_mistake;

static const struct {
    lt_mistake mistake;
    cublasStatus_t status;
} lt_rows[] = {
    { LT_NOTHING, CUBLAS_STATUS_SUCCESS },
    { LT_NO_HANDLE, CUBLAS_STATUS_NOT_INITIALIZED },
    { LT_SCALE_TYPE, CUBLAS_STATUS_INVALID_VALUE },
    { LT_SHORT_LD, CUBLAS_STATUS_INVALID_VALUE },
    { LT_NO_ROWS, CUBLAS_STATUS_INVALID_VALUE },
    { LT_INNER, CUBLAS_STATUS_INVALID_VALUE },
    { LT_ATTRIBUTE_SIZE, CUBLAS_STATUS_INVALID_VALUE },
    { LT_ATTRIBUTE_OF_NULL, CUBLAS_STATUS_INVALID_VALUE },
    { LT_EPILOGUE, CUBLAS_STATUS_NOT_SUPPORTED },
    { LT_NULL_LAYOUT, CUBLAS_STATUS_INVALID_VALUE },
    { LT_BATCHES, CUBLAS_STATUS_INVALID_VALUE },
    { LT_OVERLAP, CUBLAS_STATUS_INVALID_VALUE },
    { LT_NULL_ALPHA, CUBLAS_STATUS_INVALID_VALUE },
    { LT_NULL_A, CUBLAS_STATUS_INVALID_VALUE },
    { LT_MISALIGNED_A, CUBLAS_STATUS_NOT_SUPPORTED },
    { LT_MISALIGNED_D, CUBLAS_STATUS_NOT_SUPPORTED },
    { LT_NO_BIAS, CUBLAS_STATUS_INVALID_VALUE },
    { LT_MISALIGNED_BIAS, CUBLAS_STATUS_INVALID_VALUE },
    { LT_WORKSPACE_SMALL, CUBLAS_STATUS_INVALID_VALUE },
    { LT_WORKSPACE_NULL, CUBLAS_STATUS_INVALID_VALUE },
    { LT_WORKSPACE_MISALIGNED, CUBLAS_STATUS_INVALID_VALUE },
    { LT_ALGORITHM, CUBLAS_STATUS_INVALID_VALUE },
    { LT_NOTHING_WANTED, CUBLAS_STATUS_INVALID_VALUE },
};

enum { MEMORY = 4096, WORKSPACE = 8192 };

/* Ones everywhere: d is 8 + 1. */
static float *ones_on_device(void)
{
    float x[MEMORY / sizeof(float)], *p;
    for (size_t i = 0; i < sizeof x / sizeof *x; i++) x[i] = 1.0f;
    assert_int_equal(cudaMalloc((void **)&p, sizeof x), cudaSuccess);
    assert_int_equal(cudaMemcpy(p, x, sizeof x, cudaMemcpyHostToDevice), cudaSuccess);
    return p;
}

static cublasStatus_t product(lt_mistake mistake, float *memory, char *workspace)
{
    int st = 0, found = 0, two = 2, one_batch = 1;
    cublasLtHandle_t handle = NULL;
    cublasLtMatmulDesc_t operation = NULL;
    cublasLtMatrixLayout_t a = NULL, b = NULL, d = NULL;
    cublasLtMatmulPreference_t preference = NULL;
    cublasLtMatmulHeuristicResult_t result[4];
    const uint64_t limit = WORKSPACE;
    const int64_t overlap = 4;
    const uint32_t alignment = 16;
    const float one = 1.0f, zero = 0.0f;
    const float *pa = memory, *pb = memory + 128, *bias = memory + 256;
    float *pd = memory + 512;
    cublasLtEpilogue_t epilogue = mistake == LT_EPILOGUE ? (cublasLtEpilogue_t)192 : CUBLASLT_EPILOGUE_BIAS; /* DGELU */
    STEP(cublasLtCreate(&handle));
    STEP(cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, mistake == LT_SCALE_TYPE ? CUDA_R_64F : CUDA_R_32F));
    STEP(cublasLtMatmulDescSetAttribute(mistake == LT_ATTRIBUTE_OF_NULL ? NULL : operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                                        mistake == LT_ATTRIBUTE_SIZE ? 8 : sizeof epilogue));
    if (mistake == LT_MISALIGNED_BIAS) bias++;
    if (mistake != LT_NO_BIAS) STEP(cublasLtMatmulDescSetAttribute(operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias));
    STEP(cublasLtMatrixLayoutCreate(&a, CUDA_R_32F, mistake == LT_NO_ROWS ? 0 : 4, 8, mistake == LT_SHORT_LD ? 3 : 4));
    STEP(cublasLtMatrixLayoutCreate(&b, CUDA_R_32F, mistake == LT_INNER ? 7 : 8, 4, 8));
    STEP(cublasLtMatrixLayoutCreate(&d, CUDA_R_32F, 4, 4, 4));
    if (mistake == LT_BATCHES) STEP(cublasLtMatrixLayoutSetAttribute(a, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &two, sizeof two));
    if (mistake == LT_OVERLAP) {
        cublasLtMatrixLayout_t each[] = { a, b, d };
        for (int i = 0; i < 3; i++) STEP(cublasLtMatrixLayoutSetAttribute(each[i], CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &two, sizeof two));
        STEP(cublasLtMatrixLayoutSetAttribute(d, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &overlap, sizeof overlap));
    } else STEP(cublasLtMatrixLayoutSetAttribute(b, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &one_batch, sizeof one_batch));
    STEP(cublasLtMatmulPreferenceCreate(&preference));
    STEP(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &limit, sizeof limit));
    for (int i = 0; i < 4; i++)
        STEP(cublasLtMatmulPreferenceSetAttribute(preference, (cublasLtMatmulPreferenceAttributes_t)(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES + i),
                                                  &alignment, sizeof alignment));
    STEP(cublasLtMatmulAlgoGetHeuristic(mistake == LT_NO_HANDLE ? NULL : handle, operation, mistake == LT_NULL_LAYOUT ? NULL : a, b, d, d, preference,
                                        mistake == LT_NOTHING_WANTED ? 0 : 4, result, &found));
    int which = 0; /* one that needs a workspace */
    while (st == 0 && which + 1 < found && result[which].workspaceSize == 0) which++;
    if (mistake == LT_ALGORITHM) memset(&result[which].algo, 0, sizeof result[which].algo);
    if (mistake == LT_MISALIGNED_A) pa++;
    if (mistake == LT_MISALIGNED_D) pd++;
    void *room = mistake == LT_WORKSPACE_NULL ? NULL : workspace + (mistake == LT_WORKSPACE_MISALIGNED ? 4 : 0);
    STEP(cublasLtMatmul(handle, operation, mistake == LT_NULL_ALPHA ? NULL : &one, mistake == LT_NULL_A ? NULL : pa, a, pb, b, &zero, pd, d, pd, d,
                        &result[which].algo, room, mistake == LT_WORKSPACE_SMALL ? 16 : WORKSPACE / 2, NULL));
    if (preference) cublasLtMatmulPreferenceDestroy(preference);
    if (d) cublasLtMatrixLayoutDestroy(d);
    if (b) cublasLtMatrixLayoutDestroy(b);
    if (a) cublasLtMatrixLayoutDestroy(a);
    if (operation) cublasLtMatmulDescDestroy(operation);
    if (handle) cublasLtDestroy(handle);
    return (cublasStatus_t)st;
}

static void products_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof lt_rows / sizeof *lt_rows; i++) {
        float *memory = ones_on_device(), d[16];
        char *workspace;
        assert_int_equal(cudaMalloc((void **)&workspace, WORKSPACE), cudaSuccess);
        cublasStatus_t st = product(lt_rows[i].mistake, memory, workspace);
        if (st != lt_rows[i].status) fail_msg("row %zu: status %d, want %d", i, (int)st, (int)lt_rows[i].status);
        assert_int_equal(cudaMemcpy(d, memory + 512, sizeof d, cudaMemcpyDeviceToHost), cudaSuccess);
        for (int k = 0; k < 16; k++) assert_true(d[k] == (st == CUBLAS_STATUS_SUCCESS ? 9.0f : 1.0f));
        cudaFree(memory), cudaFree(workspace);
    }
    assert_int_equal(cusim_error_count(), 0);
}

/* ---- cuDNN: y = relu(conv(x, w) + b), 4 channels, 3x3 on 5x5 ---------------------------------------------------------------- */

typedef enum {
    DNN_NOTHING, DNN_NO_HANDLE, DNN_STRIDES_COUNT, DNN_ALIGNMENT, DNN_ZERO_DIMENSION, DNN_ATTRIBUTE_TYPE, DNN_ATTRIBUTE_UNKNOWN, DNN_READ_ONLY,
    DNN_MISSING_ATTRIBUTE, DNN_NULL_VALUES, DNN_CHANGED_AFTERWARDS, DNN_FINALIZED_TWICE, DNN_TENSOR_NOT_FINAL, DNN_OTHER_KIND, DNN_NULL_TENSOR,
    DNN_PADDINGS_COUNT, DNN_NEGATIVE_PADDING, DNN_OUTPUT_SHAPE, DNN_ADD_ALONE, DNN_BIAS_SHAPE, DNN_SAME_ID, DNN_NOT_VIRTUAL, DNN_LAST_VIRTUAL,
    DNN_POINTWISE_FIRST, DNN_HEURISTIC_MODE, DNN_HEURISTIC_NOT_FINAL, DNN_RESULTS_TYPE, DNN_UNEVEN_PADDING, DNN_LAYOUT, DNN_TYPE, DNN_SWISH,
    DNN_MISALIGNED, DNN_MISSING_POINTER, DNN_SURPLUS_POINTER, DNN_SAME_POINTER_ID, DNN_POINTERS_COUNT, DNN_WORKSPACE_NULL, DNN_PACK_NOT_FINAL,
    DNN_PLAN_FOR_PACK
} dnn_mistake;

enum { NO_ENGINE = -1 }; /* an empty list of configurations */

static const struct {
    dnn_mistake mistake;
    int status;
} dnn_rows[] = {
    { DNN_NOTHING, CUDNN_STATUS_SUCCESS },
    { DNN_NO_HANDLE, CUDNN_STATUS_NOT_INITIALIZED },
    { DNN_STRIDES_COUNT, CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH },
    { DNN_ALIGNMENT, CUDNN_STATUS_BAD_PARAM },
    { DNN_ZERO_DIMENSION, CUDNN_STATUS_BAD_PARAM_OUT_OF_BOUND },
    { DNN_ATTRIBUTE_TYPE, CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE },
    { DNN_ATTRIBUTE_UNKNOWN, CUDNN_STATUS_NOT_SUPPORTED },
    { DNN_READ_ONLY, CUDNN_STATUS_NOT_SUPPORTED },
    { DNN_MISSING_ATTRIBUTE, CUDNN_STATUS_BAD_PARAM },
    { DNN_NULL_VALUES, CUDNN_STATUS_BAD_PARAM_NULL_POINTER },
    { DNN_CHANGED_AFTERWARDS, CUDNN_STATUS_NOT_INITIALIZED },
    { DNN_FINALIZED_TWICE, CUDNN_STATUS_BAD_PARAM },
    { DNN_TENSOR_NOT_FINAL, CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED },
    { DNN_OTHER_KIND, CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE },
    { DNN_NULL_TENSOR, CUDNN_STATUS_BAD_PARAM_NULL_POINTER },
    { DNN_PADDINGS_COUNT, CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH },
    { DNN_NEGATIVE_PADDING, CUDNN_STATUS_BAD_PARAM_OUT_OF_BOUND },
    { DNN_OUTPUT_SHAPE, CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH },
    { DNN_ADD_ALONE, CUDNN_STATUS_BAD_PARAM },
    { DNN_BIAS_SHAPE, CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH },
    { DNN_SAME_ID, CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES },
    { DNN_NOT_VIRTUAL, CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN },
    { DNN_LAST_VIRTUAL, CUDNN_STATUS_BAD_PARAM },
    { DNN_POINTWISE_FIRST, CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN },
    { DNN_HEURISTIC_MODE, CUDNN_STATUS_BAD_PARAM },
    { DNN_HEURISTIC_NOT_FINAL, CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED },
    { DNN_RESULTS_TYPE, CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE },
    { DNN_UNEVEN_PADDING, NO_ENGINE },
    { DNN_LAYOUT, NO_ENGINE },
    { DNN_TYPE, NO_ENGINE },
    { DNN_SWISH, CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN },
    { DNN_MISALIGNED, CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER },
    { DNN_MISSING_POINTER, CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER },
    { DNN_SURPLUS_POINTER, CUDNN_STATUS_BAD_PARAM_OUT_OF_BOUND },
    { DNN_SAME_POINTER_ID, CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES },
    { DNN_POINTERS_COUNT, CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH },
    { DNN_WORKSPACE_NULL, CUDNN_STATUS_BAD_PARAM_NULL_POINTER },
    { DNN_PACK_NOT_FINAL, CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED },
    { DNN_PLAN_FOR_PACK, CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE },
};

enum { X = 1, W, AFTER_CONV, BIAS, AFTER_BIAS, Y, N_TENSORS };
enum { MAX_MADE = 96, CONFIGS = 8, SIDE = 5, CHANNELS = 4 };

/* Everything that was made, the first failure, and the mistake to make. */
typedef struct {
    dnn_mistake mistake;
    int st, n;
    cudnnBackendDescriptor_t made[MAX_MADE];
} sequence;

static cudnnBackendDescriptor_t make(sequence *s, cudnnBackendDescriptorType_t type)
{
    int st = s->st;
    STEP(cudnnBackendCreateDescriptor(type, &s->made[s->n]));
    s->st = st;
    return st == 0 ? s->made[s->n++] : NULL;
}

static void set(sequence *s, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count, const void *values)
{
    if (s->st == 0) s->st = (int)cudnnBackendSetAttribute(d, name, type, count, values);
}

static void refer(sequence *s, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name, cudnnBackendDescriptor_t to)
{
    set(s, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &to);
}

static void finalize(sequence *s, cudnnBackendDescriptor_t d)
{
    if (s->st == 0) s->st = (int)cudnnBackendFinalize(d);
}

static cudnnBackendDescriptor_t tensor(sequence *s, int uid)
{
    const dnn_mistake m = s->mistake;
    int64_t C = CHANNELS, H = uid == W ? 3 : uid == BIAS ? (m == DNN_BIAS_SHAPE ? 2 : 1) : SIDE, N = uid == W ? CHANNELS : 1;
    int64_t id = m == DNN_SAME_ID && uid == W ? X : uid, alignment = m == DNN_ALIGNMENT && uid == X ? 12 : 16;
    int64_t dim[] = { N, C, H, H }, stride[] = { H * H * C, 1, H * C, C };
    bool is_virtual = uid == AFTER_CONV ? m != DNN_NOT_VIRTUAL : uid == AFTER_BIAS || (uid == Y && m == DNN_LAST_VIRTUAL);
    cudnnDataType_t type = m == DNN_TYPE && uid == X ? CUDNN_DATA_DOUBLE : CUDNN_DATA_FLOAT;
    if (m == DNN_ZERO_DIMENSION && uid == X) dim[1] = 0;
    if (m == DNN_OUTPUT_SHAPE && uid == AFTER_CONV) dim[2]++;
    if (m == DNN_LAYOUT && uid == X) stride[1] = H * H, stride[2] = H, stride[3] = 1;
    cudnnBackendDescriptor_t d = make(s, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    set(s, d, CUDNN_ATTR_TENSOR_DATA_TYPE, m == DNN_ATTRIBUTE_TYPE ? CUDNN_TYPE_INT64 : CUDNN_TYPE_DATA_TYPE, 1, &type);
    set(s, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, m == DNN_NULL_VALUES ? NULL : dim);
    set(s, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, m == DNN_STRIDES_COUNT ? 3 : 4, stride);
    if (m != DNN_MISSING_ATTRIBUTE) set(s, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &id);
    set(s, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    if (is_virtual) set(s, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual);
    if (m == DNN_ATTRIBUTE_UNKNOWN) set(s, d, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_INT64, 1, &id);
    if (m != DNN_TENSOR_NOT_FINAL) finalize(s, d);
    if (m == DNN_FINALIZED_TWICE) finalize(s, d);
    if (m == DNN_CHANGED_AFTERWARDS) set(s, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &id);
    return d;
}

static cudnnBackendDescriptor_t convolution(sequence *s, const cudnnBackendDescriptor_t *t)
{
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const dnn_mistake m = s->mistake;
    const int64_t dims = 2, ones[] = { 1, 1 }, before[] = { m == DNN_NEGATIVE_PADDING ? -1 : 1, m == DNN_UNEVEN_PADDING ? 2 : 1 },
                  after[] = { 1, m == DNN_UNEVEN_PADDING ? 0 : 1 };
    const float one = 1.0f, zero = 0.0f;
    cudnnBackendDescriptor_t c = make(s, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    set(s, c, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    set(s, c, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    set(s, c, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &dims);
    set(s, c, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, m == DNN_PADDINGS_COUNT ? 1 : 2, before);
    set(s, c, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, after);
    set(s, c, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, ones);
    set(s, c, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, ones);
    finalize(s, c);
    cudnnBackendDescriptor_t d = make(s, CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
    refer(s, d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, m == DNN_OTHER_KIND ? t[X] : c);
    refer(s, d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, m == DNN_NULL_TENSOR ? NULL : t[X]);
    refer(s, d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, t[W]);
    refer(s, d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, t[AFTER_CONV]);
    set(s, d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_FLOAT, 1, &one);
    set(s, d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_FLOAT, 1, &zero);
    finalize(s, d);
    return d;
}

static cudnnBackendDescriptor_t pointwise(sequence *s, cudnnPointwiseMode_t mode, cudnnBackendDescriptor_t x, cudnnBackendDescriptor_t b,
                                          cudnnBackendDescriptor_t y)
{
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    cudnnBackendDescriptor_t f = make(s, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    set(s, f, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    set(s, f, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    finalize(s, f);
    cudnnBackendDescriptor_t d = make(s, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    refer(s, d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, f);
    refer(s, d, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
    if (b && s->mistake != DNN_ADD_ALONE) refer(s, d, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b);
    refer(s, d, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    finalize(s, d);
    return d;
}

/* A configuration that needs a workspace; NULL if no engine supports the graph. */
static cudnnBackendDescriptor_t choose(sequence *s, cudnnHandle_t handle, cudnnBackendDescriptor_t graph, cudnnBackendDescriptor_t *plan)
{
    const cudnnBackendHeurMode_t mode = s->mistake == DNN_HEURISTIC_MODE ? (cudnnBackendHeurMode_t)7 : CUDNN_HEUR_MODE_A;
    cudnnBackendDescriptor_t heuristic = make(s, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR), config[CONFIGS];
    int64_t count = 0, got, n_bytes = 0;
    refer(s, heuristic, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    set(s, heuristic, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    if (s->mistake == DNN_READ_ONLY) refer(s, heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS, graph);
    if (s->mistake != DNN_HEURISTIC_NOT_FINAL) finalize(s, heuristic);
    for (int i = 0; i < CONFIGS; i++) config[i] = make(s, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    if (s->st == 0)
        s->st = (int)cudnnBackendGetAttribute(heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                              s->mistake == DNN_RESULTS_TYPE ? CUDNN_TYPE_INT64 : CUDNN_TYPE_BACKEND_DESCRIPTOR, CONFIGS, &count, config);
    if (s->st == 0 && count == 0) s->st = NO_ENGINE;
    for (int64_t i = 0; i < count && s->st == 0 && (n_bytes == 0 || n_bytes > WORKSPACE); i++) {
        *plan = make(s, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
        set(s, *plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
        refer(s, *plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config[i]);
        finalize(s, *plan);
        if (s->st == 0)
            s->st = (int)cudnnBackendGetAttribute(*plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &got, &n_bytes);
    }
    return *plan;
}

static void execute(sequence *s, cudnnHandle_t handle, cudnnBackendDescriptor_t plan, float *memory, char *workspace)
{
    const dnn_mistake m = s->mistake;
    int64_t uid[] = { X, W, BIAS, Y, 77 };
    void *pointer[] = { memory + (m == DNN_MISALIGNED), memory + 256, memory + 512, memory + 768, memory };
    void *room = m == DNN_WORKSPACE_NULL ? NULL : workspace;
    if (m == DNN_MISSING_POINTER) uid[2] = 77;
    if (m == DNN_SAME_POINTER_ID) uid[2] = X;
    const int64_t count = m == DNN_SURPLUS_POINTER ? 5 : 4;
    cudnnBackendDescriptor_t pack = make(s, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    set(s, pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, uid);
    set(s, pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, m == DNN_POINTERS_COUNT ? 3 : count, pointer);
    set(s, pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &room);
    if (m != DNN_PACK_NOT_FINAL) finalize(s, pack);
    if (s->st == 0) s->st = (int)cudnnBackendExecute(m == DNN_NO_HANDLE ? NULL : handle, plan, m == DNN_PLAN_FOR_PACK ? plan : pack);
}

static int run_sequence(dnn_mistake mistake, float *memory, char *workspace)
{
    sequence s = { .mistake = mistake };
    cudnnHandle_t handle;
    cudnnBackendDescriptor_t t[N_TENSORS] = { NULL }, op[3], plan = NULL;
    assert_int_equal(cudnnCreate(&handle), CUDNN_STATUS_SUCCESS);
    for (int uid = X; uid < N_TENSORS; uid++) t[uid] = tensor(&s, uid);
    op[0] = convolution(&s, t);
    op[1] = pointwise(&s, CUDNN_POINTWISE_ADD, t[AFTER_CONV], t[BIAS], t[AFTER_BIAS]);
    op[2] = pointwise(&s, mistake == DNN_SWISH ? CUDNN_POINTWISE_SWISH_FWD : CUDNN_POINTWISE_RELU_FWD, t[AFTER_BIAS], NULL, t[Y]);
    cudnnBackendDescriptor_t graph = make(&s, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    set(&s, graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
    const int first = mistake == DNN_POINTWISE_FIRST;
    set(&s, graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 3 - first, op + first);
    finalize(&s, graph);
    if (s.st == 0 && choose(&s, handle, graph, &plan)) execute(&s, handle, plan, memory, workspace);
    while (s.n > 0) cudnnBackendDestroyDescriptor(s.made[--s.n]);
    cudnnDestroy(handle);
    return s.st;
}

static void convolutions_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof dnn_rows / sizeof *dnn_rows; i++) {
        float *memory = ones_on_device(), y[SIDE * SIDE * CHANNELS];
        char *workspace;
        assert_int_equal(cudaMalloc((void **)&workspace, WORKSPACE), cudaSuccess);
        int st = run_sequence(dnn_rows[i].mistake, memory, workspace);
        if (st != dnn_rows[i].status) fail_msg("row %zu: status %d, want %d", i, st, dnn_rows[i].status);
        assert_int_equal(cudaMemcpy(y, memory + 768, sizeof y, cudaMemcpyDeviceToHost), cudaSuccess);
        for (int p = 0; p < SIDE * SIDE; p++) { /* 9 taps inside, 6 at a side, 4 in a corner, of 4 channels each, and the bias */
            int rows = p / SIDE % (SIDE - 1) == 0 ? 2 : 3, columns = p % SIDE % (SIDE - 1) == 0 ? 2 : 3;
            for (int c = 0; c < CHANNELS; c++) assert_true(y[p * CHANNELS + c] == (st == 0 ? (float)(rows * columns * CHANNELS + 1) : 1.0f));
        }
        cudaFree(memory), cudaFree(workspace);
    }
    assert_int_equal(cusim_error_count(), 0);
}

/* ---- while a stream is captured ------------------------------------------------------------------------------------------------ */

static cudaStream_t captured; /* in each case: begun before, ended behind */

static int dnn_create(void)
{
    cudnnHandle_t handle;
    return (int)cudnnCreate(&handle);
}

static int lt_create(void)
{
    cublasLtHandle_t handle;
    return (int)cublasLtCreate(&handle);
}

static cudnnHandle_t dnn_handle;
static cublasLtHandle_t lt_handle;
static int dnn_destroy(void) { return (int)cudnnDestroy(dnn_handle); }
static int lt_destroy(void) { return (int)cublasLtDestroy(lt_handle); }

/* A plan of the whole sequence up to its finalisation. */
static int dnn_plan(void)
{
    sequence s = { .mistake = DNN_NOTHING };
    cudnnBackendDescriptor_t t[N_TENSORS] = { NULL }, op[3], plan = NULL;
    for (int uid = X; uid < N_TENSORS; uid++) t[uid] = tensor(&s, uid);
    op[0] = convolution(&s, t);
    op[1] = pointwise(&s, CUDNN_POINTWISE_ADD, t[AFTER_CONV], t[BIAS], t[AFTER_BIAS]);
    op[2] = pointwise(&s, CUDNN_POINTWISE_RELU_FWD, t[AFTER_BIAS], NULL, t[Y]);
    cudnnBackendDescriptor_t graph = make(&s, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    set(&s, graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &dnn_handle);
    set(&s, graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 3, op);
    finalize(&s, graph);
    if (s.st == 0) choose(&s, dnn_handle, graph, &plan);
    while (s.n > 0) cudnnBackendDestroyDescriptor(s.made[--s.n]);
    return s.st;
}

static const struct {
    const char *name;
    int (*run)(void);
    int status;
} capture_rows[] = {
    { "cudnnCreate", dnn_create, CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED },
    { "cudnnDestroy", dnn_destroy, CUDNN_STATUS_INTERNAL_ERROR },
    { "finalising an execution plan", dnn_plan, CUDNN_STATUS_INTERNAL_ERROR },
    { "cublasLtCreate", lt_create, CUBLAS_STATUS_ALLOC_FAILED },
    { "cublasLtDestroy", lt_destroy, CUBLAS_STATUS_INTERNAL_ERROR },
};

static void captures_are_lost(void **state)
{
    (void)state;
    cudaGraph_t graph;
    assert_int_equal(cudnnCreate(&dnn_handle), CUDNN_STATUS_SUCCESS);
    assert_int_equal(cublasLtCreate(&lt_handle), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(dnn_plan(), CUDNN_STATUS_SUCCESS);
    assert_int_equal(cudaStreamCreateWithFlags(&captured, cudaStreamNonBlocking), cudaSuccess);
    for (size_t i = 0; i < sizeof capture_rows / sizeof *capture_rows; i++) {
        assert_int_equal(cudaStreamBeginCapture(captured, cudaStreamCaptureModeThreadLocal), cudaSuccess);
        assert_int_equal(capture_rows[i].run(), capture_rows[i].status);
        assert_int_equal(cudaStreamEndCapture(captured, &graph), cudaErrorStreamCaptureInvalidated);
        assert_non_null(strstr(cusim_first_error(), capture_rows[i].name));
        cusim_clear();
    }
    assert_int_equal(cudaStreamDestroy(captured), cudaSuccess);
    assert_int_equal(cublasLtDestroy(lt_handle), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(cudnnDestroy(dnn_handle), CUDNN_STATUS_SUCCESS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_refused),
        cmocka_unit_test(convolutions_are_refused),
        cmocka_unit_test(captures_are_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
