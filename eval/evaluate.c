/* evaluate.c - scoring one class. Entry: evaluate_class().
 * Memory grows with the class: per picture its resized pixels, its mask and its map (4 + 4 bytes per pixel) until the
 * heat-maps are written, because their common scale is known only when all are scored. */
#include "eval/evaluate.h"

#include <inttypes.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/file.h"
#include "core/memory.h"
#include "datasets/encode_png.h"
#include "datasets/loader.h"
#include "eval/heatmap.h"
#include "eval/report.h"

/* All pictures of the class as they were scored. */
typedef struct {
    int64_t n, H, W;
    unsigned char *rgb, *mask; /* (n,H,W,3), (n,H,W) */
    bool *has_mask;
    float *map; /* (n,H,W) */
    float *raw; /* (n,raw_floats) of methods whose maps depend on all pictures; else NULL */
    float *own; /* (n) scores of methods that give them themselves; else NULL */
    const adze_data_item **item;
} gathered;

static void gathered_destroy(gathered *g)
{
    adze_free(g->rgb);
    adze_free(g->mask);
    adze_free(g->has_mask);
    adze_free(g->map);
    adze_free(g->raw);
    adze_free(g->own);
    adze_free(g->item);
}

static adze_status gathered_create(gathered *g, int64_t n, int64_t H, int64_t W)
{
    size_t pixels = (size_t)(H * W), count = (size_t)n;
    *g = (gathered){ .n = n, .H = H, .W = W };
    g->rgb = adze_calloc(count, 3 * pixels);
    g->mask = adze_calloc(count, pixels);
    g->has_mask = adze_calloc(count, sizeof *g->has_mask);
    g->map = adze_calloc(count, pixels * sizeof *g->map);
    g->item = adze_calloc(count, sizeof *g->item);
    if (g->rgb && g->mask && g->has_mask && g->map && g->item) return ADZE_OK;
    gathered_destroy(g);
    return adze_fail(ADZE_ENOMEM, "%zu bytes for the pictures and maps of %" PRId64 " test images; fewer classes at once do not help, a larger --memory-limit does",
                     count * 8 * pixels, n);
}

/* Maps of pictures first .. first + n - 1 are there: metrics, rows, and the caller. */
static adze_status take_maps(evaluated_class *out, adze_metrics *metrics, const gathered *g, int64_t first, int64_t n, const char *class_name,
                             const evaluate_opts *opts)
{
    adze_status st = ADZE_OK;
    int64_t pixels = g->H * g->W;
    for (int64_t i = first; i < first + n; i++) {
        const adze_data_item *item = g->item[i];
        adze_image_row *row = &out->row[i];
        row->path = item->path;
        row->anomalous = item->label == ADZE_LABEL_BAD;
        TRY(adze_metrics_add(metrics, item->path, g->map + i * pixels, g->has_mask[i] ? g->mask + i * pixels : NULL, row->anomalous, &row->score,
                             &row->label));
        if (g->own) {
            row->score = (double)g->own[i];
            TRY(adze_metrics_set_score(metrics, row->score));
        }
        if (opts->take_map) TRY(opts->take_map(opts->user, class_name, item, g->map + i * pixels));
    }
done:
    return st;
}

/* Maps that depend on all pictures: made when all are scored. */
static adze_status finish_maps(evaluated_class *out, loaded_model *m, adze_metrics *metrics, gathered *g, int64_t floats, const char *class_name,
                               const evaluate_opts *opts)
{
    adze_status st = ADZE_OK;
    TRY(m->method->settle(m->model, g->raw, g->n));
    for (int64_t i = 0; i < g->n; i += m->batch) {
        int64_t n = g->n - i < m->batch ? g->n - i : m->batch;
        TRY(adze_program_check_interrupt());
        TRY(m->method->finish(m->model, g->raw + i * floats, n, g->map + i * g->H * g->W));
        TRY(take_maps(out, metrics, g, i, n, class_name, opts));
    }
done:
    return st;
}

