/* run_record.c - RUN/run.json. Entry: run_record_write(). */
#include "train/run_record.h"

#include <inttypes.h>
#include <stdio.h>
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

adze_status run_record_write(run_record *r, const adze_program *p, const adze_options *method_options, const adze_ctx *ctx,
                             const adze_dataset *data, const char *out)
{
    adze_status st = ADZE_OK;
    adze_text t = ADZE_TEXT_EMPTY;
    char *path = adze_path_join(out, "run.json"), stamp[32], manifest[ADZE_SHA256_HEX];
    REQUIRE(path, ADZE_ENOMEM, "no memory for a path");
    TRY(adze_dataset_manifest(data, NULL, manifest));
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
    member(&t, "manifest_sha256", manifest);
    if (r->fields.s) adze_text_append(&t, r->fields.s);
    adze_text_append(&t, ",\n  \"config\": ");
    TRY(run_record_options_json(p->options, &t));
    adze_text_append(&t, ",\n  \"method_options\": ");
    TRY(run_record_options_json(method_options, &t));
    adze_text_printf(&t, ",\n  \"seconds\": %.3f,\n  \"peak_memory_bytes\": %zu,\n  \"classes\": {%s\n  }\n}\n",
                     adze_clock_seconds() - p->started, adze_program_peak_bytes(), r->classes.s ? r->classes.s : "");
    TRY(adze_text_check(&t, "run record"));
    TRY(adze_file_write(path, t.s, t.n_bytes));
done:
    adze_text_destroy(&t);
    adze_free(path);
    return st;
}
