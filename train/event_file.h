/* event_file.h - scalars for TensorBoard: an event file, written without TensorFlow or protobuf.
 *
 *   record  u64 length | masked CRC-32C of these 8 bytes | payload | masked CRC-32C of the payload, little-endian
 *   event   { 1: double wall_time, 2: int64 step, 3: string file_version, 5: summary { 1: value { 1: tag, 2: float } } } */
#ifndef ADZE_TRAIN_EVENT_FILE_H
#define ADZE_TRAIN_EVENT_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define ADZE_EVENT_FILE_NAME "events.out.tfevents.0.adze" /* TensorBoard finds it by its "tfevents" */

typedef struct adze_event_file adze_event_file; /* opaque: owns the open file */

/* last_step < 0: a new file, whatever was there. Otherwise whole events of steps <= last_step are kept; everything from the
 * first later, damaged or torn one on is cut off. ADZE_EIO, ADZE_EINPUT (unreadable), ADZE_ENOMEM. */
adze_status adze_event_file_open(adze_event_file **out, const char *path, int64_t last_step);
void adze_event_file_close(adze_event_file *e); /* NULL is fine */
/* One event with n scalars (rounded to float), handed to the system at once. wall_s: seconds since 1970, 0 = now. */
adze_status adze_event_file_scalars(adze_event_file *e, int64_t step, double wall_s, int n, const char *const *tag,
                                    const double *value);

/* CRC-32C (Castagnoli), and as records hold it. */
uint32_t adze_crc32c(const void *data, size_t n_bytes);
uint32_t adze_crc32c_masked(const void *data, size_t n_bytes);

#ifdef __cplusplus
}
#endif
#endif
