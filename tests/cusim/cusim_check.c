/* cusim_check.c - looks at every load and store of kernel code, which g++ announces by the calls of -fsanitize=thread; the
 * functions of that name are here, and libtsan is not linked.
 *
 * Each byte of device and shared memory has a byte of state (live, initialised, a cp.async on its way). Each 4 bytes have
 * two words that say who wrote and who read them last: the era (a number that every launch, block and barrier takes anew),
 * the thread, its __syncwarp count, and which of the 4 bytes. Two accesses of different threads race if neither an era nor,
 * inside a warp, a __syncwarp lies between them; those of different blocks of a launch always do. A word remembers one
 * reader and whether there were more: a race may be missed, none is invented. */
#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "cusim_impl.h"

/* A word: mask 4 | MANY or ATOMIC 1 | OTHER_BLOCKS 1 | __syncwarp count 12 | thread 10 | era 36. */
enum { MANY = 1 << 4, ATOMIC = 1 << 4, OTHER_BLOCKS = 1 << 5, SYNCS_SHIFT = 6, SYNCS_MAX = 4095, THREAD_SHIFT = 18, ERA_SHIFT = 28 };

typedef struct {
    uint64_t write, read;
} history;

typedef enum { READ, WRITE, ATOMICALLY } access_kind;

typedef struct {
    uintptr_t begin, end;
} span;

cusim_checks cusim_the_checks = CUSIM_CHECKS_FULL;
cusim_now cusim_time;

static history *histories;
static span constants[16]; /* the loaded segments of the object that holds the kernel */
static size_t n_constants;

/* --- time --- */

bool cusim_begin_launch(const cusim_kernel_call *call)
{
    if (!histories) {
        size_t n_bytes = cusim_memory.shared_end / 4 * sizeof *histories; /* small pages: a short array would clear 8 MB of large ones */
        histories = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (histories == MAP_FAILED) {
            histories = NULL;
            return false;
        }
    }
    cusim_time.launch_era = ++cusim_time.era;
    cusim_time.call = call;
    n_constants = 0;
    return true;
}

void cusim_begin_block(void)
{
    cusim_time.block_era = ++cusim_time.era;
    cusim_time.acquired = false;
}

/* --- what went wrong --- */

/* The object and offset of an instruction, for addr2line. */
static void describe_code(const void *pc, char *text, size_t text_bytes)
{
    Dl_info info;
    if (!dladdr(pc, &info) || !info.dli_fname) {
        snprintf(text, text_bytes, "%p", pc);
        return;
    }
    const char *slash = strrchr(info.dli_fname, '/');
    snprintf(text, text_bytes, "%s+0x%zx", slash ? slash + 1 : info.dli_fname,
             (size_t)((const char *)pc - (const char *)info.dli_fbase) - 1);
}

static const char *const verbs[] = {[READ] = "reads", [WRITE] = "writes", [ATOMICALLY] = "updates"};

static void wrong_state(const cusim_thread *t, const void *p, size_t n, access_kind kind, const void *pc) __attribute__((noreturn));
static void wrong_state(const cusim_thread *t, const void *p, size_t n, access_kind kind, const void *pc)
{
    size_t at = (size_t)((const unsigned char *)p - cusim_memory.base), i = 0;
    const unsigned char *s = cusim_memory.state + at;
    while (i + 1 < n && (s[i] & ~CUSIM_INITIALISED) == CUSIM_LIVE && (kind == WRITE || s[i] & CUSIM_INITIALISED)) i++;
    char code[160], where[160];
    describe_code(pc, code, sizeof code);
    if (at + i < cusim_memory.device_end) cusim_describe(cusim_memory.base + at + i, where, sizeof where);
    else cusim_describe_shared(cusim_memory.base + at + i, where, sizeof where);
    const char *what = !(s[i] & CUSIM_LIVE) ? "out of bounds" : s[i] & CUSIM_PENDING ? "before the wait of a cp.async" : "uninitialised";
    cusim_fault(t, "%s %zu bytes at %p, %s: %s (at %s)", verbs[kind], n, p, what, where, code);
}

