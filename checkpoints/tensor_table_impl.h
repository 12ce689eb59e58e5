/* tensor_table_impl.h - the tensors of an open HDF5 file by name, read one at a time. Not installed. */
#ifndef ADZE_CHECKPOINTS_TENSOR_TABLE_IMPL_H
#define ADZE_CHECKPOINTS_TENSOR_TABLE_IMPL_H

#include "checkpoints/hdf5_file.h"
#include "checkpoints/tensor_file.h"

typedef struct {
    adze_h5 *h;                 /* borrowed */
    adze_stored_tensor *tensor; /* owned; names point into the file's items, `data` NULL */
    int64_t count;
    adze_stored_tensor last;    /* what was read last; its data is `bytes` */
    unsigned char *bytes;       /* owned */
} tensor_table;

adze_status tensor_table_create(tensor_table *t, adze_h5 *h);
void tensor_table_destroy(tensor_table *t);
const adze_stored_tensor *tensor_table_lookup(const tensor_table *t, const char *name);
/* "/model/NAME" for a name without '/', else "/NAME". NULL if out of memory. */
char *tensor_table_path(const char *name);
/* Reads into the table's own memory, as stored or as float32. */
adze_status tensor_table_read(tensor_table *t, const char *file, const char *name, bool as_f32, const adze_stored_tensor **out);

#endif
