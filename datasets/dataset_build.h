/* dataset_build.h - what the layout readers share: adding items and problems, listing folders, checking foreign paths.
 * Private to datasets/. Every text handed in is copied; every text handed out belongs to the data set. */
#ifndef ADZE_DATASETS_DATASET_BUILD_H
#define ADZE_DATASETS_DATASET_BUILD_H

#include "datasets/dataset.h"

/* Sorted names in one folder, hidden ones left out; files by picture extension only. Part of the data set's memory. */
typedef struct {
    const char **folders, **files;
    int64_t n_folders, n_files;
} adze_listing;

/* A text in the data set's memory; NULL if there is none left. */
const char *adze_ds_text(adze_dataset *ds, const char *fmt, ...) ADZE_PRINTF(2, 3);
/* "a/b" with no doubled slash; `a` may be "". */
const char *adze_ds_join(adze_dataset *ds, const char *a, const char *b);
/* Path below the root, to open it. */
const char *adze_ds_full(adze_dataset *ds, const char *path);

/* A class that exists even if it has no pictures. */
adze_status adze_ds_add_class(adze_dataset *ds, const char *class_name);
/* `path`, `mask` (may be NULL) below the root. A NULL path is a text that found no memory: ADZE_ENOMEM. */
adze_status adze_ds_add(adze_dataset *ds, const char *class_name, adze_split split, adze_label label, const char *defect,
                        const char *path, const char *mask);
adze_status adze_ds_problem(adze_dataset *ds, bool is_error, const char *class_name, const char *path, const char *fmt, ...)
    ADZE_PRINTF(5, 6);
/* A folder below the root that does not exist lists as empty. */
adze_status adze_ds_list(adze_dataset *ds, const char *folder, adze_listing *out);
bool adze_ds_has_folder(adze_dataset *ds, const char *folder);
void adze_ds_set_layout(adze_dataset *ds, adze_layout layout);

/* Checks a path that a file brought along and removes doubled slashes and "./": relative, no "..", no backslash or control
 * character, at most 4095 bytes. ADZE_EINPUT names `where`. */
adze_status adze_ds_foreign_path(adze_dataset *ds, const char *path, const char *where, const char **clean);

/* Name without its last extension: length of the stem. */
size_t adze_stem_length(const char *name);
/* "good", "ok" or "normal". */
bool adze_is_good_name(const char *folder);

/* The readers. Each fills ds from its root. */
adze_status adze_read_meta(adze_dataset *ds);
adze_status adze_read_visa(adze_dataset *ds, const char *split_csv);
/* One class in folder `below` ("" = the root). */
adze_status adze_read_mvtec_class(adze_dataset *ds, const char *class_name, const char *below);
adze_status adze_read_plain(adze_dataset *ds, const char *class_name);

/* Masks of the defective pictures of one class; see reader_masks.c. `paths` of the pictures, `defects`: their folders, both n;
 * masks[i] is set to a path below the root or NULL. */
adze_status adze_match_masks(adze_dataset *ds, const char *class_name, const char *below, const char *const *paths,
                             const char *const *defects, int64_t n, const char **masks);

#endif
