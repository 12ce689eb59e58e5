/* noise_values.h - the arithmetic of noise.h for one pair of words, in float32 with nothing but IEEE operations: compiled for the
 * cpu (noise.c, in vectors) and for devices (cuda/noise.cu) without contraction, it gives the same bits on both. Not installed. */
#ifndef ADZE_CORE_NOISE_VALUES_H
#define ADZE_CORE_NOISE_VALUES_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define ADZE_NOISE_FN static __device__ __forceinline__
#else
#define ADZE_NOISE_FN static inline __attribute__((always_inline))
#endif

/* One round of Philox 4x32. */
ADZE_NOISE_FN void adze_noise_round(uint32_t *c0, uint32_t *c1, uint32_t *c2, uint32_t *c3, uint32_t k0, uint32_t k1)
{
    uint64_t p0 = (uint64_t)0xD2511F53u * *c0, p1 = (uint64_t)0xCD9E8D57u * *c2;
    *c0 = (uint32_t)(p1 >> 32) ^ *c1 ^ k0;
    *c2 = (uint32_t)(p0 >> 32) ^ *c3 ^ k1;
    *c1 = (uint32_t)p1;
    *c3 = (uint32_t)p0;
}

/* The keys of the next round. */
ADZE_NOISE_FN void adze_noise_bump(uint32_t *k0, uint32_t *k1)
{
    *k0 += 0x9E3779B9u;
    *k1 += 0xBB67AE85u;
}

/* log u for u in (0, 1]. */
ADZE_NOISE_FN float adze_noise_log(float u)
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
ADZE_NOISE_FN void adze_noise_pair(uint32_t w0, uint32_t w1, float deviation, float *a, float *b)
{
    float u = (2.0f * (float)(int32_t)(w0 >> 1) + (float)(int32_t)(w0 & 1u) + 1.0f) * 0x1p-32f;
    float radius = deviation * sqrtf(-2.0f * adze_noise_log(u));
    uint32_t quarter = (w1 + 0x20000000u) >> 30;
    float t = (float)(int32_t)(w1 - (quarter << 30)) * 1.46291807926715968e-9f, z = t * t; /* 2 pi / 2^32 */
    float s = t + t * z * (-1.6666654611e-1f + z * (8.3321608736e-3f - z * 1.9515295891e-4f));
    float c = 1.0f - 0.5f * z + z * z * (4.166664568298827e-2f + z * (-1.388731625493765e-3f + z * 2.443315711809948e-5f));
    float cos_turn = quarter & 1 ? s : c, sin_turn = quarter & 1 ? c : s;
    *a = radius * (float)(1 - (int32_t)((quarter + 1) & 2)) * cos_turn;
    *b = radius * (float)(1 - (int32_t)(quarter & 2)) * sin_turn;
}

#endif
