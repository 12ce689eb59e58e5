/* adze_predict.c - the program adze-predict: scores pictures without labels or layout; CSV on stdout, maps on request. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/file.h"
#include "core/memory.h"
#include "datasets/dataset.h"
#include "datasets/encode_png.h"
#include "datasets/loader.h"
#include "eval/escape.h"
#include "eval/heatmap.h"
#include "eval/loaded_model.h"
#include "eval/program.h"

static const adze_option own[] = {
    { .name = "model", .letter = 'm', .type = ADZE_OPTION_STRING, .metavar = "FILE.h5", .group = "Model", .help = "checkpoint of adze-train" },
    { .name = "out", .letter = 'o', .type = ADZE_OPTION_STRING, .metavar = "DIR", .group = "Results",
      .help = "also one picture per input with overlay and map" },
    { .name = "scale", .type = ADZE_OPTION_STRING, .metavar = "LOW,HIGH", .group = "Results",
      .help = "values of the first and the last colour (default: of all inputs together)" },
    { .name = "threshold", .type = ADZE_OPTION_REAL, .metavar = "SCORE", .group = "Results",
      .help = "scores at or above are anomalous: adds the column verdict" },
    { .name = "exit-verdict", .type = ADZE_OPTION_FLAG, .group = "Results", .properties = ADZE_OPTION_ACTION,
      .help = "exit 1 if a picture is anomalous; needs --threshold" },
};

static const char *const without[] = { "data", "class", NULL };

static const adze_program_about about = {
    .name = "adze-predict",
    .table = own,
    .n_table = sizeof own / sizeof *own,
    .without = without,
    .max_args = 1 << 20,
    .usage = "adze-predict --model FILE.h5 [--out DIR] IMAGE|FOLDER... [options]",
    .about = "Scores pictures with a checkpoint. Prints CSV on stdout: path, score (maximum of the map). Needs no labels, no masks and no "
             "layout; a folder stands for all pictures below it.",
    .examples = "  adze-predict --model runs/bottle/bottle/model.h5 camera/ > scores.csv\n"
                "  adze-predict --model model.h5 --threshold 2.1 --exit-verdict part.png\n",
};

typedef struct {
    adze_program *p;
    adze_dataset *data;
    adze_ctx *ctx;
    loaded_model m;
    bool verdict;
    double threshold;
    bool anomalous; /* some picture was */
    double low, high;
    int64_t raw_floats; /* of methods whose maps depend on all pictures; else 0 */
    float *raw;         /* (pictures, raw_floats), owned */
} run;

/* given: the method's score, NULL: the map's maximum. */
static adze_status print_row(run *r, const adze_data_item *item, const float *map, int64_t pixels, const float *given, double *score)
{
    *score = -INFINITY;
    for (int64_t i = 0; i < pixels; i++) {
        if (!isfinite(map[i])) return adze_fail(ADZE_ENUMERIC, "%s: the map is not finite", item->path);
        *score = map[i] > *score ? map[i] : *score;
    }
    if (given) *score = *given;
    adze_text t = ADZE_TEXT_EMPTY;
    adze_escape_csv(&t, item->path);
    adze_text_printf(&t, ",%.9g", *score);
    if (r->verdict) adze_text_append(&t, *score >= r->threshold ? ",anomalous" : ",good");
    r->anomalous |= r->verdict && *score >= r->threshold;
    adze_status st = adze_text_check(&t, "a row");
    if (st == ADZE_OK && (puts(t.s) < 0 || fflush(stdout) != 0)) st = adze_fail(ADZE_EIO, "standard output: cannot write");
    adze_text_destroy(&t);
    return st;
}

/* "OUT/00012_NAME.png"; NULL without memory. */
static char *panel_path(const char *out, const adze_data_item *item, int64_t number)
{
    const char *base = adze_path_base(item->path), *dot = strrchr(base, '.');
    return adze_strprintf("%s/%05" PRId64 "_%.*s.png", out, number, dot ? (int)(dot - base) : (int)strlen(base), base);
}

