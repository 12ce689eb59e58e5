/* patch_embed_cpu.c - PatchCore's patch features on the CPU.
 * bytes   read the features (4*H*W*C per layer), write y; a copy of one picture's layer by channels, and of its resized rows, in cache
 * flops   p*p*C + D1 additions per position and layer
 * measured  512 and 1024 channels to 1536, two pictures, 2 threads of a busy EPYC 9004: 15 ms; a position at a time, gathered: 108 ms
 * order   sums run in float over at most ceil(p*p*C/D1)+1 neighbours, windows left to right: the same for any thread count
 * LANES positions side by side are averaged at once: their neighbours are neighbours too once a row of the map lies channel after
 * channel, with zeros around it. Rows of the map, then blocks of positions, are split over threads. Layers behind the first keep one
 * row of D2 per position, resized at the end. Where windows begin and end, and where their numbers lie, is found once a run. */
#include <omp.h>
#include <string.h>

#include "core/cpu/kernels_cpu.h"
#include "core/op_patch_embed.h"

#define INLINE static inline __attribute__((always_inline))
#define CLONES __attribute__((noinline, target_clones("avx512f", "avx2", "default")))

enum { LANES = 8 };

typedef float floats __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float)), may_alias));

static bool accepts(const adze_call *c)
{
    (void)c;
    return true;
}

static int64_t lanes_up(int64_t n) { return (n + LANES - 1) / LANES * LANES; }

/* n numbers averaged to m: window i is [from[i], to[i]). */
typedef struct {
    int32_t *from, *to;
    float *length;
} windows;

_Static_assert(sizeof(int32_t) == sizeof(float), "windows lie in an array of floats");

static size_t rounded(int64_t n_floats)
{
    return ((size_t)n_floats + 15) / 16 * 16;
}

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

/* A layer of one picture: the map (H,W,C), and its planes (H + p - 1, C, width), x shifted by p/2, zeros around. */
typedef struct {
    int64_t H, W, C, p, width;
} layer;

static layer layer_of(const adze_call *c, int k)
{
    const adze_shape *s = &c->in[k].shape;
    const int64_t p = ((const patch_embed_attrs *)c->attrs)->o.patch;
    return (layer){ s->dim[1], s->dim[2], s->dim[3], p, lanes_up(s->dim[2]) + p - 1 };
}

/* Floats of the call's memory: in all, but for `pooled`, which is a thread's. */
typedef struct {
    size_t planes, offsets, rows, windows, pooled;
    int threads;
} sizes;

static sizes sizes_of(const adze_call *c)
{
    const adze_patch_embed_opts *o = &((const patch_embed_attrs *)c->attrs)->o;
    sizes s = { .pooled = rounded(o->pretrain_dim * LANES), .threads = omp_get_max_threads() };
    for (int k = 0; k < c->n_in; k++) {
        const layer l = layer_of(c, k);
        size_t planes = rounded((l.H + l.p - 1) * l.C * l.width), offsets = rounded(l.p * l.p * l.C), rows = rounded(l.H * l.W * o->target_dim);
        if (planes > s.planes) s.planes = planes;
        if (offsets > s.offsets) s.offsets = offsets;
        if (k > 0 && rows > s.rows) s.rows = rows;
    }
    s.windows = 3 * (rounded(o->pretrain_dim) + rounded(o->target_dim));
    return s;
}

static adze_status prepare(adze_call *c)
{
    sizes s = sizes_of(c);
    c->scratch_bytes = (s.planes + s.offsets + s.rows + s.windows + s.pooled * (size_t)s.threads) * sizeof(float);
    return ADZE_OK;
}

