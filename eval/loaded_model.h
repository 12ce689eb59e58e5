/* loaded_model.h - a checkpoint opened for scoring: method, options, backbone and bank, ready to take pictures. */
#ifndef ADZE_EVAL_LOADED_MODEL_H
#define ADZE_EVAL_LOADED_MODEL_H

#include "checkpoints/model_file.h"
#include "core/context.h"
#include "datasets/normalize.h"
#include "models/method.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    adze_ctx *ctx;               /* borrowed */
    const adze_method *method;
    adze_model *model;
    adze_options *options;       /* the method's, as they were when the model was made */
    adze_model_file *file;
    const adze_model_info *info; /* of the file */
    adze_normalize normalize;
    int64_t batch;
} loaded_model;

/* Reads PATH. batch 0: the method's. ADZE_EINPUT: no checkpoint, damaged, of a method or backbone unknown here. */
adze_status loaded_model_open(loaded_model *m, const char *path, adze_ctx *ctx, int64_t batch);
/* Numbers that are not finite come from the file, for pictures are bytes: makes ADZE_ENUMERIC an ADZE_EINPUT with its path. */
adze_status loaded_model_blame(adze_status st, const char *path);
/* Whether its pictures come as OpenCV reads them, blue first. */
bool loaded_model_reads_as_opencv(const loaded_model *m);
/* Whether the method's own image score counts, as adze_method.scores_images says. */
bool loaded_model_scores_images(const loaded_model *m);
void loaded_model_close(loaded_model *m); /* zeroed or closed is fine */

#ifdef __cplusplus
}
#endif
#endif
