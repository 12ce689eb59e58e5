/* test_cusim.c - the emulator runs kernels right and finds every mistake of cusim_mistakes.cu, under every schedule. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "cusim.h"
#include "tests/cusim/cusim_mistakes.h"
#include "tests/cusim/test_cusim_kernels.h"

static const char *const schedules[] = {"forward", "reverse", "warps", "random:1", "random:2"};

static void sums_blocks(void **state)
{
    (void)state;
    enum { N = 1000, BLOCKS = (N + 255) / 256 };
    float x[N], sum[BLOCKS], *dx, *dsum;
    for (int i = 0; i < N; i++) x[i] = (float)(i % 7);
    assert_int_equal(cudaMalloc((void **)&dx, sizeof x), cudaSuccess);
    assert_int_equal(cudaMalloc((void **)&dsum, sizeof sum), cudaSuccess);
    assert_int_equal(cudaMemcpy(dx, x, sizeof x, cudaMemcpyHostToDevice), cudaSuccess);
    for (size_t s = 0; s < sizeof schedules / sizeof *schedules; s++) {
        assert_true(cusim_set_schedule(schedules[s]));
        assert_int_equal(test_block_sum(dx, dsum, N, NULL), cudaSuccess);
        assert_int_equal(cudaMemcpy(sum, dsum, sizeof sum, cudaMemcpyDeviceToHost), cudaSuccess);
        for (int b = 0; b < BLOCKS; b++) {
            float want = 0.0f; /* small integers: exact in any order */
            for (int i = 256 * b; i < N && i < 256 * (b + 1); i++) want += x[i];
            assert_true(sum[b] == want);
        }
    }
    cudaFree(dx);
    cudaFree(dsum);
}

static void multiplies_matrices(void **state)
{
    (void)state;
    float a[16 * 16], b[8 * 16], d[2][16 * 8], *p;
    for (int i = 0; i < 256; i++) a[i] = (float)(i * 7 % 13 - 6); /* small integers: exact in bf16, and so are the sums */
    for (int i = 0; i < 128; i++) b[i] = (float)(i * 5 % 11 - 5);
    assert_int_equal(cudaMalloc((void **)&p, sizeof a + sizeof b + sizeof d), cudaSuccess);
    assert_int_equal(cudaMemcpy(p, a, sizeof a, cudaMemcpyHostToDevice), cudaSuccess);
    assert_int_equal(cudaMemcpy(p + 256, b, sizeof b, cudaMemcpyHostToDevice), cudaSuccess);
    for (size_t s = 0; s < sizeof schedules / sizeof *schedules; s++) {
        assert_true(cusim_set_schedule(schedules[s]));
        assert_int_equal(test_mma(p, p + 256, p + 384, p + 512, NULL), cudaSuccess);
        assert_int_equal(cudaMemcpy(d, p + 384, sizeof d, cudaMemcpyDeviceToHost), cudaSuccess);
        for (int i = 0; i < 16; i++)
            for (int j = 0; j < 8; j++) {
                float want = 0.0f;
                for (int k = 0; k < 16; k++) want += a[i * 16 + k] * b[j * 16 + k];
                assert_true(d[0][i * 8 + j] == want);
                assert_true(d[1][i * 8 + j] == want);
            }
    }
    cudaFree(p);
}

static void copies_asynchronously(void **state)
{
    (void)state;
    enum { N = 333 };
    float x[N], y[N], *p;
    for (int i = 0; i < N; i++) x[i] = (float)i;
    assert_int_equal(cudaMalloc((void **)&p, 2 * 336 * sizeof *p), cudaSuccess);
    assert_int_equal(cudaMemcpy(p, x, sizeof x, cudaMemcpyHostToDevice), cudaSuccess);
    for (size_t s = 0; s < sizeof schedules / sizeof *schedules; s++) {
        assert_true(cusim_set_schedule(schedules[s]));
        assert_int_equal(test_staged(p, p + 336, N, NULL), cudaSuccess);
        assert_int_equal(cudaMemcpy(y, p + 336, sizeof y, cudaMemcpyDeviceToHost), cudaSuccess);
        for (int i = 0; i < N; i++) assert_true(y[i] == 2.0f * x[i]);
    }
    cudaFree(p);
}

