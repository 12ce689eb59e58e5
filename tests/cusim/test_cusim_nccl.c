/* test_cusim_nccl.c - the emulated NCCL: means and sums of one rank, also from a graph; arguments that the real one refuses. Several
 * ranks: train/test_ranks. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <nccl.h>

#include "cusim.h"

enum { N = 70000 };

static ncclComm_t comm;
static cudaStream_t stream;
static float *x;

static int open_all(void **state)
{
    (void)state;
    ncclUniqueId id;
    static float host[N];
    for (int i = 0; i < N; i++) host[i] = (float)i;
    assert_int_equal(ncclGetUniqueId(&id), ncclSuccess);
    assert_int_equal(ncclCommInitRank(&comm, 1, id, 0), ncclSuccess);
    assert_int_equal(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
    assert_int_equal(cudaMalloc((void **)&x, 2 * N * sizeof *x), cudaSuccess);
    assert_int_equal(cudaMemcpy(x, host, sizeof host, cudaMemcpyHostToDevice), cudaSuccess);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    assert_int_equal(cudaFree(x), cudaSuccess);
    assert_int_equal(cudaStreamDestroy(stream), cudaSuccess);
    assert_int_equal(ncclCommDestroy(comm), ncclSuccess);
    return 0;
}

static float last(void)
{
    float y;
    assert_int_equal(cudaStreamSynchronize(stream), cudaSuccess);
    assert_int_equal(cudaMemcpy(&y, x + 2 * N - 1, sizeof y, cudaMemcpyDeviceToHost), cudaSuccess);
    return y;
}

static void one_rank_keeps_its_numbers(void **state)
{
    (void)state;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    float zero = 0.0f;
    assert_int_equal(ncclAllReduce(x, x + N, N, ncclFloat32, ncclAvg, comm, stream), ncclSuccess);
    assert_true(last() == N - 1);
    assert_int_equal(ncclAllReduce(x + N, x + N, N, ncclFloat32, ncclSum, comm, stream), ncclSuccess);
    assert_true(last() == N - 1);
    assert_int_equal(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    assert_int_equal(ncclAllReduce(x, x + N, N, ncclFloat32, ncclAvg, comm, stream), ncclSuccess);
    assert_int_equal(cudaStreamEndCapture(stream, &graph), cudaSuccess);
    assert_int_equal(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
    assert_int_equal(cudaMemcpy(x + 2 * N - 1, &zero, sizeof zero, cudaMemcpyHostToDevice), cudaSuccess);
    assert_true(last() == 0.0f);
    assert_int_equal(cudaGraphLaunch(exec, stream), cudaSuccess);
    assert_true(last() == N - 1);
    assert_int_equal(cudaGraphExecDestroy(exec), cudaSuccess);
    assert_int_equal(cudaGraphDestroy(graph), cudaSuccess);
    assert_int_equal(cusim_error_count(), 0);
}

/* ---- one mistake each: the status that the real library gives, and whether the emulator also reports a failed check ------------ */

typedef enum {
    NOTHING, NO_ID, JOIN_NOWHERE, JOIN_RANK_TOO_LARGE, JOIN_RANK_NEGATIVE, JOIN_NO_RANKS, JOIN_FOREIGN_ID, JOIN_IN_CAPTURE, NO_COMM, HALF_PRECISION,
    NO_OPERATION, OVERLAP, HOST_SEND, HOST_RECEIVE, MISALIGNED, PAST_END, OTHER_DEVICE, FOREIGN_STREAM, NO_NUMBERS, AFTER_ABORT, DESTROY_NOTHING,
    ABORT_NOTHING
} mistake;

