/* hdf5_write.c - writing HDF5 files that come out the same for the same content. Entry: adze_h5_create().
 * No object times, fixed format version, contiguous data allocated at once and never filled, links in order of creation,
 * links and attributes inside the object headers (which carry checksums), never in heaps. The seal is written last.
 * The library (1.10.8) crashes when a write fails: blocks are reserved before it may write, so that no write fails. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "checkpoints/hdf5_impl.h"
#include "core/file.h"
#include "core/memory.h"

enum { CHUNK_BYTES = 1 << 20, SMALL_BYTES = 64 << 10, MARGIN_BYTES = 1 << 20, MAX_COMPACT = 65535 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* the library keeps global state */

h5_guard h5_enter(void)
{
    h5_guard g = { NULL, NULL };
    pthread_mutex_lock(&lock);
    H5dont_atexit(); /* after an error in a damaged file its closing at exit would print and hang about */
    H5open();
    H5Eget_auto2(H5E_DEFAULT, &g.print, &g.user);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    return g;
}

void h5_leave(h5_guard g)
{
    H5Eset_auto2(H5E_DEFAULT, g.print, g.user);
    pthread_mutex_unlock(&lock);
}

static herr_t innermost(unsigned n, const H5E_error2_t *e, void *user)
{
    if (n == 0 && e->desc) snprintf(user, 256, "%s", e->desc);
    return 0;
}

adze_status h5_fail(adze_status code, const char *fmt, ...)
{
    char why[256] = "", text[512];
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, innermost, why);
    H5Eclear2(H5E_DEFAULT);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return adze_fail(code, "%s%s%s", text, why[0] ? ": HDF5: " : "", why);
}

hid_t h5_type(adze_dtype type)
{
    hid_t base = -1;
    switch (type) {
    case ADZE_DTYPE_F32: base = H5T_IEEE_F32LE; break;
    case ADZE_DTYPE_F64: base = H5T_IEEE_F64LE; break;
    case ADZE_DTYPE_F16: base = H5T_IEEE_F32LE; break;
    case ADZE_DTYPE_BF16: base = H5T_STD_U16LE; break;
    case ADZE_DTYPE_I64: base = H5T_STD_I64LE; break;
    case ADZE_DTYPE_I32: base = H5T_STD_I32LE; break;
    case ADZE_DTYPE_I16: base = H5T_STD_I16LE; break;
    case ADZE_DTYPE_I8: base = H5T_STD_I8LE; break;
    case ADZE_DTYPE_U64: base = H5T_STD_U64LE; break;
    case ADZE_DTYPE_U32: base = H5T_STD_U32LE; break;
    case ADZE_DTYPE_U16: base = H5T_STD_U16LE; break;
    case ADZE_DTYPE_U8: base = H5T_STD_U8LE; break;
    case ADZE_DTYPE_BOOL: base = H5T_STD_I8LE; break;
    case ADZE_DTYPE_COUNT: return -1;
    }
    const int8_t no = 0, yes = 1;
    if (type == ADZE_DTYPE_BOOL) {
        hid_t t = H5Tenum_create(base);
        if (t >= 0 && (H5Tenum_insert(t, "FALSE", &no) < 0 || H5Tenum_insert(t, "TRUE", &yes) < 0)) return H5Tclose(t), -1;
        return t;
    }
    hid_t t = H5Tcopy(base);
    if (t >= 0 && type == ADZE_DTYPE_F16 &&
        (H5Tset_fields(t, 15, 10, 5, 0, 10) < 0 || H5Tset_size(t, 2) < 0 || H5Tset_ebias(t, 15) < 0))
        return H5Tclose(t), -1;
    return t;
}

hid_t h5_text_type(size_t n_bytes)
{
    hid_t t = H5Tcopy(H5T_C_S1);
    if (t >= 0 && (H5Tset_size(t, n_bytes > 0 ? n_bytes : 1) < 0 || H5Tset_cset(t, H5T_CSET_UTF8) < 0 ||
                   H5Tset_strpad(t, H5T_STR_NULLPAD) < 0))
        return H5Tclose(t), -1;
    return t;
}

