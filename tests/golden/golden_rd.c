/* golden_rd.c - reverse distillation: training steps with every gradient, and inference. Kinds rd.step, rd.test. The rules for
 * passing (two conditions for gradients, one by groups for the state after many steps) are those of the cases' README; with
 * --precision bf16 those of tests/golden/README.md. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/context.h"
#include "core/map_post.h"
#include "core/ops.h"
#include "core/params.h"
#include "core/plan.h"
#include "models/backbone.h"
#include "models/rd_net.h"
#include "tests/golden/golden.h"
#include "train/optimizer.h"

enum { LEVELS = 3 };

typedef struct {
    golden *g;
    adze_ctx *ctx;
    adze_graph *graph;
    adze_params *params;
    adze_plan *plan;
    adze_optim *optim;
    adze_value image, t[LEVELS], s[LEVELS], level[LEVELS], map[LEVELS], loss;
    rd_net_inside inside;
    const json_t *values;
    const char *prefix;
    int64_t B, size;
    double group_sum[2]; /* squares of error / unit over parameters and over running statistics; judge_pooled() says which unit */
    int64_t group_n[2];
    double grad_sum;     /* bf16: squares of error / size over the gradients' tensors */
    int64_t grad_n;
} rd_case;

static void close_case(rd_case *c)
{
    adze_optim_destroy(c->optim);
    adze_plan_destroy(c->plan);
    adze_params_destroy(c->params);
    adze_graph_destroy(c->graph);
    adze_ctx_destroy(c->ctx);
}

static adze_status build(rd_case *c, bool train)
{
    adze_status st = ADZE_OK;
    const char *backbone = golden_string(c->g->setup, "backbone", "");
    char teacher[64];
    TRY(golden_context(c->g, &c->ctx));
    TRY(adze_graph_create(&c->graph));
    c->image = adze_graph_input(c->graph, "image", ADZE_SHAPE(c->B, c->size, c->size, 3));
    snprintf(teacher, sizeof teacher, "%snet_t.", c->prefix);
    adze_backbone_opts net = ADZE_BACKBONE_OPTS;
    net.prefix = teacher, net.last_tap = 3;
    adze_value tap[ADZE_BACKBONE_TAPS];
    TRY(adze_backbone_build(c->graph, backbone, c->image, &net, tap, NULL));
    for (int k = 0; k < LEVELS; k++) c->t[k] = tap[1 + k];
    rd_net_opts rd = { .train = train, .prefix = c->prefix };
    TRY(rd_net_build(c->graph, backbone, c->t, &rd, c->s, &c->inside));
    static const char *const t_name[] = { "t1", "t2", "t3" }, *const s_name[] = { "s1", "s2", "s3" }, *const m_name[] = { "m1", "m2", "m3" };
    for (int k = 0; k < LEVELS; k++) {
        adze_graph_output(c->graph, t_name[k], c->t[k]);
        adze_graph_output(c->graph, s_name[k], c->s[k]);
        adze_graph_want_grad(c->graph, c->s[k]);
        c->level[k] = adze_cosine_loss(c->graph, c->s[k], c->t[k]);
        c->loss = k == 0 ? c->level[0] : adze_binary(c->graph, ADZE_BINARY_ADD, c->loss, c->level[k]);
        if (!train) {
            c->map[k] = adze_cosine_map(c->graph, c->t[k], c->s[k]);
            adze_graph_output(c->graph, m_name[k], c->map[k]);
        }
    }
    const struct {
        const char *name;
        adze_value v;
    } inside[] = { { "l1", c->inside.l1 }, { "l2", c->inside.l2 }, { "code", c->inside.code }, { "deconv", c->inside.deconv }, { "upsample", c->inside.upsample } };
    for (size_t i = 0; i < sizeof inside / sizeof *inside; i++)
        if (json_object_get(c->values, inside[i].name)) adze_graph_output(c->graph, inside[i].name, inside[i].v);
    for (int k = 0; k < LEVELS; k++) {
        char name[24];
        snprintf(name, sizeof name, "level%d", k);
        adze_graph_output(c->graph, name, c->level[k]);
    }
    adze_graph_output(c->graph, "loss", c->loss);
    TRY(adze_params_create(&c->params, c->ctx, c->graph));
    adze_plan_opts plan = ADZE_PLAN_OPTS;
    if (train) plan.loss = c->loss;
    TRY(adze_plan_create(&c->plan, c->ctx, c->graph, c->params, &plan));
done:
    return st;
}

