/* append_file.h - a file that grows by whole records and is cut back to a known length when a run is resumed. */
#ifndef ADZE_TRAIN_APPEND_FILE_H
#define ADZE_TRAIN_APPEND_FILE_H

#include <stddef.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int fd; /* -1: closed */
    char *path; /* owned */
} adze_append_file;
#define ADZE_APPEND_FILE_CLOSED ((adze_append_file){ -1, NULL })

/* Creates the file or keeps its first `keep_bytes`; what follows is cut off. ADZE_EIO, ADZE_ENOMEM. */
adze_status adze_append_file_open(adze_append_file *f, const char *path, size_t keep_bytes);
/* All bytes in one call to the system where it takes them; ADZE_EIO names path and reason. */
adze_status adze_append_file_write(adze_append_file *f, const void *data, size_t n_bytes);
void adze_append_file_close(adze_append_file *f);

#ifdef __cplusplus
}
#endif
#endif
