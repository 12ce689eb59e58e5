/* cusim_conv.c - convolution and its gradients in plain C, channels last, sums in double. Entry: cusim_conv_run(). */
#include "cusim_conv.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cusim.h"

/* Inner loops over neighbouring channels, for the instruction sets that are worth it. */
#define FOR_EACH_ISA __attribute__((target_clones("arch=x86-64-v4", "avx2", "default"), optimize("O3")))

/* Products are added four at a time: the sums are loaded and stored that much less. */
enum { TOGETHER = 4 };

FOR_EACH_ISA static void add_product(double *sum, const float *v, double factor, int64_t n)
{
    for (int64_t i = 0; i < n; i++) sum[i] += factor * v[i];
}

FOR_EACH_ISA static void add_four(double *restrict sum, const float *const v[TOGETHER], const float factor[TOGETHER], int64_t n)
{
    const float *a = v[0], *b = v[1], *c = v[2], *d = v[3];
    const double fa = factor[0], fb = factor[1], fc = factor[2], fd = factor[3];
    for (int64_t i = 0; i < n; i++) sum[i] += (fa * a[i] + fb * b[i]) + (fc * c[i] + fd * d[i]);
}

/* sum (n) += the `count` rows of v, `step` apart, times their factors. */
static void add_rows(double *sum, const float *v, int64_t step, const float *factor, int64_t count, int64_t n)
{
    int64_t k = 0;
    for (; k + TOGETHER <= count; k += TOGETHER)
        add_four(sum, (const float *const[]){ v + k * step, v + (k + 1) * step, v + (k + 2) * step, v + (k + 3) * step }, factor + k, n);
    for (; k < count; k++) add_product(sum, v + k * step, factor[k], n);
}

