/* optimizer.c - the optimiser object: chooses parameters and groups, owns moments, calls the backend. Entry:
 * adze_optim_create(), adze_optim_step().
 *
 * Neighbours of one group are one range, padding included (its gradient and value are zero and stay so); ranges are cut
 * into pieces. */
#include "train/optimizer.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "core/backend.h"
#include "core/memory.h"

struct adze_optim {
    adze_params *params; /* borrowed */
    adze_ctx *ctx;       /* borrowed */
    adze_optim_opts opts;
    char *name;          /* owned */
    int n, n_states;
    int *param;          /* (n) owned, rising */
    int64_t base, span;  /* the moments cover floats [base, base + span) of the parameters' block */
    int n_groups;
    double lr_factor[ADZE_OPTIM_GROUPS], weight_decay[ADZE_OPTIM_GROUPS];
    int64_t n_pieces, steps;
    void *pieces, *partial, *norm, *rates; /* owned, on the device */
    void *state[ADZE_OPTIM_STATES]; /* owned, on the device */
    double last_norm;
};

const char *adze_optim_kind_name(adze_optim_kind kind)
{
    static const char *const names[] = { "sgd", "adam", "adamw" };
    return names[kind];
}

static bool begins(const char *s, const char *with) { return strncmp(s, with, strlen(with)) == 0; }

static bool ends(const char *s, const char *with)
{
    size_t n = strlen(s), m = strlen(with);
    return n >= m && strcmp(s + n - m, with) == 0;
}

static bool is_vector(const char *name, const adze_shape *shape) { return shape->rank == 1 || ends(name, ".bias"); }

static bool fits(const adze_optim_rule *r, const char *name, const adze_shape *shape)
{
    return (!r->prefix || begins(name, r->prefix)) && (!r->suffix || ends(name, r->suffix)) &&
           (!r->vectors || is_vector(name, shape));
}

static adze_status check_options(const adze_optim_opts *o)
{
    adze_status st = ADZE_OK;
    REQUIRE(o->kind >= ADZE_OPTIM_SGD && o->kind <= ADZE_OPTIM_ADAMW, ADZE_EINVAL, "optimiser: kind %d is none", (int)o->kind);
    REQUIRE(o->beta1 >= 0.0 && o->beta1 < 1.0 && o->beta2 >= 0.0 && o->beta2 < 1.0, ADZE_EINVAL,
            "optimiser: betas %g and %g, want both in [0, 1)", o->beta1, o->beta2);
    REQUIRE(o->eps > 0.0 && o->eps < 1.0, ADZE_EINVAL, "optimiser: eps %g, want 0 < eps < 1", o->eps);
    REQUIRE(o->momentum >= 0.0 && o->momentum < 1.0, ADZE_EINVAL, "optimiser: momentum %g, want [0, 1)", o->momentum);
    REQUIRE(o->clip >= 0.0 && isfinite(o->clip), ADZE_EINVAL, "optimiser: clip %g, want >= 0", o->clip);
    REQUIRE(o->weight_decay >= 0.0 && o->weight_decay < 1.0, ADZE_EINVAL, "optimiser: weight decay %g, want [0, 1)",
            o->weight_decay);
    REQUIRE(o->n_rules >= 0 && o->n_rules <= ADZE_OPTIM_GROUPS - 2, ADZE_EINVAL, "optimiser: %d rules, at most %d", o->n_rules,
            ADZE_OPTIM_GROUPS - 2);
    for (int i = 0; i < o->n_rules; i++)
        REQUIRE(o->rule[i].weight_decay >= 0.0 && o->rule[i].weight_decay < 1.0 && o->rule[i].lr_factor >= 0.0 &&
                    isfinite(o->rule[i].lr_factor),
                ADZE_EINVAL, "optimiser: rule %d: weight decay %g, factor %g", i, o->rule[i].weight_decay,
                o->rule[i].lr_factor);
done:
    return st;
}

