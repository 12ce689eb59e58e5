/* layers.c - trained layers by their reference names. Entry: layer_conv(), layer_norm(), layer_basic_block(), layer_init(). */
#include "models/layers.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/memory.h"
#include "core/philox.h"

adze_value layer_param(const layer_builder *b, const char *at, const char *part, const char *tail, adze_shape shape, bool trainable)
{
    char full[192];
    snprintf(full, sizeof full, "%s%s%s%s.%s", b->prefix ? b->prefix : "", at, at[0] ? "." : "", part, tail);
    return adze_graph_param(b->g, full, shape, trainable && b->trainable);
}

adze_value layer_conv(const layer_builder *b, adze_value x, const char *at, const char *part, int64_t Co, int k, int stride, int dilation)
{
    adze_shape s = adze_graph_shape(b->g, x);
    if (s.rank != 4) return ADZE_NONE; /* an earlier error */
    adze_conv2d_opts o = ADZE_CONV2D_OPTS;
    o.stride[0] = o.stride[1] = stride;
    o.dilation[0] = o.dilation[1] = dilation;
    for (int i = 0; i < 4; i++) o.pad[i] = dilation * (k / 2);
    return adze_conv2d(b->g, x, layer_param(b, at, part, "weight", ADZE_SHAPE(Co, s.dim[3], k, k), true), ADZE_NONE, &o);
}

adze_value layer_norm(const layer_builder *b, adze_value x, const char *at, const char *part, adze_value residual, bool relu)
{
    adze_shape s = adze_graph_shape(b->g, x);
    if (s.rank != 4) return ADZE_NONE;
    adze_shape c = ADZE_SHAPE(s.dim[3]);
    adze_value gamma = layer_param(b, at, part, "weight", c, true), beta = layer_param(b, at, part, "bias", c, true);
    adze_value mean = layer_param(b, at, part, "running_mean", c, false), var = layer_param(b, at, part, "running_var", c, false);
    adze_batch_norm_opts o = ADZE_BATCH_NORM_OPTS;
    o.relu = relu;
    if (b->train) return adze_batch_norm_train(b->g, x, gamma, beta, mean, var, residual, &o);
    adze_value y = adze_batch_norm(b->g, x, gamma, beta, mean, var, o.eps);
    if (residual != ADZE_NONE) y = adze_binary(b->g, ADZE_BINARY_ADD, y, residual);
    return relu ? adze_activation(b->g, y, ADZE_ACT_RELU, 0.0f, 0.0f) : y;
}

adze_value layer_basic_block(const layer_builder *b, adze_value x, const char *at, int64_t Co, int stride)
{
    adze_shape s = adze_graph_shape(b->g, x);
    if (s.rank != 4) return ADZE_NONE;
    adze_value shortcut = x;
    if (stride != 1 || s.dim[3] != Co)
        shortcut = layer_norm(b, layer_conv(b, x, at, "downsample.0", Co, 1, stride, 1), at, "downsample.1", ADZE_NONE, false);
    adze_value y = layer_norm(b, layer_conv(b, x, at, "conv1", Co, 3, stride, 1), at, "bn1", ADZE_NONE, true);
    return layer_norm(b, layer_conv(b, y, at, "conv2", Co, 3, 1, 1), at, "bn2", shortcut, true);
}

adze_status layer_init(adze_params *params, int i, layer_init_rule rule, double scale, uint64_t seed)
{
    adze_status st = ADZE_OK;
    adze_shape s = adze_params_shape(params, i);
    int64_t n = adze_shape_count(&s);
    float f = (float)scale, *x = adze_malloc((size_t)n * sizeof *x);
    adze_philox r = { .seed = seed, .stream = ADZE_STREAM_INIT, .item = (uint32_t)i };
    REQUIRE(x, ADZE_ENOMEM, "initial values of %s", adze_params_name(params, i));
    if (rule == LAYER_INIT_NORMAL) adze_philox_fill_normal(r, 0, x, n);
    if (rule == LAYER_INIT_UNIFORM) adze_philox_fill_uniform(r, 0, x, n);
    for (int64_t k = 0; k < n; k++)
        x[k] = rule == LAYER_INIT_CONSTANT ? f : rule == LAYER_INIT_UNIFORM ? (2.0f * x[k] - 1.0f) * f : x[k] * f;
    TRY(adze_params_write(params, i, x));
done:
    adze_free(x);
    return st;
}

double layer_kaiming(adze_shape weight)
{
    return sqrt(2.0 / (double)(weight.dim[0] * weight.dim[2] * weight.dim[3]));
}

int64_t layer_fan_in(const adze_params *params, int i)
{
    char weight[192];
    const char *name = adze_params_name(params, i);
    if (layer_name_ends(name, ".bias")) {
        snprintf(weight, sizeof weight, "%.*sweight", (int)(strlen(name) - strlen("bias")), name);
        i = adze_params_find(params, weight);
    }
    adze_shape s = i >= 0 ? adze_params_shape(params, i) : ADZE_SHAPE(1);
    return s.rank >= 2 ? adze_shape_span(&s, 1, s.rank) : 0;
}

bool layer_name_ends(const char *name, const char *tail)
{
    size_t n = strlen(name), m = strlen(tail);
    return n >= m && strcmp(name + n - m, tail) == 0;
}

double layer_norm_start(const char *name)
{
    return layer_name_ends(name, ".weight") || layer_name_ends(name, ".running_var") ? 1.0 : 0.0;
}
