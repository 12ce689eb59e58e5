/* cusim_cudnn.c - cuDNN's graph interface for the emulator: descriptors, heuristics, execution. Entry: cudnnBackendExecute().
 *
 * What is checked as the real library does: which attributes a descriptor has, their types and counts, that descriptors are
 * finalised before they are used and not changed afterwards, that they are of the right kind, shapes and strides against each
 * other, unique numbers, alignment of pointers, the workspace. What no engine does gives an empty list or NOT_SUPPORTED:
 * padding that differs between the sides, layouts other than channels last, Swish behind a convolution.
 * While a stream is captured: no handle is made or destroyed (memory of the device, a wait), no plan finalised (kernels are loaded).
 *
 * Engines: a tensor-core one that rounds its inputs to TF32, or takes bfloat16 where channels come in eights, one with Winograd's notes, one that is not deterministic (gradients
 * of weights), one that cannot be captured, and two plain ones, the second with a workspace. Arithmetic: cusim_conv.c. */
#include <cudnn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cusim.h"
#include "cusim_conv.h"
#include "cusim_impl.h"

enum { MAX_VALUES = 16, MAX_ATTRIBUTES = 12, MAX_ENGINES = 7, MAGIC = 0x61647a65, WORKSPACE = 4096 };

struct cudnnContext {
    int open;
    cudaStream_t stream;
};

typedef union {
    int64_t i;
    double d;
    const void *p;
} value;

typedef struct {
    cudnnBackendAttributeName_t name;
    int64_t count;
    value value[MAX_VALUES];
} attribute;

typedef struct {
    int magic;
    cudnnBackendDescriptorType_t type;
    bool final;
    int n_attributes;
    attribute attribute[MAX_ATTRIBUTES];
    int engine;        /* engine, configuration and plan */
    const void *graph; /* engine, configuration, plan: their operation graph */
} descriptor;

/* ---- which attributes there are ---- */

enum { REQUIRED = 1, READ_ONLY = 2 };
typedef struct {
    cudnnBackendDescriptorType_t of;
    cudnnBackendAttributeName_t name;
    cudnnBackendAttributeType_t type;
    int64_t least, most;
    int flags;
    int refers_to; /* kind of descriptor, -1: any operation */
} rule;

#define CONV_RULES(of, x, w, y, conv, alpha, beta)                                                              \
    { of, x, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1, REQUIRED, CUDNN_BACKEND_TENSOR_DESCRIPTOR },                  \
    { of, w, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1, REQUIRED, CUDNN_BACKEND_TENSOR_DESCRIPTOR },                  \
    { of, y, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1, REQUIRED, CUDNN_BACKEND_TENSOR_DESCRIPTOR },                  \
    { of, conv, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1, REQUIRED, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR },          \
    { of, alpha, CUDNN_TYPE_FLOAT, 1, 1, REQUIRED, 0 }, { of, beta, CUDNN_TYPE_FLOAT, 1, 1, REQUIRED, 0 }

