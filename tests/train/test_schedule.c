/* test_schedule.c - learning rates at the corners. CFlow's whole curve is the case tests/golden/train/cflow_lr.json. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#include "train/schedule.h"

/* A handful of operations in double. */
static void near(double got, double want)
{
    assert_true(fabs(got - want) <= 8 * DBL_EPSILON * fabs(want));
}

static void test_benchmark(void **state)
{
    (void)state;
    static const int64_t per_epoch[] = { 1, 7, 149 };
    for (int k = 0; k < 3; k++) {
        int64_t T = per_epoch[k];
        adze_schedule s = adze_schedule_benchmark(0.005, 100, T);
        assert_int_equal(adze_schedule_check(&s), ADZE_OK);
        assert_true(adze_schedule_lr(&s, 0) == 0.005);
        assert_true(adze_schedule_lr(&s, 80 * T - 1) == 0.005);
        near(adze_schedule_lr(&s, 80 * T), 0.0005);
        near(adze_schedule_lr(&s, 100 * T - 1), 0.0005);
        near(adze_schedule_lr(&s, 160 * T), 0.00005);
    }
    adze_schedule one = adze_schedule_benchmark(0.005, 1, 9);
    assert_int_equal(adze_schedule_check(&one), ADZE_OK);
    assert_true(adze_schedule_lr(&one, 8) == 0.005);
}

static void test_warmup(void **state)
{
    (void)state;
    adze_schedule s = ADZE_SCHEDULE(0.8);
    s.kind = ADZE_SCHEDULE_STEP, s.period = 10, s.rate = 0.5, s.warmup = 4, s.delayed = true;
    assert_int_equal(adze_schedule_check(&s), ADZE_OK);
    for (int t = 0; t < 4; t++) near(adze_schedule_lr(&s, t), 0.2 * t);
    near(adze_schedule_lr(&s, 4), 0.8);
    near(adze_schedule_lr(&s, 13), 0.8);
    near(adze_schedule_lr(&s, 14), 0.4);
    s.delayed = false;
    near(adze_schedule_lr(&s, 9), 0.8);
    near(adze_schedule_lr(&s, 10), 0.4);
    s.kind = ADZE_SCHEDULE_CONSTANT, s.warmup_from = 0.4;
    near(adze_schedule_lr(&s, 1), 0.5);
    near(adze_schedule_lr(&s, 1000000), 0.8);
}

static void test_cosine(void **state)
{
    (void)state;
    adze_schedule s = ADZE_SCHEDULE(1.0);
    s.kind = ADZE_SCHEDULE_COSINE, s.period = 8, s.lr_min = 0.2;
    near(adze_schedule_lr(&s, 0), 1.0);
    near(adze_schedule_lr(&s, 4), 0.6);
    near(adze_schedule_lr(&s, 2), 0.2 + 0.4 * (1.0 + sqrt(0.5)));
    near(adze_schedule_lr(&s, 8), 0.2);
    near(adze_schedule_lr(&s, 800), 0.2);
    s.kind = ADZE_SCHEDULE_STAIRS, s.hold = 4;
    near(adze_schedule_lr(&s, 3), 1.0);
    near(adze_schedule_lr(&s, 4), 0.6);
    near(adze_schedule_lr(&s, 7), 0.6);
    near(adze_schedule_lr(&s, 8), 0.2);
}

static void test_refusals(void **state)
{
    (void)state;
    adze_schedule bad[9];
    for (int i = 0; i < 9; i++) bad[i] = ADZE_SCHEDULE(0.1);
    assert_int_equal(adze_schedule_check(&bad[0]), ADZE_OK);
    bad[0].kind = (adze_schedule_kind)9;
    bad[1].lr = NAN;
    bad[2].lr = -1.0;
    bad[3].rate = INFINITY;
    bad[4].lr_min = -0.1;
    bad[5].period = 0;
    bad[6].hold = 0;
    bad[7].warmup = -1;
    bad[8].warmup_from = NAN;
    for (int i = 0; i < 9; i++) assert_int_equal(adze_schedule_check(&bad[i]), ADZE_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_benchmark),
        cmocka_unit_test(test_warmup),
        cmocka_unit_test(test_cosine),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
