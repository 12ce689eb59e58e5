/* adze_train.c - the program adze-train: fits a method to the good pictures of each class.
 * Order: options, data, weights, device; then per class: model, memory check, pictures through the loader, fit, checkpoint. */
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoints/model_file.h"
#include "checkpoints/weights.h"
#include "core/clock.h"
#include "core/device_memory.h"
#include "core/file.h"
#include "core/memory.h"
#include "datasets/dataset.h"
#include "datasets/loader.h"
#include "datasets/normalize.h"
#include "eval/program.h"
#include "models/backbone.h"
#include "train/config_compare.h"
#include "train/feature_fit.h"
#include "train/feature_key.h"
#include "train/gradient_run.h"
#include "train/job_queue.h"
#include "train/ranks.h"
#include "train/run_record.h"
#include "train/textures.h"
#include "train/train_state.h"
#include "train/weights_path.h"

static const adze_option own[] = {
    { .name = "out", .letter = 'o', .type = ADZE_OPTION_STRING, .metavar = "RUN", .group = "Run",
      .help = "folder of the run: RUN/CLASS/model.h5 and RUN/run.json" },
    { .name = "epochs", .type = ADZE_OPTION_INT, .min = 1, .max = 1000000, .metavar = "N", .group = "Training",
      .help = "passes over the pictures (default: the benchmark's); methods without gradients need none" },
    { .name = "lr", .type = ADZE_OPTION_REAL, .min = 1e-12, .max = 1e3, .metavar = "RATE", .group = "Training",
      .help = "learning rate (default: the benchmark's)" },
    { .name = "cache", .type = ADZE_OPTION_STRING, .fallback = "auto", .metavar = "auto|device|memory|FILE|off", .group = "Training",
      .help = "keep what the frozen part computes for a picture: in the GPU's memory; in memory, pinned where a GPU reads it; in "
              "FILE.h5, which other runs, classes and methods read and add to; nowhere; auto: the first that has room of the GPU's memory, "
              "memory, and RUN/CLASS/cache.h5 until the end. The results are the same" },
    { .name = "tensorboard", .type = ADZE_OPTION_FLAG, .group = "Training", .help = "also write TensorBoard event files" },
    { .name = "joint", .type = ADZE_OPTION_FLAG, .group = "Data", .help = "one model over all classes, as RUN/joint/model.h5" },
    { .name = "jobs", .type = ADZE_OPTION_INT, .min = 1, .max = 1024, .metavar = "N", .group = "Compute",
      .help = "classes side by side, each in a process of its own; one that fails does not stop the others. Divides --memory-limit, and "
              "the processors unless --threads says how many each one gets" },
    { .name = "resume", .type = ADZE_OPTION_FLAG, .group = "Run", .properties = ADZE_OPTION_ACTION,
      .help = "go on with a run: finished classes are left as they are; options that differ from the first time are refused" },
};

static const adze_program_about about = {
    .name = "adze-train",
    .table = own,
    .n_table = sizeof own / sizeof *own,
    .model_flags = true,
    .usage = "adze-train --method M --data ROOT --out RUN [options]",
    .about = "Fits a detection method to good pictures: one model per class below ROOT, or one over all with --joint. Writes "
             "one HDF5 checkpoint per model, which adze-eval and adze-predict read.",
    .examples = "  adze-train --method patchcore --data mvtec --class bottle --out runs/bottle\n"
                "  adze-train --method patchcore --backbone resnet18 --weights resnet18.h5 \\\n"
                "             --data mirad --out runs/mirad --set coreset=0.01\n"
                "  adze-train --method patchcore --help        the method's own options\n",
};

/* One run: what all classes share. */
typedef struct {
    adze_program *p;
    const adze_method *method;
    adze_options *method_options;
    const adze_backbone_info *backbone;
    adze_weights *weights;
    const adze_weights_info *info; /* of the weights */
    adze_dataset *data;
    adze_ctx *ctx;
    const char *out;
    int64_t size, batch;
    adze_normalize normalize;
    trainer_cache cache;           /* what --cache says; auto: memory, until it is known what there is to keep */
    bool cache_auto;
    rank_group *ranks;             /* NULL: this process alone; `batch` is that of all together */
    run_record record;
} run;

/* One model of a run: what it is made of and where it goes. */
typedef struct {
    const char *name, *folder;   /* of the model; RUN/name */
    const char *const *classes;
    int64_t n_classes;
    const adze_data_item *items; /* (n) */
    int64_t n;
    adze_digest *picture;        /* (n), owned: of the items' files; NULL: not looked at yet */
    const char *textures;        /* what is pasted; NULL: nothing */
} fit_work;

static adze_status find_weight(void *user, const char *name, adze_shape *shape, const float **data)
{
    const adze_stored_tensor *t;
    adze_status st = adze_weights_find(user, name, &t);
    if (st != ADZE_OK) return st;
    if (t->rank > ADZE_MAX_RANK) return adze_fail(ADZE_EINPUT, "weight '%s' has rank %d", name, t->rank);
    *shape = adze_shape_of(t->rank, t->dim);
    *data = (const float *)t->data;
    return ADZE_OK;
}

