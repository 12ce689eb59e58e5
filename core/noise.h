/* noise.h - many normal numbers at once, for noise that is drawn anew in every training step. Entry: adze_noise_fill().
 *
 * Like philox.h a pure function of (seed, stream, item, index), and from the same words; but Box-Muller in float32 with
 * polynomials of our own instead of the C library's functions in double: the same bits with every instruction set and any
 * number of threads. Within 1e-6 of adze_philox_normal(), 1e-4 where both numbers of its pair are below 0.1. */
#ifndef ADZE_CORE_NOISE_H
#define ADZE_CORE_NOISE_H

#include <stdint.h>

#include "core/philox.h"

#ifdef __cplusplus
extern "C" {
#endif

/* x[i] = deviation * z(i), i < n: mean 0, |z| <= 6.7. threads: 0 = OpenMP's maximum. */
void adze_noise_fill(adze_philox r, float deviation, float *x, int64_t n, int threads);

#ifdef __cplusplus
}
#endif
#endif
