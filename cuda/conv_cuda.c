/* conv_cuda.c - conv2d and conv_transpose2d, forward and backward, by cuDNN plans. Entry: adze_cuda_conv2d and its neighbours.
 *
 * A transposed convolution is the data gradient of the convolution from its output to its input, with the same weights: x and y
 * of the plan change roles. Packed weights live beside the arena; what only a run needs is scratch of the arena. Where no
 * engine fuses the epilogue, it is one own pass behind the convolution. Padding that is not the same on both sides is copied
 * around x before the convolution, because few engines take it. */
#include "core/memory.h"
#include "core/op_conv2d.h"
#include "cuda/conv_pack.h"
#include "cuda/conv_plan.h"
#include "cuda/cuda_state.h"
#include "cuda/kernels_cuda.h"

enum { ALIGN = 256 };

/* Pieces of the scratch. */
enum { PAD, SUM, GRADIENT, PART, WORKSPACE, PIECES };

typedef struct {
    conv_plan *forward, *data, *weights; /* owned; those that the call needs */
    bool transposed, fused, padded;      /* fused: the plan does the epilogue; padded: x is copied with zeros around it */
    int64_t Co, Cg, R;                   /* of the weights as they are stored */
    float *packed, *bias;                /* owned, on the device; bias: with a batch norm folded in */
    size_t n_bytes[PIECES];
} conv_state;

static size_t float_bytes(const adze_shape *s) { return (size_t)adze_shape_count(s) * sizeof(float); }

static void *piece(const adze_call *c, int which)
{
    const conv_state *s = c->state;
    unsigned char *p = c->scratch;
    for (int i = 0; i < which; i++) p += s->n_bytes[i];
    return s->n_bytes[which] > 0 ? p : NULL;
}

static void want_piece(adze_call *c, int which, size_t n_bytes)
{
    conv_state *s = c->state;
    n_bytes = (n_bytes + ALIGN - 1) / ALIGN * ALIGN;
    if (n_bytes <= s->n_bytes[which]) return;
    c->scratch_bytes += n_bytes - s->n_bytes[which];
    s->n_bytes[which] = n_bytes;
}

static bool has_bn(const adze_call *c) { return c->n_in > CONV2D_GAMMA && c->in[CONV2D_GAMMA].present; }
static bool has_bias(const adze_call *c) { return c->in[CONV2D_B].present || has_bn(c); }
static bool has_residual(const adze_call *c) { return c->n_in > CONV2D_RESIDUAL && c->in[CONV2D_RESIDUAL].present; }

/* The convolution's own sides: what is x for it may be the call's output. */
static const adze_shape *side_x(const adze_call *c, bool transposed) { return transposed ? &c->out[0].shape : &c->in[CONV2D_X].shape; }
static const adze_shape *side_y(const adze_call *c, bool transposed) { return transposed ? &c->in[CONV2D_X].shape : &c->out[0].shape; }

/* Whether the padding of the upper and left side, on both sides, gives the same output: then what lies beyond is never read. */
static bool same_padding_fits(const adze_call *c, bool transposed)
{
    const adze_conv2d_opts *o = &((const conv2d_attrs *)c->attrs)->o;
    const adze_shape *x = side_x(c, transposed), *y = side_y(c, transposed), *w = &c->in[CONV2D_W].shape;
    for (int d = 0; d < 2; d++) {
        int64_t room = x->dim[1 + d] + 2 * o->pad[d] - o->dilation[d] * (w->dim[2 + d] - 1) - 1;
        if (o->pad[d] < 0 || o->pad[d + 2] < 0 || room < 0 || room / o->stride[d] + 1 != y->dim[1 + d]) return false;
    }
    return true;
}

static conv_problem problem_of(const adze_call *c, bool transposed, bool padded, conv_direction direction)
{
    const adze_conv2d_opts *o = &((const conv2d_attrs *)c->attrs)->o;
    const adze_shape *x = side_x(c, transposed), *y = side_y(c, transposed), *w = &c->in[CONV2D_W].shape;
    conv_problem p = {
        .direction = direction,
        .N = x->dim[0], .H = x->dim[1], .W = x->dim[2], .C = x->dim[3],
        .Ho = y->dim[1], .Wo = y->dim[2], .Co = y->dim[3],
        .Kh = w->dim[2], .Kw = w->dim[3], .groups = o->groups,
        .stride = { o->stride[0], o->stride[1] }, .dilation = { o->dilation[0], o->dilation[1] }, .pad = { o->pad[0], o->pad[1] },
        .act = ADZE_ACT_NONE,
    };
    if (padded) {
        p.H += o->pad[0] + o->pad[2], p.W += o->pad[1] + o->pad[3];
        p.pad[0] = p.pad[1] = 0;
    }
    return p;
}

