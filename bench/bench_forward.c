/* bench_forward.c - time of a backbone's forward pass up to layer3, with weights and pictures made by the rule of
 * tests/golden/README.md, so that another program can check the answer. bench/compare_forward.py puts it beside PyTorch. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench_main.h"
#include "bench/device_rates.h"
#include "core/backend.h"
#include "core/clock.h"
#include "core/memory.h"
#include "core/options.h"
#include "core/params.h"
#include "core/plan.h"
#include "models/backbone.h"
#include "tests/golden/case_tensor.h"

static const adze_option table[] = {
    { .name = "backbone", .type = ADZE_OPTION_STRING, .fallback = "wide_resnet50_2", .metavar = "NAME", .help = "network" },
    { .name = "tap", .type = ADZE_OPTION_STRING, .fallback = "layer3", .metavar = "NAME", .help = "the last tap computed" },
    { .name = "batch", .type = ADZE_OPTION_INT, .fallback = "1", .min = 1, .max = 1024, .help = "pictures per run" },
    { .name = "size", .type = ADZE_OPTION_INT, .fallback = "256", .min = 32, .max = 4096, .help = "side of a picture" },
    { .name = "device", .type = ADZE_OPTION_STRING, .fallback = "cpu", .metavar = "NAME", .help = "cpu, cuda, cuda:N, cusim" },
    { .name = "threads", .type = ADZE_OPTION_INT, .fallback = "0", .min = 0, .max = 4096, .help = "0: all there are" },
    { .name = "precision", .type = ADZE_OPTION_CHOICE, .fallback = "f32", .choices = "f32|tf32|bf16", .help = "of products" },
    { .name = "repeat", .type = ADZE_OPTION_INT, .fallback = "5", .min = 1, .max = 100000, .help = "runs" },
    { .name = "serve", .type = ADZE_OPTION_FLAG, .help = "one run per line on stdin, its seconds on stdout" },
    { .name = "check", .type = ADZE_OPTION_STRING, .metavar = "FILE",
      .help = "write the taps from layer2 on: float32, NHWC, one after the other" },
    { .name = "print-plan", .type = ADZE_OPTION_FLAG, .help = "list the steps first" },
    { .name = "profile", .type = ADZE_OPTION_FLAG, .help = "list the time per step at the end" },
    { .name = "help", .letter = 'h', .type = ADZE_OPTION_FLAG, .properties = ADZE_OPTION_ACTION, .help = "this page" },
};

typedef struct {
    adze_ctx *ctx;
    adze_graph *graph;
    adze_params *params;
    adze_plan *plan;
    adze_value tap[ADZE_BACKBONE_TAPS];
    int last_tap;
} network;

static void network_destroy(network *n)
{
    adze_plan_destroy(n->plan);
    adze_params_destroy(n->params);
    adze_graph_destroy(n->graph);
    adze_ctx_destroy(n->ctx);
}

static adze_status fill_weights(adze_params *params)
{
    adze_status st = ADZE_OK;
    for (int i = 0; i < adze_params_count(params) && st == ADZE_OK; i++) {
        adze_shape shape = adze_params_shape(params, i);
        float *w = golden_weight(adze_params_name(params, i), shape.dim, shape.rank);
        st = adze_params_write(params, i, w);
        free(w);
    }
    return st;
}

/* `unit` pictures, given as NCHW by the rule. */
static adze_status fill_pictures(adze_plan *plan, adze_value input, int64_t N, int64_t H)
{
    float *nchw = golden_unit("image", N * 3 * H * H), *x = golden_floats(N * 3 * H * H);
    for (int64_t n = 0; n < N; n++)
        for (int64_t c = 0; c < 3; c++)
            for (int64_t p = 0; p < H * H; p++) x[(n * H * H + p) * 3 + c] = nchw[(n * 3 + c) * H * H + p];
    adze_status st = adze_plan_write(plan, input, x);
    free(nchw);
    free(x);
    return st;
}

static adze_status network_create(network *n, const adze_options *o)
{
    adze_status st = ADZE_OK;
    const int64_t N = adze_options_int(o, "batch"), H = adze_options_int(o, "size");
    const adze_backbone_info *info;
    adze_ctx_opts ctx_opts = ADZE_CTX_OPTS;
    ctx_opts.device = adze_options_string(o, "device");
    ctx_opts.threads = (int)adze_options_int(o, "threads");
    TRY(adze_precision_parse(adze_options_string(o, "precision"), &ctx_opts.precision));
    TRY(adze_backbone_find(adze_options_string(o, "backbone"), &info));
    TRY(adze_backbone_tap(info, adze_options_string(o, "tap"), &n->last_tap));
    TRY(adze_ctx_create(&n->ctx, &ctx_opts));
    TRY(adze_graph_create(&n->graph));
    adze_backbone_opts opts = ADZE_BACKBONE_OPTS;
    opts.last_tap = n->last_tap;
    adze_value input = adze_graph_input(n->graph, "image", ADZE_SHAPE(N, H, H, 3));
    TRY(adze_backbone_build(n->graph, info->name, input, &opts, n->tap, NULL));
    for (int t = 0; t <= n->last_tap; t++)
        if (t == n->last_tap || strcmp(info->tap_name[t], "layer2") == 0)
            adze_graph_output(n->graph, info->tap_name[t], n->tap[t]);
        else n->tap[t] = ADZE_NONE;
    TRY(adze_graph_check(n->graph));
    TRY(adze_params_create(&n->params, n->ctx, n->graph));
    TRY(fill_weights(n->params));
    TRY(adze_plan_create(&n->plan, n->ctx, n->graph, n->params, &ADZE_PLAN_OPTS));
    TRY(fill_pictures(n->plan, input, N, H));
    TRY(adze_plan_run(n->plan)); /* the first one touches all memory */
done:
    return st;
}

