/* test_philox.c - published vectors, and that every draw is a pure function with the right distribution. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/noise.h"
#include "core/philox.h"

static void blocks_are_the_published_ones(void **state)
{
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], want[4];
    } cases[] = {
        { { 0, 0, 0, 0 }, { 0, 0 }, { 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 } },
        { { UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX },
          { UINT32_MAX, UINT32_MAX },
          { 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd } },
        { { 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344 },
          { 0xa4093822, 0x299f31d0 },
          { 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 } },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t out[4];
        adze_philox_block(cases[i].counter, cases[i].key, out);
        assert_memory_equal(out, cases[i].want, sizeof out);
    }
    assert_int_equal(adze_philox_u32((adze_philox){ 0, 0, 0 }, 1), 0xe169c58d);
    assert_true(adze_philox_u64((adze_philox){ 0, 0, 0 }, 1) == UINT64_C(0x9b00dbd8bc57ac4c));
}

static void fills_equal_single_draws(void **state)
{
    (void)state;
    const adze_philox r = { 42, ADZE_STREAM_TEST, 7 };
    float u[37], z[37];
    for (uint64_t first = 0; first < 9; first++) {
        adze_philox_fill_uniform(r, first, u, 37);
        adze_philox_fill_normal(r, first, z, 37);
        for (uint64_t j = 0; j < 37; j++) {
            assert_true(u[j] == adze_philox_uniform(r, first + j));
            assert_true(z[j] == adze_philox_normal(r, first + j));
        }
    }
}

static void seed_stream_item_and_index_all_matter(void **state)
{
    (void)state;
    const adze_philox r = { 1, 2, 3 };
    const adze_philox others[] = { { 2, 2, 3 }, { 1 + (UINT64_C(1) << 32), 2, 3 }, { 1, 3, 3 }, { 1, 2, 4 } };
    uint64_t value = adze_philox_u64(r, 5);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) assert_true(adze_philox_u64(others[i], 5) != value);
    assert_true(adze_philox_u64(r, 5 + (UINT64_C(1) << 33)) != value);
}

static void moments_are_right(void **state)
{
    (void)state;
    enum { N = 1 << 20 };
    const adze_philox r = { 42, ADZE_STREAM_TEST, 0 };
    double u1 = 0, u2 = 0, z1 = 0, z2 = 0, z4 = 0, pair = 0;
    for (uint64_t i = 0; i < N; i++) {
        double u = adze_philox_uniform(r, i), z = adze_philox_normal(r, i);
        assert_true(u >= 0.0 && u < 1.0 && isfinite(z));
        u1 += u, u2 += u * u, z1 += z, z2 += z * z, z4 += z * z * z * z;
        if (i % 2) pair += z * adze_philox_normal(r, i - 1);
    }
    /* five standard errors of each mean: deviations 1/sqrt(12), sqrt(4/45), 1, sqrt(2), sqrt(96), 1 over sqrt(count) */
    double five = 5.0 / sqrt((double)N);
    assert_true(fabs(u1 / N - 0.5) < five * sqrt(1.0 / 12));
    assert_true(fabs(u2 / N - 1.0 / 3) < five * sqrt(4.0 / 45));
    assert_true(fabs(z1 / N) < five);
    assert_true(fabs(z2 / N - 1.0) < five * sqrt(2.0));
    assert_true(fabs(z4 / N - 3.0) < five * sqrt(96.0));
    assert_true(fabs(pair / (N / 2)) < five * sqrt(2.0));
}

static void bounded_draws_are_unbiased(void **state)
{
    (void)state;
    const adze_philox r = { 7, ADZE_STREAM_TEST, 1 };
    enum { N = 210000, FACES = 7 };
    int64_t hits[FACES] = { 0 };
    for (uint64_t i = 0; i < N; i++) hits[adze_philox_below(r, i, FACES)]++;
    for (int f = 0; f < FACES; f++) /* five deviations of a binomial count */
        assert_true(fabs((double)hits[f] - N / (double)FACES) < 5.0 * sqrt(N * (1.0 / FACES) * (1 - 1.0 / FACES)));

    /* n just above 2^63: half of all words are rejected; without rejection the lower half would come twice as often */
    const uint64_t n = (UINT64_C(1) << 63) + 1;
    int64_t low = 0, rejected = 0;
    for (uint64_t i = 0; i < 20000; i++) {
        uint64_t v = adze_philox_below(r, i, n);
        assert_true(v < n);
        low += v < n / 2;
        rejected += v != (uint64_t)(((unsigned __int128)adze_philox_u64(r, i) * n) >> 64);
    }
    assert_true(fabs((double)low - 10000.0) < 5.0 * sqrt(5000.0));
    assert_true(rejected > 9000 && rejected < 11000);
    assert_int_equal(adze_philox_below(r, 3, 1), 0);
}

