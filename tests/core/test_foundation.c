/* test_foundation.c - status messages, counted memory, scratch, SHA-256, atomic files, text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/file.h"
#include "core/hash.h"
#include "core/memory.h"
#include "core/sha256.h"
#include "core/sha256_impl.h"
#include "core/status.h"
#include "core/text.h"

static void status_keeps_the_deepest_message(void **state)
{
    (void)state;
    assert_int_equal(adze_fail(ADZE_EINPUT, "rows %d, want %d", 3, 4), ADZE_EINPUT);
    assert_string_equal(adze_error_message(), "rows 3, want 4");
    assert_int_equal(adze_fail_prefix(ADZE_EINPUT, "file %s", "a.h5"), ADZE_EINPUT);
    assert_string_equal(adze_error_message(), "file a.h5: rows 3, want 4");
    adze_fail(ADZE_EINVAL, "again: %s", adze_error_message());
    assert_string_equal(adze_error_message(), "again: file a.h5: rows 3, want 4");
}

static void exit_codes_are_the_documented_ones(void **state)
{
    (void)state;
    static const int want[] = { 0, 2, 3, 4, 4, 4, 5, 5, 5, 130 };
    for (int code = ADZE_OK; code <= ADZE_EINTERRUPTED; code++)
        assert_int_equal(adze_status_exit_code((adze_status)code), want[code]);
}

static void memory_is_counted_and_limited(void **state)
{
    (void)state;
    size_t before = adze_memory_live_bytes();
    adze_memory_peak_reset();
    void *a = adze_malloc(1000), *b = adze_calloc(10, 100);
    assert_non_null(a);
    assert_non_null(b);
    assert_int_equal((uintptr_t)a % ADZE_MEMORY_ALIGN, 0);
    assert_int_equal(adze_memory_live_bytes() - before, 2000);
    a = adze_realloc(a, 3000);
    assert_non_null(a);
    assert_int_equal(adze_memory_peak_bytes() - before, 5000); /* old and new block lived together */
    adze_memory_limit_set(adze_memory_live_bytes() + 100);
    assert_null(adze_malloc(101));
    void *c = adze_malloc(100);
    assert_non_null(c);
    adze_memory_limit_set(0);
    adze_free(a), adze_free(b), adze_free(c), adze_free(NULL);
    assert_int_equal(adze_memory_live_bytes(), before);
    assert_null(adze_calloc(SIZE_MAX / 2, 3));
}

static void allocations_fail_on_request(void **state)
{
    (void)state;
    adze_memory_fail_after(2, false);
    void *a = adze_malloc(8), *b = adze_malloc(8), *c = adze_malloc(8);
    assert_true(a != NULL && b == NULL && c != NULL);
    adze_memory_fail_after(1, true);
    assert_null(adze_malloc(8));
    assert_null(adze_malloc(8));
    adze_memory_fail_after(0, false);
    adze_free(a), adze_free(c);
}

static void scratch_gives_back_in_reverse_order(void **state)
{
    (void)state;
    adze_scratch s;
    assert_int_equal(adze_scratch_create(&s, 256), ADZE_OK);
    void *a = adze_scratch_take(&s, 1);
    size_t mark = adze_scratch_mark(&s);
    void *b = adze_scratch_take(&s, 192);
    assert_true(a != NULL && b != NULL);
    assert_null(adze_scratch_take(&s, 1));
    adze_scratch_reset(&s, mark);
    assert_ptr_equal(adze_scratch_take(&s, 64), b);
    assert_int_equal(s.peak_bytes, 256);
    adze_scratch_destroy(&s);
}

