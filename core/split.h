/* split.h - cutting a training graph: what depends on the image alone, and for each kind of step the rest.
 *
 * The first part gives the same values for an image in every epoch, so they can be computed once and kept. The cut is found
 * from the graph: no method knows of it. It runs before views and before what is cheap to make anew (adze_op_def.remade): methods
 * that use the same taps of a backbone keep the same values, whatever each makes of them. */
#ifndef ADZE_CORE_SPLIT_H
#define ADZE_CORE_SPLIT_H

#include "core/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { ADZE_GRAPH_CUTS = 8, ADZE_GRAPH_GOALS = 8 };

/* What one kind of step trains. */
typedef struct {
    adze_value loss;
    const char *const *trained; /* NULL-terminated: parameters whose names begin so; the others are constants in this step. NULL: all */
} adze_graph_goal;

/* The rest for one goal: what its loss needs, inputs "cut0", ... (and the others that it reads), outputs and names of the original. */
typedef struct {
    adze_graph *graph;              /* owned */
    adze_value loss;
    adze_value to[ADZE_GRAPH_CUTS]; /* the cuts; ADZE_NONE where the goal does not read one */
} adze_graph_rest;

typedef struct {
    adze_graph *frozen; /* owned: input "image", outputs "cut0", "cut1", ...; NULL if nothing can be kept */
    adze_value image;   /* in frozen */
    int n_cuts;
    adze_value from[ADZE_GRAPH_CUTS]; /* in frozen */
    int64_t floats[ADZE_GRAPH_CUTS];  /* per image; the first dimension of a cut is the batch */
    adze_graph_rest rest[ADZE_GRAPH_GOALS];
    int n_rests;
} adze_graph_parts;

/* Splits `g`, whose batch is the first dimension of `image`. ADZE_EINTERNAL: more than ADZE_GRAPH_CUTS cuts or ADZE_GRAPH_GOALS
 * goals; ADZE_EINVAL: a loss is no computed value; ADZE_ENOMEM. */
adze_status adze_graph_split(adze_graph_parts *out, const adze_graph *g, adze_value image, const adze_graph_goal *goal, int n_goals);
void adze_graph_parts_destroy(adze_graph_parts *s);

/* Whether steps of a rest change the parameter: it is trained, or a statistic that moves. */
bool adze_graph_changes(const adze_graph *rest, const char *param);

#ifdef __cplusplus
}
#endif
#endif
