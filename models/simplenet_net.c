/* simplenet_net.c - SimpleNet's projection and discriminator. Entry: simplenet_net_train(), simplenet_net_score().
 *
 *   f = x Wp^T + bp        f' = f + noise        D(z) = leaky_relu(batch_norm(z W1^T + b1)) wt^T, slope 0.2
 *   loss = mean max(0, margin - D(f)) + mean max(0, margin + D(f')), D on [f; f'] at once: one set of batch statistics
 *
 * Nothing but the first linear reads f, so f' is never made, and with many rows neither is f:
 *   h  = x Wc^T + bc,  Wc = W1 Wp,  bc = W1 bp + b1              h' = h + noise W1^T
 * The gradients of Wp and W1 come from that of Wc. Equal in exact arithmetic, and of the products over rows four remain, each
 * rows * D * hidden: 6.4 GMAC per image at the benchmark's widths instead of the 14.5 of the literal chain, and no tensor
 * of D columns but the inputs. Three products of parameters, 7.2 GMAC, are added per step: worth it from 1152 rows on.
 * Names of ADer model/simplenet.py. Source: Liu et al., CVPR 2023; specs/simplenet.md. */
#include "models/simplenet_net.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/ops.h"
#include "models/layers.h"

static const float leaky_slope = 0.2f;

typedef struct {
    adze_graph *g;
    const char *prefix;
    bool train;
} builder;

static adze_value param(const builder *b, const char *name, adze_shape shape, bool trainable)
{
    char full[160];
    snprintf(full, sizeof full, "%s%s", b->prefix ? b->prefix : "", name);
    return adze_graph_param(b->g, full, shape, trainable && b->train);
}

#define BLOCK1 SIMPLENET_DISCRIMINATOR "body.block1."

/* The projection and the first linear behind it, as one product over the rows of x or as two; *w1 is the latter's weight. */
static adze_value first(const builder *b, adze_value x, int64_t D, int64_t hidden, bool joined, adze_value *w1)
{
    adze_value wp = param(b, SIMPLENET_PROJECTION "layers.0fc.weight", ADZE_SHAPE(D, D), true);
    adze_value bp = param(b, SIMPLENET_PROJECTION "layers.0fc.bias", ADZE_SHAPE(D), true);
    adze_value b1 = param(b, BLOCK1 "0.bias", ADZE_SHAPE(hidden), true);
    *w1 = param(b, BLOCK1 "0.weight", ADZE_SHAPE(hidden, D), true);
    if (!joined) return adze_linear(b->g, adze_linear(b->g, x, wp, bp), *w1, b1);
    adze_value wc = adze_matmul(b->g, *w1, wp, false, false), bc = adze_linear(b->g, bp, *w1, b1);
    return adze_binary(b->g, ADZE_BINARY_ADD, adze_matmul(b->g, x, wc, false, true), bc);
}

static adze_value normalise(const builder *b, adze_value x, int64_t hidden)
{
    adze_shape s = ADZE_SHAPE(hidden);
    adze_value gamma = param(b, BLOCK1 "1.weight", s, true), beta = param(b, BLOCK1 "1.bias", s, true);
    adze_value mean = param(b, BLOCK1 "1.running_mean", s, false), var = param(b, BLOCK1 "1.running_var", s, false);
    adze_batch_norm_opts o = ADZE_BATCH_NORM_OPTS;
    o.relu = true, o.slope = leaky_slope;
    if (b->train) return adze_batch_norm_train(b->g, x, gamma, beta, mean, var, ADZE_NONE, &o);
    return adze_activation(b->g, adze_batch_norm(b->g, x, gamma, beta, mean, var, o.eps), ADZE_ACT_LEAKY_RELU, leaky_slope, 0.0f);
}

static adze_value tail(const builder *b, adze_value x, int64_t hidden)
{
    return adze_linear(b->g, x, param(b, SIMPLENET_DISCRIMINATOR "tail.weight", ADZE_SHAPE(1, hidden), true), ADZE_NONE);
}

adze_status simplenet_net_train(adze_graph *g, adze_value x, adze_value noise, const simplenet_net_opts *opts, simplenet_net *net)
{
    builder b = { .g = g, .prefix = opts->prefix, .train = true };
    adze_shape s = adze_graph_shape(g, x);
    if (s.rank != 3) return adze_fail(ADZE_EINTERNAL, "simplenet: features of rank %d", s.rank);
    int64_t N = s.dim[0], D = s.dim[2];
    adze_value w1, good = first(&b, x, D, opts->hidden, N * s.dim[1] * (2 * D + opts->hidden) > 3 * D * opts->hidden, &w1);
    adze_value noisy = adze_binary(g, ADZE_BINARY_ADD, good, adze_linear(g, noise, w1, ADZE_NONE));
    net->hidden = adze_concat(g, (adze_value[]){ good, noisy }, 2, 0);
    net->activated = normalise(&b, net->hidden, opts->hidden);
    net->scores = tail(&b, net->activated, opts->hidden);
    net->loss = adze_loss(g, ADZE_LOSS_HINGE, adze_slice(g, net->scores, 0, 0, N), adze_slice(g, net->scores, 0, N, N), opts->margin, 0.0f);
    return adze_graph_check(g);
}

adze_status simplenet_net_score(adze_graph *g, adze_value x, const simplenet_net_opts *opts, adze_value *scores)
{
    builder b = { .g = g, .prefix = opts->prefix };
    adze_shape s = adze_graph_shape(g, x);
    if (s.rank != 3) return adze_fail(ADZE_EINTERNAL, "simplenet: features of rank %d", s.rank);
    adze_value w1, y = first(&b, x, s.dim[2], opts->hidden, s.dim[0] * s.dim[1] > opts->hidden, &w1);
    *scores = tail(&b, normalise(&b, y, opts->hidden), opts->hidden);
    return adze_graph_check(g);
}

adze_status simplenet_net_init(adze_params *params, uint64_t seed)
{
    adze_status st = ADZE_OK;
    for (int i = 0; i < adze_params_count(params); i++) {
        const char *name = adze_params_name(params, i);
        if (strncmp(name, SIMPLENET_PROJECTION, strlen(SIMPLENET_PROJECTION)) != 0 &&
            strncmp(name, SIMPLENET_DISCRIMINATOR, strlen(SIMPLENET_DISCRIMINATOR)) != 0)
            continue;
        adze_shape s = adze_params_shape(params, i);
        int64_t columns = layer_name_ends(name, ".bias") ? layer_fan_in(params, i) : 0;
        if (s.rank == 2) TRY(layer_init(params, i, LAYER_INIT_NORMAL, sqrt(2.0 / (double)(s.dim[0] + s.dim[1])), seed));
        else if (columns > 0) TRY(layer_init(params, i, LAYER_INIT_UNIFORM, 1.0 / sqrt((double)columns), seed));
        else TRY(layer_init(params, i, LAYER_INIT_CONSTANT, layer_norm_start(name), seed));
    }
done:
    return st;
}
