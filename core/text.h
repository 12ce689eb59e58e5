/* text.h - a growing text buffer: reports, tables, JSON and messages are built in one. */
#ifndef ADZE_CORE_TEXT_H
#define ADZE_CORE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Start with ADZE_TEXT_EMPTY. After a failed allocation `failed` stays set, later appends do nothing: check once. */
typedef struct {
    char *s; /* owned, NUL-terminated; NULL while empty */
    size_t n_bytes, capacity_bytes;
    bool failed;
} adze_text;
#define ADZE_TEXT_EMPTY ((adze_text){ NULL, 0, 0, false })

void adze_text_append(adze_text *t, const char *s);
void adze_text_append_n(adze_text *t, const char *s, size_t n_bytes);
void adze_text_printf(adze_text *t, const char *fmt, ...) ADZE_PRINTF(2, 3);
/* The string as JSON: quoted, escaped; bytes that are no UTF-8 become U+FFFD. */
void adze_text_json(adze_text *t, const char *s);
void adze_text_destroy(adze_text *t);
/* ADZE_ENOMEM with `what` in the message if an append failed. */
adze_status adze_text_check(const adze_text *t, const char *what);
/* Number of edits (insert, delete, replace, swap of neighbours) that turn a into b: for "did you mean". */
int adze_text_distance(const char *a, const char *b);
/* The entry of "one|two|three" with the fewest edits from `word`, the first of equals; in new memory (adze_free), NULL if
 * out of memory. For messages about unknown names. */
char *adze_text_nearest(const char *word, const char *names);

#ifdef __cplusplus
}
#endif
#endif
