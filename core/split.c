/* split.c - cutting a training graph in two. Entry: adze_graph_split(). */
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

/* The value of `g` in `to`: known already, or a parameter or input that is declared now. */
static adze_value carry(const adze_graph *g, adze_graph *to, adze_value v, adze_value *map)
{
    if (v == ADZE_NONE) return ADZE_NONE;
    if (map[v] != ADZE_NONE) return map[v];
    const graph_value *value = &g->value[v];
    if (value->kind == ADZE_VALUE_INPUT) map[v] = adze_graph_input(to, value->name, value->shape);
    else if (value->kind != ADZE_VALUE_NODE) map[v] = adze_graph_param(to, value->name, value->shape, value->kind == ADZE_VALUE_PARAM);
    return map[v];
}

/* Copies the nodes for which keep[s] holds. */
static void copy_nodes(const adze_graph *g, adze_graph *to, const bool *keep, adze_value *map)
{
    for (int32_t s = 0; s < g->n_nodes; s++) {
        const graph_node *node = &g->node[s];
        if (!keep[s]) continue;
        adze_value in[ADZE_MAX_IN];
        for (int i = 0; i < node->n_in; i++) in[i] = carry(g, to, node->in[i], map);
        adze_value first = adze_graph_add(to, node->op, node->attrs, in, node->n_in, node->n_out);
        if (first == ADZE_NONE) return;
        for (int i = 0; i < node->n_out; i++) map[node->out[i]] = first + i; /* outputs are numbered in a row */
        for (int i = 0; i < node->n_out; i++)
            if (g->value[node->out[i]].output) adze_graph_output(to, g->value[node->out[i]].name, map[node->out[i]]);
    }
}

static void clear(adze_value *map, int32_t n)
{
    for (int32_t v = 0; v < n; v++) map[v] = ADZE_NONE;
}

adze_status adze_graph_split(adze_graph_parts *out, const adze_graph *g, adze_value image, adze_value loss)
{
    adze_status st = ADZE_OK;
    adze_value *map = NULL, cut[ADZE_GRAPH_CUTS];
    reach *r = NULL;
    bool *keep = NULL, *is_cut = NULL;
    *out = (adze_graph_parts){ .image = ADZE_NONE, .loss = ADZE_NONE };
    TRY(adze_graph_check(g));
    size_t n_values = (size_t)g->n_values, n_nodes = (size_t)g->n_nodes;
    map = adze_calloc(n_values, sizeof *map);
    r = adze_calloc(n_values, sizeof *r);
    keep = adze_calloc(n_nodes + 1, sizeof *keep);
    is_cut = adze_calloc(n_values, sizeof *is_cut);
    REQUIRE(map && r && keep && is_cut, ADZE_ENOMEM, "split: tables of %zu values", n_values);
    find_reach(g, image, r);
    for (int32_t s = 0; s < g->n_nodes; s++) {
        const graph_node *node = &g->node[s];
        if (!r[node->out[0]].other) continue;
        for (int i = 0; i < node->n_in; i++) {
            adze_value v = node->in[i];
            if (v == ADZE_NONE || g->value[v].kind != ADZE_VALUE_NODE || !r[v].image || r[v].other || is_cut[v]) continue;
            REQUIRE(out->n_cuts < ADZE_GRAPH_CUTS, ADZE_EINTERNAL, "split: more than %d cuts", ADZE_GRAPH_CUTS);
            is_cut[v] = true;
            cut[out->n_cuts++] = v;
        }
    }
    if (out->n_cuts > 0) {
        TRY(adze_graph_create(&out->frozen));
        clear(map, g->n_values);
        out->image = carry(g, out->frozen, image, map);
        for (int32_t s = 0; s < g->n_nodes; s++) keep[s] = !r[g->node[s].out[0]].other;
        copy_nodes(g, out->frozen, keep, map);
        for (int i = 0; i < out->n_cuts; i++) {
            char name[16];
            snprintf(name, sizeof name, "cut%d", i);
            out->from[i] = map[cut[i]];
            out->floats[i] = adze_shape_count(&g->value[cut[i]].shape) / g->value[image].shape.dim[0];
            if (!g->value[cut[i]].output) adze_graph_output(out->frozen, name, out->from[i]);
        }
        TRY(adze_graph_check(out->frozen));
    }
    TRY(adze_graph_create(&out->rest));
    clear(map, g->n_values);
    for (int i = 0; i < out->n_cuts; i++) {
        char name[16];
        snprintf(name, sizeof name, "cut%d", i);
        out->to[i] = map[cut[i]] = adze_graph_input(out->rest, name, g->value[cut[i]].shape);
    }
    for (int32_t s = 0; s < g->n_nodes; s++) keep[s] = out->n_cuts == 0 || r[g->node[s].out[0]].other;
    copy_nodes(g, out->rest, keep, map);
    TRY(adze_graph_check(out->rest));
    out->loss = map[loss];
    REQUIRE(out->loss != ADZE_NONE, ADZE_EINVAL, "split: the loss does not depend on anything trainable");
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
    adze_graph_destroy(s->rest);
    s->frozen = s->rest = NULL;
}
