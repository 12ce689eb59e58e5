/* test_knn.c - the bank's answers against a plain full scan, on every instruction set and precision; the error bound on
 * adversarial data; reruns, ties, bad input, memory. Most data are multiples of 1/64: squared distances are then exact in
 * double, and so is the expected order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/cpu/score_tile.h"
#include "core/hash.h"
#include "core/knn.h"
#include "core/memory.h"

static const adze_isa isas[] = { ADZE_ISA_REFERENCE, ADZE_ISA_AVX2, ADZE_ISA_AVX512, ADZE_ISA_AVX512_BF16 };
static const adze_knn_precision precisions[] = { ADZE_KNN_FASTEST, ADZE_KNN_F32, ADZE_KNN_BF16, ADZE_KNN_INT8 };
enum { ISAS = sizeof isas / sizeof *isas, PRECISIONS = sizeof precisions / sizeof *precisions };

static double unit(uint64_t seed, int64_t i)
{
    return (double)(adze_splitmix64(adze_splitmix64(seed) + (uint64_t)i) >> 40) * 0x1p-24;
}

/* Multiples of 1/64 in [-4,4). */
static float *grid(uint64_t seed, int64_t n)
{
    float *x = malloc((size_t)n * sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < n; i++) x[i] = (float)(floor(512.0 * unit(seed, i)) / 64.0 - 4.0);
    return x;
}

static adze_bank *bank_of(const float *x, int64_t M, int64_t D, adze_knn_precision precision, adze_isa isa, int threads)
{
    adze_bank *b = NULL;
    adze_bank_opts opts = ADZE_BANK_OPTS;
    opts.precision = precision, opts.isa = isa, opts.threads = threads;
    assert_int_equal(adze_bank_create(&b, M, D, &opts), ADZE_OK);
    assert_int_equal(adze_bank_append(b, x, M / 2), ADZE_OK);
    assert_int_equal(adze_bank_append(b, x + M / 2 * D, M - M / 2), ADZE_OK);
    assert_int_equal(adze_bank_seal(b), ADZE_OK);
    return b;
}

/* Expected rows by a full scan: k times the smallest (distance, row) above the last. */
static void scan(const float *q, const float *x, int64_t M, int64_t D, int k, float *dist, int32_t *idx)
{
    double *d = malloc((size_t)M * sizeof *d);
    assert_non_null(d);
    for (int64_t j = 0; j < M; j++) {
        d[j] = 0.0;
        for (int64_t c = 0; c < D; c++) d[j] += ((double)q[c] - (double)x[j * D + c]) * ((double)q[c] - (double)x[j * D + c]);
    }
    for (int n = 0; n < k; n++) {
        int64_t best = 0;
        for (int64_t j = 1; j < M; j++)
            if (d[j] < d[best]) best = j;
        idx[n] = (int32_t)best, dist[n] = (float)d[best];
        d[best] = INFINITY;
    }
    free(d);
}

static void check_against_scan(const adze_bank *b, const float *q, int64_t Q, const float *x, int64_t M, int64_t D, int k)
{
    enum { GUARD = 0x5a5a5a5a };
    size_t n = (size_t)(Q * k);
    int32_t *idx = malloc((n + 2) * sizeof *idx), *want_idx = malloc((size_t)k * sizeof *want_idx);
    float *dist = malloc(n * sizeof *dist), *want = malloc((size_t)k * sizeof *want);
    assert_true(idx && dist && want && want_idx);
    idx[0] = idx[n + 1] = GUARD;
    assert_int_equal(adze_bank_query(b, q, Q, k, dist, idx + 1, NULL), ADZE_OK);
    assert_true(idx[0] == GUARD && idx[n + 1] == GUARD);
    for (int64_t i = 0; i < Q; i++) {
        scan(q + i * D, x, M, D, k, want, want_idx);
        assert_memory_equal(idx + 1 + i * k, want_idx, (size_t)k * sizeof *want_idx);
        assert_memory_equal(dist + i * k, want, (size_t)k * sizeof *want);
    }
    free(idx), free(want_idx), free(dist), free(want);
}

