/* gemm_cpu.c - matrix products on OpenBLAS: matmul in both directions, the gradients of linear.
 * Sums that end in one number (bias gradients) run in double over blocks of columns. */
#include <cblas.h>
#include <limits.h>
#include <omp.h>

#include "core/cpu/kernels_cpu.h"
#include "core/op_linear.h"
#include "core/op_matmul.h"

static CBLAS_TRANSPOSE flag(bool transpose) { return transpose ? CblasTrans : CblasNoTrans; }

/* y (m,n) = a b, or += ; a is stored (k,m) and b (n,k) where the flags say so. */
static void product(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const float *a, const float *b, bool add, float *y)
{
    cblas_sgemm(CblasRowMajor, flag(ta), flag(tb), (blasint)m, (blasint)n, (blasint)k, 1.0f, a, (blasint)(ta ? m : k), b,
                (blasint)(tb ? k : n), add ? 1.0f : 0.0f, y, (blasint)n);
}

static bool fits(const adze_call *c)
{
    for (int i = 0; i < c->n_in; i++)
        if (c->in[i].present && adze_shape_count(&c->in[i].shape) > INT_MAX) return false;
    return adze_shape_count(&c->out[0].shape) <= INT_MAX;
}

static adze_status matmul_run(const adze_call *c)
{
    const matmul_attrs *t = c->attrs;
    matmul_sizes s = adze_matmul_sizes(c);
    if (s.b_shared && !t->transpose_a) s.m *= s.batch, s.batch = 1;
    for (int64_t p = 0; p < s.batch; p++)
        product(t->transpose_a, t->transpose_b, s.m, s.n, s.k, c->in[0].data + p * s.m * s.k,
                c->in[1].data + (s.b_shared ? 0 : p * s.k * s.n), false, c->out[0].data + p * s.m * s.n);
    return ADZE_OK;
}

static adze_status matmul_backward(const adze_call *c)
{
    const matmul_attrs *t = c->attrs;
    matmul_sizes s = adze_matmul_sizes(c);
    if (s.b_shared && !t->transpose_a) s.m *= s.batch, s.batch = 1;
    for (int i = 0; i < 2; i++)
        for (int64_t p = 0; p < s.batch && c->in[i].wanted; p++) {
            const float *a = c->in[0].data + p * s.m * s.k, *dy = c->out[0].grad + p * s.m * s.n;
            int64_t at_b = s.b_shared ? 0 : p * s.k * s.n;
            bool add = c->in[i].accumulate || (i == 1 && s.b_shared && p > 0);
            if (i == 0) {
                float *da = c->in[0].grad + p * s.m * s.k;
                if (t->transpose_a) product(t->transpose_b, true, s.k, s.m, s.n, c->in[1].data + at_b, dy, add, da);
                else product(false, !t->transpose_b, s.m, s.k, s.n, dy, c->in[1].data + at_b, add, da);
            } else if (t->transpose_b) {
                product(true, t->transpose_a, s.n, s.k, s.m, dy, a, add, c->in[1].grad + at_b);
            } else {
                product(!t->transpose_a, false, s.k, s.n, s.m, a, dy, add, c->in[1].grad + at_b);
            }
        }
    return ADZE_OK;
}

enum { COLUMNS = ADZE_CPU_COLUMNS };

int64_t adze_cpu_column_piece(int64_t M)
{
    int64_t threads = omp_get_max_threads(), share = (M / threads + 15) / 16 * 16;
    return share < 16 ? 16 : share < COLUMNS ? share : COLUMNS;
}

__attribute__((noinline, target_clones("avx512f", "avx2", "default"))) static void sum_piece(const float *x, int64_t rows, int64_t M, int64_t n,
                                                                                             double *restrict sum)
{
    for (int64_t m = 0; m < n; m++) sum[m] = 0.0;
    for (int64_t r = 0; r < rows; r++, x += M)
        for (int64_t m = 0; m < n; m++) sum[m] += x[m];
}

/* Row after row, so that neither the pieces nor the threads show in the sums. */
void adze_cpu_sum_columns(const adze_arg *dy, const adze_arg *bias)
{
    int64_t M = adze_shape_count(&bias->shape), rows = adze_shape_count(&dy->shape) / M, piece = adze_cpu_column_piece(M);
#pragma omp parallel for schedule(static)
    for (int64_t m0 = 0; m0 < M; m0 += piece) {
        int64_t n = M - m0 < piece ? M - m0 : piece;
        double sum[COLUMNS];
        sum_piece(dy->grad + m0, rows, M, n, sum);
        for (int64_t m = 0; m < n; m++) adze_grad_put(bias, m0 + m, sum[m]);
    }
}

static adze_status linear_backward(const adze_call *c)
{
    const adze_arg *x = &c->in[LINEAR_X], *w = &c->in[LINEAR_W];
    int64_t M = w->shape.dim[0], K = w->shape.dim[1], rows = adze_shape_count(&x->shape) / K;
    const float *dy = c->out[0].grad;
    if (x->wanted) product(false, false, rows, K, M, dy, w->data, x->accumulate, x->grad);
    if (w->wanted) product(true, false, M, K, rows, dy, x->data, w->accumulate, w->grad);
    if (c->in[LINEAR_B].wanted) adze_cpu_sum_columns(&c->out[0], &c->in[LINEAR_B]);
    return ADZE_OK;
}

const adze_kernel adze_cpu_matmul = { .name = "openblas", .accepts = fits, .run = matmul_run };
const adze_kernel adze_cpu_matmul_backward = { .name = "openblas", .accepts = fits, .run = matmul_backward };
const adze_kernel adze_cpu_linear_backward = { .name = "openblas", .accepts = fits, .run = linear_backward };
