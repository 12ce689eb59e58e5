/* feature_fill.c - filling a feature cache. Entry: adze_feature_fill(). */
#include "train/feature_fill.h"

#include <inttypes.h>

#include "core/memory.h"

typedef struct {
    float *x;       /* (batch,H,W,3) */
    float *out;     /* (batch, most floats of a value) */
    int64_t *order; /* (n): the missing pictures */
} buffers;

static adze_status make_buffers(buffers *b, const adze_feature_source *s)
{
    adze_status st = ADZE_OK;
    int64_t most = 1;
    for (int v = 0; v < s->n_values; v++) most = s->floats[v] > most ? s->floats[v] : most;
    b->x = adze_calloc((size_t)(s->batch * s->loader->H * s->loader->W * 3), sizeof *b->x);
    b->out = adze_malloc((size_t)(s->batch * most) * sizeof *b->out);
    b->order = adze_malloc((size_t)s->n * sizeof *b->order);
    REQUIRE(b->x && b->out && b->order, ADZE_ENOMEM, "features: a batch of %" PRId64 " pictures", s->batch);
done:
    return st;
}

/* The next pictures, at most a batch, through the plan and into the cache; the last batch is padded with what was there before. */
static adze_status fill_batch(adze_feature_cache *c, const adze_feature_source *s, adze_loader *loader, const buffers *b,
                              const int64_t *order, int64_t *n)
{
    adze_status st = ADZE_OK;
    int64_t pixels = s->loader->H * s->loader->W;
    for (*n = 0; *n < s->batch; (*n)++) {
        const adze_sample *sample;
        TRY(adze_loader_next(loader, &sample));
        if (!sample) break;
        adze_normalize_nhwc(s->normalize, sample->rgb, pixels, b->x + *n * pixels * 3);
    }
    TRY(adze_plan_write(s->plan, s->image, b->x));
    TRY(adze_plan_run(s->plan));
    for (int v = 0; v < s->n_values; v++) {
        const float *there = adze_feature_cache_on_device(c) ? adze_plan_device_data(s->plan, s->value[v]) : NULL;
        for (int64_t i = 0; there && i < *n; i++) TRY(adze_feature_cache_put_device(c, v, order[i], there + i * s->floats[v]));
        if (there) continue;
        TRY(adze_plan_read(s->plan, s->value[v], b->out));
        for (int64_t i = 0; i < *n; i++) TRY(adze_feature_cache_put(c, v, order[i], b->out + i * s->floats[v]));
    }
done:
    return st;
}

adze_status adze_feature_fill(adze_feature_cache *c, const adze_feature_source *s, const adze_work_progress *progress, int64_t *found,
                              double *waited_s)
{
    adze_status st = ADZE_OK;
    adze_loader *loader = NULL;
    buffers b = { NULL, NULL, NULL };
    TRY(make_buffers(&b, s));
    int64_t missing = adze_feature_cache_missing(c, b.order);
    *found = s->n - missing;
    if (missing == 0) goto done;
    TRY(adze_feature_cache_begin(c));
    TRY(adze_loader_create(&loader, s->items, s->n, b.order, missing, s->loader));
    for (int64_t first = 0, n; first < missing; first += n) {
        TRY(fill_batch(c, s, loader, &b, b.order + first, &n));
        REQUIRE(!progress || progress->step(progress->user, "features", *found + first + n, s->n), ADZE_EINTERRUPTED, "interrupted");
    }
    *waited_s += adze_loader_waited_s(loader);
    TRY(adze_feature_cache_end(c));
done:
    adze_loader_destroy(loader);
    adze_free(b.x);
    adze_free(b.out);
    adze_free(b.order);
    return st;
}
