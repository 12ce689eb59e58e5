/* cusim_runtime.c - the runtime's calls: devices, memory, streams, events, launches. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cusim_impl.h"

struct CUstream_st { unsigned flags; };
struct CUevent_st { struct timespec when; };

static cudaError_t last_error;
static size_t used_bytes;
static const size_t device_bytes = (size_t)8 << 30;

static cudaError_t fail(cudaError_t e) { return last_error = e; }

cudaError_t cudaGetLastError(void)
{
    cudaError_t e = last_error;
    last_error = cudaSuccess;
    return e;
}

cudaError_t cudaPeekAtLastError(void) { return last_error; }

static const struct { cudaError_t code; const char *name, *text; } errors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorAssert, "cudaErrorAssert", "a check of the emulator failed"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported", "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated", "operation failed due to a previous error during capture"},
};

const char *cudaGetErrorName(cudaError_t e)
{
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i].code == e) return errors[i].name;
    return "cudaErrorUnknown";
}

const char *cudaGetErrorString(cudaError_t e)
{
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i].code == e) return errors[i].text;
    return "unknown error";
}

/* --- device --- */

cudaError_t cudaDriverGetVersion(int *version) { *version = CUDART_VERSION; return cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int *version) { *version = CUDART_VERSION; return cudaSuccess; }
cudaError_t cudaGetDeviceCount(int *count) { *count = 1; return cudaSuccess; }
cudaError_t cudaGetDevice(int *device) { *device = 0; return cudaSuccess; }
cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : fail(cudaErrorInvalidDevice); }
cudaError_t cudaDeviceReset(void) { return cudaSuccess; }
cudaError_t cudaDeviceSynchronize(void) { return last_error; }

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device)
{
    if (device != 0) return fail(cudaErrorInvalidDevice);
    *p = (struct cudaDeviceProp){
        .name = "adze emulated device", .uuid = {{'c', 'u', 's', 'i', 'm'}}, .totalGlobalMem = device_bytes,
        .sharedMemPerBlock = CUSIM_STATIC_SHARED, .regsPerBlock = 65536, .warpSize = CUSIM_WARP,
        .maxThreadsPerBlock = CUSIM_MAX_THREADS, .maxThreadsDim = {1024, 1024, 64}, .maxGridSize = {2147483647, 65535, 65535},
        .totalConstMem = 65536, .major = 8, .minor = 9, .multiProcessorCount = 4, .concurrentKernels = 1, .asyncEngineCount = 2,
        .unifiedAddressing = 1, .memoryBusWidth = 128, .l2CacheSize = 4 << 20, .maxThreadsPerMultiProcessor = 1536,
        .sharedMemPerMultiprocessor = 100 * 1024, .regsPerMultiprocessor = 65536, .sharedMemPerBlockOptin = CUSIM_MAX_SHARED,
        .reservedSharedMemPerBlock = 1024, .maxBlocksPerMultiProcessor = 24};
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device)
{
    struct cudaDeviceProp p;
    cudaError_t e = cudaGetDeviceProperties(&p, device);
    if (e != cudaSuccess) return e;
    switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock: *value = p.maxThreadsPerBlock; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = (int)p.sharedMemPerBlock; break;
    case cudaDevAttrWarpSize: *value = p.warpSize; break;
    case cudaDevAttrClockRate: *value = 1000000; break;
    case cudaDevAttrMultiProcessorCount: *value = p.multiProcessorCount; break;
    case cudaDevAttrMemoryClockRate: *value = 1000000; break;
    case cudaDevAttrGlobalMemoryBusWidth: *value = p.memoryBusWidth; break;
    case cudaDevAttrL2CacheSize: *value = p.l2CacheSize; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *value = p.maxThreadsPerMultiProcessor; break;
    case cudaDevAttrComputeCapabilityMajor: *value = p.major; break;
    case cudaDevAttrComputeCapabilityMinor: *value = p.minor; break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = (int)p.sharedMemPerMultiprocessor; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = (int)p.sharedMemPerBlockOptin; break;
    case cudaDevAttrMemoryPoolsSupported: *value = 1; break;
    default: return fail(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *id, int length, int device)
{
    if (device != 0 || length < 13) return fail(cudaErrorInvalidValue);
    memcpy(id, "0000:00:00.0", 13);
    return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

/* --- memory --- */

typedef struct { size_t n_bytes; char pad[248]; } header;

cudaError_t cudaMalloc(void **p, size_t n_bytes)
{
    *p = NULL;
    if (n_bytes == 0) return cudaSuccess;
    if (n_bytes > device_bytes - used_bytes) return fail(cudaErrorMemoryAllocation);
    header *h = aligned_alloc(256, sizeof *h + (n_bytes + 255) / 256 * 256);
    if (!h) return fail(cudaErrorMemoryAllocation);
    h->n_bytes = n_bytes;
    used_bytes += n_bytes;
    *p = h + 1;
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    if (!p) return cudaSuccess;
    header *h = (header *)p - 1;
    used_bytes -= h->n_bytes;
    free(h);
    return cudaSuccess;
}

cudaError_t cudaMallocAsync(void **p, size_t n_bytes, cudaStream_t stream) { (void)stream; return cudaMalloc(p, n_bytes); }
cudaError_t cudaFreeAsync(void *p, cudaStream_t stream) { (void)stream; return cudaFree(p); }
cudaError_t cudaMallocHost(void **p, size_t n_bytes) { return cudaHostAlloc(p, n_bytes, 0); }

cudaError_t cudaHostAlloc(void **p, size_t n_bytes, unsigned flags)
{
    (void)flags;
    return posix_memalign(p, 4096, n_bytes) ? fail(cudaErrorMemoryAllocation) : cudaSuccess;
}

cudaError_t cudaFreeHost(void *p) { free(p); return cudaSuccess; }
cudaError_t cudaHostRegister(void *p, size_t n_bytes, unsigned flags) { (void)p; (void)n_bytes; (void)flags; return cudaSuccess; }
cudaError_t cudaHostUnregister(void *p) { (void)p; return cudaSuccess; }

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    *total_bytes = device_bytes;
    *free_bytes = device_bytes - used_bytes;
    return cudaSuccess;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t n_bytes, enum cudaMemcpyKind kind)
{
    (void)kind;
    memmove(to, from, n_bytes);
    return last_error;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n_bytes, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    (void)stream;
    return cudaMemcpy(to, from, n_bytes, kind);
}

cudaError_t cudaMemcpy2D(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height,
                         enum cudaMemcpyKind kind)
{
    for (size_t y = 0; y < height; y++) cudaMemcpy((char *)to + y * to_pitch, (const char *)from + y * from_pitch, width, kind);
    return last_error;
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height,
                              enum cudaMemcpyKind kind, cudaStream_t stream)
{
    (void)stream;
    return cudaMemcpy2D(to, to_pitch, from, from_pitch, width, height, kind);
}

cudaError_t cudaMemset(void *p, int value, size_t n_bytes)
{
    memset(p, value, n_bytes);
    return last_error;
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t n_bytes, cudaStream_t stream)
{
    (void)stream;
    return cudaMemset(p, value, n_bytes);
}

bool cusim_read(void *to_host, const void *from, size_t n_bytes)
{
    memcpy(to_host, from, n_bytes);
    return true;
}

bool cusim_write(void *to, const void *from_host, size_t n_bytes)
{
    memcpy(to, from_host, n_bytes);
    return true;
}

/* --- streams and events --- */

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority)
{
    (void)priority;
    *stream = calloc(1, sizeof **stream);
    if (!*stream) return fail(cudaErrorMemoryAllocation);
    (*stream)->flags = flags;
    return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *stream) { return cudaStreamCreateWithPriority(stream, 0, 0); }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) { return cudaStreamCreateWithPriority(stream, flags, 0); }
