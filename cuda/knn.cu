/* knn.cu - exact k nearest rows of a memory bank on a device, with the results of core/knn.c: the same rows, the same bits.
 *
 * Pass 1 multiplies tiles of 128 queries and 128 bank rows, both centred by the bank's mean, in float16 on the tensor cores or in
 * float32, and keeps per query the C rows with the largest s = <q,b> - |b|^2/2; no (Q,M) matrix exists. The bank is split over
 * blocks; a second kernel merges the splits in order, computes the C direct distances in double, and checks the certificate of
 * core/knn.h: every other row has at most the C-th s, so none can be nearer than the k-th if s_C + e < s_k. Queries that fail are
 * run again, float16 in float32, float32 as a direct scan.
 *
 *   float16   values are scaled by one power of two, so that the bank's largest is near 2^8; what rounding loses is measured
 *   A         of the bound: a product of 16 terms is summed by 17 additions, each truncated to 24 bits at the largest: (17/16 D + 64)
 *             2^-23; in float32 (D + 64) 2^-24
 *   e         with the largest norm and residual of the bank, so that one number per query serves all rows
 *
 * bytes   float16 bank once per 128 queries (from L2 where it fits): 50 MB at M=24576 D=1024; partial results 8 C per query, split
 * flops   2 Q M D = 51.5 G per image of 1024 patches at M=24576
 * floor   0.312 ms per image on sm_89 (165 TFLOP/s), 0.052 on sm_90 (989); float32 0.624 and 0.77 ms
 * launch  256 threads: 8 warps of 64x32 products, three stages of 32 elements (48 KB), ldmatrix and scores by swizzled addresses, no
 *         bank conflicts. 64 registers of a thread are sums. At C = 4 bounds (256,2) leave it 128: fragments of one operand are loaded
 *         as they are needed, addresses are 32 bits wide, nothing spills, and two blocks share a multiprocessor, so that one multiplies
 *         while the other scans its scores (640 instructions a thread and tile; at D = 1024 a tile's products take 65 k cycles on sm_89
 *         and at least 8 k on sm_90: without the other block 2 % and up to 20 % of the time). At C = 16 the list takes 32 registers
 *         more; within 128 it would spill, so one block has up to 156. Fewer sums per thread would raise occupancy further
 *         and halve the products per byte of shared memory that ldmatrix reads, which is what feeds the tensor cores
 * order   every thread scans its columns ascending; lists are merged by (s, row): bitwise repeatable, no atomics */
#include <cuda_fp16.h>
#include <float.h>
#include <math.h>

#include "core/knn.h"
#include "core/memory.h"
#include "cuda/cells.cuh"
#include "cuda/ptx.h"

namespace {

constexpr int TILE = 128;          /* queries and rows of a tile */
constexpr int THREADS = 256;
constexpr int STEP = 32;           /* float16 elements per stage */
constexpr int STAGES = 3;
constexpr int ROW_BYTES = STEP * 2, TILE_BYTES = TILE * ROW_BYTES, STAGE_BYTES = 2 * TILE_BYTES;
constexpr int SHARED_BYTES = STAGES * STAGE_BYTES;
constexpr int SCORE_PAIRS = 32;    /* of a row of scores: 64 columns, half of a tile's */
constexpr int LISTS = 2;           /* per split and query: one per thread that scans it */
constexpr int MOST_K = 12;         /* more neighbours are scanned for directly */
constexpr int64_t QUERY_PART = 16384; /* queries per round */

constexpr int SCORE_FLOATS = TILE * SCORE_PAIRS * 2;

static_assert(SCORE_FLOATS * (int)sizeof(float) <= SHARED_BYTES, "scores lie where the stages did");

struct alignas(8) candidate {
    float s;
    int32_t row; /* -1: none */
};

struct row_info {
    double norm2;         /* |x - m|^2 */
    float norm, residual; /* NQ or NB, rq or rb of the bound */
};

/* ---- packing --------------------------------------------------------------------------------------------------------------- */

__global__ void __launch_bounds__(THREADS) mean_kernel(const float *x, int64_t M, int64_t D, float *mean)
{
    const int64_t d = (int64_t)blockIdx.x * 32 + threadIdx.x % 32;
    const int lane = (int)threadIdx.x / 32;
    ADZE_SHARED(double, part, THREADS);
    double sum = 0.0;
    if (d < D)
        for (int64_t i = lane; i < M; i += THREADS / 32) sum += (double)x[i * D + d];
    part[threadIdx.x] = sum;
    __syncthreads();
    if (lane != 0 || d >= D) return;
    for (int l = 1; l < THREADS / 32; l++) sum += part[32 * l + (int)threadIdx.x];
    mean[d] = (float)(sum / (double)M);
}

__device__ double warp_sum(double x)
{
    for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}

__device__ float warp_max(float x)
{
    for (int step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
    return x;
}

/* largest[i] = the largest |x - m| of row i; a warp per row. */
__global__ void __launch_bounds__(THREADS) largest_kernel(const float *x, int64_t M, int64_t D, const float *mean, float *largest)
{
    const int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) / 32;
    float most = 0.0f;
    if (i >= M) return;
    for (int64_t d = threadIdx.x % 32; d < D; d += 32) most = fmaxf(most, fabsf(x[i * D + d] - mean[d]));
    most = warp_max(most);
    if (threadIdx.x % 32 == 0) largest[i] = most;
}

/* The largest of n values (the norms and residuals of rows), by one block. */
__global__ void __launch_bounds__(THREADS) most_kernel(const float *value, int64_t n, int64_t step, float *most)
{
    ADZE_SHARED(float, part, THREADS / 32);
    float x = 0.0f;
    for (int64_t i = threadIdx.x; i < n; i += THREADS) x = fmaxf(x, value[i * step]);
    x = warp_max(x);
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = x;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int w = 0; w < THREADS / 32; w++) x = fmaxf(x, part[w]);
    *most = x;
}

