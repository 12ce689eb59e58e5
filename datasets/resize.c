/* resize.c - weights, the order of the passes, and the resizers without SIMD. Entry: adze_image_resize().
 *
 * The horizontal pass of the SIMD paths takes 64 rows at a time, transposes them to columns, and is then the same
 * weighted sum of byte rows as the vertical pass: one kernel serves both passes and any number of channels. */
#include "datasets/resize.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "core/memory.h"
#include "core/text.h"
#include "datasets/resize_kernel.h"

enum { BLOCK_ROWS = 64, HALF_BITS = 12, MAX_BLOCK_ROW_BYTES = 1 << 20 /* longer rows: plain C, the block would be huge */ };

static const char *const filter_names[ADZE_FILTER_COUNT] = { "nearest", "box", "bilinear", "hamming",
                                                             "bicubic", "lanczos", "opencv" };

const char *adze_filter_name(adze_filter filter)
{
    return (unsigned)filter < ADZE_FILTER_COUNT ? filter_names[filter] : NULL;
}

adze_status adze_filter_parse(adze_filter *out, const char *name)
{
    int best = 0;
    for (int i = 0; i < ADZE_FILTER_COUNT; i++) {
        if (strcmp(name, filter_names[i]) == 0) {
            *out = (adze_filter)i;
            return ADZE_OK;
        }
        if (adze_text_distance(name, filter_names[i]) < adze_text_distance(name, filter_names[best])) best = i;
    }
    return adze_fail(ADZE_EINVAL, "unknown filter '%s', did you mean '%s'?", name, filter_names[best]);
}

static double sinc(double x)
{
    if (x == 0.0) return 1.0;
    x *= M_PI;
    return sin(x) / x;
}

static double weight_at(adze_filter filter, double x)
{
    const double a = -0.5;
    double r = fabs(x);
    switch (filter) {
    case ADZE_FILTER_BOX: return x > -0.5 && x <= 0.5 ? 1.0 : 0.0;
    case ADZE_FILTER_BILINEAR: return r < 1.0 ? 1.0 - r : 0.0;
    case ADZE_FILTER_HAMMING:
        if (x == 0.0) return 1.0;
        return r < 1.0 ? sinc(r) * (0.54f + 0.46f * cos(M_PI * r)) : 0.0;
    case ADZE_FILTER_BICUBIC:
        if (r < 1.0) return ((a + 2.0) * r - (a + 3.0)) * r * r + 1.0;
        return r < 2.0 ? (((r - 5.0) * r + 8.0) * r - 4.0) * a : 0.0;
    case ADZE_FILTER_LANCZOS: return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3.0) : 0.0;
    default: return 0.0;
    }
}

static double support_of(adze_filter filter)
{
    switch (filter) {
    case ADZE_FILTER_BOX: return 0.5;
    case ADZE_FILTER_BICUBIC: return 2.0;
    case ADZE_FILTER_LANCZOS: return 3.0;
    default: return 1.0;
    }
}

/* The weights of one axis, n source positions to m. One block of memory: taps[m], then k, lo, hi. */
typedef struct {
    adze_resize_taps *taps; /* owned, m */
} axis;

static void axis_destroy(axis *a)
{
    adze_free(a->taps);
    a->taps = NULL;
}

static void axis_fill(adze_resize_taps *taps, int32_t *k, int32_t *lo, int32_t *hi, double *w, adze_filter filter,
                      int64_t n, int64_t m, int64_t i)
{
    double scale = (double)n / (double)m, wide = scale < 1.0 ? 1.0 : scale, S = support_of(filter) * wide;
    double c = ((double)i + 0.5) * scale, sum = 0.0, inverse = 1.0 / wide;
    int64_t x0 = (int64_t)(c - S + 0.5), x1 = (int64_t)(c + S + 0.5);
    if (x0 < 0) x0 = 0;
    if (x1 > n) x1 = n;
    for (int64_t j = 0; j < x1 - x0; j++) {
        w[j] = weight_at(filter, ((double)(x0 + j) - c + 0.5) * inverse);
        sum += w[j];
    }
    for (int64_t j = 0; j < x1 - x0; j++) {
        double v = (sum != 0.0 ? w[j] / sum : w[j]) * (1 << ADZE_RESIZE_BITS);
        k[j] = (int32_t)(v < 0.0 ? v - 0.5 : v + 0.5);
    }
    for (int64_t j = 0; j < x1 - x0; j += 2) {
        int32_t even = k[j], odd = j + 1 < x1 - x0 ? k[j + 1] : 0;
        int32_t mask = (1 << HALF_BITS) - 1;
        lo[j / 2] = (even & mask) | (odd & mask) << 16;
        hi[j / 2] = (int32_t)((uint32_t)(even >> HALF_BITS & 0xffff) | (uint32_t)(odd >> HALF_BITS) << 16);
    }
    *taps = (adze_resize_taps){ x0, x1 - x0, k, lo, hi };
}

