/* hash.h - small non-cryptographic hashes: FNV-1a (64 bit) and the splitmix64 finaliser.
 * The golden files derive every tensor from these two; see tests/golden/README.md. */
#ifndef ADZE_CORE_HASH_H
#define ADZE_CORE_HASH_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ADZE_FNV1A64_OFFSET UINT64_C(0xcbf29ce484222325)

/* Continues an FNV-1a hash over n bytes; start with ADZE_FNV1A64_OFFSET. */
static inline uint64_t adze_fnv1a64(uint64_t h, const void *data, size_t n_bytes)
{
    const unsigned char *p = (const unsigned char *)data;
    for (size_t i = 0; i < n_bytes; i++) h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    return h;
}

static inline uint64_t adze_splitmix64(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

#ifdef __cplusplus
}
#endif
#endif
