/* cusim_block.c - runs a kernel: blocks one after another, each CUDA thread a fibre of its own.
 * Entry: cusim_run_kernel(). The switch is written by hand: nine nanoseconds, a hundred times less than swapcontext(), which
 * asks the system for the signal mask. A barrier counts arrivals; a warp operation completes when the last lane of its mask
 * arrives, and that lane computes the results of all. When no thread can go on, the block is stuck: divergent or deadlocked. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cusim_impl.h"

#ifndef __x86_64__
#error "the fibre switch is written for x86-64"
#endif

enum { SHARED_ARRAYS = 64, RED_ZONE_BYTES = 128, NAMED_BARRIERS = 16 };

typedef struct {
    const void *key;
    const char *name;
    unsigned char *at;
    size_t n_bytes;
} shared_array;

typedef struct {
    int threads, arrived;
} named_barrier;

typedef struct {
    unsigned gone;      /* lanes that left the kernel, or that the block does not have */
    unsigned waiting;   /* lanes in a warp operation */
    bool same;          /* all of them in this one: */
    cusim_warp_op op;
    unsigned mask;
} warp_state;

static struct {
    const cusim_kernel_call *call;
    unsigned n_threads, n_warps, n_alive, n_waiting; /* waiting: at the block's barrier */
    unsigned ready[CUSIM_MAX_THREADS / CUSIM_WARP];  /* one bit per lane */
    warp_state warps[CUSIM_MAX_THREADS / CUSIM_WARP];
    cusim_vote vote;
    named_barrier named[NAMED_BARRIERS];
    cusim_thread *self;
    bool failed;
    shared_array arrays[SHARED_ARRAYS];
    size_t n_arrays, static_bytes, shared_top;
    uint64_t random;
    int until_yield; /* accesses left */
    void *scheduler_sp;
    cusim_thread threads[CUSIM_MAX_THREADS];
} block;

__thread const cusim_place *cusim_self __attribute__((tls_model("initial-exec"))); /* NULL in host code */
cusim_schedule cusim_the_schedule;

/* --- fibres --- */

static uint64_t random_next(void)
{
    block.random ^= block.random << 13;
    block.random ^= block.random >> 7;
    block.random ^= block.random << 17;
    return block.random;
}

void cusim_switch(void **save_sp, void *load_sp);
__asm__(".text\n.p2align 4\n.type cusim_switch,@function\ncusim_switch:\n"
        "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
        "movq %rsp, (%rdi)\nmovq %rsi, %rsp\n"
        "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n"
        ".size cusim_switch,.-cusim_switch\n");

static void leave(void) { cusim_switch(&block.self->sp, block.scheduler_sp); }

static void make_ready(cusim_thread *f)
{
    unsigned i = f->index;
    f->state = CUSIM_READY;
    block.ready[i / CUSIM_WARP] |= 1u << (i % CUSIM_WARP);
}

static void wait_as(cusim_thread_state state, const char *file, int line)
{
    cusim_thread *f = block.self;
    unsigned i = f->index;
    f->state = state;
    f->file = file;
    f->line = line;
    block.ready[i / CUSIM_WARP] &= ~(1u << (i % CUSIM_WARP));
    leave();
}

/* Those copies of the thread that belong to groups before `end`. */
static void deliver_copies(cusim_thread *f, unsigned end)
{
    size_t n = 0;
    for (; n < f->n_copies && f->copies[n].group < end; n++) {
        const cusim_copy *c = &f->copies[n];
        if (c->n_valid > 0) cusim_access(f, c->global, (size_t)c->n_valid, false, c->pc);
        cusim_arrive(f, c->shared, (size_t)c->n_bytes, c->pc);
        memcpy(c->shared, c->global, (size_t)c->n_valid);
        memset((char *)c->shared + c->n_valid, 0, (size_t)(c->n_bytes - c->n_valid));
    }
    f->n_copies -= n;
    memmove(f->copies, f->copies + n, f->n_copies * sizeof *f->copies);
}

static void fibre_main(void)
{
    block.call->run(block.call->args);
    deliver_copies(block.self, UINT32_MAX);
    block.n_alive--;
    block.warps[block.self->index / CUSIM_WARP].gone |= 1u << (block.self->index % CUSIM_WARP);
    wait_as(CUSIM_DONE, "the end of the kernel", 0);
    __builtin_unreachable();
}

