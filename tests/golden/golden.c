/* golden.c - runs reference cases: build/bin/golden [--device D] [--precision P] [--quiet] FILE.json...
 * One line per value with error and bound; exit 0 only if all pass, 1 if one fails, 2 for a wrong command line or an
 * unknown kind, 3 for a file that is no case. */
#include "tests/golden/golden.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>


/* The first prefix that fits decides: longer ones stand before shorter ones. */
static const struct {
    const char *prefix;
    golden_runner run;
} runners[] = {
    { "op.optimizer", golden_train }, { "op.clip_grad_norm", golden_train }, { "cflow.lr", golden_train },
    { "op.", golden_ops },           { "images.", golden_images },   { "weights.", golden_weights },
    { "backbone.", golden_backbones }, { "real.", golden_real_pictures }, { "metrics.", golden_metrics },
    { "patchcore.", golden_patchcore }, { "rd.", golden_rd }, { "cflow.", golden_cflow },
    { "simplenet.", golden_simplenet }, { "destseg.", golden_destseg },
};

/* 2 * unit(name.coarse) at the pixel's block + 0.5 * unit(name). */
static float *blocks(const char *name, const int64_t shape[4], int64_t n, int block)
{
    char coarse_name[256];
    snprintf(coarse_name, sizeof coarse_name, "%s.coarse", name);
    int64_t h = shape[2] / block, w = shape[3] / block;
    float *x = golden_unit(name, n), *coarse = golden_unit(coarse_name, shape[0] * shape[1] * h * w);
    for (int64_t i = 0; i < n; i++) {
        int64_t plane = i / (shape[2] * shape[3]), y = i / shape[3] % shape[2], column = i % shape[3];
        x[i] = (float)(2.0 * (double)coarse[(plane * h + y / block) * w + column / block] + 0.5 * (double)x[i]);
    }
    free(coarse);
    return x;
}

adze_status golden_context(const golden *g, adze_ctx **out)
{
    adze_ctx_opts opts = ADZE_CTX_OPTS;
    opts.reference_only = strcmp(g->device, "reference") == 0;
    opts.device = opts.reference_only ? "cpu" : g->device;
    adze_status st = adze_precision_parse(g->precision, &opts.precision);
    return st == ADZE_OK ? adze_ctx_create(out, &opts) : st;
}

float *golden_tensor(const json_t *spec, int64_t shape[8], int *rank, int64_t *n)
{
    const json_t *dims = json_object_get(spec, "shape");
    *rank = (int)json_array_size(dims);
    *n = 1;
    for (int d = 0; d < *rank && d < 8; d++) *n *= shape[d] = json_integer_value(json_array_get(dims, (size_t)d));
    const char *rule = golden_string(spec, "rule", ""), *name = golden_string(spec, "name", "");
    int block = 0;
    double lo = golden_real(spec, "lo", -1.0), hi = golden_real(spec, "hi", 1.0);
    if (strcmp(rule, "unit") == 0) return golden_unit(name, *n);
    if (strcmp(rule, "weight") == 0) return golden_weight(name, shape, *rank);
    if (strncmp(rule, "uniform", 7) == 0) {
        sscanf(rule + 7, "%lf %lf", &lo, &hi);
        return golden_uniform(name, lo, hi, *n);
    }
    if (strncmp(rule, "constant ", 9) == 0) {
        float *x = golden_floats(*n);
        for (int64_t i = 0; i < *n; i++) x[i] = (float)strtod(rule + 9, NULL);
        return x;
    }
    if (strncmp(rule, "list ", 5) == 0) {
        float *x = golden_floats(*n);
        char *p = (char *)rule + 5;
        for (int64_t i = 0; i < *n; i++) x[i] = (float)strtod(p, &p);
        return x;
    }
    if (sscanf(rule, "blocks %d", &block) == 1 && *rank == 4) return blocks(name, shape, *n, block);
    fprintf(stderr, "golden: unknown rule '%s'\n", rule);
    return NULL;
}

