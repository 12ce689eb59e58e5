/* gradient_run.c - training one model by gradients. Entry: gradient_run(). */
#include "train/gradient_run.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/device_memory.h"
#include "core/file.h"
#include "core/memory.h"
#include "train/event_file.h"
#include "train/state_writer.h"
#include "train/train_log.h"
#include "train/train_state.h"

/* One training while it goes on. */
typedef struct {
    const gradient_run_opts *o;
    trainer *t;
    adze_train_log *log;
    adze_event_file *events;
    const char *term_name[ADZE_LOSS_TERMS], *tag[ADZE_LOSS_TERMS + 3];
    char *tag_text[ADZE_LOSS_TERMS]; /* owned */
    int n_terms;
    adze_state_writer *writer;
    int64_t done;                    /* steps */
    double last_loss, started, last_report, elapsed_before;
    char *state_path, *cache_path;   /* owned; cache_path: for cache_auto */
} gradient_state;

/* The state as train_state.h wants it. */
static adze_train_state describe(gradient_state *g)
{
    int n_optims;
    adze_optim *const *optim = trainer_optimizers(g->t, &n_optims);
    return (adze_train_state){
        .method = g->o->train.method->name,
        .class_name = g->o->name,
        .config_json = g->o->config_json,
        .params = trainer_params(g->t),
        .keep = trainer_keeps(g->t),
        .optim = optim,
        .n_optims = n_optims,
        .epoch = g->done / trainer_steps_per_epoch(g->t),
        .step = g->done,
        .seed = g->o->train.seed,
    };
}

/* Of several ranks only the first leaves traces. */
static bool writes(const gradient_state *g) { return ranks_rank(g->o->train.ranks) == 0; }

/* Begins to write the state; `wait`: until it is written. */
static adze_status save(gradient_state *g, bool wait)
{
    adze_train_state state = describe(g);
    if (!writes(g)) return ADZE_OK;
    adze_status st = adze_state_writer_put(g->writer, &state);
    return st == ADZE_OK && wait ? adze_state_writer_wait(g->writer) : st;
}

/* After a step that gave no number: keeps the state before it, unless the step has changed it already. */
static adze_status keep_good_state(gradient_state *g)
{
    char why[512];
    snprintf(why, sizeof why, "%s", adze_error_message());
    if (!trainer_between_steps(g->t)) {
        adze_status st = adze_state_writer_wait(g->writer);
        return st == ADZE_OK ? adze_fail(ADZE_ENUMERIC, "%s; the state of the last epoch is kept", why) : st;
    }
    adze_status st = save(g, true);
    return st == ADZE_OK ? adze_fail(ADZE_ENUMERIC, "%s; %s is the state behind step %" PRId64, why, g->state_path, g->done) : st;
}

static adze_status restore(gradient_state *g)
{
    adze_status st = ADZE_OK;
    adze_train_state state = describe(g);
    adze_text warning = ADZE_TEXT_EMPTY;
    if (!g->o->resume || !adze_train_state_exists(g->state_path)) return ADZE_OK;
    TRY(adze_train_state_read(&state, g->state_path, adze_options_flag(g->o->p->options, "force"), &warning));
    g->done = state.step;
    if (warning.s) adze_log_write(&g->o->p->log, ADZE_LOG_WARNING, "%s", warning.s);
    adze_log_write(&g->o->p->log, ADZE_LOG_INFO, "%s: resumed behind step %" PRId64, g->o->name, g->done);
done:
    adze_text_destroy(&warning);
    return st;
}

static adze_status open_logs(gradient_state *g)
{
    adze_status st = ADZE_OK;
    char *csv = adze_path_join(g->o->folder, "train.csv"), *events = adze_path_join(g->o->folder, ADZE_EVENT_FILE_NAME);
    int64_t last = g->done > 0 ? g->done : -1;
    if (!writes(g)) goto done;
    REQUIRE(csv && events, ADZE_ENOMEM, "no memory for a path");
    TRY(adze_train_log_open(&g->log, csv, g->term_name, g->n_terms, last));
    g->elapsed_before = adze_train_log_elapsed_s(g->log);
    if (g->o->tensorboard) TRY(adze_event_file_open(&g->events, events, last));
done:
    adze_free(csv);
    adze_free(events);
    return st;
}

