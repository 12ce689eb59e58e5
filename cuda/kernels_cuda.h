/* kernels_cuda.h - the kernels of the cuda backend, by the file that holds them. Each also stands in the table of
 * backend_cuda.c; an op without one there runs through core/host_fallback.c. */
#ifndef ADZE_CUDA_KERNELS_CUDA_H
#define ADZE_CUDA_KERNELS_CUDA_H

#include "core/backend.h"
#include "core/op.h"
#include "core/optim_step.h"

#ifdef __cplusplus
extern "C" {
#endif

#ifdef __cplusplus
}
#endif
#endif
