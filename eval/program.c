/* program.c - common flags, help, messages, progress, device. Entry: adze_program_open(). */
#include "eval/program.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/device_memory.h"
#include "core/file.h"
#include "core/interrupt.h"
#include "core/memory.h"

static const adze_option common[] = {
    { .name = "data", .type = ADZE_OPTION_STRING, .metavar = "ROOT", .group = "Data",
      .help = "folder of the data set: MVTec AD, VisA or MIRAD layout, ADer's meta.json, or a plain folder" },
    { .name = "class", .type = ADZE_OPTION_LIST, .metavar = "NAME[,NAME...]", .group = "Data",
      .help = "classes to work on (default: all)" },
    { .name = "batch", .type = ADZE_OPTION_INT, .min = 1, .max = 4096, .metavar = "N", .group = "Compute",
      .help = "images per pass (default: the method's)" },
    { .name = "device", .type = ADZE_OPTION_STRING, .fallback = "auto", .metavar = "NAME", .group = "Compute",
      .help = "auto (cuda where there is one, else cpu), cpu, cuda, cuda:N, cusim" },
    { .name = "threads", .type = ADZE_OPTION_INT, .fallback = "0", .min = 0, .max = 1024, .metavar = "N", .group = "Compute",
      .help = "compute threads; 0: one per processor" },
    { .name = "precision", .type = ADZE_OPTION_CHOICE, .fallback = "f32", .choices = "f32|tf32|bf16", .group = "Compute",
      .help = "of convolutions and matrix products" },
    { .name = "deterministic", .type = ADZE_OPTION_FLAG, .fallback = "yes", .group = "Compute",
      .help = "the same bits for the same command on the same device" },
    { .name = "memory-limit", .type = ADZE_OPTION_SIZE, .metavar = "SIZE", .group = "Compute",
      .help = "host memory that is never exceeded, as in 8G (default: none)" },
    { .name = "config", .type = ADZE_OPTION_STRING, .metavar = "FILE.yaml", .group = "Run",
      .help = "options from a file; the command line wins", .properties = ADZE_OPTION_ACTION },
    { .name = "print-config", .type = ADZE_OPTION_FLAG, .group = "Run", .properties = ADZE_OPTION_ACTION,
      .help = "print every option with its origin as YAML, and stop" },
    { .name = "print-plan", .type = ADZE_OPTION_FLAG, .group = "Run", .properties = ADZE_OPTION_ACTION,
      .help = "print the operations with shapes, bytes and FLOPs, and stop" },
    { .name = "dry-run", .type = ADZE_OPTION_FLAG, .group = "Run", .properties = ADZE_OPTION_ACTION,
      .help = "check data, weights and memory, and stop" },
    { .name = "force", .type = ADZE_OPTION_FLAG, .group = "Run", .properties = ADZE_OPTION_ACTION,
      .help = "overwrite existing results" },
    { .name = "log", .type = ADZE_OPTION_CHOICE, .fallback = "text", .choices = "text|json|quiet", .group = "Run",
      .help = "messages and progress on stderr" },
    { .name = "version", .type = ADZE_OPTION_FLAG, .group = "Run", .properties = ADZE_OPTION_ACTION, .help = "the version" },
};

static const adze_option help = { .name = "help", .letter = 'h', .type = ADZE_OPTION_FLAG, .group = "Run", .properties = ADZE_OPTION_ACTION,
                                  .help = "this page" };
static const adze_option help_of_methods = { .name = "help", .letter = 'h', .type = ADZE_OPTION_FLAG, .group = "Run",
                                             .properties = ADZE_OPTION_ACTION, .help = "this page; with --method M also its options" };

