/* ranks_mpi.c - adze_mpi.so: the exchanges of train/ranks.h over MPI. Entry: adze_ranks_transport(). */
#include <mpi.h>
#include <stddef.h>

#include "train/ranks.h"

__attribute__((visibility("default"))) const ranks_transport *adze_ranks_transport(int abi);

/* Only the thread that starts MPI calls it. Errors come back as codes. */
static int start(int *rank, int *count)
{
    int provided, code = MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided);
    if (code == MPI_SUCCESS) code = MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    if (code == MPI_SUCCESS) code = MPI_Comm_rank(MPI_COMM_WORLD, rank);
    if (code == MPI_SUCCESS) code = MPI_Comm_size(MPI_COMM_WORLD, count);
    return code;
}

static int all_to_all(const void *send, void *receive, int n_bytes)
{
    return MPI_Alltoall(send, n_bytes, MPI_BYTE, receive, n_bytes, MPI_BYTE, MPI_COMM_WORLD);
}

static int all_gather(const void *send, void *receive, int n_bytes)
{
    return MPI_Allgather(send, n_bytes, MPI_BYTE, receive, n_bytes, MPI_BYTE, MPI_COMM_WORLD);
}

static int finish(void) { return MPI_Finalize(); }

const ranks_transport *adze_ranks_transport(int abi)
{
    static const ranks_transport mpi = { start, all_to_all, all_gather, finish };
    return abi == RANKS_ABI ? &mpi : NULL;
}
