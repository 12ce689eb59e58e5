/* fuzz_archive.c - fuzz entry: the zip directory, and every member unpacked. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "checkpoints/archive.h"
#include "core/memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    adze_archive a;
    const unsigned char *member;
    unsigned char *owned;
    unsigned sum = 0;
    size_t before = adze_memory_live_bytes();
    if (adze_archive_open(&a, data, n_bytes) == ADZE_OK) {
        for (size_t i = 0; i < a.count; i++) {
            if (adze_archive_find(&a, a.member[i].name, a.member[i].name_bytes) != &a.member[i]) abort();
            if (adze_archive_read(&a, &a.member[i], 1 << 20, false, &member, &owned) != ADZE_OK) continue;
            for (uint64_t k = 0; k < a.member[i].full_bytes; k++) sum |= member[k]; /* every byte can be read */
            adze_free(owned);
        }
    }
    adze_archive_close(&a);
    if (adze_memory_live_bytes() != before) abort();
    if (sum > 255) abort();
    return 0;
}
