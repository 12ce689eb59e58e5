/* trainer.c - the step loop. Entry: trainer_create(), trainer_epoch().
 *
 * A step is queued, and looked at later: where the device works by itself, the next one is prepared and queued before the loss of
 * this one is read. So nothing in it asks the host. Each run of a part, with its gradients' exchange and its optimisers, is
 * recorded once and replayed; rates lie on the device; a number that is not finite makes the device keep everything as it was, in
 * this run and in all that are queued behind it.
 *
 * Plans over one parameter block: "frozen" makes the values at the cut from pictures, one "rest" per part of the training goes
 * from there to its loss and back. With the cache the first one runs once per picture, without it once per step; the numbers
 * are the same. */
#include "train/trainer.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/backend.h"
#include "core/device_memory.h"
#include "core/interrupt.h"
#include "core/memory.h"
#include "core/philox.h"
#include "core/plan.h"
#include "core/sha256.h"
#include "core/split.h"
#include "datasets/resize.h"
#include "train/feature_fill.h"
#include "train/feature_key.h"
#include "train/statistics.h"

/* One part of the training, ready to run. */
typedef struct {
    adze_plan *plan; /* owned; NULL: the part makes no run */
    adze_value image, loss, term[ADZE_LOSS_TERMS], input[ADZE_TRAINING_INPUTS]; /* ADZE_NONE: it does not have this one */
    bool reads_cut, reads_pictures; /* values of the frozen part; the image or an input that is per picture */
    adze_statistics *statistics;    /* owned: the part's own, as they were before the run in work */
    trainer *t;
    int index;
} part;

/* A step whose work has been queued. */
typedef struct {
    int64_t epoch, step, first;                 /* its pictures are order[first ..] */
    int letter;                                 /* of its first run */
    int64_t optim_steps[ADZE_TRAINING_OPTIMS];  /* before it */
} queued_step;

struct trainer {
    trainer_opts o;
    adze_training parts;
    adze_graph_parts split;
    adze_plan *frozen; /* owned */
    part part[ADZE_TRAINING_PARTS];
    adze_optim *optim[ADZE_TRAINING_OPTIMS]; /* owned */
    adze_schedule schedule;
    int64_t steps_per_epoch;
    adze_feature_value value[ADZE_GRAPH_CUTS];
    adze_feature_cache *cache;       /* owned; NULL without a cache, and before it is filled */
    unsigned char *pixels;           /* (batch,H,W,3), owned as all below */
    int64_t *item;                   /* (batch) which picture each one is */
    float *batch;                    /* (batch,H,W,3) normalised */
    float *input[ADZE_TRAINING_INPUTS];        /* of a whole batch, or of a run */
    int64_t input_floats[ADZE_TRAINING_INPUTS]; /* per picture, or in all */
    float *cut;                      /* (batch * largest cut) */
    int64_t *order;                  /* (n) */
    bool *keep;                      /* (parameters) */
    adze_outcome *outcome;           /* on the device: of the last run */
    void *letters;                   /* the backend's: outcomes of the runs of two steps */
    int letters_per_step;
    bool between;                    /* parameters and moments are those behind the last step */
    int64_t n_trained;               /* floats of gradients, for ranks */
    double waited_s;
};

/* ---- making ---- */

/* The prefixes of all parameters that a part's optimisers hold, NULL-terminated, in `prefix`; NULL if one holds all. */
static adze_status trained_prefixes(const adze_training *parts, const adze_training_part *p, const char **prefix, int max,
                                    const char *const **out)
{
    adze_status st = ADZE_OK;
    int n = 0;
    *out = NULL;
    for (int k = p->first_optim; k < p->first_optim + p->n_optims; k++) {
        const char *const *from = parts->optim[k].opts.prefixes;
        if (!from) return ADZE_OK;
        for (; *from; from++) {
            REQUIRE(n < max - 1, ADZE_EINTERNAL, "training: part '%s' has too many prefixes", p->name);
            prefix[n++] = *from;
        }
    }
    prefix[n] = NULL;
    *out = prefix;
done:
    return st;
}

static adze_status split_graph(trainer *t)
{
    enum { PREFIXES = 32 };
    adze_status st = ADZE_OK;
    adze_graph_goal goal[ADZE_TRAINING_PARTS];
    const char *prefix[ADZE_TRAINING_PARTS][PREFIXES];
    for (int k = 0; k < t->parts.n_parts; k++) {
        goal[k].loss = t->parts.part[k].loss;
        TRY(trained_prefixes(&t->parts, &t->parts.part[k], prefix[k], PREFIXES, &goal[k].trained));
    }
    TRY(adze_graph_split(&t->split, t->parts.graph, t->parts.image, goal, t->parts.n_parts));
    for (int c = 0; c < t->split.n_cuts; c++) t->value[c].floats = t->split.floats[c];
done:
    return st;
}

static adze_status make_part(trainer *t, int k)
{
    adze_status st = ADZE_OK;
    part *p = &t->part[k];
    p->t = t, p->index = k;
    const adze_graph_rest *rest = &t->split.rest[k];
    adze_plan_opts opts = ADZE_PLAN_OPTS;
    opts.loss = p->loss = rest->loss;
    p->image = adze_graph_find(rest->graph, "image");
    p->reads_pictures = p->image != ADZE_NONE;
    for (int c = 0; c < t->split.n_cuts; c++) p->reads_cut |= rest->to[c] != ADZE_NONE;
    for (int i = 0; i < t->parts.n_terms; i++) {
        bool mine = t->parts.term_part[i] == k;
        p->term[i] = mine ? adze_graph_find(rest->graph, t->parts.term_name[i]) : ADZE_NONE;
        REQUIRE(!mine || p->term[i] != ADZE_NONE, ADZE_EINTERNAL, "training: the loss term '%s' is not trained", t->parts.term_name[i]);
    }
    for (int i = 0; i < t->parts.n_inputs; i++) {
        p->input[i] = adze_graph_find(rest->graph, t->parts.input[i].name);
        p->reads_pictures |= p->input[i] != ADZE_NONE && t->parts.input[i].per_picture;
    }
    if (t->parts.part[k].runs > 0) TRY(adze_plan_create(&p->plan, t->o.ctx, rest->graph, t->parts.params, &opts));
done:
    return st;
}

