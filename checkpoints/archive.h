/* archive.h - the zip container of torch.save and numpy.savez, read from memory by strict rules.
 *
 * Everything is taken from the central directory and checked against the local headers; members may have gaps, never
 * overlaps; names are compared and never used as paths. */
#ifndef ADZE_CHECKPOINTS_ARCHIVE_H
#define ADZE_CHECKPOINTS_ARCHIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    const char *name; /* points into the file, not terminated */
    size_t name_bytes;
    uint16_t method; /* 0 stored, 8 deflated; others can be listed, not read */
    uint32_t crc;
    uint64_t stored_bytes, full_bytes; /* in the archive; unpacked */
    uint64_t local_at, data_at;        /* offsets in the file */
} adze_archive_member;

typedef struct {
    const unsigned char *data; /* borrowed: must outlive the archive */
    size_t n_bytes;
    adze_archive_member *member; /* owned; in order of names */
    size_t count;
} adze_archive;

/* ADZE_EINPUT with the kinds of tensor_file.h: bad_zip, truncated, duplicate, limit. */
adze_status adze_archive_open(adze_archive *a, const void *data, size_t n_bytes);
void adze_archive_close(adze_archive *a);
const adze_archive_member *adze_archive_find(const adze_archive *a, const char *name, size_t name_bytes);
/* The unpacked bytes: borrowed from the file for a stored member, else *owned holds them (adze_free). At most limit_bytes;
 * exactly full_bytes or bad_zip. `check_crc`: a wrong CRC-32 is bad_zip. */
adze_status adze_archive_read(const adze_archive *a, const adze_archive_member *m, size_t limit_bytes, bool check_crc,
                              const unsigned char **data, unsigned char **owned);
/* Whether a stored member's CRC-32 is right. */
bool adze_archive_crc_ok(const adze_archive *a, const adze_archive_member *m);

#ifdef __cplusplus
}
#endif
#endif
