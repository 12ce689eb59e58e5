/* model_file.c - the adze checkpoint. Entry: adze_model_writer_create(), adze_model_file_open().
 * Layout: checkpoints/README.md. Nothing here depends on the clock, so equal content gives equal files. */
#include "checkpoints/model_file.h"

#include <string.h>

#include "checkpoints/hdf5_file.h"
#include "checkpoints/tensor_file_impl.h"
#include "checkpoints/tensor_table_impl.h"
#include "core/memory.h"

static const char format[] = "adze-checkpoint";

struct adze_model_writer {
    adze_h5 *h;
    char *path;
};

struct adze_model_file {
    adze_h5 *h;
    char *path;
    tensor_table table;
    adze_model_info info; /* its strings are owned */
    char **classes;
};

/* Text attributes of the root, in file order. `required`: the reader insists. */
static const struct {
    const char *attr;
    size_t offset;
    bool required;
} texts[] = {
    { "method", offsetof(adze_model_info, method), true },
    { "class", offsetof(adze_model_info, class_name), true },
    { "dataset", offsetof(adze_model_info, dataset), false },
    { "backbone", offsetof(adze_model_info, backbone), true },
    { "weights_sha256", offsetof(adze_model_info, weights_sha256), false },
    { "weights_tag", offsetof(adze_model_info, weights_tag), false },
    { "precision", offsetof(adze_model_info, precision), false },
    { "resize_filter", offsetof(adze_model_info, resize_filter), false },
    { "created", offsetof(adze_model_info, created), false },
    { "engine_version", offsetof(adze_model_info, engine_version), true },
};
static const struct {
    const char *attr;
    size_t offset;
} numbers[] = {
    { "input_height", offsetof(adze_model_info, H) },  { "input_width", offsetof(adze_model_info, W) },
    { "seed", offsetof(adze_model_info, seed) },       { "epoch", offsetof(adze_model_info, epoch) },
    { "iteration", offsetof(adze_model_info, iteration) },
};
enum { N_TEXTS = sizeof texts / sizeof *texts, N_NUMBERS = sizeof numbers / sizeof *numbers };

static const char **text_of(adze_model_info *info, int i) { return (const char **)(void *)((char *)info + texts[i].offset); }
static int64_t *number_of(adze_model_info *info, int i) { return (int64_t *)(void *)((char *)info + numbers[i].offset); }

static adze_status write_info(adze_h5 *h, adze_model_info info)
{
    adze_status st = ADZE_OK;
    double mean[3], std[3];
    info.engine_version = ADZE_VERSION;
    TRY(adze_h5_set_string(h, "/", "format", format));
    TRY(adze_h5_set_int(h, "/", "format_version", ADZE_MODEL_FORMAT_VERSION));
    for (int i = 0; i < N_TEXTS; i++)
        if (*text_of(&info, i)) TRY(adze_h5_set_string(h, "/", texts[i].attr, *text_of(&info, i)));
    for (int i = 0; i < N_NUMBERS; i++) TRY(adze_h5_set_int(h, "/", numbers[i].attr, *number_of(&info, i)));
    TRY(adze_h5_set_int(h, "/", "folded", info.folded));
    for (int c = 0; c < 3; c++) mean[c] = info.mean[c], std[c] = info.std[c];
    TRY(adze_h5_set_reals(h, "/", "mean", mean, 3));
    TRY(adze_h5_set_reals(h, "/", "std", std, 3));
    TRY(adze_h5_write_string(h, "/config", info.config_json));
    if (info.n_classes > 0) TRY(adze_h5_write_strings(h, "/classes", info.classes, info.n_classes));
    TRY(adze_h5_group(h, "/model"));
done:
    return st;
}

