/* backend_load.c - finds and opens adze_cuda.so and adze_cusim.so. Entry: adze_backend_load(). */
#include "core/backend_load.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/memory.h"

static const adze_services services = {
    .abi = ADZE_BACKEND_ABI,
    .op_count = ADZE_OP_COUNT,
    .backend_bytes = sizeof(adze_backend),
    .call_bytes = sizeof(adze_call),
    .vfail = adze_vfail,
    .vfail_prefix = adze_vfail_prefix,
    .error_message = adze_error_message,
    .malloc = adze_malloc,
    .calloc = adze_calloc,
    .realloc = adze_realloc,
    .free = adze_free,
};

/* Folder of the object that holds this code: the program, or libadze.so. */
static char *library_folder(void)
{
    Dl_info info;
    char path[PATH_MAX];
    if (!dladdr(&services, &info) || !info.dli_fname || !realpath(info.dli_fname, path)) return NULL;
    *strrchr(path, '/') = 0;
    return adze_strdup(path);
}

/* Sets *path if folder/below/file is there and none was found before; `below` may be NULL. */
static adze_status look(const char *folder, const char *below, const char *file, char **path, adze_text *looked)
{
    adze_status st = ADZE_OK;
    char *at = below ? adze_path_join(folder, below) : adze_strdup(folder), *full = at ? adze_path_join(at, file) : NULL;
    REQUIRE(full, ADZE_ENOMEM, "no memory for a path");
    adze_text_printf(looked, "%s%s", looked->n_bytes ? ", " : "", at);
    if (!*path && adze_file_exists(full)) {
        *path = full;
        full = NULL;
    }
done:
    adze_free(full);
    adze_free(at);
    return st;
}

adze_status adze_backend_find(const char *name, char **path, adze_text *looked)
{
    adze_status st = ADZE_OK;
    static const char *const below[] = { NULL, "../lib", "../lib/adze" };
    char *folder[2] = { NULL, library_folder() }, *file = adze_strprintf("adze_%s.so", name);
    const char *own = secure_getenv("ADZE_BACKEND_PATH");
    *path = NULL;
    REQUIRE(file, ADZE_ENOMEM, "no memory for a path");
    TRY(adze_program_folder(&folder[0]));
    if (own && own[0] == '/') TRY(look(own, NULL, file, path, looked));
    for (size_t f = 0; f < sizeof folder / sizeof *folder; f++)
        for (size_t b = 0; b < sizeof below / sizeof *below && folder[f]; b++)
            if (f == 0 || strcmp(folder[0], folder[1]) != 0) TRY(look(folder[f], below[b], file, path, looked));
done:
    if (st != ADZE_OK) {
        adze_free(*path);
        *path = NULL;
    }
    adze_free(folder[0]);
    adze_free(folder[1]);
    adze_free(file);
    return st;
}

/* A cheap question before large libraries are loaded: without a driver nothing of CUDA works. */
static adze_status need_driver(void)
{
    void *driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
    if (!driver) return adze_fail(ADZE_EBACKEND, "device cuda: there is no NVIDIA driver here (libcuda.so.1); --device cpu works");
    dlclose(driver);
    return ADZE_OK;
}

adze_status adze_backend_load(const char *name, const adze_backend **out)
{
    adze_status st = ADZE_OK;
    char *path = NULL;
    adze_text looked = ADZE_TEXT_EMPTY;
    *out = NULL;
    if (strcmp(name, "cuda") == 0) TRY(need_driver());
    TRY(adze_backend_find(name, &path, &looked));
    REQUIRE(path, ADZE_EBACKEND, "device %s: there is no adze_%s.so (looked in %s)", name, name, looked.s ? looked.s : "");
    void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL); /* stays: CUDA's libraries cannot be unloaded */
    REQUIRE(object, ADZE_EBACKEND, "device %s: %s", name, dlerror());
    adze_backend_table_fn table;
    void *symbol = dlsym(object, "adze_backend_table");
    REQUIRE(symbol, ADZE_EBACKEND, "device %s: %s is no backend of adze", name, path);
    memcpy(&table, &symbol, sizeof table);
    *out = table(&services);
    REQUIRE(*out, ADZE_EBACKEND, "device %s: %s was built for another version of adze", name, path);
done:
    adze_text_destroy(&looked);
    adze_free(path);
    return st;
}