const char *golden_string(const json_t *object, const char *key, const char *fallback)
{
    const json_t *v = json_object_get(object, key);
    return json_is_string(v) ? json_string_value(v) : fallback;
}

int64_t golden_int(const json_t *object, const char *key, int64_t fallback)
{
    const json_t *v = json_object_get(object, key);
    return json_is_integer(v) ? json_integer_value(v) : json_is_real(v) ? (int64_t)json_real_value(v) : fallback;
}

double golden_real(const json_t *object, const char *key, double fallback)
{
    const json_t *v = json_object_get(object, key);
    return json_is_number(v) ? json_number_value(v) : fallback;
}

static void report(golden *g, bool ok, const char *name, double error, double bound)
{
    if (ok) g->n_ok++;
    else g->n_failed++;
    if (!ok || !g->quiet)
        printf("%s %s: error %.3g bound %.3g %s\n", g->file, name, error, bound, ok ? "ok" : "FAIL");
}

static int64_t count_of(const json_t *value)
{
    const json_t *dims = json_object_get(value, "shape");
    int64_t n = 1;
    for (size_t d = 0; d < json_array_size(dims); d++) n *= json_integer_value(json_array_get(dims, d));
    return n;
}

static bool judge(golden *g, const char *name, const json_t *value, const double *got, const float *got_f, int64_t n,
                  double bound)
{
    const json_t *at = json_object_get(value, "at"), *is = json_object_get(value, "is");
    if (!at || json_array_size(at) != json_array_size(is) || json_array_size(at) == 0)
        return golden_expect(g, name, false, "the case has no samples of this name");
    if (count_of(value) != n)
        return golden_expect(g, name, false, "%lld elements, the case has %lld", (long long)n, (long long)count_of(value));
    double worst = 0.0;
    for (size_t i = 0; i < json_array_size(at); i++) {
        int64_t where = json_integer_value(json_array_get(at, i));
        double want = json_number_value(json_array_get(is, i));
        double error = fabs((got ? got[where] : (double)got_f[where]) - want);
        if (!(error <= worst)) worst = error; /* NaN sticks */
    }
    bool ok = worst <= bound;
    report(g, ok, name, worst, bound);
    return ok;
}

bool golden_is_bf16(const golden *g) { return strcmp(g->precision, "bf16") == 0; }

double golden_bound(const golden *g, double f32_err, double absmax, double scale)
{
    if (golden_is_bf16(g)) return scale * 0x1p15 * f32_err + 0x1p-7 * absmax;
    return 4.0 * scale * f32_err + 1e-6 * absmax;
}

bool golden_check_value(golden *g, const char *name, const json_t *value, const float *got, int64_t n, double scale)
{
    double absmax = golden_real(value, "absmax", 0.0);
    double bound = absmax == 0.0 ? 1e-7 : golden_bound(g, golden_real(value, "f32_err", 0.0), absmax, scale);
    return judge(g, name, value, NULL, got, n, bound);
}

bool golden_check(golden *g, const char *name, const float *got, int64_t n)
{
    return golden_check_value(g, name, json_object_get(json_object_get(g->root, "values"), name), got, n, 1.0);
}

double golden_sampled_rms(const json_t *value, const float *got, size_t *n)
{
    const json_t *at = json_object_get(value, "at"), *is = json_object_get(value, "is");
    double sum = 0.0;
    *n = json_array_size(at);
    for (size_t i = 0; i < *n; i++) {
        double d = got[json_integer_value(json_array_get(at, i))] - json_number_value(json_array_get(is, i));
        sum += d * d;
    }
    return *n > 0 ? sqrt(sum / (double)*n) : 0.0;
}

double golden_size(const json_t *value) { return hypot(golden_real(value, "std", 0.0), golden_real(value, "mean", 0.0)); }

bool golden_check_within(golden *g, const char *name, const json_t *value, const float *got, int64_t n, double bound)
{
    return judge(g, name, value, NULL, got, n, bound);
}

