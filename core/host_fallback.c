/* host_fallback.c - the plain-C reference for devices with memory of their own: operands are copied to the host, computed
 * there, and results copied back. Entry: adze_host_fallback. Slow, always works, cannot be recorded: what an operation
 * uses on a device until it has a kernel there, and what its kernels are compared with. */
#include "core/backend.h"
#include "core/memory.h"
#include "core/plan_impl.h"

/* The host's side of a call. */
typedef struct {
    adze_call call;        /* the same with host pointers */
    unsigned char *block;  /* owned */
    size_t used_bytes;
} fallback;

static size_t bytes_of(const adze_arg *a)
{
    return (size_t)adze_shape_count(&a->shape) * sizeof(float);
}

/* The next piece of the block; with `block` NULL only counts. */
static float *piece(fallback *f, const adze_arg *a, bool wanted)
{
    if (!wanted) return NULL;
    float *p = f->block ? (float *)(f->block + f->used_bytes) : NULL;
    f->used_bytes += (bytes_of(a) + ADZE_MEMORY_ALIGN - 1) / ADZE_MEMORY_ALIGN * ADZE_MEMORY_ALIGN;
    return p;
}

static void place(fallback *f, const adze_call *c)
{
    f->used_bytes = 0;
    for (int i = 0; i < c->n_in; i++) {
        f->call.in[i].data = piece(f, &c->in[i], c->in[i].present);
        f->call.in[i].grad = piece(f, &c->in[i], c->in[i].wanted);
    }
    for (int i = 0; i < c->n_out; i++) f->call.out[i].data = piece(f, &c->out[i], true);
    f->call.out[0].grad = piece(f, &c->out[0], c->backward);
}

static void release(adze_call *c)
{
    fallback *f = c->state;
    if (f) adze_free(f->block);
    adze_free(f);
    c->state = NULL;
}

static adze_status prepare(adze_call *c)
{
    adze_status st = ADZE_OK;
    fallback *f = adze_calloc(1, sizeof *f);
    REQUIRE(c->state = f, ADZE_ENOMEM, "%s: host bytes", c->op->name);
    f->call = *c;
    place(f, c);
    REQUIRE(f->block = adze_malloc(f->used_bytes), ADZE_ENOMEM, "%s: %zu host bytes for the operands", c->op->name, f->used_bytes);
    place(f, c);
done:
    if (st != ADZE_OK) release(c);
    return st;
}

/* Whether the reference reads this operand: backward, only what the definition says. */
static bool reads_in(const adze_call *c, int i)
{
    unsigned reads = c->op->backward_reads ? c->op->backward_reads(c->attrs) : c->op->backward_reads_in;
    return c->in[i].present && (!c->backward || (reads >> i & 1u));
}

static bool reads_out(const adze_call *c, int i)
{
    return c->backward && (i > 0 || c->op->backward_reads_out);
}

/* An earlier operand whose gradient is the same (a value read twice), or -1. */
static int twin(const adze_call *c, int i)
{
    for (int k = 0; k < i; k++)
        if (c->in[k].wanted && c->in[i].wanted && c->in[k].grad == c->in[i].grad) return k;
    return -1;
}

static adze_status run(const adze_call *c)
{
    adze_status st = ADZE_OK;
    const adze_backend *b = c->ctx->backend;
    fallback *f = c->state;
    adze_call *h = &f->call;
    h->attrs = c->attrs;
    h->in_place = false;
    for (int i = 0; i < c->n_in; i++) {
        h->in[i].wanted = c->in[i].wanted, h->in[i].accumulate = c->in[i].accumulate;
        if (reads_in(c, i)) TRY(b->read(c->ctx, h->in[i].data, c->in[i].data, bytes_of(&c->in[i])));
        if (twin(c, i) >= 0) h->in[i].grad = h->in[twin(c, i)].grad;
        else if (c->in[i].wanted && c->in[i].accumulate) TRY(b->read(c->ctx, h->in[i].grad, c->in[i].grad, bytes_of(&c->in[i])));
    }
    for (int i = 0; i < c->n_out; i++)
        if (reads_out(c, i)) TRY(b->read(c->ctx, h->out[i].data, c->out[i].data, bytes_of(&c->out[i])));
    if (c->backward) TRY(b->read(c->ctx, h->out[0].grad, c->out[0].grad, bytes_of(&c->out[0])));

    TRY(c->backward ? c->op->backward(h) : c->op->forward(h));

    for (int i = 0; i < c->n_in; i++) {
        if (!c->backward && (c->op->writes_in >> i & 1u)) TRY(b->write(c->ctx, c->in[i].data, h->in[i].data, bytes_of(&c->in[i])));
        if (c->in[i].wanted) TRY(b->write(c->ctx, c->in[i].grad, h->in[i].grad, bytes_of(&c->in[i])));
    }
    for (int i = 0; i < c->n_out && !c->backward; i++)
        TRY(b->write(c->ctx, c->out[i].data, h->out[i].data, bytes_of(&c->out[i])));
done:
    return st;
}

const adze_kernel adze_host_fallback = {
    .name = "reference (host)", .prepare = prepare, .run = run, .release = release, .on_host = true,
};