static void every_version_equals_the_full_scan(void **state)
{
    (void)state;
    static const struct {
        int64_t Q, M, D;
        int k;
    } shapes[] = { { 1, 1, 1, 1 }, { 31, 33, 31, 1 }, { 33, 101, 33, 3 },  { 7, 127, 64, 9 },
                   { 8, 48, 2, 5 }, { 97, 211, 131, 64 }, { 3, 300, 4, 256 }, { 130, 49, 17, 2 } };
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        float *x = grid(2 * s, shapes[s].M * shapes[s].D), *q = grid(2 * s + 1, shapes[s].Q * shapes[s].D);
        for (int i = 0; i < ISAS; i++)
            for (int p = 0; p < PRECISIONS; p++) {
                if (!adze_isa_available(isas[i])) continue;
                adze_bank *b = bank_of(x, shapes[s].M, shapes[s].D, precisions[p], isas[i], 2);
                check_against_scan(b, q, shapes[s].Q, x, shapes[s].M, shapes[s].D, shapes[s].k);
                adze_bank_destroy(b);
            }
        free(x), free(q);
    }
}

static void ties_and_duplicates_go_to_the_lower_row(void **state)
{
    (void)state;
    enum { M = 150, D = 3, Q = 40 };
    float *x = grid(5, M * D), *q = grid(6, Q * D);
    for (int64_t i = 0; i < M * D; i++) x[i] = floorf(x[i] / 3.0f);
    for (int64_t i = 0; i < Q * D; i++) q[i] = floorf(q[i] / 3.0f);
    for (int p = 0; p < PRECISIONS; p++) {
        adze_bank *b = bank_of(x, M, D, precisions[p], ADZE_ISA_AUTO, 2);
        check_against_scan(b, q, Q, x, M, D, 12);
        adze_bank_destroy(b);
    }
    free(x), free(q);
}

/* The same rows, reruns included, whatever the number of threads. */
static void threads_do_not_matter(void **state)
{
    (void)state;
    enum { M = 1000, D = 40, Q = 301, K = 4 };
    float *x = grid(7, M * D), *q = grid(8, Q * D), first[Q * K], dist[Q * K];
    int32_t first_idx[Q * K], idx[Q * K];
    adze_bank_stats first_stats, stats;
    for (int threads = 1; threads <= 5; threads += 2) {
        adze_bank *b = bank_of(x, M, D, ADZE_KNN_FASTEST, ADZE_ISA_AUTO, threads);
        assert_int_equal(adze_bank_query(b, q, Q, K, dist, idx, &stats), ADZE_OK);
        if (threads == 1) memcpy(first, dist, sizeof dist), memcpy(first_idx, idx, sizeof idx), first_stats = stats;
        assert_memory_equal(dist, first, sizeof dist);
        assert_memory_equal(idx, first_idx, sizeof idx);
        assert_memory_equal(&stats, &first_stats, sizeof stats);
        adze_bank_destroy(b);
    }
    free(x), free(q);
}

/* Thousands of rows at one distance: no low precision can tell them apart, and the answer is still right. */
static void failed_certificates_are_run_again(void **state)
{
    (void)state;
    enum { M = 3000, D = 32, Q = 5 };
    float *x = calloc(M * D, sizeof *x), *q = calloc(Q * D, sizeof *q);
    assert_true(x && q);
    for (int64_t j = 0; j < M; j++) {
        for (int64_t c = 0; c < D; c++) x[j * D + c] = unit(9, j * D + c) < 0.5 ? -1.0f : 1.0f; /* all at |x|^2 = D from 0 */
        x[j * D] += (float)((j * 7919) % M) * 0x1p-20f;                                           /* but for this */
    }
    q[D] = 100.0f;
    adze_bank_stats stats;
    for (int p = 1; p < PRECISIONS; p++) {
        adze_bank *b = bank_of(x, M, D, precisions[p], ADZE_ISA_AUTO, 2);
        float dist[Q];
        int32_t idx[Q], want_idx;
        float want;
        assert_int_equal(adze_bank_query(b, q, Q, 1, dist, idx, &stats), ADZE_OK);
        for (int i = 0; i < Q; i++) {
            scan(q + i * D, x, M, D, 1, &want, &want_idx);
            assert_int_equal(idx[i], want_idx);
        }
        if (precisions[p] != ADZE_KNN_F32 && adze_isa_available(ADZE_ISA_AVX512_BF16)) assert_true(stats.rerun_f32 > 0);
        adze_bank_destroy(b);
    }
    for (int64_t i = D; i < M * D; i++) x[i] = x[i % D]; /* one row M times */
    adze_bank *b = bank_of(x, M, D, ADZE_KNN_FASTEST, ADZE_ISA_AUTO, 2);
    int32_t idx[Q * 3];
    assert_int_equal(adze_bank_query(b, q, Q, 3, NULL, idx, &stats), ADZE_OK);
    for (int i = 0; i < Q; i++)
        for (int n = 0; n < 3; n++) assert_int_equal(idx[3 * i + n], n);
    assert_int_equal(stats.queries, Q);
    adze_bank_destroy(b);
    free(x), free(q);
}

