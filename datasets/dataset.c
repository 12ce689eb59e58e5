/* dataset.c - recognises the layout, holds and orders the items. Entry: adze_dataset_open(). */
#include "datasets/dataset.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "core/file.h"
#include "core/memory.h"
#include "core/text.h"
#include "datasets/dataset_build.h"

enum { MAX_ITEMS = 1 << 22, MAX_PATH_BYTES = 4096, CHUNK_BYTES = 1 << 16, MAX_FOLDER_DEPTH = 32 };

/* Texts and listings live in chunks that are freed together. */
typedef struct chunk {
    struct chunk *next;
    size_t used_bytes, size_bytes;
    unsigned char data[];
} chunk;

struct adze_dataset {
    const char *root;
    adze_layout layout;
    chunk *chunks;             /* owned */
    adze_data_item *items;     /* owned */
    adze_data_problem *problems; /* owned */
    const char **classes;      /* owned */
    int64_t n_items, items_capacity, n_problems, problems_capacity, n_classes, classes_capacity;
};

static const char *const layout_names[] = { "ADer meta.json", "VisA", "MVTec AD", "MIRAD", "plain folder", "files" };

static void *take(adze_dataset *ds, size_t n_bytes)
{
    n_bytes = (n_bytes + 15) / 16 * 16;
    if (!ds->chunks || ds->chunks->size_bytes - ds->chunks->used_bytes < n_bytes) {
        size_t size = n_bytes > CHUNK_BYTES ? n_bytes : CHUNK_BYTES;
        chunk *c = adze_malloc(sizeof *c + size);
        if (!c) return NULL;
        *c = (chunk){ ds->chunks, 0, size };
        ds->chunks = c;
    }
    void *p = ds->chunks->data + ds->chunks->used_bytes;
    ds->chunks->used_bytes += n_bytes;
    return p;
}

const char *adze_ds_text(adze_dataset *ds, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *s = n < 0 ? NULL : take(ds, (size_t)n + 1);
    if (s) vsnprintf(s, (size_t)n + 1, fmt, again);
    va_end(again);
    return s;
}

const char *adze_ds_join(adze_dataset *ds, const char *a, const char *b)
{
    return *a ? adze_ds_text(ds, "%s/%s", a, b) : adze_ds_text(ds, "%s", b);
}

const char *adze_ds_full(adze_dataset *ds, const char *path)
{
    if (!*ds->root) return path; /* ADZE_LAYOUT_FILES: paths as given */
    return *path ? adze_ds_text(ds, "%s/%s", ds->root, path) : ds->root;
}

static adze_status no_memory(const char *what)
{
    return adze_fail(ADZE_ENOMEM, "data set: no memory for %s", what);
}

/* Room for one more element of the array that the pointer at `array` owns. */
static bool grow(void *array, int64_t n, int64_t *capacity, size_t size_bytes)
{
    if (n < *capacity) return true;
    int64_t grown = *capacity * 2 + 64;
    void *p;
    memcpy(&p, array, sizeof p); /* pointers to any type have one representation here */
    p = adze_realloc(p, (size_t)grown * size_bytes);
    if (!p) return false;
    memcpy(array, &p, sizeof p);
    *capacity = grown;
    return true;
}

adze_status adze_ds_add_class(adze_dataset *ds, const char *class_name)
{
    for (int64_t i = 0; i < ds->n_classes; i++)
        if (strcmp(ds->classes[i], class_name) == 0) return ADZE_OK;
    const char *copy = adze_ds_text(ds, "%s", class_name);
    if (!copy || !grow(&ds->classes, ds->n_classes, &ds->classes_capacity, sizeof *ds->classes)) return no_memory("a class");
    ds->classes[ds->n_classes++] = copy;
    return ADZE_OK;
}

