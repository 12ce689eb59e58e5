/* trainer.c - the step loop. Entry: trainer_create(), trainer_epoch().
 *
 * Two plans over one parameter block: "frozen" makes the values at the cut from pictures, "rest" goes from there to the loss
 * and back. With the cache the first one runs once per picture, without it once per step; the numbers are the same. */
#include "train/trainer.h"

#include <inttypes.h>
#include <math.h>

#include "core/memory.h"
#include "core/philox.h"
#include "core/plan.h"
#include "core/split.h"
#include "train/feature_cache.h"

struct trainer {
    trainer_opts o;
    adze_training parts;
    adze_graph_parts split;
    adze_plan *frozen, *rest; /* owned */
    adze_value image, loss, term[ADZE_LOSS_TERMS]; /* image: in the plan that reads it */
    adze_optim *optim;
    adze_schedule schedule;
    int64_t steps_per_epoch;
    adze_feature_cache *cache;       /* owned; NULL without a cache, and before it is filled */
    float *batch;                    /* (batch,H,W,3) */
    float *cut;                      /* (batch * largest cut) */
    int64_t *order;                  /* (n) */
    bool *keep;                      /* (parameters), owned */
    double waited_s;
};

static adze_status make_plans(trainer *t)
{
    adze_status st = ADZE_OK;
    adze_plan_opts opts = ADZE_PLAN_OPTS;
    TRY(adze_graph_split(&t->split, t->parts.graph, t->parts.image, t->parts.loss));
    if (t->split.frozen) TRY(adze_plan_create(&t->frozen, t->o.ctx, t->split.frozen, t->parts.params, &opts));
    opts.loss = t->loss = t->split.loss;
    TRY(adze_plan_create(&t->rest, t->o.ctx, t->split.rest, t->parts.params, &opts));
    t->image = t->split.frozen ? t->split.image : adze_graph_find(t->split.rest, "image");
    for (int i = 0; i < t->parts.n_terms; i++) {
        t->term[i] = adze_graph_find(t->split.rest, t->parts.term_name[i]);
        REQUIRE(t->term[i] != ADZE_NONE, ADZE_EINTERNAL, "training: the loss term '%s' is not trained", t->parts.term_name[i]);
    }
done:
    return st;
}

adze_status trainer_create(trainer **out, const trainer_opts *opts)
{
    adze_status st = ADZE_OK;
    *out = NULL;
    const adze_recipe *r = opts->method->recipe;
    trainer *t = adze_calloc(1, sizeof *t);
    REQUIRE(t, ADZE_ENOMEM, "training: host bytes");
    t->o = *opts;
    t->steps_per_epoch = opts->n / opts->batch;
    REQUIRE(t->steps_per_epoch > 0, ADZE_EINPUT, "%" PRId64 " training pictures are fewer than a batch of %" PRId64 "; give a smaller --batch",
            opts->n, opts->batch);
    opts->method->training(opts->model, &t->parts);
    TRY(make_plans(t));
    adze_optim_opts optim = ADZE_OPTIM_OPTS;
    optim.kind = r->optimizer, optim.beta1 = r->beta1, optim.beta2 = r->beta2, optim.eps = r->eps;
    optim.momentum = r->momentum, optim.weight_decay = r->weight_decay, optim.clip = r->clip;
    TRY(adze_optim_create(&t->optim, t->parts.params, &optim));
    t->schedule = adze_schedule_benchmark(opts->lr, opts->epochs, t->steps_per_epoch);
    TRY(adze_schedule_check(&t->schedule));
    int64_t widest = 0;
    for (int i = 0; i < t->split.n_cuts; i++) widest = t->split.floats[i] > widest ? t->split.floats[i] : widest;
    t->batch = adze_calloc((size_t)(opts->batch * opts->H * opts->W * 3), sizeof *t->batch);
    t->cut = adze_calloc((size_t)(opts->batch * widest) + 1, sizeof *t->cut);
    t->order = adze_calloc((size_t)opts->n, sizeof *t->order);
    int n_params = adze_params_count(t->parts.params);
    REQUIRE(t->keep = adze_calloc((size_t)n_params, sizeof *t->keep), ADZE_ENOMEM, "training: a list of parameters");
    for (int i = 0; i < n_params; i++)
        t->keep[i] = adze_graph_find(t->split.rest, adze_params_name(t->parts.params, i)) != ADZE_NONE;
    REQUIRE(t->batch && t->cut && t->order, ADZE_ENOMEM, "training: a batch of %" PRId64 " pictures", opts->batch);
    *out = t;
    t = NULL;
done:
    trainer_destroy(t);
    return st;
}