void h5_seal_text(const char hex[ADZE_SHA256_HEX], uint64_t n_bytes, char text[H5_SEAL_BYTES])
{
    memset(text, 0, H5_SEAL_BYTES);
    snprintf(text, H5_SEAL_BYTES, "adze HDF5 seal 1\nSHA-256 of the %llu bytes behind this block of %d:\n%s\n",
             (unsigned long long)n_bytes, H5_SEAL_BYTES, hex);
}

static void close_id(hid_t id, herr_t (*close_function)(hid_t))
{
    if (id >= 0) close_function(id);
}

/* Disk blocks for all that the file holds now, n_bytes more, and a margin for what describes them. */
static adze_status reserve(adze_h5 *h, size_t n_bytes)
{
    adze_status st = ADZE_OK;
    hsize_t now = 0;
    struct rlimit limit;
    struct statvfs disk;
    if (h->file >= 0) H5Fget_filesize(h->file, &now);
    uint64_t want = now + n_bytes + MARGIN_BYTES, more = want > h->reserved_bytes ? want - h->reserved_bytes : 0;
    if (more == 0) goto done;
    REQUIRE(getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= want, ADZE_EIO,
            "%s: %llu bytes are beyond the largest file that this process may write", h->path, (unsigned long long)want);
    int bad = fallocate(h->fd, FALLOC_FL_KEEP_SIZE, (off_t)h->reserved_bytes, (off_t)more), why = errno;
    REQUIRE(bad == 0 || why == EOPNOTSUPP || why == ENOSYS, ADZE_EIO, "%s: cannot reserve %llu bytes: %s", h->path,
            (unsigned long long)more, strerror(why));
    if (bad != 0) /* such a file system only tells what is free */
        REQUIRE(fstatvfs(h->fd, &disk) != 0 || (double)disk.f_bavail * (double)disk.f_frsize >= (double)more, ADZE_EIO,
                "%s: cannot reserve %llu bytes: %s", h->path, (unsigned long long)more, strerror(ENOSPC));
    h->reserved_bytes = want;
done:
    return st;
}

/* Links and attributes stay in the object header, in order of creation, without times. */
static bool plain_object(hid_t plist, bool is_group)
{
    unsigned order = H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED;
    if (H5Pset_obj_track_times(plist, false) < 0 || H5Pset_attr_phase_change(plist, MAX_COMPACT, 0) < 0) return false;
    return !is_group || (H5Pset_link_creation_order(plist, order) >= 0 && H5Pset_link_phase_change(plist, MAX_COMPACT, 0) >= 0);
}

size_t adze_h5_writer_bytes(int64_t n_sets) { return 3500000 + (size_t)n_sets * 10000; }

