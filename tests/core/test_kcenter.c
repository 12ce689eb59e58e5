/* test_kcenter.c - the lazy selection against the plain loop of core/kcenter.h, to the bit, on every instruction set. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/hash.h"
#include "core/kcenter.h"
#include "core/memory.h"

static const adze_isa isas[] = { ADZE_ISA_REFERENCE, ADZE_ISA_AVX2, ADZE_ISA_AVX512, ADZE_ISA_AVX512_BF16 };
enum { ISAS = sizeof isas / sizeof *isas };

static double unit(uint64_t seed, int64_t i)
{
    return (double)(adze_splitmix64(adze_splitmix64(seed) + (uint64_t)i) >> 40) * 0x1p-24;
}

typedef enum { UNIFORM, CLUSTERS, INTEGERS, FAR_AWAY, COPIES } cloud;

static float *cloud_of(cloud kind, int64_t N, int64_t d)
{
    float *x = malloc((size_t)(N * d) * sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < N; i++)
        for (int64_t j = 0; j < d; j++) {
            double u = unit(3, i * d + j);
            if (kind == CLUSTERS) u = 5.0 * unit(4, i % 11 * d + j) + 0.2 * u;
            if (kind == INTEGERS) u = floor(4.0 * u);
            if (kind == FAR_AWAY) u += 1000.0;
            if (kind == COPIES) u = unit(5, i % 7 * d + j);
            x[i * d + j] = (float)u;
        }
    return x;
}

static float distance(const float *a, const float *b, int64_t d)
{
    float lane[16] = { 0 };
    for (int64_t j = 0; j < d; j++) {
        float diff = a[j] - b[j], square = diff * diff;
        lane[j % 16] += square;
    }
    for (int half = 8; half > 0; half /= 2)
        for (int l = 0; l < half; l++) lane[l] += lane[l + half];
    return sqrtf(lane[0]);
}

/* The loop of the header; m holds the start values and, afterwards, the rest. */
static void plain_loop(const float *x, int64_t N, int64_t d, int64_t K, float *m, int64_t *picks)
{
    for (int64_t n = 0; n < K; n++) {
        int64_t p = 0;
        for (int64_t i = 1; i < N; i++)
            if (m[i] > m[p]) p = i;
        picks[n] = p;
        for (int64_t i = 0; i < N; i++) {
            float dist = distance(x + i * d, x + p * d, d);
            m[i] = dist < m[i] ? dist : m[i];
        }
    }
}

static void compare(cloud kind, int64_t N, int64_t d, int64_t K, adze_kcenter_init init)
{
    float *x = cloud_of(kind, N, d), *start = malloc((size_t)N * 4), *rest = malloc((size_t)N * 4), *m = malloc((size_t)N * 4);
    int64_t *picks = malloc((size_t)(K + 1) * sizeof *picks), *want = malloc((size_t)(K + 1) * sizeof *want);
    assert_true(start && rest && m && picks && want);
    int64_t starts[] = { N / 2, N / 3, 0 };
    for (int i = 0; i < ISAS; i++)
        for (int threads = 1; threads <= 3; threads++) {
            if (!adze_isa_available(isas[i])) continue;
            adze_kcenter_opts opts = ADZE_KCENTER_OPTS;
            opts.init = init, opts.isa = isas[i], opts.threads = threads, opts.starts = starts;
            opts.n_starts = init == ADZE_KCENTER_MEAN ? (N < 3 ? 1 : 3) : init == ADZE_KCENTER_FIRST ? 1 : 0;
            picks[K] = -7;
            assert_int_equal(adze_kcenter_select(x, N, d, K, &opts, picks, start, rest, NULL), ADZE_OK);
            assert_int_equal(picks[K], -7);
            if (i == 0 && threads == 1) {
                memcpy(m, start, (size_t)N * 4);
                plain_loop(x, N, d, K, m, want);
            }
            assert_memory_equal(picks, want, (size_t)K * sizeof *picks);
            assert_memory_equal(rest, m, (size_t)N * 4);
        }
    free(x), free(start), free(rest), free(m), free(picks), free(want);
}