/* Logs one step; stops after it when interrupted. */
static adze_status report(void *user, const trainer_step *s)
{
    adze_status st = ADZE_OK;
    gradient_state *g = user;
    double now = adze_clock_seconds();
    adze_train_row row = {
        .epoch = s->epoch + 1, .step = s->step + 1, .lr = s->lr, .loss = s->loss, .term = s->term,
        .images_per_s = (double)(g->o->train.batch * ranks_count(g->o->train.ranks)) / (now - g->last_report),
        .elapsed_s = g->elapsed_before + now - g->started,
    };
    g->last_report = now;
    g->done = s->step + 1;
    g->last_loss = s->loss;
    if (g->log) TRY(adze_train_log_row(g->log, &row));
    if (g->events) {
        double value[ADZE_LOSS_TERMS + 3] = { s->loss, s->lr, s->grad_norm };
        memcpy(value + 3, s->term, (size_t)g->n_terms * sizeof *value);
        TRY(adze_event_file_scalars(g->events, row.step, 0.0, g->n_terms + 3, g->tag, value));
    }
    adze_progress_value(g->o->p->progress, "loss", s->loss);
    adze_progress_value(g->o->p->progress, "waiting %", 100.0 * trainer_waited_s(g->t) / (now - g->started + 1e-9));
    adze_progress_update(g->o->p->progress, g->done);
    if (s->interrupted) TRY(adze_fail(ADZE_EINTERRUPTED, "interrupted"));
done:
    return st;
}

static adze_status epochs(gradient_state *g)
{
    adze_status st = ADZE_OK;
    int64_t per_epoch = trainer_steps_per_epoch(g->t), total = per_epoch * g->o->train.epochs;
    char task[64];
    snprintf(task, sizeof task, "train %s", g->o->name);
    adze_progress_begin(g->o->p->progress, task, "steps", g->done, total);
    g->started = g->last_report = adze_clock_seconds();
    while (g->done < total) {
        st = trainer_epoch(g->t, g->done / per_epoch, g->done % per_epoch, report, g);
        if (st == ADZE_ENUMERIC) st = keep_good_state(g);
        if (st == ADZE_EINTERRUPTED) {
            TRY(save(g, true));
            TRY(trainer_ranks_agree(g->t)); /* nobody ends before it is written */
            TRY(adze_fail(ADZE_EINTERRUPTED, "interrupted behind step %" PRId64 " of %" PRId64 "; go on with --resume", g->done, total));
        }
        TRY(st);
        TRY(save(g, false));
        TRY(trainer_ranks_agree(g->t));
    }
    TRY(adze_state_writer_wait(g->writer));
    adze_progress_end(g->o->p->progress);
done:
    return st;
}

static bool cache_step(void *user, const char *what, int64_t done, int64_t total)
{
    (void)what;
    const gradient_state *g = user;
    adze_progress_update(g->o->p->progress, done);
    (void)total;
    return adze_program_check_interrupt() == ADZE_OK;
}

/* All that the training will take besides what it holds already. */
static void memory_items(gradient_state *g, adze_memory_item items[ADZE_MEMORY_ITEMS])
{
    int n = 0;
    adze_train_state state = describe(g);
    trainer_memory(g->t, items);
    while (items[n].what) n++;
    items[n++] = (adze_memory_item){ .what = "copy of the state while it is written", .n_bytes = adze_state_writer_bytes(&state) };
    items[n] = (adze_memory_item){ .what = NULL };
}

static void use_cache(gradient_state *g, trainer_cache_kind kind, const char *path)
{
    trainer_cache cache = g->o->train.cache;
    cache.kind = kind, cache.path = path;
    trainer_set_cache(g->t, &cache);
}

/* Where the features go with cache_auto: the device's memory, the host's, or a file, by what has room beside all else. */
static void choose_cache(gradient_state *g)
{
    const gradient_run_opts *o = g->o;
    adze_memory_item memory[ADZE_MEMORY_ITEMS];
    adze_device_memory device;
    if (trainer_uses_cache(g->t) != CACHE_MEMORY) return;
    if (adze_ctx_memory(o->train.ctx, &device)) {
        use_cache(g, CACHE_DEVICE, NULL);
        trainer_device_memory(g->t, memory);
        if (adze_program_fits_device(o->train.ctx, memory)) return;
        adze_log_write(&o->p->log, ADZE_LOG_INFO, "%s: features do not fit in the device's memory beside the rest (%s): they go to the host's", o->name,
                       adze_program_bytes(memory[0].n_bytes));
        use_cache(g, CACHE_MEMORY, NULL);
    }
    memory_items(g, memory);
    if (adze_program_fits(memory) || o->train.ranks) return;
    adze_log_write(&o->p->log, ADZE_LOG_INFO, "%s: features do not fit in memory beside the rest (%s): they go to %s", o->name,
                   adze_program_bytes(memory[0].n_bytes), g->cache_path);
    use_cache(g, CACHE_FILE, g->cache_path);
}

