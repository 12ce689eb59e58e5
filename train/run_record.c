/* run_record.c - RUN/run.json. Entry: run_record_write(). */
#include "train/run_record.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/clock.h"
#include "core/file.h"
#include "core/memory.h"
#include "core/sha256.h"

void run_record_destroy(run_record *r)
{
    adze_text_destroy(&r->fields);
    adze_text_destroy(&r->classes);
    adze_text_destroy(&r->manifest);
}

static void member(adze_text *t, const char *key, const char *value)
{
    adze_text_append(t, ",\n  ");
    adze_text_json(t, key);
    adze_text_append(t, ": ");
    adze_text_json(t, value);
}

void run_record_text(run_record *r, const char *key, const char *value)
{
    member(&r->fields, key, value);
}

void run_record_class(run_record *r, const char *name, int64_t n_images, double seconds, const run_memory *memory, const char *engines,
                      const char *facts)
{
    adze_text_append(&r->classes, r->classes.n_bytes ? ",\n    " : "\n    ");
    adze_text_json(&r->classes, name);
    adze_text_printf(&r->classes, ": {\"images\": %" PRId64 ", \"seconds\": %.3f, \"planned_memory_bytes\": %zu, \"peak_memory_bytes\": %zu, ",
                     n_images, seconds, memory->planned_bytes, memory->measured_bytes);
    if (memory->planned_device_bytes > 0 || memory->measured_device_bytes > 0)
        adze_text_printf(&r->classes, "\"planned_device_memory_bytes\": %zu, \"peak_device_memory_bytes\": %zu, ", memory->planned_device_bytes,
                         memory->measured_device_bytes);
    if (engines) adze_text_printf(&r->classes, "\"engines\": [\n      %s], ", engines);
    adze_text_append(&r->classes, "\"facts\": ");
    adze_text_json(&r->classes, facts);
    adze_text_append(&r->classes, "}");
}

void run_record_join(run_record *r, const char *classes)
{
    if (!classes || !*classes) return;
    if (r->classes.n_bytes) adze_text_append(&r->classes, ",");
    adze_text_append(&r->classes, classes);
}

adze_status run_record_options_json(const adze_options *o, adze_text *out)
{
    const adze_option *option;
    bool first = true;
    adze_text_append(out, "{");
    for (size_t i = 0; (option = adze_options_at(o, i)); i++) {
        if (option->properties & ADZE_OPTION_ACTION) continue;
        const char *text = adze_options_text(o, option->name);
        adze_text_append(out, first ? "" : ", ");
        first = false;
        adze_text_json(out, option->name);
        adze_text_append(out, ": ");
        if (!text) adze_text_append(out, "null");
        else if (option->type == ADZE_OPTION_FLAG) adze_text_append(out, adze_options_flag(o, option->name) ? "true" : "false");
        else if (option->type == ADZE_OPTION_INT) adze_text_printf(out, "%" PRId64, adze_options_int(o, option->name));
        else if (option->type == ADZE_OPTION_REAL) adze_text_printf(out, "%.17g", adze_options_real(o, option->name));
        else adze_text_json(out, text);
    }
    adze_text_append(out, "}");
    return adze_text_check(out, "options as JSON");
}

/* The manifest of the data set. A picture that nobody asked for must not spoil the record. */
static adze_status find_manifest(run_record *r, const adze_program *p, const adze_dataset *data)
{
    char hex[ADZE_SHA256_HEX];
    if (r->manifest.s) return ADZE_OK;
    adze_status st = adze_dataset_manifest(data, NULL, hex);
    if (st == ADZE_OK) adze_text_json(&r->manifest, hex);
    else if (st == ADZE_EINPUT) {
        adze_log_write(&p->log, ADZE_LOG_WARNING, "run.json has no manifest of the data set: %s", adze_error_message());
        adze_text_append(&r->manifest, "null");
    } else return st;
    return adze_text_check(&r->manifest, "run record");
}

/* Whether OUT/NAME/model.h5 is there. */
static bool has_model(const char *out, const char *name)
{
    char *path = adze_strprintf("%s/%s/model.h5", out, name);
    bool there = path && adze_file_exists(path);
    adze_free(path);
    return there;
}

