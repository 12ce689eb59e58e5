/* map_post.c - bilinear upsampling and Gaussian blur of maps. Entry: adze_map_post().
 *
 * The blur's first pass walks down the rows with a ring of 2r+1 row pointers into a double copy of the map; the second
 * writes each row with its reflected borders into a line and lets the taps be pointers into it. */
#include "core/map_post.h"

#include <inttypes.h>
#include <math.h>
#include <omp.h>
#include <string.h>

#include "core/backend.h"
#include "core/cpu/map_post_kernels.h"
#include "core/memory.h"

enum { MAX_SIZE = 65536 };

typedef struct {
    int64_t B, h, w, H, W; /* h = w = 0: no upsampling */
    double sigma;          /* < 0: no blur */
    int r;
    bool align_corners;
    int threads;
    const adze_map_kernels *kernels;
    double *weight;            /* (r+1), centre first */
    int32_t *left, *right;     /* (W) columns of the patch map */
    double *lo, *hi;           /* (W) their weights ... */
    float *lo_f32, *hi_f32;    /* ... rounded */
    unsigned char *work;       /* per thread */
    size_t work_bytes;
} job;

typedef struct {
    int64_t i0, i1;
    double lo, hi;
} blend;

static blend blend_of(int64_t i, int64_t n_in, int64_t n_out, bool align_corners)
{
    double at = align_corners ? (n_out > 1 ? (double)(i * (n_in - 1)) / (double)(n_out - 1) : 0.0)
                              : fmax(0.0, ((double)i + 0.5) * (double)n_in / (double)n_out - 0.5);
    int64_t i0 = (int64_t)at;
    if (i0 > n_in - 1) i0 = n_in - 1;
    double hi = at - (double)i0;
    return (blend){ .i0 = i0, .i1 = i0 + 1 < n_in ? i0 + 1 : i0, .lo = 1.0 - hi, .hi = hi };
}

/* Half-sample symmetric reflection, repeated: ... b a | a b c | c b ... */
static int64_t reflect(int64_t i, int64_t n)
{
    int64_t period = 2 * n;
    i %= period;
    if (i < 0) i += period;
    return i < n ? i : period - 1 - i;
}

int adze_map_radius(double sigma) { return (int)(4.0 * sigma + 0.5); }

/* The sum runs as numpy's pairwise sum does on few elements. */
void adze_map_weights(double sigma, double *weight)
{
    int r = adze_map_radius(sigma), n = 2 * r + 1;
    if (r == 0) {
        weight[0] = 1.0;
        return;
    }
    double lane[8] = { 0 }, sum = 0.0;
    for (int x = 0; x <= r; x++) weight[x] = exp(-0.5 / (sigma * sigma) * ((double)x * (double)x));
    int whole = n / 8 * 8;
    for (int i = 0; i < whole; i++) lane[i % 8] += weight[i < r ? r - i : i - r];
    if (whole > 0)
        sum = ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
    for (int i = whole; i < n; i++) sum += weight[i < r ? r - i : i - r];
    for (int x = 0; x <= r; x++) weight[x] /= sum;
}

/* Hands out the parts of a thread's memory. */
static void *take(unsigned char **at, size_t n_bytes)
{
    void *p = *at;
    *at += (n_bytes + ADZE_MEMORY_ALIGN - 1) / ADZE_MEMORY_ALIGN * ADZE_MEMORY_ALIGN;
    return p;
}

static size_t work_bytes_of(const job *j, size_t element_bytes)
{
    size_t plane = (size_t)j->H * (size_t)j->W, taps = 2 * (size_t)j->r + 1;
    return (size_t)j->w * element_bytes + plane * sizeof(double) + (size_t)j->W * sizeof(double) +
           ((size_t)j->W + 2 * (size_t)j->r) * sizeof(double) + taps * sizeof(double *) + 5 * ADZE_MEMORY_ALIGN;
}

