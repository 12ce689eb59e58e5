/* optimizer.h - SGD, Adam and AdamW over the trainable parameters of a model, or over some of them.
 *
 * One object per independently stepped set: several may share one adze_params if their sets are disjoint. Moments lie in
 * blocks laid out like the parameters. Options and arithmetic:
 * core/optim_step.h. */
#ifndef ADZE_TRAIN_OPTIMIZER_H
#define ADZE_TRAIN_OPTIMIZER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/optim_step.h"
#include "core/params.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct adze_optim adze_optim; /* opaque: owns the moments */

/* `params` is borrowed; texts of `opts` are copied. ADZE_EINVAL: a constant outside its range, no parameter chosen, a prefix
 * or rule that fits none; ADZE_EBACKEND: the device has no optimisers. */
adze_status adze_optim_create(adze_optim **out, adze_params *params, const adze_optim_opts *opts);
void adze_optim_destroy(adze_optim *o);

/* Clips and changes the parameters by their present gradients. With clipping, a norm that is not finite is ADZE_ENUMERIC,
 * naming the first parameter at fault, and nothing is changed. Allocates nothing. ADZE_EINVAL before the first gradients. */
adze_status adze_optim_step(adze_optim *o, double lr);
/* The same in parts, for steps that are recorded once and replayed (core/plan.h): `begin` puts what changes from step to step on the
 * device; queue_norm (with clipping) and queue_update are the work; `end` counts the step. No norm is looked at: see `stop` in
 * core/optim_step.h. */
adze_status adze_optim_begin(adze_optim *o, double lr);
adze_status adze_optim_queue_norm(adze_optim *o);
adze_status adze_optim_queue_update(adze_optim *o, const int32_t *stop);
void adze_optim_end(adze_optim *o);
/* Where queue_norm puts the norm, on the device; NULL without clipping. */
const double *adze_optim_norm_place(const adze_optim *o);
/* ADZE_ENUMERIC, naming the first parameter whose present gradient is not finite, or the norm if all are. */
adze_status adze_optim_blame(adze_optim *o, double norm);
/* Norm of the gradients before clipping in the last adze_optim_step(); 0 without clipping. */
double adze_optim_last_norm(const adze_optim *o);
/* Global norm of the present gradients, whether they are clipped or not. */
adze_status adze_optim_norm_now(adze_optim *o, double *norm);

const char *adze_optim_name(const adze_optim *o);
const adze_optim_opts *adze_optim_options(const adze_optim *o); /* texts other than `name` are NULL */
const char *adze_optim_kind_name(adze_optim_kind kind);         /* "sgd", "adam", "adamw" */
/* Bytes of moments and workspace. */
size_t adze_optim_bytes(const adze_optim *o);

/* For checkpoints. Steps done; parameter j (of adze_optim_count()) is number adze_optim_param() of adze_params. */
int64_t adze_optim_steps(const adze_optim *o);
void adze_optim_set_steps(adze_optim *o, int64_t steps);
int adze_optim_count(const adze_optim *o);
int adze_optim_param(const adze_optim *o, int j);
/* Name of moment s: "momentum"; "exp_avg", "exp_avg_sq"; NULL past the last. */
const char *adze_optim_state_name(const adze_optim *o, int s);
/* Moment s of parameter j, in the parameter's shape. */
adze_status adze_optim_state_read(const adze_optim *o, int s, int j, float *to_host);
adze_status adze_optim_state_write(adze_optim *o, int s, int j, const float *from_host);

#ifdef __cplusplus
}
#endif
#endif
