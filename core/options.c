/* options.c - the store of options: tables, layers, the command line, typed values. Entry: adze_options_parse().
 * The YAML file is read in options_file.c, help and configuration are written in options_text.c.
 *
 * A value is converted before its layer is looked at: a mistyped key in a file is an error even where the command line
 * overrides it. */
#include "core/options.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"

typedef struct {
    const adze_option *option; /* borrowed */
    char *text;                /* owned; NULL = unset */
    char *items;               /* owned; LIST: the text with NUL for ',' */
    int64_t number;            /* FLAG, INT, SIZE, CHOICE: the value; LIST: number of items */
    double real;
    adze_origin origin;
    unsigned seen; /* bit per layer that gave a value */
} entry;

typedef struct {
    char *key, *value, *where; /* owned; where may be NULL */
    adze_origin origin;
} pair;

struct adze_options {
    entry *entries; /* owned */
    size_t n_entries;
    pair *pairs; /* owned */
    size_t n_pairs;
    char **args; /* owned, and each */
    int64_t n_args;
};

adze_status adze_options_create(adze_options **out)
{
    *out = adze_calloc(1, sizeof **out);
    return *out ? ADZE_OK : adze_fail(ADZE_ENOMEM, "options: no memory for the store");
}

void adze_options_destroy(adze_options *o)
{
    if (!o) return;
    for (size_t i = 0; i < o->n_entries; i++) {
        adze_free(o->entries[i].text);
        adze_free(o->entries[i].items);
    }
    for (size_t i = 0; i < o->n_pairs; i++) {
        adze_free(o->pairs[i].key);
        adze_free(o->pairs[i].value);
        adze_free(o->pairs[i].where);
    }
    for (int64_t i = 0; i < o->n_args; i++) adze_free(o->args[i]);
    adze_free(o->entries);
    adze_free(o->pairs);
    adze_free(o->args);
    adze_free(o);
}

/* Makes room for one more element. */
static adze_status grow(void **array, size_t count, size_t size_bytes)
{
    void *p = adze_realloc(*array, (count + 1) * size_bytes);
    if (!p) return adze_fail(ADZE_ENOMEM, "options: no memory for %zu entries", count + 1);
    *array = p;
    return ADZE_OK;
}

static entry *find(const adze_options *o, const char *name)
{
    for (size_t i = 0; i < o->n_entries; i++)
        if (strcmp(o->entries[i].option->name, name) == 0) return &o->entries[i];
    return NULL;
}

static entry *find_letter(const adze_options *o, char letter)
{
    for (size_t i = 0; i < o->n_entries; i++)
        if (letter && o->entries[i].option->letter == letter) return &o->entries[i];
    return NULL;
}

static adze_status fail_nearest(const char *problem, const char *dashes, const char *word, const char *names)
{
    char *nearest = adze_text_nearest(word, names);
    adze_status st = adze_fail(ADZE_EINVAL, "%s '%s%s'%s%s%s%s", problem, dashes, word,
                               nearest ? ", did you mean '" : "", nearest ? dashes : "", nearest ? nearest : "",
                               nearest ? "'?" : "");
    adze_free(nearest);
    return st;
}

static adze_status unknown(const adze_options *o, const char *where, const char *dashes, const char *name)
{
    adze_text names = ADZE_TEXT_EMPTY;
    for (size_t i = 0; i < o->n_entries; i++)
        if (!(o->entries[i].option->properties & ADZE_OPTION_HIDDEN))
            adze_text_printf(&names, "%s%s", names.n_bytes ? "|" : "", o->entries[i].option->name);
    adze_status st = fail_nearest("unknown option", dashes, name, names.s ? names.s : "");
    adze_text_destroy(&names);
    return where ? adze_fail_prefix(st, "%s", where) : st;
}

/* -- conversion ---------------------------------------------------------------------------------------------------- */

static adze_status to_flag(const char *text, int64_t *value)
{
    static const char *const words[] = { "no", "yes", "false", "true", "off", "on", "0", "1" };
    for (int i = 0; i < 8; i++)
        if (strcmp(text, words[i]) == 0) {
            *value = i % 2;
            return ADZE_OK;
        }
    return adze_fail(ADZE_EINVAL, "'%s' is neither yes nor no", text);
}

static adze_status in_range(const adze_option *d, double value, const char *text)
{
    if (d->min == 0.0 && d->max == 0.0) return ADZE_OK;
    if (value >= d->min && value <= d->max) return ADZE_OK;
    return adze_fail(ADZE_EINVAL, "%s is outside %.12g to %.12g", text, d->min, d->max);
}