static const rule rules[] = {
    { CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, 1, REQUIRED, 0 },
    { CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 3, 8, REQUIRED, 0 },
    { CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 3, 8, REQUIRED, 0 },
    { CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, 1, REQUIRED, 0 },
    { CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, 1, REQUIRED, 0 },
    { CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, 1, 0, 0 },
    { CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, 1, REQUIRED, 0 },
    { CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, 1, REQUIRED, 0 },
    { CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, 1, REQUIRED, 0 },
    { CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 1, 6, REQUIRED, 0 },
    { CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 1, 6, REQUIRED, 0 },
    { CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 1, 6, REQUIRED, 0 },
    { CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 1, 6, REQUIRED, 0 },
    CONV_RULES(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
               CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
               CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
               CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA),
    CONV_RULES(CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
               CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
               CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
               CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA),
    CONV_RULES(CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
               CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
               CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
               CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA),
    { CUDNN_BACKEND_POINTWISE_DESCRIPTOR, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, 1, REQUIRED, 0 },
    { CUDNN_BACKEND_POINTWISE_DESCRIPTOR, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, 1, REQUIRED, 0 },
    { CUDNN_BACKEND_POINTWISE_DESCRIPTOR, CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP, CUDNN_TYPE_DOUBLE, 1, 1, 0, 0 },
    { CUDNN_BACKEND_POINTWISE_DESCRIPTOR, CUDNN_ATTR_POINTWISE_RELU_UPPER_CLIP, CUDNN_TYPE_DOUBLE, 1, 1, 0, 0 },
    { CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1,
      REQUIRED, CUDNN_BACKEND_POINTWISE_DESCRIPTOR },
    { CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1, REQUIRED,
      CUDNN_BACKEND_TENSOR_DESCRIPTOR },
    { CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1, 0,
      CUDNN_BACKEND_TENSOR_DESCRIPTOR },
    { CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1, REQUIRED,
      CUDNN_BACKEND_TENSOR_DESCRIPTOR },
    { CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, 1, REQUIRED, 0 },
    { CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, MAX_VALUES, REQUIRED, -1 },
    { CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1, REQUIRED,
      CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR },
    { CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, 1, REQUIRED, 0 },
    { CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1024, READ_ONLY,
      CUDNN_BACKEND_ENGINECFG_DESCRIPTOR },
    { CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1, READ_ONLY,
      CUDNN_BACKEND_ENGINE_DESCRIPTOR },
    { CUDNN_BACKEND_ENGINE_DESCRIPTOR, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, 1, READ_ONLY, 0 },
    { CUDNN_BACKEND_ENGINE_DESCRIPTOR, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, 1, CUDNN_NUMERICAL_NOTE_TYPE_COUNT,
      READ_ONLY, 0 },
    { CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, 1, REQUIRED, 0 },
    { CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1, REQUIRED,
      CUDNN_BACKEND_ENGINECFG_DESCRIPTOR },
    { CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, 1, READ_ONLY, 0 },
    { CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, 1, MAX_VALUES, REQUIRED, 0 },
    { CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, 1, MAX_VALUES, REQUIRED, 0 },
    { CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, 1, REQUIRED, 0 },
};

static const rule *find_rule(const descriptor *d, cudnnBackendAttributeName_t name)
{
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (rules[i].of == d->type && rules[i].name == name) return &rules[i];
    return NULL;
}

static bool is_operation(const descriptor *d)
{
    return d->type >= CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR && d->type <= CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR;
}

static size_t size_of(cudnnBackendAttributeType_t type)
{
    switch (type) {
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR: return sizeof(void *);
    case CUDNN_TYPE_INT64: return sizeof(int64_t);
    case CUDNN_TYPE_DOUBLE: return sizeof(double);
    case CUDNN_TYPE_FLOAT: return sizeof(float);
    case CUDNN_TYPE_BOOLEAN: return sizeof(bool);
    default: return sizeof(int);
    }
}

static value load(cudnnBackendAttributeType_t type, const void *from)
{
    value v = { .i = 0 };
    float f;
    int e;
    bool b;
    switch (type) {
    case CUDNN_TYPE_FLOAT: memcpy(&f, from, sizeof f); v.d = f; break;
    case CUDNN_TYPE_BOOLEAN: memcpy(&b, from, sizeof b); v.i = b; break;
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_DOUBLE: memcpy(&v, from, size_of(type)); break;
    default: memcpy(&e, from, sizeof e); v.i = e;
    }
    return v;
}

static const attribute *find(const descriptor *d, cudnnBackendAttributeName_t name)
{
    for (int i = 0; i < d->n_attributes; i++)
        if (d->attribute[i].name == name) return &d->attribute[i];
    return NULL;
}

static int64_t int_of(const descriptor *d, cudnnBackendAttributeName_t name, int i)
{
    const attribute *a = find(d, name);
    return a && i < a->count ? a->value[i].i : 0;
}

static const descriptor *ref_of(const descriptor *d, cudnnBackendAttributeName_t name)
{
    const attribute *a = find(d, name);
    return a ? a->value[0].p : NULL;
}

/* ---- handles and descriptors ---- */

size_t cudnnGetVersion(void) { return CUDNN_VERSION; }

const char *cudnnGetErrorString(cudnnStatus_t status)
{
    switch ((int)status / 1000) {
    case 0: return "success";
    case 1: return "not initialised";
    case 2: return status == CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED ? "bad parameter: not finalised" : "bad parameter";
    case 3: return "not supported";
    case 4: return "internal error";
    default: return "execution failed";
    }
}

