/* feature_fill.h - filling a feature cache: pictures that it lacks go through the frozen part of a graph. */
#ifndef ADZE_TRAIN_FEATURE_FILL_H
#define ADZE_TRAIN_FEATURE_FILL_H

#include "core/plan.h"
#include "datasets/loader.h"
#include "datasets/normalize.h"
#include "models/method.h"
#include "train/feature_cache.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where the values come from; all borrowed. */
typedef struct {
    adze_plan *plan;             /* of the frozen part */
    adze_value image;            /* its input (batch,H,W,3) */
    const adze_value *value;     /* (n_values), its outputs, in the cache's order */
    const int64_t *floats;       /* (n_values), per picture */
    int n_values;
    int64_t batch;
    const adze_data_item *items; /* (n), the cache's pictures */
    int64_t n;
    const adze_loader_opts *loader;
    const adze_normalize *normalize;
} adze_feature_source;

/* Puts every value that is missing; *found: how many pictures lacked none, *waited_s grows by the seconds spent waiting for
 * pictures. ADZE_EINTERRUPTED when progress says so; on failure nothing is added. */
adze_status adze_feature_fill(adze_feature_cache *c, const adze_feature_source *s, const adze_work_progress *progress, int64_t *found,
                              double *waited_s);

#ifdef __cplusplus
}
#endif
#endif
