/* metrics.c - the collector of one class, and the order in which its metrics are computed.
 * Entry: adze_metrics_create(), adze_metrics_add(), adze_metrics_finish().
 * Adding an image splits it at once: normal pixels keep only their score, anomalous ones a key and their region. */
#include "eval/metrics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "eval/label.h"
#include "eval/loop_aupro.h"
#include "eval/pixel_sweep.h"
#include "eval/rank_sort.h"
#include "eval/strips.h"
#include "eval/thresholded.h"

struct adze_metrics {
    adze_metrics_opts opts;
    adze_labels labels;                       /* workspace */
    void *negative;                           /* (max_images H W) float or double */
    uint64_t *key;                            /* (n_positive) as in adze_pixels */
    uint32_t *region;                         /* (n_positive), float64 only */
    int64_t *area;                            /* (n_regions) */
    int64_t n_negative, n_positive, positive_room, n_regions, region_room;
    double *score;                            /* (max_images) */
    int *label, *label_file;                  /* (max_images) */
    double *pool;                             /* (2 H W) workspace, pooling only */
    double min, max;
    int64_t n_images, n_vanished, n_without_mask;
    double *cells;                            /* (3 (strips + 2)) after finish, or NULL */
    bool finished;
};

static const char *const names[ADZE_METRIC_COUNT] = {
    "image_auroc", "image_ap", "image_f1_max", "pixel_auroc", "pixel_ap", "pixel_f1_max", "aupro", "aupro_strips",
    "pixel_auroc_ader", "pixel_ap_ader", "pixel_f1_max_ader", "aupro_loop", "mF1_px_0.2_0.8_0.1", "mAcc_px_0.2_0.8_0.1",
    "mIoU_px_0.2_0.8_0.1", "mDice_px_0.2_0.8_0.1", "mAcc_max_px", "mIoU_max_px", "mDice_max_px", "image_auroc_file",
    "image_ap_file", "image_f1_max_file",
};

const char *adze_metric_name(adze_metric m)
{
    return (int)m >= 0 && m < ADZE_METRIC_COUNT ? names[m] : "";
}

static adze_status check_opts(const adze_metrics_opts *o)
{
    adze_status st = ADZE_OK;
    const int most = 100000;
    REQUIRE(o->H > 0 && o->W > 0 && o->H <= 1 << 24 && o->W <= 1 << 24 && o->max_images > 0, ADZE_EINVAL,
            "metrics: %lld maps of %lld x %lld", (long long)o->max_images, (long long)o->H, (long long)o->W);
    REQUIRE(o->limit > 0.0 && o->limit <= 1.0, ADZE_EINVAL, "metrics: limit %g, want a rate in (0,1]", o->limit);
    REQUIRE(o->strips >= 1 && o->strips <= most, ADZE_EINVAL, "metrics: %d strips, want 1 to %d", o->strips, most);
    REQUIRE(o->loop_steps >= 1 && o->loop_steps <= most, ADZE_EINVAL, "metrics: %d loop steps, want 1 to %d",
            o->loop_steps, most);
    REQUIRE(o->pooling >= 0 && (o->pooling & (o->pooling - 1)) == 0 && o->pooling <= o->H && o->pooling <= o->W,
            ADZE_EINVAL, "metrics: pooling %d, want 0 or a power of two not above %lld x %lld", o->pooling,
            (long long)o->H, (long long)o->W);
    REQUIRE(o->threads >= 0, ADZE_EINVAL, "metrics: %d threads", o->threads);
done:
    return st;
}

