/* cusim_memory.c - device memory: one reservation in which allocations lie between red zones, and what is known of each byte.
 * Entries: cudaMalloc(), cudaFree(), the ranges that copies check. While host code runs, the device's pages are protected: a
 * host access faults, is reported, and goes on. Addresses are given out upwards and come round only after 16 GB, so that a
 * freed range stays free for long. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cusim_impl.h"

#define DEVICE_SPACE ((size_t)16 << 30)
#define DEFAULT_BYTES ((size_t)4 << 30)
enum { SHARED_SPACE = 1 << 20, STACK_SPACE = CUSIM_MAX_THREADS * (CUSIM_STACK_BYTES + CUSIM_GUARD_BYTES), ALIGN = 256, PAGE = 4096 };

typedef struct {
    size_t at, n_bytes; /* at: offset from the base */
} range;

typedef struct {
    range *items; /* sorted by address */
    size_t n, capacity;
} range_list;

cusim_space cusim_memory;
static range_list live, freed, pinned; /* pinned: offsets are addresses */
static range opened; /* what the host may touch now */
static size_t next_at = ALIGN, used_bytes, most_bytes, total_bytes = DEFAULT_BYTES;
static int n_open;
static struct sigaction other_handler;

/* --- ranges --- */

/* How many items begin at or before `at`. */
static size_t count_up_to(const range_list *l, size_t at)
{
    size_t lo = 0, hi = l->n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (l->items[mid].at <= at) lo = mid + 1;
        else hi = mid;
    }
    return lo;
}

static bool insert(range_list *l, range r)
{
    if (l->n == l->capacity) {
        size_t capacity = l->capacity ? 2 * l->capacity : 64;
        range *grown = realloc(l->items, capacity * sizeof *grown);
        if (!grown) return false;
        l->items = grown;
        l->capacity = capacity;
    }
    size_t i = count_up_to(l, r.at);
    memmove(l->items + i + 1, l->items + i, (l->n - i) * sizeof r);
    l->items[i] = r;
    l->n++;
    return true;
}

static void drop(range_list *l, size_t i)
{
    l->n--;
    memmove(l->items + i, l->items + i + 1, (l->n - i) * sizeof *l->items);
}

/* The item that contains `at`, or NULL. */
static const range *holding(const range_list *l, size_t at)
{
    size_t i = count_up_to(l, at);
    return i > 0 && at - l->items[i - 1].at < l->items[i - 1].n_bytes ? &l->items[i - 1] : NULL;
}

static size_t offset_of(const void *p) { return (size_t)((const unsigned char *)p - cusim_memory.base); }

bool cusim_is_device(const void *p) { return cusim_memory.base && offset_of(p) < cusim_memory.device_end; }

bool cusim_is_pinned(const void *p, size_t n_bytes)
{
    const range *r = holding(&pinned, (size_t)(uintptr_t)p);
    return r && (size_t)(uintptr_t)p - r->at + n_bytes <= r->n_bytes;
}

void cusim_describe(const void *p, char *text, size_t text_bytes)
{
    size_t at = offset_of(p);
    if (!cusim_is_device(p)) {
        bool shared = at >= cusim_memory.device_end && at < cusim_memory.shared_end;
        snprintf(text, text_bytes, shared ? "shared memory" : "host memory");
        return;
    }
    const range *r = holding(&live, at), *f = holding(&freed, at);
    size_t i = count_up_to(&live, at);
    if (r)
        snprintf(text, text_bytes, "byte %zu of an allocation of %zu", at - r->at, r->n_bytes);
    else if (f)
        snprintf(text, text_bytes, "byte %zu of a freed allocation of %zu", at - f->at, f->n_bytes);
    else if (i > 0 && at - live.items[i - 1].at - live.items[i - 1].n_bytes < 2 * ALIGN)
        snprintf(text, text_bytes, "%zu bytes past the end of an allocation of %zu", at - live.items[i - 1].at - live.items[i - 1].n_bytes,
                 live.items[i - 1].n_bytes);
    else if (i < live.n && live.items[i].at - at <= ALIGN)
        snprintf(text, text_bytes, "%zu bytes before an allocation of %zu", live.items[i].at - at, live.items[i].n_bytes);
    else
        snprintf(text, text_bytes, "device memory that nobody allocated");
}

bool cusim_check_live(const void *p, size_t n_bytes, const char *who)
{
    if (n_bytes == 0) return true;
    size_t at = offset_of(p);
    char text[160];
    if (!cusim_is_device(p)) {
        cusim_report("%s: %p is a host pointer, want device memory", who, p);
        return false;
    }
    const range *r = holding(&live, at);
    if (!r || n_bytes > r->n_bytes - (at - r->at)) {
        cusim_describe(r ? cusim_memory.base + r->at + r->n_bytes : p, text, sizeof text);
        cusim_report("%s: %zu bytes at %p reach %s", who, n_bytes, p, text);
        return false;
    }
    return true;
}

