/* report.h - report.html: one file without script, network or external resource.
 *
 * The same input gives the same bytes. Everything that comes from outside is escaped, and the page forbids itself by
 * its content-security policy to load anything. */
#ifndef ADZE_EVAL_REPORT_H
#define ADZE_EVAL_REPORT_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "core/text.h"
#include "eval/result_table.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum { ADZE_REPORT_ORIGINAL, ADZE_REPORT_MASK, ADZE_REPORT_MAP } adze_report_picture_kind;

/* Gives one picture of the gallery as PNG bytes, borrowed until the next call; *png = NULL if there is none. */
typedef adze_status (*adze_report_picture)(void *user, int64_t cls, int64_t image, adze_report_picture_kind kind,
                                           const unsigned char **png, size_t *n_bytes);

typedef struct {
    const char *title;
    const adze_fact *fact;       /* (n_facts) of the run: method, options, device, times, memory, command */
    int64_t n_facts;
    const char *const *note;     /* (n_notes) limits of the run as a whole */
    int64_t n_notes;
    adze_report_picture picture; /* NULL = no gallery */
    void *user;
    int64_t gallery;             /* worst misses, and worst false alarms, per class; 0 = 20 over all classes, 2 at least */
    size_t picture_limit_bytes;  /* all pictures together in the file (base64); later ones are left out and counted */
} adze_report_opts;
#define ADZE_REPORT_OPTS ((adze_report_opts){ .title = "adze report", .picture_limit_bytes = (size_t)18 << 20 })

/* Appends the page to `out`. Forwards a failure of opts->picture; ADZE_ENOMEM. */
adze_status adze_report_html(const adze_results *r, const adze_report_opts *opts, adze_text *out);
/* The same into `path`, atomically. */
adze_status adze_report_write(const adze_results *r, const adze_report_opts *opts, const char *path);

#ifdef __cplusplus
}
#endif
#endif
