/* hdf5_read.c - reading HDF5 files of strangers. Entry: adze_h5_open().
 * The seal is checked over the plain bytes first. Then the whole tree is walked once and everything that is not needed is
 * refused, so that reading later meets only what has been looked at. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoints/hdf5_impl.h"
#include "checkpoints/tensor_file_impl.h"
#include "core/memory.h"

enum { SIGNATURE_BYTES = 8, MAX_CHUNK_BYTES = 256 << 20, MAX_DEFLATE = 1032, MAX_ATTRIBUTES = 1000 };

static const unsigned char signature[SIGNATURE_BYTES] = { 0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n' };

static void close_id(hid_t id, herr_t (*close_function)(hid_t))
{
    if (id >= 0) close_function(id);
}

bool adze_h5_is_file(const char *path)
{
    unsigned char block[H5_SEAL_BYTES + SIGNATURE_BYTES] = { 0 };
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = pread(fd, block, sizeof block, 0);
    close(fd);
    return n >= SIGNATURE_BYTES && (memcmp(block, signature, SIGNATURE_BYTES) == 0 ||
                                    memcmp(block + H5_SEAL_BYTES, signature, SIGNATURE_BYTES) == 0);
}

/* ---- the seal ---- */

static adze_status judge_seal(adze_h5 *h, const char *name, const char *block, adze_sha256 *sha, const adze_h5_opts *o)
{
    adze_status st = ADZE_OK;
    unsigned char digest[ADZE_SHA256_BYTES];
    char hex[ADZE_SHA256_HEX], want[H5_SEAL_BYTES];
    bool sealed = memcmp(block, "adze", 4) == 0;
    REQUIRE(sealed || o->unsealed, ADZE_EINPUT, "%s: not a file that adze has written (no seal)", name);
    if (sealed) {
        adze_sha256_final(sha, digest);
        adze_sha256_hex(digest, hex);
        h5_seal_text(hex, h->file_bytes - H5_SEAL_BYTES, want);
        REQUIRE(memcmp(block, want, H5_SEAL_BYTES) == 0, ADZE_EINPUT,
                "%s: damaged: its bytes do not match the seal (cut short, altered, or edited by another program)", name);
    }
    h->sealed = sealed;
done:
    return st;
}

static adze_status check_file(adze_h5 *h, const char *path, const adze_h5_opts *o)
{
    adze_status st = ADZE_OK;
    unsigned char *buffer = NULL;
    char block[H5_SEAL_BYTES + SIGNATURE_BYTES] = { 0 };
    adze_sha256 sha;
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    REQUIRE(fd >= 0, ADZE_EINPUT, "%s: cannot open: %s", path, strerror(errno));
    REQUIRE(fstat(fd, &info) == 0 && S_ISREG(info.st_mode), ADZE_EINPUT, "%s: not a regular file", path);
    h->file_bytes = (uint64_t)info.st_size;
    REQUIRE(h->file_bytes <= o->limit_bytes, ADZE_EINPUT, "%s: %llu bytes, the limit is %zu", path,
            (unsigned long long)h->file_bytes, o->limit_bytes);
    ssize_t n = pread(fd, block, sizeof block, 0);
    REQUIRE(n == (ssize_t)sizeof block, ADZE_EINPUT, "%s: %lld bytes: not an HDF5 file, or cut short", path, (long long)n);
    REQUIRE(memcmp(block, signature, SIGNATURE_BYTES) == 0 ||
                memcmp(block + H5_SEAL_BYTES, signature, SIGNATURE_BYTES) == 0,
            ADZE_EINPUT, "%s: not an HDF5 file", path);
    adze_sha256_init(&sha);
    if (memcmp(block, "adze", 4) == 0) {
        REQUIRE(buffer = adze_malloc(1 << 20), ADZE_ENOMEM, "%s: no memory to check the seal", path);
        uint64_t at = H5_SEAL_BYTES;
        for (; (n = pread(fd, buffer, 1 << 20, (off_t)at)) > 0; at += (uint64_t)n) adze_sha256_update(&sha, buffer, (size_t)n);
        REQUIRE(n == 0, ADZE_EINPUT, "%s: cannot read: %s", path, strerror(errno));
        h->file_bytes = at;
    }
    TRY(judge_seal(h, path, block, &sha, o));
done:
    if (fd >= 0) close(fd);
    adze_free(buffer);
    return st;
}

