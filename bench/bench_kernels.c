/* bench_kernels.c - every kernel at the benchmark's shapes (RD and PatchCore with WRN-50 at 256x256): first checked against the
 * plain-C reference on one sample, then timed, step by step, beside its floor: the bytes that it has to move over the device's
 * measured copy rate, or its FLOPs over the measured rate of its matrix products, whichever takes longer. Caches are not flushed
 * between runs. Without a GPU --static prints the floors on two cards and what the compiler's logs say of each kernel.
 * bench-kernels --device cuda --json kernels.json */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/peak.h"
#include "bench/ptxas_log.h"
#include "core/file.h"
#include "core/memory.h"
#include "core/op.h"
#include "core/ops.h"
#include "core/options.h"
#include "core/params.h"
#include "core/philox.h"
#include "core/plan.h"

static const adze_option table[] = {
    { .name = "device", .type = ADZE_OPTION_STRING, .fallback = "auto", .metavar = "NAME", .help = "auto, cpu, cuda, cuda:N, cusim" },
    { .name = "threads", .type = ADZE_OPTION_INT, .fallback = "0", .min = 0, .max = 4096, .help = "0: all there are" },
    { .name = "batch", .type = ADZE_OPTION_INT, .fallback = "16", .min = 1, .max = 1024, .help = "pictures" },
    { .name = "repeat", .type = ADZE_OPTION_INT, .fallback = "20", .min = 1, .max = 10000, .help = "timed runs" },
    { .name = "only", .type = ADZE_OPTION_STRING, .metavar = "TEXT", .help = "cases whose name contains this" },
    { .name = "static", .type = ADZE_OPTION_FLAG, .help = "floors on an RTX 4090 and an H100, registers, spills; no runs" },
    { .name = "logs", .type = ADZE_OPTION_STRING, .metavar = "FOLDER", .help = "of the compiler's logs; by default ../cuda beside the program" },
    { .name = "json", .type = ADZE_OPTION_STRING, .metavar = "FILE", .help = "write the results there too" },
    { .name = "help", .letter = 'h', .type = ADZE_OPTION_FLAG, .properties = ADZE_OPTION_ACTION, .help = "this page" },
    { .name = "version", .type = ADZE_OPTION_FLAG, .properties = ADZE_OPTION_ACTION, .help = "the version" },
};

/* Peaks of performance tables: memory, float32 outside the tensor cores. */
static const struct {
    const char *name, *arch;
    double bytes, flops;
} cards[] = { { "RTX 4090", "sm_89", 1008e9, 82.6e12 }, { "H100 SXM", "sm_90", 3350e9, 66.9e12 } };

typedef struct {
    const char *name;
    adze_value (*build)(adze_graph *g, int64_t N, int which);
    int which;
    bool trained; /* backward too */
} kernel_case;

/* ---- the cases: N pictures ---- */

static adze_value in(adze_graph *g, const char *name, adze_shape s) { return adze_graph_input(g, name, s); }
static adze_value param(adze_graph *g, const char *name, adze_shape s, bool trainable) { return adze_graph_param(g, name, s, trainable); }

static adze_value build_conv(adze_graph *g, int64_t N, int which)
{
    static const struct {
        int64_t H, C, Co, k;
    } s[] = { { 64, 64, 64, 3 }, { 64, 256, 64, 1 }, { 32, 128, 128, 3 }, { 16, 256, 256, 3 }, { 16, 1024, 256, 1 } };
    adze_conv2d_opts o = ADZE_CONV2D_OPTS;
    for (int i = 0; i < 4; i++) o.pad[i] = (int)s[which].k / 2;
    return adze_conv2d(g, in(g, "x", ADZE_SHAPE(N, s[which].H, s[which].H, s[which].C)),
                       param(g, "w", ADZE_SHAPE(s[which].Co, s[which].C, s[which].k, s[which].k), true), ADZE_NONE, &o);
}

