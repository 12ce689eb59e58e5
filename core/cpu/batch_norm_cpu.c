/* batch_norm_cpu.c - batch normalisation in train mode on the CPU, forward and backward, rows of C channels.
 * bytes   forward: read x twice, [r,] write y;  backward: read x, dy [, y] twice, write dx [, dr]
 * flops   forward ~8, backward ~12 per element
 * order   sums in double over PARTS blocks of rows, then over the blocks in order: the same bits for any number of threads
 * Loops run over channels, so that every lane is a channel and all instruction sets give the same bits. */
#include <omp.h>
#include <stdbool.h>

#include "core/cpu/kernels_cpu.h"
#include "core/op_batch_norm_train.h"

#define CLONES __attribute__((noinline, target_clones("avx512f", "avx2", "default")))

enum {
    BLOCK = 512, /* channels per pass: sums stay in the first-level cache, rows come in pieces worth fetching ahead */
    PARTS = 32   /* blocks of rows whose sums are added up: as many threads can help */
};

typedef struct {
    int64_t rows, C;
    double *partial; /* (PARTS, 2, C) */
    int threads;
} layout;

static layout layout_of(const adze_call *c)
{
    int64_t C = c->out[1].shape.dim[1];
    return (layout){ adze_shape_count(&c->in[BN_TRAIN_X].shape) / C, C, c->scratch, omp_get_max_threads() };
}

static bool accepts(const adze_call *c)
{
    (void)c;
    return true;
}

static adze_status prepare(adze_call *c)
{
    layout l = layout_of(c);
    c->scratch_bytes = PARTS * 2 * (size_t)l.C * sizeof(double) + 4 * (size_t)l.C * sizeof(float);
    return ADZE_OK;
}

/* Of piece i of n. */
static int64_t first_row(const layout *l, int i, int n) { return l->rows * i / n; }

CLONES static void sums_of(const float *x, int64_t rows, int64_t C, int64_t width, double *sum, double *sum2)
{
    double s[BLOCK] = { 0.0 }, q[BLOCK] = { 0.0 };
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < width; k++) {
            double v = x[r * C + k];
            s[k] += v;
            q[k] += v * v;
        }
    for (int64_t k = 0; k < width; k++) sum[k] = s[k], sum2[k] = q[k];
}

/* y = [relu](x * scale + shift [+ residual]); slope of the ReLU below 0, 1 without one */
CLONES static void apply_rows(const float *x, const float *residual, const float *scale, const float *shift, float slope, int64_t rows,
                              int64_t C, float *y)
{
    for (int64_t r = 0; r < rows; r++, x += C, y += C) {
        if (residual) {
            for (int64_t k = 0; k < C; k++) y[k] = x[k] * scale[k] + shift[k] + residual[k];
            residual += C;
        } else
            for (int64_t k = 0; k < C; k++) y[k] = x[k] * scale[k] + shift[k];
        if (slope == 0.0f)
            for (int64_t k = 0; k < C; k++) y[k] = y[k] > 0.0f ? y[k] : 0.0f;
        else if (slope != 1.0f)
            for (int64_t k = 0; k < C; k++) y[k] = (y[k] > 0.0f ? y[k] : 0.0f) + slope * (y[k] < 0.0f ? y[k] : 0.0f);
    }
}

/* The two sums of a channel, part by part. */
static void reduce(const layout *l, int64_t k, double *a, double *b)
{
    *a = *b = 0.0;
    for (int t = 0; t < PARTS; t++) {
        *a += l->partial[2 * t * l->C + k];
        *b += l->partial[(2 * t + 1) * l->C + k];
    }
}

static adze_status forward(const adze_call *c)
{
    const batch_norm_train_attrs *a = c->attrs;
    layout l = layout_of(c);
    const float *x = c->in[BN_TRAIN_X].data, *residual = c->in[BN_TRAIN_RESIDUAL].data;
    float *scale = (float *)(l.partial + 2 * PARTS * l.C), *shift = scale + l.C;
#pragma omp parallel for num_threads(l.threads) schedule(static)
    for (int t = 0; t < PARTS; t++) {
        int64_t from = first_row(&l, t, PARTS), rows = first_row(&l, t + 1, PARTS) - from;
        for (int64_t k = 0; k < l.C; k += BLOCK)
            sums_of(x + from * l.C + k, rows, l.C, l.C - k < BLOCK ? l.C - k : BLOCK, l.partial + 2 * t * l.C + k,
                    l.partial + (2 * t + 1) * l.C + k);
    }
    for (int64_t k = 0; k < l.C; k++) {
        double sum, sum2;
        reduce(&l, k, &sum, &sum2);
        adze_batch_norm_statistics(c, k, sum, sum2, l.rows);
        double rstd = c->out[1].data[l.C + k], gamma = c->in[BN_TRAIN_GAMMA].data[k];
        scale[k] = (float)(rstd * gamma);
        shift[k] = (float)(c->in[BN_TRAIN_BETA].data[k] - sum / (double)l.rows * rstd * gamma);
    }
#pragma omp parallel num_threads(l.threads)
    {
        int t = omp_get_thread_num();
        int64_t from = first_row(&l, t, l.threads), rows = first_row(&l, t + 1, l.threads) - from;
        apply_rows(x + from * l.C, residual ? residual + from * l.C : NULL, scale, shift, a->o.relu ? a->o.slope : 1.0f, rows, l.C,
                   c->out[0].data + from * l.C);
    }
    return ADZE_OK;
}

