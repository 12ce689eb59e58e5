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

/* Counts and keeps a failed check; prints it. */
void cusim_report(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Ends the running block from inside one of its threads, after cusim_report(). */
void cusim_abandon(void) __attribute__((noreturn));

#endif