/* --cache: a word, or a file that one can see is meant as one. */
static adze_status choose_cache(run *r)
{
    adze_status st = ADZE_OK;
    const char *text = adze_options_string(r->p->options, "cache");
    size_t n = strlen(text);
    r->cache_auto = strcmp(text, "auto") == 0;
    if (r->cache_auto || strcmp(text, "memory") == 0) r->cache.kind = CACHE_MEMORY;
    else if (strcmp(text, "device") == 0) r->cache.kind = CACHE_DEVICE;
    else if (strcmp(text, "off") == 0) r->cache.kind = CACHE_OFF;
    else {
        REQUIRE(n > 3 && strcmp(text + n - 3, ".h5") == 0, ADZE_EINVAL, "cache '%s': want auto, device, memory, off, or a file whose name ends in .h5", text);
        r->cache = (trainer_cache){ .kind = CACHE_FILE, .path = text, .replace = adze_options_flag(r->p->options, "force") };
    }
done:
    return st;
}

static adze_status open_model_parts(run *r)
{
    adze_status st = ADZE_OK;
    const adze_options *o = r->p->options;
    char *path = NULL;
    REQUIRE(adze_options_given(o, "method"), ADZE_EINVAL, "--method is missing; `adze-train --method help` lists the methods");
    TRY(adze_method_find(adze_options_string(o, "method"), &r->method));
    TRY(adze_options_create(&r->method_options));
    TRY(adze_options_add(r->method_options, r->method->options, r->method->n_options));
    TRY(adze_options_apply_set(r->method_options, o));
    if (!adze_options_given(o, "seed")) {
        char seed[24];
        snprintf(seed, sizeof seed, "%" PRId64, r->method->seed);
        TRY(adze_options_set(r->p->options, "seed", seed, ADZE_ORIGIN_DEFAULT, NULL));
    }
    const char *name = adze_options_given(o, "backbone") ? adze_options_string(o, "backbone") : r->method->backbone;
    TRY(adze_backbone_find(name, &r->backbone));
    TRY(choose_cache(r));
    r->size = adze_options_int(o, "size");
    r->batch = adze_options_given(o, "batch") ? adze_options_int(o, "batch") : r->method->batch;
    if (adze_options_flag(o, "print-config")) goto done;
    TRY(weights_path(r->backbone, adze_options_string(o, "weights"), &path));
    TRY(adze_weights_open(&r->weights, path));
    r->info = adze_weights_get_info(r->weights);
    REQUIRE(strcmp(r->info->backbone, r->backbone->name) == 0, ADZE_EINPUT,
            "%s: weights of %s, the run uses --backbone %s", path, r->info->backbone, r->backbone->name);
    adze_normalize_init(&r->normalize, r->info->mean, r->info->std);
    run_record_text(&r->record, "weights_file", path);
    run_record_text(&r->record, "weights_sha256", r->info->sha256);
    run_record_text(&r->record, "weights_tag", r->info->tag);
done:
    adze_free(path);
    return st;
}

static adze_status create_model(run *r, textures *pasted, adze_model **out)
{
    adze_model_setup setup = {
        .ctx = r->ctx,
        .backbone = r->backbone->name,
        .folded = r->info->folded,
        .H = r->size,
        .W = r->size,
        .batch = r->batch / ranks_count(r->ranks),
        .seed = (uint64_t)adze_options_int(r->p->options, "seed"),
        .options = r->method_options,
        .weights = { find_weight, r->weights },
        .fit = true,
        .from_features = r->cache.kind == CACHE_FILE && r->method->frozen,
    };
    if (pasted) setup.textures = textures_source(pasted);
    adze_status st = r->method->create(out, &setup);
    if (st != ADZE_OK || !pasted) return st;
    adze_loader_opts reader = ADZE_LOADER_OPTS;
    reader.H = reader.W = r->size;
    if (r->method->reads_as_opencv && r->method->reads_as_opencv(*out)) adze_loader_as_opencv(&reader);
    textures_read_as(pasted, &reader);
    return ADZE_OK;
}

/* What a method with synthetic defects pastes; *out stays NULL for other methods. */
static adze_status open_textures(run *r, fit_work *w, textures **out)
{
    adze_status st = ADZE_OK;
    if (!r->method->pastes_textures) return ADZE_OK;
    TRY(textures_create(out, adze_options_string(r->method_options, "textures"), r->data, w->items, w->n));
    w->textures = textures_source(*out).what;
    adze_log_write(&r->p->log, ADZE_LOG_INFO, "%s: textures of synthetic defects: %s", w->name, w->textures);
done:
    return st;
}

/* Indices of the items that the method uses, in order. */
static adze_status choose_items(const run *r, const adze_model *m, int64_t n, int64_t **order, int64_t *n_order)
{
    adze_status st = ADZE_OK;
    bool *keep = adze_calloc((size_t)n, sizeof *keep);
    *order = adze_malloc((size_t)n * sizeof **order);
    *n_order = 0;
    REQUIRE(keep && *order, ADZE_ENOMEM, "an order of %" PRId64 " pictures", n);
    r->method->fit_choose(m, n, keep);
    for (int64_t i = 0; i < n; i++)
        if (keep[i]) (*order)[(*n_order)++] = i;
done:
    adze_free(keep);
    return st;
}

