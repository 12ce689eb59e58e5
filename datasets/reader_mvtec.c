/* reader_mvtec.c - MVTec AD's layout and its relatives: MPDD, RAD, BTAD (ok/ko), MIRAD (flat masks), LOCO without its
 * several masks. Entry: adze_read_mvtec_class(). */
#include <inttypes.h>
#include <string.h>

#include "core/memory.h"
#include "datasets/dataset_build.h"

/* Adds every picture of one folder as good. */
static adze_status add_good(adze_dataset *ds, const char *class_name, adze_split split, const char *folder)
{
    adze_status st = ADZE_OK;
    adze_listing list;
    REQUIRE(folder, ADZE_ENOMEM, "data set: no memory for a path");
    TRY(adze_ds_list(ds, folder, &list));
    for (int64_t i = 0; i < list.n_files; i++)
        TRY(adze_ds_add(ds, class_name, split, ADZE_LABEL_GOOD, "good", adze_ds_join(ds, folder, list.files[i]), NULL));
done:
    return st;
}

static adze_status read_train(adze_dataset *ds, const char *class_name, const char *below)
{
    adze_status st = ADZE_OK;
    adze_listing list;
    const char *train = adze_ds_join(ds, below, "train");
    REQUIRE(train, ADZE_ENOMEM, "data set: no memory for a path");
    TRY(adze_ds_list(ds, train, &list));
    for (int64_t i = 0; i < list.n_folders; i++) {
        const char *folder = adze_ds_join(ds, train, list.folders[i]);
        if (adze_is_good_name(list.folders[i])) TRY(add_good(ds, class_name, ADZE_SPLIT_TRAIN, folder));
        else
            TRY(adze_ds_problem(ds, false, class_name, folder ? folder : train,
                                "ignored: training pictures are expected in train/good (or ok, normal)"));
    }
    if (list.n_files > 0)
        TRY(adze_ds_problem(ds, false, class_name, train, "%" PRId64 " pictures directly in train/ ignored: move them to train/good",
                            list.n_files));
done:
    return st;
}

/* Pictures and defect folders of the defective test pictures, in order. */
typedef struct {
    const char **paths, **defects, **masks; /* owned, capacity each */
    int64_t n, capacity;
} bad_list;

static void bad_destroy(bad_list *b)
{
    adze_free(b->defects);
    adze_free(b->masks);
    adze_free(b->paths);
}

static adze_status bad_reserve(bad_list *b, int64_t extra)
{
    const char ***each[3] = { &b->paths, &b->defects, &b->masks };
    if (b->n + extra <= b->capacity) return ADZE_OK;
    int64_t grown = 2 * b->capacity + extra;
    for (int i = 0; i < 3; i++) {
        const char **p = adze_realloc(*each[i], (size_t)grown * sizeof *p);
        if (!p) return adze_fail(ADZE_ENOMEM, "data set: no memory for %" PRId64 " defective pictures", grown);
        *each[i] = p;
    }
    b->capacity = grown;
    return ADZE_OK;
}

static adze_status add_bad(adze_dataset *ds, bad_list *bad, const char *folder, const char *defect)
{
    adze_status st = ADZE_OK;
    adze_listing list;
    TRY(adze_ds_list(ds, folder, &list));
    TRY(bad_reserve(bad, list.n_files));
    for (int64_t i = 0; i < list.n_files; i++, bad->n++) {
        bad->defects[bad->n] = defect;
        REQUIRE(bad->paths[bad->n] = adze_ds_join(ds, folder, list.files[i]), ADZE_ENOMEM, "data set: no memory for a path");
    }
done:
    return st;
}

adze_status adze_read_mvtec_class(adze_dataset *ds, const char *class_name, const char *below)
{
    adze_status st = ADZE_OK;
    bad_list bad = { NULL, NULL, NULL, 0, 0 };
    adze_listing list;
    TRY(adze_ds_add_class(ds, class_name));
    TRY(read_train(ds, class_name, below));
    const char *test = adze_ds_join(ds, below, "test");
    REQUIRE(test, ADZE_ENOMEM, "data set: no memory for a path");
    TRY(adze_ds_list(ds, test, &list));
    for (int64_t i = 0; i < list.n_folders; i++) {
        const char *folder = adze_ds_join(ds, test, list.folders[i]);
        REQUIRE(folder, ADZE_ENOMEM, "data set: no memory for a path");
        if (adze_is_good_name(list.folders[i])) TRY(add_good(ds, class_name, ADZE_SPLIT_TEST, folder));
        else TRY(add_bad(ds, &bad, folder, list.folders[i]));
    }
    if (list.n_files > 0)
        TRY(adze_ds_problem(ds, false, class_name, test, "%" PRId64 " pictures directly in test/ ignored: they have no label",
                            list.n_files));
    TRY(adze_match_masks(ds, class_name, below, bad.paths, bad.defects, bad.n, bad.masks));
    for (int64_t i = 0; i < bad.n; i++)
        TRY(adze_ds_add(ds, class_name, ADZE_SPLIT_TEST, ADZE_LABEL_BAD, bad.defects[i], bad.paths[i], bad.masks[i]));
done:
    bad_destroy(&bad);
    return st;
}
