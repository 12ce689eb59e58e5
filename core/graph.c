/* graph.c - building the graph. Entry: adze_graph_create(), adze_graph_add(). */
#include "core/graph.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/graph_impl.h"
#include "core/memory.h"

const adze_op_def *const adze_op_defs[ADZE_OP_COUNT] = {
#define ADZE_OP(name) [ADZE_OP_##name] = &adze_op_##name,
#include "core/ops.def"
#undef ADZE_OP
};

adze_status adze_graph_create(adze_graph **out)
{
    *out = adze_calloc(1, sizeof **out);
    if (!*out) return adze_fail(ADZE_ENOMEM, "graph: %zu host bytes", sizeof **out);
    return ADZE_OK;
}

void adze_graph_destroy(adze_graph *g)
{
    if (!g) return;
    for (int32_t v = 0; v < g->n_values; v++) adze_free(g->value[v].name);
    adze_free(g->value);
    adze_free(g->node);
    adze_free(g->error_text);
    adze_free(g);
}

adze_status adze_graph_check(const adze_graph *g)
{
    if (g->error == ADZE_OK) return ADZE_OK;
    return adze_fail(g->error, "%s", g->error_text ? g->error_text : "out of memory while building the graph");
}

adze_value adze_graph_fail(adze_graph *g, adze_status code, const char *fmt, ...)
{
    if (g->error != ADZE_OK) return ADZE_NONE;
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    g->error = code;
    g->error_text = adze_strdup(text);
    return ADZE_NONE;
}

/* Room for one more element of `size_bytes`; false and a sticky error if there is no memory. */
static bool grow(adze_graph *g, void **array, int32_t n, int32_t *capacity, size_t size_bytes)
{
    if (n < *capacity) return true;
    int32_t wanted = *capacity ? 2 * *capacity : 64;
    void *p = adze_realloc(*array, (size_t)wanted * size_bytes);
    if (!p) {
        adze_graph_fail(g, ADZE_ENOMEM, "graph: %zu host bytes", (size_t)wanted * size_bytes);
        return false;
    }
    *array = p;
    *capacity = wanted;
    return true;
}

static adze_value add_value(adze_graph *g, adze_value_kind kind, const char *name, adze_shape shape, int32_t node)
{
    if (!grow(g, (void **)&g->value, g->n_values, &g->cap_values, sizeof *g->value)) return ADZE_NONE;
    for (int d = 0; d < shape.rank; d++) {
        if (shape.dim[d] > 0) continue;
        char text[ADZE_SHAPE_TEXT];
        return adze_graph_fail(g, ADZE_ESHAPE, "%s: shape %s has a dimension below 1", name ? name : "value",
                               adze_shape_text(&shape, text));
    }
    char *copy = NULL;
    if (name && !(copy = adze_strdup(name))) return adze_graph_fail(g, ADZE_ENOMEM, "graph: a name");
    adze_value v = g->n_values++;
    g->value[v] = (graph_value){ .kind = kind, .shape = shape, .name = copy, .node = node, .root = v };
    return v;
}

adze_value adze_graph_input(adze_graph *g, const char *name, adze_shape shape)
{
    if (g->error != ADZE_OK) return ADZE_NONE;
    if (adze_graph_find(g, name) != ADZE_NONE)
        return adze_graph_fail(g, ADZE_EINVAL, "graph: a second value named '%s'", name);
    return add_value(g, ADZE_VALUE_INPUT, name, shape, -1);
}

adze_value adze_graph_param(adze_graph *g, const char *name, adze_shape shape, bool trainable)
{
    if (g->error != ADZE_OK) return ADZE_NONE;
    adze_value_kind kind = trainable ? ADZE_VALUE_PARAM : ADZE_VALUE_FROZEN;
    adze_value v = adze_graph_find(g, name);
    if (v == ADZE_NONE) return add_value(g, kind, name, shape, -1);
    if (g->value[v].kind != kind || !adze_shape_equal(&g->value[v].shape, &shape))
        return adze_graph_fail(g, ADZE_EINVAL, "graph: '%s' was declared before with another kind or shape", name);
    return v;
}