/* The rule's value, times the factor of setup.scale for the names that it lists. */
static adze_status fill(rd_case *c)
{
    adze_status st = ADZE_OK;
    for (int i = 0; i < adze_params_count(c->params) && st == ADZE_OK; i++) {
        const char *name = adze_params_name(c->params, i), *factor;
        adze_shape s = adze_params_shape(c->params, i);
        float *w = golden_weight(name, s.dim, s.rank);
        json_t *list, *item;
        size_t k;
        json_object_foreach(json_object_get(c->g->setup, "scale"), factor, list)
            json_array_foreach(list, k, item)
                if (strcmp(json_string_value(item), name + strlen(c->prefix)) == 0)
                    for (int64_t j = 0; j < adze_shape_count(&s); j++) w[j] = (float)(w[j] * strtod(factor, NULL));
        st = adze_params_write(c->params, i, w);
        free(w);
    }
    return st;
}

static adze_status write_image(rd_case *c, const char *name)
{
    int64_t shape[8], n;
    int rank;
    float *nchw = golden_tensor(json_object_get(json_object_get(c->g->root, "inputs"), name), shape, &rank, &n);
    float *nhwc = malloc((size_t)n * sizeof *nhwc);
    golden_nchw_to_nhwc(nchw, shape[0], shape[1], shape[2], shape[3], nhwc);
    adze_status st = adze_plan_write(c->plan, c->image, nhwc);
    free(nchw), free(nhwc);
    return st;
}

/* A kept value in the case's order, in new memory. */
static float *take(const rd_case *c, adze_value v, int64_t *n)
{
    adze_shape s = adze_graph_shape(c->graph, v);
    *n = adze_shape_count(&s);
    float *x = malloc((size_t)*n * sizeof *x), *y = malloc((size_t)*n * sizeof *y);
    if (adze_plan_read(c->plan, v, x) != ADZE_OK) golden_expect(c->g, "read", false, "%s", adze_error_message());
    if (s.rank == 4) golden_nhwc_to_nchw(x, s.dim[0], s.dim[3], s.dim[1], s.dim[2], y);
    else memcpy(y, x, (size_t)*n * sizeof *y);
    free(x);
    return y;
}

static void check_forward(rd_case *c)
{
    static const char *const names[] = { "t1", "t2", "t3", "l1", "l2", "code", "deconv", "upsample", "s1", "s2", "s3", "m1", "m2", "m3" };
    int64_t n;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        adze_value v = adze_graph_find(c->graph, names[i]);
        if (v == ADZE_NONE || !json_object_get(c->values, names[i])) continue;
        float *x = take(c, v, &n);
        golden_check(c->g, names[i], x, n);
        free(x);
    }
    float level[LEVELS], loss;
    for (int k = 0; k < LEVELS; k++) adze_plan_read(c->plan, c->level[k], &level[k]);
    adze_plan_read(c->plan, c->loss, &loss);
    if (json_object_get(c->values, "loss_level")) golden_check(c->g, "loss_level", level, LEVELS);
    golden_check(c->g, "loss", &loss, 1);
}

