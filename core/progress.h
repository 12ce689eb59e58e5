/* progress.h - how far a long piece of work is, its rate and the time left, on a stream that the program gives.
 *
 * On a terminal one line is redrawn, at most five times a second; elsewhere a plain line when a task begins, every 10 s
 * and when it ends; as JSON one object per line; quiet: nothing. For use from one thread. */
#ifndef ADZE_CORE_PROGRESS_H
#define ADZE_CORE_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* In the order of --log's choices. */
typedef enum { ADZE_OUTPUT_TEXT, ADZE_OUTPUT_JSON, ADZE_OUTPUT_QUIET } adze_output;

typedef struct adze_progress adze_progress; /* NULL is a silent one: every function below takes it */

typedef struct {
    FILE *file; /* borrowed; a program's stderr */
    adze_output output;
    bool is_terminal;      /* isatty() of the file */
    double (*clock)(void); /* seconds, monotonic; NULL: adze_clock_seconds(). Tests give their own. */
} adze_progress_opts;

adze_status adze_progress_create(adze_progress **out, const adze_progress_opts *opts);
void adze_progress_destroy(adze_progress *p); /* ends a running task */

/* Starts a task ("fit pcb") of `total` units ("images"; 0 = unknown), `done` of which exist already (a resumed run). The
 * first line appears at once. A running task is ended first. The strings are copied, at most 63 bytes each. */
void adze_progress_begin(adze_progress *p, const char *task, const char *unit, int64_t done, int64_t total);
/* Sets how much is done; call it as often as you like. */
void adze_progress_update(adze_progress *p, int64_t done);
/* A number to show beside ("loss", "waiting %"); at most 8 per task, later ones are dropped. `name` is borrowed until the
 * end of the task. Shown with the next line. */
void adze_progress_value(adze_progress *p, const char *name, double value);
/* Writes the closing line. Nothing if no task is running. */
void adze_progress_end(adze_progress *p);
/* Takes the redrawn line away so that another line can be written; the next update draws it again. */
void adze_progress_clear(adze_progress *p);

#ifdef __cplusplus
}
#endif
#endif
