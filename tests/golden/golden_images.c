/* golden_images.c - reference cases of the pixel pipeline. All results must be identical: SHA-256 of the bytes.
 * A case whose photograph is not there (the data folders are not part of the source tree) is skipped and said so. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/file.h"
#include "core/memory.h"
#include "core/sha256.h"
#include "datasets/decode.h"
#include "datasets/mask.h"
#include "datasets/normalize.h"
#include "datasets/resize.h"
#include "tests/golden/golden.h"

typedef struct {
    golden *g;
    const json_t *c, *values;
    const char *path;  /* of the picture */
    char label[1200];  /* path and index, for messages */
} image_case;

/* Compares shape and digest; a wrong result is located by the sampled elements. */
static void check_bytes(image_case *k, const char *name, const void *data, size_t element_bytes, int64_t H, int64_t W,
                        int64_t C)
{
    const json_t *v = json_object_get(k->values, name), *dims = json_object_get(v, "shape");
    char what[1300], hex[ADZE_SHA256_HEX];
    snprintf(what, sizeof what, "%s %s", k->label, name);
    int64_t got[3] = { H, W, C };
    bool shape_ok = json_array_size(dims) == (C ? 3 : 2);
    for (size_t d = 0; d < json_array_size(dims) && d < 3; d++)
        shape_ok = shape_ok && json_integer_value(json_array_get(dims, d)) == got[d];
    if (!shape_ok) {
        golden_expect(k->g, what, false, "shape %" PRId64 "x%" PRId64 "x%" PRId64 " differs from the case's", H, W, C);
        return;
    }
    size_t n = (size_t)(H * W * (C ? C : 1));
    adze_sha256_of(data, n * element_bytes, hex);
    bool ok = strcmp(hex, golden_string(v, "sha256", "")) == 0;
    size_t n_wrong = 0, i;
    json_t *at;
    json_array_foreach(json_object_get(v, "at"), i, at) {
        size_t where = (size_t)json_integer_value(at);
        double want = json_number_value(json_array_get(json_object_get(v, "is"), i));
        if (where >= n) continue;
        double is = element_bytes == 1 ? ((const unsigned char *)data)[where] : (double)((const float *)data)[where];
        n_wrong += element_bytes == 1 ? is != want : is - want > 1e-6 || want - is > 1e-6;
    }
    golden_expect(k->g, what, ok, "sha256 %.12s, %zu of the sampled values differ", hex, n_wrong);
}

static bool sound(image_case *k, adze_status st)
{
    if (st != ADZE_OK) golden_expect(k->g, k->label, false, "%s", adze_error_message());
    return st == ADZE_OK;
}

static bool load(image_case *k, adze_image *im, adze_decode_mode mode, bool exif)
{
    adze_decode_opts opts = { .mode = mode, .exif_orientation = exif };
    return sound(k, adze_image_decode_file(im, k->path, &opts, NULL));
}

static int64_t item(const json_t *pair, size_t i)
{
    return json_integer_value(json_array_get(pair, i));
}

static bool resized(image_case *k, adze_image *out, const adze_image *im, const char *filter_name)
{
    const json_t *size = json_object_get(k->c, "size");
    adze_filter filter;
    return sound(k, adze_filter_parse(&filter, filter_name)) &&
           sound(k, adze_image_resize(out, im, item(size, 0), item(size, 1), filter));
}

static void run_decode(image_case *k)
{
    adze_image rgb = ADZE_IMAGE_EMPTY, l = ADZE_IMAGE_EMPTY;
    if (strcmp(golden_string(k->c, "expect", "ok"), "error") == 0) {
        adze_status st = adze_image_decode_file(&rgb, k->path, NULL, NULL);
        golden_expect(k->g, k->label, st == ADZE_EINPUT && rgb.data == NULL, "want a refusal, got '%s'",
                      st == ADZE_OK ? "a picture" : adze_error_message());
    } else {
        if (load(k, &rgb, ADZE_DECODE_RGB, false)) check_bytes(k, "rgb", rgb.data, 1, rgb.H, rgb.W, 3);
        if (load(k, &l, ADZE_DECODE_L, false)) check_bytes(k, "l", l.data, 1, l.H, l.W, 0);
    }
    adze_image_destroy(&rgb);
    adze_image_destroy(&l);
}

static void run_resize(image_case *k)
{
    adze_image im = ADZE_IMAGE_EMPTY, y = ADZE_IMAGE_EMPTY;
    bool gray = strcmp(golden_string(k->c, "mode", "RGB"), "L") == 0;
    if (load(k, &im, gray ? ADZE_DECODE_L : ADZE_DECODE_RGB, false) &&
        resized(k, &y, &im, golden_string(k->c, "filter", "bilinear")))
        check_bytes(k, "y", y.data, 1, y.H, y.W, gray ? 0 : 3);
    adze_image_destroy(&im);
    adze_image_destroy(&y);
}

static void run_mask(image_case *k)
{
    adze_image im = ADZE_IMAGE_EMPTY, soft = ADZE_IMAGE_EMPTY;
    const json_t *size = json_object_get(k->c, "size");
    adze_filter filter = strcmp(golden_string(k->c, "resize", ""), "opencv") == 0 ? ADZE_FILTER_OPENCV_LINEAR
                                                                                 : ADZE_FILTER_BILINEAR;
    if (load(k, &im, ADZE_DECODE_L, false) && sound(k, adze_mask_resize(&soft, &im, item(size, 0), item(size, 1), filter))) {
        check_bytes(k, "bytes", soft.data, 1, soft.H, soft.W, 0);
        adze_mask_counts n = adze_mask_threshold(soft.data, soft.H * soft.W, soft.data);
        check_bytes(k, "mask", soft.data, 1, soft.H, soft.W, 0);
        int64_t want[3] = { golden_int(k->values, "ones", -1), golden_int(k->values, "ones_full", n.full),
                            golden_int(k->values, "ones_touched", n.touched) };
        golden_expect(k->g, k->label, n.ones == want[0] && n.full == want[1] && n.touched == want[2],
                      "counts %" PRId64 " %" PRId64 " %" PRId64, n.ones, n.full, n.touched);
    }
    adze_image_destroy(&im);
    adze_image_destroy(&soft);
}

