/* test_dataset.c - layouts, order, masks, problems and hostile index files on made-up trees. */
#include "datasets/dataset.h"
#include "tests/datasets/made_up.h"

static adze_dataset *open_root(const char *root)
{
    adze_dataset *ds;
    adze_status st = adze_dataset_open(&ds, root, NULL);
    if (st != ADZE_OK) print_error("%s\n", adze_error_message());
    assert_int_equal(st, ADZE_OK);
    return ds;
}

static int64_t count(const adze_dataset *ds, const char *class_name, adze_split split)
{
    int64_t n;
    adze_dataset_items(ds, class_name, split, &n);
    return n;
}

static int64_t n_errors(const adze_dataset *ds, int64_t *n_warnings)
{
    int64_t n, errors = 0;
    const adze_data_problem *p = adze_dataset_problems(ds, &n);
    for (int64_t i = 0; i < n; i++) errors += p[i].is_error;
    *n_warnings = n - errors;
    return errors;
}

static void put_mvtec(const char *root, const char *class_name, const char *mask_format)
{
    char path[256];
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/train/good/%03d.png", class_name, i);
        put_image(root, path, 8, 9, 3, (uint64_t)i);
    }
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/test/good/%03d.png", class_name, i);
        put_image(root, path, 8, 9, 3, (uint64_t)i + 10);
        snprintf(path, sizeof path, "%s/test/hole/%03d.png", class_name, i);
        put_image(root, path, 8, 9, 3, (uint64_t)i + 20);
        snprintf(path, sizeof path, mask_format, class_name, i);
        put_image(root, path, 8, 9, 1, (uint64_t)i + 30);
    }
}

static void mvtec_layout_is_read_in_order(void **state)
{
    (void)state;
    char root[64];
    int64_t n, warnings;
    make_root(root);
    put_mvtec(root, "b", "%s/ground_truth/hole/%03d_mask.png");
    put_mvtec(root, "a", "%s/ground_truth/hole/%03d_mask.png");
    put_bytes(root, "a/test/good/readme.txt", "x", 1);
    put_bytes(root, "license.txt", "x", 1);
    put_bytes(root, "a/train/good/.hidden.png", "x", 1);
    adze_dataset *ds = open_root(root);
    assert_int_equal(adze_dataset_layout(ds), ADZE_LAYOUT_MVTEC);
    const char *const *classes = adze_dataset_classes(ds, &n);
    assert_int_equal(n, 2);
    assert_string_equal(classes[0], "a");
    assert_string_equal(classes[1], "b");
    assert_int_equal(count(ds, "a", ADZE_SPLIT_TRAIN), 4);
    const adze_data_item *items = adze_dataset_items(ds, "b", ADZE_SPLIT_TEST, &n);
    assert_int_equal(n, 4);
    static const char *const want[4] = { "b/test/good/000.png", "b/test/good/001.png", "b/test/hole/000.png", "b/test/hole/001.png" };
    for (int64_t i = 0; i < n; i++) {
        assert_string_equal(items[i].path, want[i]);
        assert_int_equal(items[i].label, i < 2 ? ADZE_LABEL_GOOD : ADZE_LABEL_BAD);
        assert_string_equal(items[i].defect, i < 2 ? "good" : "hole");
        if (i < 2) assert_null(items[i].mask_path);
    }
    assert_non_null(strstr(items[3].mask_path, "b/ground_truth/hole/001_mask.png"));
    assert_true(adze_dataset_has_masks(ds, "b"));
    assert_int_equal(n_errors(ds, &warnings), 0);
    assert_int_equal(warnings, 0);
    assert_int_equal(adze_dataset_require(ds, "a", ADZE_SPLIT_TRAIN), ADZE_OK);
    assert_int_equal(adze_dataset_require(ds, "aa", ADZE_SPLIT_TRAIN), ADZE_EINPUT);
    assert_non_null(strstr(adze_error_message(), "did you mean 'a'"));
    adze_dataset_destroy(ds);
    char sub[80];
    snprintf(sub, sizeof sub, "%s/a/", root);
    ds = open_root(sub);
    assert_string_equal(adze_dataset_classes(ds, &n)[0], "a");
    assert_int_equal(count(ds, "a", ADZE_SPLIT_TEST), 4);
    adze_dataset_destroy(ds);
    drop_root(root);
}