static const struct {
    mistake mistake;
    ncclResult_t status;
    bool reported;
} rows[] = {
    { NOTHING, ncclSuccess, false },
    { NO_ID, ncclInvalidArgument, false },
    { JOIN_NOWHERE, ncclInvalidArgument, false },
    { JOIN_RANK_TOO_LARGE, ncclInvalidArgument, false },
    { JOIN_RANK_NEGATIVE, ncclInvalidArgument, false },
    { JOIN_NO_RANKS, ncclInvalidArgument, false },
    { JOIN_FOREIGN_ID, ncclInvalidArgument, false },
    { JOIN_IN_CAPTURE, ncclInvalidUsage, true },
    { NO_COMM, ncclInvalidArgument, false },
    { HALF_PRECISION, ncclInvalidArgument, false }, /* a limit of the emulator */
    { NO_OPERATION, ncclInvalidArgument, false },
    { OVERLAP, ncclInvalidArgument, false },
    { HOST_SEND, ncclInvalidArgument, false },
    { HOST_RECEIVE, ncclInvalidArgument, false },
    { MISALIGNED, ncclInvalidArgument, false },
    { PAST_END, ncclInvalidArgument, true },
    { OTHER_DEVICE, ncclInvalidUsage, false },
    { FOREIGN_STREAM, ncclUnhandledCudaError, false },
    { NO_NUMBERS, ncclSuccess, false }, /* no mistake, and nothing is done */
    { AFTER_ABORT, ncclInvalidArgument, false },
    { DESTROY_NOTHING, ncclInvalidArgument, false },
    { ABORT_NOTHING, ncclInvalidArgument, false },
};

static ncclResult_t join(mistake m)
{
    ncclUniqueId id;
    ncclComm_t other = NULL;
    cudaGraph_t graph;
    if (m == NO_ID) return ncclGetUniqueId(NULL);
    assert_int_equal(ncclGetUniqueId(&id), ncclSuccess);
    if (m == JOIN_FOREIGN_ID) memset(&id, 0, sizeof id);
    if (m == JOIN_IN_CAPTURE) assert_int_equal(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    ncclResult_t result = ncclCommInitRank(m == JOIN_NOWHERE ? NULL : &other, m == JOIN_NO_RANKS ? 0 : 1, id,
                                           m == JOIN_RANK_TOO_LARGE ? 1 : m == JOIN_RANK_NEGATIVE ? -1 : 0);
    if (m == JOIN_IN_CAPTURE) assert_int_equal(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
    if (m == AFTER_ABORT) {
        assert_int_equal(ncclCommAbort(other), ncclSuccess);
        result = ncclAllReduce(x, x, 4, ncclFloat32, ncclAvg, other, stream);
    }
    if (other) assert_int_equal(ncclCommDestroy(other), ncclSuccess);
    return result;
}

static ncclResult_t reduce(mistake m)
{
    float host[4] = { 0 }, *send = x, *receive = m == OVERLAP ? x + 1 : x;
    cudaStream_t on = stream;
    if (m == HOST_SEND) send = host;
    if (m == HOST_RECEIVE) receive = host;
    if (m == MISALIGNED) send = receive = (float *)((char *)x + 2);
    if (m == PAST_END) send = receive = x + 2 * N - 2;
    if (m == OTHER_DEVICE || m == FOREIGN_STREAM) assert_int_equal(cudaSetDevice(1), cudaSuccess);
    if (m == FOREIGN_STREAM) {
        assert_int_equal(cudaStreamCreateWithFlags(&on, cudaStreamNonBlocking), cudaSuccess);
        assert_int_equal(cudaSetDevice(0), cudaSuccess);
    }
    ncclResult_t result = ncclAllReduce(send, receive, m == NO_NUMBERS ? 0 : 4, m == HALF_PRECISION ? ncclFloat16 : ncclFloat32,
                                        m == NO_OPERATION ? (ncclRedOp_t)17 : ncclAvg, m == NO_COMM ? NULL : comm, on);
    assert_int_equal(cudaSetDevice(0), cudaSuccess);
    if (on != stream) assert_int_equal(cudaStreamDestroy(on), cudaSuccess);
    return result;
}

static ncclResult_t commit(mistake m)
{
    if (m == DESTROY_NOTHING) return ncclCommDestroy(NULL);
    if (m == ABORT_NOTHING) return ncclCommAbort(NULL);
    return (m >= NO_ID && m <= JOIN_IN_CAPTURE) || m == AFTER_ABORT ? join(m) : reduce(m);
}

static void mistakes_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const ncclResult_t result = commit(rows[i].mistake);
        if (result != rows[i].status) fail_msg("row %zu: status %d, want %d", i, (int)result, (int)rows[i].status);
        if (rows[i].reported != (cusim_error_count() > 0)) fail_msg("row %zu: %s", i, cusim_first_error());
        cusim_clear();
        assert_int_equal(cudaStreamSynchronize(stream), cudaSuccess);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_rank_keeps_its_numbers),
        cmocka_unit_test(mistakes_are_refused),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
