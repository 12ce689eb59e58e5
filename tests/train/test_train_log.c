/* test_train_log.c - train.csv: columns, numbers, what a resume keeps. */
#include <math.h>
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
#include "train/train_log.h"

static char folder[] = "/tmp/adze-log-XXXXXX", path[64];
static const char *const terms[] = { "cosine/layer1", "cosine/layer2" };

static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(folder)) return -1;
    snprintf(path, sizeof path, "%s/train.csv", folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

static void write_rows(adze_train_log *log, int64_t first, int64_t last)
{
    for (int64_t s = first; s <= last; s++) {
        const double term[] = { 0.25, 1.0 / 3.0 };
        const adze_train_row row = { s, 10 * s, 5e-3, 0.25 + 1.0 / 3.0, term, 17.25, 1.5 * (double)s };
        assert_int_equal(adze_train_log_row(log, &row), ADZE_OK);
    }
}

static void check_file(const char *want)
{
    unsigned char *data;
    size_t n;
    assert_int_equal(adze_file_read(path, 1 << 20, &data, &n), ADZE_OK);
    assert_string_equal((char *)data, want);
    adze_free(data);
}

#define HEAD "epoch,step,lr,loss,cosine/layer1,cosine/layer2,images_per_s,elapsed_s\n"
#define ROW(e, s, t) e "," s ",0.005,0.583333333,0.25,0.333333333,17.2," t "\n"

static void test_rows(void **state)
{
    (void)state;
    adze_train_log *log;
    assert_int_equal(adze_train_log_open(&log, path, terms, 2, -1), ADZE_OK);
    check_file(HEAD);
    write_rows(log, 1, 2);
    check_file(HEAD ROW("1", "10", "1.500") ROW("2", "20", "3.000")); /* before it is closed */
    const double bad[] = { NAN, INFINITY };
    const adze_train_row row = { 3, 30, 0.0, NAN, bad, 0.0, 4.0 };
    assert_int_equal(adze_train_log_row(log, &row), ADZE_OK);
    adze_train_log_close(log);
    check_file(HEAD ROW("1", "10", "1.500") ROW("2", "20", "3.000") "3,30,0,nan,nan,inf,0.0,4.000\n");
    assert_int_equal(adze_train_log_open(&log, path, NULL, 0, -1), ADZE_OK);
    adze_train_log_close(log);
    check_file("epoch,step,lr,loss,images_per_s,elapsed_s\n");
}

static void test_resume(void **state)
{
    (void)state;
    static const char *const torn[] = { "", "4,4", "4,40,0.005,0.5,0.25,0.3333,17.2,6.0", "\n", "nonsense\n1,1\n" };
    for (size_t k = 0; k < sizeof torn / sizeof *torn; k++) {
        adze_train_log *log;
        assert_int_equal(adze_train_log_open(&log, path, terms, 2, -1), ADZE_OK);
        write_rows(log, 1, 3);
        adze_train_log_close(log);
        FILE *raw = fopen(path, "ab");
        fputs(torn[k], raw);
        fclose(raw);
        assert_int_equal(adze_train_log_open(&log, path, terms, 2, k ? 1000 : 20), ADZE_OK);
        assert_true(adze_train_log_elapsed_s(log) == (k ? 4.5 : 3.0));
        write_rows(log, k ? 4 : 3, 4);
        adze_train_log_close(log);
        check_file(HEAD ROW("1", "10", "1.500") ROW("2", "20", "3.000") ROW("3", "30", "4.500") ROW("4", "40", "6.000"));
    }
}

static void test_resume_without_file(void **state)
{
    (void)state;
    adze_train_log *log;
    static const char *const begun[] = { NULL, "", "epoch,st" };
    for (int k = 0; k < 3; k++) {
        unlink(path);
        if (begun[k]) assert_int_equal(adze_file_write(path, begun[k], strlen(begun[k])), ADZE_OK);
        assert_int_equal(adze_train_log_open(&log, path, terms, 2, 50), ADZE_OK);
        assert_true(adze_train_log_elapsed_s(log) == 0.0);
        adze_train_log_close(log);
        check_file(HEAD);
    }
}

static void test_refusals(void **state)
{
    (void)state;
    adze_train_log *log;
    static const char *const bad[] = { "", "a,b", "=1", "-x", "a\nb", "\"q\"", "+1" };
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        assert_int_equal(adze_train_log_open(&log, path, &bad[k], 1, -1), ADZE_EINVAL);
        assert_null(log);
    }
    assert_int_equal(adze_train_log_open(&log, path, terms, 2, -1), ADZE_OK);
    write_rows(log, 1, 1);
    adze_train_log_close(log);
    assert_int_equal(adze_train_log_open(&log, path, terms, 1, 10), ADZE_EINPUT);
    assert_non_null(strstr(adze_error_message(), "cosine/layer2"));
    check_file(HEAD ROW("1", "10", "1.500")); /* untouched */
    assert_int_equal(adze_train_log_open(&log, "/nowhere/at/all", terms, 2, -1), ADZE_EIO);
}

static void test_memory(void **state)
{
    (void)state;
    adze_train_log *log = NULL;
    size_t live = adze_memory_live_bytes();
    int64_t n = 0;
    for (adze_status st = ADZE_ENOMEM; st != ADZE_OK; n++) {
        adze_memory_fail_after(n + 1, false);
        st = adze_train_log_open(&log, path, terms, 2, 0);
        adze_memory_fail_after(0, false);
        if (st == ADZE_OK) write_rows(log, 1, 1);
        adze_train_log_close(log);
        assert_true(st == ADZE_OK || st == ADZE_ENOMEM);
        assert_int_equal(adze_memory_live_bytes(), live);
    }
    assert_true(n > 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),     cmocka_unit_test(test_resume), cmocka_unit_test(test_resume_without_file),
        cmocka_unit_test(test_refusals), cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
