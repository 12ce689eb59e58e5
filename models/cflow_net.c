/* cflow_net.c - the decoders of CFLOW-AD. Entry: cflow_net_build().
 *
 *   block   coupling of the two halves under [x1 | condition], scale and offset, rotation (core/op_coupling.c)
 *   subnet  Linear h+P -> 2(h+P), ReLU, Linear -> C
 * Names and shapes of FrEIA's modules in ADer model/cflow.py; the inverse rotations, which are transposes, are left out. */
#include "models/cflow_net.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/memory.h"
#include "core/philox.h"
#include "core/random_rotation.h"
#include "models/layers.h"

static adze_value param(adze_graph *g, const cflow_net_opts *o, int level, int64_t block, const char *tail, adze_shape shape, bool trainable)
{
    char name[160];
    snprintf(name, sizeof name, "%sdecoders.%d.module_list.%" PRId64 ".%s", o->prefix ? o->prefix : "", level, block, tail);
    return adze_graph_param(g, name, shape, trainable && o->train);
}

adze_status cflow_net_build(adze_graph *g, int level, adze_value x, adze_value cond, const cflow_net_opts *opts, adze_value *logp,
                            adze_value *state)
{
    adze_status st = ADZE_OK;
    TRY(adze_graph_check(g));
    int64_t C = adze_graph_shape(g, x).dim[1], in = C / 2 + adze_graph_shape(g, cond).dim[1], hidden = 2 * in;
    for (int64_t k = 0; k < opts->blocks; k++) {
        adze_coupling_params p;
        p.w1 = param(g, opts, level, k, "subnet.0.weight", ADZE_SHAPE(hidden, in), true);
        p.b1 = param(g, opts, level, k, "subnet.0.bias", ADZE_SHAPE(hidden), true);
        p.w2 = param(g, opts, level, k, "subnet.2.weight", ADZE_SHAPE(C, hidden), true);
        p.b2 = param(g, opts, level, k, "subnet.2.bias", ADZE_SHAPE(C), true);
        p.scale = param(g, opts, level, k, "global_scale", ADZE_SHAPE(1, C), true);
        p.offset = param(g, opts, level, k, "global_offset", ADZE_SHAPE(1, C), true);
        p.w_perm = param(g, opts, level, k, "w_perm", ADZE_SHAPE(C, C), false);
        x = adze_coupling(g, x, cond, &p, &opts->coupling);
    }
    *logp = adze_flow_logp(g, x, C);
    if (state) *state = x;
    TRY(adze_graph_check(g));
done:
    return st;
}

/* A random rotation for parameter i. */
static adze_status init_rotation(adze_params *params, int i, uint64_t seed)
{
    adze_status st = ADZE_OK;
    adze_shape s = adze_params_shape(params, i);
    float *x = adze_malloc((size_t)adze_shape_count(&s) * sizeof *x);
    REQUIRE(x, ADZE_ENOMEM, "cflow: initial values of %s", adze_params_name(params, i));
    TRY(adze_random_rotation((adze_philox){ .seed = seed, .stream = ADZE_STREAM_INIT, .item = (uint32_t)i }, s.dim[0], x));
    TRY(adze_params_write(params, i, x));
done:
    adze_free(x);
    return st;
}

adze_status cflow_net_init(adze_params *params, const char *prefix, uint64_t seed)
{
    adze_status st = ADZE_OK;
    for (int i = 0; i < adze_params_count(params); i++) {
        const char *name = adze_params_name(params, i);
        if (strncmp(name, prefix, strlen(prefix)) != 0) continue;
        if (layer_name_ends(name, ".w_perm")) TRY(init_rotation(params, i, seed));
        else if (layer_name_ends(name, ".global_scale")) /* a scale of 1 */
            TRY(layer_init(params, i, LAYER_INIT_CONSTANT, 2.0 * log(exp(5.0) - 1.0), seed));
        else if (layer_name_ends(name, ".global_offset")) TRY(layer_init(params, i, LAYER_INIT_CONSTANT, 0.0, seed));
        else TRY(layer_init(params, i, LAYER_INIT_UNIFORM, 1.0 / sqrt((double)layer_fan_in(params, i)), seed));
    }
done:
    return st;
}

void cflow_position_code(int64_t H, int64_t W, int64_t P, float *code)
{
    int64_t D = P / 2;
    for (int64_t y = 0; y < H; y++)
        for (int64_t x = 0; x < W; x++)
            for (int64_t k = 0; k < D / 2; k++) {
                double w = exp((double)(2 * k) * -(log(10000.0) / (double)D));
                float *at = code + (y * W + x) * P + 2 * k;
                at[0] = (float)sin((double)x * w), at[1] = (float)cos((double)x * w);
                at[D] = (float)sin((double)y * w), at[D + 1] = (float)cos((double)y * w);
            }
}
