/* simplenet_net.h - what SimpleNet trains: the projection of patch features and the discriminator behind it. */
#ifndef ADZE_MODELS_SIMPLENET_NET_H
#define ADZE_MODELS_SIMPLENET_NET_H

#include "core/graph.h"
#include "core/params.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SIMPLENET_PROJECTION "net_simplenet.pre_projection."
#define SIMPLENET_DISCRIMINATOR "net_simplenet.discriminator."

typedef struct {
    const char *prefix; /* before the names above; NULL: none */
    int64_t hidden;     /* width of the discriminator */
    float margin;       /* of the hinge */
} simplenet_net_opts;

/* Values of a training graph; further ones for tests. */
typedef struct {
    adze_value hidden;    /* (2N,P,hidden): first linear of [f; f + noise] */
    adze_value activated; /* the same behind batch norm and leaky ReLU */
    adze_value scores;    /* (2N,P,1): good features score high */
    adze_value loss;      /* (1) */
} simplenet_net;

/* x (N,P,D): rows of patch features, frozen; noise of the same shape, an input. */
adze_status simplenet_net_train(adze_graph *g, adze_value x, adze_value noise, const simplenet_net_opts *opts, simplenet_net *net);
/* By the running statistics; x (N,P,D) -> *scores (N,P,1). */
adze_status simplenet_net_score(adze_graph *g, adze_value x, const simplenet_net_opts *opts, adze_value *scores);
/* Initial values: weights Xavier normal, biases uniform within 1/sqrt(fan_in), batch norm 1, 0, running statistics 0, 1.
 * Philox streams by parameter number. */
adze_status simplenet_net_init(adze_params *params, uint64_t seed);

#ifdef __cplusplus
}
#endif
#endif
