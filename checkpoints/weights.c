/* weights.c - import of pretrained backbones, and the HDF5 file that keeps them. Entry: adze_weights_write(),
 * adze_weights_open(). A file is matched by names and shapes as a whole: everything that does not fit is listed at once. */
#include "checkpoints/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/backbone_tensors.h"
#include "checkpoints/hdf5_file.h"
#include "checkpoints/tensor_table_impl.h"
#include "core/file.h"
#include "core/memory.h"

static const char format[] = "adze-weights";
enum { FORMAT_VERSION = 1 };

/* Published files by the first digits of their SHA-256 (the same digits stand in their names). */
static const struct {
    const char *digits, *tag;
} known_files[] = {
    { "95faca4d", "wide_resnet50_2.tv_in1k" },  { "8234f177", "wide_resnet50_2.racm_in1k" },
    { "9ba9bcbe", "wide_resnet50_2.tv2_in1k" }, { "5c106cde", "resnet18.tv_in1k" },
    { "f37072fd", "resnet18.tv_in1k" },         { "d63eafa0", "resnet18.a1_in1k" },
    { "43635321", "resnet34.bt_in1k" },         { "46f8f793", "resnet34.a1_in1k" },
    { "333f7ec4", "resnet34.tv_in1k" },         { "14fe96d1", "resnet50.a1_in1k" },
    { "818f208c", "tf_efficientnet_b4.aa_in1k" }, { "57934424", "tf_efficientnet_lite0.in1k" },
};

const char *adze_weights_tag(const char *sha256)
{
    for (size_t i = 0; i < sizeof known_files / sizeof *known_files; i++)
        if (strncmp(sha256, known_files[i].digits, 8) == 0) return known_files[i].tag;
    return "";
}

/* ---- matching a file to a backbone ---- */

typedef struct {
    const char *name; /* selected part of the tensor's name */
    const adze_stored_tensor *tensor;
    bool used;
} candidate;

typedef struct {
    adze_backbone_list want;
    const adze_stored_tensor **found; /* by position in `want`; NULL: missing */
    candidate *have;                  /* sorted by name */
    int64_t n_have;
    bool folded;
} matching;

static int by_name(const void *a, const void *b)
{
    return strcmp(((const candidate *)a)->name, ((const candidate *)b)->name);
}

static candidate *find(const matching *m, const char *name)
{
    candidate key = { .name = name };
    return m->n_have ? bsearch(&key, m->have, (size_t)m->n_have, sizeof key, by_name) : NULL;
}

/* The part of `name` behind "KEY." and the prefix, NULL if it is not selected. */
static const char *selected(const char *name, const adze_weights_select *s)
{
    if (s && s->key && s->key[0]) {
        size_t n = strlen(s->key);
        if (strncmp(name, s->key, n) != 0 || name[n] != '.') return NULL;
        name += n + 1;
    }
    if (s && s->strip_prefix) {
        size_t n = strlen(s->strip_prefix);
        if (strncmp(name, s->strip_prefix, n) != 0) return NULL;
        name += n;
    }
    return name;
}

static void destroy_matching(matching *m)
{
    adze_backbone_list_destroy(&m->want);
    adze_free(m->found);
    adze_free(m->have);
}

static adze_status match(matching *m, const adze_stored_tensor *tensor, int64_t count, const char *backbone,
                         const adze_weights_select *select)
{
    static const char statistics[] = "running_mean";
    adze_status st = ADZE_OK;
    *m = (matching){ .folded = true };
    REQUIRE(m->have = adze_malloc((size_t)count * sizeof *m->have), ADZE_ENOMEM, "no memory to match names");
    for (int64_t i = 0; i < count; i++) {
        const char *name = selected(tensor[i].name, select);
        if (!name) continue;
        m->have[m->n_have++] = (candidate){ .name = name, .tensor = &tensor[i] };
        size_t n = strlen(name), k = sizeof statistics - 1;
        if (n >= k && strcmp(name + n - k, statistics) == 0) m->folded = false;
    }
    if (m->n_have > 0) qsort(m->have, (size_t)m->n_have, sizeof *m->have, by_name);
    TRY(adze_backbone_tensors(backbone, m->folded, &m->want));
    REQUIRE(m->found = adze_calloc((size_t)m->want.count, sizeof *m->found), ADZE_ENOMEM, "no memory to match names");
    for (int64_t i = 0; i < m->want.count; i++) {
        candidate *c = find(m, m->want.tensor[i].name);
        if (!c && m->want.tensor[i].source_name[0]) c = find(m, m->want.tensor[i].source_name);
        if (!c) continue;
        c->used = true;
        m->found[i] = c->tensor;
    }
done:
    return st;
}

