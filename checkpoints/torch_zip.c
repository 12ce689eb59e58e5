/* torch_zip.c - what a zip archive can hold: a torch.save file, a TorchScript module, or numpy arrays (npz).
 * Entry: read_torch_zip(). Code inside a TorchScript archive is never looked at. */
#include <string.h>

#include "checkpoints/archive.h"
#include "checkpoints/torch_impl.h"
#include "core/memory.h"

enum { MAX_PICKLE_BYTES = 256 << 20 };

typedef struct {
    adze_tensor_file *f;
    const adze_archive *a;
    const char *top; /* "archive/", not terminated */
    size_t top_bytes;
} torch_archive;

static bool ends_with(const adze_archive_member *m, const char *tail)
{
    size_t n = strlen(tail);
    return m->name_bytes >= n && memcmp(m->name + m->name_bytes - n, tail, n) == 0;
}

/* Member "TOP/FOLDERNAME" of the archive. */
static adze_status find_member(const torch_archive *t, const char *folder, const void *name, size_t name_bytes,
                               const adze_archive_member **m)
{
    adze_status st = ADZE_OK;
    adze_text full = ADZE_TEXT_EMPTY;
    adze_text_append_n(&full, t->top, t->top_bytes);
    adze_text_append(&full, folder);
    adze_text_append_n(&full, name, name_bytes);
    TRY(adze_text_check(&full, "member name"));
    *m = adze_archive_find(t->a, full.s, full.n_bytes);
done:
    adze_text_destroy(&full);
    return st;
}

static adze_status find_record(void *user, pickle_storage *s)
{
    adze_status st = ADZE_OK;
    torch_archive *t = user;
    const adze_archive_member *m = NULL;
    char shown[SHOWN_NAME];
    size_t want = torch_storage_bytes(s);
    shown_name(s->key, s->key_bytes, shown);
    TRY(find_member(t, "data/", s->key, s->key_bytes, &m));
    if (!m) TRY(find_member(t, "tensors/", s->key, s->key_bytes, &m));
    REFUSE_UNLESS(m, "bounds", "the archive has no record data/%s", shown);
    REFUSE_UNLESS(m->method == 0, "bad_zip", "the record data/%s is compressed", shown);
    REFUSE_UNLESS(m->stored_bytes >= want, "bounds", "the record data/%s has %llu bytes, its storage %zu", shown,
                  (unsigned long long)m->stored_bytes, want);
    if (m->stored_bytes > want)
        tensor_file_warn(t->f, "record data/%s has %llu bytes more than its storage", shown,
                         (unsigned long long)(m->stored_bytes - want));
    if (!adze_archive_crc_ok(t->a, m)) tensor_file_warn(t->f, "record data/%s has a wrong checksum", shown);
    s->data = t->a->data + m->data_at;
done:
    return st;
}

static adze_status check_byte_order(const torch_archive *t)
{
    adze_status st = ADZE_OK;
    const adze_archive_member *m = NULL;
    const unsigned char *order;
    unsigned char *owned = NULL;
    char shown[SHOWN_NAME];
    TRY(find_member(t, "", "byteorder", 9, &m));
    if (!m) goto done; /* older files: little */
    TRY(adze_archive_read(t->a, m, 64, false, &order, &owned));
    REFUSE_UNLESS(m->full_bytes == 6 && memcmp(order, "little", 6) == 0, "endianness", "the byte order is '%s', only little is read",
                  shown_name(order, (size_t)m->full_bytes, shown));
done:
    adze_free(owned);
    return st;
}

static adze_status read_pickled(torch_archive *t, const adze_archive_member *m)
{
    adze_status st = ADZE_OK;
    pickle p = { .strict = t->f->strict };
    const unsigned char *data;
    unsigned char *owned = NULL;
    size_t used;
    pickle_ref root;
    TRY(check_byte_order(t));
    TRY(adze_archive_read(t->a, m, MAX_PICKLE_BYTES, true, &data, &owned));
    TRY(pickle_run(&p, data, (size_t)m->full_bytes, &used, &root));
    if (used < m->full_bytes) tensor_file_warn(t->f, "%zu bytes behind the pickle", (size_t)m->full_bytes - used);
    TRY(torch_collect(t->f, &p, root, find_record, t));
done:
    pickle_destroy(&p);
    adze_free(owned);
    return st;
}

static adze_status read_arrays(adze_tensor_file *f, const adze_archive *a)
{
    adze_status st = ADZE_OK;
    const unsigned char *data;
    unsigned char *owned = NULL;
    char shown[SHOWN_NAME];
    f->format = "npz";
    for (size_t i = 0; i < a->count; i++) {
        const adze_archive_member *m = &a->member[i];
        shown_name(m->name, m->name_bytes, shown);
        if (!ends_with(m, ".npy")) {
            tensor_file_warn(f, "member '%s' is no array", shown);
            continue;
        }
        REFUSE_UNLESS(utf8_valid((const unsigned char *)m->name, m->name_bytes), "unsafe_name", "the name '%s' is not UTF-8", shown);
        TRY(adze_archive_read(a, m, f->limit_bytes - f->used_bytes, true, &data, &owned));
        st = read_npy(f, (byte_span){ data, (size_t)m->full_bytes }, m->name, m->name_bytes - 4);
        adze_free(owned);
        owned = NULL;
        if (st != ADZE_OK) goto done;
    }
done:
    adze_free(owned);
    return st;
}

adze_status read_torch_zip(adze_tensor_file *f, byte_span file)
{
    adze_status st = ADZE_OK;
    adze_archive a = { .count = 0 };
    torch_archive t = { .f = f, .a = &a };
    const adze_archive_member *main_pickle = NULL, *constants = NULL;
    bool arrays = false;
    TRY(adze_archive_open(&a, file.data, file.n_bytes));
    for (size_t i = 0; i < a.count; i++) {
        const adze_archive_member *m = &a.member[i];
        arrays = arrays || ends_with(m, ".npy");
        if (!ends_with(m, "/data.pkl")) continue;
        REFUSE_UNLESS(!main_pickle, "bad_zip", "two members are named data.pkl");
        main_pickle = m;
    }
    if (!main_pickle && arrays) {
        TRY(read_arrays(f, &a));
        goto done;
    }
    REFUSE_UNLESS(main_pickle, "bad_zip", "the archive holds neither data.pkl nor .npy members");
    t.top = main_pickle->name;
    t.top_bytes = main_pickle->name_bytes - strlen("data.pkl");
    TRY(find_member(&t, "", "constants.pkl", 13, &constants));
    f->format = constants ? "torchscript" : "torch_zip";
    TRY(read_pickled(&t, main_pickle));
done:
    adze_archive_close(&a);
    return st;
}
