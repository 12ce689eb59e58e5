/* noise.h - many normal numbers at once, for noise that is drawn anew in every training step. Entries: adze_noise_fill(), adze_noise_draw().
 *
 * Like philox.h a pure function of (seed, stream, item, index), and from the same words; but Box-Muller in float32 with
 * polynomials of our own instead of the C library's functions in double: the same bits with every instruction set, any
 * number of threads, and on every device. Within 1e-6 of adze_philox_normal(), 1e-4 where both numbers of its pair are below 0.1. */
#ifndef ADZE_CORE_NOISE_H
#define ADZE_CORE_NOISE_H

#include <stdint.h>

#include "core/philox.h"
#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* x[i] = deviation * z(i), i < n: mean 0, |z| <= 6.7. threads: 0 = OpenMP's maximum. */
void adze_noise_fill(adze_philox r, float deviation, float *x, int64_t n, int threads);

/* The same as plain values. */
typedef struct {
    adze_philox r;
    float deviation;
} adze_noise;
/* x (n) in the memory of the device of `ctx`, where it is drawn; asynchronous there. */
struct adze_ctx;
adze_status adze_noise_draw(struct adze_ctx *ctx, const adze_noise *noise, float *x, int64_t n);

#ifdef __cplusplus
}
#endif
#endif
