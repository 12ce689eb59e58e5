/* graph_key.h - what a value of a graph depends on, as a hash: two values with the same key are the same function of the
 * input, whatever else the graphs around them hold. */
#ifndef ADZE_CORE_GRAPH_KEY_H
#define ADZE_CORE_GRAPH_KEY_H

#include "core/graph.h"
#include "core/params.h"
#include "core/sha256.h"

#ifdef __cplusplus
extern "C" {
#endif

/* key[k] of v[k], k < n: SHA-256 over the operations that lead to it with their attributes, the shapes without their first
 * dimension (the batch), and the numbers of the parameters; names do not count. ADZE_ENOMEM. */
adze_status adze_graph_key(const adze_graph *g, const adze_params *params, const adze_value *v, int n,
                           unsigned char (*key)[ADZE_SHA256_BYTES]);

#ifdef __cplusplus
}
#endif
#endif
