/* feature_cache.c - frozen features by picture. Entry: adze_feature_cache_create(), adze_feature_cache_put(), adze_feature_cache_get().
 * In memory each value lies in a block of its own, (n, floats), on the host or on the device; what a device reads from the host is pinned. In a file each value has a table of where its rows lie. */
#include "train/feature_cache.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/backend.h"
#include "core/memory.h"

typedef struct {
    adze_feature_value value;
    float *block;          /* host memory: (n, floats), owned */
    bool pinned;           /* the block is, for the device */
    float *device;         /* device memory: (n, floats), owned */
    adze_feature_row *row; /* file: (n), owned */
    bool *seen;            /* file: (n), owned: checked already */
    int64_t n_put;
} kept_value;

struct adze_feature_cache {
    int64_t n;
    adze_ctx *ctx;           /* borrowed: of the device that reads; NULL: the host does */
    kept_value kept[ADZE_FEATURE_CACHE_VALUES];
    int n_values;
    bool filled;             /* memory: everything is there */
    adze_feature_file *file; /* owned; NULL: memory */
    adze_digest *picture;    /* owned, (n), with a file */
    int64_t *first;          /* owned, (n), with a file: the first picture with the same bytes */
};

size_t adze_feature_cache_bytes(int64_t n, const adze_feature_value *value, int n_values)
{
    size_t n_bytes = 0;
    for (int v = 0; v < n_values; v++) n_bytes += (size_t)(n * value[v].floats) * sizeof(float);
    return n_bytes;
}

size_t adze_feature_cache_table_bytes(int64_t n, int n_values)
{
    size_t per_value = sizeof(adze_feature_row) + sizeof(bool) + 2 * sizeof(adze_digest);
    return (size_t)n * (sizeof(adze_digest) + sizeof(int64_t) + (size_t)n_values * per_value);
}

static adze_status make_blocks(adze_feature_cache *c)
{
    adze_status st = ADZE_OK;
    for (int v = 0; v < c->n_values; v++) {
        kept_value *k = &c->kept[v];
        size_t n_bytes = (size_t)(c->n * k->value.floats) * sizeof(float);
        REQUIRE(k->block = adze_malloc(n_bytes), ADZE_ENOMEM,
                "%zu bytes for features of %" PRId64 " pictures; --cache FILE keeps them on disk, --cache off nowhere", n_bytes, c->n);
        if (c->ctx) TRY(c->ctx->backend->pin(c->ctx, k->block, n_bytes));
        k->pinned = c->ctx != NULL;
    }
done:
    return st;
}

static adze_status make_device_blocks(adze_feature_cache *c)
{
    for (int v = 0; v < c->n_values; v++) {
        void *block;
        size_t n_bytes = (size_t)(c->n * c->kept[v].value.floats) * sizeof(float);
        adze_status st = c->ctx->backend->alloc(c->ctx, n_bytes, ADZE_BLOCK_FEATURES, &block);
        if (st != ADZE_OK) return st;
        c->kept[v].device = block;
    }
    return ADZE_OK;
}

typedef struct {
    adze_digest digest;
    int64_t i;
} numbered;

static int by_digest(const void *a, const void *b)
{
    const numbered *x = a, *y = b;
    int order = memcmp(&x->digest, &y->digest, sizeof x->digest);
    return order ? order : (x->i > y->i) - (x->i < y->i);
}

/* Finds equal pictures. */
static adze_status find_first(adze_feature_cache *c)
{
    adze_status st = ADZE_OK;
    numbered *list = adze_malloc((size_t)c->n * sizeof *list);
    REQUIRE(list, ADZE_ENOMEM, "feature cache: a table of %" PRId64 " pictures", c->n);
    for (int64_t i = 0; i < c->n; i++) list[i] = (numbered){ c->picture[i], i };
    qsort(list, (size_t)c->n, sizeof *list, by_digest);
    for (int64_t k = 0; k < c->n; k++) {
        bool again = k > 0 && memcmp(&list[k].digest, &list[k - 1].digest, sizeof list->digest) == 0;
        c->first[list[k].i] = again ? c->first[list[k - 1].i] : list[k].i;
    }
done:
    adze_free(list);
    return st;
}

