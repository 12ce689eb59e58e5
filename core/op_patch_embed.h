/* op_patch_embed.h - the attributes of patch_embed and its windows, for the backends. */
#ifndef ADZE_CORE_OP_PATCH_EMBED_H
#define ADZE_CORE_OP_PATCH_EMBED_H

#include "core/op.h"
#include "core/ops.h"

typedef struct {
    adze_patch_embed_opts o;
} patch_embed_attrs;

/* Window i when n elements are averaged to m. */
static inline int64_t patch_embed_begin(int64_t i, int64_t n, int64_t m) { return i * n / m; }
static inline int64_t patch_embed_end(int64_t i, int64_t n, int64_t m) { return ((i + 1) * n + m - 1) / m; }

/* Bilinear source of output i without align_corners: lower index, upper index, weight of the upper one. */
static inline double patch_embed_source(int64_t i, int64_t n, int64_t m, int64_t *lower, int64_t *upper)
{
    double s = ((double)i + 0.5) * ((double)n / (double)m) - 0.5;
    if (s < 0.0) s = 0.0;
    *lower = (int64_t)s < n ? (int64_t)s : n - 1;
    *upper = *lower + 1 < n ? *lower + 1 : *lower;
    return s - (double)*lower;
}

#endif