static bool type_fits(const adze_backbone_tensor *want, adze_dtype type)
{
    if (want->need == ADZE_NEED_COUNTER) return type == ADZE_DTYPE_I64 || type == ADZE_DTYPE_I32;
    return type == ADZE_DTYPE_F32 || type == ADZE_DTYPE_F16 || type == ADZE_DTYPE_BF16;
}

static void judge(const matching *m, adze_weights_report *r)
{
    bool part_there[3] = { false };
    char got[ADZE_STORED_SHAPE_TEXT], shape[ADZE_STORED_SHAPE_TEXT];
    r->folded = m->folded;
    for (int64_t i = 0; i < m->want.count; i++)
        if (m->found[i]) part_there[m->want.tensor[i].part] = true;
    for (int64_t i = 0; i < m->want.count; i++) {
        const adze_backbone_tensor *w = &m->want.tensor[i];
        const adze_stored_tensor *t = m->found[i];
        adze_stored_shape_text(w->rank, w->dim, shape);
        if (!t) {
            if (w->need == ADZE_NEED_COUNTER || (w->need == ADZE_NEED_TAIL && !part_there[w->part])) continue;
            r->n_missing++;
            adze_text_printf(&r->text, "missing     %s %s\n", w->name, shape);
            continue;
        }
        bool same = t->rank == w->rank && memcmp(t->dim, w->dim, (size_t)w->rank * sizeof *w->dim) == 0;
        if (same && type_fits(w, t->type)) {
            r->n_matched++;
            continue;
        }
        r->n_mismatched++;
        adze_text_printf(&r->text, "mismatched  %s is %s %s, want %s %s\n", t->name, adze_dtype_name(t->type),
                         adze_stored_shape_text(t->rank, t->dim, got), w->need == ADZE_NEED_COUNTER ? "i64" : "f32, f16 or bf16",
                         shape);
    }
    for (int64_t i = 0; i < m->n_have; i++) {
        const adze_stored_tensor *t = m->have[i].tensor;
        if (m->have[i].used) continue;
        r->n_unexpected++;
        adze_text_printf(&r->text, "unexpected  %s %s\n", t->name, adze_stored_shape_text(t->rank, t->dim, got));
    }
}

static adze_status check(const adze_stored_tensor *tensor, int64_t count, const char *backbone, const adze_weights_select *select,
                         adze_weights_report *report)
{
    adze_status st = ADZE_OK;
    matching m;
    *report = (adze_weights_report){ .text = ADZE_TEXT_EMPTY };
    TRY(match(&m, tensor, count, backbone, select));
    judge(&m, report);
    TRY(adze_text_check(&report->text, "report"));
done:
    destroy_matching(&m);
    return st;
}

adze_status adze_weights_check(const adze_tensor_file *f, const char *backbone, const adze_weights_select *select,
                               adze_weights_report *report)
{
    return check(adze_tensor_file_at(f, 0), adze_tensor_file_count(f), backbone, select, report);
}

bool adze_weights_fits(const adze_weights_report *r)
{
    return r->n_matched > 0 && r->n_missing == 0 && r->n_mismatched == 0 && r->n_unexpected == 0;
}

void adze_weights_report_destroy(adze_weights_report *r) { adze_text_destroy(&r->text); }

const char *adze_weights_guess(const adze_tensor_file *f, const adze_weights_select *select)
{
    const char *name, *fit = NULL;
    for (int i = 0; !fit && (name = adze_backbone_tensors_name(i)); i++) {
        adze_weights_report r;
        if (adze_weights_check(f, name, select, &r) == ADZE_OK && adze_weights_fits(&r)) fit = name;
        adze_weights_report_destroy(&r);
    }
    return fit;
}

/* ---- writing ---- */

/* "NAME-5c106cde.pth": the digits promise the beginning of the SHA-256. */
static adze_status check_promise(const char *source, const char *sha256)
{
    adze_status st = ADZE_OK;
    const char *base = adze_path_base(source), *dash = strrchr(base, '-');
    if (!dash || strspn(dash + 1, "0123456789abcdef") != 8 || dash[9] != '.') goto done;
    REQUIRE(strncmp(dash + 1, sha256, 8) == 0, ADZE_EINPUT, "%s: its name promises the SHA-256 %.8s..., it has %s: a damaged download?",
            source, dash + 1, sha256);
done:
    return st;
}