/* Largest and rms condition; bf16: the error is smaller than the gradient. */
static void check_both(rd_case *c, const char *name, const float *got, int64_t n)
{
    const json_t *value = json_object_get(c->values, name);
    size_t samples;
    double rms = golden_sampled_rms(value, got, &samples), bound = 4.0 * golden_real(value, "f32_rms", 0.0) + 1e-6 * golden_real(value, "absmax", 0.0);
    if (golden_is_bf16(c->g)) {
        bound = golden_size(value);
        c->grad_sum += rms * rms / (bound * bound), c->grad_n++;
    } else golden_check(c->g, name, got, n);
    char label[160];
    snprintf(label, sizeof label, "%s (rms)", name);
    golden_expect(c->g, label, rms <= bound, "error %.3g bound %.3g", rms, bound);
}

/* The gradient of the loss with respect to the decoder's maps. */
static adze_status check_map_gradients(rd_case *c)
{
    for (int k = 0; k < LEVELS; k++) {
        adze_shape s = adze_graph_shape(c->graph, c->s[k]);
        int64_t n = adze_shape_count(&s);
        float *x = malloc((size_t)n * sizeof *x), *y = malloc((size_t)n * sizeof *y);
        adze_status st = adze_plan_read_grad(c->plan, c->s[k], x);
        golden_nhwc_to_nchw(x, s.dim[0], s.dim[3], s.dim[1], s.dim[2], y);
        char name[24];
        snprintf(name, sizeof name, "ds%d", k + 1);
        if (st == ADZE_OK) check_both(c, name, y, n);
        free(x), free(y);
        if (st != ADZE_OK) return st;
    }
    return ADZE_OK;
}

/* cos of level k and image b over the flattened map. */
static void check_cosines(rd_case *c)
{
    float cos[LEVELS * 64];
    for (int k = 0; k < LEVELS; k++) {
        int64_t n;
        float *t = take(c, c->t[k], &n), *s = take(c, c->s[k], &n);
        for (int64_t b = 0; b < c->B; b++) {
            double dot = 0.0, tt = 0.0, ss = 0.0;
            for (int64_t i = b * (n / c->B); i < (b + 1) * (n / c->B); i++) dot += (double)t[i] * s[i], tt += (double)t[i] * t[i], ss += (double)s[i] * s[i];
            cos[k * c->B + b] = (float)(dot / (sqrt(tt) * sqrt(ss)));
        }
        free(t), free(s);
    }
    golden_check(c->g, "cos", cos, LEVELS * c->B);
}

/* A parameter's tensor by the case's name (without prefix) through `read`. */
typedef adze_status (*reader)(const rd_case *c, int param, float *to);
static adze_status read_param(const rd_case *c, int i, float *to) { return adze_params_read(c->params, i, to); }
static adze_status read_grad(const rd_case *c, int i, float *to) { return adze_params_read_grad(c->params, i, to); }

static adze_status read_moment(const rd_case *c, int which, int param, float *to)
{
    for (int j = 0; j < adze_optim_count(c->optim); j++)
        if (adze_optim_param(c->optim, j) == param) return adze_optim_state_read(c->optim, which, j, to);
    return adze_fail(ADZE_EINTERNAL, "no moments of parameter %d", param);
}
static adze_status read_m(const rd_case *c, int i, float *to) { return read_moment(c, 0, i, to); }
static adze_status read_v(const rd_case *c, int i, float *to) { return read_moment(c, 1, i, to); }

/* For every value "HEAD.NAME" of the case: reads the tensor NAME and hands it to `judge`. */
static adze_status each(rd_case *c, const char *head, reader read, void (*judge)(rd_case *c, const char *name, const float *x, int64_t n))
{
    adze_status st = ADZE_OK;
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)c->values, name, value) {
        if (strncmp(name, head, strlen(head)) != 0) continue;
        char full[192];
        snprintf(full, sizeof full, "%s%s", c->prefix, name + strlen(head));
        int i = adze_params_find(c->params, full);
        if (i < 0) {
            golden_expect(c->g, name, false, "no parameter of this name");
            continue;
        }
        adze_shape s = adze_params_shape(c->params, i);
        float *x = malloc((size_t)adze_shape_count(&s) * sizeof *x);
        st = read(c, i, x);
        if (st == ADZE_OK) judge(c, name, x, adze_shape_count(&s));
        free(x);
        if (st != ADZE_OK) return st;
    }
    return st;
}