static adze_value build_norm(adze_graph *g, int64_t N, int which)
{
    int64_t H = which == 1 ? 32 : 64, C = which == 1 ? 512 : 256;
    adze_batch_norm_opts o = ADZE_BATCH_NORM_OPTS;
    adze_shape x = ADZE_SHAPE(N, H, H, C);
    adze_value p[4];
    for (int i = 0; i < 4; i++) p[i] = param(g, (const char *[]){ "gamma", "beta", "mean", "var" }[i], ADZE_SHAPE(C), i < 2 && which < 2);
    o.relu = true;
    if (which == 2) return adze_batch_norm(g, in(g, "x", x), p[0], p[1], p[2], p[3], 1e-5f);
    return adze_batch_norm_train(g, in(g, "x", x), p[0], p[1], p[2], p[3], which == 1 ? in(g, "z", x) : ADZE_NONE, &o);
}

static adze_value build_pointwise(adze_graph *g, int64_t N, int which)
{
    adze_value x = in(g, "x", ADZE_SHAPE(N, 64, 64, 256));
    switch (which) {
    case 0: return adze_activation(g, x, ADZE_ACT_RELU, 0.0f, 0.0f);
    case 1: return adze_binary(g, ADZE_BINARY_ADD, x, in(g, "z", ADZE_SHAPE(N, 64, 64, 256)));
    case 2: return adze_binary(g, ADZE_BINARY_MUL, x, param(g, "w", ADZE_SHAPE(256), true));
    case 3: return adze_loss(g, ADZE_LOSS_MSE, x, in(g, "z", ADZE_SHAPE(N, 64, 64, 256)), 0.0f, 0.0f);
    case 4: return adze_dropout_mask(g, x, in(g, "u", ADZE_SHAPE(N, 64, 64, 256)), 0.1f);
    default: return adze_activation(g, x, ADZE_ACT_GELU, 0.0f, 0.0f);
    }
}

static adze_value build_spatial(adze_graph *g, int64_t N, int which)
{
    adze_pool2d_opts pool = { .kernel = { 3, 3 }, .stride = { 2, 2 }, .pad = { 1, 1, 1, 1 }, .max = true };
    adze_interpolate_opts resize = { .mode = ADZE_INTERPOLATE_BILINEAR, .out = { 32, 32 } };
    adze_unfold_opts unfold = { .kernel = { 3, 3 }, .stride = { 1, 1 }, .pad = { 1, 1 }, .dilation = { 1, 1 } };
    switch (which) {
    case 0: return adze_pool2d(g, in(g, "x", ADZE_SHAPE(N, 128, 128, 64)), &pool);
    case 1: return adze_interpolate(g, in(g, "x", ADZE_SHAPE(N, 16, 16, 1024)), &resize);
    case 2: return adze_adaptive_pool2d(g, in(g, "x", ADZE_SHAPE(N, 8, 8, 2048)), 1, 1);
    case 3: return adze_unfold(g, in(g, "x", ADZE_SHAPE(N, 32, 32, 128)), &unfold);
    default: {
        adze_value x = in(g, "x", ADZE_SHAPE(N, 16, 16, 1024)), z = in(g, "z", ADZE_SHAPE(N, 16, 16, 1024));
        return adze_concat(g, (adze_value[]){ x, z }, 2, 3);
    }
    }
}

static adze_value build_cosine(adze_graph *g, int64_t N, int which)
{
    adze_value x = in(g, "x", ADZE_SHAPE(N, 64, 64, 256)), z = in(g, "z", ADZE_SHAPE(N, 64, 64, 256));
    return which ? adze_cosine_map(g, x, z) : adze_cosine_loss(g, x, z);
}

static adze_value build_embed(adze_graph *g, int64_t N, int which)
{
    (void)which;
    adze_value f[2] = { in(g, "x", ADZE_SHAPE(N, 32, 32, 512)), in(g, "z", ADZE_SHAPE(N, 16, 16, 1024)) };
    return adze_patch_embed(g, f, 2, &(adze_patch_embed_opts){ .patch = 3, .pretrain_dim = 1024, .target_dim = 1024 });
}

