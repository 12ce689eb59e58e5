/* test_metrics.c - metrics against brute force, their invariances, every degenerate case, threads, lost memory. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/hash.h"
#include "core/memory.h"
#include "eval/label.h"
#include "eval/metrics.h"
#include "eval/rank_count.h"
#include "eval/rank_sort.h"

enum { SIDE = 12, PIXELS = SIDE * SIDE, IMAGES = 5, ALL = IMAGES * PIXELS };

/* Every value is a sum of at most ALL terms in [0,1], each right to DBL_EPSILON. */
static const double tolerance = ALL * DBL_EPSILON;

typedef struct {
    double map[ALL];
    unsigned char mask[ALL];
} sample;

static double unit(uint64_t *seed)
{
    return (double)(adze_splitmix64((*seed)++) >> 40) * 0x1p-24;
}

/* Random scores on `levels` levels (0 = no ties), random masks; the last two images are good. */
static void make_sample(sample *s, uint64_t seed, int levels)
{
    for (int i = 0; i < ALL; i++) {
        int image = i / PIXELS;
        s->mask[i] = image < IMAGES - 2 && unit(&seed) < 0.04 + 0.1 * image;
        double v = unit(&seed) + 0.3 * s->mask[i];
        if (levels > 0) v = floor(v * levels) / levels;
        s->map[i] = (float)v;
    }
    s->mask[0] = 1;
}

static adze_metrics_opts options(bool float64)
{
    adze_metrics_opts o = ADZE_METRICS_OPTS;
    o.H = o.W = SIDE, o.max_images = IMAGES, o.float64 = float64;
    return o;
}

static adze_status evaluate(const sample *s, const adze_metrics_opts *o, adze_metrics_result *r)
{
    adze_status st = ADZE_OK;
    adze_metrics *m = NULL;
    float narrow[PIXELS];
    TRY(adze_metrics_create(&m, o));
    for (int i = 0; i < IMAGES; i++) {
        const double *map = s->map + i * PIXELS;
        const unsigned char *mask = s->mask + i * PIXELS;
        bool bad = memchr(mask, 1, PIXELS) != NULL;
        for (int k = 0; k < PIXELS; k++) narrow[k] = (float)map[k];
        if (o->float64) TRY(adze_metrics_add_f64(m, "a.png", map, mask, bad, NULL, NULL));
        else TRY(adze_metrics_add(m, "a.png", narrow, mask, bad, NULL, NULL));
    }
    TRY(adze_metrics_finish(m, r));
done:
    adze_metrics_destroy(m);
    return st;
}