/* Finds what the file holds. */
static adze_status find_rows(adze_feature_cache *c)
{
    adze_status st = ADZE_OK;
    for (int v = 0; v < c->n_values; v++)
        TRY(adze_feature_file_find(c->file, &c->kept[v].value.key, c->kept[v].value.floats, c->picture, c->n, c->kept[v].row));
done:
    return st;
}

static adze_status open_file(adze_feature_cache *c, const adze_feature_cache_opts *opts)
{
    adze_status st = ADZE_OK;
    size_t n = (size_t)c->n;
    c->picture = adze_malloc(n * sizeof *c->picture);
    c->first = adze_malloc(n * sizeof *c->first);
    REQUIRE(c->picture && c->first, ADZE_ENOMEM, "feature cache: a table of %" PRId64 " pictures", c->n);
    memcpy(c->picture, opts->picture, n * sizeof *c->picture);
    for (int v = 0; v < c->n_values; v++) {
        c->kept[v].row = adze_malloc(n * sizeof *c->kept[v].row);
        c->kept[v].seen = adze_calloc(n, sizeof *c->kept[v].seen);
        REQUIRE(c->kept[v].row && c->kept[v].seen, ADZE_ENOMEM, "feature cache: a table of %" PRId64 " pictures", c->n);
    }
    TRY(find_first(c));
    TRY(adze_feature_file_open(&c->file, opts->path, opts->replace));
    TRY(find_rows(c));
done:
    return st;
}

adze_status adze_feature_cache_create(adze_feature_cache **out, const adze_feature_cache_opts *opts)
{
    adze_status st = ADZE_OK;
    *out = NULL;
    adze_feature_cache *c = adze_calloc(1, sizeof *c);
    REQUIRE(c, ADZE_ENOMEM, "feature cache: %zu host bytes", sizeof *c);
    REQUIRE(opts->n > 0 && opts->n_values <= ADZE_FEATURE_CACHE_VALUES, ADZE_EINTERNAL, "feature cache: %d values, at most %d",
            opts->n_values, ADZE_FEATURE_CACHE_VALUES);
    c->n = opts->n;
    c->n_values = opts->n_values;
    for (int v = 0; v < c->n_values; v++) c->kept[v].value = opts->value[v];
    if (!opts->path && opts->ctx && !opts->ctx->backend->host_memory) c->ctx = opts->ctx;
    assert(c->ctx || !opts->on_device);
    TRY(opts->path ? open_file(c, opts) : opts->on_device ? make_device_blocks(c) : make_blocks(c));
    *out = c;
    c = NULL;
done:
    adze_feature_cache_destroy(c);
    return st;
}

void adze_feature_cache_destroy(adze_feature_cache *c)
{
    if (!c) return;
    for (int v = 0; v < c->n_values; v++) {
        if (c->kept[v].pinned) c->ctx->backend->unpin(c->ctx, c->kept[v].block);
        if (c->kept[v].device) c->ctx->backend->free(c->ctx, c->kept[v].device);
        adze_free(c->kept[v].block);
        adze_free(c->kept[v].row);
        adze_free(c->kept[v].seen);
    }
    adze_feature_file_close(c->file);
    adze_free(c->picture);
    adze_free(c->first);
    adze_free(c);
}

/* Whether value v of picture i has to be put: of equal pictures the first one. */
static bool lacks(const adze_feature_cache *c, int v, int64_t i)
{
    return c->file ? c->kept[v].row[i].offset < 0 && c->first[i] == i : !c->filled;
}

