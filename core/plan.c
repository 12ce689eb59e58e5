/* plan.c - from a graph to a list of prepared calls. Entry: adze_plan_create(), adze_plan_run().
 * Order: copy the nodes, prune, fuse, append the gradient steps, choose and prepare kernels, find lifetimes, place buffers, set pointers. */
#include "core/plan.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/backend.h"
#include "core/memory.h"
#include "core/plan_impl.h"

static adze_status run_forward(const adze_call *c)
{
    return c->op->forward(c);
}

static adze_status run_backward(const adze_call *c)
{
    return c->op->backward(c);
}

static const adze_kernel reference[2] = { { .name = "reference", .run = run_forward }, { .name = "reference", .run = run_backward } };

static adze_status copy_graph(adze_plan *plan, const adze_graph *g)
{
    adze_status st = ADZE_OK;
    size_t n_values = (size_t)g->n_values, n_steps = (size_t)g->n_nodes;
    REQUIRE(plan->value = adze_calloc(n_values, sizeof *plan->value), ADZE_ENOMEM, "plan: values");
    REQUIRE(plan->step = adze_calloc(n_steps, sizeof *plan->step), ADZE_ENOMEM, "plan: steps");
    for (int32_t v = 0; v < g->n_values; v++) {
        plan->value[v] = g->value[v];
        plan->value[v].name = NULL;
        plan->n_values = v + 1;
        if (g->value[v].name)
            REQUIRE(plan->value[v].name = adze_strdup(g->value[v].name), ADZE_ENOMEM, "plan: a name");
    }
    for (int32_t s = 0; s < g->n_nodes; s++) plan->step[s] = (plan_step){ .node = g->node[s], .scratch = -1 };
    plan->n_steps = g->n_nodes;
done:
    return st;
}

static void drop_removed_steps(adze_plan *plan)
{
    int32_t kept = 0;
    for (int32_t s = 0; s < plan->n_steps; s++) {
        if (plan->step[s].removed || adze_op_defs[plan->step[s].node.op]->alias) continue;
        if (kept != s) plan->step[kept] = plan->step[s];
        kept++;
    }
    plan->n_steps = kept;
}

static void extend(plan_buffer *b, int32_t step)
{
    if (step < b->first) b->first = step;
    if (step > b->last) b->last = step;
}

/* The buffer of a value's data or gradient, NULL for parameters. */
static plan_buffer *buffer_of(const adze_plan *plan, const int32_t *table, adze_value v)
{
    int32_t b = v == ADZE_NONE ? -1 : table[plan->value[v].root];
    return b < 0 ? NULL : &plan->buffer[b];
}

static void touch(const adze_plan *plan, const int32_t *table, adze_value v, int32_t step)
{
    plan_buffer *b = buffer_of(plan, table, v);
    if (b) extend(b, step);
}

static int32_t new_buffer(adze_plan *plan, const graph_value *value)
{
    plan->buffer[plan->n_buffers] = (plan_buffer){
        .n_bytes = (size_t)adze_shape_count(&value->shape) * sizeof(float), .first = INT32_MAX, .last = -1,
    };
    return plan->n_buffers++;
}

/* A buffer for every root value that is no parameter, and one for its gradient where that is needed. */
static adze_status make_buffers(adze_plan *plan)
{
    adze_status st = ADZE_OK;
    size_t n = (size_t)plan->n_values;
    REQUIRE(plan->buffer_of = adze_malloc(n * sizeof *plan->buffer_of), ADZE_ENOMEM, "plan: lifetimes");
    REQUIRE(plan->grad_of = adze_malloc(n * sizeof *plan->grad_of), ADZE_ENOMEM, "plan: lifetimes");
    REQUIRE(plan->buffer = adze_calloc(2 * n + (size_t)plan->n_steps, sizeof *plan->buffer), ADZE_ENOMEM, "plan: lifetimes");
    for (int32_t v = 0; v < plan->n_values; v++) {
        const graph_value *value = &plan->value[v];
        plan->buffer_of[v] = plan->grad_of[v] = -1;
        if (value->root != v || (value->kind != ADZE_VALUE_INPUT && value->kind != ADZE_VALUE_NODE)) continue;
        plan->buffer_of[v] = new_buffer(plan, value);
    }
    for (int32_t v = 0; v < plan->n_values; v++) {
        adze_value root = plan->value[v].root;
        if (plan->differs[v] && plan->buffer_of[root] >= 0 && plan->grad_of[root] < 0)
            plan->grad_of[root] = new_buffer(plan, &plan->value[root]);
    }
done:
    return st;
}

