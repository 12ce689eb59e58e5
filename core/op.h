/* op.h - what an operation is to the plan and to the backends: its definition, a call, and a kernel.
 *
 * An op file holds one adze_op_def: shape rule, cost, plain-C forward and backward (the reference, sums in double). A
 * backend offers further kernels for the same op, tried best first; the reference is last and always works. */
#ifndef ADZE_CORE_OP_H
#define ADZE_CORE_OP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/graph.h"
#include "core/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { ADZE_MAX_IN = 9, ADZE_MAX_OUT = 2, ADZE_MAX_ATTRS_BYTES = 64 };

typedef enum {
#define ADZE_OP(name) ADZE_OP_##name,
#include "core/ops.def"
#undef ADZE_OP
    ADZE_OP_COUNT
} adze_op;

typedef struct adze_ctx adze_ctx;
typedef struct adze_call adze_call;
typedef struct adze_kernel adze_kernel;

/* One operand of a call. */
typedef struct {
    adze_shape shape;
    float *data;             /* NULL if the optional input is absent */
    float *grad;             /* backward: where its gradient is (outputs) or goes (inputs); NULL if not wanted */
    uint64_t *version;       /* parameters: counts the changes of `data`, so that packed copies know when they are stale */
    bool present;            /* the operand exists (data is set only once memory is assigned) */
    bool wanted;             /* backward, inputs: the gradient is asked for (grad is set only once memory is assigned) */
    bool accumulate;         /* backward, inputs: add to grad instead of overwriting it */
} adze_arg;

struct adze_call {
    const struct adze_op_def *op;
    const void *attrs; /* the op's own struct */
    int n_in, n_out;
    adze_arg in[ADZE_MAX_IN], out[ADZE_MAX_OUT];
    adze_ctx *ctx;               /* borrowed */
    const adze_kernel *kernel;   /* chosen by the plan */
    void *state;                 /* what the kernel prepared; released by it */
    size_t scratch_bytes;        /* wanted during run; set in prepare */
    void *scratch;
    bool backward;               /* which direction this call is */
    bool trains;                 /* the plan has a loss and an operand is a trainable parameter */
    bool in_place;               /* out[0] has the memory of in[op->in_place_input]; backward: that input's grad has out[0].grad's */
};

/* An engine of a library that a kernel runs, and how it was chosen: for records. */
typedef struct {
    const char *library, *part; /* "cuDNN"; what of the call it computes: "forward", "data gradient" ... */
    int64_t engine, choice;     /* the library's number of it; its place, from 0, among those that fit, as the library ranks them */
    size_t workspace_bytes;
    const char *chosen;         /* "timed"; "cache": stored by an earlier run; "only"; "first": nothing could be stored, so it was not timed for good */
    double ms;                  /* of one run, timed; else 0 */
} adze_engine;
enum { ADZE_ENGINES = 10 };

/* One implementation of an op on a backend. */
struct adze_kernel {
    const char *name; /* shown by --print-plan */
    bool (*accepts)(const adze_call *c);
    adze_status (*prepare)(adze_call *c); /* NULL: nothing to prepare. Shapes are known, data is not */
    adze_status (*run)(const adze_call *c);
    void (*release)(adze_call *c); /* NULL: nothing to release */
    /* NULL: nothing is derived from parameters. Makes packed or folded copies of them anew: called before the first run and
     * whenever the version of one has changed; in plans that train one, before each run of the step. */
    adze_status (*refresh)(const adze_call *c);
    int (*engines)(const adze_call *c, adze_engine out[ADZE_ENGINES]); /* how many there are; NULL: none */
    bool on_host; /* run waits for the device: a plan with this kernel cannot be recorded */
};

typedef struct adze_op_def {
    const char *name;
    size_t attrs_bytes;
    /* Checks the inputs and sets out[i].shape for i < n_out. */
    adze_status (*shape)(adze_call *c);
    double (*flops)(const adze_call *c); /* multiply and add count two; NULL: one per output element */
    adze_status (*forward)(const adze_call *c);
    /* Gradients of the wanted inputs from out[0].grad; adds where in[i].accumulate. NULL: inference only. */
    adze_status (*backward)(const adze_call *c);
    unsigned backward_reads_in;  /* bit i: backward reads in[i].data */
    unsigned (*backward_reads)(const void *attrs); /* the same where it depends on the attributes; NULL: the bits above */
    unsigned writes_in;          /* bit i: forward changes in[i].data, a parameter that is not trained (a running statistic) */
    bool backward_reads_out;     /* backward reads out[0].data; further outputs (saved values) always stay */
    int in_place_input;  /* out[0] may take over the memory of this input, and its gradient that of out[0]; -1: never */
    bool alias;          /* out[0] is in[0] under another shape: no work, no memory */
    bool remade;         /* made anew in each step rather than kept: cheap, and its inputs are what others want to keep (split.h) */
    const char *(*label)(const adze_call *c); /* a finer name for --print-plan, or NULL */
} adze_op_def;

#define ADZE_OP(name) extern const adze_op_def adze_op_##name;
#include "core/ops.def"
#undef ADZE_OP

extern const adze_op_def *const adze_op_defs[ADZE_OP_COUNT];

/* Writes or adds one element of a gradient, as the plan asked. */
static inline void adze_grad_put(const adze_arg *arg, int64_t i, double value)
{
    arg->grad[i] = (float)(arg->accumulate ? arg->grad[i] + value : value);
}

/* For builder functions: adds a node. `in` may hold ADZE_NONE for absent optional inputs. Returns out[0];
 * the value of out[1] is the next number. */
adze_value adze_graph_add(adze_graph *g, adze_op op, const void *attrs, const adze_value *in, int n_in, int n_out);
/* For builder functions: records an error (the first one sticks) and returns ADZE_NONE. */
adze_value adze_graph_fail(adze_graph *g, adze_status code, const char *fmt, ...) ADZE_PRINTF(3, 4);

#ifdef __cplusplus
}
#endif
#endif
