/* philox.h - counter-based random numbers: Philox 4x32 with 10 rounds.
 *
 * Every number is a pure function of (seed, stream, item, index): no state to save, the same numbers on every device,
 * after a resume and with any number of threads or ranks. A stream belongs to one purpose; `item` separates what the
 * purpose repeats over (epoch, image, rank).
 * Source: Salmon et al., Parallel random numbers: as easy as 1, 2, 3 (SC 2011); layout of counter and key below is ours. */
#ifndef ADZE_CORE_PHILOX_H
#define ADZE_CORE_PHILOX_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Purposes. Numbers are part of the result: append, never renumber. */
enum {
    ADZE_STREAM_TEST = 0,       /* free for tests and benchmarks */
    ADZE_STREAM_SHUFFLE = 1,    /* order of the training images; item = epoch */
    ADZE_STREAM_INIT = 2,       /* initial weights; item = number of the parameter */
    ADZE_STREAM_PROJECTION = 3, /* random projections */
    ADZE_STREAM_CORESET = 4,    /* starting points of the coreset */
    ADZE_STREAM_DROPOUT = 5,    /* dropout masks; item = step */
    ADZE_STREAM_NOISE = 6,      /* feature noise; item = step */
    ADZE_STREAM_AUGMENT = 7,    /* augmentation of images; item = epoch */
    ADZE_STREAM_SYNTH = 8,      /* synthetic data sets; item = image */
    ADZE_STREAM_ROTATE = 9,     /* rotation of training images; item = epoch */
    ADZE_STREAM_FIBER = 10,     /* order of feature rows in CFlow; item = 3 step + level */
    ADZE_STREAM_TEXTURE = 11    /* built-in textures; item = number of the texture */
};

typedef struct {
    uint64_t seed;
    uint32_t stream, item;
} adze_philox;

/* The bijection itself: ten rounds over the counter. */
void adze_philox_block(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* The i-th value of the sequence; i < 2^56. Different kinds drawn from one (stream, item) are not independent of each
 * other: take one kind per stream and item. */
uint32_t adze_philox_u32(adze_philox r, uint64_t i);
uint64_t adze_philox_u64(adze_philox r, uint64_t i);
/* [0, 1), a multiple of 2^-24. */
float adze_philox_uniform(adze_philox r, uint64_t i);
/* Mean 0, deviation 1 (Box-Muller in double precision, rounded once); values 2j and 2j+1 share two words. */
float adze_philox_normal(adze_philox r, uint64_t i);
/* 0 .. n-1, each exactly as probable (Lemire's multiplication with rejection); n > 0. */
uint64_t adze_philox_below(adze_philox r, uint64_t i, uint64_t n);

/* x[j] = value first + j, four or two per block: what the scalar functions give, faster. */
void adze_philox_fill_uniform(adze_philox r, uint64_t first, float *x, int64_t n);
void adze_philox_fill_normal(adze_philox r, uint64_t first, float *x, int64_t n);
/* order (n) becomes a permutation of 0 .. n-1, each equally probable (Fisher-Yates). */
void adze_philox_permutation(adze_philox r, int64_t *order, int64_t n);

#ifdef __cplusplus
}
#endif
#endif
