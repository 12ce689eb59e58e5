/* check.h - everything that is wrong with a data set, at once: what `adze-data check` prints.
 *
 * Besides the problems of the layout: unreadable pictures and masks, masks of another size, empty masks, defects that vanish in
 * the resize, the same bytes in training and test, classes without training or test pictures, counts that differ from the
 * published ones when the class names are those of a benchmark. */
#ifndef ADZE_DATASETS_CHECK_H
#define ADZE_DATASETS_CHECK_H

#include <stdint.h>

#include "core/status.h"
#include "datasets/dataset.h"
#include "datasets/resize.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int64_t size;       /* side to which defects must survive the resize; 0: not asked */
    adze_filter filter; /* BILINEAR or OPENCV_LINEAR */
    int n_threads;      /* 0: one per processor, at most 16 */
    void (*progress)(void *user, int64_t done, int64_t all); /* called from one thread; may be NULL */
    void *user;
} adze_check_opts;
#define ADZE_CHECK_OPTS ((adze_check_opts){ 256, ADZE_FILTER_BILINEAR, 0, 0, 0 })

typedef struct {
    const char *name; /* borrowed from the data set */
    int64_t n_train, n_test_good, n_test_bad, n_masks, n_defects; /* n_defects: different defect names */
    int64_t H_min, H_max, W_min, W_max;                           /* of the readable pictures; 0 if there are none */
} adze_check_class;

typedef struct adze_check adze_check;

/* Reads every file of the data set, which must outlive the result. ADZE_ENOMEM; problems of the data are in the result. */
adze_status adze_check_create(adze_check **out, const adze_dataset *ds, const adze_check_opts *opts);
void adze_check_destroy(adze_check *c); /* NULL is fine */
/* Problems in order of class and path, those of the layout included. */
const adze_data_problem *adze_check_problems(const adze_check *c, int64_t *n);
int64_t adze_check_errors(const adze_check *c); /* how many of them are errors */
const adze_check_class *adze_check_classes(const adze_check *c, int64_t *n);
/* "MVTec AD", ... whose class names these are; NULL if none. */
const char *adze_check_benchmark(const adze_check *c);

#ifdef __cplusplus
}
#endif
#endif
