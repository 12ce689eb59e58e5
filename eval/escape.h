/* escape.h - text from outside (file names, class names, messages) made safe for each output format (JSON: adze_text_json() in core/text.h).
 *
 * All take any bytes; what is not UTF-8 becomes U+FFFD, control characters that the format cannot hold likewise. */
#ifndef ADZE_EVAL_ESCAPE_H
#define ADZE_EVAL_ESCAPE_H

#include "core/text.h"

#ifdef __cplusplus
extern "C" {
#endif

/* For element content and for attribute values in double or single quotes. */
void adze_escape_html(adze_text *out, const char *s);
/* A cell of a comma-separated file (RFC 4180), quoted where needed. A cell that starts with = + - @ or a control
 * character, which spreadsheets take for a formula, gets an apostrophe before it. */
void adze_escape_csv(adze_text *out, const char *s);
/* A cell of a Markdown table; a line of text in a TeX document. */
void adze_escape_markdown(adze_text *out, const char *s);
void adze_escape_tex(adze_text *out, const char *s);

/* The shortest of %.15g, %.16g, %.17g that reads back to the same double; "null" for NaN and infinity. */
void adze_text_real(adze_text *out, double x);

#ifdef __cplusplus
}
#endif
#endif