static const adze_option model_flags[] = {
    { .name = "method", .type = ADZE_OPTION_STRING, .metavar = "M", .group = "Model",
      .help = "detection method; `--method help` lists them" },
    { .name = "backbone", .type = ADZE_OPTION_STRING, .metavar = "NAME", .group = "Model",
      .help = "feature extractor (default: the benchmark's choice for the method)" },
    { .name = "weights", .type = ADZE_OPTION_STRING, .metavar = "FILE.h5", .group = "Model",
      .help = "its pretrained weights, made by adze-weights import" },
    { .name = "size", .type = ADZE_OPTION_INT, .fallback = "256", .min = 32, .max = 4096, .metavar = "N", .group = "Model",
      .help = "side to which pictures are resized" },
    { .name = "seed", .type = ADZE_OPTION_INT, .fallback = "42", .min = 0, .max = 9007199254740992.0, .metavar = "N",
      .group = "Model", .help = "of every random choice; simplenet has 0 if it is not given, as its benchmark" },
    { .name = "set", .type = ADZE_OPTION_PAIRS, .metavar = "KEY=VALUE", .group = "Model",
      .help = "an option of the method; `--method M --help` lists them" },
};

/* The common options but those that the program does not have. */
static adze_status add_common(adze_options *o, const adze_program_about *about)
{
    adze_status st = ADZE_OK;
    for (size_t i = 0; i < sizeof common / sizeof *common; i++) {
        bool has = true;
        for (const char *const *name = about->without; name && *name; name++) has = has && strcmp(*name, common[i].name) != 0;
        if (has) TRY(adze_options_add(o, &common[i], 1));
    }
    TRY(adze_options_add(o, about->model_flags ? &help_of_methods : &help, 1));
done:
    return st;
}

/* The command line as one could type it again. */
static const char *quoted_command(int argc, char **argv)
{
    adze_text t = ADZE_TEXT_EMPTY;
    for (int i = 0; i < argc; i++) {
        bool plain = argv[i][0] != 0;
        for (const char *c = argv[i]; *c; c++)
            if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=.,:/@%", *c)) plain = false;
        const char *word = i == 0 ? adze_path_base(argv[i]) : argv[i];
        if (i > 0) adze_text_append(&t, " ");
        if (plain) adze_text_append(&t, word);
        else {
            adze_text_append(&t, "'");
            for (const char *c = word; *c; c++) {
                if (*c == '\'') adze_text_append(&t, "'\\''");
                else adze_text_append_n(&t, c, 1);
            }
            adze_text_append(&t, "'");
        }
    }
    return t.s;
}

static adze_status print_help(const adze_program *p, const adze_program_about *about)
{
    adze_status st = ADZE_OK;
    adze_text t = ADZE_TEXT_EMPTY;
    adze_options *own = NULL;
    const adze_method *method = NULL;
    TRY(adze_options_help(p->options, about->usage, about->about, about->examples, &t));
    if (about->model_flags && adze_options_given(p->options, "method")) {
        TRY(adze_method_find(adze_options_string(p->options, "method"), &method));
        TRY(adze_options_create(&own));
        TRY(adze_options_add(own, method->options, method->n_options));
        adze_text_printf(&t, "\n%s: %s\nSource: %s\nBenchmark: backbone %s, batch %" PRId64 "\n", method->name, method->summary,
                         method->source, method->backbone, method->batch);
        TRY(adze_options_help_set(own, "Options of the method, each as --set KEY=VALUE", &t));
    }
    TRY(adze_text_check(&t, "help"));
    fputs(t.s, stdout);
done:
    adze_options_destroy(own);
    adze_text_destroy(&t);
    return st;
}

static void print_methods(void)
{
    const adze_method *m;
    for (int i = 0; (m = adze_method_at(i)); i++) printf("%-12s %s\n             %s\n", m->name, m->summary, m->source);
}

/* Handles what stops the program before it starts; true if it should go on. */
static bool go_on(const adze_program *p, const adze_program_about *about, adze_status *st)
{
    bool methods = about->model_flags && adze_options_given(p->options, "method") &&
                   strcmp(adze_options_string(p->options, "method"), "help") == 0;
    if (methods) print_methods();
    else if (adze_options_flag(p->options, "help")) *st = print_help(p, about);
    else if (adze_options_flag(p->options, "version")) printf("%s " ADZE_VERSION "\n", about->name);
    else return true;
    return false;
}

