/* cosine_cpu.c - cosines of the vectors along the last dimension, forward and backward, each in one pass over its operands.
 *
 * bytes   forward  reads x and z, 8n per pair of vectors of length n (+16 written: y and what backward needs)
 *         backward reads x and z, writes one gradient, 12n (both: 16n, the second from cache)
 * flops   6n forward, 3n backward and gradient; far below the memory's pace
 * floor   RD at 256x256, batch 16: 16 x (256*64*64 + 512*32*32 + 1024*16*16) = 29.4 M pairs of floats, 235 MB forward and
 *         352 MB backward over the machine's copy rate
 * measured  those shapes, 2 threads of an EPYC with AVX-512 (shared, noisy; copying ran at 12 to 15 GB/s): forward 13.8 ms,
 *         forward and backward 48.6 ms (12.1 GB/s), the maps 27 ms
 * order   blocks of BLOCK elements, eight double sums within each, blocks added one after another: neither the thread count
 *         nor the instruction set changes a bit */
#include <math.h>

#include "core/axis.h"
#include "core/cpu/kernels_cpu.h"
#include "core/isa.h"
#include "core/op_cosine.h"

enum { BLOCK = 4096, LANES = 8 };

typedef float floats __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float)), may_alias));
typedef double doubles __attribute__((vector_size(LANES * sizeof(double))));

typedef struct {
    /* sum[0..2] = <x,z>, <x,x>, <z,z> */
    void (*sums)(const float *x, const float *z, int64_t n, double sum[3]);
    /* grad (+)= toward * other - back * own */
    void (*mix)(const float *own, const float *other, float toward, float back, int64_t n, bool add, float *grad);
} cosine_kernels;

#define BODY static inline __attribute__((always_inline)) void

BODY sums_body(const float *x, const float *z, int64_t n, double sum[3])
{
    doubles part[2][3] = { 0 };
    int64_t i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES)
        for (int u = 0; u < 2; u++) {
            doubles a = __builtin_convertvector(*(const floats *)(x + i + u * LANES), doubles);
            doubles b = __builtin_convertvector(*(const floats *)(z + i + u * LANES), doubles);
            part[u][0] += a * b;
            part[u][1] += a * a;
            part[u][2] += b * b;
        }
    for (int u = 0; i < n; i++, u = (u + 1) % LANES) {
        part[0][0][u] += (double)x[i] * z[i];
        part[0][1][u] += (double)x[i] * x[i];
        part[0][2][u] += (double)z[i] * z[i];
    }
    for (int k = 0; k < 3; k++) {
        doubles s = part[0][k] + part[1][k];
        sum[k] = ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
    }
}

BODY mix_body(const float *own, const float *other, float toward, float back, int64_t n, bool add, float *grad)
{
    if (add)
        for (int64_t i = 0; i < n; i++) grad[i] += toward * other[i] - back * own[i];
    else
        for (int64_t i = 0; i < n; i++) grad[i] = toward * other[i] - back * own[i];
}

#define VERSION(name, target)                                                                                              \
    target static void sums_##name(const float *x, const float *z, int64_t n, double sum[3]) { sums_body(x, z, n, sum); }  \
    target static void mix_##name(const float *own, const float *other, float toward, float back, int64_t n, bool add,     \
                                  float *grad)                                                                             \
    {                                                                                                                      \
        mix_body(own, other, toward, back, n, add, grad);                                                                  \
    }

VERSION(plain, )
#if defined(__x86_64__)
VERSION(avx2, __attribute__((target("avx2"))))
VERSION(avx512, __attribute__((target("avx512f,avx512dq,avx512vl,prefer-vector-width=512"))))
#endif

static cosine_kernels kernels_of_this_machine(void)
{
#if defined(__x86_64__)
    if (adze_isa_available(ADZE_ISA_AVX512)) return (cosine_kernels){ sums_avx512, mix_avx512 };
    if (adze_isa_available(ADZE_ISA_AVX2)) return (cosine_kernels){ sums_avx2, mix_avx2 };
#endif
    return (cosine_kernels){ sums_plain, mix_plain };
}

