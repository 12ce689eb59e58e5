/* feature_key.h - under which key the frozen features of pictures are kept: everything that decides about their bits except
 * the picture itself. */
#ifndef ADZE_TRAIN_FEATURE_KEY_H
#define ADZE_TRAIN_FEATURE_KEY_H

#include "core/graph.h"
#include "core/params.h"
#include "datasets/loader.h"
#include "datasets/normalize.h"
#include "train/feature_cache.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How pictures become the graph's input. */
typedef struct {
    const adze_loader_opts *loader;
    const adze_normalize *normalize;
    int64_t batch; /* keys do not depend on it */
} adze_feature_input;

/* The n values v of a graph whose first dimension is the batch: out[n]. Equal keys: the same operations on the same weights
 * behind the same preprocessing, computed by the same version on the same kind of device, whatever the method. */
adze_status adze_feature_key(const adze_graph *g, const adze_params *params, const adze_value *v, int n,
                             const adze_feature_input *input, adze_feature_value *out);

/* SHA-256 of the files of n pictures; reads them all. ADZE_EINPUT names the one that cannot be read. */
adze_status adze_feature_pictures(const adze_data_item *items, int64_t n, adze_digest *digest);

#ifdef __cplusplus
}
#endif
#endif
