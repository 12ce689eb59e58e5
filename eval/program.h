/* program.h - what adze-train, adze-eval and adze-predict share: common flags, help, messages, progress, the device.
 *
 *     adze_program p;
 *     int code;
 *     if (!adze_program_open(&p, &about, argc, argv, &code)) return code;      help, version, or a wrong command line
 *     adze_status st = run(&p);
 *     return adze_program_close(&p, st);                                      prints the error, gives the exit status
 *
 * These functions may print; the rest of the library does not. */
#ifndef ADZE_EVAL_PROGRAM_H
#define ADZE_EVAL_PROGRAM_H

#include <stdbool.h>

#include "core/context.h"
#include "core/log.h"
#include "core/options.h"
#include "core/progress.h"
#include "models/method.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    const char *name;           /* "adze-train" */
    const adze_option *table;   /* the program's own options */
    size_t n_table;
    bool model_flags;           /* also --method --backbone --weights --size --seed --set */
    const char *const *without; /* common flags that it does not have, NULL-terminated; NULL: it has all */
    int64_t max_args;           /* positional arguments */
    const char *usage, *about, *examples;
} adze_program_about;

typedef struct {
    const char *name;
    adze_options *options;
    adze_progress *progress;
    adze_log log;
    double started;      /* adze_clock_seconds() */
    const char *command; /* the command line, quoted; owned */
    size_t planned_bytes; /* what adze_program_memory() said last */
    size_t planned_device_bytes; /* the same of adze_program_device_memory() */
} adze_program;

/* Parses and prepares. False: *exit_code is the program's status and everything is closed. Installs the interrupt flag and
 * the memory limit. */
bool adze_program_open(adze_program *p, const adze_program_about *about, int argc, char **argv, int *exit_code);
int adze_program_close(adze_program *p, adze_status st);

/* Opens --device with --threads, --precision and --deterministic; says which it is. */
adze_status adze_program_device(adze_program *p, adze_ctx **out);
/* Asks adze_interrupted(). For adze_work_progress and the like: reports to p->progress, false when interrupted. */
bool adze_program_step(void *program, const char *what, int64_t done, int64_t total);
adze_status adze_program_check_interrupt(void);
/* Says what will be held at once, and refuses if it cannot fit below --memory-limit or in the machine's memory. */
adze_status adze_program_memory(adze_program *p, const adze_memory_item *items, const char *what);
/* The same for a device with memory of its own: what is held there by purpose, and `items` that are yet to come, beside what
 * is free. Nothing is said of devices that compute in host memory. */
adze_status adze_program_device_memory(adze_program *p, const adze_ctx *ctx, const adze_memory_item *items, const char *what);
/* Whether the items fit into what the device has free, and leave a twentieth of it to libraries and others; false where it has no
 * memory of its own. */
bool adze_program_fits_device(const adze_ctx *ctx, const adze_memory_item *items);
/* Whether the items fit below --memory-limit and in what the system has available now. */
bool adze_program_fits(const adze_memory_item *items);
/* Refuses a LIST option that names something twice. */
adze_status adze_program_distinct(const adze_program *p, const char *list);
/* Refuses a folder that holds results (the file `marker`), unless --force; creates it. */
adze_status adze_program_output(adze_program *p, const char *folder, const char *marker);
/* Peak resident memory of this process, or of the largest that it started and that has ended, from the system. */
size_t adze_program_peak_bytes(void);
/* "1.25 GB" into a buffer of this thread. */
const char *adze_program_bytes(size_t n_bytes);

#ifdef __cplusplus
}
#endif
#endif