static bool accepts(const adze_call *c)
{
    return adze_axis_of(&c->in[COSINE_X].shape, ((const cosine_attrs *)c->attrs)->dim).inner == 1;
}

static int64_t blocks_of(adze_axis s) { return (s.n + BLOCK - 1) / BLOCK; }

static adze_status prepare(adze_call *c)
{
    adze_axis s = adze_axis_of(&c->in[COSINE_X].shape, ((const cosine_attrs *)c->attrs)->dim);
    c->scratch_bytes = blocks_of(s) > 1 ? (size_t)(s.outer * blocks_of(s)) * 3 * sizeof(double) : 0;
    return ADZE_OK;
}

static void finish(const adze_call *c, int64_t line, const double sum[3])
{
    const cosine_attrs *a = c->attrs;
    double rx = sqrt(sum[1]), rz = sqrt(sum[2]), cosine = sum[0] / (fmax(rx, a->eps) * fmax(rz, a->eps));
    float *saved = c->out[1].data + line * COSINE_SAVED;
    saved[COSINE_DOT] = (float)sum[0], saved[COSINE_RX] = (float)rx, saved[COSINE_RZ] = (float)rz;
    c->out[0].data[line] = (float)(a->distance ? 1.0 - cosine : cosine);
}

static adze_status run(const adze_call *c)
{
    adze_axis s = adze_axis_of(&c->in[COSINE_X].shape, ((const cosine_attrs *)c->attrs)->dim);
    const float *x = c->in[COSINE_X].data, *z = c->in[COSINE_Z].data;
    cosine_kernels k = kernels_of_this_machine();
    int64_t blocks = blocks_of(s);
    double *part = c->scratch;
#pragma omp parallel for schedule(static)
    for (int64_t p = 0; p < s.outer * blocks; p++) {
        int64_t from = p % blocks * BLOCK, n = s.n - from < BLOCK ? s.n - from : BLOCK, at = p / blocks * s.n + from;
        double sum[3];
        k.sums(x + at, z + at, n, blocks > 1 ? part + 3 * p : sum);
        if (blocks == 1) finish(c, p, sum);
    }
    for (int64_t line = 0; line < s.outer && blocks > 1; line++) {
        double sum[3] = { 0.0, 0.0, 0.0 };
        for (int64_t p = line * blocks; p < (line + 1) * blocks; p++)
            for (int i = 0; i < 3; i++) sum[i] += part[3 * p + i];
        finish(c, line, sum);
    }
    return ADZE_OK;
}

static adze_status run_backward(const adze_call *c)
{
    const cosine_attrs *a = c->attrs;
    adze_axis s = adze_axis_of(&c->in[COSINE_X].shape, a->dim);
    cosine_kernels kernels = kernels_of_this_machine();
    int64_t blocks = blocks_of(s);
#pragma omp parallel for schedule(static)
    for (int64_t p = 0; p < s.outer * blocks; p++) {
        int64_t line = p / blocks, from = p % blocks * BLOCK, n = s.n - from < BLOCK ? s.n - from : BLOCK, at = line * s.n + from;
        const float *saved = c->out[1].data + line * COSINE_SAVED;
        double dy = a->distance ? -c->out[0].grad[line] : c->out[0].grad[line];
        for (int k = COSINE_X; k <= COSINE_Z; k++) {
            if (!c->in[k].wanted) continue;
            double r = saved[COSINE_RX + k], m = fmax(r, a->eps), m_other = fmax(saved[COSINE_RX + 1 - k], a->eps);
            double toward = dy / (m * m_other), back = r > 0.0 ? dy * saved[COSINE_DOT] / (m * m * m_other * r) : 0.0;
            kernels.mix(c->in[k].data + at, c->in[1 - k].data + at, (float)toward, (float)back, n, c->in[k].accumulate, c->in[k].grad + at);
        }
    }
    return ADZE_OK;
}

const adze_kernel adze_cpu_cosine = { .name = "cpu", .accepts = accepts, .prepare = prepare, .run = run };
const adze_kernel adze_cpu_cosine_backward = { .name = "cpu", .accepts = accepts, .run = run_backward };