static void release(adze_call *c)
{
    conv_state *s = c->state;
    if (!s) return;
    conv_plan_destroy(s->forward);
    conv_plan_destroy(s->data);
    conv_plan_destroy(s->weights);
    adze_cuda_free(c->ctx, s->packed);
    adze_cuda_free(c->ctx, s->bias);
    adze_free(s);
    c->state = NULL;
    c->scratch_bytes = 0;
}

/* Where a 1x1 kernel has both orders in one, the parameters themselves are used. */
static bool needs_packing(const adze_call *c)
{
    const conv_state *s = c->state;
    return s->R > 1 || has_bn(c);
}

/* Begins every prepare; `reads_weights`: packed weights are wanted. */
static adze_status begin(adze_call *c, bool transposed, bool reads_weights)
{
    adze_status st = ADZE_OK;
    const adze_shape *w = &c->in[CONV2D_W].shape;
    conv_state *s = adze_calloc(1, sizeof *s);
    REQUIRE(s, ADZE_ENOMEM, "convolution: host bytes");
    c->state = s;
    s->transposed = transposed;
    s->Co = w->dim[0], s->Cg = w->dim[1], s->R = w->dim[2] * w->dim[3];
    void *memory;
    if (reads_weights && needs_packing(c)) {
        TRY(adze_cuda_alloc(c->ctx, float_bytes(w), ADZE_BLOCK_PACKED, &memory));
        s->packed = memory;
    }
    if (has_bn(c)) {
        TRY(adze_cuda_alloc(c->ctx, (size_t)s->Co * sizeof(float), ADZE_BLOCK_PACKED, &memory));
        s->bias = memory;
    }
done:
    return st;
}

/* Ends every prepare: cleans up after `st`. */
static adze_status finish(adze_call *c, adze_status st)
{
    if (st != ADZE_OK) release(c);
    return st;
}

static adze_status make_plan(adze_call *c, conv_plan **plan, const conv_problem *p)
{
    adze_status st = conv_plan_create(plan, c->ctx, p);
    if (st == ADZE_OK && *plan) want_piece(c, WORKSPACE, conv_plan_workspace_bytes(*plan));
    return st;
}

static adze_status need_plan(adze_call *c, conv_plan **plan, const conv_problem *p)
{
    adze_status st = make_plan(c, plan, p);
    return st == ADZE_OK && !*plan ? adze_fail(ADZE_EBACKEND, "%s: cuDNN has no engine for this shape and precision", c->op->name) : st;
}

static adze_status refresh(const adze_call *c)
{
    adze_status st = ADZE_OK;
    const conv_state *s = c->state;
    const adze_norm_stats bn = {
        .gamma = has_bn(c) ? c->in[CONV2D_GAMMA].data : NULL, .beta = has_bn(c) ? c->in[CONV2D_BETA].data : NULL,
        .mean = has_bn(c) ? c->in[CONV2D_MEAN].data : NULL, .var = has_bn(c) ? c->in[CONV2D_VAR].data : NULL,
        .eps = ((const conv2d_attrs *)c->attrs)->eps,
    };
    if (s->packed) TRY(adze_conv_pack_weights(c, c->in[CONV2D_W].data, s->Co, s->Cg, s->R, has_bn(c) ? &bn : NULL, s->packed));
    if (s->bias) TRY(adze_conv_fold_bias(c, c->in[CONV2D_B].data, s->Co, &bn, s->bias));
done:
    return st;
}

static int engines(const adze_call *c, adze_engine out[ADZE_ENGINES])
{
    const conv_state *s = c->state;
    const conv_plan *const plan[] = { s->forward, s->data, s->weights };
    int n = 0;
    for (int i = 0; i < 3; i++) {
        if (!plan[i]) continue;
        out[n] = conv_plan_engine(plan[i]); /* the forward plan of a transposed convolution computes its data gradient */
        out[n++].part = !c->backward ? "forward" : i == 2 ? "weights gradient" : "data gradient";
    }
    return n;
}

