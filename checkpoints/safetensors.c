/* safetensors.c - the safetensors container. Entry: read_safetensors().
 * The JSON header is read by a scanner for exactly this schema: it cannot nest deeper than the schema does, and it sees
 * doubled keys, which general parsers merge. */
#include <stdlib.h>
#include <string.h>

#include "checkpoints/tensor_file_impl.h"
#include "core/memory.h"

enum { MAX_HEADER_BYTES = 100000000 };

typedef struct {
    const unsigned char *p, *end;
    adze_text text; /* the last string, decoded */
} scanner;

typedef struct {
    char *name; /* owned */
    size_t name_bytes;
    adze_dtype type;
    int rank;
    int64_t dim[ADZE_STORED_RANK], begin, end;
} entry;

typedef struct {
    entry *e; /* owned */
    int64_t n, room;
} entries;

static void blanks(scanner *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r')) s->p++;
}

static bool take(scanner *s, char c)
{
    blanks(s);
    if (s->p == s->end || *s->p != (unsigned char)c) return false;
    s->p++;
    return true;
}

static bool hex4(scanner *s, uint32_t *v)
{
    if (s->end - s->p < 4) return false;
    *v = 0;
    for (int i = 0; i < 4; i++) {
        unsigned char c = *s->p++, low = (unsigned char)(c | 32);
        if (c >= '0' && c <= '9') *v = *v << 4 | (uint32_t)(c - '0');
        else if (low >= 'a' && low <= 'f') *v = *v << 4 | (uint32_t)(low - 'a' + 10);
        else return false;
    }
    return true;
}

static bool take_escape(scanner *s)
{
    static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    uint32_t v, low;
    if (s->p == s->end) return false;
    unsigned char c = *s->p++;
    if (c != 'u') {
        const char *at = c ? strchr(letters, c) : NULL;
        if (at) adze_text_append_n(&s->text, meant + (at - letters), 1);
        return at != NULL;
    }
    if (!hex4(s, &v) || (v >= 0xdc00 && v < 0xe000)) return false;
    if (v >= 0xd800 && v < 0xdc00) {
        if (s->end - s->p < 6 || s->p[0] != '\\' || s->p[1] != 'u') return false;
        s->p += 2;
        if (!hex4(s, &low) || low < 0xdc00 || low >= 0xe000) return false;
        v = 0x10000 + ((v - 0xd800) << 10) + (low - 0xdc00);
    }
    unsigned char u[4];
    size_t n = 1;
    if (v < 0x80) u[0] = (unsigned char)v;
    else if (v < 0x800) u[0] = (unsigned char)(0xc0 | v >> 6), n = 2;
    else if (v < 0x10000) u[0] = (unsigned char)(0xe0 | v >> 12), n = 3;
    else u[0] = (unsigned char)(0xf0 | v >> 18), n = 4;
    for (size_t i = 1; i < n; i++) u[i] = (unsigned char)(0x80 | (v >> 6 * (n - 1 - i) & 63));
    adze_text_append_n(&s->text, (const char *)u, n);
    return true;
}

/* A JSON string into s->text. */
static adze_status take_string(scanner *s, const char *what)
{
    adze_status st = ADZE_OK;
    s->text.n_bytes = 0;
    adze_text_append_n(&s->text, "", 0);
    REFUSE_UNLESS(take(s, '"'), "bad_header", "%s is no string", what);
    for (;;) {
        const unsigned char *run = s->p;
        while (s->p < s->end && *s->p != '"' && *s->p != '\\' && *s->p >= 0x20) s->p++;
        adze_text_append_n(&s->text, (const char *)run, (size_t)(s->p - run));
        REFUSE_UNLESS(s->p < s->end && *s->p >= 0x20, "bad_header", "%s does not end", what);
        if (*s->p++ == '"') break;
        REFUSE_UNLESS(take_escape(s), "bad_header", "%s has a bad escape", what);
    }
    TRY(adze_text_check(&s->text, "safetensors header"));
done:
    return st;
}