/* Group of each parameter of the model, -1 for those left out. Groups: 0 decayed, 1 not, 2... the rules. */
static adze_status choose(adze_optim *o, const adze_optim_opts *opts, int *group)
{
    adze_status st = ADZE_OK;
    int n_prefixes = 0, n_all = adze_params_count(o->params);
    while (opts->prefixes && opts->prefixes[n_prefixes]) n_prefixes++;
    for (int k = 0; k < n_all; k++) group[k] = -1;
    for (int k = 0, hits = 0; k < (opts->prefixes ? n_prefixes : 1); k++, hits = 0) {
        for (int i = 0; i < n_all; i++) {
            const char *name = adze_params_name(o->params, i);
            if (!adze_params_trainable(o->params, i) || (opts->prefixes && !begins(name, opts->prefixes[k]))) continue;
            adze_shape shape = adze_params_shape(o->params, i);
            group[i] = !opts->decay_vectors && is_vector(name, &shape) ? 1 : 0;
            for (int r = opts->n_rules - 1; r >= 0; r--)
                if (fits(&opts->rule[r], name, &shape)) group[i] = 2 + r;
            hits++;
        }
        REQUIRE(hits > 0, ADZE_EINVAL, "optimiser '%s': no trainable parameter begins with '%s'", o->name,
                opts->prefixes ? opts->prefixes[k] : "");
    }
    REQUIRE(!opts->prefixes || n_prefixes > 0, ADZE_EINVAL, "optimiser '%s': an empty list of prefixes", o->name);
    o->n_groups = 2 + opts->n_rules;
    for (int r = 0; r < o->n_groups; r++) {
        o->lr_factor[r] = r < 2 ? 1.0 : opts->rule[r - 2].lr_factor;
        o->weight_decay[r] = r == 0 ? opts->weight_decay : r == 1 ? 0.0 : opts->rule[r - 2].weight_decay;
        int members = 0;
        for (int i = 0; i < n_all; i++) members += group[i] == r;
        REQUIRE(r < 2 || members > 0, ADZE_EINVAL, "optimiser '%s': rule %d fits no parameter", o->name, r - 2);
    }
done:
    return st;
}

static int64_t end_of(const adze_params *p, int i)
{
    adze_shape shape = adze_params_shape(p, i);
    return adze_params_offset(p, i) + adze_shape_count(&shape);
}

/* Cuts the chosen parameters into pieces; with `to` NULL only counts. */
static int64_t cut(const adze_optim *o, const int *group, adze_optim_piece *to)
{
    int64_t n = 0;
    for (int j = 0, next; j < o->n; j = next) {
        int g = group[o->param[j]];
        for (next = j + 1; next < o->n && o->param[next] == o->param[next - 1] + 1 && group[o->param[next]] == g;) next++;
        int64_t first = adze_params_offset(o->params, o->param[j]), end = end_of(o->params, o->param[next - 1]);
        for (; first < end; first += ADZE_OPTIM_PIECE, n++)
            if (to)
                to[n] = (adze_optim_piece){ first - o->base,
                                            (int32_t)(end - first < ADZE_OPTIM_PIECE ? end - first : ADZE_OPTIM_PIECE), g };
    }
    return n;
}

static adze_status zeros(adze_ctx *ctx, size_t n_bytes, void **out)
{
    adze_status st = ctx->backend->alloc(ctx, n_bytes, ADZE_BLOCK_OPTIMISER, out);
    return st == ADZE_OK ? ctx->backend->clear(ctx, *out, n_bytes) : st;
}