/* Row which[i] (or i) of x: its norm and, for float16, the packed row and what rounding lost. A warp per row, also for the rows
 * that fill the last tile, which become zeros. */
template <bool HALF>
__global__ void __launch_bounds__(THREADS)
    pack_kernel(const float *x, const int64_t *which, int64_t n, int64_t D, int64_t Dp, const float *mean, float scale, __half *packed, row_info *info)
{
    const int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) / 32;
    const int lane = (int)threadIdx.x % 32;
    const bool real = i < n;
    const float *row = x + (real ? (which ? which[i] : i) : 0) * D;
    double norm2 = 0.0, lost2 = 0.0;
    for (int64_t d = lane; d < Dp; d += 32) {
        float c = 0.0f;
        if (real && d < D) {
            const double exact = (double)row[d] - (double)mean[d];
            c = row[d] - mean[d];
            norm2 += exact * exact;
            if (HALF) {
                const double kept = (double)__half2float(__float2half_rn(c * scale)) / (double)scale;
                lost2 += (exact - kept) * (exact - kept);
            }
        }
        if (HALF) packed[i * Dp + d] = __float2half_rn(c * scale);
    }
    norm2 = warp_sum(norm2), lost2 = warp_sum(lost2);
    if (lane != 0 || !real) return;
    const double norm = sqrt(norm2) * (1.0 + 1e-6), residual = (HALF ? sqrt(lost2) * (1.0 + 1e-6) : norm * 0x1p-24 * (1.0 + 1e-6)) + 0x1p-130;
    info[i] = row_info{ norm2, (float)(norm * (1.0 + 1e-6)) + (float)(residual * (1.0 + 1e-6)), (float)(residual * (1.0 + 1e-6)) };
}

__global__ void __launch_bounds__(THREADS) init_kernel(const row_info *info, int64_t n, float *init)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < n) init[i] = (float)(-0.5 * info[i].norm2);
}

/* ---- pass 1 ---------------------------------------------------------------------------------------------------------------- */

struct pass {
    int64_t M, Q, D; /* Q: queries of this round; D: padded for float16 */
    int64_t pitch;   /* of `out`: Q, padded to whole sectors */
    int tiles, splits;
    const float *init;
    float inverse; /* of the product's scale */
    candidate *out; /* (splits, LISTS, C, pitch) */
    const __half *q16, *b16;
    const float *q, *b, *mean;
    const int64_t *which; /* float32: rows of q; NULL: all */
};

template <int C> struct best_list {
    float s[C];
    int32_t row[C];
};

/* Rows come ascending, so that of equal s the lower one stays in front. */
template <int C> __device__ void insert(best_list<C> &best, float s, int32_t row)
{
    if (!(s > best.s[C - 1])) return;
#pragma unroll
    for (int c = C - 1; c > 0; c--) {
        const bool shifts = s > best.s[c - 1], lands = !shifts && s > best.s[c];
        best.row[c] = shifts ? best.row[c - 1] : lands ? row : best.row[c];
        best.s[c] = shifts ? best.s[c - 1] : lands ? s : best.s[c];
    }
    if (s > best.s[0]) best.s[0] = s, best.row[0] = row;
}

/* Where columns 2 pair and 2 pair + 1 of a row of scores lie: 8 bytes. Sixteen consecutive rows of one pair, and four pairs of
 * four consecutive rows, each fill the 32 banks. */
__device__ int score_at(int row, int pair) { return 2 * (row * SCORE_PAIRS + (pair ^ ((row & 3) << 2 | (row >> 2 & 3)))); }

/* 64 columns of scores from row `first` of the bank on: thread t takes 32 of them for query t % 128. Its list waits in global
 * memory, not in registers, while the next tile is multiplied; `fresh`: there is none yet. */
template <int C> __device__ void scan(const pass &p, const float *score, int first, int q0, int split, bool fresh)
{
    const int row = (int)threadIdx.x % TILE, from = (int)threadIdx.x / TILE * 32;
    const int n = min(32, (int)p.M - first - from);
    if (q0 + row >= (int)p.Q) return;
    candidate *list = p.out + (int64_t)(split * LISTS + (int)threadIdx.x / TILE) * C * p.pitch + q0 + row;
    best_list<C> best;
#pragma unroll
    for (int c = 0; c < C; c++) {
        const candidate x = fresh ? candidate{ -INFINITY, -1 } : list[c * p.pitch];
        best.s[c] = x.s, best.row[c] = x.row;
    }
#pragma unroll 1
    for (int j = 0; j < n; j += 2) { /* as are the loops around: unrolled, they would take registers from the products */
        const int at = first + from + j;
        const pack<2> s = load<2>(score + score_at(row, (from + j) / 2));
        insert(best, s.v[0] * p.inverse + p.init[at], at);
        if (j + 1 < n) insert(best, s.v[1] * p.inverse + p.init[at + 1], at + 1);
    }
#pragma unroll
    for (int c = 0; c < C; c++) /* 8 bytes at once */
        store<2>(reinterpret_cast<float *>(list + c * p.pitch), pack<2>{ { best.s[c], __int_as_float(best.row[c]) } });
}