static void normalisation(const char *backbone, double mean[3], double std[3])
{
    static const double imagenet[2][3] = { { 0.485, 0.456, 0.406 }, { 0.229, 0.224, 0.225 } };
    bool lite = strcmp(backbone, "efficientnet_lite0") == 0;
    for (int c = 0; c < 3; c++) {
        mean[c] = lite ? 127.0 / 255.0 : imagenet[0][c];
        std[c] = lite ? 128.0 / 255.0 : imagenet[1][c];
    }
}

static adze_status write_header(adze_h5 *h, const adze_tensor_file *f, const char *backbone, const char *source, bool folded)
{
    adze_status st = ADZE_OK;
    double mean[3], std[3];
    char sentence[256];
    const char *sha256 = adze_tensor_file_sha256(f);
    normalisation(backbone, mean, std);
    snprintf(sentence, sizeof sentence, "RGB, (pixel / 255 - mean) / std, mean %.9g %.9g %.9g, std %.9g %.9g %.9g", mean[0], mean[1],
             mean[2], std[0], std[1], std[2]);
    TRY(adze_h5_set_string(h, "/", "format", format));
    TRY(adze_h5_set_int(h, "/", "format_version", FORMAT_VERSION));
    TRY(adze_h5_set_string(h, "/", "engine_version", ADZE_VERSION));
    TRY(adze_h5_set_string(h, "/", "backbone", backbone));
    TRY(adze_h5_set_int(h, "/", "folded", folded));
    TRY(adze_h5_set_string(h, "/", "source", adze_path_base(source)));
    TRY(adze_h5_set_string(h, "/", "source_format", adze_tensor_file_format(f)));
    TRY(adze_h5_set_string(h, "/", "source_sha256", sha256));
    TRY(adze_h5_set_string(h, "/", "tag", adze_weights_tag(sha256)));
    TRY(adze_h5_set_reals(h, "/", "mean", mean, 3));
    TRY(adze_h5_set_reals(h, "/", "std", std, 3));
    TRY(adze_h5_set_string(h, "/", "preprocessing", sentence));
    TRY(adze_h5_group(h, "/model"));
done:
    return st;
}

static adze_status write_tensor(adze_h5 *h, const adze_backbone_tensor *want, const adze_stored_tensor *t)
{
    adze_status st = ADZE_OK;
    float *wide = NULL;
    char place[112];
    snprintf(place, sizeof place, "/model/%s", want->name);
    if (want->need == ADZE_NEED_COUNTER) {
        float steps;
        adze_dtype_to_f32(t->type, t->data, 1, &steps);
        int64_t exact = (int64_t)steps;
        if (t->type == ADZE_DTYPE_I64) memcpy(&exact, t->data, sizeof exact);
        return adze_h5_write(h, place, ADZE_DTYPE_I64, 0, NULL, &exact);
    }
    REQUIRE(wide = adze_malloc((size_t)t->count * sizeof *wide), ADZE_ENOMEM, "%s: no memory for %lld floats", want->name,
            (long long)t->count);
    adze_dtype_to_f32(t->type, t->data, t->count, wide);
    TRY(adze_h5_write(h, place, ADZE_DTYPE_F32, t->rank, t->dim, wide));
done:
    adze_free(wide);
    return st;
}

adze_status adze_weights_write(const char *path, const adze_tensor_file *f, const char *backbone, const char *source,
                               const adze_weights_select *select)
{
    adze_status st = ADZE_OK;
    matching m;
    adze_h5 *h = NULL;
    adze_weights_report r = { .text = ADZE_TEXT_EMPTY };
    TRY(match(&m, adze_tensor_file_at(f, 0), adze_tensor_file_count(f), backbone, select));
    judge(&m, &r);
    REQUIRE(adze_weights_fits(&r), ADZE_EINPUT, "%s: not weights of %s: %lld names missing, %lld unexpected, %lld of another shape or type\n%s",
            source, backbone, (long long)r.n_missing, (long long)r.n_unexpected, (long long)r.n_mismatched, r.text.s ? r.text.s : "");
    TRY(check_promise(source, adze_tensor_file_sha256(f)));
    TRY(adze_h5_create(&h, path));
    TRY(write_header(h, f, backbone, source, m.folded));
    for (int64_t i = 0; i < m.want.count; i++)
        if (m.found[i]) TRY(write_tensor(h, &m.want.tensor[i], m.found[i]));
    TRY(adze_h5_commit(h));
done:
    adze_h5_destroy(h);
    adze_weights_report_destroy(&r);
    destroy_matching(&m);
    return st;
}

