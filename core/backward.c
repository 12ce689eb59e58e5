/* backward.c - which gradients a plan computes, and the steps that do it. Entry: adze_plan_append_backward().
 *
 * A value differs if it is a trainable parameter (or an input whose gradient is wanted) or computed from one; only nodes with
 * such an output that also lie on a way to the loss get a gradient step. Steps run in reverse order of the forward ones. */
#include <inttypes.h>

#include "core/memory.h"
#include "core/plan_impl.h"

adze_status adze_plan_mark_differentiable(adze_plan *plan)
{
    adze_status st = ADZE_OK;
    bool *to_loss = NULL;
    REQUIRE(plan->differs = adze_calloc((size_t)plan->n_values, sizeof *plan->differs), ADZE_ENOMEM, "plan: gradients");
    if (plan->loss == ADZE_NONE) return ADZE_OK;
    REQUIRE(plan->value[plan->value[plan->loss].root].kind == ADZE_VALUE_NODE, ADZE_EINVAL, "plan: the loss is no computed value");
    REQUIRE(to_loss = adze_calloc((size_t)plan->n_values, sizeof *to_loss), ADZE_ENOMEM, "plan: gradients");
    for (int32_t v = 0; v < plan->n_values; v++)
        plan->differs[v] = plan->value[v].kind == ADZE_VALUE_PARAM || (plan->value[v].kind == ADZE_VALUE_INPUT && plan->value[v].want_grad);
    for (int32_t s = 0; s < plan->n_steps; s++) {
        const graph_node *node = &plan->step[s].node;
        bool any = false;
        for (int i = 0; i < node->n_in; i++) any |= node->in[i] != ADZE_NONE && plan->differs[node->in[i]];
        if (any) plan->differs[node->out[0]] = true;
    }
    to_loss[plan->loss] = true;
    for (int32_t s = plan->n_steps - 1; s >= 0; s--) {
        const graph_node *node = &plan->step[s].node;
        if (!to_loss[node->out[0]]) continue;
        for (int i = 0; i < node->n_in; i++)
            if (node->in[i] != ADZE_NONE) to_loss[node->in[i]] = true;
    }
    REQUIRE(plan->differs[plan->loss], ADZE_EINVAL, "plan: the loss depends on no trainable parameter");
    for (int32_t v = 0; v < plan->n_values; v++) plan->differs[v] &= to_loss[v];
done:
    adze_free(to_loss);
    return st;
}

/* One gradient step; in[i].wanted and accumulate are settled here, in the order in which the steps run. */
static void make_step(const adze_plan *plan, const plan_step *forward, plan_step *step, bool *written)
{
    *step = (plan_step){ .node = forward->node, .scratch = -1, .backward = true };
    for (int i = 0; i < step->node.n_in; i++) {
        adze_value v = step->node.in[i];
        if (v == ADZE_NONE || !plan->differs[v]) continue;
        adze_value root = plan->value[v].root;
        step->call.in[i].wanted = true;
        step->call.in[i].accumulate = written[root];
        written[root] = true;
    }
}

adze_status adze_plan_append_backward(adze_plan *plan)
{
    adze_status st = ADZE_OK;
    bool *written = NULL;
    int32_t n_forward = plan->n_steps;
    if (plan->loss == ADZE_NONE) return ADZE_OK;
    REQUIRE(written = adze_calloc((size_t)plan->n_values, sizeof *written), ADZE_ENOMEM, "plan: gradients");
    plan_step *grown = adze_realloc(plan->step, 2 * (size_t)n_forward * sizeof *grown);
    REQUIRE(grown, ADZE_ENOMEM, "plan: %" PRId32 " steps", 2 * n_forward);
    plan->step = grown;
    for (int32_t s = n_forward - 1; s >= 0; s--) {
        const plan_step *forward = &plan->step[s];
        const adze_op_def *def = adze_op_defs[forward->node.op];
        if (!plan->differs[forward->node.out[0]]) continue;
        REQUIRE(def->backward, ADZE_EINVAL, "%s: inference only, it has no gradient", def->name);
        make_step(plan, forward, &plan->step[plan->n_steps], written);
        plan->n_steps++;
    }
done:
    adze_free(written);
    return st;
}
