/* gemm_cuda.c - linear and matmul, forward and backward, by cuBLASLt. Entry: adze_cuda_linear, adze_cuda_matmul and their
 * gradients. Row-major matrices are the transposed ones of the library: y = x W^T becomes y^T = W x^T, and so on.
 *
 *   linear   x (rows,K)  W (M,K)  b (M):  y^T (M,rows) = W x^T + b     dx^T (K,rows) = W^T dy^T     dW^T (K,M) = x^T dy
 *   matmul   y^T (n,m) = op(b)^T op(a)^T, each pair of the batch       the gradients likewise */
#include "core/memory.h"
#include "core/op_linear.h"
#include "core/op_matmul.h"
#include "cuda/conv_pack.h"
#include "cuda/kernels_cuda.h"
#include "cuda/matmul_lt.h"

enum { ALIGN = 256 };

typedef struct {
    matmul_lt *product[2]; /* owned: forward, or the gradients of the first and the second operand */
    size_t part_bytes;     /* of the bias gradient, behind the workspace */
} gemm_state;

static bool accepts(const adze_call *c)
{
    for (int i = 0; i < c->n_in; i++)
        if (c->in[i].present && adze_shape_count(&c->in[i].shape) == 0) return false;
    return adze_shape_count(&c->out[0].shape) > 0;
}

static void release(adze_call *c)
{
    gemm_state *s = c->state;
    if (!s) return;
    for (int i = 0; i < 2; i++) matmul_lt_destroy(s->product[i]);
    adze_free(s);
    c->state = NULL;
    c->scratch_bytes = 0;
}

static adze_status begin(adze_call *c)
{
    c->state = adze_calloc(1, sizeof(gemm_state));
    return c->state ? ADZE_OK : adze_fail(ADZE_ENOMEM, "%s: host bytes", c->op->name);
}

static adze_status finish(adze_call *c, adze_status st)
{
    if (st != ADZE_OK) release(c);
    return st;
}

static adze_status add_product(adze_call *c, int which, const matmul_problem *p)
{
    gemm_state *s = c->state;
    adze_status st = matmul_lt_create(&s->product[which], c->ctx, p);
    if (st != ADZE_OK) return st;
    size_t n_bytes = (matmul_lt_workspace_bytes(s->product[which]) + ALIGN - 1) / ALIGN * ALIGN;
    if (n_bytes > c->scratch_bytes) c->scratch_bytes = n_bytes;
    return ADZE_OK;
}

static int engines(const adze_call *c, adze_engine out[ADZE_ENGINES])
{
    const gemm_state *s = c->state;
    int n = 0;
    for (int i = 0; i < 2; i++) {
        if (!s->product[i]) continue;
        out[n] = matmul_lt_engine(s->product[i]);
        out[n++].part = !c->backward ? "forward" : i == 0 ? "first gradient" : "second gradient";
    }
    return n;
}

/* ---- linear ---- */

typedef struct {
    int64_t rows, M, K;
} linear_sizes;

static linear_sizes sizes_of(const adze_call *c)
{
    const adze_shape *w = &c->in[LINEAR_W].shape;
    return (linear_sizes){ adze_shape_count(&c->in[LINEAR_X].shape) / w->dim[1], w->dim[0], w->dim[1] };
}

static adze_status linear_prepare(adze_call *c)
{
    adze_status st = ADZE_OK;
    const linear_sizes z = sizes_of(c);
    TRY(begin(c));
    const matmul_problem p = { .transpose_a = true, .m = z.M, .n = z.rows, .k = z.K, .batch = 1, .lda = z.K, .ldb = z.K, .ldd = z.M,
                               .bias = c->in[LINEAR_B].present };
    TRY(add_product(c, 0, &p));
done:
    return finish(c, st);
}

static adze_status linear_run(const adze_call *c)
{
    const gemm_state *s = c->state;
    return matmul_lt_run(s->product[0], c->in[LINEAR_W].data, c->in[LINEAR_X].data, c->in[LINEAR_B].data, c->out[0].data, c->scratch);
}

static adze_status linear_backward_prepare(adze_call *c)
{
    adze_status st = ADZE_OK;
    const linear_sizes z = sizes_of(c);
    const adze_arg *x = &c->in[LINEAR_X], *w = &c->in[LINEAR_W];
    TRY(begin(c));
    if (x->wanted) {
        const matmul_problem p = { .m = z.K, .n = z.rows, .k = z.M, .batch = 1, .lda = z.K, .ldb = z.M, .ldd = z.K,
                                   .accumulate = x->accumulate };
        TRY(add_product(c, 0, &p));
    }
    if (w->wanted) {
        const matmul_problem p = { .transpose_b = true, .m = z.K, .n = z.M, .k = z.rows, .batch = 1, .lda = z.K, .ldb = z.M, .ldd = z.K,
                                   .accumulate = w->accumulate };
        TRY(add_product(c, 1, &p));
    }
    if (c->in[LINEAR_B].wanted) {
        ((gemm_state *)c->state)->part_bytes = adze_conv_bias_gradient_bytes(z.rows, z.M);
        c->scratch_bytes += ((gemm_state *)c->state)->part_bytes;
    }
done:
    return finish(c, st);
}

static adze_status linear_backward_run(const adze_call *c)
{
    adze_status st = ADZE_OK;
    const gemm_state *s = c->state;
    const linear_sizes z = sizes_of(c);
    const adze_arg *x = &c->in[LINEAR_X], *w = &c->in[LINEAR_W], *b = &c->in[LINEAR_B];
    const float *dy = c->out[0].grad;
    unsigned char *scratch = c->scratch;
    if (x->wanted) TRY(matmul_lt_run(s->product[0], w->data, dy, NULL, x->grad, scratch));
    if (w->wanted) TRY(matmul_lt_run(s->product[1], x->data, dy, NULL, w->grad, scratch));
    if (b->wanted) TRY(adze_conv_bias_gradient(c, dy, z.rows, z.M, b->accumulate, b->grad, scratch + c->scratch_bytes - s->part_bytes));
done:
    return st;
}

