/* device_memory.c - names of blocks, and the question how much there is. Entry: adze_ctx_memory(). */
#include "core/device_memory.h"

#include "core/backend.h"

static const struct {
    const char *name, *remedy;
} about[ADZE_BLOCKS] = {
    [ADZE_BLOCK_PARAMS] = { "parameters", "a smaller --backbone helps" },
    [ADZE_BLOCK_GRADIENTS] = { "gradients", "a smaller --backbone helps" },
    [ADZE_BLOCK_OPTIMISER] = { "moments of the optimisers", "a smaller --backbone helps" },
    [ADZE_BLOCK_ARENA] = { "activations and workspace", "a smaller --batch or --size helps" },
    [ADZE_BLOCK_PACKED] = { "weights as the kernels want them", "a smaller --backbone helps" },
    [ADZE_BLOCK_UPLOADS] = { "uploads", "a smaller --batch or --size helps" },
    [ADZE_BLOCK_FEATURES] = { "features of the frozen part", "--cache memory keeps them in host memory, --cache FILE.h5 on disk, --cache off nowhere" },
    [ADZE_BLOCK_BANK] = { "the memory bank", "a smaller --set coreset=RATIO or --set target_dim=N when it is made helps" },
    [ADZE_BLOCK_QUERIES] = { "the search for neighbours", "a smaller --batch helps" },
    [ADZE_BLOCK_SELECTION] = { "the selection of the coreset", "a smaller --set projection_dim=N, or fewer pictures, help" },
    [ADZE_BLOCK_MAPS] = { "anomaly maps", "a smaller --batch or --size helps" },
    [ADZE_BLOCK_TIMING] = { "timing engines", "a smaller --batch or --size helps" },
    [ADZE_BLOCK_OTHER] = { "other blocks", "a smaller --batch or --size helps" },
};

const char *adze_block_name(adze_block block) { return about[block].name; }
const char *adze_block_remedy(adze_block block) { return about[block].remedy; }

bool adze_ctx_memory(const adze_ctx *ctx, adze_device_memory *m)
{
    *m = (adze_device_memory){ .total_bytes = 0 };
    if (ctx->backend->host_memory) return false;
    ctx->backend->memory(ctx, m);
    return true;
}
