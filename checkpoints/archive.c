/* archive.c - a zip archive in memory. Entry: adze_archive_open().
 * torch writes no sizes into local headers and pads with an extra field there: only the local header says where the data
 * begins, only the central directory how long they are. */
#include "checkpoints/archive.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "checkpoints/tensor_file_impl.h"
#include "core/memory.h"

enum {
    END_BYTES = 22,
    END64_BYTES = 56,
    LOCATOR_BYTES = 20,
    CENTRAL_BYTES = 46,
    LOCAL_BYTES = 30,
    MAX_COMMENT = 65535,
    MAX_MEMBERS = 1000000,
    FLAG_ENCRYPTED = 1 << 0,
    FLAG_STRONG = 1 << 6,
    FLAG_MASKED = 1 << 13
};

typedef struct {
    uint64_t count, at, n_bytes; /* the central directory */
} directory;

static bool has_sign(const unsigned char *p, unsigned char a, unsigned char b)
{
    return p[0] == 'P' && p[1] == 'K' && p[2] == a && p[3] == b;
}

/* The record at the end, whose comment must reach exactly to the end of the file. */
static adze_status find_end(const unsigned char *p, size_t n, size_t *end)
{
    adze_status st = ADZE_OK;
    bool seen = false;
    REFUSE_UNLESS(n >= END_BYTES, "truncated", "%zu bytes are too few for a zip archive", n);
    size_t first = n - END_BYTES > MAX_COMMENT ? n - END_BYTES - MAX_COMMENT : 0;
    for (size_t at = n - END_BYTES + 1; at-- > first;) {
        if (!has_sign(p + at, 5, 6)) continue;
        seen = true;
        if (at + END_BYTES + little_u16(p + at + 20) != n) continue;
        *end = at;
        return ADZE_OK;
    }
    REFUSE_UNLESS(!seen, "bad_zip", "bytes behind the end of the archive");
    REFUSE_UNLESS(false, "truncated", "the archive has no end record: the file is cut");
done:
    return st;
}

/* A short field equals its wide one, or holds all ones. */
static bool agree(uint64_t narrow, uint64_t wide, uint64_t ones) { return narrow == wide || narrow == ones; }

static adze_status read_end(const unsigned char *p, size_t n, directory *dir)
{
    adze_status st = ADZE_OK;
    size_t end = 0;
    TRY(find_end(p, n, &end));
    const unsigned char *e = p + end;
    uint32_t disk = little_u16(e + 4), dir_disk = little_u16(e + 6);
    uint64_t here = little_u16(e + 8), before = end;
    *dir = (directory){ .count = little_u16(e + 10), .n_bytes = little_u32(e + 12), .at = little_u32(e + 16) };
    if (end >= LOCATOR_BYTES && has_sign(e - LOCATOR_BYTES, 6, 7)) { /* torch writes one into every file */
        const unsigned char *loc = e - LOCATOR_BYTES;
        uint64_t at = little_u64(loc + 8);
        REFUSE_UNLESS(little_u32(loc + 4) == 0 && little_u32(loc + 16) <= 1, "bad_zip", "the archive spans several disks");
        REFUSE_UNLESS(end - LOCATOR_BYTES >= END64_BYTES && at <= end - LOCATOR_BYTES - END64_BYTES && has_sign(p + at, 6, 6),
                      "bad_zip", "no ZIP64 end record where its locator points");
        const unsigned char *w = p + at;
        REFUSE_UNLESS(little_u64(w + 4) == end - LOCATOR_BYTES - at - 12, "bad_zip", "the ZIP64 end record has a wrong size");
        directory wide = { .count = little_u64(w + 32), .n_bytes = little_u64(w + 40), .at = little_u64(w + 48) };
        REFUSE_UNLESS(agree(disk, little_u32(w + 16), 0xffff) && agree(dir_disk, little_u32(w + 20), 0xffff) &&
                          agree(here, little_u64(w + 24), 0xffff) && agree(dir->count, wide.count, 0xffff) &&
                          agree(dir->n_bytes, wide.n_bytes, 0xffffffff) && agree(dir->at, wide.at, 0xffffffff),
                      "bad_zip", "the two end records disagree");
        disk = little_u32(w + 16), dir_disk = little_u32(w + 20), here = little_u64(w + 24);
        *dir = wide;
        before = at;
    }
    REFUSE_UNLESS(disk == 0 && dir_disk == 0 && here == dir->count, "bad_zip", "the archive spans several disks");
    REFUSE_UNLESS(dir->at <= before && dir->n_bytes == before - dir->at, "bad_zip",
                  "the directory of %llu bytes at %llu does not end at %llu", (unsigned long long)dir->n_bytes,
                  (unsigned long long)dir->at, (unsigned long long)before);
    REFUSE_UNLESS(dir->count <= MAX_MEMBERS, "limit", "%llu members, at most %d are read", (unsigned long long)dir->count,
                  MAX_MEMBERS);
    REFUSE_UNLESS(dir->count <= dir->n_bytes / CENTRAL_BYTES, "bad_zip", "%llu members cannot stand in %llu bytes",
                  (unsigned long long)dir->count, (unsigned long long)dir->n_bytes);
done:
    return st;
}