static adze_value build_rows(adze_graph *g, int64_t N, int which)
{
    switch (which) {
    case 0: return adze_softmax(g, in(g, "x", ADZE_SHAPE(N, 8, 256, 256)), -1);
    case 1: return adze_layer_norm(g, in(g, "x", ADZE_SHAPE(N, 256, 768)), param(g, "w", ADZE_SHAPE(768), true), param(g, "b", ADZE_SHAPE(768), true), 1, 1e-5f);
    case 2: return adze_l2_normalize(g, in(g, "x", ADZE_SHAPE(N, 1024, 1024)), -1, ADZE_L2_MAX, 1e-12f);
    case 3: return adze_reduce(g, in(g, "x", ADZE_SHAPE(N, 4096, 64)), ADZE_REDUCE_MEAN, 1, false, NULL);
    case 4: return adze_linear(g, in(g, "x", ADZE_SHAPE(N, 256, 768)), param(g, "w", ADZE_SHAPE(768, 768), true), ADZE_NONE);
    default: return adze_matmul(g, in(g, "x", ADZE_SHAPE(N, 256, 768)), in(g, "z", ADZE_SHAPE(N, 256, 768)), false, true);
    }
}

static const kernel_case cases[] = {
    { "conv 3x3 64", build_conv, 0, true },          { "conv 1x1 256-64", build_conv, 1, true },
    { "conv 3x3 128", build_conv, 2, true },         { "conv 3x3 256", build_conv, 3, true },
    { "conv 1x1 1024-256", build_conv, 4, true },    { "bn+relu", build_norm, 0, true },
    { "bn+add+relu", build_norm, 1, true },          { "batch_norm", build_norm, 2, false },
    { "relu", build_pointwise, 0, true },            { "add", build_pointwise, 1, true },
    { "mul per channel", build_pointwise, 2, true }, { "mse", build_pointwise, 3, true },
    { "dropout", build_pointwise, 4, true },         { "gelu", build_pointwise, 5, true },
    { "max_pool2d", build_spatial, 0, true },        { "bilinear", build_spatial, 1, true },
    { "global mean", build_spatial, 2, true },       { "unfold", build_spatial, 3, true },
    { "concat", build_spatial, 4, true },            { "cosine loss", build_cosine, 0, true },
    { "cosine map", build_cosine, 1, true },         { "patch_embed", build_embed, 0, false },
    { "softmax", build_rows, 0, true },              { "layer_norm", build_rows, 1, true },
    { "l2_normalize", build_rows, 2, true },         { "mean of rows", build_rows, 3, true },
    { "linear", build_rows, 4, true },               { "matmul", build_rows, 5, true },
};
enum { N_CASES = sizeof cases / sizeof *cases };

/* ---- one case on one device ---- */

typedef struct {
    adze_ctx *ctx;
    adze_graph *graph;
    adze_params *params;
    adze_plan *plan;
    adze_value y;
} bench_plan;

static const char *const inputs[] = { "x", "z", "u" };
enum { N_INPUTS = sizeof inputs / sizeof *inputs };

static void bench_plan_destroy(bench_plan *b)
{
    adze_plan_destroy(b->plan);
    adze_params_destroy(b->params);
    adze_graph_destroy(b->graph);
}

static float *uniform(int64_t n, uint32_t item)
{
    float *x = adze_malloc((size_t)n * sizeof *x);
    if (x) adze_philox_fill_uniform((adze_philox){ .seed = 1, .stream = ADZE_STREAM_TEST, .item = item }, 0, x, n);
    return x;
}

static adze_status fill(bench_plan *b, bool trained)
{
    adze_status st = ADZE_OK;
    float *x = NULL;
    for (int i = 0; i < adze_params_count(b->params); i++) {
        adze_shape s = adze_params_shape(b->params, i);
        adze_free(x);
        REQUIRE(x = uniform(adze_shape_count(&s), 50 + (uint32_t)i), ADZE_ENOMEM, "no memory for parameters");
        TRY(adze_params_write(b->params, i, x));
    }
    for (uint32_t i = 0; i < N_INPUTS; i++) {
        adze_value v = adze_graph_find(b->graph, inputs[i]);
        if (v == ADZE_NONE) continue;
        adze_shape s = adze_graph_shape(b->graph, v);
        adze_free(x);
        REQUIRE(x = uniform(adze_shape_count(&s), i), ADZE_ENOMEM, "no memory for inputs");
        for (int64_t k = 0; k < adze_shape_count(&s) && i < 2; k++) x[k] = 2.0f * x[k] - 1.0f;
        TRY(adze_plan_write(b->plan, v, x));
    }
    if (!trained) goto done;
    adze_shape y = adze_graph_shape(b->graph, b->y);
    adze_free(x);
    REQUIRE(x = uniform(adze_shape_count(&y), 90), ADZE_ENOMEM, "no memory for a gradient");
    TRY(adze_plan_write_seed(b->plan, x));
done:
    adze_free(x);
    return st;
}