static adze_status write_taps(const network *n, const char *path)
{
    adze_status st = ADZE_OK;
    FILE *f = fopen(path, "wb");
    REQUIRE(f, ADZE_EIO, "%s: cannot be written", path);
    for (int t = 0; t <= n->last_tap; t++) {
        if (n->tap[t] == ADZE_NONE) continue;
        adze_shape shape = adze_graph_shape(n->graph, n->tap[t]);
        const int64_t count = adze_shape_count(&shape);
        float *x = golden_floats(count);
        st = adze_plan_read(n->plan, n->tap[t], x);
        if (st == ADZE_OK && fwrite(x, sizeof *x, (size_t)count, f) != (size_t)count)
            st = adze_fail(ADZE_EIO, "%s: writing failed", path);
        free(x);
        if (st != ADZE_OK) goto done;
    }
done:
    if (f && fclose(f) != 0 && st == ADZE_OK) st = adze_fail(ADZE_EIO, "%s: writing failed", path);
    return st;
}

static adze_status run_once(network *n, double *seconds)
{
    const double begin = adze_clock_seconds();
    adze_status st = adze_plan_run(n->plan);
    if (st == ADZE_OK && n->ctx->backend->wait) st = n->ctx->backend->wait(n->ctx);
    *seconds = adze_clock_seconds() - begin;
    return st;
}

/* Median and fastest of the runs, and the floor: the same operations at the device's rate of products (none on the emulator). */
static adze_status print_summary(const network *n, const adze_options *o, double *seconds, int64_t count)
{
    adze_status st = ADZE_OK;
    const double flops = adze_plan_flops(n->plan), pictures = (double)adze_options_int(o, "batch");
    device_rates r;
    TRY(device_rates_measure(n->ctx, &r));
    bench_sort(seconds, count);
    printf("%s; %s, batch %.0f, %.1f GFLOP\n", adze_ctx_description(n->ctx), adze_options_string(o, "backbone"), pictures,
           1e-9 * flops);
    printf("median %.2f ms, fastest of %lld %.2f ms: %.1f pictures/s, %.1f GFLOP/s", 1e3 * seconds[count / 2], (long long)count, 1e3 * seconds[0],
           pictures / seconds[0], 1e-9 * flops / seconds[0]);
    if (r.flops > 0.0)
        printf("; floor %.2f ms at %.1f GFLOP/s, %.0f %% of it reached\n", 1e3 * flops / r.flops, 1e-9 * r.flops, 100.0 * flops / r.flops / seconds[0]);
    else printf("; an emulator's times say nothing\n");
done:
    return st;
}

static adze_status serve(network *n)
{
    adze_status st = ADZE_OK;
    char line[64];
    double seconds;
    while (fgets(line, sizeof line, stdin)) {
        TRY(run_once(n, &seconds));
        printf("%.9f\n", seconds);
        fflush(stdout);
    }
done:
    return st;
}

static adze_status repeat(network *n, const adze_options *o)
{
    adze_status st = ADZE_OK;
    const int64_t count = adze_options_int(o, "repeat");
    double *seconds = adze_calloc((size_t)count, sizeof *seconds);
    REQUIRE(seconds, ADZE_ENOMEM, "no memory for %lld times", (long long)count);
    for (int64_t i = 0; i < count; i++) {
        TRY(run_once(n, &seconds[i]));
        printf("seconds %.9f\n", seconds[i]);
        fflush(stdout);
    }
    TRY(print_summary(n, o, seconds, count));
done:
    adze_free(seconds);
    return st;
}

static adze_status measure(network *n, const adze_options *o)
{
    adze_status st = ADZE_OK;
    const char *check = adze_options_string(o, "check");
    if (check) TRY(write_taps(n, check));
    printf("flops %.0f arena_bytes %zu\n", adze_plan_flops(n->plan), adze_plan_arena_bytes(n->plan));
    fflush(stdout);
    TRY(adze_options_flag(o, "serve") ? serve(n) : repeat(n, o));
done:
    return st;
}

static adze_status run(const adze_options *o)
{
    adze_status st = ADZE_OK;
    network n = { 0 };
    adze_text text = ADZE_TEXT_EMPTY;
    TRY(network_create(&n, o));
    if (adze_options_flag(o, "print-plan")) adze_plan_print(n.plan, &text);
    adze_plan_profile(n.plan, adze_options_flag(o, "profile"));
    if (text.s) fputs(text.s, stderr);
    TRY(measure(&n, o));
    adze_text_destroy(&text);
    if (adze_options_flag(o, "profile")) adze_plan_profile_print(n.plan, &text);
    if (text.s) fputs(text.s, stderr);
done:
    adze_text_destroy(&text);
    network_destroy(&n);
    return st;
}

int main(int argc, char **argv)
{
    static const bench_program program = { .name = "bench-forward", .usage = "bench-forward [options]",
                                           .about = "Times a backbone's forward pass with made-up weights.",
                                           .table = table, .n_options = sizeof table / sizeof *table, .max_args = 0, .run = run };
    return bench_main(&program, argc, argv);
}