adze_status adze_ds_add(adze_dataset *ds, const char *class_name, adze_split split, adze_label label, const char *defect,
                        const char *path, const char *mask)
{
    if (!path) return no_memory("a path");
    adze_status st = adze_ds_add_class(ds, class_name);
    if (st != ADZE_OK) return st;
    if (ds->n_items >= MAX_ITEMS) return adze_fail(ADZE_EINPUT, "%s: more than %d pictures", ds->root, MAX_ITEMS);
    const char *full = adze_ds_full(ds, path), *mask_full = mask ? adze_ds_full(ds, mask) : NULL;
    const char *kind = adze_ds_text(ds, "%s", defect), *name = adze_ds_text(ds, "%s", class_name);
    if (!full || !kind || !name || (mask && !mask_full) ||
        !grow(&ds->items, ds->n_items, &ds->items_capacity, sizeof *ds->items))
        return no_memory("an item");
    ds->items[ds->n_items++] =
        (adze_data_item){ name, full, full + strlen(full) - strlen(path), mask_full, kind, split, label };
    return ADZE_OK;
}

adze_status adze_ds_problem(adze_dataset *ds, bool is_error, const char *class_name, const char *path, const char *fmt, ...)
{
    char text[MAX_PATH_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    const char *name = adze_ds_text(ds, "%s", class_name), *where = adze_ds_text(ds, "%s", path);
    const char *copy = adze_ds_text(ds, "%s", text);
    if (!name || !where || !copy || !grow(&ds->problems, ds->n_problems, &ds->problems_capacity, sizeof *ds->problems))
        return no_memory("a message");
    ds->problems[ds->n_problems++] = (adze_data_problem){ is_error, name, where, copy };
    return ADZE_OK;
}

bool adze_is_image_name(const char *name)
{
    static const char *const known[] = { "png", "jpg", "jpeg", "bmp", "tif", "tiff" };
    const char *dot = strrchr(name, '.');
    if (!dot || dot == name) return false;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcasecmp(dot + 1, known[i]) == 0) return true;
    return false;
}

size_t adze_stem_length(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot && dot != name ? (size_t)(dot - name) : strlen(name);
}

