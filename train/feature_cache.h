/* feature_cache.h - what the frozen part of a graph makes of each picture, computed once and read in every later epoch: in
 * the device's memory, in host memory, or in a file that runs, classes and methods share.
 *
 * A cache holds, for each of n pictures, one or more values (the tensors at the cut, the taps of a backbone), each under its
 * own key (feature_key.h), so that methods share the values that they have in common. Filling it:
 *
 *   n = adze_feature_cache_missing(c, order);
 *   adze_feature_cache_begin(c);       makes room
 *   ... adze_feature_cache_put(c, v, order[k], x) for every value of every missing picture
 *   adze_feature_cache_end(c);         other processes see them from here on */
#ifndef ADZE_TRAIN_FEATURE_CACHE_H
#define ADZE_TRAIN_FEATURE_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "checkpoints/feature_file.h"
#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { ADZE_FEATURE_CACHE_VALUES = 16 };

typedef struct {
    adze_digest key;
    int64_t floats; /* per picture */
} adze_feature_value;

typedef struct {
    int64_t n; /* pictures */
    const adze_feature_value *value;
    int n_values;
    const char *path;           /* of the file; NULL: in memory */
    struct adze_ctx *ctx;       /* memory: what reads it; NULL: the host. Host memory is pinned for a device with memory of its own */
    bool on_device;             /* memory: the device's own */
    const adze_digest *picture; /* (n), of the pictures' files; memory needs none */
    bool replace;               /* a file that is no feature cache is overwritten */
} adze_feature_cache_opts;

typedef struct adze_feature_cache adze_feature_cache; /* opaque: owns the numbers, or the open file */

/* Bytes of the numbers, wherever they are kept. */
size_t adze_feature_cache_bytes(int64_t n, const adze_feature_value *value, int n_values);
/* Host memory besides the numbers of a cache in a file. */
size_t adze_feature_cache_table_bytes(int64_t n, int n_values);

/* Options are copied. In memory nothing is there at first. ADZE_ENOMEM names what to do; for files see feature_file.h. */
adze_status adze_feature_cache_create(adze_feature_cache **out, const adze_feature_cache_opts *opts);
void adze_feature_cache_destroy(adze_feature_cache *c);

/* The pictures of which a value is missing, in order[], at most n; one of several with the same bytes. */
int64_t adze_feature_cache_missing(const adze_feature_cache *c, int64_t *order);
adze_status adze_feature_cache_begin(adze_feature_cache *c);
/* Value v of picture i, x (floats); a no-op for one that was there already. */
adze_status adze_feature_cache_put(adze_feature_cache *c, int v, int64_t i, const float *x);
adze_status adze_feature_cache_end(adze_feature_cache *c);

/* Value v of picture i, to (floats), written. What comes from a file is checked the first time: ADZE_EINPUT if it is damaged. */
adze_status adze_feature_cache_get(adze_feature_cache *c, int v, int64_t i, float *to);
/* The same between the cache and the device of opts.ctx, asynchronous there. adze_feature_cache_put_device() is for caches on
 * the device; the other one for those that adze_feature_cache_feeds_device(). */
bool adze_feature_cache_on_device(const adze_feature_cache *c);
bool adze_feature_cache_feeds_device(const adze_feature_cache *c);
adze_status adze_feature_cache_put_device(adze_feature_cache *c, int v, int64_t i, const float *x);
adze_status adze_feature_cache_get_device(adze_feature_cache *c, int v, int64_t i, float *to);
/* Says that picture i will be asked for soon. */
void adze_feature_cache_ahead(const adze_feature_cache *c, int64_t i);

#ifdef __cplusplus
}
#endif
#endif
