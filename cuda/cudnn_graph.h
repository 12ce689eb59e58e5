/* cudnn_graph.h - cuDNN's graph descriptors in plain C: made, filled, finalised and destroyed with the status of each step. */
#ifndef ADZE_CUDA_CUDNN_GRAPH_H
#define ADZE_CUDA_CUDNN_GRAPH_H

#include <cudnn.h>
#include <stdbool.h>

#include "core/context.h"
#include "core/status.h"

/* Turns a cuDNN result into a status with the name of the call. */
adze_status adze_cudnn_check(cudnnStatus_t result, const char *what);

/* Whether the library refuses because it has nothing for this, and not because of a mistake. */
bool adze_cudnn_unsupported(cudnnStatus_t result);

enum { ADZE_CUDNN_MAX_DESCRIPTORS = 32 };

/* Descriptors that go together, destroyed together. The first failure sticks: later calls do nothing. */
typedef struct {
    cudnnBackendDescriptor_t d[ADZE_CUDNN_MAX_DESCRIPTORS];
    int n;
    cudnnStatus_t result;
    const char *what; /* the step that failed */
} cudnn_set;

/* A new descriptor of the set, not yet finalised; NULL after a failure. */
cudnnBackendDescriptor_t cudnn_set_add(cudnn_set *s, cudnnBackendDescriptorType_t type, const char *what);
void cudnn_set_attribute(cudnn_set *s, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                         int64_t count, const void *values);
void cudnn_set_finalize(cudnn_set *s, cudnnBackendDescriptor_t d);
void cudnn_set_destroy(cudnn_set *s);

typedef struct {
    int64_t uid;
    cudnnDataType_t type;
    int64_t dim[4], stride[4]; /* N, C, H, W */
    bool is_virtual;
} cudnn_tensor;

cudnnBackendDescriptor_t cudnn_set_tensor(cudnn_set *s, const cudnn_tensor *t);
/* Dimensions N, C, H, W with the strides of (N,H,W,C) memory. */
cudnn_tensor cudnn_tensor_nhwc(int64_t uid, cudnnDataType_t type, int64_t N, int64_t C, int64_t H, int64_t W);

/* Engines: notes are bit sets, bit i for note i. */
typedef struct {
    int64_t index;
    unsigned notes;
} cudnn_engine;
adze_status cudnn_engine_of(cudnnBackendDescriptor_t config, cudnn_engine *out);

/* Calls visit for the configurations of a mode, best first, until it returns false. A configuration is destroyed afterwards unless
 * visit takes it and leaves NULL. */
adze_status cudnn_configs(cudnnBackendDescriptor_t graph, cudnnBackendHeurMode_t mode,
                          bool (*visit)(void *state, cudnnBackendDescriptor_t *config), void *state);

#endif