adze_status adze_metrics_create(adze_metrics **out, const adze_metrics_opts *opts)
{
    adze_status st = ADZE_OK;
    adze_metrics *m = NULL;
    *out = NULL;
    TRY(check_opts(opts));
    REQUIRE(m = adze_calloc(1, sizeof *m), ADZE_ENOMEM, "metrics: %zu host bytes", sizeof *m);
    m->opts = *opts;
    m->min = INFINITY, m->max = -INFINITY;
    TRY(adze_labels_create(&m->labels, opts->H, opts->W));
    size_t n = (size_t)opts->max_images, pixels = (size_t)(opts->H * opts->W), all, bytes;
    REQUIRE(adze_mul_size(n, pixels, &all) && adze_mul_size(all, opts->float64 ? sizeof(double) : sizeof(float), &bytes),
            ADZE_ENOMEM, "metrics: %zu maps of %zu pixels are too many", n, pixels);
    REQUIRE(m->negative = adze_malloc(bytes), ADZE_ENOMEM, "metrics: %zu host bytes for %zu maps of one class", bytes, n);
    REQUIRE(m->score = adze_malloc(n * sizeof *m->score), ADZE_ENOMEM, "metrics: no memory for %zu scores", n);
    REQUIRE(m->label = adze_malloc(n * sizeof *m->label), ADZE_ENOMEM, "metrics: no memory for %zu labels", n);
    REQUIRE(m->label_file = adze_malloc(n * sizeof *m->label_file), ADZE_ENOMEM, "metrics: no memory for %zu labels", n);
    if (opts->pooling > 0)
        REQUIRE(m->pool = adze_malloc(2 * pixels * sizeof *m->pool), ADZE_ENOMEM, "metrics: %zu host bytes for pooling",
                2 * pixels * sizeof *m->pool);
    *out = m;
    m = NULL;
done:
    adze_metrics_destroy(m);
    return st;
}

void adze_metrics_destroy(adze_metrics *m)
{
    if (!m) return;
    adze_labels_destroy(&m->labels);
    adze_free(m->negative);
    adze_free(m->key);
    adze_free(m->region);
    adze_free(m->area);
    adze_free(m->score);
    adze_free(m->label);
    adze_free(m->label_file);
    adze_free(m->pool);
    adze_free(m->cells);
    adze_free(m);
}

/* Smallest and largest of n numbers; false if one is NaN or infinite. Eight running pairs keep the loop vectorised. */
static bool range_f32(const float *x, int64_t n, double *min, double *max)
{
    float low[8], high[8], bad = 0.0f;
    for (int k = 0; k < 8; k++) low[k] = INFINITY, high[k] = -INFINITY;
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int k = 0; k < 8; k++) {
            float v = x[i + k];
            low[k] = v < low[k] ? v : low[k];
            high[k] = v > high[k] ? v : high[k];
            bad += v * 0.0f; /* NaN and infinity make it NaN */
        }
    for (; i < n; i++) {
        low[0] = x[i] < low[0] ? x[i] : low[0];
        high[0] = x[i] > high[0] ? x[i] : high[0];
        bad += x[i] * 0.0f;
    }
    *min = INFINITY, *max = -INFINITY;
    for (int k = 0; k < 8; k++) *min = fmin(*min, low[k]), *max = fmax(*max, high[k]);
    return bad == 0.0f;
}

static bool range_f64(const double *x, int64_t n, double *min, double *max)
{
    double bad = 0.0;
    *min = INFINITY, *max = -INFINITY;
    for (int64_t i = 0; i < n; i++) {
        *min = x[i] < *min ? x[i] : *min;
        *max = x[i] > *max ? x[i] : *max;
        bad += x[i] * 0.0;
    }
    return bad == 0.0;
}

/* Largest mean over k x k windows, k a power of two. The sum over 2d neighbours is that over d plus the same d further on: log k
 * additions a pixel in each direction. */
static double pooled_max(adze_metrics *m, const void *map)
{
    const int64_t H = m->opts.H, W = m->opts.W, k = m->opts.pooling, rows = H - k + 1, columns = W - k + 1;
    double *sum = m->pool, best = -INFINITY;
    for (int64_t i = 0; i < H * W; i++)
        sum[i] = m->opts.float64 ? ((const double *)map)[i] : ((const float *)map)[i];
    for (int64_t d = 1; d < k; d *= 2)
        for (int64_t y = 0; y < H; y++)
            for (int64_t x = 0; x + d < W; x++) sum[y * W + x] += sum[y * W + x + d];
    for (int64_t d = 1; d < k; d *= 2)
        for (int64_t y = 0; y + d < H; y++)
            for (int64_t x = 0; x < columns; x++) sum[y * W + x] += sum[(y + d) * W + x];
    for (int64_t y = 0; y < rows; y++)
        for (int64_t x = 0; x < columns; x++) best = sum[y * W + x] > best ? sum[y * W + x] : best;
    best /= (double)(k * k);
    return m->opts.float64 ? best : (double)(float)best;
}

