/* feature_cache.c - frozen features by picture. Entry: adze_feature_cache_create(), adze_feature_cache_put(), adze_feature_cache_get().
 * Each value lies in a block of its own, (n, floats[v]): a batch is put with one copy. */
#include "train/feature_cache.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "core/memory.h"

struct adze_feature_cache {
    int64_t n, floats[ADZE_FEATURE_CACHE_VALUES];
    int n_values;
    float *block[ADZE_FEATURE_CACHE_VALUES]; /* owned, (n, floats[v]) */
};

size_t adze_feature_cache_bytes(int64_t n, const int64_t *floats, int n_values)
{
    size_t n_bytes = 0;
    for (int v = 0; v < n_values; v++) n_bytes += (size_t)(n * floats[v]) * sizeof(float);
    return n_bytes;
}

adze_status adze_feature_cache_create(adze_feature_cache **out, int64_t n, const int64_t *floats, int n_values)
{
    adze_status st = ADZE_OK;
    adze_feature_cache *c = adze_calloc(1, sizeof *c);
    *out = NULL;
    REQUIRE(c, ADZE_ENOMEM, "feature cache: %zu host bytes", sizeof *c);
    REQUIRE(n_values <= ADZE_FEATURE_CACHE_VALUES, ADZE_EINTERNAL, "feature cache: %d values, at most %d", n_values, ADZE_FEATURE_CACHE_VALUES);
    c->n = n;
    c->n_values = n_values;
    for (int v = 0; v < n_values; v++) {
        c->floats[v] = floats[v];
        c->block[v] = adze_malloc((size_t)(n * floats[v]) * sizeof(float));
        REQUIRE(c->block[v], ADZE_ENOMEM, "%zu bytes for the features of %" PRId64 " pictures; --cache off needs none",
                adze_feature_cache_bytes(n, floats, n_values), n);
    }
    *out = c;
    c = NULL;
done:
    adze_feature_cache_destroy(c);
    return st;
}

void adze_feature_cache_destroy(adze_feature_cache *c)
{
    if (!c) return;
    for (int v = 0; v < c->n_values; v++) adze_free(c->block[v]);
    adze_free(c);
}

adze_status adze_feature_cache_put(adze_feature_cache *c, int v, int64_t first, int64_t count, const float *x)
{
    assert(v < c->n_values && first >= 0 && first + count <= c->n);
    memcpy(c->block[v] + first * c->floats[v], x, (size_t)(count * c->floats[v]) * sizeof *x);
    return ADZE_OK;
}

adze_status adze_feature_cache_get(adze_feature_cache *c, int v, int64_t i, float *to)
{
    assert(v < c->n_values && i >= 0 && i < c->n);
    memcpy(to, c->block[v] + i * c->floats[v], (size_t)c->floats[v] * sizeof *to);
    return ADZE_OK;
}