cudnnStatus_t cudnnCreate(cudnnHandle_t *handle)
{
    *handle = NULL;
    if (cusim_refuse_in_capture("cudnnCreate") != cudaSuccess) return CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED;
    *handle = calloc(1, sizeof **handle);
    if (!*handle) return CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED;
    (*handle)->open = MAGIC;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t handle)
{
    if (!handle || handle->open != MAGIC) return CUDNN_STATUS_NOT_INITIALIZED;
    if (cusim_refuse_in_capture("cudnnDestroy") != cudaSuccess) return CUDNN_STATUS_INTERNAL_ERROR; /* it waits for the device */
    free(handle);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream)
{
    if (!handle || handle->open != MAGIC) return CUDNN_STATUS_NOT_INITIALIZED;
    handle->stream = stream;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *out)
{
    bool known = false;
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) known |= rules[i].of == type;
    if (!known || !out) return CUDNN_STATUS_NOT_SUPPORTED;
    descriptor *d = calloc(1, sizeof *d);
    if (!d) return CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED;
    d->magic = MAGIC, d->type = type;
    *out = d;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t p)
{
    descriptor *d = p;
    if (!d || d->magic != MAGIC) return CUDNN_STATUS_BAD_PARAM;
    d->magic = 0;
    free(d);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t p, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                                       int64_t count, const void *values)
{
    descriptor *d = p;
    if (!d || d->magic != MAGIC || !values) return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
    if (d->final) return CUDNN_STATUS_NOT_INITIALIZED; /* as documented: a finalised descriptor cannot be changed */
    const rule *r = find_rule(d, name);
    if (!r || (r->flags & READ_ONLY)) return CUDNN_STATUS_NOT_SUPPORTED;
    bool scale = r->type == CUDNN_TYPE_FLOAT && type == CUDNN_TYPE_DOUBLE;
    if (type != r->type && !scale) return CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE;
    if (count < r->least || count > r->most) return CUDNN_STATUS_BAD_PARAM_OUT_OF_BOUND;
    attribute *a = (attribute *)find(d, name);
    if (!a) a = &d->attribute[d->n_attributes++];
    a->name = name, a->count = count;
    for (int64_t i = 0; i < count; i++) {
        a->value[i] = load(type, (const char *)values + (size_t)i * size_of(type));
        if (type != CUDNN_TYPE_BACKEND_DESCRIPTOR) continue;
        const descriptor *other = a->value[i].p;
        if (!other || other->magic != MAGIC) return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
        if (!other->final) return CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED;
        if (r->refers_to < 0 ? !is_operation(other) : (int)other->type != r->refers_to) return CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE;
    }
    return CUDNN_STATUS_SUCCESS;
}

/* ---- finalising ---- */

static int64_t dim(const descriptor *tensor, int i) { return int_of(tensor, CUDNN_ATTR_TENSOR_DIMENSIONS, i); }