/* Byte of 16-byte chunk c of row r of a tile: eight rows of one chunk lie in eight different bank groups. */
__device__ int chunk_at(int r, int c) { return r * ROW_BYTES + (c ^ (r >> 1 & 3)) * 16; }

/* Elements [k, k + STEP) of 128 rows of q and b, D apart, into a stage; all rows exist, padded. */
__device__ void fetch(const __half *q, const __half *b, int D, int k, unsigned char *stage)
{
    const int r = (int)threadIdx.x / 4, c = (int)threadIdx.x % 4, from = r * D + k + c * 8;
    unsigned char *to = stage + chunk_at(r, c);
#pragma unroll
    for (int i = 0; i < TILE / (THREADS / 4); i++) {
        adze_cp_async<16>(to + i * (THREADS / 4) * ROW_BYTES, q + (from + i * (THREADS / 4) * D));
        adze_cp_async<16>(to + i * (THREADS / 4) * ROW_BYTES + TILE_BYTES, b + (from + i * (THREADS / 4) * D));
    }
}

__device__ void multiply_stage(const unsigned char *stage, int wm, int wn, int lane, float (&acc)[4][4][4])
{
#pragma unroll
    for (int kk = 0; kk < STEP / 16; kk++) {
        uint32_t b[2][4];
#pragma unroll
        for (int n = 0; n < 2; n++)
            adze_ldmatrix(b[n], stage + TILE_BYTES + chunk_at(wn * 32 + n * 16 + lane / 16 * 8 + lane % 8, kk * 2 + (lane / 8 & 1)));
#pragma unroll
        for (int m = 0; m < 4; m++) {
            uint32_t a[4];
            adze_ldmatrix(a, stage + chunk_at(wm * 64 + m * 16 + lane % 16, kk * 2 + lane / 16));
#pragma unroll
            for (int n = 0; n < 4; n++) {
                const uint32_t pair[2] = { b[n / 2][n % 2 * 2], b[n / 2][n % 2 * 2 + 1] };
                adze_mma_f16(acc[m][n], a, pair);
            }
        }
    }
}

/* Queries blockIdx.y * 128 .., the bank's tiles of split blockIdx.x. */
template <int C> __global__ void __launch_bounds__(THREADS, C <= 4 ? 2 : 1) tensor_kernel(const pass p)
{
    ADZE_SHARED(unsigned char, shared, SHARED_BYTES);
    const int lane = (int)threadIdx.x % 32, wm = (int)threadIdx.x / 128, wn = (int)threadIdx.x / 32 % 4, split = (int)blockIdx.x;
    const int q0 = (int)blockIdx.y * TILE;
    const int first = (int)((int64_t)p.tiles * split / p.splits), last = (int)((int64_t)p.tiles * (split + 1) / p.splits);
    const int steps = (int)p.D / STEP;
    float *score = reinterpret_cast<float *>(shared);
    for (int tile = first; tile < last; tile++) {
        const __half *q = p.q16 + (int64_t)q0 * p.D, *b = p.b16 + (int64_t)tile * TILE * p.D;
        float acc[4][4][4] = {};
        for (int s = 0; s < STAGES - 1; s++) {
            if (s < steps) fetch(q, b, (int)p.D, s * STEP, shared + s * STAGE_BYTES);
            adze_cp_async_commit();
        }
#pragma unroll 1
        for (int s = 0; s < steps; s++) {
            const int ahead = s + STAGES - 1;
            adze_cp_async_wait<STAGES - 2>();
            __syncthreads();
            if (ahead < steps) fetch(q, b, (int)p.D, ahead * STEP, shared + ahead % STAGES * STAGE_BYTES);
            adze_cp_async_commit();
            multiply_stage(shared + s % STAGES * STAGE_BYTES, wm, wn, lane, acc);
        }
        adze_cp_async_wait<0>();
#pragma unroll 1
        for (int half = 0; half < 2; half++) {
            __syncthreads();
            if (wn / 2 == half)
#pragma unroll
                for (int n = 0; n < 4; n++)
#pragma unroll
                    for (int i = 0; i < 4; i += 2) {
                        float *to = score + score_at(wm * 64 + lane / 4 + i / 2 * 8, wn % 2 * 16 + n * 4 + lane % 4);
#pragma unroll
                        for (int m = 0; m < 4; m++) store<2>(to + m * 16 * 2 * SCORE_PAIRS, pack<2>{ { acc[m][n][i], acc[m][n][i + 1] } });
                    }
            __syncthreads();
            scan<C>(p, score, tile * TILE + half * 64, q0, split, tile == first && half == 0);
        }
        __syncthreads();
    }
}

constexpr int SIMT_STEP = 8, SIMT_STRIDE = TILE + 4; /* floats */

