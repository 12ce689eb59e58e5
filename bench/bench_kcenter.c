/* bench_kcenter.c - time of the greedy k-center selection, and a plain loop to check its picks against.
 *
 *   bench-kcenter [--points X.npy | --shape N,d] [--ratio 0.1] [--starts 10] [--isa NAME] [--threads 2] [--runs 3]
 *                 [--picks P.npy] [--check K] [--serve]
 *
 * Starts are rows 0, N/n, 2N/n, ...  --check K compares the first K picks with the plain loop of core/kcenter.h.
 * --serve runs once per line on stdin and answers with the seconds. The floor is the product of the naive algorithm,
 * 2 N K d FLOP; the lazy one does less, so it may stand above 100 %. */
#include <inttypes.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/npy_array.h"
#include "bench/peak.h"
#include "core/hash.h"
#include "core/kcenter.h"

typedef struct {
    const char *points, *picks;
    int64_t N, d, n_starts, check;
    double ratio;
    int runs;
    bool serve;
    adze_isa isa;
    int threads;
} settings;

static int fail(const char *what)
{
    fprintf(stderr, "bench-kcenter: %s\n", what);
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
        if (strcmp(flag, "--points") == 0) s->points = value;
        else if (strcmp(flag, "--picks") == 0) s->picks = value;
        else if (strcmp(flag, "--ratio") == 0) s->ratio = atof(value);
        else if (strcmp(flag, "--starts") == 0) s->n_starts = atoll(value);
        else if (strcmp(flag, "--check") == 0) s->check = atoll(value);
        else if (strcmp(flag, "--runs") == 0) s->runs = atoi(value);
        else if (strcmp(flag, "--threads") == 0) s->threads = atoi(value);
        else if (strcmp(flag, "--isa") == 0) {
            s->isa = ADZE_ISA_AVX512_BF16;
            while (s->isa > ADZE_ISA_AUTO && strcmp(adze_isa_name(s->isa), value) != 0) s->isa = (adze_isa)(s->isa - 1);
        } else if (strcmp(flag, "--shape") == 0) {
            if (sscanf(value, "%" SCNd64 ",%" SCNd64, &s->N, &s->d) != 2) return false;
        } else {
            return false;
        }
    }
    return s->runs > 0 && s->n_starts > 0;
}

/* Clusters of uneven size and spread: closer to patch features than one uniform cloud. */
static float *random_points(int64_t N, int64_t d)
{
    enum { CLUSTERS = 200 };
    float *x = malloc((size_t)(N * d) * sizeof *x);
    for (int64_t i = 0; x && i < N; i++) {
        uint64_t cluster = (adze_splitmix64((uint64_t)i) >> 32) * CLUSTERS >> 32;
        float spread = 0.1f + 0.3f * (float)(adze_splitmix64(cluster) >> 40) * 0x1p-24f;
        for (int64_t j = 0; j < d; j++) {
            float centre = (float)(adze_splitmix64((cluster << 20) + (uint64_t)j) >> 40) * 0x1p-24f;
            float noise = (float)(adze_splitmix64((UINT64_C(1) << 50) + (uint64_t)(i * d + j)) >> 40) * 0x1p-24f - 0.5f;
            x[i * d + j] = centre + spread * noise;
        }
    }
    return x;
}

static float distance(const float *a, const float *b, int64_t d)
{
    float lane[16] = { 0 };
    for (int64_t j = 0; j < d; j++) lane[j % 16] += (a[j] - b[j]) * (a[j] - b[j]);
    for (int half = 8; half > 0; half /= 2)
        for (int l = 0; l < half; l++) lane[l] += lane[l + half];
    return sqrtf(lane[0]);
}

/* The loop of core/kcenter.h as it stands there; number of picks that agree. */
static int64_t plain_agreement(const float *x, int64_t N, int64_t d, const float *start, const int64_t *picks, int64_t K)
{
    float *m = malloc((size_t)N * sizeof *m);
    int64_t same = 0;
    if (!m) return 0;
    memcpy(m, start, (size_t)N * sizeof *m);
    for (; same < K; same++) {
        int64_t p = 0;
        for (int64_t i = 1; i < N; i++)
            if (m[i] > m[p]) p = i;
        if (p != picks[same]) break;
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < N; i++) m[i] = fminf(m[i], distance(x + i * d, x + p * d, d));
    }
    free(m);
    return same;
}