/* Adam's first step is no longer than lr, so two are no more than twice that apart: all that can be said where the signs of
 * small gradients are rounding. */
static void judge_first_step(rd_case *c, const char *name, const float *x, int64_t n)
{
    const json_t *value = json_object_get(c->values, name);
    if (json_array_size(json_object_get(value, "at")) == 0) return;
    double lr = golden_real(c->g->setup, "lr", 0.0), bound = 2.0 * lr + golden_bound(c->g, golden_real(value, "f32_err", 0.0), golden_real(value, "absmax", 0.0), 1.0);
    if (!golden_is_bf16(c->g)) golden_check(c->g, name, x, n);
    else golden_check_within(c->g, name, value, x, n, bound);
}

static void judge_plain(rd_case *c, const char *name, const float *x, int64_t n)
{
    if (json_array_size(json_object_get(json_object_get(c->values, name), "at")) > 0) golden_check(c->g, name, x, n);
}

/* After many steps: errors in units of f32_rms (bf16: of the change since the start) are pooled over all tensors of a group. */
static void judge_pooled(rd_case *c, const char *name, const float *x, int64_t n)
{
    (void)n;
    const json_t *value = json_object_get(c->values, name);
    size_t samples;
    double rms = golden_sampled_rms(value, x, &samples), unit = golden_real(value, golden_is_bf16(c->g) ? "change_rms" : "f32_rms", 0.0);
    int group = strncmp(name, "run", 3) == 0;
    if (samples == 0 || unit == 0.0) return;
    c->group_sum[group] += rms * rms / (unit * unit) * (double)samples;
    c->group_n[group] += (int64_t)samples;
}

static adze_status check_norms(rd_case *c)
{
    adze_status st = ADZE_OK;
    const json_t *list = json_object_get(c->values, "grad_l2"), *item;
    size_t i;
    json_array_foreach(json_object_get(list, "names"), i, item) {
        char full[192];
        snprintf(full, sizeof full, "%s%s", c->prefix, json_string_value(item));
        int p = adze_params_find(c->params, full);
        REQUIRE(p >= 0, ADZE_EINTERNAL, "no parameter '%s'", full);
        adze_shape s = adze_params_shape(c->params, p);
        float *x = malloc((size_t)adze_shape_count(&s) * sizeof *x);
        double sum = 0.0, is = json_number_value(json_array_get(json_object_get(list, "is"), i));
        st = adze_params_read_grad(c->params, p, x);
        for (int64_t k = 0; k < adze_shape_count(&s); k++) sum += (double)x[k] * x[k];
        free(x);
        TRY(st);
        double bound = golden_is_bf16(c->g) ? is : 4.0 * json_number_value(json_array_get(json_object_get(list, "f32_err"), i)) + 2e-3 * is;
        golden_expect(c->g, full, fabs(sqrt(sum) - is) <= bound, "grad_l2 error %.3g bound %.3g", fabs(sqrt(sum) - is), bound);
    }
done:
    return st;
}

static double number(const json_t *trace, const char *key, size_t i)
{
    return json_number_value(json_array_get(json_object_get(trace, key), i));
}

/* bf16: the loss of step n is off by what the first one may be and an eighth of what the loss has fallen by; the norm by an eighth
 * for its own rounding and another for the parameters, once they are others. */
static double bf16_trace_bound(const rd_case *c, const json_t *trace, const char *key, size_t n)
{
    double is = number(trace, key, n), first = number(trace, key, 0);
    if (strcmp(key, "loss") != 0) return is / (n == 0 ? 8.0 : 4.0);
    return golden_bound(c->g, number(trace, "loss_f32_err", 0), first, 1.0) + fabs(first - is) / 8.0;
}

