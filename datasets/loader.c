/* loader.c - pictures decoded and resized ahead of the consumer. Entry: adze_loader_create().
 *
 * A ring of slots, each with its buffers made at the start: the worker that draws ticket t fills slot t mod S, and may do so
 * once the consumer has left ticket t - S. Grey pictures stay grey until after the resize, which gives the same bytes
 * for a third of the work. */
#include "datasets/loader.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/memory.h"
#include "datasets/decode.h"
#include "datasets/mask.h"

enum { MAX_THREADS = 16, MAX_SIZE = 1 << 14, MESSAGE_BYTES = 1024 };

typedef struct {
    adze_sample sample; /* rgb and mask point into the buffers or are NULL */
    unsigned char *rgb, *mask;
    bool ready;
    char message[MESSAGE_BYTES];
} slot;

struct adze_loader {
    adze_loader_opts opts;
    const adze_data_item *items; /* borrowed */
    int64_t *order;              /* owned; NULL: as they are */
    int64_t n;                   /* samples to deliver */
    slot *slots;                 /* owned, opts.queue of them */
    unsigned char *buffers;      /* owned, all slots' pixels */
    pthread_t threads[MAX_THREADS];
    int n_started;
    bool has_lock, stop;
    pthread_mutex_t lock;
    pthread_cond_t filled, freed;
    int64_t next_ticket; /* drawn by workers */
    int64_t delivered;   /* given to the consumer */
    int64_t released;    /* consumer is done with */
    double waited_s;
};

static void settle(adze_loader_opts *o)
{
    if (o->n_threads <= 0) {
        long n = sysconf(_SC_NPROCESSORS_ONLN);
        o->n_threads = n < 1 ? 1 : n > MAX_THREADS ? MAX_THREADS : (int)n;
    }
    if (o->n_threads > MAX_THREADS) o->n_threads = MAX_THREADS;
    if (o->queue <= 0) o->queue = 2 * o->n_threads + 16;
    if (o->queue < o->n_threads) o->queue = o->n_threads;
}

void adze_loader_as_opencv(adze_loader_opts *opts)
{
    opts->filter = ADZE_FILTER_OPENCV_LINEAR;
    opts->opencv_reader = true;
}

size_t adze_loader_queue_bytes(const adze_loader_opts *opts)
{
    adze_loader_opts o = *opts;
    settle(&o);
    return (size_t)o.queue * (sizeof(slot) + (size_t)(o.H * o.W) * (o.masks ? 4 : 3));
}

/* rgb (H,W,3); the size in the file, and whether it is 16-bit grey. */
static adze_status read_pixels(const adze_loader_opts *o, const char *path, unsigned char *rgb, int64_t size[2], bool *gray16)
{
    adze_status st = ADZE_OK;
    adze_image im = ADZE_IMAGE_EMPTY, small = ADZE_IMAGE_EMPTY;
    adze_decode_opts how = { ADZE_DECODE_ANY, o->gray16_shift, o->opencv_reader };
    adze_decode_info info;
    int64_t n = o->H * o->W;
    TRY(adze_image_decode_file(&im, path, &how, &info));
    size[0] = im.H, size[1] = im.W;
    *gray16 = info.gray16;
    TRY(adze_image_resize(&small, &im, o->H, o->W, o->filter));
    if (small.C == 1) adze_pixels_gray_to_rgb(small.data, n, rgb);
    else memcpy(rgb, small.data, (size_t)n * 3);
    if (o->opencv_reader && small.C == 3) adze_pixels_swap_red_blue(rgb, n);
done:
    adze_image_destroy(&im);
    adze_image_destroy(&small);
    return st;
}

adze_status adze_loader_read_picture(const adze_loader_opts *opts, const char *path, unsigned char *rgb)
{
    int64_t size[2];
    bool gray16;
    return read_pixels(opts, path, rgb, size, &gray16);
}

static adze_status read_picture(const adze_loader_opts *o, slot *s)
{
    int64_t size[2];
    adze_status st = read_pixels(o, s->sample.item->image_path, s->rgb, size, &s->sample.gray16);
    if (st == ADZE_OK) s->sample.H_original = size[0], s->sample.W_original = size[1];
    return st;
}