static const float *weights_of(const adze_call *c)
{
    const conv_state *s = c->state;
    return s->packed ? s->packed : c->in[CONV2D_W].data;
}

static const float *bias_of(const adze_call *c)
{
    const conv_state *s = c->state;
    return s->bias ? s->bias : c->in[CONV2D_B].data;
}

/* ---- forward ---- */

static bool accepts(const adze_call *c)
{
    const conv2d_attrs *a = c->attrs;
    return a->act == ADZE_ACT_NONE || a->act == ADZE_ACT_RELU || a->act == ADZE_ACT_RELU6 || a->act == ADZE_ACT_SILU;
}

static adze_status prepare(adze_call *c)
{
    adze_status st = ADZE_OK;
    const conv2d_attrs *a = c->attrs;
    const adze_shape *x = &c->in[CONV2D_X].shape;
    TRY(begin(c, false, true));
    conv_state *s = c->state;
    s->padded = !same_padding_fits(c, false);
    conv_problem p = problem_of(c, false, s->padded, CONV_FORWARD);
    if (s->padded) want_piece(c, PAD, (size_t)(p.N * p.H * p.W * x->dim[3]) * sizeof(float));
    p.residual = has_residual(c), p.bias = has_bias(c), p.act = a->act;
    TRY(make_plan(c, &s->forward, &p));
    s->fused = s->forward != NULL;
    if (!s->fused) {
        p.residual = p.bias = false, p.act = ADZE_ACT_NONE;
        TRY(need_plan(c, &s->forward, &p));
    }
done:
    return finish(c, st);
}

static adze_status run(const adze_call *c)
{
    adze_status st = ADZE_OK;
    const conv2d_attrs *a = c->attrs;
    const conv_state *s = c->state;
    const float *x = c->in[CONV2D_X].data, *residual = has_residual(c) ? c->in[CONV2D_RESIDUAL].data : NULL;
    if (s->padded) {
        TRY(adze_conv_pad(c, x, &c->in[CONV2D_X].shape, a->o.pad, piece(c, PAD)));
        x = piece(c, PAD);
    }
    const conv_operands o = {
        .x = x, .w = weights_of(c), .y = c->out[0].data, .residual = s->fused ? residual : NULL, .bias = s->fused ? bias_of(c) : NULL,
        .workspace = piece(c, WORKSPACE),
    };
    TRY(conv_plan_run(s->forward, &o));
    if (!s->fused && (residual || has_bias(c) || a->act != ADZE_ACT_NONE))
        TRY(adze_conv_epilogue(c, c->out[0].data, residual, bias_of(c), adze_shape_span(&c->out[0].shape, 0, 3), s->Co, a->act));
done:
    return st;
}

const adze_kernel adze_cuda_conv2d = {
    .name = "cudnn", .accepts = accepts, .prepare = prepare, .run = run, .release = release, .refresh = refresh, .engines = engines,
};

/* ---- forward, transposed ---- */

static bool transposed_accepts(const adze_call *c) { return same_padding_fits(c, true); }

static adze_status transposed_prepare(adze_call *c)
{
    adze_status st = ADZE_OK;
    TRY(begin(c, true, true));
    const conv_problem p = problem_of(c, true, false, CONV_DATA_GRADIENT);
    TRY(need_plan(c, &((conv_state *)c->state)->data, &p));
done:
    return finish(c, st);
}

static adze_status transposed_run(const adze_call *c)
{
    adze_status st = ADZE_OK;
    const conv_state *s = c->state;
    const adze_shape *y = &c->out[0].shape;
    const conv_operands o = { .x = c->out[0].data, .w = weights_of(c), .y = c->in[CONV2D_X].data, .workspace = piece(c, WORKSPACE) };
    TRY(conv_plan_run(s->data, &o));
    if (c->in[CONV2D_B].present)
        TRY(adze_conv_epilogue(c, c->out[0].data, NULL, c->in[CONV2D_B].data, adze_shape_span(y, 0, 3), y->dim[3], ADZE_ACT_NONE));
done:
    return st;
}

