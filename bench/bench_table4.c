/* bench_table4.c - the program behind `adze bench table4`: trains and evaluates one-class methods, one model per class, by
 * adze-train and adze-eval, and prints one table.
 *
 * A cell is a method on a class: OUT/METHOD/CLASS/run (the model), result (metrics.json) and, once both are there, cell.json with
 * the times and the options that it was made with. Finished cells are kept, interrupted ones go on: the same command again. */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "bench/child.h"
#include "bench/table4.h"
#include "core/clock.h"
#include "core/file.h"
#include "core/interrupt.h"
#include "core/memory.h"
#include "datasets/dataset.h"
#include "eval/escape.h"
#include "eval/program.h"

static const adze_option own[] = {
    { .name = "out", .letter = 'o', .type = ADZE_OPTION_STRING, .metavar = "DIR", .group = "Run",
      .help = "folder of the cells and of table4.md, .csv and .json" },
    { .name = "methods", .type = ADZE_OPTION_LIST, .metavar = "M[,M...]", .group = "Table", .help = "columns (default: all methods)" },
    { .name = "classes", .type = ADZE_OPTION_LIST, .metavar = "NAME[,NAME...]", .group = "Table", .help = "rows; the same as --class" },
    { .name = "heatmaps", .type = ADZE_OPTION_FLAG, .group = "Table", .help = "also write heat-maps of all test pictures" },
    { .name = "epochs", .type = ADZE_OPTION_INT, .min = 1, .max = 1000000, .metavar = "N", .group = "Training",
      .help = "passes over the pictures (default: the benchmark's)" },
    { .name = "cache", .type = ADZE_OPTION_STRING, .metavar = "HOW", .group = "Training", .help = "of frozen features, as adze-train takes it" },
    { .name = "backbone", .type = ADZE_OPTION_STRING, .metavar = "NAME", .group = "Model",
      .help = "feature extractor of all methods (default: the benchmark's choice for each)" },
    { .name = "weights", .type = ADZE_OPTION_STRING, .metavar = "FILE.h5", .group = "Model", .help = "its pretrained weights" },
    { .name = "size", .type = ADZE_OPTION_INT, .min = 32, .max = 4096, .metavar = "N", .group = "Model",
      .help = "side to which pictures are resized (default: 256)" },
    { .name = "seed", .type = ADZE_OPTION_INT, .min = 0, .max = 9007199254740992.0, .metavar = "N", .group = "Model",
      .help = "of every random choice (default: each method's)" },
    { .name = "set", .type = ADZE_OPTION_LIST, .metavar = "METHOD.KEY=VALUE", .group = "Model", .help = "an option of one method; repeatable" },
};

static const char *const without[] = { "print-plan", NULL }; /* there are as many as methods */

static const adze_program_about about = {
    .name = "adze-bench table4",
    .table = own,
    .n_table = sizeof own / sizeof *own,
    .without = without,
    .usage = "adze-bench table4 --data ROOT --out DIR [options]",
    .about = "Trains and evaluates the one-class methods, one model per class, and prints one table: method by class, and the mean. "
             "Beside the paper's numbers where the classes are MIRAD's. Finished cells are kept: after an interruption the same command "
             "goes on.",
    .examples = "  adze-bench table4 --data mirad --out runs/table4\n"
                "  adze-bench table4 --data surfaces --classes cookie,road --methods patchcore,simplenet \\\n"
                "                    --backbone resnet18 --weights resnet18.h5 --epochs 20 --out runs/small\n",
};

typedef struct {
    const char *method, *class_name;
    bool trained;   /* by gradients: takes --epochs */
    char *folder;   /* owned */
    adze_text config; /* what it is made with */
} cell;

typedef struct {
    adze_program *p;
    adze_dataset *data;
    const char **method, **class_name; /* owned lists of borrowed names */
    bool *trained;
    int64_t n_methods, n_classes;
    char *programs; /* folder of adze-train and adze-eval, owned */
    cell *cells;    /* (n_classes, n_methods), owned */
    table4_score *score;
} run;

/* ---- arguments of the programs ---- */

enum { MAX_ARGS = 64 };
typedef struct {
    char *word[MAX_ARGS + 1];
    int n;
    bool failed;
} args;

static void args_add(args *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void args_add(args *a, const char *fmt, ...)
{
    char text[4096];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof text || a->n >= MAX_ARGS || !(a->word[a->n] = adze_strdup(text))) a->failed = true;
    else a->word[++a->n] = NULL;
}