static void race(const cusim_thread *t, const void *p, access_kind kind, uint64_t other, access_kind other_kind, const void *pc)
    __attribute__((noreturn));
static void race(const cusim_thread *t, const void *p, access_kind kind, uint64_t other, access_kind other_kind, const void *pc)
{
    char code[160], where[160], who[64];
    bool shared = (const unsigned char *)p >= cusim_memory.base + cusim_memory.device_end;
    describe_code(pc, code, sizeof code);
    if (shared) cusim_describe_shared(p, where, sizeof where);
    else cusim_describe(p, where, sizeof where);
    if (other >> ERA_SHIFT < cusim_time.block_era) snprintf(who, sizeof who, "a thread of another block");
    else snprintf(who, sizeof who, "thread %u of this block", (unsigned)(other >> THREAD_SHIFT & 1023));
    cusim_fault(t, "race: %s %s memory at %p, which %s %s with no barrier between: %s (at %s)", verbs[kind],
                shared ? "shared" : "global", p, who, verbs[other_kind], where, code);
}

static void misaligned(const cusim_thread *t, const void *p, size_t n, access_kind kind, const void *pc) __attribute__((noreturn));
static void misaligned(const cusim_thread *t, const void *p, size_t n, access_kind kind, const void *pc)
{
    char code[160];
    describe_code(pc, code, sizeof code);
    cusim_fault(t, "%s %zu bytes at %p, misaligned (at %s)", verbs[kind], n, p, code);
}

/* --- races --- */

static inline bool conflicts(uint64_t word, const cusim_thread *t, uint64_t mask, bool shared, bool many)
{
    uint64_t era = word >> ERA_SHIFT;
    if (era < cusim_time.launch_era || !(word & mask)) return false;
    if (era < t->era) return era < cusim_time.block_era && !shared && !cusim_time.acquired;
    unsigned thread = (unsigned)(word >> THREAD_SHIFT) & 1023;
    if (thread == t->index && !many) return false;
    unsigned syncs = (unsigned)(word >> SYNCS_SHIFT) & SYNCS_MAX;
    return thread / CUSIM_WARP != t->index / CUSIM_WARP || (syncs >= t->warp_syncs && t->warp_syncs < SYNCS_MAX);
}

static inline uint64_t word_of(const cusim_thread *t, uint64_t mask, uint64_t flags)
{
    uint64_t syncs = t->warp_syncs < SYNCS_MAX ? t->warp_syncs : SYNCS_MAX;
    return t->era << ERA_SHIFT | (uint64_t)t->index << THREAD_SHIFT | syncs << SYNCS_SHIFT | flags | mask;
}

/* Adds this reader to the word. */
static inline uint64_t with_reader(uint64_t word, const cusim_thread *t, uint64_t mask)
{
    uint64_t mine = word_of(t, mask, 0), era = word >> ERA_SHIFT;
    if (era < cusim_time.launch_era) return mine;
    if (era < cusim_time.block_era) return mine | OTHER_BLOCKS;
    mine |= word & OTHER_BLOCKS;
    unsigned thread = (unsigned)(word >> THREAD_SHIFT) & 1023;
    if (era < t->era || (thread == t->index && !(word & MANY))) return mine | (era < t->era ? 0 : word & 15);
    uint64_t syncs = (uint64_t)SYNCS_MAX << SYNCS_SHIFT; /* several warps: no __syncwarp orders them all */
    if (thread / CUSIM_WARP == t->index / CUSIM_WARP && (word & syncs) != syncs)
        syncs = (word & syncs) > (mine & syncs) ? word & syncs : mine & syncs;
    return (mine & ~((uint64_t)SYNCS_MAX << SYNCS_SHIFT)) | syncs | MANY | (word & 15);
}

