/* coupling.cu - the coupling block of normalising flows, forward, inverse and backward: core/op_coupling.c.
 * Products by cuBLASLt, bias and ReLU in their epilogues; between them one own pass each way.
 * bytes   floor 2 R C e per block: x in, state out. Ours, besides the products' operands: forward 3 (x, r, v), inverse 4, backward
 *         5 (u, x, r; dr, dx) of R C e, and 3 R M e where the hidden layer's gradient is masked and summed; the condition
 *         is a second product into the hidden layer, so nothing is concatenated
 * floor   C 512, 256 rows: 1.6 MB, 1.6 us at 1008 GB/s, 0.5 us at 3350 GB/s; products 2 R (M(h+P) + CM + C^2) = 3.9 GFLOP:
 *         47 us at 82.6 TFLOP/s: arithmetic is the floor
 * flops   per pair of columns one tanh and one exp in float32; log-determinants and column sums in double, 3 and 9 operations
 * launch  forward and inverse: a block of 256 threads per row, a warp where rows are short; backward: 32 column pairs x 8 rows
 *         per block (sums.cuh); scales: 64 threads, one column each
 * order   sums in double by sums.cuh, no atomics; products as matmul_lt.h says
 * Where the library has no algorithm for bias + ReLU behind the product, conv_pack.cu's epilogue does both. Its DRELU epilogue
 * is not used: it wants a bit mask of the hidden layer, and backward reads the layer itself anyway. */
#include "core/memory.h"
#include "core/op_coupling.h"
#include "core/ops.h"
#include "cuda/conv_pack.h"
#include "cuda/matmul_lt.h"
#include "cuda/sums.cuh"

