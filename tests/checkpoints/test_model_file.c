/* test_model_file.c - the checkpoint: what is written comes back, equal content gives equal bytes, damage is noticed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "checkpoints/model_file.h"
#include "core/file.h"
#include "core/memory.h"

enum { R = 37, D = 5 };
static char folder[] = "/tmp/adze-test-XXXXXX", path[64], other[64];

static int make_folder(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/model.h5", folder);
    snprintf(other, sizeof other, "%s/other.h5", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path), unlink(other);
    return rmdir(folder); /* fails if a temporary file was left */
}

static adze_model_info facts(void)
{
    static const char *const classes[] = { "bolt", "Schraube \xc3\xa4", "nut" };
    return (adze_model_info){ .method = "patchcore", .class_name = "joint", .classes = classes, .n_classes = 3,
                              .dataset = "mvtec", .config_json = "{\"k\": 1}", .backbone = "resnet18", .weights_sha256 = "5c10",
                              .folded = true, .H = 256, .W = 320, .resize_filter = "bilinear", .mean = { 0.485f, 0.456f, 0.406f },
                              .std = { 0.229f, 0.224f, 0.225f }, .seed = -7, .epoch = 3, .iteration = INT64_C(1) << 40 };
}

static float bank_at(int64_t i) { return (float)i * 0.25f - 3.0f; }

static adze_status write_model(const char *to)
{
    adze_status st = ADZE_OK;
    adze_model_writer *w = NULL;
    adze_model_info info = facts();
    float conv[2 * 3] = { 1, 2, 3, 4, 5, 6 }, bank[R * D];
    const int64_t picks[2] = { 9, INT64_MIN }, empty[2] = { 0, 4 };
    const double threshold = 0.1;
    for (int i = 0; i < R * D; i++) bank[i] = bank_at(i);
    TRY(adze_model_writer_create(&w, to, &info));
    TRY(adze_model_writer_put(w, "backbone.conv1.weight", ADZE_DTYPE_F32, 2, (int64_t[]){ 2, 3 }, conv));
    TRY(adze_model_writer_rows_begin(w, "memory_bank/features", ADZE_DTYPE_F32, R, D));
    TRY(adze_model_writer_rows_put(w, 0, 30, bank));
    TRY(adze_model_writer_rows_put(w, 30, R - 30, bank + 30 * D));
    TRY(adze_model_writer_put(w, "memory_bank/coreset_index", ADZE_DTYPE_I64, 1, (int64_t[]){ 2 }, picks));
    TRY(adze_model_writer_put(w, "normalization/all/threshold", ADZE_DTYPE_F64, 0, NULL, &threshold));
    TRY(adze_model_writer_put(w, "nothing", ADZE_DTYPE_U8, 2, empty, &threshold));
    TRY(adze_model_writer_commit(w));
done:
    adze_model_writer_destroy(w);
    return st;
}

/* ADZE_OK only if every value is there and right. */
static adze_status read_model(const char *from, bool check)
{
    adze_status st = ADZE_OK;
    adze_model_file *f = NULL;
    const adze_stored_tensor *t;
    float bank[R * D];
    double threshold;
    TRY(adze_model_file_open(&f, from));
    const adze_model_info *got = adze_model_file_info(f), want = facts();
    if (check) {
        assert_string_equal(got->method, want.method);
        assert_string_equal(got->class_name, want.class_name);
        assert_int_equal(got->n_classes, 3);
        for (int i = 0; i < 3; i++) assert_string_equal(got->classes[i], want.classes[i]);
        assert_string_equal(got->config_json, want.config_json);
        assert_string_equal(got->dataset, want.dataset);
        assert_string_equal(got->weights_sha256, want.weights_sha256);
        assert_null(got->weights_tag);
        assert_null(got->created);
        assert_string_equal(got->engine_version, ADZE_VERSION);
        assert_true(got->folded);
        assert_int_equal(got->H, 256);
        assert_int_equal(got->W, 320);
        assert_int_equal(got->seed, -7);
        assert_int_equal(got->iteration, INT64_C(1) << 40);
        assert_memory_equal(got->mean, want.mean, sizeof want.mean);
        assert_memory_equal(got->std, want.std, sizeof want.std);
        assert_int_equal(adze_model_file_count(f), 5);
        assert_string_equal(adze_model_file_at(f, 0)->name, "backbone.conv1.weight");
        assert_null(adze_model_file_at(f, 5));
        assert_null(adze_model_file_lookup(f, "backbone"));
    }
    TRY(adze_model_file_find(f, "backbone.conv1.weight", &t));
    if (check) {
        assert_int_equal(t->rank, 2);
        assert_int_equal(t->dim[1], 3);
        assert_true(((const float *)t->data)[5] == 6.0f);
    }
    TRY(adze_model_file_find(f, "memory_bank/coreset_index", &t));
    if (check) assert_true(((const int64_t *)t->data)[1] == INT64_MIN);
    TRY(adze_model_file_find(f, "nothing", &t));
    TRY(adze_model_file_read(f, "normalization/all/threshold", ADZE_DTYPE_F64, 1, &threshold));
    if (check) assert_true(t->count == 0 && threshold == 0.1);
    TRY(adze_model_file_read_rows(f, "memory_bank/features", ADZE_DTYPE_F32, 7, 20, bank));
    for (int i = 0; check && i < 20 * D; i++) assert_true(bank[i] == bank_at(7 * D + i));
    TRY(adze_model_file_read(f, "memory_bank/features", ADZE_DTYPE_F32, R * D, bank));
    for (int i = 0; check && i < R * D; i++) assert_true(bank[i] == bank_at(i));
    if (check) {
        assert_int_equal(adze_model_file_find(f, "absent", &t), ADZE_EINPUT);
        assert_int_equal(adze_model_file_read(f, "memory_bank/features", ADZE_DTYPE_F64, R * D, bank), ADZE_EINPUT);
        assert_int_equal(adze_model_file_read_rows(f, "memory_bank/features", ADZE_DTYPE_F32, 30, 8, bank), ADZE_EINVAL);
    }
done:
    adze_model_file_close(f);
    return st;
}

