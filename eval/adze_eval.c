/* adze_eval.c - the program adze-eval: scores the test pictures of a data set with checkpoints, writes metrics, tables, scores,
 * heat-maps and the report. It links no training code. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "checkpoints/hdf5_file.h"
#include "core/clock.h"
#include "core/file.h"
#include "core/memory.h"
#include "eval/evaluate.h"
#include "eval/program.h"
#include "eval/report.h"

static const adze_option own[] = {
    { .name = "model", .letter = 'm', .type = ADZE_OPTION_STRING, .metavar = "RUN|FILE.h5", .group = "Model",
      .help = "a run of adze-train, or one checkpoint" },
    { .name = "out", .letter = 'o', .type = ADZE_OPTION_STRING, .metavar = "DIR", .group = "Run", .help = "folder of the results" },
    { .name = "masks", .type = ADZE_OPTION_FLAG, .fallback = "yes", .group = "Data",
      .help = "read ground-truth masks; --masks=no computes image metrics only" },
    { .name = "gray16", .type = ADZE_OPTION_CHOICE, .fallback = "clip", .choices = "clip|shift", .group = "Data",
      .help = "16-bit grey pictures: values above 255 clipped, as the benchmark reads them, or the high byte" },
    { .name = "heatmaps", .type = ADZE_OPTION_FLAG, .fallback = "yes", .group = "Results",
      .help = "a picture with overlay and map for every test image" },
    { .name = "save-maps", .type = ADZE_OPTION_FLAG, .group = "Results", .help = "also the float32 maps, as maps.h5" },
    { .name = "title", .type = ADZE_OPTION_STRING, .metavar = "TEXT", .group = "Results", .help = "title of the report" },
};

static const adze_program_about about = {
    .name = "adze-eval",
    .table = own,
    .n_table = sizeof own / sizeof *own,
    .usage = "adze-eval --model RUN|FILE.h5 --data ROOT --out DIR [options]",
    .about = "Scores the test pictures of a data set and writes metrics.json .md .csv .tex, scores.csv, heat-maps and "
             "report.html. Method, backbone, size and options come from the checkpoint.",
    .examples = "  adze-eval --model runs/bottle --data mvtec --out results/bottle\n"
                "  adze-eval --model runs/mirad/joint/model.h5 --data mirad --out results\n",
};

typedef struct {
    adze_program *p;
    adze_dataset *data;
    adze_ctx *ctx;
    const char *out;
    const char **name; /* the classes, borrowed */
    char **path;       /* their checkpoints, owned */
    int64_t n;
    evaluated_class *result; /* (n) */
    adze_class_result *table; /* (n) */
    adze_text *notes;        /* (n) */
    const char **note;       /* (n) borrowed from notes */
    adze_text facts_text, size;
    char *method, *backbone, *options, *weights; /* of the first model, owned */
    int64_t pooling;                             /* of its image scores */
    adze_h5 *maps;
    char map_folder[1024];
    int64_t map_size[2]; /* of the model in work */
} run;

/* RUN/CLASS/model.h5, else RUN/joint/model.h5, else the file itself. NULL if there is none. */
static adze_status checkpoint_of(const char *model, const char *class_name, char **path)
{
    static const char *const names[] = { NULL, "joint" };
    *path = NULL;
    if (adze_file_exists(model)) {
        *path = adze_strdup(model);
        return *path ? ADZE_OK : adze_fail(ADZE_ENOMEM, "no memory for a path");
    }
    for (int i = 0; i < 2 && !*path; i++) {
        char *candidate = adze_strprintf("%s/%s/model.h5", model, names[i] ? names[i] : class_name);
        if (!candidate) return adze_fail(ADZE_ENOMEM, "no memory for a path");
        if (adze_file_exists(candidate)) *path = candidate;
        else adze_free(candidate);
    }
    return ADZE_OK;
}

/* Whether a model was fitted to pictures of this class. */
static bool made_for(const adze_model_info *info, const char *class_name)
{
    for (int64_t i = 0; i < info->n_classes; i++)
        if (strcmp(info->classes[i], class_name) == 0) return true;
    return info->n_classes == 0;
}

