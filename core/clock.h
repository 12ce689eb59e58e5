/* clock.h - the monotonic clock, for rates, timings and throttling. */
#ifndef ADZE_CORE_CLOCK_H
#define ADZE_CORE_CLOCK_H

#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Seconds since some fixed moment; never goes back. */
static inline double adze_clock_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

#ifdef __cplusplus
}
#endif
#endif