static void upsample_f32(const job *j, const float *x, float *y, unsigned char *work)
{
    float *row = take(&work, (size_t)j->w * sizeof *row);
    for (int64_t i = 0; i < j->H; i++) {
        blend v = blend_of(i, j->h, j->H, j->align_corners);
        j->kernels->blend_f32(x + v.i0 * j->w, x + v.i1 * j->w, (float)v.lo, (float)v.hi, j->w, row);
        j->kernels->gather_f32(row, j->left, j->right, j->lo_f32, j->hi_f32, j->W, y + i * j->W);
    }
}

static void upsample_f64(const job *j, const double *x, double *y, unsigned char *work)
{
    double *row = take(&work, (size_t)j->w * sizeof *row);
    for (int64_t i = 0; i < j->H; i++) {
        blend v = blend_of(i, j->h, j->H, j->align_corners);
        j->kernels->blend_f64(x + v.i0 * j->w, x + v.i1 * j->w, v.lo, v.hi, j->w, row);
        j->kernels->gather_f64(row, j->left, j->right, j->lo, j->hi, j->W, y + i * j->W);
    }
}

/* `plane` is the map in double; each pass's result is rounded to float when `narrow`. y_f32 or y_f64 is written. */
static void blur_plane(const job *j, const double *plane, double *sum, double *line, const double **tap, float *y_f32,
                       double *y_f64)
{
    int64_t H = j->H, W = j->W, r = j->r;
    for (int64_t i = 0; i < H; i++) {
        for (int64_t t = -r; t <= r; t++) tap[r + t] = plane + reflect(i + t, H) * W;
        j->kernels->taps(tap, j->weight, (int)r, W, sum);
        for (int64_t c = 0; c < W; c++) line[r + c] = y_f32 ? (double)(float)sum[c] : sum[c];
        for (int64_t c = 1; c <= r; c++) {
            line[r - c] = line[r + reflect(-c, W)];
            line[r + W - 1 + c] = line[r + reflect(W - 1 + c, W)];
        }
        for (int64_t t = 0; t <= 2 * r; t++) tap[t] = line + t;
        j->kernels->taps(tap, j->weight, (int)r, W, sum);
        if (y_f32)
            for (int64_t c = 0; c < W; c++) y_f32[i * W + c] = (float)sum[c];
        else memcpy(y_f64 + i * W, sum, (size_t)W * sizeof *sum);
    }
}

typedef struct {
    double *plane, *sum, *line;
    const double **tap;
} blur_parts;

static blur_parts parts_of(const job *j, unsigned char *work)
{
    blur_parts p;
    p.plane = take(&work, (size_t)(j->H * j->W) * sizeof(double));
    p.sum = take(&work, (size_t)j->W * sizeof(double));
    p.line = take(&work, (size_t)(j->W + 2 * j->r) * sizeof(double));
    p.tap = take(&work, (size_t)(2 * j->r + 1) * sizeof(double *));
    return p;
}

static void blur_f32(const job *j, const float *x, float *y, unsigned char *work)
{
    blur_parts p = parts_of(j, work);
    for (int64_t i = 0; i < j->H * j->W; i++) p.plane[i] = (double)x[i];
    blur_plane(j, p.plane, p.sum, p.line, p.tap, y, NULL);
}

static void blur_f64(const job *j, const double *x, double *y, unsigned char *work)
{
    blur_parts p = parts_of(j, work);
    memcpy(p.plane, x, (size_t)(j->H * j->W) * sizeof *x);
    blur_plane(j, p.plane, p.sum, p.line, p.tap, NULL, y);
}

static bool size_is_sound(int64_t n) { return n >= 1 && n <= MAX_SIZE; }

static void job_clear(job *j)
{
    adze_free(j->weight), adze_free(j->left), adze_free(j->right), adze_free(j->lo), adze_free(j->hi);
    adze_free(j->lo_f32), adze_free(j->hi_f32), adze_free(j->work);
}