bool adze_program_open(adze_program *p, const adze_program_about *about, int argc, char **argv, int *exit_code)
{
    adze_status st = ADZE_OK;
    bool open = false;
    *p = (adze_program){ .name = about->name, .started = adze_clock_seconds() };
    p->log = (adze_log){ .file = stderr, .least = ADZE_LOG_INFO, .program = about->name };
    TRY(adze_options_create(&p->options));
    TRY(adze_options_add(p->options, about->table, about->n_table));
    if (about->model_flags) TRY(adze_options_add(p->options, model_flags, sizeof model_flags / sizeof *model_flags));
    TRY(add_common(p->options, about));
    st = adze_options_parse(p->options, argc, argv, about->max_args);
    p->log.output = (adze_output)adze_options_choice(p->options, "log"); /* errors, too, come as asked for */
    TRY(st);
    TRY(adze_options_read_environment(p->options));
    if (adze_options_string(p->options, "config")) TRY(adze_options_read_file(p->options, adze_options_string(p->options, "config")));
    if (!go_on(p, about, &st)) goto done;

    REQUIRE(p->command = quoted_command(argc, argv), ADZE_ENOMEM, "no memory for the command line");
    p->log.output = (adze_output)adze_options_choice(p->options, "log");
    adze_progress_opts progress = { .file = stderr, .output = p->log.output, .is_terminal = isatty(STDERR_FILENO) == 1 };
    TRY(adze_progress_create(&p->progress, &progress));
    p->log.progress = p->progress;
    adze_memory_limit_set(adze_options_size(p->options, "memory-limit"));
    TRY(adze_interrupt_install());
    open = true;
done:
    if (!open) *exit_code = adze_program_close(p, st);
    return open;
}

/* The error, and for a failed allocation what can be done about it if the message does not say so itself. */
static void print_error(const adze_program *p, adze_status st)
{
    const char *message = adze_error_message();
    if (st == ADZE_ENOMEM && adze_memory_limit() > 0 && !strstr(message, "--memory-limit"))
        adze_log_write(&p->log, ADZE_LOG_ERROR, "%s; --memory-limit is %s: a larger one, a smaller --size or --batch helps", message,
                       adze_program_bytes(adze_memory_limit()));
    else adze_log_write(&p->log, ADZE_LOG_ERROR, "%s", message);
}

int adze_program_close(adze_program *p, adze_status st)
{
    adze_progress_destroy(p->progress);
    p->progress = NULL;
    p->log.progress = NULL;
    if (st != ADZE_OK) print_error(p, st);
    adze_options_destroy(p->options);
    adze_free((void *)p->command);
    return adze_status_exit_code(st);
}

adze_status adze_program_device(adze_program *p, adze_ctx **out)
{
    adze_status st = ADZE_OK;
    adze_ctx_opts opts = ADZE_CTX_OPTS;
    *out = NULL;
    opts.device = adze_options_string(p->options, "device");
    opts.threads = (int)adze_options_int(p->options, "threads");
    opts.deterministic = adze_options_flag(p->options, "deterministic");
    TRY(adze_precision_parse(adze_options_string(p->options, "precision"), &opts.precision));
    TRY(adze_ctx_create(out, &opts));
    adze_log_write(&p->log, ADZE_LOG_INFO, "device: %s", adze_ctx_description(*out));
done:
    return st;
}

adze_status adze_program_check_interrupt(void)
{
    return adze_interrupted() ? adze_fail(ADZE_EINTERRUPTED, "interrupted") : ADZE_OK;
}