/* Room for `extra` more positives and regions. */
static adze_status reserve(adze_metrics *m, int64_t positives, int64_t regions)
{
    adze_status st = ADZE_OK;
    if (m->n_positive + positives > m->positive_room) {
        int64_t room = m->n_positive + positives + m->positive_room / 2;
        uint64_t *key = adze_realloc(m->key, (size_t)room * sizeof *key);
        REQUIRE(key, ADZE_ENOMEM, "metrics: no memory for %lld anomalous pixels", (long long)room);
        m->key = key;
        if (m->opts.float64) {
            uint32_t *region = adze_realloc(m->region, (size_t)room * sizeof *region);
            REQUIRE(region, ADZE_ENOMEM, "metrics: no memory for %lld anomalous pixels", (long long)room);
            m->region = region;
        }
        m->positive_room = room;
    }
    if (m->n_regions + regions > m->region_room) {
        int64_t room = m->n_regions + regions + m->region_room / 2;
        REQUIRE(room < INT32_MAX, ADZE_EINVAL, "metrics: %lld regions", (long long)room);
        int64_t *area = adze_realloc(m->area, (size_t)room * sizeof *area);
        REQUIRE(area, ADZE_ENOMEM, "metrics: no memory for %lld regions", (long long)room);
        m->area = area;
        m->region_room = room;
    }
done:
    return st;
}

static void take_negatives(adze_metrics *m, const void *map, int64_t begin, int64_t end)
{
    size_t each = m->opts.float64 ? sizeof(double) : sizeof(float);
    memcpy((char *)m->negative + (size_t)m->n_negative * each, (const char *)map + (size_t)begin * each,
           (size_t)(end - begin) * each);
    m->n_negative += end - begin;
}

static void take_positives(adze_metrics *m, const void *map, int64_t begin, int64_t end, int32_t region)
{
    uint32_t k = (uint32_t)(m->n_regions + region);
    for (int64_t i = begin; i < end; i++, m->n_positive++) {
        if (m->opts.float64) {
            m->key[m->n_positive] = adze_rank_key_f64(((const double *)map)[i]);
            m->region[m->n_positive] = k;
        } else {
            m->key[m->n_positive] = (uint64_t)adze_rank_key_f32(((const float *)map)[i]) << 32 | k;
        }
    }
}

static adze_status add(adze_metrics *m, const char *name, const void *map, const unsigned char *mask, bool anomalous,
                       double *score, int *label)
{
    adze_status st = ADZE_OK;
    const int64_t pixels = m->opts.H * m->opts.W;
    double min, max;
    REQUIRE(!m->finished, ADZE_EINVAL, "%s: the metrics were finished before", name);
    REQUIRE(m->n_images < m->opts.max_images, ADZE_EINVAL, "%s: more than %lld images", name,
            (long long)m->opts.max_images);
    REQUIRE(m->opts.float64 ? range_f64(map, pixels, &min, &max) : range_f32(map, pixels, &min, &max), ADZE_ENUMERIC,
            "%s: the anomaly map has a score that is NaN or infinite", name);
    m->labels.n_runs = m->labels.n_regions = 0;
    if (mask) adze_labels_find(&m->labels, mask);
    int64_t positives = 0;
    for (int64_t k = 0; k < m->labels.n_regions; k++) positives += m->labels.area[k];
    TRY(reserve(m, positives, m->labels.n_regions));

    const int64_t i = m->n_images++;
    m->label_file[i] = anomalous;
    m->label[i] = mask ? positives > 0 : anomalous;
    m->score[i] = m->opts.pooling > 0 ? pooled_max(m, map) : max;
    m->min = fmin(m->min, min), m->max = fmax(m->max, max);
    m->n_vanished += anomalous && mask && positives == 0;
    if (anomalous && !mask) {
        m->n_without_mask++;
    } else {
        int64_t begin = 0;
        for (int64_t r = 0; r < m->labels.n_runs; r++) {
            const adze_label_run *run = &m->labels.run[r];
            int64_t row = run->y * m->opts.W;
            take_negatives(m, map, begin, row + run->x_begin);
            take_positives(m, map, row + run->x_begin, row + run->x_end, run->region);
            begin = row + run->x_end;
        }
        take_negatives(m, map, begin, pixels);
        if (m->labels.n_regions > 0)
            memcpy(m->area + m->n_regions, m->labels.area, (size_t)m->labels.n_regions * sizeof *m->area);
        m->n_regions += m->labels.n_regions;
    }
    if (score) *score = m->score[i];
    if (label) *label = m->label[i];
done:
    return st;
}

