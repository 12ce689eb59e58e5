/* op_loss.c - losses that are the mean of a term per element.                                  y (1), z of the shape of x
 *
 *   mse       (x - z)^2                          l1   |x - z|, slope 0 at 0
 *   smooth_l1 d^2/(2 beta) where d = |x - z| < beta, else d - beta/2
 *   bce_with_logits  max(x,0) - x z + log(1 + exp(-|x|))
 *   bce       -log x or -log(1 - x), at most 100, as m = [z > threshold] is 1 or 0; slope (x - m)/max(x (1 - x), 1e-12)
 *   focal_bce that times (1 - p)^gamma, p = the probability x gives to m
 *   hinge     max(0, margin - x) + max(0, margin + z), slope 0 at the edge
 *   neg_log_sigmoid  log(1 + exp(-x)), no z
 *   source: torch.nn.functional; focal_bce and hinge: DeSTSeg (CVPR 2023), SimpleNet (CVPR 2023) */
#include "core/op_loss.h"

#include <math.h>

#include "core/ops.h"

static bool has_target(int fn) { return fn != ADZE_LOSS_NEG_LOG_SIGMOID; }
static bool is_mask(int fn) { return fn == ADZE_LOSS_BCE || fn == ADZE_LOSS_FOCAL_BCE; }

static adze_status loss_shape(adze_call *c)
{
    const loss_attrs *a = c->attrs;
    char xs[ADZE_SHAPE_TEXT], zs[ADZE_SHAPE_TEXT];
    if (a->fn < 0 || a->fn >= ADZE_LOSS_COUNT) return adze_fail(ADZE_EINVAL, "unknown function %d", (int)a->fn);
    if (c->in[LOSS_Z].present != has_target(a->fn)) return adze_fail(ADZE_EINVAL, "a target is %s", has_target(a->fn) ? "missing" : "not used");
    if (has_target(a->fn) && !adze_shape_equal(&c->in[LOSS_X].shape, &c->in[LOSS_Z].shape))
        return adze_fail(ADZE_ESHAPE, "x %s and target %s", adze_shape_text(&c->in[LOSS_X].shape, xs),
                         adze_shape_text(&c->in[LOSS_Z].shape, zs));
    c->out[0].shape = ADZE_SHAPE(1);
    return ADZE_OK;
}

static double loss_flops(const adze_call *c)
{
    return 3.0 * (double)adze_shape_count(&c->in[LOSS_X].shape);
}

static double sigmoid(double x)
{
    return x >= 0.0 ? 1.0 / (1.0 + exp(-x)) : exp(x) / (1.0 + exp(x));
}

static double softplus(double x)
{
    return fmax(x, 0.0) + log1p(exp(-fabs(x)));
}

/* -log of the probability p that is given to the truth, at most 100. */
static double clamped_bce(double p)
{
    return -fmax(log(p), -100.0);
}

static double term(const loss_attrs *a, double x, double z)
{
    double d = x - z, p = is_mask(a->fn) && z > a->a ? x : 1.0 - x; /* p: masks only */
    switch ((adze_loss_fn)a->fn) {
    case ADZE_LOSS_MSE: return d * d;
    case ADZE_LOSS_L1: return fabs(d);
    case ADZE_LOSS_SMOOTH_L1: return fabs(d) < a->a ? 0.5 * d * d / a->a : fabs(d) - 0.5 * a->a;
    case ADZE_LOSS_BCE_WITH_LOGITS: return softplus(x) - x * z;
    case ADZE_LOSS_BCE: return clamped_bce(p);
    case ADZE_LOSS_FOCAL_BCE: return clamped_bce(p) * pow(1.0 - p, a->b);
    case ADZE_LOSS_HINGE: return fmax(0.0, a->a - x) + fmax(0.0, a->a + z);
    case ADZE_LOSS_NEG_LOG_SIGMOID: return softplus(-x);
    case ADZE_LOSS_COUNT: break;
    }
    return 0.0;
}

