/* test_device_calls.c - what a device computes outside of graphs, against the cpu: optimiser steps, maps, pixels, nearest
 * neighbours, greedy selection. On sizes of 1 and beside every multiple of a tile, under four orders of threads, which must give the
 * same bits. ADZE_TEST_DEVICE names another device than the emulator. */
#include <dlfcn.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/backend.h"
#include "core/kcenter.h"
#include "core/knn.h"
#include "core/map_post.h"
#include "core/philox.h"

static adze_ctx *device, *cpu;
static const char *const schedules[] = { "forward", "reverse", "warps", "random:5" };
enum { N_SCHEDULES = sizeof schedules / sizeof *schedules };
static bool (*set_schedule)(const char *schedule); /* of the emulator; NULL on a GPU, where each turn is the same */

static int (*context_state)(int device, unsigned *flags, int *active); /* likewise */

static bool take_schedule(int i) { return !set_schedule || set_schedule(schedules[i]); }

/* The emulator was loaded with the device; it is not linked, since its cuDNN would stand before the real one. */
static bool find_emulator(void)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/adze_cusim.so", getenv("ADZE_BACKEND_PATH") ? getenv("ADZE_BACKEND_PATH") : "");
    void *lib = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
    if (lib) *(void **)&set_schedule = dlsym(lib, "cusim_set_schedule");
    if (lib) *(void **)&context_state = dlsym(lib, "cuDevicePrimaryCtxGetState");
    return set_schedule != NULL;
}

static int open_both(void **state)
{
    (void)state;
    adze_ctx_opts opts = ADZE_CTX_OPTS;
    opts.device = "cpu";
    assert_int_equal(adze_ctx_create(&cpu, &opts), ADZE_OK);
    opts.device = getenv("ADZE_TEST_DEVICE") ? getenv("ADZE_TEST_DEVICE") : "cusim";
    if (adze_ctx_create(&device, &opts) != ADZE_OK) fail_msg("%s", adze_error_message());
    assert_true(find_emulator() == (strncmp(opts.device, "cusim", 5) == 0));
    return 0;
}

static int close_both(void **state)
{
    (void)state;
    unsigned flags;
    int active = 0;
    if (set_schedule && device->device_index != 0) { /* nothing was done on the device that a thread has by itself */
        assert_int_equal(context_state(0, &flags, &active), 0);
        assert_int_equal(active, 0);
    }
    adze_ctx_destroy(device);
    adze_ctx_destroy(cpu);
    return 0;
}

#define OK(call) \
    do { \
        if ((call) != ADZE_OK) fail_msg("%s", adze_error_message()); \
    } while (0)

/* In [-1, 1). */
static float *random_floats(int64_t n, uint32_t item)
{
    float *x = malloc((size_t)n * sizeof *x);
    adze_philox_fill_uniform((adze_philox){ .seed = 3, .stream = ADZE_STREAM_TEST, .item = item }, 0, x, n);
    for (int64_t i = 0; i < n; i++) x[i] = 2.0f * x[i] - 1.0f;
    return x;
}

static void *on(adze_ctx *ctx, const void *host, size_t n_bytes)
{
    void *p;
    OK(ctx->backend->alloc(ctx, n_bytes, ADZE_BLOCK_OTHER, &p));
    OK(ctx->backend->write(ctx, p, host, n_bytes));
    return p;
}

/* ---- optimisers ---- */

enum { N_PARAMS = 3 * 16384 + 4099, N_PIECES = 5 };
/* The last one starts beside a vector. */
static const adze_optim_piece piece_table[N_PIECES] = {
    { 0, 16384, 0 }, { 16384, 16384, 0 }, { 32768, 16384, 1 }, { 49152, 4095, 1 }, { 53250, 1, 2 },
};

typedef struct {
    float *p, *s0, *s1;
    double norm;
} optimised;