/* ---- the walk over the structure ---- */

static adze_status add_item(adze_h5 *h, const char *path, adze_h5_kind kind, adze_h5_item **item)
{
    adze_status st = ADZE_OK;
    REQUIRE(h->n_items < H5_MAX_ITEMS, ADZE_EINPUT, "%s: more than %d groups and data sets", h->path, H5_MAX_ITEMS);
    if (h->n_items == h->items_room) {
        int64_t room = h->items_room ? 2 * h->items_room : 64;
        adze_h5_item *more = adze_realloc(h->item, (size_t)room * sizeof *more);
        REQUIRE(more, ADZE_ENOMEM, "%s: no memory for %lld items", h->path, (long long)room);
        h->item = more;
        h->items_room = room;
    }
    *item = &h->item[h->n_items];
    **item = (adze_h5_item){ .kind = kind };
    REQUIRE((*item)->path = adze_strdup(path), ADZE_ENOMEM, "%s: no memory for names", h->path);
    h->n_items++;
done:
    return st;
}

static bool match_type(hid_t t, adze_dtype *type)
{
    for (int i = 0; i < ADZE_DTYPE_COUNT; i++) {
        if (i == ADZE_DTYPE_BF16) continue; /* stored as u16, known by an attribute */
        hid_t want = h5_type((adze_dtype)i);
        bool same = want >= 0 && H5Tequal(t, want) > 0;
        close_id(want, H5Tclose);
        if (!same) continue;
        *type = (adze_dtype)i;
        return true;
    }
    return false;
}

/* What lies on disk must be able to hold the data set. */
static adze_status check_storage(const adze_h5 *h, hid_t set, hid_t dcpl, const adze_h5_item *item)
{
    adze_status st = ADZE_OK;
    bool deflate = false;
    H5D_layout_t layout = H5Pget_layout(dcpl);
    REQUIRE(layout == H5D_CONTIGUOUS || layout == H5D_CHUNKED || layout == H5D_COMPACT, ADZE_EINPUT,
            "%s: %s is a virtual data set", h->path, item->path);
    REQUIRE(H5Pget_external_count(dcpl) == 0, ADZE_EINPUT, "%s: %s keeps its data in other files", h->path, item->path);
    int n_filters = H5Pget_nfilters(dcpl);
    REQUIRE(n_filters >= 0 && n_filters <= 3, ADZE_EINPUT, "%s: %s has %d filters", h->path, item->path, n_filters);
    for (int i = 0; i < n_filters; i++) {
        unsigned flags;
        size_t n_values = 0;
        H5Z_filter_t filter = H5Pget_filter2(dcpl, (unsigned)i, &flags, &n_values, NULL, 0, NULL, NULL);
        REQUIRE(filter == H5Z_FILTER_DEFLATE || filter == H5Z_FILTER_SHUFFLE || filter == H5Z_FILTER_FLETCHER32, ADZE_EINPUT,
                "%s: %s needs the filter %d; deflate, shuffle and fletcher32 are read", h->path, item->path, (int)filter);
        deflate = deflate || filter == H5Z_FILTER_DEFLATE;
    }
    hsize_t chunk[H5S_MAX_RANK];
    if (layout == H5D_CHUNKED) {
        double chunk_bytes = (double)item->n_bytes / (double)(item->count ? item->count : 1);
        int rank = H5Pget_chunk(dcpl, H5S_MAX_RANK, chunk);
        for (int d = 0; d < rank; d++) chunk_bytes *= (double)chunk[d];
        REQUIRE(rank >= 0 && chunk_bytes <= MAX_CHUNK_BYTES, ADZE_EINPUT, "%s: %s has chunks of %.0f bytes", h->path,
                item->path, chunk_bytes);
    }
    if (layout == H5D_CONTIGUOUS && item->n_bytes > 0) {
        haddr_t at = H5Dget_offset(set);
        REQUIRE(at != HADDR_UNDEF && at <= h->file_bytes && item->n_bytes <= h->file_bytes - at, ADZE_EINPUT,
                "%s: %s claims %zu bytes that the file does not have", h->path, item->path, item->n_bytes);
    }
    hsize_t stored = H5Dget_storage_size(set), least = item->n_bytes / (deflate ? MAX_DEFLATE + 1 : 1);
    H5_REQUIRE(stored >= least && stored <= h->file_bytes, ADZE_EINPUT, "%s: %s claims %zu bytes, %llu are stored", h->path,
               item->path, item->n_bytes, (unsigned long long)stored);
done:
    return st;
}

