/* plan.h - a graph made ready to run: fused, scheduled, with every buffer placed in one arena and every kernel chosen.
 *
 * Only nodes that an output or the loss needs are scheduled; backward, only those between a trainable parameter and the
 * loss. The first writer of a gradient overwrites, later ones add: nothing is cleared. After adze_plan_create nothing allocates. */
#ifndef ADZE_CORE_PLAN_H
#define ADZE_CORE_PLAN_H

#include "core/context.h"
#include "core/graph.h"
#include "core/params.h"
#include "core/text.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct adze_plan adze_plan; /* opaque: owns the arena and the prepared kernels */

typedef struct {
    bool no_fusion;  /* keep every node as it was built: for tests */
    bool no_recording; /* launch every kernel of every run by itself: for tests */
    adze_value loss; /* a run goes backward from here too; ADZE_NONE: forward only */
} adze_plan_opts;
#define ADZE_PLAN_OPTS ((adze_plan_opts){ .no_fusion = false, .no_recording = false, .loss = ADZE_NONE })

/* `ctx` and `params` are borrowed until the plan is destroyed; `g` only during the call. */
adze_status adze_plan_create(adze_plan **out, adze_ctx *ctx, const adze_graph *g, adze_params *params,
                             const adze_plan_opts *opts);
void adze_plan_destroy(adze_plan *plan);

/* Copies a whole input in, or a kept output out; float32 in the value's shape. ADZE_EINVAL for other values. */
adze_status adze_plan_write(adze_plan *plan, adze_value input, const float *from_host);
adze_status adze_plan_read(adze_plan *plan, adze_value output, float *to_host);
/* Gradients, for plans with a loss. The seed is what flows into the loss value itself: 1 everywhere unless written. Parameters'
 * gradients lie in the parameter block (adze_params_read_grad). */
adze_status adze_plan_write_seed(adze_plan *plan, const float *from_host);
adze_status adze_plan_read_grad(adze_plan *plan, adze_value v, float *to_host);
/* The memory of an input or output itself on backends with host memory, else NULL; valid until the plan is destroyed. */
float *adze_plan_host_data(adze_plan *plan, adze_value v);
/* The same in the device's memory, on every backend: for calls of core/backend.h that take device pointers. */
float *adze_plan_device_data(adze_plan *plan, adze_value v);

adze_status adze_plan_run(adze_plan *plan);

/* What belongs to every run besides its steps: `before` the first and `after` the last of them (NULL: nothing). It is recorded and
 * replayed with them, so it only queues calls of the backend, always the same ones with the same pointers. */
typedef struct {
    adze_status (*before)(void *user);
    adze_status (*after)(void *user);
    void *user;
} adze_plan_around;
/* Before the first run. */
void adze_plan_set_around(adze_plan *plan, const adze_plan_around *around);
/* Copies a kept output of `from` to an input of `to`, on the device. Both have the same number of floats, else ADZE_EINVAL. */
adze_status adze_plan_copy(adze_plan *to, adze_value input, adze_plan *from, adze_value output);

/* After a run that gave NaN or infinity: computes forward again, step by step, and names the first op whose output is not
 * finite, with its shape; "no op" if all are. Valid until the next call on this thread. Moves running statistics again. */
const char *adze_plan_first_nonfinite(adze_plan *plan);

/* A table of steps: op, kernel, shape, bytes, FLOPs, place in the arena; then the totals. */
void adze_plan_print(const adze_plan *plan, adze_text *text);
/* Appends the engines of libraries that the steps run as JSON objects, separated by commas: op, backward, output (the shape), part,
 * library, engine, choice, workspace_bytes, chosen, ms where it was timed in this run (adze_engine in op.h), count (of equal ones). */
adze_status adze_plan_engines(const adze_plan *plan, adze_text *list);
/* High-water mark of the arena. */
size_t adze_plan_arena_bytes(const adze_plan *plan);
/* All inputs together. */
size_t adze_plan_input_bytes(const adze_plan *plan);
/* Host memory that the kernels hold for themselves: weights and their gradients in the kernels' own layouts. */
size_t adze_plan_kernel_bytes(const adze_plan *plan);
double adze_plan_flops(const adze_plan *plan);

/* Seconds spent per step since the last reset, for profiles; measuring is off until switched on. */
void adze_plan_profile(adze_plan *plan, bool on);
/* Table of ops by time with GFLOP/s and GB/s. */
void adze_plan_profile_print(const adze_plan *plan, adze_text *text);

/* One step, for reports. Texts are borrowed until the plan is destroyed. */
typedef struct {
    const char *op, *kernel;
    adze_shape output;     /* of the node, also of its backward step */
    bool backward;
    double flops, n_bytes; /* what it has to compute and to move at least: every operand once */
    double seconds;        /* mean per run while profiling was on; 0 without a run */
} adze_plan_step;
int32_t adze_plan_step_count(const adze_plan *plan);
/* Step i of adze_plan_step_count(), in the order of work. */
adze_plan_step adze_plan_step_at(const adze_plan *plan, int32_t i);

#ifdef __cplusplus
}
#endif
#endif
