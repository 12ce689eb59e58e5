/* reader_meta.c - ADer's meta.json. Entry: adze_read_meta().
 *
 * The file may come from anywhere: its size and nesting are bounded before the parser sees it, its paths must stay below the
 * root. Doubled slashes (ADer writes test/good//000.png) are removed. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "core/file.h"
#include "core/memory.h"
#include "datasets/dataset_build.h"

enum { MAX_META_BYTES = 1 << 28, MAX_DEPTH = 8 };

/* Deepest nesting of brackets outside strings. */
static int depth_of(const unsigned char *s, size_t n)
{
    int depth = 0, deepest = 0;
    bool text = false;
    for (size_t i = 0; i < n; i++) {
        if (text && s[i] == '\\') i++;
        else if (s[i] == '"') text = !text;
        else if (!text && (s[i] == '{' || s[i] == '[')) deepest = ++depth > deepest ? depth : deepest;
        else if (!text && (s[i] == '}' || s[i] == ']')) depth--;
    }
    return deepest;
}

static adze_status read_entry(adze_dataset *ds, const char *class_name, adze_split split, const json_t *entry, const char *where)
{
    adze_status st = ADZE_OK;
    const json_t *image = json_object_get(entry, "img_path"), *mask = json_object_get(entry, "mask_path"),
                 *species = json_object_get(entry, "specie_name"), *anomaly = json_object_get(entry, "anomaly");
    const char *path, *mask_path = NULL;
    REQUIRE(json_is_string(image), ADZE_EINPUT, "%s: img_path is no string", where);
    REQUIRE(!mask || json_is_null(mask) || json_is_string(mask), ADZE_EINPUT, "%s: mask_path is no string", where);
    REQUIRE(!species || json_is_null(species) || json_is_string(species), ADZE_EINPUT, "%s: specie_name is no string", where);
    REQUIRE(json_is_integer(anomaly) && (json_integer_value(anomaly) == 0 || json_integer_value(anomaly) == 1), ADZE_EINPUT,
            "%s: anomaly is neither 0 nor 1", where);
    bool bad = json_integer_value(anomaly) == 1;
    TRY(adze_ds_foreign_path(ds, json_string_value(image), where, &path));
    if (json_is_string(mask) && json_string_length(mask) > 0)
        TRY(adze_ds_foreign_path(ds, json_string_value(mask), where, &mask_path));
    const char *defect = json_is_string(species) && json_string_length(species) > 0 ? json_string_value(species) : "bad";
    TRY(adze_ds_add(ds, class_name, split, bad ? ADZE_LABEL_BAD : ADZE_LABEL_GOOD, bad ? defect : "good", path,
                    bad ? mask_path : NULL));
done:
    return st;
}

/* Within a class either all defective pictures have masks or none has. */
static adze_status read_class(adze_dataset *ds, const char *class_name, adze_split split, const json_t *entries, const char *file)
{
    adze_status st = ADZE_OK;
    char where[4400];
    size_t i, n_masked = 0;
    json_t *entry;
    const char *clean;
    TRY(adze_ds_foreign_path(ds, class_name, file, &clean));
    REQUIRE(!strchr(clean, '/'), ADZE_EINPUT, "%s: class '%.100s' holds a slash", file, class_name);
    REQUIRE(json_is_array(entries), ADZE_EINPUT, "%s: class '%.100s' is no list", file, class_name);
    TRY(adze_ds_add_class(ds, clean));
    json_array_foreach(entries, i, entry) n_masked += json_string_length(json_object_get(entry, "mask_path")) > 0;
    json_array_foreach(entries, i, entry) {
        snprintf(where, sizeof where, "%.4000s %s/%.100s[%zu]", file, split == ADZE_SPLIT_TRAIN ? "train" : "test", clean, i);
        TRY(read_entry(ds, clean, split, entry, where));
        if (n_masked > 0 && json_integer_value(json_object_get(entry, "anomaly")) == 1 &&
            json_string_length(json_object_get(entry, "mask_path")) == 0)
            TRY(adze_ds_problem(ds, true, clean, json_string_value(json_object_get(entry, "img_path")),
                                "a defective picture without a mask in %s", where));
    }
done:
    return st;
}

adze_status adze_read_meta(adze_dataset *ds)
{
    adze_status st = ADZE_OK;
    unsigned char *data = NULL;
    json_t *root = NULL;
    size_t n_bytes;
    json_error_t why;
    static const char *const splits[2] = { "train", "test" };
    const char *path = adze_ds_full(ds, "meta.json");
    REQUIRE(path, ADZE_ENOMEM, "data set: no memory for a path");
    TRY(adze_file_read(path, MAX_META_BYTES, &data, &n_bytes));
    int depth = depth_of(data, n_bytes);
    REQUIRE(depth <= MAX_DEPTH, ADZE_EINPUT, "%s: nested %d deep, the limit is %d", path, depth, MAX_DEPTH);
    root = json_loadb((const char *)data, n_bytes, JSON_REJECT_DUPLICATES, &why);
    REQUIRE(root, ADZE_EINPUT, "%s line %d: %s", path, why.line, why.text);
    for (int s = 0; s < 2; s++) {
        const char *class_name;
        json_t *entries, *split = json_object_get(root, splits[s]);
        REQUIRE(json_is_object(split), ADZE_EINPUT, "%s: no object '%s'", path, splits[s]);
        json_object_foreach(split, class_name, entries)
            TRY(read_class(ds, class_name, s == 0 ? ADZE_SPLIT_TRAIN : ADZE_SPLIT_TEST, entries, path));
    }
    if (json_object_get(root, "validation")) TRY(adze_ds_problem(ds, false, "", path, "its validation split is not used"));
done:
    json_decref(root);
    adze_free(data);
    return st;
}
