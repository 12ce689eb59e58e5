/* test_cusim_streams.c - the emulator's streams, events and graphs keep CUDA's order, and no stronger one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <cuda.h>

#include "cusim.h"
#include "tests/cusim/test_cusim_kernels.h"

enum { N = 300 };
static const char *const schedules[] = {"forward", "reverse", "warps", "random:1", "random:2"};
#define EACH_SCHEDULE(s) (size_t s = 0; s < sizeof schedules / sizeof *schedules && cusim_set_schedule(schedules[s]); s++)

static void ok(cudaError_t e) { assert_int_equal(e, cudaSuccess); }

static float *device(size_t n)
{
    void *p;
    ok(cudaMalloc(&p, n * sizeof(float)));
    ok(cudaMemset(p, 0, n * sizeof(float)));
    ok(cudaDeviceSynchronize());
    return p;
}

static cudaStream_t stream(void)
{
    cudaStream_t s;
    ok(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    return s;
}

static cudaEvent_t event(void)
{
    cudaEvent_t e;
    ok(cudaEventCreate(&e));
    return e;
}

/* A copy to pinned memory has not happened before somebody waits for it, and then it has. */
static void delivers_late(void **state)
{
    (void)state;
    assert_true(cusim_set_schedule("forward"));
    float *x = device(N), *pinned;
    cudaStream_t s = stream();
    cudaEvent_t e = event();
    ok(cudaMallocHost((void **)&pinned, N * sizeof *pinned));
    for (int i = 0; i < N; i++) pinned[i] = 1.0f;
    ok(cudaMemcpyAsync(pinned, x, N * sizeof *x, cudaMemcpyDeviceToHost, s));
    assert_true(pinned[0] == 1.0f);
    assert_int_equal(cudaEventQuery(e), cudaSuccess); /* never recorded */
    ok(cudaEventRecord(e, s));
    ok(cudaEventSynchronize(e));
    assert_true(pinned[N - 1] == 0.0f);
    /* a source changed before the copy's turn is copied as changed; pageable memory is staged */
    float pageable[N] = {0};
    ok(cudaMemcpyAsync(x, pinned, sizeof *x, cudaMemcpyHostToDevice, s));
    ok(cudaMemcpyAsync(x + 1, pageable, sizeof *x, cudaMemcpyHostToDevice, s));
    pinned[0] = pageable[0] = 5.0f;
    ok(cudaStreamSynchronize(s));
    ok(cudaMemcpy(pageable, x, 2 * sizeof *x, cudaMemcpyDeviceToHost));
    assert_true(pageable[0] == 5.0f && pageable[1] == 0.0f);
    assert_int_equal(cudaStreamQuery(s), cudaSuccess);
    ok(cudaFreeHost(pinned));
    ok(cudaEventDestroy(e));
    ok(cudaStreamDestroy(s));
    ok(cudaFree(x));
}

/* y = 8 x by way of two streams that wait for each other, x from the host. */
static void queue_chain(cudaStream_t a, cudaStream_t b, cudaEvent_t fork, cudaEvent_t join, const float *pinned, float *x, float *y)
{
    ok(cudaMemcpyAsync(x, pinned, N * sizeof *x, cudaMemcpyHostToDevice, a));
    ok(test_staged(x, y, N, a));
    ok(cudaEventRecord(fork, a));
    ok(cudaStreamWaitEvent(b, fork, 0));
    ok(cudaMemsetAsync(x, 0, N * sizeof *x, b));
    ok(test_staged(y, x, N, b));
    ok(cudaEventRecord(join, b));
    ok(cudaStreamWaitEvent(a, join, 0));
    ok(test_staged(x, y, N, a));
}

/* A captured graph gives the bits of the eager calls, again and again, with what lies in its memory then. */
static void graphs_repeat(void **state)
{
    (void)state;
    for EACH_SCHEDULE(s) {
        float *x = device(304), *y = device(304), *pinned, out[N];
        cudaStream_t a = stream(), b = stream();
        cudaEvent_t fork = event(), join = event();
        cudaGraph_t graph;
        cudaGraphExec_t exec;
        cudaStreamCaptureStatus status;
        size_t n_nodes;
        ok(cudaMallocHost((void **)&pinned, N * sizeof *pinned));
        for (int i = 0; i < N; i++) pinned[i] = (float)i;
        queue_chain(a, b, fork, join, pinned, x, y);
        ok(cudaStreamSynchronize(a));
        ok(cudaMemcpy(out, y, sizeof out, cudaMemcpyDeviceToHost));
        for (int i = 0; i < N; i++) assert_true(out[i] == 8.0f * (float)i);

        ok(cudaStreamBeginCapture(a, cudaStreamCaptureModeThreadLocal));
        queue_chain(a, b, fork, join, pinned, x, y);
        ok(cudaStreamIsCapturing(b, &status));
        assert_int_equal(status, cudaStreamCaptureStatusActive);
        ok(cudaStreamEndCapture(a, &graph));
        ok(cudaStreamIsCapturing(b, &status));
        assert_int_equal(status, cudaStreamCaptureStatusNone);
        ok(cudaGraphGetNodes(graph, NULL, &n_nodes));
        assert_int_equal(n_nodes, 5);
        ok(cudaGraphInstantiate(&exec, graph, 0));
        ok(cudaGraphDestroy(graph));
        for (int k = 1; k <= 3; k++) {
            for (int i = 0; i < N; i++) pinned[i] = (float)(k * i);
            ok(cudaGraphLaunch(exec, b));
            ok(cudaStreamSynchronize(b));
            ok(cudaMemcpy(out, y, sizeof out, cudaMemcpyDeviceToHost));
            for (int i = 0; i < N; i++) assert_true(out[i] == 8.0f * (float)(k * i));
        }
        ok(cudaGraphExecDestroy(exec));
        ok(cudaEventDestroy(fork));
        ok(cudaEventDestroy(join));
        ok(cudaStreamDestroy(a));
        ok(cudaStreamDestroy(b));
        ok(cudaFreeHost(pinned));
        ok(cudaFree(x));
        ok(cudaFree(y));
    }
}