static adze_status write_panel(run *r, const adze_data_item *item, const unsigned char *rgb, const float *map, const char *out, int64_t number)
{
    adze_status st = ADZE_OK;
    int64_t H = r->m.info->H, W = r->m.info->W;
    adze_picture panel = { 0 };
    adze_heatmap_opts o = ADZE_HEATMAP_OPTS;
    o.low = r->low, o.high = r->high;
    char *path = panel_path(out, item, number);
    REQUIRE(path, ADZE_ENOMEM, "no memory for a path");
    TRY(adze_heatmap_panel(&panel, rgb, H, W, map, H, W, &o));
    adze_image image = { .data = panel.rgb, .H = panel.H, .W = panel.W, .C = 3 };
    TRY(adze_image_write_png(&image, path));
done:
    adze_picture_destroy(&panel);
    adze_free(path);
    return st;
}

/* A batch of pictures on its way. */
typedef struct {
    const adze_data_item **item; /* (batch), owned as all here */
    unsigned char *rgb;
    float *x, *map, *own;        /* (batch,H,W,3), (batch,H,W); (batch) where the method scores pictures itself, else NULL */
} batch;

static void batch_destroy(batch *b)
{
    adze_free(b->item);
    adze_free(b->rgb);
    adze_free(b->x);
    adze_free(b->map);
    adze_free(b->own);
}

static adze_status batch_create(batch *b, const run *r)
{
    adze_status st = ADZE_OK;
    int64_t pixels = r->m.info->H * r->m.info->W;
    size_t n = (size_t)r->m.batch;
    b->item = adze_calloc(n, sizeof *b->item);
    b->rgb = adze_calloc(n, (size_t)(pixels * 3));
    b->x = adze_calloc(n, (size_t)(pixels * 3) * sizeof *b->x);
    b->map = adze_calloc(n, (size_t)pixels * sizeof *b->map);
    bool scores = loaded_model_scores_images(&r->m);
    if (scores) b->own = adze_calloc(n, sizeof *b->own);
    REQUIRE(b->item && b->rgb && b->x && b->map && (b->own || !scores), ADZE_ENOMEM, "a batch of %" PRId64 " pictures", r->m.batch);
done:
    return st;
}

/* What the maps of n pictures from number `first` on are for: rows and the common scale, or pictures. */
static adze_status take_maps(run *r, const batch *b, int64_t first, int64_t n, const char *out, bool write_out)
{
    adze_status st = ADZE_OK;
    int64_t pixels = r->m.info->H * r->m.info->W;
    for (int64_t i = 0; i < n; i++) {
        double score;
        const float *map = b->map + i * pixels;
        if (write_out) {
            TRY(write_panel(r, b->item[i], b->rgb + i * pixels * 3, map, out, first + i));
            continue;
        }
        TRY(print_row(r, b->item[i], map, pixels, b->own ? b->own + i : NULL, &score));
        if (score > r->high) r->high = score;
        for (int64_t q = 0; q < pixels; q++)
            if (map[q] < r->low) r->low = map[q];
    }
done:
    return st;
}

/* Methods whose maps depend on all pictures: the scores are there, now maps and rows. */
static adze_status finish_maps(run *r, const batch *b, const adze_data_item *items, int64_t n_items)
{
    adze_status st = ADZE_OK;
    TRY(r->m.method->settle(r->m.model, r->raw, n_items));
    for (int64_t i = 0; i < n_items; i += r->m.batch) {
        int64_t n = n_items - i < r->m.batch ? n_items - i : r->m.batch;
        for (int64_t k = 0; k < n; k++) b->item[k] = &items[i + k];
        TRY(r->m.method->finish(r->m.model, r->raw + i * r->raw_floats, n, b->map));
        TRY(take_maps(r, b, i, n, NULL, false));
    }
done:
    return st;
}

