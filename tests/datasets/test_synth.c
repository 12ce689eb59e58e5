/* test_synth.c - the procedural data set: same seed same bytes, no two products alike, masks where the pictures differ. */
#include "core/sha256.h"
#include "datasets/check.h"
#include "datasets/synth.h"
#include "tests/datasets/made_up.h"

static adze_synth_opts small(void)
{
    adze_synth_opts o = ADZE_SYNTH_OPTS;
    o.n_classes = 2, o.n_train = 3, o.n_test_good = 2, o.n_test_bad = 5, o.size = 64;
    return o;
}

/* The bytes are part of the interface: tests elsewhere may rely on them. Only correctly rounded arithmetic is used. */
static void bytes_are_fixed(void **state)
{
    (void)state;
    char hex[ADZE_SHA256_HEX], again[ADZE_SHA256_HEX];
    adze_synth_opts o = small();
    adze_sha256 hash;
    unsigned char digest[ADZE_SHA256_BYTES];
    for (int pass = 0; pass < 2; pass++) {
        adze_sha256_init(&hash);
        for (int kind = 0; kind < ADZE_SYNTH_COUNT; kind++) {
            adze_image picture, mask;
            assert_int_equal(adze_synth_picture(&picture, &mask, &o, 1, 7, kind), ADZE_OK);
            adze_sha256_update(&hash, picture.data, 64 * 64 * 3);
            adze_sha256_update(&hash, mask.data, 64 * 64);
            adze_image_destroy(&picture), adze_image_destroy(&mask);
        }
        adze_sha256_final(&hash, digest);
        adze_sha256_hex(digest, pass ? again : hex);
    }
    assert_string_equal(hex, again);
    assert_string_equal(hex, "a5f1cb8be9c84524c648dbba0fc6acd14e26365ae0a44986998fccde1b269728");
}

/* The good and the defective picture of one number are the same product: they differ where the mask says so, and at its soft edge. */
static void masks_cover_the_difference(void **state)
{
    (void)state;
    adze_synth_opts o = small();
    o.size = 128;
    for (int64_t number = 0; number < 12; number++)
        for (int kind = 1; kind < ADZE_SYNTH_COUNT; kind++) {
            adze_image good, none, bad, mask;
            int64_t marked = 0, differ = 0, missed = 0;
            assert_int_equal(adze_synth_picture(&good, &none, &o, 0, number, ADZE_SYNTH_GOOD), ADZE_OK);
            assert_int_equal(adze_synth_picture(&bad, &mask, &o, 0, number, kind), ADZE_OK);
            for (int64_t i = 0; i < 128 * 128; i++) {
                assert_int_equal(none.data[i], 0);
                bool other = memcmp(good.data + 3 * i, bad.data + 3 * i, 3) != 0;
                marked += mask.data[i] == 255;
                differ += other;
                missed += mask.data[i] == 255 && !other;
            }
            assert_true(marked >= 12);
            assert_true(missed * 20 <= marked); /* a stain or scratch may have the colour below it */
            assert_true(differ >= marked - missed && differ < 128 * 128 / 4);
            adze_image_destroy(&good), adze_image_destroy(&none), adze_image_destroy(&bad), adze_image_destroy(&mask);
        }
}

static void written_set_passes_the_check(void **state)
{
    (void)state;
    char root[64], hex[2][ADZE_SHA256_HEX];
    int64_t n;
    adze_synth_opts o = small();
    for (int pass = 0; pass < 2; pass++) {
        adze_dataset *ds;
        adze_check *c;
        make_root(root);
        assert_int_equal(adze_synth_write(root, &o), ADZE_OK);
        assert_int_equal(adze_dataset_open(&ds, root, NULL), ADZE_OK);
        assert_int_equal(adze_dataset_manifest(ds, NULL, hex[pass]), ADZE_OK);
        adze_check_opts how = ADZE_CHECK_OPTS;
        how.size = 64;
        assert_int_equal(adze_check_create(&c, ds, &how), ADZE_OK);
        const adze_data_problem *p = adze_check_problems(c, &n);
        for (int64_t i = 0; i < n; i++) print_error("%s: %s\n", p[i].path, p[i].text);
        assert_int_equal(n, 0);
        const adze_check_class *k = adze_check_classes(c, &n);
        assert_int_equal(n, 2);
        for (int64_t i = 0; i < n; i++) {
            assert_int_equal(k[i].n_train, 3);
            assert_int_equal(k[i].n_test_good, 2);
            assert_int_equal(k[i].n_test_bad, 5);
            assert_int_equal(k[i].n_masks, 5);
            assert_int_equal(k[i].n_defects, 4);
        }
        adze_check_destroy(c);
        adze_dataset_destroy(ds);
        drop_root(root);
    }
    assert_string_equal(hex[0], hex[1]);
}

static void numbers_out_of_range_are_refused(void **state)
{
    (void)state;
    adze_image picture, mask;
    adze_synth_opts o = small();
    o.size = 31;
    assert_int_equal(adze_synth_picture(&picture, &mask, &o, 0, 0, ADZE_SYNTH_GOOD), ADZE_EINVAL);
    o = small();
    assert_int_equal(adze_synth_picture(&picture, &mask, &o, 0, 0, ADZE_SYNTH_COUNT), ADZE_EINVAL);
    o.n_classes = 0;
    assert_int_equal(adze_synth_write("/proc/nowhere", &o), ADZE_EINVAL);
    o = small();
    assert_int_equal(adze_synth_write("/proc/nowhere", &o), ADZE_EIO);
    adze_memory_fail_after(2, false);
    assert_int_equal(adze_synth_picture(&picture, &mask, &o, 0, 0, ADZE_SYNTH_GOOD), ADZE_ENOMEM);
    adze_memory_fail_after(0, false);
    assert_null(picture.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_fixed),
        cmocka_unit_test(masks_cover_the_difference),
        cmocka_unit_test(written_set_passes_the_check),
        cmocka_unit_test(numbers_out_of_range_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
