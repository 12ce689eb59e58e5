/* device_rates.c - a copy and a product, timed as steps of a plan. Entry: device_rates_measure(). */
#include "bench/device_rates.h"

#include <math.h>
#include <string.h>

#include "bench/peak.h"
#include "core/memory.h"
#include "core/ops.h"
#include "core/plan.h"

enum { ROWS = 4096, INNER = 2048, RUNS = 20 };

/* Seconds of the only step of the graph's plan, fastest of several. */
static adze_status time_step(adze_ctx *ctx, adze_graph *g, adze_plan_step *step, double *fastest)
{
    adze_status st = ADZE_OK;
    adze_params *params = NULL;
    adze_plan *plan = NULL;
    float *zeros = NULL;
    *fastest = HUGE_VAL;
    TRY(adze_graph_check(g));
    TRY(adze_params_create(&params, ctx, g));
    TRY(adze_plan_create(&plan, ctx, g, params, &ADZE_PLAN_OPTS));
    REQUIRE(zeros = adze_calloc((size_t)ROWS * ROWS, sizeof *zeros), ADZE_ENOMEM, "no memory for inputs");
    for (int i = 0; i < 2; i++) {
        adze_value v = adze_graph_find(g, i == 0 ? "x" : "z");
        if (v != ADZE_NONE) TRY(adze_plan_write(plan, v, zeros));
    }
    for (int i = 0; i < RUNS; i++) {
        adze_plan_profile(plan, true);
        TRY(adze_plan_run(plan));
        *step = adze_plan_step_at(plan, 0);
        if (i > 1) *fastest = fmin(*fastest, step->seconds); /* two to warm up */
    }
done:
    adze_free(zeros);
    adze_plan_destroy(plan);
    adze_params_destroy(params);
    return st;
}

static adze_status time_probe(adze_ctx *ctx, bool product, adze_plan_step *step, double *fastest)
{
    adze_status st = ADZE_OK;
    adze_graph *g = NULL;
    TRY(adze_graph_create(&g));
    adze_value x = adze_graph_input(g, "x", ADZE_SHAPE(ROWS, product ? INNER : ROWS));
    adze_value y = product ? adze_matmul(g, x, adze_graph_input(g, "z", ADZE_SHAPE(INNER, ROWS)), false, false)
                           : adze_activation(g, x, ADZE_ACT_RELU, 0.0f, 0.0f);
    adze_graph_output(g, "y", y);
    TRY(time_step(ctx, g, step, fastest));
done:
    adze_graph_destroy(g);
    return st;
}

adze_status device_rates_measure(adze_ctx *ctx, device_rates *out)
{
    adze_status st = ADZE_OK;
    const int threads = adze_ctx_threads(ctx);
    adze_plan_step step;
    double seconds;
    *out = (device_rates){ 0.0, 0.0 };
    if (strcmp(adze_ctx_device(ctx), "cusim") == 0) return ADZE_OK;
    if (strcmp(adze_ctx_device(ctx), "cpu") == 0) {
        *out = (device_rates){ bench_copy_rate(threads), bench_peak_flops(threads, adze_ctx_precision(ctx) == ADZE_PRECISION_BF16 ? BENCH_BF16 : BENCH_F32) };
        REQUIRE(out->bytes > 0.0, ADZE_ENOMEM, "no memory for a copy");
        return ADZE_OK;
    }
    TRY(time_probe(ctx, false, &step, &seconds));
    out->bytes = step.n_bytes / seconds;
    TRY(time_probe(ctx, true, &step, &seconds));
    out->flops = step.flops / seconds;
done:
    return st;
}
