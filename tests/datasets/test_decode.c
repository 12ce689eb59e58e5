/* test_decode.c - files cut at every byte, flipped bits, limits, allocation failures, PNG round trip. The pixels
 * themselves are checked by golden/images. */
#include "datasets/decode.h"
#include "tests/datasets/made_up.h"

#define FILES "tests/golden/images/files/"

static void load(const char *name, unsigned char **data, size_t *n)
{
    adze_status st = adze_file_read(name, 1 << 20, data, n);
    if (st != ADZE_OK) print_error("%s (run from the source root)\n", adze_error_message());
    assert_int_equal(st, ADZE_OK);
}

/* A copy of exactly n bytes, so that the sanitizer sees a read past the end. */
static adze_status decode_exactly(adze_image *im, const unsigned char *data, size_t n)
{
    unsigned char *copy = malloc(n ? n : 1);
    assert_non_null(copy);
    memcpy(copy, data, n);
    adze_status st = adze_image_decode(im, copy, n, "cut", NULL, NULL);
    free(copy);
    return st;
}

static void files_cut_anywhere_are_errors(void **state)
{
    (void)state;
    static const char *const names[] = { "rgb_31x33.png", "interlaced_rgb.png", "gray16_full.png", "palette8.png", "rgb420.jpg",
                                         "rgb420_progressive.jpg", "cmyk_adobe.jpg", "rgb_exif_orientation6.jpg" };
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        char path[128];
        unsigned char *data;
        size_t n;
        adze_image whole, im;
        snprintf(path, sizeof path, FILES "%s", names[k]);
        load(path, &data, &n);
        assert_int_equal(decode_exactly(&whole, data, n), ADZE_OK);
        size_t n_pixels = (size_t)(whole.H * whole.W * whole.C), end = strstr(names[k], ".png") ? 12 : 0;
        for (size_t cut = 0; cut < n; cut++) {
            adze_status st = decode_exactly(&im, data, cut);
            /* PNG: all rows are there once only IEND (12 bytes) is missing */
            assert_int_equal(st, cut + end >= n ? ADZE_OK : ADZE_EINPUT);
            if (st == ADZE_OK) assert_memory_equal(im.data, whole.data, n_pixels);
            else assert_null(im.data);
            if (st != ADZE_OK) assert_non_null(strstr(adze_error_message(), "cut: "));
            adze_image_destroy(&im);
        }
        adze_image_destroy(&whole);
        adze_free(data);
    }
}

static void flipped_bits_never_crash(void **state)
{
    (void)state;
    static const char *const names[] = { "interlaced_palette.png", "gray16_small.png", "rgba8.png", "gray_progressive.jpg", "rgb411.jpg",
                                         "ycck_adobe.jpg", "rgb_exif_orientation6.jpg" };
    adze_decode_opts opts = { .mode = ADZE_DECODE_RGB, .exif_orientation = true };
    adze_memory_limit_set(64 << 20); /* a header that claims a huge picture is refused by memory at the latest */
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        char path[128];
        unsigned char *data;
        size_t n;
        snprintf(path, sizeof path, FILES "%s", names[k]);
        load(path, &data, &n);
        for (size_t i = 0; i < n; i++)
            for (int bit = 0; bit < 8; bit += 1 + (i > 400)) {
                adze_image im;
                data[i] ^= (unsigned char)(1 << bit);
                adze_status st = adze_image_decode(&im, data, n, names[k], &opts, NULL);
                assert_true(st == ADZE_OK || st == ADZE_EINPUT || st == ADZE_ENOMEM);
                assert_int_equal(im.data == NULL, st != ADZE_OK);
                adze_image_destroy(&im);
                data[i] ^= (unsigned char)(1 << bit);
            }
        adze_free(data);
    }
    adze_memory_limit_set(0);
}

/* Every bit of a PNG is covered by a checksum. */
static void png_checksums_are_enforced(void **state)
{
    (void)state;
    unsigned char *data;
    size_t n;
    load(FILES "rgb_31x33.png", &data, &n);
    for (size_t i = 8; i + 12 < n; i += 37) {
        adze_image im;
        data[i] ^= 16;
        assert_int_equal(adze_image_decode(&im, data, n, "flipped", NULL, NULL), ADZE_EINPUT);
        data[i] ^= 16;
    }
    adze_free(data);
}

static void lost_memory_is_reported(void **state)
{
    (void)state;
    static const char *const names[] = { "interlaced_rgb.png", "gray16_full.png", "cmyk_adobe.jpg", "gray.jpg" };
    size_t before = adze_memory_live_bytes();
    for (size_t k = 0; k < 4; k++) {
        char path[128];
        snprintf(path, sizeof path, FILES "%s", names[k]);
        adze_status st = ADZE_ENOMEM;
        for (int64_t fail = 1; st != ADZE_OK; fail++) {
            adze_image im;
            adze_memory_fail_after(fail, fail % 2);
            st = adze_image_decode_file(&im, path, NULL, NULL);
            adze_memory_fail_after(0, false);
            assert_true(st == ADZE_OK || (st == ADZE_ENOMEM && im.data == NULL));
            adze_image_destroy(&im);
            assert_int_equal(adze_memory_live_bytes(), before);
            assert_true(fail < 200);
        }
    }
}

