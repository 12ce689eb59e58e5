/* split.c - cutting a training graph. Entry: adze_graph_split(). */
#include "core/split.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/graph_impl.h"
#include "core/memory.h"

/* What a value depends on. */
typedef struct {
    bool image; /* the picture */
    bool other; /* a trainable parameter, another input, or an op that moves statistics */
} reach;

static void find_reach(const adze_graph *g, adze_value image, reach *r)
{
    for (int32_t v = 0; v < g->n_values; v++) {
        adze_value_kind kind = g->value[v].kind;
        r[v] = (reach){ v == image, kind == ADZE_VALUE_PARAM || (kind == ADZE_VALUE_INPUT && v != image) };
    }
    for (int32_t s = 0; s < g->n_nodes; s++) {
        const graph_node *node = &g->node[s];
        reach sum = { false, node->op == ADZE_OP_batch_norm_train };
        for (int i = 0; i < node->n_in; i++) {
            if (node->in[i] == ADZE_NONE) continue;
            sum.image |= r[node->in[i]].image;
            sum.other |= r[node->in[i]].other;
        }
        for (int i = 0; i < node->n_out; i++) r[node->out[i]] = sum;
    }
}

static bool begins(const char *name, const char *const *prefix)
{
    for (; prefix && *prefix; prefix++)
        if (strncmp(name, *prefix, strlen(*prefix)) == 0) return true;
    return false;
}

/* A graph that is being copied out of `g`. */
typedef struct {
    const adze_graph *g;
    adze_graph *to;
    const char *const *trained; /* as in adze_graph_goal */
    adze_value *map;            /* (values of g): where they are in `to`, or ADZE_NONE */
} copying;

/* The value of `g` in `to`: known already, or a parameter or input that is declared now. */
static adze_value carry(const copying *c, adze_value v)
{
    if (v == ADZE_NONE) return ADZE_NONE;
    if (c->map[v] != ADZE_NONE) return c->map[v];
    const graph_value *value = &c->g->value[v];
    bool trained = value->kind == ADZE_VALUE_PARAM && (!c->trained || begins(value->name, c->trained));
    if (value->kind == ADZE_VALUE_INPUT) c->map[v] = adze_graph_input(c->to, value->name, value->shape);
    else if (value->kind != ADZE_VALUE_NODE) c->map[v] = adze_graph_param(c->to, value->name, value->shape, trained);
    return c->map[v];
}

/* Copies the nodes for which keep[s] holds. */
static void copy_nodes(const copying *c, const bool *keep)
{
    for (int32_t s = 0; s < c->g->n_nodes; s++) {
        const graph_node *node = &c->g->node[s];
        if (!keep[s]) continue;
        adze_value in[ADZE_MAX_IN];
        for (int i = 0; i < node->n_in; i++) in[i] = carry(c, node->in[i]);
        adze_value first = adze_graph_add(c->to, node->op, node->attrs, in, node->n_in, node->n_out);
        if (first == ADZE_NONE) return;
        for (int i = 0; i < node->n_out; i++) c->map[node->out[i]] = first + i; /* outputs are numbered in a row */
        for (int i = 0; i < node->n_out; i++)
            if (c->g->value[node->out[i]].output) adze_graph_output(c->to, c->g->value[node->out[i]].name, c->map[node->out[i]]);
    }
}

static void clear(adze_value *map, int32_t n)
{
    for (int32_t v = 0; v < n; v++) map[v] = ADZE_NONE;
}

/* Whether a value is made in the frozen part: from the image alone, and by more than a view or what is made anew. */
static bool is_frozen(const adze_graph *g, const reach *r, adze_value v)
{
    if (v == ADZE_NONE || g->value[v].kind != ADZE_VALUE_NODE || !r[v].image || r[v].other) return false;
    const adze_op_def *def = adze_op_defs[g->node[g->value[v].node].op];
    return !def->alias && !def->remade;
}

/* keep[s] for the nodes that the loss is computed from, short of the frozen part. */
static void find_rest(const adze_graph *g, const reach *r, adze_value loss, bool *keep)
{
    for (int32_t s = 0; s < g->n_nodes; s++) keep[s] = g->value[loss].node == s;
    for (int32_t s = g->n_nodes - 1; s >= 0; s--) {
        const graph_node *node = &g->node[s];
        for (int i = 0; keep[s] && i < node->n_in; i++) {
            adze_value v = node->in[i];
            if (v != ADZE_NONE && g->value[v].kind == ADZE_VALUE_NODE && !is_frozen(g, r, v)) keep[g->value[v].node] = true;
        }
    }
}

/* Values of the frozen part that kept nodes read; appended to `cut`. */
static adze_status find_cuts(adze_graph_parts *out, const adze_graph *g, const reach *r, const bool *keep, bool *is_cut, adze_value *cut)
{
    adze_status st = ADZE_OK;
    for (int32_t s = 0; s < g->n_nodes; s++) {
        const graph_node *node = &g->node[s];
        for (int i = 0; keep[s] && i < node->n_in; i++) {
            adze_value v = node->in[i];
            if (!is_frozen(g, r, v) || is_cut[v]) continue;
            REQUIRE(out->n_cuts < ADZE_GRAPH_CUTS, ADZE_EINTERNAL, "split: more than %d cuts", ADZE_GRAPH_CUTS);
            is_cut[v] = true;
            cut[out->n_cuts++] = v;
        }
    }
done:
    return st;
}