/* Feeds the chosen pictures to the model in batches; the last one is padded with what was there before. */
static adze_status feed(run *r, adze_model *m, adze_loader *loader, int64_t n, const char *name)
{
    adze_status st = ADZE_OK;
    int64_t pixels = r->size * r->size, have = 0;
    float *x = adze_calloc((size_t)(r->batch * pixels * 3), sizeof *x);
    REQUIRE(x, ADZE_ENOMEM, "a batch of %" PRId64 " pictures", r->batch);
    char task[64];
    snprintf(task, sizeof task, "features %s", name);
    adze_progress_begin(r->p->progress, task, "images", 0, n);
    for (;;) {
        const adze_sample *sample;
        TRY(adze_loader_next(loader, &sample));
        TRY(adze_program_check_interrupt());
        if (sample) adze_normalize_nhwc(&r->normalize, sample->rgb, pixels, x + have++ * pixels * 3);
        if (have == r->batch || (!sample && have > 0)) {
            TRY(r->method->fit_add(m, x, have));
            have = 0;
        }
        if (!sample) break;
        adze_progress_update(r->p->progress, sample->position + 1);
    }
    adze_progress_end(r->p->progress);
done:
    adze_free(x);
    return st;
}

static adze_status put_tensor(void *user, const char *name, adze_tensor_type type, adze_shape shape, const void *data)
{
    return adze_model_writer_put(user, name, type == ADZE_TENSOR_I64 ? ADZE_DTYPE_I64 : ADZE_DTYPE_F32, shape.rank, shape.dim, data);
}

/* What a model's file says of it; borrows everything. */
static void describe_model(const run *r, const fit_work *work, const char *options_json, adze_model_info *info)
{
    *info = (adze_model_info){
        .method = r->method->name,
        .class_name = work->name,
        .classes = work->classes,
        .n_classes = work->n_classes,
        .dataset = adze_layout_name(adze_dataset_layout(r->data)),
        .config_json = options_json,
        .backbone = r->backbone->name,
        .weights_sha256 = r->info->sha256,
        .weights_tag = r->info->tag,
        .precision = adze_precision_name(adze_ctx_precision(r->ctx)),
        .folded = r->info->folded,
        .H = r->size,
        .W = r->size,
        .resize_filter = "bilinear",
        .seed = adze_options_int(r->p->options, "seed"),
    };
    memcpy(info->mean, r->info->mean, sizeof info->mean);
    memcpy(info->std, r->info->std, sizeof info->std);
}

/* Everything that the evaluator needs, written beside and then renamed. */
static adze_status write_checkpoint(run *r, const adze_model *m, const fit_work *work, const char *path)
{
    adze_status st = ADZE_OK;
    adze_text options = ADZE_TEXT_EMPTY;
    adze_model_writer *w = NULL;
    TRY(run_record_options_json(r->method_options, &options));
    adze_model_info info;
    describe_model(r, work, options.s, &info);
    TRY(adze_model_writer_create(&w, path, &info));
    adze_tensor_sink sink = { put_tensor, w };
    TRY(r->method->save(m, &sink));
    TRY(adze_model_writer_commit(w));
done:
    adze_model_writer_destroy(w);
    adze_text_destroy(&options);
    return st;
}

/* What fitting a model took, for messages and the record. */
typedef struct {
    int64_t n_images;
    double images_per_s, waited_s;
    bool finished; /* false: a dry run or a printed plan */
    adze_text engines; /* of libraries, JSON objects; owned */
} fit_result;

/* Fits on the pictures order[n] through the file of --cache. */
static adze_status feed_features(run *r, adze_model *m, const adze_loader_opts *loader, const fit_work *w, const int64_t *order, int64_t n,
                                 double *waited_s)
{
    adze_status st = ADZE_OK;
    char task[64];
    int64_t found;
    adze_data_item *items = adze_malloc((size_t)n * sizeof *items);
    adze_digest *picture = adze_malloc((size_t)n * sizeof *picture);
    REQUIRE(items && picture, ADZE_ENOMEM, "a list of %" PRId64 " pictures", n);
    for (int64_t i = 0; i < n; i++) items[i] = w->items[order[i]], picture[i] = w->picture[order[i]];
    const adze_feature_fit_opts opts = {
        .ctx = r->ctx, .method = r->method, .model = m, .batch = r->batch, .items = items, .picture = picture, .n = n, .loader = loader,
        .normalize = &r->normalize, .path = r->cache.path, .replace = r->cache.replace,
    };
    snprintf(task, sizeof task, "features %s", w->name);
    adze_progress_begin(r->p->progress, task, "images", 0, n);
    adze_work_progress progress = { adze_program_step, r->p };
    TRY(adze_feature_fit(&opts, &progress, &found, waited_s));
    adze_progress_end(r->p->progress);
    if (found > 0)
        adze_log_write(&r->p->log, ADZE_LOG_INFO, "%s: features of %" PRId64 " of %" PRId64 " pictures were in the cache", w->name, found, n);
done:
    adze_free(items);
    adze_free(picture);
    return st;
}