static void find_lifetimes(adze_plan *plan)
{
    for (int32_t s = 0; s < plan->n_steps; s++) {
        const plan_step *step = &plan->step[s];
        const graph_node *node = &step->node;
        const adze_op_def *def = adze_op_defs[node->op];
        unsigned reads = def->backward_reads ? def->backward_reads(node->attrs) : def->backward_reads_in;
        for (int i = 0; i < node->n_out; i++)
            if (!step->backward || i > 0 || def->backward_reads_out) touch(plan, plan->buffer_of, node->out[i], s);
        for (int i = 0; i < node->n_in; i++)
            if (!step->backward || (reads >> i & 1)) touch(plan, plan->buffer_of, node->in[i], s);
        if (!step->backward) continue;
        touch(plan, plan->grad_of, node->out[0], s);
        for (int i = 0; i < node->n_in; i++)
            if (step->call.in[i].wanted) touch(plan, plan->grad_of, node->in[i], s);
    }
    for (int32_t v = 0; v < plan->n_values; v++) {
        plan_buffer *b = buffer_of(plan, plan->buffer_of, v), *g = buffer_of(plan, plan->grad_of, v);
        bool input = plan->value[v].kind == ADZE_VALUE_INPUT;
        if (b && (plan->value[v].output || v == plan->loss || input)) extend(b, plan->n_steps);
        if (b && input) extend(b, 0); /* written before the run, readable after it */
        if (g && v == plan->loss) extend(g, 0), extend(g, plan->n_steps); /* the seed stays from run to run */
        if (g && plan->value[v].want_grad) extend(g, plan->n_steps);
    }
}

/* Lets one buffer take over the memory of another that dies in step s. */
static bool take_over(adze_plan *plan, int32_t *table, int32_t dying, int32_t born, int32_t s)
{
    plan_buffer *a = &plan->buffer[dying], *b = &plan->buffer[born];
    if (dying == born || a->last != s || b->first != s || a->n_bytes != b->n_bytes) return false;
    a->last = b->last;
    for (int32_t v = 0; v < plan->n_values; v++)
        if (table[v] == born) table[v] = dying;
    *b = (plan_buffer){ .n_bytes = 0, .first = 0, .last = -1 }; /* unused from here on */
    return true;
}

/* Forward: out[0] in the memory of the input that dies there. Backward: that input's gradient in out[0]'s. */
static void share_memory(adze_plan *plan)
{
    for (int32_t s = 0; s < plan->n_steps; s++) {
        plan_step *step = &plan->step[s];
        int k = adze_op_defs[step->node.op]->in_place_input;
        if (k < 0 || k >= step->node.n_in || step->node.in[k] == ADZE_NONE) continue;
        adze_value in = plan->value[step->node.in[k]].root, out = plan->value[step->node.out[0]].root;
        bool alone = !plan->ctx->backend->apart[step->node.op];
        for (int i = 0; i < step->node.n_in; i++)
            if (i != k && step->node.in[i] != ADZE_NONE && plan->value[step->node.in[i]].root == in) alone = false;
        if (!alone) continue;
        if (step->backward) {
            if (!step->call.in[k].wanted || step->call.in[k].accumulate || plan->grad_of[in] < 0) continue;
            step->call.in_place = take_over(plan, plan->grad_of, plan->grad_of[out], plan->grad_of[in], s);
        } else if (plan->buffer_of[in] >= 0 && plan->value[in].kind == ADZE_VALUE_NODE) {
            step->call.in_place = take_over(plan, plan->buffer_of, plan->buffer_of[in], plan->buffer_of[out], s);
        }
    }
}

static bool is_param(const graph_value *v)
{
    return v->kind == ADZE_VALUE_PARAM || v->kind == ADZE_VALUE_FROZEN;
}