/* Four elements of a centred row; beyond the rows or D: zeros. */
__device__ float4 centred(const float *row, const float *mean, int k, int D)
{
    float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (!row) return v;
    if (D % 4 == 0 && k < D) {
        const float4 a = *reinterpret_cast<const float4 *>(row + k), m = *reinterpret_cast<const float4 *>(mean + k);
        return make_float4(a.x - m.x, a.y - m.y, a.z - m.z, a.w - m.w);
    }
    if (k < D) v.x = row[k] - mean[k];
    if (k + 1 < D) v.y = row[k + 1] - mean[k + 1];
    if (k + 2 < D) v.z = row[k + 2] - mean[k + 2];
    if (k + 3 < D) v.w = row[k + 3] - mean[k + 3];
    return v;
}

__device__ void put_column(float *to, int k, int r, float4 v)
{
    to[k * SIMT_STRIDE + r] = v.x, to[(k + 1) * SIMT_STRIDE + r] = v.y;
    to[(k + 2) * SIMT_STRIDE + r] = v.z, to[(k + 3) * SIMT_STRIDE + r] = v.w;
}

/* The same in float32: a thread has 8 x 8 products, rows and columns 4t .. 4t+3 and 64 + 4t ... */
template <int C> __global__ void __launch_bounds__(THREADS, C <= 4 ? 2 : 1) simt_kernel(const pass p)
{
    ADZE_SHARED(float, shared, SCORE_FLOATS);
    const int tx = (int)threadIdx.x % 16, ty = (int)threadIdx.x / 16, split = (int)blockIdx.x;
    const int r = (int)threadIdx.x / 2, k = (int)threadIdx.x % 2 * 4, D = (int)p.D; /* r, k: what this thread fetches */
    const int64_t q0 = (int64_t)blockIdx.y * TILE;
    const int first = (int)((int64_t)p.tiles * split / p.splits), last = (int)((int64_t)p.tiles * (split + 1) / p.splits);
    const float *q = q0 + r < p.Q ? p.q + (p.which ? p.which[q0 + r] : q0 + r) * p.D : NULL;
    constexpr int STAGE = 2 * SIMT_STEP * SIMT_STRIDE;
    for (int tile = first; tile < last; tile++) {
        const int64_t row = (int64_t)tile * TILE + r;
        const float *b = row < p.M ? p.b + row * p.D : NULL;
        float acc[8][8] = {};
        float4 vq = centred(q, p.mean, k, D), vb = centred(b, p.mean, k, D);
        for (int at = 0; at < D; at += SIMT_STEP) {
            float *stage = shared + at / SIMT_STEP % 2 * STAGE;
            put_column(stage, k, r, vq);
            put_column(stage + SIMT_STEP * SIMT_STRIDE, k, r, vb);
            __syncthreads(); /* two stages: nobody writes what the last turn still reads */
            vq = centred(q, p.mean, at + SIMT_STEP + k, D), vb = centred(b, p.mean, at + SIMT_STEP + k, D);
#pragma unroll
            for (int e = 0; e < SIMT_STEP; e++) {
                const float *a = stage + e * SIMT_STRIDE, *c = stage + (SIMT_STEP + e) * SIMT_STRIDE;
                const pack<4> c0 = load<4>(c + 4 * tx), c1 = load<4>(c + 64 + 4 * tx);
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    const pack<4> a0 = load<4>(a + 64 * h + 4 * ty);
#pragma unroll
                    for (int i = 0; i < 4; i++)
#pragma unroll
                        for (int j = 0; j < 8; j++) acc[4 * h + i][j] = fmaf(a0.v[i], j < 4 ? c0.v[j % 4] : c1.v[j % 4], acc[4 * h + i][j]);
                }
            }
        }
#pragma unroll 1
        for (int half = 0; half < 2; half++) {
            __syncthreads();
#pragma unroll
            for (int i = 0; i < 8; i++) {
                const int line = i / 4 * 64 + 4 * ty + i % 4, at = score_at(line, 2 * tx), other = score_at(line, 2 * tx + 1);
                pack<4> v;
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    const float here = half == 0 ? acc[i][j] : acc[i][4 + j], across = half == 0 ? acc[i][j ^ 2] : acc[i][4 + (j ^ 2)];
                    v.v[j] = at < other ? here : across; /* the two pairs may have changed places */
                }
                store<4>(shared + min(at, other), v);
            }
            __syncthreads();
            scan<C>(p, shared, tile * TILE + half * 64, (int)q0, split, tile == first && half == 0);
        }
        __syncthreads();
    }
}

/* ---- pass 2 ---------------------------------------------------------------------------------------------------------------- */