/* 64-bit values of a central entry that hold all ones in the short fields. */
static adze_status read_wide(const unsigned char *extra, size_t n, adze_archive_member *m, uint32_t *disk)
{
    adze_status st = ADZE_OK;
    bool want_full = m->full_bytes == 0xffffffff, want_stored = m->stored_bytes == 0xffffffff;
    bool want_at = m->local_at == 0xffffffff, want_disk = *disk == 0xffff;
    size_t want = 8u * (want_full + want_stored + want_at) + 4u * want_disk;
    if (want == 0) goto done;
    while (n >= 4) {
        size_t field = little_u16(extra + 2);
        REFUSE_UNLESS(field <= n - 4, "bad_zip", "an extra field reaches beyond its entry");
        const unsigned char *p = extra + 4;
        if (little_u16(extra) == 1) {
            REFUSE_UNLESS(field >= want, "bad_zip", "a ZIP64 field of %zu bytes, want %zu", field, want);
            if (want_full) m->full_bytes = little_u64(p), p += 8;
            if (want_stored) m->stored_bytes = little_u64(p), p += 8;
            if (want_at) m->local_at = little_u64(p), p += 8;
            if (want_disk) *disk = little_u32(p);
            goto done;
        }
        extra += 4 + field;
        n -= 4 + field;
    }
    REFUSE_UNLESS(false, "bad_zip", "an entry without the ZIP64 field that its sizes ask for");
done:
    return st;
}

/* Data offset from the local header, which must name the same member. */
static adze_status read_local(const adze_archive *a, uint64_t dir_at, adze_archive_member *m)
{
    adze_status st = ADZE_OK;
    char shown[SHOWN_NAME];
    shown_name(m->name, m->name_bytes, shown);
    REFUSE_UNLESS(m->local_at <= dir_at && dir_at - m->local_at >= LOCAL_BYTES, "bad_zip",
                  "member '%s' begins outside the archive", shown);
    const unsigned char *p = a->data + m->local_at;
    REFUSE_UNLESS(has_sign(p, 3, 4), "bad_zip", "member '%s' has no local header", shown);
    REFUSE_UNLESS(!(little_u16(p + 6) & (FLAG_ENCRYPTED | FLAG_STRONG | FLAG_MASKED)), "bad_zip",
                  "member '%s' is encrypted", shown);
    REFUSE_UNLESS(little_u16(p + 8) == m->method, "bad_zip", "member '%s' has two compression methods", shown);
    size_t name = little_u16(p + 26), extra = little_u16(p + 28);
    m->data_at = m->local_at + LOCAL_BYTES + name + extra;
    REFUSE_UNLESS(m->data_at <= dir_at && m->stored_bytes <= dir_at - m->data_at, "bad_zip",
                  "member '%s' of %llu bytes reaches beyond the archive", shown, (unsigned long long)m->stored_bytes);
    REFUSE_UNLESS(name == m->name_bytes && memcmp(p + LOCAL_BYTES, m->name, name) == 0, "bad_zip",
                  "member '%s' has another name in its local header", shown);
done:
    return st;
}