/* Sectors per request and bank conflicts of kernels for which they are known. */
static void counts_sectors_and_conflicts(void **state)
{
    (void)state;
    static const struct { int stride, sectors; } strides[] = {{1, 4}, {2, 8}, {8, 32}, {0, 1}};
    float *p;
    cusim_counts c;
    assert_int_equal(cudaMalloc((void **)&p, 2048 * sizeof *p), cudaSuccess);
    assert_int_equal(cudaMemset(p, 0, 2048 * sizeof *p), cudaSuccess);
    for (size_t s = 0; s < sizeof schedules / sizeof *schedules; s++) {
        assert_true(cusim_set_schedule(schedules[s]));
        for (size_t i = 0; i < sizeof strides / sizeof *strides; i++) {
            cusim_count(true);
            assert_int_equal(test_strided(p, p + 1024, strides[i].stride), cudaSuccess);
            assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
            assert_true(cusim_counts_of("strided_kernel", &c));
            assert_int_equal(c.load.requests, 1);
            assert_int_equal(c.load.sectors, strides[i].sectors);
            assert_int_equal(c.load.fewest, strides[i].stride == 0 ? 1 : 4);
            assert_int_equal(c.store.sectors, 4);
        }
        cusim_count(true);
        assert_int_equal(test_vector(p, p + 1024), cudaSuccess);
        for (int pitch = 32; pitch <= 33; pitch++) {
            assert_int_equal(test_transpose(p, p + 1024, pitch), cudaSuccess);
            assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
            assert_true(cusim_counts_of("transpose_kernel", &c));
            assert_int_equal(c.shared_requests, (pitch - 31) * 64);
            assert_int_equal(c.worst_conflict, 32);
            /* writes: 32 rows without conflict; reads: 32 columns, each in one bank, or one row more in all banks */
            assert_int_equal(c.shared_passes, pitch == 32 ? 32 + 32 * 32 : 32 + 32 * 32 + 64);
            assert_int_equal(c.load.sectors, (pitch - 31) * 32 * 4);
        }
        assert_true(cusim_counts_of("vector_kernel", &c));
        assert_int_equal(c.load.requests, 1);
        assert_int_equal(c.load.sectors, 16);
        assert_int_equal(c.load.bytes, 512);
        assert_int_equal(c.store.sectors, 16);
    }
    cusim_count(false);
    cudaFree(p);
}

/* Without checks nobody knows what kernels have written: nothing is called uninitialised then, nor afterwards what was written then. */
static void off_reports_nothing(void **state)
{
    (void)state;
    enum { N = 96 };
    float x[N], y[N], *p;
    for (int i = 0; i < N; i++) x[i] = (float)i;
    assert_true(cusim_set_schedule("forward"));
    assert_int_equal(cudaMalloc((void **)&p, 3 * sizeof x), cudaSuccess);
    assert_true(cusim_set_checks("off"));
    assert_int_equal(cudaMemcpy(p, x, sizeof x, cudaMemcpyHostToDevice), cudaSuccess);
    assert_int_equal(test_staged(p, p + N, N, NULL), cudaSuccess);
    assert_int_equal(cudaMemcpy(y, p + N, sizeof y, cudaMemcpyDeviceToHost), cudaSuccess);
    assert_true(y[N - 1] == 2.0f * (N - 1));
    assert_true(cusim_set_checks("full"));
    assert_int_equal(test_staged(p + N, p + 2 * N, N, NULL), cudaSuccess);
    assert_int_equal(cudaMemcpy(y, p + 2 * N, sizeof y, cudaMemcpyDeviceToHost), cudaSuccess);
    assert_true(y[N - 1] == 4.0f * (N - 1));
    assert_int_equal(cusim_error_count(), 0);
    cudaFree(p);
}