static optimised optimise(adze_ctx *ctx, adze_optim_kind kind, double momentum, double clip)
{
    optimised out = { malloc(N_PARAMS * sizeof(float)), calloc(N_PARAMS, sizeof(float)), calloc(N_PARAMS, sizeof(float)), 0.0 };
    float *p = random_floats(N_PARAMS, 1), *g = random_floats(N_PARAMS, 2);
    double zero[N_PIECES] = { 0.0 };
    const adze_backend *b = ctx->backend;
    adze_optim_norm norm = { .piece = on(ctx, piece_table, sizeof piece_table), .n_pieces = N_PIECES,
                             .grad = on(ctx, g, N_PARAMS * sizeof *g), .partial = on(ctx, zero, sizeof zero), .norm = on(ctx, zero, sizeof *zero) };
    adze_optim_at at = { .kind = kind, .beta1 = 0.5, .beta2 = 0.999 };
    adze_optim_rates rates = { .root_c2 = 0.0f };
    adze_optim_update u = { .kind = kind, .beta1 = 0.5, .beta2 = 0.999, .eps = 1e-8, .momentum = momentum, .rates = on(ctx, &rates, sizeof rates), .piece = norm.piece,
                            .n_pieces = N_PIECES, .param = on(ctx, p, N_PARAMS * sizeof *p), .grad = norm.grad, .clip = clip, .norm = norm.norm };
    bool two = kind != ADZE_OPTIM_SGD, one = two || momentum > 0.0;
    for (int i = 0; i < 3; i++) at.group[i] = (adze_optim_group){ 0.01 * (i + 1), 0.1 * i };
    if (one) u.state[0] = on(ctx, out.s0, N_PARAMS * sizeof(float));
    if (two) u.state[1] = on(ctx, out.s1, N_PARAMS * sizeof(float));
    for (at.step = 1; at.step <= 3; at.step++) {
        adze_optim_rates_at(&rates, &at);
        OK(b->write(ctx, (void *)u.rates, &rates, sizeof rates));
        OK(b->optim_norm(ctx, &norm));
        OK(b->optim_update(ctx, &u));
    }
    OK(b->read(ctx, out.p, u.param, N_PARAMS * sizeof(float)));
    if (one) OK(b->read(ctx, out.s0, u.state[0], N_PARAMS * sizeof(float)));
    if (two) OK(b->read(ctx, out.s1, u.state[1], N_PARAMS * sizeof(float)));
    OK(b->read(ctx, &out.norm, norm.norm, sizeof out.norm));
    void *parts[] = { (void *)norm.piece, (void *)norm.grad, (void *)u.rates, norm.partial, norm.norm, u.param, u.state[0], u.state[1] };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) b->free(ctx, parts[i]);
    free(p), free(g);
    return out;
}

static void forget(optimised o) { free(o.p), free(o.s0), free(o.s1); }

/* Without clipping every element has the cpu's bits; the norm is a sum of N squares in double in another order, and may change
 * the scale by one unit in the last place, which three steps carry on. */
static void optimisers_agree(void **state)
{
    (void)state;
    static const struct {
        adze_optim_kind kind;
        double momentum, clip;
    } cases[] = { { ADZE_OPTIM_SGD, 0.0, 0.0 }, { ADZE_OPTIM_SGD, 0.9, 0.0 },  { ADZE_OPTIM_ADAM, 0.0, 0.0 },
                  { ADZE_OPTIM_ADAMW, 0.0, 0.0 }, { ADZE_OPTIM_ADAM, 0.0, 10.0 }, { ADZE_OPTIM_SGD, 0.0, 1e9 } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        optimised want = optimise(cpu, cases[i].kind, cases[i].momentum, cases[i].clip);
        optimised first = { 0 };
        for (int s = 0; s < N_SCHEDULES; s++) {
            assert_true(take_schedule(s));
            optimised got = optimise(device, cases[i].kind, cases[i].momentum, cases[i].clip);
            assert_true(fabs(got.norm - want.norm) <= N_PARAMS * 0x1p-53 * want.norm);
            for (int64_t k = 0; k < N_PARAMS; k++) {
                double bound = cases[i].clip > 0.0 ? 16.0 * 0x1p-24 * (fabs((double)want.p[k]) + 0.03) : 0.0;
                if (!(fabs((double)got.p[k] - want.p[k]) <= bound))
                    fail_msg("case %zu, parameter %lld: %.9g, want %.9g", i, (long long)k, (double)got.p[k], (double)want.p[k]);
            }
            if (cases[i].clip == 0.0) {
                assert_memory_equal(got.s0, want.s0, N_PARAMS * sizeof(float));
                assert_memory_equal(got.s1, want.s1, N_PARAMS * sizeof(float));
            }
            if (s == 0) {
                first = got;
                continue;
            }
            assert_memory_equal(got.p, first.p, N_PARAMS * sizeof(float));
            assert_memory_equal(&got.norm, &first.norm, sizeof got.norm);
            forget(got);
        }
        forget(want), forget(first);
    }
}