/* One checkpoint for a whole data set: leaves the classes that it was made for, if there are any of them. */
static adze_status keep_own_classes(run *r, const char *model)
{
    adze_status st = ADZE_OK;
    adze_model_file *file;
    int64_t matching = 0, n = 0;
    TRY(adze_model_file_open(&file, model));
    const adze_model_info *info = adze_model_file_info(file);
    for (int64_t i = 0; i < r->n; i++) matching += made_for(info, r->name[i]);
    for (int64_t i = 0; matching > 0 && i < r->n; i++) {
        if (made_for(info, r->name[i])) r->name[n] = r->name[i], r->path[n++] = r->path[i];
        else adze_free(r->path[i]);
    }
    if (matching > 0) r->n = n;
    adze_model_file_close(file);
done:
    return st;
}

/* The classes to score: those asked for, or those of the data set that have a checkpoint. */
static adze_status choose_classes(run *r, const char *model)
{
    adze_status st = ADZE_OK;
    int64_t n_known, n_asked = adze_options_list_count(r->p->options, "class");
    const char *const *known = adze_dataset_classes(r->data, &n_known);
    bool all = n_asked == 0 || (n_asked == 1 && strcmp(adze_options_list_at(r->p->options, "class", 0), "all") == 0);
    int64_t most = all ? n_known : n_asked;
    TRY(adze_program_distinct(r->p, "class"));
    REQUIRE(adze_file_exists(model) || adze_folder_exists(model), ADZE_EINPUT, "%s: no such file or folder", model);
    REQUIRE(r->name = adze_calloc((size_t)most + 1, sizeof *r->name), ADZE_ENOMEM, "a list of classes");
    REQUIRE(r->path = adze_calloc((size_t)most + 1, sizeof *r->path), ADZE_ENOMEM, "a list of classes");
    for (int64_t i = 0; i < most; i++) {
        const char *name = all ? known[i] : adze_options_list_at(r->p->options, "class", i);
        TRY(checkpoint_of(model, name, &r->path[r->n]));
        if (!r->path[r->n] && all) continue;
        REQUIRE(r->path[r->n], ADZE_EINPUT, "%s has no checkpoint of class '%s' (%s/%s/model.h5)", model, name, model, name);
        r->name[r->n++] = name;
    }
    if (n_asked == 0 && r->n > 1 && adze_file_exists(model)) TRY(keep_own_classes(r, model));
    for (int64_t i = 0; i < r->n && adze_options_flag(r->p->options, "masks"); i++) TRY(adze_dataset_require(r->data, r->name[i], ADZE_SPLIT_TEST));
    REQUIRE(r->n > 0, ADZE_EINPUT, "%s has no checkpoint of any class of %s", model, adze_dataset_root(r->data));
done:
    return st;
}

/* maps.h5: /CLASS/<path below the root>, one data set per picture. */
static adze_status save_map(void *user, const char *class_name, const adze_data_item *item, const float *map)
{
    adze_status st = ADZE_OK;
    run *r = user;
    char *path = adze_strprintf("/%s/%s", class_name, item->path);
    REQUIRE(path, ADZE_ENOMEM, "no memory for a path");
    char *last = strrchr(path, '/');
    if (strlen(r->map_folder) != (size_t)(last - path) || strncmp(r->map_folder, path, (size_t)(last - path)) != 0) {
        for (char *c = path + 1; c <= last; c++) { /* groups that the last folder did not have yet */
            if (*c != '/') continue;
            size_t length = (size_t)(c - path);
            if (strncmp(r->map_folder, path, length) == 0 && (r->map_folder[length] == '/' || r->map_folder[length] == 0)) continue;
            *c = 0;
            st = adze_h5_group(r->maps, path);
            *c = '/';
            TRY(st);
        }
        snprintf(r->map_folder, sizeof r->map_folder, "%.*s", (int)(last - path), path);
    }
    TRY(adze_h5_write(r->maps, path, ADZE_DTYPE_F32, 2, r->map_size, map));
done:
    adze_free(path);
    return st;
}

