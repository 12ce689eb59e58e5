/* cusim.h - the emulator's own controls, for tests and for the emulated libraries.
 *
 * Environment: ADZE_CUSIM_SCHEDULE=forward|reverse|warps|random:SEED (order of threads, blocks and independent stream
 * work), ADZE_CUSIM_CHECKS=off|fast|full, ADZE_CUSIM_MEMORY=BYTES (size of the device),
 * ADZE_CUSIM_COUNTS=FILE (bench/cuda_static.py reads it), ADZE_CUSIM_LACKS=driver|newer-driver|kernels|nccl. */
#ifndef CUSIM_H
#define CUSIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cuda_runtime.h>

#ifdef __cplusplus
extern "C" {
#endif

/* "forward", "reverse", "warps" or "random:SEED"; false if it is none of these. */
bool cusim_set_schedule(const char *schedule);

/* "off", "fast" (bounds, life, alignment, initialisation) or "full" (races as well; the default); false if none of these. What is allocated
 * when checks begin behind "off" counts as written. */
bool cusim_set_checks(const char *checks);

/* Failed checks since the start or the last cusim_clear(), and the text of the first of them ("" if there was none).
 * Every failed check makes the launch or the next synchronisation return cudaErrorAssert, and all calls after it. */
int64_t cusim_error_count(void);
const char *cusim_first_error(void);
void cusim_clear(void);

/* Devices that there are; they share one memory. */
enum { CUSIM_DEVICES = 4 };

/* Whether ADZE_CUSIM_LACKS names this, so that programs can be seen to say what is missing. */
bool cusim_lacks(const char *what);

/* --- how accesses fall on memory --- */

typedef struct {
    int64_t requests; /* one instruction of one warp */
    int64_t sectors;  /* of 32 bytes */
    int64_t bytes;    /* asked for by its lanes, the same address once */
    int64_t fewest;   /* sectors that could hold them, request by request */
} cusim_traffic;

typedef struct {
    char kernel[112]; /* without template arguments */
    const void *entry;
    int64_t launches;
    int threads;         /* of a block, and */
    size_t shared_bytes; /* its dynamic shared memory, at most */
    cusim_traffic load, store; /* global memory; atomics are stores */
    int64_t shared_requests;
    int64_t shared_passes, shared_ideal; /* conflict degree: passes / ideal */
    int worst_conflict;                  /* most passes of a pass that could be one */
} cusim_counts;

/* Forgets all counts, and from now on counts, or not. Counting is slow. */
void cusim_count(bool on);

/* The counts of a kernel, all its instances together (`entry` NULL); false if it has not run. */
bool cusim_counts_of(const char *kernel, cusim_counts *counts);

/* All kernels counted, each instance of a template by itself, in the order of their first launch; valid until the next launch. */
size_t cusim_counted_kernels(const cusim_counts **counts);

/* --- what the host asks of the runtime --- */

typedef struct {
    int64_t graph_launches;
    int64_t single; /* kernels, copies, library calls that were queued by themselves, outside any capture */
    int64_t waits;  /* of the host: for a stream, an event, the device, or in a copy */
} cusim_calls;

/* Since the start. */
cusim_calls cusim_calls_so_far(void);

/* Work of an emulated library: `run` is called with a copy of `args` when its turn on the stream comes (at once if nothing
 * is deferred), also from a captured graph. It may read and write device memory through cusim_read() and cusim_write(). */
cudaError_t cusim_enqueue(cudaStream_t stream, const char *name, void (*run)(void *args), const void *args, size_t args_bytes);

/* For `run`, where device memory may be touched directly: checks that the range is wholly inside one live allocation, and
 * before reading that somebody wrote it; after cusim_check_write() it counts as written. False after a failed check, which
 * names `who`. */
bool cusim_check_read(const void *p, size_t n_bytes, const char *who);
bool cusim_check_write(void *p, size_t n_bytes, const char *who);

/* The same with a copy. */
bool cusim_read(void *to_host, const void *from, size_t n_bytes);
bool cusim_write(void *to, const void *from_host, size_t n_bytes);

#ifdef __cplusplus
}
#endif
#endif
