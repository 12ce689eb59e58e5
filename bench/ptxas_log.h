/* ptxas_log.h - what ptxas said of each kernel when it was compiled: the logs that the build keeps beside its objects. */
#ifndef ADZE_BENCH_PTXAS_LOG_H
#define ADZE_BENCH_PTXAS_LOG_H

#include "core/text.h"

/* Appends one line per kernel of FOLDER (files *.cu.ptxas.txt) for one architecture ("sm_89"): registers, bytes spilled, static
 * shared memory, and how many of a multiprocessor's threads can be resident. *kernels and *spilled count them; 0 kernels where
 * there are no logs. ADZE_EINVAL for an unknown architecture, ADZE_EIO, ADZE_ENOMEM. */
adze_status ptxas_log_table(const char *folder, const char *arch, adze_text *out, int *kernels, int *spilled);

#endif