static adze_status read_mask(const adze_loader_opts *o, slot *s)
{
    adze_status st = ADZE_OK;
    adze_image im = ADZE_IMAGE_EMPTY, soft = ADZE_IMAGE_EMPTY;
    const adze_data_item *it = s->sample.item;
    adze_decode_opts how = { ADZE_DECODE_L, false, o->opencv_reader };
    adze_filter filter = o->filter == ADZE_FILTER_OPENCV_LINEAR ? ADZE_FILTER_OPENCV_LINEAR : ADZE_FILTER_BILINEAR;
    s->sample.mask = NULL;
    if (it->label == ADZE_LABEL_GOOD) {
        memset(s->mask, 0, (size_t)(o->H * o->W));
        s->sample.mask = s->mask;
    }
    if (it->label == ADZE_LABEL_GOOD || !it->mask_path) goto done;
    TRY(adze_image_decode_file(&im, it->mask_path, &how, NULL));
    REQUIRE(im.H == s->sample.H_original && im.W == s->sample.W_original, ADZE_EINPUT,
            "%s: mask of %" PRId64 "x%" PRId64 " for a picture of %" PRId64 "x%" PRId64, it->mask_path, im.W, im.H,
            s->sample.W_original, s->sample.H_original);
    TRY(adze_mask_resize(&soft, &im, o->H, o->W, filter));
    adze_mask_threshold(soft.data, o->H * o->W, s->mask);
    s->sample.mask = s->mask;
done:
    adze_image_destroy(&im);
    adze_image_destroy(&soft);
    return st;
}

static void fill(adze_loader *l, int64_t ticket, slot *s)
{
    const adze_data_item *it = &l->items[l->order ? l->order[ticket] : ticket];
    s->sample = (adze_sample){ .position = ticket, .item = it, .error = s->message };
    s->message[0] = 0;
    adze_status st = read_picture(&l->opts, s);
    if (st == ADZE_OK && l->opts.masks) st = read_mask(&l->opts, s);
    s->sample.status = st;
    s->sample.rgb = st == ADZE_OK ? s->rgb : NULL;
    if (st == ADZE_OK) return;
    s->sample.mask = NULL;
    snprintf(s->message, sizeof s->message, "%s", adze_error_message());
}