void trainer_destroy(trainer *t)
{
    if (!t) return;
    adze_optim_destroy(t->optim);
    adze_plan_destroy(t->frozen);
    adze_plan_destroy(t->rest);
    adze_graph_parts_destroy(&t->split);
    adze_feature_cache_destroy(t->cache);
    adze_free(t->batch);
    adze_free(t->cut);
    adze_free(t->order);
    adze_free(t->keep);
    adze_free(t);
}

int64_t trainer_steps_per_epoch(const trainer *t) { return t->steps_per_epoch; }
adze_optim *trainer_optimizer(trainer *t) { return t->optim; }
adze_params *trainer_params(trainer *t) { return t->parts.params; }
const bool *trainer_keeps(const trainer *t) { return t->keep; }
double trainer_waited_s(const trainer *t) { return t->waited_s; }

bool trainer_uses_cache(const trainer *t)
{
    return t->o.cache != CACHE_OFF && t->frozen;
}

bool trainer_drop_cache(trainer *t)
{
    bool had = trainer_uses_cache(t);
    t->o.cache = CACHE_OFF;
    return had;
}

void trainer_memory(const trainer *t, adze_memory_item items[ADZE_MEMORY_ITEMS])
{
    int n = 0;
    if (trainer_uses_cache(t))
        items[n++] = (adze_memory_item){ "features of the frozen part (--cache off: none)",
                                         adze_feature_cache_bytes(t->o.n, t->split.floats, t->split.n_cuts) };
    items[n++] = (adze_memory_item){ "activations", adze_plan_arena_bytes(t->rest) + (t->frozen ? adze_plan_arena_bytes(t->frozen) : 0) };
    items[n] = (adze_memory_item){ NULL, 0 };
}

/* Takes up to `batch` pictures from the loader into t->batch; *n of them. */
static adze_status take_pictures(trainer *t, adze_loader *loader, int64_t *n)
{
    adze_status st = ADZE_OK;
    int64_t pixels = t->o.H * t->o.W;
    for (*n = 0; *n < t->o.batch;) {
        const adze_sample *s;
        TRY(adze_loader_next(loader, &s));
        if (!s) break;
        adze_normalize_nhwc(t->o.normalize, s->rgb, pixels, t->batch + (*n)++ * pixels * 3);
    }
done:
    return st;
}

static adze_status open_loader(const trainer *t, const int64_t *order, int64_t n, adze_loader **loader)
{
    adze_loader_opts opts = ADZE_LOADER_OPTS;
    opts.H = t->o.H, opts.W = t->o.W;
    return adze_loader_create(loader, t->o.items, t->o.n, order, n, &opts);
}

adze_status trainer_fill_cache(trainer *t, const adze_work_progress *progress)
{
    adze_status st = ADZE_OK;
    adze_loader *loader = NULL;
    if (!trainer_uses_cache(t) || t->cache) return ADZE_OK;
    TRY(adze_feature_cache_create(&t->cache, t->o.n, t->split.floats, t->split.n_cuts));
    TRY(open_loader(t, NULL, 0, &loader));
    for (int64_t done = 0, n; done < t->o.n; done += n) {
        TRY(take_pictures(t, loader, &n));
        TRY(adze_plan_write(t->frozen, t->image, t->batch));
        TRY(adze_plan_run(t->frozen));
        for (int c = 0; c < t->split.n_cuts; c++) {
            TRY(adze_plan_read(t->frozen, t->split.from[c], t->cut));
            TRY(adze_feature_cache_put(t->cache, c, done, n, t->cut));
        }
        REQUIRE(!progress || progress->step(progress->user, "features", done + n, t->o.n), ADZE_EINTERRUPTED, "interrupted");
    }
    t->waited_s += adze_loader_waited_s(loader);
done:
    adze_loader_destroy(loader);
    if (st != ADZE_OK) {
        adze_feature_cache_destroy(t->cache);
        t->cache = NULL;
    }
    return st;
}