/* Checks, tables and scratch. */
static adze_status job_prepare(job *j, const adze_map_opts *opts, size_t element_bytes)
{
    adze_status st = ADZE_OK;
    adze_isa isa;
    const adze_map_opts o = opts ? *opts : ADZE_MAP_OPTS;
    REQUIRE(j->B >= 0 && size_is_sound(j->H) && size_is_sound(j->W), ADZE_EINVAL,
            "map: %" PRId64 " of %" PRId64 " x %" PRId64 ", want sizes from 1 to %d", j->B, j->H, j->W, MAX_SIZE);
    REQUIRE(j->h == 0 || (size_is_sound(j->h) && size_is_sound(j->w)), ADZE_EINVAL,
            "map: patches %" PRId64 " x %" PRId64 ", want sizes from 1 to %d", j->h, j->w, MAX_SIZE);
    REQUIRE(j->sigma <= 1000.0, ADZE_EINVAL, "map: sigma %g, want 0 to 1000", j->sigma);
    TRY(adze_isa_resolve(o.isa, &isa));
    j->kernels = adze_map_kernels_get(isa);
    j->align_corners = o.align_corners;
    j->threads = adze_threads_resolve(o.threads);
    if (j->threads > j->B) j->threads = j->B > 0 ? (int)j->B : 1;
    if (j->sigma >= 0.0) {
        j->r = adze_map_radius(j->sigma);
        REQUIRE(j->weight = adze_malloc(((size_t)j->r + 1) * sizeof *j->weight), ADZE_ENOMEM,
                "map: %zu host bytes for the blur's weights", ((size_t)j->r + 1) * sizeof *j->weight);
        adze_map_weights(j->sigma, j->weight);
    }
    if (j->h > 0) {
        size_t W = (size_t)j->W;
        j->left = adze_malloc(W * sizeof *j->left), j->right = adze_malloc(W * sizeof *j->right);
        j->lo = adze_malloc(W * sizeof *j->lo), j->hi = adze_malloc(W * sizeof *j->hi);
        j->lo_f32 = adze_malloc(W * sizeof *j->lo_f32), j->hi_f32 = adze_malloc(W * sizeof *j->hi_f32);
        REQUIRE(j->left && j->right && j->lo && j->hi && j->lo_f32 && j->hi_f32, ADZE_ENOMEM,
                "map: %zu host bytes for the columns", 32 * W);
        for (int64_t c = 0; c < j->W; c++) {
            blend v = blend_of(c, j->w, j->W, j->align_corners);
            j->left[c] = (int32_t)v.i0, j->right[c] = (int32_t)v.i1;
            j->lo[c] = v.lo, j->hi[c] = v.hi;
            j->lo_f32[c] = (float)v.lo, j->hi_f32[c] = (float)v.hi;
        }
    }
    j->work_bytes = (work_bytes_of(j, element_bytes) + ADZE_MEMORY_ALIGN - 1) / ADZE_MEMORY_ALIGN * ADZE_MEMORY_ALIGN;
    REQUIRE(j->work = adze_malloc((size_t)j->threads * j->work_bytes), ADZE_ENOMEM, "map: %zu host bytes of scratch",
            (size_t)j->threads * j->work_bytes);
done:
    return st;
}

static unsigned char *work_of(const job *j) { return j->work + (size_t)omp_get_thread_num() * j->work_bytes; }

adze_status adze_map_upsample(const float *x, int64_t B, int64_t h, int64_t w, int64_t H, int64_t W,
                              const adze_map_opts *opts, float *y)
{
    adze_status st = ADZE_OK;
    job j = { .B = B, .h = h, .w = w, .H = H, .W = W, .sigma = -1.0 };
    REQUIRE(size_is_sound(h), ADZE_EINVAL, "map: %" PRId64 " patch rows", h);
    TRY(job_prepare(&j, opts, sizeof *x));
#pragma omp parallel for num_threads(j.threads) schedule(dynamic, 1)
    for (int64_t i = 0; i < B; i++) upsample_f32(&j, x + i * h * w, y + i * H * W, work_of(&j));
done:
    job_clear(&j);
    return st;
}

