/* reader_masks.c - pairs defective pictures with their masks by one rule per class. Entry: adze_match_masks().
 *
 * For test/DEFECT/STEM.EXT the candidates are, with any picture extension,
 *   0  ground_truth/DEFECT/STEM_mask     MVTec AD, MPDD
 *   1  ground_truth/DEFECT/STEM          BTAD, VisA's copies
 *   2  ground_truth/STEM_mask            flat folders: MIRAD
 *   3  ground_truth/STEM
 * The rule that fits most pictures is the class's; a picture for which it finds none or two masks is an error. If no rule
 * fits any picture and there are as many masks as pictures, they are paired in sorted order, with a warning. */
#include <inttypes.h>
#include <string.h>

#include "core/file.h"
#include "core/memory.h"
#include "datasets/dataset_build.h"

enum { N_RULES = 4 };

static const char *const rule_text[N_RULES] = { "ground_truth/DEFECT/STEM_mask", "ground_truth/DEFECT/STEM",
                                                "ground_truth/STEM_mask", "ground_truth/STEM" };

typedef struct {
    adze_dataset *ds;
    const char *class_name, *ground_truth;
    adze_listing flat;
    adze_listing *by_defect; /* listing of ground_truth/DEFECT per folder of flat; borrowed from ds */
} masks_of_class;

static const adze_listing *listing_of(const masks_of_class *m, const char *defect)
{
    for (int64_t i = 0; i < m->flat.n_folders; i++)
        if (strcmp(m->flat.folders[i], defect) == 0) return &m->by_defect[i];
    return NULL;
}

/* Files in the sorted list that are `stem` + suffix + "." + picture extension: how many, and the first. */
static int64_t find(const adze_listing *list, const char *name, const char *suffix, const char **found)
{
    size_t stem = adze_stem_length(name), tail = strlen(suffix);
    int64_t lo = 0, hi = list->n_files, n = 0;
    while (lo < hi) {
        int64_t mid = lo + (hi - lo) / 2;
        if (strncmp(list->files[mid], name, stem) < 0) lo = mid + 1;
        else hi = mid;
    }
    for (; lo < list->n_files && strncmp(list->files[lo], name, stem) == 0; lo++) {
        const char *rest = list->files[lo] + stem;
        if (adze_stem_length(list->files[lo]) != stem + tail || strncmp(rest, suffix, tail) != 0) continue;
        if (n++ == 0) *found = list->files[lo];
    }
    return n;
}

/* Number of masks that the rule finds; *path gets the first one, below the root. */
static adze_status apply(const masks_of_class *m, int rule, const char *picture, const char *defect, int64_t *n, const char **path)
{
    const adze_listing *list = rule < 2 ? listing_of(m, defect) : &m->flat;
    const char *found = NULL;
    *path = NULL;
    *n = list ? find(list, adze_path_base(picture), rule % 2 == 0 ? "_mask" : "", &found) : 0;
    if (*n == 0) return ADZE_OK;
    *path = rule < 2 ? adze_ds_text(m->ds, "%s/%s/%s", m->ground_truth, defect, found)
                     : adze_ds_text(m->ds, "%s/%s", m->ground_truth, found);
    return *path ? ADZE_OK : adze_fail(ADZE_ENOMEM, "data set: no memory for a path");
}