static inline void check_race(cusim_thread *t, const void *p, size_t at, uint64_t mask, access_kind kind, const void *pc)
{
    history *h = &histories[at / 4];
    bool shared = at >= cusim_memory.device_end;
    if (conflicts(h->write, t, mask, shared, false) && !(kind == ATOMICALLY && h->write & ATOMIC))
        race(t, p, kind, h->write, h->write & ATOMIC ? ATOMICALLY : WRITE, pc);
    if (kind == READ) {
        h->read = with_reader(h->read, t, mask);
        return;
    }
    if (conflicts(h->read, t, mask, shared, h->read & MANY)) race(t, p, kind, h->read, READ, pc);
    if (h->read & OTHER_BLOCKS && h->read >> ERA_SHIFT >= cusim_time.launch_era && !shared && !cusim_time.acquired)
        race(t, p, kind, (uint64_t)cusim_time.launch_era << ERA_SHIFT, READ, pc);
    h->write = word_of(t, mask, kind == ATOMICALLY ? ATOMIC : 0);
}

/* --- one access --- */

static int add_span(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)size;
    uintptr_t code = *(const uintptr_t *)data;
    bool holds = false;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *h = &info->dlpi_phdr[i];
        holds = holds || (h->p_type == PT_LOAD && code - (info->dlpi_addr + h->p_vaddr) < h->p_memsz);
    }
    for (int i = 0; holds && i < info->dlpi_phnum && n_constants < sizeof constants / sizeof *constants; i++) {
        const ElfW(Phdr) *h = &info->dlpi_phdr[i];
        uintptr_t begin = info->dlpi_addr + h->p_vaddr;
        if (h->p_type == PT_LOAD) constants[n_constants++] = (span){begin, begin + h->p_memsz};
    }
    return holds;
}

/* Neither device nor shared memory: a thread's own stack, the arguments, and constants of the program are allowed. */
static void check_elsewhere(cusim_thread *t, const void *p, size_t n, access_kind kind, const void *pc)
{
    size_t at = (size_t)((const unsigned char *)p - cusim_memory.base);
    char code[160];
    if (at < cusim_memory.stacks_end) {
        if ((at - cusim_memory.shared_end) / (CUSIM_STACK_BYTES + CUSIM_GUARD_BYTES) == t->index) return;
        describe_code(pc, code, sizeof code);
        cusim_fault(t, "%s %zu bytes at %p, local memory of another thread (at %s)", verbs[kind], n, p, code);
    }
    uintptr_t a = (uintptr_t)p;
    if (kind == READ && a - (uintptr_t)cusim_time.call->args < cusim_time.call->args_bytes) return;
    if (n_constants == 0) {
        uintptr_t run = (uintptr_t)cusim_time.call->run;
        dl_iterate_phdr(add_span, &run);
    }
    for (size_t i = 0; i < n_constants; i++)
        if (a >= constants[i].begin && a < constants[i].end) return;
    describe_code(pc, code, sizeof code);
    cusim_fault(t, "%s %zu bytes at %p, %s (at %s)", verbs[kind], n, p, a < 4096 ? "a null pointer" : "host memory", code);
}

static inline bool state_allows(const unsigned char *state, size_t n, access_kind kind)
{
    const uint64_t live = 0x0101010101010101u * CUSIM_LIVE, initialised = 0x0101010101010101u * CUSIM_INITIALISED;
    const uint64_t pending = 0x0101010101010101u * CUSIM_PENDING;
    uint64_t must = kind == WRITE ? live : live | initialised, all = must | pending, s = 0;
    for (; n > 8; n -= 8, state += 8) {
        memcpy(&s, state, 8);
        if ((s & all) != must) return false;
    }
    uint64_t low = n == 8 ? UINT64_MAX : ((uint64_t)1 << (8 * n)) - 1;
    switch (n) {
    case 1: s = *state; break;
    case 2: { uint16_t v; memcpy(&v, state, 2); s = v; break; }
    case 4: { uint32_t v; memcpy(&v, state, 4); s = v; break; }
    case 8: memcpy(&s, state, 8); break;
    default: s = 0; memcpy(&s, state, n); break;
    }
    return (s & all & low) == (must & low);
}

