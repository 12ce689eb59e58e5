/* ranks_nccl.h - means over processes with a GPU each, by NCCL: see core/backend.h. */
#ifndef ADZE_CUDA_RANKS_NCCL_H
#define ADZE_CUDA_RANKS_NCCL_H

#include "core/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ADZE_EBACKEND: there is no NCCL to load, or it failed. */
adze_status adze_cuda_ranks_id(adze_ctx *ctx, unsigned char id[ADZE_RANKS_ID_BYTES]);
adze_status adze_cuda_ranks_join(adze_ctx *ctx, const unsigned char id[ADZE_RANKS_ID_BYTES], int rank, int count);
adze_status adze_cuda_ranks_mean(adze_ctx *ctx, float *x, int64_t n);
void adze_cuda_ranks_close(adze_ctx *ctx);
/* For `adze doctor`: version and place, or what is missing. */
void adze_cuda_ranks_facts(adze_backend_put put, void *user);

#ifdef __cplusplus
}
#endif
#endif