/* Methods without gradients: every picture once. */
static adze_status gather_model(run *r, adze_model *m, const fit_work *w, fit_result *result)
{
    adze_status st = ADZE_OK;
    adze_loader *loader = NULL;
    adze_text plan = ADZE_TEXT_EMPTY;
    int64_t *order = NULL, n_order = 0;
    double start = adze_clock_seconds();
    if (adze_options_flag(r->p->options, "print-plan")) {
        r->method->print_plan(m, &plan);
        TRY(adze_text_check(&plan, "plan"));
        fputs(plan.s, stdout);
        goto done;
    }
    TRY(choose_items(r, m, w->n, &order, &n_order));
    adze_loader_opts opts = ADZE_LOADER_OPTS;
    opts.H = opts.W = r->size;
    if (r->method->reads_as_opencv && r->method->reads_as_opencv(m)) adze_loader_as_opencv(&opts);
    adze_memory_item memory[ADZE_MEMORY_ITEMS + 1];
    r->method->memory(m, n_order, memory);
    int last = 0;
    while (memory[last].what) last++;
    memory[last] = (adze_memory_item){ .what = "pictures ahead", .n_bytes = adze_loader_queue_bytes(&opts) };
    memory[last + 1] = (adze_memory_item){ .what = NULL };
    char what[96];
    snprintf(what, sizeof what, "fitting %s on %" PRId64 " pictures", w->name, n_order);
    TRY(adze_program_memory(r->p, memory, what));
    memory[0] = (adze_memory_item){ .what = NULL };
    if (r->method->device_memory) r->method->device_memory(m, n_order, memory);
    TRY(adze_program_device_memory(r->p, r->ctx, memory, what));
    if (adze_options_flag(r->p->options, "dry-run")) goto done;

    TRY(r->method->fit_begin(m, n_order));
    double waited_s = 0.0;
    if (r->cache.kind == CACHE_FILE && r->method->frozen) TRY(feed_features(r, m, &opts, w, order, n_order, &waited_s));
    else {
        TRY(adze_loader_create(&loader, w->items, w->n, order, n_order, &opts));
        TRY(feed(r, m, loader, n_order, w->name));
        waited_s = adze_loader_waited_s(loader);
    }
    adze_work_progress progress = { adze_program_step, r->p };
    TRY(r->method->fit_end(m, &progress));
    adze_progress_end(r->p->progress);
    *result = (fit_result){ n_order, (double)n_order / (adze_clock_seconds() - start), waited_s, true, ADZE_TEXT_EMPTY };
    if (r->method->engines) TRY(r->method->engines(m, &result->engines));
done:
    adze_loader_destroy(loader);
    adze_text_destroy(&plan);
    adze_free(order);
    return st;
}

static void key_and_text(adze_text *out, const char *key, const char *text)
{
    adze_text_printf(out, "%s\"%s\": ", out->n_bytes > 1 ? ", " : "", key);
    adze_text_json(out, text);
}

static void classes_and_text(adze_text *out, const char *const *classes, int64_t n)
{
    adze_text list = ADZE_TEXT_EMPTY;
    for (int64_t i = 0; i < n; i++) adze_text_printf(&list, "%s%s", i ? "," : "", classes[i]);
    key_and_text(out, "classes", list.s ? list.s : "");
    out->failed |= list.failed;
    adze_text_destroy(&list);
}

static int64_t epochs_of(const run *r)
{
    const adze_options *o = r->p->options;
    return adze_options_given(o, "epochs") ? adze_options_int(o, "epochs") : r->method->recipe->epochs;
}

static double rate_of(const run *r)
{
    const adze_options *o = r->p->options;
    return adze_options_given(o, "lr") ? adze_options_real(o, "lr") : r->method->recipe->lr;
}

/* What decides about the result of a training: must agree when it is resumed. The pictures count by their bytes and order. */
static adze_status training_config(const run *r, const fit_work *w, adze_text *out)
{
    adze_status st = run_record_options_json(r->method_options, out);
    if (st != ADZE_OK) return st;
    char pictures[ADZE_SHA256_HEX];
    adze_sha256_of(w->picture, (size_t)w->n * sizeof *w->picture, pictures);
    out->s[--out->n_bytes] = 0; /* the closing brace */
    adze_text_printf(out, "%s\"pictures\": %" PRId64 ", \"epochs\": %" PRId64 ", \"batch\": %" PRId64 ", \"lr\": %.17g, \"seed\": %" PRId64
                     ", \"size\": %" PRId64,
                     out->n_bytes > 1 ? ", " : "", w->n, epochs_of(r), r->batch, rate_of(r), adze_options_int(r->p->options, "seed"), r->size);
    key_and_text(out, "backbone", r->backbone->name);
    key_and_text(out, "weights_sha256", r->info->sha256);
    key_and_text(out, "precision", adze_options_string(r->p->options, "precision"));
    key_and_text(out, "device", adze_ctx_device(r->ctx));
    classes_and_text(out, w->classes, w->n_classes);
    key_and_text(out, "pictures_sha256", pictures);
    if (w->textures) key_and_text(out, "textures_are", w->textures);
    adze_text_append(out, "}");
    return adze_text_check(out, "configuration");
}

