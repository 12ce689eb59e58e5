/* params.c - one block of parameters. Entry: adze_params_create(). Each starts at a multiple of 16 floats. */
#include "core/params.h"

#include <inttypes.h>
#include <string.h>

#include "core/backend.h"
#include "core/graph_impl.h"
#include "core/memory.h"
#include "core/params_impl.h"

static int64_t padded(int64_t n) { return (n + 15) / 16 * 16; }

adze_status adze_params_create(adze_params **out, adze_ctx *ctx, const adze_graph *g)
{
    adze_status st = ADZE_OK;
    *out = NULL;
    adze_params *p = adze_calloc(1, sizeof *p);
    REQUIRE(p, ADZE_ENOMEM, "parameters: %zu host bytes", sizeof *p);
    p->ctx = ctx;
    TRY(adze_graph_check(g));
    REQUIRE(p->param = adze_calloc((size_t)g->n_values, sizeof *p->param), ADZE_ENOMEM, "parameters: a table");
    static const adze_value_kind order[] = { ADZE_VALUE_PARAM, ADZE_VALUE_FROZEN };
    for (int pass = 0; pass < 2; pass++) {
        for (int32_t v = 0; v < g->n_values; v++) {
            if (g->value[v].kind != order[pass]) continue;
            param *q = &p->param[p->n];
            REQUIRE(q->name = adze_strdup(g->value[v].name), ADZE_ENOMEM, "parameters: a name");
            p->n++;
            q->shape = g->value[v].shape;
            q->offset = p->n_floats;
            q->trainable = pass == 0;
            q->version = 1;
            p->n_floats += padded(adze_shape_count(&q->shape));
        }
        if (pass == 0) p->n_trainable = p->n_floats;
    }
    void *block;
    TRY(ctx->backend->alloc(ctx, (size_t)p->n_floats * sizeof(float), ADZE_BLOCK_PARAMS, &block));
    p->data = block;
    TRY(ctx->backend->clear(ctx, p->data, (size_t)p->n_floats * sizeof(float)));
    *out = p;
    p = NULL;
done:
    adze_params_destroy(p);
    return st;
}

void adze_params_destroy(adze_params *p)
{
    if (!p) return;
    for (int i = 0; i < p->n; i++) adze_free(p->param[i].name);
    adze_free(p->param);
    if (p->data) p->ctx->backend->free(p->ctx, p->data);
    if (p->grad) p->ctx->backend->free(p->ctx, p->grad);
    adze_free(p);
}

int adze_params_count(const adze_params *p) { return p->n; }
const char *adze_params_name(const adze_params *p, int i) { return p->param[i].name; }
adze_shape adze_params_shape(const adze_params *p, int i) { return p->param[i].shape; }
size_t adze_params_bytes(const adze_params *p) { return (size_t)p->n_floats * sizeof(float); }

int adze_params_find(const adze_params *p, const char *name)
{
    for (int i = 0; i < p->n; i++)
        if (strcmp(p->param[i].name, name) == 0) return i;
    return -1;
}

adze_status adze_params_write(adze_params *p, int i, const float *from_host)
{
    param *q = &p->param[i];
    q->version++;
    return p->ctx->backend->write(p->ctx, p->data + q->offset, from_host,
                                  (size_t)adze_shape_count(&q->shape) * sizeof(float));
}

adze_status adze_params_read(const adze_params *p, int i, float *to_host)
{
    const param *q = &p->param[i];
    return p->ctx->backend->read(p->ctx, to_host, p->data + q->offset,
                                 (size_t)adze_shape_count(&q->shape) * sizeof(float));
}

bool adze_params_trainable(const adze_params *p, int i) { return p->param[i].trainable; }

adze_status adze_params_need_grad(adze_params *p)
{
    void *block;
    if (p->grad) return ADZE_OK;
    adze_status st = p->ctx->backend->alloc(p->ctx, (size_t)p->n_trainable * sizeof(float), ADZE_BLOCK_GRADIENTS, &block);
    if (st != ADZE_OK) return st;
    p->grad = block;
    return p->ctx->backend->clear(p->ctx, p->grad, (size_t)p->n_trainable * sizeof(float));
}

adze_status adze_params_read_grad(const adze_params *p, int i, float *to_host)
{
    const param *q = &p->param[i];
    if (!p->grad || !q->trainable) return adze_fail(ADZE_EINVAL, "parameter '%s' has no gradient", q->name);
    return p->ctx->backend->read(p->ctx, to_host, p->grad + q->offset, (size_t)adze_shape_count(&q->shape) * sizeof(float));
}

adze_status adze_params_write_grad(adze_params *p, int i, const float *from_host)
{
    const param *q = &p->param[i];
    if (!q->trainable) return adze_fail(ADZE_EINVAL, "parameter '%s' is frozen and has no gradient", q->name);
    adze_status st = adze_params_need_grad(p);
    if (st != ADZE_OK) return st;
    return p->ctx->backend->write(p->ctx, p->grad + q->offset, from_host, (size_t)adze_shape_count(&q->shape) * sizeof(float));
}

float *adze_params_block(adze_params *p) { return p->data; }
float *adze_params_grad_block(adze_params *p) { return p->grad; }
int64_t adze_params_offset(const adze_params *p, int i) { return p->param[i].offset; }
void adze_params_changed(adze_params *p, int i) { p->param[i].version++; }
adze_ctx *adze_params_ctx(const adze_params *p) { return p->ctx; }
