/* npy.c - one numpy array, format versions 1 to 3. Entry: read_npy().
 * The header is the text of a Python dict; exactly the three keys that numpy writes are understood, no expression. */
#include <stdlib.h>
#include <string.h>

#include "checkpoints/tensor_file_impl.h"

typedef struct {
    const char *p, *end;
} cursor;

typedef struct {
    adze_dtype type;
    bool swap, fortran;
    int rank;
    int64_t dim[ADZE_STORED_RANK];
} npy_header;

static void blanks(cursor *c)
{
    while (c->p < c->end && (*c->p == ' ' || *c->p == '\t')) c->p++;
}

/* Takes `s` after blanks if it stands there. */
static bool take(cursor *c, const char *s)
{
    size_t n = strlen(s);
    blanks(c);
    if ((size_t)(c->end - c->p) < n || memcmp(c->p, s, n) != 0) return false;
    c->p += n;
    return true;
}

/* '...' or "...", without escapes. */
static bool take_string(cursor *c, const char **s, size_t *n)
{
    blanks(c);
    if (c->p == c->end || (*c->p != '\'' && *c->p != '"')) return false;
    const char *close = memchr(c->p + 1, *c->p, (size_t)(c->end - c->p - 1));
    if (!close || memchr(c->p, '\\', (size_t)(close - c->p))) return false;
    *s = c->p + 1;
    *n = (size_t)(close - *s);
    c->p = close + 1;
    return true;
}

static adze_status parse_descr(cursor *c, npy_header *h)
{
    static const struct {
        char kind, size;
        adze_dtype type;
    } known[] = {
        { 'f', '4', ADZE_DTYPE_F32 }, { 'f', '8', ADZE_DTYPE_F64 }, { 'f', '2', ADZE_DTYPE_F16 }, { 'i', '8', ADZE_DTYPE_I64 },
        { 'i', '4', ADZE_DTYPE_I32 }, { 'i', '2', ADZE_DTYPE_I16 }, { 'i', '1', ADZE_DTYPE_I8 },  { 'u', '8', ADZE_DTYPE_U64 },
        { 'u', '4', ADZE_DTYPE_U32 }, { 'u', '2', ADZE_DTYPE_U16 }, { 'u', '1', ADZE_DTYPE_U8 },  { 'b', '1', ADZE_DTYPE_BOOL },
    };
    adze_status st = ADZE_OK;
    const char *s;
    size_t n;
    char shown[SHOWN_NAME];
    blanks(c);
    REFUSE_UNLESS(c->p == c->end || *c->p != '[', "unsupported_type", "a structured array");
    REFUSE_UNLESS(take_string(c, &s, &n), "bad_header", "'descr' is no string");
    REFUSE_UNLESS(n > 0 && strchr("<>|=", s[0]) && s[0], "unsupported_type", "array type '%s'", shown_name(s, n, shown));
    for (size_t i = 0; n == 3 && i < sizeof known / sizeof *known; i++) {
        if (s[1] != known[i].kind || s[2] != known[i].size) continue;
        h->type = known[i].type;
        h->swap = s[0] == '>';
        return ADZE_OK;
    }
    REFUSE_UNLESS(false, "unsupported_type", "array type '%s'", shown_name(s, n, shown));
done:
    return st;
}

static adze_status parse_shape(cursor *c, npy_header *h)
{
    adze_status st = ADZE_OK;
    REFUSE_UNLESS(take(c, "("), "bad_header", "'shape' is no tuple");
    bool comma = true;
    while (!take(c, ")")) {
        int64_t v = 0;
        int n = 0;
        REFUSE_UNLESS(comma, "bad_header", "'shape' is no tuple of numbers");
        for (blanks(c); c->p < c->end && *c->p >= '0' && *c->p <= '9'; c->p++, n++)
            REFUSE_UNLESS(!__builtin_mul_overflow(v, 10, &v) && !__builtin_add_overflow(v, *c->p - '0', &v), "overflow",
                          "a size beyond 63 bits");
        REFUSE_UNLESS(n > 0, "bad_header", "'shape' holds something else than whole numbers");
        if (c->p < c->end && *c->p == 'L') c->p++; /* written by Python 2 */
        REFUSE_UNLESS(h->rank < ADZE_STORED_RANK, "limit", "rank above %d", ADZE_STORED_RANK);
        h->dim[h->rank++] = v;
        comma = take(c, ",");
    }
    REFUSE_UNLESS(h->rank != 1 || comma, "bad_header", "'shape' is no tuple");
done:
    return st;
}

