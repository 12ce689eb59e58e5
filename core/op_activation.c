/* op_activation.c - elementwise functions of one input. Formulas: adze_act_apply().
 * Source: torch.nn.functional; at the kinks the gradient is 0 for relu and both ends of relu6, the slope for leaky relu. */
#include "core/op_activation.h"

#include <math.h>

#include "core/op_conv2d.h"
#include "core/ops.h"

static const char *const act_name[ADZE_ACT_COUNT] = {
    [ADZE_ACT_NONE] = "none",         [ADZE_ACT_RELU] = "relu",
    [ADZE_ACT_RELU6] = "relu6",       [ADZE_ACT_LEAKY_RELU] = "leaky_relu",
    [ADZE_ACT_GELU] = "gelu",         [ADZE_ACT_GELU_TANH] = "gelu_tanh",
    [ADZE_ACT_QUICK_GELU] = "quick_gelu", [ADZE_ACT_SILU] = "silu",
    [ADZE_ACT_SIGMOID] = "sigmoid",   [ADZE_ACT_TANH] = "tanh",
    [ADZE_ACT_SOFTPLUS] = "softplus", [ADZE_ACT_LOG_SIGMOID] = "log_sigmoid",
    [ADZE_ACT_EXP] = "exp",           [ADZE_ACT_LOG] = "log",
    [ADZE_ACT_SQRT] = "sqrt",         [ADZE_ACT_SOFT_CLAMP] = "soft_clamp",
};

const char *adze_act_name(adze_act act)
{
    return (unsigned)act < ADZE_ACT_COUNT ? act_name[act] : "unknown";
}

static double sigmoid(double x)
{
    return x >= 0.0 ? 1.0 / (1.0 + exp(-x)) : exp(x) / (1.0 + exp(x));
}

double adze_act_apply(int act, float a, float b, double x)
{
    switch ((adze_act)act) {
    case ADZE_ACT_NONE: return x;
    case ADZE_ACT_RELU: return x > 0.0 ? x : 0.0;
    case ADZE_ACT_RELU6: return x > 0.0 ? (x < 6.0 ? x : 6.0) : 0.0;
    case ADZE_ACT_LEAKY_RELU: return x > 0.0 ? x : a * x;
    case ADZE_ACT_GELU: return 0.5 * x * erfc(-x * M_SQRT1_2);
    case ADZE_ACT_GELU_TANH: return 0.5 * x * (1.0 + tanh(sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)));
    case ADZE_ACT_QUICK_GELU: return x * sigmoid(1.702 * x);
    case ADZE_ACT_SILU: return x * sigmoid(x);
    case ADZE_ACT_SIGMOID: return sigmoid(x);
    case ADZE_ACT_TANH: return tanh(x);
    case ADZE_ACT_SOFTPLUS: return a * x > b ? x : log1p(exp(a * x)) / a;
    case ADZE_ACT_LOG_SIGMOID: return x >= 0.0 ? -log1p(exp(-x)) : x - log1p(exp(x));
    case ADZE_ACT_EXP: return exp(x);
    case ADZE_ACT_LOG: return log(x);
    case ADZE_ACT_SQRT: return sqrt(x);
    case ADZE_ACT_SOFT_CLAMP: return a * tanh(x / b);
    case ADZE_ACT_COUNT: break;
    }
    return x;
}

double adze_act_slope(int act, float a, float b, double x)
{
    double s, t;
    switch ((adze_act)act) {
    case ADZE_ACT_NONE: return 1.0;
    case ADZE_ACT_RELU: return x > 0.0 ? 1.0 : 0.0;
    case ADZE_ACT_RELU6: return x > 0.0 && x < 6.0 ? 1.0 : 0.0;
    case ADZE_ACT_LEAKY_RELU: return x > 0.0 ? 1.0 : a;
    case ADZE_ACT_GELU: return 0.5 * erfc(-x * M_SQRT1_2) + x * exp(-0.5 * x * x) / sqrt(2.0 * M_PI);
    case ADZE_ACT_GELU_TANH:
        t = tanh(sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x));
        return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * sqrt(2.0 / M_PI) * (1.0 + 3.0 * 0.044715 * x * x);
    case ADZE_ACT_QUICK_GELU: s = sigmoid(1.702 * x); return s + 1.702 * x * s * (1.0 - s);
    case ADZE_ACT_SILU: s = sigmoid(x); return s + x * s * (1.0 - s);
    case ADZE_ACT_SIGMOID: s = sigmoid(x); return s * (1.0 - s);
    case ADZE_ACT_TANH: t = tanh(x); return 1.0 - t * t;
    case ADZE_ACT_SOFTPLUS: return a * x > b ? 1.0 : sigmoid(a * x);
    case ADZE_ACT_LOG_SIGMOID: return sigmoid(-x);
    case ADZE_ACT_EXP: return exp(x);
    case ADZE_ACT_LOG: return 1.0 / x;
    case ADZE_ACT_SQRT: return 0.5 / sqrt(x);
    case ADZE_ACT_SOFT_CLAMP: t = tanh(x / b); return a / b * (1.0 - t * t);
    case ADZE_ACT_COUNT: break;
    }
    return 0.0;
}

static adze_status activation_shape(adze_call *c)
{
    const activation_attrs *a = c->attrs;
    if (a->act <= ADZE_ACT_NONE || a->act >= ADZE_ACT_COUNT) return adze_fail(ADZE_EINVAL, "unknown function %d", a->act);
    c->out[0].shape = c->in[0].shape;
    return ADZE_OK;
}

static adze_status activation_fwd(const adze_call *c)
{
    const activation_attrs *a = c->attrs;
    int64_t n = adze_shape_count(&c->in[0].shape);
    for (int64_t i = 0; i < n; i++)
        c->out[0].data[i] = (float)adze_act_apply(a->act, a->a, a->b, c->in[0].data[i]);
    return ADZE_OK;
}

static adze_status activation_bwd(const adze_call *c)
{
    const activation_attrs *a = c->attrs;
    int64_t n = adze_shape_count(&c->in[0].shape);
    for (int64_t i = 0; i < n; i++)
        adze_grad_put(&c->in[0], i, c->out[0].grad[i] * adze_act_slope(a->act, a->a, a->b, c->in[0].data[i]));
    return ADZE_OK;
}

static const char *activation_label(const adze_call *c)
{
    return adze_act_name(((const activation_attrs *)c->attrs)->act);
}

const adze_op_def adze_op_activation = {
    .name = "activation",
    .attrs_bytes = sizeof(activation_attrs),
    .shape = activation_shape,
    .forward = activation_fwd,
    .backward = activation_bwd,
    .backward_reads_in = 1u,
    .in_place_input = 0,
    .label = activation_label,
};

adze_value adze_activation(adze_graph *g, adze_value x, adze_act act, float a, float b)
{
    activation_attrs attrs = { .act = act, .a = a, .b = b };
    return adze_graph_add(g, ADZE_OP_activation, &attrs, &x, 1, 1);
}
