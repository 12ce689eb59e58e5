/* philox.c - counter-based random numbers. Entry: adze_philox_block() and the draws on top of it.
 *
 * counter = (block low, block high | attempt << 24, stream, item), key = seed. Rejected draws of adze_philox_below() go
 * on with the next attempt at the same block, so that no draw depends on how often another one was rejected. The counter
 * holds 256 attempts; each fails with probability below 1/2, so the last one is taken as it is. */
#include "core/philox.h"

#include <math.h>

void adze_philox_block(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    const uint32_t multiplier0 = 0xD2511F53u, multiplier1 = 0xCD9E8D57u; /* published constants */
    const uint32_t weyl0 = 0x9E3779B9u, weyl1 = 0xBB67AE85u;             /* golden ratio, sqrt(3) - 1 */
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)multiplier0 * c0, p1 = (uint64_t)multiplier1 * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        k0 += weyl0;
        k1 += weyl1;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

static void block(adze_philox r, uint64_t b, uint32_t attempt, uint32_t out[4])
{
    const uint32_t counter[4] = { (uint32_t)b, (uint32_t)(b >> 32) | attempt << 24, r.stream, r.item };
    const uint32_t key[2] = { (uint32_t)r.seed, (uint32_t)(r.seed >> 32) };
    adze_philox_block(counter, key, out);
}

static float to_uniform(uint32_t w)
{
    return (float)(w >> 8) * 0x1p-24f;
}

static void to_normal(const uint32_t w[2], float pair[2])
{
    double radius = sqrt(-2.0 * log(((double)w[0] + 1.0) * 0x1p-32)); /* argument in (0, 1] */
    double angle = 6.283185307179586477 * ((double)w[1] * 0x1p-32);
    pair[0] = (float)(radius * cos(angle));
    pair[1] = (float)(radius * sin(angle));
}

static uint64_t to_u64(const uint32_t w[2])
{
    return (uint64_t)w[1] << 32 | w[0];
}

uint32_t adze_philox_u32(adze_philox r, uint64_t i)
{
    uint32_t w[4];
    block(r, i / 4, 0, w);
    return w[i % 4];
}

uint64_t adze_philox_u64(adze_philox r, uint64_t i)
{
    uint32_t w[4];
    block(r, i / 2, 0, w);
    return to_u64(w + 2 * (i % 2));
}

float adze_philox_uniform(adze_philox r, uint64_t i)
{
    return to_uniform(adze_philox_u32(r, i));
}

float adze_philox_normal(adze_philox r, uint64_t i)
{
    uint32_t w[4];
    float pair[2];
    block(r, i / 4, 0, w);
    to_normal(w + (i % 4 & 2), pair);
    return pair[i % 2];
}

uint64_t adze_philox_below(adze_philox r, uint64_t i, uint64_t n)
{
    uint64_t reject_below = (0 - n) % n; /* 2^64 mod n */
    for (uint32_t attempt = 0;; attempt++) {
        uint32_t w[4];
        block(r, i / 2, attempt, w);
        unsigned __int128 product = (unsigned __int128)to_u64(w + 2 * (i % 2)) * n;
        if ((uint64_t)product >= reject_below || attempt == 255) return (uint64_t)(product >> 64);
    }
}

void adze_philox_fill_uniform(adze_philox r, uint64_t first, float *x, int64_t n)
{
    uint32_t w[4];
    for (int64_t j = 0; j < n; j++) {
        uint64_t i = first + (uint64_t)j;
        if (j == 0 || i % 4 == 0) block(r, i / 4, 0, w);
        x[j] = to_uniform(w[i % 4]);
    }
}

void adze_philox_fill_normal(adze_philox r, uint64_t first, float *x, int64_t n)
{
    uint32_t w[4];
    float pair[2];
    for (int64_t j = 0; j < n; j++) {
        uint64_t i = first + (uint64_t)j;
        if (j == 0 || i % 4 == 0) block(r, i / 4, 0, w);
        if (j == 0 || i % 2 == 0) to_normal(w + (i % 4 & 2), pair);
        x[j] = pair[i % 2];
    }
}

void adze_philox_permutation(adze_philox r, int64_t *order, int64_t n)
{
    for (int64_t i = 0; i < n; i++) order[i] = i;
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = (int64_t)adze_philox_below(r, (uint64_t)i, (uint64_t)i + 1), swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
}
