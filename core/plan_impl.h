/* plan_impl.h - the inside of a plan, shared by fuse.c, arena.c and plan.c. Not installed. */
#ifndef ADZE_CORE_PLAN_IMPL_H
#define ADZE_CORE_PLAN_IMPL_H

#include "core/graph_impl.h"
#include "core/params_impl.h"
#include "core/plan.h"

/* A piece of arena memory: alive from step `first` to step `last`, both included. */
typedef struct {
    size_t n_bytes, offset;
    int32_t first, last;
} plan_buffer;

typedef struct {
    graph_node node; /* a copy: fusion rewrites it */
    adze_call call;
    int32_t scratch; /* buffer, -1 for none */
    bool removed;    /* fused into another step, or needed by nobody */
    bool backward;   /* the gradient step of its node */
    uint64_t version; /* sum of the parameters' versions at the last refresh */
    double seconds;
} plan_step;

struct adze_plan {
    adze_ctx *ctx;       /* borrowed */
    adze_params *params; /* borrowed */
    graph_value *value;  /* owned copy; names owned */
    int32_t n_values;
    plan_step *step; /* owned */
    int32_t n_steps;
    int32_t *buffer_of; /* owned: value -> buffer, -1 for none */
    int32_t *grad_of;   /* owned: value -> buffer of its gradient, -1 for none */
    bool *differs;      /* owned: value -> the loss's gradient with respect to it is needed */
    adze_value loss;
    plan_buffer *buffer; /* owned */
    int32_t n_buffers;
    size_t arena_bytes, kernel_bytes;
    unsigned char *arena; /* owned, on the device */
    void *recording;      /* the backend's, of one run; NULL before the second run and where a kernel cannot be recorded */
    bool recordable;
    adze_plan_around around;
    int64_t n_runs;
    bool profile;
    int64_t n_profiled;
};

/* host_fallback.c: the kernel of every op on devices that have no better one. */
extern const adze_kernel adze_host_fallback;

/* backward.c: finds what has to be differentiated; appends the gradient steps behind the (pruned, fused) forward ones. */
adze_status adze_plan_mark_differentiable(adze_plan *plan);
adze_status adze_plan_append_backward(adze_plan *plan);

/* fuse.c: marks steps that no output needs as removed, and joins convolutions with what follows them. */
void adze_plan_prune(adze_plan *plan);
void adze_plan_fuse(adze_plan *plan);
/* arena.c: gives every buffer an offset so that buffers alive together do not overlap; sets arena_bytes. */
adze_status adze_arena_place(plan_buffer *buffer, int32_t n, size_t *arena_bytes);

#endif
