/* model_file.h - the adze checkpoint, RUN/CLASS/model.h5: everything that scoring needs besides the data.
 *
 * Layout and meaning: checkpoints/README.md. A tensor's name with a '/' is its place in the file
 * ("memory_bank/features"); one without lies under /model with its reference name ("backbone.conv1.weight").
 * Equal content gives equal bytes. */
#ifndef ADZE_CHECKPOINTS_MODEL_FILE_H
#define ADZE_CHECKPOINTS_MODEL_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "checkpoints/dtype.h"
#include "checkpoints/tensor_file.h"
#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { ADZE_MODEL_FORMAT_VERSION = 1 };

/* Strings are borrowed while writing and belong to the handle after reading; NULL = unknown, left out of the file. */
typedef struct {
    const char *method;         /* "patchcore"; required */
    const char *class_name;     /* folder name in the run, "joint" for all together; required */
    const char *const *classes; /* categories that it was fitted on */
    int64_t n_classes;
    const char *dataset;        /* name or layout of the data set */
    const char *config_json;    /* the resolved configuration with the method's options, as one JSON object; required */
    const char *backbone;       /* "wide_resnet50_2"; required */
    const char *weights_sha256; /* of the file that the backbone's weights were imported from */
    const char *weights_tag;    /* "wide_resnet50_2.tv_in1k" */
    const char *precision;      /* of the products that it was made with: "f32", "bf16" */
    bool folded;                /* backbone tensors have batch norm folded in */
    int64_t H, W;               /* network input */
    const char *resize_filter;  /* "bilinear" */
    float mean[3], std[3];      /* input = (pixel / 255 - mean) / std */
    int64_t seed;
    int64_t epoch, iteration;   /* 0 for methods without training */
    const char *created;        /* ISO 8601, only if the caller wants one: it makes files differ */
    const char *engine_version; /* set by the writer, ignored by it on input */
} adze_model_info;

typedef struct adze_model_writer adze_model_writer; /* opaque */

/* Works on PATH.tmp; nothing is at PATH before commit. ADZE_EINVAL: a required field is NULL; ADZE_EIO; ADZE_ENOMEM. */
adze_status adze_model_writer_create(adze_model_writer **out, const char *path, const adze_model_info *info);
/* Row-major data of `type`, borrowed during the call. ADZE_EINVAL: a name twice or unfit for a file. */
adze_status adze_model_writer_put(adze_model_writer *w, const char *name, adze_dtype type, int rank, const int64_t *dim,
                                  const void *data);
/* A large matrix (R,D) in pieces: begin, then rows [r0, r0+n) in order until all R are there. */
adze_status adze_model_writer_rows_begin(adze_model_writer *w, const char *name, adze_dtype type, int64_t R, int64_t D);
adze_status adze_model_writer_rows_put(adze_model_writer *w, int64_t r0, int64_t n, const void *data);
/* Finishes, syncs and renames; the old file, if any, stays whole until then. Only destroy may follow. */
adze_status adze_model_writer_commit(adze_model_writer *w);
/* Without a commit before: removes the temporary file. */
void adze_model_writer_destroy(adze_model_writer *w);

typedef struct adze_model_file adze_model_file; /* opaque */

/* Checks the seal over all bytes, then the structure. ADZE_EINPUT: missing, cut, altered, hostile, not a checkpoint, or of
 * a newer format version. */
adze_status adze_model_file_open(adze_model_file **out, const char *path);
void adze_model_file_close(adze_model_file *f); /* NULL is fine */
const adze_model_info *adze_model_file_info(const adze_model_file *f);
int64_t adze_model_file_count(const adze_model_file *f);
/* Name (as given to put) and shape in file order, `data` NULL; NULL past the end. */
const adze_stored_tensor *adze_model_file_at(const adze_model_file *f, int64_t i);
const adze_stored_tensor *adze_model_file_lookup(const adze_model_file *f, const char *name); /* NULL if there is none */
/* Reads a tensor; *t and its data are borrowed until the next find or close. ADZE_EINPUT if there is none. */
adze_status adze_model_file_find(adze_model_file *f, const char *name, const adze_stored_tensor **t);
/* Reads all elements, or rows [r0, r0+n) of a matrix, into the caller's memory; `type` must be the stored one. */
adze_status adze_model_file_read(adze_model_file *f, const char *name, adze_dtype type, int64_t count, void *to);
adze_status adze_model_file_read_rows(adze_model_file *f, const char *name, adze_dtype type, int64_t r0, int64_t n,
                                      void *to);

#ifdef __cplusplus
}
#endif
#endif