/* The inputs of the rest for pictures order[first ..]: from the cache, or from the pictures through the frozen part. */
static adze_status feed(trainer *t, adze_loader *loader, int64_t first)
{
    adze_status st = ADZE_OK;
    int64_t n = t->o.batch;
    if (!t->cache) {
        TRY(take_pictures(t, loader, &n));
        TRY(adze_plan_write(t->frozen ? t->frozen : t->rest, t->image, t->batch));
        if (t->frozen) TRY(adze_plan_run(t->frozen));
    }
    for (int c = 0; c < t->split.n_cuts; c++) {
        float *to = adze_plan_host_data(t->rest, t->split.to[c]);
        int64_t floats = t->split.floats[c];
        if (!to) to = t->cut;
        if (!t->cache) TRY(adze_plan_read(t->frozen, t->split.from[c], to));
        for (int64_t i = 0; i < n && t->cache; i++)
            TRY(adze_feature_cache_get(t->cache, c, t->order[first + i], to + i * floats));
        if (to == t->cut) TRY(adze_plan_write(t->rest, t->split.to[c], to));
    }
done:
    return st;
}

static adze_status one_step(trainer *t, trainer_step *s)
{
    adze_status st = ADZE_OK;
    float loss, term;
    TRY(adze_plan_run(t->rest));
    TRY(adze_plan_read(t->rest, t->loss, &loss));
    s->loss = loss;
    for (int i = 0; i < t->parts.n_terms; i++) {
        TRY(adze_plan_read(t->rest, t->term[i], &term));
        s->term[i] = term;
    }
    if (!isfinite(s->loss)) {
        const char *where = adze_plan_first_nonfinite(t->rest);
        TRY(adze_fail(ADZE_ENUMERIC, "step %" PRId64 ": the loss is %g; first in %s", s->step, s->loss, where));
    }
    s->lr = adze_schedule_lr(&t->schedule, s->step);
    TRY(adze_optim_step(t->optim, s->lr));
    s->grad_norm = adze_optim_last_norm(t->optim);
done:
    return st;
}

adze_status trainer_epoch(trainer *t, int64_t epoch, int64_t first, adze_status (*report)(void *user, const trainer_step *step), void *user)
{
    adze_status st = ADZE_OK;
    adze_loader *loader = NULL;
    int64_t used = t->steps_per_epoch * t->o.batch;
    adze_philox_permutation((adze_philox){ .seed = t->o.seed, .stream = ADZE_STREAM_SHUFFLE, .item = (uint32_t)epoch }, t->order, t->o.n);
    if (!t->cache) TRY(open_loader(t, t->order + first * t->o.batch, used - first * t->o.batch, &loader));
    for (int64_t k = first; k < t->steps_per_epoch; k++) {
        trainer_step s = { .epoch = epoch, .step = epoch * t->steps_per_epoch + k };
        TRY(feed(t, loader, k * t->o.batch));
        TRY(one_step(t, &s));
        TRY(report(user, &s));
    }
    if (loader) t->waited_s += adze_loader_waited_s(loader);
done:
    adze_loader_destroy(loader);
    return st;
}

void trainer_print_plan(const trainer *t, adze_text *text)
{
    if (t->frozen) {
        adze_text_append(text, "frozen part, once per picture\n");
        adze_plan_print(t->frozen, text);
    }
    adze_text_append(text, "training step\n");
    adze_plan_print(t->rest, text);
}

void trainer_profile(trainer *t, bool on) { adze_plan_profile(t->rest, on); }
void trainer_print_profile(const trainer *t, adze_text *text) { adze_plan_profile_print(t->rest, text); }
