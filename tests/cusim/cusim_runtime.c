/* cusim_runtime.c - the runtime's calls about the device itself, about errors, and what a launch may ask for. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cuda.h>

#include "cusim_impl.h"

static const struct { cudaError_t code; const char *name, *text; } errors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver", "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorNoKernelImageForDevice, "cudaErrorNoKernelImageForDevice", "no kernel image is available for execution on the device"},
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

bool cusim_lacks(const char *what)
{
    const char *text = getenv("ADZE_CUSIM_LACKS");
    return text && strcmp(text, what) == 0;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = cusim_lacks("driver") ? 0 : cusim_lacks("newer-driver") ? 12040 : CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count)
{
    if (cusim_lacks("driver") || cusim_lacks("newer-driver")) return cusim_result(cudaErrorInsufficientDriver);
    *count = CUSIM_DEVICES;
    return cudaSuccess;
}

static __thread int the_device;
static bool has_context[CUSIM_DEVICES];

int cusim_use_device(void)
{
    has_context[the_device] = true;
    return the_device;
}

cudaError_t cudaGetDevice(int *device)
{
    *device = the_device;
    return cudaSuccess;
}

/* As of CUDA 12 this makes the device's context, if there is none. */
cudaError_t cudaSetDevice(int device)
{
    if (device < 0 || device >= CUSIM_DEVICES) return cusim_result(cudaErrorInvalidDevice);
    the_device = device;
    cusim_use_device();
    return cudaSuccess;
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active)
{
    if (device < 0 || device >= CUSIM_DEVICES || !flags || !active) return CUDA_ERROR_INVALID_VALUE;
    *flags = 0;
    *active = has_context[device];
    return CUDA_SUCCESS;
}

cudaError_t cudaDeviceReset(void)
{
    cusim_lock();
    cusim_run_all();
    cusim_revive_device();
    cusim_unlock();
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device)
{
    if (device < 0 || device >= CUSIM_DEVICES) return cusim_result(cudaErrorInvalidDevice);
    const size_t device_bytes = cusim_device_bytes();
    *p = (struct cudaDeviceProp){
        .name = "adze emulated device", .uuid = {{'c', 'u', 's', 'i', 'm', (char)device}}, .totalGlobalMem = device_bytes,
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
    default: return cusim_result(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *id, int length, int device)
{
    if (device < 0 || device >= CUSIM_DEVICES || length < 13) return cusim_result(cudaErrorInvalidValue);
    snprintf(id, (size_t)length, "0000:%02x:00.0", (unsigned)device);
    return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

/* --- launches --- */

/* What cudaFuncSetAttribute has allowed each kernel. */
static struct { const void *kernel; size_t shared_bytes; } *allowed;
static size_t n_allowed;

cudaError_t cudaFuncSetAttribute(const void *kernel, enum cudaFuncAttribute attribute, int value)
{
    cusim_lock();
    cudaError_t e = cudaSuccess;
    if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize) {
        size_t i = 0;
        while (i < n_allowed && allowed[i].kernel != kernel) i++;
        if (value < 0 || value > CUSIM_MAX_SHARED) e = cudaErrorInvalidValue;
        if (e == cudaSuccess && i == n_allowed) {
            void *grown = realloc(allowed, (n_allowed + 1) * sizeof *allowed);
            if (grown) {
                allowed = grown;
                allowed[n_allowed++].kernel = kernel;
            } else {
                e = cudaErrorMemoryAllocation;
            }
        }
        if (e == cudaSuccess) allowed[i].shared_bytes = (size_t)value;
    }
    e = cusim_result(e);
    cusim_unlock();
    return e;
}

cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *attributes, const void *kernel)
{
    if (!attributes || !kernel) return cusim_result(cudaErrorInvalidValue);
    if (cusim_lacks("kernels")) return cusim_result(cudaErrorNoKernelImageForDevice);
    *attributes = (struct cudaFuncAttributes){.maxThreadsPerBlock = CUSIM_MAX_THREADS, .binaryVersion = 89, .ptxVersion = 89};
    return cudaSuccess;
}

cudaError_t cusim_check_launch(const char *name, const void *kernel, dim3 grid, dim3 block, size_t shared_bytes)
{
    size_t limit = CUSIM_STATIC_SHARED;
    for (size_t i = 0; i < n_allowed; i++)
        if (allowed[i].kernel == kernel && allowed[i].shared_bytes > limit) limit = allowed[i].shared_bytes;
    uint64_t n_threads = (uint64_t)block.x * block.y * block.z;
    const char *wrong = NULL;
    if (n_threads == 0 || n_threads > CUSIM_MAX_THREADS || block.z > 64) wrong = "block";
    else if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 2147483647u || grid.y > 65535 || grid.z > 65535) wrong = "grid";
    if (wrong) {
        cusim_report("%s: %s not allowed: grid (%u,%u,%u), block (%u,%u,%u)", name, wrong, grid.x, grid.y, grid.z, block.x, block.y,
                     block.z);
        return cudaErrorInvalidConfiguration;
    }
    if (shared_bytes > limit) {
        cusim_report("%s: %zu bytes of dynamic shared memory, %zu are allowed to this kernel", name, shared_bytes, limit);
        return cudaErrorInvalidValue;
    }
    return cudaSuccess;
}
