/* graph_key.c - hashes of a graph's values. Entry: adze_graph_key().
 * Each value gets the hash of its operation and of its operands' hashes, so that a value's key does not change when something
 * behind or beside it does. Attributes count byte by byte: a stray padding byte could make equal graphs differ, never the
 * reverse. */
#include "core/graph_key.h"

#include <string.h>

#include "core/graph_impl.h"
#include "core/memory.h"

typedef struct {
    unsigned char byte[ADZE_SHA256_BYTES];
} value_key;

static void hash_number(adze_sha256 *sha, int64_t n) { adze_sha256_update(sha, &n, sizeof n); }

/* The name of what follows, with its end. */
static void hash_name(adze_sha256 *sha, const char *name) { adze_sha256_update(sha, name, strlen(name) + 1); }

static void hash_shape(adze_sha256 *sha, const adze_shape *s, int first)
{
    hash_number(sha, s->rank);
    for (int d = first; d < s->rank; d++) hash_number(sha, s->dim[d]);
}

static adze_status hash_param(adze_sha256 *sha, const graph_value *value, const adze_params *params)
{
    adze_status st = ADZE_OK;
    int i = adze_params_find(params, value->name);
    int64_t n = adze_shape_count(&value->shape);
    float *x = adze_malloc((size_t)n * sizeof *x);
    REQUIRE(x, ADZE_ENOMEM, "graph: %zu bytes to hash a parameter", (size_t)n * sizeof *x);
    REQUIRE(i >= 0, ADZE_EINTERNAL, "graph: parameter '%s' is not in the parameter block", value->name);
    TRY(adze_params_read(params, i, x));
    hash_name(sha, "parameter");
    hash_shape(sha, &value->shape, 0);
    adze_sha256_update(sha, x, (size_t)n * sizeof *x);
done:
    adze_free(x);
    return st;
}

/* Values are numbered behind those that they are made from: the operands' keys are known already. */
static void hash_node(adze_sha256 *sha, const adze_graph *g, adze_value v, const value_key *key)
{
    const graph_node *node = &g->node[g->value[v].node];
    const adze_op_def *def = adze_op_defs[node->op];
    hash_name(sha, def->name);
    adze_sha256_update(sha, node->attrs, def->attrs_bytes);
    hash_number(sha, v - node->out[0]);
    hash_shape(sha, &g->value[v].shape, 1);
    for (int i = 0; i < node->n_in; i++) {
        adze_value in = node->in[i];
        hash_number(sha, in != ADZE_NONE);
        if (in != ADZE_NONE) adze_sha256_update(sha, key[in].byte, ADZE_SHA256_BYTES);
    }
}

/* Marks everything that leads to v. */
static void mark(const adze_graph *g, adze_value v, bool *wanted)
{
    if (v == ADZE_NONE || wanted[v]) return;
    wanted[v] = true;
    if (g->value[v].kind != ADZE_VALUE_NODE) return;
    const graph_node *node = &g->node[g->value[v].node];
    for (int i = 0; i < node->n_in; i++) mark(g, node->in[i], wanted);
}

adze_status adze_graph_key(const adze_graph *g, const adze_params *params, const adze_value *v, int n,
                           unsigned char (*key)[ADZE_SHA256_BYTES])
{
    adze_status st = ADZE_OK;
    value_key *known = adze_calloc((size_t)g->n_values + 1, sizeof *known);
    bool *wanted = adze_calloc((size_t)g->n_values + 1, sizeof *wanted);
    REQUIRE(known && wanted, ADZE_ENOMEM, "graph: keys of %d values", (int)g->n_values);
    for (int k = 0; k < n; k++) mark(g, v[k], wanted);
    for (int32_t i = 0; i < g->n_values; i++) {
        adze_sha256 sha;
        const graph_value *value = &g->value[i];
        if (!wanted[i]) continue;
        adze_sha256_init(&sha);
        if (value->kind == ADZE_VALUE_NODE) hash_node(&sha, g, i, known);
        else if (value->kind == ADZE_VALUE_INPUT) {
            hash_name(&sha, "input");
            hash_shape(&sha, &value->shape, 1);
        } else TRY(hash_param(&sha, value, params));
        adze_sha256_final(&sha, known[i].byte);
    }
    for (int k = 0; k < n; k++) memcpy(key[k], known[v[k]].byte, ADZE_SHA256_BYTES);
done:
    adze_free(known);
    adze_free(wanted);
    return st;
}