/* A whole number >= 0 without sign, fraction, exponent or leading zero. */
static adze_status take_number(scanner *s, const char *what, int64_t *v)
{
    adze_status st = ADZE_OK;
    blanks(s);
    const unsigned char *start = s->p;
    *v = 0;
    for (; s->p < s->end && *s->p >= '0' && *s->p <= '9'; s->p++)
        REFUSE_UNLESS(!__builtin_mul_overflow(*v, 10, v) && !__builtin_add_overflow(*v, *s->p - '0', v), "overflow",
                      "%s beyond 63 bits", what);
    REFUSE_UNLESS(s->p > start && (s->p - start == 1 || *start != '0'), "bad_header", "%s is no whole number", what);
    REFUSE_UNLESS(s->p == s->end || !strchr(".eE", *s->p), "bad_header", "%s is no whole number", what);
done:
    return st;
}

static adze_status take_shape(scanner *s, entry *e)
{
    adze_status st = ADZE_OK;
    REFUSE_UNLESS(take(s, '['), "bad_header", "a shape is no list");
    if (take(s, ']')) return ADZE_OK;
    do {
        int64_t v;
        TRY(take_number(s, "a size", &v));
        REFUSE_UNLESS(e->rank < ADZE_STORED_RANK, "limit", "rank above %d", ADZE_STORED_RANK);
        e->dim[e->rank++] = v;
    } while (take(s, ','));
    REFUSE_UNLESS(take(s, ']'), "bad_header", "a shape does not end");
done:
    return st;
}

static adze_status take_dtype(scanner *s, entry *e)
{
    static const struct {
        const char *name;
        adze_dtype type;
    } known[] = {
        { "F32", ADZE_DTYPE_F32 },   { "F64", ADZE_DTYPE_F64 }, { "F16", ADZE_DTYPE_F16 }, { "BF16", ADZE_DTYPE_BF16 },
        { "I64", ADZE_DTYPE_I64 },   { "I32", ADZE_DTYPE_I32 }, { "I16", ADZE_DTYPE_I16 }, { "I8", ADZE_DTYPE_I8 },
        { "U64", ADZE_DTYPE_U64 },   { "U32", ADZE_DTYPE_U32 }, { "U16", ADZE_DTYPE_U16 }, { "U8", ADZE_DTYPE_U8 },
        { "BOOL", ADZE_DTYPE_BOOL },
    };
    adze_status st = ADZE_OK;
    char shown[SHOWN_NAME];
    TRY(take_string(s, "a dtype"));
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strlen(known[i].name) != s->text.n_bytes || memcmp(known[i].name, s->text.s, s->text.n_bytes) != 0) continue;
        e->type = known[i].type;
        return ADZE_OK;
    }
    REFUSE_UNLESS(false, "unsupported_type", "dtype '%s'", shown_name(s->text.s, s->text.n_bytes, shown));
done:
    return st;
}

static adze_status take_entry(scanner *s, entry *e)
{
    adze_status st = ADZE_OK;
    bool dtype = false, shape = false, offsets = false;
    char shown[SHOWN_NAME], key[SHOWN_NAME];
    shown_name(e->name, e->name_bytes, shown);
    REFUSE_UNLESS(take(s, '{'), "bad_header", "the entry of '%s' is no object", shown);
    do {
        TRY(take_string(s, "a key"));
        shown_name(s->text.s, s->text.n_bytes, key);
        bool *seen = strcmp(key, "dtype") == 0 ? &dtype : strcmp(key, "shape") == 0 ? &shape
                   : strcmp(key, "data_offsets") == 0 ? &offsets : NULL;
        REFUSE_UNLESS(seen, "bad_header", "'%s' has the unknown field '%s'", shown, key);
        REFUSE_UNLESS(!*seen, "duplicate", "'%s' has the field '%s' twice", shown, key);
        *seen = true;
        REFUSE_UNLESS(take(s, ':'), "bad_header", "no colon after '%s'", key);
        if (seen == &dtype) TRY(take_dtype(s, e));
        else if (seen == &shape) TRY(take_shape(s, e));
        else {
            REFUSE_UNLESS(take(s, '['), "bad_header", "the offsets of '%s' are no list", shown);
            TRY(take_number(s, "an offset", &e->begin));
            REFUSE_UNLESS(take(s, ','), "bad_header", "'%s' has not two offsets", shown);
            TRY(take_number(s, "an offset", &e->end));
            REFUSE_UNLESS(take(s, ']'), "bad_header", "'%s' has not two offsets", shown);
        }
    } while (take(s, ','));
    REFUSE_UNLESS(take(s, '}'), "bad_header", "the entry of '%s' does not end", shown);
    REFUSE_UNLESS(dtype && shape && offsets, "bad_header", "'%s' lacks dtype, shape or data_offsets", shown);
done:
    return st;
}