static adze_status axis_create(axis *a, adze_filter filter, int64_t n, int64_t m)
{
    a->taps = NULL;
    double scale = (double)n / (double)m;
    size_t most = (size_t)(2.0 * ceil(support_of(filter) * (scale < 1.0 ? 1.0 : scale))) + 2, total, per;
    size_t pairs = (most + 1) / 2;
    per = sizeof *a->taps + (most + 2 * pairs) * sizeof(int32_t);
    if (!adze_mul_size((size_t)m, per, &total) || !adze_add_size(total, most * sizeof(double), &total))
        return adze_fail(ADZE_EINPUT, "resize: weights of %" PRId64 " to %" PRId64 " do not fit", n, m);
    a->taps = adze_malloc(total);
    if (!a->taps) return adze_fail(ADZE_ENOMEM, "resize weights: %zu host bytes", total);
    double *w = (double *)(a->taps + m);
    int32_t *k = (int32_t *)(w + most), *lo = k + most * (size_t)m, *hi = lo + pairs * (size_t)m;
    for (int64_t i = 0; i < m; i++)
        axis_fill(&a->taps[i], k + most * (size_t)i, lo + pairs * (size_t)i, hi + pairs * (size_t)i, w, filter, n, m, i);
    return ADZE_OK;
}

void adze_resize_weigh_plain(unsigned char *out, const unsigned char *in, size_t stride_bytes, const adze_resize_taps *taps,
                             size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int32_t sum = 1 << (ADZE_RESIZE_BITS - 1);
        for (int64_t t = 0; t < taps->n_taps; t++) sum += taps->k[t] * in[(size_t)t * stride_bytes + i];
        sum >>= ADZE_RESIZE_BITS;
        out[i] = (unsigned char)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
    }
}

/* src (H,Ws,C) to dst (H,Wd,C), weights of the columns. */
static void horizontal_plain(unsigned char *dst, const unsigned char *src, int64_t H, int64_t Ws, int64_t Wd, int64_t C,
                             const axis *a)
{
    for (int64_t y = 0; y < H; y++)
        for (int64_t x = 0; x < Wd; x++)
            adze_resize_weigh_plain(dst + (y * Wd + x) * C, src + (y * Ws + a->taps[x].first) * C, (size_t)C, &a->taps[x],
                                    (size_t)C);
}

#if defined(__x86_64__)
static size_t round16(size_t n)
{
    return (n + 15) / 16 * 16;
}

/* The same by blocks of rows: copy in (padded), transpose, weigh columns, transpose back, copy out. */
static adze_status horizontal_simd(unsigned char *dst, const unsigned char *src, int64_t H, int64_t Ws, int64_t Wd,
                                   int64_t C, const axis *a, adze_resize_weigh *weigh)
{
    size_t in_bytes = (size_t)(Ws * C), out_bytes = (size_t)(Wd * C), in_wide = round16(in_bytes), out_wide = round16(out_bytes);
    size_t wider = in_wide > out_wide ? in_wide : out_wide, total;
    if (!adze_add_size(wider, in_wide, &total) || !adze_add_size(total, out_wide, &total) ||
        !adze_mul_size(total, BLOCK_ROWS, &total))
        return adze_fail(ADZE_EINPUT, "resize: rows of %zu bytes", wider);
    unsigned char *rows = adze_malloc(total);
    if (!rows) return adze_fail(ADZE_ENOMEM, "resize rows: %zu host bytes", total);
    unsigned char *columns = rows + wider * BLOCK_ROWS, *sums = columns + in_wide * BLOCK_ROWS;
    memset(rows, 0, wider * BLOCK_ROWS);
    for (size_t i = out_bytes; i < out_wide; i++) memset(sums + i * BLOCK_ROWS, 0, BLOCK_ROWS);
    for (int64_t y = 0; y < H; y += BLOCK_ROWS) {
        size_t n = (size_t)(H - y < BLOCK_ROWS ? H - y : BLOCK_ROWS);
        const unsigned char *from = src + (size_t)y * in_bytes;
        unsigned char *to = dst + (size_t)y * out_bytes;
        if (n == BLOCK_ROWS && in_bytes == in_wide) adze_resize_transpose(columns, BLOCK_ROWS, from, in_bytes, BLOCK_ROWS, in_wide);
        else {
            for (size_t r = 0; r < n; r++) memcpy(rows + r * in_wide, from + r * in_bytes, in_bytes);
            adze_resize_transpose(columns, BLOCK_ROWS, rows, in_wide, BLOCK_ROWS, in_wide);
        }
        for (int64_t x = 0; x < Wd; x++)
            for (int64_t c = 0; c < C; c++)
                weigh(sums + (x * C + c) * BLOCK_ROWS, columns + (a->taps[x].first * C + c) * BLOCK_ROWS,
                      (size_t)C * BLOCK_ROWS, &a->taps[x], BLOCK_ROWS);
        if (n == BLOCK_ROWS && out_bytes == out_wide) adze_resize_transpose(to, out_bytes, sums, BLOCK_ROWS, out_wide, BLOCK_ROWS);
        else {
            adze_resize_transpose(rows, out_wide, sums, BLOCK_ROWS, out_wide, BLOCK_ROWS);
            for (size_t r = 0; r < n; r++) memcpy(to + r * out_bytes, rows + r * out_wide, out_bytes);
        }
    }
    adze_free(rows);
    return ADZE_OK;
}
#endif

