/* fuzz_hdf5.c - fuzz entry: an HDF5 file without a seal, everything in it read. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "checkpoints/hdf5_file.h"
#include "core/memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    adze_h5_opts opts = ADZE_H5_OPTS;
    const adze_h5_item *item;
    adze_h5 *h;
    size_t before = adze_memory_live_bytes();
    opts.unsealed = true;
    opts.limit_bytes = 4 << 20;
    if (adze_h5_open_memory(&h, "input", data, n_bytes, &opts) != ADZE_OK) return 0;
    for (int64_t i = 0; (item = adze_h5_at(h, i)); i++) {
        void *to = NULL;
        char **list = NULL, *text = NULL;
        int64_t n;
        if (item->kind == ADZE_H5_TENSOR && (to = malloc(item->n_bytes + 1)))
            (void)adze_h5_read(h, item->path, item->type, item->count, to);
        if (item->kind == ADZE_H5_STRING) (void)adze_h5_read_string(h, item->path, &text);
        if (item->kind == ADZE_H5_STRINGS) (void)adze_h5_read_strings(h, item->path, &list, &n);
        free(to);
        adze_free(text);
        adze_free(list);
    }
    adze_h5_destroy(h);
    if (adze_memory_live_bytes() != before) abort();
    return 0;
}
