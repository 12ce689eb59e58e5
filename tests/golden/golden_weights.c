/* golden_weights.c - weights files, sound and hostile: what must come out, and which kind of refusal is right. */
#include "tests/golden/golden.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/tensor_file.h"
#include "core/hash.h"

static void file_path(const golden *g, const json_t *value, char *path, size_t path_bytes)
{
    snprintf(path, path_bytes, "%s/%s", g->folder, golden_string(value, "file", ""));
}

/* The message is "PATH: KIND: ..."; without a list any kind will do. */
static bool kind_accepted(const json_t *kinds, const char *path)
{
    const char *message = adze_error_message();
    size_t n = strlen(path);
    if (strncmp(message, path, n) != 0) return false;
    const char *kind = message + n + 2;
    if (!kinds) return strchr(kind, ':') != NULL;
    for (size_t i = 0; i < json_array_size(kinds); i++) {
        const char *want = json_string_value(json_array_get(kinds, i));
        if (strncmp(kind, want, strlen(want)) == 0 && kind[strlen(want)] == ':') return true;
    }
    return false;
}

/* Against {dtype, shape, and any of bytes, fnv1a64, at+is, is}. */
static void check_tensor(golden *g, const char *label, const json_t *want, const adze_stored_tensor *t)
{
    if (!golden_expect(g, label, t != NULL, "%s", t ? "loaded" : "missing")) return;
    const json_t *dims = json_object_get(want, "shape"), *at = json_object_get(want, "at"), *is = json_object_get(want, "is");
    const char *type = golden_string(want, "dtype", ""), *hash = golden_string(want, "fnv1a64", NULL);
    bool shape = (int)json_array_size(dims) == t->rank;
    for (int d = 0; shape && d < t->rank; d++) shape = json_integer_value(json_array_get(dims, (size_t)d)) == t->dim[d];
    char text[ADZE_STORED_SHAPE_TEXT];
    golden_expect(g, label, shape && strcmp(type, adze_dtype_name(t->type)) == 0, "%s %s", adze_dtype_name(t->type),
                  adze_stored_shape_text(t->rank, t->dim, text));
    int64_t bytes = golden_int(want, "bytes", (int64_t)t->n_bytes);
    if (hash) {
        char got[17];
        snprintf(got, sizeof got, "%016llx", (unsigned long long)adze_fnv1a64(ADZE_FNV1A64_OFFSET, t->data, t->n_bytes));
        golden_expect(g, label, bytes == (int64_t)t->n_bytes && strcmp(got, hash) == 0, "%zu bytes, hash %s", t->n_bytes, got);
    }
    float *x = malloc((size_t)(t->count + 1) * sizeof *x);
    if (!x) exit(4);
    adze_dtype_to_f32(t->type, t->data, t->count, x);
    double worst = 0.0;
    for (size_t i = 0; i < json_array_size(is); i++) {
        int64_t where = at ? json_integer_value(json_array_get(at, i)) : (int64_t)i;
        double value = json_number_value(json_array_get(is, i));
        double error = where < t->count ? fabs(x[where] - value) / (fabs(value) + 1.0) : INFINITY;
        if (!(error <= worst)) worst = error;
    }
    /* samples are printed with 10 digits, the conversion rounds once to float32 */
    if (is) golden_expect(g, label, worst <= 0x1p-23, "samples: error %.3g", worst);
    free(x);
}

static void check_tensors(golden *g, const char *file, const json_t *tensors, const adze_tensor_file *f)
{
    const char *name;
    json_t *want;
    json_object_foreach((json_t *)tensors, name, want) {
        char label[512];
        snprintf(label, sizeof label, "%s %s", file, name);
        check_tensor(g, label, want, adze_tensor_file_find(f, name));
    }
}

