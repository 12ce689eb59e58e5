/* feature_fit.h - fitting a method without gradients from features that are kept in a file. */
#ifndef ADZE_TRAIN_FEATURE_FIT_H
#define ADZE_TRAIN_FEATURE_FIT_H

#include "datasets/loader.h"
#include "datasets/normalize.h"
#include "models/method.h"
#include "train/feature_cache.h"

#ifdef __cplusplus
extern "C" {
#endif

/* All borrowed. */
typedef struct {
    adze_ctx *ctx;
    const adze_method *method;
    adze_model *model;           /* made with setup->from_features; fit_begin was called */
    int64_t batch;               /* of its setup */
    const adze_data_item *items; /* (n) the pictures to fit on, in order */
    const adze_digest *picture;  /* (n) of their files */
    int64_t n;
    const adze_loader_opts *loader;
    const adze_normalize *normalize;
    const char *path;
    bool replace;                /* as in feature_cache.h */
} adze_feature_fit_opts;

/* Computes and adds to the file what it lacks, then gives every picture to fit_add_features. *found and *waited_s as in
 * feature_fill.h. */
adze_status adze_feature_fit(const adze_feature_fit_opts *o, const adze_work_progress *progress, int64_t *found, double *waited_s);

#ifdef __cplusplus
}
#endif
#endif