static adze_status take_metadata(adze_tensor_file *f, scanner *s)
{
    adze_status st = ADZE_OK;
    char *key = NULL;
    REFUSE_UNLESS(take(s, '{'), "bad_header", "__metadata__ is no object");
    if (take(s, '}')) return ADZE_OK;
    do {
        TRY(take_string(s, "a metadata key"));
        size_t n = s->text.n_bytes;
        adze_free(key);
        REQUIRE(key = adze_malloc(n + 1), ADZE_ENOMEM, "metadata: %zu host bytes", n + 1);
        memcpy(key, s->text.s, n);
        REFUSE_UNLESS(take(s, ':'), "bad_header", "no colon in __metadata__");
        TRY(take_string(s, "a metadata value"));
        adze_stored_scalar v = { .type = ADZE_SCALAR_TEXT, .text = s->text.s };
        TRY(tensor_file_add_scalar(f, key, n, &v, s->text.n_bytes));
    } while (take(s, ','));
    REFUSE_UNLESS(take(s, '}'), "bad_header", "__metadata__ does not end");
done:
    adze_free(key);
    return st;
}

static adze_status take_header(adze_tensor_file *f, scanner *s, entries *list)
{
    static const char metadata[] = "__metadata__";
    adze_status st = ADZE_OK;
    bool seen = false;
    REFUSE_UNLESS(take(s, '{'), "bad_header", "the header is no object");
    if (!take(s, '}')) {
        do {
            TRY(take_string(s, "a tensor name"));
            REFUSE_UNLESS(s->text.n_bytes <= TENSOR_FILE_MAX_NAME_BYTES, "limit", "a name of %zu bytes", s->text.n_bytes);
            if (s->text.n_bytes == sizeof metadata - 1 && memcmp(s->text.s, metadata, sizeof metadata - 1) == 0) {
                REFUSE_UNLESS(!seen, "duplicate", "__metadata__ is there twice");
                seen = true;
                REFUSE_UNLESS(take(s, ':'), "bad_header", "no colon after __metadata__");
                TRY(take_metadata(f, s));
                continue;
            }
            REFUSE_UNLESS(list->n < TENSOR_FILE_MAX_TENSORS, "limit", "more than %d tensors", TENSOR_FILE_MAX_TENSORS);
            if (list->n == list->room) {
                int64_t room = list->room ? 2 * list->room : 64;
                entry *more = adze_realloc(list->e, (size_t)room * sizeof *more);
                REQUIRE(more, ADZE_ENOMEM, "safetensors header: no memory for %lld tensors", (long long)room);
                list->e = more;
                list->room = room;
            }
            entry *e = &list->e[list->n];
            *e = (entry){ .name_bytes = s->text.n_bytes };
            REQUIRE(e->name = adze_malloc(e->name_bytes + 1), ADZE_ENOMEM, "safetensors names: %zu host bytes", e->name_bytes);
            memcpy(e->name, s->text.s, e->name_bytes);
            list->n++;
            REFUSE_UNLESS(take(s, ':'), "bad_header", "no colon after a tensor name");
            TRY(take_entry(s, e));
        } while (take(s, ','));
        REFUSE_UNLESS(take(s, '}'), "bad_header", "the header does not end");
    }
    blanks(s);
    REFUSE_UNLESS(s->p == s->end, "bad_header", "text behind the JSON object");
done:
    return st;
}