static void check_scalars(golden *g, const json_t *scalars, const adze_tensor_file *f)
{
    const char *name;
    json_t *want;
    json_object_foreach((json_t *)scalars, name, want) {
        const adze_stored_scalar *s = NULL;
        for (int64_t i = 0; i < adze_tensor_file_scalar_count(f); i++)
            if (strcmp(adze_tensor_file_scalar_at(f, i)->name, name) == 0) s = adze_tensor_file_scalar_at(f, i);
        bool ok = s && ((json_is_integer(want) && s->type == ADZE_SCALAR_INT && s->integer == json_integer_value(want)) ||
                        (json_is_real(want) && s->type == ADZE_SCALAR_REAL && s->real == json_real_value(want)) ||
                        (json_is_boolean(want) && s->type == ADZE_SCALAR_BOOL && s->integer == json_is_true(want)) ||
                        (json_is_string(want) && s->type == ADZE_SCALAR_TEXT && strcmp(s->text, json_string_value(want)) == 0));
        golden_expect(g, name, ok, "plain value");
    }
}

static void load_case(golden *g)
{
    adze_tensor_file *f = NULL;
    char path[4096];
    file_path(g, g->setup, path, sizeof path);
    adze_status st = adze_tensor_file_read(&f, path, NULL);
    if (strcmp(golden_string(g->setup, "expect", "load"), "load_or_refuse") == 0 && st != ADZE_OK) {
        golden_expect(g, "refusal", kind_accepted(json_object_get(g->setup, "refusal"), path), "%s", adze_error_message());
        return;
    }
    if (!golden_expect(g, "load", st == ADZE_OK, "%s", st == ADZE_OK ? "loaded" : adze_error_message())) return;
    int64_t want = golden_int(g->setup, "tensors", -1);
    golden_expect(g, "sha256", strcmp(adze_tensor_file_sha256(f), golden_string(g->setup, "file_sha256", "")) == 0, "%s",
                  adze_tensor_file_sha256(f));
    golden_expect(g, "format", strcmp(adze_tensor_file_format(f), golden_string(g->setup, "format", "")) == 0, "%s",
                  adze_tensor_file_format(f));
    golden_expect(g, "tensors", adze_tensor_file_count(f) == want, "%lld of %lld", (long long)adze_tensor_file_count(f),
                  (long long)want);
    check_tensors(g, "", json_object_get(g->root, "values"), f);
    check_scalars(g, json_object_get(g->setup, "scalars"), f);
    adze_tensor_file_destroy(f);

    adze_tensor_file_opts strict = ADZE_TENSOR_FILE_OPTS;
    strict.strict = true;
    st = adze_tensor_file_read(&f, path, &strict);
    if (strcmp(golden_string(g->setup, "strict", "load"), "refuse") == 0) {
        const json_t *names = json_object_get(g->setup, "strict_names");
        bool named = false;
        for (size_t i = 0; i < json_array_size(names); i++)
            named = named || strstr(adze_error_message(), json_string_value(json_array_get(names, i)));
        golden_expect(g, "strict", st == ADZE_EINPUT && named, "%s", adze_error_message());
    } else golden_expect(g, "strict", st == ADZE_OK, "%s", st == ADZE_OK ? "loaded" : adze_error_message());
    adze_tensor_file_destroy(f);
}

static void refuse_entry(golden *g, const char *name, const json_t *value)
{
    adze_tensor_file *f = NULL;
    char path[4096];
    const char *expect = golden_string(value, "expect", "");
    file_path(g, value, path, sizeof path);
    adze_status st = adze_tensor_file_read(&f, path, NULL);
    if (st == ADZE_OK) {
        golden_expect(g, name, strcmp(expect, "refuse") != 0, "loaded");
        check_tensors(g, name, json_object_get(value, "tensors"), f);
    } else {
        golden_expect(g, name, f == NULL && strcmp(expect, "load") != 0, "refused");
        golden_expect(g, name, st == ADZE_EINPUT && kind_accepted(json_object_get(value, "refusal"), path), "%s",
                      adze_error_message());
    }
    adze_tensor_file_destroy(f);
}

bool golden_weights(golden *g)
{
    if (strcmp(g->kind, "weights.load") == 0) load_case(g);
    else if (strcmp(g->kind, "weights.refuse") == 0) {
        const char *name;
        json_t *value;
        json_object_foreach(json_object_get(g->root, "values"), name, value) refuse_entry(g, name, value);
    } else return false;
    return true;
}