static adze_status choose(adze_resize_path path, adze_resize_weigh **weigh)
{
    *weigh = adze_resize_weigh_plain;
#if defined(__x86_64__)
    if ((path == ADZE_RESIZE_AUTO || path == ADZE_RESIZE_AVX512) && adze_resize_has_avx512()) *weigh = adze_resize_weigh_avx512;
    else if ((path == ADZE_RESIZE_AUTO || path == ADZE_RESIZE_AVX2) && adze_resize_has_avx2()) *weigh = adze_resize_weigh_avx2;
    if (path != ADZE_RESIZE_AUTO && path != ADZE_RESIZE_PLAIN && *weigh == adze_resize_weigh_plain)
        return adze_fail(ADZE_EBACKEND, "resize: this processor has no %s", path == ADZE_RESIZE_AVX2 ? "AVX2" : "AVX-512 VNNI");
#else
    if (path != ADZE_RESIZE_AUTO && path != ADZE_RESIZE_PLAIN)
        return adze_fail(ADZE_EBACKEND, "resize: AVX needs an x86-64 processor");
#endif
    return ADZE_OK;
}

static adze_status resize_pillow(adze_image *out, const adze_image *im, int64_t H, int64_t W, adze_filter filter,
                                 adze_resize_weigh *weigh)
{
    adze_status st = ADZE_OK;
    axis columns = { NULL }, rows = { NULL };
    adze_image wide = ADZE_IMAGE_EMPTY, done_image = ADZE_IMAGE_EMPTY;
    const adze_image *from = im;
    if (W != im->W) {
        TRY(axis_create(&columns, filter, im->W, W));
        TRY(adze_image_create(&wide, im->H, W, im->C));
#if defined(__x86_64__)
        if (weigh != adze_resize_weigh_plain && im->W * im->C <= MAX_BLOCK_ROW_BYTES && W * im->C <= MAX_BLOCK_ROW_BYTES)
            TRY(horizontal_simd(wide.data, im->data, im->H, im->W, W, im->C, &columns, weigh));
        else
#endif
            horizontal_plain(wide.data, im->data, im->H, im->W, W, im->C, &columns);
        from = &wide;
    }
    if (H != im->H) {
        TRY(axis_create(&rows, filter, im->H, H));
        TRY(adze_image_create(&done_image, H, W, im->C));
        size_t row_bytes = (size_t)(W * im->C);
        for (int64_t y = 0; y < H; y++)
            weigh(done_image.data + (size_t)y * row_bytes, from->data + (size_t)rows.taps[y].first * row_bytes, row_bytes,
                  &rows.taps[y], row_bytes);
    } else {
        done_image = wide;
        wide = ADZE_IMAGE_EMPTY;
    }
    *out = done_image;
    done_image = ADZE_IMAGE_EMPTY;
done:
    axis_destroy(&columns);
    axis_destroy(&rows);
    adze_image_destroy(&wide);
    adze_image_destroy(&done_image);
    return st;
}