static adze_status check_set(adze_h5 *h, hid_t set, const char *path)
{
    adze_status st = ADZE_OK;
    adze_h5_item *item;
    hid_t type = H5Dget_type(set), space = H5Dget_space(set), dcpl = H5Dget_create_plist(set);
    hsize_t dims[H5S_MAX_RANK];
    TRY(add_item(h, path, ADZE_H5_TENSOR, &item));
    H5_REQUIRE(type >= 0 && space >= 0 && dcpl >= 0, ADZE_EINPUT, "%s: %s cannot be opened", h->path, path);
    REQUIRE(H5Tcommitted(type) == 0, ADZE_EINPUT, "%s: %s has a named data type", h->path, path);
    H5S_class_t extent = H5Sget_simple_extent_type(space);
    int rank = H5Sget_simple_extent_ndims(space);
    REQUIRE((extent == H5S_SCALAR || extent == H5S_SIMPLE) && rank >= 0 && rank <= ADZE_STORED_RANK, ADZE_EINPUT,
            "%s: %s has rank %d, at most %d is read", h->path, path, rank, ADZE_STORED_RANK);
    H5_REQUIRE(H5Sget_simple_extent_dims(space, dims, NULL) == rank, ADZE_EINPUT, "%s: %s has no shape", h->path, path);
    item->rank = rank;
    for (int d = 0; d < rank; d++) {
        REQUIRE(dims[d] <= INT64_MAX, ADZE_EINPUT, "%s: %s has a size beyond 63 bits", h->path, path);
        item->dim[d] = (int64_t)dims[d];
    }
    if (H5Tget_class(type) == H5T_STRING) {
        item->kind = rank == 0 ? ADZE_H5_STRING : ADZE_H5_STRINGS;
        REQUIRE(rank <= 1 && H5Tis_variable_str(type) == 0, ADZE_EINPUT, "%s: %s holds texts of variable length", h->path, path);
        REQUIRE(adze_stored_size(ADZE_DTYPE_U8, rank, item->dim, &item->count, &item->n_bytes) &&
                    adze_mul_size(item->n_bytes, H5Tget_size(type), &item->n_bytes) && item->n_bytes <= H5_MAX_TEXT_BYTES,
                ADZE_EINPUT, "%s: %s holds more than %d bytes of text", h->path, path, H5_MAX_TEXT_BYTES);
    } else {
        REQUIRE(match_type(type, &item->type), ADZE_EINPUT,
                "%s: %s has an element type that is not read (compound, reference, variable length, big-endian ...)", h->path, path);
        if (item->type == ADZE_DTYPE_U16 && H5Aexists(set, "logical_dtype") > 0) item->type = ADZE_DTYPE_BF16;
        REQUIRE(adze_stored_size(item->type, rank, item->dim, &item->count, &item->n_bytes) &&
                    item->n_bytes <= h->limit_bytes - h->used_bytes,
                ADZE_EINPUT, "%s: %s is larger than the limit of %zu bytes", h->path, path, h->limit_bytes);
        h->used_bytes += item->n_bytes;
    }
    TRY(check_storage(h, set, dcpl, item));
done:
    close_id(type, H5Tclose);
    close_id(space, H5Sclose);
    close_id(dcpl, H5Pclose);
    return st;
}

typedef struct {
    adze_h5 *h;
    adze_text names; /* one after the other, each with its NUL */
    adze_status st;
    int64_t n;
} link_list;