/* |computed - exact| <= e(q,b) for every pair, on data made to round badly. */
static void the_error_bound_holds(void **state)
{
    (void)state;
    enum { D = 203, Q = ADZE_SCORE_QUERIES, R = ADZE_SCORE_ROWS, KINDS = 7 };
    static float q[Q * D], x[R * D], m[D], init[R], scale[Q], row_scale[R], t[Q];
    static int32_t shift[R];
    static float panel[Q * (D + 1)], tile[R * (D + 1)];
    static adze_score_hits hits;
    double largest_share[3] = { 0 };
    for (int kind = 0; kind < KINDS; kind++) {
        for (int64_t i = 0; i < (Q + R) * D; i++) {
            double u = 2.0 * unit(20 + (uint64_t)kind, i) - 1.0, v = u;
            if (kind == 1) v = 1.0 + 0x1p-9 + u * 0x1p-20;                  /* all round the same way */
            if (kind == 2) v = 1000.0 + u;                                  /* far from the mean */
            if (kind == 3) v = i % D == 3 ? 1e6 * u : u;                    /* one element dwarfs the others */
            if (kind == 4) v = u * pow(2.0, 60.0 * unit(40, i) - 30.0);     /* all magnitudes */
            if (kind == 5) v = u * 0x1p-130;                                /* subnormal */
            if (kind == 6) v = (i / D) % 2 ? 1.0 - 0x1p-9 : 0x1p-9 - 1.0;   /* rows of opposite sign at a rounding edge */
            if (i < Q * D) q[i] = (float)v;
            else x[i - Q * D] = (float)v;
        }
        for (int64_t c = 0; c < D; c++) m[c] = kind == 2 ? 999.5f : kind == 0 ? 0.25f * x[c] : 0.0f;
        for (int i = 0; i < Q; i++) t[i] = -INFINITY;
        for (int isa = 0; isa < ISAS; isa++)
            for (int type = 0; type < 3; type++) {
                if (!adze_isa_available(isas[isa])) continue;
                const adze_score_kernels *kernels = adze_score_kernels_get(isas[isa]);
                if (!kernels->tile[type]) continue;
                adze_packed_row q_info[Q], x_info[R];
                kernels->pack[type](q, NULL, Q, D, m, Q, panel, q_info);
                kernels->pack[type](x, NULL, R, D, m, R, tile, x_info);
                for (int j = 0; j < R; j++) {
                    init[j] = (float)(-0.5 * x_info[j].norm2);
                    row_scale[j] = x_info[j].scale;
                    shift[j] = -128 * x_info[j].sum;
                }
                for (int i = 0; i < Q; i++) scale[i] = q_info[i].scale;
                adze_score_operands o = { .panel = panel, .tile = tile, .init = init, .t = t, .query_scale = scale,
                                          .row_scale = row_scale, .row_shift = shift, .D = D };
                kernels->tile[type](&o, &hits);
                assert_int_equal(hits.any, 0xff);
                for (int i = 0; i < Q; i++) {
                    adze_score_margin margin = adze_score_margin_of(&q_info[i], adze_score_accumulation(D, (adze_score_type)type));
                    for (int j = 0; j < R; j++) {
                        double exact = 0.0;
                        for (int64_t c = 0; c < D; c++) {
                            double a = (double)q[i * D + c] - (double)m[c], b = (double)x[j * D + c] - (double)m[c];
                            exact += b * (a - 0.5 * b);
                        }
                        double e = (double)adze_score_error(&margin, x_info[j].norm, x_info[j].residual);
                        double error = fabs((double)hits.s[i][j] - exact);
                        assert_true(error <= e);
                        largest_share[type] = fmax(largest_share[type], error / e);
                    }
                }
            }
    }
    for (int type = 0; type < 3; type++) assert_true(largest_share[type] > 0.01); /* the data do round badly */
}