static void sha256_gives_the_published_digests(void **state)
{
    (void)state;
    char hex[ADZE_SHA256_HEX];
    adze_sha256_of("abc", 3, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    adze_sha256_of("", 0, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    adze_sha256 s;
    unsigned char digest[ADZE_SHA256_BYTES];
    adze_sha256_init(&s);
    for (int i = 0; i < 1000000; i += 125) {
        char a[125];
        memset(a, 'a', sizeof a);
        adze_sha256_update(&s, a, sizeof a);
    }
    adze_sha256_final(&s, digest);
    adze_sha256_hex(digest, hex);
    assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

static void sha256_is_the_same_in_plain_c(void **state)
{
    (void)state;
    unsigned char x[64 * 33 + 1];
    for (size_t i = 0; i < sizeof x; i++) x[i] = (unsigned char)(adze_splitmix64(i) >> 56);
    for (size_t n_blocks = 0; n_blocks <= 33; n_blocks++) {
        adze_sha256 best, plain;
        adze_sha256_init(&best);
        adze_sha256_init(&plain);
        adze_sha256_update(&best, x + 1, 64 * n_blocks); /* not aligned */
        adze_sha256_compress_plain(plain.state, x + 1, n_blocks);
        assert_memory_equal(best.state, plain.state, sizeof best.state);
    }
}

static void hashes_agree_with_the_golden_rule(void **state)
{
    (void)state;
    assert_true(adze_fnv1a64(ADZE_FNV1A64_OFFSET, "a", 1) == UINT64_C(0xaf63dc4c8601ec8c));
    assert_true(adze_splitmix64(0) == UINT64_C(0xe220a8397b1dcdaf));
}

static void files_are_old_or_new(void **state)
{
    (void)state;
    char dir[] = "/tmp/adze-test-XXXXXX";
    assert_non_null(mkdtemp(dir));
    char *deep = adze_path_join(dir, "a/b/"), *path = adze_path_join(deep, "x.txt");
    assert_int_equal(adze_folder_create(deep), ADZE_OK);
    assert_int_equal(adze_folder_create(deep), ADZE_OK);
    assert_int_equal(adze_file_write(path, "hello", 5), ADZE_OK);
    unsigned char *data;
    size_t n;
    assert_int_equal(adze_file_read(path, 5, &data, &n), ADZE_OK);
    assert_int_equal(n, 5);
    assert_string_equal((char *)data, "hello");
    adze_free(data);
    assert_int_equal(adze_file_read(path, 4, &data, &n), ADZE_EINPUT);
    assert_null(data);
    assert_int_equal(adze_file_read(deep, 100, &data, &n), ADZE_EINPUT);
    char *tmp = adze_strprintf("%s.tmp", path);
    assert_false(adze_file_exists(tmp));
    assert_int_equal(adze_file_write("/proc/nowhere/x", "a", 1), ADZE_EIO);
    assert_non_null(strstr(adze_error_message(), "/proc/nowhere/x"));
    adze_free(tmp), adze_free(path), adze_free(deep);
    char *rm = adze_strprintf("rm -r %s", dir);
    assert_int_equal(system(rm), 0);
    adze_free(rm);
}

static void program_folder_is_this_one(void **state)
{
    (void)state;
    char *folder;
    assert_int_equal(adze_program_folder(&folder), ADZE_OK);
    char *self = adze_path_join(folder, "test_foundation");
    assert_true(adze_file_exists(self));
    adze_free(self), adze_free(folder);
}

static void text_grows_and_reports_lost_memory(void **state)
{
    (void)state;
    adze_text t = ADZE_TEXT_EMPTY;
    for (int i = 0; i < 1000; i++) adze_text_printf(&t, "%d,", i);
    assert_int_equal(t.n_bytes, 10 * 2 + 90 * 3 + 900 * 4);
    assert_int_equal(adze_text_check(&t, "list"), ADZE_OK);
    adze_memory_fail_after(1, false);
    for (int i = 0; i < 100000 && !t.failed; i++) adze_text_append(&t, "0123456789");
    assert_int_equal(adze_text_check(&t, "list"), ADZE_ENOMEM);
    adze_text_destroy(&t);
    assert_int_equal(adze_text_distance("backbone", "bakcbone"), 1);
    assert_int_equal(adze_text_distance("", "abc"), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(status_keeps_the_deepest_message),
        cmocka_unit_test(exit_codes_are_the_documented_ones),
        cmocka_unit_test(memory_is_counted_and_limited),
        cmocka_unit_test(allocations_fail_on_request),
        cmocka_unit_test(scratch_gives_back_in_reverse_order),
        cmocka_unit_test(sha256_gives_the_published_digests),
        cmocka_unit_test(sha256_is_the_same_in_plain_c),
        cmocka_unit_test(hashes_agree_with_the_golden_rule),
        cmocka_unit_test(files_are_old_or_new),
        cmocka_unit_test(program_folder_is_this_one),
        cmocka_unit_test(text_grows_and_reports_lost_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
