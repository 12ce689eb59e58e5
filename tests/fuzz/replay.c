/* replay.c - runs a fuzz entry without a fuzzer: replay MUTATIONS FILE... gives it each file as it is, then so many altered
 * copies of each: flipped bits, odd numbers, cuts, repeated and removed pieces. The seed is fixed; before each altered copy
 * its number is noted, so that a crash names its input. With a fuzzer the entries are linked against libFuzzer instead. */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/hash.h"
#include "core/memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

enum { FILE_LIMIT = 1 << 20, EXTRA = 4096 };
static char where[512];

static void say_where(int number)
{
    (void)!write(STDERR_FILENO, where, strlen(where));
    signal(number, SIG_DFL);
    raise(number);
}

static uint64_t state;
static uint64_t next(void) { return state = adze_splitmix64(state); }

/* One alteration of the n bytes in x, which has room for EXTRA more; the new size. */
static size_t alter(unsigned char *x, size_t n)
{
    static const uint64_t odd[] = { 0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff,
                                    INT64_MAX, (uint64_t)INT64_MIN, UINT64_MAX };
    unsigned char piece[64];
    if (n == 0) return 0;
    size_t at = next() % n, size = 1u << next() % 4, from = next() % n, length = next() % 64;
    uint64_t value = odd[next() % (sizeof odd / sizeof *odd)];
    switch (next() % 6) {
    case 0:
    case 1: x[at] ^= (unsigned char)(1u << next() % 8); break;
    case 2: x[at] = (unsigned char)next(); break;
    case 3: memcpy(x + at, &value, size < n - at ? size : n - at); break;
    case 4:
        if (next() % 4 == 0) return at; /* a cut */
        if (length > n - at) length = n - at;
        memmove(x + at, x + at + length, n - at - length);
        return n - length;
    default:
        if (length > n - from) length = n - from;
        memcpy(piece, x + from, length);
        memmove(x + at + length, x + at, n - at);
        memcpy(x + at, piece, length);
        return n + length;
    }
    return n;
}

static int run_file(const char *path, long mutations, unsigned char *x)
{
    unsigned char *file;
    size_t n;
    if (adze_file_read(path, FILE_LIMIT, &file, &n) != ADZE_OK) {
        fprintf(stderr, "replay: %s\n", adze_error_message());
        return 3;
    }
    for (long i = 0; i <= mutations; i++) {
        snprintf(where, sizeof where, "replay: %s, mutation %ld\n", path, i);
        size_t m = n;
        memcpy(x, file, n);
        state = adze_fnv1a64(ADZE_FNV1A64_OFFSET, file, n) + (uint64_t)i;
        for (int k = 0; i > 0 && k <= (int)(i % 3); k++) m = alter(x, m);
        unsigned char *exact = malloc(m ? m : 1); /* so that reading one byte too far is noticed */
        if (!exact) return 4;
        memcpy(exact, x, m);
        LLVMFuzzerTestOneInput(exact, m);
        free(exact);
    }
    adze_free(file);
    return 0;
}

int main(int argc, char **argv)
{
    int code = 0;
    if (argc < 3) {
        fprintf(stderr, "usage: replay MUTATIONS FILE...\n");
        return 2;
    }
    signal(SIGABRT, say_where);
    signal(SIGSEGV, say_where);
    unsigned char *x = malloc(FILE_LIMIT + EXTRA);
    if (!x) return 4;
    for (int i = 2; i < argc && code == 0; i++) code = run_file(argv[i], strtol(argv[1], NULL, 10), x);
    free(x);
    printf("%d files, %s altered copies of each\n", argc - 2, argv[1]);
    return code;
}