const adze_kernel adze_cpu_batch_norm_train = { .name = "cpu", .accepts = accepts, .prepare = prepare, .run = forward };

/* dz = dy where y > 0, else slope dy; sums of dz and dz * h over the rows. y NULL: no ReLU. */
CLONES static void gradient_sums(const float *x, const float *dy, const float *y, float slope, const float *mean, const float *rstd,
                                 int64_t rows, int64_t C, int64_t width, double *sum, double *product)
{
    double s[BLOCK] = { 0.0 }, p[BLOCK] = { 0.0 };
    for (int64_t r = 0; r < rows; r++, x += C, dy += C)
        for (int64_t k = 0; k < width; k++) {
            float factor = y && !(y[r * C + k] > 0.0f) ? slope : 1.0f, dz = factor * dy[k]; /* no branch */
            s[k] += dz;
            p[k] += (double)dz * ((x[k] - mean[k]) * rstd[k]);
        }
    for (int64_t k = 0; k < width; k++) sum[k] = s[k], product[k] = p[k];
}

typedef struct {
    const float *x, *dy, *y, *mean, *rstd, *a, *b, *d; /* dx = a dz + b h + d */
    float *dx, *dr, slope;
    bool add_x, add_r;
} gradient_args;

/* to = or += from */
static inline __attribute__((always_inline)) void put(float *to, const float *from, int64_t n, bool add)
{
    if (add)
#pragma omp simd
        for (int64_t k = 0; k < n; k++) to[k] += from[k];
    else
        for (int64_t k = 0; k < n; k++) to[k] = from[k];
}

/* A row in pieces that stay in the first-level cache: plain loops, which use SIMD. dr may lie where dy is: that was read before. */
CLONES static void gradient_rows(const gradient_args *g, int64_t from, int64_t rows, int64_t C)
{
    float dz[BLOCK], dx[BLOCK];
    for (int64_t i = from * C, end = (from + rows) * C; i < end; i += C)
        for (int64_t k0 = 0; k0 < C; k0 += BLOCK) {
            const int64_t n = C - k0 < BLOCK ? C - k0 : BLOCK, at = i + k0;
            const float *x = g->x + at, *dy = g->dy + at, *y = g->y ? g->y + at : NULL, *mean = g->mean + k0, *rstd = g->rstd + k0;
            const float *a = g->a + k0, *b = g->b + k0, *d = g->d + k0, slope = g->slope;
            for (int64_t k = 0; k < n; k++) dz[k] = dy[k];
            if (y)
                for (int64_t k = 0; k < n; k++) dz[k] *= y[k] > 0.0f ? 1.0f : slope;
            if (g->dr) put(g->dr + at, dz, n, g->add_r);
            if (!g->dx) continue;
            for (int64_t k = 0; k < n; k++) dx[k] = a[k] * dz[k] + b[k] * ((x[k] - mean[k]) * rstd[k]) + d[k];
            put(g->dx + at, dx, n, g->add_x);
        }
}

static adze_status backward(const adze_call *c)
{
    const batch_norm_train_attrs *attrs = c->attrs;
    layout l = layout_of(c);
    const adze_arg *x = &c->in[BN_TRAIN_X], *r = &c->in[BN_TRAIN_RESIDUAL];
    const float *mean = c->out[1].data, *rstd = mean + l.C, *y = attrs->o.relu ? c->out[0].data : NULL;
    float *a = (float *)(l.partial + 2 * PARTS * l.C), *b = a + l.C, *d = b + l.C;
#pragma omp parallel for num_threads(l.threads) schedule(static)
    for (int t = 0; t < PARTS; t++) {
        int64_t from = first_row(&l, t, PARTS), rows = first_row(&l, t + 1, PARTS) - from;
        for (int64_t k = 0; k < l.C; k += BLOCK) {
            int64_t at = from * l.C + k, width = l.C - k < BLOCK ? l.C - k : BLOCK;
            gradient_sums(x->data + at, c->out[0].grad + at, y ? y + at : NULL, attrs->o.slope, mean + k, rstd + k, rows, l.C, width,
                          l.partial + 2 * t * l.C + k, l.partial + (2 * t + 1) * l.C + k);
        }
    }
    for (int64_t k = 0; k < l.C; k++) {
        double sum, product;
        reduce(&l, k, &sum, &product);
        double factor = (double)c->in[BN_TRAIN_GAMMA].data[k] * rstd[k];
        a[k] = (float)factor;
        b[k] = (float)(-factor * product / (double)l.rows);
        d[k] = (float)(-factor * sum / (double)l.rows);
        if (c->in[BN_TRAIN_GAMMA].wanted) adze_grad_put(&c->in[BN_TRAIN_GAMMA], k, product);
        if (c->in[BN_TRAIN_BETA].wanted) adze_grad_put(&c->in[BN_TRAIN_BETA], k, sum);
    }
    gradient_args g = { x->data, c->out[0].grad, y, mean, rstd, a, b, d, x->wanted ? x->grad : NULL, r->wanted ? r->grad : NULL,
                        attrs->o.slope, x->accumulate, r->accumulate };
#pragma omp parallel num_threads(l.threads)
    {
        int t = omp_get_thread_num();
        int64_t from = first_row(&l, t, l.threads);
        gradient_rows(&g, from, first_row(&l, t + 1, l.threads) - from, l.C);
    }
    return ADZE_OK;
}

const adze_kernel adze_cpu_batch_norm_train_backward = { .name = "cpu", .accepts = accepts, .prepare = prepare, .run = backward };
