/* cusim_mistakes.cu - for each check of the emulator a program with exactly that mistake, and the same without it (RIGHT).
 * Entry: cusim_mistakes. A program says nothing of its result: the emulator must see what is wrong. */
#include "tests/cusim/cusim_mistakes.h"

#include "cuda/ptx.h"

#define ALL 0xffffffffu

/* Device memory of n floats, all zero. */
static float *zeros(size_t n)
{
    float *p = NULL;
    cudaMalloc(&p, n * sizeof *p);
    cudaMemset(p, 0, n * sizeof *p);
    return p;
}

/* Launches kernel<right> with one pointer to n zeros and waits. */
#define RUN(kernel, n, grid, block, shared_bytes)                                   \
    do {                                                                            \
        float *x = zeros(n);                                                        \
        if (right) ADZE_LAUNCH(kernel<true>, grid, block, shared_bytes, NULL, x);   \
        else ADZE_LAUNCH(kernel<false>, grid, block, shared_bytes, NULL, x);        \
        cudaDeviceSynchronize();                                                    \
        cudaFree(x);                                                                \
    } while (0)

/* --- addresses --- */

template <bool RIGHT> static __global__ void read_past_end_kernel(float *x)
{
    if (threadIdx.x == 0) x[0] = x[RIGHT ? 99 : 100];
}
static void read_past_end(bool right) { RUN(read_past_end_kernel, 100, 1, 32, 0); }

template <bool RIGHT> static __global__ void write_past_end_kernel(float *x)
{
    if (threadIdx.x < (RIGHT ? 100u : 101u)) x[threadIdx.x] = 1.0f;
}
static void write_past_end(bool right) { RUN(write_past_end_kernel, 100, 1, 128, 0); }

template <bool RIGHT> static __global__ void write_before_kernel(float *x)
{
    if (threadIdx.x == 0) x[RIGHT ? 0 : -1] = 1.0f;
}
static void write_before(bool right) { RUN(write_before_kernel, 100, 1, 32, 0); }

template <bool RIGHT> static __global__ void shared_past_end_kernel(float *x)
{
    ADZE_SHARED(float, tile, 32);
    tile[threadIdx.x + (RIGHT ? 0 : 1)] = x[threadIdx.x];
}
static void shared_past_end(bool right) { RUN(shared_past_end_kernel, 32, 1, 32, 0); }

template <bool RIGHT> static __global__ void dynamic_past_end_kernel(float *x)
{
    ADZE_SHARED_DYNAMIC(float, tile);
    tile[threadIdx.x] = x[threadIdx.x];
}
static void dynamic_past_end(bool right) { RUN(dynamic_past_end_kernel, 32, 1, 32, right ? 128 : 124); }

template <bool RIGHT> static __global__ void misaligned_kernel(float *x)
{
    const float4 *p = reinterpret_cast<const float4 *>(x + (RIGHT ? 4 : 2));
    float4 v = p[0];
    if (threadIdx.x == 0) x[0] = v.x + v.y + v.z + v.w;
}
static void misaligned(bool right) { RUN(misaligned_kernel, 16, 1, 32, 0); }

static __global__ void touch_kernel(float *x) { x[threadIdx.x] = 1.0f; }

static void use_after_free(bool right)
{
    float *x = zeros(32);
    cudaFree(x);
    if (right) x = zeros(32);
    ADZE_LAUNCH(touch_kernel, 1, 32, 0, NULL, x);
    cudaDeviceSynchronize();
    if (right) cudaFree(x);
}

static void host_pointer_in_kernel(bool right)
{
    float host[32] = {0}, *x = right ? zeros(32) : host;
    ADZE_LAUNCH(touch_kernel, 1, 32, 0, NULL, x);
    cudaDeviceSynchronize();
    if (right) cudaFree(x);
}

static void null_pointer_in_kernel(bool right)
{
    float *x = right ? zeros(32) : NULL;
    ADZE_LAUNCH(touch_kernel, 1, 32, 0, NULL, x);
    cudaDeviceSynchronize();
    cudaFree(x);
}

static void device_pointer_on_host(bool right)
{
    float *x = zeros(1), y = 0.0f;
    cudaDeviceSynchronize();
    if (right) cudaMemcpy(&y, x, sizeof y, cudaMemcpyDeviceToHost);
    else y = *(volatile float *)x;
    cudaFree(x);
}

