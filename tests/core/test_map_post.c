/* test_map_post.c - upsampling and blur against plain loops, bit for bit on every instruction set. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/hash.h"
#include "core/map_post.h"
#include "core/memory.h"

static const adze_isa isas[] = { ADZE_ISA_REFERENCE, ADZE_ISA_AVX2, ADZE_ISA_AVX512, ADZE_ISA_AVX512_BF16 };
enum { ISAS = sizeof isas / sizeof *isas };

static float *noise(int64_t n)
{
    float *x = malloc((size_t)n * sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < n; i++) x[i] = (float)(adze_splitmix64((uint64_t)i) >> 40) * 0x1p-24f;
    return x;
}

static int64_t mirror(int64_t i, int64_t n)
{
    while (i < 0 || i >= n) i = i < 0 ? -1 - i : 2 * n - 1 - i;
    return i;
}

/* The definition, one axis after the other, each pass stored as float. */
static void plain_blur(const float *x, int64_t H, int64_t W, double sigma, float *y)
{
    int r = (int)(4.0 * sigma + 0.5);
    double *w = malloc((size_t)(2 * r + 1) * sizeof *w), sum = 0.0;
    float *t = malloc((size_t)(H * W) * sizeof *t);
    assert_true(w && t);
    for (int k = -r; k <= r; k++) sum += w[k + r] = r ? exp(-0.5 * k * k / (sigma * sigma)) : 1.0;
    for (int64_t i = 0; i < H * W; i++) {
        double s = 0.0;
        for (int k = -r; k <= r; k++) s += w[k + r] / sum * (double)x[mirror(i / W + k, H) * W + i % W];
        t[i] = (float)s;
    }
    for (int64_t i = 0; i < H * W; i++) {
        double s = 0.0;
        for (int k = -r; k <= r; k++) s += w[k + r] / sum * (double)t[i / W * W + mirror(i % W + k, W)];
        y[i] = (float)s;
    }
    free(w), free(t);
}

static void blur_follows_the_definition(void **state)
{
    (void)state;
    static const struct {
        int64_t B, H, W;
        double sigma;
    } cases[] = { { 1, 1, 1, 4.0 }, { 2, 3, 2, 4.0 }, { 3, 31, 33, 4.0 }, { 1, 64, 101, 1.3 }, { 2, 17, 40, 0.1 },
                  { 1, 5, 70, 6.0 }, { 1, 8, 9, 0.0 } };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        int64_t plane = cases[c].H * cases[c].W, n = cases[c].B * plane;
        float *x = noise(n), *want = malloc((size_t)n * 4), *first = malloc((size_t)n * 4), *y = malloc((size_t)n * 4);
        assert_true(want && first && y);
        for (int64_t b = 0; b < cases[c].B; b++)
            plain_blur(x + b * plane, cases[c].H, cases[c].W, cases[c].sigma, want + b * plane);
        for (int i = 0; i < ISAS; i++) {
            if (!adze_isa_available(isas[i])) continue;
            adze_map_opts opts = { .isa = isas[i], .threads = i % 3 };
            assert_int_equal(adze_map_blur(x, cases[c].B, cases[c].H, cases[c].W, cases[c].sigma, &opts, y), ADZE_OK);
            if (i == 0) memcpy(first, y, (size_t)n * 4);
            assert_memory_equal(y, first, (size_t)n * 4);
            /* the order of the double sums differs: at most one rounding to float per pass, values below 1 */
            for (int64_t j = 0; j < n; j++) assert_true(fabsf(y[j] - want[j]) <= 2.0f * FLT_EPSILON);
            memcpy(y, x, (size_t)n * 4);
            assert_int_equal(adze_map_blur(y, cases[c].B, cases[c].H, cases[c].W, cases[c].sigma, &opts, y), ADZE_OK);
            assert_memory_equal(y, first, (size_t)n * 4);
        }
        free(x), free(want), free(first), free(y);
    }
}

