/* bench_decode.c - decode + resize + normalise per core: build/bin/bench-decode.
 *
 * One pass over the pictures on one thread, as a worker of the loader does it, into a float32 NHWC tensor. Standard output is
 * one JSON object: seconds of the whole pass and of its parts, and with --check the SHA-256 of each tensor in (C,H,W)
 * order, which bench/compare_decode.py holds against Pillow and torchvision. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench_main.h"
#include "core/clock.h"
#include "core/memory.h"
#include "core/options.h"
#include "core/sha256.h"
#include "datasets/dataset.h"
#include "datasets/decode.h"
#include "datasets/normalize.h"
#include "datasets/resize.h"

static const adze_option table[] = {
    { .name = "size", .type = ADZE_OPTION_INT, .fallback = "256", .min = 1, .max = 4096, .metavar = "N",
      .help = "side of the result", .group = "Work" },
    { .name = "filter", .type = ADZE_OPTION_CHOICE, .fallback = "bilinear", .choices = "nearest|box|bilinear|hamming|bicubic|lanczos|opencv",
      .help = "how to resize", .group = "Work" },
    { .name = "repeat", .type = ADZE_OPTION_INT, .fallback = "1", .min = 1, .max = 1000, .metavar = "N",
      .help = "passes over all pictures; the fastest is printed", .group = "Work" },
    { .name = "check", .type = ADZE_OPTION_FLAG, .help = "print the SHA-256 of each tensor, (3,H,W) float32", .group = "Work" },
    { .name = "help", .letter = 'h', .type = ADZE_OPTION_FLAG, .help = "this text", .group = "General", .properties = ADZE_OPTION_ACTION },
};

enum { PART_DECODE, PART_RESIZE, PART_NORMALIZE, N_PARTS };

typedef struct {
    int64_t n, size;
    const adze_data_item *items;
    adze_filter filter;
    adze_normalize normalize;
    unsigned char *rgb; /* owned, (size,size,3) */
    float *tensor;      /* owned, (size,size,3) */
} work;

static adze_status one(work *w, int64_t i, double part_s[N_PARTS])
{
    adze_status st = ADZE_OK;
    adze_image im = ADZE_IMAGE_EMPTY, small = ADZE_IMAGE_EMPTY;
    adze_decode_opts how = { .mode = ADZE_DECODE_ANY };
    int64_t n = w->size * w->size;
    double t0 = adze_clock_seconds();
    TRY(adze_image_decode_file(&im, w->items[i].image_path, &how, NULL));
    double t1 = adze_clock_seconds();
    TRY(adze_image_resize(&small, &im, w->size, w->size, w->filter));
    double t2 = adze_clock_seconds();
    if (small.C == 1) adze_pixels_gray_to_rgb(small.data, n, w->rgb);
    else memcpy(w->rgb, small.data, (size_t)n * 3);
    adze_normalize_nhwc(&w->normalize, w->rgb, n, w->tensor);
    double t3 = adze_clock_seconds();
    part_s[PART_DECODE] += t1 - t0, part_s[PART_RESIZE] += t2 - t1, part_s[PART_NORMALIZE] += t3 - t2;
done:
    adze_image_destroy(&im);
    adze_image_destroy(&small);
    return st;
}

static adze_status check(work *w)
{
    adze_status st = ADZE_OK;
    int64_t n = w->size * w->size;
    double part_s[N_PARTS] = { 0 };
    float *planes = adze_calloc((size_t)n * 3, sizeof *planes);
    REQUIRE(planes, ADZE_ENOMEM, "bench: %" PRId64 " floats", n * 3);
    printf(", \"sha256\": {");
    for (int64_t i = 0; i < w->n; i++) {
        char hex[ADZE_SHA256_HEX];
        TRY(one(w, i, part_s));
        adze_normalize_chw(&w->normalize, w->rgb, n, planes);
        for (int64_t k = 0; k < n; k++) /* both layouts must hold the same numbers */
            for (int64_t c = 0; c < 3; c++)
                REQUIRE(planes[c * n + k] == w->tensor[k * 3 + c], ADZE_EINTERNAL, "%s: layouts differ", w->items[i].path);
        adze_sha256_of(planes, (size_t)n * 3 * sizeof *planes, hex);
        printf("%s\"%s\": \"%s\"", i ? ", " : "", w->items[i].path, hex);
    }
    printf("}");
done:
    adze_free(planes);
    return st;
}

static adze_status run(const adze_options *o)
{
    adze_status st = ADZE_OK;
    adze_dataset *ds = NULL;
    const char **paths = NULL;
    work w = { .size = adze_options_int(o, "size") };
    int64_t n_paths = adze_options_arg_count(o);
    double best_s = 0.0, best_part_s[N_PARTS] = { 0 };
    REQUIRE(n_paths > 0, ADZE_EINVAL, "no pictures given; --help shows the usage");
    REQUIRE(paths = adze_calloc((size_t)n_paths, sizeof *paths), ADZE_ENOMEM, "bench: %" PRId64 " paths", n_paths);
    for (int64_t i = 0; i < n_paths; i++) paths[i] = adze_options_arg(o, i);
    TRY(adze_dataset_open_files(&ds, paths, n_paths));
    TRY(adze_filter_parse(&w.filter, adze_options_string(o, "filter")));
    w.items = adze_dataset_all(ds, &w.n);
    adze_normalize_init(&w.normalize, adze_imagenet_mean, adze_imagenet_std);
    size_t n = (size_t)(w.size * w.size * 3);
    REQUIRE((w.rgb = adze_malloc(n)) && (w.tensor = adze_malloc(n * sizeof *w.tensor)), ADZE_ENOMEM, "bench: tensor of %zu", n);
    for (int64_t r = 0; r < adze_options_int(o, "repeat"); r++) {
        double part_s[N_PARTS] = { 0 }, start = adze_clock_seconds();
        for (int64_t i = 0; i < w.n; i++) TRY(one(&w, i, part_s));
        double s = adze_clock_seconds() - start;
        if (r > 0 && s >= best_s) continue;
        best_s = s;
        memcpy(best_part_s, part_s, sizeof part_s);
    }
    printf("{\"images\": %" PRId64 ", \"seconds\": %.6f, \"decode_s\": %.6f, \"resize_s\": %.6f, \"normalize_s\": %.6f", w.n, best_s,
           best_part_s[PART_DECODE], best_part_s[PART_RESIZE], best_part_s[PART_NORMALIZE]);
    if (adze_options_flag(o, "check")) TRY(check(&w));
    printf("}\n");
done:
    adze_dataset_destroy(ds);
    adze_free(paths);
    adze_free(w.rgb);
    adze_free(w.tensor);
    return st;
}

int main(int argc, char **argv)
{
    static const bench_program program = { .name = "bench-decode", .usage = "bench-decode [options] IMAGE|FOLDER...",
                                           .about = "Decodes, resizes and normalises pictures on one thread and prints the time as JSON.",
                                           .table = table, .n_options = sizeof table / sizeof *table, .max_args = 1 << 20, .run = run };
    return bench_main(&program, argc, argv);
}
