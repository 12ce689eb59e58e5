/* timing.c - how long a library's call takes as it will be used: recorded and replayed. Entry: adze_cuda_time().
 * A call that waits, allocates or leaves work on another stream cannot be recorded; it is found here and not in the middle of a training. */
#include "cuda/cuda_state.h"

/* The runs as one graph; NULL after a failure, with the stream as it was before. */
static adze_status record(cudaStream_t stream, adze_status (*run)(void *user), void *user, int repetitions, cudaGraphExec_t *exec)
{
    cudaGraph_t graph = NULL;
    adze_status st = adze_cuda_check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "timing");
    if (st != ADZE_OK) return st;
    for (int i = 0; i < repetitions && st == ADZE_OK; i++) st = run(user);
    const cudaError_t end = cudaStreamEndCapture(stream, &graph);
    if (st == ADZE_OK) st = adze_cuda_check(end, "timing");
    else if (end != cudaSuccess) cudaGetLastError();
    if (st == ADZE_OK) st = adze_cuda_check(cudaGraphInstantiate(exec, graph, 0), "timing");
    if (graph) cudaGraphDestroy(graph);
    return st;
}

adze_status adze_cuda_time(adze_ctx *ctx, adze_status (*run)(void *user), void *user, int repetitions, float *ms)
{
    adze_status st = ADZE_OK;
    cudaStream_t stream = adze_cuda_stream(ctx);
    cudaGraphExec_t exec = NULL;
    cudaEvent_t start = NULL, stop = NULL;
    TRY(run(user)); /* libraries prepare themselves in the first one */
    TRY(record(stream, run, user, repetitions, &exec));
    TRY(adze_cuda_check(cudaGraphUpload(exec, stream), "timing"));
    TRY(adze_cuda_check(cudaEventCreate(&start), "timing"));
    TRY(adze_cuda_check(cudaEventCreate(&stop), "timing"));
    TRY(adze_cuda_check(cudaEventRecord(start, stream), "timing"));
    TRY(adze_cuda_check(cudaGraphLaunch(exec, stream), "timing"));
    TRY(adze_cuda_check(cudaEventRecord(stop, stream), "timing"));
    TRY(adze_cuda_check(cudaEventSynchronize(stop), "timing"));
    TRY(adze_cuda_check(cudaEventElapsedTime(ms, start, stop), "timing"));
done:
    if (st != ADZE_OK) cudaStreamSynchronize(stream); /* what it left behind still uses the caller's memory */
    if (start) cudaEventDestroy(start);
    if (stop) cudaEventDestroy(stop);
    if (exec) cudaGraphExecDestroy(exec);
    return st;
}