/* ---- reading ---- */

struct adze_weights {
    adze_h5 *h;
    char *path;
    tensor_table table;
    adze_weights_info info; /* its strings are owned */
};

static const struct {
    const char *attr;
    size_t offset;
} texts[] = {
    { "backbone", offsetof(adze_weights_info, backbone) },
    { "source_sha256", offsetof(adze_weights_info, sha256) },
    { "source", offsetof(adze_weights_info, source) },
    { "source_format", offsetof(adze_weights_info, source_format) },
    { "tag", offsetof(adze_weights_info, tag) },
    { "preprocessing", offsetof(adze_weights_info, preprocessing) },
};
enum { N_TEXTS = sizeof texts / sizeof *texts };

static char **text_of(adze_weights_info *info, int i) { return (char **)(void *)((char *)info + texts[i].offset); }

static adze_status read_header(adze_weights *w)
{
    adze_status st = ADZE_OK;
    char *kind = NULL;
    int64_t version, folded;
    double mean[3], std[3];
    REQUIRE(adze_h5_has(w->h, "/", "format"), ADZE_EINPUT, "%s: not an adze weights file", w->path);
    TRY(adze_h5_get_string(w->h, "/", "format", &kind));
    REQUIRE(strcmp(kind, format) == 0, ADZE_EINPUT, "%s: not an adze weights file, its format is '%.40s'", w->path, kind);
    TRY(adze_h5_get_int(w->h, "/", "format_version", &version));
    REQUIRE(version == FORMAT_VERSION, ADZE_EINPUT, "%s: weights format version %lld, this program reads %d", w->path,
            (long long)version, FORMAT_VERSION);
    for (int i = 0; i < N_TEXTS; i++) TRY(adze_h5_get_string(w->h, "/", texts[i].attr, text_of(&w->info, i)));
    TRY(adze_h5_get_int(w->h, "/", "folded", &folded));
    w->info.folded = folded != 0;
    TRY(adze_h5_get_reals(w->h, "/", "mean", mean, 3));
    TRY(adze_h5_get_reals(w->h, "/", "std", std, 3));
    for (int c = 0; c < 3; c++) w->info.mean[c] = (float)mean[c], w->info.std[c] = (float)std[c];
done:
    adze_free(kind);
    return st;
}

adze_status adze_weights_open(adze_weights **out, const char *path)
{
    adze_status st = ADZE_OK;
    adze_weights *w = NULL;
    *out = NULL;
    REQUIRE(w = adze_calloc(1, sizeof *w), ADZE_ENOMEM, "%s: %zu host bytes", path, sizeof *w);
    REQUIRE(w->path = adze_strdup(path), ADZE_ENOMEM, "%s: no memory for the name", path);
    REQUIRE(!adze_file_exists(path) || adze_h5_is_file(path), ADZE_EINPUT,
            "%s: not an adze weights file; if it is a published file, import it first: "
            "adze-weights import %s --as BACKBONE -o weights.h5",
            path, path);
    TRY(adze_h5_open(&w->h, path, NULL));
    TRY(read_header(w));
    TRY(tensor_table_create(&w->table, w->h));
    *out = w;
    w = NULL;
done:
    adze_weights_close(w);
    return st;
}

void adze_weights_close(adze_weights *w)
{
    if (!w) return;
    tensor_table_destroy(&w->table);
    adze_h5_destroy(w->h);
    for (int i = 0; i < N_TEXTS; i++) adze_free(*text_of(&w->info, i));
    adze_free(w->path);
    adze_free(w);
}

const adze_weights_info *adze_weights_get_info(const adze_weights *w) { return &w->info; }
int64_t adze_weights_count(const adze_weights *w) { return w->table.count; }

const adze_stored_tensor *adze_weights_at(const adze_weights *w, int64_t i)
{
    return i >= 0 && i < w->table.count ? &w->table.tensor[i] : NULL;
}

adze_status adze_weights_check_self(const adze_weights *w, adze_weights_report *report)
{
    return check(w->table.tensor, w->table.count, w->info.backbone, NULL, report);
}

bool adze_weights_has(const adze_weights *w, const char *name) { return tensor_table_lookup(&w->table, name) != NULL; }

adze_status adze_weights_find(adze_weights *w, const char *name, const adze_stored_tensor **t)
{
    return tensor_table_read(&w->table, w->path, name, true, t);
}