/* |a - b|^2 in all lanes of a half-warp: the lanes and the tree of core/cpu/score_tile.h, so the same bits. */
__device__ double distance2(const float *a, const float *b, int64_t D, int lane)
{
    double sum = 0.0;
    for (int64_t d = lane % 16; d < D; d += 16) {
        const double diff = (double)a[d] - (double)b[d];
        sum += diff * diff;
    }
    for (int step = 8; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
    return sum;
}

struct ranking {
    int64_t M, n, D; /* n: queries of this round */
    int k, lists;
    const candidate *part; /* (lists, C, pitch) */
    int64_t pitch;
    const float *q, *rows;
    const int64_t *which;
    const row_info *info; /* of the queries */
    double A, NB, rb;     /* of the bound, over the whole bank */
    float *dist;          /* (all queries, k) */
    int32_t *idx;
    unsigned char *again;
};

__device__ bool in_front(float s, int32_t row, float other, int32_t other_row) { return s > other || (s == other && row < other_row); }

/* A warp per query: the C best of its lists, their distances, the certificate. */
template <int C> __global__ void __launch_bounds__(THREADS) rank_kernel(const ranking r)
{
    const int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) / 32;
    const int lane = (int)threadIdx.x % 32, items = r.lists * C;
    if (i >= r.n) return;
    const int64_t at = r.which ? r.which[i] : i;
    const candidate *part = r.part + i;
    double dist[C];
    int32_t row[C];
    float s = INFINITY;
    int32_t from = -1;
#pragma unroll
    for (int c = 0; c < C; c++) { /* the first one behind (s, from) */
        candidate best = { -INFINITY, INT32_MAX };
        for (int t = lane; t < items; t += 32) {
            const candidate x = part[t * r.pitch];
            if (x.row >= 0 && in_front(s, from, x.s, x.row) && in_front(x.s, x.row, best.s, best.row)) best = x;
        }
        for (int step = 16; step > 0; step /= 2) {
            const float other = __shfl_xor_sync(0xffffffffu, best.s, step);
            const int32_t other_row = __shfl_xor_sync(0xffffffffu, best.row, step);
            if (in_front(other, other_row, best.s, best.row)) best = candidate{ other, other_row };
        }
        row[c] = best.row;
        if (best.row != INT32_MAX) s = best.s, from = best.row;
    }
#pragma unroll
    for (int c = 0; c < C; c += 2) {
        const int32_t mine = lane < 16 ? row[c] : row[c + 1];
        const double d = distance2(r.q + at * r.D, r.rows + (mine != INT32_MAX ? mine : 0) * r.D, r.D, lane);
        dist[c] = __shfl_sync(0xffffffffu, d, 0), dist[c + 1] = __shfl_sync(0xffffffffu, d, 16);
        if (row[c] == INT32_MAX) dist[c] = INFINITY;
        if (row[c + 1] == INT32_MAX) dist[c + 1] = INFINITY;
    }
#pragma unroll
    for (int a = 1; a < C; a++)
#pragma unroll
        for (int b = C - 1; b > 0; b--) { /* bubbles up the nearest of the rest; selections, so that all stays in registers */
            const bool swap = b >= a && (dist[b] < dist[b - 1] || (dist[b] == dist[b - 1] && row[b] < row[b - 1]));
            const double near = swap ? dist[b] : dist[b - 1], far = swap ? dist[b - 1] : dist[b];
            const int32_t near_row = swap ? row[b] : row[b - 1], far_row = swap ? row[b - 1] : row[b];
            dist[b - 1] = near, dist[b] = far, row[b - 1] = near_row, row[b] = far_row;
        }
    double kth = 0.0;
#pragma unroll
    for (int c = 0; c < C; c++) {
        if (c == r.k - 1) kth = dist[c];
        if (lane == c && c < r.k) r.dist[at * r.k + c] = (float)dist[c], r.idx[at * r.k + c] = row[c];
    }
    if (lane != 0) return;
    const row_info q = r.info[i];
    const double NQ = q.norm, both = NQ + r.NB;
    const double e = r.NB * (q.residual + r.A * NQ) + NQ * r.rb + 0.5 * r.A * r.NB * r.NB + 0x1p-40 * both * both + 0x1p-100;
    r.again[at] = r.M > C && !((double)s + e < 0.5 * (q.norm2 - kth));
}

struct direct_scan {
    int64_t M, D;
    int k;
    const float *q, *rows;
    const int64_t *which;
    float *dist;
    int32_t *idx;
};

/* A block per query goes over all rows, 16 at a time. */
__global__ void __launch_bounds__(THREADS) direct_kernel(const direct_scan s)
{
    ADZE_SHARED(double, measured, THREADS / 16);
    ADZE_SHARED(double, dist, ADZE_BANK_MAX_K);
    ADZE_SHARED(int32_t, row, ADZE_BANK_MAX_K);
    const int64_t at = s.which ? s.which[blockIdx.x] : blockIdx.x;
    int found = 0;
    for (int64_t first = 0; first < s.M; first += THREADS / 16) {
        const int64_t mine = first + (int)threadIdx.x / 16;
        const double d = distance2(s.q + at * s.D, s.rows + (mine < s.M ? mine : 0) * s.D, s.D, (int)threadIdx.x % 32);
        if (threadIdx.x % 16 == 0) measured[threadIdx.x / 16] = d;
        __syncthreads();
        for (int j = 0; threadIdx.x == 0 && j < THREADS / 16 && first + j < s.M; j++) {
            if (found == s.k && !(measured[j] < dist[s.k - 1])) continue; /* equal: the lower row is in */
            int to = found < s.k ? found++ : s.k - 1;
            for (; to > 0 && dist[to - 1] > measured[j]; to--) dist[to] = dist[to - 1], row[to] = row[to - 1];
            dist[to] = measured[j], row[to] = (int32_t)(first + j);
        }
        __syncthreads();
    }
    for (int j = (int)threadIdx.x; j < s.k; j += THREADS) s.dist[at * s.k + j] = (float)dist[j], s.idx[at * s.k + j] = row[j];
}

/* ---- the host's side ------------------------------------------------------------------------------------------------------- */

struct bank {
    int64_t M, D, Dp; /* Dp: padded for float16; 0 for a float32 bank */
    float scale;
    double NB[2], rb[2]; /* of the bound, in float16 and float32 */
    float *rows, *mean, *init; /* on the device, as the next */
    __half *packed;
    unsigned char *work; /* of queries, grown as needed */
    size_t work_bytes;
};

