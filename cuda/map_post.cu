/* map_post.cu - from patch scores to anomaly maps, with the bits of core/map_post.c: the same operations in the same order, none
 * contracted.
 * bytes   per map of 256x256: written and read twice between the passes, written once: 1.3 MB (from L2), 0.26 MB of it to memory
 * flops   blur in double, r = 16: 50 operations per pixel and pass: 6.6 M per map, 10 us of sm_89's FP64 pipe, 1 us of sm_90's
 * floor   10 us per map on sm_89 (FP64), 1.3 us at 1008 GB/s
 * launch  256 threads along a row: loads are coalesced in both passes, the 2r+1 taps come from L1
 * order   pixels are independent */
#include "core/map_post.h"
#include "core/memory.h"
#include "cuda/cells.cuh"

namespace {

struct blend {
    int i0, i1;
    float lo, hi;
};

__device__ blend blend_of(int64_t i, int64_t n_in, int64_t n_out, bool align_corners)
{
    const double at = align_corners ? (n_out > 1 ? (double)(i * (n_in - 1)) / (double)(n_out - 1) : 0.0)
                                    : fmax(0.0, ((double)i + 0.5) * (double)n_in / (double)n_out - 0.5);
    const int64_t i0 = min((int64_t)at, n_in - 1);
    const double hi = at - (double)i0;
    return blend{ (int)i0, (int)min(i0 + 1, n_in - 1), (float)(1.0 - hi), (float)hi };
}

/* Row blockIdx.y of map blockIdx.z. */
__global__ void __launch_bounds__(CELL_THREADS) upsample_kernel(const float *x, float *y, int h, int w, int H, int W, bool align_corners)
{
    const int j = (int)(blockIdx.x * CELL_THREADS + threadIdx.x), i = (int)blockIdx.y;
    if (j >= W) return;
    const blend v = blend_of(i, h, H, align_corners), u = blend_of(j, w, W, align_corners);
    const float *top = x + ((int64_t)blockIdx.z * h + v.i0) * w, *bottom = x + ((int64_t)blockIdx.z * h + v.i1) * w;
    const float left = v.lo * top[u.i0] + v.hi * bottom[u.i0], right = v.lo * top[u.i1] + v.hi * bottom[u.i1];
    y[((int64_t)blockIdx.z * H + i) * W + j] = u.lo * left + u.hi * right;
}

/* Half-sample symmetric reflection, repeated. */
__device__ int reflect(int i, int n)
{
    if (i >= 0 && i < n) return i;
    const int period = 2 * n;
    i %= period;
    if (i < 0) i += period;
    return i < n ? i : period - 1 - i;
}

/* DOWN: taps along the column, else along the row. */
template <bool DOWN> __global__ void __launch_bounds__(CELL_THREADS) blur_kernel(const float *x, float *y, int H, int W, const double *weight, int r)
{
    const int j = (int)(blockIdx.x * CELL_THREADS + threadIdx.x), i = (int)blockIdx.y;
    if (j >= W) return;
    const float *map = x + (int64_t)blockIdx.z * H * W;
    double sum = (double)map[(int64_t)i * W + j] * weight[0];
    for (int t = r; t >= 1; t--) {
        const int64_t a = DOWN ? (int64_t)reflect(i - t, H) * W + j : (int64_t)i * W + reflect(j - t, W);
        const int64_t b = DOWN ? (int64_t)reflect(i + t, H) * W + j : (int64_t)i * W + reflect(j + t, W);
        sum += ((double)map[a] + (double)map[b]) * weight[t];
    }
    y[((int64_t)blockIdx.z * H + i) * W + j] = (float)sum;
}

/* One allocation: two maps' worth of every map of a part, patch scores, weights; each begins at a multiple of 32 bytes. */
struct maps {
    float *x, *up, *down;
    double *weight;
};

adze_status launch(adze_ctx *ctx, const maps &m, int64_t B, int64_t h, int64_t w, int64_t H, int64_t W, int r, bool align_corners)
{
    const dim3 grid((unsigned)pieces(W, CELL_THREADS), (unsigned)H, (unsigned)B), block(CELL_THREADS);
    cudaStream_t stream = adze_cuda_stream(ctx);
    cudaError_t e = ADZE_LAUNCH(upsample_kernel, grid, block, 0, stream, (const float *)m.x, m.up, (int)h, (int)w, (int)H, (int)W, align_corners);
    if (e == cudaSuccess)
        e = ADZE_LAUNCH(blur_kernel<true>, grid, block, 0, stream, (const float *)m.up, m.down, (int)H, (int)W, (const double *)m.weight, r);
    if (e == cudaSuccess)
        e = ADZE_LAUNCH(blur_kernel<false>, grid, block, 0, stream, (const float *)m.down, m.up, (int)H, (int)W, (const double *)m.weight, r);
    return adze_cuda_check(e, "anomaly maps");
}

constexpr int64_t PART = 64; /* maps on the device at once */
constexpr int64_t MAX_SIDE = 65535; /* of a grid */

/* n floats, and what is left of their last sector of memory. */
int64_t sectors(int64_t n) { return pieces(n, 8) * 8; }

size_t block_bytes(int64_t B, int64_t h, int64_t w, int64_t H, int64_t W, double sigma)
{
    const int64_t part = B < PART ? B : PART;
    return ((size_t)adze_map_radius(sigma) + 1) * sizeof(double) + (size_t)(2 * sectors(part * H * W) + sectors(part * h * w)) * sizeof(float);
}

} /* namespace */

