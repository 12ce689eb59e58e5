/* test_feature_file.c - the growing file: what is added is found, by others too and after a crash at any moment; strangers'
 * files are refused and stay. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "checkpoints/feature_file.h"
#include "checkpoints/hdf5_file.h"
#include "core/file.h"
#include "core/memory.h"

enum { N = 7, D = 33, E = 5 };
static char folder[] = "/tmp/adze-test-XXXXXX", path[64];

static int make_folder(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/cache.h5", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

static int fresh(void **state)
{
    (void)state;
    unlink(path);
    return 0;
}

static adze_digest digest_of(int n)
{
    adze_digest d;
    for (int i = 0; i < ADZE_SHA256_BYTES; i++) d.byte[i] = (unsigned char)(n * 37 + i * i * 11 + n * i);
    return d;
}

static void fill(float *x, int n, int key, int picture)
{
    for (int i = 0; i < n; i++) x[i] = (float)(key * 10000 + picture * 100 + i);
}

/* Adds pictures from .. to - 1 under key 1 (D floats) and key 2 (E floats). */
static void add(adze_feature_file *f, int from, int to, bool commit)
{
    const adze_digest key[2] = { digest_of(1), digest_of(2) };
    const int64_t R[2] = { to - from, to - from }, width[2] = { D, E };
    float x[D];
    assert_int_equal(adze_feature_file_begin(f, 2, key, R, width), ADZE_OK);
    for (int k = 0; k < 2; k++)
        for (int i = from; i < to; i++) {
            const adze_digest picture = digest_of(100 + i);
            fill(x, (int)width[k], k + 1, i);
            assert_int_equal(adze_feature_file_write(f, k, i - from, &picture, x), ADZE_OK);
        }
    if (commit) assert_int_equal(adze_feature_file_commit(f), ADZE_OK);
}

/* All rows of pictures 0 .. n - 1 are there and right, and none of the others. */
static void expect_rows(adze_feature_file *f, int n)
{
    adze_digest picture[N];
    adze_feature_row row[N];
    const int width[2] = { D, E };
    for (int i = 0; i < N; i++) picture[i] = digest_of(100 + i);
    for (int k = 0; k < 2; k++) {
        const adze_digest key = digest_of(k + 1);
        float x[D + 1], want[D];
        assert_int_equal(adze_feature_file_find(f, &key, width[k], picture, N, row), ADZE_OK);
        for (int i = 0; i < N; i++) {
            assert_int_equal(row[i].offset >= 0, i < n);
            if (i >= n) continue;
            fill(want, width[k], k + 1, i);
            x[width[k]] = -1.0f;
            adze_feature_file_ahead(f, &row[i], width[k]);
            assert_int_equal(adze_feature_file_read(f, &key, &picture[i], &row[i], width[k], true, x), ADZE_OK);
            assert_memory_equal(x, want, (size_t)width[k] * sizeof *x);
            assert_true(x[width[k]] == -1.0f);
        }
    }
}

static void reopen(int n)
{
    adze_feature_file *f;
    assert_int_equal(adze_feature_file_open(&f, path, false), ADZE_OK);
    expect_rows(f, n);
    adze_feature_file_close(f);
}

static int64_t size_of(const char *name)
{
    struct stat info;
    assert_int_equal(stat(name, &info), 0);
    return (int64_t)info.st_size;
}

static void test_grows(void **state)
{
    (void)state;
    adze_feature_file *f, *other;
    assert_int_equal(adze_feature_file_open(&f, path, false), ADZE_OK);
    expect_rows(f, 0);
    add(f, 0, 3, true);
    expect_rows(f, 3);
    assert_int_equal(adze_feature_file_open(&other, path, false), ADZE_OK);
    add(f, 3, 6, true);
    expect_rows(other, 3); /* as it was when it was opened */
    add(other, 6, 7, true);
    expect_rows(other, 7); /* a commit looks at what others have added */
    adze_feature_file_close(other);
    adze_feature_file_close(f);
    reopen(7);
    const adze_digest key = digest_of(3), picture = digest_of(100);
    adze_feature_row row;
    assert_int_equal(adze_feature_file_open(&f, path, false), ADZE_OK);
    assert_int_equal(adze_feature_file_find(f, &key, D, &picture, 1, &row), ADZE_OK);
    assert_true(row.offset < 0);
    adze_feature_file_close(f);
}

