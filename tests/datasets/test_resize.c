/* test_resize.c - the SIMD paths against the plain one on odd sizes, the sheet's check vectors, what every filter keeps. */
#include "datasets/mask.h"
#include "datasets/normalize.h"
#include "datasets/resize.h"
#include "tests/datasets/made_up.h"

static bool equal(const adze_image *a, const adze_image *b)
{
    return a->H == b->H && a->W == b->W && a->C == b->C && memcmp(a->data, b->data, (size_t)(a->H * a->W * a->C)) == 0;
}

static void simd_paths_give_the_plain_bytes(void **state)
{
    (void)state;
    static const int64_t sizes[][4] = { /* from H W to H W */
        { 1, 1, 5, 7 }, { 1, 97, 31, 33 }, { 97, 1, 33, 31 }, { 31, 33, 8, 9 }, { 64, 64, 63, 65 }, { 65, 127, 64, 16 },
        { 63, 61, 256, 256 }, { 129, 200, 37, 1 }, { 200, 129, 1, 37 }, { 300, 301, 256, 256 }, { 40, 4000, 40, 3 }, { 131, 16, 7, 32 },
        { 2, 1100000, 3, 11 }, { 2, 9, 3, 1100000 } }; /* longer than the rows that are transposed */
    for (int path = ADZE_RESIZE_AVX2; path <= ADZE_RESIZE_AVX512; path++) {
        int n_run = 0;
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            for (int64_t C = 1; C <= 3; C += 2)
                for (int filter = ADZE_FILTER_BOX; filter <= ADZE_FILTER_LANCZOS; filter++) {
                    adze_image im = made_up_image(sizes[i][0], sizes[i][1], C, i), plain, fast;
                    assert_int_equal(adze_image_resize_by(&plain, &im, sizes[i][2], sizes[i][3], filter, ADZE_RESIZE_PLAIN), ADZE_OK);
                    adze_status st = adze_image_resize_by(&fast, &im, sizes[i][2], sizes[i][3], filter, path);
                    assert_true(st == ADZE_OK || st == ADZE_EBACKEND);
                    if (st == ADZE_OK) assert_true(equal(&plain, &fast));
                    n_run += st == ADZE_OK;
                    adze_image_destroy(&im), adze_image_destroy(&plain), adze_image_destroy(&fast);
                }
        if (n_run == 0) print_message("SKIPPED: this processor has no path %d\n", path);
    }
}

static void one_dimensional_vectors_of_the_sheet(void **state)
{
    (void)state;
    static unsigned char row[8] = { 0, 10, 20, 200, 255, 30, 40, 50 };
    static const struct { adze_filter filter; int64_t n; unsigned char want[4]; } cases[] = {
        { ADZE_FILTER_BILINEAR, 4, { 7, 116, 137, 43 } }, { ADZE_FILTER_BILINEAR, 3, { 24, 150, 57 } },
        { ADZE_FILTER_BICUBIC, 4, { 0, 122, 146, 33 } },  { ADZE_FILTER_BICUBIC, 3, { 15, 162, 50 } } };
    for (size_t i = 0; i < 4; i++)
        for (int vertical = 0; vertical < 2; vertical++) {
            adze_image im = { row, vertical ? 8 : 1, vertical ? 1 : 8, 1 }, y;
            assert_int_equal(adze_image_resize(&y, &im, vertical ? cases[i].n : 1, vertical ? 1 : cases[i].n, cases[i].filter), ADZE_OK);
            assert_memory_equal(y.data, cases[i].want, (size_t)cases[i].n);
            adze_image_destroy(&y);
        }
}

/* Integer weights sum to 2^22 within a few units, and half a unit is added before the cut: 0 and 255 included. */
static void constants_stay_constant(void **state)
{
    (void)state;
    for (int filter = 0; filter < ADZE_FILTER_COUNT; filter++)
        for (int v = 0; v < 256; v += 51) {
            adze_image im = made_up_image(41, 29, 3, 0), y;
            memset(im.data, v, 41 * 29 * 3);
            assert_int_equal(adze_image_resize(&y, &im, 64, 16, filter), ADZE_OK);
            for (int64_t i = 0; i < 64 * 16 * 3; i++) assert_int_equal(y.data[i], v);
            adze_image_destroy(&im), adze_image_destroy(&y);
        }
}

static void gray_before_or_after_the_resize_is_the_same(void **state)
{
    (void)state;
    for (int filter = 0; filter < ADZE_FILTER_COUNT; filter++) {
        adze_image im = made_up_image(50, 70, 1, 3), rgb, a, b, c;
        assert_int_equal(adze_image_convert(&rgb, &im, 3), ADZE_OK);
        assert_int_equal(adze_image_resize(&a, &rgb, 31, 33, filter), ADZE_OK);
        assert_int_equal(adze_image_resize(&b, &im, 31, 33, filter), ADZE_OK);
        assert_int_equal(adze_image_convert(&c, &b, 3), ADZE_OK);
        assert_true(equal(&a, &c));
        adze_image_destroy(&im), adze_image_destroy(&rgb), adze_image_destroy(&a), adze_image_destroy(&b), adze_image_destroy(&c);
    }
}