const adze_kernel adze_cuda_linear = {
    .name = "cublaslt", .accepts = accepts, .prepare = linear_prepare, .run = linear_run, .release = release, .engines = engines,
};
const adze_kernel adze_cuda_linear_backward = {
    .name = "cublaslt", .accepts = accepts, .prepare = linear_backward_prepare, .run = linear_backward_run, .release = release, .engines = engines,
};

/* ---- matmul ---- */

/* A row-major matrix (rows,columns), stored transposed or not, as a factor; `stride` 0: the same for the whole batch. */
typedef struct {
    int64_t rows, columns, stride;
    bool transposed;
} factor;

/* C = L R row-major, as the library's C^T = R^T L^T. */
static matmul_problem row_major(const factor *l, const factor *r, int64_t batch, int64_t stride_d)
{
    return (matmul_problem){
        .transpose_a = r->transposed, .transpose_b = l->transposed, .m = r->columns, .n = l->rows, .k = l->columns, .batch = batch,
        .lda = r->transposed ? r->rows : r->columns, .ldb = l->transposed ? l->rows : l->columns, .ldd = r->columns,
        .stride_a = r->stride, .stride_b = l->stride, .stride_d = stride_d,
    };
}

static factor turned(factor f) { return (factor){ f.columns, f.rows, f.stride, !f.transposed }; }

/* Operands of a call: a (m,k), b (k,n), y (m,n). */
typedef struct {
    factor a, b, y;
    int64_t batch;
} matmul_factors;

static matmul_factors factors_of(const adze_call *c)
{
    const matmul_sizes z = adze_matmul_sizes(c);
    const matmul_attrs *t = c->attrs;
    return (matmul_factors){ { z.m, z.k, z.m * z.k, t->transpose_a }, { z.k, z.n, z.b_shared ? 0 : z.k * z.n, t->transpose_b },
                             { z.m, z.n, z.m * z.n, false }, z.batch };
}

static adze_status matmul_prepare(adze_call *c)
{
    adze_status st = ADZE_OK;
    const matmul_factors f = factors_of(c);
    TRY(begin(c));
    const matmul_problem p = row_major(&f.a, &f.b, f.batch, f.y.stride);
    TRY(add_product(c, 0, &p));
done:
    return finish(c, st);
}

static adze_status matmul_run(const adze_call *c)
{
    const gemm_state *s = c->state;
    return matmul_lt_run(s->product[0], c->in[1].data, c->in[0].data, NULL, c->out[0].data, c->scratch);
}

/* A shared b of which the gradient is wanted needs its batch as one long matrix: a stored as (batch m, k). */
static bool matmul_backward_accepts(const adze_call *c)
{
    const matmul_sizes z = adze_matmul_sizes(c);
    return accepts(c) && !(z.b_shared && z.batch > 1 && c->in[1].wanted && ((const matmul_attrs *)c->attrs)->transpose_a);
}

static adze_status matmul_backward_prepare(adze_call *c)
{
    adze_status st = ADZE_OK;
    matmul_factors f = factors_of(c);
    const matmul_attrs *t = c->attrs;
    TRY(begin(c));
    if (c->in[0].wanted) { /* da = dy b^T, or its transposed where a is stored so */
        const factor bt = turned(f.b), yt = turned(f.y);
        matmul_problem p = t->transpose_a ? row_major(&f.b, &yt, f.batch, f.a.stride) : row_major(&f.y, &bt, f.batch, f.a.stride);
        p.accumulate = c->in[0].accumulate;
        TRY(add_product(c, 0, &p));
    }
    if (c->in[1].wanted) { /* db = a^T dy, or its transposed */
        if (f.b.stride == 0) f.a.rows *= f.batch, f.y.rows *= f.batch, f.batch = 1;
        const factor at = turned(f.a), yt = turned(f.y);
        matmul_problem p = t->transpose_b ? row_major(&yt, &f.a, f.batch, f.b.stride) : row_major(&at, &f.y, f.batch, f.b.stride);
        p.accumulate = c->in[1].accumulate;
        TRY(add_product(c, 1, &p));
    }
done:
    return finish(c, st);
}

static adze_status matmul_backward_run(const adze_call *c)
{
    adze_status st = ADZE_OK;
    const gemm_state *s = c->state;
    const matmul_attrs *t = c->attrs;
    const float *a = c->in[0].data, *b = c->in[1].data, *dy = c->out[0].grad;
    /* The library's first matrix is the right factor. */
    if (c->in[0].wanted) TRY(matmul_lt_run(s->product[0], t->transpose_a ? dy : b, t->transpose_a ? b : dy, NULL, c->in[0].grad, c->scratch));
    if (c->in[1].wanted) TRY(matmul_lt_run(s->product[1], t->transpose_b ? a : dy, t->transpose_b ? dy : a, NULL, c->in[1].grad, c->scratch));
done:
    return st;
}

const adze_kernel adze_cuda_matmul = {
    .name = "cublaslt", .accepts = accepts, .prepare = matmul_prepare, .run = matmul_run, .release = release, .engines = engines,
};
const adze_kernel adze_cuda_matmul_backward = {
    .name = "cublaslt", .accepts = matmul_backward_accepts, .prepare = matmul_backward_prepare, .run = matmul_backward_run, .release = release, .engines = engines,
};