static cudnnStatus_t final_tensor(const descriptor *d)
{
    const attribute *n = find(d, CUDNN_ATTR_TENSOR_DIMENSIONS), *s = find(d, CUDNN_ATTR_TENSOR_STRIDES);
    int64_t alignment = int_of(d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, 0);
    if (n->count != s->count) return CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH;
    if (alignment < 4 || (alignment & (alignment - 1)) != 0) return CUDNN_STATUS_BAD_PARAM;
    for (int64_t i = 0; i < n->count; i++)
        if (n->value[i].i < 1 || s->value[i].i < 1) return CUDNN_STATUS_BAD_PARAM_OUT_OF_BOUND;
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t final_convolution(const descriptor *d)
{
    static const cudnnBackendAttributeName_t per_dim[] = { CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS,
                                                           CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_ATTR_CONVOLUTION_DILATIONS };
    int64_t dims = int_of(d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, 0);
    for (size_t i = 0; i < 4; i++) {
        const attribute *a = find(d, per_dim[i]);
        if (a->count != dims) return CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH;
        for (int64_t k = 0; k < dims; k++)
            if (a->value[k].i < (i < 2 ? 0 : 1)) return CUDNN_STATUS_BAD_PARAM_OUT_OF_BOUND;
    }
    return dims == 2 ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_NOT_SUPPORTED;
}

/* The parts of a convolution's operation. */
typedef struct {
    const descriptor *x, *w, *y, *conv;
    double alpha, beta;
    cusim_conv_direction direction;
} conv_parts;

static double real_of(const descriptor *d, cudnnBackendAttributeName_t name) { return find(d, name)->value[0].d; }

static conv_parts parts_of(const descriptor *d)
{
    switch (d->type) {
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
        return (conv_parts){ ref_of(d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X), ref_of(d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W),
                             ref_of(d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y), ref_of(d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC),
                             real_of(d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA),
                             real_of(d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA), CUSIM_CONV_FORWARD };
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
        return (conv_parts){ ref_of(d, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX), ref_of(d, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W),
                             ref_of(d, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY), ref_of(d, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC),
                             real_of(d, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA),
                             real_of(d, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA), CUSIM_CONV_DATA };
    default:
        return (conv_parts){ ref_of(d, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X), ref_of(d, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW),
                             ref_of(d, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY), ref_of(d, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC),
                             real_of(d, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA),
                             real_of(d, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA), CUSIM_CONV_WEIGHTS };
    }
}

static cudnnStatus_t final_operation(const descriptor *d)
{
    const conv_parts p = parts_of(d);
    int64_t C = dim(p.x, 1), Cg = dim(p.w, 1), Co = dim(p.w, 0);
    if (dim(p.x, 0) != dim(p.y, 0) || C % Cg != 0 || Co % (C / Cg) != 0 || dim(p.y, 1) != Co) return CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH;
    for (int i = 0; i < 2; i++) {
        int64_t span = int_of(p.conv, CUDNN_ATTR_CONVOLUTION_DILATIONS, i) * (dim(p.w, 2 + i) - 1) + 1;
        int64_t room = dim(p.x, 2 + i) + int_of(p.conv, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, i) +
                       int_of(p.conv, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, i) - span;
        if (room < 0 || room / int_of(p.conv, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, i) + 1 != dim(p.y, 2 + i))
            return CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH;
    }
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t final_pointwise(const descriptor *d)
{
    const descriptor *f = ref_of(d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR), *x = ref_of(d, CUDNN_ATTR_OPERATION_POINTWISE_XDESC);
    const descriptor *b = ref_of(d, CUDNN_ATTR_OPERATION_POINTWISE_BDESC), *y = ref_of(d, CUDNN_ATTR_OPERATION_POINTWISE_YDESC);
    bool two = int_of(f, CUDNN_ATTR_POINTWISE_MODE, 0) == CUDNN_POINTWISE_ADD;
    if (two != (b != NULL)) return CUDNN_STATUS_BAD_PARAM;
    for (int i = 0; i < 4; i++) {
        if (dim(x, i) != dim(y, i)) return CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH;
        if (b && dim(b, i) != 1 && dim(b, i) != dim(y, i)) return CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH;
    }
    return CUDNN_STATUS_SUCCESS;
}

static bool is_virtual(const descriptor *tensor) { return int_of(tensor, CUDNN_ATTR_TENSOR_IS_VIRTUAL, 0) != 0; }
static int64_t uid_of(const descriptor *tensor) { return int_of(tensor, CUDNN_ATTR_TENSOR_UNIQUE_ID, 0); }

/* Tensors of the graph and the operands of its chain: convolution, then pointwise operations, each fed by the one before. */
typedef struct {
    conv_parts conv;
    int n_steps;
    const descriptor *step[4], *last; /* last: the tensor that is written */
    const descriptor *tensor[MAX_VALUES];
    int n_tensors;
} chain;

static bool add_tensor(chain *c, const descriptor *t)
{
    for (int i = 0; i < c->n_tensors; i++)
        if (uid_of(c->tensor[i]) == uid_of(t)) return c->tensor[i] == t;
    c->tensor[c->n_tensors++] = t;
    return true;
}

static cudnnStatus_t read_chain(const descriptor *graph, chain *c)
{
    const attribute *ops = find(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS);
    const descriptor *first = ops->value[0].p;
    memset(c, 0, sizeof *c);
    if (first->type == CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR || ops->count > 5) return CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN;
    c->conv = parts_of(first);
    bool unique = add_tensor(c, c->conv.x) && add_tensor(c, c->conv.w) && add_tensor(c, c->conv.y);
    c->last = c->conv.direction == CUSIM_CONV_FORWARD ? c->conv.y : c->conv.direction == CUSIM_CONV_DATA ? c->conv.x : c->conv.w;
    for (int64_t i = 1; i < ops->count; i++) {
        const descriptor *d = ops->value[i].p, *b = ref_of(d, CUDNN_ATTR_OPERATION_POINTWISE_BDESC);
        if (d->type != CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR || ref_of(d, CUDNN_ATTR_OPERATION_POINTWISE_XDESC) != c->last ||
            !is_virtual(c->last) || (b && is_virtual(b)) ||
            int_of(ref_of(d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR), CUDNN_ATTR_POINTWISE_MODE, 0) == CUDNN_POINTWISE_SWISH_FWD)
            return CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN;
        if (b) unique = add_tensor(c, b) && unique;
        c->step[c->n_steps++] = d;
        c->last = ref_of(d, CUDNN_ATTR_OPERATION_POINTWISE_YDESC);
        unique = add_tensor(c, c->last) && unique;
    }
    if (!unique) return CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES;
    return is_virtual(c->last) ? CUDNN_STATUS_BAD_PARAM : CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t final_pack(const descriptor *d)
{
    const attribute *ids = find(d, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS), *p = find(d, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    if (ids->count != p->count) return CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH;
    for (int64_t i = 0; i < ids->count; i++)
        for (int64_t k = 0; k < i; k++)
            if (ids->value[i].i == ids->value[k].i) return CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t p)
{
    descriptor *d = p;
    chain c;
    cudnnStatus_t st = CUDNN_STATUS_SUCCESS;
    if (!d || d->magic != MAGIC) return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
    if (d->final) return CUDNN_STATUS_BAD_PARAM;
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (rules[i].of == d->type && (rules[i].flags & REQUIRED) && !find(d, rules[i].name)) return CUDNN_STATUS_BAD_PARAM;
    switch (d->type) {
    case CUDNN_BACKEND_TENSOR_DESCRIPTOR: st = final_tensor(d); break;
    case CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR: st = final_convolution(d); break;
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR: st = final_operation(d); break;
    case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR: st = final_pointwise(d); break;
    case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR: st = read_chain(d, &c); break;
    case CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR: st = final_pack(d); break;
    case CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR:
        if (int_of(d, CUDNN_ATTR_ENGINEHEUR_MODE, 0) < CUDNN_HEUR_MODE_INSTANT || int_of(d, CUDNN_ATTR_ENGINEHEUR_MODE, 0) > CUDNN_HEUR_MODE_A)
            st = CUDNN_STATUS_BAD_PARAM;
        break;
    case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR:
        if (cusim_refuse_in_capture("finalising an execution plan") != cudaSuccess) return CUDNN_STATUS_INTERNAL_ERROR;
        d->graph = ref_of(d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)->graph;
        d->engine = ref_of(d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)->engine;
        break;
    default: break;
    }
    d->final = st == CUDNN_STATUS_SUCCESS;
    return st;
}

/* ---- engines ---- */

static const struct {
    int64_t index, workspace_bytes;
    unsigned notes; /* bits */
    bool weights_only, narrow; /* narrow: kernels of 3x3 with stride 1 */
    bool waits; /* for the device while it runs, so that it cannot be captured */
} engines[MAX_ENGINES] = {
    { 7, 0, 0, false, false, true },
    { 58, 0, 1u << CUDNN_NUMERICAL_NOTE_TENSOR_CORE | 1u << CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS, false, false, false },
    { 4, WORKSPACE, 1u << CUDNN_NUMERICAL_NOTE_WINOGRAD | 1u << CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_4x4, false, true, false },
    { 3, 0, 1u << CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC, true, false, false },
    { 1, WORKSPACE, 0, false, false, false },
    { 0, 0, 0, false, false, false },
    { 9, (int64_t)1 << 40, 0, false, false, false }, /* wants more workspace than there is */
};

static bool channels_last(const descriptor *t)
{
    int64_t C = dim(t, 1), H = dim(t, 2), W = dim(t, 3);
    const int64_t want[4] = { H * W * C, 1, W * C, C };
    for (int i = 0; i < 4; i++)
        if (int_of(t, CUDNN_ATTR_TENSOR_STRIDES, i) != want[i] && dim(t, i) > 1) return false;
    return true;
}

static bool is_read(const chain *c, const descriptor *t)
{
    return (t == c->conv.x && c->conv.direction != CUSIM_CONV_DATA) || (t == c->conv.w && c->conv.direction != CUSIM_CONV_WEIGHTS) ||
           (t == c->conv.y && c->conv.direction != CUSIM_CONV_FORWARD);
}

/* Whether what is read is bfloat16; results are float32 all the same. */
static bool reads_bf16(const chain *c)
{
    const descriptor *one = c->conv.direction != CUSIM_CONV_DATA ? c->conv.x : c->conv.y;
    return int_of(one, CUDNN_ATTR_TENSOR_DATA_TYPE, 0) == CUDNN_DATA_BFLOAT16;
}

static bool engine_supports(int e, const chain *c)
{
    const bool bf16 = reads_bf16(c);
    for (int i = 0; i < c->n_tensors; i++) {
        const bool half = int_of(c->tensor[i], CUDNN_ATTR_TENSOR_DATA_TYPE, 0) == CUDNN_DATA_BFLOAT16;
        if (half != (bf16 && is_read(c, c->tensor[i])) || !channels_last(c->tensor[i])) return false;
        if (!half && int_of(c->tensor[i], CUDNN_ATTR_TENSOR_DATA_TYPE, 0) != CUDNN_DATA_FLOAT) return false;
    }
    if (bf16 && (!(engines[e].notes >> CUDNN_NUMERICAL_NOTE_TENSOR_CORE & 1u) || dim(c->conv.w, 0) % 8 != 0 || dim(c->conv.w, 1) % 8 != 0)) return false;
    for (int i = 0; i < 2; i++)
        if (int_of(c->conv.conv, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, i) != int_of(c->conv.conv, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, i))
            return false;
    if (c->conv.alpha != 1.0 || c->conv.beta != 0.0) return false;
    if (engines[e].weights_only && c->conv.direction != CUSIM_CONV_WEIGHTS) return false;
    return !engines[e].narrow || (dim(c->conv.w, 2) == 3 && dim(c->conv.w, 3) == 3 && int_of(c->conv.conv, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, 0) == 1);
}

static cudnnStatus_t get_results(const descriptor *heuristic, int64_t wanted, int64_t *count, void *values)
{
    const descriptor *graph = ref_of(heuristic, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
    int64_t mode = int_of(heuristic, CUDNN_ATTR_ENGINEHEUR_MODE, 0);
    chain c;
    cudnnStatus_t st = read_chain(graph, &c);
    *count = 0;
    for (int e = 0; e < MAX_ENGINES && st == CUDNN_STATUS_SUCCESS && *count < wanted; e++) {
        if (!engine_supports(e, &c) || (mode == CUDNN_HEUR_MODE_FALLBACK && engines[e].index != 0)) continue;
        descriptor *config = ((descriptor **)values)[*count];
        if (!config || config->magic != MAGIC || config->type != CUDNN_BACKEND_ENGINECFG_DESCRIPTOR) return CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE;
        config->engine = e, config->graph = graph, config->final = true;
        ++*count;
    }
    return st;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t p, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                                       int64_t wanted, int64_t *count, void *values)
{
    const descriptor *d = p;
    int64_t here = 0;
    if (!d || d->magic != MAGIC || !values) return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
    if (!d->final) return CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED;
    const rule *r = find_rule(d, name);
    if (!r || !(r->flags & READ_ONLY)) return CUDNN_STATUS_NOT_SUPPORTED;
    if (type != r->type) return CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE;
    if (wanted < 1) return CUDNN_STATUS_BAD_PARAM_OUT_OF_BOUND;
    if (!count) count = &here;
    *count = 1;
    descriptor *engine;
    switch (name) {
    case CUDNN_ATTR_ENGINEHEUR_RESULTS: return get_results(d, wanted, count, values);
    case CUDNN_ATTR_ENGINECFG_ENGINE:
        engine = *(descriptor **)values;
        if (!engine || engine->magic != MAGIC || engine->type != CUDNN_BACKEND_ENGINE_DESCRIPTOR) return CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE;
        engine->engine = d->engine, engine->graph = d->graph, engine->final = true;
        return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_ENGINE_GLOBAL_INDEX: *(int64_t *)values = engines[d->engine].index; return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE:
        *(int64_t *)values = engines[d->engine].workspace_bytes;
        return CUDNN_STATUS_SUCCESS;
    default: /* the notes */
        *count = 0;
        for (int i = 0; i < CUDNN_NUMERICAL_NOTE_TYPE_COUNT && *count < wanted; i++)
            if (engines[d->engine].notes >> i & 1u) ((cudnnBackendNumericalNote_t *)values)[(*count)++] = (cudnnBackendNumericalNote_t)i;
        return CUDNN_STATUS_SUCCESS;
    }
}

/* ---- execution ---- */

/* The pointer of a tensor, checked; NULL if it is missing or misaligned. */
static const void *pointer_of(const descriptor *pack, const descriptor *tensor)
{
    const attribute *ids = find(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS), *p = find(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    for (int64_t i = 0; i < ids->count; i++)
        if (ids->value[i].i == uid_of(tensor))
            return (uintptr_t)p->value[i].p % (uintptr_t)int_of(tensor, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, 0) == 0 ? p->value[i].p : NULL;
    return NULL;
}

static cusim_conv shape_of(const conv_parts *p)
{
    cusim_conv s = { .direction = p->direction, .N = dim(p->x, 0), .C = dim(p->x, 1), .H = dim(p->x, 2), .W = dim(p->x, 3), .Co = dim(p->w, 0),
                     .Cg = dim(p->w, 1), .Kh = dim(p->w, 2), .Kw = dim(p->w, 3), .Ho = dim(p->y, 2), .Wo = dim(p->y, 3) };
    for (int i = 0; i < 2; i++) {
        s.stride[i] = int_of(p->conv, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, i);
        s.dilation[i] = int_of(p->conv, CUDNN_ATTR_CONVOLUTION_DILATIONS, i);
        s.pad[i] = int_of(p->conv, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, i);
    }
    return s;
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan_pointer, cudnnBackendDescriptor_t pack_pointer)
{
    const descriptor *plan = plan_pointer, *pack = pack_pointer;
    chain c;
    if (!handle || handle->open != MAGIC) return CUDNN_STATUS_NOT_INITIALIZED;
    if (!plan || plan->magic != MAGIC || !pack || pack->magic != MAGIC) return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
    if (!plan->final || !pack->final) return CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED;
    if (plan->type != CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR || pack->type != CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)
        return CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE;
    cudnnStatus_t st = read_chain(plan->graph, &c);
    if (st != CUDNN_STATUS_SUCCESS) return st;
    const int engine = plan->engine;
    const void *workspace = ref_of(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
    if (engines[engine].workspace_bytes > 0 && (!workspace || (uintptr_t)workspace % 16 != 0)) return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
    int64_t real = 0;
    for (int i = 0; i < c.n_tensors; i++) {
        if (is_virtual(c.tensor[i])) continue;
        real++;
        if (!pointer_of(pack, c.tensor[i])) return CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER;
    }
    if (find(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS)->count != real) return CUDNN_STATUS_BAD_PARAM_OUT_OF_BOUND;
    if (engines[engine].waits && cusim_spoil_capture(handle->stream)) return CUDNN_STATUS_EXECUTION_FAILED;

    cusim_conv job = shape_of(&c.conv);
    job.bf16 = reads_bf16(&c);
    job.tf32 = engines[engine].notes >> CUDNN_NUMERICAL_NOTE_TENSOR_CORE & 1u;
    job.workspace = engines[engine].workspace_bytes > 0 ? (void *)workspace : NULL;
    job.workspace_bytes = (size_t)engines[engine].workspace_bytes;
    job.x = pointer_of(pack, c.conv.direction == CUSIM_CONV_DATA ? c.last : c.conv.x);
    job.w = pointer_of(pack, c.conv.w);
    job.y = pointer_of(pack, c.conv.direction == CUSIM_CONV_FORWARD ? c.last : c.conv.y);
    for (int i = 0; i < c.n_steps; i++) {
        const descriptor *f = ref_of(c.step[i], CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR), *b = ref_of(c.step[i], CUDNN_ATTR_OPERATION_POINTWISE_BDESC);
        if (b) {
            job.add[job.n_adds] = pointer_of(pack, b);
            job.add_per_channel[job.n_adds++] = dim(b, 0) * dim(b, 2) * dim(b, 3) == 1;
        } else {
            const attribute *upper = find(f, CUDNN_ATTR_POINTWISE_RELU_UPPER_CLIP);
            job.relu = true;
            job.upper_clip = upper ? (float)upper->value[0].d : 0.0f;
        }
    }
    return cusim_enqueue(handle->stream, "cudnnBackendExecute", cusim_conv_run, &job, sizeof job) == cudaSuccess ? CUDNN_STATUS_SUCCESS
                                                                                                                 : CUDNN_STATUS_EXECUTION_FAILED;
}