/* One step of the trace: loss and norm before clipping, within four times the largest float32 error so far. */
static void check_trace(rd_case *c, size_t n, double loss, double norm, double largest[2])
{
    const json_t *trace = json_object_get(c->values, "trace");
    const char *const keys[2] = { "loss", "grad_norm" }, *const errors[2] = { "loss_f32_err", "grad_norm_f32_err" };
    double got[2] = { loss, norm };
    for (int k = 0; k < 2 && trace; k++) { /* cases of one step have no trace: their loss and norm are checked as values */
        double is = number(trace, keys[k], n);
        largest[k] = fmax(largest[k], number(trace, errors[k], n));
        double bound = 4.0 * largest[k] + 1e-6 * is + (k == 1 ? 2e-4 * is : 0.0); /* the reference sums the norm in float32 */
        if (golden_is_bf16(c->g)) bound = bf16_trace_bound(c, trace, keys[k], n);
        char name[32];
        snprintf(name, sizeof name, "trace.%s.%zu", keys[k], n);
        golden_expect(c->g, name, fabs(got[k] - is) <= bound, "%.7g, want %.7g, error %.3g bound %.3g", got[k], is, fabs(got[k] - is), bound);
    }
}

static adze_status first_step(rd_case *c)
{
    adze_status st = ADZE_OK;
    float norm_f;
    double norm;
    check_forward(c);
    check_cosines(c);
    TRY(check_map_gradients(c));
    TRY(each(c, "grad.", read_grad, check_both));
    if (golden_is_bf16(c->g) && c->grad_n > 0) {
        double pooled = sqrt(c->grad_sum / (double)c->grad_n);
        golden_expect(c->g, "grad", pooled < 0.5, "pooled error %.3g of the gradients' size, bound 0.5", pooled);
    }
    TRY(adze_optim_norm_now(c->optim, &norm));
    norm_f = (float)norm;
    const json_t *value = json_object_get(c->values, "grad_norm");
    double is = json_number_value(json_array_get(json_object_get(value, "is"), 0)), bound = golden_is_bf16(c->g) ? is / 8.0 : golden_bound(c->g, golden_real(value, "f32_err", 0.0), is, 1.0);
    golden_expect(c->g, "grad_norm", fabs((double)norm_f - is) <= bound, "error %.3g bound %.3g", fabs((double)norm_f - is), bound);
    TRY(check_norms(c));
done:
    return st;
}

static adze_status steps(rd_case *c)
{
    adze_status st = ADZE_OK;
    const golden *g = c->g;
    const json_t *betas = json_object_get(g->setup, "betas"), *batches = json_object_get(g->setup, "batches");
    adze_optim_opts o = ADZE_OPTIM_OPTS;
    o.beta1 = json_number_value(json_array_get(betas, 0)), o.beta2 = json_number_value(json_array_get(betas, 1));
    o.eps = golden_real(g->setup, "eps", 1e-8), o.weight_decay = golden_real(g->setup, "weight_decay", 0.0);
    o.clip = golden_real(g->setup, "clip", 0.0);
    TRY(adze_optim_create(&c->optim, c->params, &o));
    size_t n = (size_t)golden_int(g->setup, "steps", 1);
    double largest[2] = { 0.0, 0.0 };
    for (size_t i = 0; i < n; i++) {
        float loss;
        double norm;
        int64_t decay = golden_int(g->setup, "decay_iters", 0);
        double lr = golden_real(g->setup, "lr", 0.0) * (decay > 0 ? pow(0.1, (double)((int64_t)i / decay)) : 1.0);
        TRY(write_image(c, json_string_value(json_array_get(batches, i))));
        TRY(adze_plan_run(c->plan));
        TRY(adze_plan_read(c->plan, c->loss, &loss));
        if (i == 0) TRY(first_step(c));
        TRY(adze_optim_norm_now(c->optim, &norm));
        check_trace(c, i, loss, norm, largest);
        TRY(adze_optim_step(c->optim, lr));
        if (i > 0) continue;
        TRY(each(c, "m1.", read_m, check_both));
        TRY(each(c, "v1.", read_v, check_both));
        TRY(each(c, "param1.", read_param, judge_first_step));
        TRY(each(c, "run1.", read_param, judge_plain));
    }
    TRY(each(c, "paramN.", read_param, judge_pooled));
    TRY(each(c, "runN.", read_param, judge_pooled));
    for (int k = 0; k < 2; k++) {
        if (c->group_n[k] == 0) continue;
        double pooled = sqrt(c->group_sum[k] / (double)c->group_n[k]);
        if (golden_is_bf16(c->g)) golden_expect(c->g, k ? "runN" : "paramN", pooled < 1.0, "pooled error %.3g of the change, bound 1", pooled);
        else golden_expect(c->g, k ? "runN" : "paramN", pooled < 4.0, "pooled error %.3g of the float32 rms, bound 4", pooled);
    }
done:
    return st;
}