/* The default stream and blocking streams wait for each other, without events. */
static void default_stream_orders(void **state)
{
    (void)state;
    for EACH_SCHEDULE(s) {
        float *x = device(304), *y = device(304), *pinned, out[N];
        cudaStream_t a;
        ok(cudaStreamCreate(&a));
        ok(cudaMallocHost((void **)&pinned, N * sizeof *pinned));
        for (int i = 0; i < N; i++) pinned[i] = (float)i;
        ok(cudaMemcpyAsync(x, pinned, N * sizeof *x, cudaMemcpyHostToDevice, a));
        ok(test_staged(x, y, N, NULL));
        ok(test_staged(y, x, N, a));
        ok(cudaMemcpy(out, x, sizeof out, cudaMemcpyDeviceToHost));
        for (int i = 0; i < N; i++) assert_true(out[i] == 4.0f * (float)i);
        ok(cudaStreamDestroy(a));
        ok(cudaFreeHost(pinned));
        ok(cudaFree(x));
        ok(cudaFree(y));
    }
}

static void append_to(void *arg)
{
    char **text = arg;
    *(*text)++ = 'h';
}

typedef struct { float *y; const float *x; int64_t n; } add_args;

/* An emulated library's call: y += x. */
static void run_add(void *args)
{
    const add_args *a = args;
    if (!cusim_check_read(a->x, (size_t)a->n * 4, "add") || !cusim_check_read(a->y, (size_t)a->n * 4, "add") ||
        !cusim_check_write(a->y, (size_t)a->n * 4, "add"))
        return;
    for (int64_t i = 0; i < a->n; i++) a->y[i] += a->x[i];
}

/* Host functions and library calls have their turn on the stream, in graphs too; a bad range is found. */
static void runs_host_and_library_calls(void **state)
{
    (void)state;
    for EACH_SCHEDULE(s) {
        float *x = device(N), *y = device(N), out;
        char text[8] = {0}, *end = text;
        cudaStream_t a = stream();
        cudaGraph_t graph;
        cudaGraphExec_t exec;
        add_args args = {y, x, N};
        float one = 1.0f;
        ok(cudaMemcpy(x + 7, &one, sizeof one, cudaMemcpyHostToDevice));
        ok(cudaStreamBeginCapture(a, cudaStreamCaptureModeThreadLocal));
        ok(cusim_enqueue(a, "add", run_add, &args, sizeof args));
        ok(cudaLaunchHostFunc(a, append_to, &end));
        ok(cudaStreamEndCapture(a, &graph));
        ok(cudaGraphInstantiate(&exec, graph, 0));
        memset(&args, 0, sizeof args); /* copied at the call */
        for (int k = 0; k < 3; k++) ok(cudaGraphLaunch(exec, a));
        ok(cudaStreamSynchronize(a));
        assert_string_equal(text, "hhh");
        ok(cudaMemcpy(&out, y + 7, sizeof out, cudaMemcpyDeviceToHost));
        assert_true(out == 3.0f);
        args = (add_args){y, x, N + 1};
        assert_true(cusim_enqueue(a, "add", run_add, &args, sizeof args) == cudaSuccess || cusim_error_count() > 0);
        assert_int_equal(cudaStreamSynchronize(a), cudaErrorAssert);
        assert_non_null(strstr(cusim_first_error(), "add: 1204 bytes"));
        cusim_clear();
        ok(cudaGraphExecDestroy(exec));
        ok(cudaGraphDestroy(graph));
        ok(cudaStreamDestroy(a));
        ok(cudaFree(x));
        ok(cudaFree(y));
    }
}