/* ---- maps ---- */

static void maps_have_the_bits_of_the_cpu(void **state)
{
    (void)state;
    static const struct {
        int64_t B, h, w, H, W;
        double sigma;
        bool align_corners;
    } cases[] = { { 1, 1, 1, 1, 1, 4.0, false }, { 2, 8, 8, 33, 31, 4.0, false }, { 1, 7, 5, 13, 257, 0.0, true },
                  { 65, 4, 3, 9, 11, 1.3, true }, { 1, 31, 33, 5, 7, 4.0, false }, { 0, 3, 3, 5, 5, 4.0, false } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t n = cases[i].B * cases[i].h * cases[i].w, m = cases[i].B * cases[i].H * cases[i].W;
        float *x = random_floats(n + 1, 10 + (uint32_t)i), *want = malloc((size_t)(m + 1) * sizeof *want), *got = malloc((size_t)(m + 1) * sizeof *got);
        adze_map_opts opts = ADZE_MAP_OPTS;
        opts.align_corners = cases[i].align_corners;
        OK(adze_map_post(x, cases[i].B, cases[i].h, cases[i].w, cases[i].H, cases[i].W, cases[i].sigma, &opts, want));
        for (int s = 0; s < N_SCHEDULES; s++) {
            assert_true(take_schedule(s));
            OK(device->backend->map_post(device, x, cases[i].B, cases[i].h, cases[i].w, cases[i].H, cases[i].W, cases[i].sigma,
                                         cases[i].align_corners, got));
            assert_memory_equal(got, want, (size_t)m * sizeof *got);
        }
        free(x), free(want), free(got);
    }
    assert_int_equal(device->backend->map_post(device, NULL, 1, 0, 1, 1, 1, 4.0, false, NULL), ADZE_EINVAL);
}

/* ---- nearest neighbours ---- */

typedef struct {
    int64_t Q, M, D;
    int k;
    enum { SPREAD, FAR, TIED } data; /* rows all over; far from zero and close to each other; with many duplicates */
    bool again;                      /* the certificate must fail for some query: an outlier raises the bound, or equals do */
} knn_case;

static void neighbours(const knn_case *c, adze_knn_precision precision)
{
    float *rows = random_floats(c->M * c->D, 30), *q = random_floats(c->Q * c->D, 31);
    for (int64_t i = 0; i < c->M * c->D; i++)
        rows[i] = c->data == FAR ? 1.0f + 1e-4f * rows[i] + (i / c->D == 0 ? 50.0f : 0.0f) : c->data == TIED ? rows[i % (7 * c->D)] : rows[i];
    for (int64_t i = 0; i < c->Q * c->D; i++)
        q[i] = c->data == FAR ? 1.0f + 1e-4f * q[i] : c->data == TIED && i / c->D % 2 == 0 ? rows[i % (c->M * c->D)] : q[i];
    size_t n = (size_t)(c->Q * c->k);
    float *want = malloc(n * sizeof *want), *got = malloc(n * sizeof *got);
    int32_t *want_idx = malloc(n * sizeof *want_idx), *got_idx = malloc(n * sizeof *got_idx);
    adze_bank *reference;
    OK(adze_bank_create(&reference, c->M, c->D, NULL));
    OK(adze_bank_append(reference, rows, c->M));
    OK(adze_bank_seal(reference));
    OK(adze_bank_query(reference, q, c->Q, c->k, want, want_idx, NULL));
    for (int s = 0; s < N_SCHEDULES; s++) {
        adze_bank_stats stats;
        void *bank;
        assert_true(take_schedule(s));
        OK(device->backend->bank_create(device, &bank, rows, c->M, c->D, precision));
        float *on_device = on(device, q, (size_t)(c->Q * c->D) * sizeof *q);
        OK(device->backend->bank_query(device, bank, on_device, c->Q, c->k, got, got_idx, &stats));
        for (size_t i = 0; i < n; i++)
            if (got_idx[i] != want_idx[i] || memcmp(&got[i], &want[i], sizeof *got) != 0)
                fail_msg("Q=%d M=%d D=%d k=%d, result %zu: row %d at %.9g, want row %d at %.9g", (int)c->Q, (int)c->M, (int)c->D, c->k, i,
                         got_idx[i], (double)got[i], want_idx[i], (double)want[i]);
        assert_true(stats.queries == c->Q);
        if (c->again) assert_true(stats.rerun_f32 + stats.rerun_direct > 0);
        else if (c->k <= 12) assert_true(stats.rerun_f32 + stats.rerun_direct == 0);
        OK(device->backend->bank_query(device, bank, on_device, 1, 1, NULL, got_idx, NULL)); /* the workspace serves again */
        assert_int_equal(device->backend->bank_query(device, bank, on_device, 1, (int)c->M + 1, got, got_idx, NULL), ADZE_EINVAL);
        device->backend->free(device, on_device);
        device->backend->bank_destroy(device, bank);
    }
    adze_bank_destroy(reference);
    free(rows), free(q), free(want), free(got), free(want_idx), free(got_idx);
}