static adze_status bench_plan_create(bench_plan *b, adze_ctx *ctx, const kernel_case *c, int64_t N)
{
    adze_status st = ADZE_OK;
    *b = (bench_plan){ .ctx = ctx };
    TRY(adze_graph_create(&b->graph));
    b->y = c->build(b->graph, N, c->which);
    adze_graph_output(b->graph, "y", b->y);
    for (int i = 0; i < N_INPUTS - 1 && c->trained; i++) {
        adze_value v = adze_graph_find(b->graph, inputs[i]);
        if (v != ADZE_NONE) adze_graph_want_grad(b->graph, v);
    }
    TRY(adze_graph_check(b->graph));
    TRY(adze_params_create(&b->params, ctx, b->graph));
    adze_plan_opts opts = ADZE_PLAN_OPTS;
    opts.loss = c->trained ? b->y : ADZE_NONE;
    TRY(adze_plan_create(&b->plan, ctx, b->graph, b->params, &opts));
    TRY(fill(b, c->trained));
done:
    if (st != ADZE_OK) bench_plan_destroy(b);
    return st;
}

/* y, then the gradient of x, of one sample. */
static adze_status outcome(adze_ctx *ctx, const kernel_case *c, float **out, int64_t *n_y, int64_t *n)
{
    adze_status st = ADZE_OK;
    bench_plan b;
    TRY(bench_plan_create(&b, ctx, c, 1));
    adze_shape y = adze_graph_shape(b.graph, b.y), x = adze_graph_shape(b.graph, adze_graph_find(b.graph, "x"));
    *n_y = adze_shape_count(&y);
    *n = *n_y + (c->trained ? adze_shape_count(&x) : 0);
    *out = adze_malloc((size_t)*n * sizeof **out);
    if (!*out) st = adze_fail(ADZE_ENOMEM, "no memory for results");
    if (st == ADZE_OK) st = adze_plan_run(b.plan);
    if (st == ADZE_OK) st = adze_plan_read(b.plan, b.y, *out);
    if (st == ADZE_OK && c->trained) st = adze_plan_read_grad(b.plan, adze_graph_find(b.graph, "x"), *out + adze_shape_count(&y));
    bench_plan_destroy(&b);
done:
    return st;
}

/* Sums of at most 2304 products in float32 against double: 8 sqrt(2304) roundings of the largest element, three times that for
 * a fast matrix mode's shorter factors. Where a ReLU or a maximum rounds to the other side a gradient jumps: of gradients the
 * norm is compared, and a thousandth of the elements may jump. */
static adze_status check(adze_ctx *ctx, adze_ctx *reference, const kernel_case *c)
{
    adze_status st = ADZE_OK;
    float *got = NULL, *want = NULL;
    int64_t n = 0, n_y = 0;
    double most = 0.0, apart = 0.0, all = 0.0;
    TRY(outcome(ctx, c, &got, &n_y, &n));
    TRY(outcome(reference, c, &want, &n_y, &n));
    for (int64_t i = 0; i < n_y; i++) most = fmax(most, fabs((double)want[i]));
    for (int64_t i = 0; i < n_y; i++)
        REQUIRE(fabs((double)got[i] - want[i]) <= 8.0 * 48.0 * 0x1p-24 * 3.0 * most, ADZE_ENUMERIC, "%s: element %" PRId64 " is %g, the reference says %g",
                c->name, i, (double)got[i], (double)want[i]);
    for (int64_t i = n_y; i < n; i++) apart += pow((double)got[i] - want[i], 2.0), all += pow((double)want[i], 2.0);
    REQUIRE(sqrt(apart) <= sqrt(1e-3 * all), ADZE_ENUMERIC, "%s: the gradient is %g from the reference's, whose length is %g", c->name, sqrt(apart),
            sqrt(all));
done:
    adze_free(got);
    adze_free(want);
    return st;
}

