/* kcenter.cu - greedy k-center selection with the picks and the bits of core/kcenter.c.
 *
 * Values only fall, so a stale m is an upper bound. A batch: theta = the value of a wanted rank; the rows with m >= theta are
 * listed in order, brought up to date against the picks that they have not seen (each until it falls below theta), and one block
 * picks among them, updating those still at theta or above, as long as the largest is at least theta: every row outside is below.
 * The host looks once per batch, not per pick. Where more rows share a value than the list holds, one pick is made the plain way.
 *
 * bytes   a batch reads m twice 31 times (N 4 bytes, from L2), its rows and the unseen picks; the plain loop reads N d 4 per pick
 * flops   3 d per pair of a listed row and an unseen pick, at most N K d 3 = 2.3 T at N=245760 K=24576 d=128
 * floor   28 ms on sm_89 (82.6 TFLOP/s) if no row were spared; the plain loop's traffic 3.1 s at 1008 GB/s
 * launch  a half-warp per distance (16 lanes are part of the definition); choosing and picking by one block of 1024 threads, with
 *         8 us per pick while 4096 rows are open
 * order   the minimum does not depend on it; ties go to the lowest row; list in row order: bitwise repeatable */
#include <math.h>

#include "core/kcenter.h"
#include "core/memory.h"
#include "cuda/cells.cuh"

namespace {

constexpr int CAP = 4096;     /* rows of a list */
constexpr int THREADS = 256;  /* of kernels over rows */
constexpr int CHOOSERS = 1024; /* of the one block that chooses or picks */
constexpr int64_t SECTOR = 8; /* values of 4 bytes */

struct progress_state {
    int64_t n_picks;
    float theta;
    int count;        /* listed rows; -1: all rows, one plain pick */
    int exhausted;    /* all m are 0 */
    int unsound;      /* a row with NaN, infinity or longer than 1e18; -1: none */
};

struct selection {
    const float *x;
    int64_t N, d, K;
    int wanted; /* rows per batch */
    float *m;
    int32_t *seen, *list;
    int64_t *picks;
    progress_state *state;
};

/* The lanes that share a distance. */
__device__ unsigned half_warp() { return 0xffffu << (threadIdx.x & 16u); }

/* The distance of core/kcenter.h, in all lanes of a half-warp. */
__device__ float distance(const float *a, const float *b, int64_t d)
{
    float sum = 0.0f;
    for (int64_t j = threadIdx.x % 16; j < d; j += 16) {
        const float diff = a[j] - b[j];
        sum += diff * diff;
    }
    for (int step = 8; step > 0; step /= 2) sum += __shfl_xor_sync(half_warp(), sum, step);
    return sqrtf(sum);
}

/* ---- start ------------------------------------------------------------------------------------------------------------------ */

__global__ void __launch_bounds__(THREADS) check_kernel(const selection s)
{
    const int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) / 16;
    double norm2 = 0.0;
    if (i >= s.N) return;
    for (int64_t j = threadIdx.x % 16; j < s.d; j += 16) norm2 += (double)s.x[i * s.d + j] * (double)s.x[i * s.d + j];
    for (int step = 8; step > 0; step /= 2) norm2 += __shfl_xor_sync(half_warp(), norm2, step);
    if (threadIdx.x % 16 != 0) return;
    s.seen[i] = 0;
    if (!(norm2 <= 1e36)) atomicMax(&s.state->unsound, (int)i); /* an integer: any order gives the same */
}

__global__ void __launch_bounds__(THREADS) start_mean_kernel(const selection s, const int64_t *starts, int64_t n)
{
    const int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) / 16;
    double sum = 0.0;
    if (i >= s.N) return;
    for (int64_t j = 0; j < n; j++) sum += (double)distance(s.x + i * s.d, s.x + starts[j] * s.d, s.d);
    if (threadIdx.x % 16 == 0) s.m[i] = (float)(sum / (double)n);
}

/* A thread per column, rows in order: mean[j], then the sum of squares around it. */
__global__ void __launch_bounds__(THREADS) columns_kernel(const selection s, double *mean, double *spread)
{
    const int64_t j = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    double sum = 0.0, squares = 0.0;
    if (j >= s.d) return;
    for (int64_t i = 0; i < s.N; i++) sum += (double)s.x[i * s.d + j];
    sum /= (double)s.N;
    for (int64_t i = 0; i < s.N; i++) {
        const double c = (double)s.x[i * s.d + j] - sum;
        squares += c * c;
    }
    mean[j] = sum, spread[j] = squares;
}

__global__ void __launch_bounds__(THREADS) start_norm_kernel(const selection s, const double *mean, const double *spread)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    double norm2 = 0.0, sum = 0.0;
    if (i >= s.N) return;
    for (int64_t j = 0; j < s.d; j++) sum += spread[j];
    for (int64_t j = 0; j < s.d; j++) {
        const double c = (double)s.x[i * s.d + j] - mean[j];
        norm2 += c * c;
    }
    s.m[i] = (float)sqrt((double)s.N * norm2 + sum);
}

