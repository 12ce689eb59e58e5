/* simplenet.h - SimpleNet (Liu et al., CVPR 2023) in the form of the benchmark; see simplenet.c. */
#ifndef ADZE_MODELS_SIMPLENET_H
#define ADZE_MODELS_SIMPLENET_H

#include "models/method.h"

#ifdef __cplusplus
extern "C" {
#endif

extern const adze_method adze_simplenet;

#ifdef __cplusplus
}
#endif
#endif
