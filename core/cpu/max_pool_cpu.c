/* max_pool_cpu.c - gradient of the maximum over windows of (N,H,W,C).
 * Each thread owns whole (image, block of channels) pairs, so that the order of additions is that of the windows. The first
 * maximum of each window is found again from x: 4 bytes per input element instead of an index map of y's size kept alive. */
#include "core/cpu/kernels_cpu.h"
#include "core/op_pool2d.h"

#define CLONES __attribute__((noinline, target_clones("avx512f", "avx2", "default")))

enum { BLOCK = 32, MAX_TAPS = 64 };

static bool accepts(const adze_call *c)
{
    const adze_pool2d_opts *o = &((const pool2d_attrs *)c->attrs)->o;
    return o->max && o->kernel[0] * o->kernel[1] <= MAX_TAPS;
}

/* Adds dy of one window to its first maxima; at[t]: element of the block's first channel at each tap. */
CLONES static void one_window(const float *restrict x, const float *restrict dy, float *restrict dx, const int64_t *at, int taps, int64_t n)
{
    float best[BLOCK];
    int32_t where[BLOCK];
    for (int64_t k = 0; k < n; k++) best[k] = x[at[0] + k], where[k] = 0;
    for (int t = 1; t < taps; t++) {
        const float *v = x + at[t];
        for (int64_t k = 0; k < n; k++) {
            where[k] = v[k] > best[k] ? t : where[k];
            best[k] = v[k] > best[k] ? v[k] : best[k];
        }
    }
    for (int t = 0; t < taps; t++) {
        float *to = dx + at[t];
        for (int64_t k = 0; k < n; k++) to[k] += where[k] == t ? dy[k] : 0.0f;
    }
}

static adze_status run(const adze_call *c)
{
    const adze_pool2d_opts *o = &((const pool2d_attrs *)c->attrs)->o;
    const adze_shape *xs = &c->in[0].shape, *ys = &c->out[0].shape;
    int64_t N = xs->dim[0], H = xs->dim[1], W = xs->dim[2], C = xs->dim[3], Ho = ys->dim[1], Wo = ys->dim[2];
    int64_t blocks = (C + BLOCK - 1) / BLOCK;
    const float *x = c->in[0].data, *dy = c->out[0].grad;
    float *dx = c->in[0].grad;
#pragma omp parallel for schedule(static)
    for (int64_t job = 0; job < N * blocks; job++) {
        int64_t n = job / blocks, k0 = job % blocks * BLOCK, count = C - k0 < BLOCK ? C - k0 : BLOCK;
        for (int64_t p = n * H * W; p < (n + 1) * H * W && !c->in[0].accumulate; p++)
            for (int64_t k = 0; k < count; k++) dx[p * C + k0 + k] = 0.0f;
        for (int64_t w = 0; w < Ho * Wo; w++) {
            int64_t y0 = w / Wo * o->stride[0] - o->pad[0], x0 = w % Wo * o->stride[1] - o->pad[1], at[MAX_TAPS];
            int taps = 0;
            for (int64_t iy = y0 < 0 ? 0 : y0; iy < H && iy < y0 + o->kernel[0]; iy++)
                for (int64_t ix = x0 < 0 ? 0 : x0; ix < W && ix < x0 + o->kernel[1]; ix++) at[taps++] = ((n * H + iy) * W + ix) * C + k0;
            if (taps > 0) one_window(x, dy + (n * Ho * Wo + w) * C + k0, dx, at, taps, count);
        }
    }
    return ADZE_OK;
}

const adze_kernel adze_cpu_max_pool_backward = { .name = "cpu", .accepts = accepts, .run = run };