static bool check_initialised(const void *p, size_t n_bytes, const char *who)
{
    const unsigned char *state = cusim_memory.state + offset_of(p);
    if (cusim_the_checks == CUSIM_CHECKS_OFF) return true; /* nobody has looked at what kernels wrote */
    for (size_t i = 0; i < n_bytes; i++)
        if (!(state[i] & CUSIM_INITIALISED)) {
            char text[160];
            cusim_describe((const unsigned char *)p + i, text, sizeof text);
            cusim_report("%s reads uninitialised memory: %s", who, text);
            return false;
        }
    return true;
}

void cusim_assume_initialised(void)
{
    for (size_t i = 0; i < live.n; i++)
        for (size_t k = 0; k < live.items[i].n_bytes; k++) cusim_memory.state[live.items[i].at + k] |= CUSIM_INITIALISED;
}

bool cusim_check_read(const void *p, size_t n_bytes, const char *who)
{
    return cusim_check_live(p, n_bytes, who) && check_initialised(p, n_bytes, who);
}

bool cusim_check_write(void *p, size_t n_bytes, const char *who)
{
    if (!cusim_check_live(p, n_bytes, who)) return false;
    memset(cusim_memory.state + offset_of(p), CUSIM_LIVE | CUSIM_INITIALISED, n_bytes);
    return true;
}

bool cusim_copy_inside(void *to, const void *from, size_t n_bytes)
{
    if (!cusim_check_live(to, n_bytes, "copy on the device") || !cusim_check_live(from, n_bytes, "copy on the device")) return false;
    memmove(to, from, n_bytes);
    memmove(cusim_memory.state + offset_of(to), cusim_memory.state + offset_of(from), n_bytes);
    return true;
}

bool cusim_read(void *to_host, const void *from, size_t n_bytes)
{
    if (!cusim_check_read(from, n_bytes, "cusim_read")) return false;
    memcpy(to_host, from, n_bytes);
    return true;
}

bool cusim_write(void *to, const void *from_host, size_t n_bytes)
{
    if (!cusim_check_write(to, n_bytes, "cusim_write")) return false;
    memcpy(to, from_host, n_bytes);
    return true;
}

/* --- protection against the host --- */

static void on_fault(int sig, siginfo_t *info, void *context);

/* Again and again: test frames set handlers of their own. */
static void catch_faults(void)
{
    struct sigaction on = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER}, before;
    sigaction(SIGSEGV, &on, &before);
    if (before.sa_sigaction != on_fault) other_handler = before;
}

/* Opens the pages from the first live allocation to the last, and those in between. */
static void open_live(void)
{
    if (live.n == 0) return;
    size_t at = live.items[0].at / PAGE * PAGE, end = live.items[live.n - 1].at + live.items[live.n - 1].n_bytes;
    if (opened.n_bytes > 0) { /* and what was open already */
        if (opened.at < at) at = opened.at;
        if (opened.at + opened.n_bytes > end) end = opened.at + opened.n_bytes;
    }
    opened = (range){at, end - at};
    mprotect(cusim_memory.base + at, end - at, PROT_READ | PROT_WRITE);
}

void cusim_open_memory(void)
{
    if (n_open++ == 0) open_live();
}

void cusim_close_memory(void)
{
    if (--n_open > 0) return;
    catch_faults();
    if (opened.n_bytes > 0) mprotect(cusim_memory.base + opened.at, opened.n_bytes, PROT_NONE);
    opened = (range){0};
}

/* A fault on the device's pages is the host's mistake: told, then allowed, so that the program reaches its own checks. */
static void on_fault(int sig, siginfo_t *info, void *context)
{
    if (cusim_is_device(info->si_addr) && n_open == 0) {
        char text[160];
        cusim_describe(info->si_addr, text, sizeof text);
        cusim_report("host code touches device memory at %p: %s", info->si_addr, text);
        open_live();
        return;
    }
    if (other_handler.sa_flags & SA_SIGINFO) {
        other_handler.sa_sigaction(sig, info, context);
    } else if (other_handler.sa_handler != SIG_DFL && other_handler.sa_handler != SIG_IGN) {
        other_handler.sa_handler(sig);
    } else {
        sigaction(SIGSEGV, &other_handler, NULL); /* the access repeats and ends the process */
    }
}