/* Methods with gradients: epochs of steps. */
static adze_status train_model(run *r, adze_model *m, const fit_work *w, fit_result *result)
{
    adze_status st = ADZE_OK;
    const adze_options *o = r->p->options;
    adze_text config = ADZE_TEXT_EMPTY;
    bool dry = adze_options_flag(o, "dry-run") || adze_options_flag(o, "print-plan");
    trainer_cache cache = r->cache;
    cache.picture = w->picture;
    if (!dry) TRY(training_config(r, w, &config));
    gradient_run_opts opts = {
        .p = r->p,
        .train = { .ctx = r->ctx, .method = r->method, .model = m, .items = w->items, .n = w->n, .H = r->size, .W = r->size,
                   .batch = r->batch / ranks_count(r->ranks), .epochs = epochs_of(r), .lr = rate_of(r), .seed = (uint64_t)adze_options_int(o, "seed"),
                   .normalize = &r->normalize, .mean = r->info->mean, .std = r->info->std, .cache = cache, .ranks = r->ranks },
        .name = w->name, .folder = w->folder, .config_json = config.s, .resume = adze_options_flag(o, "resume"),
        .cache_auto = r->cache_auto,
        .dry_run = adze_options_flag(o, "dry-run"), .print_plan = adze_options_flag(o, "print-plan"),
        .tensorboard = adze_options_flag(o, "tensorboard"),
    };
    gradient_run_result done_so_far;
    st = gradient_run(&opts, &done_so_far);
    result->engines = done_so_far.engines;
    TRY(st);
    *result = (fit_result){ w->n, (double)(done_so_far.steps * r->batch) / done_so_far.seconds, done_so_far.waited_s, done_so_far.trained,
                            done_so_far.engines };
done:
    adze_text_destroy(&config);
    return st;
}

/* Of several ranks only the first leaves traces. */
static bool writes(const run *r) { return ranks_rank(r->ranks) == 0; }

/* What a model's file says of how it was made, as one JSON object. */
static adze_status model_config(const adze_model_info *info, adze_text *out)
{
    size_t n = strlen(info->config_json);
    adze_text_append_n(out, info->config_json, n > 0 ? n - 1 : 0); /* without the closing brace */
    key_and_text(out, "method", info->method);
    key_and_text(out, "backbone", info->backbone);
    key_and_text(out, "weights_sha256", info->weights_sha256 ? info->weights_sha256 : "");
    key_and_text(out, "precision", info->precision ? info->precision : "");
    adze_text_printf(out, ", \"seed\": %" PRId64 ", \"size\": %" PRId64, info->seed, info->H);
    classes_and_text(out, info->classes, info->n_classes);
    adze_text_append(out, "}");
    return adze_text_check(out, "configuration");
}

/* What differs between a model and one that this run would make; nothing is appended if nothing does. */
static adze_status compare_model(const run *r, const fit_work *w, const char *path, adze_text *list)
{
    adze_status st = ADZE_OK;
    adze_model_file *file = NULL;
    adze_model_info now;
    adze_text options = ADZE_TEXT_EMPTY, stored = ADZE_TEXT_EMPTY, wanted = ADZE_TEXT_EMPTY;
    TRY(adze_model_file_open(&file, path));
    TRY(run_record_options_json(r->method_options, &options));
    describe_model(r, w, options.s, &now);
    TRY(model_config(adze_model_file_info(file), &stored));
    TRY(model_config(&now, &wanted));
    TRY(adze_config_compare(path, stored.s, wanted.s, list));
done:
    adze_model_file_close(file);
    adze_text_destroy(&options);
    adze_text_destroy(&stored);
    adze_text_destroy(&wanted);
    return st;
}

static bool is_newer(const char *path, const char *than)
{
    struct stat a, b;
    if (stat(path, &a) != 0 || stat(than, &b) != 0) return false;
    return a.st_mtim.tv_sec != b.st_mtim.tv_sec ? a.st_mtim.tv_sec > b.st_mtim.tv_sec : a.st_mtim.tv_nsec > b.st_mtim.tv_nsec;
}

/* Whether the model at `path` is what --resume would end with. A state of training beside it knows best: the model may be an older one
 * that a run with --force had not replaced yet when it was stopped. ADZE_EINPUT: made with another configuration. */
static adze_status is_finished(const run *r, const fit_work *w, const char *path, bool *finished)
{
    adze_status st = ADZE_OK;
    const bool force = adze_options_flag(r->p->options, "force");
    adze_text config = ADZE_TEXT_EMPTY, list = ADZE_TEXT_EMPTY;
    int64_t epoch;
    char *state = adze_path_join(w->folder, "train.h5");
    *finished = false;
    REQUIRE(state, ADZE_ENOMEM, "no memory for a path");
    if (r->method->recipe && adze_train_state_exists(state)) {
        TRY(training_config(r, w, &config));
        const adze_train_state expected = { .method = r->method->name, .class_name = w->name, .config_json = config.s };
        TRY(adze_train_state_look(&expected, state, force, &list, &epoch));
        *finished = epoch == epochs_of(r) && !is_newer(state, path);
    } else {
        TRY(compare_model(r, w, path, &list));
        REQUIRE(!list.s || force, ADZE_EINPUT, "%s: made with another configuration: %s (--force makes it anew)", path, list.s);
        *finished = !list.s;
    }
done:
    adze_text_destroy(&config);
    adze_text_destroy(&list);
    adze_free(state);
    return st;
}

