/* test_hdf5_file.c - the HDF5 layer against files that others made: what it refuses, what it reads, what it survives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <signal.h>
#include <unistd.h>

#include <cmocka.h>
#include <hdf5.h>

#include "checkpoints/hdf5_file.h"
#include "core/file.h"
#include "core/memory.h"

static char folder[] = "/tmp/adze-test-XXXXXX", path[64];
static adze_h5_opts unsealed;

static int make_folder(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/file.h5", folder);
    unsealed = ADZE_H5_OPTS;
    unsealed.unsealed = true;
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

/* ---- files made with the library itself ---- */

static void put_floats(hid_t file, const char *name, hid_t dcpl)
{
    const float x[4] = { 1, 2, 3, 4 };
    hsize_t n = 4;
    hid_t space = H5Screate_simple(1, &n, NULL);
    hid_t set = H5Dcreate2(file, name, H5T_IEEE_F32LE, space, H5P_DEFAULT, dcpl, H5P_DEFAULT);
    assert_true(set >= 0 && H5Dwrite(set, H5T_IEEE_F32LE, H5S_ALL, H5S_ALL, H5P_DEFAULT, x) >= 0);
    H5Dclose(set), H5Sclose(space);
}

static void empty_set(hid_t file, const char *name, hid_t type, int rank, const hsize_t *dims, hid_t dcpl)
{
    hid_t space = rank ? H5Screate_simple(rank, dims, NULL) : H5Screate(H5S_SCALAR);
    hid_t set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, dcpl, H5P_DEFAULT);
    assert_true(set >= 0);
    H5Dclose(set), H5Sclose(space);
}

typedef void (*maker)(hid_t file);

