/* cusim_count.c - how a kernel's accesses fall on memory: 32-byte sectors per request of a warp, conflicts of shared banks.
 * Entries: cusim_count(), cusim_counts_of(). Lanes run one after another here, so their accesses meet later: the k-th
 * execution of one instruction by each lane since the last barrier is taken as one request. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cusim_impl.h"

enum { MAX_SITES = 8192, BANKS = 32, BANK_BYTES = 4, SECTOR_BYTES = 32 };

typedef struct {
    uint64_t at[CUSIM_WARP];
    uint32_t lanes;
} request;

typedef struct {
    request *items;
    size_t n, capacity;
} request_list;

/* One instruction. */
typedef struct {
    const void *pc;
    int n_bytes;
    bool write, shared;
    uint32_t done[CUSIM_MAX_THREADS];                    /* executions of each thread since the last barrier */
    request_list warps[CUSIM_MAX_THREADS / CUSIM_WARP];
} site;

bool cusim_counting;

static site *sites[MAX_SITES]; /* open addressing by pc; of the running launch */
static size_t n_sites;
static cusim_counts *kernels;
static size_t n_kernels;
static cusim_counts *current;

/* "(rows_kernel<4, 8>)" is rows_kernel. */
static void plain_name(const char *name, char *out, size_t out_bytes)
{
    while (*name == '(' || *name == ' ') name++;
    const char *colons = strrchr(name, ':');
    if (colons && !memchr(name, '<', (size_t)(colons - name))) name = colons + 1;
    size_t n = strcspn(name, "<) ");
    snprintf(out, out_bytes, "%.*s", (int)n, name);
}

void cusim_count(bool on)
{
    cusim_lock();
    cusim_run_all();
    free(kernels);
    kernels = NULL;
    n_kernels = 0;
    cusim_counting = on;
    cusim_unlock();
}

static void add_traffic(cusim_traffic *to, const cusim_traffic *from)
{
    to->requests += from->requests;
    to->sectors += from->sectors;
    to->bytes += from->bytes;
    to->fewest += from->fewest;
}

bool cusim_counts_of(const char *kernel, cusim_counts *counts)
{
    *counts = (cusim_counts){0};
    for (size_t i = 0; i < n_kernels; i++) {
        const cusim_counts *k = &kernels[i];
        if (strcmp(k->kernel, kernel) != 0) continue;
        memcpy(counts->kernel, k->kernel, sizeof k->kernel);
        counts->launches += k->launches;
        counts->shared_requests += k->shared_requests;
        counts->shared_passes += k->shared_passes;
        counts->shared_ideal += k->shared_ideal;
        add_traffic(&counts->load, &k->load);
        add_traffic(&counts->store, &k->store);
        if (k->threads > counts->threads) counts->threads = k->threads;
        if (k->shared_bytes > counts->shared_bytes) counts->shared_bytes = k->shared_bytes;
        if (k->worst_conflict > counts->worst_conflict) counts->worst_conflict = k->worst_conflict;
    }
    return counts->launches > 0;
}

size_t cusim_counted_kernels(const cusim_counts **counts)
{
    *counts = kernels;
    return n_kernels;
}

void cusim_count_launch(const cusim_kernel_call *call)
{
    char name[sizeof kernels->kernel];
    plain_name(call->name, name, sizeof name);
    size_t i = 0;
    while (i < n_kernels && kernels[i].entry != call->kernel) i++;
    if (i == n_kernels) {
        cusim_counts *grown = realloc(kernels, (n_kernels + 1) * sizeof *grown);
        if (!grown) {
            cusim_counting = false;
            return;
        }
        kernels = grown;
        kernels[n_kernels] = (cusim_counts){.entry = call->kernel};
        memcpy(kernels[n_kernels++].kernel, name, sizeof name);
    }
    current = &kernels[i];
    current->launches++;
    int threads = (int)(call->block.x * call->block.y * call->block.z);
    if (threads > current->threads) current->threads = threads;
    if (call->shared_bytes > current->shared_bytes) current->shared_bytes = call->shared_bytes;
}

/* ADZE_CUSIM_COUNTS=FILE: counts from the start, and at the end adds a line per kernel to FILE. */
__attribute__((constructor)) static void begin(void) { cusim_counting = getenv("ADZE_CUSIM_COUNTS") != NULL; }

__attribute__((destructor)) static void write_counts(void)
{
    const char *path = getenv("ADZE_CUSIM_COUNTS");
    FILE *f = path ? fopen(path, "a") : NULL;
    if (!f) return;
    for (size_t i = 0; i < n_kernels; i++) {
        const cusim_counts *k = &kernels[i];
        Dl_info info = {0};
        dladdr(k->entry, &info);
        fprintf(f, "%s\t%zu\t%s\t%lld\t%d\t%zu", info.dli_fname ? info.dli_fname : "?",
                (size_t)((const char *)k->entry - (const char *)info.dli_fbase), k->kernel, (long long)k->launches, k->threads,
                k->shared_bytes);
        const int64_t rest[] = {k->load.requests, k->load.sectors, k->load.fewest, k->store.requests, k->store.sectors,
                                k->store.fewest, k->shared_requests, k->shared_passes, k->shared_ideal, k->worst_conflict};
        for (size_t j = 0; j < sizeof rest / sizeof *rest; j++) fprintf(f, "\t%lld", (long long)rest[j]);
        fputc('\n', f);
    }
    fclose(f);
}

