/* golden_metrics.c - reference cases of metrics: kinds metrics.scores and metrics.maps.
 * Bounds of golden/metrics/README.md: 1e-12 absolute for exact and image figures, 1e-11 for the reference's own
 * estimates (strips.*, loop.*, m*), histograms of counts exactly, weighted ones to 1e-12 relative. */
#include "tests/golden/golden.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "core/memory.h"
#include "core/status.h"
#include "eval/label.h"
#include "eval/metrics.h"

/* The number in `hex`, which is exact, or the ten digits of `is`. */
static double expected(const json_t *value)
{
    const char *hex = golden_string(value, "hex", NULL);
    return hex ? strtod(hex, NULL) : json_number_value(json_array_get(json_object_get(value, "is"), 0));
}

static const json_t *value_of(const golden *g, const char *name)
{
    return json_object_get(json_object_get(g->root, "values"), name);
}

static bool is_undefined(const golden *g, const char *name)
{
    const json_t *list = json_object_get(g->root, "undefined");
    for (size_t i = 0; i < json_array_size(list); i++)
        if (strcmp(json_string_value(json_array_get(list, i)), name) == 0) return true;
    return false;
}

/* The case's value, or NaN with a reason where the case calls it undefined. */
static void judge(golden *g, const char *name, double got, const char *reason, bool has_reason)
{
    const json_t *value = value_of(g, name);
    if (is_undefined(g, name)) {
        golden_expect(g, name, isnan(got) && (!has_reason || reason), "%.17g (%s), want NaN with its reason", got,
                      reason ? reason : "no reason");
    } else if (value) {
        bool estimate = strncmp(name, "strips", 6) == 0 || strncmp(name, "loop", 4) == 0 || name[0] == 'm';
        double want = expected(value), bound = estimate ? 1e-11 : 1e-12, error = fabs(got - want);
        golden_expect(g, name, error <= bound, "got %.17g want %.17g error %.3g bound %.3g", got, want, error, bound);
    }
}

static void check_hash(golden *g, const char *key, const void *data, size_t n_bytes)
{
    const char *want = golden_string(g->setup, key, NULL);
    uint64_t hash = adze_fnv1a64(ADZE_FNV1A64_OFFSET, data, n_bytes);
    if (want) golden_expect(g, key, strtoull(want, NULL, 16) == hash, "0x%016llx", (unsigned long long)hash);
}

static void *room(size_t n, size_t size)
{
    void *p = calloc(n > 0 ? n : 1, size);
    if (!p) {
        fprintf(stderr, "golden: out of memory\n");
        exit(4);
    }
    return p;
}

static void run_scores(golden *g)
{
    const json_t *labels = json_object_get(g->setup, "labels"), *scores = json_object_get(g->setup, "scores");
    const json_t *list = json_object_get(scores, "scores");
    int64_t n = (int64_t)json_array_size(labels);
    float *score = room((size_t)n, sizeof *score);
    double *wide = room((size_t)n, sizeof *wide), levels = golden_real(scores, "levels", 0.0);
    double shift = golden_real(scores, "shift", 0.0);
    int *label = room((size_t)n, sizeof *label);
    float *u = list ? NULL
                    : golden_uniform(golden_string(scores, "name", ""), golden_real(scores, "lo", 0.0),
                                     golden_real(scores, "hi", 1.0), n);
    for (int64_t i = 0; i < n; i++) {
        label[i] = (int)json_integer_value(json_array_get(labels, (size_t)i));
        double v = list ? json_number_value(json_array_get(list, (size_t)i)) : u[i];
        if (levels > 0.0) v = floor(v * levels) / levels;
        score[i] = (float)(v + shift * label[i]);
        wide[i] = score[i];
    }
    check_hash(g, "fnv1a64_scores", score, (size_t)n * sizeof *score);
    double value[3], threshold;
    adze_status st = adze_image_metrics(wide, label, n, value, &threshold, NULL, NULL);
    if (golden_expect(g, "image metrics", st == ADZE_OK, "%s", st == ADZE_OK ? "computed" : adze_error_message())) {
        judge(g, "image.auroc", value[0], NULL, false);
        judge(g, "image.ap", value[1], NULL, false);
        judge(g, "image.f1max", value[2], NULL, false);
    }
    free(score), free(wide), free(label), free(u);
}

