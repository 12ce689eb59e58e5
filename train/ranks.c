/* ranks.c - means over the processes of a training. Entry: ranks_open(), ranks_mean().
 * A block goes in pieces: each rank gets one piece from all, adds it up, and gives the sum to all. Twice the block's size
 * passes each rank, whatever their number. */
#include "train/ranks.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "core/backend.h"
#include "core/backend_load.h"
#include "core/memory.h"

enum { PIECE = 1 << 15 }; /* floats of one rank in one exchange */

struct rank_group {
    const ranks_transport *transport;
    int rank, count;
    float *send, *receive, *mine; /* (count * PIECE), (count * PIECE), (PIECE) */
    unsigned char *few;           /* (count, RANKS_FEW doubles) */
};

/* Processes that a launcher says it has started; 1 without one. */
static int started(void)
{
    static const char *const names[] = { "OMPI_COMM_WORLD_SIZE", "PMI_SIZE" }; /* Open MPI; MPICH and its kin */
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *text = getenv(names[i]);
        if (text) return atoi(text);
    }
    return 1;
}

static adze_status load(rank_group *r)
{
    adze_status st = ADZE_OK;
    char *path = NULL;
    adze_text looked = ADZE_TEXT_EMPTY;
    TRY(adze_backend_find("mpi", &path, &looked));
    REQUIRE(path, ADZE_EBACKEND, "started by mpirun, but there is no adze_mpi.so (looked in %s)", looked.s ? looked.s : "");
    void *object = dlopen(path, RTLD_NOW | RTLD_GLOBAL); /* MPI's own plug-ins look for its symbols among the global ones */
    REQUIRE(object, ADZE_EBACKEND, "started by mpirun: %s", dlerror());
    ranks_transport_fn table;
    void *symbol = dlsym(object, "adze_ranks_transport");
    REQUIRE(symbol, ADZE_EBACKEND, "%s is no transport of adze", path);
    memcpy(&table, &symbol, sizeof table);
    r->transport = table(RANKS_ABI);
    REQUIRE(r->transport, ADZE_EBACKEND, "%s was built for another version of adze", path);
done:
    adze_text_destroy(&looked);
    adze_free(path);
    return st;
}

static adze_status check(int code, const char *what)
{
    return code == 0 ? ADZE_OK : adze_fail(ADZE_EBACKEND, "MPI: %s: error %d", what, code);
}

adze_status ranks_open(rank_group **out)
{
    adze_status st = ADZE_OK;
    rank_group *r = NULL;
    *out = NULL;
    if (started() <= 1) return ADZE_OK;
    REQUIRE(r = adze_calloc(1, sizeof *r), ADZE_ENOMEM, "ranks: host bytes");
    TRY(load(r));
    TRY(check(r->transport->start(&r->rank, &r->count), "start"));
    r->send = adze_calloc((size_t)r->count, PIECE * sizeof(float));
    r->receive = adze_calloc((size_t)r->count, PIECE * sizeof(float));
    r->mine = adze_calloc(PIECE, sizeof(float));
    r->few = adze_calloc((size_t)r->count, RANKS_FEW * sizeof(double));
    REQUIRE(r->send && r->receive && r->mine && r->few, ADZE_ENOMEM, "ranks: room for exchanges of %d processes", r->count);
    *out = r;
    r = NULL;
done:
    ranks_close(r, false);
    return st;
}

void ranks_close(rank_group *r, bool all)
{
    if (!r) return;
    if (all) r->transport->finish();
    adze_free(r->send);
    adze_free(r->receive);
    adze_free(r->mine);
    adze_free(r->few);
    adze_free(r);
}

int ranks_rank(const rank_group *r) { return r ? r->rank : 0; }
int ranks_count(const rank_group *r) { return r ? r->count : 1; }

/* The mean of one block of at most count * PIECE floats. */
static adze_status mean_of_block(rank_group *r, float *x, int64_t n)
{
    adze_status st = ADZE_OK;
    int64_t each = (n + r->count - 1) / r->count;
    memcpy(r->send, x, (size_t)n * sizeof *x);
    memset(r->send + n, 0, (size_t)(each * r->count - n) * sizeof *x);
    TRY(check(r->transport->all_to_all(r->send, r->receive, (int)(each * (int64_t)sizeof *x)), "exchange"));
    for (int64_t i = 0; i < each; i++) {
        double sum = 0.0;
        for (int j = 0; j < r->count; j++) sum += r->receive[j * each + i];
        r->mine[i] = (float)(sum / r->count);
    }
    TRY(check(r->transport->all_gather(r->mine, r->send, (int)(each * (int64_t)sizeof *x)), "exchange"));
    memcpy(x, r->send, (size_t)n * sizeof *x);
done:
    return st;
}

adze_status ranks_mean(rank_group *r, float *x, int64_t n)
{
    adze_status st = ADZE_OK;
    int64_t block = r ? (int64_t)r->count * PIECE : 0;
    for (int64_t at = 0; r && at < n; at += block) TRY(mean_of_block(r, x + at, n - at < block ? n - at : block));
done:
    return st;
}

int ranks_local(const rank_group *r)
{
    const char *text = getenv("OMPI_COMM_WORLD_LOCAL_RANK");
    if (!text) text = getenv("MPI_LOCALRANKID"); /* MPICH's kin */
    return text ? atoi(text) : ranks_rank(r);
}

adze_status ranks_join_devices(rank_group *r, adze_ctx *ctx)
{
    adze_status st = ADZE_OK;
    const adze_backend *b = ctx->backend;
    unsigned char id[ADZE_RANKS_ID_BYTES] = { 0 };
    if (!r || b->host_memory) return ADZE_OK;
    REQUIRE(b->ranks_join, ADZE_EBACKEND, "device %s: several ranks cannot share their gradients there", b->name);
    if (r->rank == 0) TRY(b->ranks_id(ctx, id));
    TRY(check(r->transport->all_gather(id, r->few, (int)sizeof id), "exchange"));
    TRY(b->ranks_join(ctx, r->few, r->rank, r->count));
done:
    return st;
}

adze_status ranks_mean_device(rank_group *r, adze_ctx *ctx, float *x, int64_t n)
{
    return !r || ctx->backend->host_memory ? ranks_mean(r, x, n) : ctx->backend->ranks_mean(ctx, x, n);
}

adze_status ranks_mean_few(rank_group *r, double *x, int n)
{
    adze_status st = ADZE_OK;
    if (!r) return ADZE_OK;
    TRY(check(r->transport->all_gather(x, r->few, n * (int)sizeof *x), "exchange"));
    for (int i = 0; i < n; i++) {
        double sum = 0.0, value;
        for (int j = 0; j < r->count; j++) {
            memcpy(&value, r->few + (size_t)(j * n + i) * sizeof value, sizeof value);
            sum += value;
        }
        x[i] = sum / r->count;
    }
done:
    return st;
}

adze_status ranks_agree(rank_group *r, const void *bytes, int n_bytes)
{
    adze_status st = ADZE_OK;
    if (!r) return ADZE_OK;
    TRY(check(r->transport->all_gather(bytes, r->few, n_bytes), "exchange"));
    for (int j = 1; j < r->count; j++)
        REQUIRE(memcmp(r->few, r->few + (size_t)j * (size_t)n_bytes, (size_t)n_bytes) == 0, ADZE_EINTERNAL, "rank %d differs from rank 0", j);
done:
    return st;
}
