/* ranks_nccl.c - means over processes with a GPU each. Entry: adze_cuda_ranks_join(), adze_cuda_ranks_mean(), adze_cuda_ranks_facts().
 *
 * NCCL is loaded when the first id is asked for, so that nothing else needs it. Its all-reduce gives every rank the same bits; it is
 * queued on the context's stream, also while that is captured. Ranks that are left early are aborted: work that waits for the
 * others would never end. */
#include "cuda/ranks_nccl.h"

#include <string.h>

#include "core/memory.h"
#include "cuda/cuda_state.h"

#if __has_include(<nccl.h>)
#include <nccl.h>
#include <stdio.h>

#ifdef ADZE_CUSIM
#include <cusim.h>
#else
#include <dlfcn.h>
#endif

typedef struct {
    void *library; /* stays loaded: it has threads of its own */
    ncclResult_t (*get_unique_id)(ncclUniqueId *id);
    ncclResult_t (*comm_init_rank)(ncclComm_t *comm, int n_ranks, ncclUniqueId id, int rank);
    ncclResult_t (*all_reduce)(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream);
    ncclResult_t (*comm_destroy)(ncclComm_t comm);
    ncclResult_t (*comm_abort)(ncclComm_t comm);
    const char *(*get_error_string)(ncclResult_t result);
    ncclResult_t (*get_version)(int *version);
    ncclComm_t comm; /* owned */
} ranks;

#ifdef ADZE_CUSIM
/* The emulator's functions lie in the same object. */
static adze_status load(ranks *r)
{
    if (cusim_lacks("nccl")) return adze_fail(ADZE_EBACKEND, "several ranks on GPUs need NCCL 2: the emulator was told to have none");
    r->get_version = ncclGetVersion, r->get_unique_id = ncclGetUniqueId, r->comm_init_rank = ncclCommInitRank, r->all_reduce = ncclAllReduce;
    r->comm_destroy = ncclCommDestroy, r->comm_abort = ncclCommAbort, r->get_error_string = ncclGetErrorString;
    return ADZE_OK;
}

static const char *path_of(const ranks *r) { return (void)r, "emulated"; }
#else
static adze_status load(ranks *r)
{
    adze_status st = ADZE_OK;
    const struct {
        const char *name;
        void *to;
    } symbols[] = { { "ncclGetUniqueId", &r->get_unique_id }, { "ncclCommInitRank", &r->comm_init_rank }, { "ncclAllReduce", &r->all_reduce },
                    { "ncclCommDestroy", &r->comm_destroy },  { "ncclCommAbort", &r->comm_abort },        { "ncclGetErrorString", &r->get_error_string },
                    { "ncclGetVersion", &r->get_version } };
    r->library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    REQUIRE(r->library, ADZE_EBACKEND, "several ranks on GPUs need NCCL 2: %s", dlerror());
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        void *symbol = dlsym(r->library, symbols[i].name);
        REQUIRE(symbol, ADZE_EBACKEND, "NCCL: libnccl.so.2 has no %s", symbols[i].name);
        memcpy(symbols[i].to, &symbol, sizeof symbol);
    }
done:
    return st;
}

static const char *path_of(const ranks *r)
{
    Dl_info info;
    void *symbol;
    memcpy(&symbol, &r->get_version, sizeof symbol);
    return dladdr(symbol, &info) && info.dli_fname ? info.dli_fname : "libnccl.so.2";
}
#endif

static adze_status check(const ranks *r, ncclResult_t result, const char *what)
{
    return result == ncclSuccess ? ADZE_OK : adze_fail(ADZE_EBACKEND, "NCCL: %s: %s", what, r->get_error_string(result));
}

static adze_status ready(adze_ctx *ctx, ranks **out)
{
    adze_status st = ADZE_OK;
    adze_cuda_state *s = adze_cuda_state_of(ctx);
    ranks *r = NULL;
    *out = s->ranks;
    if (s->ranks) return ADZE_OK;
    REQUIRE(r = adze_calloc(1, sizeof *r), ADZE_ENOMEM, "NCCL: host bytes");
    TRY(load(r));
    *out = s->ranks = r;
    r = NULL;
done:
    adze_free(r);
    return st;
}

