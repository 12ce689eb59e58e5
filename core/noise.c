/* noise.c - normal numbers in vectors. Entry: adze_noise_fill().
 *
 * Block b of the Philox counter gives words w0 .. w3 and values 4b .. 4b + 3, as in philox.c:
 *   radius  sqrt(-2 log u), u = (w + 1) / 2^32 in (0, 1]         angle  2 pi w' / 2^32
 *   log     u = m 2^e, sqrt(1/2) <= m < sqrt(2); polynomial of Cephes logf, relative error 1e-7
 *   angle   nearest quarter turn and a rest within pi/4; Taylor polynomials, absolute error 1e-7
 * Lanes are neighbouring blocks. Nothing is contracted, so that vectors and single numbers give the same bits.
 * ns per number   29 adze_philox_fill_normal, 4.7 here; one thread of a busy Xeon with AVX-512. Floor: 4 bytes written */
#include "core/noise.h"

#include <math.h>
#include <omp.h>
#include <string.h>

#define CLONES __attribute__((noinline, target_clones("avx512f", "avx2", "default")))
#define INLINE static inline __attribute__((always_inline))

enum { LANES = 16, GROUP = 4 * LANES };

INLINE float log_of(float u)
{
    uint32_t bits;
    memcpy(&bits, &u, sizeof bits);
    int32_t e = (int32_t)(bits >> 23) - 126;
    float m;
    bits = (bits & 0x007fffffu) | 0x3f000000u; /* m in [1/2, 1) */
    memcpy(&m, &bits, sizeof m);
    int32_t small = m < 0.707106781186547524f;
    float more = small ? m : 0.0f, x = m + more - 1.0f, ef = (float)(e - small), z = x * x;
    float y = 7.0376836292e-2f;
    y = y * x - 1.1514610310e-1f;
    y = y * x + 1.1676998740e-1f;
    y = y * x - 1.2420140846e-1f;
    y = y * x + 1.4249322787e-1f;
    y = y * x - 1.6668057665e-1f;
    y = y * x + 2.0000714765e-1f;
    y = y * x - 2.4999993993e-1f;
    y = y * x + 3.3333331174e-1f;
    y = y * x * z - 2.12194440e-4f * ef - 0.5f * z;
    return x + y + 0.693359375f * ef;
}

/* Two numbers from two words. */
INLINE void pair_of(uint32_t w0, uint32_t w1, float deviation, float *a, float *b)
{
    float u = (2.0f * (float)(int32_t)(w0 >> 1) + (float)(int32_t)(w0 & 1u) + 1.0f) * 0x1p-32f;
    float radius = deviation * sqrtf(-2.0f * log_of(u));
    uint32_t quarter = (w1 + 0x20000000u) >> 30;
    float t = (float)(int32_t)(w1 - (quarter << 30)) * 1.46291807926715968e-9f, z = t * t; /* 2 pi / 2^32 */
    float s = t + t * z * (-1.6666654611e-1f + z * (8.3321608736e-3f - z * 1.9515295891e-4f));
    float c = 1.0f - 0.5f * z + z * z * (4.166664568298827e-2f + z * (-1.388731625493765e-3f + z * 2.443315711809948e-5f));
    float cos_turn = quarter & 1 ? s : c, sin_turn = quarter & 1 ? c : s;
    *a = radius * (float)(1 - (int32_t)((quarter + 1) & 2)) * cos_turn;
    *b = radius * (float)(1 - (int32_t)(quarter & 2)) * sin_turn;
}

/* Values [GROUP g, GROUP (g + 1)) of the sequence. */
CLONES static void fill_group(adze_philox r, uint64_t g, float deviation, float *x)
{
    uint32_t c0[LANES], c1[LANES], c2[LANES], c3[LANES], k0 = (uint32_t)r.seed, k1 = (uint32_t)(r.seed >> 32);
    for (int i = 0; i < LANES; i++) {
        uint64_t block = g * LANES + (uint64_t)i;
        c0[i] = (uint32_t)block, c1[i] = (uint32_t)(block >> 32), c2[i] = r.stream, c3[i] = r.item;
    }
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < LANES; i++) {
            uint64_t p0 = (uint64_t)0xD2511F53u * c0[i], p1 = (uint64_t)0xCD9E8D57u * c2[i];
            c0[i] = (uint32_t)(p1 >> 32) ^ c1[i] ^ k0;
            c2[i] = (uint32_t)(p0 >> 32) ^ c3[i] ^ k1;
            c1[i] = (uint32_t)p1;
            c3[i] = (uint32_t)p0;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    float z[4][LANES];
    for (int i = 0; i < LANES; i++) pair_of(c0[i], c1[i], deviation, &z[0][i], &z[1][i]);
    for (int i = 0; i < LANES; i++) pair_of(c2[i], c3[i], deviation, &z[2][i], &z[3][i]);
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
