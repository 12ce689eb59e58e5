/* feature_file.c - a growing HDF5 file of rows. Entry: adze_feature_file_open().
 *
 * The HDF5 library changes a file's structure in place, so that a crash in between leaves a file that nobody can open. Here
 * it only reads: the structure is written by hand (superblock and object headers of version 2, contiguous data sets, no
 * heaps, no trees) behind the numbers, and then the superblock, which names its root, is overwritten.
 *
 * Two bytes of the file are locked (fcntl, open file description locks, which a killed process gives back): byte 0 while the
 * structure is read or changed; byte 1, shared, from begin to commit. Who can have byte 1 alone may cut off what lies behind
 * the committed end. */
#include "checkpoints/feature_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoints/hdf5_file.h"
#include "core/memory.h"
#include "core/text.h"

static const char format[] = "adze-feature-cache";
enum { FORMAT_VERSION = 1, PAGE_BYTES = 4096, LOCK_STRUCTURE = 0, LOCK_ADDING = 1, MAX_KEYS = 16 };

/* What was added at one time under one key. */
typedef struct {
    adze_digest key;
    int64_t R, D;
    int64_t features, picture, digest; /* offsets in the file */
} segment;

struct adze_feature_file {
    char *path; /* owned */
    int fd;
    segment *segment; /* owned: the committed ones */
    int64_t n_segments;
    int n_added;      /* being added; 0: none */
    segment added[MAX_KEYS];
    adze_digest *table[MAX_KEYS]; /* owned: pictures (R), then digests (R) */
};

/* ---- locks and plain reading and writing ---- */

