/* child.h - running another of our programs and waiting for it. */
#ifndef ADZE_BENCH_CHILD_H
#define ADZE_BENCH_CHILD_H

#include "core/status.h"

/* Starts the program at argv[0] with argv (NULL-terminated) and waits. Its output goes to the end of the file `log`, NULL: where
 * ours goes. When adze_interrupted() it gets SIGINT, once; a terminal's own does not reach it. It does not outlive us.
 * *code: its exit status, 5 if a signal ended it. ADZE_EINTERNAL if it could not be started. */
adze_status child_run(char *const *argv, const char *log, int *code);

#endif