/* ---- measuring ---- */

typedef struct {
    double bytes, flops; /* per second */
} rates;

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double floor_of(const adze_plan_step *s, rates r) { return fmax(s->n_bytes / r.bytes, s->flops / r.flops); }

/* Seconds of `repeat` runs of each step, (steps, repeat), sorted. */
static adze_status sample(adze_plan *plan, int repeat, double **out)
{
    adze_status st = ADZE_OK;
    int32_t n = adze_plan_step_count(plan);
    double *seconds = adze_malloc((size_t)n * (size_t)repeat * sizeof *seconds);
    REQUIRE(*out = seconds, ADZE_ENOMEM, "no memory for times");
    for (int r = -2; r < repeat; r++) { /* two to warm up */
        adze_plan_profile(plan, true);
        TRY(adze_plan_run(plan));
        for (int32_t s = 0; s < n && r >= 0; s++) seconds[s * repeat + r] = adze_plan_step_at(plan, s).seconds;
    }
    for (int32_t s = 0; s < n; s++) qsort(seconds + s * repeat, (size_t)repeat, sizeof *seconds, by_value);
done:
    return st;
}

static adze_value build_copy(adze_graph *g, int64_t N, int which)
{
    (void)which;
    return adze_activation(g, in(g, "x", ADZE_SHAPE(N, 1024, 1024)), ADZE_ACT_RELU, 0.0f, 0.0f);
}

static adze_value build_product(adze_graph *g, int64_t N, int which)
{
    (void)which;
    return adze_matmul(g, in(g, "x", ADZE_SHAPE(1, 256 * N, 2048)), in(g, "z", ADZE_SHAPE(1, 2048, 256 * N)), false, false);
}

/* What the device copies (the ReLU of 4 MB per picture: read and written once) and multiplies, by the kernels themselves; on the
 * cpu by loops that do nothing else. */
static adze_status measure_rates(adze_ctx *ctx, int64_t N, int repeat, rates *out)
{
    adze_status st = ADZE_OK;
    static const kernel_case probes[2] = { { "copy", build_copy, 0, false }, { "product", build_product, 0, false } };
    double *seconds = NULL;
    bench_plan b = { NULL };
    if (strcmp(adze_ctx_device(ctx), "cpu") == 0) {
        *out = (rates){ bench_copy_rate(adze_ctx_threads(ctx)), bench_peak_flops(adze_ctx_threads(ctx), BENCH_F32) };
        return ADZE_OK;
    }
    for (int i = 0; i < 2; i++) {
        TRY(bench_plan_create(&b, ctx, &probes[i], N));
        adze_free(seconds);
        seconds = NULL;
        st = sample(b.plan, repeat, &seconds);
        adze_plan_step s = adze_plan_step_at(b.plan, 0);
        bench_plan_destroy(&b);
        if (st != ADZE_OK) goto done;
        if (i == 0) out->bytes = s.n_bytes / seconds[0];
        else out->flops = s.flops / seconds[0];
    }
done:
    adze_free(seconds);
    return st;
}

static void json_line(adze_text *json, const char *name, const adze_plan_step *s)
{
    adze_text_append(json, json->n_bytes > 2 ? ",\n  {\"case\": " : "\n  {\"case\": ");
    adze_text_json(json, name);
    adze_text_append(json, ", \"op\": ");
    adze_text_json(json, s->op);
    adze_text_printf(json, ", \"backward\": %s, \"bytes\": %.0f, \"flops\": %.0f", s->backward ? "true" : "false", s->n_bytes, s->flops);
}

