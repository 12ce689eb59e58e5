/* dataset.h - which pictures there are: classes, splits, labels and masks, found in any of the usual folder layouts.
 *
 * Layouts are recognised by what lies below the root (datasets/README.md): ADer's meta.json, VisA with its split CSV, MVTec AD
 * (also BTAD's ok/ko names), MIRAD's flat mask folder, a single class, a plain folder of good pictures. Items are in bytewise
 * order of (class, split, path) whatever the file system says. Nothing is decoded here. */
#ifndef ADZE_DATASETS_DATASET_H
#define ADZE_DATASETS_DATASET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/sha256.h"
#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum { ADZE_SPLIT_TRAIN, ADZE_SPLIT_TEST } adze_split;
typedef enum { ADZE_LABEL_GOOD, ADZE_LABEL_BAD, ADZE_LABEL_UNKNOWN } adze_label;
typedef enum {
    ADZE_LAYOUT_META,  /* meta.json of ADer */
    ADZE_LAYOUT_VISA,  /* split_csv/1cls.csv */
    ADZE_LAYOUT_MVTEC, /* CLASS/train/good, CLASS/test/DEFECT, CLASS/ground_truth/DEFECT */
    ADZE_LAYOUT_MIRAD, /* the same with all masks directly in ground_truth */
    ADZE_LAYOUT_PLAIN, /* pictures, or good/ beside one folder per defect */
    ADZE_LAYOUT_FILES  /* a list of files and folders without labels */
} adze_layout;

/* All strings belong to the data set. */
typedef struct {
    const char *class_name;
    const char *image_path; /* to open it */
    const char *path;       /* below the root, with forward slashes: what result files name (a tail of image_path) */
    const char *mask_path;  /* NULL: good, or defective without a mask */
    const char *defect;     /* folder name of the defect type; "good" for good pictures, "" if unknown */
    adze_split split;
    adze_label label;
} adze_data_item;

/* Something wrong with the layout, found while reading it. */
typedef struct {
    bool is_error; /* false: a warning */
    const char *class_name; /* "" if it concerns the whole set */
    const char *path;       /* "" if no file */
    const char *text;       /* what is wrong and what was expected */
} adze_data_problem;

typedef struct {
    const char *split_csv; /* VisA: file below split_csv/ or a path; NULL: 1cls.csv */
} adze_dataset_opts;
#define ADZE_DATASET_OPTS ((adze_dataset_opts){ NULL })

typedef struct adze_dataset adze_dataset;

/* Reads the layout below `root`. `opts` may be NULL. Problems that concern single files do not fail here: see
 * adze_dataset_problems() and adze_dataset_require(). ADZE_EINPUT: no such folder, no layout recognised, a malformed or
 * hostile index file, more than 2^22 files; ADZE_ENOMEM. */
adze_status adze_dataset_open(adze_dataset **out, const char *root, const adze_dataset_opts *opts);
/* For prediction: files in the order given, folders replaced by the pictures below them (bytewise order). One class "",
 * split TEST, label UNKNOWN; `path` is the path as given. ADZE_EINPUT if a path does not exist or nothing is found. */
adze_status adze_dataset_open_files(adze_dataset **out, const char *const *paths, int64_t n_paths);
void adze_dataset_destroy(adze_dataset *ds); /* NULL is fine */

adze_layout adze_dataset_layout(const adze_dataset *ds);
const char *adze_layout_name(adze_layout layout);
const char *adze_dataset_root(const adze_dataset *ds);
/* Class names in bytewise order. */
const char *const *adze_dataset_classes(const adze_dataset *ds, int64_t *n);
/* Items of one class and split, in order of path; NULL and 0 if there are none. */
const adze_data_item *adze_dataset_items(const adze_dataset *ds, const char *class_name, adze_split split, int64_t *n);
/* All items, in order of class, split, path. */
const adze_data_item *adze_dataset_all(const adze_dataset *ds, int64_t *n);
const adze_data_problem *adze_dataset_problems(const adze_dataset *ds, int64_t *n);
/* Whether at least one defective test picture of the class has a mask: pixel metrics are defined. */
bool adze_dataset_has_masks(const adze_dataset *ds, const char *class_name);

/* ADZE_EINPUT unless the class exists (else the nearest name is suggested), has pictures in the split, and its layout there
 * has no error: what a program calls before it works on the class. */
adze_status adze_dataset_require(const adze_dataset *ds, const char *class_name, adze_split split);

/* SHA-256 over the lines "path<TAB>bytes<TAB>sha256<LF>" of all pictures and masks of a class (NULL: of all classes) in
 * bytewise order: the same data give the same value wherever they lie. Reads every file. */
adze_status adze_dataset_manifest(const adze_dataset *ds, const char *class_name, char hex[ADZE_SHA256_HEX]);

/* Whether the name ends in png, jpg, jpeg, bmp, tif or tiff, in either case. */
bool adze_is_image_name(const char *name);

#ifdef __cplusplus
}
#endif
#endif
