/* plan.c - from a graph to a list of prepared calls. Entry: adze_plan_create(), adze_plan_run().
 * Order: copy the nodes, prune, fuse, choose and prepare kernels, find lifetimes, place buffers, set pointers. */
#include "core/plan.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/backend.h"
#include "core/memory.h"
#include "core/plan_impl.h"

static adze_status run_reference(const adze_call *c)
{
    return c->op->forward(c);
}

static const adze_kernel reference = { .name = "reference", .run = run_reference };

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

/* A buffer for every root value that a step reads or writes and that is no parameter. */
static adze_status find_lifetimes(adze_plan *plan)
{
    adze_status st = ADZE_OK;
    size_t most = (size_t)plan->n_values + (size_t)plan->n_steps;
    REQUIRE(plan->buffer_of = adze_malloc((size_t)plan->n_values * sizeof *plan->buffer_of), ADZE_ENOMEM, "plan: lifetimes");
    REQUIRE(plan->buffer = adze_calloc(most, sizeof *plan->buffer), ADZE_ENOMEM, "plan: lifetimes");
    for (int32_t v = 0; v < plan->n_values; v++) plan->buffer_of[v] = -1;
    for (int32_t v = 0; v < plan->n_values; v++) {
        const graph_value *value = &plan->value[v];
        if (value->root != v || (value->kind != ADZE_VALUE_INPUT && value->kind != ADZE_VALUE_NODE)) continue;
        plan->buffer_of[v] = plan->n_buffers;
        plan->buffer[plan->n_buffers++] = (plan_buffer){
            .n_bytes = (size_t)adze_shape_count(&value->shape) * sizeof(float),
            .first = value->kind == ADZE_VALUE_INPUT ? 0 : INT32_MAX,
            .last = -1,
        };
    }
    for (int32_t s = 0; s < plan->n_steps; s++) {
        const graph_node *node = &plan->step[s].node;
        for (int i = 0; i < node->n_out; i++) {
            plan_buffer *b = &plan->buffer[plan->buffer_of[plan->value[node->out[i]].root]];
            if (s < b->first) b->first = s;
            if (s > b->last) b->last = s;
        }
        for (int i = 0; i < node->n_in; i++) {
            if (node->in[i] == ADZE_NONE || plan->buffer_of[plan->value[node->in[i]].root] < 0) continue;
            plan_buffer *b = &plan->buffer[plan->buffer_of[plan->value[node->in[i]].root]];
            if (s > b->last) b->last = s;
        }
    }
    for (int32_t v = 0; v < plan->n_values; v++) {
        int32_t b = plan->buffer_of[plan->value[v].root];
        if (plan->value[v].output && b >= 0) plan->buffer[b].last = plan->n_steps;
        if (plan->value[v].kind == ADZE_VALUE_INPUT && b >= 0) plan->buffer[b].last = plan->n_steps; /* stays readable */
    }
done:
    return st;
}

/* Lets out[0] take over the memory of an input that dies in the same step. */
static void share_memory(adze_plan *plan)
{
    for (int32_t s = 0; s < plan->n_steps; s++) {
        plan_step *step = &plan->step[s];
        int k = adze_op_defs[step->node.op]->in_place_input;
        if (k < 0 || k >= step->node.n_in || step->node.in[k] == ADZE_NONE) continue;
        adze_value from = plan->value[step->node.in[k]].root, to = plan->value[step->node.out[0]].root;
        int32_t a = plan->buffer_of[from], b = plan->buffer_of[to];
        if (a < 0 || plan->value[from].kind != ADZE_VALUE_NODE || plan->buffer[a].last != s || plan->buffer[b].first != s ||
            plan->buffer[a].n_bytes != plan->buffer[b].n_bytes)
            continue;
        bool read_twice = false;
        for (int i = 0; i < step->node.n_in; i++)
            if (i != k && step->node.in[i] != ADZE_NONE && plan->value[step->node.in[i]].root == from) read_twice = true;
        if (read_twice) continue;
        plan->buffer[a].last = plan->buffer[b].last;
        for (int32_t v = 0; v < plan->n_values; v++)
            if (plan->buffer_of[v] == b) plan->buffer_of[v] = a;
        plan->buffer[b].n_bytes = 0, plan->buffer[b].first = 0, plan->buffer[b].last = -1; /* unused from here on */
        step->call.in_place = true;
    }
}