/* The arrays of a metrics.maps case. */
typedef struct {
    int64_t n, H, W;
    bool float64;
    unsigned char *mask;
    float *f32;
    double *f64;
} maps;

/* Reads version 1 .npy (n,H,W): "|u1", "<f4" or "<f2". `wanted` elements into bytes or floats. */
static bool read_npy(golden *g, const char *file, int64_t wanted, unsigned char *u8, float *f32)
{
    char path[8192];
    snprintf(path, sizeof path, "%s/%s", g->folder, file);
    FILE *f = fopen(path, "rb");
    unsigned char head[10], *raw = NULL;
    char text[4096] = "";
    bool ok = f && fread(head, 1, 10, f) == 10 && memcmp(head, "\x93NUMPY\x01", 7) == 0;
    size_t text_bytes = ok ? (size_t)head[8] + 256 * (size_t)head[9] : 0;
    ok = ok && text_bytes < sizeof text && fread(text, 1, text_bytes, f) == text_bytes;
    size_t each = strstr(text, "'|u1'") ? 1 : strstr(text, "'<f2'") ? 2 : strstr(text, "'<f4'") ? 4 : 0;
    ok = ok && each == (u8 ? 1 : each) && each >= (u8 ? 1u : 2u);
    raw = room((size_t)wanted, each > 0 ? each : 1);
    ok = ok && fread(raw, each, (size_t)wanted, f) == (size_t)wanted;
    for (int64_t i = 0; ok && i < wanted; i++) {
        if (each == 1) {
            u8[i] = raw[i];
        } else if (each == 4) {
            memcpy(&f32[i], raw + 4 * i, 4);
        } else {
            unsigned h = raw[2 * i] | (unsigned)raw[2 * i + 1] << 8, e = h >> 10 & 31, mantissa = h & 1023;
            double v = e == 0 ? ldexp(mantissa, -24) : ldexp(1024 + mantissa, (int)e - 25);
            f32[i] = (float)(h >> 15 ? -v : v);
        }
    }
    if (f) fclose(f);
    free(raw);
    return golden_expect(g, file, ok, "%s", ok ? "read" : "cannot read this .npy");
}

static void draw_mask(const maps *m, const char *rule)
{
    long long i, a, b, c, d = 0;
    char kind[16];
    if (sscanf(rule, "%lld %15s %lld %lld %lld %lld", &i, kind, &a, &b, &c, &d) < 4 || i < 0 || i >= m->n) return;
    for (int64_t y = 0; y < m->H; y++)
        for (int64_t x = 0; x < m->W; x++) {
            bool in = strcmp(kind, "rect") == 0 ? y >= a && y < a + c && x >= b && x < b + d
                      : strcmp(kind, "disc") == 0 ? (y - a) * (y - a) + (x - b) * (x - b) <= c * c
                                                  : y == a && x == b;
            if (in) m->mask[(i * m->H + y) * m->W + x] = 1;
        }
}