static void mirad_masks_lie_flat(void **state)
{
    (void)state;
    char root[64];
    int64_t n, warnings;
    make_root(root);
    put_mvtec(root, "a", "%s/ground_truth/%03d.png");
    adze_dataset *ds = open_root(root);
    assert_int_equal(adze_dataset_layout(ds), ADZE_LAYOUT_MIRAD);
    const adze_data_item *items = adze_dataset_items(ds, "a", ADZE_SPLIT_TEST, &n);
    assert_non_null(strstr(items[2].mask_path, "a/ground_truth/000.png"));
    assert_int_equal(n_errors(ds, &warnings), 0);
    adze_dataset_destroy(ds);
    drop_root(root);

    make_root(root); /* unknown names, equal counts: sorted position and a warning */
    put_mvtec(root, "a", "%s/ground_truth/label%03d.png");
    ds = open_root(root);
    items = adze_dataset_items(ds, "a", ADZE_SPLIT_TEST, &n);
    assert_non_null(strstr(items[3].mask_path, "a/ground_truth/label001.png"));
    assert_int_equal(n_errors(ds, &warnings), 0);
    assert_int_equal(warnings, 1);
    adze_dataset_destroy(ds);
    drop_root(root);
}

static void btad_names_and_other_extensions_pair_by_stem(void **state)
{
    (void)state;
    char root[64];
    int64_t n, warnings;
    make_root(root);
    put_image(root, "01/train/ok/0.png", 4, 4, 3, 1);
    put_image(root, "01/test/ok/0.png", 4, 4, 3, 2);
    put_image(root, "01/test/ko/10.png", 4, 4, 3, 3);
    put_image(root, "01/ground_truth/ko/10.bmp", 4, 4, 1, 4);
    adze_dataset *ds = open_root(root);
    const adze_data_item *items = adze_dataset_items(ds, "01", ADZE_SPLIT_TEST, &n);
    assert_int_equal(n, 2);
    assert_int_equal(items[0].label, ADZE_LABEL_BAD);
    assert_non_null(strstr(items[0].mask_path, "ko/10.bmp"));
    assert_int_equal(n_errors(ds, &warnings), 0);
    adze_dataset_destroy(ds);
    drop_root(root);
}

static void missing_masks_stop_the_test_split_only(void **state)
{
    (void)state;
    char root[64], path[128];
    int64_t n, warnings;
    make_root(root);
    put_mvtec(root, "a", "%s/ground_truth/hole/%03d_mask.png");
    snprintf(path, sizeof path, "%s/a/ground_truth/hole/001_mask.png", root);
    assert_int_equal(unlink(path), 0);
    adze_dataset *ds = open_root(root);
    assert_int_equal(n_errors(ds, &warnings), 1);
    assert_string_equal(adze_dataset_problems(ds, &n)[0].path, "a/test/hole/001.png");
    assert_int_equal(adze_dataset_require(ds, "a", ADZE_SPLIT_TRAIN), ADZE_OK);
    assert_int_equal(adze_dataset_require(ds, "a", ADZE_SPLIT_TEST), ADZE_EINPUT);
    assert_non_null(strstr(adze_error_message(), "001.png"));
    adze_dataset_destroy(ds);
    snprintf(path, sizeof path, "rm -r %s/a/ground_truth", root);
    assert_int_equal(system(path), 0);
    ds = open_root(root); /* no masks at all: image metrics only */
    assert_int_equal(n_errors(ds, &warnings), 0);
    assert_int_equal(warnings, 1);
    assert_false(adze_dataset_has_masks(ds, "a"));
    assert_int_equal(adze_dataset_require(ds, "a", ADZE_SPLIT_TEST), ADZE_OK);
    adze_dataset_destroy(ds);
    drop_root(root);
}

static void two_masks_for_one_picture_are_an_error(void **state)
{
    (void)state;
    char root[64];
    int64_t warnings;
    make_root(root);
    put_mvtec(root, "a", "%s/ground_truth/hole/%03d_mask.png");
    put_image(root, "a/ground_truth/hole/000_mask.jpg", 8, 9, 1, 5);
    put_image(root, "a/ground_truth/hole/001.png", 8, 9, 1, 5);
    adze_dataset *ds = open_root(root);
    assert_int_equal(n_errors(ds, &warnings), 2);
    adze_dataset_destroy(ds);
    drop_root(root);
}

