/* noise.c - normal numbers in vectors. Entry: adze_noise_fill(), adze_noise_draw().
 *
 * Block b of the Philox counter gives words w0 .. w3 and values 4b .. 4b + 3, as in philox.c:
 *   radius  sqrt(-2 log u), u = (w + 1) / 2^32 in (0, 1]         angle  2 pi w' / 2^32
 *   log     u = m 2^e, sqrt(1/2) <= m < sqrt(2); polynomial of Cephes logf, relative error 1e-7
 *   angle   nearest quarter turn and a rest within pi/4; Taylor polynomials, absolute error 1e-7
 * Lanes are neighbouring blocks. Nothing is contracted, so that vectors and single numbers give the same bits.
 * ns per number   29 adze_philox_fill_normal, 4.7 here; one thread of a busy Xeon with AVX-512. Floor: 4 bytes written */
#include "core/noise.h"

#include <omp.h>
#include <string.h>

#include "core/backend.h"
#include "core/noise_values.h"

#define CLONES __attribute__((noinline, target_clones("avx512f", "avx2", "default")))

enum { LANES = 16, GROUP = 4 * LANES };

/* Values [GROUP g, GROUP (g + 1)) of the sequence. */
CLONES static void fill_group(adze_philox r, uint64_t g, float deviation, float *x)
{
    uint32_t c0[LANES], c1[LANES], c2[LANES], c3[LANES], k0 = (uint32_t)r.seed, k1 = (uint32_t)(r.seed >> 32);
    for (int i = 0; i < LANES; i++) {
        uint64_t block = g * LANES + (uint64_t)i;
        c0[i] = (uint32_t)block, c1[i] = (uint32_t)(block >> 32), c2[i] = r.stream, c3[i] = r.item;
    }
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < LANES; i++) adze_noise_round(&c0[i], &c1[i], &c2[i], &c3[i], k0, k1);
        adze_noise_bump(&k0, &k1);
    }
    float z[4][LANES];
    for (int i = 0; i < LANES; i++) adze_noise_pair(c0[i], c1[i], deviation, &z[0][i], &z[1][i]);
    for (int i = 0; i < LANES; i++) adze_noise_pair(c2[i], c3[i], deviation, &z[2][i], &z[3][i]);
    for (int i = 0; i < LANES; i++)
        for (int k = 0; k < 4; k++) x[4 * i + k] = z[k][i];
}

void adze_noise_fill(adze_philox r, float deviation, float *x, int64_t n, int threads)
{
    int64_t groups = n / GROUP;
#pragma omp parallel for schedule(static) num_threads(threads > 0 ? threads : omp_get_max_threads()) if (groups >= 1024)
    for (int64_t g = 0; g < groups; g++) fill_group(r, (uint64_t)g, deviation, x + g * GROUP);
    if (n % GROUP == 0) return;
    float last[GROUP];
    fill_group(r, (uint64_t)groups, deviation, last);
    memcpy(x + groups * GROUP, last, (size_t)(n % GROUP) * sizeof *x);
}

adze_status adze_noise_draw(adze_ctx *ctx, const adze_noise *noise, float *x, int64_t n)
{
    const adze_backend *b = ctx->backend;
    if (b->noise) return b->noise(ctx, noise, x, n);
    adze_noise_fill(noise->r, noise->deviation, x, n, ctx->threads);
    return ADZE_OK;
}