bool golden_check_double(golden *g, const char *name, const json_t *value, const double *got, int64_t n, double bound)
{
    return judge(g, name, value, got, NULL, n, bound);
}

bool golden_expect(golden *g, const char *name, bool ok, const char *fmt, ...)
{
    if (ok) g->n_ok++;
    else g->n_failed++;
    if (!ok || !g->quiet) {
        char text[512];
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(text, sizeof text, fmt, ap);
        va_end(ap);
        printf("%s %s: %s %s\n", g->file, name, text, ok ? "ok" : "FAIL");
    }
    return ok;
}

void golden_nchw_to_nhwc(const float *x, int64_t N, int64_t C, int64_t H, int64_t W, float *y)
{
    for (int64_t n = 0; n < N; n++)
        for (int64_t c = 0; c < C; c++)
            for (int64_t p = 0; p < H * W; p++) y[(n * H * W + p) * C + c] = x[(n * C + c) * H * W + p];
}

void golden_nhwc_to_nchw(const float *x, int64_t N, int64_t C, int64_t H, int64_t W, float *y)
{
    for (int64_t n = 0; n < N; n++)
        for (int64_t c = 0; c < C; c++)
            for (int64_t p = 0; p < H * W; p++) y[(n * C + c) * H * W + p] = x[(n * H * W + p) * C + c];
}

/* "a/b/c.json" -> "a/b" and "a/b/../.." */
static void split_path(const char *file, char *folder, size_t folder_bytes, char *root, size_t root_bytes)
{
    const char *slash = strrchr(file, '/');
    snprintf(folder, folder_bytes, "%.*s", slash ? (int)(slash - file) : 1, slash ? file : ".");
    snprintf(root, root_bytes, "%s/../..", folder);
}

static int run_file(golden *g)
{
    char folder[4096], root[4096 + 8];
    split_path(g->file, folder, sizeof folder, root, sizeof root);
    g->folder = folder, g->area_root = root;
    json_error_t why;
    g->root = json_load_file(g->file, 0, &why);
    g->setup = json_object_get(g->root, "setup");
    g->kind = golden_string(g->setup, "kind", NULL);
    if (!g->kind) {
        fprintf(stderr, "golden: %s: not a case file: %s\n", g->file, g->root ? "no setup.kind" : why.text);
        json_decref(g->root);
        return 3;
    }
    int known = 0;
    for (size_t i = 0; i < sizeof runners / sizeof *runners; i++)
        if (strncmp(g->kind, runners[i].prefix, strlen(runners[i].prefix)) == 0) {
            known = runners[i].run(g);
            break;
        }
    if (!known) fprintf(stderr, "golden: %s: unknown kind '%s'\n", g->file, g->kind);
    fflush(stdout);
    json_decref(g->root);
    return known ? 0 : 2;
}

int main(int argc, char **argv)
{
    golden g = { .device = "cpu", .precision = "f32" };
    int worst = 0, n_files = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--quiet") == 0) g.quiet = true;
        else if (strcmp(argv[i], "--device") == 0 && i + 1 < argc) g.device = argv[++i];
        else if (strcmp(argv[i], "--precision") == 0 && i + 1 < argc) g.precision = argv[++i];
        else if (argv[i][0] == '-') {
            printf("usage: golden [--device cpu] [--precision f32|bf16] [--quiet] FILE.json...\n");
            return strcmp(argv[i], "--help") == 0 ? 0 : 2;
        } else {
            g.file = argv[i];
            int code = run_file(&g);
            worst = code > worst ? code : worst;
            n_files++;
        }
    }
    if (n_files == 0) {
        fprintf(stderr, "golden: no case file given; --help shows the usage\n");
        return 2;
    }
    printf("%d files: %d values ok, %d failed\n", n_files, g.n_ok, g.n_failed);
    return worst ? worst : g.n_failed ? 1 : 0;
}