static void upsampling_follows_the_definition(void **state)
{
    (void)state;
    static const struct {
        int64_t h, w, H, W;
    } cases[] = { { 1, 1, 5, 7 }, { 3, 2, 12, 9 }, { 32, 32, 256, 256 }, { 7, 31, 33, 101 }, { 9, 8, 4, 3 }, { 2, 5, 1, 1 } };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        for (int corners = 0; corners < 2; corners++) {
            int64_t h = cases[c].h, w = cases[c].w, H = cases[c].H, W = cases[c].W, B = 3;
            float *x = noise(B * h * w), *y = malloc((size_t)(B * H * W) * 4), *first = malloc((size_t)(B * H * W) * 4);
            double *x64 = malloc((size_t)(B * h * w) * 8), *y64 = malloc((size_t)(B * H * W) * 8);
            assert_true(y && first && x64 && y64);
            for (int64_t i = 0; i < B * h * w; i++) x64[i] = (double)x[i];
            for (int i = 0; i < ISAS; i++) {
                if (!adze_isa_available(isas[i])) continue;
                adze_map_opts opts = { .align_corners = corners, .isa = isas[i], .threads = 2 };
                assert_int_equal(adze_map_upsample(x, B, h, w, H, W, &opts, y), ADZE_OK);
                assert_int_equal(adze_map_upsample_f64(x64, B, h, w, H, W, &opts, y64), ADZE_OK);
                if (i == 0) memcpy(first, y, (size_t)(B * H * W) * 4);
                assert_memory_equal(y, first, (size_t)(B * H * W) * 4);
                for (int64_t p = 0; p < B * H * W; p++) {
                    int64_t b = p / (H * W), row = p / W % H, col = p % W;
                    double v = corners ? (H > 1 ? (double)row * (double)(h - 1) / (double)(H - 1) : 0.0)
                                       : fmax(0.0, ((double)row + 0.5) * (double)h / (double)H - 0.5);
                    double u = corners ? (W > 1 ? (double)col * (double)(w - 1) / (double)(W - 1) : 0.0)
                                       : fmax(0.0, ((double)col + 0.5) * (double)w / (double)W - 0.5);
                    int64_t r0 = (int64_t)v, c0 = (int64_t)u, r1 = r0 + 1 < h ? r0 + 1 : r0, c1 = c0 + 1 < w ? c0 + 1 : c0;
                    const double *q = x64 + b * h * w;
                    double top = q[r0 * w + c0] * (1 - (u - (double)c0)) + q[r0 * w + c1] * (u - (double)c0);
                    double bottom = q[r1 * w + c0] * (1 - (u - (double)c0)) + q[r1 * w + c1] * (u - (double)c0);
                    double want = top * (1 - (v - (double)r0)) + bottom * (v - (double)r0);
                    assert_true(fabs(y64[p] - want) <= 8 * DBL_EPSILON);
                    assert_true(fabs((double)y[p] - want) <= 4 * FLT_EPSILON); /* two weights, two blends, values below 1 */
                }
            }
            free(x), free(y), free(first), free(x64), free(y64);
        }
}

static void both_together_equal_one_after_the_other(void **state)
{
    (void)state;
    enum { B = 5, H = 45, W = 38 };
    float *x = noise(B * 9 * 8), *up = malloc(B * H * W * 4), *y = malloc(B * H * W * 4);
    assert_true(up && y);
    assert_int_equal(adze_map_upsample(x, B, 9, 8, H, W, NULL, up), ADZE_OK);
    assert_int_equal(adze_map_blur(up, B, H, W, 4.0, NULL, up), ADZE_OK);
    for (int threads = 1; threads <= 3; threads++) {
        adze_map_opts opts = { .threads = threads };
        assert_int_equal(adze_map_post(x, B, 9, 8, H, W, 4.0, &opts, y), ADZE_OK);
        assert_memory_equal(y, up, B * H * W * 4);
    }
    free(x), free(up), free(y);
}

static void blur_in_double_keeps_the_sum(void **state)
{
    (void)state;
    enum { H = 21, W = 30 };
    static double x[H * W], y[H * W];
    double sum = 0.0;
    x[0] = 1.0; /* the border folds back what would leave */
    assert_int_equal(adze_map_blur_f64(x, 1, H, W, 4.0, NULL, y), ADZE_OK);
    for (int i = 0; i < H * W; i++) sum += y[i];
    assert_true(fabs(sum - 1.0) < 1e-14 * H * W);
    assert_true(y[0] > y[1] && y[1] == y[1] && fabs(y[1] - y[W]) < 1e-16);
}

static void bad_arguments_are_refused(void **state)
{
    (void)state;
    float x[4] = { 0 };
    assert_int_equal(adze_map_blur(x, 1, 0, 2, 4.0, NULL, x), ADZE_EINVAL);
    assert_int_equal(adze_map_blur(x, 1, 2, 2, -1.0, NULL, x), ADZE_EINVAL);
    assert_int_equal(adze_map_blur(x, 1, 2, 2, (double)NAN, NULL, x), ADZE_EINVAL);
    assert_int_equal(adze_map_blur(x, 1, 2, 2, 1e9, NULL, x), ADZE_EINVAL);
    assert_int_equal(adze_map_upsample(x, 1, 0, 2, 2, 2, NULL, x), ADZE_EINVAL);
    assert_int_equal(adze_map_post(x, 1, 1, 1, 2, 70000, 4.0, NULL, x), ADZE_EINVAL);
    assert_int_equal(adze_map_blur(x, 0, 2, 2, 4.0, NULL, x), ADZE_OK);
}

static void memory_failures_leave_nothing_behind(void **state)
{
    (void)state;
    float x[4] = { 1, 2, 3, 4 }, y[64];
    size_t before = adze_memory_live_bytes();
    adze_status st = ADZE_ENOMEM;
    int64_t n = 1;
    for (; st != ADZE_OK; n++) {
        adze_memory_fail_after(n, false);
        st = adze_map_post(x, 1, 2, 2, 8, 8, 1.0, NULL, y);
        adze_memory_fail_after(0, false);
        assert_true(st == ADZE_OK || st == ADZE_ENOMEM);
        assert_int_equal(adze_memory_live_bytes(), before);
    }
    assert_true(n > 8);
    adze_memory_limit_set(before + 100);
    assert_int_equal(adze_map_post(x, 1, 2, 2, 8, 8, 1.0, NULL, y), ADZE_ENOMEM);
    adze_memory_limit_set(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blur_follows_the_definition),
        cmocka_unit_test(upsampling_follows_the_definition),
        cmocka_unit_test(both_together_equal_one_after_the_other),
        cmocka_unit_test(blur_in_double_keeps_the_sum),
        cmocka_unit_test(bad_arguments_are_refused),
        cmocka_unit_test(memory_failures_leave_nothing_behind),
    };
    return cmocka_run_group_tests_name("map_post", tests, NULL, NULL);
}
