/* sums.cuh - sums in double and in fixed order: within a group of threads, along lines, down columns.
 * Entry: group_sum(), lines_launch(), line_sums_launch(), column_sums_launch().
 *
 * The order depends on the shapes alone: lanes stride over the terms, a shuffle tree adds lanes, one thread adds what is left
 * in ascending order. No atomics: bitwise repeatable. Double costs two operations of the FP64 pipe per term; at the 1/64 rate
 * of sm_89 that is 645 G/s, about what memory delivers in floats. */
#ifndef ADZE_CUDA_SUMS_CUH
#define ADZE_CUDA_SUMS_CUH

#include "cuda/cells.cuh"

constexpr int LINE_THREADS = 256;
constexpr int LINE_WARPS = LINE_THREADS / 32;
constexpr int64_t LINE_LONG = 2048; /* from here a block takes a line instead of a warp */

/* The sum over a group of G threads (1, a warp, or the block of LINE_THREADS), in all of them. */
template <int G> __device__ inline double group_sum(double x)
{
    if constexpr (G >= 32)
        for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
    if constexpr (G > 32) {
        ADZE_SHARED(double, part, LINE_WARPS);
        __syncthreads(); /* the last sum has been read */
        if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = x;
        __syncthreads();
        x = 0.0;
        for (int w = 0; w < LINE_WARPS; w++) x += part[w];
    }
    return x;
}

/* The larger of two values, the lower index where they are equal; NaN is larger than all. */
__device__ inline bool beats(float a, int64_t ia, float b, int64_t ib)
{
    const bool na = a != a, nb = b != b;
    if (na != nb) return na;
    return a > b || ((a == b || na) && ia < ib);
}

template <int G> __device__ inline void group_first_maximum(float *x, int64_t *at)
{
    if constexpr (G >= 32)
        for (int step = 16; step > 0; step /= 2) {
            const float other = __shfl_xor_sync(0xffffffffu, *x, step);
            const long long from = __shfl_xor_sync(0xffffffffu, (long long)*at, step);
            if (beats(other, from, *x, *at)) *x = other, *at = from;
        }
    if constexpr (G > 32) {
        ADZE_SHARED(float, value, LINE_WARPS);
        ADZE_SHARED(int64_t, index, LINE_WARPS);
        __syncthreads();
        if (threadIdx.x % 32 == 0) value[threadIdx.x / 32] = *x, index[threadIdx.x / 32] = *at;
        __syncthreads();
        *x = value[0], *at = index[0];
        for (int w = 1; w < LINE_WARPS; w++)
            if (beats(value[w], index[w], *x, *at)) *x = value[w], *at = index[w];
    }
}

/* ---- lines: a group of threads does one line from beginning to end ------------------------------------------------------ */

/* Body: template <int G> __device__ void line(int64_t line, int lane) const, called by all threads of the group. */
template <class Body, int G> __global__ void __launch_bounds__(LINE_THREADS, CELL_BLOCKS) lines_kernel(const Body body, int64_t lines)
{
    const int64_t line = ((int64_t)blockIdx.x * LINE_THREADS + threadIdx.x) / G;
    if (line < lines) body.template line<G>(line, (int)(threadIdx.x % G));
}

template <class Body, int G> static adze_status lines_launch_groups(const adze_call *c, const Body &body, int64_t lines)
{
    const int64_t blocks = pieces(lines, LINE_THREADS / G);
    const auto kernel = lines_kernel<Body, G>;
    if (lines == 0) return ADZE_OK;
    if (blocks > CELL_MAX_BLOCKS) return adze_fail(ADZE_ESHAPE, "%s: %" PRId64 " lines are too many", c->op->name, lines);
    return adze_cuda_check(ADZE_LAUNCH(kernel, dim3((unsigned)blocks), dim3(LINE_THREADS), 0, adze_cuda_stream(c->ctx), body, lines),
                           c->op->name);
}