static bool lock_byte(const adze_feature_file *f, int byte, short type, bool wait)
{
    struct flock l = { .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
    int bad;
    do bad = fcntl(f->fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, &l);
    while (bad != 0 && errno == EINTR);
    return bad == 0;
}

static void unlock_byte(const adze_feature_file *f, int byte) { lock_byte(f, byte, F_UNLCK, false); }

static adze_status read_at(const adze_feature_file *f, void *to, size_t n_bytes, int64_t at)
{
    unsigned char *p = to;
    while (n_bytes > 0) {
        ssize_t n = pread(f->fd, p, n_bytes, (off_t)at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return adze_fail(ADZE_EINPUT, "%s: cannot read: %s", f->path, n < 0 ? strerror(errno) : "cut short");
        p += n, at += n, n_bytes -= (size_t)n;
    }
    return ADZE_OK;
}

static adze_status write_at(const adze_feature_file *f, const void *from, size_t n_bytes, int64_t at)
{
    const unsigned char *p = from;
    while (n_bytes > 0) {
        ssize_t n = pwrite(f->fd, p, n_bytes, (off_t)at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return adze_fail(ADZE_EIO, "%s: cannot write: %s", f->path, strerror(n < 0 ? errno : ENOSPC));
        p += n, at += n, n_bytes -= (size_t)n;
    }
    return ADZE_OK;
}

static adze_status sync_file(const adze_feature_file *f)
{
    return fdatasync(f->fd) == 0 ? ADZE_OK : adze_fail(ADZE_EIO, "%s: cannot write: %s", f->path, strerror(errno));
}

static adze_status file_bytes(const adze_feature_file *f, int64_t *n_bytes)
{
    struct stat info;
    *n_bytes = 0;
    if (fstat(f->fd, &info) != 0 || !S_ISREG(info.st_mode)) return adze_fail(ADZE_EINPUT, "%s: not a regular file", f->path);
    *n_bytes = (int64_t)info.st_size;
    return ADZE_OK;
}

static int64_t page_up(int64_t n) { return (n + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES; }

/* ---- the structure as HDF5 wants it (File Format Specification, version 3.0) ---- */

/* Jenkins' lookup3 over bytes, as all checksums of the format. */
static uint32_t lookup3(const unsigned char *p, size_t n)
{
#define ROTATE(x, k) ((x) << (k) | (x) >> (32 - (k)))
    uint32_t a, b, c;
    a = b = c = UINT32_C(0xdeadbeef) + (uint32_t)n;
    for (; n > 12; n -= 12, p += 12) {
        uint32_t w[3];
        memcpy(w, p, sizeof w);
        a += w[0], b += w[1], c += w[2];
        a -= c, a ^= ROTATE(c, 4), c += b;
        b -= a, b ^= ROTATE(a, 6), a += c;
        c -= b, c ^= ROTATE(b, 8), b += a;
        a -= c, a ^= ROTATE(c, 16), c += b;
        b -= a, b ^= ROTATE(a, 19), a += c;
        c -= b, c ^= ROTATE(b, 4), b += a;
    }
    uint32_t w[3] = { 0, 0, 0 };
    if (n == 0) return c;
    memcpy(w, p, n);
    a += w[0], b += w[1], c += w[2];
    c ^= b, c -= ROTATE(b, 14);
    a ^= c, a -= ROTATE(c, 11);
    b ^= a, b -= ROTATE(a, 25);
    c ^= b, c -= ROTATE(b, 16);
    a ^= c, a -= ROTATE(c, 4);
    b ^= a, b -= ROTATE(a, 14);
    c ^= b, c -= ROTATE(b, 24);
#undef ROTATE
    return c;
}

/* The new structure, to be written at offset `at`; errors stick in the text. */
typedef struct {
    adze_text t;
    int64_t at;
} structure;

static void put(structure *s, const void *data, size_t n) { adze_text_append_n(&s->t, data, n); }

/* n bytes of a number, lowest first. */
static void number(structure *s, uint64_t value, int n)
{
    unsigned char b[8];
    for (int i = 0; i < n; i++) b[i] = (unsigned char)(value >> 8 * i);
    put(s, b, (size_t)n);
}

static void checksum(structure *s, size_t begin)
{
    uint32_t sum = s->t.s ? lookup3((const unsigned char *)s->t.s + begin, s->t.n_bytes - begin) : 0;
    number(s, sum, 4);
}

static void message(structure *s, int type, size_t n_bytes)
{
    number(s, (uint64_t)type, 1);
    number(s, n_bytes, 2);
    number(s, 0, 1);
}

enum { MESSAGE_BYTES = 4, LINK_INFO_BYTES = 18, GROUP_INFO_BYTES = 2, INT64_TYPE_BYTES = 12, TEXT_TYPE_BYTES = 8 };

/* Begins an object header whose messages take n_bytes with their headers; returns its place in the text. */
static size_t header(structure *s, size_t n_bytes)
{
    size_t begin = s->t.n_bytes;
    put(s, "OHDR\2\2", 6); /* version 2; the size below has four bytes */
    number(s, n_bytes, 4);
    return begin;
}

/* The two messages that make a group. */
static void group_messages(structure *s)
{
    message(s, 0x02, LINK_INFO_BYTES);
    number(s, 0, 2);
    number(s, UINT64_MAX, 8); /* no heap, no index: links are messages */
    number(s, UINT64_MAX, 8);
    message(s, 0x0a, GROUP_INFO_BYTES);
    number(s, 0, 2);
}
enum { GROUP_BYTES = 2 * MESSAGE_BYTES + LINK_INFO_BYTES + GROUP_INFO_BYTES };

static size_t link_bytes(const char *name) { return MESSAGE_BYTES + 3 + strlen(name) + 8; }

static void link_message(structure *s, const char *name, int64_t address)
{
    message(s, 0x06, link_bytes(name) - MESSAGE_BYTES);
    number(s, 1, 2); /* version 1, a hard link */
    number(s, strlen(name), 1);
    put(s, name, strlen(name));
    number(s, (uint64_t)address, 8);
}

static size_t attribute_bytes(const char *name, size_t type_bytes, size_t n_bytes)
{
    return MESSAGE_BYTES + 9 + strlen(name) + 1 + type_bytes + 4 + n_bytes;
}

/* A scalar attribute: a text (text != NULL) or an int64. */
static void attribute(structure *s, const char *name, const char *text, int64_t value)
{
    size_t type_bytes = text ? TEXT_TYPE_BYTES : INT64_TYPE_BYTES, n = text ? strlen(text) : 8;
    message(s, 0x0c, attribute_bytes(name, type_bytes, n) - MESSAGE_BYTES);
    number(s, 3, 2);
    number(s, strlen(name) + 1, 2);
    number(s, type_bytes, 2);
    number(s, 4, 2);
    number(s, 0, 1);
    put(s, name, strlen(name) + 1);
    number(s, text ? 0x13 : 0x10, 1);   /* fixed text : integer */
    number(s, text ? 0x11 : 0x08, 3);   /* UTF-8, padded with NUL : signed */
    number(s, n, 4);
    if (!text) number(s, 64 << 16, 4);  /* offset 0, precision 64 */
    number(s, 2, 4);                    /* a scalar */
    if (text) put(s, text, n);
    else number(s, (uint64_t)value, 8);
}

/* A contiguous matrix (R,D) of float32 or uint8; returns its address. */
static int64_t matrix(structure *s, bool is_float, int64_t R, int64_t D, int64_t offset)
{
    enum { SPACE = 20, FILL = 2, LAYOUT = 18 };
    size_t type = is_float ? 20 : 12, begin = header(s, 4 * MESSAGE_BYTES + SPACE + type + FILL + LAYOUT);
    message(s, 0x01, SPACE);
    number(s, 0x01000202, 4); /* version 2, rank 2, simple */
    number(s, (uint64_t)R, 8);
    number(s, (uint64_t)D, 8);
    message(s, 0x03, type);
    if (is_float) {
        number(s, 0x001f2011, 4);         /* IEEE, little-endian, implied bit, sign at 31 */
        number(s, 4, 4);
        number(s, 32 << 16, 4);           /* offset 0, precision 32 */
        number(s, 23 | 8 << 8 | 23 << 24, 4); /* exponent at 23 of 8 bits, mantissa at 0 of 23 */
        number(s, 127, 4);
    } else {
        number(s, 0x10, 4);
        number(s, 1, 4);
        number(s, 8 << 16, 4);
    }
    message(s, 0x05, FILL);
    number(s, 0x1503, 2); /* version 3: allocated early, never filled */
    message(s, 0x08, LAYOUT);
    number(s, 0x0103, 2); /* version 3, contiguous */
    number(s, (uint64_t)offset, 8);
    number(s, (uint64_t)(R * D) * (is_float ? 4 : 1), 8);
    checksum(s, begin);
    return s->at + (int64_t)begin;
}

static int64_t segment_group(structure *s, const segment *g)
{
    int64_t features = matrix(s, true, g->R, g->D, g->features), picture = matrix(s, false, g->R, ADZE_SHA256_BYTES, g->picture);
    int64_t digest = matrix(s, false, g->R, ADZE_SHA256_BYTES, g->digest);
    size_t begin = header(s, GROUP_BYTES + link_bytes("features") + link_bytes("picture") + link_bytes("digest"));
    group_messages(s);
    link_message(s, "features", features);
    link_message(s, "picture", picture);
    link_message(s, "digest", digest);
    checksum(s, begin);
    return s->at + (int64_t)begin;
}

static bool same_digest(const adze_digest *a, const adze_digest *b) { return memcmp(a, b, sizeof *a) == 0; }

/* The group of segment i's key with all segments of that key, of which i is the first; its address in *address. */
static adze_status key_group(structure *s, const segment *g, int64_t n, int64_t i, int64_t *address)
{
    adze_status st = ADZE_OK;
    int64_t *at = adze_malloc((size_t)n * sizeof *at), count = 0;
    char name[24];
    size_t n_bytes = GROUP_BYTES;
    REQUIRE(at, ADZE_ENOMEM, "feature cache: a table of %" PRId64 " segments", n);
    for (int64_t k = i; k < n; k++) {
        if (!same_digest(&g[k].key, &g[i].key)) continue;
        snprintf(name, sizeof name, "%" PRId64, count);
        n_bytes += link_bytes(name);
        at[count++] = segment_group(s, &g[k]);
    }
    size_t begin = header(s, n_bytes);
    group_messages(s);
    for (int64_t k = 0; k < count; k++) {
        snprintf(name, sizeof name, "%" PRId64, k);
        link_message(s, name, at[k]);
    }
    checksum(s, begin);
    *address = s->at + (int64_t)begin;
done:
    adze_free(at);
    return st;
}

static bool first_of_key(const segment *g, int64_t i)
{
    for (int64_t k = 0; k < i; k++)
        if (same_digest(&g[k].key, &g[i].key)) return false;
    return true;
}

/* Everything but the superblock; *root is the root group's address. */
static adze_status build(structure *s, const segment *g, int64_t n, int64_t *root)
{
    adze_status st = ADZE_OK;
    int64_t *at = adze_calloc((size_t)n + 1, sizeof *at);
    char hex[ADZE_SHA256_HEX];
    size_t n_bytes = GROUP_BYTES + attribute_bytes("format", TEXT_TYPE_BYTES, strlen(format)) +
                     attribute_bytes("format_version", INT64_TYPE_BYTES, 8);
    *root = 0;
    REQUIRE(at, ADZE_ENOMEM, "feature cache: a table of %" PRId64 " segments", n);
    for (int64_t i = 0; i < n; i++) {
        if (!first_of_key(g, i)) continue;
        TRY(key_group(s, g, n, i, &at[i]));
        adze_sha256_hex(g[i].key.byte, hex);
        n_bytes += link_bytes(hex);
    }
    size_t begin = header(s, n_bytes);
    group_messages(s);
    attribute(s, "format", format, 0);
    attribute(s, "format_version", NULL, FORMAT_VERSION);
    for (int64_t i = 0; i < n; i++) {
        if (!at[i]) continue;
        adze_sha256_hex(g[i].key.byte, hex);
        link_message(s, hex, at[i]);
    }
    checksum(s, begin);
    *root = s->at + (int64_t)begin;
    TRY(adze_text_check(&s->t, "the structure of a feature cache"));
done:
    adze_free(at);
    return st;
}

static void superblock(structure *s, int64_t end, int64_t root)
{
    put(s, "\x89HDF\r\n\x1a\n\2\10\10", 11); /* version 2, addresses and lengths of 8 bytes */
    number(s, 0, 1);
    number(s, 0, 8);
    number(s, UINT64_MAX, 8);
    number(s, (uint64_t)end, 8);
    number(s, (uint64_t)root, 8);
    checksum(s, 0);
}

/* Writes the structure of n segments behind the end of the file, then makes it hold. With byte 0 locked. */
static adze_status write_structure(const adze_feature_file *f, const segment *g, int64_t n)
{
    adze_status st = ADZE_OK;
    structure s = { .t = ADZE_TEXT_EMPTY }, first = { .t = ADZE_TEXT_EMPTY };
    int64_t root;
    TRY(file_bytes(f, &s.at));
    if (s.at < PAGE_BYTES) s.at = PAGE_BYTES; /* the first page is the superblock's alone */
    TRY(build(&s, g, n, &root));
    TRY(write_at(f, s.t.s, s.t.n_bytes, s.at));
    TRY(sync_file(f));
    superblock(&first, s.at + (int64_t)s.t.n_bytes, root);
    TRY(adze_text_check(&first.t, "a superblock"));
    TRY(write_at(f, first.t.s, first.t.n_bytes, 0));
    TRY(sync_file(f));
done:
    adze_text_destroy(&s.t);
    adze_text_destroy(&first.t);
    return st;
}

/* ---- the table of contents ---- */

static bool key_of(const char *path, adze_digest *key)
{
    static const char digit[] = "0123456789abcdef";
    if (*path++ != '/') return false;
    for (int i = 0; i < ADZE_SHA256_BYTES; i++) {
        const char *high = path[0] ? strchr(digit, path[0]) : NULL, *low = high && path[1] ? strchr(digit, path[1]) : NULL;
        if (!low) return false;
        key->byte[i] = (unsigned char)((high - digit) << 4 | (low - digit));
        path += 2;
    }
    return *path == '/';
}

/* The matrix FOLDER/NAME and where it lies. */
static adze_status find_matrix(adze_h5 *h, const char *folder, const char *name, adze_dtype type, const adze_h5_item **item,
                               int64_t *offset)
{
    adze_status st = ADZE_OK;
    char *path = adze_strprintf("%s/%s", folder, name);
    REQUIRE(path, ADZE_ENOMEM, "feature cache: no memory for a name");
    *item = adze_h5_find(h, path);
    REQUIRE(*item && (*item)->kind == ADZE_H5_TENSOR && (*item)->type == type && (*item)->rank == 2, ADZE_EINPUT, "no matrix %s", path);
    TRY(adze_h5_offset(h, path, offset));
done:
    adze_free(path);
    return st;
}

/* Appends the segment in the group `path`. */
static adze_status take_segment(adze_h5 *h, const char *path, const adze_digest *key, segment **list, int64_t *n)
{
    adze_status st = ADZE_OK;
    segment g = { .key = *key };
    const adze_h5_item *features, *picture, *digest;
    TRY(find_matrix(h, path, "features", ADZE_DTYPE_F32, &features, &g.features));
    TRY(find_matrix(h, path, "picture", ADZE_DTYPE_U8, &picture, &g.picture));
    TRY(find_matrix(h, path, "digest", ADZE_DTYPE_U8, &digest, &g.digest));
    g.R = features->dim[0], g.D = features->dim[1];
    REQUIRE(picture->dim[0] == g.R && digest->dim[0] == g.R && picture->dim[1] == ADZE_SHA256_BYTES &&
                digest->dim[1] == ADZE_SHA256_BYTES,
            ADZE_EINPUT, "%s: tables of other lengths", path);
    segment *more = adze_realloc(*list, (size_t)(*n + 1) * sizeof *more);
    REQUIRE(more, ADZE_ENOMEM, "feature cache: a table of %" PRId64 " segments", *n + 1);
    *list = more;
    more[(*n)++] = g;
done:
    return st;
}

/* Reads what is committed. With byte 0 locked. */
static adze_status read_structure(adze_feature_file *f)
{
    adze_status st = ADZE_OK;
    adze_h5 *h = NULL;
    char *got = NULL;
    segment *list = NULL;
    int64_t n = 0, version;
    const adze_h5_item *item;
    TRY(adze_h5_open(&h, f->path, &(adze_h5_opts){ .unsealed = true, .limit_bytes = SIZE_MAX }));
    if (adze_h5_has(h, "/", "format")) TRY(adze_h5_get_string(h, "/", "format", &got));
    REQUIRE(got && strcmp(got, format) == 0, ADZE_EINPUT, "%s: not a feature cache; another --cache, or --force to replace it", f->path);
    TRY(adze_h5_get_int(h, "/", "format_version", &version));
    REQUIRE(version == FORMAT_VERSION, ADZE_EINPUT, "%s: format version %" PRId64 ", this program reads %d", f->path, version, FORMAT_VERSION);
    for (int64_t i = 0; (item = adze_h5_at(h, i)); i++) {
        adze_digest key;
        const char *number = strrchr(item->path, '/');
        if (item->kind != ADZE_H5_GROUP || !key_of(item->path, &key) || number != item->path + 2 * ADZE_SHA256_BYTES + 1) continue;
        st = take_segment(h, item->path, &key, &list, &n);
        TRY(st == ADZE_EINPUT ? adze_fail_prefix(st, "%s: damaged", f->path) : st);
    }
    adze_free(f->segment);
    f->segment = list;
    f->n_segments = n;
    list = NULL;
done:
    adze_free(list);
    adze_free(got);
    adze_h5_destroy(h);
    return st;
}

/* The end of what is committed, from the superblock. */
static adze_status committed_end(const adze_feature_file *f, int64_t *end)
{
    unsigned char b[8];
    adze_status st = read_at(f, b, sizeof b, 28);
    uint64_t n = 0;
    for (int i = 7; st == ADZE_OK && i >= 0; i--) n = n << 8 | b[i];
    *end = (int64_t)n;
    return st;
}

/* True for a file that nobody has written to yet, or that was left while it was made: nothing in its first page, and little
 * behind it. */
static adze_status is_blank(const adze_feature_file *f, bool *blank)
{
    unsigned char b[PAGE_BYTES];
    int64_t n;
    adze_status st = file_bytes(f, &n);
    *blank = n <= 2 * PAGE_BYTES;
    if (n > PAGE_BYTES) n = PAGE_BYTES;
    if (st == ADZE_OK && *blank) st = read_at(f, b, (size_t)n, 0);
    for (int64_t i = 0; i < n && *blank; i++) *blank = b[i] == 0;
    return st;
}

/* Opens or makes the file and reads what it holds. */
static adze_status open_file(adze_feature_file *f)
{
    adze_status st = ADZE_OK;
    bool blank, writable = true;
    f->fd = open(f->path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (f->fd < 0 && (errno == EACCES || errno == EROFS)) {
        writable = false;
        f->fd = open(f->path, O_RDONLY | O_CLOEXEC);
    }
    int why = errno;
    REQUIRE(f->fd >= 0, why == EISDIR ? ADZE_EINPUT : ADZE_EIO, "%s: cannot be opened as a feature cache (--cache): %s", f->path, strerror(why));
    REQUIRE(lock_byte(f, LOCK_STRUCTURE, writable ? F_WRLCK : F_RDLCK, true), ADZE_EIO, "%s: cannot be locked: %s", f->path, strerror(errno));
    st = is_blank(f, &blank);
    if (st == ADZE_OK && blank) st = write_structure(f, NULL, 0);
    if (st == ADZE_OK) st = read_structure(f);
    unlock_byte(f, LOCK_STRUCTURE);
done:
    return st;
}

adze_status adze_feature_file_open(adze_feature_file **out, const char *path, bool replace)
{
    adze_status st = ADZE_OK;
    adze_feature_file *f = adze_calloc(1, sizeof *f);
    *out = NULL;
    REQUIRE(f, ADZE_ENOMEM, "%s: %zu host bytes", path, sizeof *f);
    f->fd = -1;
    REQUIRE(f->path = adze_strdup(path), ADZE_ENOMEM, "%s: no memory for the name", path);
    st = open_file(f);
    if (st == ADZE_EINPUT && replace && unlink(path) == 0) {
        close(f->fd);
        st = open_file(f);
    }
    TRY(st);
    *out = f;
    f = NULL;
done:
    adze_feature_file_close(f);
    return st;
}

/* ---- adding ---- */

/* Ends adding; without other processes that add, gives back what lies behind the committed end. */
static void give_up(adze_feature_file *f)
{
    int64_t end;
    for (int k = 0; k < MAX_KEYS; k++) {
        adze_free(f->table[k]);
        f->table[k] = NULL;
    }
    if (f->n_added == 0) return;
    f->n_added = 0;
    if (lock_byte(f, LOCK_STRUCTURE, F_WRLCK, true)) {
        bool alone = lock_byte(f, LOCK_ADDING, F_WRLCK, false);
        if (alone && committed_end(f, &end) == ADZE_OK && ftruncate(f->fd, (off_t)end) != 0) alone = false; /* then begin does it */
        unlock_byte(f, LOCK_ADDING);
        unlock_byte(f, LOCK_STRUCTURE);
    }
}

void adze_feature_file_close(adze_feature_file *f)
{
    if (!f) return;
    give_up(f);
    if (f->fd >= 0) close(f->fd);
    adze_free(f->segment);
    adze_free(f->path);
    adze_free(f);
}

/* Disk blocks for n_bytes behind `at`, and the file's end behind them. */
static adze_status make_room(const adze_feature_file *f, int64_t at, int64_t n_bytes)
{
    adze_status st = ADZE_OK;
    struct rlimit limit;
    REQUIRE(getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= (rlim_t)(at + n_bytes), ADZE_EIO,
            "%s: no room for %" PRId64 " bytes of features: beyond the largest file that this process may write; --cache off needs no file",
            f->path, n_bytes);
    int bad = fallocate(f->fd, 0, (off_t)at, (off_t)n_bytes), why = errno;
    if (bad != 0 && (why == EOPNOTSUPP || why == ENOSYS)) bad = ftruncate(f->fd, (off_t)(at + n_bytes)), why = errno;
    REQUIRE(bad == 0, ADZE_EIO, "%s: no room for %" PRId64 " bytes of features: %s; --cache off or --cache memory needs no file", f->path,
            n_bytes, strerror(why));
done:
    return st;
}

adze_status adze_feature_file_begin(adze_feature_file *f, int n_keys, const adze_digest *key, const int64_t *R, const int64_t *D)
{
    adze_status st = ADZE_OK;
    int64_t end, size, n_bytes = 0;
    bool locked = false;
    REQUIRE(n_keys > 0 && n_keys <= MAX_KEYS && f->n_added == 0, ADZE_EINTERNAL, "%s: %d keys at a time", f->path, n_keys);
    for (int k = 0; k < n_keys; k++) {
        f->table[k] = adze_calloc((size_t)R[k] + 1, 2 * sizeof *f->table[k]);
        REQUIRE(f->table[k], ADZE_ENOMEM, "%s: a table of %" PRId64 " pictures", f->path, R[k]);
    }
    REQUIRE(locked = lock_byte(f, LOCK_STRUCTURE, F_WRLCK, true), ADZE_EIO, "%s: cannot be written: %s", f->path, strerror(errno));
    TRY(committed_end(f, &end));
    TRY(file_bytes(f, &size));
    if (size > end && lock_byte(f, LOCK_ADDING, F_WRLCK, false)) /* left by somebody who was killed */
        REQUIRE(ftruncate(f->fd, (off_t)end) == 0, ADZE_EIO, "%s: cannot write: %s", f->path, strerror(errno));
    REQUIRE(lock_byte(f, LOCK_ADDING, F_RDLCK, true), ADZE_EIO, "%s: cannot be locked: %s", f->path, strerror(errno));
    TRY(file_bytes(f, &size));
    int64_t at = page_up(size);
    for (int k = 0; k < n_keys; k++) {
        segment *g = &f->added[k];
        *g = (segment){ .key = key[k], .R = R[k], .D = D[k] };
        g->features = at + n_bytes;
        g->picture = g->features + R[k] * D[k] * (int64_t)sizeof(float);
        g->digest = g->picture + R[k] * ADZE_SHA256_BYTES;
        n_bytes = page_up(g->digest + R[k] * ADZE_SHA256_BYTES - at);
    }
    f->n_added = n_keys;
    TRY(make_room(f, at, n_bytes));
done:
    if (locked) unlock_byte(f, LOCK_STRUCTURE);
    if (st != ADZE_OK) give_up(f);
    return st;
}

static void row_digest(const adze_digest *key, const adze_digest *picture, const float *x, int64_t D, adze_digest *out)
{
    adze_sha256 sha;
    adze_sha256_init(&sha);
    adze_sha256_update(&sha, key, sizeof *key);
    adze_sha256_update(&sha, picture, sizeof *picture);
    adze_sha256_update(&sha, x, (size_t)D * sizeof *x);
    adze_sha256_final(&sha, out->byte);
}

adze_status adze_feature_file_write(adze_feature_file *f, int k, int64_t r, const adze_digest *picture, const float *x)
{
    const segment *g = &f->added[k];
    size_t n_bytes = (size_t)g->D * sizeof *x;
    if (k < 0 || k >= f->n_added || r < 0 || r >= g->R) return adze_fail(ADZE_EINTERNAL, "%s: row %" PRId64 " was not begun", f->path, r);
    f->table[k][r] = *picture;
    row_digest(&g->key, picture, x, g->D, &f->table[k][g->R + r]);
    return write_at(f, x, n_bytes, g->features + r * (int64_t)n_bytes);
}

adze_status adze_feature_file_commit(adze_feature_file *f)
{
    adze_status st = ADZE_OK;
    bool locked = false;
    for (int k = 0; k < f->n_added; k++) /* the two tables lie behind each other */
        TRY(write_at(f, f->table[k], 2 * (size_t)f->added[k].R * sizeof *f->table[k], f->added[k].picture));
    TRY(sync_file(f));
    REQUIRE(locked = lock_byte(f, LOCK_STRUCTURE, F_WRLCK, true), ADZE_EIO, "%s: cannot be locked: %s", f->path, strerror(errno));
    TRY(read_structure(f)); /* others may have added as well */
    segment *all = adze_realloc(f->segment, (size_t)(f->n_segments + f->n_added) * sizeof *all);
    REQUIRE(all, ADZE_ENOMEM, "%s: a table of segments", f->path);
    f->segment = all;
    int64_t n = f->n_segments;
    for (int k = 0; k < f->n_added; k++)
        if (f->added[k].R > 0) all[n++] = f->added[k];
    TRY(write_structure(f, all, n));
    f->n_segments = n;
done:
    if (locked) unlock_byte(f, LOCK_STRUCTURE);
    give_up(f);
    return st;
}

/* ---- reading ---- */

typedef struct {
    adze_digest digest;
    int64_t i;
} known_picture;

static int by_digest(const void *a, const void *b)
{
    const known_picture *x = a, *y = b;
    int c = memcmp(&x->digest, &y->digest, sizeof x->digest);
    return c ? c : (x->i > y->i) - (x->i < y->i);
}

/* The first entry with this digest; n if there is none. */
static int64_t look_up(const known_picture *known, int64_t n, const adze_digest *digest)
{
    int64_t low = 0, high = n;
    while (low < high) {
        int64_t mid = (low + high) / 2;
        if (memcmp(&known[mid].digest, digest, sizeof *digest) < 0) low = mid + 1;
        else high = mid;
    }
    return low < n && same_digest(&known[low].digest, digest) ? low : n;
}

adze_status adze_feature_file_find(adze_feature_file *f, const adze_digest *key, int64_t D, const adze_digest *picture, int64_t n,
                                   adze_feature_row *row)
{
    adze_status st = ADZE_OK;
    adze_digest *table = NULL;
    known_picture *known = adze_malloc((size_t)(n > 0 ? n : 1) * sizeof *known);
    REQUIRE(known, ADZE_ENOMEM, "%s: a table of %" PRId64 " pictures", f->path, n);
    for (int64_t i = 0; i < n; i++) {
        known[i] = (known_picture){ picture[i], i };
        row[i] = (adze_feature_row){ .offset = -1 };
    }
    qsort(known, (size_t)n, sizeof *known, by_digest);
    for (int64_t s = 0; s < f->n_segments; s++) {
        const segment *g = &f->segment[s];
        if (!same_digest(&g->key, key) || g->D != D || g->R == 0) continue;
        adze_free(table);
        REQUIRE(table = adze_malloc(2 * (size_t)g->R * sizeof *table), ADZE_ENOMEM, "%s: a table of %" PRId64 " pictures", f->path, g->R);
        TRY(read_at(f, table, (size_t)g->R * sizeof *table, g->picture));
        TRY(read_at(f, table + g->R, (size_t)g->R * sizeof *table, g->digest));
        for (int64_t r = 0; r < g->R; r++)
            for (int64_t k = look_up(known, n, &table[r]); k < n && same_digest(&known[k].digest, &table[r]); k++)
                row[known[k].i] = (adze_feature_row){ g->features + r * D * (int64_t)sizeof(float), table[g->R + r] };
    }
done:
    adze_free(table);
    adze_free(known);
    return st;
}

adze_status adze_feature_file_read(const adze_feature_file *f, const adze_digest *key, const adze_digest *picture,
                                   const adze_feature_row *row, int64_t D, bool check, float *to)
{
    adze_status st = ADZE_OK;
    adze_digest got;
    TRY(read_at(f, to, (size_t)D * sizeof *to, row->offset));
    if (!check) goto done;
    row_digest(key, picture, to, D, &got);
    REQUIRE(same_digest(&got, &row->digest), ADZE_EINPUT,
            "%s: damaged: the features at byte %" PRId64 " do not match their digest; delete the file, or give another --cache", f->path,
            row->offset);
done:
    return st;
}

void adze_feature_file_ahead(const adze_feature_file *f, const adze_feature_row *row, int64_t D)
{
    if (row->offset >= 0) posix_fadvise(f->fd, (off_t)row->offset, (off_t)D * (off_t)sizeof(float), POSIX_FADV_WILLNEED);
}