bool adze_is_good_name(const char *folder)
{
    return strcmp(folder, "good") == 0 || strcmp(folder, "ok") == 0 || strcmp(folder, "normal") == 0;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* One pass over an open folder. */
static adze_status list_into(adze_dataset *ds, DIR *dir, const char *full, adze_listing *out)
{
    adze_status st = ADZE_OK;
    int64_t room[2] = { 0, 0 };
    const char **names[2] = { NULL, NULL }; /* folders, files; owned until copied */
    int64_t n[2] = { 0, 0 };
    struct dirent *e;
    while (errno = 0, (e = readdir(dir)) != NULL) {
        char path[2 * MAX_PATH_BYTES];
        struct stat info;
        if (e->d_name[0] == '.') continue;
        int length = snprintf(path, sizeof path, "%s/%s", full, e->d_name);
        REQUIRE(length > 0 && length < MAX_PATH_BYTES, ADZE_EINPUT, "%s: a path below it is longer than %d bytes", full,
                MAX_PATH_BYTES);
        int kind = stat(path, &info) != 0 ? -1 : S_ISDIR(info.st_mode) ? 0 : S_ISREG(info.st_mode) ? 1 : -1;
        if (kind < 0 || (kind == 1 && !adze_is_image_name(e->d_name))) continue;
        REQUIRE(n[kind] < MAX_ITEMS, ADZE_EINPUT, "%s: more than %d entries", full, MAX_ITEMS);
        const char *copy = adze_ds_text(ds, "%s", e->d_name);
        REQUIRE(copy && grow(&names[kind], n[kind], &room[kind], sizeof *names[kind]), ADZE_ENOMEM, "%s: no memory for its list",
                full);
        names[kind][n[kind]++] = copy;
    }
    REQUIRE(errno == 0, ADZE_EINPUT, "%s: cannot list: %s", full, strerror(errno));
    for (int k = 0; k < 2; k++) {
        const char **kept = take(ds, (size_t)(n[k] + 1) * sizeof *kept);
        REQUIRE(kept, ADZE_ENOMEM, "%s: no memory for its list", full);
        if (n[k] > 0) {
            qsort(names[k], (size_t)n[k], sizeof *names[k], by_text);
            memcpy(kept, names[k], (size_t)n[k] * sizeof *kept);
        }
        if (k == 0) out->folders = kept, out->n_folders = n[k];
        else out->files = kept, out->n_files = n[k];
    }
done:
    adze_free(names[0]);
    adze_free(names[1]);
    return st;
}

adze_status adze_ds_list(adze_dataset *ds, const char *folder, adze_listing *out)
{
    *out = (adze_listing){ NULL, NULL, 0, 0 };
    const char *full = adze_ds_full(ds, folder);
    if (!full) return no_memory("a path");
    DIR *dir = opendir(full);
    if (!dir) {
        if (errno == ENOENT || errno == ENOTDIR) return ADZE_OK;
        return adze_fail(ADZE_EINPUT, "%s: cannot list: %s", full, strerror(errno));
    }
    adze_status st = list_into(ds, dir, full, out);
    closedir(dir);
    return st;
}

bool adze_ds_has_folder(adze_dataset *ds, const char *folder)
{
    const char *full = adze_ds_full(ds, folder);
    return full && adze_folder_exists(full);
}

void adze_ds_set_layout(adze_dataset *ds, adze_layout layout)
{
    ds->layout = layout;
}

adze_status adze_ds_foreign_path(adze_dataset *ds, const char *path, const char *where, const char **clean)
{
    char text[MAX_PATH_BYTES];
    size_t n = 0;
    if (*path == '/' || *path == 0 || strlen(path) >= sizeof text)
        return adze_fail(ADZE_EINPUT, "%s: path '%.200s': want a relative one of at most %d bytes", where, path, MAX_PATH_BYTES - 1);
    for (const char *p = path; *p;) {
        size_t part = strcspn(p, "/");
        if (part == 2 && p[0] == '.' && p[1] == '.')
            return adze_fail(ADZE_EINPUT, "%s: path '%.200s' leaves the data set (..)", where, path);
        for (size_t i = 0; i < part; i++)
            if (p[i] == '\\' || (unsigned char)p[i] < 32)
                return adze_fail(ADZE_EINPUT, "%s: path '%.200s' holds a backslash or control character", where, path);
        if (part > 0 && !(part == 1 && p[0] == '.')) {
            if (n > 0) text[n++] = '/';
            memcpy(text + n, p, part);
            n += part;
        }
        p += part;
        while (*p == '/') p++;
    }
    text[n] = 0;
    if (n == 0) return adze_fail(ADZE_EINPUT, "%s: path '%.200s' names no file", where, path);
    *clean = adze_ds_text(ds, "%s", text);
    return *clean ? ADZE_OK : no_memory("a path");
}

static int by_item(const void *a, const void *b)
{
    const adze_data_item *x = a, *y = b;
    int c = strcmp(x->class_name, y->class_name);
    if (c == 0) c = (int)x->split - (int)y->split;
    return c ? c : strcmp(x->path, y->path);
}

/* The last folder name of the root, also for "." and "x/..". */
static adze_status root_name(adze_dataset *ds, const char **name)
{
    char *real = realpath(ds->root, NULL);
    *name = real ? adze_ds_text(ds, "%s", adze_path_base(real)) : NULL;
    free(real);
    if (*name && !**name) *name = "root";
    return *name ? ADZE_OK : adze_fail(ADZE_EINPUT, "%s: cannot resolve: %s", ds->root, strerror(errno));
}

/* The class folders below the root, or the root itself as one class. */
static adze_status scan_folders(adze_dataset *ds)
{
    adze_status st = ADZE_OK;
    adze_listing top;
    const char *name;
    int64_t n_classes = 0, n_visa = 0;
    TRY(adze_ds_list(ds, "", &top));
    TRY(root_name(ds, &name));
    ds->layout = ADZE_LAYOUT_MVTEC;
    if (adze_ds_has_folder(ds, "train")) {
        TRY(adze_read_mvtec_class(ds, name, ""));
        goto done;
    }
    for (int64_t i = 0; i < top.n_folders; i++) {
        const char *inside[3] = { adze_ds_join(ds, top.folders[i], "train"), adze_ds_join(ds, top.folders[i], "test"),
                                  adze_ds_join(ds, top.folders[i], "Data/Images") };
        REQUIRE(inside[0] && inside[1] && inside[2], ADZE_ENOMEM, "data set: no memory for a path");
        n_visa += adze_ds_has_folder(ds, inside[2]);
        if (!adze_ds_has_folder(ds, inside[0]) && !adze_ds_has_folder(ds, inside[1])) continue;
        TRY(adze_read_mvtec_class(ds, top.folders[i], top.folders[i]));
        n_classes++;
    }
    if (n_classes > 0) goto done;
    REQUIRE(n_visa == 0, ADZE_EINPUT, "%s: looks like VisA (%s/Data/Images) but has no split_csv/1cls.csv: copy the folder "
            "split_csv of the spot-diff repository into it", ds->root, top.folders[0]);
    ds->layout = ADZE_LAYOUT_PLAIN;
    TRY(adze_read_plain(ds, name));
    REQUIRE(ds->n_items > 0, ADZE_EINPUT, "%s: no data set found: want CLASS/train/good (MVTec AD), split_csv (VisA), meta.json "
            "(ADer), or pictures (png, jpg)", ds->root);
done:
    return st;
}

static adze_status create(adze_dataset **out, const char *root)
{
    adze_dataset *ds = adze_calloc(1, sizeof *ds);
    *out = ds;
    if (!ds) return no_memory("itself");
    size_t n = strlen(root);
    while (n > 1 && root[n - 1] == '/') n--;
    ds->root = adze_ds_text(ds, "%.*s", (int)n, root);
    return ds->root ? ADZE_OK : no_memory("its root");
}

static void finish(adze_dataset *ds)
{
    if (ds->n_items > 0) qsort(ds->items, (size_t)ds->n_items, sizeof *ds->items, by_item);
    if (ds->n_classes > 0) qsort(ds->classes, (size_t)ds->n_classes, sizeof *ds->classes, by_text);
}

/* Pictures that the layout names but that do not exist, and defects among the training pictures. */
static adze_status look_at_items(adze_dataset *ds)
{
    adze_status st = ADZE_OK;
    for (int64_t i = 0; i < ds->n_items; i++) {
        const adze_data_item *it = &ds->items[i];
        if (!adze_file_exists(it->image_path)) TRY(adze_ds_problem(ds, true, it->class_name, it->path, "the picture does not exist"));
        if (it->mask_path && !adze_file_exists(it->mask_path))
            TRY(adze_ds_problem(ds, true, it->class_name, it->path, "its mask %s does not exist", it->mask_path));
        if (it->split == ADZE_SPLIT_TRAIN && it->label == ADZE_LABEL_BAD)
            TRY(adze_ds_problem(ds, true, it->class_name, it->path, "a defective picture in the training split"));
        if (i > 0 && by_item(it - 1, it) == 0) TRY(adze_ds_problem(ds, true, it->class_name, it->path, "listed twice"));
    }
done:
    return st;
}

adze_status adze_dataset_open(adze_dataset **out, const char *root, const adze_dataset_opts *opts)
{
    adze_status st = ADZE_OK;
    adze_dataset *ds = NULL;
    *out = NULL;
    REQUIRE(adze_folder_exists(root), ADZE_EINPUT, "data set %s: no such folder", root);
    TRY(create(&ds, root));
    const char *meta = adze_ds_full(ds, "meta.json"), *csv = adze_ds_full(ds, "split_csv/1cls.csv");
    REQUIRE(meta && csv, ADZE_ENOMEM, "data set: no memory for a path");
    const char *asked = opts ? opts->split_csv : NULL;
    if (asked || adze_file_exists(csv)) {
        ds->layout = ADZE_LAYOUT_VISA;
        TRY(adze_read_visa(ds, asked));
    } else if (adze_file_exists(meta)) {
        ds->layout = ADZE_LAYOUT_META;
        TRY(adze_read_meta(ds));
    } else TRY(scan_folders(ds));
    finish(ds);
    if (ds->layout == ADZE_LAYOUT_VISA || ds->layout == ADZE_LAYOUT_META) TRY(look_at_items(ds));
    *out = ds;
    ds = NULL;
done:
    adze_dataset_destroy(ds);
    return st;
}

/* Pictures below a folder, depth first, in bytewise order. */
static adze_status add_tree(adze_dataset *ds, const char *folder, int depth)
{
    adze_status st = ADZE_OK;
    adze_listing list;
    REQUIRE(depth < MAX_FOLDER_DEPTH, ADZE_EINPUT, "%s: more than %d folders deep", folder, MAX_FOLDER_DEPTH);
    TRY(adze_ds_list(ds, folder, &list));
    for (int64_t i = 0; i < list.n_files; i++)
        TRY(adze_ds_add(ds, "", ADZE_SPLIT_TEST, ADZE_LABEL_UNKNOWN, "", adze_ds_join(ds, folder, list.files[i]), NULL));
    for (int64_t i = 0; i < list.n_folders; i++) {
        const char *below = adze_ds_join(ds, folder, list.folders[i]);
        REQUIRE(below, ADZE_ENOMEM, "data set: no memory for a path");
        TRY(add_tree(ds, below, depth + 1));
    }
done:
    return st;
}

adze_status adze_dataset_open_files(adze_dataset **out, const char *const *paths, int64_t n_paths)
{
    adze_status st = ADZE_OK;
    adze_dataset *ds = NULL;
    *out = NULL;
    for (int64_t i = 0; i < n_paths; i++)
        REQUIRE(adze_folder_exists(paths[i]) || adze_file_exists(paths[i]), ADZE_EINPUT, "%s: no such file or folder", paths[i]);
    TRY(create(&ds, ""));
    ds->layout = ADZE_LAYOUT_FILES;
    TRY(adze_ds_add_class(ds, ""));
    for (int64_t i = 0; i < n_paths; i++) {
        size_t n = strlen(paths[i]);
        while (n > 1 && paths[i][n - 1] == '/') n--;
        const char *path = adze_ds_text(ds, "%.*s", (int)n, paths[i]);
        REQUIRE(path, ADZE_ENOMEM, "data set: no memory for a path");
        int64_t before = ds->n_items;
        if (!adze_folder_exists(path))
            TRY(adze_ds_add(ds, "", ADZE_SPLIT_TEST, ADZE_LABEL_UNKNOWN, "", path, NULL));
        else TRY(add_tree(ds, path, 0));
        REQUIRE(ds->n_items > before, ADZE_EINPUT, "%s: no pictures below this folder", paths[i]);
    }
    REQUIRE(ds->n_items > 0, ADZE_EINPUT, "no pictures given");
    *out = ds;
    ds = NULL;
done:
    adze_dataset_destroy(ds);
    return st;
}

void adze_dataset_destroy(adze_dataset *ds)
{
    if (!ds) return;
    for (chunk *c = ds->chunks; c;) {
        chunk *next = c->next;
        adze_free(c);
        c = next;
    }
    adze_free(ds->items);
    adze_free(ds->problems);
    adze_free(ds->classes);
    adze_free(ds);
}

adze_layout adze_dataset_layout(const adze_dataset *ds)
{
    return ds->layout;
}

const char *adze_layout_name(adze_layout layout)
{
    return (unsigned)layout < sizeof layout_names / sizeof *layout_names ? layout_names[layout] : "unknown";
}

const char *adze_dataset_root(const adze_dataset *ds)
{
    return ds->root;
}

const char *const *adze_dataset_classes(const adze_dataset *ds, int64_t *n)
{
    *n = ds->n_classes;
    return ds->classes;
}

const adze_data_item *adze_dataset_all(const adze_dataset *ds, int64_t *n)
{
    *n = ds->n_items;
    return ds->items;
}

const adze_data_item *adze_dataset_items(const adze_dataset *ds, const char *class_name, adze_split split, int64_t *n)
{
    int64_t first = 0, end;
    while (first < ds->n_items && (strcmp(ds->items[first].class_name, class_name) != 0 || ds->items[first].split != split)) first++;
    for (end = first; end < ds->n_items; end++)
        if (strcmp(ds->items[end].class_name, class_name) != 0 || ds->items[end].split != split) break;
    *n = end - first;
    return *n > 0 ? ds->items + first : NULL;
}

const adze_data_problem *adze_dataset_problems(const adze_dataset *ds, int64_t *n)
{
    *n = ds->n_problems;
    return ds->problems;
}

bool adze_dataset_has_masks(const adze_dataset *ds, const char *class_name)
{
    int64_t n;
    const adze_data_item *items = adze_dataset_items(ds, class_name, ADZE_SPLIT_TEST, &n);
    for (int64_t i = 0; i < n; i++)
        if (items[i].mask_path) return true;
    return false;
}

/* Whether the problem's picture belongs to the split; problems of whole classes belong to both. */
static bool concerns(const adze_dataset *ds, const adze_data_problem *p, const char *class_name, adze_split split)
{
    if (*p->class_name && strcmp(p->class_name, class_name) != 0) return false;
    int64_t n;
    const adze_data_item *other = adze_dataset_items(ds, class_name, split == ADZE_SPLIT_TRAIN ? ADZE_SPLIT_TEST : ADZE_SPLIT_TRAIN, &n);
    for (int64_t i = 0; i < n; i++)
        if (strcmp(other[i].path, p->path) == 0) return false;
    return true;
}

adze_status adze_dataset_require(const adze_dataset *ds, const char *class_name, adze_split split)
{
    const char *nearest = NULL, *split_name = split == ADZE_SPLIT_TRAIN ? "training" : "test";
    bool known = false;
    for (int64_t i = 0; i < ds->n_classes && !known; i++) {
        known = strcmp(ds->classes[i], class_name) == 0;
        if (!nearest || adze_text_distance(class_name, ds->classes[i]) < adze_text_distance(class_name, nearest))
            nearest = ds->classes[i];
    }
    if (!known)
        return adze_fail(ADZE_EINPUT, "data set %s: no class '%s'%s%s%s", ds->root, class_name, nearest ? ", did you mean '" : "",
                         nearest ? nearest : "", nearest ? "'?" : "");
    int64_t n;
    adze_dataset_items(ds, class_name, split, &n);
    if (n == 0) return adze_fail(ADZE_EINPUT, "data set %s: class '%s' has no %s pictures", ds->root, class_name, split_name);
    int64_t n_errors = 0;
    const adze_data_problem *first = NULL;
    for (int64_t i = 0; i < ds->n_problems; i++)
        if (ds->problems[i].is_error && concerns(ds, &ds->problems[i], class_name, split)) {
            if (!first) first = &ds->problems[i];
            n_errors++;
        }
    if (n_errors == 0) return ADZE_OK;
    return adze_fail(ADZE_EINPUT, "data set %s: class '%s': %s%s%s (%" PRId64 " such problem%s; adze-data check lists all)", ds->root,
                     class_name, first->path, *first->path ? ": " : "", first->text, n_errors, n_errors == 1 ? "" : "s");
}

static int by_path(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

adze_status adze_dataset_manifest(const adze_dataset *ds, const char *class_name, char hex[ADZE_SHA256_HEX])
{
    adze_status st = ADZE_OK;
    const char **paths = adze_malloc((size_t)(2 * ds->n_items + 1) * sizeof *paths);
    int64_t n = 0;
    size_t skip = ds->layout == ADZE_LAYOUT_FILES ? 0 : strlen(ds->root) + 1;
    char line[2 * MAX_PATH_BYTES];
    adze_sha256 hash;
    unsigned char digest[ADZE_SHA256_BYTES];
    REQUIRE(paths, ADZE_ENOMEM, "manifest: no memory for %" PRId64 " paths", 2 * ds->n_items);
    for (int64_t i = 0; i < ds->n_items; i++) {
        if (class_name && strcmp(ds->items[i].class_name, class_name) != 0) continue;
        paths[n++] = ds->items[i].image_path;
        if (ds->items[i].mask_path) paths[n++] = ds->items[i].mask_path;
    }
    qsort(paths, (size_t)n, sizeof *paths, by_path);
    adze_sha256_init(&hash);
    for (int64_t i = 0; i < n; i++) {
        struct stat info;
        if (i > 0 && strcmp(paths[i], paths[i - 1]) == 0) continue;
        REQUIRE(stat(paths[i], &info) == 0, ADZE_EINPUT, "%s: cannot stat: %s", paths[i], strerror(errno));
        TRY(adze_sha256_file(paths[i], hex));
        int length = snprintf(line, sizeof line, "%s\t%lld\t%s\n", paths[i] + skip, (long long)info.st_size, hex);
        adze_sha256_update(&hash, line, (size_t)length);
    }
    adze_sha256_final(&hash, digest);
    adze_sha256_hex(digest, hex);
done:
    adze_free(paths);
    return st;
}
