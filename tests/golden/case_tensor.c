/* case_tensor.c - deterministic tensors from names. Entry: golden_unit(), golden_weight(). */
#include "tests/golden/case_tensor.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"

static uint64_t seed_of(const char *name)
{
    return adze_fnv1a64(ADZE_FNV1A64_OFFSET, name, strlen(name));
}

uint64_t golden_hash(const char *name, uint64_t i)
{
    return adze_splitmix64(seed_of(name) + i);
}

static double unit(uint64_t seed, int64_t i)
{
    return (double)(adze_splitmix64(seed + (uint64_t)i) >> 40) * 0x1p-23 - 1.0;
}

float *golden_floats(int64_t n)
{
    float *x = malloc((size_t)(n > 0 ? n : 1) * sizeof *x);
    if (!x) {
        fprintf(stderr, "golden: out of memory for %lld floats\n", (long long)n);
        exit(4);
    }
    return x;
}

float *golden_unit(const char *name, int64_t n)
{
    return golden_uniform(name, -1.0, 1.0, n);
}

float *golden_uniform(const char *name, double lo, double hi, int64_t n)
{
    float *x = golden_floats(n);
    const uint64_t seed = seed_of(name);
    for (int64_t i = 0; i < n; i++) x[i] = (float)(lo + (hi - lo) * (unit(seed, i) + 1.0) / 2.0);
    return x;
}

static bool ends_with(const char *s, const char *tail)
{
    size_t n = strlen(s), m = strlen(tail);
    return n >= m && strcmp(s + n - m, tail) == 0;
}

float *golden_weight(const char *name, const int64_t *shape, int rank)
{
    int64_t n = 1, fan_in = 1;
    for (int d = 0; d < rank; d++) n *= shape[d];
    for (int d = 1; d < rank; d++) fan_in *= shape[d];
    float *x = golden_floats(n);
    const uint64_t seed = seed_of(name);
    const double scale = sqrt(3.0 / (double)fan_in);
    for (int64_t i = 0; i < n; i++) {
        double u = unit(seed, i);
        if (rank >= 2) x[i] = (float)(u * scale);
        else if (ends_with(name, "running_var")) x[i] = (float)(1.0 + 0.5 * u);
        else if (ends_with(name, "running_mean")) x[i] = (float)(0.1 * u);
        else if (ends_with(name, "weight") || ends_with(name, "gamma")) x[i] = (float)(1.0 + 0.2 * u);
        else x[i] = (float)(0.1 * u);
    }
    return x;
}