int64_t padded(int64_t n) { return pieces(n, TILE) * TILE; }

int64_t pitch_of(int64_t n) { return pieces(n, 32 / sizeof(candidate)) * (32 / sizeof(candidate)); }

unsigned warp_blocks(int64_t rows) { return (unsigned)pieces(rows, THREADS / 32); }

template <class T> adze_status device_array(adze_ctx *ctx, int64_t n, T **out)
{
    void *p;
    const adze_status st = adze_cuda_alloc(ctx, (size_t)n * sizeof(T), ADZE_BLOCK_BANK, &p);
    *out = static_cast<T *>(p);
    return st;
}

/* The largest of n floats, `step` apart. */
adze_status largest_of(adze_ctx *ctx, const float *value, int64_t n, int64_t step, float *scratch, float *most_host)
{
    adze_status st = adze_cuda_check(ADZE_LAUNCH(most_kernel, dim3(1), dim3(THREADS), 0, adze_cuda_stream(ctx), value, n, step, scratch), "bank");
    return st == ADZE_OK ? adze_cuda_read(ctx, most_host, scratch, sizeof(float)) : st;
}

adze_status pack(adze_ctx *ctx, const bank *b, bool half, const float *x, const int64_t *which, int64_t n, __half *packed, row_info *info)
{
    const auto kernel = half ? pack_kernel<true> : pack_kernel<false>;
    return adze_cuda_check(ADZE_LAUNCH(kernel, dim3(warp_blocks(half ? padded(n) : n)), dim3(THREADS), 0, adze_cuda_stream(ctx), x, which, n, b->D,
                                       half ? b->Dp : b->D, (const float *)b->mean, b->scale, packed, info),
                           "bank");
}

/* Norms and residuals over the whole bank, for one arithmetic. */
adze_status measure(adze_ctx *ctx, bank *b, bool half, row_info *info, float *scratch)
{
    const float *field = reinterpret_cast<const float *>(info);
    constexpr int64_t step = sizeof(row_info) / sizeof(float), norm_at = offsetof(row_info, norm) / sizeof(float);
    float most[2];
    adze_status st = pack(ctx, b, half, b->rows, NULL, b->M, b->packed, info);
    for (int i = 0; i < 2 && st == ADZE_OK; i++) st = largest_of(ctx, field + norm_at + i, b->M, step, scratch, &most[i]);
    if (st == ADZE_OK) b->NB[!half] = most[0], b->rb[!half] = most[1];
    return st;
}

adze_status fill(adze_ctx *ctx, bank *b, const float *rows_host, row_info *info, float *scratch)
{
    cudaStream_t stream = adze_cuda_stream(ctx);
    float most = 0.0f;
    int exponent = 0;
    adze_status st = adze_cuda_write(ctx, b->rows, rows_host, (size_t)(b->M * b->D) * sizeof(float));
    if (st == ADZE_OK)
        st = adze_cuda_check(ADZE_LAUNCH(mean_kernel, dim3((unsigned)pieces(b->D, 32)), dim3(THREADS), 0, stream, (const float *)b->rows, b->M, b->D, b->mean), "bank");
    if (st == ADZE_OK && b->Dp > 0) {
        st = adze_cuda_check(ADZE_LAUNCH(largest_kernel, dim3(warp_blocks(b->M)), dim3(THREADS), 0, stream, (const float *)b->rows, b->M, b->D,
                                         (const float *)b->mean, b->init),
                             "bank");
        if (st == ADZE_OK) st = largest_of(ctx, b->init, b->M, 1, scratch, &most);
        frexpf(most, &exponent);
        b->scale = most > 0.0f && exponent > -100 && exponent < 100 ? ldexpf(1.0f, 8 - exponent) : 1.0f;
        if (st == ADZE_OK) st = measure(ctx, b, true, info, scratch);
    }
    if (st == ADZE_OK) st = measure(ctx, b, false, info, scratch);
    if (st == ADZE_OK)
        st = adze_cuda_check(ADZE_LAUNCH(init_kernel, dim3((unsigned)pieces(b->M, THREADS)), dim3(THREADS), 0, stream, (const row_info *)info, b->M, b->init), "bank");
    return st == ADZE_OK ? adze_cuda_check(cudaStreamSynchronize(stream), "bank") : st;
}

/* Hands out the parts of a block; without one only counts. */
struct cutter {
    unsigned char *base;
    size_t used;
    template <class T> T *take(int64_t n)
    {
        T *p = reinterpret_cast<T *>(base + used);
        used += ((size_t)n * sizeof(T) + 255) / 256 * 256;
        return base ? p : NULL;
    }
};

/* What a round of queries needs on the device. */
struct workspace {
    candidate *part;
    row_info *info;
    __half *packed;
    int64_t *which;
    float *dist;
    int32_t *idx;
    unsigned char *again;
};

int splits_of(const adze_ctx *ctx, const bank *b, int64_t n)
{
    const int64_t tiles = pieces(b->M, TILE), wanted = pieces(4 * (int64_t)adze_cuda_state_of(ctx)->sm_count, pieces(n, TILE));
    const int64_t splits = wanted < 64 ? wanted : 64;
    return (int)(splits < tiles ? splits : tiles);
}

int kept(int k) { return k == 1 ? 4 : 16; }

