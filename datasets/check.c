/* check.c - everything that is wrong with a data set, at once. Entry: adze_check_create(). */
#include "datasets/check.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/memory.h"
#include "core/sha256.h"
#include "datasets/benchmark_counts.h"
#include "datasets/decode.h"
#include "datasets/mask.h"

enum { MAX_THREADS = 16, TEXT_BYTES = 1200 };

/* What a worker found out about one item. */
typedef struct {
    const adze_data_item *item;
    char hex[ADZE_SHA256_HEX]; /* of the picture's bytes; "" if unreadable */
    int64_t H, W;
    bool gray16;
    char *error, *warning; /* owned; NULL: none */
} finding;

struct adze_check {
    const adze_dataset *ds;
    adze_check_opts opts;
    finding *findings; /* owned, one per item */
    int64_t n_items;
    adze_data_problem *problems; /* owned, with their texts */
    int64_t n_problems, capacity, n_errors;
    adze_check_class *classes; /* owned */
    int64_t n_classes;
    const adze_benchmark *benchmark;
};

/* Shared by the workers. */
typedef struct {
    adze_check *c;
    pthread_mutex_t lock;
    pthread_cond_t advanced;
    int64_t next, done;
    adze_status st;
} pool;

static adze_status keep(char **where, const char *fmt, ...) ADZE_PRINTF(2, 3);
static adze_status keep(char **where, const char *fmt, ...)
{
    char text[TEXT_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    *where = adze_strdup(text);
    return *where ? ADZE_OK : adze_fail(ADZE_ENOMEM, "check: no memory for a message");
}

/* Bad input becomes the item's error, without the picture's path before it; lack of memory stops the check. */
static adze_status note(adze_status st, finding *f)
{
    const char *text = adze_error_message();
    size_t n = strlen(f->item->image_path);
    if (st != ADZE_EINPUT) return st;
    if (strncmp(text, f->item->image_path, n) == 0 && strncmp(text + n, ": ", 2) == 0) text += n + 2;
    return keep(&f->error, "%s", text);
}

static adze_status look_at_mask(const adze_check *c, finding *f)
{
    adze_status st = ADZE_OK;
    adze_image mask = ADZE_IMAGE_EMPTY, soft = ADZE_IMAGE_EMPTY;
    adze_decode_opts how = { .mode = ADZE_DECODE_L };
    st = adze_image_decode_file(&mask, f->item->mask_path, &how, NULL);
    if (st != ADZE_OK) return note(st, f);
    int64_t n = mask.H * mask.W, n_set = 0;
    for (int64_t i = 0; i < n; i++) n_set += mask.data[i] != 0;
    if (mask.H != f->H || mask.W != f->W)
        TRY(keep(&f->error, "%s: mask of %" PRId64 "x%" PRId64 " for a picture of %" PRId64 "x%" PRId64, f->item->mask_path, mask.W,
                 mask.H, f->W, f->H));
    else if (n_set == 0) TRY(keep(&f->error, "%s: the mask marks nothing, but the picture counts as defective", f->item->mask_path));
    else if (c->opts.size > 0) {
        TRY(adze_mask_resize(&soft, &mask, c->opts.size, c->opts.size, c->opts.filter));
        adze_mask_counts left = adze_mask_threshold(soft.data, soft.H * soft.W, soft.data);
        if (left.ones == 0)
            TRY(keep(&f->warning, "its defect of %" PRId64 " pixels vanishes at %" PRId64 "x%" PRId64, n_set, c->opts.size, c->opts.size));
    }
done:
    adze_image_destroy(&mask);
    adze_image_destroy(&soft);
    return st;
}

static adze_status look_at(const adze_check *c, finding *f)
{
    unsigned char *data;
    size_t n_bytes;
    adze_image im;
    adze_decode_info info;
    adze_decode_opts how = { .mode = ADZE_DECODE_ANY };
    adze_status st = adze_file_read(f->item->image_path, ADZE_DECODE_MAX_FILE_BYTES, &data, &n_bytes);
    if (st != ADZE_OK) return note(st, f);
    adze_sha256_of(data, n_bytes, f->hex);
    st = adze_image_decode(&im, data, n_bytes, f->item->image_path, &how, &info);
    adze_free(data);
    if (st != ADZE_OK) return note(st, f);
    f->H = im.H, f->W = im.W;
    f->gray16 = info.gray16;
    adze_image_destroy(&im);
    return f->item->mask_path ? look_at_mask(c, f) : ADZE_OK;
}

static void *work(void *arg)
{
    pool *p = arg;
    pthread_mutex_lock(&p->lock);
    while (p->st == ADZE_OK && p->next < p->c->n_items) {
        finding *f = &p->c->findings[p->next++];
        pthread_mutex_unlock(&p->lock);
        adze_status st = look_at(p->c, f);
        pthread_mutex_lock(&p->lock);
        if (st != ADZE_OK) p->st = st;
        p->done++;
        pthread_cond_signal(&p->advanced);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* The caller's thread reports progress while the workers read. */
static adze_status look_at_all(adze_check *c)
{
    pool p = { .c = c, .st = ADZE_OK };
    pthread_t threads[MAX_THREADS];
    int n_threads = c->opts.n_threads, n_started = 0;
    if (n_threads <= 0) n_threads = (int)sysconf(_SC_NPROCESSORS_ONLN);
    if (n_threads < 1) n_threads = 1;
    if (n_threads > MAX_THREADS) n_threads = MAX_THREADS;
    pthread_mutex_init(&p.lock, NULL);
    pthread_cond_init(&p.advanced, NULL);
    sigset_t all, before; /* signals go to the program's own thread */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (n_started < n_threads && pthread_create(&threads[n_started], NULL, work, &p) == 0) n_started++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (n_started == 0) work(&p);
    pthread_mutex_lock(&p.lock);
    while (p.done < c->n_items && p.st == ADZE_OK) {
        pthread_cond_wait(&p.advanced, &p.lock);
        int64_t done = p.done;
        pthread_mutex_unlock(&p.lock);
        if (c->opts.progress) c->opts.progress(c->opts.user, done, c->n_items);
        pthread_mutex_lock(&p.lock);
    }
    pthread_mutex_unlock(&p.lock);
    for (int i = 0; i < n_started; i++) pthread_join(threads[i], NULL);
    pthread_cond_destroy(&p.advanced);
    pthread_mutex_destroy(&p.lock);
    if (p.st == ADZE_ENOMEM) return adze_fail(ADZE_ENOMEM, "check: out of memory while reading (fewer --threads need less)");
    return p.st == ADZE_OK ? ADZE_OK : adze_fail(p.st, "check: a worker failed (%s)", adze_status_name(p.st));
}

static adze_status say(adze_check *c, bool is_error, const char *class_name, const char *path, const char *fmt, ...)
    ADZE_PRINTF(5, 6);
static adze_status say(adze_check *c, bool is_error, const char *class_name, const char *path, const char *fmt, ...)
{
    char text[TEXT_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (c->n_problems == c->capacity) {
        int64_t grown = 2 * c->capacity + 64;
        adze_data_problem *p = adze_realloc(c->problems, (size_t)grown * sizeof *p);
        if (!p) return adze_fail(ADZE_ENOMEM, "check: no memory for %" PRId64 " problems", grown);
        c->problems = p;
        c->capacity = grown;
    }
    char *copy = adze_strdup(text);
    if (!copy) return adze_fail(ADZE_ENOMEM, "check: no memory for a message");
    c->problems[c->n_problems++] = (adze_data_problem){ is_error, class_name, path, copy };
    c->n_errors += is_error;
    return ADZE_OK;
}

/* By content, then by position. */
static int by_content(const void *a, const void *b)
{
    const finding *x = *(const finding *const *)a, *y = *(const finding *const *)b;
    int order = strcmp(x->hex, y->hex);
    return order ? order : (x > y) - (x < y);
}

/* One run of equal pictures: a training picture among the test pictures is an error within a class, a warning across classes
 * (RAD's categories share their good pictures). */
static adze_status say_equal(adze_check *c, finding *const *run, int64_t n)
{
    adze_status st = ADZE_OK;
    for (int64_t i = 0; i < n; i++) {
        const adze_data_item *test = run[i]->item;
        const adze_data_item *same = NULL, *other = NULL;
        for (int64_t j = 0; j < n && test->split == ADZE_SPLIT_TEST; j++) {
            const adze_data_item *train = run[j]->item;
            if (train->split != ADZE_SPLIT_TRAIN) continue;
            if (strcmp(train->class_name, test->class_name) == 0) same = same ? same : train;
            else other = other ? other : train;
        }
        if (same || other)
            TRY(say(c, same != NULL, test->class_name, test->path, "the same bytes as the training picture %s", (same ? same : other)->path));
        else if (i > 0 && run[i - 1]->item->split == test->split && strcmp(run[i - 1]->item->class_name, test->class_name) == 0)
            TRY(say(c, run[i - 1]->item->label != test->label, test->class_name, test->path, "the same bytes as %s", run[i - 1]->item->path));
    }
done:
    return st;
}

static adze_status find_duplicates(adze_check *c)
{
    adze_status st = ADZE_OK;
    finding **sorted = adze_malloc((size_t)(c->n_items + 1) * sizeof *sorted);
    int64_t n = 0;
    REQUIRE(sorted, ADZE_ENOMEM, "check: no memory to compare %" PRId64 " pictures", c->n_items);
    for (int64_t i = 0; i < c->n_items; i++)
        if (*c->findings[i].hex) sorted[n++] = &c->findings[i];
    qsort(sorted, (size_t)n, sizeof *sorted, by_content);
    for (int64_t i = 0, j; i < n; i = j) {
        for (j = i + 1; j < n && strcmp(sorted[i]->hex, sorted[j]->hex) == 0; j++) {}
        if (j > i + 1) TRY(say_equal(c, sorted + i, j - i));
    }
done:
    adze_free(sorted);
    return st;
}

static void count_class(adze_check *c, adze_check_class *k)
{
    const char *before = "";
    for (int64_t i = 0; i < c->n_items; i++) {
        const finding *f = &c->findings[i];
        if (strcmp(f->item->class_name, k->name) != 0) continue;
        bool bad = f->item->label == ADZE_LABEL_BAD;
        if (f->item->split == ADZE_SPLIT_TRAIN) k->n_train++;
        else if (bad) k->n_test_bad++;
        else k->n_test_good++;
        k->n_masks += f->item->mask_path != NULL;
        if (bad && strcmp(before, f->item->defect) != 0) { /* items are in order of path, so kinds come together */
            before = f->item->defect;
            k->n_defects++;
        }
        if (f->H == 0) continue;
        if (k->H_max == 0) k->H_min = f->H, k->W_min = f->W;
        k->H_min = f->H < k->H_min ? f->H : k->H_min, k->H_max = f->H > k->H_max ? f->H : k->H_max;
        k->W_min = f->W < k->W_min ? f->W : k->W_min, k->W_max = f->W > k->W_max ? f->W : k->W_max;
    }
}

static adze_status compare_counts(adze_check *c, const adze_check_class *k, bool complete)
{
    const adze_benchmark_class *want = adze_benchmark_class_of(c->benchmark, k->name);
    if (want->train >= 0 && (k->n_train != want->train || k->n_test_good != want->test_good || k->n_test_bad != want->test_bad))
        return say(c, complete, k->name, "",
                   "train %" PRId64 ", test good %" PRId64 ", test bad %" PRId64 "; %s has %" PRId64 ", %" PRId64 ", %" PRId64, k->n_train,
                   k->n_test_good, k->n_test_bad, c->benchmark->name, want->train, want->test_good, want->test_bad);
    if (want->defects >= 0 && k->n_defects != want->defects)
        return say(c, complete, k->name, "", "%" PRId64 " defect types; %s has %" PRId64, k->n_defects, c->benchmark->name, want->defects);
    return ADZE_OK;
}

static adze_status judge_classes(adze_check *c)
{
    adze_status st = ADZE_OK;
    bool complete = false;
    int64_t train = 0, test = 0;
    const char *const *names = adze_dataset_classes(c->ds, &c->n_classes);
    REQUIRE(c->classes = adze_calloc((size_t)c->n_classes + 1, sizeof *c->classes), ADZE_ENOMEM, "check: no memory for the classes");
    c->benchmark = adze_benchmark_find(names, c->n_classes, &complete);
    for (int64_t i = 0; i < c->n_classes; i++) {
        adze_check_class *k = &c->classes[i];
        k->name = names[i];
        count_class(c, k);
        train += k->n_train, test += k->n_test_good + k->n_test_bad;
        if (k->n_train == 0) TRY(say(c, true, k->name, "", "no training pictures"));
        if (k->n_test_good + k->n_test_bad == 0) TRY(say(c, false, k->name, "", "no test pictures: it can be trained, not evaluated"));
        else if (k->n_test_good == 0 || k->n_test_bad == 0)
            TRY(say(c, false, k->name, "", "no %s test pictures: image metrics are not defined", k->n_test_good == 0 ? "good" : "defective"));
        if (c->benchmark) TRY(compare_counts(c, k, complete));
    }
    if (!c->benchmark) goto done;
    for (int64_t i = 0; i < c->benchmark->n_classes; i++) {
        bool found = false;
        for (int64_t j = 0; j < c->n_classes; j++) found |= strcmp(names[j], c->benchmark->classes[i].class_name) == 0;
        if (!found && complete) TRY(say(c, false, "", "", "%s has a class %s, which is not here", c->benchmark->name, c->benchmark->classes[i].class_name));
    }
    if (c->n_classes == c->benchmark->n_classes && (train != c->benchmark->train || test != c->benchmark->test))
        TRY(say(c, true, "", "", "%" PRId64 " training and %" PRId64 " test pictures; %s has %" PRId64 " and %" PRId64, train, test,
                c->benchmark->name, c->benchmark->train, c->benchmark->test));
done:
    return st;
}

/* What concerns the whole set or a whole class comes before its files. */
static int by_place(const void *a, const void *b)
{
    const adze_data_problem *x = a, *y = b;
    int order = strcmp(x->class_name, y->class_name);
    if (order == 0) order = strcmp(x->path, y->path);
    return order ? order : strcmp(x->text, y->text);
}

static adze_status collect(adze_check *c)
{
    adze_status st = ADZE_OK;
    int64_t n;
    const adze_data_problem *of_layout = adze_dataset_problems(c->ds, &n);
    for (int64_t i = 0; i < n; i++) 
        TRY(say(c, of_layout[i].is_error, of_layout[i].class_name, of_layout[i].path, "%s", of_layout[i].text));
    for (int64_t i = 0; i < c->n_items; i++) {
        finding *f = &c->findings[i];
        if (f->error) TRY(say(c, true, f->item->class_name, f->item->path, "%s", f->error));
        if (f->warning) TRY(say(c, false, f->item->class_name, f->item->path, "%s", f->warning));
        if (f->gray16)
            TRY(say(c, false, f->item->class_name, f->item->path, "16-bit grey: values above 255 are clipped (--gray16=shift keeps the high byte)"));
    }
    TRY(find_duplicates(c));
    TRY(judge_classes(c));
    if (c->n_problems > 0) qsort(c->problems, (size_t)c->n_problems, sizeof *c->problems, by_place);
done:
    return st;
}

adze_status adze_check_create(adze_check **out, const adze_dataset *ds, const adze_check_opts *opts)
{
    adze_status st = ADZE_OK;
    adze_check *c = NULL;
    *out = NULL;
    REQUIRE(c = adze_calloc(1, sizeof *c), ADZE_ENOMEM, "check: %zu host bytes", sizeof *c);
    c->ds = ds;
    c->opts = opts ? *opts : ADZE_CHECK_OPTS;
    const adze_data_item *items = adze_dataset_all(ds, &c->n_items);
    REQUIRE(c->findings = adze_calloc((size_t)c->n_items + 1, sizeof *c->findings), ADZE_ENOMEM, "check: no memory for %" PRId64 " pictures", c->n_items);
    for (int64_t i = 0; i < c->n_items; i++) c->findings[i].item = &items[i];
    TRY(look_at_all(c));
    TRY(collect(c));
    *out = c;
    c = NULL;
done:
    adze_check_destroy(c);
    return st;
}

void adze_check_destroy(adze_check *c)
{
    if (!c) return;
    for (int64_t i = 0; c->findings && i < c->n_items; i++) {
        adze_free(c->findings[i].error);
        adze_free(c->findings[i].warning);
    }
    for (int64_t i = 0; i < c->n_problems; i++) adze_free((char *)c->problems[i].text);
    adze_free(c->findings);
    adze_free(c->problems);
    adze_free(c->classes);
    adze_free(c);
}

const adze_data_problem *adze_check_problems(const adze_check *c, int64_t *n)
{
    *n = c->n_problems;
    return c->problems;
}

int64_t adze_check_errors(const adze_check *c)
{
    return c->n_errors;
}

const adze_check_class *adze_check_classes(const adze_check *c, int64_t *n)
{
    *n = c->n_classes;
    return c->classes;
}

const char *adze_check_benchmark(const adze_check *c)
{
    return c->benchmark ? c->benchmark->name : NULL;
}