static float to_tf32(float x)
{
    uint32_t bits;
    if (!isfinite(x)) return x;
    memcpy(&bits, &x, sizeof bits);
    bits = (bits + 0xfffu + (bits >> 13 & 1u)) & ~0x1fffu;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* bfloat16 copied from the device. */
static float *fetch_bf16(const void *from, int64_t n)
{
    float *p = malloc((size_t)n * sizeof *p);
    uint16_t *raw = malloc((size_t)n * sizeof *raw);
    if (raw && !cusim_read(raw, from, (size_t)n * sizeof *raw)) memset(raw, 0, (size_t)n * sizeof *raw);
    for (int64_t i = 0; p && raw && i < n; i++) {
        uint32_t bits = (uint32_t)raw[i] << 16;
        memcpy(&p[i], &bits, sizeof bits);
    }
    free(raw);
    return p;
}

/* A tensor copied from the device. */
static float *fetch(const float *from, int64_t n, bool tf32)
{
    float *p = malloc((size_t)n * sizeof *p);
    if (p && !cusim_read(p, from, (size_t)n * sizeof *p)) memset(p, 0, (size_t)n * sizeof *p);
    for (int64_t i = 0; p && tf32 && i < n; i++) p[i] = to_tf32(p[i]);
    return p;
}

static float *operand(const cusim_conv *s, const float *from, int64_t n)
{
    return s->bf16 ? fetch_bf16(from, n) : fetch(from, n, s->tf32);
}

static void put(const float *to, const double *sum, int64_t n)
{
    float *p = malloc((size_t)n * sizeof *p);
    for (int64_t i = 0; p && i < n; i++) p[i] = (float)sum[i];
    if (p) cusim_write((float *)to, p, (size_t)n * sizeof *p);
    free(p);
}

/* w (Co,R,Cg) as (R,Cg,Co), so that outputs lie side by side. */
static float *outputs_last(const float *w, const cusim_conv *s)
{
    int64_t R = s->Kh * s->Kw;
    float *t = malloc((size_t)(s->Co * R * s->Cg) * sizeof *t);
    for (int64_t i = 0; t && i < s->Co * R * s->Cg; i++) t[i % (R * s->Cg) * s->Co + i / (R * s->Cg)] = w[i];
    return t;
}

/* Input position of tap k for output o along dimension d, -1 outside. */
static int64_t tap(const cusim_conv *s, int d, int64_t o, int64_t k)
{
    int64_t i = o * s->stride[d] - s->pad[d] + k * s->dilation[d];
    return i >= 0 && i < (d == 0 ? s->H : s->W) ? i : -1;
}

/* The input pixel that tap r connects with output pixel p, -1 where it lies outside. */
static int64_t input_of(const cusim_conv *s, int64_t p, int64_t r)
{
    int64_t ox = p % s->Wo, oy = p / s->Wo % s->Ho, n = p / s->Wo / s->Ho;
    int64_t iy = tap(s, 0, oy, r / s->Kw), ix = tap(s, 1, ox, r % s->Kw);
    return iy >= 0 && ix >= 0 ? (n * s->H + iy) * s->W + ix : -1;
}

/* Calls visit for every pair of an output pixel and an input pixel that a tap connects. */
static void walk(const cusim_conv *s, void (*visit)(const cusim_conv *s, void *state, int64_t y, int64_t x, int64_t r), void *state)
{
    for (int64_t p = 0; p < s->N * s->Ho * s->Wo; p++)
        for (int64_t r = 0; r < s->Kh * s->Kw; r++) {
            int64_t x = input_of(s, p, r);
            if (x >= 0) visit(s, state, p, x, r);
        }
}

typedef struct {
    const float *x, *w, *y;
    double *sum;
} work;

static void forward_pair(const cusim_conv *s, void *state, int64_t y, int64_t x, int64_t r)
{
    const work *k = state;
    int64_t G = s->C / s->Cg, Cog = s->Co / G;
    for (int64_t g = 0; g < G; g++)
        add_rows(k->sum + y * s->Co + g * Cog, k->w + r * s->Cg * s->Co + g * Cog, s->Co, k->x + x * s->C + g * s->Cg, s->Cg, Cog);
}

static void data_pair(const cusim_conv *s, void *state, int64_t y, int64_t x, int64_t r)
{
    const work *k = state;
    int64_t G = s->C / s->Cg, Cog = s->Co / G, R = s->Kh * s->Kw;
    for (int64_t g = 0; g < G; g++)
        add_rows(k->sum + x * s->C + g * s->Cg, k->w + (g * Cog * R + r) * s->Cg, R * s->Cg, k->y + y * s->Co + g * Cog, Cog, s->Cg);
}

/* Adds what `count` pairs of pixels give to the weights of tap r. */
static void add_pairs(const cusim_conv *s, const work *k, int64_t r, const int64_t *y, const int64_t *x, int count)
{
    int64_t Cog = s->Co / (s->C / s->Cg);
    for (int64_t co = 0; co < s->Co; co++) {
        double *sum = k->sum + (co * s->Kh * s->Kw + r) * s->Cg;
        const float *v[TOGETHER];
        float factor[TOGETHER];
        for (int i = 0; i < count; i++) v[i] = k->x + x[i] * s->C + co / Cog * s->Cg, factor[i] = k->y[y[i] * s->Co + co];
        if (count == TOGETHER) add_four(sum, v, factor, s->Cg);
        else
            for (int i = 0; i < count; i++) add_product(sum, v[i], factor[i], s->Cg);
    }
}

static void weights(const cusim_conv *s, const work *k)
{
    for (int64_t r = 0; r < s->Kh * s->Kw; r++) {
        int64_t y[TOGETHER], x[TOGETHER];
        int n = 0;
        for (int64_t p = 0; p < s->N * s->Ho * s->Wo; p++) {
            y[n] = p, x[n] = input_of(s, p, r);
            if (x[n] >= 0) n++;
            if (n == TOGETHER) add_pairs(s, k, r, y, x, n), n = 0;
        }
        add_pairs(s, k, r, y, x, n);
    }
}

static void epilogue(const cusim_conv *s, double *sum, int64_t n)
{
    for (int a = 0; a < s->n_adds; a++) {
        float *add = fetch(s->add[a], s->add_per_channel[a] ? s->Co : n, false);
        for (int64_t i = 0; add && i < n; i++) sum[i] += add[s->add_per_channel[a] ? i % s->Co : i];
        free(add);
    }
    for (int64_t i = 0; s->relu && i < n; i++) {
        if (!(sum[i] > 0.0)) sum[i] = isnan(sum[i]) ? sum[i] : 0.0;
        if (s->upper_clip > 0.0f && sum[i] > (double)s->upper_clip) sum[i] = (double)s->upper_clip;
    }
}

void cusim_conv_run(void *args)
{
    const cusim_conv *s = args;
    int64_t n_x = s->N * s->H * s->W * s->C, n_w = s->Co * s->Kh * s->Kw * s->Cg, n_y = s->N * s->Ho * s->Wo * s->Co;
    work k = { .x = s->direction != CUSIM_CONV_DATA ? operand(s, s->x, n_x) : NULL,
               .w = s->direction != CUSIM_CONV_WEIGHTS ? operand(s, s->w, n_w) : NULL,
               .y = s->direction != CUSIM_CONV_FORWARD ? operand(s, s->y, n_y) : NULL };
    int64_t n = s->direction == CUSIM_CONV_FORWARD ? n_y : s->direction == CUSIM_CONV_DATA ? n_x : n_w;
    float *turned = NULL;
    k.sum = calloc((size_t)n, sizeof *k.sum);
    if (k.sum && s->direction == CUSIM_CONV_FORWARD && k.x && k.w) {
        turned = outputs_last(k.w, s);
        work t = { k.x, turned, NULL, k.sum };
        if (turned) walk(s, forward_pair, &t);
        epilogue(s, k.sum, n);
        put(s->y, k.sum, n);
    } else if (k.sum && s->direction == CUSIM_CONV_DATA && k.w && k.y) {
        walk(s, data_pair, &k);
        put(s->x, k.sum, n);
    } else if (k.sum && s->direction == CUSIM_CONV_WEIGHTS && k.x && k.y) {
        weights(s, &k);
        put(s->w, k.sum, n);
    }
    if (s->workspace) {
        void *noise = malloc(s->workspace_bytes);
        if (noise) cusim_write(s->workspace, memset(noise, 0xa5, s->workspace_bytes), s->workspace_bytes);
        free(noise);
    }
    free((void *)k.x);
    free((void *)k.w);
    free((void *)k.y);
    free(k.sum);
    free(turned);
}