static adze_status read_directory(adze_archive *a, const directory *dir)
{
    adze_status st = ADZE_OK;
    char shown[SHOWN_NAME];
    const unsigned char *p = a->data + dir->at, *end = p + dir->n_bytes;
    for (uint64_t i = 0; i < dir->count; i++) {
        REFUSE_UNLESS(end - p >= CENTRAL_BYTES && has_sign(p, 1, 2), "bad_zip", "entry %llu of the directory is damaged",
                      (unsigned long long)i);
        size_t name = little_u16(p + 28), extra = little_u16(p + 30), comment = little_u16(p + 32);
        uint32_t disk = little_u16(p + 34), flags = little_u16(p + 8);
        REFUSE_UNLESS((size_t)(end - p) - CENTRAL_BYTES >= name + extra + comment, "bad_zip",
                      "entry %llu of the directory is cut", (unsigned long long)i);
        adze_archive_member *m = &a->member[a->count++];
        *m = (adze_archive_member){ .name = (const char *)p + CENTRAL_BYTES, .name_bytes = name,
                                    .method = little_u16(p + 10), .crc = little_u32(p + 16),
                                    .stored_bytes = little_u32(p + 20), .full_bytes = little_u32(p + 24),
                                    .local_at = little_u32(p + 42) };
        shown_name(m->name, name, shown);
        TRY(read_wide(p + CENTRAL_BYTES + name, extra, m, &disk));
        REFUSE_UNLESS(disk == 0, "bad_zip", "member '%s' lies on another disk", shown);
        REFUSE_UNLESS(!(flags & (FLAG_ENCRYPTED | FLAG_STRONG | FLAG_MASKED)), "bad_zip", "member '%s' is encrypted", shown);
        REFUSE_UNLESS(m->method != 0 || m->stored_bytes == m->full_bytes, "bad_zip",
                      "member '%s' is stored, yet has two sizes", shown);
        TRY(read_local(a, dir->at, m));
        p += CENTRAL_BYTES + name + extra + comment;
    }
    REFUSE_UNLESS(p == end, "bad_zip", "%td bytes behind the last entry of the directory", end - p);
done:
    return st;
}

static int by_offset(const void *a, const void *b)
{
    const adze_archive_member *x = a, *y = b;
    return x->local_at < y->local_at ? -1 : x->local_at > y->local_at;
}

static int compare_names(const char *a, size_t n, const char *b, size_t m)
{
    int order = memcmp(a, b, n < m ? n : m);
    return order ? order : n < m ? -1 : n > m;
}

static int by_name(const void *a, const void *b)
{
    const adze_archive_member *x = a, *y = b;
    return compare_names(x->name, x->name_bytes, y->name, y->name_bytes);
}

adze_status adze_archive_open(adze_archive *a, const void *data, size_t n_bytes)
{
    adze_status st = ADZE_OK;
    char shown[SHOWN_NAME];
    directory dir;
    *a = (adze_archive){ .data = data, .n_bytes = n_bytes };
    TRY(read_end(a->data, n_bytes, &dir));
    REQUIRE(a->member = adze_malloc(dir.count * sizeof *a->member), ADZE_ENOMEM, "zip directory: no memory for %llu entries",
            (unsigned long long)dir.count);
    TRY(read_directory(a, &dir));
    if (a->count > 0) qsort(a->member, a->count, sizeof *a->member, by_offset);
    for (size_t i = 1; i < a->count; i++) {
        const adze_archive_member *m = &a->member[i - 1];
        REFUSE_UNLESS(m->data_at + m->stored_bytes <= a->member[i].local_at, "bad_zip", "member '%s' overlaps the next one",
                      shown_name(m->name, m->name_bytes, shown));
    }
    if (a->count > 0) qsort(a->member, a->count, sizeof *a->member, by_name);
    for (size_t i = 1; i < a->count; i++)
        REFUSE_UNLESS(by_name(&a->member[i - 1], &a->member[i]) != 0, "duplicate", "member '%s' is there twice",
                      shown_name(a->member[i].name, a->member[i].name_bytes, shown));
done:
    if (st != ADZE_OK) adze_archive_close(a);
    return st;
}

void adze_archive_close(adze_archive *a)
{
    adze_free(a->member);
    *a = (adze_archive){ 0 };
}

