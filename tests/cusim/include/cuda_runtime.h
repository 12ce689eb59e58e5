/* cuda_runtime.h - the runtime's calls and, in C++, what kernel code sees (cusim_device.h). */
#ifndef CUSIM_CUDA_RUNTIME_H
#define CUSIM_CUDA_RUNTIME_H

#include "cuda_runtime_api.h"

#ifdef __cplusplus
#include "cusim_device.h"

template <typename F> cudaError_t cudaFuncSetAttribute(F *kernel, cudaFuncAttribute attribute, int value)
{
    return cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel), attribute, value);
}
template <typename T> cudaError_t cudaMalloc(T **p, size_t n_bytes) { return cudaMalloc(reinterpret_cast<void **>(p), n_bytes); }
template <typename T> cudaError_t cudaMallocHost(T **p, size_t n_bytes)
{
    return cudaMallocHost(reinterpret_cast<void **>(p), n_bytes);
}
#endif
#endif