static adze_status make_inputs(trainer *t)
{
    adze_status st = ADZE_OK;
    for (int i = 0; i < t->parts.n_inputs; i++) {
        const adze_training_input *in = &t->parts.input[i];
        adze_shape shape = adze_graph_shape(t->parts.graph, adze_graph_find(t->parts.graph, in->name));
        int64_t n = adze_shape_count(&shape);
        REQUIRE(!in->per_picture || shape.dim[0] == t->o.batch, ADZE_EINTERNAL, "training: input '%s' has no rows of pictures", in->name);
        t->input_floats[i] = in->per_picture ? n / t->o.batch : n;
        bool staged = in->per_picture; /* else it is filled where the plan has it, if the host can */
        for (int k = 0; k < t->parts.n_parts; k++)
            staged |= t->part[k].plan && t->part[k].input[i] != ADZE_NONE && !adze_plan_host_data(t->part[k].plan, t->part[k].input[i]);
        if (!staged || in->noise) continue; /* noise is drawn where the plan has it */
        REQUIRE(t->input[i] = adze_calloc((size_t)n, sizeof(float)), ADZE_ENOMEM, "training: input '%s'", in->name);
    }
done:
    return st;
}

static adze_status make_buffers(trainer *t)
{
    adze_status st = ADZE_OK;
    const trainer_opts *o = &t->o;
    int64_t widest = 0;
    size_t numbers = (size_t)(o->batch * o->H * o->W * 3);
    for (int i = 0; i < t->split.n_cuts; i++) widest = t->split.floats[i] > widest ? t->split.floats[i] : widest;
    t->pixels = adze_calloc(numbers, sizeof *t->pixels);
    t->item = adze_calloc((size_t)o->batch, sizeof *t->item);
    t->batch = adze_calloc(numbers, sizeof *t->batch);
    t->cut = adze_calloc((size_t)(o->batch * widest) + 1, sizeof *t->cut);
    t->order = adze_calloc((size_t)o->n, sizeof *t->order);
    REQUIRE(t->pixels && t->item && t->batch && t->cut && t->order, ADZE_ENOMEM, "training: a batch of %" PRId64 " pictures", o->batch);
    TRY(make_inputs(t));
done:
    return st;
}

/* Which parameters the steps of any part change, and what a part has to put aside. */
static adze_status find_state(trainer *t)
{
    adze_status st = ADZE_OK;
    int n = adze_params_count(t->parts.params);
    bool *mine = adze_calloc((size_t)n + 1, sizeof *mine);
    t->keep = adze_calloc((size_t)n + 1, sizeof *t->keep);
    REQUIRE(t->keep && mine, ADZE_ENOMEM, "training: a list of parameters");
    for (int k = 0; k < t->split.n_rests; k++) {
        for (int i = 0; i < n; i++) {
            mine[i] = adze_graph_changes(t->split.rest[k].graph, adze_params_name(t->parts.params, i));
            t->keep[i] |= mine[i];
        }
        if (t->part[k].plan) TRY(adze_statistics_create(&t->part[k].statistics, t->parts.params, mine));
    }
done:
    adze_free(mine);
    return st;
}

/* Two steps may be under way: room for all that they write. */
static adze_status reserve_uploads(const trainer *t)
{
    const adze_backend *b = t->o.ctx->backend;
    size_t step_bytes = t->frozen ? adze_plan_input_bytes(t->frozen) : 0;
    for (int k = 0; k < t->parts.n_parts; k++)
        if (t->part[k].plan) step_bytes += adze_plan_input_bytes(t->part[k].plan);
    return b->reserve ? b->reserve(t->o.ctx, 2 * step_bytes) : ADZE_OK;
}

/* Where runs leave what the host wants to know. */
static adze_status make_letters(trainer *t)
{
    adze_status st = ADZE_OK;
    adze_ctx *ctx = t->o.ctx;
    void *outcome;
    int64_t runs = 0;
    for (int k = 0; k < t->parts.n_parts; k++) runs += t->part[k].plan ? t->parts.part[k].runs : 0;
    REQUIRE(runs <= INT32_MAX / 2, ADZE_EINVAL, "%s: %" PRId64 " runs per step are too many", t->o.method->name, runs);
    t->letters_per_step = (int)runs;
    TRY(ctx->backend->alloc(ctx, sizeof *t->outcome, ADZE_BLOCK_OPTIMISER, &outcome));
    t->outcome = outcome;
    TRY(ctx->backend->clear(ctx, t->outcome, sizeof *t->outcome));
    TRY(ctx->backend->letters_create(ctx, &t->letters, 2 * t->letters_per_step, sizeof *t->outcome));
done:
    return st;
}

