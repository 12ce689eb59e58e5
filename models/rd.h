/* rd.h - reverse distillation (Deng and Li, CVPR 2022) in the form of the benchmark; see rd.c. */
#ifndef ADZE_MODELS_RD_H
#define ADZE_MODELS_RD_H

#include "models/method.h"

#ifdef __cplusplus
extern "C" {
#endif

extern const adze_method adze_rd;

#ifdef __cplusplus
}
#endif
#endif