/* ---- batches ---------------------------------------------------------------------------------------------------------------- */

__device__ int block_sum(int x)
{
    ADZE_SHARED(int, part, CHOOSERS / 32);
    x = __reduce_add_sync(0xffffffffu, x);
    __syncthreads(); /* the last sum has been read */
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = x;
    __syncthreads();
    x = 0;
    for (int w = 0; w < CHOOSERS / 32; w++) x += part[w];
    return x;
}

/* Rows with m >= the value of these bits; m >= 0, so that bits order as values do. */
__device__ int rows_from(const selection &s, unsigned bits)
{
    int n = 0;
    for (int64_t i = threadIdx.x; i < s.N; i += CHOOSERS) n += __float_as_uint(s.m[i]) >= bits;
    return block_sum(n);
}

/* theta: the largest value that at least `wanted` rows reach; and the list of those rows, in order. */
__global__ void __launch_bounds__(CHOOSERS) choose_kernel(const selection s)
{
    unsigned theta = 0;
    for (int bit = 30; bit >= 0; bit--)
        if (rows_from(s, theta | 1u << bit) >= s.wanted) theta |= 1u << bit;
    const int count = rows_from(s, theta);
    const bool exhausted = rows_from(s, 1u) == 0;
    if (threadIdx.x == 0) {
        s.state->theta = __uint_as_float(theta);
        s.state->count = count > CAP ? -1 : count;
        s.state->exhausted = exhausted;
    }
    if (count > CAP) return;
    int before = 0; /* listed rows of the chunks before */
    for (int64_t first = 0; first < s.N; first += CHOOSERS) {
        ADZE_SHARED(int, warp_count, CHOOSERS / 32);
        const int64_t i = first + threadIdx.x;
        const bool taken = i < s.N && __float_as_uint(s.m[i]) >= theta;
        const unsigned ballot = __ballot_sync(0xffffffffu, taken);
        if (threadIdx.x % 32 == 0) warp_count[threadIdx.x / 32] = __popc(ballot);
        __syncthreads();
        int at = before + __popc(ballot & ((1u << threadIdx.x % 32) - 1u));
        for (int w = 0; w < CHOOSERS / 32; w++) {
            if (w < (int)threadIdx.x / 32) at += warp_count[w];
            before += warp_count[w];
        }
        if (taken) s.list[at] = (int32_t)i;
        __syncthreads();
    }
}

/* A half-warp per listed row (or per row): picks that it has not seen, until it falls below theta. */
__global__ void __launch_bounds__(THREADS) update_kernel(const selection s, bool all)
{
    const int64_t at = ((int64_t)blockIdx.x * THREADS + threadIdx.x) / 16, n_picks = s.state->n_picks;
    const bool plain = all || s.state->count < 0;
    const float theta = plain ? -1.0f : s.state->theta;
    if (at >= (plain ? s.N : s.state->count)) return;
    const int64_t i = plain ? at : s.list[at];
    float m = s.m[i];
    int64_t seen = s.seen[i];
    for (; seen < n_picks && m >= theta; seen++) m = fminf(m, distance(s.x + i * s.d, s.x + s.picks[seen] * s.d, s.d));
    __syncwarp(half_warp()); /* all lanes have read both */
    if (threadIdx.x % 16 == 0) s.m[i] = m, s.seen[i] = (int32_t)seen;
}

/* The largest value of the block's threads, of equals the lowest row; in all threads. */
__device__ void block_first_maximum(float *value, int64_t *row)
{
    ADZE_SHARED(float, values, CHOOSERS / 32);
    ADZE_SHARED(int64_t, rows, CHOOSERS / 32);
    for (int step = 16; step > 0; step /= 2) {
        const float other = __shfl_xor_sync(0xffffffffu, *value, step);
        const long long other_row = __shfl_xor_sync(0xffffffffu, (long long)*row, step);
        if (other > *value || (other == *value && other_row < *row)) *value = other, *row = other_row;
    }
    __syncthreads();
    if (threadIdx.x % 32 == 0) values[threadIdx.x / 32] = *value, rows[threadIdx.x / 32] = *row;
    __syncthreads();
    *value = values[0], *row = rows[0];
    for (int w = 1; w < CHOOSERS / 32; w++)
        if (values[w] > *value || (values[w] == *value && rows[w] < *row)) *value = values[w], *row = rows[w];
}