/* The parameter that v is or is a view of; NULL if it is neither. */
static const graph_value *param_under(const adze_plan *plan, adze_value v)
{
    const graph_value *root = &plan->value[plan->value[v].root];
    return is_param(root) ? root : NULL;
}

static adze_status bind_params(adze_plan *plan, const graph_value *value, adze_arg *arg)
{
    int i = adze_params_find(plan->params, value->name);
    if (i < 0) return adze_fail(ADZE_EINTERNAL, "plan: parameter '%s' is not in the parameter block", value->name);
    param *p = &plan->params->param[i];
    char want[ADZE_SHAPE_TEXT], have[ADZE_SHAPE_TEXT];
    if (!adze_shape_equal(&p->shape, &value->shape))
        return adze_fail(ADZE_ESHAPE, "plan: parameter '%s' has shape %s, want %s", value->name,
                         adze_shape_text(&p->shape, have), adze_shape_text(&value->shape, want));
    arg->data = plan->params->data + p->offset;
    arg->version = &p->version;
    if (arg->wanted) arg->grad = plan->params->grad + p->offset;
    return ADZE_OK;
}

/* Fills the call of a step and lets the best kernel that accepts it prepare itself. */
static adze_status prepare_step(adze_plan *plan, plan_step *step)
{
    adze_status st = ADZE_OK;
    adze_call *c = &step->call;
    c->op = adze_op_defs[step->node.op];
    c->attrs = step->node.attrs;
    c->ctx = plan->ctx;
    c->n_in = step->node.n_in, c->n_out = step->node.n_out;
    c->backward = step->backward;
    for (int i = 0; i < c->n_in; i++) {
        adze_value v = step->node.in[i];
        if (v == ADZE_NONE) continue;
        c->in[i].shape = plan->value[v].shape;
        c->in[i].present = true;
        const graph_value *under = param_under(plan, v);
        if (under) TRY(bind_params(plan, under, &c->in[i]));
        if (under && plan->loss != ADZE_NONE && under->kind == ADZE_VALUE_PARAM) c->trains = true;
    }
    for (int i = 0; i < c->n_out; i++) c->out[i] = (adze_arg){ .shape = plan->value[step->node.out[i]].shape, .present = true };

    const adze_backend *backend = plan->ctx->backend;
    const adze_kernel *const *list = step->backward ? backend->backward[step->node.op] : backend->kernels[step->node.op];
    if (plan->ctx->opts.reference_only) list = NULL;
    for (; list && *list && !c->kernel; list++) {
        if (!(*list)->accepts(c)) continue;
        st = (*list)->prepare ? (*list)->prepare(c) : ADZE_OK;
        if (st == ADZE_OK) c->kernel = *list;
        else if (st != ADZE_EBACKEND) goto done; /* EBACKEND: a library has no algorithm for this; the next kernel may */
    }
    if (!c->kernel) {
        c->kernel = backend->host_memory ? &reference[step->backward] : &adze_host_fallback;
        st = c->kernel->prepare ? c->kernel->prepare(c) : ADZE_OK;
        if (st != ADZE_OK) goto done;
    }
    if (c->scratch_bytes > 0) {
        step->scratch = plan->n_buffers;
        int32_t at = (int32_t)(step - plan->step);
        plan->buffer[plan->n_buffers++] = (plan_buffer){ .n_bytes = c->scratch_bytes, .first = at, .last = at };
    }
done:
    return st;
}

static float *memory_of(const adze_plan *plan, const int32_t *table, adze_value v)
{
    const plan_buffer *b = buffer_of(plan, table, v);
    return b ? (float *)(plan->arena + b->offset) : NULL;
}

/* The same for data, parameters included. */
static float *data_of(const adze_plan *plan, adze_value v)
{
    const graph_value *value = param_under(plan, v);
    int i = value ? adze_params_find(plan->params, value->name) : -1;
    return i >= 0 ? plan->params->data + plan->params->param[i].offset : memory_of(plan, plan->buffer_of, v);
}

