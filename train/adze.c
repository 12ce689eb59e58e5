/* adze.c - the driver: `adze VERB ...` becomes the program adze-VERB beside it, as git does.
 * Verbs are the programs that lie there, so a build without one of them does not offer it. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/memory.h"
#include "core/status.h"
#include "core/text.h"

static const char prefix[] = "adze-";

static const struct {
    const char *verb, *does;
} summaries[] = {
    { "train", "fit a method to good pictures; one checkpoint per class" },
    { "eval", "score a data set with a checkpoint; metrics, maps, report" },
    { "predict", "score pictures without labels; CSV on stdout" },
    { "data", "check, list or make a data set" },
    { "weights", "import, list or verify pretrained weights" },
    { "bench", "measure kernels and whole runs" },
    { "doctor", "what this machine offers, and what was found where" },
};

static const char *summary_of(const char *verb)
{
    for (size_t i = 0; i < sizeof summaries / sizeof *summaries; i++)
        if (strcmp(summaries[i].verb, verb) == 0) return summaries[i].does;
    return "";
}

static int is_program(const struct dirent *entry)
{
    return strncmp(entry->d_name, prefix, sizeof prefix - 1) == 0 && entry->d_name[sizeof prefix - 1];
}

/* Calls append(t, verb) for each program of the folder, in the order of their names. */
static adze_status each_verb(const char *folder, void (*append)(adze_text *t, const char *verb), adze_text *t)
{
    struct dirent **entries = NULL;
    int n = scandir(folder, &entries, is_program, alphasort);
    if (n < 0) return adze_fail(ADZE_EINPUT, "%s: %s", folder, strerror(errno));
    for (int i = 0; i < n; i++) {
        append(t, entries[i]->d_name + sizeof prefix - 1);
        free(entries[i]);
    }
    free(entries);
    return adze_text_check(t, "verbs");
}

static void append_name(adze_text *t, const char *verb)
{
    adze_text_printf(t, "%s%s", t->n_bytes ? "|" : "", verb);
}

static void append_line(adze_text *t, const char *verb)
{
    adze_text_printf(t, "  %-9s %s\n", verb, summary_of(verb));
}

static adze_status print_help(const char *folder)
{
    adze_status st = ADZE_OK;
    adze_text t = ADZE_TEXT_EMPTY;
    adze_text_append(&t, "usage: adze VERB [options]\n\nadze learns what good products look like and finds, image by image and\n"
                         "pixel by pixel, what is not good.\n\nVerbs:\n");
    TRY(each_verb(folder, append_line, &t));
    adze_text_append(&t, "\n`adze VERB --help` shows the options of one.\n");
    TRY(adze_text_check(&t, "help"));
    fputs(t.s, stdout);
done:
    adze_text_destroy(&t);
    return st;
}

static adze_status fail_unknown(const char *folder, const char *verb)
{
    adze_status st = ADZE_OK;
    adze_text names = ADZE_TEXT_EMPTY;
    char *nearest = NULL;
    TRY(each_verb(folder, append_name, &names));
    REQUIRE(names.n_bytes > 0, ADZE_EINVAL, "unknown verb '%s': no %s* program lies in %s", verb, prefix, folder);
    REQUIRE(nearest = adze_text_nearest(verb, names.s), ADZE_ENOMEM, "no memory for a name");
    st = adze_fail(ADZE_EINVAL, "unknown verb '%s', did you mean '%s'? `adze help` lists them", verb, nearest);
done:
    adze_free(nearest);
    adze_text_destroy(&names);
    return st;
}

/* Replaces this process by adze-VERB with argv[1...]; returns only after a failure. */
static adze_status run_verb(const char *folder, const char *verb, char **argv)
{
    adze_status st = ADZE_OK;
    char *name = adze_strprintf("%s%s", prefix, verb), *path = name ? adze_path_join(folder, name) : NULL;
    REQUIRE(path, ADZE_ENOMEM, "no memory for a path");
    if (strchr(verb, '/') || !adze_file_exists(path)) {
        st = fail_unknown(folder, verb);
        goto done;
    }
    argv[0] = path;
    execv(path, argv);
    st = adze_fail(ADZE_EINTERNAL, "%s: %s", path, strerror(errno));
done:
    adze_free(path);
    adze_free(name);
    return st;
}

int main(int argc, char **argv)
{
    adze_status st = ADZE_OK;
    char *folder = NULL;
    const char *verb = argc > 1 ? argv[1] : "help";
    const bool help = strcmp(verb, "help") == 0 || strcmp(verb, "--help") == 0 || strcmp(verb, "-h") == 0;
    TRY(adze_program_folder(&folder));
    if (strcmp(verb, "--version") == 0) printf("adze %s\n", ADZE_VERSION);
    else if (help && argc < 3) TRY(print_help(folder));
    else if (help) TRY(run_verb(folder, argv[2], (char *[]){ NULL, "--help", NULL }));
    else TRY(run_verb(folder, verb, argv + 1));
done:
    adze_free(folder);
    if (st != ADZE_OK) fprintf(stderr, "adze: %s\n", adze_error_message());
    return adze_status_exit_code(st);
}