static void make_scores(maps *m, const json_t *spec)
{
    const int64_t count = m->n * m->H * m->W;
    const json_t *list = json_object_get(spec, "list"), *bumps = json_object_get(spec, "bumps");
    float *u = list ? NULL
                    : golden_uniform(golden_string(spec, "name", ""), golden_real(spec, "lo", 0.0),
                                     golden_real(spec, "hi", 1.0), count);
    for (int64_t i = 0; i < count; i++) m->f64[i] = list ? json_number_value(json_array_get(list, (size_t)i)) : u[i];
    free(u);
    for (size_t b = 0; b < json_array_size(bumps); b++) {
        double v[5];
        for (size_t k = 0; k < 5; k++) v[k] = json_number_value(json_array_get(json_array_get(bumps, b), k));
        for (int64_t y = 0; y < m->H; y++)
            for (int64_t x = 0; x < m->W; x++) {
                double dy = (double)y - v[1], dx = (double)x - v[2], d2 = dy * dy + dx * dx;
                if (d2 < v[3] * v[3])
                    m->f64[((int64_t)v[0] * m->H + y) * m->W + x] += v[4] * (1.0 - d2 / (v[3] * v[3]));
            }
    }
    double levels = golden_real(spec, "levels", 0.0);
    for (int64_t i = 0; i < count; i++) {
        if (levels > 0.0) m->f64[i] = floor(m->f64[i] * levels) / levels;
        if (!m->float64) m->f64[i] = (float)m->f64[i];
    }
    const json_t *set = json_object_get(spec, "set");
    for (size_t s = 0; s < json_array_size(set); s++) {
        long long i, y, x;
        char text[64] = "";
        if (sscanf(json_string_value(json_array_get(set, s)), "%lld %lld %lld %63s", &i, &y, &x, text) == 4)
            m->f64[(i * m->H + y) * m->W + x] = strtod(text, NULL);
    }
    for (int64_t i = 0; i < count; i++) m->f32[i] = (float)m->f64[i];
}

static bool build_maps(golden *g, maps *m)
{
    const json_t *spec = json_object_get(g->setup, "maps"), *masks = json_object_get(g->setup, "masks");
    m->n = golden_int(g->setup, "images", 0), m->H = golden_int(g->setup, "height", 0);
    m->W = golden_int(g->setup, "width", 0);
    m->float64 = strcmp(golden_string(spec, "dtype", "float32"), "float64") == 0;
    const int64_t count = m->n * m->H * m->W;
    m->mask = room((size_t)count, 1), m->f32 = room((size_t)count, sizeof *m->f32);
    m->f64 = room((size_t)count, sizeof *m->f64);
    bool ok = true;
    if (json_is_object(masks)) ok = read_npy(g, golden_string(masks, "file", ""), count, m->mask, NULL);
    for (size_t k = 0; k < json_array_size(masks); k++) draw_mask(m, json_string_value(json_array_get(masks, k)));
    const char *file = golden_string(spec, "file", NULL);
    if (file) ok = ok && read_npy(g, file, count, NULL, m->f32);
    else make_scores(m, spec);
    check_hash(g, "fnv1a64_masks", m->mask, (size_t)count);
    if (m->float64) check_hash(g, "fnv1a64_maps", m->f64, (size_t)count * sizeof *m->f64);
    else check_hash(g, "fnv1a64_maps", m->f32, (size_t)count * sizeof *m->f32);
    return ok;
}

static void check_regions(golden *g, const maps *m)
{
    const json_t *want = json_object_get(g->setup, "regions");
    adze_labels l;
    if (!want || !golden_expect(g, "regions", adze_labels_create(&l, m->H, m->W) == ADZE_OK, "labelled")) return;
    int64_t n = 0, wrong = 0;
    for (int64_t i = 0; i < m->n; i++) {
        adze_labels_find(&l, m->mask + i * m->H * m->W);
        for (int64_t k = 0; k < l.n_regions; k++, n++)
            wrong += json_is_array(want) && json_integer_value(json_array_get(want, (size_t)n)) != l.area[k];
    }
    adze_labels_destroy(&l);
    int64_t want_n = json_is_array(want) ? (int64_t)json_array_size(want) : json_integer_value(want);
    golden_expect(g, "regions", n == want_n && wrong == 0, "%lld regions, want %lld; %lld areas differ", (long long)n,
                  (long long)want_n, (long long)wrong);
}

