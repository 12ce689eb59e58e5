/* tensor.c - shapes. Entry: adze_shape_of(). */
#include "core/tensor.h"

#include <inttypes.h>
#include <stdio.h>

adze_shape adze_shape_of(int rank, const int64_t *dim)
{
    adze_shape s = { .rank = rank < ADZE_MAX_RANK ? rank : ADZE_MAX_RANK };
    for (int d = 0; d < s.rank; d++) s.dim[d] = dim[d];
    return s;
}

int64_t adze_shape_span(const adze_shape *s, int from, int to)
{
    int64_t n = 1;
    for (int d = from; d < to; d++) n *= s->dim[d];
    return n;
}

int64_t adze_shape_count(const adze_shape *s)
{
    return adze_shape_span(s, 0, s->rank);
}

bool adze_shape_equal(const adze_shape *a, const adze_shape *b)
{
    if (a->rank != b->rank) return false;
    for (int d = 0; d < a->rank; d++)
        if (a->dim[d] != b->dim[d]) return false;
    return true;
}

const char *adze_shape_text(const adze_shape *s, char text[ADZE_SHAPE_TEXT])
{
    int n = snprintf(text, ADZE_SHAPE_TEXT, "(");
    for (int d = 0; d < s->rank; d++)
        n += snprintf(text + n, (size_t)(ADZE_SHAPE_TEXT - n), "%s%" PRId64, d ? "," : "", s->dim[d]);
    snprintf(text + n, (size_t)(ADZE_SHAPE_TEXT - n), ")");
    return text;
}
