/* golden_train.c - cases of training: optimiser steps, gradient clipping, learning rates. Kinds op.optimizer,
 * op.clip_grad_norm, cflow.lr; through the objects that the step loop uses. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/context.h"
#include "core/graph.h"
#include "train/optimizer.h"
#include "train/schedule.h"
#include "tests/golden/golden.h"

typedef struct {
    adze_ctx *ctx;
    adze_graph *graph;
    adze_params *params;
    adze_optim *optim;
} parts;

static void destroy(parts *p)
{
    adze_optim_destroy(p->optim);
    adze_params_destroy(p->params);
    adze_graph_destroy(p->graph);
    adze_ctx_destroy(p->ctx);
}

static int64_t shape_of(const json_t *spec, adze_shape *shape)
{
    const json_t *dims = json_object_get(spec, "shape");
    *shape = (adze_shape){ .rank = (int)json_array_size(dims) };
    for (int d = 0; d < shape->rank && d < ADZE_MAX_RANK; d++)
        shape->dim[d] = json_integer_value(json_array_get(dims, (size_t)d));
    return adze_shape_count(shape);
}

/* Trainable parameters named and shaped as the case's inputs, all zero. */
static adze_status create(parts *p, const golden *g, const json_t *inputs)
{
    adze_status st = ADZE_OK;
    const char *name;
    json_t *spec;
    TRY(golden_context(g, &p->ctx));
    TRY(adze_graph_create(&p->graph));
    json_object_foreach((json_t *)inputs, name, spec) {
        adze_shape shape;
        shape_of(spec, &shape);
        adze_graph_param(p->graph, name, shape, true);
    }
    TRY(adze_params_create(&p->params, p->ctx, p->graph));
done:
    return st;
}

/* `spec`'s tensor with {step} in its name replaced, times `scale` in double, rounded once. */
static float *tensor_of(const json_t *spec, int64_t step, double scale)
{
    char name[256];
    const char *pattern = golden_string(spec, "name", ""), *at = strstr(pattern, "{step}");
    if (at) snprintf(name, sizeof name, "%.*s%lld%s", (int)(at - pattern), pattern, (long long)step, at + 6);
    else snprintf(name, sizeof name, "%s", pattern);
    json_t *copy = json_copy((json_t *)spec);
    json_object_set_new(copy, "name", json_string(name));
    int64_t shape[8], n;
    int rank;
    float *x = golden_tensor(copy, shape, &rank, &n);
    for (int64_t i = 0; x && i < n; i++) x[i] = (float)(x[i] * scale);
    json_decref(copy);
    return x;
}

static bool value(golden *g, const json_t *item, const char *what, const char *param, const float *got, int64_t n)
{
    char key[128], label[256];
    snprintf(key, sizeof key, "%s%s%s", what, param ? "/" : "", param ? param : "");
    snprintf(label, sizeof label, "%s %s", golden_string(item, "name", "?"), key);
    return golden_check_value(g, label, json_object_get(json_object_get(item, "values"), key), got, n, 1.0);
}

static adze_status write_gradients(parts *p, const json_t *specs, int64_t step, double scale)
{
    adze_status st = ADZE_OK;
    for (int i = 0; i < adze_params_count(p->params); i++) {
        float *x = tensor_of(json_object_get(specs, adze_params_name(p->params, i)), step, scale);
        REQUIRE(x, ADZE_EINPUT, "no tensor for the gradient of '%s'", adze_params_name(p->params, i));
        st = adze_params_write_grad(p->params, i, x);
        free(x);
        TRY(st);
    }
done:
    return st;
}

static adze_status check_params(golden *g, parts *p, const json_t *item, int64_t step)
{
    adze_status st = ADZE_OK;
    for (int i = 0; i < adze_params_count(p->params); i++) {
        char what[32];
        adze_shape shape = adze_params_shape(p->params, i);
        int64_t n = adze_shape_count(&shape);
        float *x = golden_floats(n);
        snprintf(what, sizeof what, "step%lld", (long long)step);
        st = adze_params_read(p->params, i, x);
        if (st == ADZE_OK) value(g, item, what, adze_params_name(p->params, i), x, n);
        free(x);
        TRY(st);
    }
done:
    return st;
}

static adze_status check_states(golden *g, parts *p, const json_t *item)
{
    adze_status st = ADZE_OK;
    for (int s = 0; adze_optim_state_name(p->optim, s); s++)
        for (int j = 0; j < adze_optim_count(p->optim); j++) {
            const char *name = adze_optim_state_name(p->optim, s);
            int i = adze_optim_param(p->optim, j);
            adze_shape shape = adze_params_shape(p->params, i);
            int64_t n = adze_shape_count(&shape);
            float *x = golden_floats(n);
            st = adze_optim_state_read(p->optim, s, j, x);
            if (st == ADZE_OK)
                value(g, item, strcmp(name, "momentum") == 0 ? "momentum_buffer" : name, adze_params_name(p->params, i), x, n);
            free(x);
            TRY(st);
        }
done:
    return st;
}