static void set_pointers(adze_plan *plan)
{
    for (int32_t s = 0; s < plan->n_steps; s++) {
        plan_step *step = &plan->step[s];
        adze_call *c = &step->call;
        for (int i = 0; i < step->node.n_in; i++) {
            if (!c->in[i].data) c->in[i].data = memory_of(plan, plan->buffer_of, step->node.in[i]);
            if (c->in[i].wanted && !c->in[i].grad) c->in[i].grad = memory_of(plan, plan->grad_of, step->node.in[i]);
        }
        for (int i = 0; i < step->node.n_out; i++) c->out[i].data = memory_of(plan, plan->buffer_of, step->node.out[i]);
        if (step->backward) c->out[0].grad = memory_of(plan, plan->grad_of, step->node.out[0]);
        if (step->scratch >= 0) c->scratch = plan->arena + plan->buffer[step->scratch].offset;
        c->attrs = step->node.attrs;
    }
}

static const char *step_label(const plan_step *step)
{
    return step->call.op->label ? step->call.op->label(&step->call) : step->call.op->name;
}

/* The arena, and room for what is written from the host. A failure names the largest tensor. */
static adze_status make_arena(adze_plan *plan)
{
    adze_status st = ADZE_OK;
    const adze_backend *b = plan->ctx->backend;
    size_t largest_write = 0, largest = 0;
    char name[64] = "", shape[ADZE_SHAPE_TEXT] = "";
    void *arena;
    for (int32_t v = 0; v < plan->n_values; v++) {
        const graph_value *value = &plan->value[v];
        size_t n_bytes = (size_t)adze_shape_count(&value->shape) * sizeof(float);
        if (value->kind != ADZE_VALUE_NODE && n_bytes > largest_write) largest_write = n_bytes;
    }
    if (b->reserve) TRY(b->reserve(plan->ctx, largest_write));
    st = b->alloc(plan->ctx, plan->arena_bytes, ADZE_BLOCK_ARENA, &arena);
    if (st == ADZE_OK) plan->arena = arena;
    if (st != ADZE_ENOMEM) goto done;
    for (int32_t s = 0; s < plan->n_steps; s++) {
        const adze_call *c = &plan->step[s].call;
        size_t n_bytes = (size_t)adze_shape_count(&c->out[0].shape) * sizeof(float);
        if (n_bytes <= largest) continue;
        largest = n_bytes;
        snprintf(name, sizeof name, "%s", step_label(&plan->step[s]));
        adze_shape_text(&c->out[0].shape, shape);
    }
    st = adze_fail_prefix(st, "%" PRId32 " operations, the largest tensor that of %s %s with %zu bytes", plan->n_steps, name, shape, largest);
done:
    return st;
}

/* The gradient that flows into the loss: 1 everywhere. */
static adze_status write_unit_seed(adze_plan *plan)
{
    adze_status st = ADZE_OK;
    float *ones = NULL;
    if (plan->loss == ADZE_NONE) return ADZE_OK;
    int64_t n = adze_shape_count(&plan->value[plan->loss].shape);
    REQUIRE(ones = adze_malloc((size_t)n * sizeof *ones), ADZE_ENOMEM, "plan: the loss's gradient");
    for (int64_t i = 0; i < n; i++) ones[i] = 1.0f;
    TRY(adze_plan_write_seed(plan, ones));
done:
    adze_free(ones);
    return st;
}

