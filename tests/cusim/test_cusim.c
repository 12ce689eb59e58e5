/* test_cusim.c - the emulator runs kernels right, under every schedule. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cusim.h"
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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sums_blocks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
