/* bench_kernels.c - every kernel and library call at the benchmark's shapes (kernel_cases.c, device_calls.c): first checked against
 * another implementation, then timed, step by step, beside its floor: the bytes that it has to move over the device's measured copy
 * rate, or its FLOPs over the measured rate of its matrix products, whichever takes longer. Caches are not flushed between runs:
 * what fits into them may stand above 100 %. Without a GPU --static prints the floors on two cards and what the compiler's logs say
 * of each kernel; on the emulator (--shrink) times say nothing, accesses are counted (cuda_static.py).
 * bench-kernels --device cuda --json kernels.json */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench_main.h"
#include "bench/device_calls.h"
#include "bench/device_rates.h"
#include "bench/kernel_cases.h"
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
    { .name = "shrink", .type = ADZE_OPTION_INT, .fallback = "1", .min = 1, .max = 64, .help = "sides so many times shorter, for the emulator" },
    { .name = "only", .type = ADZE_OPTION_STRING, .metavar = "TEXT", .help = "cases whose name contains this" },
    { .name = "case", .type = ADZE_OPTION_STRING, .metavar = "NAME", .help = "this case" },
    { .name = "list", .type = ADZE_OPTION_FLAG, .help = "names of all cases, one per line" },
    { .name = "static", .type = ADZE_OPTION_FLAG, .help = "floors on an RTX 4090 and an H100, registers, spills; no runs" },
    { .name = "logs", .type = ADZE_OPTION_STRING, .metavar = "FOLDER", .help = "of the compiler's logs; by default ../cuda beside the program" },
    { .name = "json", .type = ADZE_OPTION_STRING, .metavar = "FILE", .help = "write the results there too" },
    { .name = "help", .letter = 'h', .type = ADZE_OPTION_FLAG, .properties = ADZE_OPTION_ACTION, .help = "this page" },
    { .name = "version", .type = ADZE_OPTION_FLAG, .properties = ADZE_OPTION_ACTION, .help = "the version" },
};

/* Per second: memory, products of float32, products of 16 bits with sums of 32. */
typedef struct {
    double bytes, flops, half;
} rates;

/* Peaks of performance tables; float32 outside the tensor cores. */
static const struct {
    const char *name, *arch;
    rates peak;
} cards[] = { { "RTX 4090", "sm_89", { 1008e9, 82.6e12, 165.2e12 } }, { "H100 SXM", "sm_90", { 3350e9, 66.9e12, 989.4e12 } } };

/* ---- one case on one device ---- */