static adze_schedule schedule_of(const trainer *t)
{
    const trainer_opts *o = &t->o;
    int64_t meta = t->parts.meta_epochs < o->epochs ? t->parts.meta_epochs : o->epochs;
    switch (o->method->recipe->rate) {
    case ADZE_RATE_CONSTANT: return ADZE_SCHEDULE(o->lr);
    case ADZE_RATE_META: return adze_schedule_meta_epochs(o->lr, 0.1, meta, (o->epochs + meta - 1) / meta, t->steps_per_epoch, 2);
    case ADZE_RATE_STEP: break;
    }
    return adze_schedule_benchmark(o->lr, o->epochs, t->steps_per_epoch);
}

static bool active(const trainer *t, int k, int64_t epoch)
{
    const adze_training_part *p = &t->parts.part[k];
    return t->part[k].plan && epoch >= p->first_epoch && (p->n_epochs == 0 || epoch < p->first_epoch + p->n_epochs);
}

/* Every epoch must train something. */
static adze_status check_epochs(const trainer *t)
{
    adze_status st = ADZE_OK;
    for (int64_t epoch = 0; epoch < t->o.epochs; epoch++) {
        bool any = false;
        for (int k = 0; k < t->parts.n_parts; k++) any |= active(t, k, epoch);
        REQUIRE(any, ADZE_EINVAL, "%s: epoch %" PRId64 " of %" PRId64 " would train nothing; a larger --batch or --size may help",
                t->o.method->name, epoch + 1, t->o.epochs);
    }
done:
    return st;
}

static int64_t floats_of(const trainer *t, int i)
{
    adze_shape s = adze_params_shape(t->parts.params, i);
    return adze_shape_count(&s);
}

/* What is exchanged of gradients: the block. */
static adze_status prepare_ranks(trainer *t)
{
    adze_status st = ADZE_OK;
    adze_params *params = t->parts.params;
    for (int i = 0; i < t->parts.n_inputs; i++)
        REQUIRE(t->parts.input[i].per_picture, ADZE_EINVAL, "%s draws numbers in each step ('%s'), which several ranks cannot share: start it without mpirun",
                t->o.method->name, t->parts.input[i].name);
    for (int i = 0; i < adze_params_count(params); i++) {
        int64_t end = adze_params_offset(params, i) + floats_of(t, i);
        if (adze_params_trainable(params, i) && end > t->n_trained) t->n_trained = end;
    }
done:
    return st;
}

/* ---- what belongs to a run besides its plan's steps ---- */

static adze_status before_run(void *user) { return adze_statistics_save(((part *)user)->statistics); }

/* Each number becomes its mean over the ranks. */
static adze_status exchange(const trainer *t, float *x, int64_t n) { return ranks_mean_device(t->o.ranks, t->o.ctx, x, n); }

/* Exchange, judgement and update. All of it is queued, recorded and replayed: no number is looked at here. */
static adze_status after_run(void *user)
{
    adze_status st = ADZE_OK;
    const part *p = user;
    const trainer *t = p->t;
    const adze_training_part *about = &t->parts.part[p->index];
    const adze_backend *b = t->o.ctx->backend;
    const int32_t *stop = &t->outcome->stop;
    adze_optim_judge judge = { .value = { adze_plan_device_data(p->plan, p->loss) }, .n_values = 1, .outcome = t->outcome };
    for (int i = 0; i < t->parts.n_terms; i++)
        if (p->term[i] != ADZE_NONE) judge.value[judge.n_values++] = adze_plan_device_data(p->plan, p->term[i]);
    if (t->o.ranks) {
        TRY(exchange(t, adze_params_grad_block(t->parts.params), t->n_trained));
        for (int k = 0; k < adze_statistics_pieces(p->statistics); k++) {
            int64_t n;
            float *x = adze_statistics_piece(p->statistics, k, &n);
            TRY(exchange(t, x, n));
        }
    }
    for (int k = about->first_optim; k < about->first_optim + about->n_optims; k++) {
        const double *norm = adze_optim_norm_place(t->optim[k]);
        if (!norm) continue;
        TRY(adze_optim_queue_norm(t->optim[k]));
        judge.norm[judge.n_norms++] = norm;
    }
    TRY(b->optim_judge(t->o.ctx, &judge));
    for (int k = about->first_optim; k < about->first_optim + about->n_optims; k++) TRY(adze_optim_queue_update(t->optim[k], stop));
    TRY(adze_statistics_restore(p->statistics, stop));
done:
    return st;
}

adze_status trainer_create(trainer **out, const trainer_opts *opts)
{
    adze_status st = ADZE_OK;
    *out = NULL;
    trainer *t = adze_calloc(1, sizeof *t);
    REQUIRE(t, ADZE_ENOMEM, "training: host bytes");
    t->o = *opts;
    adze_device_memory device;
    REQUIRE(opts->cache.kind != CACHE_DEVICE || adze_ctx_memory(opts->ctx, &device), ADZE_EINVAL,
            "--cache device: device %s has no memory of its own; --cache memory is what it reads from", adze_ctx_device(opts->ctx));
    int64_t whole_batch = opts->batch * ranks_count(opts->ranks);
    t->steps_per_epoch = opts->n / whole_batch;
    REQUIRE(t->steps_per_epoch > 0, ADZE_EINPUT, "%" PRId64 " training pictures are fewer than a batch of %" PRId64 "; give a smaller --batch",
            opts->n, whole_batch);
    opts->method->training(opts->model, opts->epochs, &t->parts);
    TRY(split_graph(t));
    adze_plan_opts plan = ADZE_PLAN_OPTS;
    if (t->split.frozen) TRY(adze_plan_create(&t->frozen, opts->ctx, t->split.frozen, t->parts.params, &plan));
    for (int k = 0; k < t->parts.n_parts; k++) TRY(make_part(t, k));
    TRY(check_epochs(t));
    for (int k = 0; k < t->parts.n_optims; k++) TRY(adze_optim_create(&t->optim[k], t->parts.params, &t->parts.optim[k].opts));
    t->schedule = schedule_of(t);
    TRY(adze_schedule_check(&t->schedule));
    TRY(make_buffers(t));
    TRY(find_state(t));
    TRY(make_letters(t));
    TRY(reserve_uploads(t));
    t->between = true;
    for (int k = 0; k < t->parts.n_parts; k++) {
        const adze_plan_around around = { before_run, after_run, &t->part[k] };
        if (t->part[k].plan) adze_plan_set_around(t->part[k].plan, &around);
    }
    if (opts->ranks) TRY(prepare_ranks(t));
    *out = t;
    t = NULL;
done:
    trainer_destroy(t);
    return st;
}