static adze_status inference(rd_case *c)
{
    adze_status st = ADZE_OK;
    int64_t P = c->size * c->size, n = c->B * P;
    float *large = malloc((size_t)n * sizeof *large), *out = malloc((size_t)n * sizeof *out);
    double *sum = calloc((size_t)n, sizeof *sum);
    adze_map_opts opts = ADZE_MAP_OPTS;
    opts.align_corners = true;
    TRY(write_image(c, "img"));
    TRY(adze_plan_run(c->plan));
    check_forward(c);
    for (int k = 0; k < LEVELS; k++) {
        adze_shape s = adze_graph_shape(c->graph, c->map[k]);
        float *small = malloc((size_t)adze_shape_count(&s) * sizeof *small);
        st = adze_plan_read(c->plan, c->map[k], small);
        if (st == ADZE_OK) st = adze_map_upsample(small, c->B, s.dim[1], s.dim[2], c->size, c->size, &opts, large);
        free(small);
        TRY(st);
        char name[24];
        snprintf(name, sizeof name, "u%d", k + 1);
        golden_check(c->g, name, large, n);
        for (int64_t i = 0; i < n; i++) sum[i] += large[i];
    }
    for (int64_t i = 0; i < n; i++) sum[i] /= LEVELS * LEVELS, out[i] = (float)sum[i];
    golden_check(c->g, "sum", out, n);
    TRY(adze_map_blur_f64(sum, c->B, c->size, c->size, golden_real(c->g->setup, "sigma", 4.0), &opts, sum));
    float score[64];
    for (int64_t i = 0; i < n; i++) {
        out[i] = (float)sum[i];
        if (i % P == 0 || out[i] > score[i / P]) score[i / P] = out[i];
    }
    golden_check(c->g, "map", out, n);
    golden_check(c->g, "score", score, c->B);
done:
    free(large), free(out), free(sum);
    return st;
}

bool golden_rd(golden *g)
{
    bool train = strcmp(g->kind, "rd.step") == 0;
    if (!train && strcmp(g->kind, "rd.test") != 0) return false;
    adze_status st = ADZE_OK;
    rd_case c = { .g = g, .values = json_object_get(g->root, "values"), .prefix = golden_string(g->setup, "prefix", ""),
                  .B = golden_int(g->setup, "batch", 1), .size = golden_int(g->setup, "size", 64) };
    TRY(build(&c, train));
    TRY(fill(&c));
    st = train ? steps(&c) : inference(&c);
done:
    if (st != ADZE_OK) golden_expect(g, "run", false, "%s", adze_error_message());
    close_case(&c);
    return true;
}
