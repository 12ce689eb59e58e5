/* bench_flow.c - time of CFlow's coupling blocks: forward, forward and backward, or a whole fibre step (rows gathered by number,
 * flow, loss, backward, Adam). Weights and rows are made by the rule of tests/golden/README.md (scales 1, offsets 0, rotations
 * replaced by matrices of the rule), so that bench/compare_coupling.py and bench/compare_train_cflow.py can check the answers.
 *
 * The floor is the arithmetic of the products at the float32 peak: 2 R (M(h+P) + CM + C^2) a block forward, and backward twice
 * that for the subnet and once for the rotation. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench_main.h"
#include "bench/peak.h"
#include "core/clock.h"
#include "core/options.h"
#include "core/params.h"
#include "core/plan.h"
#include "models/cflow_net.h"
#include "tests/golden/case_tensor.h"
#include "train/optimizer.h"

static const adze_option table[] = {
    { .name = "channels", .type = ADZE_OPTION_INT, .fallback = "512", .min = 2, .max = 8192, .help = "of a row" },
    { .name = "rows", .type = ADZE_OPTION_INT, .fallback = "256", .min = 1, .max = 1 << 20, .help = "of one run" },
    { .name = "blocks", .type = ADZE_OPTION_INT, .fallback = "1", .min = 1, .max = 64, .help = "coupling blocks" },
    { .name = "condition", .type = ADZE_OPTION_INT, .fallback = "128", .min = 4, .max = 4096, .help = "columns of the condition" },
    { .name = "mode", .type = ADZE_OPTION_CHOICE, .fallback = "forward", .choices = "forward|backward|step", .help = "what a run does" },
    { .name = "threads", .type = ADZE_OPTION_INT, .fallback = "0", .min = 0, .max = 4096, .help = "0: all there are" },
    { .name = "precision", .type = ADZE_OPTION_STRING, .fallback = "f32", .metavar = "f32|bf16", .help = "of the products' operands" },
    { .name = "repeat", .type = ADZE_OPTION_INT, .fallback = "7", .min = 1, .max = 100000, .help = "timed runs" },
    { .name = "serve", .type = ADZE_OPTION_FLAG, .help = "one run per line on stdin, its seconds on stdout" },
    { .name = "help", .letter = 'h', .type = ADZE_OPTION_FLAG, .properties = ADZE_OPTION_ACTION, .help = "this page" },
};

enum { FORWARD, BACKWARD, STEP };
enum { CHECKED = 3 }; /* first steps whose losses are shown */

typedef struct {
    adze_ctx *ctx;
    adze_graph *graph;
    adze_params *params;
    adze_plan *plan;
    adze_optim *optim;
    adze_value x, cond, row, logp, loss;
    int64_t C, R, P, blocks, pool; /* pool: rows that a step draws from */
    int mode;
} flow;

static void flow_destroy(flow *f)
{
    adze_optim_destroy(f->optim);
    adze_plan_destroy(f->plan);
    adze_params_destroy(f->params);
    adze_graph_destroy(f->graph);
    adze_ctx_destroy(f->ctx);
}

static adze_status fill(flow *f)
{
    adze_status st = ADZE_OK;
    for (int i = 0; i < adze_params_count(f->params) && st == ADZE_OK; i++) {
        const char *name = adze_params_name(f->params, i);
        adze_shape s = adze_params_shape(f->params, i);
        int64_t n = adze_shape_count(&s);
        bool scale = strstr(name, "global_scale") != NULL, offset = strstr(name, "global_offset") != NULL;
        float *w = golden_weight(name, s.dim, s.rank);
        for (int64_t k = 0; k < n && (scale || offset); k++) w[k] = scale ? 9.98650f : 0.0f;
        st = adze_params_write(f->params, i, w);
        free(w);
    }
    return st;
}

static adze_status write_input(flow *f, adze_value v, const char *name)
{
    adze_shape s = adze_graph_shape(f->graph, v);
    float *x = golden_unit(name, adze_shape_count(&s));
    adze_status st = adze_plan_write(f->plan, v, x);
    free(x);
    return st;
}