size_t adze_cuda_map_post_bytes(const adze_ctx *ctx, int64_t B, int64_t h, int64_t w, int64_t H, int64_t W, double sigma)
{
    return block_bytes(B, h, w, H, W, sigma) + adze_cuda_reserve_bytes(ctx, (size_t)((B < PART ? B : PART) * h * w) * sizeof(float));
}

adze_status adze_cuda_map_post(adze_ctx *ctx, const float *x_host, int64_t B, int64_t h, int64_t w, int64_t H, int64_t W, double sigma,
                               bool align_corners, float *y_host)
{
    if (B < 0 || h < 1 || w < 1 || H < 1 || W < 1 || h > MAX_SIDE || w > MAX_SIDE || H > MAX_SIDE || W > MAX_SIDE || !(sigma >= 0.0 && sigma <= 1000.0))
        return adze_fail(ADZE_EINVAL, "map: %" PRId64 " of %" PRId64 " x %" PRId64 " to %" PRId64 " x %" PRId64 ", sigma %g", B, h, w, H, W, sigma);
    const int r = adze_map_radius(sigma);
    const int64_t part = B < PART ? B : PART;
    const size_t weight_bytes = ((size_t)r + 1) * sizeof(double);
    const int64_t map = sectors(part * H * W), scores = sectors(part * h * w);
    void *block = NULL;
    double *weight = static_cast<double *>(adze_malloc(weight_bytes));
    if (!weight) return adze_fail(ADZE_ENOMEM, "map: %zu host bytes", weight_bytes);
    adze_map_weights(sigma, weight);
    adze_status st = adze_cuda_alloc(ctx, block_bytes(B, h, w, H, W, sigma), ADZE_BLOCK_MAPS, &block);
    if (st == ADZE_OK) {
        maps m;
        m.up = static_cast<float *>(block), m.down = m.up + map, m.x = m.down + map;
        m.weight = reinterpret_cast<double *>(m.x + scores);
        st = adze_cuda_write(ctx, m.weight, weight, weight_bytes);
        for (int64_t at = 0; at < B && st == ADZE_OK; at += part) {
            const int64_t n = B - at < part ? B - at : part;
            st = adze_cuda_write(ctx, m.x, x_host + at * h * w, (size_t)(n * h * w) * sizeof(float));
            if (st == ADZE_OK) st = launch(ctx, m, n, h, w, H, W, r, align_corners);
            if (st == ADZE_OK) st = adze_cuda_read(ctx, y_host + at * H * W, m.up, (size_t)(n * H * W) * sizeof(float));
        }
    }
    adze_cuda_free(ctx, block);
    adze_free(weight);
    return st;
}