adze_status adze_plan_create(adze_plan **out, adze_ctx *ctx, const adze_graph *g, adze_params *params,
                             const adze_plan_opts *opts)
{
    adze_status st = ADZE_OK;
    adze_plan *plan = NULL;
    *out = NULL;
    TRY(adze_graph_check(g));
    REQUIRE(plan = adze_calloc(1, sizeof *plan), ADZE_ENOMEM, "plan: %zu host bytes", sizeof *plan);
    plan->ctx = ctx;
    plan->params = params;
    plan->loss = opts->loss;
    TRY(copy_graph(plan, g));
    REQUIRE(plan->loss == ADZE_NONE || (plan->loss >= 0 && plan->loss < plan->n_values), ADZE_EINVAL, "plan: no such loss");
    TRY(adze_plan_mark_differentiable(plan));
    if (plan->loss != ADZE_NONE) TRY(adze_params_need_grad(params));
    adze_plan_prune(plan);
    if (!opts->no_fusion) adze_plan_fuse(plan);
    drop_removed_steps(plan);
    TRY(adze_plan_append_backward(plan));
    TRY(make_buffers(plan));
    find_lifetimes(plan);
    share_memory(plan);
    TRY(ctx->backend->begin(ctx)); /* kernels look at the thread count when they prepare */
    plan->recordable = ctx->backend->record && !opts->no_recording;
    size_t live_bytes = adze_memory_live_bytes();
    for (int32_t s = 0; s < plan->n_steps && st == ADZE_OK; s++) {
        st = prepare_step(plan, &plan->step[s]);
        if (st == ADZE_OK && plan->step[s].call.kernel->on_host) plan->recordable = false;
    }
    ctx->backend->end(ctx);
    TRY(st);
    plan->kernel_bytes = adze_memory_live_bytes() - live_bytes;
    TRY(adze_arena_place(plan->buffer, plan->n_buffers, &plan->arena_bytes));
    TRY(make_arena(plan));
    set_pointers(plan);
    TRY(write_unit_seed(plan));
    *out = plan;
    plan = NULL;
done:
    adze_plan_destroy(plan);
    return st;
}

void adze_plan_destroy(adze_plan *plan)
{
    if (!plan) return;
    if (plan->recording) plan->ctx->backend->forget(plan->ctx, plan->recording);
    for (int32_t s = 0; s < plan->n_steps; s++) {
        adze_call *c = &plan->step[s].call;
        if (c->kernel && c->kernel->release) c->kernel->release(c);
    }
    for (int32_t v = 0; v < plan->n_values; v++) adze_free(plan->value[v].name);
    if (plan->arena) plan->ctx->backend->free(plan->ctx, plan->arena);
    adze_free(plan->value);
    adze_free(plan->step);
    adze_free(plan->buffer_of);
    adze_free(plan->grad_of);
    adze_free(plan->differs);
    adze_free(plan->buffer);
    adze_free(plan);
}

static bool readable(const adze_plan *plan, adze_value v)
{
    return v >= 0 && v < plan->n_values && (plan->value[v].output || v == plan->loss || plan->value[v].kind == ADZE_VALUE_INPUT);
}

adze_status adze_plan_write(adze_plan *plan, adze_value input, const float *from_host)
{
    if (!readable(plan, input) || plan->value[input].kind != ADZE_VALUE_INPUT)
        return adze_fail(ADZE_EINVAL, "plan: value %d is no input", (int)input);
    return plan->ctx->backend->write(plan->ctx, memory_of(plan, plan->buffer_of, input), from_host,
                                     (size_t)adze_shape_count(&plan->value[input].shape) * sizeof(float));
}

adze_status adze_plan_read(adze_plan *plan, adze_value output, float *to_host)
{
    if (!readable(plan, output)) return adze_fail(ADZE_EINVAL, "plan: value %d is not kept", (int)output);
    return plan->ctx->backend->read(plan->ctx, to_host, data_of(plan, output),
                                    (size_t)adze_shape_count(&plan->value[output].shape) * sizeof(float));
}

void adze_plan_set_around(adze_plan *plan, const adze_plan_around *around) { plan->around = *around; }

adze_status adze_plan_copy(adze_plan *to, adze_value input, adze_plan *from, adze_value output)
{
    if (!readable(to, input) || to->value[input].kind != ADZE_VALUE_INPUT || !readable(from, output))
        return adze_fail(ADZE_EINVAL, "plan: no copy from value %d to value %d", (int)output, (int)input);
    int64_t n = adze_shape_count(&to->value[input].shape), have = adze_shape_count(&from->value[output].shape);
    if (n != have) return adze_fail(ADZE_EINVAL, "plan: a copy of %" PRId64 " floats to an input of %" PRId64, have, n);
    return to->ctx->backend->copy(to->ctx, memory_of(to, to->buffer_of, input), memory_of(from, from->buffer_of, output),
                                   (size_t)n * sizeof(float));
}

