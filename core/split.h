/* split.h - cutting a training graph in two: what depends on the image alone, and the rest.
 *
 * The first part gives the same values for an image in every epoch, so they can be computed once and kept. The cut is found
 * from the graph: no method knows of it. */
#ifndef ADZE_CORE_SPLIT_H
#define ADZE_CORE_SPLIT_H

#include "core/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { ADZE_GRAPH_CUTS = 8 };

typedef struct {
    adze_graph *frozen; /* owned: input "image", outputs "cut0", "cut1", ...; NULL if nothing can be kept */
    adze_graph *rest;   /* owned: inputs "cut0", ... (and the others that it reads), outputs and names of the original */
    adze_value image;   /* in frozen */
    adze_value loss;    /* in rest */
    int n_cuts;
    adze_value from[ADZE_GRAPH_CUTS], to[ADZE_GRAPH_CUTS]; /* the same value in frozen and in rest */
    int64_t floats[ADZE_GRAPH_CUTS]; /* per image; the first dimension of a cut is the batch */
} adze_graph_parts;

/* Splits `g`, whose batch is the first dimension of `image`. ADZE_EINTERNAL: more than ADZE_GRAPH_CUTS cuts; ADZE_ENOMEM. */
adze_status adze_graph_split(adze_graph_parts *out, const adze_graph *g, adze_value image, adze_value loss);
void adze_graph_parts_destroy(adze_graph_parts *s);

#ifdef __cplusplus
}
#endif
#endif
