/* test_check.c - every kind of problem in one data set is reported in one run; published counts. */
#include "datasets/benchmark_counts.h"
#include "datasets/check.h"
#include "tests/datasets/made_up.h"

static void put_square(const char *root, const char *path, int64_t side, int64_t lo, int64_t hi)
{
    adze_image im;
    unsigned char *data;
    size_t n;
    assert_int_equal(adze_image_create(&im, side, side, 1), ADZE_OK);
    memset(im.data, 0, (size_t)(side * side));
    for (int64_t y = lo; y < hi; y++)
        for (int64_t x = lo; x < hi; x++) im.data[y * side + x] = 255;
    assert_int_equal(adze_image_encode_png(&im, &data, &n), ADZE_OK);
    put_bytes(root, path, data, n);
    adze_free(data);
    adze_image_destroy(&im);
}

/* Two classes; `a` holds one problem of each kind. */
static void put_problems(const char *root)
{
    char path[64];
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "a/train/good/%d.png", i);
        put_image(root, path, 64, 64, 3, (uint64_t)i);
    }
    put_bytes(root, "a/train/good/broken.png", "\x89PNG\r\n\x1a\nxxx", 11);
    put_image(root, "a/test/good/0.png", 64, 64, 3, 1); /* = train 1 */
    for (int i = 0; i < 6; i++) {
        snprintf(path, sizeof path, "a/test/hole/%d.png", i);
        put_image(root, path, 64, 64, 3, (uint64_t)i + 20);
    }
    put_square(root, "a/ground_truth/hole/0_mask.png", 64, 10, 30);
    put_square(root, "a/ground_truth/hole/1_mask.png", 63, 10, 30); /* wrong size */
    put_square(root, "a/ground_truth/hole/2_mask.png", 64, 10, 10); /* marks nothing */
    put_square(root, "a/ground_truth/hole/3_mask.png", 64, 10, 11); /* vanishes at 16 */
    put_bytes(root, "a/ground_truth/hole/4_mask.png", "not a picture", 13);
    /* 5 has no mask */
    put_bytes(root, "b/train/good/notes.txt", "x", 1);
    put_image(root, "b/test/good/0.png", 64, 64, 3, 2); /* = train 2 of a */
}

static void all_problems_come_at_once(void **state)
{
    (void)state;
    static const struct { bool is_error; const char *class_name, *path, *text; } want[] = {
        { true, "a", "a/test/good/0.png", "the same bytes as the training picture a/train/good/1.png" },
        { true, "a", "a/test/hole/1.png", "mask of 63x63 for a picture of 64x64" },
        { true, "a", "a/test/hole/2.png", "marks nothing" },
        { false, "a", "a/test/hole/3.png", "1 pixels vanishes at 16x16" },
        { true, "a", "a/test/hole/4.png", "neither PNG nor JPEG" },
        { true, "a", "a/test/hole/5.png", "without a mask" },
        { true, "a", "a/train/good/broken.png", "truncated" },
        { false, "b", "", "no defective test pictures" },
        { true, "b", "", "no training pictures" },
        { false, "b", "b/test/good/0.png", "the same bytes as the training picture a/train/good/2.png" },
    };
    char root[64];
    int64_t n;
    adze_dataset *ds;
    adze_check *c;
    make_root(root);
    put_problems(root);
    assert_int_equal(adze_dataset_open(&ds, root, NULL), ADZE_OK);
    for (int threads = 1; threads <= 4; threads += 3) {
        adze_check_opts how = ADZE_CHECK_OPTS;
        how.size = 16, how.n_threads = threads;
        assert_int_equal(adze_check_create(&c, ds, &how), ADZE_OK);
        const adze_data_problem *p = adze_check_problems(c, &n);
        for (int64_t i = 0; i < n; i++) {
            assert_true(i < (int64_t)(sizeof want / sizeof *want));
            if (strcmp(p[i].path, want[i].path) != 0 || !strstr(p[i].text, want[i].text)) print_error("%s: %s\n", p[i].path, p[i].text);
            assert_string_equal(p[i].class_name, want[i].class_name);
            assert_string_equal(p[i].path, want[i].path);
            assert_non_null(strstr(p[i].text, want[i].text));
            assert_int_equal(p[i].is_error, want[i].is_error);
        }
        assert_int_equal(n, sizeof want / sizeof *want);
        assert_int_equal(adze_check_errors(c), 7);
        assert_null(adze_check_benchmark(c));
        adze_check_destroy(c);
    }
    adze_dataset_destroy(ds);
    drop_root(root);
}