void trainer_destroy(trainer *t)
{
    if (!t) return;
    for (int k = 0; k < ADZE_TRAINING_OPTIMS; k++) adze_optim_destroy(t->optim[k]);
    for (int k = 0; k < ADZE_TRAINING_PARTS; k++) {
        adze_plan_destroy(t->part[k].plan);
        adze_statistics_destroy(t->part[k].statistics);
    }
    t->o.ctx->backend->letters_destroy(t->o.ctx, t->letters);
    if (t->outcome) t->o.ctx->backend->free(t->o.ctx, t->outcome);
    for (int i = 0; i < ADZE_TRAINING_INPUTS; i++) adze_free(t->input[i]);
    adze_plan_destroy(t->frozen);
    adze_graph_parts_destroy(&t->split);
    adze_feature_cache_destroy(t->cache);
    adze_free(t->pixels);
    adze_free(t->item);
    adze_free(t->batch);
    adze_free(t->cut);
    adze_free(t->order);
    adze_free(t->keep);
    adze_free(t);
}

int64_t trainer_steps_per_epoch(const trainer *t) { return t->steps_per_epoch; }
adze_params *trainer_params(trainer *t) { return t->parts.params; }
const bool *trainer_keeps(const trainer *t) { return t->keep; }
double trainer_waited_s(const trainer *t) { return t->waited_s; }
bool trainer_between_steps(const trainer *t) { return t->between; }

adze_optim *const *trainer_optimizers(trainer *t, int *n)
{
    *n = t->parts.n_optims;
    return t->optim;
}

/* Features can be kept if there are any and their pictures are the same in every epoch. */
trainer_cache_kind trainer_uses_cache(const trainer *t)
{
    return t->frozen && t->parts.rotate == 0.0 ? t->o.cache.kind : CACHE_OFF;
}

void trainer_set_cache(trainer *t, const trainer_cache *cache) { t->o.cache = *cache; }

static adze_loader_opts loader_opts(const trainer *t)
{
    adze_loader_opts opts = ADZE_LOADER_OPTS;
    opts.H = t->o.H, opts.W = t->o.W;
    if (t->o.method->reads_as_opencv && t->o.method->reads_as_opencv(t->o.model)) adze_loader_as_opencv(&opts);
    return opts;
}

/* Neither arenas nor what kernels hold have been touched before the first run: the system has yet to give them. */
void trainer_memory(const trainer *t, adze_memory_item items[ADZE_MEMORY_ITEMS])
{
    int n = 0;
    size_t arenas = 0, kernels = 0;
    adze_loader_opts loader = loader_opts(t);
    for (int k = -1; k < t->parts.n_parts; k++) {
        const adze_plan *plan = k < 0 ? t->frozen : t->part[k].plan;
        arenas += plan ? adze_plan_arena_bytes(plan) : 0;
        kernels += plan ? adze_plan_kernel_bytes(plan) : 0;
    }
    if (trainer_uses_cache(t) == CACHE_MEMORY)
        items[n++] = (adze_memory_item){ .what = "features of the frozen part (--cache off: none)",
                                         .n_bytes = adze_feature_cache_bytes(t->o.n, t->value, t->split.n_cuts) };
    if (trainer_uses_cache(t) == CACHE_FILE)
        items[n++] = (adze_memory_item){ .what = "tables of the feature cache", .n_bytes = adze_feature_cache_table_bytes(t->o.n, t->split.n_cuts) };
    adze_device_memory device;
    if (!adze_ctx_memory(t->o.ctx, &device)) items[n++] = (adze_memory_item){ .what = "activations", .n_bytes = arenas, .counted = true };
    items[n++] = (adze_memory_item){ .what = "weights and gradients as the kernels want them", .n_bytes = kernels, .counted = true };
    items[n++] = (adze_memory_item){ .what = "pictures ahead", .n_bytes = adze_loader_queue_bytes(&loader) };
    items[n] = (adze_memory_item){ .what = NULL };
}

void trainer_device_memory(const trainer *t, adze_memory_item items[ADZE_MEMORY_ITEMS])
{
    int n = 0;
    if (trainer_uses_cache(t) == CACHE_DEVICE)
        items[n++] = (adze_memory_item){ .what = adze_block_name(ADZE_BLOCK_FEATURES), .n_bytes = adze_feature_cache_bytes(t->o.n, t->value, t->split.n_cuts) };
    items[n] = (adze_memory_item){ .what = NULL };
}

/* ---- pictures ---- */