static herr_t take_link(hid_t group, const char *name, const H5L_info_t *info, void *user)
{
    adze_status st = ADZE_OK;
    link_list *l = user;
    char shown[SHOWN_NAME];
    size_t n = strlen(name);
    (void)group;
    shown_name(name, n, shown);
    REQUIRE(info->type == H5L_TYPE_HARD, ADZE_EINPUT, "%s: '%s' is a %s link", l->h->path, shown,
            info->type == H5L_TYPE_SOFT ? "soft" : info->type == H5L_TYPE_EXTERNAL ? "external" : "user-defined");
    REQUIRE(n > 0 && n <= H5_MAX_NAME_BYTES && utf8_valid((const unsigned char *)name, n) && !strchr(name, '/'), ADZE_EINPUT,
            "%s: a link has the unfit name '%s'", l->h->path, shown);
    REQUIRE(++l->n <= H5_MAX_ITEMS, ADZE_EINPUT, "%s: more than %d links", l->h->path, H5_MAX_ITEMS);
    adze_text_append_n(&l->names, name, n + 1);
    TRY(adze_text_check(&l->names, "link names"));
done:
    l->st = st;
    return st == ADZE_OK ? 0 : -1;
}

static adze_status check_group(adze_h5 *h, hid_t group, const char *path, int depth);

/* A child by its full path. */
static adze_status check_child(adze_h5 *h, hid_t group, const char *name, const char *path, int depth)
{
    adze_status st = ADZE_OK;
    H5O_info_t info;
    hid_t object = H5Oopen(group, name, H5P_DEFAULT);
    H5_REQUIRE(object >= 0 && H5Oget_info2(object, &info, H5O_INFO_BASIC | H5O_INFO_NUM_ATTRS) >= 0, ADZE_EINPUT,
               "%s: %s cannot be opened", h->path, path);
    REQUIRE(info.rc == 1, ADZE_EINPUT, "%s: %s has %u names; cycles and aliases are not read", h->path, path, info.rc);
    REQUIRE(info.num_attrs <= MAX_ATTRIBUTES, ADZE_EINPUT, "%s: %s has %llu attributes", h->path, path,
            (unsigned long long)info.num_attrs);
    REQUIRE(info.type == H5O_TYPE_GROUP || info.type == H5O_TYPE_DATASET, ADZE_EINPUT, "%s: %s is a named data type", h->path,
            path);
    if (info.type == H5O_TYPE_DATASET) TRY(check_set(h, object, path));
    else TRY(check_group(h, object, path, depth + 1));
done:
    close_id(object, H5Oclose);
    return st;
}

static adze_status check_group(adze_h5 *h, hid_t group, const char *path, int depth)
{
    adze_status st = ADZE_OK;
    adze_h5_item *item;
    link_list l = { .h = h, .names = ADZE_TEXT_EMPTY };
    char *child = NULL;
    unsigned order = 0;
    REQUIRE(depth <= H5_MAX_DEPTH, ADZE_EINPUT, "%s: groups are nested more than %d deep", h->path, H5_MAX_DEPTH);
    TRY(add_item(h, path, ADZE_H5_GROUP, &item));
    hid_t gcpl = H5Gget_create_plist(group);
    bool ordered = gcpl >= 0 && H5Pget_link_creation_order(gcpl, &order) >= 0 && order & H5P_CRT_ORDER_TRACKED;
    close_id(gcpl, H5Pclose);
    herr_t bad = H5Literate(group, ordered ? H5_INDEX_CRT_ORDER : H5_INDEX_NAME, H5_ITER_INC, NULL, take_link, &l);
    if (l.st != ADZE_OK) H5Eclear2(H5E_DEFAULT);
    TRY(l.st);
    H5_REQUIRE(bad >= 0, ADZE_EINPUT, "%s: the links of %s cannot be read", h->path, path);
    const char *name = l.names.s;
    for (int64_t i = 0; i < l.n; i++, name += strlen(name) + 1) {
        adze_free(child);
        REQUIRE(child = adze_strprintf("%s/%s", depth ? path : "", name), ADZE_ENOMEM, "%s: no memory for names", h->path);
        TRY(check_child(h, group, name, child, depth));
    }
done:
    adze_free(child);
    adze_text_destroy(&l.names);
    return st;
}

static adze_status check_root(adze_h5 *h)
{
    adze_status st = ADZE_OK;
    H5O_info_t info;
    hid_t root = H5Gopen2(h->file, "/", H5P_DEFAULT);
    H5_REQUIRE(root >= 0 && H5Oget_info2(root, &info, H5O_INFO_BASIC) >= 0, ADZE_EINPUT, "%s: the root cannot be opened", h->path);
    REQUIRE(info.rc <= 1, ADZE_EINPUT, "%s: a link leads back to the root", h->path);
    TRY(check_group(h, root, "/", 0));
done:
    close_id(root, H5Gclose);
    return st;
}