static adze_status parse_dict(cursor *c, npy_header *h)
{
    adze_status st = ADZE_OK;
    bool descr = false, order = false, shape = false, comma = true;
    const char *key;
    size_t n;
    REFUSE_UNLESS(take(c, "{"), "bad_header", "the header is no dict");
    while (!take(c, "}")) {
        char shown[SHOWN_NAME];
        REFUSE_UNLESS(comma && take_string(c, &key, &n) && take(c, ":"), "bad_header", "the header is no dict");
        shown_name(key, n, shown);
        bool *seen = strcmp(shown, "descr") == 0 ? &descr : strcmp(shown, "fortran_order") == 0 ? &order
                   : strcmp(shown, "shape") == 0 ? &shape : NULL;
        REFUSE_UNLESS(seen && !*seen, "bad_header", "unexpected key '%s'", shown);
        *seen = true;
        if (seen == &descr) TRY(parse_descr(c, h));
        else if (seen == &shape) TRY(parse_shape(c, h));
        else {
            h->fortran = take(c, "True");
            REFUSE_UNLESS(h->fortran || take(c, "False"), "bad_header", "'fortran_order' is neither True nor False");
        }
        comma = take(c, ",");
    }
    REFUSE_UNLESS(descr && order && shape, "bad_header", "descr, fortran_order or shape is missing");
    blanks(c);
    REFUSE_UNLESS(c->end - c->p == 1 && *c->p == '\n', "bad_header", "no line end after the header");
done:
    return st;
}

/* Column-major elements to row-major, bytes reversed on request. */
static void copy_elements(const npy_header *h, size_t size_bytes, int64_t count, const unsigned char *from,
                          unsigned char *to)
{
    int64_t stride[ADZE_STORED_RANK], index[ADZE_STORED_RANK] = { 0 }, at = 0, step = 1;
    for (int k = 0; k < h->rank; k++) {
        int d = h->fortran ? k : h->rank - 1 - k;
        stride[d] = step;
        step *= h->dim[d];
    }
    for (int64_t i = 0; i < count; i++) {
        const unsigned char *src = from + (size_t)at * size_bytes;
        unsigned char *dst = to + (size_t)i * size_bytes;
        if (!h->swap) memcpy(dst, src, size_bytes);
        else for (size_t b = 0; b < size_bytes; b++) dst[b] = src[size_bytes - 1 - b];
        for (int d = h->rank - 1; d >= 0; d--) {
            at += stride[d];
            if (++index[d] < h->dim[d]) break;
            at -= stride[d] * h->dim[d];
            index[d] = 0;
        }
    }
}

adze_status read_npy(adze_tensor_file *f, byte_span file, const char *name, size_t name_bytes)
{
    adze_status st = ADZE_OK;
    npy_header h = { .rank = 0 };
    const unsigned char *p = file.data;
    unsigned char *to;
    REFUSE_UNLESS(file.n_bytes >= 10 && memcmp(p, "\x93NUMPY", 6) == 0, "bad_header", "no npy array");
    REFUSE_UNLESS(p[6] >= 1 && p[6] <= 3 && p[7] == 0, "bad_header", "npy version %d.%d", p[6], p[7]);
    size_t start = p[6] == 1 ? 10 : 12;
    REFUSE_UNLESS(file.n_bytes >= start, "bad_header", "the npy header is cut");
    size_t length = p[6] == 1 ? little_u16(p + 8) : little_u32(p + 8);
    REFUSE_UNLESS(length <= file.n_bytes - start, "bad_header", "the npy header of %zu bytes reaches beyond the file", length);
    cursor c = { (const char *)p + start, (const char *)p + start + length };
    TRY(parse_dict(&c, &h));
    int64_t count;
    size_t n_bytes, have = file.n_bytes - start - length;
    char text[ADZE_STORED_SHAPE_TEXT];
    REFUSE_UNLESS(adze_stored_size(h.type, h.rank, h.dim, &count, &n_bytes), "overflow", "the sizes %s do not fit in 63 bits",
                  adze_stored_shape_text(h.rank, h.dim, text));
    REFUSE_UNLESS(have >= n_bytes, "truncated", "%zu bytes of data, %s of %s needs %zu", have, adze_dtype_name(h.type),
                  adze_stored_shape_text(h.rank, h.dim, text), n_bytes);
    REFUSE_UNLESS(have == n_bytes, "bounds", "%zu bytes behind the array", have - n_bytes);
    TRY(tensor_file_add(f, name, name_bytes, h.type, h.rank, h.dim, &to));
    if (h.swap || (h.fortran && h.rank > 1)) copy_elements(&h, adze_dtype_bytes(h.type), count, p + start + length, to);
    else memcpy(to, p + start + length, n_bytes);
done:
    return st;
}
