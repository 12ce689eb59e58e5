/* fuse.c - which steps a plan keeps, and which it joins. Entry: adze_plan_prune(), adze_plan_fuse().
 *
 * A convolution absorbs, in this order, the batch norm, the sum and the activation behind it, each only if nobody else
 * reads the value between and no gradient passes through it. The sum is absorbed by the branch that is computed last: its other operand exists by then. */
#include <string.h>

#include "core/op_activation.h"
#include "core/op_batch_norm.h"
#include "core/op_binary.h"
#include "core/op_conv2d.h"
#include "core/plan_impl.h"

void adze_plan_prune(adze_plan *plan)
{
    for (int32_t s = plan->n_steps - 1; s >= 0; s--) {
        graph_node *node = &plan->step[s].node;
        bool needed = false;
        for (int i = 0; i < node->n_out; i++) {
            if (plan->value[node->out[i]].output || node->out[i] == plan->loss) needed = true;
            for (int32_t t = s + 1; t < plan->n_steps && !needed; t++)
                for (int j = 0; j < plan->step[t].node.n_in && !plan->step[t].removed; j++)
                    if (plan->step[t].node.in[j] == node->out[i]) needed = true;
        }
        plan->step[s].removed = !needed;
    }
}

/* The only step that reads `v`, or -1 if it is kept as an output or read by several. */
static int32_t sole_reader(const adze_plan *plan, adze_value v)
{
    if (plan->value[v].output) return -1;
    int32_t reader = -1;
    for (int32_t s = 0; s < plan->n_steps; s++) {
        if (plan->step[s].removed) continue;
        const graph_node *node = &plan->step[s].node;
        for (int i = 0; i < node->n_in; i++) {
            if (node->in[i] != v) continue;
            if (reader != -1) return -1;
            reader = s;
        }
    }
    return reader;
}

static bool frozen(const adze_plan *plan, adze_value v)
{
    return plan->value[v].kind == ADZE_VALUE_FROZEN;
}

static bool absorb_batch_norm(adze_plan *plan, graph_node *conv, const graph_node *next)
{
    conv2d_attrs *a = (conv2d_attrs *)conv->attrs;
    if (next->op != ADZE_OP_batch_norm || conv->in[CONV2D_GAMMA] != ADZE_NONE ||
        conv->in[CONV2D_RESIDUAL] != ADZE_NONE || a->act != ADZE_ACT_NONE)
        return false;
    for (int i = BATCH_NORM_GAMMA; i < BATCH_NORM_OPERANDS; i++)
        if (!frozen(plan, next->in[i])) return false;
    if (next->in[BATCH_NORM_X] != conv->out[0] || !frozen(plan, conv->in[CONV2D_W])) return false;
    conv->in[CONV2D_GAMMA] = next->in[BATCH_NORM_GAMMA];
    conv->in[CONV2D_BETA] = next->in[BATCH_NORM_BETA];
    conv->in[CONV2D_MEAN] = next->in[BATCH_NORM_MEAN];
    conv->in[CONV2D_VAR] = next->in[BATCH_NORM_VAR];
    a->eps = ((const batch_norm_attrs *)next->attrs)->eps;
    return true;
}

static bool absorb_sum(adze_plan *plan, graph_node *conv, int32_t at, const graph_node *next)
{
    conv2d_attrs *a = (conv2d_attrs *)conv->attrs;
    if (next->op != ADZE_OP_binary || ((const binary_attrs *)next->attrs)->fn != ADZE_BINARY_ADD ||
        conv->in[CONV2D_RESIDUAL] != ADZE_NONE || a->act != ADZE_ACT_NONE)
        return false;
    adze_value other = next->in[0] == conv->out[0] ? next->in[1] : next->in[0];
    const graph_value *r = &plan->value[other];
    if (!adze_shape_equal(&r->shape, &plan->value[conv->out[0]].shape)) return false;
    if (r->kind == ADZE_VALUE_NODE && r->node >= at) return false; /* computed later */
    conv->in[CONV2D_RESIDUAL] = other;
    return true;
}

static bool absorb_activation(graph_node *conv, const graph_node *next)
{
    conv2d_attrs *a = (conv2d_attrs *)conv->attrs;
    if (next->op != ADZE_OP_activation || a->act != ADZE_ACT_NONE) return false;
    const activation_attrs *f = (const activation_attrs *)next->attrs;
    if (f->act != ADZE_ACT_RELU && f->act != ADZE_ACT_RELU6 && f->act != ADZE_ACT_SILU) return false;
    a->act = f->act, a->act_a = f->a, a->act_b = f->b;
    return true;
}

void adze_plan_fuse(adze_plan *plan)
{
    for (int32_t s = 0; s < plan->n_steps; s++) {
        plan_step *step = &plan->step[s];
        if (step->removed || step->node.op != ADZE_OP_conv2d || plan->differs[step->node.out[0]]) continue;
        graph_node *conv = &step->node;
        for (int i = conv->n_in; i < CONV2D_OPERANDS; i++) conv->in[i] = ADZE_NONE;
        conv->n_in = CONV2D_OPERANDS;
        for (;;) {
            int32_t r = sole_reader(plan, conv->out[0]);
            if (r < 0) break;
            graph_node *next = &plan->step[r].node;
            if (plan->differs[next->out[0]]) break;
            if (!absorb_batch_norm(plan, conv, next) && !absorb_sum(plan, conv, s, next) && !absorb_activation(conv, next))
                break;
            conv->out[0] = next->out[0];
            plan->value[conv->out[0]].node = s;
            plan->step[r].removed = true;
        }
    }
}
