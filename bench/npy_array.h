/* npy_array.h - .npy files of two-dimensional little-endian arrays, for the benchmarks. Entry: npy_read(). */
#ifndef ADZE_BENCH_NPY_ARRAY_H
#define ADZE_BENCH_NPY_ARRAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Rows and columns of a float32 C-order array of one or two dimensions; free(). NULL with a line on stderr. */
float *npy_read(const char *path, int64_t *rows, int64_t *columns);

/* `type` is numpy's, e.g. "<f4", "<i4", "<i8". False with a line on stderr. */
bool npy_write(const char *path, const char *type, size_t element_bytes, const void *data, int64_t rows, int64_t columns);

#endif