adze_status adze_optim_create(adze_optim **out, adze_params *params, const adze_optim_opts *opts)
{
    adze_status st = ADZE_OK;
    adze_optim *o = NULL;
    adze_optim_piece *pieces = NULL;
    int *group = NULL, n_all = adze_params_count(params);
    *out = NULL;
    TRY(check_options(opts));
    REQUIRE(o = adze_calloc(1, sizeof *o), ADZE_ENOMEM, "optimiser: %zu host bytes", sizeof *o);
    o->params = params;
    o->ctx = adze_params_ctx(params);
    const adze_backend *b = o->ctx->backend;
    REQUIRE(b->optim_norm && b->optim_update, ADZE_EBACKEND, "device '%s' has no optimisers", b->name);
    REQUIRE(o->name = adze_strdup(opts->name ? opts->name : ""), ADZE_ENOMEM, "optimiser: no memory for its name");
    o->opts = *opts;
    o->opts.name = o->name;
    o->opts.prefixes = NULL, o->opts.rule = NULL, o->opts.n_rules = 0;
    o->n_states = opts->kind != ADZE_OPTIM_SGD ? 2 : opts->momentum > 0.0 ? 1 : 0;

    group = adze_calloc((size_t)n_all + 1, sizeof *group);
    o->param = adze_calloc((size_t)n_all + 1, sizeof *o->param);
    REQUIRE(group && o->param, ADZE_ENOMEM, "optimiser: a table of %d parameters", n_all);
    TRY(choose(o, opts, group));
    for (int i = 0; i < n_all; i++)
        if (group[i] >= 0) o->param[o->n++] = i;
    o->base = adze_params_offset(params, o->param[0]);
    o->span = end_of(params, o->param[o->n - 1]) - o->base;

    o->n_pieces = cut(o, group, NULL);
    size_t piece_bytes = (size_t)o->n_pieces * sizeof *pieces;
    REQUIRE(pieces = adze_malloc(piece_bytes), ADZE_ENOMEM, "optimiser: %zu host bytes", piece_bytes);
    cut(o, group, pieces);
    TRY(b->alloc(o->ctx, piece_bytes, ADZE_BLOCK_OPTIMISER, &o->pieces));
    TRY(b->write(o->ctx, o->pieces, pieces, piece_bytes));
    TRY(b->alloc(o->ctx, (size_t)o->n_pieces * sizeof(double), ADZE_BLOCK_OPTIMISER, &o->partial));
    TRY(b->alloc(o->ctx, sizeof(double), ADZE_BLOCK_OPTIMISER, &o->norm));
    TRY(b->alloc(o->ctx, sizeof(adze_optim_rates), ADZE_BLOCK_OPTIMISER, &o->rates));
    for (int s = 0; s < o->n_states; s++) TRY(zeros(o->ctx, (size_t)o->span * sizeof(float), &o->state[s]));
    *out = o;
    o = NULL;
done:
    adze_free(pieces);
    adze_free(group);
    adze_optim_destroy(o);
    return st;
}

void adze_optim_destroy(adze_optim *o)
{
    if (!o) return;
    void *owned[] = { o->pieces, o->partial, o->norm, o->rates, o->state[0], o->state[1] };
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        if (owned[i]) o->ctx->backend->free(o->ctx, owned[i]);
    adze_free(o->param);
    adze_free(o->name);
    adze_free(o);
}

adze_status adze_optim_queue_norm(adze_optim *o)
{
    adze_status st = ADZE_OK;
    const float *grad = adze_params_grad_block(o->params);
    REQUIRE(grad, ADZE_EINVAL, "optimiser: there are no gradients yet");
    const adze_optim_norm a = { o->pieces, o->n_pieces, grad + o->base, o->partial, o->norm };
    TRY(o->ctx->backend->optim_norm(o->ctx, &a));
done:
    return st;
}

adze_status adze_optim_norm_now(adze_optim *o, double *norm)
{
    adze_status st = adze_optim_queue_norm(o);
    return st == ADZE_OK ? o->ctx->backend->read(o->ctx, norm, o->norm, sizeof *norm) : st;
}

/* Found only when a run ends, so it may allocate. */
adze_status adze_optim_blame(adze_optim *o, double norm)
{
    for (int j = 0; j < o->n; j++) {
        int i = o->param[j];
        adze_shape shape = adze_params_shape(o->params, i);
        int64_t count = adze_shape_count(&shape);
        float *g = adze_malloc((size_t)count * sizeof *g);
        bool bad = false;
        if (g && adze_params_read_grad(o->params, i, g) == ADZE_OK)
            for (int64_t k = 0; k < count && !bad; k++) bad = !isfinite(g[k]);
        adze_free(g);
        if (bad)
            return adze_fail(ADZE_ENUMERIC, "step %" PRId64 ": the gradient of '%s' is not finite", o->steps + 1,
                             adze_params_name(o->params, i));
    }
    return adze_fail(ADZE_ENUMERIC, "step %" PRId64 ": gradient norm %g", o->steps + 1, norm);
}

