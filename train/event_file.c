/* event_file.c - TensorBoard event files. Entry: adze_event_file_scalars(). An event is tens of bytes: a table of 16 entries
 * is enough for its checksum. */
#include "train/event_file.h"

#include <string.h>
#include <time.h>

#include "core/file.h"
#include "core/memory.h"
#include "core/text.h"
#include "train/append_file.h"

enum { HEAD_BYTES = 12, TAIL_BYTES = 4 };

struct adze_event_file {
    adze_append_file file;
    adze_text value, summary, record; /* reused: later events allocate nothing */
};

uint32_t adze_crc32c(const void *data, size_t n_bytes)
{
    static const uint32_t table[16] = {
        0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
        0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
    };
    const unsigned char *p = data;
    uint32_t c = UINT32_MAX;
    for (size_t i = 0; i < n_bytes; i++) {
        c ^= p[i];
        c = table[c & 15] ^ c >> 4;
        c = table[c & 15] ^ c >> 4;
    }
    return ~c;
}

uint32_t adze_crc32c_masked(const void *data, size_t n_bytes)
{
    uint32_t c = adze_crc32c(data, n_bytes);
    return (c >> 15 | c << 17) + UINT32_C(0xa282ead8);
}

/* ---- writing ---- */

static void put_little(adze_text *t, uint64_t v, int n_bytes)
{
    unsigned char b[8];
    for (int i = 0; i < n_bytes; i++) b[i] = (unsigned char)(v >> 8 * i);
    adze_text_append_n(t, (const char *)b, (size_t)n_bytes);
}

static void put_varint(adze_text *t, uint64_t v)
{
    for (; v >= 128; v >>= 7) put_little(t, (v & 127) | 128, 1);
    put_little(t, v, 1);
}

/* A field of wire type 2. */
static void put_bytes(adze_text *t, int field, const char *s, size_t n_bytes)
{
    put_varint(t, (uint64_t)field << 3 | 2);
    put_varint(t, n_bytes);
    adze_text_append_n(t, s, n_bytes);
}

static void begin_event(adze_event_file *e, double wall_s, int64_t step)
{
    uint64_t bits;
    struct timespec now;
    if (wall_s == 0.0) {
        clock_gettime(CLOCK_REALTIME, &now);
        wall_s = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    }
    memcpy(&bits, &wall_s, sizeof bits);
    e->record.n_bytes = 0;
    put_little(&e->record, 0, HEAD_BYTES - 4); /* the head is filled in at the end */
    put_little(&e->record, 0, 4);
    put_varint(&e->record, 1 << 3 | 1);
    put_little(&e->record, bits, 8);
    put_varint(&e->record, 2 << 3 | 0);
    put_varint(&e->record, (uint64_t)step);
}

static adze_status end_event(adze_event_file *e)
{
    adze_status st = ADZE_OK;
    TRY(adze_text_check(&e->record, "an event"));
    uint64_t n = e->record.n_bytes - HEAD_BYTES;
    unsigned char *head = (unsigned char *)e->record.s;
    for (int i = 0; i < 8; i++) head[i] = (unsigned char)(n >> 8 * i);
    uint32_t crc = adze_crc32c_masked(head, 8);
    for (int i = 0; i < 4; i++) head[8 + i] = (unsigned char)(crc >> 8 * i);
    put_little(&e->record, adze_crc32c_masked(head + HEAD_BYTES, (size_t)n), 4);
    TRY(adze_text_check(&e->record, "an event"));
    TRY(adze_append_file_write(&e->file, e->record.s, e->record.n_bytes));
done:
    return st;
}

adze_status adze_event_file_scalars(adze_event_file *e, int64_t step, double wall_s, int n, const char *const *tag,
                                    const double *value)
{
    adze_status st = ADZE_OK;
    e->summary.n_bytes = 0;
    for (int i = 0; i < n; i++) {
        float rounded = (float)value[i];
        uint32_t bits;
        memcpy(&bits, &rounded, sizeof bits);
        e->value.n_bytes = 0;
        put_bytes(&e->value, 1, tag[i], strlen(tag[i]));
        put_varint(&e->value, 2 << 3 | 5);
        put_little(&e->value, bits, 4);
        TRY(adze_text_check(&e->value, "an event"));
        put_bytes(&e->summary, 1, e->value.s, e->value.n_bytes);
    }
    TRY(adze_text_check(&e->summary, "an event"));
    begin_event(e, wall_s, step);
    put_bytes(&e->record, 5, n ? e->summary.s : "", e->summary.n_bytes);
    TRY(end_event(e));
done:
    return st;
}

