/* memory.h - host memory: counted, limited, aligned; and the stack-like scratch.
 *
 * All memory of the library that grows with the problem comes from here, so that the peak can be reported and
 * --memory-limit kept. The counters are process-wide, as malloc itself is. */
#ifndef ADZE_CORE_MEMORY_H
#define ADZE_CORE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { ADZE_MEMORY_ALIGN = 64 }; /* every pointer below is a multiple: one cache line, one AVX-512 vector */

/* NULL on failure or if the limit would be passed; n == 0 gives a unique pointer. Free with adze_free(). */
void *adze_malloc(size_t n_bytes);
void *adze_calloc(size_t count, size_t size_bytes); /* NULL also if the product overflows */
/* Grows or shrinks; keeps the contents; `p` stays valid on failure. */
void *adze_realloc(void *p, size_t n_bytes);
void adze_free(void *p); /* NULL is fine */
char *adze_strdup(const char *s);
/* printf into new memory; NULL on failure. */
char *adze_strprintf(const char *fmt, ...) ADZE_PRINTF(1, 2);

size_t adze_memory_live_bytes(void);
size_t adze_memory_peak_bytes(void);
void adze_memory_peak_reset(void);
/* 0 = no limit. Applies to later allocations. */
void adze_memory_limit_set(size_t limit_bytes);
size_t adze_memory_limit(void);
/* For tests: the n-th allocation from now (1 = the next) fails; with `persistent` all later ones too. 0 switches off. */
void adze_memory_fail_after(int64_t n, bool persistent);
/* Number of allocations so far: tests check that a step makes none. */
int64_t adze_memory_alloc_count(void);

/* a*b and a+b; false if the result does not fit. */
bool adze_mul_size(size_t a, size_t b, size_t *out);
bool adze_add_size(size_t a, size_t b, size_t *out);

/* Scratch: one block, handed out from the bottom, given back in reverse order by resetting to a mark. */
typedef struct {
    unsigned char *base; /* owned */
    size_t size_bytes, used_bytes, peak_bytes;
} adze_scratch;

adze_status adze_scratch_create(adze_scratch *s, size_t size_bytes);
void adze_scratch_destroy(adze_scratch *s);
/* 64-byte aligned; NULL if the block is exhausted. */
void *adze_scratch_take(adze_scratch *s, size_t n_bytes);
static inline size_t adze_scratch_mark(const adze_scratch *s) { return s->used_bytes; }
static inline void adze_scratch_reset(adze_scratch *s, size_t mark) { s->used_bytes = mark; }

#ifdef __cplusplus
}
#endif
#endif