/* Appends a class of an earlier record; what is true of that run as a whole goes with it. */
static void append_earlier(adze_text *t, const char *name, json_t *entry, const json_t *earlier)
{
    static const char *const of_run[] = { "command", "finished" };
    for (int i = 0; i < 2; i++)
        if (!json_object_get(entry, of_run[i])) json_object_set(entry, of_run[i], json_object_get(earlier, of_run[i]));
    char *s = json_dumps(entry, JSON_REAL_PRECISION(15));
    if (s) {
        adze_text_append(t, t->n_bytes ? ",\n    " : "\n    ");
        adze_text_json(t, name);
        adze_text_printf(t, ": %s", s);
    }
    free(s);
}

/* The classes of the record at `path` that this run has not made and whose models are still there, then this run's. */
static adze_status all_classes(const run_record *r, const char *path, const char *out, adze_text *t)
{
    adze_status st = ADZE_OK;
    adze_text own = ADZE_TEXT_EMPTY;
    unsigned char *text = NULL;
    size_t n;
    json_t *earlier = NULL, *made = NULL, *entry;
    const char *name;
    adze_text_printf(&own, "{%s}", r->classes.s ? r->classes.s : "");
    TRY(adze_text_check(&own, "run record"));
    if (adze_file_exists(path) && adze_file_read(path, 1u << 26, &text, &n) == ADZE_OK) earlier = json_loadb((char *)text, n, 0, NULL);
    REQUIRE(made = json_loads(own.s, 0, NULL), ADZE_EINTERNAL, "%s: the classes are no JSON", path);
    json_object_foreach(json_object_get(earlier, "classes"), name, entry)
        if (json_is_object(entry) && !json_object_get(made, name) && has_model(out, name)) append_earlier(t, name, entry, earlier);
    if (r->classes.s) adze_text_printf(t, "%s%s", t->n_bytes ? "," : "", r->classes.s);
done:
    json_decref(earlier);
    json_decref(made);
    adze_text_destroy(&own);
    adze_free(text);
    return st;
}

adze_status run_record_write(run_record *r, const adze_program *p, const adze_options *method_options, const adze_ctx *ctx,
                             const adze_dataset *data, const char *out)
{
    adze_status st = ADZE_OK;
    adze_text t = ADZE_TEXT_EMPTY, classes = ADZE_TEXT_EMPTY;
    int lock = -1;
    char *path = adze_path_join(out, "run.json"), stamp[32];
    REQUIRE(path, ADZE_ENOMEM, "no memory for a path");
    TRY(find_manifest(r, p, data));
    TRY(adze_folder_create(out));
    TRY(adze_folder_lock(out, true, &lock)); /* others may write theirs: one after the other */
    TRY(all_classes(r, path, out, &classes));
    struct tm utc;
    const time_t now = time(NULL);
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    adze_text_append(&t, "{\n  \"format\": \"adze-run\", \"format_version\": 1");
    member(&t, "version", ADZE_VERSION);
    member(&t, "finished", stamp);
    member(&t, "command", p->command);
    member(&t, "device", adze_ctx_description(ctx));
    member(&t, "precision", adze_precision_name(adze_ctx_precision(ctx)));
    adze_text_printf(&t, ",\n  \"threads\": %d", adze_ctx_threads(ctx));
    adze_text_printf(&t, ",\n  \"manifest_sha256\": %s", r->manifest.s);
    if (r->fields.s) adze_text_append(&t, r->fields.s);
    adze_text_append(&t, ",\n  \"config\": ");
    TRY(run_record_options_json(p->options, &t));
    adze_text_append(&t, ",\n  \"method_options\": ");
    TRY(run_record_options_json(method_options, &t));
    adze_text_printf(&t, ",\n  \"seconds\": %.3f,\n  \"peak_memory_bytes\": %zu,\n  \"classes\": {%s\n  }\n}\n",
                     adze_clock_seconds() - p->started, adze_program_peak_bytes(), classes.s ? classes.s : "");
    TRY(adze_text_check(&classes, "run record"));
    TRY(adze_text_check(&t, "run record"));
    TRY(adze_file_write(path, t.s, t.n_bytes));
done:
    adze_folder_unlock(lock);
    adze_text_destroy(&t);
    adze_text_destroy(&classes);
    adze_free(path);
    return st;
}
