/* adze_bench.c - the program adze-bench: runs the measuring programs beside it, one after the other, by subject.
 * Each of them states its shape, its floor and how much of it was reached; each line begun with '$' can be run by itself. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bench/child.h"
#include "core/context.h"
#include "core/file.h"
#include "core/memory.h"
#include "core/options.h"

static const char verbs[] = "kernels|train|predict|metrics|table4";

enum { MAX_WORDS = 8 };
static const struct {
    const char *verb, *words[MAX_WORDS];
    bool profile; /* it knows --profile */
    enum {
        NO_DEVICE,  /* it runs on the host always */
        CPU_ONLY,   /* it is left out for other devices */
        ANY_DEVICE, /* it knows --device */
    } device;
} runs[] = {
    { "kernels", { "bench-knn", "--shape", "1024,24576,1024" }, false, CPU_ONLY },
    { "kernels", { "bench-knn", "--shape", "1024,2457,1024" }, false, CPU_ONLY },
    { "kernels", { "bench-kcenter" }, false, CPU_ONLY },
    { "kernels", { "bench-kernels" }, false, ANY_DEVICE },
    { "train", { "bench-train", "--method", "rd", "--backbone", "resnet18" }, true, ANY_DEVICE },
    { "predict", { "bench-forward", "--batch", "1" }, true, ANY_DEVICE },
    { "predict", { "bench-forward", "--batch", "8" }, true, ANY_DEVICE },
    { "metrics", { "bench-aupro" }, false, NO_DEVICE },
};

static const adze_option table[] = {
    { .name = "threads", .type = ADZE_OPTION_INT, .fallback = "0", .min = 0, .max = 4096,
      .help = "compute threads; 0: as many as the process may use" },
    { .name = "device", .type = ADZE_OPTION_STRING, .fallback = "cpu", .metavar = "NAME",
      .help = "kernels, train and predict: auto, cpu, cuda, cuda:N" },
    { .name = "static", .type = ADZE_OPTION_FLAG, .help = "kernels: floors on two cards and what the compiler said; nothing is run" },
    { .name = "profile", .type = ADZE_OPTION_FLAG, .help = "train and predict: the time of each op, beside its floor" },
    { .name = "help", .letter = 'h', .type = ADZE_OPTION_FLAG, .properties = ADZE_OPTION_ACTION, .help = "this page" },
    { .name = "version", .type = ADZE_OPTION_FLAG, .properties = ADZE_OPTION_ACTION, .help = "the version" },
};

static const char usage[] = "adze-bench kernels|train|predict|metrics [options]\nadze-bench table4 --data ROOT --out DIR [options]";
static const char about[] = "Measures what adze is made of: the search and selection kernels, a training step, a network's "
                            "forward pass, the metrics of a class. table4 trains and evaluates all one-class methods "
                            "(adze-bench table4 --help).";
static const char examples[] = "  adze-bench kernels --threads 2\n  adze-bench kernels --static\n  bench-forward --help    (options of one measurement)\n";

/* `device` NULL: not said. */
static adze_status measure(const char *folder, const char *const *words, int threads, bool profile, const char *device)
{
    adze_status st = ADZE_OK;
    char count[16], *argv[MAX_WORDS + 6], *path = adze_path_join(folder, words[0]);
    int n = 0, code;
    REQUIRE(path, ADZE_ENOMEM, "no memory for a path");
    snprintf(count, sizeof count, "%d", threads);
    for (; n < MAX_WORDS && words[n]; n++) argv[n] = (char *)words[n];
    argv[n++] = (char *)"--threads";
    argv[n++] = count;
    if (profile) argv[n++] = (char *)"--profile";
    if (device) argv[n++] = (char *)"--device", argv[n++] = (char *)device;
    argv[n] = NULL;
    printf("\n$");
    for (int i = 0; i < n; i++) printf(" %s", argv[i]);
    printf("\n");
    fflush(stdout);
    argv[0] = path;
    TRY(child_run(argv, NULL, &code));
    REQUIRE(code == 0, ADZE_EINTERNAL, "%s failed (status %d)", words[0], code);
done:
    adze_free(path);
    return st;
}

