/* map_score.h - one number for a picture from the largest values of its map. */
#ifndef ADZE_MODELS_MAP_SCORE_H
#define ADZE_MODELS_MAP_SCORE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { MAP_SCORE_TOP_MAX = 256 };
/* Mean of the `top` largest of n values (1 to MAP_SCORE_TOP_MAX, at most n): 1 is the maximum. NaN counts as the largest. */
float map_score_top(const float *map, int64_t n, int64_t top);

#ifdef __cplusplus
}
#endif
#endif
