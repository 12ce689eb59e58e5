/* statistics.h - running statistics put aside on the device before a run, so that a run that fails has not moved them. */
#ifndef ADZE_TRAIN_STATISTICS_H
#define ADZE_TRAIN_STATISTICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/params.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct adze_statistics adze_statistics; /* opaque: owns the copy */

/* Of the parameters with keep[i] that are not trained; `params` is borrowed. ADZE_ENOMEM. */
adze_status adze_statistics_create(adze_statistics **out, adze_params *params, const bool *keep);
void adze_statistics_destroy(adze_statistics *s);
/* Both are queued, and may be recorded. Restores if *when, on the device, is not 0; NULL: always. */
adze_status adze_statistics_save(adze_statistics *s);
adze_status adze_statistics_restore(adze_statistics *s, const int32_t *when);
/* The statistics themselves, on the device, in pieces of *n floats. */
int adze_statistics_pieces(const adze_statistics *s);
float *adze_statistics_piece(adze_statistics *s, int k, int64_t *n);

#ifdef __cplusplus
}
#endif
#endif