static void args_free(args *a)
{
    for (int i = 0; i < a->n; i++) adze_free(a->word[i]);
}

/* --NAME=VALUE for each of the options that is given. */
static void args_pass(args *a, const adze_options *o, const char *const *name)
{
    for (; *name; name++)
        if (adze_options_given(o, *name)) args_add(a, "--%s=%s", *name, adze_options_text(o, *name));
}

/* Whether an item of --set begins METHOD.KEY=VALUE; else it is more of the value before, which had a comma in it. */
static bool begins_pair(const char *item)
{
    const adze_method *m;
    for (int i = 0; (m = adze_method_at(i)); i++) {
        size_t n = strlen(m->name);
        if (strncmp(item, m->name, n) == 0 && item[n] == '.' && strchr(item + n, '=')) return true;
    }
    return false;
}

static const char *const how[] = { "batch", "device", "threads", "precision", "deterministic", "memory-limit", NULL };
/* What a cell's numbers depend on, in words that adze-train takes. */
static void add_config(args *a, const run *r, const cell *c)
{
    static const char *const model[] = { "backbone", "weights", "size", "seed", "batch", "precision", NULL };
    const adze_options *o = r->p->options;
    size_t n = strlen(c->method);
    args_pass(a, o, model);
    if (c->trained && adze_options_given(o, "epochs")) args_add(a, "--epochs=%s", adze_options_text(o, "epochs"));
    for (int64_t i = 0; i < adze_options_list_count(o, "set"); i++) {
        const char *pair = adze_options_list_at(o, "set", i), *more;
        if (!begins_pair(pair) || strncmp(pair, c->method, n) != 0 || pair[n] != '.') continue;
        adze_text text = ADZE_TEXT_EMPTY;
        adze_text_append(&text, pair + n + 1);
        for (int64_t k = i + 1; (more = adze_options_list_at(o, "set", k)) && !begins_pair(more); k++) adze_text_printf(&text, ",%s", more);
        args_add(a, "--set=%s", text.s ? text.s : "");
        a->failed |= text.failed;
        adze_text_destroy(&text);
    }
}

/* Runs the program with its output in FOLDER/log.txt; its own last line becomes the message of a failure. */
static adze_status run_program(const cell *c, args *a, const char *what)
{
    adze_status st = ADZE_OK;
    char *log = adze_path_join(c->folder, "log.txt");
    unsigned char *text = NULL;
    size_t n = 0;
    int code;
    REQUIRE(log && !a->failed, ADZE_ENOMEM, "no memory for a command line");
    TRY(child_run(a->word, log, &code));
    if (code == 0) goto done;
    static const adze_status by_code[] = { ADZE_EINTERNAL, ADZE_EINTERNAL, ADZE_EINVAL, ADZE_EINPUT, ADZE_ENOMEM, ADZE_EINTERNAL };
    st = code == 130 ? ADZE_EINTERRUPTED : code > 0 && code < 6 ? by_code[code] : ADZE_EINTERNAL;
    if (adze_file_read(log, 1u << 26, &text, &n) != ADZE_OK) text = NULL;
    while (n > 0 && text[n - 1] == '\n') text[--n] = 0;
    char *line = text ? strrchr((char *)text, '\n') : NULL;
    st = adze_fail(st, "%s: %s", what, line ? line + 1 : text && n > 0 ? (char *)text : "no word about why");
done:
    adze_free(text);
    adze_free(log);
    return st;
}

static adze_status train(const run *r, const cell *c)
{
    static const char *const rest[] = { "device", "threads", "deterministic", "memory-limit", "cache", NULL };
    const adze_options *o = r->p->options;
    args a = { .n = 0 };
    args_add(&a, "%s/adze-train", r->programs);
    args_add(&a, "--method=%s", c->method);
    args_add(&a, "--data=%s", adze_options_string(o, "data"));
    args_add(&a, "--class=%s", c->class_name);
    args_add(&a, "--out=%s/run", c->folder);
    args_add(&a, adze_options_flag(o, "force") ? "--force" : "--resume");
    add_config(&a, r, c);
    args_pass(&a, o, c->trained ? rest : (const char *const[]){ "device", "threads", "deterministic", "memory-limit", NULL });
    adze_status st = run_program(c, &a, "training");
    args_free(&a);
    return st;
}

