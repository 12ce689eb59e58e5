/* cusim_impl.h - what the emulator's files share. One lock: the runtime's calls run one at a time. */
#ifndef CUSIM_IMPL_H
#define CUSIM_IMPL_H

#include "cusim.h"
#include "cusim_entry.h"

enum {
    CUSIM_WARP = 32,
    CUSIM_MAX_THREADS = 1024,
    CUSIM_MAX_SHARED = 99 * 1024,    /* of sm_86 and sm_89, the smallest of those that we build for */
    CUSIM_STATIC_SHARED = 48 * 1024,
    CUSIM_STACK_BYTES = 64 * 1024,
    CUSIM_GUARD_BYTES = 4096
};

/* The order in which independent things run. */
typedef enum { CUSIM_FORWARD, CUSIM_REVERSE, CUSIM_WARPS, CUSIM_RANDOM } cusim_order;
typedef struct {
    cusim_order order;
    uint64_t seed;
} cusim_schedule;
extern cusim_schedule cusim_the_schedule;

typedef enum { CUSIM_CHECKS_OFF, CUSIM_CHECKS_FAST, CUSIM_CHECKS_FULL } cusim_checks;
extern cusim_checks cusim_the_checks;

typedef struct {
    const char *name;
    const void *kernel;
    dim3 grid, block;
    size_t shared_bytes;
    void (*run)(const void *args);
    const void *args;
    size_t args_bytes;
} cusim_kernel_call;

/* Runs all blocks; false after a failed check. */
bool cusim_run_kernel(const cusim_kernel_call *call);

/* cudaErrorInvalidConfiguration or cudaErrorInvalidValue, reported, if no card would start this. */
cudaError_t cusim_check_launch(const char *name, const void *kernel, dim3 grid, dim3 block, size_t shared_bytes);

typedef enum { CUSIM_READY, CUSIM_AT_BARRIER, CUSIM_AT_NAMED_BARRIER, CUSIM_AT_WARP_OP, CUSIM_DONE } cusim_thread_state;

typedef struct {
    void *shared;
    const void *global;
    int n_bytes, n_valid;
    unsigned group;
    const void *pc; /* of the instruction */
} cusim_copy;

/* One CUDA thread: a fibre. */
typedef struct cusim_thread {
    cusim_place place; /* first: cusim_self points here */
    unsigned index;    /* in the block */
    uint64_t era;      /* of its last barrier */
    unsigned warp_syncs;
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

/* --- memory (cusim_memory.c): one reservation holds the device's memory, the block's shared memory and the stacks --- */

/* Per byte of device and shared memory: what may be done with it. */
enum { CUSIM_INITIALISED = 1, CUSIM_LIVE = 2, CUSIM_PENDING = 4 /* a cp.async is on its way here */ };

typedef struct {
    unsigned char *base; /* device memory, then shared memory, then stacks */
    size_t device_end, shared_end, stacks_end; /* offsets from base */
    unsigned char *state; /* one byte per byte up to shared_end */
} cusim_space;
extern cusim_space cusim_memory;

/* Makes the reservation once; false if the system refuses. */
bool cusim_reserve(void);

/* Bytes of the device's memory. */
size_t cusim_device_bytes(void);

/* Between these, device memory is there for the host; outside it is not, so that a host access is a fault. Nests. */
void cusim_open_memory(void);
void cusim_close_memory(void);

/* Whether p lies in the device's memory (live or not), in pinned host memory. */
bool cusim_is_device(const void *p);
bool cusim_is_pinned(const void *p, size_t n_bytes);

/* The range is inside a live allocation; else a failed check that names `who`. */
bool cusim_check_live(const void *p, size_t n_bytes, const char *who);

/* Counts all that is allocated as written. */
void cusim_assume_initialised(void);

/* Frees device memory; false, reported, if p is no allocation. */
bool cusim_release(void *p);

/* Copies within device memory; bytes that nobody wrote stay so. False after a failed check. */
bool cusim_copy_inside(void *to, const void *from, size_t n_bytes);

/* "12 bytes past the end of the 400 bytes at 0x..." */
void cusim_describe(const void *p, char *text, size_t text_bytes);

/* --- errors --- */

/* After a failed check the device is dead, as after a CUDA exception: every call gives cudaErrorAssert until it is revived. */
void cusim_revive_device(void);

/* Keeps `e` for cudaGetLastError() and returns it, or the failure of the device. */
cudaError_t cusim_result(cudaError_t e);

/* The device of this thread, which from now on has a context. */
int cusim_use_device(void);

/* One lock, recursive. */
void cusim_lock(void);
void cusim_unlock(void);

/* --- streams (cusim_stream.c) --- */

/* All work that has been queued anywhere, in an order that the schedule picks. */
void cusim_run_all(void);

/* cudaErrorStreamCaptureUnsupported, reported, if this thread is capturing; `what` is not allowed then. */
cudaError_t cusim_refuse_in_capture(const char *what);

/* Whether the stream is being captured; then the capture is lost. What a library may do that was not made for capture. */
bool cusim_spoil_capture(cudaStream_t stream);

/* --- checks of kernel code (cusim_check.c) --- */

/* Numbers that grow with every launch, block and barrier: what is older than an era is ordered before it. */
typedef struct {
    uint64_t era, launch_era, block_era;
    bool acquired; /* this block sees what all earlier ones wrote */
    const cusim_kernel_call *call;
} cusim_now;
extern cusim_now cusim_time;
extern __thread const cusim_place *cusim_self __attribute__((tls_model("initial-exec")));

bool cusim_begin_launch(const cusim_kernel_call *call);
void cusim_begin_block(void);

/* An access by the emulator on behalf of a thread. */
void cusim_access(cusim_thread *t, const void *p, size_t n, bool write, const void *pc);

/* A cp.async to these bytes begins, or arrives. */
void cusim_await(cusim_thread *t, const void *p, size_t n, const void *pc);
void cusim_arrive(cusim_thread *t, const void *p, size_t n, const void *pc);

/* Schedule random: lets another thread go on, at every k-th call. */
void cusim_maybe_yield(void);

/* "byte 12 of shared array tile of 400" */
void cusim_describe_shared(const void *p, char *text, size_t text_bytes);

/* --- counts (cusim_count.c) --- */

extern bool cusim_counting;
void cusim_count_launch(const cusim_kernel_call *call);
void cusim_count_access(const cusim_thread *t, const void *p, size_t n, bool write, const void *pc);
void cusim_count_flush(void);  /* all threads stand at a barrier, or the block ends */
void cusim_count_finish(void); /* the launch ends */

/* A failed check inside a kernel: counted, printed with kernel, block and thread; the launch ends here. */
void cusim_fault(const cusim_thread *t, const char *fmt, ...) __attribute__((format(printf, 2, 3), noreturn));

/* A failed check anywhere: counted, printed, the first one kept. */
void cusim_report(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* All 32 lanes have arrived: results of mma and ldmatrix, whose operands the lanes' values point to. */
void cusim_complete_mma(cusim_thread *warp);
void cusim_complete_ldmatrix(cusim_thread *warp);

#endif