static adze_status flow_create(flow *f, const adze_options *o)
{
    adze_status st = ADZE_OK;
    adze_ctx_opts ctx = ADZE_CTX_OPTS;
    float *row = NULL;
    f->C = adze_options_int(o, "channels"), f->R = adze_options_int(o, "rows"), f->P = adze_options_int(o, "condition");
    f->blocks = adze_options_int(o, "blocks"), f->mode = adze_options_choice(o, "mode");
    f->pool = f->mode == STEP ? 4 * f->R : f->R;
    TRY(adze_precision_parse(adze_options_string(o, "precision"), &ctx.precision));
    ctx.device = "cpu", ctx.threads = (int)adze_options_int(o, "threads");
    TRY(adze_ctx_create(&f->ctx, &ctx));
    TRY(adze_graph_create(&f->graph));
    adze_value x = f->x = adze_graph_input(f->graph, "x", ADZE_SHAPE(f->pool, f->C));
    adze_value cond = f->cond = adze_graph_input(f->graph, "cond", ADZE_SHAPE(f->pool, f->P));
    if (f->mode == STEP) {
        f->row = adze_graph_input(f->graph, "row", ADZE_SHAPE(f->R));
        x = adze_index_select(f->graph, x, f->row, 0), cond = adze_index_select(f->graph, cond, f->row, 0);
    }
    if (f->mode == BACKWARD) adze_graph_want_grad(f->graph, f->x);
    cflow_net_opts net = CFLOW_NET_OPTS;
    net.train = f->mode != FORWARD, net.blocks = f->blocks;
    TRY(cflow_net_build(f->graph, 0, x, cond, &net, &f->logp, NULL));
    f->loss = adze_loss(f->graph, ADZE_LOSS_NEG_LOG_SIGMOID, f->logp, ADZE_NONE, 0.0f, 0.0f);
    adze_graph_output(f->graph, "loss", f->loss);
    TRY(adze_params_create(&f->params, f->ctx, f->graph));
    TRY(fill(f));
    adze_plan_opts plan = ADZE_PLAN_OPTS;
    if (f->mode != FORWARD) plan.loss = f->loss;
    TRY(adze_plan_create(&f->plan, f->ctx, f->graph, f->params, &plan));
    TRY(write_input(f, f->x, "x"));
    TRY(write_input(f, f->cond, "cond"));
    if (f->mode != STEP) goto done;
    TRY(adze_optim_create(&f->optim, f->params, &ADZE_OPTIM_OPTS));
    row = golden_floats(f->R);
    for (int64_t i = 0; i < f->R; i++) row[i] = (float)(i * 7 % f->pool);
    TRY(adze_plan_write(f->plan, f->row, row));
done:
    free(row);
    return st;
}

static adze_status run(flow *f, double *seconds, float *loss)
{
    adze_status st = ADZE_OK;
    const double begin = adze_clock_seconds();
    TRY(adze_plan_run(f->plan));
    TRY(adze_plan_read(f->plan, f->loss, loss));
    if (f->mode == STEP) TRY(adze_optim_step(f->optim, 2e-4));
    *seconds = adze_clock_seconds() - begin;
done:
    return st;
}

static double floor_flops(const flow *f)
{
    const double in = (double)f->C / 2.0 + (double)f->P, subnet = 2.0 * in * in + 2.0 * in * (double)f->C, rotation = (double)f->C * (double)f->C;
    return 2.0 * (double)(f->R * f->blocks) * (f->mode == FORWARD ? subnet + rotation : 3.0 * subnet + 2.0 * rotation);
}

static adze_status measure(flow *f, const adze_options *o)
{
    adze_status st = ADZE_OK;
    char line[64];
    float loss;
    double seconds, best = 1e30;
    for (int i = 0; i < CHECKED; i++) {
        TRY(run(f, &seconds, &loss));
        printf("loss%d %.9g%s", i, (double)loss, i + 1 < CHECKED ? " " : "\n");
    }
    fflush(stdout);
    if (adze_options_flag(o, "serve")) {
        while (fgets(line, sizeof line, stdin)) {
            TRY(run(f, &seconds, &loss));
            printf("%.9f\n", seconds);
            fflush(stdout);
        }
        goto done;
    }
    for (int64_t i = 0; i < adze_options_int(o, "repeat"); i++) {
        TRY(run(f, &seconds, &loss));
        best = seconds < best ? seconds : best;
    }
    const double flops = floor_flops(f), floor = flops / bench_peak_flops(adze_ctx_threads(f->ctx), BENCH_F32);
    printf("%s\n%s, %lld rows of %lld, %lld blocks: fastest %.3f ms, %.1f GFLOP/s; floor %.3f ms at the float32 peak, %.0f %% of it reached\n",
           adze_ctx_description(f->ctx), adze_options_string(o, "mode"), (long long)f->R, (long long)f->C, (long long)f->blocks, 1e3 * best,
           1e-9 * flops / best, 1e3 * floor, 100.0 * floor / best);
done:
    return st;
}

static adze_status measure_flow(const adze_options *o)
{
    adze_status st = ADZE_OK;
    flow f = { .row = ADZE_NONE };
    TRY(flow_create(&f, o));
    TRY(measure(&f, o));
done:
    flow_destroy(&f);
    return st;
}

int main(int argc, char **argv)
{
    static const bench_program program = { .name = "bench-flow", .usage = "bench-flow [options]",
                                           .about = "Time of CFlow's coupling blocks.",
                                           .table = table, .n_options = sizeof table / sizeof *table, .max_args = 0, .run = measure_flow };
    return bench_main(&program, argc, argv);
}