int64_t adze_feature_cache_missing(const adze_feature_cache *c, int64_t *order)
{
    int64_t n = 0;
    for (int64_t i = 0; i < c->n; i++) {
        bool missing = false;
        for (int v = 0; v < c->n_values; v++) missing = missing || lacks(c, v, i);
        if (missing) order[n++] = i;
    }
    return n;
}

adze_status adze_feature_cache_begin(adze_feature_cache *c)
{
    adze_digest key[ADZE_FEATURE_CACHE_VALUES];
    int64_t R[ADZE_FEATURE_CACHE_VALUES] = { 0 }, D[ADZE_FEATURE_CACHE_VALUES];
    for (int v = 0; v < c->n_values; v++) {
        key[v] = c->kept[v].value.key;
        D[v] = c->kept[v].value.floats;
        c->kept[v].n_put = 0;
        for (int64_t i = 0; i < c->n; i++) R[v] += lacks(c, v, i);
    }
    return c->file ? adze_feature_file_begin(c->file, c->n_values, key, R, D) : ADZE_OK;
}

adze_status adze_feature_cache_put(adze_feature_cache *c, int v, int64_t i, const float *x)
{
    kept_value *k = &c->kept[v];
    assert(v < c->n_values && i >= 0 && i < c->n);
    if (!lacks(c, v, i)) return ADZE_OK;
    if (c->file) return adze_feature_file_write(c->file, v, k->n_put++, &c->picture[i], x);
    memcpy(k->block + i * k->value.floats, x, (size_t)k->value.floats * sizeof *x);
    return ADZE_OK;
}

adze_status adze_feature_cache_end(adze_feature_cache *c)
{
    adze_status st = ADZE_OK;
    c->filled = true;
    if (!c->file) goto done;
    TRY(adze_feature_file_commit(c->file));
    TRY(find_rows(c));
done:
    return st;
}

adze_status adze_feature_cache_get(adze_feature_cache *c, int v, int64_t i, float *to)
{
    kept_value *k = &c->kept[v];
    assert(v < c->n_values && i >= 0 && i < c->n && !lacks(c, v, i));
    if (!c->file) {
        memcpy(to, k->block + i * k->value.floats, (size_t)k->value.floats * sizeof *to);
        return ADZE_OK;
    }
    adze_status st = adze_feature_file_read(c->file, &k->value.key, &c->picture[i], &k->row[i], k->value.floats, !k->seen[i], to);
    k->seen[i] = st == ADZE_OK;
    return st;
}

bool adze_feature_cache_on_device(const adze_feature_cache *c) { return c->n_values > 0 && c->kept[0].device; }
bool adze_feature_cache_feeds_device(const adze_feature_cache *c) { return c->ctx != NULL; }

adze_status adze_feature_cache_put_device(adze_feature_cache *c, int v, int64_t i, const float *x)
{
    const kept_value *k = &c->kept[v];
    assert(v < c->n_values && i >= 0 && i < c->n && k->device);
    return c->ctx->backend->copy(c->ctx, k->device + i * k->value.floats, x, (size_t)k->value.floats * sizeof *x);
}

adze_status adze_feature_cache_get_device(adze_feature_cache *c, int v, int64_t i, float *to)
{
    const kept_value *k = &c->kept[v];
    size_t n_bytes = (size_t)k->value.floats * sizeof *to;
    assert(v < c->n_values && i >= 0 && i < c->n && c->filled && c->ctx);
    return k->device ? c->ctx->backend->copy(c->ctx, to, k->device + i * k->value.floats, n_bytes)
                     : c->ctx->backend->write_pinned(c->ctx, to, k->block + i * k->value.floats, n_bytes);
}

void adze_feature_cache_ahead(const adze_feature_cache *c, int64_t i)
{
    for (int v = 0; v < c->n_values && c->file; v++) adze_feature_file_ahead(c->file, &c->kept[v].row[i], c->kept[v].value.floats);
}
