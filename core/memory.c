/* memory.c - counted, limited, aligned host memory. Entry: adze_malloc().
 * Each block carries a 64-byte header with its size, so that freeing needs no table. */
#include "core/memory.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static atomic_size_t live_bytes, peak_bytes, limit_bytes;
static atomic_llong alloc_count, fail_countdown;
static atomic_bool fail_persistent;

#define HUGE_BYTES ((size_t)2 << 20)

typedef struct {
    size_t n_bytes;
    unsigned char pad[ADZE_MEMORY_ALIGN - sizeof(size_t)];
} header;

_Static_assert(sizeof(header) == ADZE_MEMORY_ALIGN, "the header keeps the alignment");

static bool injected_failure(void)
{
    if (atomic_load_explicit(&fail_countdown, memory_order_relaxed) <= 0) return false;
    long long left = atomic_fetch_sub(&fail_countdown, 1);
    if (left > 1) return false;
    if (atomic_load(&fail_persistent)) atomic_store(&fail_countdown, 1);
    return true;
}

/* Reserves n bytes against the limit; false if it does not fit. */
static bool account(size_t n_bytes)
{
    size_t limit = atomic_load_explicit(&limit_bytes, memory_order_relaxed);
    size_t now = atomic_fetch_add(&live_bytes, n_bytes) + n_bytes;
    if (limit != 0 && now > limit) {
        atomic_fetch_sub(&live_bytes, n_bytes);
        return false;
    }
    size_t peak = atomic_load_explicit(&peak_bytes, memory_order_relaxed);
    while (now > peak && !atomic_compare_exchange_weak(&peak_bytes, &peak, now)) {}
    return true;
}

/* Asks for pages of 2 MB inside the block: filling a fresh block of 63 MB takes 24 instead of 49 ms. Only advice, so that a
 * refusal is no failure. */
static void advise_huge(void *block, size_t n_bytes)
{
    uintptr_t begin = ((uintptr_t)block + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES;
    uintptr_t end = ((uintptr_t)block + n_bytes) / HUGE_BYTES * HUGE_BYTES;
    if (end > begin) madvise((void *)begin, end - begin, MADV_HUGEPAGE);
}

void *adze_malloc(size_t n_bytes)
{
    atomic_fetch_add_explicit(&alloc_count, 1, memory_order_relaxed);
    size_t total;
    if (injected_failure() || !adze_add_size(n_bytes, 2 * ADZE_MEMORY_ALIGN, &total)) return NULL;
    if (!account(n_bytes)) return NULL;
    total = (total - 1) / ADZE_MEMORY_ALIGN * ADZE_MEMORY_ALIGN;
    header *h = aligned_alloc(ADZE_MEMORY_ALIGN, total);
    if (!h) {
        atomic_fetch_sub(&live_bytes, n_bytes);
        return NULL;
    }
    if (total >= HUGE_BYTES) advise_huge(h, total);
    h->n_bytes = n_bytes;
    return h + 1;
}

void *adze_calloc(size_t count, size_t size_bytes)
{
    size_t n;
    if (!adze_mul_size(count, size_bytes, &n)) return NULL;
    void *p = adze_malloc(n);
    if (p) memset(p, 0, n);
    return p;
}

void *adze_realloc(void *p, size_t n_bytes)
{
    if (!p) return adze_malloc(n_bytes);
    size_t old = ((header *)p - 1)->n_bytes;
    void *q = adze_malloc(n_bytes);
    if (!q) return NULL;
    memcpy(q, p, old < n_bytes ? old : n_bytes);
    adze_free(p);
    return q;
}

void adze_free(void *p)
{
    if (!p) return;
    header *h = (header *)p - 1;
    atomic_fetch_sub(&live_bytes, h->n_bytes);
    free(h);
}

char *adze_strdup(const char *s)
{
    size_t n = strlen(s) + 1;
    char *copy = adze_malloc(n);
    if (copy) memcpy(copy, s, n);
    return copy;
}

char *adze_strprintf(const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *s = n < 0 ? NULL : adze_malloc((size_t)n + 1);
    if (s) vsnprintf(s, (size_t)n + 1, fmt, again);
    va_end(again);
    return s;
}

size_t adze_memory_live_bytes(void) { return atomic_load(&live_bytes); }
size_t adze_memory_peak_bytes(void) { return atomic_load(&peak_bytes); }
void adze_memory_peak_reset(void) { atomic_store(&peak_bytes, atomic_load(&live_bytes)); }
void adze_memory_limit_set(size_t limit) { atomic_store(&limit_bytes, limit); }
size_t adze_memory_limit(void) { return atomic_load(&limit_bytes); }
int64_t adze_memory_alloc_count(void) { return atomic_load(&alloc_count); }

void adze_memory_fail_after(int64_t n, bool persistent)
{
    atomic_store(&fail_persistent, persistent);
    atomic_store(&fail_countdown, n);
}

bool adze_mul_size(size_t a, size_t b, size_t *out) { return !__builtin_mul_overflow(a, b, out); }
bool adze_add_size(size_t a, size_t b, size_t *out) { return !__builtin_add_overflow(a, b, out); }

adze_status adze_scratch_create(adze_scratch *s, size_t size_bytes)
{
    *s = (adze_scratch){ 0 };
    s->base = adze_malloc(size_bytes);
    if (!s->base) return adze_fail(ADZE_ENOMEM, "scratch: %zu host bytes", size_bytes);
    s->size_bytes = size_bytes;
    return ADZE_OK;
}

void adze_scratch_destroy(adze_scratch *s)
{
    if (!s) return;
    adze_free(s->base);
    *s = (adze_scratch){ 0 };
}

void *adze_scratch_take(adze_scratch *s, size_t n_bytes)
{
    size_t rounded = (n_bytes + ADZE_MEMORY_ALIGN - 1) / ADZE_MEMORY_ALIGN * ADZE_MEMORY_ALIGN;
    if (rounded < n_bytes || rounded > s->size_bytes - s->used_bytes) return NULL;
    void *p = s->base + s->used_bytes;
    s->used_bytes += rounded;
    if (s->used_bytes > s->peak_bytes) s->peak_bytes = s->used_bytes;
    return p;
}
