/* torch_impl.h - from a finished pickle with its storages to dense named tensors. Not installed. */
#ifndef ADZE_CHECKPOINTS_TORCH_IMPL_H
#define ADZE_CHECKPOINTS_TORCH_IMPL_H

#include "checkpoints/pickle_impl.h"
#include "checkpoints/tensor_file_impl.h"

/* Finds the record of a storage, which sets s->data; called for every storage that a tensor reached from the root uses.
 * The record has been checked to hold s->count elements. */
typedef adze_status (*torch_record)(void *user, pickle_storage *s);

/* Walks from `root` and adds every tensor and plain value under its dotted path. Refusals: bounds, overflow, limit,
 * unsafe_name. */
adze_status torch_collect(adze_tensor_file *f, pickle *p, pickle_ref root, torch_record record, void *user);
size_t torch_storage_bytes(const pickle_storage *s);

#endif