static void wrong_copy_direction(bool right)
{
    float *x = zeros(1), y = 0.0f;
    cudaMemcpy(&y, x, sizeof y, right ? cudaMemcpyDeviceToHost : cudaMemcpyHostToDevice);
    cudaFree(x);
}

static void copy_past_end(bool right)
{
    float *x = zeros(32), y[33] = {0};
    cudaMemcpy(x, y, (right ? 32 : 33) * sizeof *y, cudaMemcpyHostToDevice);
    cudaFree(x);
}

static void free_twice(bool right)
{
    float *x = zeros(32);
    cudaFree(x);
    if (!right) cudaFree(x);
}

template <bool RIGHT> static __global__ void local_of_other_kernel(float *x)
{
    ADZE_SHARED(float *, where, 1);
    float mine = x[threadIdx.x];
    if (threadIdx.x == 0) where[0] = RIGHT ? x : &mine;
    __syncthreads();
    if (threadIdx.x == 1) x[1] = *where[0];
    __syncthreads();
    x[threadIdx.x] += mine;
}
static void local_of_other(bool right) { RUN(local_of_other_kernel, 32, 1, 32, 0); }

/* --- bytes that nobody wrote --- */

template <bool RIGHT> static __global__ void uninitialised_shared_kernel(float *x)
{
    ADZE_SHARED(float, tile, 32);
    if (RIGHT || threadIdx.x != 7) tile[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    x[threadIdx.x] = tile[31 - threadIdx.x];
}
static void uninitialised_shared(bool right) { RUN(uninitialised_shared_kernel, 32, 1, 32, 0); }

static __global__ void double_kernel(const float *x, float *y) { y[threadIdx.x] = 2.0f * x[threadIdx.x]; }

static void uninitialised_global(bool right)
{
    float *x = NULL, *y = zeros(32);
    cudaMalloc(&x, 32 * sizeof *x);
    cudaMemset(x, 0, (right ? 32 : 31) * sizeof *x);
    ADZE_LAUNCH(double_kernel, 1, 32, 0, NULL, x, y);
    cudaDeviceSynchronize();
    cudaFree(x);
    cudaFree(y);
}

static void uninitialised_download(bool right)
{
    float *x = NULL, y[32];
    cudaMalloc(&x, sizeof y);
    if (right) cudaMemset(x, 0, sizeof y);
    cudaMemcpy(y, x, sizeof y, cudaMemcpyDeviceToHost);
    cudaFree(x);
}

/* --- races --- */

template <bool RIGHT> static __global__ void missing_barrier_kernel(float *x)
{
    ADZE_SHARED(float, tile, 64);
    tile[threadIdx.x] = 0.0f;
    __syncthreads();
    tile[threadIdx.x] = x[threadIdx.x];
    if (RIGHT) __syncthreads();
    x[threadIdx.x] = tile[63 - threadIdx.x];
}
static void missing_barrier(bool right) { RUN(missing_barrier_kernel, 64, 1, 64, 0); }

/* The second barrier of a loop: without it the tile is overwritten while others still read it. */
template <bool RIGHT> static __global__ void missing_second_barrier_kernel(float *x)
{
    ADZE_SHARED(float, tile, 64);
    float sum = 0.0f;
    for (int k = 0; k < 2; k++) {
        tile[threadIdx.x] = x[64 * k + (int)threadIdx.x];
        __syncthreads();
        sum += tile[63 - threadIdx.x];
        if (RIGHT) __syncthreads();
    }
    x[threadIdx.x] = sum;
}
static void missing_second_barrier(bool right) { RUN(missing_second_barrier_kernel, 128, 1, 64, 0); }

template <bool RIGHT> static __global__ void missing_syncwarp_kernel(float *x)
{
    ADZE_SHARED(float, tile, 32);
    tile[threadIdx.x] = 0.0f;
    __syncwarp();
    tile[threadIdx.x] = x[threadIdx.x];
    if (RIGHT) __syncwarp();
    x[threadIdx.x] = tile[31 - threadIdx.x];
}
static void missing_syncwarp(bool right) { RUN(missing_syncwarp_kernel, 32, 1, 32, 0); }

/* __syncwarp orders a warp, not two. */
template <bool RIGHT> static __global__ void syncwarp_for_block_kernel(float *x)
{
    ADZE_SHARED(float, tile, 64);
    tile[threadIdx.x] = 0.0f;
    __syncthreads();
    tile[threadIdx.x] = x[threadIdx.x];
    __syncwarp();
    if (RIGHT) __syncthreads();
    x[threadIdx.x] = tile[63 - threadIdx.x];
}
static void syncwarp_for_block(bool right) { RUN(syncwarp_for_block_kernel, 64, 1, 64, 0); }

template <bool RIGHT> static __global__ void blocks_write_kernel(float *x)
{
    if (threadIdx.x == 0) x[RIGHT ? blockIdx.x : 0] = 1.0f;
}
static void blocks_write(bool right) { RUN(blocks_write_kernel, 4, 4, 32, 0); }

template <bool RIGHT> static __global__ void blocks_read_kernel(float *x)
{
    float v = x[4 + (blockIdx.x + 1) % 4];
    if (threadIdx.x == 0) x[(RIGHT ? 0 : 4) + blockIdx.x] = v;
}
static void blocks_read(bool right) { RUN(blocks_read_kernel, 8, 4, 32, 0); }

/* The last block to arrive sums what the others wrote. */
template <bool RIGHT> static __global__ void last_block_kernel(float *x)
{
    unsigned *counter = reinterpret_cast<unsigned *>(x);
    if (threadIdx.x == 0) x[1 + blockIdx.x] = 1.0f;
    bool last;
    if (RIGHT) {
        last = adze_last_block(counter, gridDim.x);
    } else {
        ADZE_SHARED(unsigned, arrived, 1);
        if (threadIdx.x == 0) arrived[0] = atomicAdd(counter, 1u);
        __syncthreads();
        last = arrived[0] == gridDim.x - 1;
    }
    if (last && threadIdx.x < 4) x[8 + threadIdx.x] = 2.0f * x[1 + threadIdx.x];
}
static void last_block(bool right) { RUN(last_block_kernel, 12, 4, 32, 0); }

template <bool RIGHT> static __global__ void atomic_and_plain_kernel(float *x)
{
    int *counter = reinterpret_cast<int *>(x);
    if (RIGHT || threadIdx.x > 0) atomicAdd(counter, 1);
    else *counter += 1;
}
static void atomic_and_plain(bool right) { RUN(atomic_and_plain_kernel, 1, 1, 64, 0); }

template <bool RIGHT> static __global__ void float_atomic_kernel(float *x)
{
    if (RIGHT) atomicAdd(reinterpret_cast<int *>(x), 1);
    else atomicAdd(x, 1.0f);
}
static void float_atomic(bool right) { RUN(float_atomic_kernel, 1, 1, 32, 0); }

/* --- barriers --- */

template <bool RIGHT> static __global__ void divergent_barrier_kernel(float *x)
{
    if (RIGHT) {
        __syncthreads();
    } else if (threadIdx.x < 32) {
        __syncthreads();
    } else {
        __syncthreads();
    }
    x[threadIdx.x] = 1.0f;
}
static void divergent_barrier(bool right) { RUN(divergent_barrier_kernel, 64, 1, 64, 0); }

template <bool RIGHT> static __global__ void exit_before_barrier_kernel(float *x)
{
    if (!RIGHT && threadIdx.x >= 50) return;
    __syncthreads();
    x[threadIdx.x] = 1.0f;
}
static void exit_before_barrier(bool right) { RUN(exit_before_barrier_kernel, 64, 1, 64, 0); }

/* Half of the block waits in a barrier for the other half, which waits in a warp operation for lanes of the first. */
template <bool RIGHT> static __global__ void deadlock_kernel(float *x)
{
    if (threadIdx.x % 2 == 0 || RIGHT) __syncthreads();
    if (threadIdx.x % 2 == 1 || RIGHT) __syncwarp();
    x[threadIdx.x] = 1.0f;
}
static void deadlock(bool right) { RUN(deadlock_kernel, 64, 1, 64, 0); }

template <bool RIGHT> static __global__ void named_barrier_count_kernel(float *x)
{
    ADZE_SHARED(float, tile, 32);
    if (threadIdx.x < 32) tile[threadIdx.x] = x[threadIdx.x]; /* one warp makes, one takes, a third has other work */
    if (threadIdx.x < 64) adze_bar_sync(1, RIGHT ? 64 : 96);
    if (threadIdx.x / 32 == 1) x[threadIdx.x] = tile[threadIdx.x - 32];
}
static void named_barrier_count(bool right) { RUN(named_barrier_count_kernel, 96, 1, 96, 0); }

template <bool RIGHT> static __global__ void named_barrier_missing_kernel(float *x)
{
    ADZE_SHARED(float, tile, 32);
    if (threadIdx.x < 32) tile[threadIdx.x] = 0.0f;
    __syncthreads();
    if (threadIdx.x < 32) {
        tile[threadIdx.x] = x[threadIdx.x];
        if (RIGHT) adze_bar_arrive(1, 64);
    } else {
        if (RIGHT) adze_bar_sync(1, 64);
        x[threadIdx.x] = tile[threadIdx.x - 32];
    }
}
static void named_barrier_missing(bool right) { RUN(named_barrier_missing_kernel, 64, 1, 64, 0); }

/* --- warp operations --- */

template <bool RIGHT> static __global__ void shuffle_from_exited_kernel(float *x)
{
    if (!RIGHT && threadIdx.x >= 16) return;
    x[threadIdx.x] = __shfl_down_sync(ALL, x[threadIdx.x], 16);
}
static void shuffle_from_exited(bool right) { RUN(shuffle_from_exited_kernel, 32, 1, 32, 0); }

template <bool RIGHT> static __global__ void shuffle_outside_mask_kernel(float *x)
{
    if (threadIdx.x < 16) x[threadIdx.x] = __shfl_xor_sync(0xffffu, x[threadIdx.x], RIGHT ? 8 : 16);
}
static void shuffle_outside_mask(bool right) { RUN(shuffle_outside_mask_kernel, 32, 1, 32, 0); }

template <bool RIGHT> static __global__ void not_in_own_mask_kernel(float *x)
{
    x[threadIdx.x] = (float)__ballot_sync(RIGHT ? ALL : 0xffffu, 1);
}
static void not_in_own_mask(bool right) { RUN(not_in_own_mask_kernel, 32, 1, 32, 0); }

template <bool RIGHT> static __global__ void masks_differ_kernel(float *x)
{
    x[threadIdx.x] = (float)__any_sync(RIGHT || threadIdx.x > 0 ? ALL : 0xffffu, 1);
}
static void masks_differ(bool right) { RUN(masks_differ_kernel, 32, 1, 32, 0); }

template <bool RIGHT> static __global__ void operations_differ_kernel(float *x)
{
    unsigned v;
    if (RIGHT || threadIdx.x < 16) v = __ballot_sync(ALL, 1);
    else v = __reduce_add_sync(ALL, 1u);
    x[threadIdx.x] = (float)v;
}
static void operations_differ(bool right) { RUN(operations_differ_kernel, 32, 1, 32, 0); }

/* --- cp.async and ldmatrix --- */

template <bool RIGHT> static __global__ void missing_wait_kernel(float *x)
{
    ADZE_SHARED(float, stage, 128);
    adze_cp_async<16>(&stage[4 * threadIdx.x], &x[4 * threadIdx.x]);
    adze_cp_async_commit();
    if (RIGHT) adze_cp_async_wait<0>();
    __syncthreads();
    x[4 * threadIdx.x] = stage[4 * threadIdx.x];
}
static void missing_wait(bool right) { RUN(missing_wait_kernel, 128, 1, 32, 0); }

/* Two groups: the first is read when only the second may still be under way. */
template <bool RIGHT> static __global__ void wait_for_too_few_kernel(float *x)
{
    ADZE_SHARED(float, stage, 256);
    for (int k = 0; k < 2; k++) {
        adze_cp_async<16>(&stage[128 * k + 4 * (int)threadIdx.x], &x[128 * k + 4 * (int)threadIdx.x]);
        adze_cp_async_commit();
    }
    adze_cp_async_wait<RIGHT ? 1 : 2>();
    __syncthreads();
    x[4 * threadIdx.x] = stage[4 * threadIdx.x];
}
static void wait_for_too_few(bool right) { RUN(wait_for_too_few_kernel, 256, 1, 32, 0); }

template <bool RIGHT> static __global__ void wait_without_barrier_kernel(float *x)
{
    ADZE_SHARED(float, stage, 128);
    for (int i = 0; i < 4; i++) stage[4 * threadIdx.x + i] = 0.0f;
    __syncthreads();
    adze_cp_async<16>(&stage[4 * threadIdx.x], &x[4 * threadIdx.x]);
    adze_cp_async_commit();
    adze_cp_async_wait<0>();
    if (RIGHT) __syncthreads();
    x[4 * threadIdx.x] = stage[127 - 4 * (int)threadIdx.x];
}
static void wait_without_barrier(bool right) { RUN(wait_without_barrier_kernel, 128, 1, 32, 0); }

/* A stage is filled again while others still read it. */
template <bool RIGHT> static __global__ void refill_too_early_kernel(float *x)
{
    ADZE_SHARED(float, stage, 128);
    float sum = 0.0f;
    for (int k = 0; k < 2; k++) {
        adze_cp_async<16>(&stage[4 * threadIdx.x], &x[128 * k + 4 * (int)threadIdx.x]);
        adze_cp_async_commit();
        adze_cp_async_wait<0>();
        __syncthreads();
        sum += stage[127 - 4 * (int)threadIdx.x];
        if (RIGHT) __syncthreads();
    }
    x[threadIdx.x] = sum;
}
static void refill_too_early(bool right) { RUN(refill_too_early_kernel, 256, 1, 32, 0); }

template <bool RIGHT> static __global__ void misaligned_copy_kernel(float *x)
{
    ADZE_SHARED(float, stage, 128);
    adze_cp_async<16>(&stage[4 * threadIdx.x], &x[4 * threadIdx.x + (RIGHT ? 4 : 1)]);
    adze_cp_async_commit();
    adze_cp_async_wait<0>();
    x[160 + threadIdx.x] = stage[4 * threadIdx.x];
}
static void misaligned_copy(bool right) { RUN(misaligned_copy_kernel, 192, 1, 32, 0); }

template <bool RIGHT> static __global__ void ldmatrix_misaligned_kernel(float *x)
{
    ADZE_SHARED(float, tile, 128 + 4);
    for (int i = (int)threadIdx.x; i < 132; i += 32) tile[i] = x[i];
    __syncwarp();
    uint32_t r[4];
    adze_ldmatrix(r, &tile[4 * threadIdx.x + (RIGHT ? 4 : 2)]);
    x[threadIdx.x] = __uint_as_float(r[0] + r[1] + r[2] + r[3]);
}
static void ldmatrix_misaligned(bool right) { RUN(ldmatrix_misaligned_kernel, 132, 1, 32, 0); }

template <bool RIGHT> static __global__ void mma_with_half_a_warp_kernel(float *x)
{
    if (!RIGHT && threadIdx.x >= 16) return;
    float d[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    uint32_t a[4] = {0, 0, 0, 0}, b[2] = {0, 0};
    adze_mma_bf16(d, a, b);
    x[threadIdx.x] = d[0];
}
static void mma_with_half_a_warp(bool right) { RUN(mma_with_half_a_warp_kernel, 32, 1, 32, 0); }

/* --- launches --- */

template <bool RIGHT> static __global__ void static_shared_kernel(float *x)
{
    ADZE_SHARED(float, tile, RIGHT ? 12288 : 12289); /* 48 KB, and one float more */
    tile[threadIdx.x] = x[threadIdx.x];
}
static void static_shared(bool right) { RUN(static_shared_kernel, 32, 1, 32, 0); }

template <bool RIGHT> static __global__ void dynamic_shared_kernel(float *x)
{
    ADZE_SHARED_DYNAMIC(float, tile);
    tile[threadIdx.x] = x[threadIdx.x];
}
static void dynamic_shared_not_asked_for(bool right)
{
    if (right) cudaFuncSetAttribute(dynamic_shared_kernel<true>, cudaFuncAttributeMaxDynamicSharedMemorySize, 65536);
    RUN(dynamic_shared_kernel, 32, 1, 32, 65536);
}

static void too_many_threads(bool right)
{
    float *x = zeros(1025);
    ADZE_LAUNCH(touch_kernel, 1, right ? 1024 : 1025, 0, NULL, x);
    cudaDeviceSynchronize();
    cudaFree(x);
}

static void empty_grid(bool right)
{
    float *x = zeros(32);
    ADZE_LAUNCH(touch_kernel, right ? 1 : 0, 32, 0, NULL, x);
    cudaDeviceSynchronize();
    cudaFree(x);
}

/* --- streams and capture --- */

/* One stream makes what another takes; often, since luck may hide it. */
static void missing_stream_wait(bool right)
{
    enum { TIMES = 32 };
    float *x = zeros(32), *y = NULL, *z = zeros(32);
    cudaStream_t a, b;
    cudaEvent_t made;
    cudaMalloc(&y, TIMES * 32 * sizeof *y);
    cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking);
    cudaEventCreateWithFlags(&made, cudaEventDisableTiming);
    cudaDeviceSynchronize();
    for (int i = 0; i < TIMES; i++) {
        ADZE_LAUNCH(double_kernel, 1, 32, 0, a, x, y + 32 * i);
        cudaEventRecord(made, a);
        if (right) cudaStreamWaitEvent(b, made, 0);
        ADZE_LAUNCH(double_kernel, 1, 32, 0, b, y + 32 * i, z);
        cudaStreamSynchronize(b);
    }
    cudaStreamSynchronize(a);
    cudaEventDestroy(made);
    cudaStreamDestroy(a);
    cudaStreamDestroy(b);
    cudaFree(x);
    cudaFree(y);
    cudaFree(z);
}

/* Runs `inside` while a stream is captured, launches the graph. */
template <typename F> static void captured(F inside)
{
    float *x = zeros(32);
    cudaStream_t s;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking);
    cudaDeviceSynchronize();
    cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal);
    ADZE_LAUNCH(touch_kernel, 1, 32, 0, s, x);
    inside(s, x);
    if (cudaStreamEndCapture(s, &graph) == cudaSuccess) {
        cudaGraphInstantiate(&exec, graph, 0);
        cudaGraphLaunch(exec, s);
        cudaStreamSynchronize(s);
        cudaGraphExecDestroy(exec);
        cudaGraphDestroy(graph);
    }
    cudaStreamDestroy(s);
    cudaFree(x);
}

