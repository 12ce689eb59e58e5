/* bench_knn.c - time of an exact k-NN query against its arithmetic floor.
 *
 *   bench-knn [--bank B.npy --queries Q.npy | --shape Q,M,D] [--k 1] [--precision fastest|f32|bf16|int8] [--isa NAME] [--threads 2]
 *             [--runs 7] [--dist D.npy] [--idx I.npy] [--serve]
 *
 * Without files the points are uniform random. --serve runs once per line on stdin and answers with the seconds: so a
 * script can alternate with another program. The last-level caches are not flushed: in use the bank is as warm. */
#include <inttypes.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench_main.h"
#include "bench/npy_array.h"
#include "bench/peak.h"
#include "core/hash.h"
#include "core/knn.h"

typedef struct {
    const char *bank, *queries, *dist, *idx;
    int64_t Q, M, D;
    int k, runs;
    bool serve;
    adze_bank_opts opts;
} settings;

static const char *const precisions[] = { "fastest", "f32", "bf16", "int8" };

static int fail(const char *what)
{
    fprintf(stderr, "bench-knn: %s\n", what);
    return 2;
}

static bool parse(settings *s, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *flag = argv[i];
        if (strcmp(flag, "--serve") == 0) {
            s->serve = true;
            continue;
        }
        if (i + 1 == argc) return false;
        const char *value = argv[++i];
        if (strcmp(flag, "--bank") == 0) s->bank = value;
        else if (strcmp(flag, "--queries") == 0) s->queries = value;
        else if (strcmp(flag, "--dist") == 0) s->dist = value;
        else if (strcmp(flag, "--idx") == 0) s->idx = value;
        else if (strcmp(flag, "--k") == 0) s->k = atoi(value);
        else if (strcmp(flag, "--runs") == 0) s->runs = atoi(value);
        else if (strcmp(flag, "--threads") == 0) s->opts.threads = atoi(value);
        else if (strcmp(flag, "--precision") == 0) {
            s->opts.precision = ADZE_KNN_INT8;
            while (s->opts.precision > ADZE_KNN_FASTEST && strcmp(precisions[s->opts.precision], value) != 0)
                s->opts.precision = (adze_knn_precision)(s->opts.precision - 1);
        }
        else if (strcmp(flag, "--isa") == 0) {
            s->opts.isa = ADZE_ISA_AVX512_BF16;
            while (s->opts.isa > ADZE_ISA_AUTO && strcmp(adze_isa_name(s->opts.isa), value) != 0)
                s->opts.isa = (adze_isa)(s->opts.isa - 1);
        } else if (strcmp(flag, "--shape") == 0) {
            if (sscanf(value, "%" SCNd64 ",%" SCNd64 ",%" SCNd64, &s->Q, &s->M, &s->D) != 3) return false;
        } else {
            return false;
        }
    }
    return s->runs > 0 && !s->bank == !s->queries;
}

static float *random_points(uint64_t seed, int64_t n)
{
    float *x = malloc((size_t)n * sizeof *x);
    for (int64_t i = 0; x && i < n; i++)
        x[i] = (float)(adze_splitmix64(seed + (uint64_t)i) >> 40) * 0x1p-24f;
    return x;
}

static bench_arithmetic kind_of(const settings *s)
{
    return s->opts.precision == ADZE_KNN_F32 ? BENCH_F32 : s->opts.precision == ADZE_KNN_BF16 ? BENCH_BF16 : BENCH_INT8;
}

int main(int argc, char **argv)
{
    settings s = { .Q = 1024, .M = 24576, .D = 1024, .k = 1, .runs = 7, .opts = ADZE_BANK_OPTS };
    if (!parse(&s, argc, argv)) return fail("see the head of bench_knn.c for the flags");
    if (s.opts.threads <= 0) s.opts.threads = omp_get_max_threads();
    int64_t D = s.D;
    float *bank = s.bank ? npy_read(s.bank, &s.M, &s.D) : random_points(1, s.M * s.D);
    float *q = s.queries ? npy_read(s.queries, &s.Q, &D) : random_points(UINT64_C(1) << 40, s.Q * s.D);
    if (!bank || !q || D != s.D) return fail("no points, or widths that differ");
    float *dist = malloc((size_t)(s.Q * s.k) * sizeof *dist);
    int32_t *idx = malloc((size_t)(s.Q * s.k) * sizeof *idx);
    double *wall = malloc((size_t)s.runs * sizeof *wall);
    if (!dist || !idx || !wall) return fail("out of memory");

    adze_bank *b = NULL;
    adze_bank_stats stats = { 0 };
    double start = bench_seconds();
    adze_status st = adze_bank_create(&b, s.M, s.D, &s.opts);
    if (st == ADZE_OK) st = adze_bank_append(b, bank, s.M);
    if (st == ADZE_OK) st = adze_bank_seal(b);
    double seal_s = bench_seconds() - start;
    if (st == ADZE_OK) st = adze_bank_query(b, q, s.Q, s.k, dist, idx, &stats);
    if (st == ADZE_OK && s.dist && !npy_write(s.dist, "<f4", sizeof *dist, dist, s.Q, s.k)) st = ADZE_EIO;
    if (st == ADZE_OK && s.idx && !npy_write(s.idx, "<i4", sizeof *idx, idx, s.Q, s.k)) st = ADZE_EIO;
    if (st == ADZE_OK && s.serve) {
        char line[64];
        printf("ready %.6f rerun_f32 %" PRId64 " rerun_direct %" PRId64 " candidates %" PRId64 " peak %.6g\n", seal_s,
               stats.rerun_f32, stats.rerun_direct, stats.candidates, bench_peak_flops(s.opts.threads, kind_of(&s)));
        fflush(stdout);
        while (st == ADZE_OK && fgets(line, sizeof line, stdin)) {
            start = bench_seconds();
            st = adze_bank_query(b, q, s.Q, s.k, dist, idx, NULL);
            printf("%.9f\n", bench_seconds() - start);
            fflush(stdout);
        }
    } else if (st == ADZE_OK) {
        for (int r = 0; st == ADZE_OK && r < s.runs; r++) {
            start = bench_seconds();
            st = adze_bank_query(b, q, s.Q, s.k, dist, idx, NULL);
            wall[r] = bench_seconds() - start;
        }
        bench_sort(wall, s.runs);
        double flops = 2.0 * (double)s.Q * (double)s.M * (double)s.D, peak = bench_peak_flops(s.opts.threads, kind_of(&s));
        printf("knn %s Q=%" PRId64 " M=%" PRId64 " D=%" PRId64 " k=%d threads=%d: seal %.1f ms; query median %.2f ms, fastest "
               "%.2f ms of %d; %.1f Gop/s; floor %.2f ms at the measured peak of %.1f Gop/s; %.0f %% of the floor; "
               "candidates %" PRId64 ", rerun f32 %" PRId64 ", direct %" PRId64 "\n",
               precisions[s.opts.precision], s.Q, s.M, s.D, s.k, s.opts.threads, 1e3 * seal_s, 1e3 * wall[s.runs / 2],
               1e3 * wall[0], s.runs, 1e-9 * flops / wall[0], 1e3 * flops / peak, 1e-9 * peak,
               100.0 * flops / peak / wall[0], stats.candidates, stats.rerun_f32, stats.rerun_direct);
    }
    if (st != ADZE_OK) fprintf(stderr, "bench-knn: %s\n", adze_error_message());
    adze_bank_destroy(b);
    free(bank), free(q), free(dist), free(idx), free(wall);
    return adze_status_exit_code(st);
}
