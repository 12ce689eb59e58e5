/* cells.cuh - launches of elementwise bodies, over a flat range or over rows of channels. Entry: flat_launch(), cells_launch().
 *
 * A body is a struct of plain values with one device function:
 *   flat   template <int V> __device__ void at(int64_t i) const           elements i .. i+V-1
 *   cells  template <int V> __device__ void at(int row, int k) const      channels k .. k+V-1 of a row
 * V is 4 where 16-byte loads are possible, else 1. Bodies stand in an unnamed namespace: their types name the kernels' instances.
 * Consecutive lanes take consecutive channels, so a warp's request covers whole 32-byte sectors: 4 per 128 bytes. All tensors
 * start at multiples of 64 bytes (ADZE_MEMORY_ALIGN). */
#ifndef ADZE_CUDA_CELLS_CUH
#define ADZE_CUDA_CELLS_CUH

#include <inttypes.h>

#include "core/op.h"
#include "cuda/cuda_state.h"
#include "cuda/kernels_cuda.h"
#include "cuda/launch.h"

constexpr int CELL_THREADS = 256;
constexpr int CELL_BLOCKS = 3; /* per multiprocessor at least: up to 80 registers */
constexpr int64_t CELL_MAX_BLOCKS = INT32_MAX;

template <int V> struct alignas(V * sizeof(float)) pack {
    float v[V];
};

template <int V> __device__ inline pack<V> load(const float *p)
{
    return *reinterpret_cast<const pack<V> *>(p);
}

template <int V> __device__ inline void store(float *p, const pack<V> &x)
{
    *reinterpret_cast<pack<V> *>(p) = x;
}

/* What adze_grad_put() does: the first writer of a gradient overwrites, later ones add. */
template <int V> __device__ inline void put(float *grad, bool add, pack<V> x)
{
    if (add) {
        const pack<V> old = load<V>(grad);
#pragma unroll
        for (int j = 0; j < V; j++) x.v[j] = old.v[j] + x.v[j];
    }
    store<V>(grad, x);
}

__device__ inline void put(float *grad, bool add, float x)
{
    *grad = add ? *grad + x : x;
}

static inline int64_t pieces(int64_t n, int64_t piece) { return (n + piece - 1) / piece; }

template <class Body> __global__ void __launch_bounds__(CELL_THREADS, CELL_BLOCKS) flat_kernel(const Body body, int64_t n)
{
    int64_t i = 4 * ((int64_t)blockIdx.x * CELL_THREADS + threadIdx.x);
    if (i + 4 <= n) body.template at<4>(i);
    else
        for (; i < n; i++) body.template at<1>(i);
}

template <class Body> static adze_status flat_launch(const adze_call *c, const Body &body, int64_t n)
{
    const int64_t blocks = pieces(n, 4 * CELL_THREADS);
    if (n == 0) return ADZE_OK;
    if (blocks > CELL_MAX_BLOCKS) return adze_fail(ADZE_ESHAPE, "%s: %" PRId64 " elements are too many", c->op->name, n);
    return adze_cuda_check(ADZE_LAUNCH(flat_kernel<Body>, dim3((unsigned)blocks), dim3(CELL_THREADS), 0, adze_cuda_stream(c->ctx), body, n),
                           c->op->name);
}

/* Blocks are counted along the columns first. */
template <class Body, int V>
__global__ void __launch_bounds__(CELL_THREADS, CELL_BLOCKS) cells_kernel(const Body body, int rows, int columns, int column_blocks)
{
    const int k = (int)(blockIdx.x % (unsigned)column_blocks * blockDim.x + threadIdx.x);
    const int64_t row = (int64_t)(blockIdx.x / (unsigned)column_blocks) * blockDim.y + threadIdx.y;
    if (row < rows && k < columns) body.template at<V>((int)row, k * V);
}

/* Threads of a block along the columns: a power of two that divides them, or covers them if they are few. */
static inline unsigned column_threads(int64_t columns)
{
    unsigned x = 1;
    while (x < CELL_THREADS && columns % (2 * x) == 0) x *= 2;
    if (x >= 32) return x;
    for (x = 1; x < 32 && x < columns;) x *= 2;
    return x;
}

template <class Body, int V> static adze_status cells_launch_packs(const adze_call *c, const Body &body, int64_t rows, int64_t columns)
{
    const unsigned x = column_threads(columns), y = CELL_THREADS / x;
    const int64_t column_blocks = pieces(columns, x), blocks = column_blocks * pieces(rows, y);
    const auto kernel = cells_kernel<Body, V>;
    if (rows == 0 || columns == 0) return ADZE_OK;
    if (rows > INT32_MAX || V * columns > INT32_MAX || blocks > CELL_MAX_BLOCKS)
        return adze_fail(ADZE_ESHAPE, "%s: %" PRId64 " rows of %" PRId64 " are too many", c->op->name, rows, V * columns);
    return adze_cuda_check(ADZE_LAUNCH(kernel, dim3((unsigned)blocks), dim3(x, y), 0, adze_cuda_stream(c->ctx), body, (int)rows,
                                       (int)columns, (int)column_blocks),
                           c->op->name);
}

/* `vector`: every row of every operand starts at a multiple of 4 floats. */
template <class Body> static adze_status cells_launch(const adze_call *c, const Body &body, int64_t rows, int64_t C, bool vector)
{
    if (vector) return cells_launch_packs<Body, 4>(c, body, rows, C / 4);
    return cells_launch_packs<Body, 1>(c, body, rows, C);
}

static inline bool accepts_all(const adze_call *) { return true; }

/* The entry of an op's list. prepare NULL: nothing to prepare. */
static constexpr adze_kernel cuda_kernel(bool (*accepts)(const adze_call *), adze_status (*prepare)(adze_call *),
                                         adze_status (*run)(const adze_call *))
{
    adze_kernel k = {};
    k.name = "cuda", k.accepts = accepts, k.prepare = prepare, k.run = run;
    return k;
}

#endif