static void bad_arguments_are_refused(void **state)
{
    (void)state;
    adze_bank *b = NULL;
    float x[6] = { 0, 1, 2, 3, 4, 5 }, bad[2] = { 0, NAN }, huge[2] = { 0, 3e38f };
    int64_t index[2] = { 2, 3 };
    int32_t idx[3];
    adze_bank_opts opts = ADZE_BANK_OPTS;
    assert_int_equal(adze_bank_create(&b, 0, 2, NULL), ADZE_EINVAL);
    assert_null(b);
    assert_int_equal(adze_bank_create(&b, 3, ADZE_BANK_MAX_D + 1, NULL), ADZE_EINVAL);
    opts.precision = (adze_knn_precision)9;
    assert_int_equal(adze_bank_create(&b, 3, 2, &opts), ADZE_EINVAL);
    opts = ADZE_BANK_OPTS, opts.isa = (adze_isa)17;
    assert_int_equal(adze_bank_create(&b, 3, 2, &opts), ADZE_EINVAL);
    assert_int_equal(adze_bank_create(&b, 3, 2, NULL), ADZE_OK);
    assert_int_equal(adze_bank_seal(b), ADZE_EINVAL);
    assert_int_equal(adze_bank_append(b, bad, 1), ADZE_ENUMERIC);
    assert_int_equal(adze_bank_append(b, huge, 1), ADZE_ENUMERIC);
    assert_int_equal(adze_bank_count(b), 0);
    assert_int_equal(adze_bank_gather(b, x, 3, index, 2), ADZE_EINVAL);
    assert_int_equal(adze_bank_gather(b, x, 3, index, 1), ADZE_OK);
    assert_int_equal(adze_bank_append(b, x, 3), ADZE_EINVAL);
    assert_int_equal(adze_bank_append(b, x, 1), ADZE_OK);
    assert_int_equal(adze_bank_query(b, x, 1, 1, NULL, idx, NULL), ADZE_EINVAL);
    assert_int_equal(adze_bank_seal(b), ADZE_OK);
    assert_int_equal(adze_bank_seal(b), ADZE_EINVAL);
    assert_int_equal(adze_bank_append(b, x, 1), ADZE_EINVAL);
    assert_int_equal(adze_bank_query(b, x, 1, 3, NULL, idx, NULL), ADZE_EINVAL);
    assert_int_equal(adze_bank_query(b, x, 1, 0, NULL, idx, NULL), ADZE_EINVAL);
    assert_int_equal(adze_bank_query(b, bad, 1, 1, NULL, idx, NULL), ADZE_ENUMERIC);
    assert_int_equal(adze_bank_neighbours(b, 2, 1, NULL, idx), ADZE_EINVAL);
    assert_int_equal(adze_bank_query(b, x, 0, 1, NULL, NULL, NULL), ADZE_OK);
    assert_int_equal(adze_bank_query(b, x, 1, 2, NULL, idx, NULL), ADZE_OK);
    assert_true(idx[0] == 1 && idx[1] == 0);
    assert_float_equal(adze_bank_rows(b)[0], 4.0, 0.0);
    assert_int_equal(adze_bank_dim(b), 2);
    adze_bank_destroy(b);
    adze_bank_destroy(NULL);
}

