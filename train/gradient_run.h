/* gradient_run.h - training one model by gradients from the program's point of view: progress, logs, resumable state. */
#ifndef ADZE_TRAIN_GRADIENT_RUN_H
#define ADZE_TRAIN_GRADIENT_RUN_H

#include "eval/program.h"
#include "train/trainer.h"

typedef struct {
    adze_program *p;
    trainer_opts train;
    const char *name, *folder;  /* of the model, for messages; RUN/CLASS */
    const char *config_json;    /* must agree on resume */
    bool cache_auto;            /* features in the first of these that has room: the device's memory, the host's, FOLDER/cache.h5, which
                                 * is removed at the end and not for several ranks */
    bool resume, dry_run, print_plan, tensorboard;
} gradient_run_opts;

/* What happened, for messages and the run record. */
typedef struct {
    bool trained;               /* false: a dry run or a printed plan */
    int64_t steps;
    double last_loss, seconds, waited_s;
    adze_text engines;          /* of libraries, JSON objects; the caller's */
} gradient_run_result;

/* Trains to the last epoch. After every epoch, and when interrupted after the step in work, FOLDER/train.h5 holds everything
 * that --resume needs. ADZE_EINTERRUPTED, ADZE_ENUMERIC (the loss is not finite), and what the parts return. */
adze_status gradient_run(const gradient_run_opts *opts, gradient_run_result *result);

#endif
