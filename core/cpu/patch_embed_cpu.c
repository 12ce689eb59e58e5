/* patch_embed_cpu.c - PatchCore's patch features on the CPU.
 * bytes   read the features (4*H*W*C per layer), write y; per position the patch of p*p*C floats is gathered once into L1
 * flops   p*p*C + D1 additions per position and layer
 * order   sums run in float over at most ceil(p*p*C/D1)+1 neighbours, windows left to right: the same for any thread count
 * Positions are split over threads. Layers behind the first keep one row of D2 per position, resized at the end. Where windows begin
 * and end is computed once a run: the divisions would cost more than the sums. */
#include <omp.h>

#include "core/cpu/kernels_cpu.h"
#include "core/op_patch_embed.h"

static bool accepts(const adze_call *c)
{
    (void)c;
    return true;
}

typedef struct {
    size_t patch, pooled, rows, windows; /* floats per thread, per thread, in all, in all */
    int threads;
} sizes;

/* n numbers averaged to m: window i is [from[i], to[i]). */
typedef struct {
    int32_t *from, *to;
    float *length;
} windows;

static size_t rounded(int64_t n_floats)
{
    return ((size_t)n_floats + 15) / 16 * 16;
}

static sizes sizes_of(const adze_call *c)
{
    const adze_patch_embed_opts *o = &((const patch_embed_attrs *)c->attrs)->o;
    sizes s = { .pooled = rounded(o->pretrain_dim), .threads = omp_get_max_threads() };
    for (int k = 0; k < c->n_in; k++) {
        size_t patch = rounded((int64_t)o->patch * o->patch * c->in[k].shape.dim[3]);
        size_t rows = rounded(adze_shape_span(&c->in[k].shape, 1, 3) * o->target_dim);
        if (patch > s.patch) s.patch = patch;
        if (k > 0 && rows > s.rows) s.rows = rows;
    }
    s.windows = 3 * (rounded(o->pretrain_dim) + rounded(o->target_dim));
    return s;
}

static adze_status prepare(adze_call *c)
{
    sizes s = sizes_of(c);
    c->scratch_bytes = ((s.patch + s.pooled) * (size_t)s.threads + s.rows + s.windows) * sizeof(float);
    return ADZE_OK;
}

_Static_assert(sizeof(int32_t) == sizeof(float), "windows lie in an array of floats");

/* In 3 * rounded(m) floats at `at`. */
static windows find_windows(float *at, int64_t n, int64_t m)
{
    windows w = { (int32_t *)at, (int32_t *)at + rounded(m), at + 2 * rounded(m) };
    for (int64_t i = 0; i < m; i++) {
        w.from[i] = (int32_t)patch_embed_begin(i, n, m), w.to[i] = (int32_t)patch_embed_end(i, n, m);
        w.length[i] = (float)(w.to[i] - w.from[i]);
    }
    return w;
}

/* The zero-padded patch around (y,x) in order c, ky, kx. */
static void gather(const float *map, int64_t H, int64_t W, int64_t C, int p, int64_t y, int64_t x, float *patch)
{
    int64_t taps = (int64_t)p * p;
    for (int64_t t = 0; t < taps; t++) {
        int64_t iy = y + t / p - p / 2, ix = x + t % p - p / 2;
        bool inside = iy >= 0 && iy < H && ix >= 0 && ix < W;
        const float *from = map + (iy * W + ix) * C;
        if (inside)
            for (int64_t k = 0; k < C; k++) patch[k * taps + t] = from[k];
        else
            for (int64_t k = 0; k < C; k++) patch[k * taps + t] = 0.0f;
    }
}

/* x /= the windows' lengths. */
static void divide(float *x, const windows *w, int64_t m)
{
#pragma omp simd
    for (int64_t i = 0; i < m; i++) x[i] /= w->length[i];
}

static void window_means(const float *v, const windows *w, float *u, int64_t m)
{
    for (int64_t i = 0; i < m; i++) {
        float sum = v[w->from[i]];
        for (int64_t j = w->from[i] + 1; j < w->to[i]; j++) sum += v[j];
        u[i] = sum;
    }
    divide(u, w, m);
}

