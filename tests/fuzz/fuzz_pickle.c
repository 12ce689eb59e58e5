/* fuzz_pickle.c - fuzz entry: the pickle machine. Takes a bare pickle, the four of a legacy torch file, or data.pkl of an
 * archive without regard to its checksum. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/archive.h"
#include "checkpoints/pickle_impl.h"
#include "checkpoints/tensor_file_impl.h"
#include "core/memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static void run(const uint8_t *data, size_t n_bytes, bool legacy)
{
    pickle p = { .legacy = legacy };
    pickle_ref root;
    size_t used = 0;
    for (int i = 0; i < 4; i++) {
        if (pickle_run(&p, data, n_bytes, &used, &root) != ADZE_OK) break;
        if (used > n_bytes || (int64_t)root >= p.n_values) abort();
        data += used;
        n_bytes -= used;
    }
    pickle_destroy(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    size_t before = adze_memory_live_bytes();
    adze_archive a;
    if (n_bytes > TORCH_LEGACY_MAGIC && memcmp(data, torch_legacy_magic, TORCH_LEGACY_MAGIC) == 0)
        run(data + TORCH_LEGACY_MAGIC, n_bytes - TORCH_LEGACY_MAGIC, true);
    else if (n_bytes > 4 && memcmp(data, "PK\3\4", 4) == 0) {
        const unsigned char *member;
        unsigned char *owned;
        if (adze_archive_open(&a, data, n_bytes) != ADZE_OK) return 0;
        for (size_t i = 0; i < a.count; i++) {
            if (adze_archive_read(&a, &a.member[i], 1 << 20, false, &member, &owned) != ADZE_OK) continue;
            run(member, (size_t)a.member[i].full_bytes, false);
            adze_free(owned);
        }
        adze_archive_close(&a);
    } else run(data, n_bytes, false);
    if (adze_memory_live_bytes() != before) abort();
    return 0;
}
