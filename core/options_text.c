/* options_text.c - options as text: the help page and the configuration that can be read back.
 * Entry: adze_options_help(), adze_options_config(). */
#include <stdio.h>
#include <string.h>

#include "core/options.h"

enum { PAGE_COLUMNS = 80, HELP_COLUMN = 26 };

/* Appends `words` from column `column` on, wrapped, continued at `indent`; ends the line. */
static void wrap(adze_text *t, const char *words, int column, int indent)
{
    bool line_empty = true;
    for (const char *w = words + strspn(words, " "); *w; w += strspn(w, " ")) {
        const size_t n_bytes = strcspn(w, " ");
        int width = 0;
        for (size_t i = 0; i < n_bytes; i++) width += (w[i] & 0xC0) != 0x80; /* characters, not bytes, of UTF-8 */
        if (!line_empty && column + 1 + width > PAGE_COLUMNS) {
            adze_text_printf(t, "\n%*s", indent, "");
            column = indent;
            line_empty = true;
        }
        if (!line_empty) adze_text_append(t, " ");
        column += width + !line_empty;
        adze_text_append_n(t, w, n_bytes);
        line_empty = false;
        w += n_bytes;
    }
    adze_text_append(t, "\n");
}

static const char *metavar(const adze_option *d)
{
    if (d->metavar) return d->metavar;
    switch (d->type) {
    case ADZE_OPTION_FLAG: return "yes|no";
    case ADZE_OPTION_STRING: return "TEXT";
    case ADZE_OPTION_INT: return "N";
    case ADZE_OPTION_REAL: return "X";
    case ADZE_OPTION_SIZE: return "SIZE";
    case ADZE_OPTION_CHOICE: return d->choices;
    case ADZE_OPTION_LIST: return "NAME[,NAME...]";
    case ADZE_OPTION_PAIRS: return "KEY=VALUE";
    }
    return "";
}

/* "  left      help (default: x)" */
static void option_line(adze_text *t, const adze_option *d, const char *left)
{
    adze_text right = ADZE_TEXT_EMPTY;
    adze_text_append(&right, d->help ? d->help : "");
    if (d->properties & ADZE_OPTION_REQUIRED) adze_text_append(&right, " (required)");
    else if (d->fallback && *d->fallback && !(d->type == ADZE_OPTION_FLAG && strcmp(d->fallback, "no") == 0))
        adze_text_printf(&right, " (default: %s)", d->fallback);
    int width = (int)strlen(left) + 2;
    adze_text_printf(t, "  %s", left);
    if (width + 2 > HELP_COLUMN) {
        adze_text_append(t, "\n");
        width = 0;
    }
    adze_text_printf(t, "%*s", HELP_COLUMN - width, "");
    wrap(t, right.s ? right.s : "", HELP_COLUMN, HELP_COLUMN);
    t->failed |= right.failed;
    adze_text_destroy(&right);
}

static void option_help(adze_text *t, const adze_option *d)
{
    char left[256], letter[8] = "";
    const bool is_on = d->fallback && strcmp(d->fallback, "yes") == 0;
    if (d->letter) snprintf(letter, sizeof letter, "-%c, ", d->letter);
    if (d->type == ADZE_OPTION_FLAG) snprintf(left, sizeof left, "%s--%s%s", letter, d->name, is_on ? "[=no]" : "");
    else snprintf(left, sizeof left, "%s--%s %s", letter, d->name, metavar(d));
    option_line(t, d, left);
}

static bool same_group(const adze_option *a, const adze_option *b)
{
    return strcmp(a->group ? a->group : "Options", b->group ? b->group : "Options") == 0;
}

adze_status adze_options_help(const adze_options *o, const char *usage, const char *about, const char *examples,
                              adze_text *t)
{
    const adze_option *first, *d;
    if (usage) adze_text_printf(t, "usage: %s\n", usage);
    if (about) {
        adze_text_append(t, "\n");
        wrap(t, about, 0, 0);
    }
    for (size_t i = 0; (first = adze_options_at(o, i)); i++) {
        bool printed = first->properties & ADZE_OPTION_HIDDEN;
        for (size_t j = 0; j < i && !printed; j++) {
            d = adze_options_at(o, j);
            printed = !(d->properties & ADZE_OPTION_HIDDEN) && same_group(d, first);
        }
        if (printed) continue;
        adze_text_printf(t, "\n%s:\n", first->group ? first->group : "Options");
        for (size_t j = i; (d = adze_options_at(o, j)); j++)
            if (!(d->properties & ADZE_OPTION_HIDDEN) && same_group(d, first)) option_help(t, d);
    }
    if (examples) adze_text_printf(t, "\nExamples:\n%s%s", examples, examples[strlen(examples) - 1] == '\n' ? "" : "\n");
    return adze_text_check(t, "help");
}

adze_status adze_options_help_set(const adze_options *method, const char *title, adze_text *t)
{
    const adze_option *d;
    adze_text_printf(t, "\n%s:\n", title);
    for (size_t i = 0; (d = adze_options_at(method, i)); i++) {
        char left[256];
        snprintf(left, sizeof left, "%s=%s", d->name, metavar(d));
        if (!(d->properties & ADZE_OPTION_HIDDEN)) option_line(t, d, left);
    }
    return adze_text_check(t, "help");
}

/* -- configuration ------------------------------------------------------------------------------------------------- */

/* Plain where no reader could take it for anything else, in double quotes otherwise. */
static void yaml_scalar(adze_text *t, const char *s)
{
    static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./+-";
    if (*s && strspn(s, safe) == strlen(s) && s[0] != '-' && strcmp(s, "null") != 0) {
        adze_text_append(t, s);
        return;
    }
    adze_text_append(t, "\"");
    for (; *s; s++) {
        const unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\') adze_text_printf(t, "\\%c", c);
        else if (c < 0x20 || c == 0x7F) adze_text_printf(t, "\\x%02x", c);
        else adze_text_append_n(t, s, 1);
    }
    adze_text_append(t, "\"");
}

static void config_line(adze_text *t, const adze_options *o, const adze_option *d, const char *indent)
{
    const char *text = adze_options_text(o, d->name);
    adze_text_printf(t, "%s%s: ", indent, d->name);
    if (d->type == ADZE_OPTION_FLAG) adze_text_append(t, adze_options_flag(o, d->name) ? "yes" : "no");
    else if (!text) adze_text_append(t, "null");
    else if (d->type == ADZE_OPTION_LIST) {
        for (int64_t i = 0; i < adze_options_list_count(o, d->name); i++) {
            adze_text_append(t, i ? ", " : "[");
            yaml_scalar(t, adze_options_list_at(o, d->name, i));
        }
        adze_text_append(t, "]");
    } else yaml_scalar(t, text);
    adze_text_printf(t, "  # %s\n", adze_origin_name(adze_options_origin(o, d->name)));
}

adze_status adze_options_config(const adze_options *o, const adze_options *method, adze_text *t)
{
    const adze_option *d;
    for (size_t i = 0; (d = adze_options_at(o, i)); i++) {
        if (d->properties & ADZE_OPTION_ACTION) continue;
        if (d->type != ADZE_OPTION_PAIRS) config_line(t, o, d, "");
        else if (method && adze_options_at(method, 0)) {
            adze_text_printf(t, "%s:\n", d->name);
            const adze_option *m;
            for (size_t j = 0; (m = adze_options_at(method, j)); j++) config_line(t, method, m, "  ");
        }
    }
    return adze_text_check(t, "configuration");
}
