/* run_record.h - RUN/run.json: how a run came about, so that its numbers can be made again. */
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
} run_record;

void run_record_destroy(run_record *r);
void run_record_text(run_record *r, const char *key, const char *value);
/* Peaks of memory that were announced, and those that were seen: of the host by the system, of a device with memory of its own
 * by what was allocated there (both 0: there is none, nothing is written). */
typedef struct {
    size_t planned_bytes, measured_bytes, planned_device_bytes, measured_device_bytes;
} run_memory;
void run_record_class(run_record *r, const char *name, int64_t n_images, double seconds, const run_memory *memory, const char *facts);
/* Takes over the classes that another process recorded; NULL or "": none. */
void run_record_join(run_record *r, const char *classes);
/* {"key": value, ...} of every option; numbers and flags unquoted, unset ones null. */
adze_status run_record_options_json(const adze_options *o, adze_text *out);
/* Writes OUT/run.json. Reads every training picture and mask once for the manifest hash. */
adze_status run_record_write(run_record *r, const adze_program *p, const adze_options *method_options, const adze_ctx *ctx,
                             const adze_dataset *data, const char *out);

#endif
