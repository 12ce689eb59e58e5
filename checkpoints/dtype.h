/* dtype.h - element types of stored tensors, their sizes and names, and their conversion to float32. */
#ifndef ADZE_CHECKPOINTS_DTYPE_H
#define ADZE_CHECKPOINTS_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    ADZE_DTYPE_F32,
    ADZE_DTYPE_F64,
    ADZE_DTYPE_F16,  /* IEEE 754 binary16 */
    ADZE_DTYPE_BF16, /* upper half of a float32 */
    ADZE_DTYPE_I64,
    ADZE_DTYPE_I32,
    ADZE_DTYPE_I16,
    ADZE_DTYPE_I8,
    ADZE_DTYPE_U64,
    ADZE_DTYPE_U32,
    ADZE_DTYPE_U16,
    ADZE_DTYPE_U8,
    ADZE_DTYPE_BOOL, /* one byte, 0 or 1 */
    ADZE_DTYPE_COUNT
} adze_dtype;

size_t adze_dtype_bytes(adze_dtype type);
const char *adze_dtype_name(adze_dtype type); /* "f32", "bf16", "i64", "bool" ... */
/* `count` little-endian elements at any address to float32: exact for f16, bf16, bool and small integers, rounded to
 * nearest for the others. */
void adze_dtype_to_f32(adze_dtype type, const void *from, int64_t count, float *to);

enum { ADZE_STORED_RANK = 8 }; /* largest rank of a stored tensor */

/* Number of elements and bytes of a shape; false if a dimension is negative or a product does not fit in 63 bits. */
bool adze_stored_size(adze_dtype type, int rank, const int64_t *dim, int64_t *count, size_t *n_bytes);
/* "[64,3,7,7]" into a caller's buffer; returns the buffer. */
enum { ADZE_STORED_SHAPE_TEXT = 192 };
const char *adze_stored_shape_text(int rank, const int64_t *dim, char text[ADZE_STORED_SHAPE_TEXT]);

#ifdef __cplusplus
}
#endif
#endif
