/* model_params.h - moving a model's parameters between its block and a source or sink. */
#ifndef ADZE_MODELS_MODEL_PARAMS_H
#define ADZE_MODELS_MODEL_PARAMS_H

#include "models/method.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Fills every parameter whose name begins with `prefix` from the source, where it is called the same without `strip`.
 * ADZE_EINPUT names a tensor that is missing or has another shape. */
adze_status model_params_load(adze_params *params, const char *prefix, const char *strip, const adze_tensor_source *source);
/* Gives every parameter whose name begins with `prefix` to the sink. */
adze_status model_params_save(const adze_params *params, const char *prefix, const adze_tensor_sink *sink);

#ifdef __cplusplus
}
#endif
#endif
