/* textures.c - pictures to paste. Entry: textures_create(). They are decoded anew whenever one is drawn: a texture library does
 * not fit in memory. */
#include "train/textures.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/memory.h"

struct textures {
    adze_dataset *folder;          /* owned; NULL: the data set's own pictures */
    const adze_data_item **item;   /* (n), in the order of class and path; owned */
    int64_t n;
    const adze_data_item *trained; /* borrowed */
    adze_loader_opts reader;
    char what[160];
};

/* Whether a data set's item can be a texture. */
static bool fits(const textures *t, const adze_data_item *item)
{
    return t->folder || (item->split == ADZE_SPLIT_TRAIN && item->label == ADZE_LABEL_GOOD);
}

/* Whether two classes at least are among the textures: else nobody gets one. */
static bool several_classes(const textures *t)
{
    return t->n > 0 && strcmp(t->item[0]->class_name, t->item[t->n - 1]->class_name) != 0;
}

adze_status textures_create(textures **out, const char *folder, const adze_dataset *data, const adze_data_item *items, int64_t n)
{
    adze_status st = ADZE_OK;
    int64_t n_all;
    *out = NULL;
    textures *t = adze_calloc(1, sizeof *t);
    REQUIRE(t, ADZE_ENOMEM, "textures: host bytes");
    if (folder) TRY(adze_dataset_open_files(&t->folder, &folder, 1));
    const adze_data_item *all = adze_dataset_all(folder ? t->folder : data, &n_all);
    REQUIRE(t->item = adze_calloc((size_t)n_all + 1, sizeof *t->item), ADZE_ENOMEM, "textures: a list of %" PRId64 " pictures", n_all);
    for (int64_t i = 0; i < n_all; i++)
        if (fits(t, &all[i])) t->item[t->n++] = &all[i];
    t->trained = n > 0 ? items : NULL;
    if (folder) snprintf(t->what, sizeof t->what, "%" PRId64 " pictures below %.100s", t->n, folder);
    else if (several_classes(t)) snprintf(t->what, sizeof t->what, "good pictures of other classes, %" PRId64 " in all", t->n);
    else snprintf(t->what, sizeof t->what, "built-in patterns");
    t->reader = ADZE_LOADER_OPTS;
    *out = t;
    t = NULL;
done:
    textures_destroy(t);
    return st;
}

void textures_destroy(textures *t)
{
    if (!t) return;
    adze_dataset_destroy(t->folder);
    adze_free(t->item);
    adze_free(t);
}

void textures_read_as(textures *t, const adze_loader_opts *opts) { t->reader = *opts; }

static adze_status read_texture(void *user, int64_t i, unsigned char *rgb)
{
    const textures *t = user;
    return adze_loader_read_picture(&t->reader, t->item[i]->image_path, rgb);
}

/* The textures of the class of training picture `item`: they lie in a row. */
static void own_class(void *user, int64_t item, int64_t *first, int64_t *count)
{
    const textures *t = user;
    const char *name = t->trained[item].class_name;
    for (*first = 0; *first < t->n && strcmp(t->item[*first]->class_name, name) != 0;) ++*first;
    for (*count = 0; *first + *count < t->n && strcmp(t->item[*first + *count]->class_name, name) == 0;) ++*count;
}

adze_texture_source textures_source(textures *t)
{
    return (adze_texture_source){ .n = t->n, .read = read_texture, .own = t->folder ? NULL : own_class, .what = t->what, .user = t };
}