/* Scores batch by batch; fills g and the metrics collector. */
static adze_status score_all(evaluated_class *out, adze_program *p, loaded_model *m, adze_loader *loader, adze_metrics *metrics,
                             gathered *g, const char *class_name, const evaluate_opts *opts)
{
    adze_status st = ADZE_OK;
    int64_t pixels = g->H * g->W, have = 0, done = 0, floats = m->method->raw_floats ? m->method->raw_floats(m->model) : 0;
    float *x = adze_calloc((size_t)(m->batch * pixels * 3), sizeof *x);
    REQUIRE(x, ADZE_ENOMEM, "a batch of %" PRId64 " pictures", m->batch);
    if (loaded_model_scores_images(m)) REQUIRE(g->own = adze_calloc((size_t)g->n, sizeof *g->own), ADZE_ENOMEM, "scores of %" PRId64 " pictures", g->n);
    if (floats > 0)
        REQUIRE(g->raw = adze_calloc((size_t)g->n, (size_t)floats * sizeof *g->raw), ADZE_ENOMEM, "scores of %" PRId64 " pictures", g->n);
    char task[64];
    snprintf(task, sizeof task, "score %s", class_name);
    adze_progress_begin(p->progress, task, "images", 0, g->n);
    for (;;) {
        const adze_sample *s;
        TRY(adze_loader_next(loader, &s));
        TRY(adze_program_check_interrupt());
        if (s) {
            int64_t i = done + have;
            memcpy(g->rgb + i * pixels * 3, s->rgb, (size_t)(pixels * 3));
            if (loaded_model_reads_as_opencv(m)) adze_pixels_swap_red_blue(g->rgb + i * pixels * 3, pixels);
            g->has_mask[i] = s->mask != NULL;
            if (s->mask) memcpy(g->mask + i * pixels, s->mask, (size_t)pixels);
            g->item[i] = s->item;
            out->n_gray16 += s->gray16;
            adze_normalize_nhwc(&m->normalize, s->rgb, pixels, x + have++ * pixels * 3);
        }
        if (have == m->batch || (!s && have > 0)) {
            TRY(m->method->score(m->model, x, have, floats > 0 ? g->raw + done * floats : g->map + done * pixels,
                                 g->own ? g->own + done : NULL));
            if (floats == 0) TRY(take_maps(out, metrics, g, done, have, class_name, opts));
            done += have;
            have = 0;
            adze_progress_update(p->progress, done);
        }
        if (!s) break;
    }
    if (floats > 0) TRY(finish_maps(out, m, metrics, g, floats, class_name, opts));
    adze_progress_end(p->progress);
done:
    adze_free(x);
    return st;
}

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

/* One scale for all pictures of the class: from the median of the good maps to the 99.9th percentile of all. Every 13th
 * pixel is looked at. */
static adze_status choose_scale(evaluated_class *out, const gathered *g)
{
    adze_status st = ADZE_OK;
    int64_t pixels = g->H * g->W, n_good = 0, n_all = 0;
    float *good = adze_malloc((size_t)(g->n * (pixels / 13 + 1)) * sizeof *good);
    float *all = adze_malloc((size_t)(g->n * (pixels / 13 + 1)) * sizeof *all);
    REQUIRE(good && all, ADZE_ENOMEM, "a sample of the maps");
    for (int64_t i = 0; i < g->n; i++)
        for (int64_t q = 0; q < pixels; q += 13) {
            float v = g->map[i * pixels + q];
            all[n_all++] = v;
            if (!out->row[i].anomalous) good[n_good++] = v;
        }
    qsort(all, (size_t)n_all, sizeof *all, ascending);
    qsort(good, (size_t)n_good, sizeof *good, ascending);
    out->low = n_good > 0 ? good[n_good / 2] : all[n_all / 2];
    out->high = all[(int64_t)(0.999 * (double)(n_all - 1))];
    if (!(out->high > out->low)) out->high = out->low + fmax(1e-6, fabs(out->low) * 1e-3);
done:
    adze_free(good);
    adze_free(all);
    return st;
}

static adze_heatmap_opts heatmap_opts(const evaluated_class *c)
{
    adze_heatmap_opts o = ADZE_HEATMAP_OPTS;
    o.low = c->low, o.high = c->high;
    o.threshold = c->metrics.pixel_threshold;
    return o;
}

