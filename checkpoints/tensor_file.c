/* tensor_file.c - finds out what a weights file is, lets its reader fill the list of tensors, checks the list as a whole.
 * Entry: adze_tensor_file_read(). */
#include "checkpoints/tensor_file.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/tensor_file_impl.h"
#include "core/file.h"
#include "core/memory.h"

uint64_t little_u64(const unsigned char *p) { return (uint64_t)little_u32(p + 4) << 32 | little_u32(p); }
uint32_t little_u32(const unsigned char *p) { return (uint32_t)little_u16(p + 2) << 16 | little_u16(p); }
uint16_t little_u16(const unsigned char *p) { return (uint16_t)(p[1] << 8 | p[0]); }

bool utf8_valid(const unsigned char *s, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes;) {
        unsigned char c = s[i];
        size_t more = c < 0x80 ? 0 : c >= 0xc2 && c < 0xe0 ? 1 : c >= 0xe0 && c < 0xf0 ? 2 : c >= 0xf0 && c < 0xf5 ? 3 : 4;
        if (more == 4 || n_bytes - i <= more) return false;
        for (size_t k = 1; k <= more; k++)
            if ((s[i + k] & 0xc0) != 0x80) return false;
        if (more > 1) { /* the second byte rules out overlong forms, surrogates and numbers beyond U+10FFFF */
            unsigned char d = s[i + 1];
            if ((c == 0xe0 && d < 0xa0) || (c == 0xed && d > 0x9f) || (c == 0xf0 && d < 0x90) || (c == 0xf4 && d > 0x8f))
                return false;
        }
        i += more + 1;
    }
    return true;
}

const char *shown_name(const void *s, size_t n_bytes, char text[SHOWN_NAME])
{
    const unsigned char *p = s;
    size_t n = n_bytes < 60 ? n_bytes : 60;
    for (size_t i = 0; i < n; i++) text[i] = p[i] >= 0x20 && p[i] < 0x7f && p[i] != '\'' ? (char)p[i] : '?';
    strcpy(text + n, n < n_bytes ? "..." : "");
    return text;
}