adze_status adze_h5_create(adze_h5 **out, const char *path)
{
    adze_status st = ADZE_OK;
    adze_h5 *h = NULL;
    hid_t fcpl = -1, fapl = -1;
    h5_guard g = h5_enter();
    *out = NULL;
    REQUIRE(h = adze_calloc(1, sizeof *h), ADZE_ENOMEM, "%s: %zu host bytes", path, sizeof *h);
    h->file = h->rows.set = h->fd = -1;
    REQUIRE(h->path = adze_strdup(path), ADZE_ENOMEM, "%s: no memory for the name", path);
    TRY(adze_file_begin(path, &h->tmp));
    h->fd = open(h->tmp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    REQUIRE(h->fd >= 0, ADZE_EIO, "%s: cannot create: %s", h->tmp, strerror(errno));
    fcpl = H5Pcreate(H5P_FILE_CREATE);
    fapl = H5Pcreate(H5P_FILE_ACCESS);
    H5_REQUIRE(H5Pset_userblock(fcpl, H5_SEAL_BYTES) >= 0 && plain_object(fcpl, true) &&
                   H5Pset_libver_bounds(fapl, H5F_LIBVER_V18, H5F_LIBVER_V18) >= 0 &&
                   H5Pset_fclose_degree(fapl, H5F_CLOSE_STRONG) >= 0,
               ADZE_EINTERNAL, "%s: cannot set up", path);
    H5_REQUIRE(H5Pset_file_locking(fapl, false, true) >= 0, ADZE_EINTERNAL, "%s: cannot set up", path);
    TRY(reserve(h, 0));
    h->file = H5Fcreate(h->tmp, H5F_ACC_TRUNC, fcpl, fapl);
    H5_REQUIRE(h->file >= 0, ADZE_EIO, "%s: cannot create", h->tmp);
    h->reserved_bytes = 0; /* opening has emptied the file */
    TRY(reserve(h, 0));
    *out = h;
    h = NULL;
done:
    close_id(fcpl, H5Pclose);
    close_id(fapl, H5Pclose);
    h5_leave(g);
    adze_h5_destroy(h);
    return st;
}

static adze_status seal(const adze_h5 *h)
{
    adze_status st = ADZE_OK;
    unsigned char *buffer = NULL;
    adze_sha256 sha;
    unsigned char digest[ADZE_SHA256_BYTES];
    char hex[ADZE_SHA256_HEX], text[H5_SEAL_BYTES];
    uint64_t at = H5_SEAL_BYTES;
    int fd = h->fd;
    struct stat info; /* give back what was reserved beyond the end */
    REQUIRE(fstat(fd, &info) == 0 && ftruncate(fd, info.st_size) == 0, ADZE_EIO, "%s: cannot trim: %s", h->tmp, strerror(errno));
    REQUIRE(buffer = adze_malloc(1 << 20), ADZE_ENOMEM, "%s: no memory to seal", h->path);
    adze_sha256_init(&sha);
    for (ssize_t n; (n = pread(fd, buffer, 1 << 20, (off_t)at)) != 0; at += (uint64_t)n) {
        REQUIRE(n > 0, ADZE_EIO, "%s: cannot read back: %s", h->tmp, strerror(errno));
        adze_sha256_update(&sha, buffer, (size_t)n);
    }
    adze_sha256_final(&sha, digest);
    adze_sha256_hex(digest, hex);
    h5_seal_text(hex, at - H5_SEAL_BYTES, text);
    REQUIRE(pwrite(fd, text, sizeof text, 0) == (ssize_t)sizeof text, ADZE_EIO, "%s: cannot write: %s", h->tmp, strerror(errno));
done:
    adze_free(buffer);
    return st;
}

adze_status adze_h5_commit(adze_h5 *h)
{
    adze_status st = ADZE_OK;
    h5_guard g = h5_enter();
    REQUIRE(h->tmp && h->file >= 0, ADZE_EINTERNAL, "%s: nothing to commit", h->path);
    REQUIRE(h->rows.set < 0, ADZE_EINTERNAL, "%s: a matrix has only %lld of %lld rows", h->path, (long long)h->rows.next,
            (long long)h->rows.R);
    H5_REQUIRE(H5Fflush(h->file, H5F_SCOPE_LOCAL) >= 0, ADZE_EIO, "%s: cannot write", h->tmp);
    hid_t file = h->file;
    h->file = -1;
    H5_REQUIRE(H5Fclose(file) >= 0, ADZE_EIO, "%s: cannot close", h->tmp);
    TRY(seal(h));
    int fd = h->fd;
    h->fd = -1;
    REQUIRE(close(fd) == 0, ADZE_EIO, "%s: cannot close: %s", h->tmp, strerror(errno));
    TRY(adze_file_commit(h->tmp, h->path));
    adze_free(h->tmp);
    h->tmp = NULL;
done:
    h5_leave(g);
    return st;
}

void adze_h5_destroy(adze_h5 *h)
{
    if (!h) return;
    h5_guard g = h5_enter();
    close_id(h->rows.set, H5Dclose);
    close_id(h->file, H5Fclose);
    H5Eclear2(H5E_DEFAULT);
    h5_leave(g);
    if (h->fd >= 0) close(h->fd);
    adze_file_discard(h->tmp);
    for (int64_t i = 0; i < h->n_items; i++) adze_free((void *)h->item[i].path);
    adze_free(h->item);
    adze_free(h->path);
    adze_free(h->tmp);
    adze_free(h);
}

void adze_h5_checksums(adze_h5 *h, bool on) { h->checksums = on; }

/* One group; the parent exists. */
static adze_status make_group(adze_h5 *h, const char *path)
{
    adze_status st = ADZE_OK;
    hid_t group = -1, gcpl = H5Pcreate(H5P_GROUP_CREATE);
    if (H5Lexists(h->file, path, H5P_DEFAULT) > 0) goto done;
    H5_REQUIRE(plain_object(gcpl, true), ADZE_EINTERNAL, "%s: cannot set up a group", h->path);
    TRY(reserve(h, 0));
    group = H5Gcreate2(h->file, path, H5P_DEFAULT, gcpl, H5P_DEFAULT);
    H5_REQUIRE(group >= 0, ADZE_EIO, "%s: cannot create the group %s", h->path, path);
done:
    close_id(group, H5Gclose);
    close_id(gcpl, H5Pclose);
    return st;
}

adze_status adze_h5_group(adze_h5 *h, const char *path)
{
    adze_status st = ADZE_OK;
    h5_guard g = h5_enter();
    char *part = adze_strdup(path);
    REQUIRE(part, ADZE_ENOMEM, "%s: no memory for a name", h->path);
    for (char *p = part + (part[0] != 0);; p++) {
        char kept = *p;
        if (kept != '/' && kept != 0) continue;
        *p = 0;
        if (part[0] && part[1]) TRY(make_group(h, part));
        *p = kept;
        if (kept == 0) break;
    }
done:
    adze_free(part);
    h5_leave(g);
    return st;
}

/* A text attribute of an open object. */
static adze_status put_text(adze_h5 *h, hid_t object, const char *attr, const char *s)
{
    adze_status st = ADZE_OK;
    hid_t a = -1, type = h5_text_type(strlen(s)), space = H5Screate(H5S_SCALAR);
    REQUIRE(strlen(s) <= H5_MAX_ATTR_BYTES, ADZE_EINVAL, "%s: the attribute %s has %zu bytes, at most %d are written", h->path, attr,
            strlen(s), H5_MAX_ATTR_BYTES);
    TRY(reserve(h, strlen(s)));
    a = H5Acreate2(object, attr, type, space, H5P_DEFAULT, H5P_DEFAULT);
    H5_REQUIRE(a >= 0 && H5Awrite(a, type, s) >= 0, ADZE_EIO, "%s: cannot write the attribute %s", h->path, attr);
done:
    close_id(a, H5Aclose);
    close_id(space, H5Sclose);
    close_id(type, H5Tclose);
    return st;
}

static adze_status create_set(adze_h5 *h, const char *path, hid_t type, int rank, const int64_t *dim, size_t n_bytes,
                              hid_t *set)
{
    adze_status st = ADZE_OK;
    hsize_t dims[ADZE_STORED_RANK] = { 0 }, chunk[ADZE_STORED_RANK] = { 0 };
    hid_t space = -1, dcpl = H5Pcreate(H5P_DATASET_CREATE);
    *set = -1;
    REQUIRE(H5Lexists(h->file, path, H5P_DEFAULT) <= 0, ADZE_EINVAL, "%s: %s is there already", h->path, path);
    TRY(reserve(h, n_bytes));
    for (int d = 0; d < rank; d++) dims[d] = chunk[d] = (hsize_t)dim[d];
    H5_REQUIRE(plain_object(dcpl, false) && H5Pset_alloc_time(dcpl, H5D_ALLOC_TIME_EARLY) >= 0 &&
                   H5Pset_fill_time(dcpl, H5D_FILL_TIME_NEVER) >= 0,
               ADZE_EINTERNAL, "%s: cannot set up %s", h->path, path);
    if (h->checksums && rank > 0 && n_bytes >= SMALL_BYTES) {
        size_t row_bytes = n_bytes / (size_t)dim[0];
        if (row_bytes < CHUNK_BYTES && chunk[0] > CHUNK_BYTES / row_bytes) chunk[0] = CHUNK_BYTES / row_bytes;
        else if (row_bytes >= CHUNK_BYTES) chunk[0] = 1;
        H5_REQUIRE(H5Pset_chunk(dcpl, rank, chunk) >= 0 && H5Pset_fletcher32(dcpl) >= 0, ADZE_EINTERNAL,
                   "%s: cannot set up chunks of %s", h->path, path);
    }
    space = rank > 0 ? H5Screate_simple(rank, dims, NULL) : H5Screate(H5S_SCALAR);
    *set = H5Dcreate2(h->file, path, type, space, H5P_DEFAULT, dcpl, H5P_DEFAULT);
    H5_REQUIRE(*set >= 0, ADZE_EIO, "%s: cannot create %s", h->path, path);
done:
    close_id(space, H5Sclose);
    close_id(dcpl, H5Pclose);
    return st;
}

static adze_status put_digest(adze_h5 *h, hid_t set, adze_sha256 *sha)
{
    unsigned char digest[ADZE_SHA256_BYTES];
    char hex[ADZE_SHA256_HEX];
    adze_sha256_final(sha, digest);
    adze_sha256_hex(digest, hex);
    return put_text(h, set, "sha256", hex);
}

adze_status adze_h5_write(adze_h5 *h, const char *path, adze_dtype type, int rank, const int64_t *dim, const void *data)
{
    adze_status st = ADZE_OK;
    hid_t t = -1, set = -1;
    int64_t count;
    size_t n_bytes;
    adze_sha256 sha;
    h5_guard g = h5_enter();
    REQUIRE(rank >= 0 && rank <= ADZE_STORED_RANK && adze_stored_size(type, rank, dim, &count, &n_bytes), ADZE_EINVAL,
            "%s: %s: a shape of rank %d that no tensor can have", h->path, path, rank);
    t = h5_type(type);
    TRY(create_set(h, path, t, rank, dim, n_bytes, &set));
    if (count > 0) H5_REQUIRE(H5Dwrite(set, t, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0, ADZE_EIO, "%s: cannot write %s", h->path, path);
    if (type == ADZE_DTYPE_BF16) TRY(put_text(h, set, "logical_dtype", "bfloat16"));
    adze_sha256_init(&sha);
    adze_sha256_update(&sha, data, n_bytes);
    TRY(put_digest(h, set, &sha));
done:
    close_id(set, H5Dclose);
    close_id(t, H5Tclose);
    h5_leave(g);
    return st;
}

adze_status adze_h5_rows_begin(adze_h5 *h, const char *path, adze_dtype type, int64_t R, int64_t D)
{
    adze_status st = ADZE_OK;
    hid_t t = -1;
    int64_t count;
    size_t n_bytes;
    h5_guard g = h5_enter();
    REQUIRE(h->rows.set < 0, ADZE_EINVAL, "%s: %s: another matrix is unfinished", h->path, path);
    REQUIRE(R > 0 && D > 0 && type != ADZE_DTYPE_BF16 && adze_stored_size(type, 2, (int64_t[]){ R, D }, &count, &n_bytes),
            ADZE_EINVAL, "%s: %s: a matrix of %lld x %lld %s cannot be written by rows", h->path, path, (long long)R,
            (long long)D, adze_dtype_name(type));
    t = h5_type(type);
    TRY(create_set(h, path, t, 2, (int64_t[]){ R, D }, n_bytes, &h->rows.set));
    h->rows.type = type;
    h->rows.R = R;
    h->rows.D = D;
    h->rows.next = 0;
    adze_sha256_init(&h->rows.sha);
done:
    close_id(t, H5Tclose);
    h5_leave(g);
    return st;
}

adze_status adze_h5_rows_write(adze_h5 *h, int64_t r0, int64_t n, const void *data)
{
    adze_status st = ADZE_OK;
    hid_t t = -1, space = -1, memory = -1;
    h5_guard g = h5_enter();
    REQUIRE(h->rows.set >= 0 && r0 == h->rows.next && n > 0 && n <= h->rows.R - r0, ADZE_EINVAL,
            "%s: rows %lld and %lld more, want those from %lld to %lld", h->path, (long long)r0, (long long)n,
            (long long)h->rows.next, (long long)h->rows.R);
    hsize_t start[2] = { (hsize_t)r0, 0 }, size[2] = { (hsize_t)n, (hsize_t)h->rows.D };
    t = h5_type(h->rows.type);
    space = H5Dget_space(h->rows.set);
    memory = H5Screate_simple(2, size, NULL);
    H5_REQUIRE(H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, size, NULL) >= 0 &&
                   H5Dwrite(h->rows.set, t, memory, space, H5P_DEFAULT, data) >= 0,
               ADZE_EIO, "%s: cannot write rows %lld to %lld", h->path, (long long)r0, (long long)(r0 + n));
    adze_sha256_update(&h->rows.sha, data, (size_t)n * (size_t)h->rows.D * adze_dtype_bytes(h->rows.type));
    h->rows.next += n;
    if (h->rows.next == h->rows.R) {
        st = put_digest(h, h->rows.set, &h->rows.sha);
        close_id(h->rows.set, H5Dclose);
        h->rows.set = -1;
    }
done:
    close_id(memory, H5Sclose);
    close_id(space, H5Sclose);
    close_id(t, H5Tclose);
    h5_leave(g);
    return st;
}

adze_status adze_h5_write_string(adze_h5 *h, const char *path, const char *s)
{
    adze_status st = ADZE_OK;
    hid_t set = -1;
    h5_guard g = h5_enter();
    hid_t t = h5_text_type(strlen(s));
    REQUIRE(strlen(s) <= H5_MAX_TEXT_BYTES, ADZE_EINVAL, "%s: %s has %zu bytes, at most %d are written", h->path, path, strlen(s),
            H5_MAX_TEXT_BYTES);
    TRY(create_set(h, path, t, 0, NULL, strlen(s), &set));
    H5_REQUIRE(H5Dwrite(set, t, H5S_ALL, H5S_ALL, H5P_DEFAULT, s) >= 0, ADZE_EIO, "%s: cannot write %s", h->path, path);
done:
    close_id(set, H5Dclose);
    close_id(t, H5Tclose);
    h5_leave(g);
    return st;
}

adze_status adze_h5_write_strings(adze_h5 *h, const char *path, const char *const *s, int64_t count)
{
    adze_status st = ADZE_OK;
    hid_t set = -1, t = -1;
    size_t width = 1, n_bytes;
    char *block = NULL;
    h5_guard g = h5_enter();
    for (int64_t i = 0; i < count; i++)
        if (strlen(s[i]) > width) width = strlen(s[i]);
    REQUIRE(count > 0 && width <= H5_MAX_ATTR_BYTES && adze_mul_size((size_t)count, width, &n_bytes), ADZE_EINVAL,
            "%s: %s: %lld strings of %zu bytes", h->path, path, (long long)count, width);
    REQUIRE(block = adze_calloc((size_t)count, width), ADZE_ENOMEM, "%s: %zu host bytes", path, n_bytes);
    for (int64_t i = 0; i < count; i++) memcpy(block + (size_t)i * width, s[i], strlen(s[i]));
    t = h5_text_type(width);
    TRY(create_set(h, path, t, 1, &count, n_bytes, &set));
    H5_REQUIRE(H5Dwrite(set, t, H5S_ALL, H5S_ALL, H5P_DEFAULT, block) >= 0, ADZE_EIO, "%s: cannot write %s", h->path, path);
done:
    close_id(set, H5Dclose);
    close_id(t, H5Tclose);
    adze_free(block);
    h5_leave(g);
    return st;
}

adze_status adze_h5_set_string(adze_h5 *h, const char *path, const char *attr, const char *s)
{
    adze_status st = ADZE_OK;
    h5_guard g = h5_enter();
    hid_t object = H5Oopen(h->file, path, H5P_DEFAULT);
    H5_REQUIRE(object >= 0, ADZE_EINVAL, "%s: there is no %s", h->path, path);
    TRY(put_text(h, object, attr, s));
done:
    close_id(object, H5Oclose);
    h5_leave(g);
    return st;
}

static adze_status put_numbers(adze_h5 *h, const char *path, const char *attr, adze_dtype type, int64_t count,
                               const void *value)
{
    adze_status st = ADZE_OK;
    hsize_t dims[1] = { (hsize_t)count };
    h5_guard g = h5_enter();
    hid_t t = h5_type(type), object = H5Oopen(h->file, path, H5P_DEFAULT), a = -1;
    hid_t space = count == 1 ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, dims, NULL);
    H5_REQUIRE(object >= 0, ADZE_EINVAL, "%s: there is no %s", h->path, path);
    TRY(reserve(h, 0));
    a = H5Acreate2(object, attr, t, space, H5P_DEFAULT, H5P_DEFAULT);
    H5_REQUIRE(a >= 0 && H5Awrite(a, t, value) >= 0, ADZE_EIO, "%s: cannot write the attribute %s", h->path, attr);
done:
    close_id(a, H5Aclose);
    close_id(space, H5Sclose);
    close_id(object, H5Oclose);
    close_id(t, H5Tclose);
    h5_leave(g);
    return st;
}

adze_status adze_h5_set_int(adze_h5 *h, const char *path, const char *attr, int64_t value)
{
    return put_numbers(h, path, attr, ADZE_DTYPE_I64, 1, &value);
}

adze_status adze_h5_set_reals(adze_h5 *h, const char *path, const char *attr, const double *value, int64_t count)
{
    return put_numbers(h, path, attr, ADZE_DTYPE_F64, count, value);
}