/* Every step that moves or computes something. */
static adze_status measure_case(adze_ctx *ctx, const kernel_case *c, int64_t N, int repeat, rates r, adze_text *json)
{
    adze_status st = ADZE_OK;
    double *seconds = NULL;
    bench_plan b;
    TRY(bench_plan_create(&b, ctx, c, N));
    st = sample(b.plan, repeat, &seconds);
    for (int32_t i = 0; i < adze_plan_step_count(b.plan) && st == ADZE_OK; i++) {
        adze_plan_step s = adze_plan_step_at(b.plan, i);
        double fastest = seconds[i * repeat], median = seconds[i * repeat + repeat / 2], floor = floor_of(&s, r);
        if (s.n_bytes == 0.0) continue;
        printf("%-18s %-18s %-3s %-16s %10.1f %10.1f %9.3f %9.3f %8.1f %9.1f %6.1f %%\n", c->name, s.op, s.backward ? "bwd" : "fwd", s.kernel,
               s.n_bytes / 1e6, s.flops / 1e6, 1e3 * median, 1e3 * fastest, s.n_bytes / fastest / 1e9, s.flops / fastest / 1e9, 100.0 * floor / fastest);
        json_line(json, c->name, &s);
        adze_text_append(json, ", \"kernel\": ");
        adze_text_json(json, s.kernel);
        adze_text_printf(json, ", \"median_s\": %.9g, \"fastest_s\": %.9g, \"floor_s\": %.9g}", median, fastest, floor);
    }
    bench_plan_destroy(&b);
done:
    adze_free(seconds);
    return st;
}

static bool is_wanted(const adze_options *o, const kernel_case *c)
{
    const char *only = adze_options_string(o, "only");
    return !only || strstr(c->name, only);
}

static adze_status measure_all(const adze_options *o, adze_text *json)
{
    adze_status st = ADZE_OK;
    adze_ctx *ctx = NULL, *reference = NULL;
    adze_ctx_opts opts = ADZE_CTX_OPTS;
    const int64_t N = adze_options_int(o, "batch");
    const int repeat = (int)adze_options_int(o, "repeat");
    rates r = { 1.0, 1.0 };
    opts.threads = (int)adze_options_int(o, "threads");
    opts.device = adze_options_string(o, "device");
    TRY(adze_ctx_create(&ctx, &opts));
    opts.device = "cpu", opts.reference_only = true;
    TRY(adze_ctx_create(&reference, &opts));
    TRY(measure_rates(ctx, N, repeat, &r));
    printf("%s; copies %.1f GB/s, multiplies %.1f GFLOP/s; caches are not flushed\n\n", adze_ctx_description(ctx), r.bytes / 1e9, r.flops / 1e9);
    printf("%-18s %-18s %-3s %-16s %10s %10s %9s %9s %8s %9s %8s\n", "case", "op", "", "kernel", "MB", "MFLOP", "median ms", "fastest", "GB/s",
           "GFLOP/s", "of floor");
    for (int i = 0; i < N_CASES; i++) {
        if (!is_wanted(o, &cases[i])) continue;
        TRY(check(ctx, reference, &cases[i]));
        TRY(measure_case(ctx, &cases[i], N, repeat, r, json));
        fflush(stdout);
    }
done:
    adze_ctx_destroy(reference);
    adze_ctx_destroy(ctx);
    return st;
}

/* ---- without a device ---- */

static adze_status print_floors(const adze_options *o, adze_text *json)
{
    adze_status st = ADZE_OK;
    adze_ctx *ctx = NULL;
    adze_ctx_opts opts = ADZE_CTX_OPTS;
    opts.device = "cpu", opts.threads = 1;
    TRY(adze_ctx_create(&ctx, &opts));
    printf("%-18s %-18s %-3s %10s %10s   %s us   %s us\n", "case", "op", "", "MB", "MFLOP", cards[0].name, cards[1].name);
    for (int i = 0; i < N_CASES; i++) {
        bench_plan b;
        if (!is_wanted(o, &cases[i])) continue;
        TRY(bench_plan_create(&b, ctx, &cases[i], adze_options_int(o, "batch")));
        for (int32_t k = 0; k < adze_plan_step_count(b.plan); k++) {
            adze_plan_step s = adze_plan_step_at(b.plan, k);
            if (s.n_bytes == 0.0) continue;
            double floors[2];
            for (int card = 0; card < 2; card++) floors[card] = floor_of(&s, (rates){ cards[card].bytes, cards[card].flops });
            printf("%-18s %-18s %-3s %10.1f %10.1f %10.1f %13.1f\n", cases[i].name, s.op, s.backward ? "bwd" : "fwd", s.n_bytes / 1e6, s.flops / 1e6,
                   1e6 * floors[0], 1e6 * floors[1]);
            json_line(json, cases[i].name, &s);
            adze_text_printf(json, ", \"floor_rtx_4090_s\": %.9g, \"floor_h100_s\": %.9g}", floors[0], floors[1]);
        }
        bench_plan_destroy(&b);
    }
done:
    adze_ctx_destroy(ctx);
    return st;
}