static void start_fibre(cusim_thread *f)
{
    unsigned i = f->index;
    unsigned char *stacks = cusim_memory.base + cusim_memory.shared_end; /* each above a guard page */
    void **top = (void **)(stacks + (size_t)(i + 1) * (CUSIM_STACK_BYTES + CUSIM_GUARD_BYTES));
    *--top = NULL; /* fibre_main has no caller, and its stack is aligned as after a call */
    *--top = (void *)fibre_main;
    top -= 6;
    f->sp = top;
    make_ready(f);
}

/* Prints a failed check with the place of the thread; the block ends. */
static void tell(const cusim_thread *t, const char *fmt, va_list ap)
{
    char text[400];
    vsnprintf(text, sizeof text, fmt, ap);
    const cusim_place *p = &t->place;
    cusim_report("%s: block (%u,%u,%u) thread (%u,%u,%u): %s", block.call->name, p->block.x, p->block.y, p->block.z, p->thread.x,
                 p->thread.y, p->thread.z, text);
    block.failed = true;
}

static void stuck(const cusim_thread *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void stuck(const cusim_thread *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    tell(t, fmt, ap);
    va_end(ap);
}

void cusim_fault(const cusim_thread *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    tell(t, fmt, ap);
    va_end(ap);
    leave();
    __builtin_unreachable();
}

/* --- barriers --- */

int cusim_barrier(cusim_vote vote, int predicate, const char *file, int line)
{
    cusim_thread *f = block.self;
    f->vote = predicate != 0;
    f->file = file;
    f->line = line;
    if (block.n_waiting == 0) block.vote = vote;
    block.n_waiting++;
    if (block.n_waiting < block.n_threads) {
        wait_as(CUSIM_AT_BARRIER, file, line);
        return f->vote;
    }
    int sum = 0;
    for (unsigned i = 0; i < block.n_threads; i++) {
        const cusim_thread *t = &block.threads[i];
        sum += t->vote;
        if (t->line != line || strcmp(t->file, file) != 0)
            cusim_fault(t, "divergent barrier: waits at %s:%d, thread %u at %s:%d", t->file, t->line, f->index, file, line);
    }
    int result = block.vote == CUSIM_VOTE_COUNT ? sum : block.vote == CUSIM_VOTE_AND ? sum == (int)block.n_threads : sum > 0;
    block.n_waiting = 0;
    if (cusim_counting) cusim_count_flush();
    cusim_time.era++;
    for (unsigned i = 0; i < block.n_threads; i++) {
        block.threads[i].vote = result;
        block.threads[i].era = cusim_time.era;
        block.threads[i].warp_syncs = 0;
        make_ready(&block.threads[i]);
    }
    return result;
}

void cusim_named_barrier(int id, int threads, bool wait, const char *file, int line)
{
    cusim_thread *f = block.self;
    if (id < 1 || id >= NAMED_BARRIERS || threads <= 0 || threads % CUSIM_WARP != 0 || threads > (int)block.n_threads)
        cusim_fault(f, "named barrier %d for %d threads at %s:%d: want 1 to 15, whole warps of the block", id, threads, file, line);
    named_barrier *b = &block.named[id];
    if (b->arrived == 0) b->threads = threads;
    if (b->threads != threads)
        cusim_fault(f, "named barrier %d at %s:%d expects %d threads, others came to it expecting %d", id, file, line, threads,
                    b->threads);
    b->arrived++;
    if (b->arrived < threads) {
        f->lane_arg = id;
        if (wait) wait_as(CUSIM_AT_NAMED_BARRIER, file, line);
        return;
    }
    b->arrived = 0;
    cusim_time.era++;
    if (wait) f->era = cusim_time.era;
    for (unsigned i = 0; i < block.n_threads; i++) {
        cusim_thread *t = &block.threads[i];
        if (t->state != CUSIM_AT_NAMED_BARRIER || t->lane_arg != id) continue;
        t->era = cusim_time.era;
        make_ready(t);
    }
}

/* --- warp operations --- */

static const char *const op_names[] = {
    [CUSIM_SYNC] = "__syncwarp", [CUSIM_SHFL] = "__shfl_sync", [CUSIM_SHFL_UP] = "__shfl_up_sync",
    [CUSIM_SHFL_DOWN] = "__shfl_down_sync", [CUSIM_SHFL_XOR] = "__shfl_xor_sync", [CUSIM_BALLOT] = "__ballot_sync",
    [CUSIM_ANY] = "__any_sync", [CUSIM_ALL] = "__all_sync", [CUSIM_MATCH_ANY] = "__match_any_sync",
    [CUSIM_MATCH_ALL] = "__match_all_sync", [CUSIM_REDUCE_ADD] = "__reduce_add_sync", [CUSIM_REDUCE_MIN] = "__reduce_min_sync",
    [CUSIM_REDUCE_MAX] = "__reduce_max_sync", [CUSIM_REDUCE_UMIN] = "__reduce_min_sync",
    [CUSIM_REDUCE_UMAX] = "__reduce_max_sync", [CUSIM_REDUCE_AND] = "__reduce_and_sync",
    [CUSIM_REDUCE_OR] = "__reduce_or_sync", [CUSIM_REDUCE_XOR] = "__reduce_xor_sync", [CUSIM_LDMATRIX] = "ldmatrix",
    [CUSIM_MMA] = "mma",
};

/* The lane whose value `lane` receives, itself where the shuffle reaches past its segment. */
static int shuffle_source(cusim_warp_op op, int lane, int arg, int width)
{
    int base = lane & ~(width - 1), end = base + width, source = lane;
    switch (op) {
    case CUSIM_SHFL: source = base + (arg & (width - 1)); break;
    case CUSIM_SHFL_UP: source = lane - arg; return source < base ? lane : source;
    case CUSIM_SHFL_DOWN: source = lane + arg; break;
    default: source = lane ^ arg; break; /* an xor may reach into lower segments, not higher ones */
    }
    return source >= end ? lane : source;
}

static uint64_t reduce_pair(cusim_warp_op op, uint64_t a, uint64_t b)
{
    switch (op) {
    case CUSIM_REDUCE_ADD: return (uint32_t)(a + b);
    case CUSIM_REDUCE_MIN: return (int32_t)a < (int32_t)b ? a : b;
    case CUSIM_REDUCE_MAX: return (int32_t)a > (int32_t)b ? a : b;
    case CUSIM_REDUCE_UMIN: return (uint32_t)a < (uint32_t)b ? a : b;
    case CUSIM_REDUCE_UMAX: return (uint32_t)a > (uint32_t)b ? a : b;
    case CUSIM_REDUCE_AND: return a & b;
    case CUSIM_REDUCE_OR: return a | b;
    default: return a ^ b;
    }
}

/* All lanes of `mask` have arrived: their results. */
static void complete_warp_op(cusim_thread *warp, cusim_warp_op op, unsigned mask)
{
    uint64_t value[CUSIM_WARP], votes = 0, total = 0;
    bool first = true, all_equal = true;
    unsigned syncs = 0;
    uint64_t first_value = 0;
    if (op == CUSIM_MMA) cusim_complete_mma(warp);
    if (op == CUSIM_LDMATRIX) cusim_complete_ldmatrix(warp);
    for (int i = 0; i < CUSIM_WARP; i++) {
        if (!(mask >> i & 1)) continue;
        value[i] = warp[i].value;
        if (warp[i].warp_syncs > syncs) syncs = warp[i].warp_syncs;
        votes |= (uint64_t)(value[i] != 0) << i;
        total = first ? value[i] : reduce_pair(op, total, value[i]);
        if (first) first_value = value[i];
        all_equal = all_equal && value[i] == first_value;
        first = false;
    }
    for (int i = 0; i < CUSIM_WARP; i++) {
        if (!(mask >> i & 1)) continue;
        cusim_thread *f = &warp[i];
        switch (op) {
        case CUSIM_SYNC: f->warp_syncs = syncs + 1; break;
        case CUSIM_LDMATRIX:
        case CUSIM_MMA: break;
        case CUSIM_SHFL:
        case CUSIM_SHFL_UP:
        case CUSIM_SHFL_DOWN:
        case CUSIM_SHFL_XOR: {
            int source = shuffle_source(op, i, f->lane_arg, f->width);
            if (!(mask >> source & 1))
                cusim_fault(f, "%s at %s:%d: reads lane %d, which is not in the mask %08x", op_names[op], f->file, f->line, source,
                            mask);
            f->value = value[source];
            break;
        }
        case CUSIM_BALLOT: f->value = votes; break;
        case CUSIM_ANY: f->value = votes != 0; break;
        case CUSIM_ALL: f->value = votes == mask; break;
        case CUSIM_MATCH_ANY:
            f->value = 0;
            for (int j = 0; j < CUSIM_WARP; j++)
                if (mask >> j & 1) f->value |= (uint64_t)(value[j] == value[i]) << j;
            break;
        case CUSIM_MATCH_ALL: f->value = all_equal ? mask : 0; break;
        default: f->value = total; break;
        }
        make_ready(f);
    }
}

/* Whether all lanes of the mask wait in this operation; a lane that never will is a fault. */
static bool may_complete(const cusim_thread *f, const cusim_thread *warp, cusim_warp_op op, unsigned mask)
{
    bool complete = true;
    unsigned lane = f->index % CUSIM_WARP;
    for (unsigned i = 0; i < CUSIM_WARP; i++) {
        if (i == lane || !(mask >> i & 1)) continue;
        const cusim_thread *o = &warp[i];
        bool absent = f->index - lane + i >= block.n_threads;
        if (absent || o->state == CUSIM_DONE)
            cusim_fault(f, "%s at %s:%d: mask %08x names lane %u, which has %s", op_names[op], f->file, f->line, mask, i,
                        absent ? "no thread" : "left the kernel");
        if (o->state != CUSIM_AT_WARP_OP || (o->mask != mask && !(o->mask >> lane & 1)))
            complete = false; /* not there yet, or among other lanes first */
        else if (o->mask != mask || o->op != op)
            cusim_fault(f, "%s at %s:%d with mask %08x: lane %u waits in %s at %s:%d with mask %08x", op_names[op], f->file, f->line,
                        mask, i, op_names[o->op], o->file, o->line, o->mask);
    }
    return complete;
}

uint64_t cusim_warp(cusim_warp_op op, unsigned mask, uint64_t value, int lane, int width, const char *file, int line)
{
    cusim_thread *f = block.self;
    unsigned me = f->index, my_lane = me % CUSIM_WARP, first = me - my_lane;
    cusim_thread *warp = &block.threads[first];
    if (!(mask >> my_lane & 1))
        cusim_fault(f, "%s at %s:%d: lane %u is not in its own mask %08x", op_names[op], file, line, my_lane, mask);
    if (width < 1 || width > CUSIM_WARP || (width & (width - 1)) != 0)
        cusim_fault(f, "%s at %s:%d: width %d, want a power of two up to 32", op_names[op], file, line, width);
    f->op = op;
    f->mask = mask;
    f->value = value;
    f->lane_arg = lane;
    f->width = width;
    f->file = file;
    f->line = line;
    warp_state *w = &block.warps[me / CUSIM_WARP];
    bool complete;
    if (!(mask & w->gone) && (w->waiting == 0 || (w->same && w->op == op && w->mask == mask))) {
        w->same = true;
        w->op = op;
        w->mask = mask;
        complete = (w->waiting | 1u << my_lane) == mask;
    } else {
        w->same = false;
        complete = may_complete(f, warp, op, mask);
    }
    if (complete) {
        w->waiting &= ~mask;
        complete_warp_op(warp, op, mask);
    } else {
        w->waiting |= 1u << my_lane;
        wait_as(CUSIM_AT_WARP_OP, file, line);
    }
    return f->value;
}

unsigned cusim_active_mask(void) { return 1u << (block.self->index % CUSIM_WARP); }

void cusim_fence(void) {}

void cusim_acquire_blocks(void) { cusim_time.acquired = true; }

void cusim_float_atomic(const char *file, int line)
{
    cusim_fault(block.self, "floating-point atomic at %s:%d: its result depends on the order of the threads", file, line);
}

/* --- copies that happen when they are waited for --- */

void cusim_cp_async(void *shared, const void *global, int n_bytes, int n_valid)
{
    cusim_thread *f = block.self;
    if ((uintptr_t)shared % (unsigned)n_bytes != 0 || (uintptr_t)global % (unsigned)n_bytes != 0)
        cusim_fault(f, "cp.async of %d bytes from %p to %p: not aligned", n_bytes, global, shared);
    if (n_valid < 0 || n_valid > n_bytes) cusim_fault(f, "cp.async: %d valid bytes of %d", n_valid, n_bytes);
    if (f->n_copies == f->copies_capacity) {
        size_t capacity = f->copies_capacity ? 2 * f->copies_capacity : 16;
        cusim_copy *grown = realloc(f->copies, capacity * sizeof *grown);
        if (!grown) cusim_fault(f, "no memory for a cp.async");
        f->copies = grown;
        f->copies_capacity = capacity;
    }
    const void *pc = __builtin_return_address(0);
    cusim_await(f, shared, (size_t)n_bytes, pc);
    if (cusim_counting) {
        cusim_count_access(f, global, (size_t)n_valid, false, pc);
        cusim_count_access(f, shared, (size_t)n_bytes, true, pc);
    }
    f->copies[f->n_copies++] = (cusim_copy){shared, global, n_bytes, n_valid, f->group, pc};
}

void cusim_cp_async_commit(void) { block.self->group++; }

void cusim_cp_async_wait(int pending)
{
    cusim_thread *f = block.self;
    deliver_copies(f, f->group > (unsigned)pending ? f->group - (unsigned)pending : 0);
}

/* --- shared memory --- */

static void *shared_take(const void *key, const char *name, size_t n_bytes)
{
    unsigned char *memory = cusim_memory.base + cusim_memory.device_end;
    shared_array *a = &block.arrays[block.n_arrays++];
    *a = (shared_array){.key = key, .name = name, .at = memory + block.shared_top, .n_bytes = n_bytes};
    memset(cusim_memory.state + cusim_memory.device_end + block.shared_top, CUSIM_LIVE, n_bytes);
    block.shared_top += (n_bytes + 127) / 128 * 128 + RED_ZONE_BYTES;
    return a->at;
}

void *cusim_shared_static(const void *key, const char *name, size_t n_bytes)
{
    for (size_t i = 0; i < block.n_arrays; i++)
        if (block.arrays[i].key == key) return block.arrays[i].at;
    block.static_bytes += (n_bytes + 15) / 16 * 16;
    if (block.static_bytes > CUSIM_STATIC_SHARED || block.static_bytes + block.call->shared_bytes > CUSIM_MAX_SHARED ||
        block.n_arrays == SHARED_ARRAYS)
        cusim_fault(block.self, "too much shared memory: %zu bytes static with %s, %zu dynamic", block.static_bytes, name,
                    block.call->shared_bytes);
    return shared_take(key, name, n_bytes);
}

void *cusim_shared_dynamic(void) { return block.arrays[0].at; } /* run_block() puts it first */

void cusim_describe_shared(const void *p, char *text, size_t text_bytes)
{
    const shared_array *a = NULL;
    for (size_t i = 0; i < block.n_arrays; i++)
        if (block.arrays[i].at <= (const unsigned char *)p) a = &block.arrays[i];
    size_t at = (size_t)((const unsigned char *)p - a->at);
    if (at < a->n_bytes) snprintf(text, text_bytes, "byte %zu of the shared array %s of %zu", at, a->name, a->n_bytes);
    else snprintf(text, text_bytes, "%zu bytes past the end of the shared array %s of %zu", at - a->n_bytes, a->name, a->n_bytes);
}

void cusim_maybe_yield(void)
{
    if (--block.until_yield > 0) return;
    block.until_yield = (int)(random_next() % 61) + 1;
    leave();
}

/* --- the scheduler --- */

static void run_fibre(unsigned i)
{
    block.self = &block.threads[i];
    cusim_self = &block.self->place;
    cusim_switch(&block.scheduler_sp, block.self->sp);
    cusim_self = NULL;
}

static unsigned low_lane(unsigned mask) { return (unsigned)__builtin_ctz(mask); }
static unsigned high_lane(unsigned mask) { return 31u - (unsigned)__builtin_clz(mask); }

static unsigned random_lane(unsigned mask)
{
    for (unsigned skip = (unsigned)(random_next() % (unsigned)__builtin_popcount(mask)); skip > 0; skip--) mask &= mask - 1;
    return low_lane(mask);
}

/* One pass over the warps; false if no thread could run. */
static bool run_pass(void)
{
    bool ran = false;
    unsigned shift = cusim_the_schedule.order == CUSIM_RANDOM ? (unsigned)(random_next() % block.n_warps) : 0;
    for (unsigned k = 0; k < block.n_warps && !block.failed; k++) {
        unsigned w = (k + shift) % block.n_warps;
        if (cusim_the_schedule.order == CUSIM_REVERSE) w = block.n_warps - 1 - k;
        while (block.ready[w] && !block.failed) {
            unsigned ready = block.ready[w], lane = low_lane(ready);
            if (cusim_the_schedule.order == CUSIM_REVERSE) lane = high_lane(ready);
            if (cusim_the_schedule.order == CUSIM_RANDOM) lane = random_lane(ready);
            run_fibre(w * CUSIM_WARP + lane);
            ran = true;
            if (cusim_the_schedule.order == CUSIM_WARPS) break; /* a lane of each warp in turn */
        }
    }
    return ran;
}

static void report_stuck(void)
{
    const cusim_thread *a = NULL, *b = NULL;
    for (unsigned i = 0; i < block.n_threads; i++) {
        const cusim_thread *f = &block.threads[i];
        for (unsigned lane = 0; f->state == CUSIM_AT_WARP_OP && lane < CUSIM_WARP; lane++) {
            if (!(f->mask >> lane & 1) || block.threads[i / CUSIM_WARP * CUSIM_WARP + lane].state != CUSIM_DONE) continue;
            stuck(f, "%s at %s:%d: mask %08x names lane %u, which has left the kernel", op_names[f->op], f->file, f->line, f->mask,
                  lane);
            return;
        }
    }
    for (unsigned i = 0; i < block.n_threads; i++) {
        const cusim_thread *f = &block.threads[i];
        if (f->state != CUSIM_DONE && !a) a = f;
        if (a && (f->state != a->state || f->line != a->line || strcmp(f->file, a->file) != 0)) b = f;
    }
    if (!b)
        stuck(a, "deadlock: all threads wait at %s:%d", a->file, a->line);
    else if (a->state == CUSIM_AT_BARRIER && b->state == CUSIM_DONE)
        stuck(a, "divergent barrier: waits at %s:%d, thread %u has left the kernel", a->file, a->line, b->index);
    else
        stuck(a, "deadlock: waits at %s:%d, thread %u at %s:%d", a->file, a->line, b->index, b->file, b->line);
}

static void run_block(uint3 index)
{
    const cusim_kernel_call *c = block.call;
    block.n_alive = block.n_threads;
    block.n_waiting = 0;
    memset(cusim_memory.state + cusim_memory.device_end, 0, block.shared_top); /* the block before */
    block.n_arrays = block.static_bytes = block.shared_top = 0;
    shared_take(NULL, "(dynamic)", c->shared_bytes);
    cusim_begin_block();
    memset(block.ready, 0, sizeof block.ready);
    memset(block.named, 0, sizeof block.named);
    memset(block.warps, 0, sizeof block.warps);
    if (block.n_threads % CUSIM_WARP != 0) block.warps[block.n_warps - 1].gone = ~0u << (block.n_threads % CUSIM_WARP);
    for (unsigned i = 0; i < block.n_threads; i++) {
        cusim_thread *f = &block.threads[i];
        f->place.thread = (uint3){i % c->block.x, i / c->block.x % c->block.y, i / c->block.x / c->block.y};
        f->place.block = index;
        f->place.block_dim = c->block;
        f->place.grid_dim = c->grid;
        f->index = i;
        f->era = cusim_time.era;
        f->warp_syncs = 0;
        f->n_copies = 0;
        f->group = 0;
        start_fibre(f);
    }
    while (block.n_alive > 0 && !block.failed)
        if (!run_pass()) report_stuck();
    if (cusim_counting) cusim_count_flush();
}

bool cusim_run_kernel(const cusim_kernel_call *call)
{
    if (!cusim_reserve() || !cusim_begin_launch(call)) {
        cusim_report("%s: no address space for the emulator's tables", call->name);
        return false;
    }
    block.call = call;
    block.failed = false;
    block.n_threads = call->block.x * call->block.y * call->block.z;
    block.n_warps = (block.n_threads + CUSIM_WARP - 1) / CUSIM_WARP;
    if (cusim_counting) cusim_count_launch(call);
    block.until_yield = 1;
    block.random = cusim_the_schedule.seed * 0x9e3779b97f4a7c15u + 1;
    uint64_t n_blocks = (uint64_t)call->grid.x * call->grid.y * call->grid.z;
    for (uint64_t k = 0; k < n_blocks && !block.failed; k++) {
        uint64_t b = cusim_the_schedule.order == CUSIM_REVERSE ? n_blocks - 1 - k : k;
        run_block((uint3){(unsigned)(b % call->grid.x), (unsigned)(b / call->grid.x % call->grid.y),
                          (unsigned)(b / call->grid.x / call->grid.y)});
    }
    block.self = NULL;
    if (cusim_counting) cusim_count_finish();
    return !block.failed;
}
