/* device_memory.h - the memory of a device that has its own: what blocks are for, how much there is, how much is held. */
#ifndef ADZE_CORE_DEVICE_MEMORY_H
#define ADZE_CORE_DEVICE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

#include "core/context.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a block is for. */
typedef enum {
    ADZE_BLOCK_PARAMS,
    ADZE_BLOCK_GRADIENTS,
    ADZE_BLOCK_OPTIMISER,
    ADZE_BLOCK_ARENA,     /* activations, and the workspace of libraries and kernels */
    ADZE_BLOCK_PACKED,    /* weights in the kernels' own layouts */
    ADZE_BLOCK_UPLOADS,
    ADZE_BLOCK_FEATURES,
    ADZE_BLOCK_BANK,
    ADZE_BLOCK_QUERIES,
    ADZE_BLOCK_SELECTION,
    ADZE_BLOCK_MAPS,
    ADZE_BLOCK_TIMING,    /* operands, while engines are timed */
    ADZE_BLOCK_OTHER,
    ADZE_BLOCKS
} adze_block;

/* For people: "parameters"; and what makes it smaller: "a smaller --batch or --size helps". */
const char *adze_block_name(adze_block block);
const char *adze_block_remedy(adze_block block);

typedef struct {
    size_t total_bytes, free_bytes; /* as the device says, now; what other programs hold is not free */
    size_t live_bytes, peak_bytes;  /* what this context holds, and the most that it has held at once */
    size_t of[ADZE_BLOCKS];         /* live_bytes by purpose */
} adze_device_memory;

/* False where the device computes in host memory: then there is nothing to say. */
bool adze_ctx_memory(const adze_ctx *ctx, adze_device_memory *m);

#ifdef __cplusplus
}
#endif
#endif
