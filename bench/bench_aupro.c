/* bench_aupro.c - all metrics of one class, timed. bench-aupro [--maps F --masks F] [--images N] [--size S] [--runs R]
 * [--threads T] [--random].
 *
 * Without files it makes smooth maps with bumps on a fifth of the images (--random: white noise, the worst case for the caches).
 * Files are raw: float32 (N,S,S) and bytes (N,S,S). One line `run ADD FINISH TOTAL` in milliseconds per run, then
 * `value NAME V` lines, then the floor: one read of maps and masks at the copy rate measured here. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/file.h"
#include "core/hash.h"
#include "core/memory.h"
#include "core/status.h"
#include "eval/metrics.h"

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static double noise(uint64_t i)
{
    return (double)(adze_splitmix64(i) >> 40) * 0x1p-24;
}

/* Bilinear interpolation of a grid of noise, 16 pixels a cell, plus fine noise. */
static void make_map(float *map, unsigned char *mask, int64_t S, uint64_t image, bool random)
{
    const int64_t cell = 16;
    const uint64_t key = image << 32;
    for (int64_t y = 0; y < S; y++)
        for (int64_t x = 0; x < S; x++) {
            double fine = noise(key + (uint64_t)(y * S + x)), v = fine;
            if (!random) {
                uint64_t corner = key + (UINT64_C(1) << 31) + (uint64_t)(y / cell * 4096 + x / cell);
                double fy = (double)(y % cell) / (double)cell, fx = (double)(x % cell) / (double)cell;
                v = (1 - fy) * ((1 - fx) * noise(corner) + fx * noise(corner + 1)) +
                    fy * ((1 - fx) * noise(corner + 4096) + fx * noise(corner + 4097)) + 0.02 * fine;
            }
            map[y * S + x] = (float)(1.0 + v);
            mask[y * S + x] = 0;
        }
    if (image % 5 != 0) return;
    for (uint64_t b = 0; b < 3; b++) {
        double cy = noise(key + 7 * b + 1) * (double)S, cx = noise(key + 7 * b + 2) * (double)S;
        double r = 4.0 + noise(key + 7 * b + 3) * (double)S / 10.0;
        for (int64_t y = 0; y < S; y++)
            for (int64_t x = 0; x < S; x++) {
                double d2 = ((double)y - cy) * ((double)y - cy) + ((double)x - cx) * ((double)x - cx);
                if (d2 < r * r) mask[y * S + x] = 1;
                if (d2 < 1.5 * r * r) map[y * S + x] += (float)(0.7 * (1.0 - d2 / (1.5 * r * r)));
            }
    }
}

typedef struct {
    const char *maps, *masks;
    int64_t n, S;
    int runs, threads;
    bool random;
} command;

static bool parse(command *c, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        if (strcmp(a, "--random") == 0) {
            c->random = true;
            continue;
        }
        if (i + 1 >= argc) return false;
        const char *v = argv[++i];
        if (strcmp(a, "--maps") == 0) c->maps = v;
        else if (strcmp(a, "--masks") == 0) c->masks = v;
        else if (strcmp(a, "--images") == 0) c->n = atoll(v);
        else if (strcmp(a, "--size") == 0) c->S = atoll(v);
        else if (strcmp(a, "--runs") == 0) c->runs = atoi(v);
        else if (strcmp(a, "--threads") == 0) c->threads = atoi(v);
        else return false;
    }
    return c->n > 0 && c->n < 1 << 20 && c->S > 0 && c->S < 1 << 14 && c->runs > 0 && !c->maps == !c->masks;
}

