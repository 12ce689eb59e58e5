/* log.h - messages with a level, written to a stream or handed to a function that the program gives.
 *
 * The library never decides where messages go: what wants to say something takes an adze_log, which may be NULL. For use
 * from one thread. */
#ifndef ADZE_CORE_LOG_H
#define ADZE_CORE_LOG_H

#include "core/progress.h"
#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum { ADZE_LOG_DEBUG, ADZE_LOG_INFO, ADZE_LOG_WARNING, ADZE_LOG_ERROR } adze_log_level;

typedef struct {
    FILE *file;          /* borrowed; NULL: no stream */
    adze_output output;  /* TEXT: "adze-train: warning: ..."; JSON: one object per line; QUIET: only errors, as text */
    adze_log_level least; /* lower levels are dropped */
    const char *program; /* name before each text line; borrowed; may be NULL */
    adze_progress *progress; /* borrowed, may be NULL: its redrawn line makes way */
    /* Also gets every message at or above `least`, whatever the output; may be NULL. */
    void (*sink)(void *user, adze_log_level level, const char *message);
    void *user;
} adze_log;

/* Formats and writes one message; control characters in it are shown as '?' except in JSON, where they are escaped. */
void adze_log_write(const adze_log *log, adze_log_level level, const char *fmt, ...) ADZE_PRINTF(3, 4);
const char *adze_log_level_name(adze_log_level level); /* "debug", "info", "warning", "error" */

#ifdef __cplusplus
}
#endif
#endif
