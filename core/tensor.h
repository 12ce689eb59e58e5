/* tensor.h - shapes and plain tensor views. Everything is row-major; activations are (N,H,W,C), tokens (N,L,D). */
#ifndef ADZE_CORE_TENSOR_H
#define ADZE_CORE_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { ADZE_MAX_RANK = 6 };

typedef struct {
    int rank;
    int64_t dim[ADZE_MAX_RANK];
} adze_shape;

#define ADZE_SHAPE(...) \
    adze_shape_of((int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), (const int64_t[]){ __VA_ARGS__ })

adze_shape adze_shape_of(int rank, const int64_t *dim);
/* Number of elements; 1 for rank 0. */
int64_t adze_shape_count(const adze_shape *s);
/* Product of dimensions [from, to). */
int64_t adze_shape_span(const adze_shape *s, int from, int to);
bool adze_shape_equal(const adze_shape *a, const adze_shape *b);
/* "(2,16,16,64)" into a caller's buffer; returns the buffer. */
enum { ADZE_SHAPE_TEXT = 128 };
const char *adze_shape_text(const adze_shape *s, char text[ADZE_SHAPE_TEXT]);

#ifdef __cplusplus
}
#endif
#endif