const adze_archive_member *adze_archive_find(const adze_archive *a, const char *name, size_t name_bytes)
{
    size_t lo = 0, hi = a->count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        const adze_archive_member *m = &a->member[mid];
        int order = compare_names(m->name, m->name_bytes, name, name_bytes);
        if (order == 0) return m;
        if (order < 0) lo = mid + 1;
        else hi = mid;
    }
    return NULL;
}

static uint32_t crc_of(const unsigned char *p, uint64_t n)
{
    return (uint32_t)crc32_z(crc32_z(0, NULL, 0), p, (z_size_t)n);
}

bool adze_archive_crc_ok(const adze_archive *a, const adze_archive_member *m)
{
    return crc_of(a->data + m->data_at, m->stored_bytes) == m->crc;
}

static void *z_take(void *user, unsigned items, unsigned size) { return (void)user, adze_calloc(items, size); }
static void z_give(void *user, void *p) { (void)user, adze_free(p); }

/* Raw deflate into exactly `n` bytes. The input is fed in pieces that fit zlib's 32-bit counters. */
static adze_status inflate_member(const unsigned char *from, uint64_t from_bytes, unsigned char *to, uint64_t n,
                                  const char *shown)
{
    adze_status st = ADZE_OK;
    z_stream z = { .zalloc = z_take, .zfree = z_give };
    uint64_t have = 0, used = 0;
    unsigned char extra;
    int code = Z_OK;
    REQUIRE(inflateInit2(&z, -15) == Z_OK, ADZE_ENOMEM, "member '%s': no memory to inflate", shown);
    while (code == Z_OK) {
        uint64_t in = from_bytes - used < 1u << 30 ? from_bytes - used : 1u << 30;
        uint64_t room = n - have < 1u << 30 ? n - have : 1u << 30;
        z.next_in = (unsigned char *)from + used, z.avail_in = (unsigned)in;
        z.next_out = room ? to + have : &extra, z.avail_out = room ? (unsigned)room : 1;
        code = inflate(&z, Z_NO_FLUSH);
        used += in - z.avail_in;
        if (room == 0 && z.avail_out == 0) break; /* more than the directory says */
        have += room ? room - z.avail_out : 0;
    }
    bool whole = code == Z_STREAM_END && have == n && used == from_bytes;
    inflateEnd(&z);
    REQUIRE(code != Z_MEM_ERROR, ADZE_ENOMEM, "member '%s': no memory to inflate", shown);
    REFUSE_UNLESS(whole, "bad_zip", "member '%s' does not inflate to the %llu bytes that the directory says", shown,
                  (unsigned long long)n);
done:
    return st;
}

adze_status adze_archive_read(const adze_archive *a, const adze_archive_member *m, size_t limit_bytes, bool check_crc,
                              const unsigned char **data, unsigned char **owned)
{
    adze_status st = ADZE_OK;
    char shown[SHOWN_NAME];
    const unsigned char *from = a->data + m->data_at;
    unsigned char *to = NULL;
    *data = NULL;
    *owned = NULL;
    shown_name(m->name, m->name_bytes, shown);
    REFUSE_UNLESS(m->method == 0 || m->method == 8, "bad_zip", "member '%s' has the compression method %d", shown, m->method);
    REFUSE_UNLESS(m->full_bytes <= limit_bytes, "limit", "member '%s' has %llu bytes, the limit is %zu", shown,
                  (unsigned long long)m->full_bytes, limit_bytes);
    if (m->method == 8) { /* deflate packs at most 1032 to 1: a bolder size is a lie, and is not allocated */
        REFUSE_UNLESS(m->full_bytes / 1033 <= m->stored_bytes, "bad_zip", "member '%s' cannot inflate from %llu to %llu bytes",
                      shown, (unsigned long long)m->stored_bytes, (unsigned long long)m->full_bytes);
        REQUIRE(to = adze_malloc(m->full_bytes), ADZE_ENOMEM, "member '%s': %llu host bytes", shown,
                (unsigned long long)m->full_bytes);
        TRY(inflate_member(from, m->stored_bytes, to, m->full_bytes, shown));
        from = to;
    }
    REFUSE_UNLESS(!check_crc || crc_of(from, m->full_bytes) == m->crc, "bad_zip", "member '%s' has a wrong checksum", shown);
    *data = from;
    *owned = to;
    to = NULL;
done:
    adze_free(to);
    return st;
}
