/* options_file.c - options from a YAML file. Entry: adze_options_read_file().
 *
 * libyaml's events are read one by one: the keys are those of the option tables, known only at run time. All scalars are
 * text to YAML here (no guessing of types); the tables say what a value must be. */
#include <stdio.h>
#include <string.h>
#include <yaml.h>

#include "core/file.h"
#include "core/memory.h"
#include "core/options.h"

enum { FILE_LIMIT_BYTES = 1 << 20 };

typedef struct {
    adze_options *o;
    const char *path;
    yaml_parser_t parser;
    yaml_event_t event; /* the current one */
    bool has_event;
    char where[512]; /* "PATH:LINE" of the current key */
} reader;

static adze_status bad(const reader *r, const char *problem)
{
    return adze_fail(ADZE_EINPUT, "%s:%zu: %s", r->path, r->event.start_mark.line + 1, problem);
}

/* Moves to the next event; refuses what this format does not have. */
static adze_status next(reader *r)
{
    if (r->has_event) yaml_event_delete(&r->event);
    r->has_event = yaml_parser_parse(&r->parser, &r->event);
    if (!r->has_event)
        return adze_fail(ADZE_EINPUT, "%s:%zu: no valid YAML: %s", r->path, r->parser.problem_mark.line + 1,
                         r->parser.problem ? r->parser.problem : "out of memory");
    const yaml_char_t *anchor = NULL, *tag = NULL;
    switch (r->event.type) {
    case YAML_ALIAS_EVENT: return bad(r, "aliases are not supported");
    case YAML_SCALAR_EVENT:
        anchor = r->event.data.scalar.anchor, tag = r->event.data.scalar.tag;
        if (memchr(r->event.data.scalar.value, 0, r->event.data.scalar.length)) return bad(r, "a NUL character");
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = r->event.data.sequence_start.anchor, tag = r->event.data.sequence_start.tag;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = r->event.data.mapping_start.anchor, tag = r->event.data.mapping_start.tag;
        break;
    default: break;
    }
    return anchor || tag ? bad(r, "anchors and tags are not supported") : ADZE_OK;
}

static const char *scalar(const reader *r)
{
    return (const char *)r->event.data.scalar.value;
}

static bool is_null(const reader *r)
{
    const char *s = scalar(r);
    return r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           (!*s || strcmp(s, "~") == 0 || strcmp(s, "null") == 0);
}

/* Appends the value at the current event, a scalar or a sequence of scalars, joined by commas; *given = false for null. */
static adze_status read_value(reader *r, adze_text *value, bool *given)
{
    adze_status st = ADZE_OK;
    *given = true;
    if (r->event.type == YAML_SCALAR_EVENT) {
        *given = !is_null(r);
        adze_text_append(value, scalar(r));
        goto done;
    }
    if (r->event.type != YAML_SEQUENCE_START_EVENT) return bad(r, "want a value or a list of values here");
    for (bool first = true;; first = false) {
        TRY(next(r));
        if (r->event.type == YAML_SEQUENCE_END_EVENT) {
            *given = !first;
            goto done;
        }
        if (r->event.type != YAML_SCALAR_EVENT) return bad(r, "a list may only hold plain values");
        if (strchr(scalar(r), ',')) return bad(r, "an item of a list may not contain a comma");
        adze_text_printf(value, "%s%s", first ? "" : ",", scalar(r));
    }
done:
    return st == ADZE_OK ? adze_text_check(value, r->path) : st;
}

/* The current event is a scalar, a key: keeps its place. */
static adze_status read_key(reader *r, char **key)
{
    if (r->event.type != YAML_SCALAR_EVENT) return bad(r, "want a key here");
    snprintf(r->where, sizeof r->where, "%s:%zu", r->path, r->event.start_mark.line + 1);
    *key = adze_strdup(scalar(r));
    return *key ? ADZE_OK : adze_fail(ADZE_ENOMEM, "%s: no memory for a key", r->path);
}

/* KEY: VALUE at the current event; `pairs_name` NULL: an option, else a pair of that option. */
static adze_status read_entry(reader *r, const char *pairs_name);

static adze_status read_mapping(reader *r, const char *pairs_name)
{
    adze_status st = ADZE_OK;
    for (;;) {
        TRY(next(r));
        if (r->event.type == YAML_MAPPING_END_EVENT) goto done;
        TRY(read_entry(r, pairs_name));
    }
done:
    return st;
}

static const char *pairs_option(const adze_options *o, const char *key)
{
    const adze_option *d;
    for (size_t i = 0; (d = adze_options_at(o, i)); i++)
        if (d->type == ADZE_OPTION_PAIRS && strcmp(d->name, key) == 0) return d->name;
    return NULL;
}

static adze_status read_entry(reader *r, const char *pairs_name)
{
    adze_status st = ADZE_OK;
    adze_text value = ADZE_TEXT_EMPTY;
    char *key = NULL;
    bool given;
    TRY(read_key(r, &key));
    TRY(next(r));
    const char *pairs = pairs_name ? NULL : pairs_option(r->o, key);
    if (pairs && r->event.type == YAML_MAPPING_START_EVENT) {
        st = read_mapping(r, pairs);
        goto done;
    }
    if (pairs_name) adze_text_printf(&value, "%s=", key);
    TRY(read_value(r, &value, &given));
    if (given) TRY(adze_options_set(r->o, pairs_name ? pairs_name : key, value.s, ADZE_ORIGIN_FILE, r->where));
done:
    adze_free(key);
    adze_text_destroy(&value);
    return st;
}

adze_status adze_options_read_file(adze_options *o, const char *path)
{
    adze_status st = ADZE_OK;
    unsigned char *data = NULL;
    size_t n_bytes;
    reader r = { .o = o, .path = path };
    if (!yaml_parser_initialize(&r.parser)) return adze_fail(ADZE_ENOMEM, "%s: no memory for the YAML parser", path);
    TRY(adze_file_read(path, FILE_LIMIT_BYTES, &data, &n_bytes));
    yaml_parser_set_input_string(&r.parser, data, n_bytes);
    TRY(next(&r)); /* start of the stream */
    TRY(next(&r));
    if (r.event.type == YAML_STREAM_END_EVENT) goto done;
    TRY(next(&r));
    if (r.event.type != YAML_MAPPING_START_EVENT) {
        st = bad(&r, "want a mapping of option names to values");
        goto done;
    }
    TRY(read_mapping(&r, NULL));
    TRY(next(&r)); /* end of the document */
    TRY(next(&r));
    if (r.event.type != YAML_STREAM_END_EVENT) st = bad(&r, "only one document is allowed");
done:
    if (r.has_event) yaml_event_delete(&r.event);
    yaml_parser_delete(&r.parser);
    adze_free(data);
    return st;
}