static adze_status open_any(adze_h5 **out, const char *name, const void *data, size_t n_bytes, const adze_h5_opts *opts)
{
    adze_status st = ADZE_OK;
    adze_h5_opts o = opts ? *opts : ADZE_H5_OPTS;
    adze_h5 *h = NULL;
    hid_t fapl = -1;
    h5_guard g = h5_enter();
    *out = NULL;
    REQUIRE(h = adze_calloc(1, sizeof *h), ADZE_ENOMEM, "%s: %zu host bytes", name, sizeof *h);
    h->file = h->rows.set = h->fd = -1;
    h->limit_bytes = o.limit_bytes;
    REQUIRE(h->path = adze_strdup(name), ADZE_ENOMEM, "%s: no memory for the name", name);
    if (data) {
        adze_sha256 sha;
        h->file_bytes = n_bytes;
        REQUIRE(n_bytes > H5_SEAL_BYTES + SIGNATURE_BYTES, ADZE_EINPUT, "%s: %zu bytes: not an HDF5 file", name, n_bytes);
        adze_sha256_init(&sha);
        adze_sha256_update(&sha, (const unsigned char *)data + H5_SEAL_BYTES, n_bytes - H5_SEAL_BYTES);
        TRY(judge_seal(h, name, data, &sha, &o));
    } else TRY(check_file(h, name, &o));
    H5PLset_loading_state(0);
    fapl = H5Pcreate(H5P_FILE_ACCESS);
    H5_REQUIRE(H5Pset_fclose_degree(fapl, H5F_CLOSE_STRONG) >= 0 && H5Pset_file_locking(fapl, false, true) >= 0,
               ADZE_EINTERNAL, "%s: cannot set up", name);
    if (data)
        H5_REQUIRE(H5Pset_fapl_core(fapl, 1 << 16, false) >= 0 && H5Pset_file_image(fapl, (void *)data, n_bytes) >= 0, ADZE_ENOMEM,
                   "%s: no memory for the file", name);
    h->file = H5Fopen(name, H5F_ACC_RDONLY, fapl);
    H5_REQUIRE(h->file >= 0, ADZE_EINPUT, "%s: damaged, or not an HDF5 file", name);
    TRY(check_root(h));
    *out = h;
    h = NULL;
done:
    close_id(fapl, H5Pclose);
    h5_leave(g);
    adze_h5_destroy(h);
    return st;
}

adze_status adze_h5_open(adze_h5 **out, const char *path, const adze_h5_opts *opts)
{
    return open_any(out, path, NULL, 0, opts);
}

adze_status adze_h5_open_memory(adze_h5 **out, const char *name, const void *data, size_t n_bytes, const adze_h5_opts *opts)
{
    return open_any(out, name, data, n_bytes, opts);
}

const adze_h5_item *adze_h5_at(const adze_h5 *h, int64_t i) { return i >= 0 && i < h->n_items ? &h->item[i] : NULL; }

const adze_h5_item *adze_h5_find(const adze_h5 *h, const char *path)
{
    for (int64_t i = 0; i < h->n_items; i++)
        if (strcmp(h->item[i].path, path) == 0) return &h->item[i];
    return NULL;
}

/* ---- data ---- */

static adze_status find_tensor(const adze_h5 *h, const char *path, adze_dtype type, const adze_h5_item **item)
{
    adze_status st = ADZE_OK;
    *item = adze_h5_find(h, path);
    REQUIRE(*item && (*item)->kind == ADZE_H5_TENSOR, ADZE_EINPUT, "%s: there is no tensor %s", h->path, path);
    REQUIRE((*item)->type == type, ADZE_EINPUT, "%s: %s holds %s, want %s", h->path, path, adze_dtype_name((*item)->type),
            adze_dtype_name(type));
done:
    return st;
}

static adze_status read_text_attr(const adze_h5 *h, const char *path, const char *attr, char **s);

