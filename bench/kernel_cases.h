/* kernel_cases.h - what bench-kernels measures: the operations of the benchmark's methods at their real shapes, each a graph of
 * one node or two. Sides are those of pictures of 256x256. */
#ifndef ADZE_BENCH_KERNEL_CASES_H
#define ADZE_BENCH_KERNEL_CASES_H

#include <stdbool.h>
#include <stdint.h>

#include "core/graph.h"

/* N pictures (or as many rows in proportion); maps have sides `shrink` times shorter than the benchmark's, and at least 2:
 * channels stay, so that a kernel's accesses look the same. */
typedef struct {
    int64_t N, shrink;
} kernel_size;

/* `build` returns the value that is computed; its inputs are called x, z, u and m, the first two in [-1,1), the others in [0,1). */
typedef struct {
    const char *name;
    adze_value (*build)(adze_graph *g, kernel_size s, int which);
    int which;
    bool trained; /* backward too, with the gradients of x and z, or of u where there is no x */
} kernel_case;

enum { KERNEL_INPUTS = 4 };
extern const char *const kernel_inputs[KERNEL_INPUTS];

int kernel_case_count(void);
const kernel_case *kernel_case_at(int i);

/* A side, or a number of rows, of the benchmark at this size. */
int64_t kernel_side(kernel_size s, int64_t side);
int64_t kernel_rows(kernel_size s, int64_t rows);

#endif
