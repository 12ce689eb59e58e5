/* test_event_file.c - event files are decoded again, record by record; cut at every byte; opened after a resume. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#include "core/file.h"
#include "core/memory.h"
#include "train/event_file.h"

static char folder[] = "/tmp/adze-event-XXXXXX", path[64];

static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(folder)) return -1;
    snprintf(path, sizeof path, "%s/%s", folder, ADZE_EVENT_FILE_NAME);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

/* Bit by bit, from the definition. */
static uint32_t crc32c_slow(const unsigned char *p, size_t n)
{
    uint32_t c = UINT32_MAX;
    for (size_t i = 0; i < n; i++)
        for (int b = 0; b < 8; b++) {
            unsigned bit = (c ^ p[i] >> b) & 1;
            c = c >> 1 ^ (bit ? 0x82F63B78u : 0);
        }
    return ~c;
}

static void test_checksum(void **state)
{
    (void)state;
    unsigned char zeros[32] = { 0 }, rising[32];
    for (int i = 0; i < 32; i++) rising[i] = (unsigned char)i;
    assert_true(adze_crc32c("123456789", 9) == 0xe3069283u); /* the check value of the polynomial */
    assert_true(adze_crc32c(zeros, 32) == 0x8a9136aau);      /* RFC 3720, B.4 */
    assert_true(adze_crc32c(rising, 32) == 0x46dd794eu);
    assert_true(adze_crc32c("", 0) == 0);
    assert_true(adze_crc32c_masked("123456789", 9) == ((0xe3069283u >> 15 | 0xe3069283u << 17) + 0xa282ead8u));
}

typedef struct {
    int64_t step;
    double wall_s;
    int n;
    char tag[4][32], version[32];
    float value[4];
} event;

static uint64_t varint(const unsigned char **p)
{
    uint64_t v = 0;
    for (int shift = 0;; shift += 7) {
        v |= (uint64_t)(**p & 127) << shift;
        if (*(*p)++ < 128) return v;
    }
}

static void decode_value(const unsigned char *p, const unsigned char *end, event *e)
{
    while (p < end) {
        uint64_t key = varint(&p), n;
        if (key == (1 << 3 | 2)) {
            n = varint(&p);
            assert_true(n < 32);
            memcpy(e->tag[e->n], p, n);
            p += n;
        } else {
            assert_int_equal(key, 2 << 3 | 5);
            memcpy(&e->value[e->n], p, 4);
            p += 4;
        }
    }
    assert_ptr_equal(p, end);
    e->n++;
}

static void decode_event(const unsigned char *p, const unsigned char *end, event *e)
{
    memset(e, 0, sizeof *e);
    while (p < end) {
        uint64_t key = varint(&p), n;
        if (key == (1 << 3 | 1)) memcpy(&e->wall_s, p, 8), p += 8;
        else if (key == (2 << 3 | 0)) e->step = (int64_t)varint(&p);
        else if (key == (3 << 3 | 2)) {
            n = varint(&p);
            assert_true(n < 32);
            memcpy(e->version, p, n);
            p += n;
        } else {
            assert_int_equal(key, 5 << 3 | 2);
            const unsigned char *summary_end = (n = varint(&p), p + n);
            while (p < summary_end) {
                assert_int_equal(varint(&p), 1 << 3 | 2);
                n = varint(&p);
                decode_value(p, p + n, e);
                p += n;
            }
        }
    }
    assert_ptr_equal(p, end);
}

/* All events of the file; every checksum holds. */
static int decode(event *e, int most)
{
    unsigned char *data;
    size_t n_bytes, at = 0;
    int n = 0;
    assert_int_equal(adze_file_read(path, 1 << 20, &data, &n_bytes), ADZE_OK);
    while (at < n_bytes) {
        uint64_t length;
        uint32_t crc;
        assert_true(n_bytes - at >= 16 && n < most);
        memcpy(&length, data + at, 8);
        memcpy(&crc, data + at + 8, 4);
        uint32_t slow = crc32c_slow(data + at, 8);
        assert_true(crc == (slow >> 15 | slow << 17) + 0xa282ead8u);
        assert_true(length <= n_bytes - at - 16);
        memcpy(&crc, data + at + 12 + length, 4);
        slow = crc32c_slow(data + at + 12, length);
        assert_true(crc == (slow >> 15 | slow << 17) + 0xa282ead8u);
        decode_event(data + at + 12, data + at + 12 + length, &e[n++]);
        at += 16 + length;
    }
    adze_free(data);
    return n;
}

