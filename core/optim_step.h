/* optim_step.h - an optimiser's options, and what a backend computes for it: the global norm of gradients, and one fused pass
 * that changes parameters and moments. Open structs; the object that fills the latter is train/optimizer.h.
 *
 * The block of parameters is cut into pieces of at most ADZE_OPTIM_PIECE floats: the unit of work of a thread or a CUDA
 * block, and of the fixed order in which the norm is summed.
 *
 *   sgd     g += wd p      b = mu b + g      p -= lr b            (mu = 0: b = g, no state)
 *   adam    g += wd p      m += (1-b1)(g-m)  v = b2 v + (1-b2) g^2
 *                          p -= lr/(1-b1^t) m / (sqrt(v)/sqrt(1-b2^t) + eps)
 *   adamw   p *= 1 - lr wd, then as adam with wd = 0
 * g is the gradient times min(1, clip/(norm + 1e-6)). Source: torch.optim (single-tensor loops), torch.nn.utils.clip_grad_norm_. */
#ifndef ADZE_CORE_OPTIM_STEP_H
#define ADZE_CORE_OPTIM_STEP_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    ADZE_OPTIM_PIECE = 16384, /* floats */
    ADZE_OPTIM_GROUPS = 8,
    ADZE_OPTIM_STATES = 2     /* blocks of moments, at most */
};

typedef enum { ADZE_OPTIM_SGD, ADZE_OPTIM_ADAM, ADZE_OPTIM_ADAMW } adze_optim_kind;

/* Which parameters, and what is special about them: all conditions that are given must hold. */
typedef struct {
    const char *prefix;  /* the name begins so; NULL: any */
    const char *suffix;  /* the name ends so; NULL: any */
    bool vectors;        /* only parameters with one dimension or a name that ends in ".bias" */
    double lr_factor;    /* times the rate given to adze_optim_step() */
    double weight_decay;
} adze_optim_rule;

typedef struct {
    const char *name;            /* of this optimiser in checkpoints; "" if there is only one */
    adze_optim_kind kind;
    double beta1, beta2, eps;    /* adam, adamw */
    double momentum;             /* sgd */
    double weight_decay;         /* sgd and adam: added to the gradient; adamw: decoupled */
    bool decay_vectors;          /* decay parameters with one dimension and names ending in ".bias" too */
    double clip;                 /* largest global norm of all gradients of this optimiser; 0: none */
    const char *const *prefixes; /* parameters whose name begins with one of these; NULL-terminated; NULL: all */
    const adze_optim_rule *rule; /* the first rule that fits a parameter replaces weight_decay and decay_vectors */
    int n_rules;                 /* at most ADZE_OPTIM_GROUPS - 2 */
} adze_optim_opts;
#define ADZE_OPTIM_OPTS \
    ((adze_optim_opts){ .name = "", .kind = ADZE_OPTIM_ADAM, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8 })

/* Floats [first, first + count) of the blocks, treated as `group` says; on the device. */
typedef struct {
    int64_t first;
    int32_t count, group;
} adze_optim_piece;

typedef struct {
    double lr, weight_decay;
} adze_optim_group;

/* Where an optimiser stands: all that changes from one step to the next. */
typedef struct {
    adze_optim_kind kind;
    int64_t step; /* number of the step, from 1 */
    double beta1, beta2;
    adze_optim_group group[ADZE_OPTIM_GROUPS];
} adze_optim_at;

/* The same as the kernels want it, rounded to float32 as PyTorch does. It lies in device memory, so that a step can be
 * recorded once and replayed. */
typedef struct {
    struct {
        float decay;  /* added to the gradient, times p */
        float shrink; /* p is multiplied by it first */
        float lr;     /* sgd */
        float rate;   /* lr / (1 - beta1^t) */
    } group[ADZE_OPTIM_GROUPS];
    float root_c2; /* sqrt(1 - beta2^t) */
} adze_optim_rates;

void adze_optim_rates_at(adze_optim_rates *rates, const adze_optim_at *at);

/* All pointers are device memory, all blocks are laid out alike. */
typedef struct {
    const adze_optim_piece *piece;
    int64_t n_pieces;
    const float *grad;
    double *partial; /* (n_pieces) workspace: the sum of squares of each piece */
    double *norm;    /* (1) written: sqrt of the sum of `partial`, added in order */
} adze_optim_norm;

typedef struct {
    adze_optim_kind kind;
    double beta1, beta2, eps; /* adam, adamw */
    double momentum;          /* sgd */
    const adze_optim_rates *rates;
    const adze_optim_piece *piece;
    int64_t n_pieces;
    float *param;
    const float *grad;
    float *state[ADZE_OPTIM_STATES]; /* sgd: b (NULL if momentum is 0); adam: m, v; zero before the first step */
    double clip;                     /* largest norm; 0: gradients are taken as they are */
    const double *norm;              /* (1) of adze_optim_norm; unused if clip is 0 */
    const int32_t *stop;             /* (1) not 0: nothing is changed; NULL: never */
} adze_optim_update;

enum { ADZE_OUTCOME_VALUES = 8, ADZE_OUTCOME_NORMS = 6 };

/* What a run of a training tells the host, which may ask much later. */
typedef struct {
    int32_t stop; /* not 0: something was not finite in this run or in an earlier one; no update has changed anything since */
    float value[ADZE_OUTCOME_VALUES];
    double norm[ADZE_OUTCOME_NORMS];
} adze_outcome;

/* Copies values and norms to `outcome`, and sets its `stop` if value 0 or a norm is not finite; nothing clears it. All in
 * device memory. */
typedef struct {
    const float *value[ADZE_OUTCOME_VALUES]; /* (1) each */
    const double *norm[ADZE_OUTCOME_NORMS];  /* (1) each */
    int n_values, n_norms;
    adze_outcome *outcome;
} adze_optim_judge;

#ifdef __cplusplus
}
#endif
#endif