static double slope_of_x(const loss_attrs *a, double x, double z)
{
    double d = x - z, sign = d > 0.0 ? 1.0 : d < 0.0 ? -1.0 : 0.0;
    double m = is_mask(a->fn) && z > a->a ? 1.0 : 0.0, p = m > 0.0 ? x : 1.0 - x, bce = (x - m) / fmax(x * (1.0 - x), 1e-12);
    switch ((adze_loss_fn)a->fn) {
    case ADZE_LOSS_MSE: return 2.0 * d;
    case ADZE_LOSS_L1: return sign;
    case ADZE_LOSS_SMOOTH_L1: return fabs(d) < a->a ? d / a->a : sign;
    case ADZE_LOSS_BCE_WITH_LOGITS: return sigmoid(x) - z;
    case ADZE_LOSS_BCE: return bce;
    case ADZE_LOSS_FOCAL_BCE: return bce * pow(1.0 - p, a->b) + clamped_bce(p) * a->b * pow(1.0 - p, a->b - 1.0) * (1.0 - 2.0 * m);
    case ADZE_LOSS_HINGE: return a->a - x > 0.0 ? -1.0 : 0.0;
    case ADZE_LOSS_NEG_LOG_SIGMOID: return -sigmoid(-x);
    case ADZE_LOSS_COUNT: break;
    }
    return 0.0;
}

static double slope_of_z(const loss_attrs *a, double x, double z)
{
    if (a->fn == ADZE_LOSS_HINGE) return a->a + z > 0.0 ? 1.0 : 0.0;
    if (a->fn == ADZE_LOSS_BCE_WITH_LOGITS) return -x;
    return -slope_of_x(a, x, z);
}

static adze_status loss_fwd(const adze_call *c)
{
    const loss_attrs *a = c->attrs;
    int64_t n = adze_shape_count(&c->in[LOSS_X].shape);
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) sum += term(a, c->in[LOSS_X].data[i], has_target(a->fn) ? c->in[LOSS_Z].data[i] : 0.0);
    c->out[0].data[0] = (float)(sum / (double)n);
    return ADZE_OK;
}

static adze_status loss_bwd(const adze_call *c)
{
    const loss_attrs *a = c->attrs;
    int64_t n = adze_shape_count(&c->in[LOSS_X].shape);
    double dy = c->out[0].grad[0] / (double)n;
    if (c->in[LOSS_Z].wanted && is_mask(a->fn)) return adze_fail(ADZE_EINVAL, "loss: a mask has no gradient");
    for (int64_t i = 0; i < n; i++) {
        double x = c->in[LOSS_X].data[i], z = has_target(a->fn) ? c->in[LOSS_Z].data[i] : 0.0;
        if (c->in[LOSS_X].wanted) adze_grad_put(&c->in[LOSS_X], i, dy * slope_of_x(a, x, z));
        if (c->in[LOSS_Z].wanted) adze_grad_put(&c->in[LOSS_Z], i, dy * slope_of_z(a, x, z));
    }
    return ADZE_OK;
}

static const char *loss_label(const adze_call *c)
{
    static const char *const names[ADZE_LOSS_COUNT] = {
        "mse_loss", "l1_loss", "smooth_l1_loss", "bce_with_logits", "bce", "focal_bce", "hinge", "neg_log_sigmoid",
    };
    return names[((const loss_attrs *)c->attrs)->fn];
}

const adze_op_def adze_op_loss = {
    .name = "loss",
    .attrs_bytes = sizeof(loss_attrs),
    .shape = loss_shape,
    .flops = loss_flops,
    .forward = loss_fwd,
    .backward = loss_bwd,
    .backward_reads_in = 1u << LOSS_X | 1u << LOSS_Z,
    .in_place_input = -1,
    .label = loss_label,
};

adze_value adze_loss(adze_graph *g, adze_loss_fn fn, adze_value x, adze_value z, float a, float b)
{
    loss_attrs attrs = { .fn = fn, .a = a, .b = b };
    return adze_graph_add(g, ADZE_OP_loss, &attrs, (adze_value[]){ x, z }, 2, 1);
}
