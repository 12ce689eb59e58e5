/* launch.h - how kernels are launched and how they name their shared memory: one spelling for nvcc and for g++.
 *
 *   ADZE_LAUNCH(kernel, grid, block, shared_bytes, stream, args...)   cudaError_t of the launch; asynchronous
 *   ADZE_SHARED(type, name, count)                                    static shared array, 16-byte aligned
 *   ADZE_SHARED_DYNAMIC(type, name)                                   the launch's shared_bytes, 16-byte aligned
 *
 * A kernel with several template arguments goes in parentheses: ADZE_LAUNCH((rows_kernel<4, 8>), ...). More than 48 KB of
 * dynamic shared memory needs cudaFuncSetAttribute first. g++ compiles the same file against tests/cusim/include with
 * ADZE_CUSIM defined. What needs PTX is in ptx.h. */
#ifndef ADZE_CUDA_LAUNCH_H
#define ADZE_CUDA_LAUNCH_H

#include <cuda_runtime.h>

#ifdef __cplusplus
#ifdef ADZE_CUSIM

#define ADZE_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
    cusim_launch(#kernel, kernel, grid, block, shared_bytes, stream, ##__VA_ARGS__)
#define ADZE_SHARED(type, name, count) \
    static const char name##_key = 0;  \
    type *const name = static_cast<type *>(cusim_shared_static(&name##_key, #name, sizeof(type) * (count)))
#define ADZE_SHARED_DYNAMIC(type, name) type *const name = static_cast<type *>(cusim_shared_dynamic())

#else

#define ADZE_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
    ((kernel)<<<grid, block, shared_bytes, stream>>>(__VA_ARGS__), cudaGetLastError())
#define ADZE_SHARED(type, name, count) __shared__ __align__(16) type name[count]
#define ADZE_SHARED_DYNAMIC(type, name)                              \
    extern __shared__ __align__(16) unsigned char adze_shared_bytes[]; \
    type *const name = reinterpret_cast<type *>(adze_shared_bytes)

#endif
#endif
#endif