static int rising(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Overlap and false-positive rate counted anew at every score, straight from the definition. */
static double brute_aupro(const sample *s, double limit)
{
    static double threshold[ALL];
    static int region[ALL];
    adze_labels l;
    int64_t area[ALL], n_regions = 0, normal = 0;
    assert_int_equal(adze_labels_create(&l, SIDE, SIDE), ADZE_OK);
    for (int i = 0; i < IMAGES; i++) {
        adze_labels_find(&l, s->mask + i * PIXELS);
        for (int64_t r = 0; r < l.n_runs; r++)
            for (int x = l.run[r].x_begin; x < l.run[r].x_end; x++)
                region[i * PIXELS + l.run[r].y * SIDE + x] = (int)n_regions + l.run[r].region;
        for (int64_t k = 0; k < l.n_regions; k++) area[n_regions + k] = l.area[k];
        n_regions += l.n_regions;
    }
    adze_labels_destroy(&l);
    for (int i = 0; i < ALL; i++) normal += !s->mask[i];
    memcpy(threshold, s->map, sizeof threshold);
    qsort(threshold, ALL, sizeof *threshold, rising);
    double f0 = 0.0, p0 = 0.0, total = 0.0;
    for (int t = ALL - 1; t >= 0 && f0 < limit; t--) {
        int64_t hits[ALL] = { 0 }, fp = 0;
        for (int i = 0; i < ALL; i++) {
            if (s->map[i] < threshold[t]) continue;
            if (s->mask[i]) hits[region[i]]++;
            else fp++;
        }
        double f = (double)fp / (double)normal, p = 0.0;
        for (int64_t k = 0; k < n_regions; k++) p += (double)hits[k] / (double)area[k] / (double)n_regions;
        if (f > limit) p = p0 + (p - p0) * (limit - f0) / (f - f0), f = limit;
        total += (f - f0) * (p + p0) / 2.0;
        f0 = f, p0 = p;
    }
    return total / limit;
}

/* AUROC by pairs, AP and F1 by counting at every score. */
static void brute_ranks(const double *score, const unsigned char *label, int n, double value[3])
{
    static double threshold[ALL];
    double pairs = 0.0, P = 0.0, ap = 0.0, f1 = 0.0, tp_before = 0.0;
    for (int i = 0; i < n; i++) {
        P += label[i] != 0;
        for (int j = 0; label[i] && j < n; j++)
            if (!label[j]) pairs += score[i] > score[j] ? 1.0 : score[i] == score[j] ? 0.5 : 0.0;
    }
    memcpy(threshold, score, (size_t)n * sizeof *score);
    qsort(threshold, (size_t)n, sizeof *threshold, rising);
    for (int t = n - 1; t >= 0; t--) {
        double tp = 0.0, fp = 0.0;
        if (t < n - 1 && threshold[t] == threshold[t + 1]) continue;
        for (int i = 0; i < n; i++) {
            if (score[i] < threshold[t]) continue;
            if (label[i]) tp++;
            else fp++;
        }
        ap += (tp - tp_before) / P * tp / (tp + fp);
        f1 = fmax(f1, 2.0 * tp / (tp + fp + P));
        tp_before = tp;
    }
    value[0] = pairs / (P * (n - P)), value[1] = ap, value[2] = f1;
}

static void exact_metrics_equal_brute_force(void **state)
{
    (void)state;
    static const int levels[] = { 0, 3, 10, 64 };
    static const double limits[] = { 0.3, 0.05, 1.0 };
    static sample s;
    static adze_metrics_result r;
    for (uint64_t k = 0; k < 24; k++) {
        make_sample(&s, k << 20, levels[k % 4]);
        adze_metrics_opts o = options(k / 12 == 1);
        o.limit = limits[k % 3];
        assert_int_equal(evaluate(&s, &o, &r), ADZE_OK);
        assert_float_equal(r.value[ADZE_METRIC_AUPRO], brute_aupro(&s, o.limit), tolerance);
        double want[3];
        brute_ranks(s.map, s.mask, ALL, want);
        for (int i = 0; i < 3; i++) assert_float_equal(r.value[ADZE_METRIC_PIXEL_AUROC + i], want[i], tolerance);
    }
}

static void exact_metrics_ignore_monotone_maps(void **state)
{
    (void)state;
    static sample s, t, neg;
    static adze_metrics_result r, q;
    for (uint64_t k = 0; k < 8; k++) {
        make_sample(&s, k << 24, k % 2 ? 16 : 0);
        t = s, neg = s;
        for (int i = 0; i < ALL; i++) t.map[i] = 8.0 * s.map[i] - 3.0, neg.map[i] = -s.map[i]; /* exact in double */
        adze_metrics_opts o = options(true);
        assert_int_equal(evaluate(&s, &o, &r), ADZE_OK);
        assert_int_equal(evaluate(&t, &o, &q), ADZE_OK);
        for (int i = 0; i <= ADZE_METRIC_AUPRO; i++) assert_true(r.value[i] == q.value[i]);
        assert_int_equal(evaluate(&neg, &o, &q), ADZE_OK);
        assert_float_equal(q.value[ADZE_METRIC_PIXEL_AUROC], 1.0 - r.value[ADZE_METRIC_PIXEL_AUROC], tolerance);
    }
}

static void strips_converge_to_the_exact_values(void **state)
{
    (void)state;
    static sample s;
    static adze_metrics_result r;
    static const int strips[] = { 10, 50, 1000, 100000 };
    make_sample(&s, 77, 0);
    double error[4];
    for (int k = 0; k < 4; k++) {
        adze_metrics_opts o = options(false);
        o.strips = strips[k];
        assert_int_equal(evaluate(&s, &o, &r), ADZE_OK);
        error[k] = fabs(r.value[ADZE_METRIC_PIXEL_AUROC_ADER] - r.value[ADZE_METRIC_PIXEL_AUROC]);
    }
    /* what remains is the maximum counted twice: one pixel of the smaller group moves the curve by 1/P at most */
    assert_true(error[3] <= error[0] + 1e-12);
    assert_true(error[3] <= 2.0 / (double)r.n_pixels_bad);
}

/* Maps so large that several threads take part. */
static void threads_change_no_bit(void **state)
{
    (void)state;
    const int64_t side = 256, pixels = side * side, n = 4;
    float *map = malloc((size_t)(n * pixels) * sizeof *map);
    unsigned char *mask = calloc((size_t)(n * pixels), 1);
    assert_true(map && mask);
    uint64_t seed = 5;
    for (int64_t i = 0; i < n * pixels; i++) map[i] = (float)unit(&seed);
    for (int64_t i = 0; i < 700; i++) mask[(adze_splitmix64(seed++) % (uint64_t)(n * pixels - 9))] = 1;
    static adze_metrics_result r[3];
    for (int k = 0; k < 3; k++) {
        adze_metrics_opts o = ADZE_METRICS_OPTS;
        o.max_images = n, o.threads = k == 0 ? 1 : k == 1 ? 2 : 7;
        adze_metrics *m;
        assert_int_equal(adze_metrics_create(&m, &o), ADZE_OK);
        for (int64_t i = 0; i < n; i++)
            assert_int_equal(adze_metrics_add(m, "x", map + i * pixels, mask + i * pixels, i > 0, NULL, NULL), ADZE_OK);
        assert_int_equal(adze_metrics_finish(m, &r[k]), ADZE_OK);
        adze_metrics_destroy(m);
    }
    assert_memory_equal(&r[0], &r[1], sizeof r[0]);
    assert_memory_equal(&r[0], &r[2], sizeof r[0]);
    assert_true(r[0].pixel_roc.n > 100 && r[0].pixel_roc.n <= ADZE_CURVE_POINTS);
    assert_true(r[0].pixel_roc.x[r[0].pixel_roc.n - 1] == 1.0);
    assert_true(fabs(r[0].pro.x[r[0].pro.n - 1] - 0.3) < 1e-15);
    free(map), free(mask);
}

/* One image of SIDE x SIDE more than the sample has: maps `value` everywhere. */
static void constant(sample *s, double value)
{
    memset(s, 0, sizeof *s);
    for (int i = 0; i < ALL; i++) s->map[i] = value;
}

static void all_undefined(const adze_metrics_result *r, int first, int last)
{
    for (int k = first; k <= last; k++) {
        assert_true(isnan(r->value[k]));
        assert_non_null(r->reason[k]);
    }
}

static void all_defined(const adze_metrics_result *r, int first, int last)
{
    for (int k = first; k <= last; k++) {
        assert_true(r->value[k] >= 0.0 && r->value[k] <= 1.0);
        assert_null(r->reason[k]);
    }
}

static void degenerate_classes_give_nan_and_a_reason(void **state)
{
    (void)state;
    static sample s;
    static adze_metrics_result r;
    adze_metrics_opts o = options(false);

    make_sample(&s, 1, 0); /* no anomalous image */
    memset(s.mask, 0, sizeof s.mask);
    assert_int_equal(evaluate(&s, &o, &r), ADZE_OK);
    all_undefined(&r, ADZE_METRIC_IMAGE_AUROC, ADZE_METRIC_PIXEL_AP_ADER);
    assert_string_equal(r.reason[ADZE_METRIC_IMAGE_AP], "no anomalous image");
    assert_true(isnan(r.image_threshold) && isnan(r.pixel_threshold));

    make_sample(&s, 1, 0); /* no normal image */
    for (int i = 0; i < IMAGES; i++) s.mask[i * PIXELS + 5] = 1;
    assert_int_equal(evaluate(&s, &o, &r), ADZE_OK);
    all_undefined(&r, ADZE_METRIC_IMAGE_AUROC, ADZE_METRIC_IMAGE_F1_MAX);
    assert_string_equal(r.reason[ADZE_METRIC_IMAGE_AUROC], "no normal image");
    all_defined(&r, ADZE_METRIC_PIXEL_AUROC, ADZE_METRIC_DICE_MAX);

    memset(s.mask, 1, sizeof s.mask); /* no normal pixel */
    assert_int_equal(evaluate(&s, &o, &r), ADZE_OK);
    all_undefined(&r, ADZE_METRIC_IMAGE_AUROC, ADZE_METRIC_PIXEL_AP_ADER);
    all_defined(&r, ADZE_METRIC_F1_MEAN, ADZE_METRIC_DICE_MAX);
    assert_string_equal(r.reason[ADZE_METRIC_AUPRO], "no normal pixel");

    constant(&s, 0.25); /* constant map */
    s.mask[17] = 1;
    assert_int_equal(evaluate(&s, &o, &r), ADZE_OK);
    assert_true(r.value[ADZE_METRIC_IMAGE_AUROC] == 0.5 && r.value[ADZE_METRIC_PIXEL_AUROC] == 0.5);
    assert_float_equal(r.value[ADZE_METRIC_AUPRO], 0.15, 4 * DBL_EPSILON);
    all_undefined(&r, ADZE_METRIC_AUPRO_STRIPS, ADZE_METRIC_PIXEL_AP_ADER);
    for (int k = ADZE_METRIC_F1_MEAN; k <= ADZE_METRIC_DICE_MAX; k++) assert_true(r.value[k] == 0.0);

    constant(&s, 0.0); /* more than 30 % of the normal pixels at the maximum, reached in one tie */
    for (int i = 0; i < ALL; i += 2) s.map[i] = 1.0;
    s.mask[17] = 1;
    assert_int_equal(evaluate(&s, &o, &r), ADZE_OK);
    assert_true(isnan(r.value[ADZE_METRIC_AUPRO_STRIPS]));
    assert_string_equal(r.reason[ADZE_METRIC_AUPRO_STRIPS], "too many normal pixels have the maximal score");
    all_defined(&r, ADZE_METRIC_PIXEL_AUROC, ADZE_METRIC_AUPRO);
    assert_float_equal(r.value[ADZE_METRIC_AUPRO], brute_aupro(&s, 0.3), tolerance);

    make_sample(&s, 3, 0); /* one region covers a whole image */
    memset(s.mask, 0, sizeof s.mask);
    memset(s.mask, 1, PIXELS);
    assert_int_equal(evaluate(&s, &o, &r), ADZE_OK);
    assert_int_equal(r.n_regions, 1);
    all_defined(&r, ADZE_METRIC_IMAGE_AUROC, ADZE_METRIC_DICE_MAX);

    constant(&s, -0.0); /* the two zeros are one score */
    for (int i = 0; i < ALL; i += 3) s.map[i] = 0.0;
    s.mask[17] = 1;
    assert_int_equal(evaluate(&s, &o, &r), ADZE_OK);
    assert_true(r.value[ADZE_METRIC_PIXEL_AUROC] == 0.5);

    constant(&s, -3e38); /* the range overflows float32 */
    s.map[17] = 3e38, s.mask[17] = 1;
    assert_int_equal(evaluate(&s, &o, &r), ADZE_OK);
    assert_true(r.value[ADZE_METRIC_PIXEL_AUROC] == 1.0);
    all_undefined(&r, ADZE_METRIC_AUPRO_STRIPS, ADZE_METRIC_DICE_MAX);
}

static void labels_follow_the_mask_and_vanished_defects_are_counted(void **state)
{
    (void)state;
    adze_metrics_opts o = options(false);
    adze_metrics *m;
    static adze_metrics_result r;
    float map[PIXELS] = { 0 };
    unsigned char mask[PIXELS] = { 0 };
    double score;
    int label;
    assert_int_equal(adze_metrics_create(&m, &o), ADZE_OK);
    map[3] = 0.5f;
    assert_int_equal(adze_metrics_add(m, "vanished", map, mask, true, &score, &label), ADZE_OK);
    assert_true(score == 0.5 && label == 0);
    map[3] = 0.25f;
    assert_int_equal(adze_metrics_add(m, "good", map, NULL, false, &score, &label), ADZE_OK);
    assert_true(score == 0.25 && label == 0);
    mask[3] = 255;
    map[3] = 0.375f;
    assert_int_equal(adze_metrics_add(m, "bad", map, mask, true, &score, &label), ADZE_OK);
    assert_int_equal(label, 1);
    assert_int_equal(adze_metrics_finish(m, &r), ADZE_OK);
    assert_int_equal(r.n_vanished, 1);
    assert_int_equal(r.n_good, 2);
    assert_int_equal(r.n_bad, 1);
    assert_true(r.value[ADZE_METRIC_IMAGE_AUROC] == 0.5);
    assert_true(r.value[ADZE_METRIC_IMAGE_AUROC_FILE] == 1.0);
    assert_int_equal(adze_metrics_finish(m, &r), ADZE_EINVAL);
    assert_int_equal(adze_metrics_add(m, "late", map, mask, true, NULL, NULL), ADZE_EINVAL);
    adze_metrics_destroy(m);

    assert_int_equal(adze_metrics_create(&m, &o), ADZE_OK); /* no mask of an anomalous image: image metrics only */
    assert_int_equal(adze_metrics_add(m, "bad", map, NULL, true, NULL, &label), ADZE_OK);
    assert_int_equal(label, 1);
    map[3] = 0.1f;
    assert_int_equal(adze_metrics_add(m, "good", map, NULL, false, NULL, NULL), ADZE_OK);
    assert_int_equal(adze_metrics_finish(m, &r), ADZE_OK);
    assert_true(r.value[ADZE_METRIC_IMAGE_AUROC] == 1.0);
    all_undefined(&r, ADZE_METRIC_PIXEL_AUROC, ADZE_METRIC_DICE_MAX);
    adze_metrics_destroy(m);
}

static void scores_that_are_no_numbers_are_refused_by_name(void **state)
{
    (void)state;
    static const double bad[] = { NAN, INFINITY, -INFINITY };
    for (int k = 0; k < 6; k++) {
        adze_metrics_opts o = options(k % 2);
        adze_metrics *m;
        static adze_metrics_result r;
        assert_int_equal(adze_metrics_create(&m, &o), ADZE_OK);
        double wide[PIXELS] = { 0 };
        float map[PIXELS] = { 0 };
        assert_int_equal(adze_metrics_finish(m, &r), ADZE_EINVAL); /* nothing added */
        wide[PIXELS - 1] = bad[k / 2], map[PIXELS - 1] = (float)bad[k / 2];
        adze_status st = o.float64 ? adze_metrics_add_f64(m, "test/scratch/7.png", wide, NULL, false, NULL, NULL)
                                   : adze_metrics_add(m, "test/scratch/7.png", map, NULL, false, NULL, NULL);
        assert_int_equal(st, ADZE_ENUMERIC);
        assert_non_null(strstr(adze_error_message(), "test/scratch/7.png"));
        st = o.float64 ? adze_metrics_add(m, "x", map, NULL, false, NULL, NULL)
                       : adze_metrics_add_f64(m, "x", wide, NULL, false, NULL, NULL);
        assert_int_equal(st, ADZE_EINVAL);
        adze_metrics_destroy(m);
    }
}

static void pooling_takes_the_best_mean(void **state)
{
    (void)state;
    adze_metrics_opts o = options(true);
    o.pooling = 4;
    adze_metrics *m;
    assert_int_equal(adze_metrics_create(&m, &o), ADZE_OK);
    double map[PIXELS], best = 0.0, score;
    uint64_t seed = 9;
    for (int i = 0; i < PIXELS; i++) map[i] = floor(unit(&seed) * 1024.0); /* integers: sums are exact */
    for (int y = 0; y + 4 <= SIDE; y++)
        for (int x = 0; x + 4 <= SIDE; x++) {
            double sum = 0.0;
            for (int i = 0; i < 16; i++) sum += map[(y + i / 4) * SIDE + x + i % 4];
            best = fmax(best, sum / 16.0);
        }
    assert_int_equal(adze_metrics_add_f64(m, "a", map, NULL, false, &score, NULL), ADZE_OK);
    assert_true(score == best);
    adze_metrics_destroy(m);
}

static void options_out_of_range_are_refused(void **state)
{
    (void)state;
    adze_metrics *m;
    for (int k = 0; k < 8; k++) {
        adze_metrics_opts o = options(false);
        if (k == 0) o.limit = 0.0;
        if (k == 1) o.limit = NAN;
        if (k == 2) o.strips = 0;
        if (k == 3) o.pooling = 3;
        if (k == 4) o.pooling = 16; /* above the map's side */
        if (k == 5) o.max_images = 0;
        if (k == 6) o.loop_steps = -1;
        if (k == 7) o.threads = -1;
        assert_int_equal(adze_metrics_create(&m, &o), ADZE_EINVAL);
        assert_null(m);
    }
}

static void lost_memory_is_reported_and_leaks_nothing(void **state)
{
    (void)state;
    static sample s;
    static adze_metrics_result r;
    make_sample(&s, 2, 0);
    size_t before = adze_memory_live_bytes();
    for (int f64 = 0; f64 < 2; f64++) {
        adze_metrics_opts o = options(f64);
        o.pooling = 4;
        int64_t n = 1;
        for (;; n++) {
            adze_memory_fail_after(n, false);
            adze_status st = evaluate(&s, &o, &r);
            adze_memory_fail_after(0, false);
            assert_int_equal(adze_memory_live_bytes(), before);
            if (st == ADZE_OK) break;
            assert_int_equal(st, ADZE_ENOMEM);
            assert_true(n < 200);
        }
        assert_true(n > 15);
    }
}

static void radix_sort_is_stable_and_ordered(void **state)
{
    (void)state;
    enum { N = 5000 };
    static uint64_t key[N], copy[N];
    static uint32_t payload[N];
    static const int bits[] = { 1, 11, 12, 33, 64 };
    for (int b = 0; b < 5; b++) {
        for (int i = 0; i < N; i++) {
            key[i] = copy[i] = adze_splitmix64((uint64_t)i * 3 + (uint64_t)b) >> (64 - bits[b]);
            payload[i] = (uint32_t)i;
        }
        assert_int_equal(adze_rank_sort(key, payload, N, 0), ADZE_OK);
        for (int i = 0; i < N; i++) {
            assert_true(copy[payload[i]] == key[i]);
            if (i > 0) assert_true(key[i - 1] < key[i] || (key[i - 1] == key[i] && payload[i - 1] < payload[i]));
        }
    }
    static const double rise[] = { -INFINITY, -1e300, -1.0, -DBL_MIN, -DBL_TRUE_MIN, 0.0, DBL_TRUE_MIN, 0.5, 1e9, INFINITY };
    for (size_t i = 0; i < sizeof rise / sizeof *rise; i++) {
        assert_true(adze_rank_value_f64(adze_rank_key_f64(rise[i])) == rise[i]);
        assert_true(adze_rank_value_f32(adze_rank_key_f32((float)rise[i])) == (float)rise[i]);
        if (i > 0) assert_true(adze_rank_key_f64(rise[i - 1]) < adze_rank_key_f64(rise[i]));
    }
    assert_true(adze_rank_key_f32(-0.0f) == adze_rank_key_f32(0.0f));
}

static void counts_equal_comparisons_whatever_the_spread(void **state)
{
    (void)state;
    enum { N = 3000, M = 700 };
    static double x[N], v[M];
    static int64_t count[2 * M + 1];
    for (uint64_t k = 0; k < 6; k++) {
        uint64_t seed = k << 16;
        for (int j = 0; j < M; j++) v[j] = k < 3 ? floor(unit(&seed) * 1e4) : exp(40.0 * unit(&seed) - 20.0);
        if (k % 3 == 1) v[0] = -1e300, v[1] = 1e300; /* outliers must not spoil the slots, nor their difference overflow */
        if (k % 3 == 2) v[0] = -DBL_MAX, v[1] = DBL_MAX;
        qsort(v, M, sizeof *v, rising);
        int64_t m = 0;
        for (int j = 0; j < M; j++)
            if (m == 0 || v[m - 1] != v[j]) v[m++] = v[j];
        for (int i = 0; i < N; i++)
            x[i] = i % 3 == 0 ? v[adze_splitmix64(seed++) % (uint64_t)m]
                              : v[adze_splitmix64(seed++) % (uint64_t)m] * (1.0 + 1e-9 * (i % 5 - 2));
        for (int i = 0; i < N; i++) x[i] = fmin(fmax(x[i], -DBL_MAX), DBL_MAX);
        assert_int_equal(adze_rank_count(x, true, N, v, m, 1, count), ADZE_OK);
        for (int i = 0; i < N; i++) {
            int64_t j = 0;
            while (j < m && v[j] < x[i]) j++;
            count[2 * j + (j < m && v[j] == x[i])]--;
        }
        for (int64_t c = 0; c <= 2 * m; c++) assert_int_equal(count[c], 0);
    }
    assert_int_equal(adze_rank_count(x, true, N, v, 0, 0, count), ADZE_OK);
    assert_int_equal(count[0], N);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_metrics_equal_brute_force),
        cmocka_unit_test(exact_metrics_ignore_monotone_maps),
        cmocka_unit_test(strips_converge_to_the_exact_values),
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(degenerate_classes_give_nan_and_a_reason),
        cmocka_unit_test(labels_follow_the_mask_and_vanished_defects_are_counted),
        cmocka_unit_test(scores_that_are_no_numbers_are_refused_by_name),
        cmocka_unit_test(pooling_takes_the_best_mean),
        cmocka_unit_test(options_out_of_range_are_refused),
        cmocka_unit_test(lost_memory_is_reported_and_leaks_nothing),
        cmocka_unit_test(radix_sort_is_stable_and_ordered),
        cmocka_unit_test(counts_equal_comparisons_whatever_the_spread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
