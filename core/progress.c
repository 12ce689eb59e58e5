/* progress.c - rate and time left of long work. Entry: adze_progress_begin(), _update(), _end(). */
#include "core/progress.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <sys/ioctl.h>

#include "core/clock.h"
#include "core/memory.h"
#include "core/text.h"

enum { NAME_BYTES = 64, MAX_VALUES = 8, BAR_CELLS = 20 };
static const double redraw_seconds = 0.2, plain_seconds = 10.0, json_seconds = 1.0;

struct adze_progress {
    adze_progress_opts opts;
    bool running, drawn; /* drawn: the cursor stands behind a redrawn line */
    char task[NAME_BYTES], unit[NAME_BYTES];
    int64_t first, done, total;
    double begin_time, shown_time;
    struct {
        const char *name; /* borrowed */
        double value;
    } values[MAX_VALUES];
    int n_values;
};

adze_status adze_progress_create(adze_progress **out, const adze_progress_opts *opts)
{
    adze_progress *p = *out = adze_calloc(1, sizeof *p);
    if (!p) return adze_fail(ADZE_ENOMEM, "progress: %zu bytes", sizeof *p);
    p->opts = *opts;
    if (!p->opts.clock) p->opts.clock = adze_clock_seconds;
    return ADZE_OK;
}

void adze_progress_destroy(adze_progress *p)
{
    adze_progress_end(p);
    adze_free(p);
}

/* "1:05", "2:03:04" */
static void append_duration(adze_text *t, double seconds)
{
    const int64_t s = (int64_t)(seconds + 0.5);
    if (s >= 3600) adze_text_printf(t, "%" PRId64 ":%02d:%02d", s / 3600, (int)(s / 60 % 60), (int)(s % 60));
    else adze_text_printf(t, "%d:%02d", (int)(s / 60), (int)(s % 60));
}

static double elapsed(const adze_progress *p)
{
    return p->opts.clock() - p->begin_time;
}

/* Units per second since the beginning; 0 while unknown. */
static double rate(const adze_progress *p)
{
    const double seconds = elapsed(p);
    return seconds > 0.0 ? (double)(p->done - p->first) / seconds : 0.0;
}

static double share(const adze_progress *p)
{
    const double x = p->total > 0 ? (double)p->done / (double)p->total : 0.0;
    return x < 0.0 ? 0.0 : x > 1.0 ? 1.0 : x;
}

static void append_state(const adze_progress *p, adze_text *t, bool ended)
{
    const double per_second = rate(p);
    adze_text_printf(t, "%" PRId64, p->done);
    if (p->total > 0) adze_text_printf(t, "/%" PRId64, p->total);
    adze_text_printf(t, " %s", p->unit);
    if (per_second > 0.0) adze_text_printf(t, "  %.3g/s", per_second);
    adze_text_append(t, ended ? "  in " : "  ");
    append_duration(t, elapsed(p));
    if (!ended && per_second > 0.0 && p->total > p->done) {
        adze_text_append(t, "  left ");
        append_duration(t, (double)(p->total - p->done) / per_second);
    }
    for (int i = 0; i < p->n_values; i++) adze_text_printf(t, "  %s %.4g", p->values[i].name, p->values[i].value);
    adze_text_printf(t, "  peak %.0f MiB", (double)adze_memory_peak_bytes() / (1 << 20));
}