static adze_status run_optimizer(golden *g, const json_t *item)
{
    adze_status st = ADZE_OK;
    parts p = { NULL };
    const json_t *a = json_object_get(item, "attrs"), *betas = json_object_get(a, "betas"), *inputs = json_object_get(item, "inputs");
    adze_optim_opts o = ADZE_OPTIM_OPTS;
    const char *op = golden_string(item, "op", "");
    int64_t steps = golden_int(a, "steps", 0);
    float *norms = golden_floats(steps + 1);
    o.kind = strcmp(op, "sgd") == 0 ? ADZE_OPTIM_SGD : strcmp(op, "adam") == 0 ? ADZE_OPTIM_ADAM : ADZE_OPTIM_ADAMW;
    REQUIRE(strcmp(op, adze_optim_kind_name(o.kind)) == 0, ADZE_EINPUT, "no optimiser is called '%s'", op);
    if (json_is_array(betas)) {
        o.beta1 = json_number_value(json_array_get(betas, 0));
        o.beta2 = json_number_value(json_array_get(betas, 1));
    }
    o.eps = golden_real(a, "eps", o.eps);
    o.momentum = golden_real(a, "momentum", 0.0);
    o.weight_decay = golden_real(a, "weight_decay", 0.0);
    o.clip = golden_real(a, "clip", 0.0);
    o.decay_vectors = true;
    TRY(create(&p, g, inputs));
    for (int i = 0; i < adze_params_count(p.params); i++) {
        float *x = tensor_of(json_object_get(inputs, adze_params_name(p.params, i)), 0, 1.0);
        REQUIRE(x, ADZE_EINPUT, "no tensor for '%s'", adze_params_name(p.params, i));
        st = adze_params_write(p.params, i, x);
        free(x);
        TRY(st);
    }
    TRY(adze_optim_create(&p.optim, p.params, &o));
    for (int64_t s = 0; s < steps; s++) {
        TRY(write_gradients(&p, json_object_get(item, "gradients"), s, golden_real(a, "grad_scale", 1.0)));
        TRY(adze_optim_step(p.optim, json_number_value(json_array_get(json_object_get(a, "lr"), (size_t)s))));
        norms[s] = (float)adze_optim_last_norm(p.optim);
        if (s == 0 || s == 1 || s == steps - 1) TRY(check_params(g, &p, item, s + 1));
    }
    TRY(check_states(g, &p, item));
    if (o.clip > 0.0) value(g, item, "norms", NULL, norms, steps);
done:
    free(norms);
    destroy(&p);
    return st;
}

/* Zero parameters minus a rate of 1 times the clipped gradient: the clipped gradient itself, negated exactly. */
static adze_status run_clip(golden *g, const json_t *item)
{
    adze_status st = ADZE_OK;
    parts p = { NULL };
    const json_t *a = json_object_get(item, "attrs"), *inputs = json_object_get(item, "inputs");
    adze_optim_opts o = ADZE_OPTIM_OPTS;
    o.kind = ADZE_OPTIM_SGD;
    o.clip = golden_real(a, "max_norm", 0.0);
    TRY(create(&p, g, inputs));
    TRY(adze_optim_create(&p.optim, p.params, &o));
    TRY(write_gradients(&p, inputs, 0, golden_real(a, "grad_scale", 1.0)));
    TRY(adze_optim_step(p.optim, 1.0));
    float norm = (float)adze_optim_last_norm(p.optim);
    value(g, item, "norm", NULL, &norm, 1);
    for (int i = 0; i < adze_params_count(p.params); i++) {
        adze_shape shape = adze_params_shape(p.params, i);
        int64_t n = adze_shape_count(&shape);
        float *x = golden_floats(n);
        st = adze_params_read(p.params, i, x);
        for (int64_t k = 0; k < n; k++) x[k] = -x[k];
        if (st == ADZE_OK) value(g, item, adze_params_name(p.params, i), NULL, x, n);
        free(x);
        TRY(st);
    }
done:
    destroy(&p);
    return st;
}

/* Both sides compute in double, and the case keeps ten digits. */
static void run_lr(golden *g)
{
    const json_t *want = json_object_get(json_object_get(g->root, "values"), "lr");
    int64_t per_pass = golden_int(g->setup, "batches_per_pass", 1);
    adze_schedule s = adze_schedule_meta_epochs(golden_real(g->setup, "lr", 0.0), golden_real(g->setup, "decay_rate", 0.1),
                                                golden_int(g->setup, "meta_epochs", 1), golden_int(g->setup, "sub_epochs", 1),
                                                per_pass, golden_int(g->setup, "warm_epochs", 0));
    int64_t n = golden_int(g->setup, "meta_epochs", 1) * golden_int(g->setup, "sub_epochs", 1) * per_pass;
    double *lr = malloc((size_t)n * sizeof *lr);
    if (!golden_expect(g, "schedule", lr && adze_schedule_check(&s) == ADZE_OK, "a schedule of %lld iterations", (long long)n)) {
        free(lr);
        return;
    }
    for (int64_t t = 0; t < n; t++) lr[t] = adze_schedule_lr(&s, t);
    golden_check_double(g, "lr", want, lr, n, 1e-9 * golden_real(want, "absmax", 0.0));
    free(lr);
}

bool golden_train(golden *g)
{
    size_t i;
    json_t *item;
    if (strcmp(g->kind, "cflow.lr") == 0) {
        run_lr(g);
        return true;
    }
    bool clip = strcmp(g->kind, "op.clip_grad_norm") == 0;
    if (!clip && strcmp(g->kind, "op.optimizer") != 0) return false;
    json_array_foreach(json_object_get(g->root, "cases"), i, item) {
        adze_status st = clip ? run_clip(g, item) : run_optimizer(g, item);
        if (st != ADZE_OK) golden_expect(g, golden_string(item, "name", "?"), false, "%s", adze_error_message());
    }
    return true;
}