static adze_status make_frozen(adze_graph_parts *out, const adze_graph *g, adze_value image, const reach *r, const adze_value *cut,
                               bool *keep, adze_value *map)
{
    adze_status st = ADZE_OK;
    TRY(adze_graph_create(&out->frozen));
    const copying c = { g, out->frozen, NULL, map };
    clear(map, g->n_values);
    out->image = carry(&c, image);
    for (int32_t s = 0; s < g->n_nodes; s++) keep[s] = !r[g->node[s].out[0]].other;
    copy_nodes(&c, keep);
    for (int i = 0; i < out->n_cuts; i++) {
        char name[16];
        snprintf(name, sizeof name, "cut%d", i);
        out->from[i] = map[cut[i]];
        out->floats[i] = adze_shape_count(&g->value[cut[i]].shape) / g->value[image].shape.dim[0];
        if (!g->value[cut[i]].output) adze_graph_output(out->frozen, name, out->from[i]);
    }
    TRY(adze_graph_check(out->frozen));
done:
    return st;
}

static adze_status make_rest(adze_graph_rest *out, const adze_graph *g, const adze_graph_goal *goal, const adze_value *cut, int n_cuts,
                             const bool *keep, adze_value *map)
{
    adze_status st = ADZE_OK;
    TRY(adze_graph_create(&out->graph));
    const copying c = { g, out->graph, goal->trained, map };
    clear(map, g->n_values);
    for (int i = 0; i < n_cuts; i++) {
        bool read = false;
        for (int32_t s = 0; s < g->n_nodes; s++)
            for (int k = 0; k < g->node[s].n_in; k++) read |= keep[s] && g->node[s].in[k] == cut[i];
        out->to[i] = ADZE_NONE;
        if (!read) continue;
        char name[16];
        snprintf(name, sizeof name, "cut%d", i);
        out->to[i] = map[cut[i]] = adze_graph_input(out->graph, name, g->value[cut[i]].shape);
    }
    copy_nodes(&c, keep);
    TRY(adze_graph_check(out->graph));
    out->loss = map[goal->loss];
done:
    return st;
}

adze_status adze_graph_split(adze_graph_parts *out, const adze_graph *g, adze_value image, const adze_graph_goal *goal, int n_goals)
{
    adze_status st = ADZE_OK;
    adze_value *map = NULL, cut[ADZE_GRAPH_CUTS];
    reach *r = NULL;
    bool *keep = NULL, *is_cut = NULL;
    *out = (adze_graph_parts){ .image = ADZE_NONE };
    TRY(adze_graph_check(g));
    REQUIRE(n_goals <= ADZE_GRAPH_GOALS, ADZE_EINTERNAL, "split: %d goals, at most %d", n_goals, ADZE_GRAPH_GOALS);
    size_t n_values = (size_t)g->n_values, n_nodes = (size_t)g->n_nodes;
    map = adze_calloc(n_values, sizeof *map);
    r = adze_calloc(n_values, sizeof *r);
    keep = adze_calloc(n_nodes + 1, sizeof *keep);
    is_cut = adze_calloc(n_values, sizeof *is_cut);
    REQUIRE(map && r && keep && is_cut, ADZE_ENOMEM, "split: tables of %zu values", n_values);
    for (int k = 0; k < n_goals; k++)
        REQUIRE(g->value[goal[k].loss].kind == ADZE_VALUE_NODE, ADZE_EINVAL, "split: the loss is no computed value");
    find_reach(g, image, r);
    for (int k = 0; k < n_goals; k++) {
        find_rest(g, r, goal[k].loss, keep);
        TRY(find_cuts(out, g, r, keep, is_cut, cut));
    }
    if (out->n_cuts > 0) TRY(make_frozen(out, g, image, r, cut, keep, map));
    for (int k = 0; k < n_goals; k++) {
        out->n_rests = k + 1;
        find_rest(g, r, goal[k].loss, keep);
        TRY(make_rest(&out->rest[k], g, &goal[k], cut, out->n_cuts, keep, map));
    }
done:
    adze_free(map);
    adze_free(r);
    adze_free(keep);
    adze_free(is_cut);
    if (st != ADZE_OK) adze_graph_parts_destroy(out);
    return st;
}

void adze_graph_parts_destroy(adze_graph_parts *s)
{
    if (!s) return;
    adze_graph_destroy(s->frozen);
    for (int k = 0; k < s->n_rests; k++) adze_graph_destroy(s->rest[k].graph);
    s->frozen = NULL, s->n_rests = 0;
}

bool adze_graph_changes(const adze_graph *rest, const char *param)
{
    adze_value v = adze_graph_find(rest, param);
    if (v == ADZE_NONE) return false;
    if (rest->value[v].kind == ADZE_VALUE_PARAM) return true;
    for (int32_t s = 0; s < rest->n_nodes; s++)
        for (int i = 0; i < rest->node[s].n_in; i++)
            if (rest->node[s].op == ADZE_OP_batch_norm_train && rest->node[s].in[i] == v && rest->value[v].kind == ADZE_VALUE_FROZEN) return true;
    return false;
}