namespace {

constexpr int SCALE_THREADS = 64; /* few: double logarithms want many multiprocessors */
constexpr size_t ALIGN = 256;

/* adze_coupling_scale() and adze_coupling_scale_slope() */
__device__ inline double scale_of(double global_scale)
{
    const double z = 0.5 * global_scale;
    return z > 20.0 ? 0.1 * global_scale : 0.2 * log1p(exp(z));
}

__device__ inline double slope_of(double global_scale)
{
    const double z = 0.5 * global_scale;
    return z > 20.0 ? 0.1 : 0.1 / (1.0 + exp(-z));
}

__global__ void __launch_bounds__(SCALE_THREADS) scales_kernel(const float *scale, int64_t C, float *g, float *log_g)
{
    const int64_t k = (int64_t)blockIdx.x * SCALE_THREADS + threadIdx.x;
    if (k >= C) return;
    const double s = scale_of(scale[k]);
    g[k] = (float)s;
    log_g[k] = (float)log(s);
}

/* What all passes need: h columns pass, j = clamp tanh(slope r1). */
struct block_facts {
    const float *g, *log_g, *offset; /* (C) */
    int64_t C, h;
    float clamp, slope;
};

/* x, r -> v and the log-determinant. */
struct affine_body {
    block_facts f;
    const float *x, *r, *before; /* before NULL: 0 */
    float *v, *after;
    template <int G> __device__ void line(int64_t row, int lane) const
    {
        const float *x1 = x + row * f.C, *r1 = r + row * f.C;
        float *v1 = v + row * f.C;
        double logdet = 0.0;
        for (int64_t k = lane; k < f.h; k += G) {
            const int64_t m = f.h + k;
            const float j = f.clamp * tanhf(f.slope * r1[k]);
            v1[k] = x1[k] * f.g[k] + f.offset[k];
            v1[m] = (x1[m] * expf(j) + 0.1f * r1[m]) * f.g[m] + f.offset[m];
            logdet += (double)j + ((double)f.log_g[k] + f.log_g[m]);
        }
        const double sum = group_sum<G>(logdet);
        if (lane == 0) after[row] = (float)((before ? before[row] : 0.0) + sum);
    }
};

/* Inverse, first half: what the subnet reads. */
struct unscale_body {
    block_facts f;
    float *y;
    template <int V> __device__ void at(int row, int k) const
    {
        float *to = y + row * f.C + k;
        pack<V> v = load<V>(to);
        const pack<V> o = load<V>(f.offset + k), g = load<V>(f.g + k);
#pragma unroll
        for (int i = 0; i < V; i++) v.v[i] = (v.v[i] - o.v[i]) / g.v[i];
        store<V>(to, v);
    }
};

/* Inverse, second half, in place, and the log-determinant. */
struct inverse_body {
    block_facts f;
    const float *r, *before;
    float *y, *after;
    template <int G> __device__ void line(int64_t row, int lane) const
    {
        const float *r1 = r + row * f.C;
        float *y1 = y + row * f.C;
        double logdet = 0.0;
        for (int64_t k = lane; k < f.h; k += G) {
            const int64_t m = f.h + k;
            const float j = f.clamp * tanhf(f.slope * r1[k]);
            y1[m] = ((y1[m] - f.offset[m]) / f.g[m] - 0.1f * r1[m]) * expf(-j);
            logdet += (double)j + ((double)f.log_g[k] + f.log_g[m]);
        }
        const double sum = group_sum<G>(logdet);
        if (lane == 0) after[row] = (float)((before ? before[row] : 0.0) - sum);
    }
};

/* u -> dr in place, dx without the subnet's part, and what columns k and h + k of all rows add up to. */
struct affine_gradient_body {
    enum { SCALE, OFFSET = 2, BIAS = 4, LOGDET = 6, SUMS };
    block_facts f;
    const float *x, *r, *dlogdet, *scale;
    float *u, *dx, *dbefore;        /* dx NULL: not wanted; dbefore NULL: x carries no log-determinants */
    float *dscale, *doffset, *db2;  /* NULL: not wanted */
    bool add_x, add_scale, add_offset, add_b2;
    __device__ void add(int64_t k, int64_t row, double *sum) const
    {
        const int64_t i = row * f.C + k, m = i + f.h;
        const float u1 = u[i], u2 = u[m], t = 0.1f * r[m], dl = dlogdet[row];
        const float th = tanhf(f.slope * r[i]), e = expf(f.clamp * th), xe = x[m] * e;
        const float dy1 = u1 * f.g[k], dy2 = u2 * f.g[f.h + k];
        const float dr1 = (dy2 * xe + dl) * (f.clamp * f.slope) * (1.0f - th * th), dr2 = 0.1f * dy2;
        sum[SCALE] = fma((double)u1, (double)x[i], sum[SCALE]);
        sum[SCALE + 1] = fma((double)u2, (double)(xe + t), sum[SCALE + 1]);
        sum[OFFSET] += u1, sum[OFFSET + 1] += u2;
        sum[BIAS] += dr1, sum[BIAS + 1] += dr2;
        sum[LOGDET] += dl;
        u[i] = dr1, u[m] = dr2;
        if (!dx) return;
        put(dx + i, add_x, dy1);
        put(dx + m, add_x, dy2 * e);
        if (dbefore && k == 0) put(dbefore + row, add_x, dl);
    }
    __device__ void finish(int64_t k, const double *sum) const
    {
        for (int half = 0; half < 2; half++, k += f.h) {
            if (dscale) put(dscale + k, add_scale, (float)((sum[SCALE + half] + sum[LOGDET] / scale_of(scale[k])) * slope_of(scale[k])));
            if (doffset) put(doffset + k, add_offset, (float)sum[OFFSET + half]);
            if (db2) put(db2 + k, add_b2, (float)sum[BIAS + half]);
        }
    }
};

/* dh = 0 where the hidden layer is; its column sums are the gradient of b1. */
struct mask_body {
    enum { SUMS = 1 };
    const float *hidden;
    float *dh, *db1; /* db1 NULL: not wanted */
    int64_t M;
    bool add_b1;
    __device__ void add(int64_t m, int64_t row, double *sum) const
    {
        const int64_t i = row * M + m;
        const float d = hidden[i] > 0.0f ? dh[i] : 0.0f;
        dh[i] = d;
        sum[0] += d;
    }
    __device__ void finish(int64_t m, const double *sum) const
    {
        if (db1) put(db1 + m, add_b1, (float)sum[0]);
    }
};

/* ---- products ------------------------------------------------------------------------------------------------------------ */

enum { INTO_HIDDEN, COND_INTO_HIDDEN, INTO_SUBNET, ROTATION, INTO_DHIDDEN, INTO_DW2, INTO_DW1, COND_INTO_DW1, INTO_DCOND, INTO_DX, PRODUCTS };

struct coupling_state {
    matmul_lt *product[PRODUCTS]; /* owned; NULL: not needed by this call */
    bool own_epilogue;            /* bias and ReLU of the hidden layer */
    size_t workspace_bytes;
};

/* Row-major C (m,n) = op(A) op(B), as the library's C^T = op(B)^T op(A)^T. */
static matmul_problem row_major(bool ta, bool tb, int64_t m, int64_t n, int64_t k, int64_t lda, int64_t ldb, int64_t ldc)
{
    matmul_problem p = {};
    p.transpose_a = tb, p.transpose_b = ta;
    p.m = n, p.n = m, p.k = k, p.batch = 1;
    p.lda = ldb, p.ldb = lda, p.ldd = ldc;
    return p;
}

static adze_status make(adze_call *c, int which, const matmul_problem &p)
{
    coupling_state *s = static_cast<coupling_state *>(c->state);
    const adze_status st = matmul_lt_create(&s->product[which], c->ctx, &p);
    if (st != ADZE_OK) return st;
    const size_t n_bytes = (matmul_lt_workspace_bytes(s->product[which]) + ALIGN - 1) / ALIGN * ALIGN;
    if (n_bytes > s->workspace_bytes) s->workspace_bytes = n_bytes;
    return ADZE_OK;
}

/* C = A B by one of the products. */
static adze_status multiply(const adze_call *c, int which, const float *a, const float *b, const float *bias, float *to)
{
    return matmul_lt_run(static_cast<coupling_state *>(c->state)->product[which], b, a, bias, to, c->scratch);
}

static void release(adze_call *c)
{
    coupling_state *s = static_cast<coupling_state *>(c->state);
    if (!s) return;
    for (int i = 0; i < PRODUCTS; i++) matmul_lt_destroy(s->product[i]);
    adze_free(s);
    c->state = NULL;
    c->scratch_bytes = 0;
}

static int engines(const adze_call *c, adze_engine out[ADZE_ENGINES])
{
    static const char *const part[PRODUCTS] = { "hidden", "hidden of the condition", "subnet", "rotation", "gradient of hidden", "gradient of w2",
                                                "gradient of w1", "gradient of w1 of the condition", "gradient of the condition", "gradient of x" };
    const coupling_state *s = static_cast<const coupling_state *>(c->state);
    int n = 0;
    static_assert((int)PRODUCTS <= (int)ADZE_ENGINES, "each product has its place");
    for (int i = 0; i < PRODUCTS; i++) {
        if (!s->product[i]) continue;
        out[n] = matmul_lt_engine(s->product[i]);
        out[n++].part = part[i];
    }
    return n;
}

/* hidden = relu(x1 w1a^T + cond w1b^T + b1), subnet = hidden w2^T + b2 */
static adze_status make_subnet(adze_call *c, const coupling_sizes &z)
{
    adze_status st = ADZE_OK;
    coupling_state *s = static_cast<coupling_state *>(c->state);
    matmul_problem p = row_major(false, true, z.R, z.M, z.h, z.C, z.h + z.P, z.M);
    TRY(make(c, INTO_HIDDEN, p));
    p = row_major(false, true, z.R, z.M, z.P, z.P, z.h + z.P, z.M);
    p.accumulate = p.bias = p.relu = true;
    p.unaligned = z.h % 4 != 0;
    st = make(c, COND_INTO_HIDDEN, p);
    if (st == ADZE_EBACKEND) {
        s->own_epilogue = true;
        p.bias = p.relu = false;
        st = make(c, COND_INTO_HIDDEN, p);
    }
    if (st != ADZE_OK) goto done;
    p = row_major(false, true, z.R, z.C, z.M, z.M, z.M, z.C);
    p.bias = true;
    p.unaligned = z.R * z.M % 4 != 0; /* the subnet's output stands behind the hidden layer */
    TRY(make(c, INTO_SUBNET, p));
done:
    return st;
}

/* x1: the first h of C columns. */
static adze_status subnet(const adze_call *c, const coupling_sizes &z, const float *x1)
{
    adze_status st = ADZE_OK;
    const float *w1 = c->in[COUPLING_W1].data, *b1 = c->in[COUPLING_B1].data;
    float *hidden = adze_coupling_hidden(c);
    const bool own = static_cast<coupling_state *>(c->state)->own_epilogue;
    TRY(multiply(c, INTO_HIDDEN, x1, w1, NULL, hidden));
    TRY(multiply(c, COND_INTO_HIDDEN, c->in[COUPLING_COND].data, w1 + z.h, b1, hidden));
    if (own) TRY(adze_conv_epilogue(c, hidden, NULL, b1, z.R, z.M, ADZE_ACT_RELU));
    TRY(multiply(c, INTO_SUBNET, hidden, c->in[COUPLING_W2].data, c->in[COUPLING_B2].data, adze_coupling_subnet(c, &z)));
done:
    return st;
}

/* ---- calls --------------------------------------------------------------------------------------------------------------- */

static size_t rounded(size_t n_bytes) { return (n_bytes + ALIGN - 1) / ALIGN * ALIGN; }

/* Behind the workspace: scales (C) and their logarithms, v or d v (R,C), and d hidden (R,M) and column sums on the way back. */
struct scratch_pieces {
    float *g, *log_g, *v, *dh;
    void *sums;
    size_t n_bytes;
};

static scratch_pieces pieces_of(const adze_call *c, const coupling_sizes &z)
{
    scratch_pieces p = {};
    unsigned char *at = static_cast<unsigned char *>(c->scratch);
    const size_t affine_sums = column_sums_bytes(z.R, z.h, affine_gradient_body::SUMS), mask_sums = column_sums_bytes(z.R, z.M, mask_body::SUMS);
    const size_t n_bytes[] = { static_cast<coupling_state *>(c->state)->workspace_bytes, (size_t)z.C * sizeof(float), (size_t)z.C * sizeof(float),
                               (size_t)(z.R * z.C) * sizeof(float), c->backward ? (size_t)(z.R * z.M) * sizeof(float) : 0,
                               c->backward ? (affine_sums > mask_sums ? affine_sums : mask_sums) : 0 };
    size_t from[6];
    for (int i = 0; i < 6; i++) from[i] = p.n_bytes, p.n_bytes += rounded(n_bytes[i]);
    if (!at) return p;
    p.g = reinterpret_cast<float *>(at + from[1]), p.log_g = reinterpret_cast<float *>(at + from[2]);
    p.v = reinterpret_cast<float *>(at + from[3]), p.dh = reinterpret_cast<float *>(at + from[4]), p.sums = at + from[5];
    return p;
}

static bool accepts(const adze_call *c)
{
    const coupling_sizes z = adze_coupling_sizes(c);
    return z.R > 0 && z.h > 0 && z.P > 0 && z.M > 0;
}

static adze_status begin(adze_call *c)
{
    c->state = adze_calloc(1, sizeof(coupling_state));
    return c->state ? ADZE_OK : adze_fail(ADZE_ENOMEM, "coupling: host bytes");
}

static adze_status finish(adze_call *c, const coupling_sizes &z, adze_status st)
{
    if (st == ADZE_OK) c->scratch_bytes = pieces_of(c, z).n_bytes;
    else release(c);
    return st;
}

static adze_status prepare(adze_call *c)
{
    adze_status st = ADZE_OK;
    const coupling_sizes z = adze_coupling_sizes(c);
    const bool inverse = static_cast<const coupling_attrs *>(c->attrs)->inverse;
    TRY(begin(c));
    TRY(make_subnet(c, z));
    TRY(make(c, ROTATION, row_major(false, !inverse, z.R, z.C, z.C, z.C, z.C, z.C)));
done:
    return finish(c, z, st);
}

static adze_status start(const adze_call *c, const coupling_sizes &z, const scratch_pieces &s, block_facts *f)
{
    const coupling_attrs *a = static_cast<const coupling_attrs *>(c->attrs);
    *f = block_facts{ s.g, s.log_g, c->in[COUPLING_OFFSET].data, z.C, z.h, a->clamp, 0.1f * a->slope };
    return adze_cuda_check(ADZE_LAUNCH(scales_kernel, dim3((unsigned)pieces(z.C, SCALE_THREADS)), dim3(SCALE_THREADS), 0,
                                       adze_cuda_stream(c->ctx), c->in[COUPLING_SCALE].data, z.C, s.g, s.log_g),
                           "coupling");
}

template <class Body> static adze_status rows_launch(const adze_call *c, const Body &body, const coupling_sizes &z)
{
    if (z.h < LINE_THREADS / 2) return lines_launch_groups<Body, 32>(c, body, z.R);
    return lines_launch_groups<Body, LINE_THREADS>(c, body, z.R);
}

static adze_status run_inverse(const adze_call *c, const coupling_sizes &z, const block_facts &f)
{
    adze_status st = ADZE_OK;
    const float *x = c->in[COUPLING_X].data;
    float *y = c->out[0].data;
    const inverse_body body = { f, adze_coupling_subnet(c, &z), z.state ? x + z.R * z.C : NULL, y, y + z.R * z.C };
    TRY(multiply(c, ROTATION, x, c->in[COUPLING_W_PERM].data, NULL, y));
    TRY(cells_launch(c, unscale_body{ f, y }, z.R, z.h, z.h % 4 == 0));
    TRY(subnet(c, z, y));
    TRY(rows_launch(c, body, z));
done:
    return st;
}

static adze_status run(const adze_call *c)
{
    adze_status st = ADZE_OK;
    const coupling_sizes z = adze_coupling_sizes(c);
    const scratch_pieces s = pieces_of(c, z);
    const float *x = c->in[COUPLING_X].data;
    float *out = c->out[0].data;
    block_facts f;
    TRY(start(c, z, s, &f));
    if (static_cast<const coupling_attrs *>(c->attrs)->inverse) return run_inverse(c, z, f);
    TRY(subnet(c, z, x));
    TRY(rows_launch(c, affine_body{ f, x, adze_coupling_subnet(c, &z), z.state ? x + z.R * z.C : NULL, s.v, out + z.R * z.C }, z));
    TRY(multiply(c, ROTATION, s.v, c->in[COUPLING_W_PERM].data, NULL, out));
done:
    return st;
}

static adze_status prepare_backward(adze_call *c)
{
    adze_status st = ADZE_OK;
    const coupling_sizes z = adze_coupling_sizes(c);
    const adze_arg *x = &c->in[COUPLING_X], *cond = &c->in[COUPLING_COND], *w1 = &c->in[COUPLING_W1], *w2 = &c->in[COUPLING_W2];
    const int64_t i = z.h + z.P;
    matmul_problem p;
    REQUIRE(!static_cast<const coupling_attrs *>(c->attrs)->inverse, ADZE_EINVAL, "coupling: the inverse has no gradient");
    REQUIRE(!c->in[COUPLING_W_PERM].wanted, ADZE_EINVAL, "coupling: w_perm has no gradient");
    TRY(begin(c));
    TRY(make(c, ROTATION, row_major(false, false, z.R, z.C, z.C, z.C, z.C, z.C)));
    TRY(make(c, INTO_DHIDDEN, row_major(false, false, z.R, z.M, z.C, z.C, z.M, z.M)));
    if (w2->wanted) {
        p = row_major(true, false, z.C, z.M, z.R, z.C, z.M, z.M);
        p.accumulate = w2->accumulate;
        TRY(make(c, INTO_DW2, p));
    }
    if (w1->wanted) {
        p = row_major(true, false, z.M, z.h, z.R, z.M, z.C, i);
        p.accumulate = w1->accumulate;
        TRY(make(c, INTO_DW1, p));
        p = row_major(true, false, z.M, z.P, z.R, z.M, z.P, i);
        p.accumulate = w1->accumulate, p.unaligned = z.h % 4 != 0;
        TRY(make(c, COND_INTO_DW1, p));
    }
    if (cond->wanted) {
        p = row_major(false, false, z.R, z.P, z.M, z.M, i, z.P);
        p.accumulate = cond->accumulate, p.unaligned = z.h % 4 != 0;
        TRY(make(c, INTO_DCOND, p));
    }
    if (x->wanted) {
        p = row_major(false, false, z.R, z.h, z.M, z.M, i, z.C);
        p.accumulate = true; /* to what the affine part put there */
        TRY(make(c, INTO_DX, p));
    }
done:
    return finish(c, z, st);
}

static float *grad_of(const adze_arg *a) { return a->wanted ? a->grad : NULL; }

static adze_status run_backward(const adze_call *c)
{
    adze_status st = ADZE_OK;
    const coupling_sizes z = adze_coupling_sizes(c);
    const scratch_pieces s = pieces_of(c, z);
    const adze_arg *x = &c->in[COUPLING_X], *cond = &c->in[COUPLING_COND], *w1 = &c->in[COUPLING_W1], *b1 = &c->in[COUPLING_B1];
    const adze_arg *w2 = &c->in[COUPLING_W2], *b2 = &c->in[COUPLING_B2], *scale = &c->in[COUPLING_SCALE], *offset = &c->in[COUPLING_OFFSET];
    const float *dout = c->out[0].grad, *hidden = adze_coupling_hidden(c);
    block_facts f;
    TRY(start(c, z, s, &f));
    TRY(multiply(c, ROTATION, dout, c->in[COUPLING_W_PERM].data, NULL, s.v));
    TRY(column_sums_launch(c,
                           affine_gradient_body{ f, x->data, adze_coupling_subnet(c, &z), dout + z.R * z.C, scale->data, s.v, grad_of(x),
                                                 x->wanted && z.state ? x->grad + z.R * z.C : NULL, grad_of(scale), grad_of(offset),
                                                 grad_of(b2), x->accumulate, scale->accumulate, offset->accumulate, b2->accumulate },
                           z.R, z.h, s.sums));
    TRY(multiply(c, INTO_DHIDDEN, s.v, w2->data, NULL, s.dh));
    TRY(column_sums_launch(c, mask_body{ hidden, s.dh, grad_of(b1), z.M, b1->accumulate }, z.R, z.M, s.sums));
    if (w2->wanted) TRY(multiply(c, INTO_DW2, s.v, hidden, NULL, w2->grad));
    if (w1->wanted) {
        TRY(multiply(c, INTO_DW1, s.dh, x->data, NULL, w1->grad));
        TRY(multiply(c, COND_INTO_DW1, s.dh, cond->data, NULL, w1->grad + z.h));
    }
    if (cond->wanted) TRY(multiply(c, INTO_DCOND, s.dh, w1->data + z.h, NULL, cond->grad));
    if (x->wanted) TRY(multiply(c, INTO_DX, s.dh, w1->data, NULL, x->grad));
done:
    return st;
}

static constexpr adze_kernel coupling_kernel(adze_status (*prepare)(adze_call *), adze_status (*run)(const adze_call *))
{
    adze_kernel k = cuda_kernel(accepts, prepare, run);
    k.name = "cublaslt+cuda", k.release = release, k.engines = engines;
    return k;
}

} /* namespace */

const adze_kernel adze_cuda_coupling = coupling_kernel(prepare, run);
const adze_kernel adze_cuda_coupling_backward = coupling_kernel(prepare_backward, run_backward);