static adze_status evaluate(const run *r, const cell *c)
{
    const adze_options *o = r->p->options;
    args a = { .n = 0 };
    args_add(&a, "%s/adze-eval", r->programs);
    args_add(&a, "--model=%s/run", c->folder);
    args_add(&a, "--data=%s", adze_options_string(o, "data"));
    args_add(&a, "--class=%s", c->class_name);
    args_add(&a, "--out=%s/result", c->folder);
    args_add(&a, "--force");
    args_add(&a, "--heatmaps=%s", adze_options_flag(o, "heatmaps") ? "yes" : "no");
    args_pass(&a, o, how);
    adze_status st = run_program(c, &a, "evaluation");
    args_free(&a);
    return st;
}

/* ---- cells ---- */

/* FOLDER/NAME as JSON; *root NULL if there is no such file. */
static adze_status read_json(const cell *c, const char *name, json_t **root)
{
    adze_status st = ADZE_OK;
    unsigned char *text = NULL;
    size_t n;
    json_error_t error;
    char *path = adze_path_join(c->folder, name);
    *root = NULL;
    REQUIRE(path, ADZE_ENOMEM, "no memory for a path");
    if (!adze_file_exists(path)) goto done;
    TRY(adze_file_read(path, 1u << 24, &text, &n));
    REQUIRE(*root = json_loadb((char *)text, n, 0, &error), ADZE_EINPUT, "%s: line %d: %s", path, error.line, error.text);
done:
    adze_free(text);
    adze_free(path);
    return st;
}

static double number(const json_t *object, const char *key)
{
    const json_t *x = json_object_get(object, key);
    return json_is_number(x) ? json_number_value(x) : NAN;
}

static adze_status read_scores(const cell *c, table4_score *s)
{
    adze_status st = ADZE_OK;
    json_t *root = NULL;
    TRY(read_json(c, "result/metrics.json", &root));
    const json_t *mine = json_object_get(json_object_get(root, "classes"), c->class_name);
    REQUIRE(mine, ADZE_EINPUT, "%s/result/metrics.json: no class '%s'", c->folder, c->class_name);
    s->image_auroc = number(mine, "image_auroc");
    s->aupro = number(mine, "aupro");
    s->aupro_strips = number(mine, "aupro_strips");
done:
    json_decref(root);
    return st;
}

/* Whether the cell was finished before, with its scores and times. ADZE_EINVAL: it was made otherwise. */
static adze_status look_up(const run *r, const cell *c, table4_score *s, bool *finished)
{
    adze_status st = ADZE_OK;
    json_t *root = NULL;
    *finished = false;
    if (adze_options_flag(r->p->options, "force")) return ADZE_OK;
    TRY(read_json(c, "cell.json", &root));
    if (!root) goto done;
    const char *made_with = json_string_value(json_object_get(root, "options"));
    REQUIRE(made_with && strcmp(made_with, c->config.s ? c->config.s : "") == 0, ADZE_EINVAL,
            "%s was made with other options (%s); give another --out, or --force to make it anew", c->folder, made_with ? made_with : "unknown");
    s->train_s = number(root, "train_s");
    s->eval_s = number(root, "eval_s");
    TRY(read_scores(c, s));
    *finished = true;
done:
    json_decref(root);
    return st;
}

static adze_status write_cell(const cell *c, const table4_score *s)
{
    adze_status st = ADZE_OK;
    adze_text t = ADZE_TEXT_EMPTY;
    char *path = adze_path_join(c->folder, "cell.json");
    REQUIRE(path, ADZE_ENOMEM, "no memory for a path");
    adze_text_append(&t, "{\"method\": ");
    adze_text_json(&t, c->method);
    adze_text_append(&t, ", \"class\": ");
    adze_text_json(&t, c->class_name);
    adze_text_append(&t, ", \"options\": ");
    adze_text_json(&t, c->config.s ? c->config.s : "");
    adze_text_printf(&t, ", \"train_s\": %.3f, \"eval_s\": %.3f}\n", s->train_s, s->eval_s);
    TRY(adze_text_check(&t, "cell.json"));
    TRY(adze_file_write(path, t.s, t.n_bytes));
done:
    adze_text_destroy(&t);
    adze_free(path);
    return st;
}

static void report(const run *r, const cell *c, const table4_score *s, bool kept)
{
    adze_log_write(&r->p->log, ADZE_LOG_INFO, "%-10s %-20s I-AUROC %5.1f  AUPRO %5.1f  trained in %.1f s, evaluated in %.1f s%s", c->method,
                   c->class_name, 100.0 * s->image_auroc, 100.0 * s->aupro_strips, s->train_s, s->eval_s, kept ? " (kept)" : "");
}

