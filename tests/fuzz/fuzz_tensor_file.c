/* fuzz_tensor_file.c - fuzz entry: any weights file, by its content. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "checkpoints/tensor_file.h"
#include "core/memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    adze_tensor_file_opts opts = ADZE_TENSOR_FILE_OPTS;
    adze_tensor_file *f;
    size_t before = adze_memory_live_bytes();
    opts.limit_bytes = 4 << 20;
    adze_status st = adze_tensor_file_read_memory(&f, "input", data, n_bytes, &opts);
    if (st != ADZE_OK && (st != ADZE_EINPUT || f)) abort();
    adze_tensor_file_destroy(f);
    if (adze_memory_live_bytes() != before) abort();
    return 0;
}
