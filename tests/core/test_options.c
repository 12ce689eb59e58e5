/* test_options.c - layers, types, messages, the YAML file and its way back, the help page. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/file.h"
#include "core/memory.h"
#include "core/options.h"
#include "core/philox.h"

static const adze_option common[] = {
    { .name = "backbone", .type = ADZE_OPTION_STRING, .fallback = "resnet18", .help = "network that gives the features",
      .group = "Model" },
    { .name = "size", .type = ADZE_OPTION_INT, .fallback = "256", .min = 1, .max = 4096, .help = "side of the input" },
    { .name = "lr", .type = ADZE_OPTION_REAL, .min = 1e-9, .max = 10, .help = "learning rate" },
    { .name = "deterministic", .type = ADZE_OPTION_FLAG, .fallback = "yes", .help = "same bits every time" },
    { .name = "force", .type = ADZE_OPTION_FLAG, .help = "overwrite results" },
    { .name = "memory-limit", .type = ADZE_OPTION_SIZE, .help = "most host memory to take" },
    { .name = "log", .type = ADZE_OPTION_CHOICE, .fallback = "text", .choices = "text|json|quiet", .help = "messages" },
    { .name = "class", .type = ADZE_OPTION_LIST, .help = "classes to work on, one model each" },
    { .name = "set", .type = ADZE_OPTION_PAIRS, .help = "an option of the method", .group = "Model" },
    { .name = "config", .type = ADZE_OPTION_STRING, .metavar = "FILE.yaml", .properties = ADZE_OPTION_ACTION,
      .help = "read options from a file" },
    { .name = "secret", .type = ADZE_OPTION_FLAG, .properties = ADZE_OPTION_HIDDEN },
};
static const adze_option own[] = {
    { .name = "out", .letter = 'o', .type = ADZE_OPTION_STRING, .metavar = "DIR", .properties = ADZE_OPTION_REQUIRED,
      .help = "folder of the results" },
};
static const adze_option method_table[] = {
    { .name = "coreset_ratio", .type = ADZE_OPTION_REAL, .fallback = "0.1", .min = 0, .max = 1, .help = "share kept" },
    { .name = "k", .type = ADZE_OPTION_INT, .fallback = "1", .min = 1, .max = 64, .help = "neighbours" },
};
#define COUNT(a) (sizeof(a) / sizeof *(a))

static adze_options *new_store(void)
{
    adze_options *o;
    assert_int_equal(adze_options_create(&o), ADZE_OK);
    assert_int_equal(adze_options_add(o, common, COUNT(common)), ADZE_OK);
    assert_int_equal(adze_options_add(o, own, COUNT(own)), ADZE_OK);
    return o;
}

/* Parses the words (NULL-terminated) after the program's name. */
static adze_status parse(adze_options *o, int64_t max_args, const char *const *words)
{
    char *argv[32] = { "adze-test" };
    int argc = 1;
    for (; words[argc - 1]; argc++) argv[argc] = (char *)words[argc - 1];
    return adze_options_parse(o, argc, argv, max_args);
}
#define PARSE(o, max_args, ...) parse(o, max_args, (const char *const[]){ __VA_ARGS__, NULL })

static char folder[] = "/tmp/adze-test-XXXXXX", path[64];

static adze_status read_yaml(adze_options *o, const char *yaml)
{
    assert_int_equal(adze_file_write(path, yaml, strlen(yaml)), ADZE_OK);
    return adze_options_read_file(o, path);
}

static void built_in_values_hold(void **state)
{
    (void)state;
    adze_options *o = new_store();
    assert_string_equal(adze_options_string(o, "backbone"), "resnet18");
    assert_int_equal(adze_options_int(o, "size"), 256);
    assert_true(adze_options_real(o, "lr") == 0.0 && adze_options_text(o, "lr") == NULL);
    assert_true(adze_options_flag(o, "deterministic") && !adze_options_flag(o, "force"));
    assert_int_equal(adze_options_size(o, "memory-limit"), 0);
    assert_int_equal(adze_options_choice(o, "log"), 0);
    assert_int_equal(adze_options_list_count(o, "class"), 0);
    assert_null(adze_options_list_at(o, "class", 0));
    assert_false(adze_options_given(o, "size"));
    assert_int_equal(adze_options_check(o), ADZE_EINVAL);
    assert_string_equal(adze_error_message(), "--out is missing: folder of the results");
    adze_options_destroy(o);
    adze_options_destroy(NULL);
}

