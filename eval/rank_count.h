/* rank_count.h - how many scores lie at, and between, given values: all that the ranks of the majority are needed for. */
#ifndef ADZE_EVAL_RANK_COUNT_H
#define ADZE_EVAL_RANK_COUNT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Counts n scores against m distinct ascending finite values.
 *
 *   score    (n) float, or double if float64; finite
 *   value    (m)
 *   threads  0 = OpenMP's default; the counts do not depend on it
 *   count    (2m+1) written: [2j] strictly between value[j-1] and value[j], [2j+1] equal to value[j]
 *
 * ADZE_EINVAL if m is above 2^30; ADZE_ENOMEM: about 20 bytes a value, and 8 for each thread. */
adze_status adze_rank_count(const void *score, bool float64, int64_t n, const double *value, int64_t m, int threads,
                            int64_t *count);

#ifdef __cplusplus
}
#endif
#endif
