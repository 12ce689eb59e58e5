/* loaded_model.c - opening a checkpoint for scoring. Entry: loaded_model_open(). */
#include "eval/loaded_model.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/memory.h"

static adze_status set_option(adze_options *o, const char *key, const json_t *value, const char *path)
{
    char number[64];
    if (json_is_null(value)) return ADZE_OK;
    const char *text = json_is_string(value) ? json_string_value(value) : json_is_boolean(value) ? (json_is_true(value) ? "yes" : "no") : number;
    if (json_is_integer(value)) snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else if (json_is_real(value)) snprintf(number, sizeof number, "%.17g", json_real_value(value));
    else if (!json_is_string(value) && !json_is_boolean(value))
        return adze_fail(ADZE_EINPUT, "%s: option '%s' is no plain value", path, key);
    adze_status st = adze_options_set(o, key, text, ADZE_ORIGIN_FILE, path);
    return st == ADZE_EINVAL ? ADZE_EINPUT : st; /* a file with a wrong option is bad input, not a wrong command line */
}

static adze_status read_options(loaded_model *m, const char *path)
{
    adze_status st = ADZE_OK;
    json_error_t why;
    json_t *root = json_loads(m->info->config_json, JSON_REJECT_DUPLICATES, &why);
    REQUIRE(json_is_object(root), ADZE_EINPUT, "%s: its configuration is no JSON object: %s", path, why.text);
    TRY(adze_options_create(&m->options));
    TRY(adze_options_add(m->options, m->method->options, m->method->n_options));
    const char *key;
    json_t *value;
    json_object_foreach(root, key, value) TRY(set_option(m->options, key, value, path));
done:
    json_decref(root);
    return st;
}

/* Where tensors come from. */
typedef struct {
    adze_model_file *file;
    const char *path;
} stored;

static adze_status find_own(void *user, const char *name, adze_shape *shape, const float **data)
{
    adze_status st = ADZE_OK;
    const stored *s = user;
    const adze_stored_tensor *t;
    TRY(adze_model_file_find(s->file, name, &t));
    REQUIRE(t->type == ADZE_DTYPE_F32 && t->rank <= ADZE_MAX_RANK, ADZE_EINPUT, "%s: tensor '%s' is %s of rank %d, want float32", s->path, name,
            adze_dtype_name(t->type), t->rank);
    *shape = adze_shape_of(t->rank, t->dim);
    *data = (const float *)t->data;
    const int64_t n = adze_shape_count(shape);
    for (int64_t i = 0; i < n; i++) /* a network may swallow it: relu makes 0 of NaN */
        REQUIRE(isfinite((*data)[i]), ADZE_EINPUT, "%s: tensor '%s' holds %g", s->path, name, (double)(*data)[i]);
done:
    return st;
}

static adze_status find_weight(void *user, const char *name, adze_shape *shape, const float **data)
{
    char full[320];
    snprintf(full, sizeof full, "backbone.%s", name);
    return find_own(user, full, shape, data);
}

adze_status loaded_model_blame(adze_status st, const char *path)
{
    return st == ADZE_ENUMERIC ? adze_fail_prefix(ADZE_EINPUT, "%s: its weights give no finite numbers", path) : st;
}

/* An error that says in which file, once. */
static adze_status name_file(adze_status st, const char *path)
{
    bool named = st == ADZE_OK || strncmp(adze_error_message(), path, strlen(path)) == 0;
    return named ? st : adze_fail_prefix(st, "%s", path);
}

adze_status loaded_model_open(loaded_model *m, const char *path, adze_ctx *ctx, int64_t batch)
{
    adze_status st = ADZE_OK;
    *m = (loaded_model){ .ctx = ctx };
    TRY(adze_model_file_open(&m->file, path));
    m->info = adze_model_file_info(m->file);
    REQUIRE(adze_method_find(m->info->method, &m->method) == ADZE_OK, ADZE_EINPUT, "%s: made by method '%s', which this version does not have",
            path, m->info->method);
    REQUIRE(m->info->H > 0 && m->info->W > 0 && m->info->H <= 4096 && m->info->W <= 4096, ADZE_EINPUT,
            "%s: input size %" PRId64 "x%" PRId64, path, m->info->H, m->info->W);
    TRY(read_options(m, path));
    stored from = { m->file, path };
    m->batch = batch > 0 ? batch : m->method->batch;
    adze_normalize_init(&m->normalize, m->info->mean, m->info->std);
    adze_model_setup setup = {
        .ctx = ctx,
        .backbone = m->info->backbone,
        .folded = m->info->folded,
        .H = m->info->H,
        .W = m->info->W,
        .batch = m->batch,
        .seed = (uint64_t)m->info->seed,
        .options = m->options,
        .weights = { find_weight, &from },
        .fit = false,
    };
    st = m->method->create(&m->model, &setup);
    if (st == ADZE_EINVAL) st = ADZE_EINPUT;
    TRY(name_file(st, path));
    adze_tensor_source own = { find_own, &from };
    TRY(name_file(loaded_model_blame(m->method->load(m->model, &own), path), path));
done:
    if (st != ADZE_OK) loaded_model_close(m);
    return st;
}

bool loaded_model_reads_as_opencv(const loaded_model *m)
{
    return m->method->reads_as_opencv && m->method->reads_as_opencv(m->model);
}

bool loaded_model_scores_images(const loaded_model *m)
{
    return m->method->scores_images && m->method->scores_images(m->model);
}

void loaded_model_close(loaded_model *m)
{
    if (m->model) m->method->destroy(m->model);
    adze_options_destroy(m->options);
    adze_model_file_close(m->file);
    *m = (loaded_model){ .file = NULL };
}