static inline void check(cusim_thread *t, const void *p, size_t n, access_kind kind, const void *pc)
{
    size_t at = (size_t)((const unsigned char *)p - cusim_memory.base);
    if (at >= cusim_memory.shared_end) {
        check_elsewhere(t, p, n, kind, pc);
        return;
    }
    unsigned char *state = cusim_memory.state + at;
    if (!state_allows(state, n, kind)) wrong_state(t, p, n, kind, pc);
    if (kind == WRITE) memset(state, CUSIM_LIVE | CUSIM_INITIALISED, n);
    if (cusim_the_checks != CUSIM_CHECKS_FULL) return;
    if (at % 4 + n <= 4) {
        check_race(t, p, at, ((1u << n) - 1) << at % 4, kind, pc);
    } else {
        for (size_t i = 0; i < n;) { /* the part in each 4 bytes */
            size_t part = 4 - (at + i) % 4 < n - i ? 4 - (at + i) % 4 : n - i;
            check_race(t, (const char *)p + i, at + i, ((1u << part) - 1) << (at + i) % 4, kind, pc);
            i += part;
        }
    }
}

void cusim_access(cusim_thread *t, const void *p, size_t n, bool write, const void *pc)
{
    if (cusim_the_checks != CUSIM_CHECKS_OFF) check(t, p, n, write ? WRITE : READ, pc);
}

/* A copy to these bytes has begun: nobody may touch them before its wait. */
void cusim_await(cusim_thread *t, const void *p, size_t n, const void *pc)
{
    if (cusim_the_checks == CUSIM_CHECKS_OFF) return;
    size_t at = (size_t)((const unsigned char *)p - cusim_memory.base);
    if (at < cusim_memory.device_end || at >= cusim_memory.shared_end) cusim_fault(t, "cp.async to %p, which is not shared memory", p);
    check(t, p, n, WRITE, pc);
    memset(cusim_memory.state + at, CUSIM_LIVE | CUSIM_PENDING, n);
}

/* The copy has arrived. */
void cusim_arrive(cusim_thread *t, const void *p, size_t n, const void *pc)
{
    if (cusim_the_checks == CUSIM_CHECKS_OFF) return;
    memset(cusim_memory.state + ((const unsigned char *)p - cusim_memory.base), CUSIM_LIVE, n);
    check(t, p, n, WRITE, pc);
}

/* --- what g++ calls --- */

static inline void announced(const void *p, size_t n, access_kind kind, bool aligned, const void *pc)
{
    cusim_thread *t = (cusim_thread *)(uintptr_t)cusim_self;
    if (!t) return;
    if (cusim_counting) cusim_count_access(t, p, n, kind != READ, pc);
    if (cusim_the_checks == CUSIM_CHECKS_OFF) return;
    if (aligned && (uintptr_t)p % n != 0) misaligned(t, p, n, kind, pc);
    check(t, p, n, kind, pc);
    if (cusim_the_schedule.order == CUSIM_RANDOM) cusim_maybe_yield();
}

#define PLAIN(n)                                                                                                         \
    void __tsan_read##n(const void *p);                                                                                  \
    void __tsan_read##n(const void *p) { announced(p, n, READ, true, __builtin_return_address(0)); }                     \
    void __tsan_write##n(const void *p);                                                                                 \
    void __tsan_write##n(const void *p) { announced(p, n, WRITE, true, __builtin_return_address(0)); }                   \
    void __tsan_unaligned_read##n(const void *p);                                                                        \
    void __tsan_unaligned_read##n(const void *p) { announced(p, n, READ, false, __builtin_return_address(0)); }          \
    void __tsan_unaligned_write##n(const void *p);                                                                       \
    void __tsan_unaligned_write##n(const void *p) { announced(p, n, WRITE, false, __builtin_return_address(0)); }
PLAIN(1)
PLAIN(2)
PLAIN(4)
PLAIN(8)
PLAIN(16)

