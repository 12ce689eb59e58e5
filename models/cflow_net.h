/* cflow_net.h - the decoders of CFLOW-AD: conditional normalising flows over feature vectors, one per level. */
#ifndef ADZE_MODELS_CFLOW_NET_H
#define ADZE_MODELS_CFLOW_NET_H

#include <stdbool.h>

#include "core/graph.h"
#include "core/ops.h"
#include "core/params.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    bool train;                  /* parameters trainable, but for the rotations */
    const char *prefix;          /* before "decoders."; NULL: none */
    int64_t blocks;
    adze_coupling_opts coupling;
} cflow_net_opts;
#define CFLOW_NET_OPTS ((cflow_net_opts){ .blocks = 8, .coupling = ADZE_COUPLING_OPTS })

/* Decoder `level` over rows x (R,C) at places cond (R,P): *logp (R), the log-likelihood per dimension. `state`: NULL, or
 * receives the last block's state (ops.h). C must be even. */
adze_status cflow_net_build(adze_graph *g, int level, adze_value x, adze_value cond, const cflow_net_opts *opts, adze_value *logp,
                            adze_value *state);
/* Initial values of the parameters with `prefix`: layers uniform within 1/sqrt(fan_in), biases too; scales 1, offsets 0; a
 * random rotation per block. Philox streams by parameter number. */
adze_status cflow_net_init(adze_params *params, const char *prefix, uint64_t seed);

/* code (H*W,P), P a multiple of 4: sines and cosines of the column in the first half, of the row in the second. */
void cflow_position_code(int64_t H, int64_t W, int64_t P, float *code);

#ifdef __cplusplus
}
#endif
#endif