static void empty_class_is_named(void **state)
{
    (void)state;
    char root[64];
    int64_t n;
    make_root(root);
    put_mvtec(root, "a", "%s/ground_truth/hole/%03d_mask.png");
    put_bytes(root, "empty/train/good/notes.txt", "x", 1);
    adze_dataset *ds = open_root(root);
    adze_dataset_classes(ds, &n);
    assert_int_equal(n, 2);
    assert_int_equal(adze_dataset_require(ds, "empty", ADZE_SPLIT_TRAIN), ADZE_EINPUT);
    assert_non_null(strstr(adze_error_message(), "'empty' has no training pictures"));
    adze_dataset_destroy(ds);
    drop_root(root);
}

static void visa_follows_its_csv(void **state)
{
    (void)state;
    static const char csv[] = "object,split,label,image,mask\r\n"
                              "pcb1,test,anomaly,pcb1/Data/Images/Anomaly/000.JPG,pcb1/Data/Masks/Anomaly/000.png\r\n"
                              "pcb1,train,normal,pcb1/Data/Images/Normal/0001.JPG,\n"
                              "pcb1,train,normal,pcb1/Data/Images/Normal/0000.JPG,\n"
                              "pcb1,test,normal,pcb1/Data/Images/Normal/0002.JPG,";
    char root[64];
    int64_t n, warnings;
    adze_dataset *ds;
    make_root(root);
    put_image(root, "pcb1/Data/Images/Anomaly/000.JPG", 6, 5, 3, 1);
    put_image(root, "pcb1/Data/Masks/Anomaly/000.png", 6, 5, 1, 2);
    for (int i = 0; i < 3; i++) {
        char path[64];
        snprintf(path, sizeof path, "pcb1/Data/Images/Normal/%04d.JPG", i);
        put_image(root, path, 6, 5, 3, (uint64_t)i + 3);
    }
    assert_int_equal(adze_dataset_open(&ds, root, NULL), ADZE_EINPUT);
    assert_non_null(strstr(adze_error_message(), "split_csv"));
    put_bytes(root, "split_csv/1cls.csv", csv, sizeof csv - 1);
    ds = open_root(root);
    assert_int_equal(adze_dataset_layout(ds), ADZE_LAYOUT_VISA);
    const adze_data_item *items = adze_dataset_items(ds, "pcb1", ADZE_SPLIT_TRAIN, &n);
    assert_int_equal(n, 2);
    assert_string_equal(items[0].path, "pcb1/Data/Images/Normal/0000.JPG");
    items = adze_dataset_items(ds, "pcb1", ADZE_SPLIT_TEST, &n);
    assert_int_equal(n, 2);
    assert_int_equal(items[0].label, ADZE_LABEL_BAD);
    assert_string_equal(items[0].defect, "bad");
    assert_int_equal(n_errors(ds, &warnings), 0);
    adze_dataset_destroy(ds);
    static const char *const hostile[] = {
        "", "object,split,label,image\n", "object,split,label,image,mask\n",
        "object,split,label,image,mask\na,train,normal,../x.png,\n", "object,split,label,image,mask\na,train,normal,/etc/x.png,\n",
        "object,split,label,image,mask\na,train,normal,b/../../x.png,\n", "object,split,label,image,mask\na,train,normal,x.png\n",
        "object,split,label,image,mask\na,dev,normal,x.png,\n", "object,split,label,image,mask\na,train,odd,x.png,\n",
        "object,split,label,image,mask\na,train,normal,\"x\",\n", "object,split,label,image,mask\n../a,train,normal,x.png,\n",
        "object,split,label,image,mask\na,train,normal,b\\x.png,\n", "object,split,label,image,mask\na,train,normal,,\n",
    };
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        put_bytes(root, "split_csv/1cls.csv", hostile[i], strlen(hostile[i]));
        assert_int_equal(adze_dataset_open(&ds, root, NULL), ADZE_EINPUT);
        assert_null(ds);
    }
    drop_root(root);
}

