/* statistics.c - running statistics put aside. Entry: adze_statistics_create().
 * Neighbours in the parameter block are copied together: a few copies, also for a net with a hundred normalisations. */
#include "train/statistics.h"

#include "core/backend.h"
#include "core/memory.h"

typedef struct {
    int64_t offset, n; /* floats of the block; pieces lie one behind the other in `copy` */
} piece;

struct adze_statistics {
    adze_params *params; /* borrowed */
    piece *piece;        /* owned, as below */
    int n_pieces;
    int *param;          /* the statistics */
    int n_params;
    float *copy;         /* on the device */
};

static int64_t end_of(const adze_params *p, int i)
{
    adze_shape shape = adze_params_shape(p, i);
    return adze_params_offset(p, i) + adze_shape_count(&shape);
}

adze_status adze_statistics_create(adze_statistics **out, adze_params *params, const bool *keep)
{
    adze_status st = ADZE_OK;
    int n = adze_params_count(params);
    int64_t floats = 0;
    *out = NULL;
    adze_statistics *s = adze_calloc(1, sizeof *s);
    REQUIRE(s, ADZE_ENOMEM, "statistics: %zu host bytes", sizeof *s);
    s->params = params;
    s->piece = adze_calloc((size_t)n + 1, sizeof *s->piece);
    s->param = adze_calloc((size_t)n + 1, sizeof *s->param);
    REQUIRE(s->piece && s->param, ADZE_ENOMEM, "statistics: a table of %d parameters", n);
    for (int i = 0; i < n; i++) {
        if (!keep[i] || adze_params_trainable(params, i)) continue;
        bool joined = s->n_params > 0 && s->param[s->n_params - 1] == i - 1;
        if (!joined) s->piece[s->n_pieces++].offset = adze_params_offset(params, i);
        s->piece[s->n_pieces - 1].n = end_of(params, i) - s->piece[s->n_pieces - 1].offset;
        s->param[s->n_params++] = i;
    }
    for (int k = 0; k < s->n_pieces; k++) floats += s->piece[k].n;
    adze_ctx *ctx = adze_params_ctx(params);
    void *copy;
    TRY(ctx->backend->alloc(ctx, (size_t)floats * sizeof *s->copy, ADZE_BLOCK_OPTIMISER, &copy));
    s->copy = copy;
    *out = s;
    s = NULL;
done:
    adze_statistics_destroy(s);
    return st;
}

void adze_statistics_destroy(adze_statistics *s)
{
    if (!s) return;
    adze_free(s->piece);
    adze_free(s->param);
    adze_ctx *ctx = adze_params_ctx(s->params);
    if (s->copy) ctx->backend->free(ctx, s->copy);
    adze_free(s);
}

int adze_statistics_pieces(const adze_statistics *s) { return s->n_pieces; }

float *adze_statistics_piece(adze_statistics *s, int k, int64_t *n)
{
    *n = s->piece[k].n;
    return adze_params_block(s->params) + s->piece[k].offset;
}

adze_status adze_statistics_save(adze_statistics *s)
{
    adze_status st = ADZE_OK;
    adze_ctx *ctx = adze_params_ctx(s->params);
    float *to = s->copy;
    for (int k = 0; k < s->n_pieces; to += s->piece[k++].n)
        TRY(ctx->backend->copy(ctx, to, adze_params_block(s->params) + s->piece[k].offset, (size_t)s->piece[k].n * sizeof *to));
done:
    return st;
}

adze_status adze_statistics_restore(adze_statistics *s, const int32_t *when)
{
    adze_status st = ADZE_OK;
    adze_ctx *ctx = adze_params_ctx(s->params);
    const float *from = s->copy;
    for (int k = 0; k < s->n_pieces; from += s->piece[k++].n) {
        float *to = adze_params_block(s->params) + s->piece[k].offset;
        if (when) TRY(ctx->backend->copy_if(ctx, to, from, s->piece[k].n, when));
        else TRY(ctx->backend->copy(ctx, to, from, (size_t)s->piece[k].n * sizeof *to));
    }
    for (int k = 0; k < s->n_params && !when; k++) adze_params_changed(s->params, s->param[k]);
done:
    return st;
}
