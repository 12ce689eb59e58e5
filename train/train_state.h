/* train_state.h - RUN/CLASS/train.h5: everything of a training run that outlives a step, so that a resumed run ends with the
 * same bits as one that was never stopped.
 *
 *   /                       format "adze-train-state", format_version, engine_version, method, class, seed, epoch, iteration
 *   /config                 JSON text: what the run was asked to do
 *   /model/NAME             float32, in the parameter's shape
 *   /optimizer[.LABEL]      type, step, beta1, beta2, eps, momentum, weight_decay, clip
 *   /optimizer[.LABEL]/exp_avg/NAME, exp_avg_sq/NAME, momentum/NAME
 *   /rng/NAME               uint64: how far a stream or a schedule has come
 *   /history                epochs; /history/TERM float64 (epochs), '/' in a term's name written as '.'
 *   /best                   value, epoch
 *
 * A file is written beside, sealed, synced and renamed; the one before stays as train.prev.h5. At every instant one of the
 * two is whole. */
#ifndef ADZE_TRAIN_TRAIN_STATE_H
#define ADZE_TRAIN_TRAIN_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/params.h"
#include "core/text.h"
#include "train/optimizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    const char *name;
    uint64_t value;
} adze_train_position;

/* The caller's objects and numbers; all borrowed during the calls. */
typedef struct {
    const char *method, *class_name;
    const char *config_json;       /* one object; only keys that decide about results */
    adze_params *params;
    const bool *keep;              /* (adze_params_count) which parameters are state; NULL: the trainable ones */
    adze_optim *const *optim;      /* their names differ */
    int n_optims;

    int64_t epoch, step;           /* done so far */
    uint64_t seed;
    adze_train_position *position; /* of the random streams and schedules */
    int n_positions;
    double best;
    int64_t best_epoch;            /* 0: none yet */
    const char *const *term;
    int n_terms;
    double *history;               /* (n_terms, max_epochs): term i of epoch e at i * max_epochs + e */
    int64_t n_epochs, max_epochs;

    const float *numbers;          /* for writing: a copy of parameters and moments (adze_train_state_copy); NULL: the objects' own */
    const int64_t *optim_steps;    /* (n_optims) with such a copy */
} adze_train_state;

/* Parameters and moments together: how many tensors, how many floats. */
int64_t adze_train_state_tensors(const adze_train_state *s);
int64_t adze_train_state_floats(const adze_train_state *s);
/* Copies what changes while a training goes on: numbers (adze_train_state_floats), steps (n_optims). */
adze_status adze_train_state_copy(const adze_train_state *s, float *numbers, int64_t *steps);

/* ADZE_EIO; ADZE_ENOMEM; ADZE_EINVAL: the configuration is no JSON object, or a name is unfit for a file. The files at `path`
 * and its predecessor are touched only when the new one is complete. */
adze_status adze_train_state_write(const adze_train_state *s, const char *path);

/* Fills parameters, moments, positions, history and counters of `s`; names, objects and config_json say what is expected.
 * Nothing is changed unless the whole file fits. Where the newest file is missing or damaged the previous one is read, and
 * a line in `warnings` says so.
 * ADZE_EINPUT: both missing or damaged; another method or class; a parameter, shape, optimiser, position or term that does
 * not fit; a key of the configuration with another value, named, unless `force`: then it is a line in `warnings`. */
adze_status adze_train_state_read(adze_train_state *s, const char *path, bool force, adze_text *warnings);

/* Without reading the numbers: whether the file is one of this run, as above (of `s` only method, class_name and config_json are
 * looked at), and how many epochs are done. */
adze_status adze_train_state_look(const adze_train_state *s, const char *path, bool force, adze_text *warnings, int64_t *epoch);

/* True if there is a file to read, newest or previous. */
bool adze_train_state_exists(const char *path);

#ifdef __cplusplus
}
#endif
#endif