static adze_status to_int(const adze_option *d, const char *text, int64_t *value)
{
    char *end;
    errno = 0;
    *value = strtoll(text, &end, 10);
    if (isspace((unsigned char)text[0]) || end == text || *end) return adze_fail(ADZE_EINVAL, "'%s' is no integer", text);
    if (errno == ERANGE) return adze_fail(ADZE_EINVAL, "%s does not fit 64 bits", text);
    return in_range(d, (double)*value, text);
}

static adze_status to_real(const adze_option *d, const char *text, double *value)
{
    char *end;
    *value = strtod(text, &end);
    if (isspace((unsigned char)text[0]) || end == text || *end || !isfinite(*value))
        return adze_fail(ADZE_EINVAL, "'%s' is no finite number", text);
    return in_range(d, *value, text);
}

static adze_status to_size(const char *text, int64_t *value)
{
    static const char units[] = "KMGT";
    char *end;
    double number = strtod(text, &end);
    const char *unit = *end ? strchr(units, toupper((unsigned char)*end)) : NULL;
    if (unit) end++;
    if (!isdigit((unsigned char)text[0]) || strpbrk(text, "xXpP") || *end)
        return adze_fail(ADZE_EINVAL, "'%s' is no size: want bytes, or a number with K, M, G or T", text);
    if (unit) number = ldexp(number, 10 * (int)(unit - units + 1));
    if (!(number < 0x1p63)) return adze_fail(ADZE_EINVAL, "%s does not fit 63 bits", text);
    *value = (int64_t)number;
    return ADZE_OK;
}

static adze_status to_choice(const adze_option *d, const char *text, int64_t *value)
{
    size_t n_bytes = strlen(text);
    *value = 0;
    for (const char *word = d->choices; word; word = strchr(word, '|'), word += word != NULL, ++*value)
        if (n_bytes == strcspn(word, "|") && strncmp(word, text, n_bytes) == 0) return ADZE_OK;
    fail_nearest("unknown value", "", text, d->choices);
    return adze_fail(ADZE_EINVAL, "%s (%s)", adze_error_message(), d->choices);
}

/* Splits `text` into items; counts them. */
static adze_status to_list(const char *text, char **items, int64_t *count)
{
    *items = adze_strdup(text);
    if (!*items) return adze_fail(ADZE_ENOMEM, "no memory for a list");
    *count = 0;
    for (char *rest = *items, *item; (item = strsep(&rest, ",")); ++*count)
        if (!*item) return adze_fail(ADZE_EINVAL, "'%s' has an empty item", text);
    return ADZE_OK;
}

/* Fills the value fields of `e` (text and items: new, owned by e) from `text`. */
static adze_status convert(entry *e, const char *text)
{
    const adze_option *d = e->option;
    adze_status st = ADZE_OK;
    REQUIRE(e->text = adze_strdup(text), ADZE_ENOMEM, "no memory for a value");
    switch (d->type) {
    case ADZE_OPTION_FLAG: st = to_flag(text, &e->number); break;
    case ADZE_OPTION_INT: st = to_int(d, text, &e->number); break;
    case ADZE_OPTION_REAL: st = to_real(d, text, &e->real); break;
    case ADZE_OPTION_SIZE: st = to_size(text, &e->number); break;
    case ADZE_OPTION_CHOICE: st = to_choice(d, text, &e->number); break;
    case ADZE_OPTION_LIST: st = to_list(text, &e->items, &e->number); break;
    case ADZE_OPTION_STRING:
    case ADZE_OPTION_PAIRS: break;
    }
done:
    return st;
}

/* -- layers -------------------------------------------------------------------------------------------------------- */

adze_status adze_options_add(adze_options *o, const adze_option *table, size_t count)
{
    adze_status st = ADZE_OK;
    for (size_t i = 0; i < count; i++) {
        const adze_option *d = &table[i];
        REQUIRE(!find(o, d->name) && !find_letter(o, d->letter), ADZE_EINTERNAL, "option --%s: declared twice", d->name);
        TRY(grow((void **)&o->entries, o->n_entries, sizeof *o->entries));
        entry *e = &o->entries[o->n_entries++];
        *e = (entry){ .option = d, .number = d->type == ADZE_OPTION_CHOICE ? -1 : 0 };
        if (!d->fallback) continue;
        st = convert(e, d->fallback);
        if (st == ADZE_EINVAL) st = ADZE_EINTERNAL;
        if (st != ADZE_OK) return adze_fail_prefix(st, "built-in value of --%s", d->name);
    }
done:
    return st;
}

static adze_status add_pair(adze_options *o, const char *text, adze_origin origin, const char *where)
{
    adze_status st = ADZE_OK;
    const char *equals = strchr(text, '=');
    REQUIRE(equals && equals != text, ADZE_EINVAL, "'%s' is not of the form KEY=VALUE", text);
    TRY(grow((void **)&o->pairs, o->n_pairs, sizeof *o->pairs));
    pair *p = &o->pairs[o->n_pairs++];
    *p = (pair){ .key = adze_strprintf("%.*s", (int)(equals - text), text),
                 .value = adze_strdup(equals + 1),
                 .where = where ? adze_strdup(where) : NULL,
                 .origin = origin };
    REQUIRE(p->key && p->value && (p->where || !where), ADZE_ENOMEM, "no memory for a pair");
done:
    return st;
}