void __tsan_read_range(const void *p, size_t n);
void __tsan_read_range(const void *p, size_t n) { announced(p, n, READ, false, __builtin_return_address(0)); }
void __tsan_write_range(const void *p, size_t n);
void __tsan_write_range(const void *p, size_t n) { announced(p, n, WRITE, false, __builtin_return_address(0)); }
void __tsan_init(void);
void __tsan_init(void) {}
void __tsan_func_entry(void *pc);
void __tsan_func_entry(void *pc) { (void)pc; }
void __tsan_func_exit(void);
void __tsan_func_exit(void) {}
void __tsan_vptr_update(void **p, void *v);
void __tsan_vptr_update(void **p, void *v) { (void)p; (void)v; }

#define FETCH(bits, op)                                                                                                \
    uint##bits##_t __tsan_atomic##bits##_##op(volatile void *p, uint##bits##_t v, int order);                          \
    uint##bits##_t __tsan_atomic##bits##_##op(volatile void *p, uint##bits##_t v, int order)                           \
    {                                                                                                                  \
        (void)order;                                                                                                   \
        announced((const void *)p, bits / 8, ATOMICALLY, true, __builtin_return_address(0));                           \
        return __atomic_##op((volatile uint##bits##_t *)p, v, __ATOMIC_SEQ_CST);                                       \
    }
#define ATOMICS(bits)                                                                                                  \
    FETCH(bits, fetch_add)                                                                                             \
    FETCH(bits, fetch_sub)                                                                                             \
    FETCH(bits, fetch_and)                                                                                             \
    FETCH(bits, fetch_or)                                                                                              \
    FETCH(bits, fetch_xor)                                                                                             \
    uint##bits##_t __tsan_atomic##bits##_exchange(volatile void *p, uint##bits##_t v, int order);                      \
    uint##bits##_t __tsan_atomic##bits##_exchange(volatile void *p, uint##bits##_t v, int order)                       \
    {                                                                                                                  \
        (void)order;                                                                                                   \
        announced((const void *)p, bits / 8, ATOMICALLY, true, __builtin_return_address(0));                           \
        return __atomic_exchange_n((volatile uint##bits##_t *)p, v, __ATOMIC_SEQ_CST);                                 \
    }                                                                                                                  \
    uint##bits##_t __tsan_atomic##bits##_load(const volatile void *p, int order);                                      \
    uint##bits##_t __tsan_atomic##bits##_load(const volatile void *p, int order)                                       \
    {                                                                                                                  \
        (void)order;                                                                                                   \
        announced((const void *)p, bits / 8, ATOMICALLY, true, __builtin_return_address(0));                           \
        return __atomic_load_n((const volatile uint##bits##_t *)p, __ATOMIC_SEQ_CST);                                  \
    }                                                                                                                  \
    int __tsan_atomic##bits##_compare_exchange_strong(volatile void *p, void *expected, uint##bits##_t v, int o, int f); \
    int __tsan_atomic##bits##_compare_exchange_strong(volatile void *p, void *expected, uint##bits##_t v, int o, int f) \
    {                                                                                                                  \
        (void)o;                                                                                                       \
        (void)f;                                                                                                       \
        announced((const void *)p, bits / 8, ATOMICALLY, true, __builtin_return_address(0));                           \
        return __atomic_compare_exchange_n((volatile uint##bits##_t *)p, (uint##bits##_t *)expected, v, 0,             \
                                           __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                                        \
    }                                                                                                                  \
    uint##bits##_t __tsan_atomic##bits##_compare_exchange_val(volatile void *p, uint##bits##_t e, uint##bits##_t v, int o, int f); \
    uint##bits##_t __tsan_atomic##bits##_compare_exchange_val(volatile void *p, uint##bits##_t e, uint##bits##_t v, int o, int f) \
    {                                                                                                                  \
        (void)o;                                                                                                       \
        (void)f;                                                                                                       \
        announced((const void *)p, bits / 8, ATOMICALLY, true, __builtin_return_address(0));                           \
        __atomic_compare_exchange_n((volatile uint##bits##_t *)p, &e, v, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);       \
        return e;                                                                                                      \
    }
ATOMICS(32)
ATOMICS(64)