static void command_line_forms_work(void **state)
{
    (void)state;
    adze_options *o = new_store();
    assert_int_equal(PARSE(o, 3, "--size", "320", "a.png", "--lr=1e-3", "--deterministic=no", "--force", "-o", "runs/x",
                           "--memory-limit", "1.5G", "--log", "quiet", "--class", "pcb,road", "--class=weave", "-", "--",
                           "--size"),
                     ADZE_OK);
    assert_int_equal(adze_options_int(o, "size"), 320);
    assert_true(adze_options_real(o, "lr") == 1e-3);
    assert_true(!adze_options_flag(o, "deterministic") && adze_options_flag(o, "force"));
    assert_string_equal(adze_options_string(o, "out"), "runs/x");
    assert_int_equal(adze_options_size(o, "memory-limit"), (size_t)3 << 29);
    assert_int_equal(adze_options_choice(o, "log"), 2);
    assert_string_equal(adze_options_string(o, "log"), "quiet");
    assert_int_equal(adze_options_list_count(o, "class"), 3);
    assert_string_equal(adze_options_list_at(o, "class", 1), "road");
    assert_string_equal(adze_options_list_at(o, "class", 2), "weave");
    assert_int_equal(adze_options_arg_count(o), 3);
    assert_string_equal(adze_options_arg(o, 0), "a.png");
    assert_string_equal(adze_options_arg(o, 1), "-");
    assert_string_equal(adze_options_arg(o, 2), "--size");
    assert_null(adze_options_arg(o, 3));
    assert_int_equal(adze_options_origin(o, "size"), ADZE_ORIGIN_COMMAND);
    assert_int_equal(adze_options_check(o), ADZE_OK);
    adze_options_destroy(o);
}

static void wrong_command_lines_say_what_is_meant(void **state)
{
    (void)state;
    static const struct {
        const char *words[5], *message;
    } cases[] = {
        { { "--bakcbone", "x" }, "unknown option '--bakcbone', did you mean '--backbone'?" },
        { { "-x" }, "unknown option '-x'; --help lists them" },
        { { "--size" }, "--size: a value must follow" },
        { { "--out", "--force" }, "--out: a value must follow ('--force' is an option; --NAME=VALUE takes it literally)" },
        { { "--size", "ten" }, "--size: 'ten' is no integer" },
        { { "--size", "12x" }, "--size: '12x' is no integer" },
        { { "--size=" }, "--size: '' is no integer" },
        { { "--size", "0" }, "--size: 0 is outside 1 to 4096" },
        { { "--size", "99999999999999999999" }, "--size: 99999999999999999999 does not fit 64 bits" },
        { { "--size", "1", "--size", "1" }, "--size: given twice" },
        { { "--lr", "nan" }, "--lr: 'nan' is no finite number" },
        { { "--lr", "-1" }, "--lr: -1 is outside 1e-09 to 10" },
        { { "--force=maybe" }, "--force: 'maybe' is neither yes nor no" },
        { { "--memory-limit", "8Q" }, "--memory-limit: '8Q' is no size: want bytes, or a number with K, M, G or T" },
        { { "--memory-limit", "-1" }, "--memory-limit: '-1' is no size: want bytes, or a number with K, M, G or T" },
        { { "--memory-limit", "9e9T" }, "--memory-limit: 9e9T does not fit 63 bits" },
        { { "--log", "quite" }, "--log: unknown value 'quite', did you mean 'quiet'? (text|json|quiet)" },
        { { "--class", "a,,b" }, "--class: 'a,,b' has an empty item" },
        { { "--set", "k" }, "--set: 'k' is not of the form KEY=VALUE" },
        { { "stray" }, "unexpected argument 'stray'" },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        adze_options *o = new_store();
        assert_int_equal(parse(o, 0, cases[i].words), ADZE_EINVAL);
        assert_string_equal(adze_error_message(), cases[i].message);
        adze_options_destroy(o);
    }
}