static void picks_are_those_of_the_plain_loop(void **state)
{
    (void)state;
    compare(UNIFORM, 1, 1, 1, ADZE_KCENTER_MEAN);
    compare(UNIFORM, 31, 33, 17, ADZE_KCENTER_MEAN);
    compare(UNIFORM, 701, 31, 150, ADZE_KCENTER_NORM);
    compare(CLUSTERS, 2003, 128, 300, ADZE_KCENTER_MEAN);
    compare(CLUSTERS, 997, 37, 500, ADZE_KCENTER_FIRST);
    compare(FAR_AWAY, 997, 64, 200, ADZE_KCENTER_MEAN);
}

static void ties_go_to_the_lowest_row(void **state)
{
    (void)state;
    compare(INTEGERS, 1501, 3, 80, ADZE_KCENTER_FIRST); /* 64 different points: exhausted after them */
    compare(INTEGERS, 1501, 7, 900, ADZE_KCENTER_MEAN);
    compare(INTEGERS, 600, 5, 300, ADZE_KCENTER_NORM);
}

static void exhaustion_repeats_row_0(void **state)
{
    (void)state;
    compare(COPIES, 600, 9, 40, ADZE_KCENTER_MEAN);
    compare(COPIES, 5, 9, 12, ADZE_KCENTER_FIRST); /* more picks than rows */
    compare(UNIFORM, 40, 3, 0, ADZE_KCENTER_MEAN);
}

static void start_values_are_the_defined_ones(void **state)
{
    (void)state;
    const float x[] = { 0, 0, 3, 4, 6, 8, 0, 8 };
    const int64_t starts[] = { 0, 2 };
    int64_t pick;
    float start[4];
    adze_kcenter_opts opts = ADZE_KCENTER_OPTS;
    opts.starts = starts, opts.n_starts = 2;
    assert_int_equal(adze_kcenter_select(x, 4, 2, 1, &opts, &pick, start, NULL, NULL), ADZE_OK);
    assert_true(start[0] == 5.0f && start[1] == 5.0f && start[2] == 5.0f && start[3] == 7.0f);
    assert_int_equal(pick, 3);
    opts.init = ADZE_KCENTER_NORM, opts.n_starts = 0;
    assert_int_equal(adze_kcenter_select(x, 4, 2, 1, &opts, &pick, start, NULL, NULL), ADZE_OK);
    assert_float_equal(start[0], sqrt(25.0 + 100.0 + 64.0), 2e-6);
    assert_float_equal(start[1], sqrt(25.0 + 25.0 + 25.0), 2e-6);
}

static void bad_arguments_are_refused(void **state)
{
    (void)state;
    float x[6] = { 0, 1, 2, 3, 4, 5 };
    int64_t picks[3], start = 1, outside = 3;
    adze_kcenter_opts opts = ADZE_KCENTER_OPTS;
    assert_int_equal(adze_kcenter_select(x, 3, 2, 1, &opts, picks, NULL, NULL, NULL), ADZE_EINVAL); /* no start */
    opts.starts = &outside, opts.n_starts = 1;
    assert_int_equal(adze_kcenter_select(x, 3, 2, 1, &opts, picks, NULL, NULL, NULL), ADZE_EINVAL);
    opts.starts = &start;
    assert_int_equal(adze_kcenter_select(x, 0, 2, 1, &opts, picks, NULL, NULL, NULL), ADZE_EINVAL);
    assert_int_equal(adze_kcenter_select(x, 3, 0, 1, &opts, picks, NULL, NULL, NULL), ADZE_EINVAL);
    assert_int_equal(adze_kcenter_select(x, 3, 2, -1, &opts, picks, NULL, NULL, NULL), ADZE_EINVAL);
    opts.init = ADZE_KCENTER_NORM;
    assert_int_equal(adze_kcenter_select(x, 3, 2, 1, &opts, picks, NULL, NULL, NULL), ADZE_EINVAL); /* a start too many */
    opts.init = ADZE_KCENTER_FIRST;
    x[4] = NAN;
    assert_int_equal(adze_kcenter_select(x, 3, 2, 1, &opts, picks, NULL, NULL, NULL), ADZE_ENUMERIC);
    x[4] = INFINITY;
    assert_int_equal(adze_kcenter_select(x, 3, 2, 1, &opts, picks, NULL, NULL, NULL), ADZE_ENUMERIC);
    assert_int_equal(adze_kcenter_count(0.1, 31744), 3174);
    assert_int_equal(adze_kcenter_count(0.1, 5), 1);
    assert_int_equal(adze_kcenter_count(2.0, 5), 5);
    assert_int_equal(adze_kcenter_count(0.0, 5), 0);
}

