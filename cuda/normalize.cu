/* normalize.cu - pixels of three bytes to normalised floats, through a table of 256 values per channel.
 * bytes   3 read, 12 written per pixel (the bytes cross the bus instead of four times as many floats)
 * floor   16 pictures of 256x256: 15.7 MB: 16 us at 1008 GB/s, 5 us at 3350 GB/s; upload of 3.1 MB: 126 us at 25 GB/s
 * launch  256 threads of 4 bytes each; the table lies in shared memory. Which banks a warp reads depends on the pixels: 2.3 passes
 *         per load on random ones, 9 cycles of the 200 in which sm_89's memory delivers the warp's 640 bytes
 * order   elements are independent: the same floats as the host's table */
#include <string.h>

#include "cuda/cells.cuh"

namespace {

struct table {
    float v[3 * 256];
};

__global__ void __launch_bounds__(CELL_THREADS) normalize_kernel(const table values, const unsigned char *rgb, int64_t n, float *y)
{
    ADZE_SHARED(float, of, 3 * 256);
    for (int i = (int)threadIdx.x; i < 3 * 256; i += CELL_THREADS) of[i] = values.v[i];
    __syncthreads();
    int64_t i = 4 * ((int64_t)blockIdx.x * CELL_THREADS + threadIdx.x);
    if (i + 4 <= n) {
        const uchar4 byte = *reinterpret_cast<const uchar4 *>(rgb + i);
        const int c = (int)(i % 3);
        const int next = c == 2 ? 0 : c + 1, last = next == 2 ? 0 : next + 1;
        store<4>(y + i, pack<4>{ { of[256 * c + byte.x], of[256 * next + byte.y], of[256 * last + byte.z], of[256 * c + byte.w] } });
    } else
        for (; i < n; i++) y[i] = of[256 * (i % 3) + rgb[i]];
}

} /* namespace */

adze_status adze_cuda_normalize(adze_ctx *ctx, const unsigned char *rgb_host, int64_t n_pixels, const float *table_host, float *y)
{
    const int64_t n = 3 * n_pixels, blocks = pieces(n, 4 * CELL_THREADS);
    void *rgb = NULL;
    table values;
    if (n == 0) return ADZE_OK;
    if (blocks > CELL_MAX_BLOCKS) return adze_fail(ADZE_ESHAPE, "%" PRId64 " pixels are too many", n_pixels);
    memcpy(values.v, table_host, sizeof values.v);
    adze_status st = adze_cuda_alloc(ctx, (size_t)n, ADZE_BLOCK_UPLOADS, &rgb);
    if (st == ADZE_OK) st = adze_cuda_write(ctx, rgb, rgb_host, (size_t)n);
    if (st == ADZE_OK)
        st = adze_cuda_check(ADZE_LAUNCH(normalize_kernel, dim3((unsigned)blocks), dim3(CELL_THREADS), 0, adze_cuda_stream(ctx), values,
                                         (const unsigned char *)rgb, n, y),
                             "normalisation");
    adze_cuda_free(ctx, rgb);
    return st;
}