static void neighbours_are_exact(void **state)
{
    (void)state;
    static const knn_case cases[] = {
        { 1, 1, 1, 1, SPREAD, false },   { 33, 300, 33, 1, SPREAD, false }, { 130, 129, 64, 1, SPREAD, false }, { 5, 140, 20, 13, SPREAD, false },
        { 3, 257, 96, 9, SPREAD, false }, { 9, 260, 40, 1, FAR, true },      { 6, 135, 12, 1, TIED, true },     { 4, 129, 31, 3, TIED, true },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        neighbours(&cases[i], ADZE_KNN_FASTEST);
        neighbours(&cases[i], ADZE_KNN_F32);
    }
}

static void unsound_queries_are_named(void **state)
{
    (void)state;
    float rows[4] = { 1.0f, 2.0f, 3.0f, 4.0f }, q[4] = { 0.0f, 1.0f, NAN, 0.0f }, dist[2];
    int32_t idx[2];
    void *bank;
    OK(device->backend->bank_create(device, &bank, rows, 2, 2, ADZE_KNN_FASTEST));
    float *on_device = on(device, q, sizeof q);
    assert_int_equal(device->backend->bank_query(device, bank, on_device, 2, 1, dist, idx, NULL), ADZE_ENUMERIC);
    assert_non_null(strstr(adze_error_message(), "query 1"));
    device->backend->free(device, on_device);
    device->backend->bank_destroy(device, bank);
}

/* ---- greedy selection ---- */

/* Four schedules; the picks, and the values before and after, have the cpu's bits. */
static void selections_equal(const float *x, int64_t N, int64_t d, int64_t K, adze_kcenter_opts opts)
{
    size_t n = (size_t)N * sizeof(float);
    int64_t *want = malloc((size_t)(K + 1) * sizeof *want), *got = malloc((size_t)(K + 1) * sizeof *got);
    float *start[2] = { malloc(n), malloc(n) }, *rest[2] = { malloc(n), malloc(n) };
    OK(adze_kcenter_select(x, N, d, K, &opts, want, start[0], rest[0], NULL));
    for (int s = 0; s < N_SCHEDULES; s++) {
        assert_true(take_schedule(s));
        OK(device->backend->kcenter(device, x, N, d, K, &opts, got, start[1], rest[1]));
        assert_memory_equal(start[1], start[0], n);
        assert_memory_equal(got, want, (size_t)K * sizeof *got);
        assert_memory_equal(rest[1], rest[0], n);
    }
    free(want), free(got), free(start[0]), free(start[1]), free(rest[0]), free(rest[1]);
}

static void selections_are_those_of_the_cpu(void **state)
{
    (void)state;
    static const int64_t starts[3] = { 5, 0, 17 };
    adze_kcenter_opts mean = ADZE_KCENTER_OPTS, first = ADZE_KCENTER_OPTS, norm = ADZE_KCENTER_OPTS;
    mean.starts = starts, mean.n_starts = 3;
    first.init = ADZE_KCENTER_FIRST, first.starts = starts + 1, first.n_starts = 1;
    norm.init = ADZE_KCENTER_NORM;
    float *x = random_floats(1300 * 33, 40);
    selections_equal(x, 1, 1, 1, first);
    selections_equal(x, 700, 7, 30, mean);
    selections_equal(x, 1300, 33, 60, norm);
    selections_equal(x, 31, 16, 40, first); /* more picks than rows: exhausted */
    for (int64_t i = 0; i < 1300 * 33; i++) x[i] = x[i % 99]; /* 11 rows of 9, over and over: ties */
    selections_equal(x, 600, 9, 20, mean);
    free(x);
}

