/* sha256_impl.h - the plain-C rounds of SHA-256, for the test that compares them with the machine's instructions. Not
 * installed. */
#ifndef ADZE_CORE_SHA256_IMPL_H
#define ADZE_CORE_SHA256_IMPL_H

#include <stddef.h>
#include <stdint.h>

/* Takes n_blocks of 64 bytes into the state. */
void adze_sha256_compress_plain(uint32_t state[8], const unsigned char *p, size_t n_blocks);

#endif