/* Says what the training will take, after the choice of cache_auto. */
static adze_status check_memory(gradient_state *g)
{
    adze_status st = ADZE_OK;
    const gradient_run_opts *o = g->o;
    adze_memory_item memory[ADZE_MEMORY_ITEMS];
    char what[96];
    if (o->cache_auto) choose_cache(g);
    memory_items(g, memory);
    snprintf(what, sizeof what, "training %s on %" PRId64 " pictures", o->name, o->train.n);
    TRY(adze_program_memory(o->p, memory, what));
    trainer_device_memory(g->t, memory);
    TRY(adze_program_device_memory(o->p, o->train.ctx, memory, what));
done:
    return st;
}

static adze_status fill_cache(gradient_state *g)
{
    adze_status st = ADZE_OK;
    const gradient_run_opts *o = g->o;
    char task[64];
    int64_t found;
    if (trainer_uses_cache(g->t) == CACHE_OFF) goto done;
    snprintf(task, sizeof task, "features %s", o->name);
    adze_progress_begin(o->p->progress, task, "images", 0, o->train.n);
    adze_work_progress progress = { cache_step, g };
    TRY(trainer_fill_cache(g->t, &progress, &found));
    adze_progress_end(o->p->progress);
    if (found > 0)
        adze_log_write(&o->p->log, ADZE_LOG_INFO, "%s: features of %" PRId64 " of %" PRId64 " pictures were in the cache", o->name, found, o->train.n);
done:
    return st;
}

adze_status gradient_run(const gradient_run_opts *opts, gradient_run_result *result)
{
    adze_status st = ADZE_OK;
    gradient_state g = { .o = opts };
    adze_text plan = ADZE_TEXT_EMPTY;
    *result = (gradient_run_result){ .trained = false };
    double start = adze_clock_seconds();
    adze_training parts;
    opts->train.method->training(opts->train.model, opts->train.epochs, &parts);
    g.n_terms = parts.n_terms;
    g.tag[0] = "loss", g.tag[1] = "lr", g.tag[2] = "grad_norm";
    for (int i = 0; i < g.n_terms; i++) {
        g.term_name[i] = parts.term_name[i];
        REQUIRE(g.tag_text[i] = adze_strprintf("loss/%s", parts.term_name[i]), ADZE_ENOMEM, "no memory for a name");
        g.tag[3 + i] = g.tag_text[i];
    }
    REQUIRE(g.cache_path = adze_path_join(opts->folder, "cache.h5"), ADZE_ENOMEM, "no memory for a path");
    TRY(trainer_create(&g.t, &opts->train));
    if (opts->print_plan) {
        trainer_print_plan(g.t, &plan);
        TRY(adze_text_check(&plan, "plan"));
        if (writes(&g)) fputs(plan.s, stdout);
        goto done;
    }
    TRY(check_memory(&g));
    if (opts->dry_run) goto done;

    REQUIRE(g.state_path = adze_path_join(opts->folder, "train.h5"), ADZE_ENOMEM, "no memory for a path");
    TRY(restore(&g));
    TRY(fill_cache(&g));
    adze_train_state state = describe(&g);
    TRY(adze_state_writer_create(&g.writer, &state, g.state_path)); /* of several ranks the first one's writes */
    TRY(open_logs(&g));
    TRY(epochs(&g));
    if (opts->cache_auto) unlink(g.cache_path); /* in this run's folder, and of no further use */
    *result = (gradient_run_result){
        .trained = true, .steps = g.done, .last_loss = g.last_loss, .seconds = adze_clock_seconds() - start, .waited_s = trainer_waited_s(g.t),
    };
    TRY(trainer_engines(g.t, &result->engines));
done:
    adze_state_writer_destroy(g.writer);
    adze_train_log_close(g.log);
    adze_event_file_close(g.events);
    trainer_destroy(g.t);
    for (int i = 0; i < g.n_terms; i++) adze_free(g.tag_text[i]);
    adze_free(g.state_path);
    adze_free(g.cache_path);
    adze_text_destroy(&plan);
    return st;
}