static adze_status run_once(const command *c, const float *maps, const unsigned char *masks, double ms[2],
                            adze_metrics_result *r)
{
    adze_status st = ADZE_OK;
    adze_metrics *m = NULL;
    adze_metrics_opts o = ADZE_METRICS_OPTS;
    o.H = o.W = c->S, o.max_images = c->n, o.threads = c->threads;
    const int64_t pixels = c->S * c->S;
    double start = now_ms();
    TRY(adze_metrics_create(&m, &o));
    for (int64_t i = 0; i < c->n; i++) {
        const unsigned char *mask = masks + i * pixels;
        TRY(adze_metrics_add(m, "image", maps + i * pixels, mask, memchr(mask, 1, (size_t)pixels) != NULL, NULL, NULL));
    }
    ms[0] = now_ms() - start;
    TRY(adze_metrics_finish(m, r));
    ms[1] = now_ms() - start - ms[0];
done:
    adze_metrics_destroy(m);
    return st;
}

/* Best of five copies of the maps: bytes read a millisecond by one thread. */
static double read_rate(const void *from, void *to, size_t n_bytes)
{
    double best = INFINITY;
    for (int k = 0; k < 5; k++) {
        double t = now_ms();
        memcpy(to, from, n_bytes);
        best = fmin(best, now_ms() - t);
    }
    return (double)n_bytes / best;
}

int main(int argc, char **argv)
{
    adze_status st = ADZE_OK;
    command c = { .n = 240, .S = 256, .runs = 5 };
    float *maps = NULL;
    unsigned char *masks = NULL;
    adze_metrics_result *r = NULL;
    if (!parse(&c, argc, argv)) {
        fprintf(stderr, "usage: bench-aupro [--maps F --masks F] [--images N] [--size S] [--runs R] [--threads T] [--random]\n");
        return 2;
    }
    const int64_t pixels = c.S * c.S;
    const size_t count = (size_t)(c.n * pixels);
    size_t got = count * sizeof *maps, got_masks = count;
    REQUIRE(r = adze_malloc(sizeof *r), ADZE_ENOMEM, "no memory for the result");
    if (c.maps) {
        unsigned char *raw;
        TRY(adze_file_read(c.maps, SIZE_MAX / 2, &raw, &got));
        maps = (float *)(void *)raw;
        TRY(adze_file_read(c.masks, SIZE_MAX / 2, &masks, &got_masks));
        REQUIRE(got == count * sizeof *maps && got_masks == count, ADZE_EINPUT, "%s: %zu bytes, want %zu", c.maps, got,
                count * sizeof *maps);
    } else {
        REQUIRE(maps = adze_malloc(got), ADZE_ENOMEM, "no memory for %zu pixels", count);
        REQUIRE(masks = adze_malloc(count), ADZE_ENOMEM, "no memory for %zu pixels", count);
        for (int64_t i = 0; i < c.n; i++) make_map(maps + i * pixels, masks + i * pixels, c.S, (uint64_t)i, c.random);
    }
    double best = INFINITY;
    for (int k = 0; k < c.runs; k++) {
        double ms[2];
        TRY(run_once(&c, maps, masks, ms, r));
        printf("run %.2f %.2f %.2f\n", ms[0], ms[1], ms[0] + ms[1]);
        best = fmin(best, ms[0] + ms[1]);
    }
    for (int k = 0; k < ADZE_METRIC_COUNT; k++)
        printf("value %s %.17g\n", adze_metric_name((adze_metric)k), r->value[k]);
    unsigned char *spare = adze_malloc(got);
    REQUIRE(spare, ADZE_ENOMEM, "no memory for the copy");
    double floor_ms = (double)(got + count) / (2.0 * read_rate(maps, spare, got));
    adze_free(spare);
    printf("%lld images of %lldx%lld, %lld anomalous pixels, %lld regions; best of %d: %.1f ms\n", (long long)c.n,
           (long long)c.S, (long long)c.S, (long long)r->n_pixels_bad, (long long)r->n_regions, c.runs, best);
    printf("floor %.1f ms: maps and masks read once by two threads at the rate of memcpy; %.1f %% of it reached\n", floor_ms,
           100.0 * floor_ms / best);
done:
    if (st != ADZE_OK) fprintf(stderr, "bench-aupro: %s\n", adze_error_message());
    adze_free(maps);
    adze_free(masks);
    adze_free(r);
    return adze_status_exit_code(st);
}
