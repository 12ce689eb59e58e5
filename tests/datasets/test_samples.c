/* test_samples.c - the committed sample data are complete and readable. */
#include "datasets/loader.h"
#include "tests/datasets/made_up.h"

static void samples_are_complete(void **state)
{
    (void)state;
    adze_dataset *ds;
    adze_loader *l;
    const adze_sample *s;
    int64_t n_train, n_test, n_problems, n_bad = 0, n_good = 0;
    adze_status st = adze_dataset_open(&ds, "datasets/samples", NULL);
    if (st != ADZE_OK) print_error("%s (run from the source root)\n", adze_error_message());
    assert_int_equal(st, ADZE_OK);
    adze_dataset_problems(ds, &n_problems);
    assert_int_equal(n_problems, 0);
    assert_int_equal(adze_dataset_require(ds, "pcb", ADZE_SPLIT_TRAIN), ADZE_OK);
    assert_int_equal(adze_dataset_require(ds, "pcb", ADZE_SPLIT_TEST), ADZE_OK);
    adze_dataset_items(ds, "pcb", ADZE_SPLIT_TRAIN, &n_train);
    const adze_data_item *test = adze_dataset_items(ds, "pcb", ADZE_SPLIT_TEST, &n_test);
    assert_int_equal(n_train, 80);
    assert_int_equal(n_test, 62);
    adze_loader_opts o = ADZE_LOADER_OPTS;
    o.masks = true;
    assert_int_equal(adze_loader_create(&l, test, n_test, NULL, 0, &o), ADZE_OK);
    while (assert_int_equal(adze_loader_next(l, &s), ADZE_OK), s) {
        assert_non_null(s->mask);
        bool touched = memchr(s->mask, 1, 256 * 256) != NULL;
        assert_int_equal(touched, s->item->label == ADZE_LABEL_BAD);
        n_bad += touched, n_good += !touched;
    }
    assert_int_equal(n_good, 20);
    assert_int_equal(n_bad, 42);
    adze_loader_destroy(l);
    adze_dataset_destroy(ds);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(samples_are_complete) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
