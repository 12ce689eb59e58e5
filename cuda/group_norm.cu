/* group_norm.cu - groups of an image's channels to mean 0 and variance 1, forward and backward: core/op_group_norm.c.
 * bytes   forward reads x twice, writes y: 12 per element; backward reads x, dy twice, writes dx: 20
 * floor   (16,64,64,256): forward 201 MB, 200 us at 1008 GB/s, 60 us at 3350 GB/s; backward 336 MB, 333 us
 * launch  sums: 32 channels of an image x 8 positions per block, then a warp (a block from 2048 channels on) per group, which gives each
 *         channel what rows read of its group; rows: 256 threads of 4 channels
 * order   sums in double by sums.cuh: positions, then channels of a group, or images of a channel; y may lie where x does
 * tried   a group of threads per group of channels, as in layer_norm.cu: reads one float of every sector where groups are single
 *         channels (not measured: 8 times the bytes of instance_norm); rows that look up their group: 5.67 times the fewest sectors */
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

/* What elements read, per channel of each image, a row of N C floats for each: four channels are one load, whatever their groups. */
enum { MEAN, RSTD, FORWARD_ROWS, DY_MEAN = FORWARD_ROWS, PRODUCT_MEAN, BACKWARD_ROWS };

/* A line is a group: the channels' sums -> mean, rstd. */
struct group_statistics_body {
    const double *sums;
    float *saved, *channel;
    int64_t Cg, NC;
    double D, eps;
    template <int G> __device__ void line(int64_t group, int lane) const
    {
        double sum = 0.0, square = 0.0;
        for (int64_t ch = group * Cg + lane; ch < (group + 1) * Cg; ch += G) sum += sums[2 * ch], square += sums[2 * ch + 1];
        const double mean = group_sum<G>(sum) / D, var = fmax(group_sum<G>(square) / D - mean * mean, 0.0);
        const float m = (float)mean, r = (float)(1.0 / sqrt(var + eps));
        if (lane == 0) saved[2 * group] = m, saved[2 * group + 1] = r;
        for (int64_t ch = group * Cg + lane; ch < (group + 1) * Cg; ch += G) channel[MEAN * NC + ch] = m, channel[RSTD * NC + ch] = r;
    }
};

template <int V> __device__ pack<V> all(float value)
{
    pack<V> v;
#pragma unroll
    for (int j = 0; j < V; j++) v.v[j] = value;
    return v;
}

/* The channels' rows and factors, as elements read them. */
struct row_place {
    const float *channel, *gamma, *beta; /* factors: NULL for none */
    int64_t P, C, NC;
    template <int V> __device__ pack<V> of(int what, int row, int k) const { return load<V>(channel + what * NC + row / P * C + k); }
    template <int V> __device__ pack<V> factor(int k) const { return gamma ? load<V>(gamma + k) : all<V>(1.0f); }
};

struct rows_body : row_place {
    const float *x;
    float *y;
    template <int V> __device__ void at(int row, int k) const
    {
        const int64_t i = row * C + k;
        const pack<V> mean = of<V>(MEAN, row, k), rstd = of<V>(RSTD, row, k), f = factor<V>(k), b = beta ? load<V>(beta + k) : all<V>(0.0f);
        pack<V> v = load<V>(x + i);
#pragma unroll
        for (int j = 0; j < V; j++) v.v[j] = (v.v[j] - mean.v[j]) * rstd.v[j] * f.v[j] + b.v[j];
        store<V>(y + i, v);
    }
};

/* The sums of dy and dy u. */
struct gradient_sums_body : position_sums {
    const float *saved, *x, *dy;
    int64_t G, Cg;
    __device__ void add(int64_t column, int64_t row, double *sum) const
    {
        const int64_t i = at(column, row);
        const float *s = saved + 2 * (column / C * G + column % C / Cg);
        sum[0] += (double)dy[i];
        sum[1] = fma((double)dy[i], (double)((x[i] - s[0]) * s[1]), sum[1]);
    }
};