static void counts_of_a_benchmark_are_compared(void **state)
{
    (void)state;
    static const char *const mpdd[] = { "bracket_black", "bracket_brown", "connector" };
    char root[64], path[128];
    int64_t n, n_errors = 0;
    adze_dataset *ds;
    adze_check *c;
    make_root(root);
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/train/good/0.png", mpdd[i]);
        put_image(root, path, 8, 8, 3, (uint64_t)i);
        snprintf(path, sizeof path, "%s/test/good/0.png", mpdd[i]);
        put_image(root, path, 8, 8, 3, (uint64_t)i + 10);
    }
    assert_int_equal(adze_dataset_open(&ds, root, NULL), ADZE_OK);
    assert_int_equal(adze_check_create(&c, ds, NULL), ADZE_OK);
    assert_string_equal(adze_check_benchmark(c), "MPDD");
    const adze_data_problem *p = adze_check_problems(c, &n);
    for (int64_t i = 0; i < n; i++) n_errors += p[i].is_error && strstr(p[i].text, "MPDD has 289, 32, 47") != NULL;
    assert_int_equal(n_errors, 1);
    assert_int_equal(adze_check_errors(c), 3);
    adze_check_destroy(c);
    adze_dataset_destroy(ds);
    drop_root(root);
}

static void tables_add_up_to_their_totals(void **state)
{
    (void)state;
    static const char *const one_class[] = { "bottle", "candle", "rabbit_pendant", "tubes", "bolt" };
    bool complete;
    for (size_t i = 0; i < sizeof one_class / sizeof *one_class; i++) {
        const adze_benchmark *b = adze_benchmark_find(&one_class[i], 1, &complete);
        int64_t train = 0, test = 0;
        assert_non_null(b);
        assert_false(complete);
        for (int64_t k = 0; k < b->n_classes; k++) {
            train += b->classes[k].train;
            test += b->classes[k].test_good + b->classes[k].test_bad;
            if (k > 0) assert_true(strcmp(b->classes[k - 1].class_name, b->classes[k].class_name) < 0);
        }
        assert_int_equal(train, b->train);
        assert_int_equal(test, b->test);
    }
    static const char *const mixed[] = { "bottle", "candle" };
    assert_null(adze_benchmark_find(mixed, 2, &complete));
    assert_null(adze_benchmark_find(NULL, 0, &complete));
}

static void lost_memory_ends_the_check(void **state)
{
    (void)state;
    char root[64];
    adze_dataset *ds;
    make_root(root);
    put_problems(root);
    assert_int_equal(adze_dataset_open(&ds, root, NULL), ADZE_OK);
    size_t before = adze_memory_live_bytes();
    adze_check_opts how = ADZE_CHECK_OPTS;
    how.n_threads = 1;
    adze_status st = ADZE_ENOMEM;
    for (int64_t fail = 1; st != ADZE_OK; fail++) {
        adze_check *c;
        adze_memory_fail_after(fail, fail % 2);
        st = adze_check_create(&c, ds, &how);
        adze_memory_fail_after(0, false);
        assert_true(st == ADZE_OK || (st == ADZE_ENOMEM && c == NULL));
        adze_check_destroy(c);
        assert_int_equal(adze_memory_live_bytes(), before);
        assert_true(fail < 2000);
    }
    adze_dataset_destroy(ds);
    drop_root(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_problems_come_at_once),
        cmocka_unit_test(counts_of_a_benchmark_are_compared),
        cmocka_unit_test(tables_add_up_to_their_totals),
        cmocka_unit_test(lost_memory_ends_the_check),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
