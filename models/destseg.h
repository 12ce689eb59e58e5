/* destseg.h - the method "destseg". */
#ifndef ADZE_MODELS_DESTSEG_H
#define ADZE_MODELS_DESTSEG_H

#include "models/method.h"

#ifdef __cplusplus
extern "C" {
#endif

extern const adze_method adze_destseg;

#ifdef __cplusplus
}
#endif
#endif
