/* loader.h - decodes and resizes ahead of the consumer on worker threads, in order, in bounded memory.
 *
 *   adze_loader_create(&l, items, n, NULL, 0, &opts);
 *   while (adze_loader_next(l, &sample), sample) { ... }
 *   adze_loader_destroy(l);
 *
 * The results do not depend on the number of threads. */
#ifndef ADZE_DATASETS_LOADER_H
#define ADZE_DATASETS_LOADER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"
#include "datasets/dataset.h"
#include "datasets/resize.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int64_t H, W;         /* size of the samples */
    adze_filter filter;   /* for the mask: OPENCV_LINEAR stays itself, everything else is BILINEAR */
    bool masks;           /* also read masks */
    bool gray16_shift;    /* see adze_decode_opts */
    bool opencv_reader;   /* turn by EXIF; DeSTSeg's channel order BGR */
    int n_threads;        /* 0: one per processor, at most 16 */
    int64_t queue;        /* samples held at most, finished or in work; 0: 2 per thread + 16 */
} adze_loader_opts;
#define ADZE_LOADER_OPTS \
    ((adze_loader_opts){ 256, 256, ADZE_FILTER_BILINEAR, false, false, false, 0, 0 })

/* Pictures and masks as OpenCV reads and resizes them, blue first. */
void adze_loader_as_opencv(adze_loader_opts *opts);

/* One picture. Valid until the next call on the loader. */
typedef struct {
    int64_t position;           /* 0, 1, 2, ... in delivery order */
    const adze_data_item *item; /* the item itself, borrowed from the data set */
    adze_status status;         /* of this picture; if not ADZE_OK, `error` says why and the rest is unset */
    const char *error;          /* with the file name; "" if all is well */
    const unsigned char *rgb;   /* (H,W,3); BGR with opencv_reader */
    const unsigned char *mask;  /* (H,W), 0 or 1; zeros for good pictures; NULL: not asked for, or a defective picture without one */
    int64_t H_original, W_original;
    bool gray16; /* 16-bit grey file: deserves a warning */
} adze_sample;

/* One picture by the rules of `opts`, at once: rgb (H,W,3). ADZE_EINPUT, ADZE_ENOMEM. */
adze_status adze_loader_read_picture(const adze_loader_opts *opts, const char *path, unsigned char *rgb);

typedef struct adze_loader adze_loader;

/* Starts the workers. `items` (n) is borrowed until destroy. `order`: indices into items (n_order of them, repetitions
 * allowed) in which the samples come, copied; NULL: 0..n-1. ADZE_EINVAL (bad size, index out of range), ADZE_ENOMEM,
 * ADZE_EBACKEND (no thread could be started). */
adze_status adze_loader_create(adze_loader **out, const adze_data_item *items, int64_t n, const int64_t *order, int64_t n_order,
                               const adze_loader_opts *opts);
/* The next sample, waiting for it; *sample NULL after the last one. A picture that cannot be read is delivered with its
 * status, and that status is returned too (message set): the caller decides whether to go on. */
adze_status adze_loader_next(adze_loader *l, const adze_sample **sample);
/* Stops and joins the workers at any time. NULL is fine. */
void adze_loader_destroy(adze_loader *l);

/* Seconds that adze_loader_next() waited so far, and samples delivered. */
double adze_loader_waited_s(const adze_loader *l);
int64_t adze_loader_delivered(const adze_loader *l);
/* Host bytes that the queue of a loader with these options takes (decoding needs the original picture besides). */
size_t adze_loader_queue_bytes(const adze_loader_opts *opts);

#ifdef __cplusplus
}
#endif
#endif
