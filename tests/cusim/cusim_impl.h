/* cusim_impl.h - what the emulator's files share. One lock: the runtime's calls run one at a time. */
#ifndef CUSIM_IMPL_H
#define CUSIM_IMPL_H

#include "cusim.h"
#include "cusim_entry.h"

enum { CUSIM_WARP = 32, CUSIM_MAX_THREADS = 1024, CUSIM_MAX_SHARED = 99 * 1024, CUSIM_STATIC_SHARED = 48 * 1024 };

/* The order in which independent things run. */
typedef enum { CUSIM_FORWARD, CUSIM_REVERSE, CUSIM_WARPS, CUSIM_RANDOM } cusim_order;
typedef struct {
    cusim_order order;
    uint64_t seed;
} cusim_schedule;
extern cusim_schedule cusim_the_schedule;

typedef struct {
    const char *name;
    const void *kernel;
    dim3 grid, block;
    size_t shared_bytes;
    void (*run)(const void *args);
    const void *args;
} cusim_kernel_call;

/* Runs all blocks; false after a failed check. */
bool cusim_run_kernel(const cusim_kernel_call *call);

typedef enum { CUSIM_READY, CUSIM_AT_BARRIER, CUSIM_AT_NAMED_BARRIER, CUSIM_AT_WARP_OP, CUSIM_DONE } cusim_thread_state;

typedef struct {
    void *shared;
    const void *global;
    int n_bytes, n_valid;
    unsigned group;
} cusim_copy;

/* One CUDA thread: a fibre. */
typedef struct cusim_thread {
    cusim_place place; /* first: cusim_self points here */
    void *sp;
    cusim_thread_state state;
    const char *file; /* where it waits or waited last */
    int line;
    cusim_warp_op op; /* what it waits for, with its operands and, in the end, its result */
    unsigned mask;
    int lane_arg, width;
    uint64_t value;
    int vote;
    cusim_copy *copies; /* cp.async under way, oldest first; the array stays for the next block */
    size_t n_copies, copies_capacity;
    unsigned group; /* of the next cp.async */
} cusim_thread;

/* A failed check inside a kernel: counted, printed with kernel, block and thread; the launch ends here. */
void cusim_fault(const cusim_thread *t, const char *fmt, ...) __attribute__((format(printf, 2, 3), noreturn));

/* A failed check anywhere: counted, printed, the first one kept. */
void cusim_report(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* All 32 lanes have arrived: results of mma and ldmatrix, whose operands the lanes' values point to. */
void cusim_complete_mma(cusim_thread *warp);
void cusim_complete_ldmatrix(cusim_thread *warp);

#endif