/* Without the lock. */
static adze_status read_all(adze_h5 *h, const adze_h5_item *item, void *to)
{
    adze_status st = ADZE_OK;
    hid_t t = h5_type(item->type), set = H5Dopen2(h->file, item->path, H5P_DEFAULT);
    H5_REQUIRE(set >= 0, ADZE_EINPUT, "%s: cannot open %s", h->path, item->path);
    if (item->count > 0)
        H5_REQUIRE(H5Dread(set, t, H5S_ALL, H5S_ALL, H5P_DEFAULT, to) >= 0, ADZE_EINPUT, "%s: cannot read %s", h->path, item->path);
done:
    close_id(set, H5Dclose);
    close_id(t, H5Tclose);
    return st;
}

static adze_status check_digest(const adze_h5 *h, const adze_h5_item *item, const void *data, bool *stored)
{
    adze_status st = ADZE_OK;
    char *want = NULL, hex[ADZE_SHA256_HEX];
    hid_t set = H5Dopen2(h->file, item->path, H5P_DEFAULT);
    *stored = set >= 0 && H5Aexists(set, "sha256") > 0;
    close_id(set, H5Dclose);
    if (!*stored) goto done;
    TRY(read_text_attr(h, item->path, "sha256", &want));
    adze_sha256_of(data, item->n_bytes, hex);
    REQUIRE(strcmp(want, hex) == 0, ADZE_EINPUT, "%s: %s is damaged: SHA-256 %s, recorded is %.64s", h->path, item->path, hex, want);
done:
    adze_free(want);
    return st;
}

adze_status adze_h5_read(adze_h5 *h, const char *path, adze_dtype type, int64_t count, void *to)
{
    adze_status st = ADZE_OK;
    const adze_h5_item *item;
    bool stored;
    h5_guard g = h5_enter();
    TRY(find_tensor(h, path, type, &item));
    REQUIRE(item->count == count, ADZE_EINPUT, "%s: %s has %lld elements, want %lld", h->path, path, (long long)item->count,
            (long long)count);
    TRY(read_all(h, item, to));
    if (!h->sealed) TRY(check_digest(h, item, to, &stored));
done:
    h5_leave(g);
    return st;
}

adze_status adze_h5_verify(adze_h5 *h, const char *path, bool *stored)
{
    adze_status st = ADZE_OK;
    const adze_h5_item *item = adze_h5_find(h, path);
    void *data = NULL;
    h5_guard g = h5_enter();
    *stored = false;
    REQUIRE(item && item->kind == ADZE_H5_TENSOR, ADZE_EINPUT, "%s: there is no tensor %s", h->path, path);
    REQUIRE(data = adze_malloc(item->n_bytes), ADZE_ENOMEM, "%s: %s: %zu host bytes", h->path, path, item->n_bytes);
    TRY(read_all(h, item, data));
    TRY(check_digest(h, item, data, stored));
done:
    adze_free(data);
    h5_leave(g);
    return st;
}

adze_status adze_h5_read_rows(adze_h5 *h, const char *path, adze_dtype type, int64_t r0, int64_t n, void *to)
{
    adze_status st = ADZE_OK;
    const adze_h5_item *item;
    hid_t t = -1, set = -1, space = -1, memory = -1;
    h5_guard g = h5_enter();
    TRY(find_tensor(h, path, type, &item));
    REQUIRE(item->rank == 2 && r0 >= 0 && n >= 0 && r0 <= item->dim[0] && n <= item->dim[0] - r0, ADZE_EINVAL,
            "%s: %s: rows %lld and %lld more, it has %lld", h->path, path, (long long)r0, (long long)n, (long long)item->dim[0]);
    if (n == 0 || item->dim[1] == 0) goto done;
    hsize_t start[2] = { (hsize_t)r0, 0 }, size[2] = { (hsize_t)n, (hsize_t)item->dim[1] };
    t = h5_type(type);
    set = H5Dopen2(h->file, path, H5P_DEFAULT);
    space = H5Dget_space(set);
    memory = H5Screate_simple(2, size, NULL);
    H5_REQUIRE(H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, size, NULL) >= 0 &&
                   H5Dread(set, t, memory, space, H5P_DEFAULT, to) >= 0,
               ADZE_EINPUT, "%s: cannot read rows %lld to %lld of %s", h->path, (long long)r0, (long long)(r0 + n), path);
done:
    close_id(memory, H5Sclose);
    close_id(space, H5Sclose);
    close_id(set, H5Dclose);
    close_id(t, H5Tclose);
    h5_leave(g);
    return st;
}

