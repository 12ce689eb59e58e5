/* test_map_score.c - the mean of a map's largest values, against sorting it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/philox.h"
#include "models/map_score.h"

static int descending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

static void equals_sorting(void **state)
{
    (void)state;
    static const int64_t sizes[] = { 1, 31, 100, 257, 4096 }, tops[] = { 1, 2, 31, 100, 256 };
    float x[4096], sorted[4096];
    for (uint32_t i = 0; i < 25; i++) {
        int64_t n = sizes[i / 5], top = tops[i % 5];
        if (top > n) continue;
        adze_philox_fill_normal((adze_philox){ .seed = 1, .stream = ADZE_STREAM_TEST, .item = i }, 0, x, n);
        for (int64_t k = 0; k < n / 3; k++) x[k] = x[n - 1 - k]; /* equal values */
        memcpy(sorted, x, sizeof sorted);
        qsort(sorted, (size_t)n, sizeof *sorted, descending);
        double sum = 0.0;
        for (int64_t k = 0; k < top; k++) sum += sorted[k];
        double got = map_score_top(x, n, top);
        assert_true(fabs(got - sum / (double)top) <= 1e-7 * fabs(got) + 1e-12); /* one rounding to float32 */
    }
}

static void nan_is_the_largest(void **state)
{
    (void)state;
    float x[5] = { 1.0f, 5.0f, NAN, 2.0f, -3.0f };
    assert_true(isnan(map_score_top(x, 5, 1)) && isnan(map_score_top(x, 5, 3)));
    x[2] = 4.0f;
    assert_true(map_score_top(x, 5, 1) == 5.0f && map_score_top(x, 5, 2) == 4.5f && map_score_top(x, 5, 5) == 1.8f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_sorting),
        cmocka_unit_test(nan_is_the_largest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
