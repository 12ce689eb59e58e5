/* feature_cache.h - what the frozen part of a graph makes of each picture, computed once and read in every later epoch.
 *
 * A cache holds, for each of n pictures, one or more values (the tensors at the cut, the taps of a backbone). */
#ifndef ADZE_TRAIN_FEATURE_CACHE_H
#define ADZE_TRAIN_FEATURE_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { ADZE_FEATURE_CACHE_VALUES = 16 };

typedef struct adze_feature_cache adze_feature_cache; /* opaque: owns the numbers */

/* Host memory of n pictures with n_values values of floats[v] numbers each. */
size_t adze_feature_cache_bytes(int64_t n, const int64_t *floats, int n_values);

/* Empty. ADZE_ENOMEM names --cache off. */
adze_status adze_feature_cache_create(adze_feature_cache **out, int64_t n, const int64_t *floats, int n_values);
void adze_feature_cache_destroy(adze_feature_cache *c);

/* Value v of pictures first .. first + count - 1; x (count, floats[v]). */
adze_status adze_feature_cache_put(adze_feature_cache *c, int v, int64_t first, int64_t count, const float *x);
/* Value v of picture i; to (floats[v]), written. The picture must have been put. */
adze_status adze_feature_cache_get(adze_feature_cache *c, int v, int64_t i, float *to);

#ifdef __cplusplus
}
#endif
#endif
