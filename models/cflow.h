/* cflow.h - CFLOW-AD. */
#ifndef ADZE_MODELS_CFLOW_H
#define ADZE_MODELS_CFLOW_H

#include "models/method.h"

#ifdef __cplusplus
extern "C" {
#endif

extern const adze_method adze_cflow;

#ifdef __cplusplus
}
#endif
#endif