static void layers_win_in_their_order(void **state)
{
    (void)state;
    adze_options *o = new_store();
    setenv("ADZE_MEMORY_LIMIT", "2M", 1);
    setenv("ADZE_LR", "0.5", 1);
    setenv("ADZE_CONFIG", "ignored", 1); /* an action is no configuration */
    assert_int_equal(PARSE(o, 0, "--lr", "0.25", "--class", "x"), ADZE_OK);
    assert_int_equal(adze_options_read_environment(o), ADZE_OK);
    assert_int_equal(read_yaml(o, "# comment\nlr: 1\nmemory-limit: 1M\nsize: 64\nclass: [a, \"b c\"]\nbackbone: ~\n"),
                     ADZE_OK);
    assert_true(adze_options_real(o, "lr") == 0.25);
    assert_int_equal(adze_options_size(o, "memory-limit"), 2 << 20);
    assert_int_equal(adze_options_origin(o, "memory-limit"), ADZE_ORIGIN_ENVIRONMENT);
    assert_int_equal(adze_options_int(o, "size"), 64);
    assert_int_equal(adze_options_origin(o, "size"), ADZE_ORIGIN_FILE);
    assert_int_equal(adze_options_list_count(o, "class"), 1);
    assert_string_equal(adze_options_string(o, "backbone"), "resnet18");
    assert_null(adze_options_string(o, "config"));
    setenv("ADZE_SIZE", "big", 1);
    assert_int_equal(adze_options_read_environment(o), ADZE_EINVAL);
    unsetenv("ADZE_MEMORY_LIMIT"), unsetenv("ADZE_LR"), unsetenv("ADZE_CONFIG"), unsetenv("ADZE_SIZE");
    adze_options_destroy(o);
}

static void wrong_files_name_the_line(void **state)
{
    (void)state;
    static const struct {
        const char *yaml;
        adze_status want;
        const char *message; /* after the path */
    } cases[] = {
        { "size: 64\nsizes: 3\n", ADZE_EINVAL, ":2: unknown option 'sizes', did you mean 'size'?" },
        { "size: 64\nlr: 1\nsize: 64\n", ADZE_EINVAL, ":3: size: given twice" },
        { "class: a\nclass: b\n", ADZE_EINVAL, ":2: class: given twice" },
        { "\nsize: big\n", ADZE_EINVAL, ":2: size: 'big' is no integer" },
        { "config: x.yaml\n", ADZE_EINVAL, ":1: config: only allowed on the command line" },
        { "size: {a: 1}\n", ADZE_EINPUT, ":1: want a value or a list of values here" },
        { "set: {k: {a: 1}}\n", ADZE_EINPUT, ":1: want a value or a list of values here" },
        { "class: [a, [b]]\n", ADZE_EINPUT, ":1: a list may only hold plain values" },
        { "class: ['a,b']\n", ADZE_EINPUT, ":1: an item of a list may not contain a comma" },
        { "size: &a 3\n", ADZE_EINPUT, ":1: anchors and tags are not supported" },
        { "size: *a\n", ADZE_EINPUT, ":1: aliases are not supported" },
        { "size: !!int 3\n", ADZE_EINPUT, ":1: anchors and tags are not supported" },
        { "backbone: \"a\\0b\"\n", ADZE_EINPUT, ":1: a NUL character" },
        { "- size\n", ADZE_EINPUT, ":1: want a mapping of option names to values" },
        { "? [a]\n: 1\n", ADZE_EINPUT, ":1: want a key here" },
        { "size: 1\n---\nlr: 1\n", ADZE_EINPUT, ":2: only one document is allowed" },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        adze_options *o = new_store();
        assert_int_equal(read_yaml(o, cases[i].yaml), cases[i].want);
        assert_memory_equal(adze_error_message(), path, strlen(path));
        assert_string_equal(adze_error_message() + strlen(path), cases[i].message);
        adze_options_destroy(o);
    }
    adze_options *o = new_store();
    assert_int_equal(read_yaml(o, "size: [1\nlr: }"), ADZE_EINPUT);
    assert_non_null(strstr(adze_error_message(), "no valid YAML"));
    assert_int_equal(adze_options_read_file(o, "/nowhere/run.yaml"), ADZE_EINPUT);
    assert_int_equal(read_yaml(o, ""), ADZE_OK);
    assert_int_equal(read_yaml(o, "# nothing\n"), ADZE_OK);
    assert_int_equal(read_yaml(o, "# mistyped, though overridden\nset: {k: }\n"), ADZE_OK);
    assert_int_equal(PARSE(o, 0, "--size", "5"), ADZE_OK);
    assert_int_equal(read_yaml(o, "size: big\n"), ADZE_EINVAL);
    adze_options_destroy(o);
}

