/* axis.h - a tensor seen around one dimension: `outer` blocks of `n` steps of `inner` elements. */
#ifndef ADZE_CORE_AXIS_H
#define ADZE_CORE_AXIS_H

#include "core/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int64_t outer, n, inner;
} adze_axis;

/* Index of a dimension that may be counted from the end (-1 = the last); -1 if the shape has no such dimension. */
static inline int adze_axis_index(const adze_shape *s, int dim)
{
    if (dim < 0) dim += s->rank;
    return dim >= 0 && dim < s->rank ? dim : -1;
}

/* `dim` as in adze_axis_index(), and valid. */
static inline adze_axis adze_axis_of(const adze_shape *s, int dim)
{
    int d = adze_axis_index(s, dim);
    adze_axis a;
    a.outer = adze_shape_span(s, 0, d);
    a.n = s->dim[d];
    a.inner = adze_shape_span(s, d + 1, s->rank);
    return a;
}

#ifdef __cplusplus
}
#endif
#endif
