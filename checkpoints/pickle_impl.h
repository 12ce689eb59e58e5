/* pickle_impl.h - a restricted reader of Python pickles: what torch.save writes, as plain data. Not installed.
 *
 * No function is ever called by name. A stream can build None, bool, int64, double, strings, tuples, lists, dicts,
 * references to tensors and storages, records (TorchScript modules), and opaque things that are parsed and forgotten. */
#ifndef ADZE_CHECKPOINTS_PICKLE_IMPL_H
#define ADZE_CHECKPOINTS_PICKLE_IMPL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "checkpoints/dtype.h"
#include "core/status.h"

typedef enum {
    PICKLE_NONE,
    PICKLE_BOOL,    /* integer */
    PICKLE_INT,     /* integer */
    PICKLE_REAL,    /* real */
    PICKLE_TEXT,    /* bytes, n: valid UTF-8, may hold NUL */
    PICKLE_BYTES,   /* bytes, n */
    PICKLE_TUPLE,   /* item[0..n) */
    PICKLE_LIST,    /* item[0..n) */
    PICKLE_DICT,    /* item[0..n): key, value, key, value ... */
    PICKLE_RECORD,  /* a TorchScript object; item[0] = its state once n is 1 */
    PICKLE_TENSOR,  /* integer = index into tensor[] */
    PICKLE_STORAGE, /* integer = index into storage[] */
    PICKLE_GLOBAL,  /* a known class or function; integer = which, see pickle.c */
    PICKLE_OPAQUE   /* anything else */
} pickle_kind;

typedef uint32_t pickle_ref; /* index into value[] */

typedef struct {
    uint8_t kind;
    bool on_path; /* the walk is inside it */
    uint32_t n, room;
    union {
        int64_t integer;
        double real;
        const unsigned char *bytes; /* in the pickle */
        pickle_ref *item;           /* owned */
    };
} pickle_value;

enum { PICKLE_UNTYPED = ADZE_DTYPE_COUNT };

typedef struct {
    const unsigned char *key; /* decimal digits, in the pickle */
    uint32_t key_bytes;
    int type;                 /* adze_dtype or PICKLE_UNTYPED */
    int64_t count;            /* elements, bytes if untyped */
    int64_t view_at, view_count; /* the window of the record that this storage is */
    const unsigned char *data; /* the record, set by the container; NULL: not found yet */
} pickle_storage;

typedef struct {
    uint32_t storage;
    adze_dtype type;
    int rank;
    int64_t offset, dim[ADZE_STORED_RANK], stride[ADZE_STORED_RANK]; /* in elements */
} pickle_tensor;

typedef struct {
    bool strict; /* refuse classes that are not known */
    bool legacy; /* persistent ids have six elements */
    pickle_value *value;
    pickle_storage *storage;
    pickle_tensor *tensor;
    pickle_ref *stack, *memo; /* a memo entry holds ref + 1, 0 if empty */
    uint32_t *mark;
    int64_t n_values, values_room, n_storages, storages_room, n_tensors, tensors_room, n_stack, stack_room, n_memo, memo_room,
        n_marks, marks_room, n_opaque;
} pickle;

/* Runs one pickle to its STOP; values, tensors and storages add up over several runs. `data` is borrowed until destroy.
 * ADZE_EINPUT: unsafe_global, unsupported_type, bad_pickle, bounds, limit, unsafe_name. */
adze_status pickle_run(pickle *p, const unsigned char *data, size_t n_bytes, size_t *used_bytes, pickle_ref *root);
void pickle_destroy(pickle *p);
/* Value of a text key in a dict, NULL if there is none (the last one if there are several). */
const pickle_value *pickle_get(const pickle *p, const pickle_value *dict, const char *key);

#endif