static adze_status resize_nearest(adze_image *out, const adze_image *im, int64_t H, int64_t W)
{
    adze_status st = adze_image_create(out, H, W, im->C);
    if (st != ADZE_OK) return st;
    double sy = (double)im->H / (double)H, sx = (double)im->W / (double)W;
    unsigned char *p = out->data;
    for (int64_t y = 0; y < H; y++)
        for (int64_t x = 0; x < W; x++, p += im->C) {
            int64_t j = (int64_t)(((double)y + 0.5) * sy), i = (int64_t)(((double)x + 0.5) * sx);
            memcpy(p, im->data + (j * im->W + i) * im->C, (size_t)im->C);
        }
    return ADZE_OK;
}

/* One axis of INTER_LINEAR at output i: neighbours a, b (clamped) and weights p, q in 1/2048. */
typedef struct {
    int64_t a, b;
    int32_t p, q;
} linear_tap;

static linear_tap linear_at(int64_t n, int64_t m, int64_t i, bool clamp_weight)
{
    double r = 1.0 / ((double)m / (double)n);
    float f = (float)(((double)i + 0.5) * r - 0.5);
    int64_t j = (int64_t)floorf(f);
    f -= (float)j;
    if (clamp_weight && j < 0) j = 0, f = 0.0f;
    if (clamp_weight && j >= n - 1) j = n - 1, f = 0.0f;
    int64_t a = j < 0 ? 0 : j > n - 1 ? n - 1 : j, b = j + 1 < 0 ? 0 : j + 1 > n - 1 ? n - 1 : j + 1;
    return (linear_tap){ a, b, (int32_t)rintf((1.0f - f) * 2048.0f), (int32_t)rintf(f * 2048.0f) };
}

static void linear_row(int32_t *h, const unsigned char *s, const linear_tap *columns, int64_t W, int64_t C)
{
    for (int64_t x = 0; x < W; x++)
        for (int64_t c = 0; c < C; c++)
            h[x * C + c] = s[columns[x].a * C + c] * columns[x].p + s[columns[x].b * C + c] * columns[x].q;
}

static void halve(adze_image *out, const adze_image *im)
{
    int64_t C = im->C;
    for (int64_t y = 0; y < out->H; y++)
        for (int64_t i = 0; i < out->W * C; i++) {
            const unsigned char *s = im->data + 2 * y * im->W * C + i / C * 2 * C + i % C, *below = s + im->W * C;
            out->data[y * out->W * C + i] = (unsigned char)((s[0] + s[C] + below[0] + below[C] + 2) >> 2);
        }
}

static adze_status resize_opencv(adze_image *out, const adze_image *im, int64_t H, int64_t W)
{
    adze_status st = ADZE_OK;
    linear_tap *columns = NULL;
    int32_t *h[2] = { NULL, NULL };
    int64_t held[2] = { -1, -1 }, n = W * im->C;
    TRY(adze_image_create(out, H, W, im->C));
    if (im->H == 2 * H && im->W == 2 * W) {
        halve(out, im);
        goto done;
    }
    REQUIRE(columns = adze_calloc((size_t)W, sizeof *columns), ADZE_ENOMEM, "resize: %" PRId64 " columns", W);
    for (int k = 0; k < 2; k++)
        REQUIRE(h[k] = adze_calloc((size_t)n, sizeof *h[k]), ADZE_ENOMEM, "resize: a row of %" PRId64 " sums", n);
    for (int64_t x = 0; x < W; x++) columns[x] = linear_at(im->W, W, x, true);
    for (int64_t y = 0; y < H; y++) {
        linear_tap row = linear_at(im->H, H, y, false);
        if (held[1] == row.a) { /* the lower row of the last line is the upper one of this */
            int32_t *swap = h[0];
            h[0] = h[1], h[1] = swap;
            held[1] = held[0], held[0] = row.a;
        }
        if (held[0] != row.a) linear_row(h[0], im->data + row.a * im->W * im->C, columns, W, im->C);
        if (held[1] != row.b) linear_row(h[1], im->data + row.b * im->W * im->C, columns, W, im->C);
        held[0] = row.a, held[1] = row.b;
        for (int64_t i = 0; i < n; i++)
            out->data[y * n + i] =
                (unsigned char)((((row.p * (h[0][i] >> 4)) >> 16) + ((row.q * (h[1][i] >> 4)) >> 16) + 2) >> 2);
    }
done:
    adze_free(columns);
    adze_free(h[0]);
    adze_free(h[1]);
    if (st != ADZE_OK) adze_image_destroy(out);
    return st;
}

