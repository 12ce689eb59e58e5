/* hdf5_file.h - HDF5 files written so that equal content gives equal bytes, and read as files of strangers.
 *
 * Every file starts with a 512-byte user block that holds a SHA-256 over all bytes behind it (the seal): a cut file or a
 * flipped bit is refused before the HDF5 library sees it. Behind the seal the structure is checked as a whole at open:
 * hard links only, no cycles, no external, virtual, compound, reference or variable-length data (strings neither), no filter
 * other than deflate, shuffle and fletcher32, rank <= 8, sizes that the file can hold. Plug-ins stay off.
 *
 * One global lock serialises all calls (the HDF5 library is not thread-safe). Paths are absolute: "/model/conv1.weight". */
#ifndef ADZE_CHECKPOINTS_HDF5_FILE_H
#define ADZE_CHECKPOINTS_HDF5_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "checkpoints/dtype.h"
#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct adze_h5 adze_h5; /* opaque */

/* ---- writing: create, groups, datasets and attributes in any order, commit ---- */

/* Works on PATH.tmp. ADZE_EIO: cannot be created; ADZE_ENOMEM. */
adze_status adze_h5_create(adze_h5 **out, const char *path);
/* Host memory that the library takes while a file with so many data sets is written: what it remembers of each until the file
 * is closed, 6.7 to 8 kB as measured with 1.10.8, rounded up, and 3.5 MB for the first file. */
size_t adze_h5_writer_bytes(int64_t n_sets);
/* Seals, syncs and renames. Only destroy may follow. */
adze_status adze_h5_commit(adze_h5 *h);
/* Closes; without a commit a file being written is removed. NULL is fine. */
void adze_h5_destroy(adze_h5 *h);

/* With its parents; an existing one is fine. */
adze_status adze_h5_group(adze_h5 *h, const char *path);
/* Chunks with fletcher32 checksums instead of one contiguous block, for files that others will write into. Applies to the
 * datasets created after it. */
void adze_h5_checksums(adze_h5 *h, bool on);
/* A tensor in a group that exists; data row-major, little-endian, borrowed during the call. bf16 becomes u16 with logical_dtype = "bfloat16",
 * bool an int8 enum as h5py has it. The attribute sha256 covers its bytes. */
adze_status adze_h5_write(adze_h5 *h, const char *path, adze_dtype type, int rank, const int64_t *dim, const void *data);
/* A matrix (R,D) in pieces; one at a time, rows in order. The last row finishes it. */
adze_status adze_h5_rows_begin(adze_h5 *h, const char *path, adze_dtype type, int64_t R, int64_t D);
adze_status adze_h5_rows_write(adze_h5 *h, int64_t r0, int64_t n, const void *data);
/* A scalar UTF-8 string; a list of strings (rank 1). Of fixed length, padded with NUL. */
adze_status adze_h5_write_string(adze_h5 *h, const char *path, const char *s);
adze_status adze_h5_write_strings(adze_h5 *h, const char *path, const char *const *s, int64_t count);
/* Attributes of a group or data set ("/" is the root); a string has at most 60000 bytes. */
adze_status adze_h5_set_string(adze_h5 *h, const char *path, const char *attr, const char *s);
adze_status adze_h5_set_int(adze_h5 *h, const char *path, const char *attr, int64_t value);
adze_status adze_h5_set_reals(adze_h5 *h, const char *path, const char *attr, const double *value, int64_t count);

/* ---- reading ---- */

typedef struct {
    bool unsealed;      /* also accept a file without a seal (made by other programs) */
    size_t limit_bytes; /* of the file, and of all data sets together */
} adze_h5_opts;
#define ADZE_H5_OPTS ((adze_h5_opts){ .limit_bytes = (size_t)64 << 30 })

/* Read-only. opts NULL: the defaults. ADZE_EINPUT: missing, no HDF5 file, damaged, or refused by the rules above. */
adze_status adze_h5_open(adze_h5 **out, const char *path, const adze_h5_opts *opts);
/* The same for a file image in memory, copied (fuzzing). */
adze_status adze_h5_open_memory(adze_h5 **out, const char *name, const void *data, size_t n_bytes,
                                const adze_h5_opts *opts);
/* True if the file at `path` begins as an HDF5 file, with or without our seal. */
bool adze_h5_is_file(const char *path);

typedef enum { ADZE_H5_GROUP, ADZE_H5_TENSOR, ADZE_H5_STRING, ADZE_H5_STRINGS } adze_h5_kind;
typedef struct {
    const char *path; /* borrowed until destroy */
    adze_h5_kind kind;
    adze_dtype type; /* TENSOR */
    int rank;
    int64_t dim[ADZE_STORED_RANK];
    int64_t count;
    size_t n_bytes;
} adze_h5_item;

/* Every group and data set, parents first, in order of creation where the file records it; NULL past the end. */
const adze_h5_item *adze_h5_at(const adze_h5 *h, int64_t i);
const adze_h5_item *adze_h5_find(const adze_h5 *h, const char *path); /* NULL if there is none */
/* All elements; `type` and `count` must be the stored ones. Checked against the attribute sha256 where the file has no seal. */
adze_status adze_h5_read(adze_h5 *h, const char *path, adze_dtype type, int64_t count, void *to);
/* Where the elements of a contiguous data set begin in the file; 0 for one without elements. ADZE_EINPUT for another layout. */
adze_status adze_h5_offset(adze_h5 *h, const char *path, int64_t *offset);
adze_status adze_h5_read_rows(adze_h5 *h, const char *path, adze_dtype type, int64_t r0, int64_t n, void *to);
/* Owned by the caller (adze_free). At most 16 MiB. */
adze_status adze_h5_read_string(adze_h5 *h, const char *path, char **s);
/* One block: `count` pointers, then the text; adze_free. */
adze_status adze_h5_read_strings(adze_h5 *h, const char *path, char ***s, int64_t *count);
bool adze_h5_has(adze_h5 *h, const char *path, const char *attr);
adze_status adze_h5_get_string(adze_h5 *h, const char *path, const char *attr, char **s); /* adze_free */
adze_status adze_h5_get_int(adze_h5 *h, const char *path, const char *attr, int64_t *value);
adze_status adze_h5_get_reals(adze_h5 *h, const char *path, const char *attr, double *value, int64_t count);
/* Recomputes the digest of a data set's bytes and compares it with its attribute sha256; *stored false: it has none. */
adze_status adze_h5_verify(adze_h5 *h, const char *path, bool *stored);

#ifdef __cplusplus
}
#endif
#endif