/* Takes up to `batch` pictures from the loader into t->pixels; *n of them. */
static adze_status take_pictures(trainer *t, adze_loader *loader, int64_t *n)
{
    adze_status st = ADZE_OK;
    int64_t numbers = t->o.H * t->o.W * 3;
    for (*n = 0; *n < t->o.batch; (*n)++) {
        const adze_sample *s;
        TRY(adze_loader_next(loader, &s));
        if (!s) break;
        memcpy(t->pixels + *n * numbers, s->rgb, (size_t)numbers);
        t->item[*n] = s->item - t->o.items;
    }
done:
    return st;
}

/* Turns picture i of the batch by an angle of its own. */
static adze_status rotate(trainer *t, int64_t epoch, int64_t i)
{
    int64_t numbers = t->o.H * t->o.W * 3;
    unsigned char *pixels = t->pixels + i * numbers;
    adze_image im = { .data = pixels, .H = t->o.H, .W = t->o.W, .C = 3 }, turned = ADZE_IMAGE_EMPTY;
    const adze_philox r = { .seed = t->o.seed, .stream = ADZE_STREAM_ROTATE, .item = (uint32_t)epoch };
    double u = adze_philox_uniform(r, (uint64_t)t->item[i]);
    adze_status st = adze_image_rotate(&turned, &im, t->parts.rotate * (2.0 * u - 1.0));
    if (st == ADZE_OK) memcpy(pixels, turned.data, (size_t)numbers);
    adze_image_destroy(&turned);
    return st;
}

/* Everything that happens to picture i of the batch, which is picture first + i of the epoch. */
static adze_status prepare_picture(trainer *t, int64_t epoch, int64_t first, int64_t i, bool inputs)
{
    adze_status st = ADZE_OK;
    int64_t pixels = t->o.H * t->o.W;
    unsigned char *rgb = t->pixels + i * pixels * 3;
    if (inputs) {
        float *x[ADZE_TRAINING_INPUTS] = { NULL };
        for (int k = 0; k < t->parts.n_inputs; k++)
            if (t->parts.input[k].per_picture) x[k] = t->input[k] + i * t->input_floats[k];
        const adze_training_picture p = { .seed = t->o.seed, .epoch = epoch, .draw = first + i, .item = t->item[i], .pixels = rgb,
                                          .mean = t->o.mean, .std = t->o.std };
        TRY(t->o.method->picture(t->o.model, &p, x));
    }
    if (t->parts.rotate > 0.0) TRY(rotate(t, epoch, i));
    adze_normalize_nhwc(t->o.normalize, rgb, pixels, t->batch + i * pixels * 3);
done:
    return st;
}

static adze_status prepare_pictures(trainer *t, int64_t epoch, int64_t first, int64_t n)
{
    bool inputs = false;
    for (int k = 0; k < t->parts.n_inputs; k++)
        for (int p = 0; p < t->parts.n_parts; p++)
            inputs |= t->parts.input[k].per_picture && active(t, p, epoch) && t->part[p].input[k] != ADZE_NONE;
    adze_status first_failed = ADZE_OK;
    char message[512] = "";
#pragma omp parallel for schedule(dynamic) num_threads(adze_ctx_threads(t->o.ctx)) if (inputs || t->parts.rotate > 0.0)
    for (int64_t i = 0; i < n; i++) {
        adze_status mine = prepare_picture(t, epoch, first, i, inputs);
        if (mine == ADZE_OK) continue;
#pragma omp critical
        if (first_failed == ADZE_OK) { /* the message belongs to the thread that failed */
            first_failed = mine;
            snprintf(message, sizeof message, "%s", adze_error_message());
        }
    }
    return first_failed == ADZE_OK ? ADZE_OK : adze_fail(first_failed, "%s", message);
}

static adze_status open_loader(const trainer *t, const int64_t *order, int64_t n, adze_loader **loader)
{
    adze_loader_opts opts = loader_opts(t);
    return adze_loader_create(loader, t->o.items, t->o.n, order, n, &opts);
}

/* ---- the cache ---- */

/* Opens the cache; a file asks for keys. */
static adze_status open_cache(trainer *t)
{
    adze_status st = ADZE_OK;
    const trainer_cache *c = &t->o.cache;
    adze_loader_opts loader = loader_opts(t);
    const adze_feature_input input = { &loader, t->o.normalize, t->o.batch };
    if (c->kind == CACHE_FILE) TRY(adze_feature_key(t->split.frozen, t->parts.params, t->split.from, t->split.n_cuts, &input, t->value));
    const adze_feature_cache_opts opts = {
        .n = t->o.n, .value = t->value, .n_values = t->split.n_cuts, .picture = c->picture, .replace = c->replace,
        .path = c->kind == CACHE_FILE ? c->path : NULL, .ctx = t->o.ctx, .on_device = c->kind == CACHE_DEVICE,
    };
    TRY(adze_feature_cache_create(&t->cache, &opts));
done:
    return st;
}

adze_status trainer_fill_cache(trainer *t, const adze_work_progress *progress, int64_t *found)
{
    adze_status st = ADZE_OK;
    *found = 0;
    if (trainer_uses_cache(t) == CACHE_OFF || t->cache) return ADZE_OK;
    adze_loader_opts loader = loader_opts(t);
    const adze_feature_source source = {
        .plan = t->frozen, .image = t->split.image, .value = t->split.from, .floats = t->split.floats, .n_values = t->split.n_cuts,
        .batch = t->o.batch, .items = t->o.items, .n = t->o.n, .loader = &loader, .normalize = t->o.normalize,
    };
    TRY(open_cache(t));
    TRY(adze_feature_fill(t->cache, &source, progress, found, &t->waited_s));
done:
    if (st != ADZE_OK) {
        adze_feature_cache_destroy(t->cache);
        t->cache = NULL;
    }
    return st;
}