static void permutations_are_complete_and_even(void **state)
{
    (void)state;
    enum { N = 101, TRIALS = 24000 };
    int64_t order[N], seen[N] = { 0 };
    adze_philox_permutation((adze_philox){ 42, ADZE_STREAM_SHUFFLE, 0 }, order, N);
    for (int i = 0; i < N; i++) seen[order[i]]++;
    for (int i = 0; i < N; i++) assert_int_equal(seen[i], 1);

    int64_t count[24] = { 0 };
    for (uint32_t t = 0; t < TRIALS; t++) {
        int64_t p[4];
        adze_philox_permutation((adze_philox){ 42, ADZE_STREAM_SHUFFLE, t }, p, 4);
        int rank = 0;
        for (int i = 0; i < 4; i++) {
            int smaller = 0;
            for (int j = i + 1; j < 4; j++) smaller += p[j] < p[i];
            rank = rank * (4 - i) + smaller;
        }
        count[rank]++;
    }
    for (int i = 0; i < 24; i++) assert_true(fabs((double)count[i] - 1000.0) < 5.0 * sqrt(1000.0));
    adze_philox_permutation((adze_philox){ 1, 0, 0 }, order, 0);
}

/* Against the numbers in double: a float32 rounding of log u and of the angle, which the radius (at most 6.7) multiplies: 16 of
 * them; where the pair is short, log u is near 0 and 2^-25 of it is much, sqrt(2 * 2^-24) at the very end. */
static void noise_is_the_same_numbers_faster(void **state)
{
    (void)state;
    enum { N = 100003 };
    static float x[N], y[N], z[N];
    const adze_philox r = { 42, ADZE_STREAM_NOISE, 7 };
    adze_noise_fill(r, 1.0f, x, N, 1);
    adze_philox_fill_normal(r, 0, y, N);
    for (int64_t i = 0; i < N - 1; i++) {
        double length = hypot(y[i & ~1], y[i | 1]), bound = length > 0.1 ? 16 * 0x1p-24 * 6.7 / 4 : sqrt(2.0 * 0x1p-24);
        if (!(fabs((double)x[i] - y[i]) <= bound)) fail_msg("number %lld: %.9g, want %.9g", (long long)i, (double)x[i], (double)y[i]);
    }
    adze_noise_fill(r, 1.0f, z, N, 3);
    assert_memory_equal(x, z, sizeof x);
    for (int64_t n = 1; n < 200; n += 31) { /* a shorter one is the beginning of a longer one */
        adze_noise_fill(r, 1.0f, z, n, 2);
        assert_memory_equal(x, z, (size_t)n * sizeof *x);
    }
    adze_noise_fill((adze_philox){ 42, ADZE_STREAM_NOISE, 8 }, 1.0f, z, N, 1);
    assert_memory_not_equal(x, z, sizeof x);
    adze_noise_fill(r, 0.0f, z, 100, 1);
    for (int i = 0; i < 100; i++) assert_true(z[i] == 0.0f);
}

/* SimpleNet's: 1e7 numbers of deviation 0.015; five standard errors of mean, variance and fourth moment. */
static void noise_has_the_moments(void **state)
{
    (void)state;
    enum { N = 1 << 20, ITEMS = 10 };
    static float x[N];
    const double s = 0.015, n = (double)N * ITEMS, five = 5.0 / sqrt(n);
    double m1 = 0, m2 = 0, m4 = 0, largest = 0;
    for (uint32_t item = 0; item < ITEMS; item++) {
        adze_noise_fill((adze_philox){ 0, ADZE_STREAM_NOISE, item }, 0.015f, x, N, 2);
        for (int64_t i = 0; i < N; i++) {
            double z = x[i] / s;
            m1 += z, m2 += z * z, m4 += z * z * z * z;
            largest = fmax(largest, fabs(z));
        }
    }
    assert_true(fabs(m1 / n) < five);
    assert_true(fabs(m2 / n - 1.0) < five * sqrt(2.0));
    assert_true(fabs(m4 / n - 3.0) < five * sqrt(96.0));
    assert_true(largest > 4.0 && largest < 6.7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_the_published_ones),
        cmocka_unit_test(fills_equal_single_draws),
        cmocka_unit_test(seed_stream_item_and_index_all_matter),
        cmocka_unit_test(moments_are_right),
        cmocka_unit_test(bounded_draws_are_unbiased),
        cmocka_unit_test(permutations_are_complete_and_even),
        cmocka_unit_test(noise_is_the_same_numbers_faster),
        cmocka_unit_test(noise_has_the_moments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
