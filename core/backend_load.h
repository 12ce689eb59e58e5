/* backend_load.h - backends in shared objects of their own, loaded on demand. */
#ifndef ADZE_CORE_BACKEND_LOAD_H
#define ADZE_CORE_BACKEND_LOAD_H

#include "core/backend.h"
#include "core/text.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The table of backend "cuda" or "cusim" from adze_NAME.so. It is looked for in the folder ADZE_BACKEND_PATH (an absolute path;
 * ignored in programs with raised privileges), beside the running program, beside libadze.so, and in ../lib and ../lib/adze of both.
 * Loaded once per process and never unloaded. ADZE_EBACKEND, in one line: no NVIDIA driver, no such file, a library that it
 * needs is missing, or it was built for another version of adze. */
adze_status adze_backend_load(const char *name, const adze_backend **out);
/* The file that adze_backend_load() would take (adze_free), NULL if there is none; *looked lists the folders, for messages. */
adze_status adze_backend_find(const char *name, char **path, adze_text *looked);

#ifdef __cplusplus
}
#endif
#endif