/* All maps through the library. On success *out is the collector, for its histograms (destroy). */
static adze_status evaluate(const golden *g, const maps *m, double limit, adze_metrics **out, adze_metrics_result *r,
                            double *score, int *label)
{
    adze_status st = ADZE_OK;
    adze_metrics_opts o = ADZE_METRICS_OPTS;
    o.H = m->H, o.W = m->W, o.max_images = m->n, o.limit = limit, o.float64 = m->float64;
    o.strips = (int)golden_int(g->setup, "strips", 50), o.loop_steps = (int)golden_int(g->setup, "loop_steps", 100);
    o.pooling = (int)golden_int(g->setup, "pooling", 0);
    TRY(adze_metrics_create(out, &o));
    for (int64_t i = 0; i < m->n; i++) {
        char name[32];
        snprintf(name, sizeof name, "image %lld", (long long)i);
        const int64_t at = i * m->H * m->W;
        bool bad = memchr(m->mask + at, 1, (size_t)(m->H * m->W)) != NULL;
        if (m->float64) TRY(adze_metrics_add_f64(*out, name, m->f64 + at, m->mask + at, bad, &score[i], &label[i]));
        else TRY(adze_metrics_add(*out, name, m->f32 + at, m->mask + at, bad, &score[i], &label[i]));
    }
    TRY(adze_metrics_finish(*out, r));
done:
    return st;
}

/* Counts must be equal. Weighted cells may differ by 1e-12 relative, and by half a unit of the tenth digit, which is all
 * that the case's `is` holds. */
static void check_histogram(golden *g, const char *name, const double *got, bool counts)
{
    const json_t *value = value_of(g, name), *is = json_object_get(value, "is"), *at = json_object_get(value, "at");
    const double bound = counts ? 0.0 : 1e-12 + 5e-10;
    double worst = got ? 0.0 : INFINITY;
    for (size_t i = 0; got && i < json_array_size(is); i++) {
        double want = json_number_value(json_array_get(is, i));
        double error = fabs(got[json_integer_value(json_array_get(at, i))] - want);
        if (want != 0.0) error /= fabs(want);
        if (!(error <= worst)) worst = error;
    }
    if (value) golden_expect(g, name, worst <= bound, "relative error %.3g bound %.3g", worst, bound);
}

static const struct {
    const char *name;
    adze_metric metric;
} checked[] = {
    { "image.auroc", ADZE_METRIC_IMAGE_AUROC },       { "image.ap", ADZE_METRIC_IMAGE_AP },
    { "image.f1max", ADZE_METRIC_IMAGE_F1_MAX },      { "pixel.auroc", ADZE_METRIC_PIXEL_AUROC },
    { "pixel.ap", ADZE_METRIC_PIXEL_AP },             { "pixel.f1max", ADZE_METRIC_PIXEL_F1_MAX },
    { "aupro.exact", ADZE_METRIC_AUPRO },             { "strips.auroc", ADZE_METRIC_PIXEL_AUROC_ADER },
    { "strips.ap", ADZE_METRIC_PIXEL_AP_ADER },       { "strips.aupro", ADZE_METRIC_AUPRO_STRIPS },
    { "loop.aupro", ADZE_METRIC_AUPRO_LOOP },         { "mF1_max_px", ADZE_METRIC_PIXEL_F1_MAX_ADER },
    { "mF1_px_0.2_0.8_0.1", ADZE_METRIC_F1_MEAN },    { "mAcc_px_0.2_0.8_0.1", ADZE_METRIC_ACC_MEAN },
    { "mIoU_px_0.2_0.8_0.1", ADZE_METRIC_IOU_MEAN },  { "mDice_px_0.2_0.8_0.1", ADZE_METRIC_DICE_MEAN },
    { "mAcc_max_px", ADZE_METRIC_ACC_MAX },           { "mIoU_max_px", ADZE_METRIC_IOU_MAX },
    { "mDice_max_px", ADZE_METRIC_DICE_MAX },
};