/* ---- reading, as far as cutting needs it ---- */

static uint64_t get_little(const unsigned char *p, int n_bytes)
{
    uint64_t v = 0;
    for (int i = 0; i < n_bytes; i++) v |= (uint64_t)p[i] << 8 * i;
    return v;
}

static bool get_varint(const unsigned char **p, const unsigned char *end, uint64_t *v)
{
    *v = 0;
    for (int shift = 0; *p < end && shift < 64; shift += 7) {
        unsigned char b = *(*p)++;
        *v |= (uint64_t)(b & 127) << shift;
        if (b < 128) return true;
    }
    return false;
}

/* False if the payload is no event. */
static bool step_of(const unsigned char *p, size_t n_bytes, int64_t *step)
{
    const unsigned char *end = p + n_bytes;
    *step = 0;
    while (p < end) {
        uint64_t key, v = 0;
        if (!get_varint(&p, end, &key)) return false;
        uint64_t skip = (key & 7) == 1 ? 8 : (key & 7) == 5 ? 4 : 0;
        if ((key & 7) == 0 || (key & 7) == 2) {
            if (!get_varint(&p, end, &v)) return false;
        } else if (skip == 0) return false;
        if ((key & 7) == 2) skip = v;
        if (skip > (uint64_t)(end - p)) return false;
        p += skip;
        if (key == (2 << 3 | 0)) *step = (int64_t)v;
    }
    return true;
}

/* Bytes of the leading whole events of steps <= last_step. */
static size_t sound_bytes(const unsigned char *data, size_t n_bytes, int64_t last_step)
{
    size_t at = 0;
    int64_t step;
    while (n_bytes - at >= HEAD_BYTES + TAIL_BYTES) {
        const unsigned char *p = data + at;
        uint64_t n = get_little(p, 8);
        if (n > n_bytes - at - HEAD_BYTES - TAIL_BYTES || get_little(p + 8, 4) != adze_crc32c_masked(p, 8)) break;
        if (get_little(p + HEAD_BYTES + n, 4) != adze_crc32c_masked(p + HEAD_BYTES, (size_t)n)) break;
        if (!step_of(p + HEAD_BYTES, (size_t)n, &step) || step > last_step) break;
        at += HEAD_BYTES + (size_t)n + TAIL_BYTES;
    }
    return at;
}

adze_status adze_event_file_open(adze_event_file **out, const char *path, int64_t last_step)
{
    adze_status st = ADZE_OK;
    adze_event_file *e = NULL;
    unsigned char *data = NULL;
    size_t n_bytes = 0, keep = 0;
    *out = NULL;
    REQUIRE(e = adze_calloc(1, sizeof *e), ADZE_ENOMEM, "%s: %zu host bytes", path, sizeof *e);
    e->file = ADZE_APPEND_FILE_CLOSED;
    if (last_step >= 0 && adze_file_exists(path)) {
        TRY(adze_file_read(path, (size_t)1 << 31, &data, &n_bytes));
        keep = sound_bytes(data, n_bytes, last_step);
    }
    TRY(adze_append_file_open(&e->file, path, keep));
    if (keep == 0) {
        begin_event(e, 0.0, 0);
        put_bytes(&e->record, 3, "brain.Event:2", 13);
        TRY(end_event(e));
    }
    *out = e;
    e = NULL;
done:
    adze_free(data);
    adze_event_file_close(e);
    return st;
}

void adze_event_file_close(adze_event_file *e)
{
    if (!e) return;
    adze_append_file_close(&e->file);
    adze_text_destroy(&e->value);
    adze_text_destroy(&e->summary);
    adze_text_destroy(&e->record);
    adze_free(e);
}