static void sync_in_capture(bool right)
{
    captured([right](cudaStream_t s, float *) {
        if (!right) cudaStreamSynchronize(s);
    });
}

static void query_in_capture(bool right)
{
    captured([right](cudaStream_t s, float *) {
        if (!right) cudaStreamQuery(s);
    });
}

static void alloc_in_capture(bool right)
{
    captured([right](cudaStream_t, float *) {
        float *p = NULL;
        if (!right) cudaMalloc(&p, 4);
    });
}

static void default_stream_in_capture(bool right)
{
    captured([right](cudaStream_t s, float *x) { ADZE_LAUNCH(touch_kernel, 1, 32, 0, right ? s : NULL, x); });
}

static void pageable_copy_in_capture(bool right)
{
    float pageable[32] = {0}, *pinned = NULL;
    cudaMallocHost(&pinned, sizeof pageable);
    memset(pinned, 0, sizeof pageable);
    captured([=, &pageable](cudaStream_t s, float *x) {
        cudaMemcpyAsync(x, right ? pinned : pageable, sizeof pageable, cudaMemcpyHostToDevice, s);
    });
    cudaFreeHost(pinned);
}

/* A second stream joins the capture; the first must wait for it before the end. */
static void unjoined_capture(bool right)
{
    cudaStream_t other;
    cudaEvent_t fork, join;
    cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking);
    cudaEventCreateWithFlags(&fork, cudaEventDisableTiming);
    cudaEventCreateWithFlags(&join, cudaEventDisableTiming);
    captured([=](cudaStream_t s, float *x) {
        cudaEventRecord(fork, s);
        cudaStreamWaitEvent(other, fork, 0);
        ADZE_LAUNCH(touch_kernel, 1, 32, 0, other, x);
        cudaEventRecord(join, other);
        if (right) cudaStreamWaitEvent(s, join, 0);
    });
    cudaEventDestroy(fork);
    cudaEventDestroy(join);
    cudaStreamDestroy(other);
}