cudaError_t cudaStreamDestroy(cudaStream_t stream) { free(stream); return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t stream) { (void)stream; return last_error; }
cudaError_t cudaStreamQuery(cudaStream_t stream) { (void)stream; return last_error; }
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned flags) { (void)s; (void)e; (void)flags; return cudaSuccess; }

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t fn, void *arg)
{
    (void)stream;
    fn(arg);
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    (void)flags;
    *event = calloc(1, sizeof **event);
    return *event ? cudaSuccess : fail(cudaErrorMemoryAllocation);
}

cudaError_t cudaEventCreate(cudaEvent_t *event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t event) { free(event); return cudaSuccess; }

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    (void)stream;
    clock_gettime(CLOCK_MONOTONIC, &event->when);
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) { (void)event; return last_error; }
cudaError_t cudaEventQuery(cudaEvent_t event) { (void)event; return last_error; }

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end)
{
    *ms = (float)((double)(end->when.tv_sec - start->when.tv_sec) * 1e3 + (double)(end->when.tv_nsec - start->when.tv_nsec) * 1e-6);
    return cudaSuccess;
}

/* --- kernels --- */

cudaError_t cudaFuncSetAttribute(const void *kernel, enum cudaFuncAttribute attribute, int value)
{
    (void)kernel;
    if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize && value > CUSIM_MAX_SHARED) return fail(cudaErrorInvalidValue);
    return cudaSuccess;
}

cudaError_t cusim_launch_kernel(const char *name, const void *kernel, dim3 grid, dim3 block, size_t shared_bytes,
                                cudaStream_t stream, void (*run)(const void *), const void *args, size_t args_bytes)
{
    (void)stream;
    (void)args_bytes;
    uint64_t n_threads = (uint64_t)block.x * block.y * block.z;
    if (n_threads == 0 || n_threads > CUSIM_MAX_THREADS || block.z > 64 || grid.x == 0 || grid.y == 0 || grid.z == 0 ||
        grid.x > 2147483647u || grid.y > 65535 || grid.z > 65535)
        return fail(cudaErrorInvalidConfiguration);
    if (shared_bytes > CUSIM_MAX_SHARED) return fail(cudaErrorInvalidValue);
    cusim_kernel_call c = {.name = name, .kernel = kernel, .grid = grid, .block = block, .shared_bytes = shared_bytes,
                           .run = run, .args = args};
    return cusim_run_kernel(&c) ? cudaSuccess : fail(cudaErrorAssert);
}

cudaError_t cusim_enqueue(cudaStream_t stream, const char *name, void (*run)(void *args), const void *args, size_t args_bytes)
{
    (void)stream;
    (void)name;
    void *copy = malloc(args_bytes ? args_bytes : 1);
    if (!copy) return fail(cudaErrorMemoryAllocation);
    memcpy(copy, args, args_bytes);
    run(copy);
    free(copy);
    return last_error;
}
