/* test_random_rotation.c - rotations are rotations, the same whatever the threads, and spread evenly. */
#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/memory.h"
#include "core/random_rotation.h"

static const adze_philox stream = { .seed = 5, .stream = ADZE_STREAM_TEST };

/* By elimination with pivots; a is overwritten. */
static double determinant(double *a, int64_t n)
{
    double det = 1.0;
    for (int64_t k = 0; k < n; k++) {
        int64_t best = k;
        for (int64_t i = k; i < n; i++)
            if (fabs(a[i * n + k]) > fabs(a[best * n + k])) best = i;
        for (int64_t j = 0; j < n && best != k; j++) {
            double t = a[k * n + j];
            a[k * n + j] = a[best * n + j], a[best * n + j] = t;
        }
        det *= best == k ? a[k * n + k] : -a[k * n + k];
        for (int64_t i = k + 1; i < n; i++)
            for (int64_t j = n - 1; j >= k; j--) a[i * n + j] -= a[i * n + k] / a[k * n + k] * a[k * n + j];
    }
    return det;
}

/* n reflections of a few roundings each: n * 8 * 2^-53. */
static void rows_are_orthonormal_with_determinant_one(void **state)
{
    (void)state;
    static const int64_t sizes[] = { 1, 2, 3, 8, 31, 64 };
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int64_t n = sizes[s], n_normals = n * (n + 1) / 2 - 1;
        double *x = malloc((size_t)(n_normals + 1) * sizeof *x), *w = malloc((size_t)(n * n) * sizeof *w), bound = (double)n * 8.0 * 0x1p-53;
        for (int64_t i = 0; i < n_normals; i++) x[i] = adze_philox_normal(stream, (uint64_t)i);
        adze_rotation_from_normals(n, x, w);
        for (int64_t i = 0; i < n; i++)
            for (int64_t k = 0; k < n; k++) {
                double dot = 0.0;
                for (int64_t j = 0; j < n; j++) dot += w[i * n + j] * w[k * n + j];
                assert_true(fabs(dot - (i == k)) <= bound);
            }
        assert_true(fabs(determinant(w, n) - 1.0) <= (double)n * bound);
        free(x), free(w);
    }
}

/* The reference's loop, step by step, for two dimensions: x = (x0, x1), one reflection. */
static void two_dimensions_by_hand(void **state)
{
    (void)state;
    double x[2] = { -0.6, 0.8 }, w[4];
    adze_rotation_from_normals(2, x, w);
    /* d0 = -1, x0 = -1.6, scale 1/sqrt((1 - 0.36 + 2.56)/2): H = 1 - x x^T; rows times d0 = -1, d1 = (-1)(-1) = 1 */
    const double v0 = -1.6 / sqrt(1.6), v1 = 0.8 / sqrt(1.6), want[4] = { -(1.0 - v0 * v0), v0 * v1, -v0 * v1, 1.0 - v1 * v1 };
    for (int i = 0; i < 4; i++) assert_true(fabs(w[i] - want[i]) < 1e-15);
}

static void threads_change_no_bit(void **state)
{
    (void)state;
    enum { N = 67 };
    float *a = malloc(N * N * sizeof *a), *b = malloc(N * N * sizeof *b);
    omp_set_num_threads(1);
    assert_int_equal(adze_random_rotation(stream, N, a), ADZE_OK);
    omp_set_num_threads(3);
    assert_int_equal(adze_random_rotation(stream, N, b), ADZE_OK);
    assert_memory_equal(a, b, N * N * sizeof *a);
    free(a), free(b);
}

/* An element of a uniform rotation of n dimensions has mean 0 and variance 1/n: over m draws four standard errors. */
static void elements_are_spread_evenly(void **state)
{
    (void)state;
    enum { N = 5, DRAWS = 2000 };
    double sum[N * N] = { 0.0 }, squares[N * N] = { 0.0 };
    for (int d = 0; d < DRAWS; d++) {
        float w[N * N];
        assert_int_equal(adze_random_rotation((adze_philox){ .seed = 6, .stream = ADZE_STREAM_TEST, .item = (uint32_t)d }, N, w), ADZE_OK);
        for (int i = 0; i < N * N; i++) sum[i] += w[i], squares[i] += w[i] * w[i];
    }
    for (int i = 0; i < N * N; i++) {
        assert_true(fabs(sum[i] / DRAWS) < 4.0 * sqrt(1.0 / N / DRAWS));
        assert_true(fabs(squares[i] / DRAWS - 1.0 / N) < 4.0 * sqrt(2.0 * (N - 1) / (N * N * (N + 2.0)) / DRAWS));
    }
}

static void allocations_may_fail(void **state)
{
    (void)state;
    float w[9];
    size_t live = adze_memory_live_bytes();
    for (int64_t n = 1; n <= 3; n++) {
        adze_memory_fail_after(n, false);
        assert_int_equal(adze_random_rotation(stream, 3, w), ADZE_ENOMEM);
        adze_memory_fail_after(0, false);
        assert_int_equal(adze_memory_live_bytes(), live);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_orthonormal_with_determinant_one), cmocka_unit_test(two_dimensions_by_hand),
        cmocka_unit_test(threads_change_no_bit),                     cmocka_unit_test(elements_are_spread_evenly),
        cmocka_unit_test(allocations_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
