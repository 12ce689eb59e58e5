/* adze_data.c - the program adze-data: check, list and synth. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/memory.h"
#include "core/options.h"
#include "core/progress.h"
#include "core/text.h"
#include "datasets/check.h"
#include "datasets/dataset.h"
#include "datasets/synth.h"

static const adze_option table[] = {
    { .name = "json", .type = ADZE_OPTION_FLAG, .help = "check, list: one JSON object instead of text", .group = "Output" },
    { .name = "log", .type = ADZE_OPTION_CHOICE, .fallback = "text", .choices = "text|json|quiet", .help = "progress on stderr", .group = "Output" },
    { .name = "class", .type = ADZE_OPTION_LIST, .metavar = "NAME[,NAME...]", .help = "list: only these classes", .group = "Data" },
    { .name = "split-csv", .type = ADZE_OPTION_STRING, .metavar = "FILE", .help = "VisA: another split than split_csv/1cls.csv", .group = "Data" },
    { .name = "manifest", .type = ADZE_OPTION_FLAG, .help = "list: only the SHA-256 of paths, sizes and contents", .group = "Data" },
    { .name = "size", .type = ADZE_OPTION_INT, .fallback = "256", .min = 0, .max = 4096, .metavar = "N",
      .help = "check: warn of defects that vanish at N x N (0: do not); synth: side of the pictures, at least 32", .group = "Data" },
    { .name = "threads", .type = ADZE_OPTION_INT, .fallback = "0", .min = 0, .max = 16, .metavar = "N",
      .help = "check: reading threads (0: one per processor)", .group = "Data" },
    { .name = "classes", .type = ADZE_OPTION_INT, .fallback = "3", .min = 1, .max = 99, .metavar = "N", .help = "number of classes", .group = "Synth" },
    { .name = "train", .type = ADZE_OPTION_INT, .fallback = "24", .min = 0, .max = 100000, .metavar = "N",
      .help = "good training pictures per class", .group = "Synth" },
    { .name = "test-good", .type = ADZE_OPTION_INT, .fallback = "8", .min = 0, .max = 100000, .metavar = "N",
      .help = "good test pictures per class", .group = "Synth" },
    { .name = "test-bad", .type = ADZE_OPTION_INT, .fallback = "12", .min = 0, .max = 100000, .metavar = "N",
      .help = "defective test pictures per class; the kinds (broken, foreign, scratch, stain) take turns", .group = "Synth" },
    { .name = "seed", .type = ADZE_OPTION_INT, .fallback = "1", .min = 0, .max = 9007199254740992.0, .metavar = "N",
      .help = "the same seed gives the same bytes", .group = "Synth" },
    { .name = "force", .type = ADZE_OPTION_FLAG, .help = "synth: write into a folder that holds a data set", .group = "Synth" },
    { .name = "help", .letter = 'h', .type = ADZE_OPTION_FLAG, .help = "this text", .group = "General", .properties = ADZE_OPTION_ACTION },
    { .name = "version", .type = ADZE_OPTION_FLAG, .help = "print the version", .group = "General", .properties = ADZE_OPTION_ACTION },
};

static const char usage[] = "adze-data check ROOT [--size N] [--json]\n"
                            "       adze-data list ROOT [--class NAME[,NAME...]] [--json | --manifest]\n"
                            "       adze-data synth ROOT [--classes N] [--train N] [--test-good N]\n"
                            "                       [--test-bad N] [--size N] [--seed N] [--force]";
static const char about[] =
    "Looks after data sets. check reads every file and reports all problems at once: unreadable pictures, missing or wrong-sized "
    "masks, training pictures among the test pictures, empty classes, defects that vanish in the resize, and counts that differ from "
    "the published ones if the classes are those of MVTec AD, VisA, MIRAD, MPDD, BTAD or RAD; exit status 3 if there are errors. "
    "list prints the split, one picture per line: class, split, label, defect, picture, mask. synth writes a small procedural data set "
    "with masks. Layouts: ROOT/CLASS/train/good, test/DEFECT, ground_truth/DEFECT (MVTec AD; MIRAD with masks directly in ground_truth); "
    "VisA with split_csv/; ADer's meta.json; a folder of good pictures, alone or as good/ beside one folder per defect.";
static const char examples[] = "  adze-data synth toy && adze-data check toy\n"
                               "  adze-data list mvtec --class bottle | grep broken";

static json_t *text_json(const char *s)
{
    json_t *v = json_string(s);
    if (v) return v;
    char *plain = adze_strdup(s); /* not UTF-8: keep what is ASCII */
    for (char *p = plain; p && *p; p++)
        if ((unsigned char)*p >= 0x80) *p = '?';
    v = json_string(plain ? plain : "");
    adze_free(plain);
    return v;
}