static site *find_site(const void *pc, size_t n, bool write, bool shared)
{
    size_t h = (size_t)((uintptr_t)pc * 0x9e3779b97f4a7c15u >> 51) % MAX_SITES;
    while (sites[h] && (sites[h]->pc != pc || sites[h]->shared != shared || sites[h]->write != write)) h = (h + 1) % MAX_SITES;
    if (!sites[h] && n_sites < MAX_SITES / 2) {
        sites[h] = calloc(1, sizeof *sites[h]);
        if (sites[h]) {
            sites[h]->pc = pc;
            sites[h]->n_bytes = (int)n;
            sites[h]->write = write;
            sites[h]->shared = shared;
            n_sites++;
        }
    }
    return sites[h];
}

void cusim_count_access(const cusim_thread *t, const void *p, size_t n, bool write, const void *pc)
{
    size_t at = (size_t)((const unsigned char *)p - cusim_memory.base);
    if (at >= cusim_memory.shared_end || n == 0 || n > 16) return;
    site *s = find_site(pc, n, write, at >= cusim_memory.device_end);
    if (!s) return;
    size_t k = s->done[t->index]++;
    request_list *l = &s->warps[t->index / CUSIM_WARP];
    if (k >= l->capacity) {
        size_t capacity = l->capacity ? 2 * l->capacity : 16;
        request *grown = realloc(l->items, capacity * sizeof *grown);
        if (!grown) return;
        l->items = grown;
        l->capacity = capacity;
    }
    for (; l->n <= k; l->n++) l->items[l->n].lanes = 0;
    l->items[k].at[t->index % CUSIM_WARP] = at;
    l->items[k].lanes |= 1u << (t->index % CUSIM_WARP);
}

static int count_distinct(uint64_t *v, int n)
{
    int distinct = 0;
    for (int i = 0; i < n; i++) {
        bool seen = false;
        for (int j = 0; j < distinct && !seen; j++) seen = v[j] == v[i];
        if (!seen) v[distinct++] = v[i];
    }
    return distinct;
}

static void count_global(const site *s, const request *r)
{
    uint64_t sectors[CUSIM_WARP];
    int n = 0;
    for (int l = 0; l < CUSIM_WARP; l++)
        if (r->lanes >> l & 1) sectors[n++] = r->at[l] / SECTOR_BYTES;
    cusim_traffic *c = s->write ? &current->store : &current->load;
    c->requests++;
    c->sectors += count_distinct(sectors, n);
    uint64_t bytes[CUSIM_WARP]; /* lanes that read the same address need it once */
    n = 0;
    for (int l = 0; l < CUSIM_WARP; l++)
        if (r->lanes >> l & 1) bytes[n++] = r->at[l];
    const int64_t asked = (int64_t)count_distinct(bytes, n) * s->n_bytes;
    c->bytes += asked;
    c->fewest += (asked + SECTOR_BYTES - 1) / SECTOR_BYTES;
}

/* 4 bytes per lane and less: the warp at once; 8: by halves; 16: by quarters. In each pass a bank gives one word to all. */
static void count_shared(const site *s, const request *r)
{
    int per_pass = s->n_bytes <= BANK_BYTES ? CUSIM_WARP : CUSIM_WARP * BANK_BYTES / s->n_bytes;
    int words = s->n_bytes <= BANK_BYTES ? 1 : s->n_bytes / BANK_BYTES;
    current->shared_requests++;
    for (int first = 0; first < CUSIM_WARP; first += per_pass) {
        uint64_t in_bank[BANKS][CUSIM_WARP];
        int n[BANKS] = {0}, most = 0;
        for (int l = first; l < first + per_pass; l++)
            for (int w = 0; r->lanes >> l & 1 && w < words; w++) {
                uint64_t word = r->at[l] / BANK_BYTES + (uint64_t)w;
                int b = (int)(word % BANKS);
                in_bank[b][n[b]++] = word;
            }
        for (int b = 0; b < BANKS; b++) {
            int distinct = count_distinct(in_bank[b], n[b]);
            if (distinct > most) most = distinct;
        }
        if (most == 0) continue;
        current->shared_passes += most;
        current->shared_ideal++;
        if (most > current->worst_conflict) current->worst_conflict = most;
    }
}

void cusim_count_flush(void)
{
    for (size_t h = 0; h < MAX_SITES; h++) {
        site *s = sites[h];
        if (!s) continue;
        for (size_t w = 0; w < CUSIM_MAX_THREADS / CUSIM_WARP; w++) {
            for (size_t k = 0; k < s->warps[w].n; k++) {
                if (s->shared) count_shared(s, &s->warps[w].items[k]);
                else count_global(s, &s->warps[w].items[k]);
            }
            s->warps[w].n = 0;
        }
        memset(s->done, 0, sizeof s->done);
    }
}

void cusim_count_finish(void)
{
    for (size_t h = 0; h < MAX_SITES; h++) {
        if (!sites[h]) continue;
        for (size_t w = 0; w < CUSIM_MAX_THREADS / CUSIM_WARP; w++) free(sites[h]->warps[w].items);
        free(sites[h]);
        sites[h] = NULL;
    }
    n_sites = 0;
}