static void note(run *r, int64_t i, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void note(run *r, int64_t i, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    adze_text_printf(&r->notes[i], "%s%s", r->notes[i].n_bytes ? " " : "", text);
    adze_log_write(&r->p->log, ADZE_LOG_WARNING, "%s: %s", r->name[i], text);
}

/* "patch=3, coreset=0.1, ...": the options that have a value. */
static char *options_line(const adze_options *o)
{
    const adze_option *option;
    adze_text t = ADZE_TEXT_EMPTY;
    for (size_t i = 0; (option = adze_options_at(o, i)); i++) {
        if (!adze_options_text(o, option->name)) continue;
        adze_text_printf(&t, "%s%s=", t.n_bytes ? ", " : "", option->name);
        if (option->type == ADZE_OPTION_REAL) adze_text_printf(&t, "%.6g", adze_options_real(o, option->name));
        else adze_text_append(&t, adze_options_text(o, option->name));
    }
    return t.s;
}

/* Keeps the facts of the first model for the report. */
static adze_status describe_model(run *r, const loaded_model *m)
{
    if (r->method) return ADZE_OK;
    r->method = adze_strdup(m->info->method);
    r->pooling = m->method->pooling;
    r->backbone = adze_strdup(m->info->backbone);
    r->options = options_line(m->options);
    r->weights = adze_strprintf("%s%s%.16s", m->info->weights_tag ? m->info->weights_tag : "",
                                m->info->weights_tag && *m->info->weights_tag ? ", SHA-256 " : "SHA-256 ",
                                m->info->weights_sha256 ? m->info->weights_sha256 : "unknown");
    adze_text_printf(&r->size, "%" PRId64 "x%" PRId64, m->info->H, m->info->W);
    if (!r->method || !r->backbone || !r->options || !r->weights || r->size.failed)
        return adze_fail(ADZE_ENOMEM, "no memory for the facts of the model");
    return ADZE_OK;
}

static adze_status evaluate_one(run *r, int64_t i)
{
    adze_status st = ADZE_OK;
    loaded_model m = { 0 };
    int64_t n_items, gallery = 20 / r->n > 2 ? 20 / r->n : 2;
    const adze_options *o = r->p->options;
    const adze_data_item *items = adze_dataset_items(r->data, r->name[i], ADZE_SPLIT_TEST, &n_items);
    REQUIRE(n_items > 0, ADZE_EINPUT, "no test pictures");
    TRY(loaded_model_open(&m, r->path[i], r->ctx, adze_options_int(o, "batch")));
    TRY(describe_model(r, &m));
    r->map_size[0] = m.info->H, r->map_size[1] = m.info->W;
    if (adze_options_flag(o, "print-plan")) {
        adze_text plan = ADZE_TEXT_EMPTY;
        m.method->print_plan(m.model, &plan);
        if (plan.s) fputs(plan.s, stdout);
        adze_text_destroy(&plan);
        goto done;
    }
    size_t pixels = (size_t)(m.info->H * m.info->W);
    adze_memory_item memory[] = {
        { .what = "pictures and maps", .n_bytes = (size_t)n_items * pixels * 8 },
        { .what = "sorted scores", .n_bytes = (size_t)n_items * pixels * 16 },
        { .what = NULL },
    };
    char what[96];
    snprintf(what, sizeof what, "scoring %s, %" PRId64 " pictures", r->name[i], n_items);
    TRY(adze_program_memory(r->p, memory, what));
    adze_memory_item on_device[ADZE_MEMORY_ITEMS] = { { .what = NULL } };
    if (m.method->device_memory) m.method->device_memory(m.model, n_items, on_device);
    TRY(adze_program_device_memory(r->p, r->ctx, on_device, what));
    if (adze_options_flag(o, "dry-run")) goto done;

    evaluate_opts opts = {
        .masks = adze_options_flag(o, "masks"),
        .heatmaps = adze_options_flag(o, "heatmaps"),
        .gray16_shift = adze_options_choice(o, "gray16") == 1,
        .gallery = gallery,
        .out = r->out,
        .take_map = r->maps ? save_map : NULL,
        .user = r,
    };
    evaluated_class *c = &r->result[i];
    TRY(loaded_model_blame(evaluate_class(c, r->p, &m, r->name[i], items, n_items, &opts), r->path[i]));
    adze_text facts = ADZE_TEXT_EMPTY;
    m.method->facts(m.model, &facts);
    adze_log_write(&r->p->log, ADZE_LOG_INFO, "%s: %" PRId64 " images, %.1f images/s (%.1f s waiting for pictures); %s", r->name[i],
                   c->n, (double)c->n / c->seconds, c->waited_s, facts.s ? facts.s : "");
    adze_text_printf(&r->facts_text, "%s%s: %s", r->facts_text.n_bytes ? "\n" : "", r->name[i], facts.s ? facts.s : "");
    adze_text_destroy(&facts);
    if (c->metrics.n_vanished > 0)
        note(r, i, "%" PRId64 " defective pictures have an empty mask at this size and count as good in the image metrics.", c->metrics.n_vanished);
    if (c->metrics.n_without_mask > 0)
        note(r, i, "%" PRId64 " defective pictures have no mask: pixel metrics are undefined.", c->metrics.n_without_mask);
    if (!made_for(m.info, r->name[i])) note(r, i, "The model was fitted to pictures of '%s'.", m.info->class_name);
    if (c->n_gray16 > 0)
        note(r, i, "%" PRId64 " pictures have 16 bits of grey; values above 255 are %s.", c->n_gray16,
             opts.gray16_shift ? "reduced to their high byte" : "clipped (--gray16=shift takes the high byte)");
    r->table[i] = (adze_class_result){
        .name = r->name[i], .metrics = &c->metrics, .image = c->row, .n_images = c->n, .threshold = NAN, /* nobody set one: the report shows that of the best F1 */
    };
    if (r->notes[i].s) {
        r->note[i] = r->notes[i].s;
        r->table[i].note = &r->note[i];
        r->table[i].n_notes = 1;
    }
done:
    loaded_model_close(&m);
    return st == ADZE_OK ? st : adze_fail_prefix(st, "%s", r->name[i]);
}

static adze_status find_picture(void *user, int64_t cls, int64_t image, adze_report_picture_kind kind,
                                const unsigned char **png, size_t *n_bytes)
{
    const run *r = user;
    *png = NULL;
    for (int64_t i = 0; i < r->result[cls].n_pictures; i++) {
        const evaluated_picture *p = &r->result[cls].picture[i];
        if (p->image != image) continue;
        *png = p->png[kind];
        *n_bytes = p->n_bytes[kind];
    }
    return ADZE_OK;
}

static adze_status write_results(run *r)
{
    adze_status st = ADZE_OK;
    char *path = adze_path_join(r->out, "report.html"), *title = NULL;
    adze_text t = ADZE_TEXT_EMPTY;
    REQUIRE(path, ADZE_ENOMEM, "no memory for a path");
    double seconds = adze_clock_seconds() - r->p->started, rate = 0.0, spent = 0.0;
    for (int64_t i = 0; i < r->n; i++) rate += (double)r->result[i].n, spent += r->result[i].seconds;
    char time_text[64], rate_text[64], score_text[96] = "maximum of the map";
    if (r->pooling > 0)
        snprintf(score_text, sizeof score_text, "maximum of the map's means over %" PRId64 "x%" PRId64 " pixels", r->pooling, r->pooling);
    snprintf(time_text, sizeof time_text, "%.1f s", seconds);
    snprintf(rate_text, sizeof rate_text, "%.1f images/s", rate / spent);
    const adze_fact protocol[] = {
        { "method", r->method, false },
        { "backbone", r->backbone, false },
        { "size", r->size.s, false },
        { "precision", adze_precision_name(adze_ctx_precision(r->ctx)), false },
        { "image_score", score_text, false },
        { "image_label", "maximum of the resized mask; *_file: the folder's label", false },
        { "aupro_limit", "0.3", true },
        { "strips", "50", true },
        { "metrics", "exact unless the name ends in _strips, _ader or _loop", false },
    };
    adze_results results = {
        .model = adze_options_string(r->p->options, "model"), .protocol = protocol,
        .n_protocol = sizeof protocol / sizeof *protocol, .cls = r->table, .n_classes = r->n,
    };
    TRY(adze_results_write(&results, r->out));
    const adze_fact facts[] = {
        { "Method", r->method, false },
        { "Options", r->options, false },
        { "Backbone", r->backbone, false },
        { "Weights", r->weights, false },
        { "Input", r->size.s, false },
        { "Data", adze_dataset_root(r->data), false },
        { "Device", adze_ctx_description(r->ctx), false },
        { "Search", r->facts_text.s ? r->facts_text.s : "", false },
        { "Speed", rate_text, false },
        { "Time", time_text, false },
        { "Peak memory", adze_program_bytes(adze_program_peak_bytes()), false },
        { "Command", r->p->command, false },
        { "Version", "adze " ADZE_VERSION, false },
    };
    adze_report_opts report = ADZE_REPORT_OPTS;
    const char *given = adze_options_string(r->p->options, "title");
    title = given ? adze_strdup(given) : adze_strprintf("%s on %s", r->method, adze_path_base(adze_dataset_root(r->data)));
    REQUIRE(title, ADZE_ENOMEM, "no memory for a title");
    report.title = title;
    report.fact = facts, report.n_facts = sizeof facts / sizeof *facts;
    report.picture = find_picture, report.user = r;
    TRY(adze_report_write(&results, &report, path));
    TRY(adze_results_markdown(&results, &t));
    fputs(t.s, stdout);
    adze_log_write(&r->p->log, ADZE_LOG_INFO, "report: %s", path);
done:
    adze_text_destroy(&t);
    adze_free(path);
    adze_free(title);
    return st;
}

static adze_status evaluate_all(run *r)
{
    adze_status st = ADZE_OK;
    const adze_options *o = r->p->options;
    char *maps = NULL;
    if (adze_options_flag(o, "print-config")) {
        adze_text t = ADZE_TEXT_EMPTY;
        st = adze_options_config(o, NULL, &t);
        if (st == ADZE_OK && t.s) fputs(t.s, stdout);
        adze_text_destroy(&t);
        goto done;
    }
    REQUIRE(adze_options_given(o, "model"), ADZE_EINVAL, "--model is missing: a run of adze-train or a checkpoint");
    REQUIRE(adze_options_given(o, "data"), ADZE_EINVAL, "--data is missing: the folder of the data set");
    r->out = adze_options_string(o, "out");
    bool dry = adze_options_flag(o, "dry-run") || adze_options_flag(o, "print-plan");
    REQUIRE(dry || r->out, ADZE_EINVAL, "--out is missing: the folder of the results");
    TRY(adze_dataset_open(&r->data, adze_options_string(o, "data"), NULL));
    TRY(choose_classes(r, adze_options_string(o, "model")));
    if (!dry) TRY(adze_program_output(r->p, r->out, "metrics.json"));
    TRY(adze_program_device(r->p, &r->ctx));
    size_t n = (size_t)r->n;
    r->result = adze_calloc(n, sizeof *r->result);
    r->table = adze_calloc(n, sizeof *r->table);
    r->notes = adze_calloc(n, sizeof *r->notes);
    r->note = adze_calloc(n, sizeof *r->note);
    REQUIRE(r->result && r->table && r->notes && r->note, ADZE_ENOMEM, "results of %zu classes", n);
    if (!dry && adze_options_flag(o, "save-maps")) {
        REQUIRE(maps = adze_path_join(r->out, "maps.h5"), ADZE_ENOMEM, "no memory for a path");
        TRY(adze_h5_create(&r->maps, maps));
    }
    for (int64_t i = 0; i < r->n; i++) TRY(evaluate_one(r, i));
    if (r->maps) TRY(adze_h5_commit(r->maps));
    if (!dry) TRY(write_results(r));
done:
    adze_free(maps);
    return st;
}

static void close_run(run *r)
{
    for (int64_t i = 0; i < r->n; i++) {
        adze_free(r->path[i]);
        if (r->result) evaluated_class_destroy(&r->result[i]);
        if (r->notes) adze_text_destroy(&r->notes[i]);
    }
    adze_h5_destroy(r->maps);
    adze_free(r->name);
    adze_free(r->path);
    adze_free(r->result);
    adze_free(r->table);
    adze_free(r->notes);
    adze_free(r->note);
    adze_text_destroy(&r->facts_text);
    adze_text_destroy(&r->size);
    adze_free(r->method);
    adze_free(r->backbone);
    adze_free(r->options);
    adze_free(r->weights);
    adze_dataset_destroy(r->data);
    adze_ctx_destroy(r->ctx);
}

int main(int argc, char **argv)
{
    adze_program p;
    int code;
    if (!adze_program_open(&p, &about, argc, argv, &code)) return code;
    run r = { .p = &p };
    adze_status st = evaluate_all(&r);
    close_run(&r);
    return adze_program_close(&p, st);
}
