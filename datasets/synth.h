/* synth.h - a small procedural data set for tests and first steps: individualised products, no two alike.
 *
 * A class fixes the plate, the palette and the kinds of elements; every picture draws its own number, arrangement, kinds, sizes and
 * turns of elements. Defects: broken (a piece of an element is missing), foreign (a colour that the class does not have),
 * scratch, stain. Only correctly rounded arithmetic is used: the same seed gives the same bytes on every machine. */
#ifndef ADZE_DATASETS_SYNTH_H
#define ADZE_DATASETS_SYNTH_H

#include <stdint.h>

#include "core/status.h"
#include "datasets/image.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum { ADZE_SYNTH_GOOD, ADZE_SYNTH_BROKEN, ADZE_SYNTH_FOREIGN, ADZE_SYNTH_SCRATCH, ADZE_SYNTH_STAIN, ADZE_SYNTH_COUNT } adze_synth_kind;

typedef struct {
    int64_t n_classes, n_train, n_test_good, n_test_bad; /* the last three per class; bad ones take the defect kinds in turn */
    int64_t size;                                        /* side of the square pictures, 32 to 4096 */
    uint64_t seed;
} adze_synth_opts;
#define ADZE_SYNTH_OPTS ((adze_synth_opts){ 3, 24, 8, 12, 256, 1 })

/* "good", "broken", ... */
const char *adze_synth_name(adze_synth_kind kind);
/* One picture (size,size,3) and its mask (size,size,1), 255 where the defect is. `number` tells pictures apart. */
adze_status adze_synth_picture(adze_image *picture, adze_image *mask, const adze_synth_opts *opts, int64_t class_number,
                               int64_t number, adze_synth_kind kind);
/* The whole set below `root` in MVTec AD layout: product_01, product_02, ... ADZE_EINVAL for numbers out of range, ADZE_EIO. */
adze_status adze_synth_write(const char *root, const adze_synth_opts *opts);

#ifdef __cplusplus
}
#endif
#endif
