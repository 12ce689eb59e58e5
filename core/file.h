/* file.h - reading a whole file within a limit, and writing one so that it is either old or new, never half.
 *
 * A writer works on PATH.tmp beside PATH; commit = flush, fsync, rename, fsync of the folder. */
#ifndef ADZE_CORE_FILE_H
#define ADZE_CORE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Reads PATH completely; *data is owned by the caller (adze_free) and has one NUL byte after its end.
 * ADZE_EINPUT: missing, not a regular file, or larger than limit_bytes; ADZE_ENOMEM. */
adze_status adze_file_read(const char *path, size_t limit_bytes, unsigned char **data, size_t *n_bytes);

/* Writes the bytes atomically (see above). ADZE_EIO names the path and the reason (disk full, permission). */
adze_status adze_file_write(const char *path, const void *data, size_t n_bytes);

/* The two halves for libraries that write files themselves: write to the returned temporary name, then commit.
 * *tmp_path is owned by the caller (adze_free). commit syncs and renames; discard removes the temporary. */
adze_status adze_file_begin(const char *path, char **tmp_path);
adze_status adze_file_commit(const char *tmp_path, const char *path);
void adze_file_discard(const char *tmp_path);

/* mkdir -p; an existing folder is fine. ADZE_EIO otherwise. */
adze_status adze_folder_create(const char *path);
/* Removes what writers that were killed left in a folder: files whose names end in ".tmp". No such folder is fine. */
void adze_folder_remove_leftovers(const char *path);
/* Takes a folder for this process, until unlock or the end of the process; *lock is for unlock, negative where the file system has no
 * locks. ADZE_EIO: somebody else has it, unless `wait`. */
adze_status adze_folder_lock(const char *path, bool wait, int *lock);
void adze_folder_unlock(int lock);
bool adze_file_exists(const char *path);
bool adze_folder_exists(const char *path);
/* Last path component, never NULL; points into `path`. */
const char *adze_path_base(const char *path);
/* "dir/name" in new memory (adze_free); NULL if out of memory. No doubled slash. */
char *adze_path_join(const char *dir, const char *name);

/* Folder of the running program, without a slash at its end (adze_free). ADZE_EINTERNAL, ADZE_ENOMEM. */
adze_status adze_program_folder(char **out);

#ifdef __cplusplus
}
#endif
#endif