static void reweighting_follows_the_formula(void **state)
{
    (void)state;
    const float x[] = { 0, 0, 3, 4, 6, 8 }, q[] = { 0, 1, 3, 5.5f };
    float dist[2];
    int32_t idx[2];
    adze_bank_reweight r;
    adze_bank *b = bank_of(x, 3, 2, ADZE_KNN_FASTEST, ADZE_ISA_AUTO, 1);
    assert_int_equal(adze_bank_query(b, q, 2, 1, dist, idx, NULL), ADZE_OK);
    assert_int_equal(adze_bank_reweight_score(b, q, 2, dist, idx, 2, &r), ADZE_OK);
    assert_true(r.patch == 1 && r.nearest == 1);
    double far = sqrt(9.0 + 5.5 * 5.5); /* row 0 is as far from row 1 as row 2 is, and lower */
    double weight = 1.0 - exp(1.5) / (exp(1.5) + exp(far));
    assert_float_equal(r.max, 1.5, 1e-6);
    assert_float_equal(r.weight, weight, 1e-6);
    assert_float_equal(r.score, 1.5 * weight, 2e-6);
    assert_int_equal(adze_bank_reweight_score(b, q, 2, dist, idx, 9, &r), ADZE_OK); /* a support larger than the bank */
    assert_int_equal(adze_bank_reweight_score(b, q, 2, dist, idx, 0, &r), ADZE_EINVAL);
    adze_bank_destroy(b);
}

static adze_status whole_use(const float *x, int64_t M, int64_t D, adze_knn_precision precision)
{
    adze_bank *b = NULL;
    int32_t idx[2];
    adze_bank_opts opts = ADZE_BANK_OPTS;
    opts.precision = precision;
    adze_status st = adze_bank_create(&b, M, D, &opts);
    if (st == ADZE_OK) st = adze_bank_append(b, x, M);
    if (st == ADZE_OK) st = adze_bank_seal(b);
    if (st == ADZE_OK) st = adze_bank_query(b, x, 1, 2, NULL, idx, NULL);
    adze_bank_destroy(b);
    return st;
}

static void memory_failures_leave_nothing_behind(void **state)
{
    (void)state;
    enum { M = 60, D = 9 };
    float *x = grid(11, M * D);
    size_t before = adze_memory_live_bytes();
    for (int p = 0; p < PRECISIONS; p++) {
        adze_status st = ADZE_ENOMEM;
        int64_t n = 1;
        for (; st != ADZE_OK; n++) {
            adze_memory_fail_after(n, false);
            st = whole_use(x, M, D, precisions[p]);
            adze_memory_fail_after(0, false);
            assert_true(st == ADZE_OK || st == ADZE_ENOMEM);
            assert_int_equal(adze_memory_live_bytes(), before);
        }
        assert_true(n > 8);
        adze_bank *b = bank_of(x, M, D, precisions[p], ADZE_ISA_AUTO, 0);
        assert_int_equal(adze_memory_live_bytes() - before, adze_bank_bytes(M, D, precisions[p]));
        adze_bank_destroy(b);
        adze_memory_limit_set(before + adze_bank_bytes(M, D, precisions[p]) - 1);
        assert_int_equal(whole_use(x, M, D, precisions[p]), ADZE_ENOMEM);
        adze_memory_limit_set(0);
    }
    assert_int_equal(adze_bank_bytes(-1, D, ADZE_KNN_F32), SIZE_MAX);
    free(x);
}

static void a_seal_that_failed_can_be_repeated(void **state)
{
    (void)state;
    adze_bank *b = NULL;
    const float x[] = { 1, 2, 3, 4 };
    int32_t idx;
    assert_int_equal(adze_bank_create(&b, 2, 2, NULL), ADZE_OK);
    assert_int_equal(adze_bank_append(b, x, 2), ADZE_OK);
    adze_memory_fail_after(2, false);
    assert_int_equal(adze_bank_seal(b), ADZE_ENOMEM);
    adze_memory_fail_after(0, false);
    assert_int_equal(adze_bank_seal(b), ADZE_OK);
    assert_int_equal(adze_bank_query(b, x + 2, 1, 1, NULL, &idx, NULL), ADZE_OK);
    assert_int_equal(idx, 1);
    adze_bank_destroy(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_version_equals_the_full_scan),
        cmocka_unit_test(ties_and_duplicates_go_to_the_lower_row),
        cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(failed_certificates_are_run_again),
        cmocka_unit_test(the_error_bound_holds),
        cmocka_unit_test(bad_arguments_are_refused),
        cmocka_unit_test(reweighting_follows_the_formula),
        cmocka_unit_test(memory_failures_leave_nothing_behind),
        cmocka_unit_test(a_seal_that_failed_can_be_repeated),
    };
    return cmocka_run_group_tests_name("knn", tests, NULL, NULL);
}