static adze_status pair_by_position(const masks_of_class *m, const char *const *paths, const char *const *defects, int64_t n,
                                    const char **masks)
{
    adze_status st = ADZE_OK;
    bool flat = m->flat.n_files == n, folders = false;
    for (int64_t i = 0; i < n && !flat; i++) { /* per folder: as many masks as pictures */
        const adze_listing *list = listing_of(m, defects[i]);
        int64_t same = 0;
        for (int64_t j = 0; j < n; j++) same += strcmp(defects[j], defects[i]) == 0;
        folders = list && list->n_files == same;
        if (!folders) break;
    }
    if (!flat && !folders) {
        for (int64_t i = 0; i < n; i++)
            TRY(adze_ds_problem(m->ds, true, m->class_name, paths[i],
                                "defect '%s' without a mask in %s, and no other picture of the class has one by a known name",
                                defects[i], m->ground_truth));
        goto done;
    }
    for (int64_t i = 0; i < n; i++) {
        int64_t at = 0;
        for (int64_t j = 0; j < i; j++) at += flat || strcmp(defects[j], defects[i]) == 0;
        const adze_listing *list = flat ? &m->flat : listing_of(m, defects[i]);
        masks[i] = flat ? adze_ds_text(m->ds, "%s/%s", m->ground_truth, list->files[at])
                        : adze_ds_text(m->ds, "%s/%s/%s", m->ground_truth, defects[i], list->files[at]);
        REQUIRE(masks[i], ADZE_ENOMEM, "data set: no memory for a path");
    }
    if (flat) adze_ds_set_layout(m->ds, ADZE_LAYOUT_MIRAD);
    TRY(adze_ds_problem(m->ds, false, m->class_name, m->ground_truth,
                        "mask names fit no known rule; %" PRId64 " masks paired with the pictures in sorted order", n));
done:
    return st;
}

static adze_status match(const masks_of_class *m, const char *const *paths, const char *const *defects, int64_t n,
                         const char **masks)
{
    adze_status st = ADZE_OK;
    int64_t fits[N_RULES] = { 0 }, found;
    const char *path;
    int best = 0;
    for (int rule = 0; rule < N_RULES; rule++) {
        for (int64_t i = 0; i < n; i++) {
            TRY(apply(m, rule, paths[i], defects[i], &found, &path));
            fits[rule] += found > 0;
        }
        if (fits[rule] > fits[best]) best = rule;
    }
    if (fits[best] == 0) return pair_by_position(m, paths, defects, n, masks);
    if (best >= 2) adze_ds_set_layout(m->ds, ADZE_LAYOUT_MIRAD);
    for (int64_t i = 0; i < n; i++) {
        int64_t n_all = 0;
        for (int rule = 0; rule < N_RULES; rule++) {
            TRY(apply(m, rule, paths[i], defects[i], &found, &path));
            n_all += found;
            if (rule == best && found > 0) masks[i] = path;
        }
        if (!masks[i])
            TRY(adze_ds_problem(m->ds, true, m->class_name, paths[i], "defect '%s' without a mask: want %s.png (in %s), as for the others",
                                defects[i], rule_text[best], m->ground_truth));
        else if (n_all > 1)
            TRY(adze_ds_problem(m->ds, true, m->class_name, paths[i], "defect '%s' has %" PRId64 " candidate masks in %s, want one",
                                defects[i], n_all, m->ground_truth));
    }
done:
    return st;
}

adze_status adze_match_masks(adze_dataset *ds, const char *class_name, const char *below, const char *const *paths,
                             const char *const *defects, int64_t n, const char **masks)
{
    adze_status st = ADZE_OK;
    masks_of_class m = { .ds = ds, .class_name = class_name, .ground_truth = adze_ds_join(ds, below, "ground_truth") };
    REQUIRE(m.ground_truth, ADZE_ENOMEM, "data set: no memory for a path");
    for (int64_t i = 0; i < n; i++) masks[i] = NULL;
    if (n == 0) goto done;
    if (!adze_ds_has_folder(ds, m.ground_truth)) {
        TRY(adze_ds_problem(ds, false, class_name, m.ground_truth, "no masks: only image metrics are defined"));
        goto done;
    }
    TRY(adze_ds_list(ds, m.ground_truth, &m.flat));
    REQUIRE(m.by_defect = adze_calloc((size_t)m.flat.n_folders + 1, sizeof *m.by_defect), ADZE_ENOMEM, "data set: no memory");
    for (int64_t i = 0; i < m.flat.n_folders; i++) {
        const char *folder = adze_ds_join(ds, m.ground_truth, m.flat.folders[i]);
        REQUIRE(folder, ADZE_ENOMEM, "data set: no memory for a path");
        TRY(adze_ds_list(ds, folder, &m.by_defect[i]));
    }
    TRY(match(&m, paths, defects, n, masks));
done:
    adze_free(m.by_defect);
    return st;
}