/* ---- steps ---- */

/* Whether a step of this epoch reads values of the frozen part. */
static bool needs_frozen(const trainer *t, int64_t epoch)
{
    for (int k = 0; k < t->parts.n_parts; k++)
        if (active(t, k, epoch) && t->part[k].reads_cut) return true;
    return false;
}

static bool needs_pictures(const trainer *t, int64_t epoch)
{
    for (int k = 0; k < t->parts.n_parts; k++)
        if (active(t, k, epoch) && (t->part[k].reads_pictures || (t->part[k].reads_cut && !t->cache))) return true;
    return false;
}

/* Cut c of pictures order[first ..] into a part that reads it. */
static adze_status feed_cut(trainer *t, int k, int c, int64_t first)
{
    adze_status st = ADZE_OK;
    adze_value input = t->split.rest[k].to[c];
    int64_t floats = t->split.floats[c];
    if (!t->cache) return adze_plan_copy(t->part[k].plan, input, t->frozen, t->split.from[c]);
    if (t->cache && adze_feature_cache_feeds_device(t->cache)) {
        float *there = adze_plan_device_data(t->part[k].plan, input);
        for (int64_t i = 0; i < t->o.batch; i++) TRY(adze_feature_cache_get_device(t->cache, c, t->order[first + i], there + i * floats));
        goto done;
    }
    float *to = adze_plan_host_data(t->part[k].plan, input);
    if (!to) to = t->cut;
    for (int64_t i = 0; i < t->o.batch; i++) TRY(adze_feature_cache_get(t->cache, c, t->order[first + i], to + i * floats));
    if (to == t->cut) TRY(adze_plan_write(t->part[k].plan, input, to));
done:
    return st;
}

/* Where picture i of this rank stands among those of all ranks. */
static int64_t place_in_epoch(const trainer *t, int64_t i)
{
    int64_t B = t->o.batch;
    return (i / B * ranks_count(t->o.ranks) + ranks_rank(t->o.ranks)) * B + i % B;
}

/* What the parts read of pictures order[first ..]: values of the frozen part, from the cache or computed, and the pictures. */
static adze_status feed(trainer *t, adze_loader *loader, int64_t epoch, int64_t first)
{
    adze_status st = ADZE_OK;
    int64_t n;
    if (loader) {
        TRY(take_pictures(t, loader, &n));
        TRY(prepare_pictures(t, epoch, place_in_epoch(t, first), n));
    }
    if (!t->cache && needs_frozen(t, epoch)) {
        TRY(adze_plan_write(t->frozen, t->split.image, t->batch));
        TRY(adze_plan_run(t->frozen));
    }
    for (int k = 0; k < t->parts.n_parts; k++) {
        const part *p = &t->part[k];
        if (!active(t, k, epoch)) continue;
        if (p->image != ADZE_NONE) TRY(adze_plan_write(p->plan, p->image, t->batch));
        for (int c = 0; c < t->split.n_cuts; c++)
            if (t->split.rest[k].to[c] != ADZE_NONE) TRY(feed_cut(t, k, c, first));
        for (int i = 0; i < t->parts.n_inputs; i++)
            if (t->parts.input[i].per_picture && p->input[i] != ADZE_NONE) TRY(adze_plan_write(p->plan, p->input[i], t->input[i]));
    }
done:
    return st;
}

/* Loss and terms as one process would have them, and whether anyone was asked to stop. */
static adze_status share_step(const trainer *t, trainer_step *s)
{
    double x[ADZE_LOSS_TERMS + 2] = { s->loss, s->interrupted };
    for (int i = 0; i < t->parts.n_terms; i++) x[2 + i] = s->term[i];
    adze_status st = ranks_mean_few(t->o.ranks, x, t->parts.n_terms + 2);
    s->loss = x[0], s->interrupted = x[1] > 0.0;
    for (int i = 0; i < t->parts.n_terms; i++) s->term[i] = x[2 + i];
    return st;
}

adze_status trainer_ranks_agree(trainer *t)
{
    adze_status st = ADZE_OK;
    adze_params *params = t->parts.params;
    unsigned char digest[ADZE_SHA256_BYTES];
    adze_sha256 sha;
    float *x = NULL;
    if (!t->o.ranks) return ADZE_OK;
    adze_sha256_init(&sha);
    for (int i = 0; i < adze_params_count(params); i++) {
        if (!t->keep[i]) continue;
        size_t n_bytes = (size_t)floats_of(t, i) * sizeof *x;
        adze_free(x);
        REQUIRE(x = adze_malloc(n_bytes), ADZE_ENOMEM, "training: a copy of a parameter");
        TRY(adze_params_read(params, i, x));
        adze_sha256_update(&sha, x, n_bytes);
    }
    adze_sha256_final(&sha, digest);
    TRY(ranks_agree(t->o.ranks, digest, sizeof digest));
done:
    adze_free(x);
    return st;
}

/* The inputs of one run that are not per picture. */
static adze_status fill_run(trainer *t, const adze_training_at *at)
{
    adze_status st = ADZE_OK;
    const part *p = &t->part[at->part];
    for (int i = 0; i < t->parts.n_inputs; i++) {
        if (t->parts.input[i].per_picture || p->input[i] == ADZE_NONE) continue;
        if (t->parts.input[i].noise) {
            const adze_noise noise = t->o.method->noise(t->o.model, at, t->parts.input[i].name);
            TRY(adze_noise_draw(t->o.ctx, &noise, adze_plan_device_data(p->plan, p->input[i]), t->input_floats[i]));
            continue;
        }
        float *x = t->input[i] ? t->input[i] : adze_plan_host_data(p->plan, p->input[i]);
        TRY(t->o.method->fill(t->o.model, at, t->parts.input[i].name, x));
        if (x == t->input[i]) TRY(adze_plan_write(p->plan, p->input[i], x));
    }
done:
    return st;
}

