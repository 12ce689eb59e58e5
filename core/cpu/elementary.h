/* elementary.h - exp and tanh as straight-line float32 code, so that loops over them vectorise. Not installed.
 *
 * Argument reduction and polynomials of the Cephes library (expf.c, tanhf.c): within 2 units in the last place. exp is
 * clamped to what float32 holds: 0x1p-126 below -87.3, 1.7e38 above 88; NaN stays NaN. */
#ifndef ADZE_CORE_CPU_ELEMENTARY_H
#define ADZE_CORE_CPU_ELEMENTARY_H

#include <math.h>
#include <stdint.h>

static inline __attribute__((always_inline)) float elementary_exp(float x)
{
    const float round = 12582912.0f; /* 1.5 * 2^23: added, it leaves the nearest whole number in the low bits */
    union {
        float f;
        int32_t i;
    } shifted, power;
    x = x < -87.3f ? -87.3f : x;
    x = x > 88.0f ? 88.0f : x;
    shifted.f = x * 1.44269504088896341f + round;
    float n = shifted.f - round, r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    power.i = (int32_t)((uint32_t)(shifted.i + 127) << 23);
    return (p * r * r + r + 1.0f) * power.f;
}

static inline __attribute__((always_inline)) float elementary_tanh(float x)
{
    float z = x * x, far = 1.0f - 2.0f / (elementary_exp(2.0f * fabsf(x)) + 1.0f);
    float p = -5.70498872745e-3f;
    p = p * z + 2.06390887954e-2f;
    p = p * z - 5.37397155531e-2f;
    p = p * z + 1.33314422036e-1f;
    p = p * z - 3.33332819422e-1f;
    return fabsf(x) < 0.625f ? p * z * x + x : copysignf(far, x);
}

#endif