__device__ void pick_plainly(const selection &s)
{
    float best = -1.0f;
    int64_t row = s.N;
    for (int64_t i = threadIdx.x; i < s.N; i += CHOOSERS)
        if (s.m[i] > best) best = s.m[i], row = i;
    block_first_maximum(&best, &row);
    if (threadIdx.x != 0) return;
    s.picks[s.state->n_picks++] = row;
    s.m[row] = 0.0f; /* its distance to itself */
    s.seen[row] = (int32_t)s.state->n_picks;
}

/* Picks among the listed rows while the largest is at least theta. */
__global__ void __launch_bounds__(CHOOSERS) pick_kernel(const selection s)
{
    ADZE_SHARED(float, m, CAP);
    ADZE_SHARED(int32_t, seen, CAP);
    const int count = s.state->count;
    const float theta = s.state->theta;
    int64_t n_picks = s.state->n_picks;
    if (s.state->exhausted) return;
    if (count < 0) {
        pick_plainly(s);
        return;
    }
    for (int c = (int)threadIdx.x; c < count; c += CHOOSERS) m[c] = s.m[s.list[c]], seen[c] = s.seen[s.list[c]];
    __syncthreads();
    while (n_picks < s.K) {
        float best = -1.0f;
        int64_t at = CAP;
        for (int c = (int)threadIdx.x; c < count; c += CHOOSERS)
            if (m[c] > best) best = m[c], at = c;
        block_first_maximum(&best, &at);
        if (!(best >= theta) || best == 0.0f) break;
        const float *pick = s.x + s.list[at] * s.d;
        if (threadIdx.x == 0) s.picks[n_picks] = s.list[at];
        n_picks++;
        for (int first = (int)threadIdx.x / 32 * 2; first < count; first += CHOOSERS / 16) { /* two rows per warp and turn */
            const int c = first + (int)threadIdx.x / 16 % 2;
            const float before = c < count ? m[c] : -1.0f;
            const bool open = before >= theta;
            const float dist = open && c != at ? distance(s.x + s.list[c] * s.d, pick, s.d) : 0.0f;
            __syncwarp(); /* all lanes have read m */
            if (open && threadIdx.x % 16 == 0) m[c] = fminf(before, dist), seen[c] = (int32_t)n_picks;
        }
        __syncthreads();
    }
    for (int c = (int)threadIdx.x; c < count; c += CHOOSERS) s.m[s.list[c]] = m[c], s.seen[s.list[c]] = seen[c];
    if (threadIdx.x == 0) s.state->n_picks = n_picks;
}

/* ---- the host's side -------------------------------------------------------------------------------------------------------- */

adze_status update(adze_ctx *ctx, const selection &s, bool all)
{
    return adze_cuda_check(ADZE_LAUNCH(update_kernel, dim3((unsigned)pieces(16 * s.N, THREADS)), dim3(THREADS), 0, adze_cuda_stream(ctx), s, all), "kcenter");
}

/* m before the first pick. `tables`: starts, or (2,d) doubles. */
adze_status start(adze_ctx *ctx, const selection &s, const adze_kcenter_opts *o, void *tables)
{
    cudaStream_t stream = adze_cuda_stream(ctx);
    const unsigned row_blocks = (unsigned)pieces(s.N, THREADS);
    progress_state state = { 0, 0.0f, 0, 0, -1 };
    adze_status st = adze_cuda_write(ctx, s.state, &state, sizeof state);
    if (st == ADZE_OK)
        st = adze_cuda_check(ADZE_LAUNCH(check_kernel, dim3((unsigned)pieces(16 * s.N, THREADS)), dim3(THREADS), 0, stream, s), "kcenter");
    if (st == ADZE_OK) st = adze_cuda_read(ctx, &state, s.state, sizeof state);
    if (st != ADZE_OK) return st;
    if (state.unsound >= 0) return adze_fail(ADZE_ENUMERIC, "kcenter: row %d holds NaN or infinity or is longer than 1e18", state.unsound);
    if (o->init == ADZE_KCENTER_NORM) {
        double *mean = static_cast<double *>(tables), *spread = mean + s.d;
        cudaError_t e = ADZE_LAUNCH(columns_kernel, dim3((unsigned)pieces(s.d, THREADS)), dim3(THREADS), 0, stream, s, mean, spread);
        if (e == cudaSuccess)
            e = ADZE_LAUNCH(start_norm_kernel, dim3(row_blocks), dim3(THREADS), 0, stream, s, (const double *)mean, (const double *)spread);
        return adze_cuda_check(e, "kcenter");
    }
    st = adze_cuda_write(ctx, tables, o->starts, (size_t)o->n_starts * sizeof *o->starts);
    if (st != ADZE_OK) return st;
    return adze_cuda_check(ADZE_LAUNCH(start_mean_kernel, dim3((unsigned)pieces(16 * s.N, THREADS)), dim3(THREADS), 0, stream, s,
                                       (const int64_t *)tables, o->n_starts),
                           "kcenter");
}

