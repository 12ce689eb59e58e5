/* sha256.h - SHA-256 (FIPS 180-4), streaming, and a whole-file helper. */
#ifndef ADZE_CORE_SHA256_H
#define ADZE_CORE_SHA256_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    uint32_t state[8];
    uint64_t n_bytes;
    unsigned char block[64];
} adze_sha256;

enum { ADZE_SHA256_BYTES = 32, ADZE_SHA256_HEX = 65 }; /* HEX counts the final NUL */

void adze_sha256_init(adze_sha256 *s);
void adze_sha256_update(adze_sha256 *s, const void *data, size_t n_bytes);
/* Writes the 32-byte digest; `s` must be initialised again before further use. */
void adze_sha256_final(adze_sha256 *s, unsigned char digest[ADZE_SHA256_BYTES]);
/* Lower-case hexadecimal of a digest. */
void adze_sha256_hex(const unsigned char digest[ADZE_SHA256_BYTES], char hex[ADZE_SHA256_HEX]);
/* Hexadecimal digest of a memory block; of a file's bytes (ADZE_EINPUT if it cannot be read). */
void adze_sha256_of(const void *data, size_t n_bytes, char hex[ADZE_SHA256_HEX]);
adze_status adze_sha256_file(const char *path, char hex[ADZE_SHA256_HEX]);

#ifdef __cplusplus
}
#endif
#endif