/* Bytes replaced, dropped or doubled: whatever comes out is taken or refused, and nothing leaks. */
static void mutated_files_are_taken_or_refused(void **state)
{
    (void)state;
    static const char yaml[] = "size: 64 # c\nlr: 1e-3\nclass: [a, \"b\\n\", c]\nset:\n  k: 3\n  x: [1, 2]\nlog: 'quiet'\n";
    static const char odd[] = "[]{},:#&*!|>'\"%@`\\\n\t -?~\x80\xff";
    const size_t before = adze_memory_live_bytes();
    int taken = 0, refused = 0;
    for (uint32_t trial = 0; trial < 3000; trial++) {
        const adze_philox r = { 1, ADZE_STREAM_TEST, trial };
        char text[sizeof yaml + 8];
        size_t n = sizeof yaml - 1;
        memcpy(text, yaml, n);
        for (uint64_t i = 0; i < 1 + trial % 4; i++) {
            size_t at = adze_philox_below(r, 3 * i, n);
            char c = odd[adze_philox_below(r, 3 * i + 1, sizeof odd)];
            switch (adze_philox_below(r, 3 * i + 2, 3)) {
            case 0: text[at] = c; break;
            case 1: memmove(text + at, text + at + 1, --n - at); break;
            default: memmove(text + at + 1, text + at, n++ - at), text[at] = c; break;
            }
        }
        FILE *f = fopen(path, "wb");
        assert_non_null(f);
        assert_int_equal(fwrite(text, 1, n, f), n);
        fclose(f);
        adze_options *o = new_store();
        adze_status st = adze_options_read_file(o, path);
        assert_true(st == ADZE_OK || st == ADZE_EINVAL || st == ADZE_EINPUT);
        taken += st == ADZE_OK, refused += st != ADZE_OK;
        adze_options_destroy(o);
        assert_int_equal(adze_memory_live_bytes(), before);
    }
    assert_true(taken > 100 && refused > 100); /* both ways were walked */
}

static adze_options *new_method(void)
{
    adze_options *m;
    assert_int_equal(adze_options_create(&m), ADZE_OK);
    assert_int_equal(adze_options_add(m, method_table, COUNT(method_table)), ADZE_OK);
    return m;
}

