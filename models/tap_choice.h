/* tap_choice.h - which taps of a backbone a method works on. */
#ifndef ADZE_MODELS_TAP_CHOICE_H
#define ADZE_MODELS_TAP_CHOICE_H

#include "models/backbone.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int index[ADZE_BACKBONE_TAPS], n; /* in the order in which they were named */
    int deepest;                      /* nothing behind this tap is needed */
} tap_choice;

/* The taps named by `layers` ("layer2,layer3" or "2,3"), the value of an option; where it is NULL or empty those with strides
 * first_stride to last_stride. ADZE_EINVAL names an unknown layer, or one too many (more than `most`). */
adze_status tap_choice_parse(tap_choice *out, const adze_backbone_info *b, const char *option, const char *layers, int first_stride, int last_stride,
                             int most);

#ifdef __cplusplus
}
#endif
#endif