/* Queues one run of a part: its inputs, forward and backward, its optimisers; and a letter with the outcome. */
static adze_status queue_run(trainer *t, const adze_training_at *at, double lr, int letter)
{
    adze_status st = ADZE_OK;
    const adze_training_part *about = &t->parts.part[at->part];
    adze_ctx *ctx = t->o.ctx;
    TRY(fill_run(t, at));
    for (int k = about->first_optim; k < about->first_optim + about->n_optims; k++)
        TRY(adze_optim_begin(t->optim[k], lr * t->parts.optim[k].lr_factor));
    TRY(adze_plan_run(t->part[at->part].plan));
    for (int k = about->first_optim; k < about->first_optim + about->n_optims; k++) adze_optim_end(t->optim[k]);
    TRY(ctx->backend->letter_send(ctx, t->letters, letter, t->outcome));
done:
    return st;
}

static adze_training_at at_run(const trainer *t, const queued_step *q, int k, int64_t run)
{
    return (adze_training_at){ .seed = t->o.seed, .epoch = q->epoch, .step = q->step, .part = k, .run = run };
}

static adze_status queue_step(trainer *t, queued_step *q)
{
    adze_status st = ADZE_OK;
    int letter = q->letter;
    double lr = adze_schedule_lr(&t->schedule, q->step);
    for (int k = 0; k < t->parts.n_optims; k++) q->optim_steps[k] = adze_optim_steps(t->optim[k]);
    for (int k = 0; k < t->parts.n_parts; k++) {
        for (int64_t run = 0; active(t, k, q->epoch) && run < t->parts.part[k].runs; run++) {
            const adze_training_at at = at_run(t, q, k, run);
            TRY(queue_run(t, &at, lr, letter++));
        }
    }
done:
    return st;
}

/* After a run whose loss or gradient was not finite: does it again, with nothing changed, and says where it went wrong. By now the
 * device may have done other work: what the run has read comes once more. */
static adze_status explain(trainer *t, const queued_step *q, const adze_training_at *at, const adze_outcome *outcome)
{
    adze_status st = ADZE_OK;
    adze_loader *loader = NULL;
    part *p = &t->part[at->part];
    const adze_training_part *about = &t->parts.part[at->part];
    if (needs_pictures(t, q->epoch)) TRY(open_loader(t, t->order + q->first, t->o.batch, &loader));
    TRY(feed(t, loader, q->epoch, q->first));
    TRY(fill_run(t, at));
    if (!isfinite(outcome->value[0])) {
        const char *where = adze_plan_first_nonfinite(p->plan);
        TRY(adze_statistics_restore(p->statistics, NULL));
        TRY(adze_fail(ADZE_ENUMERIC, "step %" PRId64 ": the loss%s%s is %g; first in %s", q->step, about->name[0] ? " of " : "", about->name,
                      (double)outcome->value[0], where));
    }
    if (!t->o.ranks) TRY(adze_plan_run(p->plan)); /* of ranks not all may have come here */
    for (int k = about->first_optim, i = 0; k < about->first_optim + about->n_optims; k++) {
        if (!adze_optim_norm_place(t->optim[k]) || isfinite(outcome->norm[i++])) continue;
        TRY(adze_optim_blame(t->optim[k], outcome->norm[i - 1]));
    }
    TRY(adze_fail(ADZE_EINTERNAL, "step %" PRId64 ": stopped, and all is finite", q->step));
done:
    adze_loader_destroy(loader);
    return st;
}

/* Waits for one run, and adds its loss and terms to s. */
static adze_status read_run(trainer *t, const queued_step *q, const adze_training_at *at, int letter, trainer_step *s)
{
    adze_status st = ADZE_OK;
    adze_ctx *ctx = t->o.ctx;
    const part *p = &t->part[at->part];
    const adze_training_part *about = &t->parts.part[at->part];
    const void *content;
    adze_outcome outcome;
    TRY(ctx->backend->letter_open(ctx, t->letters, letter, &content));
    memcpy(&outcome, content, sizeof outcome);
    if (outcome.stop) {
        t->between = letter == q->letter;
        for (int k = 0; k < t->parts.n_optims; k++) adze_optim_set_steps(t->optim[k], q->optim_steps[k]);
        TRY(explain(t, q, at, &outcome));
    }
    s->loss += outcome.value[0];
    for (int i = 0, v = 1; i < t->parts.n_terms; i++) {
        if (p->term[i] == ADZE_NONE) continue;
        const float term = outcome.value[v++];
        s->term[i] = at->run == 0 ? term : s->term[i] + term;
    }
    for (int k = about->first_optim, i = 0; k < about->first_optim + about->n_optims; k++)
        if (adze_optim_norm_place(t->optim[k])) s->grad_norm = fmax(s->grad_norm, outcome.norm[i++]);
done:
    return st;
}