typedef struct {
    adze_ctx *ctx;
    adze_graph *graph;
    adze_params *params;
    adze_plan *plan;
    adze_value y;
} bench_plan;

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
    for (uint32_t i = 0; i < KERNEL_INPUTS; i++) {
        adze_value v = adze_graph_find(b->graph, kernel_inputs[i]);
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

static adze_status bench_plan_create(bench_plan *b, adze_ctx *ctx, const kernel_case *c, kernel_size size)
{
    adze_status st = ADZE_OK;
    *b = (bench_plan){ .ctx = ctx };
    TRY(adze_graph_create(&b->graph));
    b->y = c->build(b->graph, size, c->which);
    adze_graph_output(b->graph, "y", b->y);
    const bool has_x = adze_graph_find(b->graph, "x") != ADZE_NONE;
    for (int i = 0; i < KERNEL_INPUTS && c->trained; i++) {
        adze_value v = adze_graph_find(b->graph, kernel_inputs[i]);
        if (v != ADZE_NONE && (i < 2 || (i == 2 && !has_x))) adze_graph_want_grad(b->graph, v);
    }
    TRY(adze_graph_check(b->graph));
    TRY(adze_params_create(&b->params, ctx, b->graph));
    adze_plan_opts opts = ADZE_PLAN_OPTS;
    opts.loss = c->trained ? b->y : ADZE_NONE;
    TRY(adze_plan_create(&b->plan, ctx, b->graph, b->params, &opts));
done:
    if (st != ADZE_OK) bench_plan_destroy(b);
    return st;
}

/* y, then the gradient of x (or of u). */
static adze_status outcome(adze_ctx *ctx, const kernel_case *c, kernel_size size, float **out, int64_t *n_y, int64_t *n)
{
    adze_status st = ADZE_OK;
    bench_plan b;
    TRY(bench_plan_create(&b, ctx, c, size));
    adze_value from = adze_graph_find(b.graph, "x");
    if (from == ADZE_NONE) from = adze_graph_find(b.graph, "u");
    adze_shape y = adze_graph_shape(b.graph, b.y), x = adze_graph_shape(b.graph, from);
    *n_y = adze_shape_count(&y);
    *n = *n_y + (c->trained ? adze_shape_count(&x) : 0);
    *out = adze_malloc((size_t)*n * sizeof **out);
    if (!*out) st = adze_fail(ADZE_ENOMEM, "no memory for results");
    if (st == ADZE_OK) st = fill(&b, c->trained);
    if (st == ADZE_OK) st = adze_plan_run(b.plan);
    if (st == ADZE_OK) st = adze_plan_read(b.plan, b.y, *out);
    if (st == ADZE_OK && c->trained) st = adze_plan_read_grad(b.plan, from, *out + *n_y);
    bench_plan_destroy(&b);
done:
    return st;
}

/* Sums of at most 4608 products in float32: 8 sqrt(4608) roundings of the largest element, twice that as both sides may be in
 * float32. Where a ReLU or a maximum rounds to the other side a gradient jumps: of gradients the
 * norm is compared, and a thousandth of the elements may jump. */
static adze_status check(adze_ctx *ctx, adze_ctx *reference, const kernel_case *c, kernel_size size)
{
    adze_status st = ADZE_OK;
    float *got = NULL, *want = NULL;
    int64_t n = 0, n_y = 0;
    double most = 0.0, apart = 0.0, all = 0.0;
    TRY(outcome(ctx, c, size, &got, &n_y, &n));
    TRY(outcome(reference, c, size, &want, &n_y, &n));
    for (int64_t i = 0; i < n_y; i++) most = fmax(most, fabs((double)want[i]));
    for (int64_t i = 0; i < n_y; i++)
        REQUIRE(fabs((double)got[i] - want[i]) <= 2.0 * 8.0 * 68.0 * 0x1p-24 * most, ADZE_ENUMERIC, "%s: element %" PRId64 " is %g, the reference says %g",
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
    for (int32_t s = 0; s < n; s++) bench_sort(seconds + s * repeat, repeat);
done:
    return st;
}

/* One line of the table and of the file. */
typedef struct {
    const char *name, *op, *kernel;
    bool backward, half;
    double bytes, flops;
} work;

static work work_of_step(const char *name, const adze_plan_step *s)
{
    return (work){ .name = name, .op = s->op, .kernel = s->kernel, .backward = s->backward, .bytes = s->n_bytes, .flops = s->flops };
}

static work work_of_call(const device_call_facts *f)
{
    return (work){ .name = f->name, .op = f->name, .kernel = f->transfers ? "with transfers" : "call", .half = f->half, .bytes = f->bytes, .flops = f->flops };
}

static double floor_of(const work *w, rates r) { return fmax(w->bytes / r.bytes, w->flops / (w->half ? r.half : r.flops)); }

static void json_line(adze_text *json, const work *w)
{
    adze_text_append(json, json->n_bytes > 2 ? ",\n  {\"case\": " : "\n  {\"case\": ");
    adze_text_json(json, w->name);
    adze_text_append(json, ", \"op\": ");
    adze_text_json(json, w->op);
    adze_text_printf(json, ", \"backward\": %s, \"bytes\": %.0f, \"flops\": %.0f", w->backward ? "true" : "false", w->bytes, w->flops);
}

/* `seconds`: `repeat` sorted times. */
static void report(const work *w, const double *seconds, int repeat, rates r, adze_text *json)
{
    const double fastest = seconds[0], median = seconds[repeat / 2], floor = r.bytes > 0.0 ? floor_of(w, r) : 0.0;
    printf("%-18s %-18s %-3s %-16s %10.1f %10.1f %9.3f %9.3f %8.1f %9.1f", w->name, w->op, w->backward ? "bwd" : "fwd", w->kernel, w->bytes / 1e6,
           w->flops / 1e6, 1e3 * median, 1e3 * fastest, w->bytes / fastest / 1e9, w->flops / fastest / 1e9);
    if (floor > 0.0) printf(" %6.1f %%\n", 100.0 * floor / fastest);
    else printf(" %8s\n", "-");
    json_line(json, w);
    adze_text_append(json, ", \"kernel\": ");
    adze_text_json(json, w->kernel);
    adze_text_printf(json, ", \"median_s\": %.9g, \"fastest_s\": %.9g, \"floor_s\": ", median, fastest);
    if (floor > 0.0) adze_text_printf(json, "%.9g}", floor);
    else adze_text_append(json, "null}");
}

/* What is measured, and how. */
typedef struct {
    adze_ctx *ctx, *reference, *half; /* half: products of bfloat16 */
    kernel_size size;
    int repeat;
    rates rates;
} bench;

/* Every step that moves or computes something. */
static adze_status measure_case(const bench *b, const kernel_case *c, adze_text *json)
{
    adze_status st = ADZE_OK;
    double *seconds = NULL;
    bench_plan p;
    kernel_size one = { 1, b->size.shrink };
    if (one.shrink == 1 && strcmp(adze_ctx_device(b->ctx), "cpu") == 0) one.shrink = 4; /* the reference is slow */
    TRY(check(b->ctx, b->reference, c, one));
    TRY(bench_plan_create(&p, b->ctx, c, b->size));
    st = fill(&p, c->trained);
    if (st == ADZE_OK) st = sample(p.plan, b->repeat, &seconds);
    for (int32_t i = 0; i < adze_plan_step_count(p.plan) && st == ADZE_OK; i++) {
        const adze_plan_step s = adze_plan_step_at(p.plan, i);
        const work w = work_of_step(c->name, &s);
        if (s.n_bytes > 0.0) report(&w, seconds + i * b->repeat, b->repeat, b->rates, json);
    }
    bench_plan_destroy(&p);
done:
    adze_free(seconds);
    return st;
}

static adze_status measure_call(const bench *b, int i, adze_text *json)
{
    adze_status st = ADZE_OK;
    const device_call_facts f = device_call_facts_at(i, b->size);
    const work w = work_of_call(&f);
    const int repeat = b->repeat < 5 ? b->repeat : 5;
    double seconds[6];
    device_call *got = NULL, *want = NULL;
    TRY(device_call_create(&got, i, b->ctx, b->size));
    TRY(device_call_create(&want, i, b->reference, b->size));
    TRY(device_call_run(got, &seconds[0]));
    TRY(device_call_run(want, &seconds[0]));
    TRY(device_call_compare(got, want));
    for (int r = 0; r < repeat; r++) TRY(device_call_run(got, &seconds[r]));
    bench_sort(seconds, repeat);
    report(&w, seconds, repeat, b->rates, json);
done:
    device_call_destroy(got);
    device_call_destroy(want);
    return st;
}

static bool is_wanted(const adze_options *o, const char *name)
{
    const char *only = adze_options_string(o, "only"), *exactly = adze_options_string(o, "case");
    return (!only || strstr(name, only)) && (!exactly || strcmp(name, exactly) == 0);
}

static kernel_size size_of(const adze_options *o) { return (kernel_size){ adze_options_int(o, "batch"), adze_options_int(o, "shrink") }; }

static adze_status check_names(const adze_options *o)
{
    bool any = false;
    for (int i = 0; i < kernel_case_count(); i++) any |= is_wanted(o, kernel_case_at(i)->name);
    for (int i = 0; i < device_call_count(); i++) any |= is_wanted(o, device_call_facts_at(i, size_of(o)).name);
    return any ? ADZE_OK : adze_fail(ADZE_EINVAL, "--only and --case leave no case; --list names them");
}

static adze_status open_bench(bench *b, const adze_options *o)
{
    adze_status st = ADZE_OK;
    adze_ctx_opts opts = ADZE_CTX_OPTS;
    opts.threads = (int)adze_options_int(o, "threads");
    opts.device = adze_options_string(o, "device");
    TRY(adze_ctx_create(&b->ctx, &opts));
    const bool cpu = strcmp(adze_ctx_device(b->ctx), "cpu") == 0;
    if (!cpu) {
        opts.precision = ADZE_PRECISION_BF16;
        TRY(adze_ctx_create(&b->half, &opts));
        opts.precision = ADZE_PRECISION_F32;
    }
    opts.device = "cpu", opts.reference_only = cpu;
    TRY(adze_ctx_create(&b->reference, &opts));
    device_rates whole, half = { 0.0, 0.0 };
    TRY(device_rates_measure(b->ctx, &whole));
    if (b->half) TRY(device_rates_measure(b->half, &half));
    if (cpu) half.flops = bench_peak_flops(adze_ctx_threads(b->ctx), BENCH_INT8);
    b->rates = (rates){ whole.bytes, whole.flops, half.flops };
done:
    return st;
}

static adze_status measure_all(const adze_options *o, adze_text *json)
{
    adze_status st = ADZE_OK;
    bench b = { .size = size_of(o), .repeat = (int)adze_options_int(o, "repeat") };
    TRY(open_bench(&b, o));
    if (b.rates.bytes > 0.0)
        printf("%s; copies %.1f GB/s, multiplies %.1f GFLOP/s, of 16 or 8 bits %.1f; caches are not flushed\n\n", adze_ctx_description(b.ctx),
               b.rates.bytes / 1e9, b.rates.flops / 1e9, b.rates.half / 1e9);
    else printf("%s: an emulator; its times say nothing about a GPU, and nothing is said of floors\n\n", adze_ctx_description(b.ctx));
    printf("%-18s %-18s %-3s %-16s %10s %10s %9s %9s %8s %9s %8s\n", "case", "op", "", "kernel", "MB", "MFLOP", "median ms", "fastest", "GB/s",
           "GFLOP/s", "of floor");
    for (int i = 0; i < kernel_case_count(); i++) {
        if (!is_wanted(o, kernel_case_at(i)->name)) continue;
        TRY(measure_case(&b, kernel_case_at(i), json));
        fflush(stdout);
    }
    for (int i = 0; i < device_call_count(); i++) {
        if (!is_wanted(o, device_call_facts_at(i, b.size).name)) continue;
        TRY(measure_call(&b, i, json));
        fflush(stdout);
    }
done:
    adze_ctx_destroy(b.half);
    adze_ctx_destroy(b.reference);
    adze_ctx_destroy(b.ctx);
    return st;
}

static void print_names(void)
{
    for (int i = 0; i < kernel_case_count(); i++) puts(kernel_case_at(i)->name);
    for (int i = 0; i < device_call_count(); i++) puts(device_call_facts_at(i, (kernel_size){ 1, 1 }).name);
}

/* ---- without a device ---- */

static void report_floors(const work *w, adze_text *json)
{
    double floors[2];
    for (int card = 0; card < 2; card++) floors[card] = floor_of(w, cards[card].peak);
    printf("%-18s %-18s %-3s %10.1f %10.1f %10.1f %13.1f\n", w->name, w->op, w->backward ? "bwd" : "fwd", w->bytes / 1e6, w->flops / 1e6, 1e6 * floors[0],
           1e6 * floors[1]);
    json_line(json, w);
    adze_text_printf(json, ", \"floor_rtx_4090_s\": %.9g, \"floor_h100_s\": %.9g}", floors[0], floors[1]);
}

static adze_status print_floors(const adze_options *o, adze_text *json)
{
    adze_status st = ADZE_OK;
    adze_ctx *ctx = NULL;
    adze_ctx_opts opts = ADZE_CTX_OPTS;
    opts.device = "cpu", opts.threads = 1;
    TRY(adze_ctx_create(&ctx, &opts));
    printf("%-18s %-18s %-3s %10s %10s   %s us   %s us\n", "case", "op", "", "MB", "MFLOP", cards[0].name, cards[1].name);
    for (int i = 0; i < kernel_case_count(); i++) {
        bench_plan b;
        const kernel_case *c = kernel_case_at(i);
        if (!is_wanted(o, c->name)) continue;
        TRY(bench_plan_create(&b, ctx, c, size_of(o)));
        for (int32_t k = 0; k < adze_plan_step_count(b.plan); k++) {
            const adze_plan_step s = adze_plan_step_at(b.plan, k);
            const work w = work_of_step(c->name, &s);
            if (s.n_bytes > 0.0) report_floors(&w, json);
        }
        bench_plan_destroy(&b);
    }
    for (int i = 0; i < device_call_count(); i++) {
        const device_call_facts f = device_call_facts_at(i, size_of(o));
        const work w = work_of_call(&f);
        if (is_wanted(o, f.name)) report_floors(&w, json);
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

static adze_status run(const adze_options *o)
{
    adze_status st = ADZE_OK;
    adze_text json = ADZE_TEXT_EMPTY;
    if (adze_options_flag(o, "list")) {
        print_names();
        return ADZE_OK;
    }
    TRY(check_names(o));
    adze_text_append(&json, "[");
    if (adze_options_flag(o, "static")) {
        TRY(print_floors(o, &json));
        TRY(print_logs(o));
    } else TRY(measure_all(o, &json));
    TRY(write_json(o, &json));
done:
    adze_text_destroy(&json);
    return st;
}

int main(int argc, char **argv)
{
    static const bench_program program = { .name = "bench-kernels", .usage = "bench-kernels [options]",
                                           .about = "Every kernel at the benchmark's shapes, checked, timed, beside its floor.",
                                           .examples = "  bench-kernels --static\n  bench-kernels --device cpu --only relu\n",
                                           .table = table, .n_options = sizeof table / sizeof *table, .max_args = 0, .run = run };
    return bench_main(&program, argc, argv);
}