static adze_status set_entry(adze_options *o, entry *e, const char *text, adze_origin origin, const char *where)
{
    adze_status st = ADZE_OK;
    const adze_option *d = e->option;
    const bool adds_up = d->type == ADZE_OPTION_LIST && origin == ADZE_ORIGIN_COMMAND;
    entry next = { .option = d, .origin = origin };
    char *joined = NULL;
    REQUIRE(!(d->properties & ADZE_OPTION_ACTION) || origin == ADZE_ORIGIN_COMMAND, ADZE_EINVAL,
            "only allowed on the command line");
    if (d->type == ADZE_OPTION_PAIRS) {
        TRY(add_pair(o, text, origin, where));
        e->seen |= 1u << origin;
        e->origin = origin > e->origin ? origin : e->origin;
        goto done;
    }
    REQUIRE(adds_up || !(e->seen & 1u << origin), ADZE_EINVAL, "given twice");
    if (adds_up && e->seen & 1u << origin)
        REQUIRE(joined = adze_strprintf("%s,%s", e->text, text), ADZE_ENOMEM, "no memory for a list");
    TRY(convert(&next, joined ? joined : text));
    e->seen |= 1u << origin;
    if (origin < e->origin) goto done;
    next.seen = e->seen;
    entry old = *e;
    *e = next;
    next = old;
done:
    adze_free(joined);
    adze_free(next.text);
    adze_free(next.items);
    if (st == ADZE_OK) return st;
    return where ? adze_fail_prefix(st, "%s: %s", where, d->name) : adze_fail_prefix(st, "--%s", d->name);
}

adze_status adze_options_set(adze_options *o, const char *name, const char *text, adze_origin origin, const char *where)
{
    entry *e = find(o, name);
    if (!e) return unknown(o, where, where ? "" : "--", name);
    return set_entry(o, e, text, origin, where);
}

adze_status adze_options_apply_set(adze_options *method, const adze_options *program)
{
    adze_status st = ADZE_OK;
    for (size_t i = 0; i < program->n_pairs; i++) {
        const pair *p = &program->pairs[i];
        TRY(adze_options_set(method, p->key, p->value, p->origin, p->where ? p->where : "--set"));
    }
done:
    return st;
}

adze_status adze_options_read_environment(adze_options *o)
{
    adze_status st = ADZE_OK;
    for (size_t i = 0; st == ADZE_OK && i < o->n_entries; i++) {
        entry *e = &o->entries[i];
        if (e->option->properties & ADZE_OPTION_ACTION || e->option->type == ADZE_OPTION_PAIRS) continue;
        char *name = adze_strprintf("ADZE_%s", e->option->name);
        if (!name) return adze_fail(ADZE_ENOMEM, "options: no memory for the environment");
        for (char *c = name; *c; c++) *c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
        const char *value = getenv(name);
        if (value) st = set_entry(o, e, value, ADZE_ORIGIN_ENVIRONMENT, name);
        adze_free(name);
    }
    return st;
}

/* -- command line -------------------------------------------------------------------------------------------------- */

static adze_status add_arg(adze_options *o, const char *text, int64_t max_args)
{
    adze_status st = ADZE_OK;
    REQUIRE(o->n_args < max_args, ADZE_EINVAL, "unexpected argument '%s'", text);
    TRY(grow((void **)&o->args, (size_t)o->n_args, sizeof *o->args));
    REQUIRE(o->args[o->n_args] = adze_strdup(text), ADZE_ENOMEM, "options: no memory for an argument");
    o->n_args++;
done:
    return st;
}

/* One option at argv[*i], which begins with '-'; moves *i past a value of its own. */
static adze_status parse_option(adze_options *o, int argc, char *const *argv, int *i)
{
    adze_status st = ADZE_OK;
    const char *text = argv[*i], *equals = strchr(text, '='), *value = equals ? equals + 1 : NULL;
    const bool is_long = text[1] == '-';
    const size_t n_bytes = equals ? (size_t)(equals - text) : strlen(text);
    char *name = adze_strprintf("%.*s", (int)n_bytes - 1 - is_long, text + 1 + is_long);
    REQUIRE(name, ADZE_ENOMEM, "options: no memory for a name");
    entry *e = is_long ? find(o, name) : n_bytes == 2 ? find_letter(o, name[0]) : NULL;
    REQUIRE(e || is_long, ADZE_EINVAL, "unknown option '%s'; --help lists them", text);
    if (!e) {
        st = unknown(o, NULL, "--", name);
        goto done;
    }
    if (!value && e->option->type == ADZE_OPTION_FLAG) value = "yes";
    if (!value) {
        const char *next = *i + 1 < argc ? argv[*i + 1] : NULL;
        REQUIRE(next && strncmp(next, "--", 2) != 0, ADZE_EINVAL, "--%s: a value must follow%s%s%s", e->option->name,
                next ? " ('" : "", next ? next : "", next ? "' is an option; --NAME=VALUE takes it literally)" : "");
        value = next;
        ++*i;
    }
    TRY(set_entry(o, e, value, ADZE_ORIGIN_COMMAND, NULL));
done:
    adze_free(name);
    return st;
}

