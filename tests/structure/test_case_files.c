/* test_case_files.c - every case file kept in tests/golden is JSON with a kind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <ftw.h>
#include <jansson.h>

static int n_files, n_bad;

static int check(const char *path, const struct stat *info, int type, struct FTW *where)
{
    (void)info, (void)where;
    const size_t n = strlen(path);
    if (type != FTW_F || n < 5 || strcmp(path + n - 5, ".json") != 0) return 0;
    json_error_t why = { .text = "no setup.kind" };
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &why);
    n_files++;
    if (!json_is_string(json_object_get(json_object_get(root, "setup"), "kind"))) {
        print_error("%s:%d: %s\n", path, why.line, why.text);
        n_bad++;
    }
    json_decref(root);
    return 0;
}

static void case_files_are_cases(void **state)
{
    (void)state;
    assert_int_equal(nftw("tests/golden", check, 8, FTW_PHYS), 0);
    assert_true(n_files > 0);
    assert_int_equal(n_bad, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(case_files_are_cases) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
