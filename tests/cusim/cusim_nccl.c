/* cusim_nccl.c - the calls to NCCL that adze makes, between processes with an emulated device each.
 *
 * Ranks meet in a piece of shared memory that the id names; each exchange is a round of pieces with two barriers, and every rank adds
 * up all pieces in the same order. Each call is compared with the others': count, type, operation, and whether it was captured. A
 * rank that does not come within a minute is a failed check: a real one would hang. */
#include <fcntl.h>
#include <nccl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "cusim.h"
#include "cusim_impl.h"

enum { PIECE = 1 << 16, MOST_RANKS = 16, PATIENCE_S = 60 };

/* What one rank asks for. */
typedef struct {
    size_t count;
    ncclDataType_t type;
    ncclRedOp_t op;
    bool captured;
} request;

/* Zero at the start, as shared memory is. */
typedef struct {
    _Atomic long arrived;
    int device[MOST_RANKS]; /* and one, of each rank */
    request request[MOST_RANKS];
    float piece[MOST_RANKS][PIECE];
} meeting;

struct ncclComm {
    int rank, count, device;
    long passed; /* barriers */
    bool aborted;
    meeting *place;
};

typedef struct {
    ncclComm_t comm;
    const float *send;
    float *receive;
    request request;
} exchange;

ncclResult_t ncclGetVersion(int *version)
{
    if (!version) return ncclInvalidArgument;
    *version = 22809;
    return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    static int n;
    struct timespec now;
    if (!id) return ncclInvalidArgument;
    clock_gettime(CLOCK_MONOTONIC, &now);
    memset(id, 0, sizeof *id);
    snprintf(id->internal, sizeof id->internal, "/adze-cusim-%ld-%ld-%d", (long)getpid(), now.tv_nsec, n++);
    return ncclSuccess;
}

/* All ranks have come; false if one does not. */
static bool barrier(ncclComm_t c)
{
    const long want = ++c->passed * c->count;
    const time_t begin = time(NULL);
    atomic_fetch_add(&c->place->arrived, 1);
    while (atomic_load(&c->place->arrived) < want) {
        if (time(NULL) - begin > PATIENCE_S) {
            cusim_report("NCCL: rank %d waits for another one that does not come", c->rank);
            c->aborted = true;
            return false;
        }
        usleep(50);
    }
    return true;
}

