/* text.c - a growing text buffer and the edit distance behind "did you mean". Entry: adze_text_printf(). */
#include "core/text.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "core/memory.h"

static bool reserve(adze_text *t, size_t extra)
{
    if (t->failed) return false;
    size_t want = t->n_bytes + extra + 1;
    if (want <= t->capacity_bytes) return true;
    size_t grown = t->capacity_bytes * 2 < want ? want + 256 : t->capacity_bytes * 2;
    char *s = adze_realloc(t->s, grown);
    if (!s) {
        t->failed = true;
        return false;
    }
    t->s = s;
    t->capacity_bytes = grown;
    return true;
}

void adze_text_append_n(adze_text *t, const char *s, size_t n_bytes)
{
    if (!reserve(t, n_bytes)) return;
    memcpy(t->s + t->n_bytes, s, n_bytes);
    t->n_bytes += n_bytes;
    t->s[t->n_bytes] = 0;
}

void adze_text_append(adze_text *t, const char *s)
{
    adze_text_append_n(t, s, strlen(s));
}

void adze_text_printf(adze_text *t, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n >= 0 && reserve(t, (size_t)n)) {
        vsnprintf(t->s + t->n_bytes, (size_t)n + 1, fmt, again);
        t->n_bytes += (size_t)n;
    }
    va_end(again);
}

/* Bytes of the UTF-8 character at s; 0 if there is none (overlong, surrogate, past U+10FFFF, cut off). */
static int utf8_length(const unsigned char *s)
{
    static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
    const int n = s[0] < 0x80 ? 1 : s[0] < 0xC0 ? 0 : s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : s[0] < 0xF8 ? 4 : 0;
    if (n < 2) return n;
    uint32_t code = s[0] & (0x7Fu >> n);
    for (int i = 1; i < n; i++) {
        if ((s[i] & 0xC0) != 0x80) return 0;
        code = code << 6 | (s[i] & 0x3Fu);
    }
    return code < least[n] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000) ? 0 : n;
}

void adze_text_json(adze_text *t, const char *s)
{
    adze_text_append(t, "\"");
    for (int n; *s; s += n ? n : 1) {
        n = utf8_length((const unsigned char *)s);
        if (n == 0) adze_text_append(t, "\xEF\xBF\xBD");
        else if (*s == '"' || *s == '\\') adze_text_printf(t, "\\%c", *s);
        else if ((unsigned char)*s < 0x20 || *s == 0x7F) adze_text_printf(t, "\\u%04x", (unsigned)*s);
        else adze_text_append_n(t, s, (size_t)n);
    }
    adze_text_append(t, "\"");
}

void adze_text_destroy(adze_text *t)
{
    if (!t) return;
    adze_free(t->s);
    *t = ADZE_TEXT_EMPTY;
}

adze_status adze_text_check(const adze_text *t, const char *what)
{
    if (t->failed) return adze_fail(ADZE_ENOMEM, "%s: no memory after %zu bytes of text", what, t->n_bytes);
    return ADZE_OK;
}

int adze_text_distance(const char *a, const char *b)
{
    enum { LONGEST = 64 };
    int n = (int)strnlen(a, LONGEST), m = (int)strnlen(b, LONGEST);
    int before[LONGEST + 1], last[LONGEST + 1], row[LONGEST + 1];
    for (int j = 0; j <= m; j++) last[j] = j, before[j] = 0;
    for (int i = 1; i <= n; i++) {
        row[0] = i;
        for (int j = 1; j <= m; j++) {
            int best = last[j - 1] + (a[i - 1] != b[j - 1]);
            if (last[j] + 1 < best) best = last[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            row[j] = best;
        }
        memcpy(before, last, sizeof last);
        memcpy(last, row, sizeof row);
    }
    return last[m];
}

char *adze_text_nearest(const char *word, const char *names)
{
    char *list = adze_strdup(names), *best = NULL;
    int best_distance = 0;
    for (char *rest = list, *name; rest && (name = strsep(&rest, "|"));) {
        int distance = adze_text_distance(word, name);
        if (best && distance >= best_distance) continue;
        best = name;
        best_distance = distance;
    }
    char *nearest = best ? adze_strdup(best) : NULL;
    adze_free(list);
    return nearest;
}