static void make_good(hid_t f) { put_floats(f, "x", H5P_DEFAULT); }
static void make_soft(hid_t f) { make_good(f), H5Lcreate_soft("/x", f, "y", H5P_DEFAULT, H5P_DEFAULT); }
static void make_dangling(hid_t f) { H5Lcreate_soft("/../../etc/passwd", f, "y", H5P_DEFAULT, H5P_DEFAULT); }
static void make_external(hid_t f) { H5Lcreate_external("/etc/passwd", "/", f, "y", H5P_DEFAULT, H5P_DEFAULT); }
static void make_alias(hid_t f) { make_good(f), H5Lcreate_hard(f, "x", f, "y", H5P_DEFAULT, H5P_DEFAULT); }
static void make_cycle(hid_t f)
{
    hid_t g = H5Gcreate2(f, "g", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_hard(f, "g", g, "again", H5P_DEFAULT, H5P_DEFAULT);
    H5Gclose(g);
}
static void make_root_cycle(hid_t f) { H5Lcreate_hard(f, "/", f, "again", H5P_DEFAULT, H5P_DEFAULT); }
static void make_deep(hid_t f)
{
    char name[64] = "";
    for (int i = 0; i < 12; i++) {
        strcat(name, "/g");
        H5Gclose(H5Gcreate2(f, name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    }
}
static void make_external_data(hid_t f)
{
    hid_t dcpl = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_external(dcpl, "/etc/passwd", 0, 16);
    empty_set(f, "x", H5T_STD_U8LE, 1, (hsize_t[]){ 16 }, dcpl);
    H5Pclose(dcpl);
}
static void make_virtual(hid_t f)
{
    hid_t dcpl = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(1, (hsize_t[]){ 4 }, NULL);
    H5Pset_virtual(dcpl, space, "/etc/passwd", "x", space);
    empty_set(f, "x", H5T_STD_U8LE, 1, (hsize_t[]){ 4 }, dcpl);
    H5Pclose(dcpl), H5Sclose(space);
}
static void make_vlen(hid_t f)
{
    hid_t t = H5Tvlen_create(H5T_STD_I32LE);
    empty_set(f, "x", t, 1, (hsize_t[]){ 4 }, H5P_DEFAULT);
    H5Tclose(t);
}
static void make_vlen_texts(hid_t f)
{
    hid_t t = H5Tcopy(H5T_C_S1);
    H5Tset_size(t, H5T_VARIABLE);
    empty_set(f, "x", t, 1, (hsize_t[]){ 4 }, H5P_DEFAULT);
    H5Tclose(t);
}
static void make_compound(hid_t f)
{
    hid_t t = H5Tcreate(H5T_COMPOUND, 8);
    H5Tinsert(t, "a", 0, H5T_STD_I32LE), H5Tinsert(t, "b", 4, H5T_STD_I32LE);
    empty_set(f, "x", t, 1, (hsize_t[]){ 4 }, H5P_DEFAULT);
    H5Tclose(t);
}
static void make_reference(hid_t f) { empty_set(f, "x", H5T_STD_REF_OBJ, 1, (hsize_t[]){ 4 }, H5P_DEFAULT); }
static void make_big_endian(hid_t f) { empty_set(f, "x", H5T_IEEE_F32BE, 1, (hsize_t[]){ 4 }, H5P_DEFAULT); }
static void make_named_type(hid_t f)
{
    hid_t t = H5Tcopy(H5T_STD_I32LE);
    H5Tcommit2(f, "t", t, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Tclose(t);
}
static void make_rank_9(hid_t f)
{
    empty_set(f, "x", H5T_STD_U8LE, 9, (hsize_t[]){ 1, 1, 1, 1, 1, 1, 1, 1, 1 }, H5P_DEFAULT);
}
static void make_unwritten(hid_t f) { empty_set(f, "x", H5T_IEEE_F32LE, 1, (hsize_t[]){ 1 << 20 }, H5P_DEFAULT); }
static void make_bomb(hid_t f)
{
    hid_t dcpl = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(dcpl, 2, (hsize_t[]){ 64, 64 });
    H5Pset_deflate(dcpl, 4);
    empty_set(f, "x", H5T_IEEE_F32LE, 2, (hsize_t[]){ 1 << 16, 1 << 16 }, dcpl);
    H5Pclose(dcpl);
}
static void make_overflow(hid_t f)
{
    hid_t dcpl = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(dcpl, 3, (hsize_t[]){ 1, 1, 1 });
    empty_set(f, "x", H5T_IEEE_F32LE, 3, (hsize_t[]){ 1u << 31, 1u << 31, 1u << 31 }, dcpl);
    H5Pclose(dcpl);
}
static void make_filter(hid_t f)
{
    hid_t dcpl = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(dcpl, 1, (hsize_t[]){ 4 });
    H5Pset_nbit(dcpl);
    put_floats(f, "x", dcpl);
    H5Pclose(dcpl);
}
static void make_huge_chunk(hid_t f)
{
    hid_t dcpl = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(dcpl, 1, (hsize_t[]){ 1 << 30 });
    H5Pset_deflate(dcpl, 4);
    empty_set(f, "x", H5T_STD_U8LE, 1, (hsize_t[]){ 1 << 30 }, dcpl);
    H5Pclose(dcpl);
}

static void make_file(maker make)
{
    hid_t f = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(f >= 0);
    make(f);
    assert_true(H5Fclose(f) >= 0);
}

static void files_of_strangers_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *name, *says;
        maker make;
    } cases[] = {
        { "soft link", "soft link", make_soft },
        { "dangling soft link", "soft link", make_dangling },
        { "external link", "external link", make_external },
        { "alias", "2 names", make_alias },
        { "cycle", "2 names", make_cycle },
        { "cycle to the root", "", make_root_cycle },
        { "deep", "deep", make_deep },
        { "external data", "other files", make_external_data },
        { "virtual", "virtual", make_virtual },
        { "variable length", "not read", make_vlen },
        { "variable texts", "variable length", make_vlen_texts },
        { "compound", "not read", make_compound },
        { "reference", "not read", make_reference },
        { "big-endian", "not read", make_big_endian },
        { "named type", "named data type", make_named_type },
        { "rank 9", "rank 9", make_rank_9 },
        { "unwritten", "does not have", make_unwritten },
        { "bomb", "are stored", make_bomb },
        { "overflow", "limit", make_overflow },
        { "filter", "filter", make_filter },
        { "huge chunk", "chunks", make_huge_chunk },
    };
    adze_h5 *h;
    make_file(make_good);
    assert_int_equal(adze_h5_open(&h, path, NULL), ADZE_EINPUT); /* no seal */
    assert_non_null(strstr(adze_error_message(), "no seal"));
    assert_int_equal(adze_h5_open(&h, path, &unsealed), ADZE_OK);
    float x[4];
    assert_int_equal(adze_h5_read(h, "/x", ADZE_DTYPE_F32, 4, x), ADZE_OK);
    assert_true(x[3] == 4.0f);
    adze_h5_destroy(h);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        make_file(cases[i].make);
        adze_memory_peak_reset();
        adze_status st = adze_h5_open(&h, path, &unsealed);
        if (st != ADZE_EINPUT || !strstr(adze_error_message(), cases[i].says) || !strstr(adze_error_message(), path))
            fail_msg("%s: status %d, %s", cases[i].name, st, st ? adze_error_message() : "read");
        assert_null(h);
        assert_true(adze_memory_peak_bytes() < 4 << 20);
    }
}

/* ---- our own files ---- */

static adze_status write_file(bool checksums)
{
    adze_status st = ADZE_OK;
    adze_h5 *h = NULL;
    static const char *const names[] = { "one", "", "drei" };
    static uint16_t half[20000];
    const uint8_t flags[3] = { 1, 0, 1 };
    const double mean[3] = { 0.1, 0.2, 0.3 };
    for (int i = 0; i < 20000; i++) half[i] = (uint16_t)i;
    TRY(adze_h5_create(&h, path));
    adze_h5_checksums(h, checksums);
    TRY(adze_h5_group(h, "/b/a"));
    TRY(adze_h5_write(h, "/b/second", ADZE_DTYPE_F16, 2, (int64_t[]){ 200, 100 }, half));
    TRY(adze_h5_write(h, "/b/first", ADZE_DTYPE_BF16, 1, (int64_t[]){ 3 }, half));
    TRY(adze_h5_write(h, "/a", ADZE_DTYPE_BOOL, 1, (int64_t[]){ 3 }, flags));
    TRY(adze_h5_rows_begin(h, "/m", ADZE_DTYPE_U16, 200, 100));
    for (int64_t r = 0; r < 200; r += 50) TRY(adze_h5_rows_write(h, r, 50, half + r * 100));
    TRY(adze_h5_write_string(h, "/text", "gr\xc3\xbc\xc3\x9f"));
    TRY(adze_h5_write_strings(h, "/names", names, 3));
    TRY(adze_h5_set_string(h, "/b", "unit", ""));
    TRY(adze_h5_set_int(h, "/a", "n", INT64_MIN));
    TRY(adze_h5_set_reals(h, "/", "mean", mean, 3));
    TRY(adze_h5_commit(h));
done:
    adze_h5_destroy(h);
    return st;
}

static void every_kind_of_item_comes_back(void **state)
{
    (void)state;
    for (int checksums = 0; checksums < 2; checksums++) {
        adze_h5 *h;
        char *s, **list;
        int64_t n;
        double mean[3];
        uint16_t rows[200];
        uint8_t flags[3];
        bool stored;
        assert_int_equal(write_file(checksums), ADZE_OK);
        assert_int_equal(adze_h5_open(&h, path, NULL), ADZE_OK);
        static const char *const order[] = { "/", "/b", "/b/a", "/b/second", "/b/first", "/a", "/m", "/text", "/names" };
        for (int i = 0; i < 9; i++) assert_string_equal(adze_h5_at(h, i)->path, order[i]);
        assert_null(adze_h5_at(h, 9));
        assert_int_equal(adze_h5_find(h, "/b/second")->type, ADZE_DTYPE_F16);
        assert_int_equal(adze_h5_find(h, "/b/first")->type, ADZE_DTYPE_BF16);
        assert_int_equal(adze_h5_read(h, "/a", ADZE_DTYPE_BOOL, 3, flags), ADZE_OK);
        assert_true(flags[0] == 1 && flags[1] == 0 && flags[2] == 1);
        assert_int_equal(adze_h5_read(h, "/a", ADZE_DTYPE_BOOL, 2, flags), ADZE_EINPUT);
        assert_int_equal(adze_h5_read(h, "/b", ADZE_DTYPE_BOOL, 3, flags), ADZE_EINPUT);
        assert_int_equal(adze_h5_read_rows(h, "/m", ADZE_DTYPE_U16, 61, 2, rows), ADZE_OK);
        for (int i = 0; i < 200; i++) assert_int_equal(rows[i], 6100 + i);
        assert_int_equal(adze_h5_verify(h, "/m", &stored), ADZE_OK);
        assert_true(stored);
        assert_int_equal(adze_h5_read_string(h, "/text", &s), ADZE_OK);
        assert_string_equal(s, "gr\xc3\xbc\xc3\x9f");
        adze_free(s);
        assert_int_equal(adze_h5_read_strings(h, "/names", &list, &n), ADZE_OK);
        assert_int_equal(n, 3);
        assert_string_equal(list[0], "one");
        assert_string_equal(list[1], "");
        assert_string_equal(list[2], "drei");
        adze_free(list);
        assert_int_equal(adze_h5_get_string(h, "/b", "unit", &s), ADZE_OK);
        assert_string_equal(s, "");
        adze_free(s);
        assert_int_equal(adze_h5_get_int(h, "/a", "n", &n), ADZE_OK);
        assert_true(n == INT64_MIN);
        assert_int_equal(adze_h5_get_reals(h, "/", "mean", mean, 3), ADZE_OK);
        assert_true(mean[1] == 0.2);
        assert_int_equal(adze_h5_get_reals(h, "/", "mean", mean, 2), ADZE_EINPUT);
        assert_int_equal(adze_h5_get_int(h, "/", "mean", &n), ADZE_EINPUT);
        assert_false(adze_h5_has(h, "/", "std"));
        adze_h5_destroy(h);
    }
}

/* Behind the seal: the digests still find changed data, and no damage to the structure does harm. */
static void damage_behind_the_seal_is_survived(void **state)
{
    (void)state;
    unsigned char *file;
    size_t n;
    uint64_t random = 7;
    int n_read = 0, n_refused = 0;
    uint16_t *data = malloc(20000 * sizeof *data), *want = malloc(20000 * sizeof *want);
    assert_int_equal(write_file(false), ADZE_OK);
    assert_int_equal(adze_file_read(path, 1 << 20, &file, &n), ADZE_OK);
    memset(file, 0, 512); /* take the seal off */
    for (int i = 0; i < 20000; i++) want[i] = (uint16_t)i;
    for (int i = 0; i < 1500; i++) {
        adze_h5 *h;
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407u;
        size_t at = 512 + (size_t)(random >> 24) % (n - 512);
        unsigned char kept = file[at];
        file[at] ^= (unsigned char)(1u << (random >> 60 & 7));
        adze_status st = adze_h5_open_memory(&h, "damaged", file, n, &unsealed);
        if (st == ADZE_OK) st = adze_h5_read(h, "/m", ADZE_DTYPE_U16, 20000, data);
        if (st == ADZE_OK) assert_memory_equal(data, want, 20000 * sizeof *data);
        n_read += st == ADZE_OK;
        n_refused += st == ADZE_EINPUT;
        assert_true(st == ADZE_OK || st == ADZE_EINPUT);
        adze_h5_destroy(h);
        file[at] = kept;
    }
    assert_true(n_read > 100 && n_refused > 100);
    adze_free(file);
    free(data), free(want);
}

static void a_full_disk_is_an_output_error(void **state)
{
    (void)state;
    struct rlimit old, small = { 20000, 20000 };
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small.rlim_max = old.rlim_max;
    void (*before)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    adze_status st = write_file(false);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, before);
    assert_int_equal(st, ADZE_EIO);
    assert_non_null(strstr(adze_error_message(), path));
    adze_h5 *h;
    assert_int_equal(write_file(false), ADZE_OK); /* the library is none the worse */
    assert_int_equal(adze_h5_open(&h, path, NULL), ADZE_OK);
    adze_h5_destroy(h);
}

static void other_files_are_told_apart(void **state)
{
    (void)state;
    adze_h5 *h;
    assert_int_equal(adze_file_write(path, "not HDF5", 8), ADZE_OK);
    assert_false(adze_h5_is_file(path));
    assert_int_equal(adze_h5_open(&h, path, &unsealed), ADZE_EINPUT);
    char zeros[2000] = { 0 };
    assert_int_equal(adze_file_write(path, zeros, sizeof zeros), ADZE_OK);
    assert_int_equal(adze_h5_open(&h, path, &unsealed), ADZE_EINPUT);
    assert_int_equal(adze_h5_open(&h, folder, &unsealed), ADZE_EINPUT);
    assert_int_equal(adze_h5_open(&h, "/nowhere.h5", NULL), ADZE_EINPUT);
    assert_int_equal(write_file(false), ADZE_OK);
    assert_true(adze_h5_is_file(path));
}

int main(void)
{
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_of_strangers_are_refused), cmocka_unit_test(every_kind_of_item_comes_back),
        cmocka_unit_test(damage_behind_the_seal_is_survived), cmocka_unit_test(a_full_disk_is_an_output_error),
        cmocka_unit_test(other_files_are_told_apart),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