const adze_kernel adze_cuda_conv_transpose2d = {
    .name = "cudnn", .accepts = transposed_accepts, .prepare = transposed_prepare, .run = transposed_run, .release = release,
    .refresh = refresh, .engines = engines,
};

/* ---- backward ---- */

static bool backward_accepts(const adze_call *c) { return same_padding_fits(c, false); }

static adze_status any_backward_prepare(adze_call *c, bool transposed)
{
    adze_status st = ADZE_OK;
    const adze_arg *x = &c->in[CONV2D_X], *w = &c->in[CONV2D_W], *b = &c->in[CONV2D_B];
    TRY(begin(c, transposed, x->wanted));
    conv_state *s = c->state;
    if (x->wanted) {
        const conv_problem p = problem_of(c, transposed, false, transposed ? CONV_FORWARD : CONV_DATA_GRADIENT);
        TRY(need_plan(c, transposed ? &s->forward : &s->data, &p));
        if (x->accumulate) want_piece(c, SUM, float_bytes(&x->shape));
    }
    if (w->wanted) {
        const conv_problem p = problem_of(c, transposed, false, CONV_WEIGHTS_GRADIENT);
        TRY(need_plan(c, &s->weights, &p));
        if (s->R > 1 || w->accumulate) want_piece(c, GRADIENT, float_bytes(&w->shape));
    }
    const adze_shape *y = &c->out[0].shape;
    if (b->wanted) want_piece(c, PART, adze_conv_bias_gradient_bytes(adze_shape_span(y, 0, 3), y->dim[3]));
done:
    return finish(c, st);
}

static adze_status run_data_gradient(const adze_call *c)
{
    adze_status st = ADZE_OK;
    const conv_state *s = c->state;
    const adze_arg *x = &c->in[CONV2D_X];
    float *to = x->accumulate ? piece(c, SUM) : x->grad;
    conv_operands o = { .x = to, .w = weights_of(c), .y = c->out[0].grad, .workspace = piece(c, WORKSPACE) };
    if (s->transposed) o.x = c->out[0].grad, o.y = to;
    TRY(conv_plan_run(s->transposed ? s->forward : s->data, &o));
    if (x->accumulate) TRY(adze_conv_add(c, x->grad, to, adze_shape_count(&x->shape)));
done:
    return st;
}

static adze_status run_weights_gradient(const adze_call *c)
{
    adze_status st = ADZE_OK;
    const conv_state *s = c->state;
    const adze_arg *x = &c->in[CONV2D_X], *w = &c->in[CONV2D_W];
    float *to = piece(c, GRADIENT) ? piece(c, GRADIENT) : w->grad;
    conv_operands o = { .x = x->data, .w = to, .y = c->out[0].grad, .workspace = piece(c, WORKSPACE) };
    if (s->transposed) o.x = c->out[0].grad, o.y = x->data;
    TRY(conv_plan_run(s->weights, &o));
    if (to != w->grad) TRY(adze_conv_unpack_gradient(c, to, s->Co, s->Cg, s->R, w->accumulate, w->grad));
done:
    return st;
}

static adze_status backward_run(const adze_call *c)
{
    adze_status st = ADZE_OK;
    const adze_arg *b = &c->in[CONV2D_B];
    const adze_shape *y = &c->out[0].shape;
    if (c->in[CONV2D_X].wanted) TRY(run_data_gradient(c));
    if (c->in[CONV2D_W].wanted) TRY(run_weights_gradient(c));
    if (b->wanted)
        TRY(adze_conv_bias_gradient(c, c->out[0].grad, adze_shape_span(y, 0, 3), y->dim[3], b->accumulate, b->grad, piece(c, PART)));
done:
    return st;
}

static adze_status backward_prepare(adze_call *c) { return any_backward_prepare(c, false); }
static adze_status transposed_backward_prepare(adze_call *c) { return any_backward_prepare(c, true); }

const adze_kernel adze_cuda_conv2d_backward = {
    .name = "cudnn", .accepts = backward_accepts, .prepare = backward_prepare, .run = backward_run, .release = release,
    .refresh = refresh, .engines = engines,
};

const adze_kernel adze_cuda_conv_transpose2d_backward = {
    .name = "cudnn", .accepts = transposed_accepts, .prepare = transposed_backward_prepare, .run = backward_run, .release = release,
    .refresh = refresh, .engines = engines,
};
