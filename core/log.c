/* log.c - messages with a level. Entry: adze_log_write(). */
#include "core/log.h"

#include <string.h>
#include <time.h>

#include "core/text.h"

enum { MESSAGE_BYTES = 2048 };

const char *adze_log_level_name(adze_log_level level)
{
    switch (level) {
    case ADZE_LOG_DEBUG: return "debug";
    case ADZE_LOG_INFO: return "info";
    case ADZE_LOG_WARNING: return "warning";
    case ADZE_LOG_ERROR: return "error";
    }
    return "unknown";
}

static void write_json(FILE *file, adze_log_level level, const char *message)
{
    adze_text t = ADZE_TEXT_EMPTY;
    char stamp[32];
    struct tm utc;
    const time_t now = time(NULL);
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    adze_text_printf(&t, "{\"time\":\"%s\",\"level\":\"%s\",\"message\":", stamp, adze_log_level_name(level));
    adze_text_json(&t, message);
    if (!t.failed) fprintf(file, "%s}\n", t.s);
    adze_text_destroy(&t);
}

static void write_text(const adze_log *log, adze_log_level level, char *message)
{
    for (char *c = message; *c; c++)
        if (((unsigned char)*c < 0x20 && *c != '\n' && *c != '\t') || *c == 0x7F) *c = '?';
    if (log->program) fprintf(log->file, "%s: ", log->program);
    if (level != ADZE_LOG_INFO) fprintf(log->file, "%s: ", adze_log_level_name(level));
    fprintf(log->file, "%s\n", message);
}

void adze_log_write(const adze_log *log, adze_log_level level, const char *fmt, ...)
{
    if (!log || level < log->least) return;
    char message[MESSAGE_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    if (log->sink) log->sink(log->user, level, message);
    if (!log->file || (log->output == ADZE_OUTPUT_QUIET && level < ADZE_LOG_ERROR)) return;
    adze_progress_clear(log->progress);
    if (log->output == ADZE_OUTPUT_JSON) write_json(log->file, level, message);
    else write_text(log, level, message);
    fflush(log->file);
}
