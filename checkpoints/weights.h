/* weights.h - pretrained backbones in HDF5: what `adze-weights import` writes and the trainer reads.
 *
 * Tensors have torchvision's or timm's names and shapes (OIHW), floating-point ones in float32. */
#ifndef ADZE_CHECKPOINTS_WEIGHTS_H
#define ADZE_CHECKPOINTS_WEIGHTS_H

#include <stdbool.h>
#include <stdint.h>

#include "checkpoints/tensor_file.h"
#include "core/status.h"
#include "core/text.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    const char *backbone;    /* "resnet18" */
    bool folded;             /* batch norm is folded into the convolutions: weight + bias, no statistics */
    const char *sha256;      /* of the source file */
    const char *source;      /* its name, without folders */
    const char *source_format;
    const char *tag;         /* "resnet18.tv_in1k" if the source is a known file, else "" */
    float mean[3], std[3];   /* the input normalisation that these weights were trained with, pixel/255 */
    const char *preprocessing; /* the same as a sentence */
} adze_weights_info;

typedef struct adze_weights adze_weights; /* opaque */

/* Opens a file made by adze_weights_write(). ADZE_EINPUT: missing, damaged, or another kind of file, with advice. */
adze_status adze_weights_open(adze_weights **out, const char *path);
void adze_weights_close(adze_weights *w); /* NULL is fine */
const adze_weights_info *adze_weights_get_info(const adze_weights *w);
int64_t adze_weights_count(const adze_weights *w);
const adze_stored_tensor *adze_weights_at(const adze_weights *w, int64_t i); /* `data` NULL; NULL past the end */
bool adze_weights_has(const adze_weights *w, const char *name);
/* Reads a tensor as float32; *t and its data (cast to float) are borrowed until the next find or close. ADZE_EINPUT names
 * the tensor and the file if there is none. */
adze_status adze_weights_find(adze_weights *w, const char *name, const adze_stored_tensor **t);

typedef struct {
    const char *key;          /* descend into this dotted path first ("state_dict"); NULL: the root */
    const char *strip_prefix; /* take only names with this prefix and remove it; NULL: none */
} adze_weights_select;

/* How a file's tensors fit a backbone. Everything is counted and listed, not only the first problem. */
typedef struct {
    int64_t n_matched, n_missing, n_unexpected, n_mismatched;
    bool folded;
    adze_text text; /* one line per problem; owned, adze_weights_report_destroy() */
} adze_weights_report;

/* Compares names and shapes. ADZE_EINVAL: unknown backbone; otherwise ADZE_OK, whatever is found. */
adze_status adze_weights_check(const adze_tensor_file *f, const char *backbone, const adze_weights_select *select,
                               adze_weights_report *report);
/* The same for an open weights file and the backbone that it names. */
adze_status adze_weights_check_self(const adze_weights *w, adze_weights_report *report);
bool adze_weights_fits(const adze_weights_report *report);
void adze_weights_report_destroy(adze_weights_report *report);
/* The known backbone that the file fits, NULL if none does or memory is short. */
const char *adze_weights_guess(const adze_tensor_file *f, const adze_weights_select *select);

/* Writes the tensors of `f` as weights of `backbone`. `source` is the file's path (its last component is recorded; eight
 * hex digits before the extension must be the beginning of its SHA-256). ADZE_EINPUT with the whole list if they do not
 * fit; ADZE_EIO. */
adze_status adze_weights_write(const char *path, const adze_tensor_file *f, const char *backbone, const char *source,
                               const adze_weights_select *select);
/* The tag of a published weights file by the beginning of its SHA-256, "" if it is unknown. */
const char *adze_weights_tag(const char *sha256);

#ifdef __cplusplus
}
#endif
#endif
