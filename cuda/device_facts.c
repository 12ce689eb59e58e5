/* device_facts.c - what there is to know about the CUDA installation, for `adze doctor`. Entry: adze_cuda_facts(). */
#include <cublasLt.h>
#include <cudnn.h>
#include <stdio.h>

#include "cuda/cuda_state.h"
#include "cuda/kernels_cuda.h"
#include "cuda/ranks_nccl.h"

/* 13020 -> 13.2 */
static void put_version(adze_backend_put put, void *user, const char *key, cudaError_t result, int version)
{
    char text[32];
    snprintf(text, sizeof text, "%d.%d", version / 1000, version % 1000 / 10);
    put(user, key, result == cudaSuccess ? text : cudaGetErrorString(result));
}

static void put_device(adze_backend_put put, void *user, int i)
{
    struct cudaDeviceProp p;
    char key[32], text[512];
    size_t free_bytes = 0, total_bytes = 0;
    int before = 0;
    snprintf(key, sizeof key, "device %d", i);
    cudaError_t e = cudaGetDeviceProperties(&p, i);
    if (e == cudaSuccess) e = cudaGetDevice(&before);
    if (e == cudaSuccess) e = cudaSetDevice(i);
    if (e == cudaSuccess) {
        e = cudaMemGetInfo(&free_bytes, &total_bytes);
        cudaSetDevice(before);
    }
    if (e != cudaSuccess) {
        cudaGetLastError();
        put(user, key, cudaGetErrorString(e));
        return;
    }
    snprintf(text, sizeof text, "%.200s, sm_%d%d, %d multiprocessors, %.1f of %.1f GB free, L2 %d MB", p.name, p.major, p.minor,
             p.multiProcessorCount, (double)free_bytes / 1e9, (double)total_bytes / 1e9, p.l2CacheSize >> 20);
    put(user, key, text);
}

void adze_cuda_facts(adze_backend_put put, void *user)
{
    int version = 0, count = 0;
    char text[64];
    cudaError_t e = cudaDriverGetVersion(&version);
    put_version(put, user, "driver", e, version);
    e = cudaRuntimeGetVersion(&version);
    put_version(put, user, "runtime", e, version);
    snprintf(text, sizeof text, "%zu.%zu.%zu", cudnnGetVersion() / 10000, cudnnGetVersion() / 100 % 100, cudnnGetVersion() % 100);
    put(user, "cuDNN", text);
    snprintf(text, sizeof text, "%zu.%zu.%zu", cublasLtGetVersion() / 10000, cublasLtGetVersion() / 100 % 100, cublasLtGetVersion() % 100);
    put(user, "cuBLASLt", text);
    adze_cuda_ranks_facts(put, user);
    e = cudaGetDeviceCount(&count);
    if (e != cudaSuccess) {
        put(user, "devices", cudaGetErrorString(e));
        cudaGetLastError();
        return;
    }
    snprintf(text, sizeof text, "%d", count);
    put(user, "devices", text);
    for (int i = 0; i < count; i++) put_device(put, user, i);
}
