/* feature_file.h - rows of float32 by key and picture in one HDF5 file that grows, shared by any number of processes.
 *
 *   /                      format "adze-feature-cache", format_version
 *   /KEY/                  64 hexadecimal digits: the hash of everything but the picture that decides about the rows
 *   /KEY/N/                one group per time that rows were added: 0, 1, ...
 *   /KEY/N/features (R,D)  float32
 *   /KEY/N/picture (R,32)  uint8, SHA-256 of the picture's file
 *   /KEY/N/digest (R,32)   uint8, SHA-256 over key, picture digest and row
 *
 * Numbers are only ever added, and the structure is written anew behind them; one write of the first 48 bytes makes it hold.
 * So at every instant, also after a crash, the file is a whole HDF5 file, and what other processes read stays where it is.
 * What a crash leaves behind the end is reused. Rows are read by pread() and checked against their digest. */
#ifndef ADZE_CHECKPOINTS_FEATURE_FILE_H
#define ADZE_CHECKPOINTS_FEATURE_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/sha256.h"
#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct adze_feature_file adze_feature_file; /* opaque: owns the descriptor and the table of contents */

typedef struct {
    unsigned char byte[ADZE_SHA256_BYTES];
} adze_digest;

/* Opens PATH, or makes an empty one. A file that is something else, or damaged, is ADZE_EINPUT unless `replace`: then an
 * empty one takes its place. ADZE_EIO: cannot be made; a file that may only be read is fine until rows are added. */
adze_status adze_feature_file_open(adze_feature_file **out, const char *path, bool replace);
/* Rows that were not committed are given up. NULL is fine. */
void adze_feature_file_close(adze_feature_file *f);

/* A row in the file. */
typedef struct {
    int64_t offset; /* of its numbers; -1: there is none */
    adze_digest digest;
} adze_feature_row;

/* Where the rows of D floats under `key` lie, for n pictures: row[n] is set. */
adze_status adze_feature_file_find(adze_feature_file *f, const adze_digest *key, int64_t D, const adze_digest *picture, int64_t n,
                                   adze_feature_row *row);
/* One row, D floats. ADZE_EINPUT if it is damaged and `check` is set. */
adze_status adze_feature_file_read(const adze_feature_file *f, const adze_digest *key, const adze_digest *picture,
                                   const adze_feature_row *row, int64_t D, bool check, float *to);
/* Says that rows will be read soon. */
void adze_feature_file_ahead(const adze_feature_file *f, const adze_feature_row *row, int64_t D);

/* Adding: begin with the room for R[k] rows of D[k] floats under key[k], write every row once, commit. Other processes may do
 * the same meanwhile. Rows can be found after the commit. ADZE_EIO: the disk is full, with the number of bytes. */
adze_status adze_feature_file_begin(adze_feature_file *f, int n_keys, const adze_digest *key, const int64_t *R, const int64_t *D);
adze_status adze_feature_file_write(adze_feature_file *f, int k, int64_t r, const adze_digest *picture, const float *x);
adze_status adze_feature_file_commit(adze_feature_file *f);

#ifdef __cplusplus
}
#endif
#endif