/* More than the device has is refused, told by its code, and costs nothing. */
static void memory_ends(void **state)
{
    (void)state;
    size_t free_before, free_after, total;
    void *p, *q;
    ok(cudaMemGetInfo(&free_before, &total));
    assert_int_equal(cudaMalloc(&p, total + 1), cudaErrorMemoryAllocation);
    assert_null(p);
    assert_int_equal(cudaGetLastError(), cudaErrorMemoryAllocation);
    ok(cudaMalloc(&p, 1000));
    assert_int_equal((uintptr_t)p % 256, 0);
    ok(cudaMallocAsync(&q, 1000, NULL));
    ok(cudaFreeAsync(q, NULL));
    ok(cudaFree(p));
    ok(cudaMemGetInfo(&free_after, &total));
    assert_int_equal(free_before, free_after);
    assert_int_equal(cusim_error_count(), 0);
}

/* Interleaved allocations of many sizes never overlap, and come back. */
static void allocations_keep_apart(void **state)
{
    (void)state;
    enum { ROUNDS = 400, HELD = 16 };
    struct { unsigned char *p; size_t n; } held[HELD] = {{0}};
    uint32_t r = 1;
    for (int k = 0; k < ROUNDS; k++) {
        r = r * 1664525u + 1013904223u;
        int i = (int)(r >> 28);
        if (held[i].p) ok(cudaFree(held[i].p));
        held[i].n = 1 + (r >> 8) % 100000;
        ok(cudaMalloc((void **)&held[i].p, held[i].n));
        for (int j = 0; j < HELD; j++)
            if (j != i && held[j].p) assert_true(held[i].p + held[i].n + 256 <= held[j].p || held[j].p + held[j].n + 256 <= held[i].p);
    }
    for (int i = 0; i < HELD; i++) ok(cudaFree(held[i].p));
}

/* "Not ready" is kept like an error: a launch that asks for the last one afterwards would be blamed for it. Each thread has its own. */
static void not_ready_is_kept(void **state)
{
    (void)state;
    assert_true(cusim_set_schedule("forward"));
    float *x = device(N), *pinned;
    cudaStream_t s = stream();
    cudaEvent_t e = event();
    ok(cudaMallocHost((void **)&pinned, 4 * sizeof *pinned));
    for (int i = 0; i < 4; i++) ok(cudaMemcpyAsync(pinned + i, x, sizeof *x, cudaMemcpyDeviceToHost, s));
    ok(cudaEventRecord(e, s));
    assert_int_equal(cudaEventQuery(e), cudaErrorNotReady);
    assert_int_equal(cudaPeekAtLastError(), cudaErrorNotReady);
    assert_int_equal(cudaGetLastError(), cudaErrorNotReady);
    ok(cudaGetLastError());
    assert_int_equal(cudaStreamQuery(s), cudaErrorNotReady);
    assert_int_equal(cudaGetLastError(), cudaErrorNotReady);
    ok(cudaStreamSynchronize(s));
    ok(cudaEventDestroy(e));
    ok(cudaStreamDestroy(s));
    ok(cudaFreeHost(pinned));
    ok(cudaFree(x));
    assert_int_equal(cusim_error_count(), 0);
}

static bool has_context(int device_number)
{
    unsigned flags;
    int active;
    assert_int_equal(cuDevicePrimaryCtxGetState(device_number, &flags, &active), CUDA_SUCCESS);
    return active != 0;
}

/* Work on a stream of another device than the thread's is refused, but for copies; choosing a device makes its context. */
static void devices_are_apart(void **state)
{
    (void)state;
    enum { INVALID = cudaErrorInvalidResourceHandle };
    float *x = device(N), host = 0.0f;
    int count;
    ok(cudaGetDeviceCount(&count));
    assert_true(count >= 2 && !has_context(count - 1));
    ok(cudaSetDevice(count - 1));
    assert_true(has_context(count - 1));
    cudaStream_t there = stream();
    cudaEvent_t event_there = event();
    ok(cudaMemsetAsync(x, 0, sizeof *x, there));
    ok(cudaSetDevice(0));
    cudaEvent_t event_here = event();
    assert_int_equal(cudaMemsetAsync(x, 0, sizeof *x, there), INVALID);
    assert_int_equal(test_staged(x, x + 64, 64, there), INVALID);
    assert_int_equal(cudaEventRecord(event_here, there), INVALID);
    assert_int_equal(cudaGetLastError(), INVALID);
    ok(cudaEventRecord(event_there, there));
    ok(cudaStreamWaitEvent(there, event_there, 0));
    ok(cudaMemcpyAsync(&host, x, sizeof host, cudaMemcpyDeviceToHost, there));
    ok(cudaStreamSynchronize(there));
    assert_int_equal(cudaSetDevice(count), cudaErrorInvalidDevice);
    ok(cudaEventDestroy(event_here));
    ok(cudaEventDestroy(event_there));
    ok(cudaStreamDestroy(there));
    ok(cudaFree(x));
    assert_int_equal(cusim_error_count(), 0);
    cudaGetLastError();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(delivers_late), cmocka_unit_test(graphs_repeat), cmocka_unit_test(default_stream_orders),
        cmocka_unit_test(runs_host_and_library_calls), cmocka_unit_test(memory_ends), cmocka_unit_test(allocations_keep_apart),
        cmocka_unit_test(not_ready_is_kept), cmocka_unit_test(devices_are_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