/* n: length of a line; inner: distance of its elements. Lines that lie across the memory get a thread each. */
template <class Body> static adze_status lines_launch(const adze_call *c, const Body &body, int64_t lines, int64_t n, int64_t inner)
{
    if (inner > 1) return lines_launch_groups<Body, 1>(c, body, lines);
    if (n < LINE_LONG) return lines_launch_groups<Body, 32>(c, body, lines);
    return lines_launch_groups<Body, LINE_THREADS>(c, body, lines);
}

/* ---- few long lines: several blocks per line, then one thread per line --------------------------------------------------- */

/* Body: enum { SUMS }; template <int V> __device__ void add(int64_t line, int64_t i, double *sum) const for elements i ..
 * i+V-1 of the line; __device__ void finish(int64_t line, const double *sum) const. */
template <class Body, int V>
__global__ void __launch_bounds__(LINE_THREADS, CELL_BLOCKS) line_parts_kernel(const Body body, int64_t n, int splits, double *part)
{
    const int64_t line = blockIdx.x / (unsigned)splits;
    const int split = (int)(blockIdx.x % (unsigned)splits);
    const int64_t step = (int64_t)splits * LINE_THREADS * V;
    double sum[Body::SUMS];
#pragma unroll
    for (int s = 0; s < Body::SUMS; s++) sum[s] = 0.0;
    for (int64_t i = ((int64_t)split * LINE_THREADS + threadIdx.x) * V; i < n; i += step) body.template add<V>(line, i, sum);
#pragma unroll
    for (int s = 0; s < Body::SUMS; s++) {
        const double all = group_sum<LINE_THREADS>(sum[s]);
        if (threadIdx.x == 0) part[(int64_t)blockIdx.x * Body::SUMS + s] = all;
    }
}

template <class Body> __global__ void __launch_bounds__(32) line_finish_kernel(const Body body, int64_t lines, int splits, const double *part)
{
    const int64_t line = (int64_t)blockIdx.x * 32 + threadIdx.x;
    double sum[Body::SUMS];
    if (line >= lines) return;
    for (int s = 0; s < Body::SUMS; s++) {
        sum[s] = 0.0;
        for (int p = 0; p < splits; p++) sum[s] += part[(line * splits + p) * Body::SUMS + s];
    }
    body.finish(line, sum);
}

/* Blocks per line: enough to fill a device of 128 multiprocessors, none with less than a few rounds. */
static inline int line_splits(int64_t lines, int64_t n)
{
    const int64_t most = pieces(n, 16 * LINE_THREADS), wanted = pieces(1024, lines > 0 ? lines : 1);
    return (int)(most < wanted ? most : wanted);
}

static inline size_t line_sums_bytes(int64_t lines, int64_t n, int sums)
{
    return (size_t)(lines * line_splits(lines, n) * sums) * sizeof(double);
}

/* `part`: line_sums_bytes(). `vector` as for cells_launch(). */
template <class Body> static adze_status line_sums_launch(const adze_call *c, const Body &body, int64_t lines, int64_t n, bool vector, void *part)
{
    const int splits = line_splits(lines, n);
    const auto scalar = line_parts_kernel<Body, 1>, packed = line_parts_kernel<Body, 4>;
    cudaStream_t stream = adze_cuda_stream(c->ctx);
    double *to = static_cast<double *>(part);
    if (lines * splits > CELL_MAX_BLOCKS) return adze_fail(ADZE_ESHAPE, "%s: %" PRId64 " lines are too many", c->op->name, lines);
    cudaError_t e = ADZE_LAUNCH(vector ? packed : scalar, dim3((unsigned)(lines * splits)), dim3(LINE_THREADS), 0, stream, body, n, splits, to);
    if (e == cudaSuccess)
        e = ADZE_LAUNCH(line_finish_kernel<Body>, dim3((unsigned)pieces(lines, 32)), dim3(32), 0, stream, body, lines, splits, (const double *)to);
    return adze_cuda_check(e, c->op->name);
}

/* ---- columns: sums over rows, one result per column ----------------------------------------------------------------------- */