workspace cut(const adze_ctx *ctx, const bank *b, int64_t n, int k, cutter *from)
{
    workspace w;
    w.part = from->take<candidate>(k <= MOST_K ? pitch_of(n) * splits_of(ctx, b, n) * LISTS * kept(k) : 0);
    w.info = from->take<row_info>(n);
    w.packed = from->take<__half>(padded(n) * b->Dp);
    w.which = from->take<int64_t>(n);
    w.dist = from->take<float>(n * k);
    w.idx = from->take<int32_t>(n * k);
    w.again = from->take<unsigned char>(n);
    return w;
}

/* Pass 1 and 2 for n queries: all of q, or its rows w.which. */
template <int C> adze_status search(adze_ctx *ctx, const bank *b, const workspace &w, bool half, const float *q, const int64_t *which, int64_t n, int k)
{
    cudaStream_t stream = adze_cuda_stream(ctx);
    adze_status st = pack(ctx, b, half, q, which, n, w.packed, w.info);
    if (st != ADZE_OK) return st;
    pass p = {};
    p.M = b->M, p.Q = n, p.pitch = pitch_of(n), p.D = half ? b->Dp : b->D;
    p.tiles = (int)pieces(b->M, TILE), p.splits = splits_of(ctx, b, n);
    p.init = b->init, p.inverse = half ? 1.0f / b->scale / b->scale : 1.0f;
    p.out = w.part;
    p.q16 = w.packed, p.b16 = b->packed, p.q = q, p.b = b->rows, p.mean = b->mean, p.which = which;
    const auto kernel = half ? tensor_kernel<C> : simt_kernel<C>;
    cudaError_t e = ADZE_LAUNCH(kernel, dim3((unsigned)p.splits, (unsigned)pieces(n, TILE)), dim3(THREADS), 0, stream, p);
    const ranking r = { b->M, n, b->D, k, p.splits * LISTS, w.part, p.pitch, q, b->rows, which, w.info,
                        half ? 1.01 * (1.0625 * (double)b->D + 64.0) * 0x1p-23 : 1.01 * ((double)b->D + 64.0) * 0x1p-24, b->NB[!half], b->rb[!half],
                        w.dist, w.idx, w.again };
    if (e == cudaSuccess) e = ADZE_LAUNCH(rank_kernel<C>, dim3(warp_blocks(n)), dim3(THREADS), 0, stream, r);
    return adze_cuda_check(e, "nearest neighbours");
}

/* Which of Q queries have to be run again; uploads their numbers. */
adze_status list_again(adze_ctx *ctx, const workspace &w, int64_t Q, unsigned char *again_host, int64_t *which_host, int64_t *n)
{
    adze_status st = adze_cuda_read(ctx, again_host, w.again, (size_t)Q);
    *n = 0;
    for (int64_t i = 0; i < Q && st == ADZE_OK; i++)
        if (again_host[i]) which_host[(*n)++] = i;
    return st == ADZE_OK && *n > 0 ? adze_cuda_write(ctx, w.which, which_host, (size_t)*n * sizeof(int64_t)) : st;
}

adze_status scan_directly(adze_ctx *ctx, const bank *b, const workspace &w, const float *q, const int64_t *which, int64_t n, int k)
{
    const direct_scan s = { b->M, b->D, k, q, b->rows, which, w.dist, w.idx };
    return adze_cuda_check(ADZE_LAUNCH(direct_kernel, dim3((unsigned)n), dim3(THREADS), 0, adze_cuda_stream(ctx), s), "nearest neighbours");
}

/* One part of the queries; host (Q) bytes and numbers. */
adze_status query_part(adze_ctx *ctx, const bank *b, const workspace &w, const float *q, int64_t Q, int k, unsigned char *again, int64_t *which,
                       adze_bank_stats *stats)
{
    const auto rounds = k == 1 ? search<4> : search<16>;
    const bool half = b->Dp > 0;
    int64_t n = Q;
    adze_status st = ADZE_OK;
    if (k > MOST_K) {
        stats->rerun_direct += Q;
        return scan_directly(ctx, b, w, q, NULL, Q, k);
    }
    for (int turn = half ? 0 : 1; turn < 2 && st == ADZE_OK && n > 0; turn++) {
        const bool all = turn == 0 || !half;
        st = rounds(ctx, b, w, turn == 0, q, all ? NULL : w.which, n, k);
        stats->candidates += n * (b->M < kept(k) ? b->M : kept(k));
        if (turn == 1 && half) stats->rerun_f32 += n;
        if (st == ADZE_OK) st = list_again(ctx, w, Q, again, which, &n);
    }
    if (st == ADZE_OK && n > 0) {
        stats->rerun_direct += n;
        st = scan_directly(ctx, b, w, q, w.which, n, k);
    }
    return st;
}

/* Every query's norm is finite and not too long. */
adze_status check_queries(adze_ctx *ctx, const bank *b, const workspace &w, const float *q, int64_t at, int64_t n, row_info *info)
{
    adze_status st = pack(ctx, b, false, q, NULL, n, NULL, w.info);
    if (st == ADZE_OK) st = adze_cuda_read(ctx, info, w.info, (size_t)n * sizeof *info);
    for (int64_t i = 0; i < n && st == ADZE_OK; i++)
        if (!(info[i].norm2 <= 4e36)) st = adze_fail(ADZE_ENUMERIC, "bank: query %" PRId64 " holds NaN or infinity or is longer than 1e18", at + i);
    return st;
}

