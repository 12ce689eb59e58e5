/* rank_sort.h - floating-point scores as integers of the same order, and a stable radix sort of such integers. */
#ifndef ADZE_EVAL_RANK_SORT_H
#define ADZE_EVAL_RANK_SORT_H

#include <stdint.h>
#include <string.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Monotone key of a number that is not NaN; -0 and +0 get one key. */
static inline uint32_t adze_rank_key_f32(float x)
{
    uint32_t u;
    x += 0.0f;
    memcpy(&u, &x, sizeof u);
    return u ^ (u >> 31 ? UINT32_MAX : UINT32_C(1) << 31);
}

static inline uint64_t adze_rank_key_f64(double x)
{
    uint64_t u;
    x += 0.0;
    memcpy(&u, &x, sizeof u);
    return u ^ (u >> 63 ? UINT64_MAX : UINT64_C(1) << 63);
}

static inline float adze_rank_value_f32(uint32_t key)
{
    float x;
    key ^= key >> 31 ? UINT32_C(1) << 31 : UINT32_MAX;
    memcpy(&x, &key, sizeof x);
    return x;
}

static inline double adze_rank_value_f64(uint64_t key)
{
    double x;
    key ^= key >> 63 ? UINT64_C(1) << 63 : UINT64_MAX;
    memcpy(&x, &key, sizeof x);
    return x;
}

/* Sorts n keys ascending by their bits from low_bit up; lower bits are carried along, equal keys keep their order.
 * payload (n) is permuted likewise, NULL allowed. Digits of at most 11 bits; those in which all keys agree cost nothing.
 * ADZE_ENOMEM: 8 (with payload 12) bytes a key are needed meanwhile. */
adze_status adze_rank_sort(uint64_t *key, uint32_t *payload, int64_t n, int low_bit);

#ifdef __cplusplus
}
#endif
#endif
