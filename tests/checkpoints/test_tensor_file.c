/* test_tensor_file.c - readers of weights files: what the case files do not say. Cases: tests/golden/weights. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "checkpoints/tensor_file.h"
#include "core/file.h"
#include "core/memory.h"

#define FILES "tests/golden/weights/files/"

static void small_types_become_floats(void **state)
{
    (void)state;
    static const struct {
        adze_dtype type;
        uint64_t bits;
        float want;
    } cases[] = {
        { ADZE_DTYPE_F16, 0x3c00, 1.0f },          { ADZE_DTYPE_F16, 0x8001, -0x1p-24f },  { ADZE_DTYPE_F16, 0x03ff, 1023 * 0x1p-24f },
        { ADZE_DTYPE_F16, 0x0400, 0x1p-14f },      { ADZE_DTYPE_F16, 0x7bff, 65504.0f },   { ADZE_DTYPE_F16, 0x0000, 0.0f },
        { ADZE_DTYPE_BF16, 0x3f80, 1.0f },         { ADZE_DTYPE_BF16, 0xc049, -3.140625f }, { ADZE_DTYPE_I8, 0x80, -128.0f },
        { ADZE_DTYPE_U8, 0x80, 128.0f },           { ADZE_DTYPE_I16, 0x8000, -32768.0f },  { ADZE_DTYPE_U16, 0x8000, 32768.0f },
        { ADZE_DTYPE_I32, 0xffffffff, -1.0f },     { ADZE_DTYPE_U32, 0xffffffff, 0x1p32f }, { ADZE_DTYPE_I64, UINT64_MAX, -1.0f },
        { ADZE_DTYPE_U64, UINT64_MAX, 0x1p64f },   { ADZE_DTYPE_BOOL, 2, 1.0f },           { ADZE_DTYPE_F64, 0x3ff8000000000000, 1.5f },
    };
    unsigned char bytes[9];
    float got;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        memcpy(bytes + 1, &cases[i].bits, 8); /* misaligned on purpose */
        adze_dtype_to_f32(cases[i].type, bytes + 1, 1, &got);
        assert_true(got == cases[i].want);
    }
    const uint16_t special[3] = { 0x7c00, 0xfc00, 0x7e01 };
    float out[3];
    adze_dtype_to_f32(ADZE_DTYPE_F16, special, 3, out);
    assert_true(out[0] > 1e38f && out[1] < -1e38f && out[2] != out[2]);
}

static void sizes_are_checked(void **state)
{
    (void)state;
    int64_t count;
    size_t n;
    assert_true(adze_stored_size(ADZE_DTYPE_F32, 0, NULL, &count, &n) && count == 1 && n == 4);
    assert_true(adze_stored_size(ADZE_DTYPE_F32, 3, (int64_t[]){ INT64_MAX, 0, INT64_MAX }, &count, &n) && count == 0);
    assert_false(adze_stored_size(ADZE_DTYPE_F32, 2, (int64_t[]){ 1 << 30, INT64_C(1) << 33 }, &count, &n));
    assert_false(adze_stored_size(ADZE_DTYPE_U8, 2, (int64_t[]){ 1, -1 }, &count, &n));
}

static void limits_hold(void **state)
{
    (void)state;
    adze_tensor_file *f;
    adze_tensor_file_opts opts = ADZE_TENSOR_FILE_OPTS;
    opts.limit_bytes = 1 << 20;
    adze_memory_peak_reset();
    size_t live = adze_memory_live_bytes();
    assert_int_equal(adze_tensor_file_read(&f, FILES "n14_bomb.npz", &opts), ADZE_EINPUT);
    assert_non_null(strstr(adze_error_message(), ": limit: "));
    assert_true(adze_memory_peak_bytes() - live < 1 << 20);
    assert_int_equal(adze_tensor_file_read(&f, FILES "n14_bomb.npz", NULL), ADZE_OK);
    assert_int_equal(adze_tensor_file_at(f, 0)->n_bytes, 16 << 20);
    adze_tensor_file_destroy(f);
    opts.limit_bytes = 100; /* of the file itself */
    assert_int_equal(adze_tensor_file_read(&f, FILES "legacy.pth", &opts), ADZE_EINPUT);
    assert_int_equal(adze_tensor_file_read(&f, "/nowhere.pth", NULL), ADZE_EINPUT);
    assert_int_equal(adze_tensor_file_read(&f, "/dev/zero", NULL), ADZE_EINPUT);
}

static void names_are_found_and_oddities_told(void **state)
{
    (void)state;
    adze_tensor_file *f;
    assert_int_equal(adze_tensor_file_read(&f, FILES "nested.pth", NULL), ADZE_OK);
    assert_string_equal(adze_tensor_file_at(f, 0)->name, "net.a.weight"); /* the file's order */
    assert_ptr_equal(adze_tensor_file_find(f, "net.a.weight"), adze_tensor_file_at(f, 0));
    assert_null(adze_tensor_file_find(f, "net.a"));
    assert_null(adze_tensor_file_at(f, 7));
    assert_string_equal(adze_tensor_file_warnings(f), "");
    adze_tensor_file_destroy(f);
    assert_int_equal(adze_tensor_file_read(&f, FILES "opaque.pth", NULL), ADZE_OK);
    assert_non_null(strstr(adze_tensor_file_warnings(f), "--strict"));
    adze_tensor_file_destroy(f);
    assert_int_equal(adze_tensor_file_read(&f, FILES "z66_crc_storage.pth", NULL), ADZE_OK);
    assert_non_null(strstr(adze_tensor_file_warnings(f), "checksum"));
    adze_tensor_file_destroy(f);
}

