/* adze_doctor.c - what this machine offers to adze, and what was found where: processor, memory, GPUs and their libraries, the
 * weights and plans that are kept. Exit status 0 also without a GPU: the cpu backend works everywhere. */
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/backend_load.h"
#include "core/isa.h"
#include "core/memory.h"
#include "core/options.h"
#include "core/text.h"

static const adze_option table[] = {
    { .name = "log", .type = ADZE_OPTION_CHOICE, .fallback = "text", .choices = "text|json", .group = "Output", .help = "how it is printed" },
    { .name = "help", .letter = 'h', .type = ADZE_OPTION_FLAG, .group = "Output", .help = "this page", .properties = ADZE_OPTION_ACTION },
    { .name = "version", .type = ADZE_OPTION_FLAG, .group = "Output", .help = "versions", .properties = ADZE_OPTION_ACTION },
};

/* The page while it is written: sections of facts. */
typedef struct {
    adze_text text;
    bool json, first_section, first_fact;
} page;

static void section(page *p, const char *name)
{
    if (p->json) adze_text_printf(&p->text, "%s  \"%s\": {", p->first_section ? "{\n" : "},\n", name);
    else adze_text_printf(&p->text, "%s%s\n", p->first_section ? "" : "\n", name);
    p->first_section = false;
    p->first_fact = true;
}

static void fact(void *user, const char *key, const char *value)
{
    page *p = user;
    if (p->json) {
        adze_text_append(&p->text, p->first_fact ? "" : ", ");
        adze_text_json(&p->text, key);
        adze_text_append(&p->text, ": ");
        adze_text_json(&p->text, value);
    } else adze_text_printf(&p->text, "  %-12s %s\n", key, value);
    p->first_fact = false;
}

static void describe_cpu(page *p)
{
    char line[256], model[192] = "unknown", text[256];
    FILE *f = fopen("/proc/cpuinfo", "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "model name : %191[^\n]", model) == 1) break;
    if (f) fclose(f);
    section(p, "cpu");
    fact(p, "model", model);
    snprintf(text, sizeof text, "%ld", sysconf(_SC_NPROCESSORS_ONLN));
    fact(p, "processors", text);
    *text = 0;
    for (int isa = ADZE_ISA_AVX2; isa <= ADZE_ISA_AVX512_BF16; isa++)
        if (adze_isa_available((adze_isa)isa)) snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", *text ? " " : "", adze_isa_name((adze_isa)isa));
    fact(p, "features", *text ? text : "none of avx2 and later: slow");
    snprintf(text, sizeof text, "%.1f GB", (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) / 1e9);
    fact(p, "memory", text);
    adze_ctx *ctx;
    adze_ctx_opts opts = ADZE_CTX_OPTS;
    opts.device = "cpu";
    if (adze_ctx_create(&ctx, &opts) == ADZE_OK) fact(p, "backend", adze_ctx_description(ctx));
    else fact(p, "backend", adze_error_message());
    adze_ctx_destroy(ctx);
}

/* One loadable backend; whether it has a device. */
static adze_status describe_backend(page *p, const char *name, bool *usable)
{
    adze_status st = ADZE_OK;
    char *path = NULL;
    adze_text looked = ADZE_TEXT_EMPTY;
    const adze_backend *backend;
    bool loaded = false;
    section(p, name);
    TRY(adze_backend_find(name, &path, &looked));
    fact(p, "library", path ? path : "not found");
    if (!path) fact(p, "looked in", looked.s ? looked.s : "");
    else if (adze_backend_load(name, &backend) != ADZE_OK) fact(p, "state", adze_error_message());
    else loaded = true;
    if (loaded && backend->facts) backend->facts(fact, p);
    adze_ctx *ctx;
    adze_ctx_opts opts = ADZE_CTX_OPTS;
    opts.device = name;
    *usable = adze_ctx_create(&ctx, &opts) == ADZE_OK;
    if (loaded && !*usable) fact(p, "state", adze_error_message());
    fact(p, "usable", *usable ? "yes" : "no");
    adze_ctx_destroy(ctx);
done:
    adze_text_destroy(&looked);
    adze_free(path);
    return st;
}

static void describe_cache(page *p)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char *folder[2] = { cache && *cache ? adze_strprintf("%s/adze", cache) : home ? adze_strprintf("%s/.cache/adze", home) : NULL,
                        adze_strdup(".cache") };
    int n_weights = 0;
    section(p, "cache");
    for (int i = 0; i < 2; i++) {
        char *weights = folder[i] ? adze_strprintf("%s/*.h5", folder[i]) : NULL, *plans = folder[i] ? adze_strprintf("%s/plans/*", folder[i]) : NULL;
        glob_t found;
        char count[64];
        if (weights && glob(weights, 0, NULL, &found) == 0) {
            for (size_t k = 0; k < found.gl_pathc; k++) {
                snprintf(count, sizeof count, "weights %d", ++n_weights);
                fact(p, count, found.gl_pathv[k]);
            }
            globfree(&found);
        }
        if (plans && i == 0) {
            size_t n = 0;
            if (glob(plans, 0, NULL, &found) == 0) {
                n = found.gl_pathc;
                globfree(&found);
            }
            snprintf(count, sizeof count, "%zu in ", n);
            char *text = adze_strprintf("%s%s/plans", count, folder[i]);
            if (text) fact(p, "plans", text);
            adze_free(text);
        }
        adze_free(weights);
        adze_free(plans);
        adze_free(folder[i]);
    }
}

static adze_status examine(page *p)
{
    adze_status st = ADZE_OK;
    bool cuda = false, cusim = false;
    section(p, "adze");
    fact(p, "version", ADZE_VERSION);
    describe_cpu(p);
    TRY(describe_backend(p, "cuda", &cuda));
    TRY(describe_backend(p, "cusim", &cusim));
    describe_cache(p);
    section(p, "verdict");
    fact(p, "auto", cuda ? "cuda" : "cpu only");
    if (p->json) adze_text_append(&p->text, "}\n}\n");
    TRY(adze_text_check(&p->text, "report"));
    fputs(p->text.s, stdout);
done:
    return st;
}

static adze_status run(adze_options *options, int argc, char **argv)
{
    adze_status st = ADZE_OK;
    adze_text help = ADZE_TEXT_EMPTY;
    page p = { .text = ADZE_TEXT_EMPTY, .first_section = true };
    TRY(adze_options_add(options, table, sizeof table / sizeof *table));
    TRY(adze_options_parse(options, argc, argv, 0));
    if (adze_options_flag(options, "help")) {
        TRY(adze_options_help(options, "adze-doctor [--log json]",
                              "Prints what this machine offers: processor, GPUs, versions of driver and libraries, memory, which\n"
                              "backend libraries were found where, weights and plans that are kept. Exit status 0 also without a GPU.",
                              "  adze doctor --log json", &help));
        TRY(adze_text_check(&help, "help"));
        fputs(help.s, stdout);
    } else if (adze_options_flag(options, "version")) printf("adze-doctor " ADZE_VERSION "\n");
    else {
        p.json = adze_options_choice(options, "log") == 1;
        TRY(examine(&p));
    }
done:
    adze_text_destroy(&help);
    adze_text_destroy(&p.text);
    return st;
}

int main(int argc, char **argv)
{
    adze_options *options = NULL;
    adze_status st = adze_options_create(&options);
    if (st == ADZE_OK) st = run(options, argc, argv);
    if (st != ADZE_OK) fprintf(stderr, "adze-doctor: error: %s\n", adze_error_message());
    adze_options_destroy(options);
    return adze_status_exit_code(st);
}
