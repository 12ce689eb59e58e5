/* graph_impl.h - the inside of adze_graph, shared by graph.c and the plan. Not installed. */
#ifndef ADZE_CORE_GRAPH_IMPL_H
#define ADZE_CORE_GRAPH_IMPL_H

#include "core/op.h"

typedef struct {
    adze_value_kind kind;
    adze_shape shape;
    char *name;      /* owned; NULL for unnamed values */
    int32_t node;    /* producer, -1 for inputs and parameters */
    bool output;     /* kept after a run */
    bool want_grad;  /* asked for by adze_graph_want_grad() */
    adze_value root; /* the value whose memory this one shares (itself, unless made by reshape) */
} graph_value;

typedef struct {
    adze_op op;
    _Alignas(16) unsigned char attrs[ADZE_MAX_ATTRS_BYTES];
    int n_in, n_out;
    adze_value in[ADZE_MAX_IN], out[ADZE_MAX_OUT];
} graph_node;

struct adze_graph {
    graph_value *value; /* owned */
    graph_node *node;   /* owned */
    int32_t n_values, cap_values, n_nodes, cap_nodes;
    adze_status error;
    char *error_text; /* owned */
};

#endif