static void check_images(golden *g, const maps *m, const double *score, const int *label)
{
    const json_t *labels = json_object_get(g->setup, "image_labels"), *scores = value_of(g, "image.scores");
    int64_t wrong = 0;
    for (int64_t i = 0; i < m->n; i++) wrong += label[i] != json_integer_value(json_array_get(labels, (size_t)i));
    golden_expect(g, "image_labels", wrong == 0, "%lld differ", (long long)wrong);
    if (golden_int(g->setup, "pooling", 0) > 0) {
        float *narrow = room((size_t)m->n, sizeof *narrow);
        for (int64_t i = 0; i < m->n; i++) narrow[i] = (float)score[i];
        if (scores) golden_check_value(g, "image.scores", scores, narrow, m->n, 1.0);
        free(narrow);
    } else if (scores) { /* a maximum is exact, and ten digits name one float32 */
        const json_t *at = json_object_get(scores, "at"), *is = json_object_get(scores, "is");
        int64_t off = json_array_size(is) == 0;
        for (size_t k = 0; k < json_array_size(is); k++)
            off += (float)score[json_integer_value(json_array_get(at, k))] !=
                   (float)json_number_value(json_array_get(is, k));
        golden_expect(g, "image.scores", off == 0, "%lld differ", (long long)off);
    }
}

/* values "aupro.exact@L": the same maps with another limit */
static void check_limits(golden *g, const maps *m, adze_metrics_result *r, double *score, int *label)
{
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(g->root, "values"), key, value)
    {
        if (strncmp(key, "aupro.exact@", 12) != 0) continue;
        adze_metrics *again = NULL;
        adze_status st = evaluate(g, m, strtod(key + 12, NULL), &again, r, score, label);
        judge(g, key, st == ADZE_OK ? r->value[ADZE_METRIC_AUPRO] : NAN, NULL, false);
        adze_metrics_destroy(again);
    }
}

/* The object of setup.expect, or the refusal that it names. */
static bool check_refusal(golden *g, adze_status st)
{
    const char *refusal = golden_string(g->setup, "expect", NULL);
    if (!refusal) {
        golden_expect(g, "evaluation", st == ADZE_OK, "%s", st == ADZE_OK ? "done" : adze_error_message());
        return st != ADZE_OK;
    }
    golden_expect(g, refusal, st == ADZE_ENUMERIC && strstr(adze_error_message(), "image 1"), "%s",
                  st == ADZE_OK ? "accepted" : adze_error_message());
    return true;
}

static void run_maps(golden *g)
{
    maps m = { 0 };
    adze_metrics *metrics = NULL;
    adze_metrics_result *r = room(1, sizeof *r);
    double *score = NULL;
    int *label = NULL;
    if (build_maps(g, &m)) {
        score = room((size_t)m.n, sizeof *score), label = room((size_t)m.n, sizeof *label);
        check_regions(g, &m);
        adze_status st = evaluate(g, &m, golden_real(g->setup, "limit", 0.3), &metrics, r, score, label);
        if (!check_refusal(g, st)) {
            check_images(g, &m, score, label);
            for (size_t k = 0; k < sizeof checked / sizeof *checked; k++)
                judge(g, checked[k].name, r->value[checked[k].metric], r->reason[checked[k].metric], true);
            if (json_object_get(g->setup, "loop_thresholds"))
                golden_expect(g, "loop_thresholds",
                              r->loop_thresholds == golden_int(g->setup, "loop_thresholds", -1) &&
                                  r->loop_kept == golden_int(g->setup, "loop_kept", -1),
                              "%lld, %lld below the limit", (long long)r->loop_thresholds, (long long)r->loop_kept);
            const double *positives, *negatives, *weighted;
            adze_metrics_strips(metrics, &positives, &negatives, &weighted);
            check_histogram(g, "strips.positives", positives, true);
            check_histogram(g, "strips.negatives", negatives, true);
            check_histogram(g, "strips.weighted", weighted, false);
            check_limits(g, &m, r, score, label);
        }
    }
    adze_metrics_destroy(metrics);
    free(m.mask), free(m.f32), free(m.f64), free(score), free(label), free(r);
}

bool golden_metrics(golden *g)
{
    if (strcmp(g->kind, "metrics.scores") == 0) run_scores(g);
    else if (strcmp(g->kind, "metrics.maps") == 0) run_maps(g);
    else return false;
    return true;
}
