/* graph.h - the static graph: values, operations on them, shape inference.
 *
 * A model is described once, with fixed shapes. Builder functions (ops.h) add one node each and return its output. The
 * first error sticks to the graph: later calls return ADZE_NONE and do nothing, adze_graph_check() reports it, so model
 * code needs no test after every line. Layout: activations (N,H,W,C); parameters keep the reference's shapes (OIHW). */
#ifndef ADZE_CORE_GRAPH_H
#define ADZE_CORE_GRAPH_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"
#include "core/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct adze_graph adze_graph; /* opaque: owns its nodes and names */
typedef int32_t adze_value;           /* a value of a graph */
enum { ADZE_NONE = -1 };              /* no value: an absent optional input, or the result of a failed builder call */

typedef enum {
    ADZE_VALUE_INPUT,  /* written by the caller before each run */
    ADZE_VALUE_PARAM,  /* trainable: gets a gradient and moments */
    ADZE_VALUE_FROZEN, /* a parameter that never changes, or a running statistic */
    ADZE_VALUE_NODE    /* computed */
} adze_value_kind;

adze_status adze_graph_create(adze_graph **out);
void adze_graph_destroy(adze_graph *g);
/* The first error of a builder call, as its status and this thread's message; ADZE_OK if there was none. */
adze_status adze_graph_check(const adze_graph *g);

/* Names are unique within their graph. */
adze_value adze_graph_input(adze_graph *g, const char *name, adze_shape shape);
/* Asking for a known name again returns the same value if kind and shape agree, else it is an error. */
adze_value adze_graph_param(adze_graph *g, const char *name, adze_shape shape, bool trainable);
/* Keeps `v` readable after a run, under `name`. */
void adze_graph_output(adze_graph *g, const char *name, adze_value v);
/* In plans with a loss, keeps the gradient of an input or of a computed value readable: for tests, and for inputs that are
 * optimised. */
void adze_graph_want_grad(adze_graph *g, adze_value v);
/* The value kept under `name`, or ADZE_NONE. */
adze_value adze_graph_find(const adze_graph *g, const char *name);

adze_shape adze_graph_shape(const adze_graph *g, adze_value v);
/* Name of an input, parameter or kept output; "" for others. Borrowed. */
const char *adze_graph_name(const adze_graph *g, adze_value v);

#ifdef __cplusplus
}
#endif
#endif
