/* hdf5_impl.h - what the two halves of the HDF5 layer share: the handle, the lock, errors, element types. Not installed. */
#ifndef ADZE_CHECKPOINTS_HDF5_IMPL_H
#define ADZE_CHECKPOINTS_HDF5_IMPL_H

#include <hdf5.h>

#include "checkpoints/hdf5_file.h"
#include "core/sha256.h"

enum {
    H5_SEAL_BYTES = 512,        /* the user block */
    H5_MAX_DEPTH = 8,           /* of groups */
    H5_MAX_ITEMS = 200000,      /* groups and data sets */
    H5_MAX_NAME_BYTES = 4096,
    H5_MAX_TEXT_BYTES = 16 << 20,
    H5_MAX_ATTR_BYTES = 60000 /* an object header message ends at 64 KiB */
};

struct adze_h5 {
    char *path;  /* owned; the final name */
    char *tmp;   /* owned; NULL when reading */
    hid_t file;  /* -1 after commit */
    int fd;      /* of the temporary file, to reserve its blocks; -1 when reading */
    uint64_t reserved_bytes;
    bool checksums, sealed;
    size_t limit_bytes, used_bytes;
    uint64_t file_bytes;
    adze_h5_item *item; /* owned with its paths, when reading */
    int64_t n_items, items_room;
    struct { /* the matrix that is being written by rows; set < 0: none */
        hid_t set;
        adze_dtype type;
        int64_t R, D, next;
        adze_sha256 sha;
    } rows;
};

/* Takes the global lock and silences the library's error printer; leave undoes both. */
typedef struct {
    H5E_auto2_t print;
    void *user;
} h5_guard;
h5_guard h5_enter(void);
void h5_leave(h5_guard g);
/* Fails with the text and the library's innermost complaint, which is cleared. */
adze_status h5_fail(adze_status code, const char *fmt, ...) ADZE_PRINTF(2, 3);
#define H5_REQUIRE(cond, code, ...)                  \
    do {                                             \
        if (!(cond)) {                               \
            st = h5_fail(code, __VA_ARGS__);         \
            goto done;                               \
        }                                            \
    } while (0)

/* A new type id (H5Tclose), < 0 on failure; the stored and the memory type are the same. */
hid_t h5_type(adze_dtype type);
/* UTF-8 of a fixed width, padded with NUL. Variable length is neither written nor read: the library's global heap
 * (1.10.8) trusts the indices in the file. */
hid_t h5_text_type(size_t n_bytes);
/* The seal's text over the bytes of fd behind it, or of memory. */
void h5_seal_text(const char hex[ADZE_SHA256_HEX], uint64_t n_bytes, char text[H5_SEAL_BYTES]);

#endif