adze_status adze_optim_begin(adze_optim *o, double lr)
{
    adze_status st = ADZE_OK;
    const adze_optim_opts *opts = &o->opts;
    adze_optim_at at = { .kind = opts->kind, .step = o->steps + 1, .beta1 = opts->beta1, .beta2 = opts->beta2 };
    adze_optim_rates rates;
    REQUIRE(isfinite(lr) && lr >= 0.0, ADZE_EINVAL, "optimiser: learning rate %g, want >= 0", lr);
    for (int g = 0; g < o->n_groups; g++) at.group[g] = (adze_optim_group){ lr * o->lr_factor[g], o->weight_decay[g] };
    adze_optim_rates_at(&rates, &at);
    TRY(o->ctx->backend->write(o->ctx, o->rates, &rates, sizeof rates));
done:
    return st;
}

adze_status adze_optim_queue_update(adze_optim *o, const int32_t *stop)
{
    adze_status st = ADZE_OK;
    const adze_optim_opts *opts = &o->opts;
    const float *grad = adze_params_grad_block(o->params);
    REQUIRE(grad, ADZE_EINVAL, "optimiser: there are no gradients yet");
    const adze_optim_update u = {
        .kind = opts->kind,
        .beta1 = opts->beta1,
        .beta2 = opts->beta2,
        .eps = opts->eps,
        .momentum = opts->momentum,
        .rates = o->rates,
        .piece = o->pieces,
        .n_pieces = o->n_pieces,
        .param = adze_params_block(o->params) + o->base,
        .grad = grad + o->base,
        .state = { o->state[0], o->state[1] },
        .clip = opts->clip,
        .norm = o->norm,
        .stop = stop,
    };
    TRY(o->ctx->backend->optim_update(o->ctx, &u));
done:
    return st;
}

void adze_optim_end(adze_optim *o)
{
    o->steps++;
    for (int j = 0; j < o->n; j++) adze_params_changed(o->params, o->param[j]);
}

adze_status adze_optim_step(adze_optim *o, double lr)
{
    adze_status st = ADZE_OK;
    if (o->opts.clip > 0.0) {
        double norm;
        TRY(adze_optim_norm_now(o, &norm));
        if (!isfinite(norm)) TRY(adze_optim_blame(o, norm));
        o->last_norm = norm;
    }
    TRY(adze_optim_begin(o, lr));
    TRY(adze_optim_queue_update(o, NULL));
    adze_optim_end(o);
done:
    return st;
}

const double *adze_optim_norm_place(const adze_optim *o) { return o->opts.clip > 0.0 ? o->norm : NULL; }
double adze_optim_last_norm(const adze_optim *o) { return o->last_norm; }
const char *adze_optim_name(const adze_optim *o) { return o->name; }
const adze_optim_opts *adze_optim_options(const adze_optim *o) { return &o->opts; }
int64_t adze_optim_steps(const adze_optim *o) { return o->steps; }
void adze_optim_set_steps(adze_optim *o, int64_t steps) { o->steps = steps; }
int adze_optim_count(const adze_optim *o) { return o->n; }
int adze_optim_param(const adze_optim *o, int j) { return o->param[j]; }

size_t adze_optim_bytes(const adze_optim *o)
{
    return (size_t)o->n_states * (size_t)o->span * sizeof(float) +
           (size_t)o->n_pieces * (sizeof(adze_optim_piece) + sizeof(double)) + sizeof(double) + sizeof(adze_optim_rates);
}

const char *adze_optim_state_name(const adze_optim *o, int s)
{
    static const char *const adam[] = { "exp_avg", "exp_avg_sq" };
    return s < 0 || s >= o->n_states ? NULL : o->opts.kind == ADZE_OPTIM_SGD ? "momentum" : adam[s];
}

/* Where moment s of parameter j lies on the device, and its size. */
static float *state_at(const adze_optim *o, int s, int j, size_t *n_bytes)
{
    int64_t first = adze_params_offset(o->params, o->param[j]);
    *n_bytes = (size_t)(end_of(o->params, o->param[j]) - first) * sizeof(float);
    return (float *)o->state[s] + first - o->base;
}

adze_status adze_optim_state_read(const adze_optim *o, int s, int j, float *to_host)
{
    size_t n_bytes;
    const float *from = state_at(o, s, j, &n_bytes);
    return o->ctx->backend->read(o->ctx, to_host, from, n_bytes);
}

adze_status adze_optim_state_write(adze_optim *o, int s, int j, const float *from_host)
{
    size_t n_bytes;
    float *to = state_at(o, s, j, &n_bytes);
    return o->ctx->backend->write(o->ctx, to, from_host, n_bytes);
}
