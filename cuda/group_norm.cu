/* group_norm.cu - groups of an image's channels to mean 0 and variance 1, forward and backward: core/op_group_norm.c.
 * bytes   forward reads x twice, writes y: 12 per element; backward reads x, dy twice, writes dx: 20
 * floor   (16,64,64,256): forward 201 MB, 200 us at 1008 GB/s, 60 us at 3350 GB/s; backward 336 MB, 333 us
 * launch  sums: 32 channels of an image x 8 positions per block, then a warp (a block from 2048 channels on) per group;
 *         rows: 256 threads of 4 channels
 * order   sums in double by sums.cuh: positions, then channels of a group, or images of a channel; y may lie where x does
 * tried   a group of threads per group of channels, as in layer_norm.cu: reads one float of every sector where groups are single
 *         channels (not measured: 8 times the bytes of instance_norm) */
#include "core/op_group_norm.h"
#include "cuda/sums.cuh"

namespace {

/* Columns are the channels of all images: column n C + ch, rows are positions. */
struct position_sums {
    enum { SUMS = 2 };
    int64_t P, C;
    double *sums; /* (N C, 2) */
    __device__ int64_t at(int64_t column, int64_t row) const { return (column / C * P + row) * C + column % C; }
    __device__ void finish(int64_t column, const double *sum) const { sums[2 * column] = sum[0], sums[2 * column + 1] = sum[1]; }
};

struct statistics_body : position_sums {
    const float *x;
    __device__ void add(int64_t column, int64_t row, double *sum) const
    {
        const double v = x[at(column, row)];
        sum[0] += v;
        sum[1] = fma(v, v, sum[1]);
    }
};

/* A line is a group: the channels' sums -> mean, rstd. */
struct group_statistics_body {
    const double *sums;
    float *saved;
    int64_t Cg;
    double D, eps;
    template <int G> __device__ void line(int64_t group, int lane) const
    {
        double sum = 0.0, square = 0.0;
        for (int64_t ch = group * Cg + lane; ch < (group + 1) * Cg; ch += G) sum += sums[2 * ch], square += sums[2 * ch + 1];
        const double mean = group_sum<G>(sum) / D, var = fmax(group_sum<G>(square) / D - mean * mean, 0.0);
        if (lane > 0) return;
        saved[2 * group] = (float)mean;
        saved[2 * group + 1] = (float)(1.0 / sqrt(var + eps));
    }
};

/* What elements need to know of their group. */
struct group_place {
    const float *saved, *gamma, *beta; /* factors: NULL for none */
    int64_t P, C, G, Cg;
    __device__ int64_t group(int row, int k) const { return row / P * G + k / Cg; }
    __device__ float factor(int k) const { return gamma ? gamma[k] : 1.0f; }
};

struct rows_body : group_place {
    const float *x;
    float *y;
    template <int V> __device__ void at(int row, int k) const
    {
        const int64_t i = row * C + k;
        pack<V> v = load<V>(x + i);
#pragma unroll
        for (int j = 0; j < V; j++) {
            const float *s = saved + 2 * group(row, k + j);
            v.v[j] = (v.v[j] - s[0]) * s[1] * factor(k + j) + (beta ? beta[k + j] : 0.0f);
        }
        store<V>(y + i, v);
    }
};

/* The sums of dy and dy u. */
struct gradient_sums_body : position_sums {
    group_place g;
    const float *x, *dy;
    __device__ void add(int64_t column, int64_t row, double *sum) const
    {
        const int64_t i = at(column, row);
        const float *s = g.saved + 2 * (column / C * g.G + column % C / g.Cg);
        sum[0] += (double)dy[i];
        sum[1] = fma((double)dy[i], (double)((x[i] - s[0]) * s[1]), sum[1]);
    }
};

/* A line is a group: the means of dy gamma and dy gamma u. */
struct group_means_body {
    group_place g;
    const double *sums;
    float *means; /* (N G, 2) */
    double D;
    template <int G> __device__ void line(int64_t group, int lane) const
    {
        double sum = 0.0, product = 0.0;
        for (int64_t k = lane; k < g.Cg; k += G) {
            const int64_t ch = group * g.Cg + k;
            const double f = g.factor((int)(ch % g.C));
            sum = fma(f, sums[2 * ch], sum), product = fma(f, sums[2 * ch + 1], product);
        }
        sum = group_sum<G>(sum), product = group_sum<G>(product);
        if (lane == 0) means[2 * group] = (float)(sum / D), means[2 * group + 1] = (float)(product / D);
    }
};

struct factors_body {
    const double *sums;
    float *dgamma, *dbeta; /* NULL: not wanted */
    int64_t N, C;
    bool add_gamma, add_beta;
    template <int V> __device__ void at(int64_t first) const
    {
        for (int64_t ch = first; ch < first + V; ch++) {
            double sum = 0.0, product = 0.0;
            for (int64_t n = 0; n < N; n++) sum += sums[2 * (n * C + ch)], product += sums[2 * (n * C + ch) + 1];
            if (dgamma) put(dgamma + ch, add_gamma, (float)product);
            if (dbeta) put(dbeta + ch, add_beta, (float)sum);
        }
    }
};

struct gradient_rows_body : group_place {
    const float *x, *dy, *means;
    float *dx;
    bool add;
    template <int V> __device__ void at(int row, int k) const
    {
        const int64_t i = row * C + k;
        const pack<V> v = load<V>(x + i);
        pack<V> d = load<V>(dy + i);
#pragma unroll
        for (int j = 0; j < V; j++) {
            const int64_t of = group(row, k + j);
            const float *s = saved + 2 * of, *m = means + 2 * of, u = (v.v[j] - s[0]) * s[1];
            d.v[j] = s[1] * (d.v[j] * factor(k + j) - m[0] - u * m[1]);
        }
        put<V>(dx + i, add, d);
    }
};

static size_t rounded(size_t n_bytes) { return (n_bytes + 15) / 16 * 16; }

/* Scratch: sums of each image's channels (N C, 2), parts of them, means of groups. */
static adze_status prepare(adze_call *c)
{
    const group_norm_sizes s = adze_group_norm_sizes(c);
    c->scratch_bytes = rounded((size_t)(2 * s.N * s.C) * sizeof(double)) + rounded(column_sums_bytes(s.P, s.N * s.C, position_sums::SUMS)) +
                       (c->backward ? (size_t)(2 * s.N * s.G) * sizeof(float) : 0);
    return ADZE_OK;
}

static group_place place_of(const adze_call *c, const group_norm_sizes &s)
{
    return group_place{ c->out[1].data, c->in[GROUP_NORM_GAMMA].data, c->in[GROUP_NORM_BETA].data, s.P, s.C, s.G, s.Cg };
}

static bool accepts(const adze_call *c) { return adze_shape_count(&c->in[GROUP_NORM_X].shape) > 0; }

static adze_status run(const adze_call *c)
{
    adze_status st = ADZE_OK;
    const group_norm_sizes s = adze_group_norm_sizes(c);
    double *sums = static_cast<double *>(c->scratch);
    char *part = static_cast<char *>(c->scratch) + rounded((size_t)(2 * s.N * s.C) * sizeof(double));
    const float *x = c->in[GROUP_NORM_X].data;
    const double D = (double)(s.P * s.Cg), eps = static_cast<const group_norm_attrs *>(c->attrs)->eps;
    TRY(column_sums_launch(c, statistics_body{ { s.P, s.C, sums }, x }, s.P, s.N * s.C, part));
    TRY(lines_launch(c, group_statistics_body{ sums, c->out[1].data, s.Cg, D, eps }, s.N * s.G, s.Cg, 1));
    TRY(cells_launch(c, rows_body{ place_of(c, s), x, c->out[0].data }, s.N * s.P, s.C, s.C % 4 == 0));
done:
    return st;
}

static adze_status run_backward(const adze_call *c)
{
    adze_status st = ADZE_OK;
    const group_norm_sizes s = adze_group_norm_sizes(c);
    const adze_arg *x = &c->in[GROUP_NORM_X], *gamma = &c->in[GROUP_NORM_GAMMA], *beta = &c->in[GROUP_NORM_BETA];
    const group_place place = place_of(c, s);
    double *sums = static_cast<double *>(c->scratch);
    char *part = static_cast<char *>(c->scratch) + rounded((size_t)(2 * s.N * s.C) * sizeof(double));
    float *means = reinterpret_cast<float *>(part + rounded(column_sums_bytes(s.P, s.N * s.C, position_sums::SUMS)));
    const float *dy = c->out[0].grad;
    TRY(column_sums_launch(c, gradient_sums_body{ { s.P, s.C, sums }, place, x->data, dy }, s.P, s.N * s.C, part));
    if (gamma->wanted || beta->wanted)
        TRY(flat_launch(c,
                        factors_body{ sums, gamma->wanted ? gamma->grad : NULL, beta->wanted ? beta->grad : NULL, s.N, s.C,
                                      gamma->accumulate, beta->accumulate },
                        s.C));
    if (!x->wanted) goto done;
    TRY(lines_launch(c, group_means_body{ place, sums, means, (double)(s.P * s.Cg) }, s.N * s.G, s.Cg, 1));
    TRY(cells_launch(c, gradient_rows_body{ place, x->data, dy, means, x->grad, x->accumulate }, s.N * s.P, s.C, s.C % 4 == 0));
done:
    return st;
}

} /* namespace */

const adze_kernel adze_cuda_group_norm = cuda_kernel(accepts, prepare, run);
const adze_kernel adze_cuda_group_norm_backward = cuda_kernel(accepts, prepare, run_backward);
