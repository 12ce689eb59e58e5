/* arena.c - placing buffers in one block. Entry: adze_arena_place().
 * Largest first, each at the lowest offset that is free during its whole life: within a few percent of the lower bound
 * (the most bytes alive at one step) on all our graphs. */
#include <inttypes.h>
#include <stdlib.h>

#include "core/memory.h"
#include "core/plan_impl.h"

typedef struct {
    size_t n_bytes;
    int32_t index;
} order;

static int larger_first(const void *a, const void *b)
{
    const order *x = a, *y = b;
    if (x->n_bytes != y->n_bytes) return x->n_bytes > y->n_bytes ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static int by_offset(const void *a, const void *b)
{
    const plan_buffer *x = *(plan_buffer *const *)a, *y = *(plan_buffer *const *)b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

adze_status adze_arena_place(plan_buffer *buffer, int32_t n, size_t *arena_bytes)
{
    adze_status st = ADZE_OK;
    size_t count = n > 0 ? (size_t)n : 1;
    order *queue = adze_calloc(count, sizeof *queue);
    plan_buffer **near = adze_calloc(count, sizeof *near);
    REQUIRE(queue && near, ADZE_ENOMEM, "arena: a table of %" PRId32 " buffers", n);
    for (int32_t i = 0; i < n; i++) queue[i] = (order){ buffer[i].n_bytes, i };
    qsort(queue, (size_t)n, sizeof *queue, larger_first);
    *arena_bytes = 0;
    for (int32_t i = 0; i < n; i++) {
        plan_buffer *b = &buffer[queue[i].index];
        size_t bytes = (b->n_bytes + ADZE_MEMORY_ALIGN - 1) / ADZE_MEMORY_ALIGN * ADZE_MEMORY_ALIGN;
        size_t n_near = 0;
        for (int32_t j = 0; j < i; j++) {
            plan_buffer *other = &buffer[queue[j].index];
            if (other->first <= b->last && b->first <= other->last) near[n_near++] = other;
        }
        qsort(near, n_near, sizeof *near, by_offset);
        size_t at = 0;
        for (size_t j = 0; j < n_near && at + bytes > near[j]->offset; j++) {
            size_t end = near[j]->offset + (near[j]->n_bytes + ADZE_MEMORY_ALIGN - 1) / ADZE_MEMORY_ALIGN * ADZE_MEMORY_ALIGN;
            if (end > at) at = end;
        }
        b->offset = at;
        if (at + bytes > *arena_bytes) *arena_bytes = at + bytes;
    }
done:
    adze_free(queue);
    adze_free(near);
    return st;
}