static adze_status print_logs(const adze_options *o)
{
    adze_status st = ADZE_OK;
    char *beside = NULL, *folder = NULL;
    adze_text text = ADZE_TEXT_EMPTY;
    int kernels, spilled, all = 0;
    TRY(adze_program_folder(&beside));
    REQUIRE(folder = adze_path_join(beside, "../cuda"), ADZE_ENOMEM, "no memory for a path");
    const char *from = adze_options_string(o, "logs") ? adze_options_string(o, "logs") : folder;
    for (size_t i = 0; i < sizeof cards / sizeof *cards; i++) {
        adze_text_printf(&text, "\n%s\n", cards[i].arch);
        TRY(ptxas_log_table(from, cards[i].arch, &text, &kernels, &spilled));
        if (kernels == 0) adze_text_printf(&text, "no compiler logs in %s: the CUDA backend was not built there\n", from);
        else adze_text_printf(&text, "%d kernels, %d with spills\n", kernels, spilled);
        all += spilled;
    }
    if (text.s) fputs(text.s, stdout);
    REQUIRE(all == 0, ADZE_EINTERNAL, "%d kernels spill registers", all);
done:
    adze_text_destroy(&text);
    adze_free(folder);
    adze_free(beside);
    return st;
}

static adze_status write_json(const adze_options *o, adze_text *json)
{
    adze_status st = ADZE_OK;
    FILE *f = NULL;
    const char *path = adze_options_string(o, "json");
    adze_text_append(json, "\n]\n");
    TRY(adze_text_check(json, "results"));
    if (!path) goto done;
    REQUIRE(f = fopen(path, "w"), ADZE_EIO, "%s: cannot be written", path);
    const bool written = fputs(json->s, f) >= 0;
    REQUIRE(fclose(f) == 0 && written, ADZE_EIO, "%s: writing failed", path);
done:
    return st;
}

static adze_status print_help(const adze_options *o)
{
    adze_text text = ADZE_TEXT_EMPTY;
    adze_status st = adze_options_help(o, "bench-kernels [options]", "Every kernel at the benchmark's shapes, checked, timed, beside its floor.",
                                       "  bench-kernels --static\n  bench-kernels --device cpu --only relu\n", &text);
    if (st == ADZE_OK) fputs(text.s, stdout);
    adze_text_destroy(&text);
    return st;
}

int main(int argc, char **argv)
{
    adze_status st = ADZE_OK;
    adze_options *o = NULL;
    adze_text json = ADZE_TEXT_EMPTY;
    TRY(adze_options_create(&o));
    TRY(adze_options_add(o, table, sizeof table / sizeof *table));
    TRY(adze_options_parse(o, argc, argv, 1));
    if (adze_options_flag(o, "version")) {
        printf("bench-kernels %s\n", ADZE_VERSION);
        goto done;
    }
    if (adze_options_flag(o, "help")) {
        TRY(print_help(o));
        goto done;
    }
    adze_text_append(&json, "[");
    if (adze_options_flag(o, "static")) {
        TRY(print_floors(o, &json));
        TRY(print_logs(o));
    } else TRY(measure_all(o, &json));
    TRY(write_json(o, &json));
done:
    adze_text_destroy(&json);
    adze_options_destroy(o);
    if (st != ADZE_OK) fprintf(stderr, "bench-kernels: %s\n", adze_error_message());
    return adze_status_exit_code(st);
}
