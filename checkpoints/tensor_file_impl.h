/* tensor_file_impl.h - what the readers of weights files share: the file under the reader's hand, the tensors that it has
 * found, and the way to refuse. Not installed. */
#ifndef ADZE_CHECKPOINTS_TENSOR_FILE_IMPL_H
#define ADZE_CHECKPOINTS_TENSOR_FILE_IMPL_H

#include "checkpoints/tensor_file.h"
#include "core/text.h"

/* Leaves the function: the message is "KIND: what is wrong", the path is put before it at the end. */
#define REFUSE_UNLESS(cond, kind, ...) REQUIRE(cond, ADZE_EINPUT, kind ": " __VA_ARGS__)

enum {
    TENSOR_FILE_MAX_TENSORS = 1000000,
    TENSOR_FILE_MAX_NAME_BYTES = 4096,
    TENSOR_FILE_MAX_SCALARS = 1000000,
    TENSOR_FILE_MAX_WARNINGS = 20
};

struct adze_tensor_file {
    const char *format; /* static text */
    char sha256[ADZE_SHA256_HEX];
    adze_stored_tensor *tensor; /* owned, with their names and data */
    adze_stored_scalar *scalar; /* owned, with their names and texts */
    int64_t n_tensors, tensors_room, n_scalars, scalars_room;
    const char **sorted; /* names of tensors and scalars, for the search of doubled ones; owned */
    int64_t *by_name;    /* tensor indices in order of names; owned */
    adze_text warnings;
    int n_warnings;
    bool strict;
    size_t limit_bytes, used_bytes; /* of all dense tensors */
};

typedef struct {
    const unsigned char *data; /* borrowed */
    size_t n_bytes;
} byte_span;

/* Adds a tensor with room for its elements, which the caller fills through *data. The name is copied. Refusals: overflow,
 * limit, unsafe_name. */
adze_status tensor_file_add(adze_tensor_file *f, const char *name, size_t name_bytes, adze_dtype type, int rank,
                            const int64_t *dim, unsigned char **data);
/* Copies name and text. */
adze_status tensor_file_add_scalar(adze_tensor_file *f, const char *name, size_t name_bytes, const adze_stored_scalar *v,
                                   size_t text_bytes);
void tensor_file_warn(adze_tensor_file *f, const char *fmt, ...) ADZE_PRINTF(2, 3);

/* True for well-formed UTF-8 (no surrogates, no overlong forms, at most U+10FFFF). */
bool utf8_valid(const unsigned char *s, size_t n_bytes);
uint64_t little_u64(const unsigned char *p);
uint32_t little_u32(const unsigned char *p);
uint16_t little_u16(const unsigned char *p);
/* Bytes of a name fit for a message: control characters and quotes become '?', at most 60 are shown. */
enum { SHOWN_NAME = 64 };
const char *shown_name(const void *s, size_t n_bytes, char text[SHOWN_NAME]);

/* Readers; each fills `f` from the whole file. */
adze_status read_torch_zip(adze_tensor_file *f, byte_span file); /* also TorchScript and npz: whatever the archive holds */
adze_status read_torch_legacy(adze_tensor_file *f, byte_span file);
adze_status read_safetensors(adze_tensor_file *f, byte_span file);
/* One array; `name` becomes the tensor's. */
adze_status read_npy(adze_tensor_file *f, byte_span file, const char *name, size_t name_bytes);

/* First bytes by which a legacy torch.save file is known: the pickled magic number. */
enum { TORCH_LEGACY_MAGIC = 15 };
extern const unsigned char torch_legacy_magic[TORCH_LEGACY_MAGIC];

#endif