static void scans_are_limited(void **state)
{
    (void)state;
    /* the last scan of a small progressive file, repeated: each scan refines nothing new but costs a pass */
    unsigned char *data, *bomb;
    size_t n, last = 0;
    load(FILES "gray_progressive.jpg", &data, &n);
    for (size_t i = 0; i + 1 < n; i++)
        if (data[i] == 0xff && data[i + 1] == 0xda) last = i;
    size_t scan = n - 2 - last, n_bomb = n + 600 * scan;
    assert_true(last > 0);
    bomb = malloc(n_bomb);
    assert_non_null(bomb);
    memcpy(bomb, data, n - 2);
    for (size_t i = 0; i < 600; i++) memcpy(bomb + n - 2 + i * scan, data + last, scan);
    memcpy(bomb + n_bomb - 2, "\xff\xd9", 2);
    adze_image im;
    assert_int_equal(adze_image_decode(&im, bomb, n_bomb, "bomb", NULL, NULL), ADZE_EINPUT);
    assert_non_null(strstr(adze_error_message(), "more than 500 scans"));
    free(bomb);
    adze_free(data);
}

static void sixteen_bit_gray_is_reported_and_can_be_shifted(void **state)
{
    (void)state;
    adze_image clipped, shifted;
    adze_decode_info info;
    adze_decode_opts opts = ADZE_DECODE_OPTS;
    opts.mode = ADZE_DECODE_ANY;
    assert_int_equal(adze_image_decode_file(&clipped, FILES "gray16_full.png", &opts, &info), ADZE_OK);
    assert_true(info.gray16);
    opts.gray16_shift = true;
    assert_int_equal(adze_image_decode_file(&shifted, FILES "gray16_full.png", &opts, &info), ADZE_OK);
    assert_int_equal(shifted.C, 1);
    for (int64_t i = 0; i < shifted.H * shifted.W; i++)
        if (shifted.data[i] > 0) assert_int_equal(clipped.data[i], 255); /* above 255 = high byte not 0 */
    adze_image_destroy(&clipped), adze_image_destroy(&shifted);
    assert_int_equal(adze_image_decode_file(&clipped, FILES "rgb16.png", NULL, &info), ADZE_OK);
    assert_false(info.gray16);
    adze_image_destroy(&clipped);
}

static void orientation_turns_only_when_asked(void **state)
{
    (void)state;
    adze_image stored, upright;
    adze_decode_opts opts = ADZE_DECODE_OPTS;
    assert_int_equal(adze_image_decode_file(&stored, FILES "rgb_exif_orientation6.jpg", &opts, NULL), ADZE_OK);
    opts.exif_orientation = true;
    assert_int_equal(adze_image_decode_file(&upright, FILES "rgb_exif_orientation6.jpg", &opts, NULL), ADZE_OK);
    assert_int_equal(upright.H, stored.W);
    for (int64_t y = 0; y < upright.H; y++)
        for (int64_t x = 0; x < upright.W; x++)
            assert_memory_equal(upright.data + (y * upright.W + x) * 3, stored.data + ((stored.H - 1 - x) * stored.W + y) * 3, 3);
    adze_image_destroy(&stored), adze_image_destroy(&upright);
}

static void png_written_is_png_read(void **state)
{
    (void)state;
    char root[64], path[96];
    make_root(root);
    snprintf(path, sizeof path, "%s/x.png", root);
    for (int64_t C = 1; C <= 3; C += 2) {
        adze_image im = made_up_image(31, 17, C, 5), back;
        adze_decode_opts opts = { .mode = ADZE_DECODE_ANY };
        assert_int_equal(adze_image_write_png(&im, path), ADZE_OK);
        assert_int_equal(adze_image_decode_file(&back, path, &opts, NULL), ADZE_OK);
        assert_int_equal(back.C, C);
        assert_memory_equal(im.data, back.data, (size_t)(31 * 17 * C));
        adze_image_destroy(&back);
        unsigned char *data;
        size_t n, before = adze_memory_live_bytes();
        adze_status st = ADZE_ENOMEM;
        for (int64_t fail = 1; st != ADZE_OK; fail++) {
            adze_memory_fail_after(fail, false);
            st = adze_image_encode_png(&im, &data, &n);
            adze_memory_fail_after(0, false);
            assert_true(st == ADZE_OK || (st == ADZE_ENOMEM && data == NULL));
            adze_free(data);
            assert_int_equal(adze_memory_live_bytes(), before);
        }
        assert_int_equal(adze_image_write_png(&im, "/proc/nowhere/x.png"), ADZE_EIO);
        adze_image_destroy(&im);
    }
    drop_root(root);
}

static void picture_sizes_are_limited(void **state)
{
    (void)state;
    adze_image im;
    assert_int_equal(adze_image_create(&im, 0, 1, 1), ADZE_EINPUT);
    assert_int_equal(adze_image_create(&im, -1, -1, 3), ADZE_EINPUT);
    assert_int_equal(adze_image_create(&im, (1 << 14) + 1, 1 << 14, 1), ADZE_EINPUT);
    assert_int_equal(adze_image_create(&im, INT64_MAX, INT64_MAX, 3), ADZE_EINPUT);
    assert_null(im.data);
    assert_int_equal(adze_image_decode_file(&im, "/proc/no-such.png", NULL, NULL), ADZE_EINPUT);
    assert_non_null(strstr(adze_error_message(), "/proc/no-such.png"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_cut_anywhere_are_errors),
        cmocka_unit_test(flipped_bits_never_crash),
        cmocka_unit_test(png_checksums_are_enforced),
        cmocka_unit_test(lost_memory_is_reported),
        cmocka_unit_test(scans_are_limited),
        cmocka_unit_test(sixteen_bit_gray_is_reported_and_can_be_shifted),
        cmocka_unit_test(orientation_turns_only_when_asked),
        cmocka_unit_test(png_written_is_png_read),
        cmocka_unit_test(picture_sizes_are_limited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