int main(int argc, char **argv)
{
    settings s = { .N = 24576, .d = 128, .n_starts = 10, .ratio = 0.1, .runs = 3 };
    if (!parse(&s, argc, argv)) return fail("see the head of bench_kcenter.c for the flags");
    if (s.threads <= 0) s.threads = omp_get_max_threads();
    float *x = s.points ? npy_read(s.points, &s.N, &s.d) : random_points(s.N, s.d);
    if (!x) return fail("no points");
    int64_t K = adze_kcenter_count(s.ratio, s.N);
    int64_t *picks = malloc((size_t)K * sizeof *picks), *starts = malloc((size_t)s.n_starts * sizeof *starts);
    float *start = malloc((size_t)s.N * sizeof *start);
    if (!picks || !starts || !start) return fail("out of memory");
    for (int64_t i = 0; i < s.n_starts; i++) starts[i] = i * s.N / s.n_starts;
    adze_kcenter_opts opts = ADZE_KCENTER_OPTS;
    opts.starts = starts, opts.n_starts = s.n_starts, opts.isa = s.isa, opts.threads = s.threads;

    adze_kcenter_stats stats = { 0 };
    double best = 0.0, begin = bench_seconds();
    adze_status st = adze_kcenter_select(x, s.N, s.d, K, &opts, picks, start, NULL, &stats);
    best = bench_seconds() - begin;
    if (st == ADZE_OK && s.picks && !npy_write(s.picks, "<i8", sizeof *picks, picks, K, 1)) st = ADZE_EIO;
    if (st == ADZE_OK && s.check > 0) {
        int64_t want = s.check < K ? s.check : K, same = plain_agreement(x, s.N, s.d, start, picks, want);
        printf("check: %" PRId64 " of %" PRId64 " picks as the plain loop\n", same, want);
        if (same != want) st = adze_fail(ADZE_EINTERNAL, "the picks differ from the plain loop's");
    }
    double peak = bench_peak_flops(s.threads, BENCH_BF16), flops = 2.0 * (double)s.N * (double)K * (double)s.d;
    if (st == ADZE_OK && s.serve) {
        char line[64];
        printf("ready %" PRId64 " batches %" PRId64 " filtered %" PRId64 " direct %" PRId64 " peak_bf16 %.6g\n", K,
               stats.batches, stats.filtered, stats.direct, peak);
        fflush(stdout);
        while (st == ADZE_OK && fgets(line, sizeof line, stdin)) {
            begin = bench_seconds();
            st = adze_kcenter_select(x, s.N, s.d, K, &opts, picks, NULL, NULL, NULL);
            printf("%.9f\n", bench_seconds() - begin);
            fflush(stdout);
        }
    } else if (st == ADZE_OK) {
        for (int r = 1; st == ADZE_OK && r < s.runs; r++) {
            begin = bench_seconds();
            st = adze_kcenter_select(x, s.N, s.d, K, &opts, picks, NULL, NULL, NULL);
            best = fmin(best, bench_seconds() - begin);
        }
        printf("kcenter N=%" PRId64 " d=%" PRId64 " K=%" PRId64 " threads=%d: fastest %.3f s of %d; floor of the naive product "
               "%.3f s at the measured bf16 peak of %.1f GFLOP/s; batches %" PRId64 ", pairs settled %.1f %% of N K, of which "
               "direct %.2f %%\n",
               s.N, s.d, K, s.threads, best, s.runs, flops / peak, 1e-9 * peak, stats.batches,
               100.0 * (double)stats.filtered / ((double)s.N * (double)K),
               100.0 * (double)stats.direct / ((double)s.N * (double)K));
    }
    if (st != ADZE_OK) fprintf(stderr, "bench-kcenter: %s\n", adze_error_message());
    free(x), free(picks), free(starts), free(start);
    return adze_status_exit_code(st);
}