/* Every prefix of a file is refused, and none reads beyond its end: each lies in memory of its own size. */
static void cut_files_are_refused(void **state)
{
    (void)state;
    static const char *const files[] = { FILES "state_dict.pth", FILES "legacy_views.pth", FILES "mixed_jit.pt",
                                         FILES "dtypes.safetensors", FILES "arrays_deflate.npz", FILES "f_order.npy" };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        unsigned char *whole;
        size_t n;
        adze_tensor_file *f;
        assert_int_equal(adze_file_read(files[i], 1 << 20, &whole, &n), ADZE_OK);
        for (size_t cut = 0; cut < n; cut++) {
            unsigned char *part = malloc(cut ? cut : 1);
            memcpy(part, whole, cut);
            if (adze_tensor_file_read_memory(&f, "part", part, cut, NULL) != ADZE_EINPUT) fail_msg("%s cut at %zu", files[i], cut);
            assert_null(f);
            free(part);
        }
        adze_free(whole);
    }
}

static void a_folder_of_arrays_is_one_file(void **state)
{
    (void)state;
    char folder[] = "/tmp/adze-test-XXXXXX", path[128], empty[64];
    static const char *const names[] = { "b.weight.npy", "a.bias.npy", "README.md", ".hidden.npy" };
    unsigned char *data;
    size_t n;
    adze_tensor_file *f;
    assert_non_null(mkdtemp(folder));
    snprintf(empty, sizeof empty, "%s/empty", folder);
    assert_int_equal(mkdir(empty, 0700), 0);
    assert_int_equal(adze_tensor_file_read(&f, empty, NULL), ADZE_EINPUT);
    assert_int_equal(adze_file_read(FILES "c_order.npy", 1 << 20, &data, &n), ADZE_OK);
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        assert_int_equal(adze_file_write(path, data, n), ADZE_OK);
    }
    assert_int_equal(adze_tensor_file_read(&f, folder, NULL), ADZE_OK);
    assert_string_equal(adze_tensor_file_format(f), "npy_folder");
    assert_int_equal(adze_tensor_file_count(f), 2);
    assert_string_equal(adze_tensor_file_at(f, 0)->name, "a.bias");
    assert_string_equal(adze_tensor_file_at(f, 1)->name, "b.weight");
    char lines[400], hex[ADZE_SHA256_HEX], want[ADZE_SHA256_HEX];
    adze_sha256_of(data, n, hex);
    n = (size_t)snprintf(lines, sizeof lines, "%s  a.bias.npy\n%s  b.weight.npy\n", hex, hex);
    adze_sha256_of(lines, n, want);
    assert_string_equal(adze_tensor_file_sha256(f), want);
    adze_tensor_file_destroy(f);
    adze_free(data);
    snprintf(path, sizeof path, "%s/%s", folder, names[0]);
    assert_int_equal(adze_file_write(path, "junk", 4), ADZE_OK);
    assert_int_equal(adze_tensor_file_read(&f, folder, NULL), ADZE_EINPUT);
    assert_non_null(strstr(adze_error_message(), names[0]));
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(empty);
    assert_int_equal(rmdir(folder), 0);
}

static void every_failed_allocation_is_survived(void **state)
{
    (void)state;
    static const char *const files[] = { FILES "views.pth",         FILES "opaque.pth",         FILES "protocol4.pth", FILES "legacy_views.pth",
                                         FILES "mixed_jit.pt",      FILES "dtypes.safetensors", FILES "big_endian.npy",
                                         FILES "arrays_deflate.npz", FILES "z40_cyclic_dict.pth" };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        size_t live = adze_memory_live_bytes();
        adze_status st = ADZE_ENOMEM;
        for (int64_t n = 1; st == ADZE_ENOMEM; n++) {
            adze_tensor_file *f;
            adze_memory_fail_after(n, false);
            st = adze_tensor_file_read(&f, files[i], NULL);
            bool over = adze_memory_live_bytes() == live || st == ADZE_OK;
            adze_memory_fail_after(0, false);
            assert_true(over);
            if (st != ADZE_OK) assert_null(f);
            adze_tensor_file_destroy(f);
            assert_int_equal(adze_memory_live_bytes(), live);
        }
        assert_int_equal(st, ADZE_OK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_types_become_floats),     cmocka_unit_test(sizes_are_checked),
        cmocka_unit_test(limits_hold),                   cmocka_unit_test(names_are_found_and_oddities_told),
        cmocka_unit_test(cut_files_are_refused),         cmocka_unit_test(a_folder_of_arrays_is_one_file),
        cmocka_unit_test(every_failed_allocation_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