/* How many accesses per second of processor time the checks let through; printed, since it is the machine's as well. */
static void tells_its_speed(void **state)
{
    (void)state;
    enum { N = 1 << 18, TURNS = 8 };
    static const char *const checks[] = {"full", "fast"};
    static float x[N];
    float *p;
    assert_true(cusim_set_schedule("forward"));
    assert_int_equal(cudaMalloc((void **)&p, sizeof x), cudaSuccess);
    assert_int_equal(cudaMemset(p, 0, sizeof x), cudaSuccess);
    for (int c = 0; c < 2; c++) {
        assert_true(cusim_set_checks(checks[c]));
        assert_int_equal(test_sweep(p, N, 1), cudaSuccess); /* touches the tables */
        assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
        const clock_t begin = clock();
        assert_int_equal(test_sweep(p, N, TURNS), cudaSuccess);
        assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
        const double seconds = (double)(clock() - begin) / CLOCKS_PER_SEC;
        printf("%s checks: %.1f million accesses per second\n", checks[c], 2e-6 * N * TURNS / (seconds > 0.0 ? seconds : 1e-6));
    }
    assert_true(cusim_set_checks("full"));
    assert_int_equal(cudaMemcpy(x, p, sizeof x, cudaMemcpyDeviceToHost), cudaSuccess);
    for (int i = 0; i < N; i++) assert_true(x[i] == 2.0f * (TURNS + 1));
    cudaFree(p);
}

/* Every mistake is told, in the words that the table of the README promises. */
static void finds_mistakes(void **state)
{
    (void)state;
    int missed = 0;
    for (size_t i = 0; i < cusim_n_mistakes; i++)
        for (size_t s = 0; s < sizeof schedules / sizeof *schedules; s++) {
            const cusim_mistake *m = &cusim_mistakes[i];
            assert_true(cusim_set_schedule(schedules[s]));
            m->run(false);
            bool found = cusim_error_count() > 0 && strstr(cusim_first_error(), m->report);
            if (!found) print_error("%s, %s: want '%s', got '%s'\n", m->name, schedules[s], m->report, cusim_first_error());
            missed += !found;
            cusim_clear();
        }
    assert_int_equal(missed, 0);
}

/* The same programs without the mistake pass. */
static void finds_nothing_else(void **state)
{
    (void)state;
    int wrong = 0;
    for (size_t i = 0; i < cusim_n_mistakes; i++)
        for (size_t s = 0; s < sizeof schedules / sizeof *schedules; s++) {
            assert_true(cusim_set_schedule(schedules[s]));
            cusim_mistakes[i].run(true);
            bool clean = cusim_error_count() == 0 && cudaGetLastError() == cudaSuccess;
            if (!clean) print_error("%s, %s: '%s'\n", cusim_mistakes[i].name, schedules[s], cusim_first_error());
            wrong += !clean;
            cusim_clear();
        }
    assert_int_equal(wrong, 0);
}

/* The README's table has every mistake. */
static void readme_names_mistakes(void **state)
{
    (void)state;
    static char text[1 << 16];
    FILE *f = fopen("tests/cusim/README.md", "r");
    assert_non_null(f);
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = '\0';
    for (size_t i = 0; i < cusim_n_mistakes; i++) {
        char name[80];
        snprintf(name, sizeof name, "`%s`", cusim_mistakes[i].name);
        if (!strstr(text, name)) fail_msg("%s is not in the table", name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sums_blocks), cmocka_unit_test(multiplies_matrices),
                                       cmocka_unit_test(copies_asynchronously), cmocka_unit_test(counts_sectors_and_conflicts), cmocka_unit_test(off_reports_nothing),
                                       cmocka_unit_test(tells_its_speed),
                                       cmocka_unit_test(finds_mistakes),
                                       cmocka_unit_test(finds_nothing_else), cmocka_unit_test(readme_names_mistakes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