adze_status adze_model_writer_create(adze_model_writer **out, const char *path, const adze_model_info *info)
{
    adze_status st = ADZE_OK;
    adze_model_writer *w = NULL;
    *out = NULL;
    REQUIRE(info->method && info->class_name && info->config_json && info->backbone, ADZE_EINVAL,
            "%s: a checkpoint needs method, class, configuration and backbone", path);
    REQUIRE(w = adze_calloc(1, sizeof *w), ADZE_ENOMEM, "%s: %zu host bytes", path, sizeof *w);
    REQUIRE(w->path = adze_strdup(path), ADZE_ENOMEM, "%s: no memory for the name", path);
    TRY(adze_h5_create(&w->h, path));
    TRY(write_info(w->h, *info));
    *out = w;
    w = NULL;
done:
    adze_model_writer_destroy(w);
    return st;
}

/* The place of a tensor in the file, with its group made. */
static adze_status make_place(adze_model_writer *w, const char *name, char **place)
{
    adze_status st = ADZE_OK;
    char shown[SHOWN_NAME], *group = NULL;
    size_t n = strlen(name);
    bool fit = n > 0 && n <= TENSOR_FILE_MAX_NAME_BYTES && utf8_valid((const unsigned char *)name, n) &&
               strncmp(name, "model/", 6) != 0;
    for (const char *part = name; fit && part;) {
        size_t m = strcspn(part, "/");
        fit = m > 0 && !(m == 1 && part[0] == '.') && !(m == 2 && part[0] == '.' && part[1] == '.');
        part = part[m] ? part + m + 1 : NULL;
    }
    REQUIRE(fit, ADZE_EINVAL, "%s: a tensor cannot be named '%s'", w->path, shown_name(name, n, shown));
    REQUIRE(*place = tensor_table_path(name), ADZE_ENOMEM, "%s: no memory for a name", w->path);
    REQUIRE(group = adze_strdup(*place), ADZE_ENOMEM, "%s: no memory for a name", w->path);
    *strrchr(group, '/') = 0;
    TRY(adze_h5_group(w->h, group));
done:
    adze_free(group);
    return st;
}

adze_status adze_model_writer_put(adze_model_writer *w, const char *name, adze_dtype type, int rank, const int64_t *dim,
                                  const void *data)
{
    adze_status st = ADZE_OK;
    char *place = NULL;
    TRY(make_place(w, name, &place));
    TRY(adze_h5_write(w->h, place, type, rank, dim, data));
done:
    adze_free(place);
    return st;
}

adze_status adze_model_writer_rows_begin(adze_model_writer *w, const char *name, adze_dtype type, int64_t R, int64_t D)
{
    adze_status st = ADZE_OK;
    char *place = NULL;
    TRY(make_place(w, name, &place));
    TRY(adze_h5_rows_begin(w->h, place, type, R, D));
done:
    adze_free(place);
    return st;
}

adze_status adze_model_writer_rows_put(adze_model_writer *w, int64_t r0, int64_t n, const void *data)
{
    return adze_h5_rows_write(w->h, r0, n, data);
}

adze_status adze_model_writer_commit(adze_model_writer *w) { return adze_h5_commit(w->h); }

void adze_model_writer_destroy(adze_model_writer *w)
{
    if (!w) return;
    adze_h5_destroy(w->h);
    adze_free(w->path);
    adze_free(w);
}