adze_status adze_metrics_add(adze_metrics *m, const char *name, const float *map, const unsigned char *mask,
                             bool anomalous, double *score, int *label)
{
    if (m->opts.float64) return adze_fail(ADZE_EINVAL, "%s: a float32 map, the metrics were made for float64", name);
    return add(m, name, map, mask, anomalous, score, label);
}

adze_status adze_metrics_add_f64(adze_metrics *m, const char *name, const double *map, const unsigned char *mask,
                                 bool anomalous, double *score, int *label)
{
    if (!m->opts.float64) return adze_fail(ADZE_EINVAL, "%s: a float64 map, the metrics were made for float32", name);
    return add(m, name, map, mask, anomalous, score, label);
}

adze_status adze_metrics_set_score(adze_metrics *m, double score)
{
    if (m->n_images == 0 || m->finished) return adze_fail(ADZE_EINVAL, "metrics: a score without an image");
    if (!isfinite(score)) return adze_fail(ADZE_ENUMERIC, "metrics: an image score of %g", score);
    m->score[m->n_images - 1] = score;
    return ADZE_OK;
}

static void undefine(adze_metrics_result *r, int first, int last, const char *reason)
{
    for (int k = first; k <= last; k++) r->value[k] = NAN, r->reason[k] = reason;
}

static adze_status image_level(const adze_metrics *m, adze_metrics_result *r)
{
    adze_status st = ADZE_OK;
    double threshold;
    int64_t bad_file = 0;
    for (int64_t i = 0; i < m->n_images; i++) r->n_bad += m->label[i], bad_file += m->label_file[i];
    r->n_good = m->n_images - r->n_bad;
    TRY(adze_image_metrics(m->score, m->label, m->n_images, r->value + ADZE_METRIC_IMAGE_AUROC, &r->image_threshold,
                           &r->image_roc, &r->image_pr));
    TRY(adze_image_metrics(m->score, m->label_file, m->n_images, r->value + ADZE_METRIC_IMAGE_AUROC_FILE, &threshold,
                           NULL, NULL));
    const char *none = "no anomalous image", *all = "no normal image";
    if (r->n_bad == 0 || r->n_good == 0)
        undefine(r, ADZE_METRIC_IMAGE_AUROC, ADZE_METRIC_IMAGE_F1_MAX, r->n_bad == 0 ? none : all);
    if (bad_file == 0 || bad_file == m->n_images)
        undefine(r, ADZE_METRIC_IMAGE_AUROC_FILE, ADZE_METRIC_IMAGE_F1_MAX_FILE, bad_file == 0 ? none : all);
done:
    return st;
}

static void pixels_undefined(adze_metrics_result *r, const char *reason)
{
    undefine(r, ADZE_METRIC_PIXEL_AUROC, ADZE_METRIC_DICE_MAX, reason);
    r->pixel_threshold = NAN;
}