static int terminal_columns(FILE *file)
{
    struct winsize size;
    return ioctl(fileno(file), TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

/* Bytes of the first `columns` characters. */
static size_t clip(const char *s, int columns)
{
    const char *end = s;
    while (*end && (columns > 0 || (*end & 0xC0) == 0x80)) columns -= (*end++ & 0xC0) != 0x80;
    return (size_t)(end - s);
}

static void draw_bar(adze_progress *p, adze_text *t)
{
    adze_text_printf(t, "%s  ", p->task);
    if (p->total > 0) {
        const int filled = (int)(share(p) * BAR_CELLS);
        adze_text_append(t, "[");
        for (int i = 0; i < BAR_CELLS; i++) adze_text_append(t, i < filled ? "#" : ".");
        adze_text_printf(t, "] %3d%%  ", (int)(share(p) * 100.0));
    }
    append_state(p, t, false);
    if (!t->s) return;
    fprintf(p->opts.file, "\r%.*s\x1b[K", (int)clip(t->s, terminal_columns(p->opts.file) - 1), t->s);
    p->drawn = true;
}

static void write_json(const adze_progress *p, adze_text *t, bool ended)
{
    const double per_second = rate(p);
    adze_text_append(t, "{\"progress\":");
    adze_text_json(t, p->task);
    adze_text_append(t, ",\"unit\":");
    adze_text_json(t, p->unit);
    adze_text_printf(t, ",\"done\":%" PRId64 ",\"total\":", p->done);
    if (p->total > 0) adze_text_printf(t, "%" PRId64, p->total);
    else adze_text_append(t, "null");
    adze_text_printf(t, ",\"elapsed_s\":%.3f,\"per_s\":%.6g", elapsed(p), per_second);
    if (per_second > 0.0 && p->total > 0) adze_text_printf(t, ",\"left_s\":%.3f", (double)(p->total - p->done) / per_second);
    for (int i = 0; i < p->n_values; i++) {
        adze_text_append(t, ",");
        adze_text_json(t, p->values[i].name);
        if (isfinite(p->values[i].value)) adze_text_printf(t, ":%.9g", p->values[i].value);
        else adze_text_append(t, ":null");
    }
    adze_text_printf(t, ",\"peak_bytes\":%zu,\"ended\":%s}\n", adze_memory_peak_bytes(), ended ? "true" : "false");
    fputs(t->s ? t->s : "", p->opts.file);
}

/* Writes one line; a line that memory does not suffice for is left out. */
static void show(adze_progress *p, bool ended)
{
    adze_text t = ADZE_TEXT_EMPTY;
    p->shown_time = p->opts.clock();
    if (p->opts.output == ADZE_OUTPUT_JSON) write_json(p, &t, ended);
    else if (p->opts.is_terminal && !ended) draw_bar(p, &t);
    else {
        adze_progress_clear(p);
        adze_text_printf(&t, "%s: ", p->task);
        append_state(p, &t, ended);
        fprintf(p->opts.file, "%s\n", t.s ? t.s : "");
    }
    fflush(p->opts.file);
    adze_text_destroy(&t);
}

void adze_progress_begin(adze_progress *p, const char *task, const char *unit, int64_t done, int64_t total)
{
    if (!p) return;
    adze_progress_end(p);
    snprintf(p->task, sizeof p->task, "%s", task);
    snprintf(p->unit, sizeof p->unit, "%s", unit);
    p->first = p->done = done;
    p->total = total;
    p->n_values = 0;
    p->begin_time = p->opts.clock();
    p->running = true;
    if (p->opts.output != ADZE_OUTPUT_QUIET) show(p, false);
}

void adze_progress_update(adze_progress *p, int64_t done)
{
    if (!p || !p->running) return;
    p->done = done;
    if (p->opts.output == ADZE_OUTPUT_QUIET) return;
    const double every = p->opts.output == ADZE_OUTPUT_JSON ? json_seconds
                         : p->opts.is_terminal               ? redraw_seconds
                                                             : plain_seconds;
    if (p->opts.clock() - p->shown_time >= every) show(p, false);
}

void adze_progress_value(adze_progress *p, const char *name, double value)
{
    if (!p || !p->running) return;
    int i = 0;
    while (i < p->n_values && strcmp(p->values[i].name, name) != 0) i++;
    if (i == MAX_VALUES) return;
    if (i == p->n_values) p->n_values++;
    p->values[i].name = name;
    p->values[i].value = value;
}

void adze_progress_end(adze_progress *p)
{
    if (!p || !p->running) return;
    if (p->opts.output != ADZE_OUTPUT_QUIET) show(p, true);
    p->running = false;
}

void adze_progress_clear(adze_progress *p)
{
    if (!p || !p->drawn) return;
    fputs("\r\x1b[K", p->opts.file);
    fflush(p->opts.file);
    p->drawn = false;
    p->shown_time = -INFINITY;
}
