/* patch_embed.cu - PatchCore's patch features: core/op_patch_embed.c in float32. Each layer but the first is averaged to rows
 * on its own grid (scratch), then one kernel adds the layers at every position of the first one's grid.
 * bytes   features once (the neighbourhoods come from cache), rows written and read, y written: per image at (32,32,512) +
 *         (16,16,1024), D1 = D2 = 1024: 2.1 + 1.0 + 2 x 1.0 + 4.2 = 9.4 MB
 * floor   9.4 us per image at 1008 GB/s, 2.8 us at 3350 GB/s
 * flops   two windows of 5 to 9 elements per output: 20 additions and their addresses, 0.02 Gop per image
 * launch  256 threads along the output's channels: at equal taps neighbouring lanes read neighbouring channels
 * order   windows ascending in float32 (at most a few dozen terms), then layers in order */
#include "core/op_patch_embed.h"
#include "cuda/cells.cuh"

namespace {

struct layer {
    const float *x;
    int H, W, C, k; /* k: its number */
    int patch, D1, D2, layers;
};

/* [begin, end) of window i when n elements are averaged to m. */
__device__ static inline int begin_of(int i, int n, int m) { return (int)((int64_t)i * n / m); }
__device__ static inline int end_of(int i, int n, int m) { return (int)(((int64_t)(i + 1) * n + m - 1) / m); }

/* What the layer contributes to output j at (y, x) of image n. PATCH 0: any odd side, from the struct. */
template <int PATCH> __device__ static inline float contribution(const layer &l, int n, int y, int x, int j)
{
    const int side = PATCH ? PATCH : l.patch, taps = side * side, half = side / 2;
    const int from = begin_of(j, l.D1 * l.layers, l.D2), to = end_of(j, l.D1 * l.layers, l.D2);
    const int first = max(from, l.k * l.D1), last = min(to, (l.k + 1) * l.D1);
    float sum = 0.0f;
    for (int d = first - l.k * l.D1; d < last - l.k * l.D1; d++) {
        const int e0 = begin_of(d, l.C * taps, l.D1), e1 = end_of(d, l.C * taps, l.D1);
        float mean = 0.0f;
        for (int e = e0; e < e1; e++) {
            const int c = e / taps, t = e - c * taps, iy = y + t / side - half, ix = x + t % side - half;
            if (iy >= 0 && iy < l.H && ix >= 0 && ix < l.W) mean += l.x[((int64_t)(n * l.H + iy) * l.W + ix) * l.C + c];
        }
        sum += mean / (float)(e1 - e0);
    }
    return sum / (float)(to - from);
}

template <int PATCH> struct rows_body {
    layer l;
    float *rows;
    template <int V> __device__ void at(int row, int j) const
    {
        const int x = row % l.W, y = row / l.W % l.H, n = row / l.W / l.H;
        rows[(int64_t)row * l.D2 + j] = contribution<PATCH>(l, n, y, x, j);
    }
};

template <int PATCH> struct sum_body {
    layer first;
    const float *rows[ADZE_PATCH_EMBED_LAYERS]; /* of the layers behind the first */
    int H[ADZE_PATCH_EMBED_LAYERS], W[ADZE_PATCH_EMBED_LAYERS];
    float *y;
    template <int V> __device__ void at(int row, int j) const
    {
        const int D2 = first.D2, x0 = row % first.W, y0 = row / first.W % first.H, n = row / first.W / first.H;
        float sum = contribution<PATCH>(first, n, y0, x0, j);
#pragma unroll
        for (int k = 1; k < ADZE_PATCH_EMBED_LAYERS; k++) {
            if (k >= first.layers) break;
            int64_t top, bottom, left, right;
            const float wy = (float)patch_source(y0, H[k], first.H, &top, &bottom), wx = (float)patch_source(x0, W[k], first.W, &left, &right);
            const float *a = rows[k] + (int64_t)n * H[k] * W[k] * D2 + j;
            const float up = a[(top * W[k] + left) * D2] * (1.0f - wx) + a[(top * W[k] + right) * D2] * wx;
            const float down = a[(bottom * W[k] + left) * D2] * (1.0f - wx) + a[(bottom * W[k] + right) * D2] * wx;
            sum += up * (1.0f - wy) + down * wy;
        }
        y[(int64_t)row * D2 + j] = sum;
    }
    /* patch_embed_source() */
    __device__ static double patch_source(int i, int n, int m, int64_t *lower, int64_t *upper)
    {
        const double s = fmax(((double)i + 0.5) * ((double)n / (double)m) - 0.5, 0.0);
        *lower = (int64_t)s < n ? (int64_t)s : n - 1;
        *upper = *lower + 1 < n ? *lower + 1 : *lower;
        return s - (double)*lower;
    }
};

static layer layer_of(const adze_call *c, int k)
{
    const adze_patch_embed_opts *o = &static_cast<const patch_embed_attrs *>(c->attrs)->o;
    const int64_t *x = c->in[k].shape.dim;
    return layer{ c->in[k].data, (int)x[1], (int)x[2], (int)x[3], k, o->patch, (int)o->pretrain_dim, (int)o->target_dim, c->n_in };
}

static int64_t positions(const adze_call *c, int k) { return adze_shape_span(&c->in[k].shape, 0, 3); }

static bool accepts(const adze_call *c)
{
    const adze_patch_embed_opts *o = &static_cast<const patch_embed_attrs *>(c->attrs)->o;
    bool fits = o->pretrain_dim * c->n_in <= INT32_MAX && o->target_dim <= INT32_MAX;
    for (int k = 0; k < c->n_in; k++) fits = fits && c->in[k].shape.dim[3] * o->patch * o->patch <= INT32_MAX;
    return fits;
}

static adze_status prepare(adze_call *c)
{
    c->scratch_bytes = 0;
    for (int k = 1; k < c->n_in; k++) c->scratch_bytes += (size_t)(positions(c, k) * c->out[0].shape.dim[2]) * sizeof(float);
    return ADZE_OK;
}

template <int PATCH> static adze_status run_patch(const adze_call *c)
{
    const int64_t D2 = c->out[0].shape.dim[2];
    sum_body<PATCH> body = {};
    float *rows = static_cast<float *>(c->scratch);
    body.first = layer_of(c, 0);
    body.y = c->out[0].data;
    for (int k = 1; k < c->n_in; k++) {
        const layer l = layer_of(c, k);
        const adze_status st = cells_launch_packs<rows_body<PATCH>, 1>(c, rows_body<PATCH>{ l, rows }, positions(c, k), D2);
        if (st != ADZE_OK) return st;
        body.rows[k] = rows, body.H[k] = l.H, body.W[k] = l.W;
        rows += positions(c, k) * D2;
    }
    return cells_launch_packs<sum_body<PATCH>, 1>(c, body, positions(c, 0), D2);
}

static adze_status run(const adze_call *c)
{
    return static_cast<const patch_embed_attrs *>(c->attrs)->o.patch == 3 ? run_patch<3>(c) : run_patch<0>(c);
}

} /* namespace */

const adze_kernel adze_cuda_patch_embed = cuda_kernel(accepts, prepare, run);
