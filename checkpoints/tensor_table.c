/* tensor_table.c - names and data of the tensors in a checkpoint or weights file. Entry: tensor_table_create(). */
#include <string.h>

#include "checkpoints/tensor_table_impl.h"
#include "core/memory.h"

static const char home[] = "/model/";

adze_status tensor_table_create(tensor_table *t, adze_h5 *h)
{
    adze_status st = ADZE_OK;
    const adze_h5_item *item;
    int64_t n = 0;
    *t = (tensor_table){ .h = h };
    for (int64_t i = 0; (item = adze_h5_at(h, i)); i++) n += item->kind == ADZE_H5_TENSOR;
    REQUIRE(t->tensor = adze_calloc((size_t)n, sizeof *t->tensor), ADZE_ENOMEM, "list of tensors: no memory for %lld", (long long)n);
    for (int64_t i = 0; (item = adze_h5_at(h, i)); i++) {
        if (item->kind != ADZE_H5_TENSOR) continue;
        bool at_home = strncmp(item->path, home, sizeof home - 1) == 0;
        adze_stored_tensor *to = &t->tensor[t->count++];
        *to = (adze_stored_tensor){ .name = item->path + (at_home ? sizeof home - 1 : 1), .type = item->type, .rank = item->rank,
                                    .count = item->count, .n_bytes = item->n_bytes };
        memcpy(to->dim, item->dim, sizeof to->dim);
    }
done:
    return st;
}

void tensor_table_destroy(tensor_table *t)
{
    adze_free(t->tensor);
    adze_free(t->bytes);
    *t = (tensor_table){ 0 };
}

const adze_stored_tensor *tensor_table_lookup(const tensor_table *t, const char *name)
{
    for (int64_t i = 0; i < t->count; i++)
        if (strcmp(t->tensor[i].name, name) == 0) return &t->tensor[i];
    return NULL;
}

char *tensor_table_path(const char *name)
{
    return adze_strprintf("%s%s", strchr(name, '/') ? "/" : home, name);
}

adze_status tensor_table_read(tensor_table *t, const char *file, const char *name, bool as_f32, const adze_stored_tensor **out)
{
    adze_status st = ADZE_OK;
    char *path = NULL;
    unsigned char *wide = NULL;
    *out = NULL;
    adze_free(t->bytes);
    t->bytes = NULL;
    const adze_stored_tensor *found = tensor_table_lookup(t, name);
    REQUIRE(found, ADZE_EINPUT, "%s: there is no tensor '%s'", file, name);
    t->last = *found;
    REQUIRE(path = tensor_table_path(name), ADZE_ENOMEM, "%s: no memory for a name", file);
    REQUIRE(t->bytes = adze_malloc(found->n_bytes), ADZE_ENOMEM, "%s: %s: %zu host bytes", file, name, found->n_bytes);
    TRY(adze_h5_read(t->h, path, found->type, found->count, t->bytes));
    if (as_f32 && found->type != ADZE_DTYPE_F32) {
        size_t n = (size_t)found->count * sizeof(float);
        REQUIRE(wide = adze_malloc(n), ADZE_ENOMEM, "%s: %s: %zu host bytes", file, name, n);
        adze_dtype_to_f32(found->type, t->bytes, found->count, (float *)wide);
        adze_free(t->bytes);
        t->bytes = wide;
        wide = NULL;
        t->last.type = ADZE_DTYPE_F32;
        t->last.n_bytes = n;
    }
    t->last.data = t->bytes;
    *out = &t->last;
done:
    adze_free(wide);
    adze_free(path);
    return st;
}