constexpr int COLUMN_LANES = 32, COLUMN_ROWS = 8;

/* Body: enum { SUMS }; __device__ void add(int64_t column, int64_t row, double *sum) const; finish() as above, per column.
 * A block takes 32 neighbouring columns and every 8*splits-th row, eight at a time. */
template <class Body>
__global__ void __launch_bounds__(COLUMN_LANES * COLUMN_ROWS) column_parts_kernel(const Body body, int64_t rows, int64_t columns, int splits, double *part)
{
    const int64_t column = (int64_t)(blockIdx.x / (unsigned)splits) * COLUMN_LANES + threadIdx.x;
    const int split = (int)(blockIdx.x % (unsigned)splits);
    ADZE_SHARED(double, lane, Body::SUMS * COLUMN_ROWS * COLUMN_LANES);
    double sum[Body::SUMS];
#pragma unroll
    for (int s = 0; s < Body::SUMS; s++) sum[s] = 0.0;
    if (column < columns)
        for (int64_t row = (int64_t)split * COLUMN_ROWS + threadIdx.y; row < rows; row += (int64_t)splits * COLUMN_ROWS) body.add(column, row, sum);
#pragma unroll
    for (int s = 0; s < Body::SUMS; s++) lane[(s * COLUMN_ROWS + (int)threadIdx.y) * COLUMN_LANES + (int)threadIdx.x] = sum[s];
    __syncthreads();
    if (threadIdx.y != 0 || column >= columns) return;
#pragma unroll
    for (int s = 0; s < Body::SUMS; s++) {
        double all = 0.0;
        for (int y = 0; y < COLUMN_ROWS; y++) all += lane[(s * COLUMN_ROWS + y) * COLUMN_LANES + (int)threadIdx.x];
        part[((int64_t)split * Body::SUMS + s) * columns + column] = all;
    }
}

template <class Body> __global__ void __launch_bounds__(64) column_finish_kernel(const Body body, int64_t columns, int splits, const double *part)
{
    const int64_t column = (int64_t)blockIdx.x * 64 + threadIdx.x;
    double sum[Body::SUMS];
    if (column >= columns) return;
    for (int s = 0; s < Body::SUMS; s++) {
        sum[s] = 0.0;
        for (int p = 0; p < splits; p++) sum[s] += part[((int64_t)p * Body::SUMS + s) * columns + column];
    }
    body.finish(column, sum);
}

static inline int column_splits(int64_t rows, int64_t columns)
{
    const int64_t most = pieces(rows, 4 * COLUMN_ROWS), wanted = pieces(1024, pieces(columns, COLUMN_LANES));
    return (int)(most < 1 ? 1 : most < wanted ? most : wanted);
}

static inline size_t column_sums_bytes(int64_t rows, int64_t columns, int sums)
{
    return (size_t)(column_splits(rows, columns) * columns * sums) * sizeof(double);
}

/* `part`: column_sums_bytes(). */
template <class Body> static adze_status column_sums_launch(const adze_call *c, const Body &body, int64_t rows, int64_t columns, void *part)
{
    const int splits = column_splits(rows, columns);
    const int64_t blocks = pieces(columns, COLUMN_LANES) * splits;
    cudaStream_t stream = adze_cuda_stream(c->ctx);
    double *to = static_cast<double *>(part);
    if (blocks > CELL_MAX_BLOCKS) return adze_fail(ADZE_ESHAPE, "%s: %" PRId64 " columns are too many", c->op->name, columns);
    cudaError_t e = ADZE_LAUNCH(column_parts_kernel<Body>, dim3((unsigned)blocks), dim3(COLUMN_LANES, COLUMN_ROWS), 0, stream, body, rows,
                                columns, splits, to);
    if (e == cudaSuccess)
        e = ADZE_LAUNCH(column_finish_kernel<Body>, dim3((unsigned)pieces(columns, 64)), dim3(64), 0, stream, body, columns, splits,
                        (const double *)to);
    return adze_cuda_check(e, c->op->name);
}

#endif