/* Takes the folder of a model for this process; refuses to overwrite a model, or a training that could be resumed. */
static adze_status claim_folder(const run *r, const char *folder, int *lock)
{
    adze_status st = ADZE_OK;
    const adze_options *o = r->p->options;
    char *state = adze_path_join(folder, "train.h5");
    REQUIRE(state, ADZE_ENOMEM, "no memory for a path");
    TRY(adze_folder_create(folder));
    TRY(adze_folder_lock(folder, false, lock));
    if (adze_options_flag(o, "resume")) goto done;
    TRY(adze_program_output(r->p, folder, "model.h5"));
    REQUIRE(adze_options_flag(o, "force") || !adze_file_exists(state), ADZE_EINVAL,
            "%s exists: go on with --resume, or overwrite it with --force", state);
done:
    adze_free(state);
    return st;
}

/* Fits one model and writes RUN/name/model.h5. */
static adze_status fit_model(run *r, fit_work w)
{
    adze_status st = ADZE_OK;
    adze_model *m = NULL;
    adze_text facts = ADZE_TEXT_EMPTY;
    fit_result result = { .finished = false };
    textures *pasted = NULL;
    int lock = -1;
    const adze_options *o = r->p->options;
    bool dry = adze_options_flag(o, "dry-run") || adze_options_flag(o, "print-plan");
    double start = adze_clock_seconds();
    char *folder = adze_path_join(r->out ? r->out : ".", w.name), *path = folder ? adze_path_join(folder, "model.h5") : NULL;
    REQUIRE(path, ADZE_ENOMEM, "no memory for a path");
    w.folder = folder;
    if (!dry && writes(r)) TRY(claim_folder(r, folder, &lock));
    if (!dry && (r->method->recipe || r->cache.kind == CACHE_FILE)) {
        REQUIRE(w.picture = adze_malloc((size_t)w.n * sizeof *w.picture), ADZE_ENOMEM, "a table of %" PRId64 " pictures", w.n);
        TRY(adze_feature_pictures(w.items, w.n, w.picture));
    }
    TRY(open_textures(r, &w, &pasted));
    if (!dry && adze_options_flag(o, "resume") && adze_file_exists(path)) {
        bool finished;
        TRY(is_finished(r, &w, path, &finished));
        if (finished) {
            adze_log_write(&r->p->log, ADZE_LOG_INFO, "%s: %s exists, left as it is", w.name, path);
            goto done;
        }
    }
    if (!dry && writes(r)) adze_folder_remove_leftovers(folder);
    TRY(create_model(r, pasted, &m));
    if (r->method->recipe) TRY(train_model(r, m, &w, &result));
    else TRY(gather_model(r, m, &w, &result));
    if (!result.finished) goto done;
    if (writes(r)) TRY(write_checkpoint(r, m, &w, path));
    r->method->facts(m, &facts);
    double seconds = adze_clock_seconds() - start;
    adze_log_write(&r->p->log, ADZE_LOG_INFO, "%s: %s, %.1f s (%.1f images/s, %.1f s waiting for pictures)", w.name,
                   facts.s ? facts.s : "", seconds, result.images_per_s, result.waited_s);
    adze_device_memory device;
    adze_ctx_memory(r->ctx, &device);
    const run_memory memory = { r->p->planned_bytes, adze_program_peak_bytes(), r->p->planned_device_bytes, device.peak_bytes };
    run_record_class(&r->record, w.name, result.n_images, seconds, &memory, result.engines.s, facts.s ? facts.s : "");
done:
    if (m) r->method->destroy(m);
    textures_destroy(pasted);
    adze_text_destroy(&result.engines);
    adze_text_destroy(&facts);
    adze_folder_unlock(lock);
    adze_free(w.picture);
    adze_free(folder);
    adze_free(path);
    return st == ADZE_OK ? st : adze_fail_prefix(st, "%s", w.name);
}

/* The classes that were asked for, checked; `names` borrowed from the data set or the options. */
static adze_status chosen_classes(const run *r, const char ***names, int64_t *n)
{
    adze_status st = ADZE_OK;
    int64_t n_known, n_asked = adze_options_list_count(r->p->options, "class");
    const char *const *known = adze_dataset_classes(r->data, &n_known);
    bool all = n_asked == 0 || (n_asked == 1 && strcmp(adze_options_list_at(r->p->options, "class", 0), "all") == 0);
    TRY(adze_program_distinct(r->p, "class"));
    *n = all ? n_known : n_asked;
    *names = adze_calloc((size_t)(*n > 0 ? *n : 1), sizeof **names);
    REQUIRE(*names, ADZE_ENOMEM, "a list of classes");
    for (int64_t i = 0; i < *n; i++) {
        (*names)[i] = all ? known[i] : adze_options_list_at(r->p->options, "class", i);
        TRY(adze_dataset_require(r->data, (*names)[i], ADZE_SPLIT_TRAIN));
    }
done:
    return st;
}

static adze_status fit_joint(run *r, const char *const *names, int64_t n)
{
    adze_status st = ADZE_OK;
    int64_t total = 0;
    adze_data_item *items = NULL;
    for (int pass = 0; pass < 2; pass++) {
        total = 0;
        for (int64_t i = 0; i < n; i++) {
            int64_t count;
            const adze_data_item *part = adze_dataset_items(r->data, names[i], ADZE_SPLIT_TRAIN, &count);
            if (pass == 1) memcpy(items + total, part, (size_t)count * sizeof *items);
            total += count;
        }
        if (pass == 0) REQUIRE(items = adze_calloc((size_t)total, sizeof *items), ADZE_ENOMEM, "a list of %" PRId64 " pictures", total);
    }
    TRY(fit_model(r, (fit_work){ .name = "joint", .classes = names, .n_classes = n, .items = items, .n = total }));
done:
    adze_free(items);
    return st;
}