/* One pass over all pictures: prints rows (write_out false) or pictures (true). Finds the common scale on the way. */
static adze_status pass(run *r, const char *out, bool write_out)
{
    adze_status st = ADZE_OK;
    int64_t n_items, pixels = r->m.info->H * r->m.info->W, have = 0, done = 0;
    const adze_data_item *items = adze_dataset_all(r->data, &n_items);
    adze_loader *loader = NULL;
    adze_loader_opts opts = ADZE_LOADER_OPTS;
    batch b = { .item = NULL };
    bool collect = r->raw_floats > 0 && !write_out;
    opts.H = r->m.info->H, opts.W = r->m.info->W;
    if (loaded_model_reads_as_opencv(&r->m)) adze_loader_as_opencv(&opts);
    TRY(batch_create(&b, r));
    if (collect)
        REQUIRE(r->raw = adze_calloc((size_t)n_items, (size_t)r->raw_floats * sizeof *r->raw), ADZE_ENOMEM, "scores of %" PRId64 " pictures", n_items);
    TRY(adze_loader_create(&loader, items, n_items, NULL, 0, &opts));
    adze_progress_begin(r->p->progress, write_out ? "pictures" : "score", "images", 0, n_items);
    for (;;) {
        const adze_sample *s;
        TRY(adze_loader_next(loader, &s));
        TRY(adze_program_check_interrupt());
        if (s) {
            memcpy(b.rgb + have * pixels * 3, s->rgb, (size_t)(pixels * 3));
            if (loaded_model_reads_as_opencv(&r->m)) adze_pixels_swap_red_blue(b.rgb + have * pixels * 3, pixels);
            b.item[have] = s->item;
            adze_normalize_nhwc(&r->m.normalize, s->rgb, pixels, b.x + have++ * pixels * 3);
        }
        if (have == r->m.batch || (!s && have > 0)) {
            if (collect) TRY(r->m.method->score(r->m.model, b.x, have, r->raw + done * r->raw_floats, NULL));
            else if (r->raw) TRY(r->m.method->finish(r->m.model, r->raw + done * r->raw_floats, have, b.map));
            else TRY(r->m.method->score(r->m.model, b.x, have, b.map, b.own));
            if (!collect) TRY(take_maps(r, &b, done, have, out, write_out));
            done += have;
            have = 0;
            adze_progress_update(r->p->progress, done);
        }
        if (!s) break;
    }
    if (collect) TRY(finish_maps(r, &b, items, n_items));
    adze_progress_end(r->p->progress);
done:
    adze_loader_destroy(loader);
    batch_destroy(&b);
    return st;
}

static adze_status parse_scale(const char *text, double *low, double *high)
{
    char rest;
    if (sscanf(text, "%lf,%lf%c", low, high, &rest) != 2 || !(*low < *high))
        return adze_fail(ADZE_EINVAL, "--scale '%s', want LOW,HIGH with LOW < HIGH", text);
    return ADZE_OK;
}

/* Makes the folder of the pictures; refuses one that holds any of them, unless --force. */
static adze_status claim_folder(const run *r, const char *out)
{
    adze_status st = ADZE_OK;
    int64_t n;
    char *path = NULL;
    const adze_data_item *items = adze_dataset_all(r->data, &n);
    for (int64_t i = 0; i < n; i++) {
        adze_free(path);
        REQUIRE(path = panel_path(out, &items[i], i), ADZE_ENOMEM, "no memory for a path");
        TRY(adze_program_output(r->p, out, adze_path_base(path)));
    }
done:
    adze_free(path);
    return st;
}

/* Says what scoring will hold besides the model. */
static adze_status say_memory(const run *r)
{
    int64_t n, pixels = r->m.info->H * r->m.info->W;
    adze_dataset_all(r->data, &n);
    const adze_memory_item memory[] = {
        { .what = "a batch of pictures and maps", .n_bytes = (size_t)(r->m.batch * pixels) * (3 + 4 * sizeof(float)) },
        { .what = r->raw_floats > 0 ? "scores of all pictures" : NULL, .n_bytes = (size_t)(n * r->raw_floats) * sizeof(float) },
        { .what = NULL },
    };
    return adze_program_memory(r->p, memory, "scoring");
}

/* The same of the device's memory, where it has its own; ADZE_ENOMEM if it does not fit. */
static adze_status say_device_memory(const run *r)
{
    int64_t n;
    adze_memory_item items[ADZE_MEMORY_ITEMS] = { { NULL, 0 } };
    adze_dataset_all(r->data, &n);
    if (r->m.method->device_memory) r->m.method->device_memory(r->m.model, n, items);
    return adze_program_device_memory(r->p, r->ctx, items, "scoring");
}