static adze_status bind_params(adze_plan *plan, adze_value v, adze_arg *arg)
{
    const graph_value *value = &plan->value[v];
    int i = adze_params_find(plan->params, value->name);
    if (i < 0) return adze_fail(ADZE_EINTERNAL, "plan: parameter '%s' is not in the parameter block", value->name);
    param *p = &plan->params->param[i];
    char want[ADZE_SHAPE_TEXT], have[ADZE_SHAPE_TEXT];
    if (!adze_shape_equal(&p->shape, &value->shape))
        return adze_fail(ADZE_ESHAPE, "plan: parameter '%s' has shape %s, want %s", value->name,
                         adze_shape_text(&p->shape, have), adze_shape_text(&value->shape, want));
    arg->data = plan->params->data + p->offset;
    arg->version = &p->version;
    return ADZE_OK;
}

static bool is_param(const graph_value *v)
{
    return v->kind == ADZE_VALUE_PARAM || v->kind == ADZE_VALUE_FROZEN;
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
    for (int i = 0; i < c->n_in; i++) {
        adze_value v = step->node.in[i];
        if (v == ADZE_NONE) continue;
        c->in[i] = (adze_arg){ .shape = plan->value[v].shape, .present = true };
        if (is_param(&plan->value[v])) TRY(bind_params(plan, v, &c->in[i]));
    }
    for (int i = 0; i < c->n_out; i++) c->out[i] = (adze_arg){ .shape = plan->value[step->node.out[i]].shape, .present = true };

    const adze_kernel *const *list = plan->ctx->opts.reference_only ? NULL : plan->ctx->backend->kernels[step->node.op];
    for (; list && *list && !c->kernel; list++)
        if ((*list)->accepts(c)) c->kernel = *list;
    if (!c->kernel && plan->ctx->backend->host_memory) c->kernel = &reference;
    REQUIRE(c->kernel, ADZE_EBACKEND, "%s: the %s backend has no kernel for it", c->op->name, plan->ctx->backend->name);
    if (c->kernel->prepare) TRY(c->kernel->prepare(c));
    if (c->scratch_bytes > 0) {
        step->scratch = plan->n_buffers;
        int32_t at = (int32_t)(step - plan->step);
        plan->buffer[plan->n_buffers++] = (plan_buffer){ .n_bytes = c->scratch_bytes, .first = at, .last = at };
    }
done:
    return st;
}

static float *value_data(const adze_plan *plan, adze_value v)
{
    int32_t b = plan->buffer_of[plan->value[v].root];
    return b < 0 ? NULL : (float *)(plan->arena + plan->buffer[b].offset);
}

static void set_pointers(adze_plan *plan)
{
    for (int32_t s = 0; s < plan->n_steps; s++) {
        plan_step *step = &plan->step[s];
        for (int i = 0; i < step->node.n_in; i++)
            if (step->node.in[i] != ADZE_NONE && !step->call.in[i].data)
                step->call.in[i].data = value_data(plan, step->node.in[i]);
        for (int i = 0; i < step->node.n_out; i++) step->call.out[i].data = value_data(plan, step->node.out[i]);
        if (step->scratch >= 0) step->call.scratch = plan->arena + plan->buffer[step->scratch].offset;
        step->call.attrs = step->node.attrs;
    }
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
    TRY(copy_graph(plan, g));
    adze_plan_prune(plan);
    if (!opts->no_fusion) adze_plan_fuse(plan);
    drop_removed_steps(plan);
    TRY(find_lifetimes(plan));
    share_memory(plan);
    TRY(ctx->backend->begin(ctx)); /* kernels look at the thread count when they prepare */
    for (int32_t s = 0; s < plan->n_steps; s++) TRY(prepare_step(plan, &plan->step[s]));
    TRY(adze_arena_place(plan->buffer, plan->n_buffers, &plan->arena_bytes));
    void *arena;
    TRY(ctx->backend->alloc(ctx, plan->arena_bytes, &arena));
    plan->arena = arena;
    set_pointers(plan);
    *out = plan;
    plan = NULL;
done:
    adze_plan_destroy(plan);
    return st;
}

void adze_plan_destroy(adze_plan *plan)
{
    if (!plan) return;
    for (int32_t s = 0; s < plan->n_steps; s++) {
        adze_call *c = &plan->step[s].call;
        if (c->kernel && c->kernel->release) c->kernel->release(c);
    }
    for (int32_t v = 0; v < plan->n_values; v++) adze_free(plan->value[v].name);
    if (plan->arena) plan->ctx->backend->free(plan->ctx, plan->arena);
    adze_free(plan->value);
    adze_free(plan->step);
    adze_free(plan->buffer_of);
    adze_free(plan->buffer);
    adze_free(plan);
}