bool cusim_reserve(void)
{
    if (cusim_memory.base) return true;
    cusim_space m = {.device_end = DEVICE_SPACE, .shared_end = DEVICE_SPACE + SHARED_SPACE,
                     .stacks_end = DEVICE_SPACE + SHARED_SPACE + STACK_SPACE};
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, rw = PROT_READ | PROT_WRITE;
    m.base = mmap(NULL, m.stacks_end, PROT_NONE, flags, -1, 0);
    m.state = mmap(NULL, m.shared_end, rw, flags, -1, 0);
    if (m.base == MAP_FAILED || m.state == MAP_FAILED) return false;
    madvise(m.base, m.device_end, MADV_HUGEPAGE); /* protecting is then one entry per 2 MB */
    madvise(m.state, m.shared_end, MADV_HUGEPAGE);
    mprotect(m.base + m.device_end, m.stacks_end - m.device_end, rw);
    for (size_t i = 0; i < CUSIM_MAX_THREADS; i++)
        mprotect(m.base + m.shared_end + i * (CUSIM_STACK_BYTES + CUSIM_GUARD_BYTES), CUSIM_GUARD_BYTES, PROT_NONE);
    cusim_memory = m;
    const char *text = getenv("ADZE_CUSIM_MEMORY");
    unsigned long long wanted = text ? strtoull(text, NULL, 10) : 0;
    if (wanted > 0 && wanted <= DEVICE_SPACE / 2) total_bytes = (size_t)wanted;
    return true;
}

/* --- allocation --- */

/* The lowest offset from `from` on with room for `n_bytes` and its red zones; device_end if there is none. */
static size_t find_room(size_t from, size_t n_bytes)
{
    size_t at = from, i = count_up_to(&live, from);
    if (i > 0) { /* behind the one that begins before */
        size_t end = live.items[i - 1].at + live.items[i - 1].n_bytes;
        if (end + ALIGN > at) at = (end + 2 * ALIGN - 1) / ALIGN * ALIGN;
    }
    for (; i < live.n && live.items[i].at < at + n_bytes + ALIGN; i++)
        at = (live.items[i].at + live.items[i].n_bytes + 2 * ALIGN - 1) / ALIGN * ALIGN;
    return at + n_bytes + ALIGN <= cusim_memory.device_end ? at : cusim_memory.device_end;
}

static cudaError_t allocate(void **p, size_t n_bytes)
{
    *p = NULL;
    if (n_bytes == 0) return cudaSuccess;
    if (!cusim_reserve() || n_bytes > total_bytes - used_bytes) return cudaErrorMemoryAllocation;
    size_t at = find_room(next_at, n_bytes);
    if (at == cusim_memory.device_end) at = find_room(ALIGN, n_bytes);
    if (at == cusim_memory.device_end || !insert(&live, (range){at, n_bytes})) return cudaErrorMemoryAllocation;
    for (size_t i = 0; i < freed.n;) /* what lay here is forgotten */
        if (freed.items[i].at < at + n_bytes && at < freed.items[i].at + freed.items[i].n_bytes) drop(&freed, i);
        else i++;
    next_at = (at + n_bytes + 2 * ALIGN - 1) / ALIGN * ALIGN;
    used_bytes += n_bytes;
    if (used_bytes > most_bytes) most_bytes = used_bytes;
    if (n_open > 0) open_live();
    memset(cusim_memory.state + at, CUSIM_LIVE, n_bytes);
    *p = cusim_memory.base + at;
    return cudaSuccess;
}

bool cusim_release(void *p)
{
    size_t at = offset_of(p), i = cusim_is_device(p) ? count_up_to(&live, at) : 0;
    if (i == 0 || live.items[i - 1].at != at) {
        char text[160];
        cusim_describe(p, text, sizeof text);
        cusim_report("free of %p, which is no allocation: %s", p, text);
        return false;
    }
    range r = live.items[i - 1];
    drop(&live, i - 1);
    insert(&freed, r);
    used_bytes -= r.n_bytes;
    memset(cusim_memory.state + at, 0, r.n_bytes);
    size_t first = (at + PAGE - 1) / PAGE * PAGE, end = (at + r.n_bytes) / PAGE * PAGE;
    if (first < end) madvise(cusim_memory.base + first, end - first, MADV_DONTNEED);
    return true;
}

/* ADZE_CUSIM_PEAK=FILE: adds a line with the most bytes that were allocated at once when the program ends. */
__attribute__((destructor)) static void write_peak(void)
{
    const char *path = getenv("ADZE_CUSIM_PEAK");
    FILE *f = path && most_bytes > 0 ? fopen(path, "a") : NULL;
    if (!f) return;
    fprintf(f, "%zu\n", most_bytes);
    fclose(f);
}