static adze_status print_config(const adze_options *o)
{
    adze_text t = ADZE_TEXT_EMPTY;
    adze_status st = adze_options_config(o, NULL, &t);
    if (st == ADZE_OK && t.s) fputs(t.s, stdout);
    adze_text_destroy(&t);
    return st;
}

static adze_status print_plan(const loaded_model *m)
{
    adze_text plan = ADZE_TEXT_EMPTY;
    m->method->print_plan(m->model, &plan);
    adze_status st = adze_text_check(&plan, "plan");
    if (st == ADZE_OK) fputs(plan.s, stdout);
    adze_text_destroy(&plan);
    return st;
}

static adze_status predict(run *r)
{
    adze_status st = ADZE_OK;
    const adze_options *o = r->p->options;
    const bool plan = adze_options_flag(o, "print-plan"), dry = adze_options_flag(o, "dry-run");
    if (adze_options_flag(o, "print-config")) return print_config(o);
    const char *out = adze_options_string(o, "out"), *scale = adze_options_string(o, "scale");
    int64_t n = adze_options_arg_count(o);
    const char **paths = adze_calloc((size_t)n + 1, sizeof *paths);
    REQUIRE(paths, ADZE_ENOMEM, "a list of %" PRId64 " paths", n);
    REQUIRE(adze_options_given(o, "model"), ADZE_EINVAL, "--model is missing: a checkpoint of adze-train");
    REQUIRE(n > 0 || plan, ADZE_EINVAL, "no picture or folder given");
    r->verdict = adze_options_given(o, "threshold");
    r->threshold = adze_options_real(o, "threshold");
    REQUIRE(r->verdict || !adze_options_flag(o, "exit-verdict"), ADZE_EINVAL, "--exit-verdict needs --threshold");
    double low = 0.0, high = 0.0;
    if (scale) TRY(parse_scale(scale, &low, &high));
    for (int64_t i = 0; i < n; i++) paths[i] = adze_options_arg(o, i);
    if (n > 0) TRY(adze_dataset_open_files(&r->data, paths, n));
    if (out && !plan && !dry) TRY(claim_folder(r, out));
    TRY(adze_program_device(r->p, &r->ctx));
    TRY(loaded_model_open(&r->m, adze_options_string(o, "model"), r->ctx, adze_options_int(o, "batch")));
    if (plan) {
        st = print_plan(&r->m);
        goto done;
    }
    r->raw_floats = r->m.method->raw_floats ? r->m.method->raw_floats(r->m.model) : 0;
    if (r->raw_floats > 0)
        adze_log_write(&r->p->log, ADZE_LOG_INFO, "%s: maps and scores are relative to all pictures given here; with others they differ", r->m.method->name);
    if (dry) TRY(say_memory(r));
    TRY(say_device_memory(r));
    if (dry) goto done;
    puts(r->verdict ? "path,score,verdict" : "path,score");
    r->low = INFINITY, r->high = -INFINITY;
    TRY(loaded_model_blame(pass(r, out, false), adze_options_string(o, "model")));
    if (scale) r->low = low, r->high = high;
    if (!(r->high > r->low)) r->high = r->low + fmax(1e-6, fabs(r->low) * 1e-3);
    if (out) TRY(pass(r, out, true)); /* again: the common scale is known only now */
done:
    adze_free(paths);
    return st;
}

int main(int argc, char **argv)
{
    adze_program p;
    int code;
    if (!adze_program_open(&p, &about, argc, argv, &code)) return code;
    run r = { .p = &p };
    adze_status st = predict(&r);
    bool reject = st == ADZE_OK && r.anomalous && adze_options_flag(p.options, "exit-verdict");
    adze_free(r.raw);
    loaded_model_close(&r.m);
    adze_dataset_destroy(r.data);
    adze_ctx_destroy(r.ctx);
    code = adze_program_close(&p, st);
    return reject ? 1 : code;
}