bool adze_program_step(void *program, const char *what, int64_t done, int64_t total)
{
    adze_program *p = program;
    if (done == 0) adze_progress_begin(p->progress, what, "rows", 0, total);
    adze_progress_update(p->progress, done);
    return !adze_interrupted();
}

const char *adze_program_bytes(size_t n_bytes)
{
    static _Thread_local char text[4][32];
    static _Thread_local int next;
    char *s = text[next++ % 4];
    double n = (double)n_bytes;
    if (n >= 1e9) snprintf(s, sizeof text[0], "%.2f GB", n / 1e9);
    else if (n >= 1e6) snprintf(s, sizeof text[0], "%.1f MB", n / 1e6);
    else snprintf(s, sizeof text[0], "%.1f kB", n / 1e3);
    return s;
}

/* Resident memory now. */
static size_t resident_bytes(void)
{
    unsigned long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f) {
        if (fscanf(f, "%*u %lu", &pages) != 1) pages = 0;
        fclose(f);
    }
    return (size_t)pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* A number from a file of the system; 0 without one. `key`: what stands before it, or "". */
static size_t system_number(const char *path, const char *key)
{
    char line[128];
    unsigned long long n = 0;
    size_t length = strlen(key);
    FILE *f = fopen(path, "re");
    if (!f) return 0;
    while (n == 0 && fgets(line, sizeof line, f))
        if (strncmp(line, key, length) == 0 && sscanf(line + length, "%llu", &n) != 1) n = 0;
    fclose(f);
    return (size_t)n;
}

/* What the system can still give, by its own estimate and the limit of the control group. */
static size_t available_bytes(void)
{
    size_t free_bytes = 1024 * system_number("/proc/meminfo", "MemAvailable:");
    size_t limit = system_number("/sys/fs/cgroup/memory.max", ""), used = system_number("/sys/fs/cgroup/memory.current", "");
    size_t left = limit > used ? limit - used : 0;
    return limit > 0 && left < free_bytes ? left : free_bytes;
}

static size_t sum_of(const adze_memory_item *items)
{
    size_t n_bytes = 0;
    for (; items->what; items++) n_bytes += items->n_bytes;
    return n_bytes;
}

/* What will be counted against --memory-limit. */
static size_t counted_bytes(const adze_memory_item *items)
{
    size_t n_bytes = adze_memory_live_bytes();
    for (; items->what; items++) n_bytes += items->counted ? 0 : items->n_bytes;
    return n_bytes;
}

bool adze_program_fits(const adze_memory_item *items)
{
    size_t limit = adze_memory_limit(), available = available_bytes();
    return (limit == 0 || counted_bytes(items) <= limit) && (available == 0 || sum_of(items) <= available);
}

adze_status adze_program_memory(adze_program *p, const adze_memory_item *items, const char *what)
{
    adze_text t = ADZE_TEXT_EMPTY;
    size_t now = resident_bytes(), more = sum_of(items), counted = counted_bytes(items), largest = 0, limit = adze_memory_limit();
    size_t machine = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
    const char *largest_name = "";
    adze_text_printf(&t, "in use %s", adze_program_bytes(now));
    for (; items->what; items++) {
        adze_text_printf(&t, ", %s %s", items->what, adze_program_bytes(items->n_bytes));
        if (items->n_bytes > largest) largest = items->n_bytes, largest_name = items->what;
    }
    p->planned_bytes = now + more;
    adze_log_write(&p->log, ADZE_LOG_INFO, "peak memory of %s: %s (%s)", what, adze_program_bytes(now + more), t.s ? t.s : "");
    adze_text_destroy(&t);
    bool over_limit = limit > 0 && counted > limit;
    if (!over_limit && now + more <= machine) return ADZE_OK;
    return adze_fail(ADZE_ENOMEM,
                     "%s needs %s, %s is %s; the largest part is %s with %s: a larger --memory-limit, a smaller --size or fewer pictures help",
                     what, adze_program_bytes(over_limit ? counted : now + more), over_limit ? "--memory-limit" : "the machine's memory",
                     adze_program_bytes(over_limit ? limit : machine), largest_name, adze_program_bytes(largest));
}