void tensor_file_warn(adze_tensor_file *f, const char *fmt, ...)
{
    if (++f->n_warnings > TENSOR_FILE_MAX_WARNINGS) return;
    char line[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    adze_text_printf(&f->warnings, "%s\n", line);
}

/* Room for one more element of a growing array. */
static bool grow(void **array, int64_t n, int64_t *room, size_t size_bytes)
{
    if (n < *room) return true;
    int64_t more = *room ? 2 * *room : 64;
    void *p = adze_realloc(*array, (size_t)more * size_bytes);
    if (!p) return false;
    *array = p;
    *room = more;
    return true;
}

static adze_status copy_name(const char *name, size_t n_bytes, char **copy)
{
    adze_status st = ADZE_OK;
    char shown[SHOWN_NAME];
    REFUSE_UNLESS(n_bytes <= TENSOR_FILE_MAX_NAME_BYTES, "limit", "a name of %zu bytes, the limit is %d", n_bytes,
                  TENSOR_FILE_MAX_NAME_BYTES);
    REFUSE_UNLESS(!memchr(name, 0, n_bytes), "unsafe_name", "a NUL inside the name '%s'",
                  shown_name(name, n_bytes, shown));
    REQUIRE(*copy = adze_malloc(n_bytes + 1), ADZE_ENOMEM, "tensor names: %zu host bytes", n_bytes + 1);
    memcpy(*copy, name, n_bytes);
    (*copy)[n_bytes] = 0;
done:
    return st;
}

adze_status tensor_file_add(adze_tensor_file *f, const char *name, size_t name_bytes, adze_dtype type, int rank,
                            const int64_t *dim, unsigned char **data)
{
    adze_status st = ADZE_OK;
    adze_stored_tensor t = { .type = type, .rank = rank };
    char shown[SHOWN_NAME], *copy = NULL;
    unsigned char *bytes = NULL;
    shown_name(name, name_bytes, shown);
    REFUSE_UNLESS(rank <= ADZE_STORED_RANK, "limit", "tensor '%s' has rank %d, at most %d is read", shown, rank,
                  ADZE_STORED_RANK);
    for (int d = 0; d < rank; d++) {
        REFUSE_UNLESS(dim[d] >= 0, "bounds", "tensor '%s' has the size %lld", shown, (long long)dim[d]);
        t.dim[d] = dim[d];
    }
    REFUSE_UNLESS(adze_stored_size(type, rank, dim, &t.count, &t.n_bytes), "overflow",
                  "the sizes of tensor '%s' multiply to more than 63 bits", shown);
    REFUSE_UNLESS(t.n_bytes <= f->limit_bytes - f->used_bytes, "limit",
                  "tensor '%s' needs %zu bytes, %zu are left of the limit of %zu", shown, t.n_bytes,
                  f->limit_bytes - f->used_bytes, f->limit_bytes);
    REFUSE_UNLESS(f->n_tensors < TENSOR_FILE_MAX_TENSORS, "limit", "more than %d tensors", TENSOR_FILE_MAX_TENSORS);
    REQUIRE(grow((void **)&f->tensor, f->n_tensors, &f->tensors_room, sizeof *f->tensor), ADZE_ENOMEM,
            "list of tensors: no memory for %lld", (long long)f->n_tensors + 1);
    TRY(copy_name(name, name_bytes, &copy));
    REQUIRE(bytes = adze_malloc(t.n_bytes), ADZE_ENOMEM, "tensor '%s': %zu host bytes", shown, t.n_bytes);
    f->used_bytes += t.n_bytes;
    t.name = copy;
    t.data = *data = bytes;
    f->tensor[f->n_tensors++] = t;
    copy = NULL;
done:
    adze_free(copy);
    return st;
}

adze_status tensor_file_add_scalar(adze_tensor_file *f, const char *name, size_t name_bytes, const adze_stored_scalar *v,
                                   size_t text_bytes)
{
    adze_status st = ADZE_OK;
    char *copy = NULL, *text = NULL;
    REFUSE_UNLESS(f->n_scalars < TENSOR_FILE_MAX_SCALARS, "limit", "more than %d plain values", TENSOR_FILE_MAX_SCALARS);
    REQUIRE(grow((void **)&f->scalar, f->n_scalars, &f->scalars_room, sizeof *f->scalar), ADZE_ENOMEM,
            "list of values: no memory for %lld", (long long)f->n_scalars + 1);
    TRY(copy_name(name, name_bytes, &copy));
    if (v->type == ADZE_SCALAR_TEXT) {
        REQUIRE(text = adze_malloc(text_bytes + 1), ADZE_ENOMEM, "value texts: %zu host bytes", text_bytes + 1);
        memcpy(text, v->text, text_bytes);
        text[text_bytes] = 0;
    }
    adze_stored_scalar *to = &f->scalar[f->n_scalars++];
    *to = *v;
    to->name = copy;
    to->text = text;
    copy = NULL;
done:
    adze_free(copy);
    return st;
}

static int by_text(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

static int by_tensor_name(const void *a, const void *b, void *user)
{
    const adze_stored_tensor *t = user;
    return strcmp(t[*(const int64_t *)a].name, t[*(const int64_t *)b].name);
}

/* Doubled names are refused; the index by name is made. */
static adze_status finish(adze_tensor_file *f)
{
    adze_status st = ADZE_OK;
    char shown[SHOWN_NAME];
    int64_t n = f->n_tensors + f->n_scalars;
    REFUSE_UNLESS(f->n_tensors > 0, "not_a_weight_file", "it holds no tensor");
    REQUIRE(f->sorted = adze_malloc((size_t)n * sizeof *f->sorted), ADZE_ENOMEM, "names: no memory for %lld", (long long)n);
    REQUIRE(f->by_name = adze_malloc((size_t)f->n_tensors * sizeof *f->by_name), ADZE_ENOMEM, "names: no memory for %lld",
            (long long)n);
    for (int64_t i = 0; i < f->n_tensors; i++) f->sorted[i] = f->tensor[i].name, f->by_name[i] = i;
    for (int64_t i = 0; i < f->n_scalars; i++) f->sorted[f->n_tensors + i] = f->scalar[i].name;
    qsort(f->sorted, (size_t)n, sizeof *f->sorted, by_text);
    for (int64_t i = 1; i < n; i++)
        REFUSE_UNLESS(strcmp(f->sorted[i - 1], f->sorted[i]) != 0, "duplicate", "the name '%s' stands for two things",
                      shown_name(f->sorted[i], strlen(f->sorted[i]), shown));
    qsort_r(f->by_name, (size_t)f->n_tensors, sizeof *f->by_name, by_tensor_name, f->tensor);
    if (f->n_warnings > TENSOR_FILE_MAX_WARNINGS)
        adze_text_printf(&f->warnings, "and %d more\n", f->n_warnings - TENSOR_FILE_MAX_WARNINGS);
    TRY(adze_text_check(&f->warnings, "warnings"));
done:
    return st;
}

static adze_status new_file(adze_tensor_file **out, const adze_tensor_file_opts *opts)
{
    adze_tensor_file_opts o = opts ? *opts : ADZE_TENSOR_FILE_OPTS;
    adze_tensor_file *f = *out = adze_calloc(1, sizeof *f);
    if (!f) return adze_fail(ADZE_ENOMEM, "tensor file: %zu host bytes", sizeof *f);
    f->strict = o.strict;
    f->limit_bytes = o.limit_bytes;
    return ADZE_OK;
}

void adze_tensor_file_destroy(adze_tensor_file *f)
{
    if (!f) return;
    for (int64_t i = 0; i < f->n_tensors; i++) {
        adze_free((void *)f->tensor[i].name);
        adze_free((void *)f->tensor[i].data);
    }
    for (int64_t i = 0; i < f->n_scalars; i++) {
        adze_free((void *)f->scalar[i].name);
        adze_free((void *)f->scalar[i].text);
    }
    adze_free(f->tensor);
    adze_free(f->scalar);
    adze_free(f->sorted);
    adze_free(f->by_name);
    adze_text_destroy(&f->warnings);
    adze_free(f);
}

/* What a file that is no weights file looks like. */
static const char *looks_like(const unsigned char *p, size_t n)
{
    static const struct {
        size_t at;
        const char *bytes, *what;
    } signs[] = {
        { 0, "version https://git-lfs", "a Git LFS pointer: fetch the file that it stands for" },
        { 0, "<", "an HTML or XML page: the download went wrong" },
        { 257, "ustar", "a tar archive; torch.save files from before version 0.2 are not read" },
        { 0, "\x1f\x8b", "gzip data: unpack it first" },
        { 0, "\x80\x02\x8a\x0a", "a pickle with another magic number than torch.save's" },
        { 0, "\x80", "a bare Python pickle" },
        { 0, "\x89PNG", "a PNG image" },
        { 0, "\xff\xd8\xff", "a JPEG image" },
    };
    if (n == 0) return "an empty file";
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++) {
        size_t m = strlen(signs[i].bytes);
        if (n >= signs[i].at + m && memcmp(p + signs[i].at, signs[i].bytes, m) == 0) return signs[i].what;
    }
    for (size_t at = 0; at + 8 <= n; at = at ? 2 * at : 512)
        if (memcmp(p + at, "\x89HDF\r\n\x1a\n", 8) == 0) return "an HDF5 file; adze's own need no import";
    return "no known kind of weights file";
}

static adze_status read_any(adze_tensor_file *f, byte_span file)
{
    const unsigned char *p = file.data;
    size_t n = file.n_bytes;
    if (n >= 4 && memcmp(p, "PK\3\4", 4) == 0) return read_torch_zip(f, file);
    if (n >= TORCH_LEGACY_MAGIC && memcmp(p, torch_legacy_magic, TORCH_LEGACY_MAGIC) == 0) return read_torch_legacy(f, file);
    if (n >= 6 && memcmp(p, "\x93NUMPY", 6) == 0) {
        f->format = "npy";
        return read_npy(f, file, "", 0);
    }
    bool text = n >= 8 && p[0] == '<'; /* a page may well have a brace as its ninth character */
    if (n > 8 && p[8] == '{' && !text) return read_safetensors(f, file);
    return adze_fail(ADZE_EINPUT, "not_a_weight_file: %s", looks_like(p, n));
}

adze_status adze_tensor_file_read_memory(adze_tensor_file **out, const char *name, const void *data, size_t n_bytes,
                                         const adze_tensor_file_opts *opts)
{
    adze_status st = ADZE_OK;
    adze_tensor_file *f = NULL;
    *out = NULL;
    TRY(new_file(&f, opts));
    TRY(read_any(f, (byte_span){ data, n_bytes }));
    TRY(finish(f));
    adze_sha256_of(data, n_bytes, f->sha256);
    *out = f;
    f = NULL;
done:
    adze_tensor_file_destroy(f);
    if (st != ADZE_OK) adze_fail_prefix(st, "%s", name);
    return st;
}

static int is_npy(const struct dirent *e)
{
    size_t n = strlen(e->d_name);
    return n > 4 && e->d_name[0] != '.' && strcmp(e->d_name + n - 4, ".npy") == 0;
}

static int by_bytes(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

static adze_status read_folder_member(adze_tensor_file *f, const char *folder, const char *name, adze_sha256 *sha)
{
    adze_status st = ADZE_OK;
    unsigned char *data = NULL;
    size_t n = 0;
    char hex[ADZE_SHA256_HEX];
    char *path = adze_path_join(folder, name);
    REQUIRE(path, ADZE_ENOMEM, "%s/%s: no memory for the name", folder, name);
    TRY(adze_file_read(path, f->limit_bytes, &data, &n));
    if ((st = read_npy(f, (byte_span){ data, n }, name, strlen(name) - 4)) != ADZE_OK) {
        adze_fail_prefix(st, "%s", path);
        goto done;
    }
    adze_sha256_of(data, n, hex);
    adze_sha256_update(sha, hex, ADZE_SHA256_HEX - 1);
    adze_sha256_update(sha, "  ", 2);
    adze_sha256_update(sha, name, strlen(name));
    adze_sha256_update(sha, "\n", 1);
done:
    adze_free(data);
    adze_free(path);
    return st;
}

static adze_status read_folder(adze_tensor_file **out, const char *path, const adze_tensor_file_opts *opts)
{
    adze_status st = ADZE_OK;
    adze_tensor_file *f = NULL;
    adze_sha256 sha;
    unsigned char digest[ADZE_SHA256_BYTES];
    struct dirent **names = NULL;
    int n = scandir(path, &names, is_npy, by_bytes);
    REQUIRE(n >= 0, ADZE_EINPUT, "%s: cannot list: %s", path, strerror(errno));
    REQUIRE(n > 0, ADZE_EINPUT, "%s: not_a_weight_file: a folder without .npy files", path);
    TRY(new_file(&f, opts));
    f->format = "npy_folder";
    adze_sha256_init(&sha);
    for (int i = 0; i < n; i++) TRY(read_folder_member(f, path, names[i]->d_name, &sha));
    adze_sha256_final(&sha, digest);
    adze_sha256_hex(digest, f->sha256);
    if ((st = finish(f)) != ADZE_OK) {
        adze_fail_prefix(st, "%s", path);
        goto done;
    }
    *out = f;
    f = NULL;
done:
    for (int i = 0; i < n; i++) free(names[i]);
    free(names);
    adze_tensor_file_destroy(f);
    return st;
}

adze_status adze_tensor_file_read(adze_tensor_file **out, const char *path, const adze_tensor_file_opts *opts)
{
    adze_status st = ADZE_OK;
    unsigned char *data = NULL;
    size_t n = 0;
    *out = NULL;
    if (adze_folder_exists(path)) return read_folder(out, path, opts);
    TRY(adze_file_read(path, opts ? opts->limit_bytes : ADZE_TENSOR_FILE_OPTS.limit_bytes, &data, &n));
    TRY(adze_tensor_file_read_memory(out, path, data, n, opts));
done:
    adze_free(data);
    return st;
}

const char *adze_tensor_file_format(const adze_tensor_file *f) { return f->format; }
const char *adze_tensor_file_sha256(const adze_tensor_file *f) { return f->sha256; }
int64_t adze_tensor_file_count(const adze_tensor_file *f) { return f->n_tensors; }
int64_t adze_tensor_file_scalar_count(const adze_tensor_file *f) { return f->n_scalars; }
const char *adze_tensor_file_warnings(const adze_tensor_file *f) { return f->warnings.s ? f->warnings.s : ""; }

const adze_stored_tensor *adze_tensor_file_at(const adze_tensor_file *f, int64_t i)
{
    return i >= 0 && i < f->n_tensors ? &f->tensor[i] : NULL;
}

const adze_stored_scalar *adze_tensor_file_scalar_at(const adze_tensor_file *f, int64_t i)
{
    return i >= 0 && i < f->n_scalars ? &f->scalar[i] : NULL;
}

const adze_stored_tensor *adze_tensor_file_find(const adze_tensor_file *f, const char *name)
{
    int64_t lo = 0, hi = f->n_tensors;
    while (lo < hi) {
        int64_t mid = lo + (hi - lo) / 2;
        int order = strcmp(f->tensor[f->by_name[mid]].name, name);
        if (order == 0) return &f->tensor[f->by_name[mid]];
        if (order < 0) lo = mid + 1;
        else hi = mid;
    }
    return NULL;
}