static void pairs_reach_the_method(void **state)
{
    (void)state;
    adze_options *o = new_store(), *m = new_method();
    assert_int_equal(PARSE(o, 0, "--set", "k=5"), ADZE_OK);
    assert_int_equal(read_yaml(o, "set:\n  k: 3\n  coreset_ratio: 0.25\n"), ADZE_OK);
    assert_int_equal(adze_options_apply_set(m, o), ADZE_OK);
    assert_int_equal(adze_options_int(m, "k"), 5);
    assert_true(adze_options_real(m, "coreset_ratio") == 0.25);
    assert_int_equal(adze_options_origin(m, "coreset_ratio"), ADZE_ORIGIN_FILE);
    adze_options_destroy(o), adze_options_destroy(m);

    static const struct {
        const char *yaml, *word, *message;
    } cases[] = {
        { NULL, "kk=1", "--set: unknown option 'kk', did you mean 'k'?" },
        { NULL, "k=a", "--set: k: 'a' is no integer" },
        { "set:\n  k: 1\n  k: 2\n", "k=1", ":3: k: given twice" },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        o = new_store(), m = new_method();
        assert_int_equal(PARSE(o, 0, "--set", cases[i].word), ADZE_OK);
        if (cases[i].yaml) assert_int_equal(read_yaml(o, cases[i].yaml), ADZE_OK);
        assert_int_equal(adze_options_apply_set(m, o), ADZE_EINVAL);
        assert_non_null(strstr(adze_error_message(), cases[i].message));
        adze_options_destroy(o), adze_options_destroy(m);
    }
}

static void printed_configuration_reads_back(void **state)
{
    (void)state;
    static const char *const odd[] = { "null", "~", "", " a: b # c ", "-5", "q\"uo\\te", "line\nbreak\ttab", "\xc3\xa9tat" };
    for (size_t i = 0; i < COUNT(odd); i++) {
        adze_options *o = new_store(), *m = new_method(), *o2 = new_store(), *m2 = new_method();
        adze_text t = ADZE_TEXT_EMPTY, t2 = ADZE_TEXT_EMPTY;
        assert_int_equal(PARSE(o, 0, "--size", "320", "--deterministic=off", "--class", "a b,null", "--set", "k=7",
                               "--memory-limit", "8G"),
                         ADZE_OK);
        assert_int_equal(adze_options_set(o, "out", odd[i], ADZE_ORIGIN_COMMAND, NULL), ADZE_OK);
        assert_int_equal(adze_options_apply_set(m, o), ADZE_OK);
        assert_int_equal(adze_options_config(o, m, &t), ADZE_OK);
        assert_non_null(strstr(t.s, "size: 320  # command line\n"));
        assert_non_null(strstr(t.s, "lr: null  # default\n"));
        assert_non_null(strstr(t.s, "deterministic: no  # command line\n"));
        assert_non_null(strstr(t.s, "set:\n  coreset_ratio: 0.1  # default\n  k: 7  # command line\n"));
        assert_null(strstr(t.s, "config"));

        assert_int_equal(read_yaml(o2, t.s), ADZE_OK);
        assert_int_equal(adze_options_apply_set(m2, o2), ADZE_OK);
        assert_string_equal(adze_options_string(o2, "out"), odd[i]);
        assert_int_equal(adze_options_list_count(o2, "class"), 2);
        assert_string_equal(adze_options_list_at(o2, "class", 0), "a b");
        assert_string_equal(adze_options_list_at(o2, "class", 1), "null");
        assert_false(adze_options_flag(o2, "deterministic"));
        assert_int_equal(adze_options_int(m2, "k"), 7);
        assert_true(adze_options_size(o2, "memory-limit") == (size_t)8 << 30);
        assert_null(adze_options_text(o2, "lr"));
        adze_text_destroy(&t), adze_text_destroy(&t2);
        adze_options_destroy(o), adze_options_destroy(m), adze_options_destroy(o2), adze_options_destroy(m2);
    }
}

