/* run_record.h - RUN/run.json: how a run came about, so that its numbers can be made again.
 *
 * format, format_version; version, finished, command, device, precision, threads, manifest_sha256, weights_file, weights_sha256,
 * weights_tag; config and method_options (each option's value); seconds, peak_memory_bytes; classes: by name
 *   images, seconds, planned_memory_bytes, peak_memory_bytes, facts
 *   on a device with memory of its own: planned_device_memory_bytes, peak_device_memory_bytes
 *   where libraries choose engines: engines, a list of
 *     op, backward, output (shape), part ("forward", "data gradient" ...)     which call
 *     library, engine (its number there), choice (its place among those that fit), workspace_bytes
 *     chosen    "timed" just now (then ms of one run), "cache" by an earlier run, "only" one fits, "first": timing was useless, since
 *               nothing could be kept and the next run might choose another one
 *     count     of equal calls */
#ifndef ADZE_TRAIN_RUN_RECORD_H
#define ADZE_TRAIN_RUN_RECORD_H

#include <stdint.h>

#include "core/context.h"
#include "core/options.h"
#include "core/text.h"
#include "datasets/dataset.h"
#include "eval/program.h"

/* Collected while the run goes on; zero-initialised = empty. */
typedef struct {
    adze_text fields, classes; /* JSON members so far */
    adze_text manifest;        /* JSON; empty until it is known */
} run_record;

void run_record_destroy(run_record *r);
void run_record_text(run_record *r, const char *key, const char *value);
/* Peaks of memory that were announced, and those that were seen: of the host by the system, of a device with memory of its own
 * by what was allocated there (both 0: there is none, nothing is written). */
typedef struct {
    size_t planned_bytes, measured_bytes, planned_device_bytes, measured_device_bytes;
} run_memory;
/* engines: of libraries, as adze_plan_engines() gives them; NULL: none were chosen, and nothing is written. */
void run_record_class(run_record *r, const char *name, int64_t n_images, double seconds, const run_memory *memory, const char *engines,
                      const char *facts);
/* Takes over the classes that another process recorded; NULL or "": none. */
void run_record_join(run_record *r, const char *classes);
/* {"key": value, ...} of every option; numbers and flags unquoted, unset ones null. */
adze_status run_record_options_json(const adze_options *o, adze_text *out);
/* Writes OUT/run.json. The classes of an earlier record there that this run has not made stay, each with the command that made it, as long
 * as their models do. The first call reads every picture and mask once for the manifest hash; null, with a warning, if one cannot be read. */
adze_status run_record_write(run_record *r, const adze_program *p, const adze_options *method_options, const adze_ctx *ctx,
                             const adze_dataset *data, const char *out);

#endif
