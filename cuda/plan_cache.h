/* plan_cache.h - choices that were timed once, in files of their own: $XDG_CACHE_HOME/adze/plans (or ~/.cache/adze/plans). */
#ifndef ADZE_CUDA_PLAN_CACHE_H
#define ADZE_CUDA_PLAN_CACHE_H

#include <stdbool.h>
#include <stdint.h>

/* The choice that was stored under `key`. False if there is none, or the file is not readable as one. */
bool plan_cache_read(const char *key, int64_t *choice);
/* Stores it unless another process was faster: *choice is then what that one stored. False if nothing can be stored: no
 * home, no permission, a full disk. */
bool plan_cache_write(const char *key, int64_t *choice);

#endif
