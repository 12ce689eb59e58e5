/* reader_plain.c - folders that follow no benchmark. Entry: adze_read_plain().
 *
 *   ROOT/PICTURE                  all good, all for training: enough to train
 *   ROOT/good/PICTURE and
 *   ROOT/DEFECT/PICTURE           good (or ok, normal) beside one folder per defect: of the good pictures in sorted order
 *                                 every fifth is kept for the test, defects are test pictures without masks */
#include <inttypes.h>

#include "datasets/dataset_build.h"

enum { TEST_EVERY = 5 };

adze_status adze_read_plain(adze_dataset *ds, const char *class_name)
{
    adze_status st = ADZE_OK;
    adze_listing top, inside;
    bool has_good = false, has_bad = false;
    TRY(adze_ds_list(ds, "", &top));
    for (int64_t i = 0; i < top.n_files; i++)
        TRY(adze_ds_add(ds, class_name, ADZE_SPLIT_TRAIN, ADZE_LABEL_GOOD, "good", top.files[i], NULL));
    for (int64_t i = 0; i < top.n_folders; i++) {
        if (adze_is_good_name(top.folders[i])) has_good = true;
        else has_bad = true;
    }
    if (!has_good) goto done;
    for (int64_t i = 0; i < top.n_folders; i++) {
        bool good = adze_is_good_name(top.folders[i]);
        TRY(adze_ds_list(ds, top.folders[i], &inside));
        for (int64_t j = 0; j < inside.n_files; j++) {
            bool test = !good || (has_bad && j % TEST_EVERY == TEST_EVERY - 1);
            TRY(adze_ds_add(ds, class_name, test ? ADZE_SPLIT_TEST : ADZE_SPLIT_TRAIN, good ? ADZE_LABEL_GOOD : ADZE_LABEL_BAD,
                            good ? "good" : top.folders[i], adze_ds_join(ds, top.folders[i], inside.files[j]), NULL));
        }
    }
done:
    return st;
}