void adze_graph_output(adze_graph *g, const char *name, adze_value v)
{
    if (g->error != ADZE_OK || v == ADZE_NONE) return;
    if (g->value[v].kind != ADZE_VALUE_NODE) {
        adze_graph_fail(g, ADZE_EINVAL, "graph: output '%s' is no computed value", name);
        return;
    }
    adze_value known = adze_graph_find(g, name);
    if (known == v) return;
    if (known != ADZE_NONE || g->value[v].name) {
        adze_graph_fail(g, ADZE_EINVAL, "graph: output '%s' has another name or value already", name);
        return;
    }
    g->value[v].name = adze_strdup(name);
    if (!g->value[v].name) adze_graph_fail(g, ADZE_ENOMEM, "graph: a name");
    g->value[v].output = true;
}

void adze_graph_want_grad(adze_graph *g, adze_value v)
{
    if (g->error != ADZE_OK || v == ADZE_NONE) return;
    bool param = g->value[v].kind == ADZE_VALUE_PARAM || g->value[v].kind == ADZE_VALUE_FROZEN;
    if (param) adze_graph_fail(g, ADZE_EINVAL, "graph: the gradient of '%s' lies in the parameter block", g->value[v].name);
    else g->value[v].want_grad = true;
}

adze_value adze_graph_find(const adze_graph *g, const char *name)
{
    for (int32_t v = 0; v < g->n_values; v++)
        if (g->value[v].name && strcmp(g->value[v].name, name) == 0) return v;
    return ADZE_NONE;
}

adze_shape adze_graph_shape(const adze_graph *g, adze_value v)
{
    if (v < 0 || v >= g->n_values) return (adze_shape){ 0 };
    return g->value[v].shape;
}

const char *adze_graph_name(const adze_graph *g, adze_value v)
{
    if (v < 0 || v >= g->n_values || !g->value[v].name) return "";
    return g->value[v].name;
}

adze_value adze_graph_add(adze_graph *g, adze_op op, const void *attrs, const adze_value *in, int n_in, int n_out)
{
    if (g->error != ADZE_OK) return ADZE_NONE;
    const adze_op_def *def = adze_op_defs[op];
    if (n_in > ADZE_MAX_IN || n_out > ADZE_MAX_OUT || def->attrs_bytes > ADZE_MAX_ATTRS_BYTES)
        return adze_graph_fail(g, ADZE_EINTERNAL, "%s: %d inputs, %d outputs", def->name, n_in, n_out);
    if (!grow(g, (void **)&g->node, g->n_nodes, &g->cap_nodes, sizeof *g->node)) return ADZE_NONE;

    graph_node node = { .op = op, .n_in = n_in, .n_out = n_out };
    if (def->attrs_bytes > 0) memcpy(node.attrs, attrs, def->attrs_bytes);
    adze_call c = { .op = def, .attrs = node.attrs, .n_in = n_in, .n_out = n_out };
    for (int i = 0; i < n_in; i++) {
        node.in[i] = in[i];
        if (in[i] == ADZE_NONE) continue;
        c.in[i] = (adze_arg){ .shape = g->value[in[i]].shape, .present = true };
    }
    adze_status st = def->shape(&c);
    if (st != ADZE_OK) return adze_graph_fail(g, st, "%s: %s", def->name, adze_error_message());
    for (int i = 0; i < n_out; i++) {
        node.out[i] = add_value(g, ADZE_VALUE_NODE, NULL, c.out[i].shape, g->n_nodes);
        if (node.out[i] == ADZE_NONE) return ADZE_NONE;
    }
    if (def->alias) g->value[node.out[0]].root = g->value[node.in[0]].root;
    g->node[g->n_nodes++] = node;
    return node.out[0];
}
