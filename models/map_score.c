/* map_score.c - the mean of a map's largest values, kept in a heap with the least of them on top. Entry: map_score_top(). */
#include "models/map_score.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>

static bool below(float a, float b)
{
    return isnan(b) ? !isnan(a) : a < b;
}

/* Lets the value at the root of heap (n) sink to its place. */
static void sink(float *heap, int64_t n)
{
    for (int64_t i = 0, child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && below(heap[child + 1], heap[child])) child++;
        if (!below(heap[child], heap[i])) return;
        float swap = heap[i];
        heap[i] = heap[child], heap[child] = swap;
    }
}

float map_score_top(const float *map, int64_t n, int64_t top)
{
    float heap[MAP_SCORE_TOP_MAX];
    assert(top > 0 && top <= MAP_SCORE_TOP_MAX && top <= n);
    for (int64_t i = 0; i < top; i++) heap[i] = -INFINITY;
    for (int64_t i = 0; i < n; i++) {
        if (!below(heap[0], map[i])) continue;
        heap[0] = map[i];
        sink(heap, top);
    }
    double sum = 0.0;
    for (int64_t i = 0; i < top; i++) sum += heap[i];
    return (float)(sum / (double)top);
}
