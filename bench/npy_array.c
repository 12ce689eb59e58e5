/* npy_array.c - .npy files of two-dimensional little-endian arrays, for the benchmarks. */
#include "bench/npy_array.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PREAMBLE_BYTES = 10, HEADER_MAX = 4096 };

/* Reads the preamble and the header dictionary into text; the stream then stands at the data. */
static bool read_header(FILE *f, char text[HEADER_MAX])
{
    unsigned char pre[PREAMBLE_BYTES];
    if (fread(pre, 1, sizeof pre, f) != sizeof pre || memcmp(pre, "\x93NUMPY\x01", 7) != 0) return false;
    size_t n = (size_t)pre[8] | (size_t)pre[9] << 8;
    if (n >= HEADER_MAX || fread(text, 1, n, f) != n) return false;
    text[n] = 0;
    return true;
}

float *npy_read(const char *path, int64_t *rows, int64_t *columns)
{
    char text[HEADER_MAX];
    float *x = NULL;
    FILE *f = fopen(path, "rb");
    if (!f || !read_header(f, text)) {
        fprintf(stderr, "%s: no .npy file of version 1\n", path);
    } else if (!strstr(text, "'<f4'") || !strstr(text, "'fortran_order': False")) {
        fprintf(stderr, "%s: want float32 in C order\n", path);
    } else {
        const char *shape = strstr(text, "'shape': (");
        *rows = *columns = 1;
        if (shape && sscanf(shape, "'shape': (%" SCNd64 ", %" SCNd64, rows, columns) >= 1 && *rows > 0 && *columns > 0 &&
            *rows <= INT64_MAX / (int64_t)sizeof(float) / *columns) {
            size_t n = (size_t)(*rows * *columns);
            x = malloc(n * sizeof *x);
            if (x && fread(x, sizeof *x, n, f) != n) free(x), x = NULL;
        }
        if (!x) fprintf(stderr, "%s: cut short, or too large\n", path);
    }
    if (f) fclose(f);
    return x;
}

bool npy_write(const char *path, const char *type, size_t element_bytes, const void *data, int64_t rows, int64_t columns)
{
    char text[128];
    int n = snprintf(text, sizeof text, "{'descr': '%s', 'fortran_order': False, 'shape': (%" PRId64 ", %" PRId64 "), }",
                     type, rows, columns);
    int padded = (PREAMBLE_BYTES + n + 1 + 63) / 64 * 64 - PREAMBLE_BYTES;
    unsigned char pre[PREAMBLE_BYTES] = { 0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (unsigned char)padded, 0 };
    FILE *f = fopen(path, "wb");
    size_t count = (size_t)(rows * columns);
    bool ok = f && fwrite(pre, 1, sizeof pre, f) == sizeof pre && fprintf(f, "%-*s\n", padded - 1, text) == padded &&
              fwrite(data, element_bytes, count, f) == count;
    if (f && fclose(f) != 0) ok = false;
    if (!ok) fprintf(stderr, "%s: writing failed\n", path);
    return ok;
}