static adze_status pixel_level(adze_metrics *m, adze_metrics_result *r)
{
    adze_status st = ADZE_OK;
    const int B = m->opts.strips;
    adze_cut *cut = NULL;
    adze_pixels px = { m->opts.float64, m->negative, m->key, m->region, m->n_negative, m->n_positive, m->n_regions,
                       m->area, m->min, m->max };
    double span = px.float64 ? px.max - px.min : (double)((float)px.max - (float)px.min);
    const char *flat = span == 0.0 ? "all scores of the class are equal"
                       : !isfinite(span) ? "the range of the scores is above the largest number" : NULL;

    /* all cuts in one array: fixed thresholds first, then the loop's, then the strips' */
    int64_t n_fixed = isfinite(span) ? ADZE_THRESHOLDED_CUTS : 0;
    int64_t n_loop = flat ? 0 : adze_loop_aupro_count(&px, m->opts.loop_steps), n_strips = flat ? 0 : B + 1;
    int64_t n_cuts = n_fixed + n_loop + n_strips;
    REQUIRE(cut = adze_calloc((size_t)n_cuts + 1, sizeof *cut), ADZE_ENOMEM, "metrics: no memory for %lld thresholds",
            (long long)n_cuts);
    adze_cut *loop = cut + n_fixed, *strip = loop + n_loop;
    if (n_fixed > 0) adze_thresholded_place(&px, cut);
    if (!flat) adze_loop_aupro_place(&px, m->opts.loop_steps, loop);
    if (!flat) adze_strips_place(&px, B, strip);
    adze_pixel_exact exact;
    TRY(adze_pixel_sweep(&px, m->opts.limit, m->opts.threads, cut, n_cuts, &exact, &r->pixel_roc, &r->pixel_pr, &r->pro));

    for (int k = 0; k < 3; k++) r->value[ADZE_METRIC_PIXEL_AUROC + k] = exact.rank[k];
    r->value[ADZE_METRIC_AUPRO] = exact.aupro;
    r->pixel_threshold = exact.threshold;
    if (px.n_positive == 0 || px.n_negative == 0)
        undefine(r, ADZE_METRIC_PIXEL_AUROC, ADZE_METRIC_AUPRO,
                 px.n_positive == 0 ? "no anomalous pixel" : "no normal pixel");
    if (n_fixed > 0) {
        double mean[4], max[4];
        adze_thresholded_finish(&px, cut, mean, max);
        for (int k = 0; k < 4; k++) r->value[ADZE_METRIC_F1_MEAN + k] = mean[k];
        r->value[ADZE_METRIC_PIXEL_F1_MAX_ADER] = max[ADZE_THRESHOLDED_F1];
        for (int k = 1; k < 4; k++) r->value[ADZE_METRIC_ACC_MAX + k - 1] = max[k];
    } else {
        undefine(r, ADZE_METRIC_PIXEL_F1_MAX_ADER, ADZE_METRIC_DICE_MAX, flat);
    }
    if (flat) {
        undefine(r, ADZE_METRIC_AUPRO_STRIPS, ADZE_METRIC_PIXEL_AP_ADER, flat);
        undefine(r, ADZE_METRIC_AUPRO_LOOP, ADZE_METRIC_AUPRO_LOOP, flat);
    } else {
        size_t bytes = 3 * ((size_t)B + 2) * sizeof *m->cells;
        REQUIRE(m->cells = adze_malloc(bytes), ADZE_ENOMEM, "metrics: %zu host bytes for strips", bytes);
        adze_strips_finish(&px, B, m->opts.limit, strip, m->cells, r->value + ADZE_METRIC_AUPRO_STRIPS,
                           r->reason + ADZE_METRIC_AUPRO_STRIPS);
        r->loop_thresholds = n_loop;
        r->value[ADZE_METRIC_AUPRO_LOOP] = adze_loop_aupro_finish(&px, n_loop, loop, m->opts.limit, &r->loop_kept,
                                                                  &r->reason[ADZE_METRIC_AUPRO_LOOP]);
    }
done:
    adze_free(cut);
    return st;
}

adze_status adze_metrics_finish(adze_metrics *m, adze_metrics_result *result)
{
    adze_status st = ADZE_OK;
    memset(result, 0, sizeof *result);
    REQUIRE(!m->finished, ADZE_EINVAL, "metrics: finished before");
    REQUIRE(m->n_images > 0, ADZE_EINVAL, "metrics: no image was added");
    result->n_images = m->n_images;
    result->n_vanished = m->n_vanished;
    result->n_without_mask = m->n_without_mask;
    result->n_pixels_good = m->n_negative;
    result->n_pixels_bad = m->n_positive;
    result->n_regions = m->n_regions;
    result->map_min = m->min, result->map_max = m->max;
    result->limit = m->opts.limit;
    TRY(image_level(m, result));
    if (m->n_without_mask > 0) pixels_undefined(result, "anomalous images without a mask");
    else TRY(pixel_level(m, result));
    m->finished = true;
done:
    return st;
}

void adze_metrics_strips(const adze_metrics *m, const double **positives, const double **negatives,
                         const double **weighted)
{
    const int64_t cells = m->opts.strips + 2;
    *positives = m->cells;
    *negatives = m->cells ? m->cells + cells : NULL;
    *weighted = m->cells ? m->cells + 2 * cells : NULL;
}