static void test_is_hdf5(void **state)
{
    (void)state;
    adze_feature_file *f;
    adze_h5 *h;
    assert_int_equal(adze_feature_file_open(&f, path, false), ADZE_OK);
    add(f, 0, 3, true);
    adze_feature_file_close(f);
    assert_int_equal(adze_h5_open(&h, path, &(adze_h5_opts){ .unsealed = true, .limit_bytes = 1 << 20 }), ADZE_OK);
    char name[96], hex[ADZE_SHA256_HEX];
    const adze_digest key = digest_of(1);
    float x[3 * D], want[D];
    adze_sha256_hex(key.byte, hex);
    snprintf(name, sizeof name, "/%s/0/features", hex);
    assert_int_equal(adze_h5_read(h, name, ADZE_DTYPE_F32, 3 * D, x), ADZE_OK);
    fill(want, D, 1, 2);
    assert_memory_equal(x + 2 * D, want, sizeof want);
    adze_h5_destroy(h);
}

/* What was begun and not committed does not exist, and its place is used again. */
static void test_gives_up(void **state)
{
    (void)state;
    adze_feature_file *f, *other;
    assert_int_equal(adze_feature_file_open(&f, path, false), ADZE_OK);
    add(f, 0, 2, true);
    int64_t size = size_of(path);
    add(f, 2, 5, false);
    assert_true(size_of(path) > size);
    reopen(2);
    adze_feature_file_close(f);
    assert_int_equal(size_of(path), size);
    assert_int_equal(adze_feature_file_open(&f, path, false), ADZE_OK);
    assert_int_equal(adze_feature_file_open(&other, path, false), ADZE_OK);
    add(f, 2, 4, false);
    add(other, 4, 5, false); /* behind it, at the same time */
    assert_int_equal(adze_feature_file_commit(f), ADZE_OK);
    expect_rows(f, 4);
    assert_int_equal(adze_feature_file_commit(other), ADZE_OK);
    expect_rows(other, 5);
    adze_feature_file_close(f);
    adze_feature_file_close(other);
    reopen(5);
}

/* Kills a process that adds at a random moment, over and over: the file stays whole, rows come in order or not at all. */
static void test_killed(void **state)
{
    (void)state;
    uint32_t r = 42;
    int last = 0;
    for (int round = 0; round < 60; round++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            adze_feature_file *f;
            if (adze_feature_file_open(&f, path, false) != ADZE_OK) _exit(1);
            for (int n = last; n < N; n++) add(f, n, n + 1, true);
            for (;;) add(f, N - 1, N, true);
        }
        r = r * 1664525u + 1013904223u;
        usleep(500 + (r >> 8) % 20000);
        kill(pid, SIGKILL);
        int code;
        assert_int_equal(waitpid(pid, &code, 0), pid);
        assert_true(WIFSIGNALED(code));
        adze_feature_file *f;
        assert_int_equal(adze_feature_file_open(&f, path, false), ADZE_OK);
        adze_feature_row row[N];
        adze_digest picture[N];
        const adze_digest key = digest_of(1);
        for (int i = 0; i < N; i++) picture[i] = digest_of(100 + i);
        assert_int_equal(adze_feature_file_find(f, &key, D, picture, N, row), ADZE_OK);
        int n = 0;
        while (n < N && row[n].offset >= 0) n++;
        assert_true(n >= last);
        expect_rows(f, n);
        adze_feature_file_close(f);
        last = n == N ? 0 : n;
        if (n == N) unlink(path);
    }
}

static void test_together(void **state)
{
    (void)state;
    enum { PROCESSES = 4 };
    pid_t pid[PROCESSES];
    for (int p = 0; p < PROCESSES; p++) {
        pid[p] = fork();
        assert_true(pid[p] >= 0);
        if (pid[p] != 0) continue;
        adze_feature_file *f;
        if (adze_feature_file_open(&f, path, false) != ADZE_OK) _exit(1);
        for (int i = p; i < N; i += PROCESSES) add(f, i, i + 1, true);
        adze_feature_file_close(f);
        _exit(0);
    }
    for (int p = 0; p < PROCESSES; p++) {
        int code;
        assert_int_equal(waitpid(pid[p], &code, 0), pid[p]);
        assert_int_equal(code, 0);
    }
    reopen(N);
}