/* Prints and drops the object. */
static adze_status print_json(json_t *object)
{
    int bad = object ? json_dumpf(object, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) : -1;
    json_decref(object);
    if (bad) return adze_fail(ADZE_EIO, "cannot write the result");
    putchar('\n');
    return ADZE_OK;
}

static void show_progress(void *user, int64_t done, int64_t all)
{
    (void)all;
    adze_progress_update(user, done);
}

static adze_status check_json(const adze_check *c, const adze_dataset *ds)
{
    int64_t n;
    json_t *classes = json_object(), *problems = json_array(), *root = json_object();
    const adze_check_class *k = adze_check_classes(c, &n);
    for (int64_t i = 0; i < n; i++) {
        json_t *name = text_json(k[i].name);
        json_object_set_new(classes, json_string_value(name),
                            json_pack("{s:I,s:I,s:I,s:I,s:I,s:[I,I],s:[I,I]}", "train", k[i].n_train, "test_good", k[i].n_test_good,
                                      "test_bad", k[i].n_test_bad, "masks", k[i].n_masks, "defect_types", k[i].n_defects, "height",
                                      k[i].H_min, k[i].H_max, "width", k[i].W_min, k[i].W_max));
        json_decref(name);
    }
    const adze_data_problem *p = adze_check_problems(c, &n);
    for (int64_t i = 0; i < n; i++)
        json_array_append_new(problems, json_pack("{s:s,s:o,s:o,s:o}", "level", p[i].is_error ? "error" : "warning", "class",
                                                  text_json(p[i].class_name), "path", text_json(p[i].path), "text", text_json(p[i].text)));
    json_object_set_new(root, "root", text_json(adze_dataset_root(ds)));
    json_object_set_new(root, "layout", text_json(adze_layout_name(adze_dataset_layout(ds))));
    json_object_set_new(root, "benchmark", adze_check_benchmark(c) ? text_json(adze_check_benchmark(c)) : json_null());
    json_object_set_new(root, "classes", classes);
    json_object_set_new(root, "problems", problems);
    json_object_set_new(root, "n_errors", json_integer(adze_check_errors(c)));
    json_object_set_new(root, "n_warnings", json_integer(n - adze_check_errors(c)));
    return print_json(root);
}

static void range(char *out, size_t n_bytes, int64_t lo, int64_t hi)
{
    if (lo == hi) snprintf(out, n_bytes, "%" PRId64, lo);
    else snprintf(out, n_bytes, "%" PRId64 "-%" PRId64, lo, hi);
}

static void check_text(const adze_check *c, const adze_dataset *ds)
{
    int64_t n;
    const adze_check_class *k = adze_check_classes(c, &n);
    printf("%s: layout %s%s%s\n\n", adze_dataset_root(ds), adze_layout_name(adze_dataset_layout(ds)),
           adze_check_benchmark(c) ? ", classes of " : "", adze_check_benchmark(c) ? adze_check_benchmark(c) : "");
    printf("%-24s %7s %9s %8s %6s %7s  %s\n", "class", "train", "test good", "test bad", "masks", "defects", "width x height");
    for (int64_t i = 0; i < n; i++) {
        char wide[48], high[48];
        range(wide, sizeof wide, k[i].W_min, k[i].W_max);
        range(high, sizeof high, k[i].H_min, k[i].H_max);
        printf("%-24s %7" PRId64 " %9" PRId64 " %8" PRId64 " %6" PRId64 " %7" PRId64 "  %s x %s\n", k[i].name, k[i].n_train, k[i].n_test_good,
               k[i].n_test_bad, k[i].n_masks, k[i].n_defects, wide, high);
    }
    const adze_data_problem *p = adze_check_problems(c, &n);
    if (n > 0) putchar('\n');
    for (int64_t i = 0; i < n; i++) {
        const char *where = *p[i].path ? p[i].path : *p[i].class_name ? p[i].class_name : adze_dataset_root(ds);
        printf("%s: %s: %s\n", p[i].is_error ? "error" : "warning", where, p[i].text);
    }
    int64_t errors = adze_check_errors(c);
    printf("\n%" PRId64 " error%s, %" PRId64 " warning%s\n", errors, errors == 1 ? "" : "s", n - errors, n - errors == 1 ? "" : "s");
}

