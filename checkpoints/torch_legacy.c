/* torch_legacy.c - torch.save before version 1.6: four pickles, the list of storage keys, then the raw records.
 * Entry: read_torch_legacy(). A record's element size is known only from the persistent ids of its storage. */
#include <stdlib.h>
#include <string.h>

#include "checkpoints/torch_impl.h"
#include "core/memory.h"

enum { PROTOCOL = 1001, MAX_PICKLE_BYTES = 256 << 20 };

const unsigned char torch_legacy_magic[TORCH_LEGACY_MAGIC] = { 0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46,
                                                               0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, 0x2e };

static int compare_keys(const unsigned char *a, uint32_t n, const unsigned char *b, uint32_t m)
{
    int order = memcmp(a, b, n < m ? n : m);
    return order ? order : n < m ? -1 : n > m;
}

static int by_key(const void *a, const void *b)
{
    const pickle_storage *x = *(pickle_storage *const *)a, *y = *(pickle_storage *const *)b;
    return compare_keys(x->key, x->key_bytes, y->key, y->key_bytes);
}

/* First of the sorted storages with the key of `v`, or the number of all. */
static int64_t first_of(pickle_storage *const *sorted, int64_t n, const pickle_value *v)
{
    int64_t lo = 0, hi = n;
    while (lo < hi) {
        int64_t mid = lo + (hi - lo) / 2;
        if (compare_keys(sorted[mid]->key, sorted[mid]->key_bytes, v->bytes, v->n) < 0) lo = mid + 1;
        else hi = mid;
    }
    return lo;
}

/* One record of the data section, given to every storage of its key. */
static adze_status read_record(const pickle_value *key, pickle_storage *const *sorted, int64_t n, byte_span *rest)
{
    adze_status st = ADZE_OK;
    char shown[SHOWN_NAME];
    REFUSE_UNLESS(key->kind == PICKLE_TEXT, "bad_pickle", "a storage key that is no text");
    shown_name(key->bytes, key->n, shown);
    int64_t i = first_of(sorted, n, key);
    REFUSE_UNLESS(i < n && compare_keys(sorted[i]->key, sorted[i]->key_bytes, key->bytes, key->n) == 0, "bounds",
                  "record %s belongs to no storage", shown);
    REFUSE_UNLESS(!sorted[i]->data, "duplicate", "record %s is there twice", shown);
    REFUSE_UNLESS(rest->n_bytes >= 8, "truncated", "the file ends before record %s", shown);
    int64_t count = (int64_t)little_u64(rest->data);
    const pickle_storage *first = sorted[i];
    size_t n_bytes = torch_storage_bytes(first);
    REFUSE_UNLESS(count == first->count, "bounds", "record %s has %lld elements, its storage %lld", shown, (long long)count,
                  (long long)first->count);
    REFUSE_UNLESS(rest->n_bytes - 8 >= n_bytes, "truncated", "record %s has %zu of %zu bytes", shown, rest->n_bytes - 8, n_bytes);
    for (; i < n && compare_keys(sorted[i]->key, sorted[i]->key_bytes, key->bytes, key->n) == 0; i++) {
        REFUSE_UNLESS(sorted[i]->count == first->count && sorted[i]->type == first->type, "bounds",
                      "storage %s is described in two ways", shown);
        sorted[i]->data = rest->data + 8;
    }
    rest->data += 8 + n_bytes;
    rest->n_bytes -= 8 + n_bytes;
done:
    return st;
}

static adze_status no_record(void *user, pickle_storage *s)
{
    char shown[SHOWN_NAME];
    (void)user;
    return adze_fail(ADZE_EINPUT, "bounds: the file has no record for storage %s", shown_name(s->key, s->key_bytes, shown));
}

/* One pickle from the front of `rest`. */
static adze_status next_pickle(pickle *p, byte_span *rest, pickle_ref *root)
{
    adze_status st = ADZE_OK;
    size_t used, n = rest->n_bytes < MAX_PICKLE_BYTES ? rest->n_bytes : MAX_PICKLE_BYTES;
    TRY(pickle_run(p, rest->data, n, &used, root));
    rest->data += used;
    rest->n_bytes -= used;
done:
    return st;
}

adze_status read_torch_legacy(adze_tensor_file *f, byte_span file)
{
    adze_status st = ADZE_OK;
    pickle p = { .strict = f->strict, .legacy = true };
    pickle_storage **sorted = NULL;
    pickle_ref protocol, system, root, keys;
    byte_span rest = { file.data + TORCH_LEGACY_MAGIC, file.n_bytes - TORCH_LEGACY_MAGIC };
    f->format = "torch_legacy";
    TRY(next_pickle(&p, &rest, &protocol));
    REFUSE_UNLESS(p.value[protocol].kind == PICKLE_INT && p.value[protocol].integer == PROTOCOL, "bad_header",
                  "the protocol is not %d", PROTOCOL);
    TRY(next_pickle(&p, &rest, &system));
    const pickle_value *little = pickle_get(&p, &p.value[system], "little_endian");
    REFUSE_UNLESS(little && little->kind == PICKLE_BOOL, "bad_header", "the system information has no byte order");
    REFUSE_UNLESS(little->integer, "endianness", "the file is big-endian, only little-endian ones are read");
    TRY(next_pickle(&p, &rest, &root));
    TRY(next_pickle(&p, &rest, &keys));
    const pickle_value *list = &p.value[keys];
    REFUSE_UNLESS(list->kind == PICKLE_LIST, "bad_header", "the storage keys are no list");
    REQUIRE(sorted = adze_malloc((size_t)p.n_storages * sizeof *sorted), ADZE_ENOMEM, "no memory for %lld storages",
            (long long)p.n_storages);
    for (int64_t i = 0; i < p.n_storages; i++) sorted[i] = &p.storage[i];
    if (p.n_storages > 0) qsort(sorted, (size_t)p.n_storages, sizeof *sorted, by_key);
    for (uint32_t i = 0; i < list->n; i++) TRY(read_record(&p.value[list->item[i]], sorted, p.n_storages, &rest));
    if (rest.n_bytes > 0) tensor_file_warn(f, "%zu bytes behind the last record", rest.n_bytes);
    TRY(torch_collect(f, &p, root, no_record, NULL));
done:
    adze_free(sorted);
    pickle_destroy(&p);
    return st;
}
