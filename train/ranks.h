/* ranks.h - processes that train one model together, started by mpirun: each takes its part of every batch.
 *
 * What they exchange is summed in the order of the ranks and rounded once, by one of them for all: every rank has the same
 * bits, and so the same parameters after every step. The transport is a shared object of its own, adze_mpi.so, which is loaded only
 * where mpirun has started the program: nothing else depends on MPI. Devices with memory of their own exchange blocks by
 * themselves (NCCL); MPI then carries what makes them known to each other, and a few numbers per step. */
#ifndef ADZE_TRAIN_RANKS_H
#define ADZE_TRAIN_RANKS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/context.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { RANKS_ABI = 1 };

/* What adze_mpi.so gives. Functions return 0, or MPI's error code. */
typedef struct {
    int (*start)(int *rank, int *count);
    /* Piece j of `send` goes to rank j; piece j of `receive` comes from it; n_bytes each. */
    int (*all_to_all)(const void *send, void *receive, int n_bytes);
    /* n_bytes of every rank, in their order, to all. */
    int (*all_gather)(const void *send, void *receive, int n_bytes);
    int (*finish)(void);
} ranks_transport;

/* The one symbol of the object, `adze_ranks_transport`: NULL for another ABI. */
typedef const ranks_transport *(*ranks_transport_fn)(int abi);

typedef struct rank_group rank_group; /* opaque */

/* *out is NULL where nothing or one process was started by mpirun. ADZE_EBACKEND: no adze_mpi.so, or MPI failed. */
adze_status ranks_open(rank_group **out);
/* `all`: every rank comes here, so that MPI can be ended. A rank that fails alone does not: mpirun ends the others. */
void ranks_close(rank_group *r, bool all);

/* 0 and 1 for NULL. */
int ranks_rank(const rank_group *r);
int ranks_count(const rank_group *r);

/* Makes the ranks' devices known to each other, where they are not the cpu: once, before ranks_mean_device(). ADZE_EBACKEND. */
adze_status ranks_join_devices(rank_group *r, adze_ctx *ctx);
/* The number of this process among those of its machine. */
int ranks_local(const rank_group *r);
/* As ranks_mean(), of numbers in the device's memory; asynchronous there, and may be recorded. */
adze_status ranks_mean_device(rank_group *r, adze_ctx *ctx, float *x, int64_t n);

/* Each element becomes the mean over the ranks, summed in double in their order. All of these are no-ops for NULL. */
adze_status ranks_mean(rank_group *r, float *x, int64_t n);
enum { RANKS_FEW = 32 };
adze_status ranks_mean_few(rank_group *r, double *x, int n); /* n <= RANKS_FEW */
/* ADZE_EINTERNAL if the ranks' bytes differ (n_bytes <= RANKS_FEW); until then everyone waits. */
adze_status ranks_agree(rank_group *r, const void *bytes, int n_bytes);

#ifdef __cplusplus
}
#endif
#endif