size_t query_bytes(const adze_ctx *ctx, const bank *b, int64_t Q, int k)
{
    const int64_t part = Q < QUERY_PART ? Q : QUERY_PART;
    cutter count = { NULL, 0 }, rest = { NULL, 0 };
    cut(ctx, b, part, k, &count);
    if (part > 0 && Q % part > 0) cut(ctx, b, Q % part, k, &rest); /* fewer queries may be split more */
    return rest.used > count.used ? rest.used : count.used;
}

} /* namespace */

adze_status adze_cuda_bank_create(adze_ctx *ctx, void **out, const float *rows_host, int64_t M, int64_t D, adze_knn_precision precision)
{
    row_info *info = NULL;
    float *scratch = NULL;
    *out = NULL;
    bank *b = static_cast<bank *>(adze_calloc(1, sizeof *b));
    if (!b) return adze_fail(ADZE_ENOMEM, "bank: %zu host bytes", sizeof *b);
    b->M = M, b->D = D, b->scale = 1.0f;
    b->Dp = precision == ADZE_KNN_F32 ? 0 : pieces(D, STEP) * STEP;
    adze_status st = device_array(ctx, M * D, &b->rows);
    if (st == ADZE_OK) st = device_array(ctx, D, &b->mean);
    if (st == ADZE_OK) st = device_array(ctx, M, &b->init);
    if (st == ADZE_OK && b->Dp > 0) st = device_array(ctx, padded(M) * b->Dp, &b->packed);
    if (st == ADZE_OK) st = device_array(ctx, M, &info);
    if (st == ADZE_OK) st = device_array(ctx, 1, &scratch);
    if (st == ADZE_OK) st = fill(ctx, b, rows_host, info, scratch);
    adze_cuda_free(ctx, info);
    adze_cuda_free(ctx, scratch);
    if (st != ADZE_OK) adze_cuda_bank_destroy(ctx, b);
    else *out = b;
    return st;
}

void adze_cuda_bank_destroy(adze_ctx *ctx, void *p)
{
    bank *b = static_cast<bank *>(p);
    if (!b) return;
    adze_cuda_free(ctx, b->rows), adze_cuda_free(ctx, b->mean), adze_cuda_free(ctx, b->init);
    adze_cuda_free(ctx, b->packed), adze_cuda_free(ctx, b->work);
    adze_free(b);
}

size_t adze_cuda_bank_query_bytes(const adze_ctx *ctx, const void *p, int64_t Q, int k)
{
    const bank *b = static_cast<const bank *>(p);
    const size_t n_bytes = query_bytes(ctx, b, Q, k);
    return n_bytes > b->work_bytes ? n_bytes - b->work_bytes : 0;
}

adze_status adze_cuda_bank_query(adze_ctx *ctx, const void *p, const float *q, int64_t Q, int k, float *dist_host, int32_t *idx_host, adze_bank_stats *stats)
{
    bank *b = static_cast<bank *>(const_cast<void *>(p)); /* its workspace grows */
    adze_bank_stats done = {};
    const int64_t part = Q < QUERY_PART ? Q : QUERY_PART;
    const int64_t most = b->M < ADZE_BANK_MAX_K ? b->M : (int64_t)ADZE_BANK_MAX_K;
    done.queries = Q;
    if (k < 1 || k > most || Q < 0 || Q > INT32_MAX)
        return adze_fail(ADZE_EINVAL, "bank: k=%d Q=%" PRId64 ", want 1 <= k <= %" PRId64, k, Q, most);
    const size_t work_bytes = query_bytes(ctx, b, Q, k);
    adze_status st = ADZE_OK;
    if (work_bytes > b->work_bytes) {
        void *block = NULL;
        adze_cuda_free(ctx, b->work);
        b->work = NULL, b->work_bytes = 0;
        st = adze_cuda_alloc(ctx, work_bytes, ADZE_BLOCK_QUERIES, &block);
        if (st == ADZE_OK) b->work = static_cast<unsigned char *>(block), b->work_bytes = work_bytes;
    }
    const size_t host_bytes = (size_t)part * (sizeof(row_info) + sizeof(int64_t) + 1);
    row_info *info = static_cast<row_info *>(adze_malloc(host_bytes));
    if (st == ADZE_OK && !info) st = adze_fail(ADZE_ENOMEM, "bank: %zu host bytes", host_bytes);
    for (int64_t at = 0; at < Q && st == ADZE_OK; at += part) {
        const int64_t n = Q - at < part ? Q - at : part;
        int64_t *which = reinterpret_cast<int64_t *>(info + part);
        cutter from = { b->work, 0 };
        const workspace w = cut(ctx, b, n, k, &from);
        st = check_queries(ctx, b, w, q + at * b->D, at, n, info);
        if (st == ADZE_OK) st = query_part(ctx, b, w, q + at * b->D, n, k, reinterpret_cast<unsigned char *>(which + part), which, &done);
        if (st == ADZE_OK && dist_host) st = adze_cuda_read(ctx, dist_host + at * k, w.dist, (size_t)(n * k) * sizeof(float));
        if (st == ADZE_OK && idx_host) st = adze_cuda_read(ctx, idx_host + at * k, w.idx, (size_t)(n * k) * sizeof(int32_t));
    }
    adze_free(info);
    if (st == ADZE_OK && stats) *stats = done;
    return st;
}
