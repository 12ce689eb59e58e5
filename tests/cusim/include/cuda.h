/* cuda.h - the part of the CUDA driver interface that adze uses, for the emulator. */
#ifndef CUSIM_CUDA_H
#define CUSIM_CUDA_H

#ifdef __cplusplus
extern "C" {
#endif

typedef int CUdevice;
typedef int CUresult;
enum { CUDA_SUCCESS = 0, CUDA_ERROR_INVALID_VALUE = 1 };

/* Whether somebody uses the context that the runtime keeps for a device. */
CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active);

#ifdef __cplusplus
}
#endif
#endif