adze_status select_all(adze_ctx *ctx, const selection &s, const adze_kcenter_opts *o, int64_t *n_picks)
{
    cudaStream_t stream = adze_cuda_stream(ctx);
    progress_state state = {};
    adze_status st = ADZE_OK;
    while (state.n_picks < s.K && !state.exhausted && st == ADZE_OK) {
        cudaError_t e = ADZE_LAUNCH(choose_kernel, dim3(1), dim3(CHOOSERS), 0, stream, s);
        if (e == cudaSuccess) st = update(ctx, s, false);
        if (e == cudaSuccess && st == ADZE_OK) e = ADZE_LAUNCH(pick_kernel, dim3(1), dim3(CHOOSERS), 0, stream, s);
        if (st == ADZE_OK) st = adze_cuda_check(e, "kcenter");
        if (st == ADZE_OK) st = adze_cuda_read(ctx, &state, s.state, sizeof state);
        const bool stop = (o->cancel && *o->cancel) || (o->progress && !o->progress(o->progress_arg, state.n_picks, s.K));
        if (st == ADZE_OK && stop)
            st = adze_fail(ADZE_EINTERRUPTED, "kcenter: stopped after %" PRId64 " of %" PRId64 " picks", state.n_picks, s.K);
    }
    *n_picks = state.n_picks;
    return st;
}

/* The parts of the block: rows, m, seen and list (4 bytes each, every part begins with a sector), then tables and picks (8 bytes
 * each), then the state. */
struct extent {
    int64_t m, seen, list, n_values, n_tables;
    size_t n_bytes;
};

extent extent_of(int64_t N, int64_t d, int64_t K, int64_t n_starts)
{
    extent e;
    e.m = pieces(N * d, SECTOR) * SECTOR, e.seen = e.m + pieces(N, SECTOR) * SECTOR, e.list = e.seen + pieces(N, SECTOR) * SECTOR;
    e.n_values = e.list + CAP;
    e.n_tables = 2 * d > n_starts ? 2 * d : n_starts;
    e.n_bytes = (size_t)e.n_values * 4 + (size_t)(e.n_tables + K) * 8 + sizeof(progress_state);
    return e;
}

} /* namespace */

size_t adze_cuda_kcenter_bytes(const adze_ctx *ctx, int64_t N, int64_t d, int64_t K, int64_t n_starts)
{
    return extent_of(N, d, K, n_starts).n_bytes + adze_cuda_reserve_bytes(ctx, (size_t)(N * d) * sizeof(float));
}

adze_status adze_cuda_kcenter(adze_ctx *ctx, const float *x_host, int64_t N, int64_t d, int64_t K, const adze_kcenter_opts *opts, int64_t *picks_host,
                              float *start_host, float *rest_host)
{
    selection s = {};
    const int64_t wanted = N / 64 < 512 ? 512 : N / 64;
    s.N = N, s.d = d, s.K = K, s.wanted = (int)(wanted > CAP / 2 ? CAP / 2 : wanted < N ? wanted : N);
    const extent e = extent_of(N, d, K, opts->n_starts);
    void *block = NULL;
    int64_t n_picks = 0;
    adze_status st = adze_cuda_reserve(ctx, (size_t)(N * d) * sizeof(float));
    if (st == ADZE_OK) st = adze_cuda_alloc(ctx, e.n_bytes, ADZE_BLOCK_SELECTION, &block);
    if (st != ADZE_OK) return st;
    float *values = static_cast<float *>(block);
    int64_t *tables = reinterpret_cast<int64_t *>(values + e.n_values);
    s.x = values, s.m = values + e.m, s.seen = reinterpret_cast<int32_t *>(values + e.seen), s.list = reinterpret_cast<int32_t *>(values + e.list);
    s.picks = tables + e.n_tables;
    s.state = reinterpret_cast<progress_state *>(s.picks + K);
    st = adze_cuda_write(ctx, values, x_host, (size_t)(N * d) * sizeof(float));
    if (st == ADZE_OK) st = start(ctx, s, opts, tables);
    if (st == ADZE_OK && start_host) st = adze_cuda_read(ctx, start_host, s.m, (size_t)N * sizeof(float));
    if (st == ADZE_OK) st = select_all(ctx, s, opts, &n_picks);
    if (st == ADZE_OK && n_picks > 0) st = adze_cuda_read(ctx, picks_host, s.picks, (size_t)n_picks * sizeof *picks_host);
    for (int64_t at = n_picks; at < K && st == ADZE_OK; at++) picks_host[at] = 0; /* all rows are picks or equal to one */
    if (st == ADZE_OK && rest_host) {
        st = update(ctx, s, true);
        if (st == ADZE_OK) st = adze_cuda_read(ctx, rest_host, s.m, (size_t)N * sizeof(float));
    }
    adze_cuda_free(ctx, block);
    return st;
}