cudaError_t cudaMalloc(void **p, size_t n_bytes)
{
    cusim_lock();
    cudaError_t e = cusim_refuse_in_capture("cudaMalloc");
    cusim_use_device();
    if (e == cudaSuccess) e = allocate(p, n_bytes);
    e = cusim_result(e);
    cusim_unlock();
    return e;
}

cudaError_t cudaFree(void *p)
{
    if (!p) return cudaSuccess;
    cusim_lock();
    cudaError_t e = cusim_refuse_in_capture("cudaFree");
    if (e == cudaSuccess) {
        cusim_run_all(); /* cudaFree waits for the device */
        cusim_release(p);
    }
    e = cusim_result(e);
    cusim_unlock();
    return e;
}

cudaError_t cudaMallocAsync(void **p, size_t n_bytes, cudaStream_t stream)
{
    (void)stream;
    cusim_lock();
    cudaError_t e = cusim_refuse_in_capture("cudaMallocAsync");
    if (e == cudaSuccess) e = allocate(p, n_bytes);
    e = cusim_result(e);
    cusim_unlock();
    return e;
}

size_t cusim_device_bytes(void) { return cusim_reserve() ? total_bytes : 0; }

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    cusim_lock();
    cusim_use_device();
    cudaError_t e = cusim_reserve() ? cudaSuccess : cudaErrorMemoryAllocation;
    *total = total_bytes;
    *free_bytes = total_bytes - used_bytes;
    e = cusim_result(e);
    cusim_unlock();
    return e;
}

/* --- pinned memory --- */

cudaError_t cudaHostRegister(void *p, size_t n_bytes, unsigned flags)
{
    (void)flags;
    cusim_lock();
    cudaError_t e = cusim_refuse_in_capture("cudaHostRegister");
    if (e == cudaSuccess && (!p || n_bytes == 0)) e = cudaErrorInvalidValue;
    if (e == cudaSuccess && holding(&pinned, (size_t)(uintptr_t)p)) e = cudaErrorHostMemoryAlreadyRegistered;
    if (e == cudaSuccess && !insert(&pinned, (range){(size_t)(uintptr_t)p, n_bytes})) e = cudaErrorMemoryAllocation;
    e = cusim_result(e);
    cusim_unlock();
    return e;
}

cudaError_t cudaHostUnregister(void *p)
{
    cusim_lock();
    cudaError_t e = cusim_refuse_in_capture("releasing pinned memory");
    if (e == cudaSuccess) {
        cusim_run_all();
        size_t i = count_up_to(&pinned, (size_t)(uintptr_t)p);
        if (i > 0 && pinned.items[i - 1].at == (size_t)(uintptr_t)p) drop(&pinned, i - 1);
        else e = cudaErrorHostMemoryNotRegistered;
    }
    e = cusim_result(e);
    cusim_unlock();
    return e;
}

cudaError_t cudaHostAlloc(void **p, size_t n_bytes, unsigned flags)
{
    *p = NULL;
    cusim_lock();
    cudaError_t e = cusim_refuse_in_capture("cudaHostAlloc");
    cusim_use_device();
    if (e == cudaSuccess && n_bytes > 0) {
        if (posix_memalign(p, PAGE, n_bytes) != 0) *p = NULL;
        e = *p ? cudaHostRegister(*p, n_bytes, flags) : cudaErrorMemoryAllocation;
        if (e != cudaSuccess) {
            free(*p);
            *p = NULL;
        }
    }
    e = cusim_result(e);
    cusim_unlock();
    return e;
}

cudaError_t cudaMallocHost(void **p, size_t n_bytes) { return cudaHostAlloc(p, n_bytes, cudaHostAllocDefault); }

cudaError_t cudaFreeHost(void *p)
{
    if (!p) return cudaSuccess;
    cudaError_t e = cudaHostUnregister(p);
    if (e == cudaSuccess) free(p);
    return e;
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *a, const void *p)
{
    cusim_lock();
    *a = (struct cudaPointerAttributes){.type = cudaMemoryTypeUnregistered, .device = -2};
    if (cusim_is_device(p) && holding(&live, offset_of(p)))
        *a = (struct cudaPointerAttributes){.type = cudaMemoryTypeDevice, .devicePointer = (void *)(uintptr_t)p};
    else if (cusim_is_pinned(p, 1))
        *a = (struct cudaPointerAttributes){.type = cudaMemoryTypeHost, .devicePointer = (void *)(uintptr_t)p,
                                            .hostPointer = (void *)(uintptr_t)p};
    cudaError_t e = cusim_result(cudaSuccess);
    cusim_unlock();
    return e;
}