static void *work(void *arg)
{
    adze_loader *l = arg;
    pthread_mutex_lock(&l->lock);
    while (!l->stop && l->next_ticket < l->n) {
        if (l->next_ticket >= l->released + l->opts.queue) {
            pthread_cond_wait(&l->freed, &l->lock);
            continue;
        }
        int64_t ticket = l->next_ticket++;
        slot *s = &l->slots[ticket % l->opts.queue];
        pthread_mutex_unlock(&l->lock);
        fill(l, ticket, s);
        pthread_mutex_lock(&l->lock);
        s->ready = true;
        pthread_cond_signal(&l->filled); /* one consumer */
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

static adze_status make_slots(adze_loader *l)
{
    adze_status st = ADZE_OK;
    size_t pixels = (size_t)(l->opts.H * l->opts.W), per = pixels * (l->opts.masks ? 4 : 3), total;
    REQUIRE(adze_mul_size(per, (size_t)l->opts.queue, &total), ADZE_EINVAL, "loader: a queue of %" PRId64 " does not fit",
            l->opts.queue);
    REQUIRE(l->slots = adze_calloc((size_t)l->opts.queue, sizeof *l->slots), ADZE_ENOMEM, "loader: %" PRId64 " slots", l->opts.queue);
    REQUIRE(l->buffers = adze_malloc(total), ADZE_ENOMEM, "loader: %zu host bytes for %" PRId64 " pictures (lower the queue)", total,
            l->opts.queue);
    for (int64_t i = 0; i < l->opts.queue; i++) {
        l->slots[i].rgb = l->buffers + (size_t)i * per;
        l->slots[i].mask = l->opts.masks ? l->slots[i].rgb + 3 * pixels : NULL;
    }
done:
    return st;
}

static adze_status copy_order(adze_loader *l, const int64_t *order, int64_t n, int64_t n_order)
{
    adze_status st = ADZE_OK;
    size_t n_bytes;
    REQUIRE(n_order >= 0 && adze_mul_size((size_t)n_order + 1, sizeof *order, &n_bytes), ADZE_EINVAL, "loader: n_order=%" PRId64, n_order);
    REQUIRE(l->order = adze_malloc(n_bytes), ADZE_ENOMEM, "loader: order of %" PRId64, n_order);
    for (int64_t i = 0; i < n_order; i++) {
        REQUIRE(order[i] >= 0 && order[i] < n, ADZE_EINVAL, "loader: order[%" PRId64 "]=%" PRId64 ", want 0..%" PRId64, i, order[i], n - 1);
        l->order[i] = order[i];
    }
    l->n = n_order;
done:
    return st;
}

/* Signals go to the program's own threads. */
static void start_workers(adze_loader *l)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int n = l->opts.n_threads < l->n ? l->opts.n_threads : (int)l->n;
    while (l->n_started < n && pthread_create(&l->threads[l->n_started], NULL, work, l) == 0) l->n_started++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

adze_status adze_loader_create(adze_loader **out, const adze_data_item *items, int64_t n, const int64_t *order, int64_t n_order,
                               const adze_loader_opts *opts)
{
    adze_status st = ADZE_OK;
    adze_loader *l = NULL;
    *out = NULL;
    REQUIRE(opts->H > 0 && opts->W > 0 && opts->H <= MAX_SIZE && opts->W <= MAX_SIZE, ADZE_EINVAL,
            "loader: size %" PRId64 "x%" PRId64 ", want 1 to %d", opts->W, opts->H, MAX_SIZE);
    REQUIRE(adze_filter_name(opts->filter), ADZE_EINVAL, "loader: unknown filter number %d", (int)opts->filter);
    REQUIRE(l = adze_calloc(1, sizeof *l), ADZE_ENOMEM, "loader: %zu host bytes", sizeof *l);
    l->opts = *opts;
    settle(&l->opts);
    l->items = items;
    l->n = n;
    if (order) TRY(copy_order(l, order, n, n_order));
    TRY(make_slots(l));
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->filled, NULL);
    pthread_cond_init(&l->freed, NULL);
    l->has_lock = true;
    start_workers(l);
    REQUIRE(l->n_started > 0 || l->n == 0, ADZE_EBACKEND, "loader: no thread could be started");
    *out = l;
    l = NULL;
done:
    adze_loader_destroy(l);
    return st;
}

adze_status adze_loader_next(adze_loader *l, const adze_sample **sample)
{
    *sample = NULL;
    pthread_mutex_lock(&l->lock);
    if (l->released < l->delivered) { /* the sample of the previous call */
        l->slots[l->released % l->opts.queue].ready = false;
        l->released++;
        pthread_cond_signal(&l->freed);
    }
    if (l->delivered == l->n) {
        pthread_mutex_unlock(&l->lock);
        return ADZE_OK;
    }
    slot *s = &l->slots[l->delivered % l->opts.queue];
    double start = adze_clock_seconds();
    while (!s->ready) pthread_cond_wait(&l->filled, &l->lock);
    l->waited_s += adze_clock_seconds() - start;
    l->delivered++;
    pthread_mutex_unlock(&l->lock);
    *sample = &s->sample;
    if (s->sample.status != ADZE_OK) return adze_fail(s->sample.status, "%s", s->message);
    return ADZE_OK;
}

void adze_loader_destroy(adze_loader *l)
{
    if (!l) return;
    if (l->has_lock) {
        pthread_mutex_lock(&l->lock);
        l->stop = true;
        pthread_cond_broadcast(&l->freed);
        pthread_mutex_unlock(&l->lock);
        for (int i = 0; i < l->n_started; i++) pthread_join(l->threads[i], NULL);
        pthread_cond_destroy(&l->freed);
        pthread_cond_destroy(&l->filled);
        pthread_mutex_destroy(&l->lock);
    }
    adze_free(l->buffers);
    adze_free(l->slots);
    adze_free(l->order);
    adze_free(l);
}

double adze_loader_waited_s(const adze_loader *l)
{
    return l->waited_s;
}

int64_t adze_loader_delivered(const adze_loader *l)
{
    return l->delivered;
}
