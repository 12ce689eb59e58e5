/* plan_cache.c - small files named by the hash of their key; the key stands in the file and is compared. Entry:
 * plan_cache_read(). A file is linked into place, which fails if there is one: all processes agree on the first choice. */
#include "cuda/plan_cache.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/memory.h"
#include "core/sha256.h"

enum { MAX_BYTES = 4096 };

/* The folder, or NULL; in new memory. */
static char *folder(void)
{
    const char *cache = secure_getenv("XDG_CACHE_HOME"), *home = secure_getenv("HOME");
    if (cache && cache[0] == '/') return adze_strprintf("%s/adze/plans", cache);
    return home && home[0] == '/' ? adze_strprintf("%s/.cache/adze/plans", home) : NULL;
}

static char *file_of(const char *in, const char *key)
{
    char hex[ADZE_SHA256_HEX];
    adze_sha256_of(key, strlen(key), hex);
    return adze_strprintf("%s/%s", in, hex);
}

static bool read_file(const char *path, const char *key, int64_t *choice)
{
    unsigned char *data = NULL;
    size_t n_bytes, key_bytes = strlen(key);
    bool found = adze_file_exists(path) && adze_file_read(path, MAX_BYTES, &data, &n_bytes) == ADZE_OK && n_bytes > key_bytes + 1 &&
                 memcmp(data, key, key_bytes) == 0 && data[key_bytes] == '\n';
    char *end = NULL;
    if (found) *choice = strtoll((const char *)data + key_bytes + 1, &end, 10);
    found = found && end && *end == '\n' && *choice >= 0;
    adze_free(data);
    return found;
}

bool plan_cache_read(const char *key, int64_t *choice)
{
    char *in = folder(), *path = in ? file_of(in, key) : NULL;
    bool found = path && read_file(path, key, choice);
    adze_free(path);
    adze_free(in);
    return found;
}

bool plan_cache_write(const char *key, int64_t *choice)
{
    char *in = folder(), *path = in ? file_of(in, key) : NULL, *part = path ? adze_strprintf("%s.%ld", path, (long)getpid()) : NULL;
    bool stored = false;
    FILE *f = part && adze_folder_create(in) == ADZE_OK ? fopen(part, "wxe") : NULL;
    if (f) {
        bool whole = fprintf(f, "%s\n%" PRId64 "\n", key, *choice) > 0;
        whole = fclose(f) == 0 && whole;
        stored = whole && (link(part, path) == 0 || read_file(path, key, choice) || rename(part, path) == 0);
        unlink(part);
    }
    adze_free(part);
    adze_free(path);
    adze_free(in);
    return stored;
}
