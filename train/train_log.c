/* train_log.c - the table of a training run. Entry: adze_train_log_open(), adze_train_log_row(). */
#include "train/train_log.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/memory.h"
#include "core/text.h"
#include "train/append_file.h"

struct adze_train_log {
    adze_append_file file;
    adze_text line; /* reused: later rows allocate nothing */
    int n_terms;
    double elapsed_s;
};

/* Nothing that a spreadsheet would take for a formula or a separator. */
static bool is_name(const char *s)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/-";
    return s[0] && s[0] != '-' && strspn(s, allowed) == strlen(s);
}

/* Length of the header and of the rows up to last_step; elapsed_s of the last of them. */
static adze_status sound_bytes(const char *path, const char *data, const adze_text *header, int64_t last_step, size_t *keep,
                               double *elapsed_s)
{
    adze_status st = ADZE_OK;
    const char *line_end = strchr(data, '\n');
    *keep = 0;
    if (!line_end) goto done;
    REQUIRE(strncmp(data, header->s, header->n_bytes) == 0, ADZE_EINPUT, "%s: the columns are '%.*s', this run writes '%.*s'",
            path, (int)(line_end - data < 200 ? line_end - data : 200), data, (int)header->n_bytes - 1, header->s);
    for (const char *row = line_end + 1;; row = line_end + 1) {
        *keep = (size_t)(row - data);
        line_end = strchr(row, '\n');
        if (!line_end) break;
        const char *step = memchr(row, ',', (size_t)(line_end - row));
        const char *last = memrchr(row, ',', (size_t)(line_end - row));
        char *end;
        if (!step || strtoll(step + 1, &end, 10) > last_step || *end != ',') break;
        *elapsed_s = strtod(last + 1, NULL);
    }
done:
    return st;
}

adze_status adze_train_log_open(adze_train_log **out, const char *path, const char *const *term, int n_terms, int64_t last_step)
{
    adze_status st = ADZE_OK;
    adze_train_log *log = NULL;
    unsigned char *data = NULL;
    size_t n_bytes, keep = 0;
    *out = NULL;
    REQUIRE(log = adze_calloc(1, sizeof *log), ADZE_ENOMEM, "%s: %zu host bytes", path, sizeof *log);
    log->file = ADZE_APPEND_FILE_CLOSED;
    log->n_terms = n_terms;
    adze_text_append(&log->line, "epoch,step,lr,loss,");
    for (int i = 0; i < n_terms; i++) {
        REQUIRE(is_name(term[i]), ADZE_EINVAL, "%s: a loss term cannot be called '%s'", path, term[i]);
        adze_text_printf(&log->line, "%s,", term[i]);
    }
    adze_text_append(&log->line, "images_per_s,elapsed_s\n");
    TRY(adze_text_check(&log->line, "the columns of train.csv"));
    if (last_step >= 0 && adze_file_exists(path)) {
        TRY(adze_file_read(path, (size_t)1 << 31, &data, &n_bytes));
        TRY(sound_bytes(path, (const char *)data, &log->line, last_step, &keep, &log->elapsed_s));
    }
    TRY(adze_append_file_open(&log->file, path, keep));
    if (keep == 0) TRY(adze_append_file_write(&log->file, log->line.s, log->line.n_bytes));
    *out = log;
    log = NULL;
done:
    adze_free(data);
    adze_train_log_close(log);
    return st;
}

void adze_train_log_close(adze_train_log *log)
{
    if (!log) return;
    adze_append_file_close(&log->file);
    adze_text_destroy(&log->line);
    adze_free(log);
}

adze_status adze_train_log_row(adze_train_log *log, const adze_train_row *row)
{
    adze_status st = ADZE_OK;
    log->line.n_bytes = 0;
    adze_text_printf(&log->line, "%" PRId64 ",%" PRId64 ",%.9g,%.9g,", row->epoch, row->step, row->lr, row->loss);
    for (int i = 0; i < log->n_terms; i++) adze_text_printf(&log->line, "%.9g,", row->term[i]);
    adze_text_printf(&log->line, "%.1f,%.3f\n", row->images_per_s, row->elapsed_s);
    TRY(adze_text_check(&log->line, "a row of train.csv"));
    TRY(adze_append_file_write(&log->file, log->line.s, log->line.n_bytes));
done:
    return st;
}

double adze_train_log_elapsed_s(const adze_train_log *log) { return log->elapsed_s; }
