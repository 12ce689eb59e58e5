/* made_up.h - small folders of made-up pictures for the tests of datasets/. */
#ifndef ADZE_TESTS_DATASETS_MADE_UP_H
#define ADZE_TESTS_DATASETS_MADE_UP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/file.h"
#include "core/hash.h"
#include "core/memory.h"
#include "datasets/encode_png.h"
#include "datasets/image.h"

/* A new folder below /tmp; given back by drop_root(). */
static inline void make_root(char root[64])
{
    strcpy(root, "/tmp/adze-test-XXXXXX");
    assert_non_null(mkdtemp(root));
}

static inline void drop_root(const char *root)
{
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", root);
    assert_int_equal(system(command), 0);
}

/* Pseudo-random pixels. */
static inline adze_image made_up_image(int64_t H, int64_t W, int64_t C, uint64_t seed)
{
    adze_image im;
    assert_int_equal(adze_image_create(&im, H, W, C), ADZE_OK);
    for (int64_t i = 0; i < H * W * C; i++) im.data[i] = (unsigned char)(adze_splitmix64(seed + (uint64_t)i) >> 56);
    return im;
}

/* ROOT/path with its folders. */
static inline void put_bytes(const char *root, const char *path, const void *data, size_t n)
{
    char full[512], *slash;
    snprintf(full, sizeof full, "%s/%s", root, path);
    slash = strrchr(full, '/');
    *slash = 0;
    assert_int_equal(adze_folder_create(full), ADZE_OK);
    *slash = '/';
    assert_int_equal(adze_file_write(full, data, n), ADZE_OK);
}

static inline void put_image(const char *root, const char *path, int64_t H, int64_t W, int64_t C, uint64_t seed)
{
    adze_image im = made_up_image(H, W, C, seed);
    unsigned char *data;
    size_t n;
    assert_int_equal(adze_image_encode_png(&im, &data, &n), ADZE_OK);
    put_bytes(root, path, data, n);
    adze_free(data);
    adze_image_destroy(&im);
}

#endif