adze_status adze_image_resize_by(adze_image *out, const adze_image *im, int64_t H, int64_t W, adze_filter filter,
                                 adze_resize_path path)
{
    adze_resize_weigh *weigh;
    *out = ADZE_IMAGE_EMPTY;
    if (H < 1 || W < 1) return adze_fail(ADZE_EINVAL, "resize to %" PRId64 "x%" PRId64 ", want both > 0", W, H);
    if (!adze_filter_name(filter)) return adze_fail(ADZE_EINVAL, "unknown filter number %d", (int)filter);
    if (H == im->H && W == im->W) return adze_image_convert(out, im, im->C);
    if (filter == ADZE_FILTER_NEAREST) return resize_nearest(out, im, H, W);
    if (filter == ADZE_FILTER_OPENCV_LINEAR) return resize_opencv(out, im, H, W);
    adze_status st = choose(path, &weigh);
    return st == ADZE_OK ? resize_pillow(out, im, H, W, filter, weigh) : st;
}

adze_status adze_image_resize(adze_image *out, const adze_image *im, int64_t H, int64_t W, adze_filter filter)
{
    return adze_image_resize_by(out, im, H, W, filter, ADZE_RESIZE_AUTO);
}

void adze_resize_short_size(int64_t H, int64_t W, int64_t shorter, int64_t *H_out, int64_t *W_out)
{
    int64_t small = H < W ? H : W, large = H < W ? W : H;
    int64_t longer = (int64_t)((double)(shorter * large) / (double)small);
    *H_out = H <= W ? shorter : longer;
    *W_out = H <= W ? longer : shorter;
    if (H == W) *W_out = shorter;
}

/* a/2 for a >= 0, halves to even. */
static int64_t half_to_even(int64_t a)
{
    return a / 2 + (a % 2 && a / 2 % 2);
}

adze_status adze_image_crop_center(adze_image *out, const adze_image *im, int64_t H, int64_t W)
{
    adze_status st = adze_image_create(out, H, W, im->C);
    if (st != ADZE_OK) return st;
    int64_t left = W > im->W ? (W - im->W) / 2 : 0, top = H > im->H ? (H - im->H) / 2 : 0; /* zeros put before */
    int64_t high = H > im->H ? H : im->H, wide = W > im->W ? W : im->W;                   /* size with them */
    int64_t y0 = half_to_even(high - H) - top, x0 = half_to_even(wide - W) - left;
    memset(out->data, 0, (size_t)(H * W * im->C));
    int64_t x_from = x0 < 0 ? -x0 : 0, x_to = im->W - x0 < W ? im->W - x0 : W;
    for (int64_t y = 0; y < H; y++)
        if (y + y0 >= 0 && y + y0 < im->H)
            memcpy(out->data + (y * W + x_from) * im->C, im->data + ((y + y0) * im->W + x0 + x_from) * im->C,
                   (size_t)((x_to - x_from) * im->C));
    return ADZE_OK;
}

static double round15(double v)
{
    return nearbyint(v * 1e15) / 1e15;
}

static int64_t fix16(double v)
{
    return (int64_t)floor(65536.0 * v + 0.5);
}

adze_status adze_image_rotate(adze_image *out, const adze_image *im, double degrees)
{
    double angle = fmod(degrees, 360.0);
    if (angle < 0.0) angle += 360.0;
    if (angle == 0.0) return adze_image_convert(out, im, im->C);
    adze_status st = adze_image_create(out, im->H, im->W, im->C);
    if (st != ADZE_OK) return st;
    double t = -angle * M_PI / 180.0, c = round15(cos(t)), s = round15(sin(t));
    double cx = (double)im->W / 2.0, cy = (double)im->H / 2.0;
    double e = c * -cx + s * -cy + cx, g = -s * -cx + c * -cy + cy;
    int64_t x_at = fix16(e + 0.5 * c + 0.5 * s), y_at = fix16(g - 0.5 * s + 0.5 * c);
    unsigned char *p = out->data;
    for (int64_t y = 0; y < im->H; y++)
        for (int64_t x = 0; x < im->W; x++, p += im->C) {
            int64_t i = (x_at + x * fix16(c) + y * fix16(s)) >> 16, j = (y_at + x * fix16(-s) + y * fix16(c)) >> 16;
            if (i >= 0 && i < im->W && j >= 0 && j < im->H)
                memcpy(p, im->data + (j * im->W + i) * im->C, (size_t)im->C);
            else memset(p, 0, (size_t)im->C);
        }
    return ADZE_OK;
}