/* More rows of one value than a list holds. */
static void ties_beyond_the_list_are_picked_plainly(void **state)
{
    (void)state;
    enum { N = 4200 };
    adze_kcenter_opts opts = ADZE_KCENTER_OPTS;
    const int64_t start = 0;
    opts.init = ADZE_KCENTER_FIRST, opts.starts = &start, opts.n_starts = 1;
    float *x = calloc(N, sizeof *x);
    for (int64_t i = 1; i < N; i++) x[i] = i % 2 ? 1.0f : -1.0f;
    selections_equal(x, N, 1, 4, opts);
    x[3] = NAN;
    int64_t picks[4];
    assert_int_equal(device->backend->kcenter(device, x, N, 1, 4, &opts, picks, NULL, NULL), ADZE_ENUMERIC);
    assert_non_null(strstr(adze_error_message(), "row 3"));
    x[3] = 1.0f;
    const volatile sig_atomic_t cancel = 1;
    opts.cancel = &cancel;
    assert_int_equal(device->backend->kcenter(device, x, N, 1, 4, &opts, picks, NULL, NULL), ADZE_EINTERRUPTED);
    free(x);
}

/* ---- pixels ---- */

static void pixels_follow_the_table(void **state)
{
    (void)state;
    static const int64_t sizes[] = { 1, 31, 4096, 341 * 4 + 3 };
    float *table = random_floats(3 * 256, 20);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int64_t n = 3 * sizes[i];
        unsigned char *rgb = malloc((size_t)n);
        float *y = malloc((size_t)n * sizeof *y), *to;
        for (int64_t k = 0; k < n; k++)
            rgb[k] = (unsigned char)adze_philox_u32((adze_philox){ .seed = 5, .stream = ADZE_STREAM_TEST }, (uint64_t)k);
        for (int s = 0; s < N_SCHEDULES; s++) {
            assert_true(take_schedule(s));
            OK(device->backend->alloc(device, (size_t)n * sizeof *y, ADZE_BLOCK_OTHER, (void **)&to));
            OK(device->backend->normalize(device, rgb, sizes[i], table, to));
            OK(device->backend->read(device, y, to, (size_t)n * sizeof *y));
            device->backend->free(device, to);
            for (int64_t k = 0; k < n; k++) assert_true(y[k] == table[256 * (k % 3) + rgb[k]]);
        }
        free(rgb), free(y);
    }
    free(table);
}

/* ---- noise ---- */

/* One number, beside multiples of a thread's four and of a block's 1024, and a counter of 64 bits' worth of seed. */
static void noise_has_the_bits_of_the_cpu(void **state)
{
    (void)state;
    static const int64_t sizes[] = { 1, 3, 4, 5, 63, 64, 1023, 1025, 70001 };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const int64_t n = sizes[i];
        const adze_noise noise = { { .seed = 0x123456789abcdef0u + i, .stream = ADZE_STREAM_TEST, .item = (uint32_t)i }, 0.015f };
        float *want = malloc((size_t)n * sizeof *want), *got = malloc((size_t)n * sizeof *got), *to;
        OK(adze_noise_draw(cpu, &noise, want, n));
        for (int s = 0; s < N_SCHEDULES; s++) {
            assert_true(take_schedule(s));
            OK(device->backend->alloc(device, (size_t)n * sizeof *got, ADZE_BLOCK_OTHER, (void **)&to));
            OK(adze_noise_draw(device, &noise, to, n));
            OK(device->backend->read(device, got, to, (size_t)n * sizeof *got));
            device->backend->free(device, to);
            assert_memory_equal(got, want, (size_t)n * sizeof *got);
        }
        free(want), free(got);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(optimisers_agree),
        cmocka_unit_test(maps_have_the_bits_of_the_cpu),
        cmocka_unit_test(pixels_follow_the_table),
        cmocka_unit_test(noise_has_the_bits_of_the_cpu),
        cmocka_unit_test(neighbours_are_exact),
        cmocka_unit_test(unsound_queries_are_named),
        cmocka_unit_test(selections_are_those_of_the_cpu),
        cmocka_unit_test(ties_beyond_the_list_are_picked_plainly),
    };
    return cmocka_run_group_tests(tests, open_both, close_both);
}
