/* patchcore.h - the PatchCore method (Roth et al., CVPR 2022) in the form of the benchmark; see patchcore.c. */
#ifndef ADZE_MODELS_PATCHCORE_H
#define ADZE_MODELS_PATCHCORE_H

#include "models/method.h"

#ifdef __cplusplus
extern "C" {
#endif

extern const adze_method adze_patchcore;

#ifdef __cplusplus
}
#endif
#endif