/* What the layer whose D1 numbers begin at `first` contributes to each of the D2 outputs: its part of the window, over the whole
 * window's length. */
static void layer_part(const float *u, int64_t first, int64_t D1, const windows *w, float *out, int64_t D2)
{
    const int64_t last = first + D1;
    for (int64_t j = 0; j < D2; j++) {
        int64_t from = w->from[j] > first ? w->from[j] : first, to = w->to[j] < last ? w->to[j] : last;
        float sum = 0.0f;
        for (int64_t d = from; d < to; d++) sum += u[d - first];
        out[j] = sum;
    }
    divide(out, w, D2);
}

/* out (H0*W0, D2) += rows (H*W, D2) resized bilinearly; only columns [j0, j1) are not zero. */
static void add_resized(const float *rows, int64_t H, int64_t W, float *out, int64_t H0, int64_t W0, int64_t D2,
                        int64_t j0, int64_t j1)
{
#pragma omp parallel for schedule(static)
    for (int64_t p = 0; p < H0 * W0; p++) {
        int64_t y0, y1, x0, x1;
        float wy = (float)patch_embed_source(p / W0, H, H0, &y0, &y1);
        float wx = (float)patch_embed_source(p % W0, W, W0, &x0, &x1);
        const float *a = rows + (y0 * W + x0) * D2, *b = rows + (y0 * W + x1) * D2;
        const float *d = rows + (y1 * W + x0) * D2, *e = rows + (y1 * W + x1) * D2;
        for (int64_t j = j0; j < j1; j++)
            out[p * D2 + j] += (1.0f - wy) * ((1.0f - wx) * a[j] + wx * b[j]) + wy * ((1.0f - wx) * d[j] + wx * e[j]);
    }
}

static adze_status run(const adze_call *c)
{
    const adze_patch_embed_opts *o = &((const patch_embed_attrs *)c->attrs)->o;
    sizes s = sizes_of(c);
    int64_t N = c->in[0].shape.dim[0], H0 = c->in[0].shape.dim[1], W0 = c->in[0].shape.dim[2];
    int64_t D1 = o->pretrain_dim, D2 = o->target_dim;
    float *shared = c->scratch, *rows = shared + (s.patch + s.pooled) * (size_t)s.threads, *tables = rows + s.rows;
    const windows target = find_windows(tables, D1 * c->n_in, D2);
    for (int k = 0; k < c->n_in; k++) {
        const windows pretrain = find_windows(tables + 3 * rounded(D2), c->in[k].shape.dim[3] * o->patch * o->patch, D1);
        for (int64_t n = 0; n < N; n++) {
            int64_t H = c->in[k].shape.dim[1], W = c->in[k].shape.dim[2], C = c->in[k].shape.dim[3];
            const float *map = c->in[k].data + n * H * W * C;
            float *out = c->out[0].data + n * H0 * W0 * D2;
#pragma omp parallel for schedule(static)
            for (int64_t p = 0; p < H * W; p++) {
                float *patch = shared + (s.patch + s.pooled) * (size_t)omp_get_thread_num(), *pooled = patch + s.patch;
                gather(map, H, W, C, o->patch, p / W, p % W, patch);
                window_means(patch, &pretrain, pooled, D1);
                layer_part(pooled, k * D1, D1, &target, (k == 0 ? out : rows) + p * D2, D2);
            }
            int64_t j0 = k * D1 * D2 / (D1 * c->n_in), j1 = ((k + 1) * D1 * D2 + D1 * c->n_in - 1) / (D1 * c->n_in);
            if (k > 0) add_resized(rows, H, W, out, H0, W0, D2, j0 > 0 ? j0 - 1 : 0, j1 + 1 < D2 ? j1 + 1 : D2);
        }
    }
    return ADZE_OK;
}

const adze_kernel adze_cpu_patch_embed = { .name = "cpu", .accepts = accepts, .prepare = prepare, .run = run };