/* Waits for a step, and tells what it has done. */
static adze_status read_step(trainer *t, const queued_step *q, trainer_step *s)
{
    adze_status st = ADZE_OK;
    int letter = q->letter;
    *s = (trainer_step){ .epoch = q->epoch, .step = q->step, .lr = adze_schedule_lr(&t->schedule, q->step) };
    for (int i = 0; i < t->parts.n_terms; i++) s->term[i] = NAN;
    for (int k = 0; k < t->parts.n_parts; k++) {
        int64_t runs = t->parts.part[k].runs;
        if (!active(t, k, q->epoch)) continue;
        for (int64_t run = 0; run < runs; run++) {
            const adze_training_at at = at_run(t, q, k, run);
            TRY(read_run(t, q, &at, letter++, s));
        }
        for (int i = 0; i < t->parts.n_terms; i++)
            if (t->part[k].term[i] != ADZE_NONE) s->term[i] /= (double)runs;
    }
    s->loss /= (double)(letter - q->letter);
    s->interrupted = adze_interrupted();
    if (t->o.ranks) TRY(share_step(t, s));
done:
    return st;
}

static void draw_order(trainer *t, int64_t epoch)
{
    const adze_philox r = { .seed = t->o.seed, .stream = ADZE_STREAM_SHUFFLE, .item = (uint32_t)epoch };
    if (!t->o.method->recipe->replace) adze_philox_permutation(r, t->order, t->o.n);
    else
        for (int64_t i = 0; i < t->o.n; i++) t->order[i] = (int64_t)adze_philox_below(r, (uint64_t)i, (uint64_t)t->o.n);
    /* this rank's pictures move to the front; none is overwritten before it has moved */
    for (int64_t i = 0; t->o.ranks && i < t->steps_per_epoch * t->o.batch; i++) t->order[i] = t->order[place_in_epoch(t, i)];
}

/* Looks at the oldest step that is queued; *stop: someone was asked to, and no further step may be queued. */
static adze_status finish_step(trainer *t, const queued_step *q, bool last, bool *stop, adze_status (*report)(void *user, const trainer_step *step),
                               void *user)
{
    trainer_step s;
    adze_status st = read_step(t, q, &s);
    if (st != ADZE_OK) return st;
    *stop = s.interrupted;
    s.interrupted = s.interrupted && last; /* the state is that behind the last step */
    return report(user, &s);
}

adze_status trainer_epoch(trainer *t, int64_t epoch, int64_t first, adze_status (*report)(void *user, const trainer_step *step), void *user)
{
    adze_status st = ADZE_OK;
    adze_loader *loader = NULL;
    int64_t used = t->steps_per_epoch * t->o.batch, read = first;
    const int64_t ahead = t->o.ctx->backend->wait ? 1 : 0; /* steps that are queued before the one before them is looked at */
    queued_step queue[2];
    bool stop = false;
    draw_order(t, epoch);
    if (needs_pictures(t, epoch)) TRY(open_loader(t, t->order + first * t->o.batch, used - first * t->o.batch, &loader));
    for (int64_t k = first; k < t->steps_per_epoch && !stop; k++) {
        queued_step *q = &queue[k % 2];
        *q = (queued_step){ .epoch = epoch, .step = epoch * t->steps_per_epoch + k, .first = k * t->o.batch, .letter = (int)(k % 2) * t->letters_per_step };
        for (int64_t i = 0; t->cache && i < t->o.batch && k + 1 < t->steps_per_epoch; i++)
            adze_feature_cache_ahead(t->cache, t->order[(k + 1) * t->o.batch + i]);
        adze_ctx_enter(t->o.ctx, "loader");
        st = feed(t, loader, epoch, q->first);
        adze_ctx_leave(t->o.ctx);
        TRY(st);
        TRY(queue_step(t, q));
        if (k - read >= ahead) {
            TRY(finish_step(t, &queue[read % 2], read == k, &stop, report, user));
            read++;
        }
        if (stop || k + 1 == t->steps_per_epoch)
            for (; read <= k; read++) TRY(finish_step(t, &queue[read % 2], read == k, &stop, report, user));
    }
    if (loader) t->waited_s += adze_loader_waited_s(loader);
done:
    adze_loader_destroy(loader);
    return st;
}

/* ---- reports ---- */

static void title(const trainer *t, int k, adze_text *text)
{
    const adze_training_part *p = &t->parts.part[k];
    adze_text_printf(text, "training step%s%s", p->name[0] ? ", " : "", p->name);
    if (p->runs > 1) adze_text_printf(text, ", %" PRId64 " runs per batch of pictures", p->runs);
    adze_text_append(text, "\n");
}

void trainer_print_plan(const trainer *t, adze_text *text)
{
    if (t->frozen) {
        adze_text_append(text, "frozen part, once per picture\n");
        adze_plan_print(t->frozen, text);
    }
    for (int k = 0; k < t->parts.n_parts; k++) {
        if (!t->part[k].plan) continue;
        title(t, k, text);
        adze_plan_print(t->part[k].plan, text);
    }
}

adze_status trainer_engines(const trainer *t, adze_text *list)
{
    adze_status st = t->frozen ? adze_plan_engines(t->frozen, list) : ADZE_OK;
    for (int k = 0; k < t->parts.n_parts && st == ADZE_OK; k++)
        if (t->part[k].plan) st = adze_plan_engines(t->part[k].plan, list);
    return st;
}

void trainer_profile(trainer *t, bool on)
{
    for (int k = 0; k < t->parts.n_parts; k++)
        if (t->part[k].plan) adze_plan_profile(t->part[k].plan, on);
}

void trainer_print_profile(const trainer *t, adze_text *text)
{
    for (int k = 0; k < t->parts.n_parts; k++) {
        if (!t->part[k].plan) continue;
        if (t->parts.n_parts > 1) title(t, k, text);
        adze_plan_profile_print(t->part[k].plan, text);
    }
}