static void meta_json_is_read_and_distrusted(void **state)
{
    (void)state;
    static const char meta[] =
        "{\"train\": {\"bottle\": [{\"img_path\": \"bottle/train/good//000.png\", \"mask_path\": \"\", \"cls_name\": \"bottle\","
        " \"specie_name\": \"good\", \"anomaly\": 0}]}, \"test\": {\"bottle\": [{\"img_path\": \"bottle/test/crack//000.png\","
        " \"mask_path\": \"bottle/ground_truth/crack//000_mask.png\", \"cls_name\": \"bottle\", \"specie_name\": \"crack\", \"anomaly\": 1}]}}\n";
    char root[64];
    int64_t n, warnings;
    adze_dataset *ds;
    make_root(root);
    put_image(root, "bottle/train/good/000.png", 6, 5, 3, 1);
    put_image(root, "bottle/test/crack/000.png", 6, 5, 3, 2);
    put_bytes(root, "meta.json", meta, sizeof meta - 1);
    ds = open_root(root);
    assert_int_equal(adze_dataset_layout(ds), ADZE_LAYOUT_META);
    const adze_data_item *items = adze_dataset_items(ds, "bottle", ADZE_SPLIT_TEST, &n);
    assert_string_equal(items[0].path, "bottle/test/crack/000.png");
    assert_string_equal(items[0].defect, "crack");
    assert_int_equal(n_errors(ds, &warnings), 1); /* its mask does not exist */
    adze_dataset_destroy(ds);
    static const char *const hostile[] = {
        "", "[]", "{}", "{\"train\":{},\"test\":3}", "{\"train\":{\"a\":{}},\"test\":{}}",
        "{\"train\":{\"a\":[{\"img_path\":\"../x.png\",\"anomaly\":0}]},\"test\":{}}",
        "{\"train\":{\"a\":[{\"img_path\":\"/x.png\",\"anomaly\":0}]},\"test\":{}}",
        "{\"train\":{\"a\":[{\"img_path\":\"x.png\",\"mask_path\":\"a/../../y\",\"anomaly\":1}]},\"test\":{}}",
        "{\"train\":{\"a\":[{\"img_path\":\"x.png\",\"anomaly\":2}]},\"test\":{}}", "{\"train\":{\"a\":[{\"img_path\":7,\"anomaly\":0}]},\"test\":{}}",
        "{\"train\":{\"../a\":[]},\"test\":{}}", "{\"train\":{},\"train\":{},\"test\":{}}", "[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]",
    };
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        put_bytes(root, "meta.json", hostile[i], strlen(hostile[i]));
        assert_int_equal(adze_dataset_open(&ds, root, NULL), ADZE_EINPUT);
        assert_non_null(strstr(adze_error_message(), "meta.json"));
    }
    drop_root(root);
}

static void plain_folders_are_enough(void **state)
{
    (void)state;
    char root[64], name[64];
    int64_t n;
    adze_dataset *ds;
    make_root(root);
    assert_int_equal(adze_dataset_open(&ds, root, NULL), ADZE_EINPUT);
    assert_int_equal(adze_dataset_open(&ds, "/tmp/adze-no-such-folder", NULL), ADZE_EINPUT);
    put_image(root, "x.png", 4, 4, 3, 1);
    ds = open_root(root);
    assert_int_equal(adze_dataset_layout(ds), ADZE_LAYOUT_PLAIN);
    const char *class_name = adze_dataset_classes(ds, &n)[0];
    assert_string_equal(class_name, root + 5);
    assert_int_equal(count(ds, class_name, ADZE_SPLIT_TRAIN), 1);
    adze_dataset_destroy(ds);
    drop_root(root);
    make_root(root);
    for (int i = 0; i < 10; i++) {
        snprintf(name, sizeof name, "good/%d.png", i);
        put_image(root, name, 4, 4, 3, (uint64_t)i);
    }
    put_image(root, "scratch/0.png", 4, 4, 3, 50);
    ds = open_root(root);
    class_name = adze_dataset_classes(ds, &n)[0];
    assert_int_equal(count(ds, class_name, ADZE_SPLIT_TRAIN), 8);
    assert_int_equal(count(ds, class_name, ADZE_SPLIT_TEST), 3);
    adze_dataset_destroy(ds);
    drop_root(root);
}

