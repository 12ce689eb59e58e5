/* test_label.c - 8-connected regions against a flood fill, on masks of all densities and odd sizes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/hash.h"
#include "core/memory.h"
#include "eval/label.h"

static void flood(const unsigned char *mask, int32_t *region, int64_t H, int64_t W, int64_t at, int32_t k, int64_t *area)
{
    int64_t *stack = malloc((size_t)(H * W) * sizeof *stack), n = 0;
    assert_non_null(stack);
    stack[n++] = at;
    region[at] = k;
    *area = 0;
    while (n > 0) {
        int64_t here = stack[--n], y = here / W, x = here % W;
        (*area)++;
        for (int64_t v = y - 1; v <= y + 1; v++)
            for (int64_t u = x - 1; u <= x + 1; u++)
                if (v >= 0 && v < H && u >= 0 && u < W && mask[v * W + u] && region[v * W + u] < 0) {
                    region[v * W + u] = k;
                    stack[n++] = v * W + u;
                }
    }
    free(stack);
}

static void check(const unsigned char *mask, int64_t H, int64_t W)
{
    adze_labels l;
    assert_int_equal(adze_labels_create(&l, H, W), ADZE_OK);
    adze_labels_find(&l, mask);
    int32_t *want = malloc((size_t)(H * W) * sizeof *want), n = 0;
    assert_non_null(want);
    for (int64_t i = 0; i < H * W; i++) want[i] = -1;
    for (int64_t i = 0; i < H * W; i++) {
        if (!mask[i] || want[i] >= 0) continue;
        int64_t area;
        flood(mask, want, H, W, i, n, &area);
        assert_true(n < l.n_regions);
        assert_int_equal(l.area[n], area);
        n++;
    }
    assert_int_equal(l.n_regions, n);
    int64_t covered = 0, pixels = 0;
    for (int64_t r = 0; r < l.n_runs; r++)
        for (int64_t x = l.run[r].x_begin; x < l.run[r].x_end; x++, covered++)
            assert_int_equal(want[l.run[r].y * W + x], l.run[r].region);
    for (int64_t i = 0; i < H * W; i++) pixels += mask[i] != 0;
    assert_int_equal(covered, pixels);
    free(want);
    adze_labels_destroy(&l);
}

static void regions_equal_a_flood_fill(void **state)
{
    (void)state;
    static const int64_t sizes[][2] = { { 1, 1 }, { 1, 31 }, { 33, 1 }, { 7, 8 }, { 16, 17 }, { 61, 64 } };
    uint64_t seed = 1;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (unsigned tenths = 0; tenths <= 10; tenths++) {
            int64_t H = sizes[s][0], W = sizes[s][1];
            unsigned char mask[61 * 64];
            for (int64_t i = 0; i < H * W; i++) mask[i] = adze_splitmix64(seed++) % 10 < tenths ? 1 + seed % 255 : 0;
            check(mask, H, W);
        }
}

static void corners_connect_and_order_is_raster(void **state)
{
    (void)state;
    static const char drawing[] = "#...#"
                                  ".#.#."
                                  "....."
                                  "##.##"
                                  "..#..";
    unsigned char mask[25];
    for (int i = 0; i < 25; i++) mask[i] = drawing[i] == '#';
    adze_labels l;
    assert_int_equal(adze_labels_create(&l, 5, 5), ADZE_OK);
    adze_labels_find(&l, mask);
    assert_int_equal(l.n_regions, 3);
    assert_int_equal(l.area[0], 2);
    assert_int_equal(l.area[1], 2);
    assert_int_equal(l.area[2], 5);
    assert_int_equal(l.run[0].region, 0);
    assert_int_equal(l.run[1].region, 1);
    check(mask, 5, 5);
    adze_labels_destroy(&l);
}

static void bad_sizes_and_lost_memory_are_reported(void **state)
{
    (void)state;
    adze_labels l;
    assert_int_equal(adze_labels_create(&l, 0, 5), ADZE_EINVAL);
    assert_int_equal(adze_labels_create(&l, INT64_C(1) << 30, INT64_C(1) << 30), ADZE_EINVAL);
    adze_memory_fail_after(1, false);
    assert_int_equal(adze_labels_create(&l, 5, 5), ADZE_ENOMEM);
    adze_memory_fail_after(0, false);
    assert_null(l.run);
    adze_labels_destroy(&l);
    adze_labels_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(regions_equal_a_flood_fill),
        cmocka_unit_test(corners_connect_and_order_is_raster),
        cmocka_unit_test(bad_sizes_and_lost_memory_are_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