static bool readable(const adze_plan *plan, adze_value v)
{
    return v >= 0 && v < plan->n_values && (plan->value[v].output || plan->value[v].kind == ADZE_VALUE_INPUT);
}

adze_status adze_plan_write(adze_plan *plan, adze_value input, const float *from_host)
{
    if (!readable(plan, input) || plan->value[input].kind != ADZE_VALUE_INPUT)
        return adze_fail(ADZE_EINVAL, "plan: value %d is no input", (int)input);
    return plan->ctx->backend->write(plan->ctx, value_data(plan, input), from_host,
                                     (size_t)adze_shape_count(&plan->value[input].shape) * sizeof(float));
}

adze_status adze_plan_read(adze_plan *plan, adze_value output, float *to_host)
{
    if (!readable(plan, output)) return adze_fail(ADZE_EINVAL, "plan: value %d is not kept", (int)output);
    return plan->ctx->backend->read(plan->ctx, to_host, value_data(plan, output),
                                    (size_t)adze_shape_count(&plan->value[output].shape) * sizeof(float));
}

float *adze_plan_host_data(adze_plan *plan, adze_value v)
{
    return readable(plan, v) && plan->ctx->backend->host_memory ? value_data(plan, v) : NULL;
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

adze_status adze_plan_run(adze_plan *plan)
{
    adze_status st = ADZE_OK;
    TRY(plan->ctx->backend->begin(plan->ctx));
    for (int32_t s = 0; s < plan->n_steps; s++) {
        plan_step *step = &plan->step[s];
        double start = plan->profile ? now_s() : 0.0;
        TRY(step->call.kernel->run(&step->call));
        if (plan->profile) step->seconds += now_s() - start;
    }
    TRY(plan->ctx->backend->end(plan->ctx));
    plan->n_profiled += plan->profile;
done:
    return st;
}

size_t adze_plan_arena_bytes(const adze_plan *plan) { return plan->arena_bytes; }

static double step_flops(const plan_step *step)
{
    const adze_call *c = &step->call;
    return c->op->flops ? c->op->flops(c) : (double)adze_shape_count(&c->out[0].shape);
}

/* Bytes that the step has to move at least: every operand once. */
static double step_bytes(const plan_step *step)
{
    double n = 0.0;
    for (int i = 0; i < step->call.n_in; i++)
        if (step->call.in[i].present) n += (double)adze_shape_count(&step->call.in[i].shape);
    for (int i = 0; i < step->call.n_out; i++) n += (double)adze_shape_count(&step->call.out[i].shape);
    return n * sizeof(float);
}

static const char *step_label(const plan_step *step)
{
    return step->call.op->label ? step->call.op->label(&step->call) : step->call.op->name;
}

double adze_plan_flops(const adze_plan *plan)
{
    double sum = 0.0;
    for (int32_t s = 0; s < plan->n_steps; s++) sum += step_flops(&plan->step[s]);
    return sum;
}

void adze_plan_print(const adze_plan *plan, adze_text *text)
{
    adze_text_printf(text, "%4s %-18s %-14s %-20s %10s %10s %10s\n", "step", "op", "kernel", "output", "kB moved", "MFLOP",
                     "arena kB");
    double bytes = 0.0;
    for (int32_t s = 0; s < plan->n_steps; s++) {
        const plan_step *step = &plan->step[s];
        char shape[ADZE_SHAPE_TEXT];
        bytes += step_bytes(step);
        adze_text_printf(text, "%4" PRId32 " %-18s %-14s %-20s %10.1f %10.2f %10zu%s\n", s, step_label(step),
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
    adze_text_printf(text, "%4s %-18s %-14s %-20s %9s %6s %9s %8s\n", "step", "op", "kernel", "output", "ms", "share",
                     "GFLOP/s", "GB/s");
    for (int32_t s = 0; s < plan->n_steps; s++) {
        const plan_step *step = &plan->step[s];
        double seconds = step->seconds / runs;
        char shape[ADZE_SHAPE_TEXT];
        adze_text_printf(text, "%4" PRId32 " %-18s %-14s %-20s %9.3f %5.1f%% %9.1f %8.2f\n", s, step_label(step),
                         step->call.kernel->name, adze_shape_text(&step->call.out[0].shape, shape), 1e3 * seconds,
                         total > 0.0 ? 100.0 * step->seconds / total : 0.0, step_flops(step) / seconds / 1e9,
                         step_bytes(step) / seconds / 1e9);
    }
    adze_text_printf(text, "%.3f ms per run over %" PRId64 " runs, %.1f GFLOP/s\n", 1e3 * total / runs, plan->n_profiled,
                     adze_plan_flops(plan) / (total / runs) / 1e9);
}