static void write_steps(adze_event_file *f, int64_t first, int64_t last)
{
    static const char *const tags[] = { "loss/total", "lr", "loss/\xc3\xa9" };
    for (int64_t s = first; s <= last; s++) {
        const double value[] = { 0.1 * (double)s, 5e-3, -1e30 };
        assert_int_equal(adze_event_file_scalars(f, s, 1700000000.25 + (double)s, 3, tags, value), ADZE_OK);
    }
}

static void test_scalars(void **state)
{
    (void)state;
    adze_event_file *f;
    event e[8];
    assert_int_equal(adze_event_file_open(&f, path, -1), ADZE_OK);
    write_steps(f, 299, 301);
    assert_int_equal(adze_event_file_scalars(f, INT64_MAX, 0.0, 0, NULL, NULL), ADZE_OK);
    adze_event_file_close(f);
    assert_int_equal(decode(e, 8), 5);
    assert_string_equal(e[0].version, "brain.Event:2");
    assert_true(e[0].wall_s > 1.7e9);
    for (int k = 1; k < 4; k++) {
        assert_int_equal(e[k].step, 298 + k);
        assert_true(e[k].wall_s == 1700000000.25 + 298 + k);
        assert_int_equal(e[k].n, 3);
        assert_string_equal(e[k].tag[0], "loss/total");
        assert_string_equal(e[k].tag[1], "lr");
        assert_true(e[k].value[0] == (float)(0.1 * (298 + k)) && e[k].value[1] == 5e-3f && e[k].value[2] == -1e30f);
    }
    assert_true(e[4].step == INT64_MAX && e[4].n == 0 && e[4].wall_s > 1.7e9);
}

/* A resumed run continues behind the last kept step, whatever lies after it. */
static void test_resume(void **state)
{
    (void)state;
    adze_event_file *f;
    event e[16];
    for (int damage = 0; damage < 3; damage++) {
        assert_int_equal(adze_event_file_open(&f, path, -1), ADZE_OK);
        write_steps(f, 1, 7);
        adze_event_file_close(f);
        if (damage) {
            FILE *raw = fopen(path, "ab");
            fwrite("\x30\0\0\0\0\0\0\0garbage behind the end of the last event", 1, damage == 1 ? 5 : 48, raw);
            fclose(raw);
        }
        assert_int_equal(adze_event_file_open(&f, path, damage ? 100 : 4), ADZE_OK);
        write_steps(f, damage ? 8 : 5, 9);
        adze_event_file_close(f);
        assert_int_equal(decode(e, 16), 10);
        for (int k = 1; k < 10; k++) assert_int_equal(e[k].step, k);
    }
}

static void test_every_cut(void **state)
{
    (void)state;
    adze_event_file *f;
    event e[16];
    unsigned char *data;
    size_t n_bytes;
    assert_int_equal(adze_event_file_open(&f, path, -1), ADZE_OK);
    write_steps(f, 1, 2);
    adze_event_file_close(f);
    assert_int_equal(adze_file_read(path, 1 << 20, &data, &n_bytes), ADZE_OK);
    for (size_t cut = 0; cut <= n_bytes; cut++)
        for (int flip = 0; flip < 2; flip++) {
            if (flip && cut < n_bytes) data[cut] ^= 0x10;
            assert_int_equal(adze_file_write(path, data, flip ? n_bytes : cut), ADZE_OK);
            if (flip && cut < n_bytes) data[cut] ^= 0x10;
            assert_int_equal(adze_event_file_open(&f, path, 100), ADZE_OK);
            write_steps(f, 3, 3);
            adze_event_file_close(f);
            int n = decode(e, 16);
            assert_true(n >= 2 && n <= 4);
            assert_int_equal(e[n - 1].step, 3);
            assert_string_equal(e[0].version, "brain.Event:2");
        }
    adze_free(data);
}

static void test_failures(void **state)
{
    (void)state;
    adze_event_file *f = NULL;
    size_t live = adze_memory_live_bytes();
    assert_int_equal(adze_event_file_open(&f, "/nowhere/at/all", -1), ADZE_EIO);
    assert_null(f);
    int64_t n = 0;
    for (adze_status st = ADZE_ENOMEM; st != ADZE_OK; n++) {
        adze_memory_fail_after(n + 1, false);
        st = adze_event_file_open(&f, path, 0);
        if (st == ADZE_OK) {
            st = adze_event_file_scalars(f, 1, 1.0, 1, (const char *const[]){ "loss" }, (const double[]){ 1.0 });
            adze_event_file_close(f);
        }
        adze_memory_fail_after(0, false);
        assert_true(st == ADZE_OK || st == ADZE_ENOMEM);
        assert_int_equal(adze_memory_live_bytes(), live);
    }
    assert_true(n > 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_checksum), cmocka_unit_test(test_scalars),  cmocka_unit_test(test_resume),
        cmocka_unit_test(test_every_cut), cmocka_unit_test(test_failures),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