static bool stop_at_once(void *arg, int64_t done, int64_t total)
{
    *(int64_t *)arg = done;
    return done < 0 || total < 0;
}

static void it_can_be_stopped(void **state)
{
    (void)state;
    enum { N = 3000, d = 8, K = 1000 };
    float *x = cloud_of(UNIFORM, N, d);
    int64_t *picks = malloc(K * sizeof *picks), start = 0, seen = -1;
    volatile sig_atomic_t cancel = 1;
    size_t before = adze_memory_live_bytes();
    adze_kcenter_opts opts = ADZE_KCENTER_OPTS;
    assert_non_null(picks);
    opts.starts = &start, opts.n_starts = 1, opts.cancel = &cancel;
    assert_int_equal(adze_kcenter_select(x, N, d, K, &opts, picks, NULL, NULL, NULL), ADZE_EINTERRUPTED);
    cancel = 0;
    opts.progress = stop_at_once, opts.progress_arg = &seen;
    adze_status st = adze_kcenter_select(x, N, d, K, &opts, picks, NULL, NULL, NULL);
    assert_int_equal(st, ADZE_EINTERRUPTED); /* at the latest at the end: the last call always comes */
    assert_true(seen > 0);
    assert_int_equal(adze_memory_live_bytes(), before);
    free(x), free(picks);
}

static void memory_failures_leave_nothing_behind(void **state)
{
    (void)state;
    enum { N = 600, d = 5, K = 100 };
    float *x = cloud_of(UNIFORM, N, d);
    int64_t picks[K];
    size_t before = adze_memory_live_bytes();
    adze_kcenter_opts opts = ADZE_KCENTER_OPTS;
    opts.init = ADZE_KCENTER_NORM;
    adze_status st = ADZE_ENOMEM;
    int64_t n = 1;
    for (; st != ADZE_OK; n++) {
        adze_memory_fail_after(n, false);
        st = adze_kcenter_select(x, N, d, K, &opts, picks, NULL, NULL, NULL);
        adze_memory_fail_after(0, false);
        assert_true(st == ADZE_OK || st == ADZE_ENOMEM);
        assert_int_equal(adze_memory_live_bytes(), before);
    }
    assert_true(n > 12);
    adze_memory_peak_reset();
    assert_int_equal(adze_kcenter_select(x, N, d, K, &opts, picks, NULL, NULL, NULL), ADZE_OK);
    assert_true(adze_memory_peak_bytes() - before <= adze_kcenter_bytes(N, d, K));
    adze_memory_limit_set(before + 16 * N);
    assert_int_equal(adze_kcenter_select(x, N, d, K, &opts, picks, NULL, NULL, NULL), ADZE_ENOMEM);
    adze_memory_limit_set(0);
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(picks_are_those_of_the_plain_loop),
        cmocka_unit_test(ties_go_to_the_lowest_row),
        cmocka_unit_test(exhaustion_repeats_row_0),
        cmocka_unit_test(start_values_are_the_defined_ones),
        cmocka_unit_test(bad_arguments_are_refused),
        cmocka_unit_test(it_can_be_stopped),
        cmocka_unit_test(memory_failures_leave_nothing_behind),
    };
    return cmocka_run_group_tests_name("kcenter", tests, NULL, NULL);
}