static void outside_event_in_capture(bool right)
{
    cudaEvent_t e;
    cudaEventCreateWithFlags(&e, cudaEventDisableTiming);
    if (!right) cudaEventRecord(e, NULL);
    captured([=](cudaStream_t s, float *) {
        if (right) cudaEventRecord(e, s);
        cudaStreamWaitEvent(s, e, 0);
    });
    cudaEventDestroy(e);
}

static void runtime_in_host_function(bool right)
{
    cudaLaunchHostFunc(
        NULL,
        [](void *arg) {
            size_t free_bytes, total_bytes;
            if (!arg) cudaMemGetInfo(&free_bytes, &total_bytes);
        },
        right ? &right : NULL);
    cudaDeviceSynchronize();
}

#define MISTAKE(name, report) {#name, report, name}
const cusim_mistake cusim_mistakes[] = {
    MISTAKE(read_past_end, "0 bytes past the end of an allocation of 400"),
    MISTAKE(write_past_end, "out of bounds"),
    MISTAKE(write_before, "4 bytes before an allocation"),
    MISTAKE(shared_past_end, "past the end of the shared array tile"),
    MISTAKE(dynamic_past_end, "past the end of the shared array (dynamic)"),
    MISTAKE(misaligned, "misaligned"),
    MISTAKE(use_after_free, "of a freed allocation"),
    MISTAKE(host_pointer_in_kernel, "host memory"),
    MISTAKE(null_pointer_in_kernel, "a null pointer"),
    MISTAKE(device_pointer_on_host, "host code touches device memory"),
    MISTAKE(wrong_copy_direction, "copy from host to device memory"),
    MISTAKE(copy_past_end, "past the end of an allocation"),
    MISTAKE(free_twice, "which is no allocation"),
    MISTAKE(local_of_other, "local memory of another thread"),
    MISTAKE(uninitialised_shared, "uninitialised: byte 28 of the shared array"),
    MISTAKE(uninitialised_global, "uninitialised: byte 124 of an allocation"),
    MISTAKE(uninitialised_download, "copy from the device reads uninitialised memory"),
    MISTAKE(missing_barrier, "race"),
    MISTAKE(missing_second_barrier, "race"),
    MISTAKE(missing_syncwarp, "race"),
    MISTAKE(syncwarp_for_block, "race"),
    MISTAKE(blocks_write, "a thread of another block writes"),
    MISTAKE(blocks_read, "race"),
    MISTAKE(last_block, "a thread of another block writes"),
    MISTAKE(atomic_and_plain, "race"),
    MISTAKE(float_atomic, "floating-point atomic"),
    MISTAKE(divergent_barrier, "divergent barrier"),
    MISTAKE(exit_before_barrier, "has left the kernel"),
    MISTAKE(deadlock, "deadlock"),
    MISTAKE(named_barrier_count, "deadlock"),
    MISTAKE(named_barrier_missing, "race"),
    MISTAKE(shuffle_from_exited, "which has left the kernel"),
    MISTAKE(shuffle_outside_mask, "which is not in the mask"),
    MISTAKE(not_in_own_mask, "not in its own mask"),
    MISTAKE(masks_differ, "with mask"),
    MISTAKE(operations_differ, "waits in"),
    MISTAKE(missing_wait, "before the wait of a cp.async"),
    MISTAKE(wait_for_too_few, "before the wait of a cp.async"),
    MISTAKE(wait_without_barrier, "race: "),
    MISTAKE(refill_too_early, "race"),
    MISTAKE(misaligned_copy, "not aligned"),
    MISTAKE(ldmatrix_misaligned, "not 16-byte aligned"),
    MISTAKE(mma_with_half_a_warp, "which has left the kernel"),
    MISTAKE(static_shared, "too much shared memory"),
    MISTAKE(dynamic_shared_not_asked_for, "of dynamic shared memory"),
    MISTAKE(too_many_threads, "block not allowed"),
    MISTAKE(empty_grid, "grid not allowed"),
    MISTAKE(missing_stream_wait, "uninitialised"),
    MISTAKE(sync_in_capture, "cudaStreamSynchronize while a stream is captured"),
    MISTAKE(query_in_capture, "cudaStreamQuery while a stream is captured"),
    MISTAKE(alloc_in_capture, "cudaMalloc while a stream is captured"),
    MISTAKE(default_stream_in_capture, "default stream while a stream is captured"),
    MISTAKE(pageable_copy_in_capture, "pageable memory while a stream is captured"),
    MISTAKE(unjoined_capture, "before its stream has waited"),
    MISTAKE(outside_event_in_capture, "recorded outside the capture"),
    MISTAKE(runtime_in_host_function, "calls the runtime"),
};
const size_t cusim_n_mistakes = sizeof cusim_mistakes / sizeof *cusim_mistakes;