/* A line is a group: the means of dy gamma and dy gamma u. */
struct group_means_body {
    const double *sums;
    const float *saved, *gamma;
    float *channel;
    int64_t C, Cg, NC;
    double D;
    template <int G> __device__ void line(int64_t group, int lane) const
    {
        double sum = 0.0, product = 0.0;
        for (int64_t ch = group * Cg + lane; ch < (group + 1) * Cg; ch += G) {
            const double f = gamma ? gamma[ch % C] : 1.0f;
            sum = fma(f, sums[2 * ch], sum), product = fma(f, sums[2 * ch + 1], product);
        }
        sum = group_sum<G>(sum), product = group_sum<G>(product);
        const float row[BACKWARD_ROWS] = { saved[2 * group], saved[2 * group + 1], (float)(sum / D), (float)(product / D) };
        for (int64_t ch = group * Cg + lane; ch < (group + 1) * Cg; ch += G)
#pragma unroll
            for (int i = 0; i < BACKWARD_ROWS; i++) channel[i * NC + ch] = row[i];
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

struct gradient_rows_body : row_place {
    const float *x, *dy;
    float *dx;
    bool add;
    template <int V> __device__ void at(int row, int k) const
    {
        const int64_t i = row * C + k;
        const pack<V> mean = of<V>(MEAN, row, k), rstd = of<V>(RSTD, row, k), dm = of<V>(DY_MEAN, row, k), pm = of<V>(PRODUCT_MEAN, row, k);
        const pack<V> v = load<V>(x + i), f = factor<V>(k);
        pack<V> d = load<V>(dy + i);
#pragma unroll
        for (int j = 0; j < V; j++) {
            const float u = (v.v[j] - mean.v[j]) * rstd.v[j];
            d.v[j] = rstd.v[j] * (d.v[j] * f.v[j] - dm.v[j] - u * pm.v[j]);
        }
        put<V>(dx + i, add, d);
    }
};

static size_t rounded(size_t n_bytes) { return (n_bytes + 15) / 16 * 16; }

/* Scratch: sums of each image's channels (N C, 2), parts of them, the channels' rows (FORWARD_ROWS or BACKWARD_ROWS, N C). */
struct workspace {
    double *sums;
    char *part;
    float *channel;
    size_t n_bytes;
};

static workspace cut(const adze_call *c, const group_norm_sizes &s)
{
    workspace w;
    char *base = static_cast<char *>(c->scratch);
    const size_t sums = rounded((size_t)(2 * s.N * s.C) * sizeof(double)), part = rounded(column_sums_bytes(s.P, s.N * s.C, position_sums::SUMS));
    w.sums = reinterpret_cast<double *>(base), w.part = base + sums, w.channel = reinterpret_cast<float *>(base + sums + part);
    w.n_bytes = sums + part + (size_t)((c->backward ? BACKWARD_ROWS : FORWARD_ROWS) * s.N * s.C) * sizeof(float);
    return w;
}

static adze_status prepare(adze_call *c)
{
    c->scratch_bytes = cut(c, adze_group_norm_sizes(c)).n_bytes;
    return ADZE_OK;
}

static row_place place_of(const adze_call *c, const group_norm_sizes &s, const workspace &w)
{
    return row_place{ w.channel, c->in[GROUP_NORM_GAMMA].data, c->in[GROUP_NORM_BETA].data, s.P, s.C, s.N * s.C };
}

static bool accepts(const adze_call *c) { return adze_shape_count(&c->in[GROUP_NORM_X].shape) > 0; }

static adze_status run(const adze_call *c)
{
    adze_status st = ADZE_OK;
    const group_norm_sizes s = adze_group_norm_sizes(c);
    const workspace w = cut(c, s);
    const float *x = c->in[GROUP_NORM_X].data;
    const double D = (double)(s.P * s.Cg), eps = static_cast<const group_norm_attrs *>(c->attrs)->eps;
    TRY(column_sums_launch(c, statistics_body{ { s.P, s.C, w.sums }, x }, s.P, s.N * s.C, w.part));
    TRY(lines_launch(c, group_statistics_body{ w.sums, c->out[1].data, w.channel, s.Cg, s.N * s.C, D, eps }, s.N * s.G, s.Cg, 1));
    TRY(cells_launch(c, rows_body{ place_of(c, s, w), x, c->out[0].data }, s.N * s.P, s.C, s.C % 4 == 0));
done:
    return st;
}

static adze_status run_backward(const adze_call *c)
{
    adze_status st = ADZE_OK;
    const group_norm_sizes s = adze_group_norm_sizes(c);
    const adze_arg *x = &c->in[GROUP_NORM_X], *gamma = &c->in[GROUP_NORM_GAMMA], *beta = &c->in[GROUP_NORM_BETA];
    const workspace w = cut(c, s);
    const float *dy = c->out[0].grad, *saved = c->out[1].data;
    TRY(column_sums_launch(c, gradient_sums_body{ { s.P, s.C, w.sums }, saved, x->data, dy, s.G, s.Cg }, s.P, s.N * s.C, w.part));
    if (gamma->wanted || beta->wanted)
        TRY(flat_launch(c,
                        factors_body{ w.sums, gamma->wanted ? gamma->grad : NULL, beta->wanted ? beta->grad : NULL, s.N, s.C,
                                      gamma->accumulate, beta->accumulate },
                        s.C));
    if (!x->wanted) goto done;
    TRY(lines_launch(c, group_means_body{ w.sums, saved, gamma->data, w.channel, s.C, s.Cg, s.N * s.C, (double)(s.P * s.Cg) }, s.N * s.G, s.Cg, 1));
    TRY(cells_launch(c, gradient_rows_body{ place_of(c, s, w), x->data, dy, x->grad, x->accumulate }, s.N * s.P, s.C, s.C % 4 == 0));
done:
    return st;
}

} /* namespace */

const adze_kernel adze_cuda_group_norm = cuda_kernel(accepts, prepare, run);
const adze_kernel adze_cuda_group_norm_backward = cuda_kernel(accepts, prepare, run_backward);