static adze_status run_check(const adze_options *o, const adze_dataset *ds)
{
    adze_status st = ADZE_OK;
    adze_progress *progress = NULL;
    adze_check *c = NULL;
    adze_check_opts how = ADZE_CHECK_OPTS;
    int64_t n;
    adze_progress_opts to = { .file = stderr, .output = (adze_output)adze_options_choice(o, "log"), .is_terminal = isatty(STDERR_FILENO) };
    TRY(adze_progress_create(&progress, &to));
    how.size = adze_options_int(o, "size");
    how.n_threads = (int)adze_options_int(o, "threads");
    how.progress = show_progress;
    how.user = progress;
    adze_dataset_all(ds, &n);
    adze_progress_begin(progress, "check", "pictures", 0, n);
    st = adze_check_create(&c, ds, &how);
    adze_progress_end(progress);
    if (st != ADZE_OK) goto done;
    if (adze_options_flag(o, "json")) TRY(check_json(c, ds));
    else check_text(c, ds);
    REQUIRE(adze_check_errors(c) == 0, ADZE_EINPUT, "%s: %" PRId64 " error%s in the data set", adze_dataset_root(ds), adze_check_errors(c),
            adze_check_errors(c) == 1 ? "" : "s");
done:
    adze_check_destroy(c);
    adze_progress_destroy(progress);
    return st;
}

static bool wanted(const adze_options *o, const char *class_name)
{
    int64_t n = adze_options_list_count(o, "class");
    for (int64_t i = 0; i < n; i++)
        if (strcmp(adze_options_list_at(o, "class", i), class_name) == 0) return true;
    return n == 0;
}

/* Named classes must exist: the data set suggests the nearest name. */
static adze_status check_names(const adze_options *o, const adze_dataset *ds)
{
    int64_t n_classes;
    const char *const *classes = adze_dataset_classes(ds, &n_classes);
    for (int64_t i = 0; i < adze_options_list_count(o, "class"); i++) {
        bool found = false;
        for (int64_t k = 0; k < n_classes; k++) found |= strcmp(classes[k], adze_options_list_at(o, "class", i)) == 0;
        if (!found) return adze_dataset_require(ds, adze_options_list_at(o, "class", i), ADZE_SPLIT_TRAIN);
    }
    return ADZE_OK;
}

static adze_status print_manifest(const adze_options *o, const adze_dataset *ds)
{
    char hex[ADZE_SHA256_HEX];
    int64_t n;
    const char *const *classes = adze_dataset_classes(ds, &n);
    for (int64_t i = 0; i < n; i++) {
        if (!wanted(o, classes[i])) continue;
        adze_status st = adze_dataset_manifest(ds, classes[i], hex);
        if (st != ADZE_OK) return st;
        printf("%s\t%s\n", classes[i], hex);
    }
    return ADZE_OK;
}

static adze_status run_list(const adze_options *o, const adze_dataset *ds)
{
    static const char *const splits[] = { "train", "test" }, *const labels[] = { "good", "bad", "unknown" };
    adze_status st = ADZE_OK;
    int64_t n;
    size_t skip = strlen(adze_dataset_root(ds)) + 1;
    const adze_data_item *items = adze_dataset_all(ds, &n);
    json_t *list = NULL;
    TRY(check_names(o, ds));
    if (adze_options_flag(o, "manifest")) {
        TRY(print_manifest(o, ds));
        goto done;
    }
    if (adze_options_flag(o, "json")) list = json_array();
    else printf("class\tsplit\tlabel\tdefect\timage\tmask\n");
    for (int64_t i = 0; i < n; i++) {
        const adze_data_item *it = &items[i];
        const char *mask = it->mask_path ? it->mask_path + skip : "";
        if (!wanted(o, it->class_name)) continue;
        if (list)
            json_array_append_new(list, json_pack("{s:o,s:s,s:s,s:o,s:o,s:o}", "class", text_json(it->class_name), "split", splits[it->split],
                                                  "label", labels[it->label], "defect", text_json(it->defect), "image", text_json(it->path),
                                                  "mask", it->mask_path ? text_json(mask) : json_null()));
        else printf("%s\t%s\t%s\t%s\t%s\t%s\n", it->class_name, splits[it->split], labels[it->label], it->defect, it->path, mask);
    }
    if (list) st = print_json(list);
done:
    return st;
}

