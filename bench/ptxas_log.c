/* ptxas_log.c - reading the compiler's logs, and the theoretical occupancy that follows from them. Entry: ptxas_log_table().
 * Occupancy: registers are given out per warp in units of 256, shared memory per block with 1 KB of the system's; a block's size
 * is not in the log, so kernels with other than 256 threads are listed here. */
#include "bench/ptxas_log.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/memory.h"

enum { NAME_BYTES = 96, LINE_BYTES = 4096, MAX_FILES = 256 };

typedef struct {
    char name[NAME_BYTES];
    int registers, spilled_bytes, shared_bytes;
} kernel_facts;

static const struct {
    const char *arch;
    int threads, shared_bytes;
} archs[] = { { "sm_80", 2048, 164 << 10 }, { "sm_86", 1536, 100 << 10 }, { "sm_89", 1536, 100 << 10 }, { "sm_90", 2048, 228 << 10 }, { "sm_120", 1536, 100 << 10 } };

static const struct {
    const char *name;
    int threads;
} sizes[] = { { "line_finish_kernel", 32 }, { "column_finish_kernel", 64 }, { "choose_kernel", 1024 }, { "pick_kernel", 1024 } };

static int block_threads(const char *name)
{
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (strncmp(name, sizes[i].name, strlen(sizes[i].name)) == 0) return sizes[i].threads;
    return 256;
}

/* The identifiers and numbers of a mangled name, without the unnamed namespace: "cells_kernel backward_body 4". */
static void readable(const char *mangled, char *out)
{
    size_t n = 0;
    for (const char *p = mangled; *p && n + 2 < NAME_BYTES;) {
        char *end;
        if (isdigit((unsigned char)*p)) {
            size_t length = strtoul(p, &end, 10);
            if (length > strlen(end)) break;
            if (strncmp(end, "_GLOBAL__", 9) != 0) n += (size_t)snprintf(out + n, NAME_BYTES - n, "%s%.*s", n ? " " : "", (int)length, end);
            p = end + length;
        } else if (p[0] == 'L' && (p[1] == 'i' || p[1] == 'b') && isdigit((unsigned char)p[2])) {
            unsigned long value = strtoul(p + 2, &end, 10);
            n += (size_t)snprintf(out + n, NAME_BYTES - n, " %lu", value);
            p = end;
        } else if (p[0] == 'E' && p[1] == 'v') {
            break; /* the parameters */
        } else {
            p++;
        }
        if (n >= NAME_BYTES) n = NAME_BYTES - 1;
    }
    out[n < NAME_BYTES ? n : NAME_BYTES - 1] = 0;
}

static int resident_threads(const kernel_facts *k, int arch)
{
    int threads = block_threads(k->name), warps = threads / 32;
    int per_warp = (k->registers * 32 + 255) / 256 * 256;
    int by_registers = 65536 / (per_warp * warps), by_threads = archs[arch].threads / threads;
    int by_shared = archs[arch].shared_bytes / (k->shared_bytes + 1024);
    int blocks = by_registers < by_threads ? by_registers : by_threads;
    return threads * (blocks < by_shared ? blocks : by_shared);
}

static void append(const kernel_facts *k, const char *file, int arch, adze_text *out)
{
    int resident = resident_threads(k, arch);
    adze_text_printf(out, "%-22s %-52s %4d %6d %7d %5d (%3d %%)\n", file, k->name, k->registers, k->spilled_bytes, k->shared_bytes, resident,
                     100 * resident / archs[arch].threads);
}

static adze_status read_log(const char *folder, const char *file, int arch, adze_text *out, int *kernels, int *spilled)
{
    adze_status st = ADZE_OK;
    char line[LINE_BYTES], mangled[LINE_BYTES], of[16], source[64];
    char *path = adze_path_join(folder, file);
    FILE *f = path ? fopen(path, "r") : NULL;
    kernel_facts k = { .registers = 0 };
    bool mine = false;
    REQUIRE(f, ADZE_EIO, "%s/%s: %s", folder, file, strerror(errno));
    snprintf(source, sizeof source, "%.*s", (int)(strlen(file) - strlen(".ptxas.txt")), file);
    while (fgets(line, sizeof line, f)) {
        int store = 0;
        const char *at;
        if (sscanf(line, "ptxas info : Compiling entry function '%4000[^']' for '%15[^']'", mangled, of) == 2) {
            mine = strcmp(of, archs[arch].arch) == 0;
            k = (kernel_facts){ .registers = 0 };
            readable(mangled, k.name);
        } else if (mine && (at = strstr(line, "bytes stack frame,")) && sscanf(at, "bytes stack frame, %d bytes spill stores", &store) == 1) {
            k.spilled_bytes = store;
        } else if (mine && (at = strstr(line, "Used ")) && sscanf(at, "Used %d registers", &k.registers) == 1) {
            const char *smem = strstr(at, " bytes smem");
            while (smem && smem > at && smem[-1] != ' ') smem--;
            k.shared_bytes = smem ? atoi(smem) : 0;
            append(&k, source, arch, out);
            ++*kernels, *spilled += k.spilled_bytes > 0;
            mine = false;
        }
    }
done:
    if (f) fclose(f);
    adze_free(path);
    return st;
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

adze_status ptxas_log_table(const char *folder, const char *arch, adze_text *out, int *kernels, int *spilled)
{
    adze_status st = ADZE_OK;
    char *names[MAX_FILES];
    int n = 0, which = -1;
    DIR *dir = NULL;
    *kernels = *spilled = 0;
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++)
        if (strcmp(archs[i].arch, arch) == 0) which = (int)i;
    REQUIRE(which >= 0, ADZE_EINVAL, "architecture '%s', want sm_80, sm_86, sm_89, sm_90 or sm_120", arch);
    if (!(dir = opendir(folder))) goto done;
    for (struct dirent *entry; (entry = readdir(dir)) && n < MAX_FILES;) {
        const char *dot = strstr(entry->d_name, ".cu.ptxas.txt");
        if (!dot || dot[strlen(".cu.ptxas.txt")]) continue;
        REQUIRE(names[n] = adze_strdup(entry->d_name), ADZE_ENOMEM, "no memory for names");
        n++;
    }
    qsort(names, (size_t)n, sizeof *names, by_name);
    if (n > 0)
        adze_text_printf(out, "%-22s %-52s %4s %6s %7s %s\n", "file", "kernel", "regs", "spills", "shared", "resident threads");
    for (int i = 0; i < n; i++) TRY(read_log(folder, names[i], which, out, kernels, spilled));
    st = adze_text_check(out, "kernels");
done:
    if (dir) closedir(dir);
    for (int i = 0; i < n; i++) adze_free(names[i]);
    return st;
}