static int by_begin(const void *a, const void *b)
{
    const entry *x = *(const entry *const *)a, *y = *(const entry *const *)b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

static int by_entry_name(const void *a, const void *b)
{
    const entry *x = *(const entry *const *)a, *y = *(const entry *const *)b;
    size_t n = x->name_bytes < y->name_bytes ? x->name_bytes : y->name_bytes;
    int order = memcmp(x->name, y->name, n);
    return order ? order : x->name_bytes < y->name_bytes ? -1 : x->name_bytes > y->name_bytes;
}

/* No name twice; sizes agree with the offsets; the tensors tile the data without gap, overlap or rest. */
static adze_status check_entries(const entries *list, int64_t data_bytes)
{
    adze_status st = ADZE_OK;
    char shown[SHOWN_NAME];
    int64_t count, at = 0;
    size_t n_bytes;
    const entry **order = adze_malloc((size_t)list->n * sizeof *order);
    REQUIRE(order, ADZE_ENOMEM, "safetensors header: no memory for %lld tensors", (long long)list->n);
    for (int64_t i = 0; i < list->n; i++) order[i] = &list->e[i];
    if (list->n > 0) qsort(order, (size_t)list->n, sizeof *order, by_entry_name);
    for (int64_t i = 1; i < list->n; i++)
        REFUSE_UNLESS(by_entry_name(&order[i - 1], &order[i]) != 0, "duplicate", "tensor '%s' is there twice",
                      shown_name(order[i]->name, order[i]->name_bytes, shown));
    if (list->n > 0) qsort(order, (size_t)list->n, sizeof *order, by_begin);
    for (int64_t i = 0; i < list->n; i++) {
        const entry *e = order[i];
        shown_name(e->name, e->name_bytes, shown);
        REFUSE_UNLESS(e->begin <= e->end, "bounds", "tensor '%s' ends before it begins", shown);
        REFUSE_UNLESS(e->begin == at, "bounds", "tensor '%s' begins at %lld, the one before ends at %lld", shown,
                      (long long)e->begin, (long long)at);
        REFUSE_UNLESS(adze_stored_size(e->type, e->rank, e->dim, &count, &n_bytes), "overflow",
                      "the sizes of tensor '%s' do not fit in 63 bits", shown);
        REFUSE_UNLESS((int64_t)n_bytes == e->end - e->begin, "bounds", "tensor '%s' has %lld bytes, its shape needs %zu", shown,
                      (long long)(e->end - e->begin), n_bytes);
        REFUSE_UNLESS(e->end <= data_bytes, "truncated", "tensor '%s' ends at %lld, the data at %lld", shown,
                      (long long)e->end, (long long)data_bytes);
        at = e->end;
    }
    REFUSE_UNLESS(at == data_bytes, "bounds", "%lld bytes behind the last tensor", (long long)(data_bytes - at));
done:
    adze_free(order);
    return st;
}

adze_status read_safetensors(adze_tensor_file *f, byte_span file)
{
    adze_status st = ADZE_OK;
    entries list = { NULL, 0, 0 };
    scanner s = { .text = ADZE_TEXT_EMPTY };
    f->format = "safetensors";
    uint64_t n = little_u64(file.data);
    REFUSE_UNLESS(n <= MAX_HEADER_BYTES, "bad_header", "a header of %llu bytes, at most %d are read", (unsigned long long)n,
                  MAX_HEADER_BYTES);
    REFUSE_UNLESS(n <= file.n_bytes - 8, "truncated", "the header of %llu bytes reaches beyond the file",
                  (unsigned long long)n);
    s.p = file.data + 8;
    s.end = s.p + n;
    REFUSE_UNLESS(utf8_valid(s.p, (size_t)n), "bad_header", "the header is not UTF-8");
    TRY(take_header(f, &s, &list));
    TRY(check_entries(&list, (int64_t)(file.n_bytes - 8 - n)));
    for (int64_t i = 0; i < list.n; i++) {
        const entry *e = &list.e[i];
        unsigned char *to;
        TRY(tensor_file_add(f, e->name, e->name_bytes, e->type, e->rank, e->dim, &to));
        memcpy(to, file.data + 8 + n + e->begin, (size_t)(e->end - e->begin));
    }
done:
    for (int64_t i = 0; i < list.n; i++) adze_free(list.e[i].name);
    adze_free(list.e);
    adze_text_destroy(&s.text);
    return st;
}