static void check_normalized(image_case *k, const char *name, const adze_image *im, const float mean[3], const float std[3])
{
    adze_normalize table;
    adze_normalize_init(&table, mean, std);
    float *y = adze_calloc((size_t)(im->H * im->W), 3 * sizeof *y);
    if (!sound(k, y ? ADZE_OK : adze_fail(ADZE_ENOMEM, "no memory for the tensor"))) return;
    adze_normalize_chw(&table, im->data, im->H * im->W, y);
    check_bytes(k, name, y, sizeof *y, 3, im->H, im->W);
    adze_free(y);
}

static void run_opencv(image_case *k)
{
    adze_image im = ADZE_IMAGE_EMPTY, y = ADZE_IMAGE_EMPTY;
    if (load(k, &im, ADZE_DECODE_RGB, true)) {
        for (int64_t i = 0; i < im.H * im.W; i++) {
            unsigned char red = im.data[3 * i];
            im.data[3 * i] = im.data[3 * i + 2], im.data[3 * i + 2] = red;
        }
        check_bytes(k, "bgr", im.data, 1, im.H, im.W, 3);
        if (resized(k, &y, &im, "opencv")) {
            check_bytes(k, "y", y.data, 1, y.H, y.W, 3);
            check_normalized(k, "normalized", &y, adze_imagenet_mean, adze_imagenet_std);
        }
    }
    adze_image_destroy(&im);
    adze_image_destroy(&y);
}

static void run_tensor(image_case *k)
{
    adze_image im = ADZE_IMAGE_EMPTY, y = ADZE_IMAGE_EMPTY;
    float mean[3], std[3];
    for (size_t c = 0; c < 3; c++) {
        mean[c] = (float)json_number_value(json_array_get(json_object_get(k->c, "mean"), c));
        std[c] = (float)json_number_value(json_array_get(json_object_get(k->c, "std"), c));
    }
    if (load(k, &im, ADZE_DECODE_RGB, false) && resized(k, &y, &im, golden_string(k->c, "filter", "bilinear")))
        check_normalized(k, "y", &y, mean, std);
    adze_image_destroy(&im);
    adze_image_destroy(&y);
}

static void run_crop(image_case *k)
{
    adze_image im = ADZE_IMAGE_EMPTY, mid = ADZE_IMAGE_EMPTY, y = ADZE_IMAGE_EMPTY;
    const json_t *crop = json_object_get(k->c, "crop"), *size = json_object_get(k->values, "resized_size");
    int64_t shorter = golden_int(k->c, "resize_short", 0);
    if (load(k, &im, ADZE_DECODE_RGB, false)) {
        int64_t H = im.H, W = im.W;
        if (shorter) adze_resize_short_size(im.H, im.W, shorter, &H, &W);
        golden_expect(k->g, k->label, H == item(size, 0) && W == item(size, 1), "resized to %" PRId64 "x%" PRId64, H, W);
        if (sound(k, adze_image_resize(&mid, &im, H, W, ADZE_FILTER_BILINEAR)) &&
            sound(k, adze_image_crop_center(&y, &mid, item(crop, 0), item(crop, 1))))
            check_bytes(k, "y", y.data, 1, y.H, y.W, 3);
    }
    adze_image_destroy(&im);
    adze_image_destroy(&mid);
    adze_image_destroy(&y);
}

static void run_rotate(image_case *k)
{
    adze_image im = ADZE_IMAGE_EMPTY, mid = ADZE_IMAGE_EMPTY, y = ADZE_IMAGE_EMPTY;
    if (load(k, &im, ADZE_DECODE_RGB, false) && resized(k, &mid, &im, "bilinear") &&
        sound(k, adze_image_rotate(&y, &mid, golden_real(k->c, "angle", 0.0))))
        check_bytes(k, "y", y.data, 1, y.H, y.W, 3);
    adze_image_destroy(&im);
    adze_image_destroy(&mid);
    adze_image_destroy(&y);
}

bool golden_images(golden *g)
{
    static const struct {
        const char *kind;
        void (*run)(image_case *k);
    } kinds[] = { { "images.decode", run_decode }, { "images.resize", run_resize }, { "images.mask", run_mask },
                  { "images.opencv", run_opencv }, { "images.tensor", run_tensor }, { "images.crop", run_crop },
                  { "images.rotate", run_rotate } };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(g->kind, kinds[i].kind) != 0) continue;
        size_t n, n_skipped = 0;
        json_t *c;
        json_array_foreach(json_object_get(g->root, "cases"), n, c) {
            char path[8192];
            const char *file = golden_string(c, "file", "");
            snprintf(path, sizeof path, "%s/%s", g->area_root, file);
            if (strncmp(file, "data/", 5) == 0 && !adze_file_exists(path)) {
                n_skipped++;
                continue;
            }
            image_case k = { .g = g, .c = c, .values = json_object_get(c, "values"), .path = path };
            snprintf(k.label, sizeof k.label, "%zu %s", n, file);
            kinds[i].run(&k);
        }
        if (n_skipped > 0) fprintf(stderr, "golden: %s: SKIPPED %zu cases whose photographs are not here\n", g->file, n_skipped);
        return true;
    }
    return false;
}
