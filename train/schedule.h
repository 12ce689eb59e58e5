/* schedule.h - the learning rate as a function of the iteration: no state, so a resumed run needs only the counter. */
#ifndef ADZE_TRAIN_SCHEDULE_H
#define ADZE_TRAIN_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    ADZE_SCHEDULE_CONSTANT, /* lr */
    ADZE_SCHEDULE_STEP,     /* lr * rate^floor(t / period) */
    ADZE_SCHEDULE_COSINE,   /* lr_min + (lr - lr_min)(1 + cos(pi t / period))/2, lr_min from t = period on */
    ADZE_SCHEDULE_STAIRS    /* cosine that changes only every `hold` iterations: t is floor(t / hold) * hold */
} adze_schedule_kind;

/* All counts in iterations, from 0. Before `warmup` the rate rises in a line from warmup_from at 0 towards its value at
 * `warmup`; with `delayed` the curve begins only then, with t - warmup in place of t. */
typedef struct {
    adze_schedule_kind kind;
    double lr;
    double rate;    /* step */
    double lr_min;  /* cosine, stairs */
    int64_t period; /* step, cosine, stairs: > 0 */
    int64_t hold;   /* stairs: > 0 */
    int64_t warmup; /* 0: none */
    double warmup_from;
    bool delayed;
} adze_schedule;
#define ADZE_SCHEDULE(base_lr) ((adze_schedule){ .kind = ADZE_SCHEDULE_CONSTANT, .lr = (base_lr), .rate = 0.1, .period = 1, .hold = 1 })

/* The benchmark's: lr * 0.1^floor(t / (floor(0.8 epochs) * per_epoch)), no warm-up. One epoch: constant. */
adze_schedule adze_schedule_benchmark(double lr, int64_t epochs, int64_t per_epoch);
/* CFlow's: `meta` meta epochs of `sub` passes of `per_pass` iterations; cosine from lr to lr * decay^3, changing from one meta
 * epoch to the next; over the first `warm` meta epochs a line from lr / 10 to the cosine's value at their end. */
adze_schedule adze_schedule_meta_epochs(double lr, double decay, int64_t meta, int64_t sub, int64_t per_pass, int64_t warm);

/* ADZE_EINVAL names the number that is out of its range. */
adze_status adze_schedule_check(const adze_schedule *s);
/* Rate of iteration t >= 0 of a checked schedule. Source: the timm schedulers and ADer's CFlow trainer. */
double adze_schedule_lr(const adze_schedule *s, int64_t t);

#ifdef __cplusplus
}
#endif
#endif