static void files_for_prediction_keep_their_order(void **state)
{
    (void)state;
    char root[64], b[80], folder[80];
    int64_t n;
    adze_dataset *ds;
    make_root(root);
    put_image(root, "b.png", 4, 4, 3, 1);
    put_image(root, "f/z.png", 4, 4, 3, 1);
    put_image(root, "f/a/c.PNG", 4, 4, 3, 1);
    put_bytes(root, "f/notes.txt", "x", 1);
    snprintf(b, sizeof b, "%s/b.png", root);
    snprintf(folder, sizeof folder, "%s/f/", root);
    const char *paths[] = { b, folder };
    assert_int_equal(adze_dataset_open_files(&ds, paths, 2), ADZE_OK);
    const adze_data_item *items = adze_dataset_all(ds, &n);
    assert_int_equal(n, 3);
    assert_string_equal(items[0].path, b);
    assert_string_equal(items[0].image_path, b);
    assert_non_null(strstr(items[1].path, "/f/z.png"));
    assert_non_null(strstr(items[2].path, "/f/a/c.PNG"));
    assert_int_equal(items[2].label, ADZE_LABEL_UNKNOWN);
    adze_dataset_destroy(ds);
    const char *missing[] = { "/tmp/adze-no-such-file.png" };
    assert_int_equal(adze_dataset_open_files(&ds, missing, 1), ADZE_EINPUT);
    assert_int_equal(adze_dataset_open_files(&ds, NULL, 0), ADZE_EINPUT);
    drop_root(root);
}

static void manifest_depends_on_contents_only(void **state)
{
    (void)state;
    char root[2][64], hex[3][ADZE_SHA256_HEX];
    for (int i = 0; i < 2; i++) {
        make_root(root[i]);
        put_mvtec(root[i], "a", "%s/ground_truth/hole/%03d_mask.png");
        adze_dataset *ds = open_root(root[i]);
        assert_int_equal(adze_dataset_manifest(ds, "a", hex[i]), ADZE_OK);
        assert_int_equal(adze_dataset_manifest(ds, NULL, hex[2]), ADZE_OK);
        assert_string_equal(hex[i], hex[2]);
        adze_dataset_destroy(ds);
    }
    assert_string_equal(hex[0], hex[1]);
    put_image(root[1], "a/ground_truth/hole/000_mask.png", 8, 9, 1, 99);
    adze_dataset *ds = open_root(root[1]);
    assert_int_equal(adze_dataset_manifest(ds, "a", hex[1]), ADZE_OK);
    assert_string_not_equal(hex[0], hex[1]);
    adze_dataset_destroy(ds);
    drop_root(root[0]);
    drop_root(root[1]);
}

static void lost_memory_is_reported_everywhere(void **state)
{
    (void)state;
    char root[64];
    make_root(root);
    put_mvtec(root, "a", "%s/ground_truth/hole/%03d_mask.png");
    put_image(root, "a/train/odd/0.png", 4, 4, 1, 0);
    size_t before = adze_memory_live_bytes();
    adze_status st = ADZE_ENOMEM;
    for (int64_t fail = 1; st != ADZE_OK; fail++) {
        adze_dataset *ds;
        adze_memory_fail_after(fail, fail % 2);
        st = adze_dataset_open(&ds, root, NULL);
        adze_memory_fail_after(0, false);
        assert_true(st == ADZE_OK || (st == ADZE_ENOMEM && ds == NULL));
        adze_dataset_destroy(ds);
        assert_int_equal(adze_memory_live_bytes(), before);
        assert_true(fail < 1000);
    }
    drop_root(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mvtec_layout_is_read_in_order),
        cmocka_unit_test(mirad_masks_lie_flat),
        cmocka_unit_test(btad_names_and_other_extensions_pair_by_stem),
        cmocka_unit_test(missing_masks_stop_the_test_split_only),
        cmocka_unit_test(two_masks_for_one_picture_are_an_error),
        cmocka_unit_test(empty_class_is_named),
        cmocka_unit_test(visa_follows_its_csv),
        cmocka_unit_test(meta_json_is_read_and_distrusted),
        cmocka_unit_test(plain_folders_are_enough),
        cmocka_unit_test(files_for_prediction_keep_their_order),
        cmocka_unit_test(manifest_depends_on_contents_only),
        cmocka_unit_test(lost_memory_is_reported_everywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