adze_status adze_h5_offset(adze_h5 *h, const char *path, int64_t *offset)
{
    adze_status st = ADZE_OK;
    const adze_h5_item *item = adze_h5_find(h, path);
    hid_t set = -1, dcpl = -1;
    h5_guard g = h5_enter();
    *offset = 0;
    REQUIRE(item && item->kind == ADZE_H5_TENSOR, ADZE_EINPUT, "%s: there is no tensor %s", h->path, path);
    set = H5Dopen2(h->file, path, H5P_DEFAULT);
    dcpl = set >= 0 ? H5Dget_create_plist(set) : -1;
    REQUIRE(dcpl >= 0 && H5Pget_layout(dcpl) == H5D_CONTIGUOUS, ADZE_EINPUT, "%s: %s does not lie in one piece", h->path, path);
    if (item->n_bytes > 0) *offset = (int64_t)H5Dget_offset(set); /* inside the file: looked at when it was opened */
done:
    close_id(dcpl, H5Pclose);
    close_id(set, H5Dclose);
    h5_leave(g);
    return st;
}

typedef herr_t (*text_reader)(hid_t from, hid_t type, void *to);
static herr_t read_set_text(hid_t from, hid_t type, void *to) { return H5Dread(from, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, to); }

/* A scalar text of a data set or attribute. */
static adze_status read_text(const adze_h5 *h, hid_t from, hid_t type, text_reader read, const char *what, size_t limit_bytes,
                             char **out)
{
    adze_status st = ADZE_OK;
    char *s = NULL;
    REQUIRE(H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0, ADZE_EINPUT, "%s: %s is no text of fixed length",
            h->path, what);
    size_t width = H5Tget_size(type);
    REQUIRE(width > 0 && width <= limit_bytes, ADZE_EINPUT, "%s: %s has %zu bytes, at most %zu are read", h->path, what, width,
            limit_bytes);
    REQUIRE(s = adze_calloc(width + 1, 1), ADZE_ENOMEM, "%s: %s: %zu host bytes", h->path, what, width + 1);
    H5_REQUIRE(read(from, type, s) >= 0, ADZE_EINPUT, "%s: cannot read %s", h->path, what);
    REQUIRE(utf8_valid((const unsigned char *)s, strlen(s)), ADZE_EINPUT, "%s: %s is not UTF-8", h->path, what);
    *out = s;
    s = NULL;
done:
    adze_free(s);
    return st;
}

adze_status adze_h5_read_string(adze_h5 *h, const char *path, char **s)
{
    adze_status st = ADZE_OK;
    hid_t set = -1, type = -1;
    const adze_h5_item *item = adze_h5_find(h, path);
    h5_guard g = h5_enter();
    *s = NULL;
    REQUIRE(item && item->kind == ADZE_H5_STRING, ADZE_EINPUT, "%s: there is no text %s", h->path, path);
    set = H5Dopen2(h->file, path, H5P_DEFAULT);
    type = H5Dget_type(set);
    TRY(read_text(h, set, type, read_set_text, path, H5_MAX_TEXT_BYTES, s));
done:
    close_id(type, H5Tclose);
    close_id(set, H5Dclose);
    h5_leave(g);
    return st;
}

adze_status adze_h5_read_strings(adze_h5 *h, const char *path, char ***s, int64_t *count)
{
    adze_status st = ADZE_OK;
    hid_t set = -1, type = -1;
    const adze_h5_item *item = adze_h5_find(h, path);
    char *padded = NULL, **block = NULL;
    h5_guard g = h5_enter();
    *s = NULL;
    *count = 0;
    REQUIRE(item && item->kind == ADZE_H5_STRINGS, ADZE_EINPUT, "%s: there is no list of texts %s", h->path, path);
    size_t n = (size_t)item->count, width = n ? item->n_bytes / n : 0;
    REQUIRE(padded = adze_malloc(item->n_bytes), ADZE_ENOMEM, "%s: %s: %zu host bytes", h->path, path, item->n_bytes);
    REQUIRE(block = adze_calloc(1, n * sizeof *block + n * (width + 1)), ADZE_ENOMEM, "%s: %s: no memory for %zu texts", h->path,
            path, n);
    set = H5Dopen2(h->file, path, H5P_DEFAULT);
    type = H5Dget_type(set);
    if (n > 0) H5_REQUIRE(H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, padded) >= 0, ADZE_EINPUT, "%s: cannot read %s", h->path, path);
    for (size_t i = 0; i < n; i++) {
        block[i] = (char *)(block + n) + i * (width + 1);
        memcpy(block[i], padded + i * width, width);
        REQUIRE(utf8_valid((const unsigned char *)block[i], strlen(block[i])), ADZE_EINPUT, "%s: %s holds a text that is not UTF-8",
                h->path, path);
    }
    *s = block;
    *count = item->count;
    block = NULL;