static adze_status read_info(adze_model_file *f)
{
    adze_status st = ADZE_OK;
    char *kind = NULL, *text = NULL;
    int64_t version, folded;
    double mean[3], std[3];
    REQUIRE(adze_h5_has(f->h, "/", "format"), ADZE_EINPUT, "%s: not an adze checkpoint", f->path);
    TRY(adze_h5_get_string(f->h, "/", "format", &kind));
    REQUIRE(strcmp(kind, format) == 0, ADZE_EINPUT, "%s: not an adze checkpoint, its format is '%.40s'", f->path, kind);
    TRY(adze_h5_get_int(f->h, "/", "format_version", &version));
    REQUIRE(version == ADZE_MODEL_FORMAT_VERSION, ADZE_EINPUT, "%s: checkpoint format version %lld, this program reads %d", f->path,
            (long long)version, ADZE_MODEL_FORMAT_VERSION);
    for (int i = 0; i < N_TEXTS; i++) {
        if (!texts[i].required && !adze_h5_has(f->h, "/", texts[i].attr)) continue;
        TRY(adze_h5_get_string(f->h, "/", texts[i].attr, &text));
        *text_of(&f->info, i) = text;
    }
    for (int i = 0; i < N_NUMBERS; i++) TRY(adze_h5_get_int(f->h, "/", numbers[i].attr, number_of(&f->info, i)));
    TRY(adze_h5_get_int(f->h, "/", "folded", &folded));
    f->info.folded = folded != 0;
    TRY(adze_h5_get_reals(f->h, "/", "mean", mean, 3));
    TRY(adze_h5_get_reals(f->h, "/", "std", std, 3));
    for (int c = 0; c < 3; c++) f->info.mean[c] = (float)mean[c], f->info.std[c] = (float)std[c];
    TRY(adze_h5_read_string(f->h, "/config", &text));
    f->info.config_json = text;
    if (adze_h5_find(f->h, "/classes")) TRY(adze_h5_read_strings(f->h, "/classes", &f->classes, &f->info.n_classes));
    f->info.classes = (const char *const *)f->classes;
done:
    adze_free(kind);
    return st;
}

adze_status adze_model_file_open(adze_model_file **out, const char *path)
{
    adze_status st = ADZE_OK;
    adze_model_file *f = NULL;
    *out = NULL;
    REQUIRE(f = adze_calloc(1, sizeof *f), ADZE_ENOMEM, "%s: %zu host bytes", path, sizeof *f);
    REQUIRE(f->path = adze_strdup(path), ADZE_ENOMEM, "%s: no memory for the name", path);
    TRY(adze_h5_open(&f->h, path, NULL));
    TRY(read_info(f));
    TRY(tensor_table_create(&f->table, f->h));
    *out = f;
    f = NULL;
done:
    adze_model_file_close(f);
    return st;
}

void adze_model_file_close(adze_model_file *f)
{
    if (!f) return;
    tensor_table_destroy(&f->table);
    adze_h5_destroy(f->h);
    for (int i = 0; i < N_TEXTS; i++) adze_free((void *)*text_of(&f->info, i));
    adze_free((void *)f->info.config_json);
    adze_free(f->classes);
    adze_free(f->path);
    adze_free(f);
}

const adze_model_info *adze_model_file_info(const adze_model_file *f) { return &f->info; }
int64_t adze_model_file_count(const adze_model_file *f) { return f->table.count; }

const adze_stored_tensor *adze_model_file_at(const adze_model_file *f, int64_t i)
{
    return i >= 0 && i < f->table.count ? &f->table.tensor[i] : NULL;
}

const adze_stored_tensor *adze_model_file_lookup(const adze_model_file *f, const char *name)
{
    return tensor_table_lookup(&f->table, name);
}

adze_status adze_model_file_find(adze_model_file *f, const char *name, const adze_stored_tensor **t)
{
    return tensor_table_read(&f->table, f->path, name, false, t);
}

adze_status adze_model_file_read(adze_model_file *f, const char *name, adze_dtype type, int64_t count, void *to)
{
    adze_status st = ADZE_OK;
    char *path = tensor_table_path(name);
    REQUIRE(path, ADZE_ENOMEM, "%s: no memory for a name", f->path);
    TRY(adze_h5_read(f->h, path, type, count, to));
done:
    adze_free(path);
    return st;
}

adze_status adze_model_file_read_rows(adze_model_file *f, const char *name, adze_dtype type, int64_t r0, int64_t n, void *to)
{
    adze_status st = ADZE_OK;
    char *path = tensor_table_path(name);
    REQUIRE(path, ADZE_ENOMEM, "%s: no memory for a name", f->path);
    TRY(adze_h5_read_rows(f->h, path, type, r0, n, to));
done:
    adze_free(path);
    return st;
}