static void what_is_written_comes_back(void **state)
{
    (void)state;
    assert_int_equal(write_model(path), ADZE_OK);
    assert_int_equal(read_model(path, true), ADZE_OK);
}

static void equal_content_gives_equal_bytes(void **state)
{
    (void)state;
    unsigned char *a, *b;
    size_t n, m;
    assert_int_equal(write_model(path), ADZE_OK);
    assert_int_equal(write_model(other), ADZE_OK);
    assert_int_equal(adze_file_read(path, 1 << 20, &a, &n), ADZE_OK);
    assert_int_equal(adze_file_read(other, 1 << 20, &b, &m), ADZE_OK);
    assert_int_equal(n, m);
    assert_memory_equal(a, b, n);
    adze_free(a), adze_free(b);
}

static void damage_is_an_input_error(void **state)
{
    (void)state;
    unsigned char *whole;
    size_t n;
    uint64_t random = 42;
    assert_int_equal(write_model(path), ADZE_OK);
    assert_int_equal(adze_file_read(path, 1 << 20, &whole, &n), ADZE_OK);
    for (size_t cut = 0; cut < n; cut += cut < 700 ? 13 : 211) {
        assert_int_equal(adze_file_write(other, whole, cut), ADZE_OK);
        assert_int_equal(read_model(other, false), ADZE_EINPUT);
        assert_non_null(strstr(adze_error_message(), other));
    }
    for (int i = 0; i < 200; i++) {
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407u;
        size_t at = i < 40 ? (size_t)i * 16 : (size_t)(random >> 20) % n;
        whole[at] ^= (unsigned char)(1u << (random >> 60 & 7));
        assert_int_equal(adze_file_write(other, whole, n), ADZE_OK);
        assert_int_equal(read_model(other, false), ADZE_EINPUT);
        whole[at] ^= (unsigned char)(1u << (random >> 60 & 7));
    }
    adze_free(whole);
}

static void a_failed_write_leaves_the_old_file(void **state)
{
    (void)state;
    adze_model_writer *w;
    adze_model_info info = facts();
    float x[2] = { 1, 2 };
    assert_int_equal(write_model(path), ADZE_OK);
    assert_int_equal(adze_model_writer_create(&w, path, &info), ADZE_OK);
    assert_int_equal(adze_model_writer_put(w, "x", ADZE_DTYPE_F32, 1, (int64_t[]){ 2 }, x), ADZE_OK);
    assert_int_equal(adze_model_writer_put(w, "x", ADZE_DTYPE_F32, 1, (int64_t[]){ 2 }, x), ADZE_EINVAL);
    static const char *const unfit[] = { "", "/x", "x/", "a//b", "../x", "a/./b", "model/x", "\xff" };
    for (size_t i = 0; i < sizeof unfit / sizeof *unfit; i++)
        assert_int_equal(adze_model_writer_put(w, unfit[i], ADZE_DTYPE_F32, 1, (int64_t[]){ 2 }, x), ADZE_EINVAL);
    assert_int_equal(adze_model_writer_rows_begin(w, "rows", ADZE_DTYPE_F32, 2, 1), ADZE_OK);
    assert_int_equal(adze_model_writer_rows_put(w, 1, 1, x), ADZE_EINVAL);
    assert_int_equal(adze_model_writer_commit(w), ADZE_EINTERNAL);
    adze_model_writer_destroy(w);
    assert_int_equal(read_model(path, true), ADZE_OK);
    info.backbone = NULL;
    assert_int_equal(adze_model_writer_create(&w, path, &info), ADZE_EINVAL);
    info = facts();
    assert_int_equal(adze_model_writer_create(&w, "/nowhere/at/all.h5", &info), ADZE_EIO);
    assert_null(w);
}

static void every_failed_allocation_is_survived(void **state)
{
    (void)state;
    size_t live = adze_memory_live_bytes();
    adze_status st = ADZE_ENOMEM;
    for (int64_t n = 1; st != ADZE_OK; n++) {
        adze_memory_fail_after(n, false);
        st = write_model(other);
        adze_memory_fail_after(0, false);
        assert_true(st == ADZE_OK || st == ADZE_ENOMEM);
        assert_int_equal(adze_memory_live_bytes(), live);
    }
    st = ADZE_ENOMEM;
    for (int64_t n = 1; st != ADZE_OK; n++) {
        adze_memory_fail_after(n, false);
        st = read_model(other, false);
        adze_memory_fail_after(0, false);
        assert_true(st == ADZE_OK || st == ADZE_ENOMEM);
        assert_int_equal(adze_memory_live_bytes(), live);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_comes_back),       cmocka_unit_test(equal_content_gives_equal_bytes),
        cmocka_unit_test(damage_is_an_input_error),         cmocka_unit_test(a_failed_write_leaves_the_old_file),
        cmocka_unit_test(every_failed_allocation_is_survived),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