static adze_status run_synth(const adze_options *o, const char *root)
{
    adze_status st = ADZE_OK;
    adze_dataset *there = NULL;
    adze_synth_opts how = { .n_classes = adze_options_int(o, "classes"), .n_train = adze_options_int(o, "train"),
                            .n_test_good = adze_options_int(o, "test-good"), .n_test_bad = adze_options_int(o, "test-bad"),
                            .size = adze_options_int(o, "size"), .seed = (uint64_t)adze_options_int(o, "seed") };
    if (!adze_options_flag(o, "force") && adze_folder_exists(root)) {
        st = adze_dataset_open(&there, root, NULL);
        REQUIRE(st != ADZE_OK, ADZE_EINVAL, "%s holds a data set already; --force writes into it", root);
    }
    TRY(adze_synth_write(root, &how));
    printf("%s: %" PRId64 " classes, each %" PRId64 " training, %" PRId64 " good and %" PRId64 " defective test pictures of %" PRId64 "x%" PRId64 "\n",
           root, how.n_classes, how.n_train, how.n_test_good, how.n_test_bad, how.size, how.size);
done:
    adze_dataset_destroy(there);
    return st;
}

static adze_status run(const adze_options *o)
{
    static const char *const verbs[] = { "check", "list", "synth" };
    adze_status st = ADZE_OK;
    adze_dataset *ds = NULL;
    int verb = -1, nearest = 0;
    const char *word = adze_options_arg(o, 0), *root = adze_options_arg(o, 1);
    REQUIRE(adze_options_arg_count(o) > 0, ADZE_EINVAL, "no verb: want check, list or synth (--help shows the usage)");
    for (int i = 0; i < 3; i++) {
        if (strcmp(word, verbs[i]) == 0) verb = i;
        if (adze_text_distance(word, verbs[i]) < adze_text_distance(word, verbs[nearest])) nearest = i;
    }
    REQUIRE(verb >= 0, ADZE_EINVAL, "unknown verb '%s', did you mean '%s'?", word, verbs[nearest]);
    REQUIRE(adze_options_arg_count(o) == 2, ADZE_EINVAL, "%s: no data root given (adze-data %s ROOT)", word, word);
    if (verb == 2) {
        TRY(run_synth(o, root));
        goto done;
    }
    adze_dataset_opts how = { adze_options_string(o, "split-csv") };
    TRY(adze_dataset_open(&ds, root, &how));
    TRY(verb == 0 ? run_check(o, ds) : run_list(o, ds));
done:
    adze_dataset_destroy(ds);
    return st;
}

int main(int argc, char **argv)
{
    adze_status st = ADZE_OK;
    adze_options *o = NULL;
    adze_text help = ADZE_TEXT_EMPTY;
    TRY(adze_options_create(&o));
    TRY(adze_options_add(o, table, sizeof table / sizeof *table));
    TRY(adze_options_parse(o, argc, argv, 2));
    if (adze_options_flag(o, "help")) {
        TRY(adze_options_help(o, usage, about, examples, &help));
        fputs(help.s, stdout);
    } else if (adze_options_flag(o, "version")) printf("adze-data %s\n", ADZE_VERSION);
    else TRY(run(o));
done:
    if ((fflush(stdout) != 0 || ferror(stdout)) && (st == ADZE_OK || st == ADZE_EINPUT))
        st = adze_fail(ADZE_EIO, "cannot write to standard output");
    if (st != ADZE_OK) fprintf(stderr, "adze-data: %s\n", adze_error_message());
    adze_text_destroy(&help);
    adze_options_destroy(o);
    return adze_status_exit_code(st);
}