adze_status adze_cuda_ranks_id(adze_ctx *ctx, unsigned char id[ADZE_RANKS_ID_BYTES])
{
    adze_status st = ADZE_OK;
    ranks *r = NULL;
    ncclUniqueId unique;
    _Static_assert(sizeof unique == ADZE_RANKS_ID_BYTES, "an id of NCCL");
    TRY(ready(ctx, &r));
    TRY(check(r, r->get_unique_id(&unique), "an id"));
    memcpy(id, &unique, sizeof unique);
done:
    return st;
}

adze_status adze_cuda_ranks_join(adze_ctx *ctx, const unsigned char id[ADZE_RANKS_ID_BYTES], int rank, int count)
{
    adze_status st = ADZE_OK;
    const adze_cuda_state *s = adze_cuda_state_of(ctx);
    ranks *r = NULL;
    ncclUniqueId unique;
    int before;
    TRY(ready(ctx, &r));
    memcpy(&unique, id, sizeof unique);
    TRY(adze_cuda_go_to_device(s, &before));
    st = check(r, r->comm_init_rank(&r->comm, count, unique, rank), "joining the ranks");
    adze_cuda_go_back(s, before);
done:
    return st;
}

adze_status adze_cuda_ranks_mean(adze_ctx *ctx, float *x, int64_t n)
{
    const ranks *r = adze_cuda_state_of(ctx)->ranks;
    if (!r || !r->comm) return adze_fail(ADZE_EINTERNAL, "NCCL: no ranks have been joined");
    return check(r, r->all_reduce(x, x, (size_t)n, ncclFloat32, ncclAvg, r->comm, adze_cuda_stream(ctx)), "all-reduce");
}

void adze_cuda_ranks_close(adze_ctx *ctx)
{
    adze_cuda_state *s = adze_cuda_state_of(ctx);
    ranks *r = s->ranks;
    if (!r) return;
    if (r->comm && cudaStreamQuery(s->stream) != cudaSuccess) {
        cudaGetLastError();
        r->comm_abort(r->comm);
    } else if (r->comm) r->comm_destroy(r->comm);
    adze_free(r);
    s->ranks = NULL;
}

void adze_cuda_ranks_facts(adze_backend_put put, void *user)
{
    ranks r = { .library = NULL };
    char text[512];
    int version = 0;
    if (load(&r) != ADZE_OK) snprintf(text, sizeof text, "not found: %.400s", adze_error_message());
    else if (r.get_version(&version) != ncclSuccess) snprintf(text, sizeof text, "%.400s: no version", path_of(&r));
    else snprintf(text, sizeof text, "%d.%d.%d, %.400s", version / 10000, version / 100 % 100, version % 100, path_of(&r));
    put(user, "NCCL", text);
}

#else

static adze_status none(void) { return adze_fail(ADZE_EBACKEND, "several ranks on GPUs need NCCL, which was not there when adze was built"); }
adze_status adze_cuda_ranks_id(adze_ctx *ctx, unsigned char id[ADZE_RANKS_ID_BYTES]) { return (void)ctx, (void)id, none(); }
adze_status adze_cuda_ranks_join(adze_ctx *ctx, const unsigned char id[ADZE_RANKS_ID_BYTES], int rank, int count)
{
    return (void)ctx, (void)id, (void)rank, (void)count, none();
}
adze_status adze_cuda_ranks_mean(adze_ctx *ctx, float *x, int64_t n) { return (void)ctx, (void)x, (void)n, none(); }
void adze_cuda_ranks_close(adze_ctx *ctx) { (void)ctx; }
void adze_cuda_ranks_facts(adze_backend_put put, void *user) { put(user, "NCCL", "was not there when adze was built"); }

#endif