static void test_refuses(void **state)
{
    (void)state;
    adze_feature_file *f;
    static const char text[] = "a file of somebody else, long enough to be looked at";
    assert_int_equal(adze_file_write(path, text, sizeof text), ADZE_OK);
    assert_int_equal(adze_feature_file_open(&f, path, false), ADZE_EINPUT);
    assert_null(f);
    assert_non_null(strstr(adze_error_message(), path));
    assert_int_equal(size_of(path), sizeof text);
    adze_h5 *h;
    assert_int_equal(adze_h5_create(&h, path), ADZE_OK);
    assert_int_equal(adze_h5_set_string(h, "/", "format", "adze-model"), ADZE_OK);
    assert_int_equal(adze_h5_commit(h), ADZE_OK);
    adze_h5_destroy(h);
    assert_int_equal(adze_feature_file_open(&f, path, false), ADZE_EINPUT);
    assert_non_null(strstr(adze_error_message(), "not a feature cache"));
    assert_int_equal(adze_feature_file_open(&f, path, true), ADZE_OK);
    add(f, 0, 1, true);
    adze_feature_file_close(f);
    reopen(1);
    assert_int_equal(adze_feature_file_open(&f, "/nowhere/at/all.h5", false), ADZE_EIO);
    assert_int_equal(adze_feature_file_open(&f, folder, false), ADZE_EINPUT);
}

static void overwrite(size_t at, const void *bytes, size_t n)
{
    int fd = open(path, O_WRONLY);
    assert_true(fd >= 0 && pwrite(fd, bytes, n, (off_t)at) == (ssize_t)n);
    close(fd);
}

/* One wrong bit anywhere: the file is refused, or a row is missing or refused; never a wrong number. */
static void test_damage(void **state)
{
    (void)state;
    adze_feature_file *f;
    unsigned char *whole;
    size_t n_bytes;
    assert_int_equal(adze_feature_file_open(&f, path, false), ADZE_OK);
    add(f, 0, 3, true);
    adze_feature_file_close(f);
    assert_int_equal(adze_file_read(path, 1 << 20, &whole, &n_bytes), ADZE_OK);
    const adze_digest key = digest_of(1);
    adze_digest picture[3];
    for (int i = 0; i < 3; i++) picture[i] = digest_of(100 + i);
    int refused = 0;
    size_t last = 0;
    for (size_t at = 0; at < n_bytes; at += 1 + at % 7) {
        const unsigned char wrong = whole[at] ^ 4;
        overwrite(last, &whole[last], 1);
        overwrite(at, &wrong, 1);
        last = at;
        adze_status st = adze_feature_file_open(&f, path, false);
        if (st != ADZE_OK) {
            assert_int_equal(st, ADZE_EINPUT);
            refused++;
            continue;
        }
        adze_feature_row row[3];
        float x[D], want[D];
        assert_int_equal(adze_feature_file_find(f, &key, D, picture, 3, row), ADZE_OK);
        for (int i = 0; i < 3; i++) {
            if (row[i].offset < 0) continue;
            st = adze_feature_file_read(f, &key, &picture[i], &row[i], D, true, x);
            fill(want, D, 1, i);
            if (st == ADZE_OK) assert_memory_equal(x, want, sizeof want);
            else assert_int_equal(st, ADZE_EINPUT), refused++;
        }
        adze_feature_file_close(f);
    }
    assert_true(refused > 100);
    adze_free(whole);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    adze_feature_file *f;
    for (int64_t n = 1;; n++) {
        adze_memory_fail_after(n, false);
        adze_status st = adze_feature_file_open(&f, path, false);
        adze_memory_fail_after(0, false);
        if (st == ADZE_OK) break;
        assert_int_equal(st, ADZE_ENOMEM);
        assert_null(f);
    }
    const adze_digest key = digest_of(1);
    const int64_t R = 1, width = D;
    adze_status st = ADZE_ENOMEM;
    for (int64_t n = 1; st != ADZE_OK; n++) {
        float x[D] = { 0 };
        const adze_digest picture = digest_of(100);
        adze_memory_fail_after(n, false);
        st = adze_feature_file_begin(f, 1, &key, &R, &width);
        if (st == ADZE_OK) st = adze_feature_file_write(f, 0, 0, &picture, x);
        if (st == ADZE_OK) st = adze_feature_file_commit(f);
        adze_memory_fail_after(0, false);
        assert_true(st == ADZE_OK || st == ADZE_ENOMEM);
    }
    adze_feature_file_close(f);
    assert_int_equal(adze_memory_live_bytes(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_grows, fresh),   cmocka_unit_test_setup(test_is_hdf5, fresh),
        cmocka_unit_test_setup(test_gives_up, fresh), cmocka_unit_test_setup(test_killed, fresh),
        cmocka_unit_test_setup(test_together, fresh), cmocka_unit_test_setup(test_refuses, fresh),
        cmocka_unit_test_setup(test_damage, fresh),  cmocka_unit_test_setup(test_out_of_memory, fresh),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