adze_status adze_options_parse(adze_options *o, int argc, char *const *argv, int64_t max_args)
{
    adze_status st = ADZE_OK;
    bool only_args = false;
    for (int i = 1; i < argc; i++) {
        if (!only_args && strcmp(argv[i], "--") == 0) only_args = true;
        else if (only_args || argv[i][0] != '-' || !argv[i][1]) TRY(add_arg(o, argv[i], max_args));
        else TRY(parse_option(o, argc, argv, &i));
    }
done:
    return st;
}

adze_status adze_options_check(const adze_options *o)
{
    for (size_t i = 0; i < o->n_entries; i++)
        if (o->entries[i].option->properties & ADZE_OPTION_REQUIRED && !o->entries[i].text)
            return adze_fail(ADZE_EINVAL, "--%s is missing: %s", o->entries[i].option->name, o->entries[i].option->help);
    return ADZE_OK;
}

/* -- values -------------------------------------------------------------------------------------------------------- */

static const entry *must_find(const adze_options *o, const char *name, unsigned types)
{
    static const entry none = { 0 };
    const entry *e = find(o, name);
    assert(e && types & 1u << e->option->type);
    (void)types;
    return e ? e : &none;
}

enum { ANY_TYPE = (1 << (ADZE_OPTION_PAIRS + 1)) - 1 };

bool adze_options_given(const adze_options *o, const char *name)
{
    return must_find(o, name, ANY_TYPE)->seen != 0;
}

const char *adze_options_text(const adze_options *o, const char *name)
{
    return must_find(o, name, ANY_TYPE)->text;
}

const char *adze_options_string(const adze_options *o, const char *name)
{
    return must_find(o, name, 1u << ADZE_OPTION_STRING | 1u << ADZE_OPTION_CHOICE)->text;
}

bool adze_options_flag(const adze_options *o, const char *name)
{
    return must_find(o, name, 1u << ADZE_OPTION_FLAG)->number != 0;
}

int64_t adze_options_int(const adze_options *o, const char *name)
{
    return must_find(o, name, 1u << ADZE_OPTION_INT)->number;
}

double adze_options_real(const adze_options *o, const char *name)
{
    return must_find(o, name, 1u << ADZE_OPTION_REAL)->real;
}

size_t adze_options_size(const adze_options *o, const char *name)
{
    return (size_t)must_find(o, name, 1u << ADZE_OPTION_SIZE)->number;
}

int adze_options_choice(const adze_options *o, const char *name)
{
    return (int)must_find(o, name, 1u << ADZE_OPTION_CHOICE)->number;
}

int64_t adze_options_list_count(const adze_options *o, const char *name)
{
    return must_find(o, name, 1u << ADZE_OPTION_LIST)->number;
}

const char *adze_options_list_at(const adze_options *o, const char *name, int64_t i)
{
    const entry *e = must_find(o, name, 1u << ADZE_OPTION_LIST);
    if (i < 0 || i >= e->number) return NULL;
    const char *item = e->items;
    while (i-- > 0) item += strlen(item) + 1;
    return item;
}

int64_t adze_options_arg_count(const adze_options *o)
{
    return o->n_args;
}

const char *adze_options_arg(const adze_options *o, int64_t i)
{
    return i >= 0 && i < o->n_args ? o->args[i] : NULL;
}

const adze_option *adze_options_at(const adze_options *o, size_t i)
{
    return i < o->n_entries ? o->entries[i].option : NULL;
}

adze_origin adze_options_origin(const adze_options *o, const char *name)
{
    return must_find(o, name, ANY_TYPE)->origin;
}

const char *adze_origin_name(adze_origin origin)
{
    switch (origin) {
    case ADZE_ORIGIN_DEFAULT: return "default";
    case ADZE_ORIGIN_FILE: return "file";
    case ADZE_ORIGIN_ENVIRONMENT: return "environment";
    case ADZE_ORIGIN_COMMAND: return "command line";
    case ADZE_ORIGIN_PROGRAM: return "program";
    }
    return "unknown";
}