static adze_status run_verb(const adze_options *o, const char *verb)
{
    adze_status st = ADZE_OK;
    static const char *const floors[MAX_WORDS] = { "bench-kernels", "--static" };
    adze_ctx *ctx = NULL;
    char *folder = NULL, *nearest = NULL;
    adze_ctx_opts ctx_opts = ADZE_CTX_OPTS;
    int n = 0;
    ctx_opts.threads = (int)adze_options_int(o, "threads");
    ctx_opts.device = adze_options_string(o, "device");
    TRY(adze_program_folder(&folder));
    if (adze_options_flag(o, "static")) {
        REQUIRE(strcmp(verb, "kernels") == 0, ADZE_EINVAL, "%s: only kernels has a static part", verb);
        TRY(measure(folder, floors, 1, false, NULL));
        goto done;
    }
    TRY(adze_ctx_create(&ctx, &ctx_opts));
    printf("%s\n", adze_ctx_description(ctx));
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        if (strcmp(runs[i].verb, verb) != 0) continue;
        n++;
        if (runs[i].device == CPU_ONLY && strcmp(adze_ctx_device(ctx), "cpu") != 0) continue;
        TRY(measure(folder, runs[i].words, adze_ctx_threads(ctx), runs[i].profile && adze_options_flag(o, "profile"),
                    runs[i].device == ANY_DEVICE ? adze_options_string(o, "device") : NULL));
    }
    if (n > 0) goto done;
    REQUIRE(nearest = adze_text_nearest(verb, verbs), ADZE_ENOMEM, "no memory for a name");
    st = adze_fail(ADZE_EINVAL, "unknown verb '%s', did you mean '%s'? (%s)", verb, nearest, verbs);
done:
    adze_free(nearest);
    adze_free(folder);
    adze_ctx_destroy(ctx);
    return st;
}

static adze_status print_help(const adze_options *o)
{
    adze_text text = ADZE_TEXT_EMPTY;
    adze_status st = adze_options_help(o, usage, about, examples, &text);
    if (st == ADZE_OK) fputs(text.s, stdout);
    adze_text_destroy(&text);
    return st;
}

/* Becomes the program that stands behind a verb with options of its own; returns only after a failure. */
static adze_status become(const char *name, char **argv)
{
    adze_status st = ADZE_OK;
    char *folder = NULL, *path = NULL;
    TRY(adze_program_folder(&folder));
    REQUIRE(path = adze_path_join(folder, name), ADZE_ENOMEM, "no memory for a path");
    argv[0] = path;
    execv(path, argv);
    st = adze_fail(ADZE_EINTERNAL, "%s: %s", path, strerror(errno));
done:
    adze_free(path);
    adze_free(folder);
    return st;
}

int main(int argc, char **argv)
{
    adze_status st = ADZE_OK;
    adze_options *o = NULL;
    if (argc > 1 && strcmp(argv[1], "table4") == 0) TRY(become("bench-table4", argv + 1));
    TRY(adze_options_create(&o));
    TRY(adze_options_add(o, table, sizeof table / sizeof *table));
    TRY(adze_options_parse(o, argc, argv, 1));
    if (adze_options_flag(o, "version")) printf("adze-bench %s\n", ADZE_VERSION);
    else if (adze_options_flag(o, "help")) TRY(print_help(o));
    else {
        REQUIRE(adze_options_arg_count(o) == 1, ADZE_EINVAL, "want one of %s", verbs);
        TRY(run_verb(o, adze_options_arg(o, 0)));
    }
done:
    adze_options_destroy(o);
    if (st != ADZE_OK) fprintf(stderr, "adze-bench: %s\n", adze_error_message());
    return adze_status_exit_code(st);
}
