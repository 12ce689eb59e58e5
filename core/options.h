/* options.h - the options of a program or of a method: declared in tables, filled in layers, printed back.
 *
 *     static const adze_option table[] = {
 *         { .name = "size", .type = ADZE_OPTION_INT, .fallback = "256", .min = 1, .max = 4096, .metavar = "N",
 *           .help = "side of the square network input", .group = "Model" },
 *     };
 *     TRY(adze_options_create(&o));
 *     TRY(adze_options_add(o, table, sizeof table / sizeof *table));
 *     TRY(adze_options_parse(o, argc, argv, 0));
 *     if (adze_options_string(o, "config")) TRY(adze_options_read_file(o, adze_options_string(o, "config")));
 *     int64_t size = adze_options_int(o, "size");
 *
 * Layers, later ones win whatever the order of the calls: built-in, YAML file, environment, command line. Several tables
 * can be added to one store (common ones and a program's own). A method's options live in a store of their own, which
 * adze_options_apply_set() fills from the program's --set KEY=VALUE pairs and from the `set:` mapping of its file.
 * Nothing here prints: help and configuration are returned as text. */
#ifndef ADZE_CORE_OPTIONS_H
#define ADZE_CORE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "core/text.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    ADZE_OPTION_FLAG,   /* --name, --name=yes|no|true|false|on|off|1|0; fallback "no" if NULL */
    ADZE_OPTION_STRING, /* any text */
    ADZE_OPTION_INT,    /* int64 */
    ADZE_OPTION_REAL,   /* finite double */
    ADZE_OPTION_SIZE,   /* bytes: 1048576, 512M, 1.5G; the letters K M G T are powers of 1024 */
    ADZE_OPTION_CHOICE, /* one of `choices` */
    ADZE_OPTION_LIST,   /* NAME[,NAME...], repeatable: items add up within one layer */
    ADZE_OPTION_PAIRS   /* KEY=VALUE, repeatable; at most one such option per store */
} adze_option_type;

enum {
    ADZE_OPTION_REQUIRED = 1, /* adze_options_check() demands a value */
    ADZE_OPTION_HIDDEN = 2,   /* not in the help */
    ADZE_OPTION_ACTION = 4    /* only on the command line, not part of the configuration: --help, --config, --dry-run */
};

typedef struct {
    const char *name; /* "memory-limit": --memory-limit and the YAML key */
    char letter;      /* 'o' for -o, 0 = none */
    adze_option_type type;
    const char *fallback; /* the built-in value as text; NULL = unset */
    const char *choices;  /* "text|json|quiet" */
    double min, max;      /* INT and REAL: allowed range, both ends included; both 0 = any */
    const char *metavar, *help, *group;
    unsigned properties; /* ADZE_OPTION_REQUIRED ... */
} adze_option;

typedef enum { ADZE_ORIGIN_DEFAULT, ADZE_ORIGIN_FILE, ADZE_ORIGIN_ENVIRONMENT, ADZE_ORIGIN_COMMAND,
               ADZE_ORIGIN_PROGRAM /* what the program makes of the others: the device of a rank */ } adze_origin;

typedef struct adze_options adze_options;

adze_status adze_options_create(adze_options **out);
void adze_options_destroy(adze_options *o);
/* The table is borrowed and must outlive the store. ADZE_EINTERNAL: a name or letter twice, or a fallback that is no
 * value of its type. */
adze_status adze_options_add(adze_options *o, const adze_option *table, size_t count);

/* All of these: ADZE_EINVAL for an unknown, doubled or mistyped option, with the place ("--size", "run.yaml:12") and the
 * nearest valid name; ADZE_ENOMEM. parse starts at argv[1]; what is no option becomes a positional argument, at most
 * max_args of them; everything after `--` is positional. */
adze_status adze_options_parse(adze_options *o, int argc, char *const *argv, int64_t max_args);
/* One YAML mapping of option names to scalars, lists to sequences, and `set:` (the PAIRS option) to a mapping. null = not
 * given. At most 1 MiB; no aliases. ADZE_EINPUT if it cannot be read or is no YAML. */
adze_status adze_options_read_file(adze_options *o, const char *path);
/* ADZE_<NAME> with '_' for '-', for every option that is not an action. */
adze_status adze_options_read_environment(adze_options *o);
/* `where` begins the message of an error; it is copied. A value of a higher layer stays. */
adze_status adze_options_set(adze_options *o, const char *name, const char *text, adze_origin origin, const char *where);
/* Sets the options of `method` from the pairs of `program`, keeping their origins. */
adze_status adze_options_apply_set(adze_options *method, const adze_options *program);
/* ADZE_EINVAL if a required option has no value. */
adze_status adze_options_check(const adze_options *o);

/* Values. The name must be in a table and of the type asked for (asserted). Strings are borrowed until the next set. */
bool adze_options_given(const adze_options *o, const char *name);        /* by any layer above the built-in one */
const char *adze_options_text(const adze_options *o, const char *name);  /* any type, as it was written; NULL = unset */
const char *adze_options_string(const adze_options *o, const char *name); /* STRING and CHOICE; NULL = unset */
bool adze_options_flag(const adze_options *o, const char *name);
int64_t adze_options_int(const adze_options *o, const char *name);  /* 0 = unset */
double adze_options_real(const adze_options *o, const char *name);  /* 0 = unset */
size_t adze_options_size(const adze_options *o, const char *name);  /* bytes; 0 = unset */
int adze_options_choice(const adze_options *o, const char *name);   /* position in `choices`; -1 = unset */
int64_t adze_options_list_count(const adze_options *o, const char *name);
const char *adze_options_list_at(const adze_options *o, const char *name, int64_t i);
int64_t adze_options_arg_count(const adze_options *o);
const char *adze_options_arg(const adze_options *o, int64_t i);

/* Walks the store in table order, for records such as run.json; NULL past the end. */
const adze_option *adze_options_at(const adze_options *o, size_t i);
adze_origin adze_options_origin(const adze_options *o, const char *name);
const char *adze_origin_name(adze_origin origin); /* "default", "file", "environment", "command line", "program" */

/* Appends the help, at most 80 columns: usage, about, the options by group in table order, then the examples. Usage and
 * examples are taken line by line as they are; about is wrapped. NULL leaves a part out. */
adze_status adze_options_help(const adze_options *o, const char *usage, const char *about, const char *examples,
                              adze_text *t);
/* Appends only the option lines under the title, as --set takes them (KEY=VALUE). */
adze_status adze_options_help_set(const adze_options *method, const char *title, adze_text *t);
/* Appends the resolved configuration as YAML, each line with its origin as a comment; reading it back gives the same
 * values. `method` (may be NULL) becomes the `set:` mapping. */
adze_status adze_options_config(const adze_options *o, const adze_options *method, adze_text *t);

#ifdef __cplusplus
}
#endif
#endif
