/* escape.c - escaping per output format. Entry: adze_escape_html() and its siblings.
 * All walk the text code point by code point through next_point(), so that broken UTF-8 is met in one place. */
#include "eval/escape.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char replacement[] = "\xEF\xBF\xBD"; /* U+FFFD */

/* Reads one code point at *s, which is not at the end, and moves on; on malformed input moves one byte and gives -1.
 * Overlong forms, surrogates and points above U+10FFFF are malformed. */
static int32_t next_point(const char **s)
{
    static const int32_t least[5] = { 0, 0, 0x80, 0x800, 0x10000 };
    const unsigned char *p = (const unsigned char *)*s;
    int n = p[0] < 0x80 ? 1 : p[0] >> 5 == 6 ? 2 : p[0] >> 4 == 14 ? 3 : p[0] >> 3 == 30 ? 4 : 0;
    int32_t point = n == 1 ? p[0] : p[0] & (0x7F >> n);
    for (int i = 1; i < n; i++) {
        if (p[i] >> 6 != 2) n = 0; /* the NUL at the end stops here, too */
        else point = point << 6 | (p[i] & 0x3F);
    }
    *s += n > 0 ? n : 1;
    if (n == 0 || point < least[n] || point > 0x10FFFF || (point >= 0xD800 && point <= 0xDFFF)) {
        *s = (const char *)p + 1;
        return -1;
    }
    return point;
}

static bool is_control(int32_t point)
{
    return point < 0x20 || (point >= 0x7F && point < 0xA0);
}

/* Appends the bytes [from, to), or U+FFFD for a point that is -1 or a control character. */
static void plain(adze_text *out, int32_t point, const char *from, const char *to)
{
    if (point < 0 || is_control(point)) adze_text_append(out, replacement);
    else adze_text_append_n(out, from, (size_t)(to - from));
}

/* The same loop for formats in which single characters have a longer form; table[c] or NULL. */
static void escape_by(adze_text *out, const char *s, const char *(*form)(int32_t point))
{
    while (*s) {
        const char *from = s;
        int32_t point = next_point(&s);
        const char *longer = form(point);
        if (longer) adze_text_append(out, longer);
        else plain(out, point, from, s);
    }
}

static const char *html_form(int32_t point)
{
    switch (point) {
    case '&': return "&amp;";
    case '<': return "&lt;";
    case '>': return "&gt;";
    case '"': return "&quot;";
    case '\'': return "&#39;";
    case '\n': return "\n";
    default: return NULL;
    }
}

static const char *markdown_form(int32_t point)
{
    switch (point) {
    case '|': return "\\|";
    case '\\': return "\\\\";
    case '`': return "\\`";
    case '*': return "\\*";
    case '_': return "\\_";
    case '[': return "\\[";
    case ']': return "\\]";
    case '<': return "&lt;";
    case '>': return "&gt;";
    case '&': return "&amp;";
    case '\n': return " ";
    default: return NULL;
    }
}

static const char *tex_form(int32_t point)
{
    switch (point) {
    case '\\': return "\\textbackslash{}";
    case '{': return "\\{";
    case '}': return "\\}";
    case '$': return "\\$";
    case '&': return "\\&";
    case '#': return "\\#";
    case '%': return "\\%";
    case '_': return "\\_";
    case '^': return "\\textasciicircum{}";
    case '~': return "\\textasciitilde{}";
    case '<': return "\\textless{}";
    case '>': return "\\textgreater{}";
    case '\n': return " ";
    default: return NULL;
    }
}

void adze_escape_html(adze_text *out, const char *s)
{
    escape_by(out, s, html_form);
}

void adze_escape_markdown(adze_text *out, const char *s)
{
    escape_by(out, s, markdown_form);
}

void adze_escape_tex(adze_text *out, const char *s)
{
    escape_by(out, s, tex_form);
}

void adze_escape_csv(adze_text *out, const char *s)
{
    const bool formula = *s && (strchr("=+-@", *s) || is_control((unsigned char)*s));
    const bool quoted = formula || strpbrk(s, ",\"\r\n;") || *s == ' ' || *s == '\'';
    if (quoted) adze_text_append(out, "\"");
    if (formula) adze_text_append(out, "'");
    while (*s) {
        const char *from = s;
        int32_t point = next_point(&s);
        if (point == '"') adze_text_append(out, "\"\"");
        else if (point == '\n') adze_text_append(out, "\n");
        else plain(out, point, from, s);
    }
    if (quoted) adze_text_append(out, "\"");
}

void adze_text_real(adze_text *out, double x)
{
    char text[40];
    if (!isfinite(x)) {
        adze_text_append(out, "null");
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtod(text, NULL) == x) break;
    }
    adze_text_append(out, text);
}