static adze_status do_cell(run *r, cell *c, table4_score *s)
{
    adze_status st = ADZE_OK;
    bool finished;
    TRY(look_up(r, c, s, &finished));
    if (!finished) {
        double start = adze_clock_seconds();
        TRY(adze_folder_create(c->folder));
        TRY(train(r, c));
        double middle = adze_clock_seconds();
        TRY(evaluate(r, c));
        s->train_s = middle - start, s->eval_s = adze_clock_seconds() - middle;
        TRY(read_scores(c, s));
        TRY(write_cell(c, s));
    }
    report(r, c, s, finished);
done:
    return st;
}

/* All cells, method by method; one that fails does not stop the others, an interruption does. *worst: of the failures. */
static adze_status do_cells(run *r, adze_status *worst)
{
    adze_status st = ADZE_OK;
    int64_t n = r->n_classes * r->n_methods;
    adze_progress_begin(r->p->progress, "table4", "cells", 0, n);
    for (int64_t i = 0; i < n; adze_progress_update(r->p->progress, ++i)) {
        int64_t at = i % r->n_classes * r->n_methods + i / r->n_classes;
        cell *c = &r->cells[at];
        TRY(adze_program_check_interrupt());
        adze_status ended = do_cell(r, c, &r->score[at]);
        if (ended == ADZE_OK) continue;
        REQUIRE(ended != ADZE_EINTERRUPTED && !adze_interrupted(), ADZE_EINTERRUPTED,
                "interrupted in %s on %s; the same command goes on", c->method, c->class_name);
        adze_log_write(&r->p->log, ADZE_LOG_ERROR, "%s %s: %s", c->method, c->class_name, adze_error_message());
        if (adze_status_exit_code(ended) > adze_status_exit_code(*worst)) *worst = ended;
    }
    adze_progress_end(r->p->progress);
done:
    return st;
}

/* ---- the whole ---- */

static adze_status choose_methods(run *r)
{
    adze_status st = ADZE_OK;
    const adze_options *o = r->p->options;
    const adze_method *m;
    int64_t n_asked = adze_options_list_count(o, "methods"), n = 0;
    while (adze_method_at((int)n)) n++;
    if (n_asked > 0) n = n_asked;
    r->method = adze_calloc((size_t)n, sizeof *r->method);
    r->trained = adze_calloc((size_t)n, sizeof *r->trained);
    REQUIRE(r->method && r->trained, ADZE_ENOMEM, "a list of methods");
    TRY(adze_program_distinct(r->p, "methods"));
    for (int64_t i = 0; i < n; i++) {
        if (n_asked == 0) m = adze_method_at((int)i);
        else TRY(adze_method_find(adze_options_list_at(o, "methods", i), &m));
        r->method[i] = m->name, r->trained[i] = m->recipe != NULL;
        r->n_methods++;
    }
    for (int64_t i = 0; i < adze_options_list_count(o, "set"); i++) {
        const char *item = adze_options_list_at(o, "set", i);
        REQUIRE(begins_pair(item) || (i > 0 && !strchr(item, '=')), ADZE_EINVAL, "--set %s: want METHOD.KEY=VALUE with the name of a method", item);
    }
done:
    return st;
}

static adze_status choose_classes(run *r)
{
    adze_status st = ADZE_OK;
    const adze_options *o = r->p->options;
    const char *list = adze_options_given(o, "classes") ? "classes" : "class";
    REQUIRE(!adze_options_given(o, "classes") || !adze_options_given(o, "class"), ADZE_EINVAL, "--classes and --class are the same: give one of them");
    TRY(adze_program_distinct(r->p, list));
    int64_t n_known, n_asked = adze_options_list_count(o, list);
    const char *const *known = adze_dataset_classes(r->data, &n_known);
    bool all = n_asked == 0 || (n_asked == 1 && strcmp(adze_options_list_at(o, list, 0), "all") == 0);
    r->n_classes = all ? n_known : n_asked;
    REQUIRE(r->class_name = adze_calloc((size_t)r->n_classes + 1, sizeof *r->class_name), ADZE_ENOMEM, "a list of classes");
    for (int64_t i = 0; i < r->n_classes; i++) {
        r->class_name[i] = all ? known[i] : adze_options_list_at(o, list, i);
        TRY(adze_dataset_require(r->data, r->class_name[i], ADZE_SPLIT_TRAIN));
        TRY(adze_dataset_require(r->data, r->class_name[i], ADZE_SPLIT_TEST));
    }
done:
    return st;
}

