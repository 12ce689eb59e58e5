/* tensor_file.h - a weights file of any kind that we read, as named dense tensors: torch.save (zip and legacy),
 * TorchScript, safetensors, npy, npz, a folder of .npy files. The kind is found by content, never by name.
 *
 * Files are not trusted: every reader is bounded, checks every size for overflow, and executes nothing. A refused file
 * gives ADZE_EINPUT and a message "PATH: KIND: what is wrong"; KIND is one of
 *   unsafe_global unsupported_type bad_pickle bad_zip bad_header truncated bounds overflow limit duplicate unsafe_name
 *   endianness not_a_weight_file */
#ifndef ADZE_CHECKPOINTS_TENSOR_FILE_H
#define ADZE_CHECKPOINTS_TENSOR_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "checkpoints/dtype.h"
#include "core/sha256.h"
#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    const char *name; /* dotted path from the root, "state_dict.conv1.weight"; a lone .npy has "" */
    adze_dtype type;
    int rank;
    int64_t dim[ADZE_STORED_RANK];
    int64_t count;
    size_t n_bytes;
    const unsigned char *data; /* row-major, little-endian, no gaps; aligned to 64 bytes */
} adze_stored_tensor;

typedef enum { ADZE_SCALAR_INT, ADZE_SCALAR_REAL, ADZE_SCALAR_BOOL, ADZE_SCALAR_TEXT } adze_scalar_type;

/* A plain value beside the tensors: "epoch", "optimizer.param_groups.0.lr", an entry of safetensors' __metadata__. */
typedef struct {
    const char *name;
    adze_scalar_type type;
    int64_t integer; /* INT, BOOL */
    double real;     /* REAL */
    const char *text; /* TEXT: UTF-8, cut at the first NUL */
} adze_stored_scalar;

typedef struct {
    bool strict;         /* refuse files that hold objects which are neither tensors nor plain values */
    size_t limit_bytes;  /* of the file, and of all dense tensors together */
} adze_tensor_file_opts;
#define ADZE_TENSOR_FILE_OPTS ((adze_tensor_file_opts){ .limit_bytes = (size_t)16 << 30 })

typedef struct adze_tensor_file adze_tensor_file; /* opaque: owns every tensor, name and scalar */

/* A file or a folder. opts NULL: the defaults. ADZE_EINPUT as above, ADZE_ENOMEM. */
adze_status adze_tensor_file_read(adze_tensor_file **out, const char *path, const adze_tensor_file_opts *opts);
/* The same for a file that is in memory already (borrowed during the call); `name` stands in messages. */
adze_status adze_tensor_file_read_memory(adze_tensor_file **out, const char *name, const void *data, size_t n_bytes,
                                         const adze_tensor_file_opts *opts);
void adze_tensor_file_destroy(adze_tensor_file *f);

/* "torch_zip", "torch_legacy", "torchscript", "safetensors", "npz", "npy" or "npy_folder". */
const char *adze_tensor_file_format(const adze_tensor_file *f);
/* SHA-256 of the file; of a folder: of the output of `sha256sum *.npy` in bytewise order of the names. */
const char *adze_tensor_file_sha256(const adze_tensor_file *f);
int64_t adze_tensor_file_count(const adze_tensor_file *f);
/* In the file's order; NULL past the end. Borrowed until destroy. */
const adze_stored_tensor *adze_tensor_file_at(const adze_tensor_file *f, int64_t i);
const adze_stored_tensor *adze_tensor_file_find(const adze_tensor_file *f, const char *name);
int64_t adze_tensor_file_scalar_count(const adze_tensor_file *f);
const adze_stored_scalar *adze_tensor_file_scalar_at(const adze_tensor_file *f, int64_t i);
/* What was odd but harmless, one line each; "" if nothing. */
const char *adze_tensor_file_warnings(const adze_tensor_file *f);

#ifdef __cplusplus
}
#endif
#endif