adze_status adze_plan_write_seed(adze_plan *plan, const float *from_host)
{
    if (plan->loss == ADZE_NONE) return adze_fail(ADZE_EINVAL, "plan: it has no loss");
    return plan->ctx->backend->write(plan->ctx, memory_of(plan, plan->grad_of, plan->loss), from_host,
                                     (size_t)adze_shape_count(&plan->value[plan->loss].shape) * sizeof(float));
}

adze_status adze_plan_read_grad(adze_plan *plan, adze_value v, float *to_host)
{
    if (v < 0 || v >= plan->n_values || !plan->value[v].want_grad || plan->grad_of[plan->value[v].root] < 0)
        return adze_fail(ADZE_EINVAL, "plan: the gradient of value %d is not kept", (int)v);
    return plan->ctx->backend->read(plan->ctx, to_host, memory_of(plan, plan->grad_of, v),
                                    (size_t)adze_shape_count(&plan->value[v].shape) * sizeof(float));
}

float *adze_plan_host_data(adze_plan *plan, adze_value v)
{
    return readable(plan, v) && plan->ctx->backend->host_memory ? data_of(plan, v) : NULL;
}

float *adze_plan_device_data(adze_plan *plan, adze_value v)
{
    return readable(plan, v) ? data_of(plan, v) : NULL;
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Copies that kernels keep of parameters, where one has changed. What this plan trains is refreshed within the run. */
static adze_status refresh_steps(adze_plan *plan)
{
    for (int32_t s = 0; s < plan->n_steps; s++) {
        plan_step *step = &plan->step[s];
        const adze_call *c = &step->call;
        uint64_t version = 0;
        if (!c->kernel->refresh || c->trains) continue;
        for (int i = 0; i < c->n_in; i++) version += c->in[i].version ? *c->in[i].version : 0;
        if (version == step->version) continue;
        adze_status st = c->kernel->refresh(c);
        if (st != ADZE_OK) return st;
        step->version = version;
    }
    return ADZE_OK;
}

static adze_status run_call(const adze_call *c)
{
    adze_status st = c->trains && c->kernel->refresh ? c->kernel->refresh(c) : ADZE_OK;
    return st == ADZE_OK ? c->kernel->run(c) : st;
}

/* Counts the changes of running statistics. */
static void count_changes(const adze_call *c)
{
    for (int i = 0; i < c->n_in && !c->backward; i++)
        if (c->op->writes_in >> i & 1u) ++*c->in[i].version;
}

/* Steps of one direction, from *s on. */
static adze_status run_phase(adze_plan *plan, int32_t *s, bool backward)
{
    adze_status st = ADZE_OK;
    adze_ctx *ctx = plan->ctx;
    adze_ctx_enter(ctx, backward ? "backward" : "forward");
    for (; st == ADZE_OK && *s < plan->n_steps && plan->step[*s].backward == backward; ++*s) {
        plan_step *step = &plan->step[*s];
        double start = plan->profile ? now_s() : 0.0;
        adze_ctx_enter(ctx, step_label(step));
        st = run_call(&step->call);
        adze_ctx_leave(ctx);
        if (st == ADZE_OK && plan->profile && ctx->backend->wait) st = ctx->backend->wait(ctx);
        if (plan->profile) step->seconds += now_s() - start;
    }
    adze_ctx_leave(ctx);
    return st;
}

static adze_status run_steps(adze_plan *plan)
{
    const adze_plan_around *around = &plan->around;
    int32_t s = 0;
    adze_status st = around->before ? around->before(around->user) : ADZE_OK;
    if (st == ADZE_OK) st = run_phase(plan, &s, false);
    if (st == ADZE_OK && plan->loss != ADZE_NONE) st = run_phase(plan, &s, true);
    if (st != ADZE_OK || !around->after) return st;
    adze_ctx_enter(plan->ctx, "optimiser");
    st = around->after(around->user);
    adze_ctx_leave(plan->ctx);
    return st;
}

/* Notes what a run does, for later ones. */
static adze_status record(adze_plan *plan)
{
    const adze_backend *b = plan->ctx->backend;
    adze_status st = b->record(plan->ctx), end;
    if (st != ADZE_OK) return st;
    st = run_steps(plan);
    end = b->recorded(plan->ctx, &plan->recording);
    return st != ADZE_OK ? st : end;
}

static adze_status run_between(adze_plan *plan)
{
    adze_status st = ADZE_OK;
    TRY(refresh_steps(plan));
    /* The first run is never recorded: libraries prepare themselves in it. */
    if (plan->recordable && !plan->profile && plan->n_runs > 0) {
        if (!plan->recording) TRY(record(plan));
        adze_ctx_enter(plan->ctx, plan->loss == ADZE_NONE ? "forward" : "forward, backward, optimiser");
        st = plan->ctx->backend->replay(plan->ctx, plan->recording);
        adze_ctx_leave(plan->ctx);
        TRY(st);
    } else TRY(run_steps(plan));
    for (int32_t s = 0; s < plan->n_steps; s++) count_changes(&plan->step[s].call);
    plan->n_runs++;
    plan->n_profiled += plan->profile;
done:
    return st;
}

adze_status adze_plan_run(adze_plan *plan)
{
    const adze_backend *b = plan->ctx->backend;
    adze_status st = b->begin(plan->ctx), end;
    if (st != ADZE_OK) return st;
    st = run_between(plan);
    end = b->end(plan->ctx);
    return st != ADZE_OK ? st : end;
}

const char *adze_plan_first_nonfinite(adze_plan *plan)
{
    static _Thread_local char text[192];
    float *copy = NULL;
    snprintf(text, sizeof text, "no op");
    if (plan->ctx->backend->begin(plan->ctx) != ADZE_OK) return text;
    for (int32_t s = 0; s < plan->n_steps && !plan->step[s].backward; s++) {
        const adze_call *c = &plan->step[s].call;
        int64_t n = adze_shape_count(&c->out[0].shape);
        adze_free(copy);
        copy = adze_malloc((size_t)n * sizeof *copy);
        if (!copy || run_call(c) != ADZE_OK ||
            plan->ctx->backend->read(plan->ctx, copy, c->out[0].data, (size_t)n * sizeof *copy) != ADZE_OK)
            break;
        count_changes(c);
        int64_t i = 0;
        while (i < n && isfinite(copy[i])) i++;
        if (i == n) continue;
        char shape[ADZE_SHAPE_TEXT];
        const char *label = c->op->label ? c->op->label(c) : c->op->name;
        snprintf(text, sizeof text, "%s, step %" PRId32 " of the plan, output %s", label, s, adze_shape_text(&c->out[0].shape, shape));
        break;
    }
    plan->ctx->backend->end(plan->ctx);
    adze_free(copy);
    return text;
}

size_t adze_plan_input_bytes(const adze_plan *plan)
{
    size_t sum = 0;
    for (int32_t v = 0; v < plan->n_values; v++)
        if (plan->value[v].kind == ADZE_VALUE_INPUT) sum += (size_t)adze_shape_count(&plan->value[v].shape) * sizeof(float);
    return sum;
}

size_t adze_plan_arena_bytes(const adze_plan *plan) { return plan->arena_bytes; }
size_t adze_plan_kernel_bytes(const adze_plan *plan) { return plan->kernel_bytes; }

static double step_flops(const plan_step *step)
{
    const adze_call *c = &step->call;
    double forward = c->op->flops ? c->op->flops(c) : (double)adze_shape_count(&c->out[0].shape);
    if (!step->backward) return forward;
    int gradients = 0; /* each gradient of a product costs what the product did */
    for (int i = 0; i < 2 && i < c->n_in; i++) gradients += c->in[i].wanted;
    return forward * (gradients > 0 ? gradients : 1);
}

/* Bytes that the step has to move at least: every operand once; backward, what it reads of them and the gradients. */
static double step_bytes(const plan_step *step)
{
    double n = 0.0;
    const adze_call *c = &step->call;
    unsigned reads = c->op->backward_reads ? c->op->backward_reads(c->attrs) : c->op->backward_reads_in;
    for (int i = 0; i < c->n_in; i++) {
        double count = c->in[i].present ? (double)adze_shape_count(&c->in[i].shape) : 0.0;
        if (!step->backward || (reads >> i & 1u)) n += count;
        if (step->backward && c->in[i].wanted) n += c->in[i].accumulate ? 2.0 * count : count;
    }
    for (int i = 0; i < c->n_out; i++) n += (double)adze_shape_count(&c->out[i].shape);
    if (step->backward && c->op->backward_reads_out) n += (double)adze_shape_count(&c->out[0].shape);
    return n * sizeof(float);
}

double adze_plan_flops(const adze_plan *plan)
{
    double sum = 0.0;
    for (int32_t s = 0; s < plan->n_steps; s++) sum += step_flops(&plan->step[s]);
    return sum;
}

void adze_plan_print(const adze_plan *plan, adze_text *text)
{
    adze_text_printf(text, "%4s %-18s %-16s %-20s %10s %10s %10s\n", "step", "op", "kernel", "output", "kB moved", "MFLOP",
                     "arena kB");
    double bytes = 0.0;
    for (int32_t s = 0; s < plan->n_steps; s++) {
        const plan_step *step = &plan->step[s];
        char shape[ADZE_SHAPE_TEXT];
        bytes += step_bytes(step);
        adze_text_printf(text, "%4" PRId32 " %-18s %-16s %-20s %10.1f %10.2f %10zu%s\n", s, step_label(step),
                         step->call.kernel->name, adze_shape_text(&step->call.out[0].shape, shape), step_bytes(step) / 1e3,
                         step_flops(step) / 1e6, plan->buffer[plan->buffer_of[plan->value[step->node.out[0]].root]].offset / 1000,
                         step->call.in_place ? " in place" : "");
    }
    adze_text_printf(text, "%" PRId32 " steps, %.3f GFLOP, %.1f MB moved, arena %.1f MB, parameters %.1f MB\n", plan->n_steps,
                     adze_plan_flops(plan) / 1e9, bytes / 1e6, (double)plan->arena_bytes / 1e6,
                     (double)adze_params_bytes(plan->params) / 1e6);
}

void adze_plan_profile(adze_plan *plan, bool on)
{
    plan->profile = on;
    plan->n_profiled = 0;
    for (int32_t s = 0; s < plan->n_steps; s++) plan->step[s].seconds = 0.0;
}

void adze_plan_profile_print(const adze_plan *plan, adze_text *text)
{
    double total = 0.0, runs = plan->n_profiled > 0 ? (double)plan->n_profiled : 1.0;
    for (int32_t s = 0; s < plan->n_steps; s++) total += plan->step[s].seconds;
    adze_text_printf(text, "%4s %-18s %-16s %-20s %9s %6s %9s %8s\n", "step", "op", "kernel", "output", "ms", "share",
                     "GFLOP/s", "GB/s");
    for (int32_t s = 0; s < plan->n_steps; s++) {
        const plan_step *step = &plan->step[s];
        double seconds = step->seconds / runs;
        char shape[ADZE_SHAPE_TEXT];
        adze_text_printf(text, "%4" PRId32 " %-18s %-16s %-20s %9.3f %5.1f%% %9.1f %8.2f\n", s, step_label(step),
                         step->call.kernel->name, adze_shape_text(&step->call.out[0].shape, shape), 1e3 * seconds,
                         total > 0.0 ? 100.0 * step->seconds / total : 0.0, step_flops(step) / seconds / 1e9,
                         step_bytes(step) / seconds / 1e9);
    }
    adze_text_printf(text, "%.3f ms per run over %" PRId64 " runs, %.1f GFLOP/s\n", 1e3 * total / runs, plan->n_profiled,
                     adze_plan_flops(plan) / (total / runs) / 1e9);
}

int32_t adze_plan_step_count(const adze_plan *plan) { return plan->n_steps; }

adze_plan_step adze_plan_step_at(const adze_plan *plan, int32_t i)
{
    const plan_step *step = &plan->step[i];
    return (adze_plan_step){
        .op = step_label(step),
        .kernel = step->call.kernel->name,
        .output = step->call.out[0].shape,
        .backward = step->backward,
        .flops = step_flops(step),
        .n_bytes = step_bytes(step),
        .seconds = plan->n_profiled > 0 ? step->seconds / (double)plan->n_profiled : 0.0,
    };
}