static void help_fits_the_page(void **state)
{
    (void)state;
    adze_options *o = new_store(), *m = new_method();
    adze_text t = ADZE_TEXT_EMPTY;
    assert_int_equal(adze_options_help(o, "adze-test --out DIR",
                                       "Does nothing at great length, so that this sentence has to be wrapped before the "
                                       "eightieth column is passed, and then once more for good measure.",
                                       "  adze-test --out x\n", &t),
                     ADZE_OK);
    assert_int_equal(adze_options_help_set(m, "Options of patchcore", &t), ADZE_OK);
    for (const char *line = t.s, *end; (end = strchr(line, '\n')); line = end + 1) assert_true(end - line <= 80);
    assert_non_null(strstr(t.s, "usage: adze-test --out DIR\n"));
    assert_non_null(strstr(t.s, "  --size N                side of the input (default: 256)\n"));
    assert_non_null(strstr(t.s, "  --deterministic[=no]    same bits every time (default: yes)\n"));
    assert_non_null(strstr(t.s, "  --force                 overwrite results\n"));
    assert_non_null(strstr(t.s, "  --log text|json|quiet   messages (default: text)\n"));
    assert_non_null(strstr(t.s, "  -o, --out DIR           folder of the results (required)\n"));
    assert_non_null(strstr(t.s, "  coreset_ratio=X         share kept (default: 0.1)\n"));
    assert_null(strstr(t.s, "secret"));
    const char *group = strstr(t.s, "\nModel:\n"); /* both members stand in the group, the table's order kept */
    assert_non_null(group);
    assert_true(strstr(group, "--set KEY=VALUE") < strstr(group, "\nOptions:\n"));
    assert_non_null(strstr(t.s, "\nExamples:\n  adze-test --out x\n"));
    adze_text_destroy(&t);
    adze_options_destroy(o), adze_options_destroy(m);
}

static void wrong_tables_are_our_own_bug(void **state)
{
    (void)state;
    static const adze_option bad_value[] = { { .name = "n", .type = ADZE_OPTION_INT, .fallback = "many" } };
    adze_options *o = new_store();
    assert_int_equal(adze_options_add(o, common, 1), ADZE_EINTERNAL);
    assert_int_equal(adze_options_add(o, bad_value, 1), ADZE_EINTERNAL);
    adze_options_destroy(o);
}

static adze_status whole_life(void)
{
    adze_status st = ADZE_OK;
    adze_options *o = NULL, *m = NULL;
    adze_text t = ADZE_TEXT_EMPTY;
    TRY(adze_options_create(&o));
    TRY(adze_options_add(o, common, COUNT(common)));
    TRY(adze_options_create(&m));
    TRY(adze_options_add(m, method_table, COUNT(method_table)));
    TRY(PARSE(o, 1, "--class", "a", "--class", "b", "--set", "k=2", "x", "--size", "5"));
    TRY(adze_options_read_file(o, path));
    TRY(adze_options_read_environment(o));
    TRY(adze_options_apply_set(m, o));
    TRY(adze_options_config(o, m, &t));
    TRY(adze_options_help(o, "u", "a", "e", &t));
done:
    adze_text_destroy(&t);
    adze_options_destroy(o);
    adze_options_destroy(m);
    return st;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    const char yaml[] = "size: 6\nclass: [c, d]\nset: {coreset_ratio: 0.5}\n";
    assert_int_equal(adze_file_write(path, yaml, strlen(yaml)), ADZE_OK);
    const size_t before = adze_memory_live_bytes();
    adze_status st = ADZE_ENOMEM;
    for (int64_t n = 1; st != ADZE_OK; n++) {
        assert_true(n < 1000);
        adze_memory_fail_after(n, false);
        st = whole_life();
        assert_true(st == ADZE_OK || st == ADZE_ENOMEM);
        assert_int_equal(adze_memory_live_bytes(), before);
    }
    adze_memory_fail_after(0, false);
}

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder)) return -1;
    strcat(strcpy(path, folder), "/run.yaml");
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(built_in_values_hold),
        cmocka_unit_test(command_line_forms_work),
        cmocka_unit_test(wrong_command_lines_say_what_is_meant),
        cmocka_unit_test(layers_win_in_their_order),
        cmocka_unit_test(wrong_files_name_the_line),
        cmocka_unit_test(mutated_files_are_taken_or_refused),
        cmocka_unit_test(pairs_reach_the_method),
        cmocka_unit_test(printed_configuration_reads_back),
        cmocka_unit_test(help_fits_the_page),
        cmocka_unit_test(wrong_tables_are_our_own_bug),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