/* One model of one class. */
static adze_status fit_class(run *r, const char *const *name)
{
    fit_work w = { .name = *name, .classes = name, .n_classes = 1 };
    w.items = adze_dataset_items(r->data, *name, ADZE_SPLIT_TRAIN, &w.n);
    return fit_model(r, w);
}

/* What the classes of --jobs share. */
typedef struct {
    run *r;
    const char *const *names;
    int64_t at_once;
} side_by_side;

/* Messages and progress of this process from now on, in lines. */
static adze_status use_progress(run *r, adze_output output)
{
    adze_status st = ADZE_OK;
    adze_progress_opts lines = { .file = stderr, .output = output };
    adze_progress_destroy(r->p->progress);
    r->p->progress = r->p->log.progress = NULL;
    TRY(adze_progress_create(&r->p->progress, &lines));
    r->p->log.progress = r->p->progress;
    r->p->log.output = output;
done:
    return st;
}

/* One class in a process of its own; gives back its part of the record. */
static adze_status fit_apart(void *user, int64_t i, adze_text *classes)
{
    adze_status st = ADZE_OK;
    side_by_side *s = user;
    run *r = s->r;
    TRY(use_progress(r, r->p->log.output)); /* nobody else's line is redrawn */
    adze_memory_limit_set(adze_memory_limit() / (size_t)s->at_once);
    TRY(adze_program_device(r->p, &r->ctx));
    TRY(fit_class(r, &s->names[i]));
    adze_text_append(classes, r->record.classes.s ? r->record.classes.s : "");
done:
    return st;
}

static void class_ended(void *user, int64_t i, const job_end *end)
{
    const side_by_side *s = user;
    if (end->status != ADZE_OK) adze_log_write(&s->r->p->log, ADZE_LOG_ERROR, "class %s: %s", s->names[i], end->text.s ? end->text.s : "");
}

/* Threads of one process among `at_once`, unless they are given; `why` for --print-config. */
static adze_status share_threads(const run *r, int64_t at_once, const char *why)
{
    cpu_set_t set;
    char text[24];
    if (adze_options_given(r->p->options, "threads") || sched_getaffinity(0, sizeof set, &set) != 0) return ADZE_OK;
    int64_t threads = CPU_COUNT(&set) / at_once;
    snprintf(text, sizeof text, "%" PRId64, threads > 0 ? threads : 1);
    return adze_options_set(r->p->options, "threads", text, ADZE_ORIGIN_COMMAND, why);
}

/* --jobs: all classes as a queue. `failed` lists those that did not finish, *worst is the status with the highest exit status. */
static adze_status fit_side_by_side(run *r, const char *const *names, int64_t n, adze_status *worst, adze_text *failed)
{
    adze_status st = ADZE_OK;
    int64_t jobs = adze_options_int(r->p->options, "jobs");
    side_by_side s = { r, names, jobs < n ? jobs : n };
    job_end *end = adze_calloc((size_t)n, sizeof *end);
    REQUIRE(end, ADZE_ENOMEM, "a list of %" PRId64 " classes", n);
    TRY(share_threads(r, s.at_once, "--jobs"));
    job_queue queue = { .n = n, .at_once = s.at_once, .work = fit_apart, .ended = class_ended, .user = &s };
    st = job_queue_run(&queue, end);
    for (int64_t i = 0; i < n; i++) {
        bool fine = end[i].status == ADZE_OK;
        adze_log_write(&r->p->log, ADZE_LOG_INFO, "%-24s %-11s %9.1f s", names[i],
                       fine ? "finished" : end[i].status == ADZE_EINTERRUPTED ? "interrupted" : "failed", end[i].seconds);
        if (fine) run_record_join(&r->record, end[i].text.s);
        if (fine) continue;
        adze_text_printf(failed, "%s%s", failed->n_bytes ? ", " : "", names[i]);
        if (adze_status_exit_code(end[i].status) > adze_status_exit_code(*worst)) *worst = end[i].status;
    }
    if (st == ADZE_EINTERRUPTED) st = adze_fail(st, "interrupted; go on with --resume");
    TRY(st);
    TRY(adze_text_check(failed, "a list of classes"));
    if (failed->s) run_record_text(&r->record, "failed", failed->s);
done:
    if (end) job_queue_free(end, n);
    adze_free(end);
    return st;
}

static adze_status print_config(const run *r)
{
    adze_text t = ADZE_TEXT_EMPTY;
    adze_status st = adze_options_config(r->p->options, r->method_options, &t);
    if (st == ADZE_OK && t.s && writes(r)) fputs(t.s, stdout);
    adze_text_destroy(&t);
    return st;
}

/* A GPU for each rank of a machine; by themselves ranks use the cpu. */
static adze_status choose_rank_device(run *r)
{
    adze_status st = ADZE_OK;
    char text[24];
    const char *device = adze_options_string(r->p->options, "device");
    REQUIRE(!strchr(device, ':'), ADZE_EINVAL, "--device %s: several ranks take a GPU each; give --device %.*s", device, (int)strcspn(device, ":"), device);
    snprintf(text, sizeof text, "%.5s:%d", device, ranks_local(r->ranks));
    if (strcmp(device, "cpu") == 0) return ADZE_OK;
    TRY(adze_options_set(r->p->options, "device", strcmp(device, "auto") == 0 ? "cpu" : text, ADZE_ORIGIN_PROGRAM, "mpirun"));
done:
    return st;
}