/* The sheet's table: at factor 4 a square of 3 source pixels leaves nothing, one of 5 always one pixel. */
static void small_defects_survive_as_the_sheet_says(void **state)
{
    (void)state;
    for (int n = 3; n <= 5; n += 2)
        for (int phase = 0; phase < 16; phase++) {
            adze_image im, soft;
            assert_int_equal(adze_image_create(&im, 64, 64, 1), ADZE_OK);
            memset(im.data, 0, 64 * 64);
            for (int y = 0; y < n; y++) memset(im.data + (20 + phase / 4 + y) * 64 + 20 + phase % 4, 2, (size_t)n);
            assert_int_equal(adze_mask_resize(&soft, &im, 16, 16, ADZE_FILTER_BILINEAR), ADZE_OK);
            adze_mask_counts c = adze_mask_threshold(soft.data, 256, soft.data);
            assert_int_equal(c.ones, n == 5);
            assert_true(c.touched > 0);
            adze_image_destroy(&im), adze_image_destroy(&soft);
        }
}

static void normalising_is_three_rounded_steps(void **state)
{
    (void)state;
    adze_normalize t;
    unsigned char rgb[256 * 3];
    float nhwc[256 * 3], chw[256 * 3];
    adze_normalize_init(&t, adze_imagenet_mean, adze_imagenet_std);
    for (int i = 0; i < 256 * 3; i++) rgb[i] = (unsigned char)(i * 7);
    adze_normalize_nhwc(&t, rgb, 256, nhwc);
    adze_normalize_chw(&t, rgb, 256, chw);
    for (int i = 0; i < 256 * 3; i++) {
        volatile float v = (float)rgb[i] / 255.0f;
        v = v - adze_imagenet_mean[i % 3];
        v = v / adze_imagenet_std[i % 3];
        assert_true(nhwc[i] == v);
        assert_true(chw[i % 3 * 256 + i / 3] == v);
    }
}

static void filters_are_found_by_name(void **state)
{
    (void)state;
    adze_filter f;
    for (int i = 0; i < ADZE_FILTER_COUNT; i++) {
        assert_int_equal(adze_filter_parse(&f, adze_filter_name(i)), ADZE_OK);
        assert_int_equal(f, i);
    }
    assert_null(adze_filter_name(ADZE_FILTER_COUNT));
    assert_int_equal(adze_filter_parse(&f, "bicbuic"), ADZE_EINVAL);
    assert_non_null(strstr(adze_error_message(), "'bicubic'"));
}

static void bad_sizes_and_lost_memory_are_refused(void **state)
{
    (void)state;
    adze_image im = made_up_image(70, 50, 3, 1), y;
    size_t before = adze_memory_live_bytes();
    assert_int_equal(adze_image_resize(&y, &im, 0, 5, ADZE_FILTER_BILINEAR), ADZE_EINVAL);
    assert_int_equal(adze_image_resize(&y, &im, 1 << 20, 1 << 20, ADZE_FILTER_BILINEAR), ADZE_EINPUT);
    assert_int_equal(adze_image_resize(&y, &im, 5, 5, ADZE_FILTER_COUNT), ADZE_EINVAL);
    assert_int_equal(adze_image_crop_center(&y, &im, 1 << 20, 1 << 20), ADZE_EINPUT);
    for (int filter = 0; filter < ADZE_FILTER_COUNT; filter++) {
        adze_status st = ADZE_ENOMEM;
        for (int64_t fail = 1; st != ADZE_OK; fail++) {
            adze_memory_fail_after(fail, false);
            st = adze_image_resize(&y, &im, 20, 30, filter);
            adze_memory_fail_after(0, false);
            assert_true(st == ADZE_OK || (st == ADZE_ENOMEM && y.data == NULL));
            adze_image_destroy(&y);
            assert_int_equal(adze_memory_live_bytes(), before);
        }
    }
    adze_image_destroy(&im);
}

static void turning_by_whole_circles_is_a_copy(void **state)
{
    (void)state;
    adze_image im = made_up_image(9, 12, 3, 1), y;
    for (int turns = -1; turns <= 1; turns++) {
        assert_int_equal(adze_image_rotate(&y, &im, 360.0 * turns), ADZE_OK);
        assert_true(equal(&im, &y));
        adze_image_destroy(&y);
    }
    adze_image_destroy(&im);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(simd_paths_give_the_plain_bytes),
        cmocka_unit_test(one_dimensional_vectors_of_the_sheet),
        cmocka_unit_test(constants_stay_constant),
        cmocka_unit_test(gray_before_or_after_the_resize_is_the_same),
        cmocka_unit_test(small_defects_survive_as_the_sheet_says),
        cmocka_unit_test(normalising_is_three_rounded_steps),
        cmocka_unit_test(filters_are_found_by_name),
        cmocka_unit_test(bad_sizes_and_lost_memory_are_refused),
        cmocka_unit_test(turning_by_whole_circles_is_a_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