adze_status adze_map_upsample_f64(const double *x, int64_t B, int64_t h, int64_t w, int64_t H, int64_t W,
                                  const adze_map_opts *opts, double *y)
{
    adze_status st = ADZE_OK;
    job j = { .B = B, .h = h, .w = w, .H = H, .W = W, .sigma = -1.0 };
    REQUIRE(size_is_sound(h), ADZE_EINVAL, "map: %" PRId64 " patch rows", h);
    TRY(job_prepare(&j, opts, sizeof *x));
#pragma omp parallel for num_threads(j.threads) schedule(dynamic, 1)
    for (int64_t i = 0; i < B; i++) upsample_f64(&j, x + i * h * w, y + i * H * W, work_of(&j));
done:
    job_clear(&j);
    return st;
}

adze_status adze_map_blur(const float *x, int64_t B, int64_t H, int64_t W, double sigma, const adze_map_opts *opts,
                          float *y)
{
    adze_status st = ADZE_OK;
    job j = { .B = B, .H = H, .W = W, .sigma = sigma };
    REQUIRE(sigma >= 0.0, ADZE_EINVAL, "map: sigma %g, want 0 to 1000", sigma);
    TRY(job_prepare(&j, opts, sizeof *x));
#pragma omp parallel for num_threads(j.threads) schedule(dynamic, 1)
    for (int64_t i = 0; i < B; i++) blur_f32(&j, x + i * H * W, y + i * H * W, work_of(&j));
done:
    job_clear(&j);
    return st;
}

adze_status adze_map_blur_f64(const double *x, int64_t B, int64_t H, int64_t W, double sigma, const adze_map_opts *opts,
                              double *y)
{
    adze_status st = ADZE_OK;
    job j = { .B = B, .H = H, .W = W, .sigma = sigma };
    REQUIRE(sigma >= 0.0, ADZE_EINVAL, "map: sigma %g, want 0 to 1000", sigma);
    TRY(job_prepare(&j, opts, sizeof *x));
#pragma omp parallel for num_threads(j.threads) schedule(dynamic, 1)
    for (int64_t i = 0; i < B; i++) blur_f64(&j, x + i * H * W, y + i * H * W, work_of(&j));
done:
    job_clear(&j);
    return st;
}

adze_status adze_map_post(const float *x, int64_t B, int64_t h, int64_t w, int64_t H, int64_t W, double sigma,
                          const adze_map_opts *opts, float *y)
{
    adze_status st = ADZE_OK;
    job j = { .B = B, .h = h, .w = w, .H = H, .W = W, .sigma = sigma };
    REQUIRE(size_is_sound(h), ADZE_EINVAL, "map: %" PRId64 " patch rows", h);
    REQUIRE(sigma >= 0.0, ADZE_EINVAL, "map: sigma %g, want 0 to 1000", sigma);
    TRY(job_prepare(&j, opts, sizeof *x));
    if (opts && opts->ctx && opts->ctx->backend->map_post) {
        st = opts->ctx->backend->map_post(opts->ctx, x, B, h, w, H, W, sigma, opts->align_corners, y);
        goto done;
    }
#pragma omp parallel for num_threads(j.threads) schedule(dynamic, 1)
    for (int64_t i = 0; i < B; i++) {
        upsample_f32(&j, x + i * h * w, y + i * H * W, work_of(&j));
        blur_f32(&j, y + i * H * W, y + i * H * W, work_of(&j));
    }
done:
    job_clear(&j);
    return st;
}

size_t adze_map_device_bytes(const adze_ctx *ctx, int64_t B, int64_t h, int64_t w, int64_t H, int64_t W, double sigma)
{
    const adze_backend *b = ctx->backend;
    return b->map_post_bytes ? b->map_post_bytes(ctx, B, h, w, H, W, sigma) : 0;
}