/* Length of the name without its extension; with it where another picture of the folder differs from this one in nothing else. */
static size_t panel_name_bytes(const gathered *g, int64_t i)
{
    const adze_data_item *item = g->item[i];
    const char *base = adze_path_base(item->path), *dot = strrchr(base, '.');
    if (!dot) return strlen(base);
    const size_t stem = (size_t)(dot - base);
    for (int step = -1; step <= 1; step += 2) /* they are sorted */
        for (int64_t k = i + step; k >= 0 && k < g->n; k += step) {
            const char *other = adze_path_base(g->item[k]->path);
            if (strcmp(g->item[k]->defect, item->defect) != 0 || strncmp(other, base, stem + 1) != 0) break;
            if (strrchr(other, '.') == other + stem) return strlen(base);
        }
    return stem;
}

/* OUT/heatmaps/CLASS/DEFECT/NAME.png */
static adze_status write_heatmap(const evaluated_class *c, const gathered *g, int64_t i, const char *class_name, const char *out)
{
    adze_status st = ADZE_OK;
    int64_t pixels = g->H * g->W;
    const adze_data_item *item = g->item[i];
    adze_picture panel = { 0 };
    char *path = NULL;
    adze_heatmap_opts o = heatmap_opts(c);
    TRY(adze_heatmap_panel(&panel, g->rgb + i * pixels * 3, g->H, g->W, g->map + i * pixels, g->H, g->W, &o));
    path = adze_strprintf("%s/heatmaps/%s/%s/%.*s.png", out, class_name, *item->defect ? item->defect : "unknown",
                          (int)panel_name_bytes(g, i), adze_path_base(item->path));
    REQUIRE(path, ADZE_ENOMEM, "no memory for a path");
    adze_image image = { .data = panel.rgb, .H = panel.H, .W = panel.W, .C = 3 };
    TRY(adze_image_write_png(&image, path));
done:
    adze_picture_destroy(&panel);
    adze_free(path);
    return st;
}

static adze_status write_heatmaps(const evaluated_class *c, adze_program *p, const gathered *g, const char *class_name, const char *out)
{
    adze_status st = ADZE_OK;
    char task[64];
    snprintf(task, sizeof task, "heat-maps %s", class_name);
    adze_progress_begin(p->progress, task, "pictures", 0, g->n);
    for (int64_t i = 0; i < g->n; i++) { /* the folders first: the pictures are written in parallel */
        if (i > 0 && strcmp(g->item[i]->defect, g->item[i - 1]->defect) == 0) continue;
        char *folder = adze_strprintf("%s/heatmaps/%s/%s", out, class_name, *g->item[i]->defect ? g->item[i]->defect : "unknown");
        REQUIRE(folder, ADZE_ENOMEM, "no memory for a path");
        st = adze_folder_create(folder);
        adze_free(folder);
        TRY(st);
    }
    enum { GROUP = 16 };
    for (int64_t from = 0; from < g->n; from += GROUP) {
        int64_t to = from + GROUP < g->n ? from + GROUP : g->n;
        char message[512] = "";
        adze_status first = ADZE_OK;
        TRY(adze_program_check_interrupt());
#pragma omp parallel for schedule(dynamic)
        for (int64_t i = from; i < to; i++) {
            adze_status mine = write_heatmap(c, g, i, class_name, out);
            if (mine == ADZE_OK) continue;
#pragma omp critical
            if (first == ADZE_OK) { /* the message belongs to the thread that failed */
                first = mine;
                snprintf(message, sizeof message, "%s", adze_error_message());
            }
        }
        if (first != ADZE_OK) TRY(adze_fail(first, "%s", message));
        adze_progress_update(p->progress, to);
    }
    adze_progress_end(p->progress);
done:
    return st;
}

static adze_status keep_picture(evaluated_class *c, const gathered *g, int64_t i)
{
    adze_status st = ADZE_OK;
    int64_t pixels = g->H * g->W;
    unsigned char *mask = NULL;
    adze_picture map = { 0 };
    evaluated_picture *pic = &c->picture[c->n_pictures++];
    pic->image = i;
    adze_image original = { .data = g->rgb + i * pixels * 3, .H = g->H, .W = g->W, .C = 3 };
    TRY(adze_image_encode_png(&original, &pic->png[ADZE_REPORT_ORIGINAL], &pic->n_bytes[ADZE_REPORT_ORIGINAL]));
    adze_heatmap_opts o = heatmap_opts(c);
    TRY(adze_heatmap_map(&map, g->map + i * pixels, g->H, g->W, &o));
    adze_image coloured = { .data = map.rgb, .H = map.H, .W = map.W, .C = 3 };
    TRY(adze_image_encode_png(&coloured, &pic->png[ADZE_REPORT_MAP], &pic->n_bytes[ADZE_REPORT_MAP]));
    if (g->has_mask[i] && c->row[i].anomalous) {
        REQUIRE(mask = adze_malloc((size_t)pixels), ADZE_ENOMEM, "a mask");
        for (int64_t q = 0; q < pixels; q++) mask[q] = g->mask[i * pixels + q] ? 255 : 0;
        adze_image grey = { .data = mask, .H = g->H, .W = g->W, .C = 1 };
        TRY(adze_image_encode_png(&grey, &pic->png[ADZE_REPORT_MASK], &pic->n_bytes[ADZE_REPORT_MASK]));
    }
done:
    adze_free(mask);
    adze_picture_destroy(&map);
    return st;
}

