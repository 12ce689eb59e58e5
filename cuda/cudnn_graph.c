/* cudnn_graph.c - descriptors of cuDNN's graph interface. Entry: cudnn_set_add(), cudnn_configs(). */
#include "cuda/cudnn_graph.h"

#include <stdint.h>

enum { MAX_CONFIGS = 64 };

adze_status adze_cudnn_check(cudnnStatus_t result, const char *what)
{
    if (result == CUDNN_STATUS_SUCCESS) return ADZE_OK;
    bool memory = result == CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED || result == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED;
    return adze_fail(memory ? ADZE_ENOMEM : ADZE_EBACKEND, "cuDNN: %s: %s", what, cudnnGetErrorString(result));
}

bool adze_cudnn_unsupported(cudnnStatus_t result) { return result / 1000 == CUDNN_STATUS_NOT_SUPPORTED / 1000; }

static void note(cudnn_set *s, cudnnStatus_t result, const char *what)
{
    if (s->result != CUDNN_STATUS_SUCCESS || result == CUDNN_STATUS_SUCCESS) return;
    s->result = result;
    s->what = what;
}

cudnnBackendDescriptor_t cudnn_set_add(cudnn_set *s, cudnnBackendDescriptorType_t type, const char *what)
{
    if (s->result != CUDNN_STATUS_SUCCESS) return NULL;
    if (s->n == ADZE_CUDNN_MAX_DESCRIPTORS) {
        note(s, CUDNN_STATUS_INTERNAL_ERROR, what);
        return NULL;
    }
    cudnnStatus_t result = cudnnBackendCreateDescriptor(type, &s->d[s->n]);
    note(s, result, what);
    return result == CUDNN_STATUS_SUCCESS ? s->d[s->n++] : NULL;
}

void cudnn_set_attribute(cudnn_set *s, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                         int64_t count, const void *values)
{
    if (s->result == CUDNN_STATUS_SUCCESS) note(s, cudnnBackendSetAttribute(d, name, type, count, values), "an attribute");
}

void cudnn_set_finalize(cudnn_set *s, cudnnBackendDescriptor_t d)
{
    if (s->result == CUDNN_STATUS_SUCCESS) note(s, cudnnBackendFinalize(d), "a descriptor");
}

void cudnn_set_destroy(cudnn_set *s)
{
    while (s->n > 0) cudnnBackendDestroyDescriptor(s->d[--s->n]);
}

cudnn_tensor cudnn_tensor_nhwc(int64_t uid, cudnnDataType_t type, int64_t N, int64_t C, int64_t H, int64_t W)
{
    return (cudnn_tensor){ .uid = uid, .type = type, .dim = { N, C, H, W }, .stride = { H * W * C, 1, W * C, C } };
}

cudnnBackendDescriptor_t cudnn_set_tensor(cudnn_set *s, const cudnn_tensor *t)
{
    cudnnBackendDescriptor_t d = cudnn_set_add(s, CUDNN_BACKEND_TENSOR_DESCRIPTOR, "a tensor");
    int64_t alignment = 16;
    cudnn_set_attribute(s, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &t->type);
    cudnn_set_attribute(s, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, t->dim);
    cudnn_set_attribute(s, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, t->stride);
    cudnn_set_attribute(s, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &t->uid);
    cudnn_set_attribute(s, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    if (t->is_virtual) cudnn_set_attribute(s, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &t->is_virtual);
    cudnn_set_finalize(s, d);
    return d;
}

adze_status cudnn_engine_of(cudnnBackendDescriptor_t config, cudnn_engine *out)
{
    adze_status st = ADZE_OK;
    cudnnBackendNumericalNote_t note_list[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    cudnnBackendDescriptor_t engine = NULL;
    int64_t got = 0;
    *out = (cudnn_engine){ .index = -1 };
    TRY(adze_cudnn_check(cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine), "an engine"));
    TRY(adze_cudnn_check(cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &got, &engine),
                         "a configuration's engine"));
    TRY(adze_cudnn_check(cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &got, &out->index),
                         "an engine's number"));
    TRY(adze_cudnn_check(cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                                  CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &got, note_list),
                         "an engine's notes"));
    for (int64_t i = 0; i < got; i++) out->notes |= 1u << note_list[i];
done:
    if (engine) cudnnBackendDestroyDescriptor(engine);
    return st;
}

adze_status cudnn_configs(cudnnBackendDescriptor_t graph, cudnnBackendHeurMode_t mode,
                          bool (*visit)(void *state, cudnnBackendDescriptor_t *config), void *state)
{
    cudnn_set s = { .n = 0 };
    cudnnBackendDescriptor_t config[MAX_CONFIGS] = { NULL };
    int64_t count = 0;
    cudnnBackendDescriptor_t heuristic = cudnn_set_add(&s, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, "heuristics");
    cudnn_set_attribute(&s, heuristic, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &graph);
    cudnn_set_attribute(&s, heuristic, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    cudnn_set_finalize(&s, heuristic);
    cudnnStatus_t result = s.result;
    int made = 0;
    while (result == CUDNN_STATUS_SUCCESS && made < MAX_CONFIGS) {
        result = cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &config[made]);
        made += result == CUDNN_STATUS_SUCCESS;
    }
    if (result == CUDNN_STATUS_SUCCESS)
        result = cudnnBackendGetAttribute(heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, MAX_CONFIGS, &count, config);
    for (int64_t i = 0; i < count && result == CUDNN_STATUS_SUCCESS; i++)
        if (!visit(state, &config[i])) break;
    while (made-- > 0)
        if (config[made]) cudnnBackendDestroyDescriptor(config[made]);
    cudnn_set_destroy(&s);
    /* A graph that no engine supports is an empty list. */
    return adze_cudnn_unsupported(result) ? ADZE_OK : adze_cudnn_check(result, "heuristics");
}