ncclResult_t ncclCommInitRank(ncclComm_t *comm, int n_ranks, ncclUniqueId id, int rank)
{
    if (!comm) return ncclInvalidArgument;
    *comm = NULL;
    if (n_ranks < 1 || n_ranks > MOST_RANKS || rank < 0 || rank >= n_ranks || strncmp(id.internal, "/adze-cusim-", 12) != 0) return ncclInvalidArgument;
    if (cusim_refuse_in_capture("ncclCommInitRank") != cudaSuccess) return ncclInvalidUsage;
    ncclComm_t c = calloc(1, sizeof *c);
    int file = shm_open(id.internal, O_RDWR | O_CREAT, 0600);
    void *place = MAP_FAILED;
    if (c && file >= 0 && ftruncate(file, sizeof(meeting)) == 0) place = mmap(NULL, sizeof(meeting), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (file >= 0) close(file);
    if (place == MAP_FAILED) {
        free(c);
        return ncclSystemError;
    }
    *c = (struct ncclComm){.rank = rank, .count = n_ranks, .place = place};
    cudaGetDevice(&c->device);
    c->place->device[rank] = c->device + 1;
    bool met = barrier(c), apart = true;
    if (rank == 0) shm_unlink(id.internal);
    for (int i = 0; i < n_ranks; i++) apart = apart && (i == rank || c->place->device[i] != c->device + 1);
    if (!met || !apart) {
        munmap(place, sizeof(meeting));
        free(c);
        return met ? ncclInvalidUsage : ncclSystemError; /* two ranks on one device */
    }
    *comm = c;
    return ncclSuccess;
}

static bool same_requests(const exchange *x)
{
    const meeting *m = x->comm->place;
    for (int j = 1; j < x->comm->count; j++) {
        const request *a = &m->request[0], *b = &m->request[j];
        if (a->count == b->count && a->type == b->type && a->op == b->op && a->captured == b->captured) continue;
        cusim_report("NCCL: rank 0 reduces %zu of type %d by %d%s, rank %d %zu of type %d by %d%s", a->count, a->type, a->op,
                     a->captured ? ", captured" : "", j, b->count, b->type, b->op, b->captured ? ", captured" : "");
        return false;
    }
    return true;
}

static void run_exchange(void *args)
{
    const exchange *x = args;
    ncclComm_t c = x->comm;
    const size_t n = x->request.count;
    if (c->aborted || !cusim_check_read(x->send, n * sizeof *x->send, "ncclAllReduce")) return;
    c->place->request[c->rank] = x->request;
    for (size_t at = 0; at < n; at += PIECE) {
        size_t here = n - at < PIECE ? n - at : PIECE;
        memcpy(c->place->piece[c->rank], x->send + at, here * sizeof *x->send);
        if (!barrier(c)) return;
        if (at == 0 && !same_requests(x)) return;
        if (!cusim_check_write(x->receive + at, here * sizeof *x->receive, "ncclAllReduce")) return;
        for (size_t i = 0; i < here; i++) {
            float sum = c->place->piece[0][i];
            for (int j = 1; j < c->count; j++) sum += c->place->piece[j][i];
            x->receive[at + i] = x->request.op == ncclAvg ? sum / (float)c->count : sum;
        }
        if (!barrier(c)) return;
    }
}

/* The rules of the real one; float32, sums and means only. */
static ncclResult_t check(const void *send, const void *receive, size_t count, ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm)
{
    const size_t n_bytes = count * sizeof(float);
    int device = -1;
    if (!comm || comm->aborted || type != ncclFloat32 || (op != ncclSum && op != ncclAvg) || count > SIZE_MAX / sizeof(float)) return ncclInvalidArgument;
    cudaGetDevice(&device);
    if (device != comm->device) return ncclInvalidUsage;
    if (count == 0) return ncclSuccess;
    if ((size_t)send % sizeof(float) != 0 || (size_t)receive % sizeof(float) != 0) return ncclInvalidArgument;
    if (send != receive && (const char *)send < (const char *)receive + n_bytes && (const char *)receive < (const char *)send + n_bytes)
        return ncclInvalidArgument;
    if (!cusim_is_device(send) || !cusim_is_device(receive)) return ncclInvalidArgument;
    return cusim_check_live(send, n_bytes, "ncclAllReduce") && cusim_check_live(receive, n_bytes, "ncclAllReduce") ? ncclSuccess : ncclInvalidArgument;
}

ncclResult_t ncclAllReduce(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm,
                           cudaStream_t stream)
{
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    ncclResult_t result = check(send, receive, count, type, op, comm);
    if (result != ncclSuccess || count == 0) return result;
    if (cudaStreamIsCapturing(stream, &status) != cudaSuccess) return ncclUnhandledCudaError;
    const exchange x = {comm, send, receive, {count, type, op, status == cudaStreamCaptureStatusActive}};
    return cusim_enqueue(stream, "ncclAllReduce", run_exchange, &x, sizeof x) == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    if (!comm) return ncclInvalidArgument;
    munmap(comm->place, sizeof(meeting));
    free(comm);
    return ncclSuccess;
}

/* Work that is queued still looks at it, so it stays. */
ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    if (!comm) return ncclInvalidArgument;
    comm->aborted = true;
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result)
{
    switch (result) {
    case ncclSuccess: return "no error";
    case ncclUnhandledCudaError: return "unhandled cuda error";
    case ncclSystemError: return "unhandled system error";
    case ncclInvalidArgument: return "invalid argument";
    case ncclInvalidUsage: return "invalid usage";
    }
    return "unknown result code";
}
