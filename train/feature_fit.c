/* feature_fit.c - fitting from kept features. Entry: adze_feature_fit(). */
#include "train/feature_fit.h"

#include <inttypes.h>

#include "core/memory.h"
#include "train/feature_fill.h"
#include "train/feature_key.h"

/* The frozen part's plan lives only while pictures are missing. */
static adze_status fill(const adze_feature_fit_opts *o, const adze_frozen_part *part, adze_feature_cache *cache,
                        const adze_feature_value *value, const adze_work_progress *progress, int64_t *found, double *waited_s)
{
    adze_status st = ADZE_OK;
    adze_plan *plan = NULL;
    int64_t floats[ADZE_FROZEN_VALUES];
    for (int v = 0; v < part->n; v++) floats[v] = value[v].floats;
    TRY(adze_plan_create(&plan, o->ctx, part->graph, part->params, &ADZE_PLAN_OPTS));
    const adze_feature_source source = {
        .plan = plan, .image = part->image, .value = part->value, .floats = floats, .n_values = part->n, .batch = o->batch,
        .items = o->items, .n = o->n, .loader = o->loader, .normalize = o->normalize,
    };
    TRY(adze_feature_fill(cache, &source, progress, found, waited_s));
done:
    adze_plan_destroy(plan);
    return st;
}

static adze_status give(const adze_feature_fit_opts *o, adze_feature_cache *cache, const adze_feature_value *value, int n_values)
{
    adze_status st = ADZE_OK;
    float *x[ADZE_FROZEN_VALUES] = { NULL };
    for (int v = 0; v < n_values; v++)
        REQUIRE(x[v] = adze_calloc((size_t)(o->batch * value[v].floats), sizeof(float)), ADZE_ENOMEM, "features: a batch of %" PRId64, o->batch);
    for (int64_t first = 0; first < o->n; first += o->batch) {
        int64_t n = o->n - first < o->batch ? o->n - first : o->batch;
        for (int64_t i = 0; i < n; i++) {
            if (first + i + n < o->n) adze_feature_cache_ahead(cache, first + i + n);
            for (int v = 0; v < n_values; v++) TRY(adze_feature_cache_get(cache, v, first + i, x[v] + i * value[v].floats));
        }
        TRY(o->method->fit_add_features(o->model, (const float *const *)x, n));
    }
done:
    for (int v = 0; v < n_values; v++) adze_free(x[v]);
    return st;
}

adze_status adze_feature_fit(const adze_feature_fit_opts *o, const adze_work_progress *progress, int64_t *found, double *waited_s)
{
    adze_status st = ADZE_OK;
    adze_feature_cache *cache = NULL;
    adze_feature_value value[ADZE_FROZEN_VALUES];
    adze_frozen_part part;
    o->method->frozen(o->model, &part);
    const adze_feature_input input = { o->loader, o->normalize, o->batch };
    TRY(adze_feature_key(part.graph, part.params, part.value, part.n, &input, value));
    const adze_feature_cache_opts opts = {
        .n = o->n, .value = value, .n_values = part.n, .path = o->path, .picture = o->picture, .replace = o->replace,
    };
    TRY(adze_feature_cache_create(&cache, &opts));
    TRY(fill(o, &part, cache, value, progress, found, waited_s));
    TRY(give(o, cache, value, part.n));
done:
    adze_feature_cache_destroy(cache);
    return st;
}