/* What helps when a part of the device's memory is too large. */
static const char *remedy_of(const char *what)
{
    for (int b = 0; b < ADZE_BLOCKS; b++)
        if (strcmp(what, adze_block_name((adze_block)b)) == 0) return adze_block_remedy((adze_block)b);
    return adze_block_remedy(ADZE_BLOCK_OTHER);
}

bool adze_program_fits_device(const adze_ctx *ctx, const adze_memory_item *items)
{
    adze_device_memory m;
    return adze_ctx_memory(ctx, &m) && sum_of(items) <= m.free_bytes - m.free_bytes / 20;
}

adze_status adze_program_device_memory(adze_program *p, const adze_ctx *ctx, const adze_memory_item *items, const char *what)
{
    adze_text t = ADZE_TEXT_EMPTY;
    adze_device_memory m;
    size_t more = sum_of(items);
    const adze_memory_item *largest = items;
    if (!adze_ctx_memory(ctx, &m)) return ADZE_OK;
    for (int b = 0; b < ADZE_BLOCKS; b++)
        if (m.of[b] > 0) adze_text_printf(&t, "%s%s %s", t.n_bytes ? ", " : "", adze_block_name((adze_block)b), adze_program_bytes(m.of[b]));
    for (; items->what; items++) {
        adze_text_printf(&t, ", %s %s to come", items->what, adze_program_bytes(items->n_bytes));
        if (items->n_bytes > largest->n_bytes) largest = items;
    }
    p->planned_device_bytes = m.live_bytes + more > m.peak_bytes ? m.live_bytes + more : m.peak_bytes;
    adze_log_write(&p->log, ADZE_LOG_INFO, "device memory of %s: %s (%s); %s of %s are free", what, adze_program_bytes(p->planned_device_bytes),
                   t.s ? t.s : "", adze_program_bytes(m.free_bytes), adze_program_bytes(m.total_bytes));
    adze_text_destroy(&t);
    if (more <= m.free_bytes) return ADZE_OK;
    return adze_fail(ADZE_ENOMEM, "%s needs %zu more bytes of device memory, %zu are free; the largest part is %s with %zu bytes: %s", what,
                     more, m.free_bytes, largest->what, largest->n_bytes, remedy_of(largest->what));
}

adze_status adze_program_distinct(const adze_program *p, const char *list)
{
    for (int64_t i = 1; i < adze_options_list_count(p->options, list); i++)
        for (int64_t j = 0; j < i; j++) {
            const char *item = adze_options_list_at(p->options, list, i);
            if (strcmp(item, adze_options_list_at(p->options, list, j)) == 0) return adze_fail(ADZE_EINVAL, "--%s: %s twice", list, item);
        }
    return ADZE_OK;
}

adze_status adze_program_output(adze_program *p, const char *folder, const char *marker)
{
    adze_status st = ADZE_OK;
    char *path = adze_path_join(folder, marker);
    REQUIRE(path, ADZE_ENOMEM, "no memory for a path");
    REQUIRE(adze_options_flag(p->options, "force") || !adze_file_exists(path), ADZE_EINVAL,
            "%s exists: give another folder, or --force to overwrite it", path);
    TRY(adze_folder_create(folder));
    REQUIRE(access(folder, W_OK | X_OK) == 0, ADZE_EIO, "%s: no permission to write there", folder);
done:
    adze_free(path);
    return st;
}

size_t adze_program_peak_bytes(void)
{
    struct rusage own, ended;
    if (getrusage(RUSAGE_SELF, &own) != 0 || getrusage(RUSAGE_CHILDREN, &ended) != 0) return 0;
    return (size_t)(own.ru_maxrss > ended.ru_maxrss ? own.ru_maxrss : ended.ru_maxrss) * 1024;
}