/* to (LANES,LANES) = from, transposed; ld: floats from row to row. */
INLINE void transpose_block(const float *from, int64_t ld_from, float *to, int64_t ld_to)
{
    floats v[LANES], w[LANES];
    for (int i = 0; i < LANES; i++) v[i] = *(const floats *)(from + i * ld_from);
    for (int i = 0; i < LANES; i += 2) {
        w[i] = __builtin_shufflevector(v[i], v[i + 1], 0, 8, 2, 10, 4, 12, 6, 14);
        w[i + 1] = __builtin_shufflevector(v[i], v[i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
    }
    for (int i = 0; i < LANES; i += i % 2 ? 3 : 1) {
        v[i] = __builtin_shufflevector(w[i], w[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
        v[i + 2] = __builtin_shufflevector(w[i], w[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    }
    for (int i = 0; i < LANES / 2; i++) {
        *(floats *)(to + i * ld_to) = __builtin_shufflevector(v[i], v[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        *(floats *)(to + (i + 4) * ld_to) = __builtin_shufflevector(v[i], v[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
}

/* to (n,m) = from (m,n) transposed; both at most LANES. */
INLINE void transpose(const float *from, int64_t ld_from, int64_t m, int64_t n, float *to, int64_t ld_to)
{
    if (m == LANES && n == LANES) transpose_block(from, ld_from, to, ld_to);
    else
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++) to[j * ld_to + i] = from[i * ld_from + j];
}

static int64_t lesser(int64_t a, int64_t b) { return a < b ? a : b; }

/* Row r of the planes from row r - p/2 of the map. */
CLONES static void spread_row(const layer *l, const float *map, int64_t r, float *planes)
{
    const int64_t y = r - l->p / 2, C = l->C, W = l->W;
    float *to = planes + r * C * l->width;
    memset(to, 0, (size_t)(C * l->width) * sizeof *to);
    if (y < 0 || y >= l->H) return;
    for (int64_t k = 0; k < C; k += LANES)
        for (int64_t x = 0; x < W; x += LANES)
            transpose(map + (y * W + x) * C + k, C, lesser(LANES, W - x), lesser(LANES, C - k), to + k * l->width + l->p / 2 + x, l->width);
}

/* Where number i of a patch, in order c, ky, kx, lies behind the first one's row and position. */
static void find_offsets(const layer *l, int32_t *offset)
{
    for (int64_t i = 0; i < l->p * l->p * l->C; i++) {
        int64_t k = i / (l->p * l->p), t = i % (l->p * l->p);
        offset[i] = (int32_t)((t / l->p * l->C + k) * l->width + t % l->p);
    }
}

/* What a layer gives to each output: its numbers [first, last) of the target's windows, for columns [j0, j1). */
typedef struct {
    const int32_t *offset;
    windows pretrain, target;
    int64_t D1, D2, first, j0, j1;
} embedding;

/* The n positions from (y,x) on, at most LANES; out: the first one's row. */
CLONES static void embed_block(const layer *l, const embedding *e, const float *planes, int64_t y, int64_t x, int64_t n, float *pooled, float *out)
{
    const float *at = planes + y * l->C * l->width + x;
    const int64_t last = e->first + e->D1;
    for (int64_t i = 0; i < e->D1; i++) {
        floats sum = *(const floats *)(at + e->offset[e->pretrain.from[i]]);
        for (int32_t j = e->pretrain.from[i] + 1; j < e->pretrain.to[i]; j++) sum += *(const floats *)(at + e->offset[j]);
        *(floats *)(pooled + i * LANES) = sum / e->pretrain.length[i];
    }
    for (int64_t j = e->j0; j < e->j1; j += LANES) {
        float block[LANES * LANES];
        const int64_t m = lesser(LANES, e->j1 - j);
        for (int64_t i = 0; i < m; i++) {
            const int32_t from = e->target.from[j + i], to = e->target.to[j + i];
            floats sum = { 0 };
            for (int64_t d = from > e->first ? from : e->first; d < lesser(to, last); d++) sum += *(const floats *)(pooled + (d - e->first) * LANES);
            *(floats *)(block + i * LANES) = sum / e->target.length[j + i];
        }
        transpose(block, LANES, m, n, out + j, e->D2);
    }
}

/* out (D2) += columns [j0,j1) of the mean of four rows. */
CLONES static void add_between(const float *const row[4], float wy, float wx, const embedding *e, float *restrict out)
{
    const float *a = row[0], *b = row[1], *c = row[2], *d = row[3];
    for (int64_t j = e->j0; j < e->j1; j++) out[j] += (1.0f - wy) * ((1.0f - wx) * a[j] + wx * b[j]) + wy * ((1.0f - wx) * c[j] + wx * d[j]);
}

/* out (H0*W0, D2) += rows (H*W, D2) resized bilinearly; only the embedding's columns are there. */
static void add_resized(const float *rows, const layer *l, const embedding *e, float *out, int64_t H0, int64_t W0)
{
#pragma omp parallel for schedule(static)
    for (int64_t p = 0; p < H0 * W0; p++) {
        int64_t y0, y1, x0, x1;
        float wy = (float)patch_embed_source(p / W0, l->H, H0, &y0, &y1), wx = (float)patch_embed_source(p % W0, l->W, W0, &x0, &x1);
        const float *top = rows + y0 * l->W * e->D2, *bottom = rows + y1 * l->W * e->D2;
        const float *const row[4] = { top + x0 * e->D2, top + x1 * e->D2, bottom + x0 * e->D2, bottom + x1 * e->D2 };
        add_between(row, wy, wx, e, out + p * e->D2);
    }
}

/* One picture's layer: out (H0*W0, D2) is set by the first one, added to by the others. */
static void embed(const layer *l, const embedding *e, const float *map, const sizes *s, float *planes, float *rows, float *pooled, float *out,
                  int64_t H0, int64_t W0)
{
    const int64_t blocks = lanes_up(l->W) / LANES;
    float *to = e->first == 0 ? out : rows;
#pragma omp parallel
    {
#pragma omp for schedule(static)
        for (int64_t r = 0; r < l->H + l->p - 1; r++) spread_row(l, map, r, planes);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < l->H * blocks; i++) {
            const int64_t y = i / blocks, x = i % blocks * LANES;
            embed_block(l, e, planes, y, x, lesser(LANES, l->W - x), pooled + s->pooled * (size_t)omp_get_thread_num(), to + (y * l->W + x) * e->D2);
        }
    }
    if (e->first > 0) add_resized(rows, l, e, out, H0, W0);
}

static adze_status run(const adze_call *c)
{
    const adze_patch_embed_opts *o = &((const patch_embed_attrs *)c->attrs)->o;
    const sizes s = sizes_of(c);
    const int64_t N = c->in[0].shape.dim[0], H0 = c->in[0].shape.dim[1], W0 = c->in[0].shape.dim[2];
    embedding e = { .D1 = o->pretrain_dim, .D2 = o->target_dim };
    float *planes = c->scratch, *rows = planes + s.planes, *offsets = rows + s.rows, *tables = offsets + s.offsets, *pooled = tables + s.windows;
    e.offset = (int32_t *)offsets;
    e.target = find_windows(tables, e.D1 * c->n_in, e.D2);
    for (int k = 0; k < c->n_in; k++) {
        const layer l = layer_of(c, k);
        e.pretrain = find_windows(tables + 3 * rounded(e.D2), l.p * l.p * l.C, e.D1);
        find_offsets(&l, (int32_t *)offsets);
        e.first = k * e.D1;
        /* The first layer also clears the columns of the others. */
        for (e.j0 = 0; k > 0 && e.target.to[e.j0] <= e.first; e.j0++) {}
        for (e.j1 = e.D2; k > 0 && e.target.from[e.j1 - 1] >= e.first + e.D1; e.j1--) {}
        for (int64_t n = 0; n < N; n++)
            embed(&l, &e, c->in[k].data + n * l.H * l.W * l.C, &s, planes, rows, pooled, c->out[0].data + n * H0 * W0 * e.D2, H0, W0);
    }
    return ADZE_OK;
}

const adze_kernel adze_cpu_patch_embed = { .name = "cpu", .accepts = accepts, .prepare = prepare, .run = run };