/* What several ranks cannot do, and what they share: the batch, the processors unless each has its own, the terminal. */
static adze_status join_ranks(run *r)
{
    adze_status st = ADZE_OK;
    const adze_options *o = r->p->options;
    const int n = ranks_count(r->ranks);
    if (!r->ranks) return ADZE_OK;
    TRY(choose_rank_device(r));
    REQUIRE(r->method->recipe, ADZE_EINVAL, "%s is not trained by gradients: start it without mpirun", r->method->name);
    REQUIRE(!adze_options_given(o, "jobs"), ADZE_EINVAL, "--jobs: classes side by side are processes of their own; start it without mpirun");
    REQUIRE(r->cache.kind != CACHE_FILE, ADZE_EINVAL, "--cache %s: several ranks share no file; device, memory or off", r->cache.path);
    REQUIRE(r->batch % n == 0, ADZE_EINVAL, "batch %" PRId64 ": %d ranks need a multiple of %d", r->batch, n, n);
    cpu_set_t set;
    bool bound = sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) < sysconf(_SC_NPROCESSORS_ONLN);
    TRY(share_threads(r, bound ? 1 : n, "mpirun"));
    if (writes(r)) adze_log_write(&r->p->log, ADZE_LOG_INFO, "%d ranks, %" PRId64 " pictures each per step", n, r->batch / n);
    else TRY(use_progress(r, ADZE_OUTPUT_QUIET));
done:
    return st;
}

/* Writes run.json if there is something to say, also behind an interruption or failure, whose message it keeps. `failed`: some class did. */
static adze_status leave_record(run *r, adze_status ended, bool failed)
{
    adze_status st = ADZE_OK;
    char why[1024];
    if (!writes(r) || (!r->record.classes.s && !failed)) return ended;
    snprintf(why, sizeof why, "%s", adze_error_message());
    if (!r->ctx) TRY(adze_program_device(r->p, &r->ctx));
    TRY(run_record_write(&r->record, r->p, r->method_options, r->ctx, r->data, r->out));
    if (ended != ADZE_OK) st = adze_fail(ended, "%s", why);
done:
    return st;
}

/* The classes one after the other, or all together, in this process. */
static adze_status fit_here(run *r, const char *const *names, int64_t n)
{
    adze_status st = ADZE_OK;
    const adze_options *o = r->p->options;
    const bool dry = adze_options_flag(o, "dry-run");
    TRY(adze_program_device(r->p, &r->ctx));
    TRY(ranks_join_devices(r->ranks, r->ctx));
    if (adze_options_flag(o, "joint")) return fit_joint(r, names, n);
    for (int64_t i = 0; i < n; i++) {
        TRY(fit_class(r, &names[i]));
        if (adze_options_flag(o, "print-plan")) break; /* the same for every class */
        if (!dry && i + 1 < n) TRY(leave_record(r, ADZE_OK, false)); /* whatever becomes of the next ones */
    }
done:
    return st;
}

static adze_status fit_all(run *r)
{
    adze_status st = ADZE_OK;
    const char **names = NULL;
    int64_t n = 0;
    adze_status worst = ADZE_OK;
    adze_text failed = ADZE_TEXT_EMPTY;
    const adze_options *o = r->p->options;
    TRY(ranks_open(&r->ranks));
    TRY(open_model_parts(r));
    TRY(join_ranks(r));
    if (adze_options_flag(o, "print-config")) {
        st = print_config(r);
        goto done;
    }
    REQUIRE(adze_options_given(o, "data"), ADZE_EINVAL, "--data is missing: the folder of the data set");
    r->out = adze_options_string(o, "out");
    bool dry = adze_options_flag(o, "dry-run") || adze_options_flag(o, "print-plan");
    REQUIRE(dry || r->out, ADZE_EINVAL, "--out is missing: the folder of the run");
    TRY(adze_dataset_open(&r->data, adze_options_string(o, "data"), NULL));
    TRY(chosen_classes(r, &names, &n));
    bool apart = adze_options_given(o, "jobs") && n > 0 && !dry && !adze_options_flag(o, "joint");
    st = apart ? fit_side_by_side(r, names, n, &worst, &failed) : fit_here(r, names, n);
    if (!dry) st = leave_record(r, st, failed.s != NULL && st == ADZE_OK);
    TRY(st);
    REQUIRE(!failed.s, worst, "failed: %s", failed.s);
done:
    adze_text_destroy(&failed);
    adze_free(names);
    return st;
}

int main(int argc, char **argv)
{
    adze_program p;
    int code;
    if (!adze_program_open(&p, &about, argc, argv, &code)) return code;
    run r = { .p = &p };
    adze_status st = fit_all(&r);
    run_record_destroy(&r.record);
    adze_dataset_destroy(r.data);
    adze_weights_close(r.weights);
    adze_options_destroy(r.method_options);
    adze_ctx_destroy(r.ctx);
    ranks_close(r.ranks, st == ADZE_OK);
    return adze_program_close(&p, st);
}