static adze_status make_cells(run *r, const char *out)
{
    adze_status st = ADZE_OK;
    size_t n = (size_t)(r->n_classes * r->n_methods);
    r->cells = adze_calloc(n, sizeof *r->cells);
    r->score = adze_calloc(n, sizeof *r->score);
    REQUIRE(r->cells && r->score, ADZE_ENOMEM, "a table of %zu cells", n);
    for (int64_t i = 0; i < (int64_t)n; i++) {
        cell *c = &r->cells[i];
        r->score[i] = (table4_score){ NAN, NAN, NAN, NAN, NAN };
        c->method = r->method[i % r->n_methods], c->trained = r->trained[i % r->n_methods];
        c->class_name = r->class_name[i / r->n_methods];
        REQUIRE(c->folder = adze_strprintf("%s/%s/%s", out, c->method, c->class_name), ADZE_ENOMEM, "no memory for a path");
        args a = { .n = 0 };
        add_config(&a, r, c);
        for (int k = 0; k < a.n; k++) adze_text_printf(&c->config, "%s%s", k > 0 ? " " : "", a.word[k]);
        bool failed = a.failed;
        args_free(&a);
        REQUIRE(!failed, ADZE_EINVAL, "the options are too long for a command line");
        TRY(adze_text_check(&c->config, "options"));
    }
done:
    return st;
}

static adze_status write_table(const run *r, const char *out)
{
    adze_status st = ADZE_OK;
    const table4 t = { .data = adze_path_base(adze_dataset_root(r->data)), .method = r->method, .class_name = r->class_name,
                       .n_methods = r->n_methods, .n_classes = r->n_classes, .score = r->score };
    static const struct {
        const char *name;
        adze_status (*append)(const table4 *t, adze_text *out);
    } file[] = { { "table4.csv", table4_csv }, { "table4.json", table4_json }, { "table4.md", table4_markdown } };
    adze_text text = ADZE_TEXT_EMPTY;
    char *path = NULL;
    for (size_t i = 0; i < sizeof file / sizeof *file; i++) {
        adze_text_destroy(&text);
        adze_free(path);
        text = ADZE_TEXT_EMPTY;
        REQUIRE(path = adze_path_join(out, file[i].name), ADZE_ENOMEM, "no memory for a path");
        TRY(file[i].append(&t, &text));
        TRY(adze_file_write(path, text.s, text.n_bytes));
    }
    fputs(text.s, stdout); /* the Markdown, written last */
    fflush(stdout);
done:
    adze_text_destroy(&text);
    adze_free(path);
    return st;
}

static adze_status run_table(run *r)
{
    adze_status st = ADZE_OK, worst = ADZE_OK;
    const adze_options *o = r->p->options;
    const char *out = adze_options_string(o, "out");
    if (adze_options_flag(o, "print-config")) {
        adze_text t = ADZE_TEXT_EMPTY;
        st = adze_options_config(o, NULL, &t);
        if (st == ADZE_OK && t.s) fputs(t.s, stdout);
        adze_text_destroy(&t);
        return st;
    }
    REQUIRE(adze_options_given(o, "data"), ADZE_EINVAL, "--data is missing: the folder of the data set");
    REQUIRE(out, ADZE_EINVAL, "--out is missing: the folder of the results");
    TRY(choose_methods(r));
    TRY(adze_dataset_open(&r->data, adze_options_string(o, "data"), NULL));
    TRY(choose_classes(r));
    TRY(make_cells(r, out));
    TRY(adze_program_folder(&r->programs));
    if (adze_options_flag(o, "dry-run")) {
        for (int64_t i = 0; i < r->n_classes * r->n_methods; i++) printf("%s\n", r->cells[i].folder);
        goto done;
    }
    TRY(adze_folder_create(out));
    TRY(do_cells(r, &worst));
    TRY(write_table(r, out));
    if (worst != ADZE_OK) st = adze_fail(worst, "not all cells are finished; the same command tries them again");
done:
    return st;
}

static void close_run(run *r)
{
    for (int64_t i = 0; r->cells && i < r->n_classes * r->n_methods; i++) {
        adze_free(r->cells[i].folder);
        adze_text_destroy(&r->cells[i].config);
    }
    adze_free(r->cells);
    adze_free(r->score);
    adze_free(r->method);
    adze_free(r->trained);
    adze_free(r->class_name);
    adze_free(r->programs);
    adze_dataset_destroy(r->data);
}

int main(int argc, char **argv)
{
    adze_program p;
    int code;
    if (!adze_program_open(&p, &about, argc, argv, &code)) return code;
    run r = { .p = &p };
    adze_status st = run_table(&r);
    close_run(&r);
    return adze_program_close(&p, st);
}
