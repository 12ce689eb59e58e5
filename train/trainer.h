/* trainer.h - the step loop: epochs over shuffled pictures, forward, backward, optimisers, with the frozen part computed once.
 *
 * The order of pictures in epoch e is drawn from (seed, shuffle stream, e); the last incomplete batch of an epoch is left out.
 * A step is one batch of pictures through all parts of the training (models/method.h). All state that outlives a step lies in
 * the model's parameters, the optimisers and the step counter. Where the device works by itself, a step is reported when the next
 * one has been queued: only behind an epoch, or a step that says `interrupted`, the state is that of the last report.
 *
 * Several ranks (ranks.h): the order of pictures is that of one process with a batch as large as theirs together, and each takes
 * its part of each such batch. Gradients, losses and running statistics are means over the ranks after each run of a part. Normalisation
 * over a batch sees a rank's own part only: a network with batch norm in its trained part is trained with these smaller statistics. */
#ifndef ADZE_TRAIN_TRAINER_H
#define ADZE_TRAIN_TRAINER_H

#include "datasets/dataset.h"
#include "datasets/loader.h"
#include "datasets/normalize.h"
#include "models/method.h"
#include "train/feature_cache.h"
#include "train/optimizer.h"
#include "train/ranks.h"
#include "train/schedule.h"

/* CACHE_DEVICE: in the memory of a device that has its own; CACHE_MEMORY: in the host's. */
typedef enum { CACHE_OFF, CACHE_DEVICE, CACHE_MEMORY, CACHE_FILE } trainer_cache_kind;

typedef struct {
    trainer_cache_kind kind;
    const char *path;           /* CACHE_FILE; borrowed, as below */
    const adze_digest *picture; /* CACHE_FILE: (n), of the items' files */
    bool replace;               /* a file that is no feature cache is overwritten */
} trainer_cache;

typedef struct {
    adze_ctx *ctx;                /* borrowed, as all here */
    const adze_method *method;
    adze_model *model;            /* made with setup->fit */
    const adze_data_item *items;  /* (n) */
    int64_t n, H, W, batch, epochs;
    double lr;
    uint64_t seed;
    const adze_normalize *normalize;
    const float *mean, *std;      /* (3) what `normalize` was made of */
    trainer_cache cache;
    rank_group *ranks;            /* NULL: this process alone; `batch` is the part of one of them */
} trainer_opts;

/* What one step did: means over the runs of its parts. A term whose part rests is NAN; grad_norm is the largest before clipping. */
typedef struct {
    int64_t epoch, step;          /* from 0 */
    double lr, loss, term[ADZE_LOSS_TERMS], grad_norm;
    bool interrupted;             /* a rank was asked to stop: all of them know behind the same step */
} trainer_step;

typedef struct trainer trainer;   /* opaque */

/* Splits the graph and prepares the plans. ADZE_EINPUT: fewer pictures than a batch; ADZE_EINVAL: an epoch without a run, or
 * several ranks and a method that draws numbers per run, of which each would need its part. */
adze_status trainer_create(trainer **out, const trainer_opts *opts);
void trainer_destroy(trainer *t);

int64_t trainer_steps_per_epoch(const trainer *t);
/* Host memory that the rest of the work will take: the cache; for the check before the start. */
void trainer_memory(const trainer *t, adze_memory_item items[ADZE_MEMORY_ITEMS]);
/* The same of a device with memory of its own, where plans are placed already. */
void trainer_device_memory(const trainer *t, adze_memory_item items[ADZE_MEMORY_ITEMS]);
/* All of them; *n is their number. Borrowed. */
adze_optim *const *trainer_optimizers(trainer *t, int *n);
adze_params *trainer_params(trainer *t);
/* (adze_params_count) which parameters steps change: trained ones and their statistics, the state. Borrowed. */
const bool *trainer_keeps(const trainer *t);
/* Whether all of it is as the last step that was reported left it, also after a step that failed with ADZE_ENUMERIC: not if
 * that step had changed parameters before. */
bool trainer_between_steps(const trainer *t);
/* CACHE_OFF too if the graph has no frozen part. */
trainer_cache_kind trainer_uses_cache(const trainer *t);
/* Before it is filled: another way to keep what the frozen part computes. */
void trainer_set_cache(trainer *t, const trainer_cache *cache);
/* Computes the frozen features of every picture that the cache lacks; *found: how many it has had. A no-op without a cache.
 * Ends with ADZE_EINTERRUPTED when progress says so. */
adze_status trainer_fill_cache(trainer *t, const adze_work_progress *progress, int64_t *found);
/* The steps of one epoch from `first` on; `report` gets every step, and stops the training by returning an error. */
adze_status trainer_epoch(trainer *t, int64_t epoch, int64_t first, adze_status (*report)(void *user, const trainer_step *step), void *user);
/* ADZE_EINTERNAL if the ranks' parameters are not the same bits; until then all ranks wait. */
adze_status trainer_ranks_agree(trainer *t);
/* Seconds spent waiting for pictures so far. */
double trainer_waited_s(const trainer *t);
/* adze_plan_engines() of all plans. */
adze_status trainer_engines(const trainer *t, adze_text *list);
void trainer_print_plan(const trainer *t, adze_text *text);
/* Profiling of the training plans, as adze_plan_profile(). */
void trainer_profile(trainer *t, bool on);
void trainer_print_profile(const trainer *t, adze_text *text);

#endif
