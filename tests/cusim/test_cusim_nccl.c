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

static void wrong_arguments_are_refused(void **state)
{
    (void)state;
    ncclUniqueId id, wrong;
    ncclComm_t other;
    float host[4] = { 0 };
    memset(&wrong, 0, sizeof wrong);
    assert_int_equal(ncclGetUniqueId(&id), ncclSuccess);
    assert_int_equal(ncclCommInitRank(&other, 1, id, 1), ncclInvalidArgument);
    assert_int_equal(ncclCommInitRank(&other, 0, id, 0), ncclInvalidArgument);
    assert_int_equal(ncclCommInitRank(&other, 1, wrong, 0), ncclInvalidArgument);
    assert_int_equal(ncclAllReduce(x, x, N, ncclFloat32, ncclAvg, NULL, stream), ncclInvalidArgument);
    assert_int_equal(ncclAllReduce(x, x, N, ncclFloat16, ncclAvg, comm, stream), ncclInvalidArgument);
    assert_int_equal(ncclAllReduce(x, x, N, ncclFloat32, (ncclRedOp_t)17, comm, stream), ncclInvalidArgument);
    assert_int_equal(ncclAllReduce(x, x + 1, N, ncclFloat32, ncclAvg, comm, stream), ncclInvalidArgument); /* overlap */
    assert_int_equal(ncclAllReduce(host, x, 4, ncclFloat32, ncclAvg, comm, stream), ncclInvalidArgument);
    assert_int_equal(ncclAllReduce((char *)x + 2, (char *)x + 2, 4, ncclFloat32, ncclAvg, comm, stream), ncclInvalidArgument);
    assert_int_equal(cusim_error_count(), 0);
    assert_int_equal(ncclAllReduce(x + N, x + N, N + 1, ncclFloat32, ncclAvg, comm, stream), ncclInvalidArgument); /* past the end */
    assert_true(cusim_error_count() > 0);
    cusim_clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_rank_keeps_its_numbers),
        cmocka_unit_test(wrong_arguments_are_refused),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