done:
    close_id(type, H5Tclose);
    close_id(set, H5Dclose);
    adze_free(padded);
    adze_free(block);
    h5_leave(g);
    return st;
}

/* ---- attributes ---- */

/* Opens an attribute with its type; the space must hold `count` elements. */
static adze_status open_attr(const adze_h5 *h, const char *path, const char *attr, int64_t count, hid_t *a, hid_t *type)
{
    adze_status st = ADZE_OK;
    hid_t space = -1, object = H5Oopen(h->file, path, H5P_DEFAULT);
    H5_REQUIRE(object >= 0, ADZE_EINPUT, "%s: there is no %s", h->path, path);
    REQUIRE(H5Aexists(object, attr) > 0, ADZE_EINPUT, "%s: %s has no attribute %s", h->path, path, attr);
    *a = H5Aopen(object, attr, H5P_DEFAULT);
    H5_REQUIRE(*a >= 0, ADZE_EINPUT, "%s: cannot open the attribute %s", h->path, attr);
    *type = H5Aget_type(*a);
    space = H5Aget_space(*a);
    H5_REQUIRE(*type >= 0 && space >= 0 && H5Sget_simple_extent_npoints(space) == count, ADZE_EINPUT,
               "%s: the attribute %s has not %lld elements", h->path, attr, (long long)count);
done:
    close_id(space, H5Sclose);
    close_id(object, H5Oclose);
    return st;
}

static adze_status read_text_attr(const adze_h5 *h, const char *path, const char *attr, char **s)
{
    adze_status st = ADZE_OK;
    hid_t a = -1, type = -1;
    *s = NULL;
    TRY(open_attr(h, path, attr, 1, &a, &type));
    TRY(read_text(h, a, type, H5Aread, attr, H5_MAX_ATTR_BYTES, s));
done:
    close_id(type, H5Tclose);
    close_id(a, H5Aclose);
    return st;
}

bool adze_h5_has(adze_h5 *h, const char *path, const char *attr)
{
    h5_guard g = h5_enter();
    bool has = adze_h5_find(h, path) && H5Aexists_by_name(h->file, path, attr, H5P_DEFAULT) > 0;
    H5Eclear2(H5E_DEFAULT);
    h5_leave(g);
    return has;
}

adze_status adze_h5_get_string(adze_h5 *h, const char *path, const char *attr, char **s)
{
    h5_guard g = h5_enter();
    adze_status st = read_text_attr(h, path, attr, s);
    h5_leave(g);
    return st;
}

static adze_status get_numbers(adze_h5 *h, const char *path, const char *attr, adze_dtype type, int64_t count, void *value)
{
    adze_status st = ADZE_OK;
    hid_t a = -1, stored = -1, want = -1;
    h5_guard g = h5_enter();
    TRY(open_attr(h, path, attr, count, &a, &stored));
    want = h5_type(type);
    REQUIRE(H5Tequal(stored, want) > 0, ADZE_EINPUT, "%s: the attribute %s is no %s", h->path, attr, adze_dtype_name(type));
    H5_REQUIRE(H5Aread(a, want, value) >= 0, ADZE_EINPUT, "%s: cannot read the attribute %s", h->path, attr);
done:
    close_id(want, H5Tclose);
    close_id(stored, H5Tclose);
    close_id(a, H5Aclose);
    h5_leave(g);
    return st;
}

adze_status adze_h5_get_int(adze_h5 *h, const char *path, const char *attr, int64_t *value)
{
    return get_numbers(h, path, attr, ADZE_DTYPE_I64, 1, value);
}

adze_status adze_h5_get_reals(adze_h5 *h, const char *path, const char *attr, double *value, int64_t count)
{
    return get_numbers(h, path, attr, ADZE_DTYPE_F64, count, value);
}