/* The anomalous pictures with the lowest scores and the good ones with the highest, by the label that the metrics use. */
static adze_status keep_gallery(evaluated_class *c, const gathered *g, int64_t per_kind)
{
    adze_status st = ADZE_OK;
    bool *taken = adze_calloc((size_t)c->n, sizeof *taken);
    c->picture = adze_calloc((size_t)(2 * per_kind), sizeof *c->picture);
    REQUIRE(taken && c->picture, ADZE_ENOMEM, "a gallery");
    for (int label = 0; label < 2; label++)
        for (int64_t k = 0; k < per_kind; k++) {
            int64_t best = -1;
            for (int64_t i = 0; i < c->n; i++) {
                if (taken[i] || c->row[i].label != label) continue;
                double d = best < 0 ? 1.0 : label ? c->row[best].score - c->row[i].score : c->row[i].score - c->row[best].score;
                if (d > 0.0) best = i;
            }
            if (best < 0) break;
            taken[best] = true;
            TRY(keep_picture(c, g, best));
        }
done:
    adze_free(taken);
    return st;
}

adze_status evaluate_class(evaluated_class *out, adze_program *p, loaded_model *m, const char *class_name,
                           const adze_data_item *items, int64_t n, const evaluate_opts *opts)
{
    adze_status st = ADZE_OK;
    adze_loader *loader = NULL;
    adze_metrics *metrics = NULL;
    gathered g = { 0 };
    double start = adze_clock_seconds();
    *out = (evaluated_class){ .n = n };
    adze_loader_opts load = ADZE_LOADER_OPTS;
    load.H = m->info->H, load.W = m->info->W, load.masks = opts->masks, load.gray16_shift = opts->gray16_shift;
    if (loaded_model_reads_as_opencv(m)) adze_loader_as_opencv(&load);
    adze_metrics_opts measure = ADZE_METRICS_OPTS;
    measure.H = m->info->H, measure.W = m->info->W, measure.max_images = n, measure.pooling = (int)m->method->pooling;
    REQUIRE(out->row = adze_calloc((size_t)n, sizeof *out->row), ADZE_ENOMEM, "a list of %" PRId64 " pictures", n);
    TRY(gathered_create(&g, n, m->info->H, m->info->W));
    TRY(adze_metrics_create(&metrics, &measure));
    TRY(adze_loader_create(&loader, items, n, NULL, 0, &load));
    TRY(score_all(out, p, m, loader, metrics, &g, class_name, opts));
    out->waited_s = adze_loader_waited_s(loader);
    adze_ctx_enter(m->ctx, "metrics");
    st = adze_metrics_finish(metrics, &out->metrics);
    adze_ctx_leave(m->ctx);
    TRY(st);
    out->seconds = adze_clock_seconds() - start;
    TRY(choose_scale(out, &g));
    if (opts->gallery > 0) TRY(keep_gallery(out, &g, opts->gallery));
    if (opts->heatmaps) TRY(write_heatmaps(out, p, &g, class_name, opts->out));
done:
    adze_loader_destroy(loader);
    adze_metrics_destroy(metrics);
    gathered_destroy(&g);
    if (st != ADZE_OK) evaluated_class_destroy(out);
    return st;
}

void evaluated_class_destroy(evaluated_class *c)
{
    for (int64_t i = 0; i < c->n_pictures; i++)
        for (int k = 0; k < 3; k++) adze_free(c->picture[i].png[k]);
    adze_free(c->picture);
    adze_free(c->row);
    c->picture = NULL, c->row = NULL, c->n_pictures = 0;
}
