/* golden_patchcore.c - reference cases of the PatchCore kernels: patchcore.knn, .kcenter, .map, .score.
 * Point sets follow golden/patchcore/README.md: floor, offset, rounding to float32, copies, zero_rows, from_bank. */
#include "tests/golden/golden.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/kcenter.h"
#include "core/knn.h"
#include "core/map_post.h"

typedef struct {
    float *x;
    int64_t n, D;
} points;

static void *array_of(int64_t n, size_t size_bytes)
{
    void *p = calloc((size_t)(n > 0 ? n : 1), size_bytes);
    if (!p) {
        fprintf(stderr, "golden: out of memory for %" PRId64 " elements\n", n);
        exit(4);
    }
    return p;
}

static int64_t at_of(const json_t *list, size_t i) { return json_integer_value(json_array_get(list, i)); }

static void copy_rows(points *to, const points *from, const json_t *pairs)
{
    for (size_t i = 0; i < json_array_size(pairs); i++) {
        const json_t *pair = json_array_get(pairs, i);
        memcpy(to->x + at_of(pair, 0) * to->D, from->x + at_of(pair, 1) * from->D, (size_t)to->D * sizeof(float));
    }
}

/* `bank` may be NULL: only queries have from_bank. */
static points points_of(const json_t *spec, const points *bank)
{
    const json_t *shape = json_object_get(spec, "shape"), *zero = json_object_get(spec, "zero_rows");
    const char *name = golden_string(spec, "name", "");
    double lo = golden_real(spec, "lo", -1.0), hi = golden_real(spec, "hi", 1.0), offset = golden_real(spec, "offset", 0.0);
    bool whole = json_is_true(json_object_get(spec, "floor"));
    points p = { .n = at_of(shape, 0), .D = at_of(shape, 1) };
    p.x = array_of(p.n * p.D, sizeof *p.x);
    for (int64_t i = 0; i < p.n * p.D; i++) {
        double unit = (double)(golden_hash(name, (uint64_t)i) >> 40) * 0x1p-23 - 1.0;
        double v = lo + (hi - lo) * (unit + 1.0) / 2.0;
        p.x[i] = (float)((whole ? floor(v) : v) + offset);
    }
    copy_rows(&p, &p, json_object_get(spec, "copies"));
    for (size_t i = 0; i < json_array_size(zero); i++) memset(p.x + at_of(zero, i) * p.D, 0, (size_t)p.D * sizeof(float));
    if (bank) copy_rows(&p, bank, json_object_get(spec, "from_bank"));
    return p;
}

static bool succeeded(golden *g, const char *what, adze_status st)
{
    return st == ADZE_OK || golden_expect(g, what, false, "%s", adze_error_message());
}

static const json_t *list_of(const golden *g, const char *name)
{
    return json_object_get(json_object_get(g->root, "lists"), name);
}

static void check_list(golden *g, const char *name, const json_t *want, const int64_t *got, int64_t n)
{
    int64_t same = 0;
    while (same < n && same < (int64_t)json_array_size(want) && at_of(want, (size_t)same) == got[same]) same++;
    golden_expect(g, name, same == n && n == (int64_t)json_array_size(want), "%" PRId64 " of %zu equal", same,
                  json_array_size(want));
}

static adze_bank *bank_of(golden *g, const points *p)
{
    adze_bank *b = NULL;
    adze_bank_opts opts = ADZE_BANK_OPTS;
    opts.precision = strcmp(g->precision, "bf16") == 0 ? ADZE_KNN_BF16 : ADZE_KNN_FASTEST;
    adze_status st = adze_bank_create(&b, p->n, p->D, &opts);
    if (st == ADZE_OK) st = adze_bank_append(b, p->x, p->n);
    if (st == ADZE_OK) st = adze_bank_seal(b);
    if (succeeded(g, "bank", st)) return b;
    adze_bank_destroy(b);
    return NULL;
}

static void run_knn(golden *g)
{
    const json_t *ks = json_object_get(g->setup, "k"), *rows = list_of(g, "index_of_rows");
    points bank = points_of(json_object_get(g->setup, "bank"), NULL);
    points queries = points_of(json_object_get(g->setup, "queries"), &bank);
    int64_t k = 0;
    for (size_t i = 0; i < json_array_size(ks); i++) k = at_of(ks, i) > k ? at_of(ks, i) : k;
    float *dist = array_of(queries.n * k, sizeof *dist), *score = array_of(queries.n, sizeof *score);
    int32_t *idx = array_of(queries.n * k, sizeof *idx);
    int64_t *listed = array_of(queries.n * k, sizeof *listed), n = 0;
    adze_bank *b = bank_of(g, &bank);
    if (b && succeeded(g, "query", adze_bank_query(b, queries.x, queries.n, (int)k, dist, idx, NULL))) {
        golden_check(g, "distance", dist, queries.n * k);
        for (size_t i = 0; i < json_array_size(ks); i++) {
            char name[32];
            snprintf(name, sizeof name, "score.k%" PRId64, at_of(ks, i));
            for (int64_t q = 0; q < queries.n; q++) {
                double sum = 0.0;
                for (int64_t j = 0; j < at_of(ks, i); j++) sum += (double)dist[q * k + j];
                score[q] = (float)(sum / (double)at_of(ks, i));
            }
            golden_check(g, name, score, queries.n);
        }
        int64_t n_rows = rows ? (int64_t)json_array_size(rows) : queries.n;
        for (int64_t r = 0; r < n_rows; r++)
            for (int64_t j = 0; j < k; j++) listed[n++] = idx[(rows ? at_of(rows, (size_t)r) : r) * k + j];
        check_list(g, "index", list_of(g, "index"), listed, n);
    }
    adze_bank_destroy(b);
    free(bank.x), free(queries.x), free(dist), free(score), free(idx), free(listed);
}

/* Largest distance of a point to its nearest pick, -1 on failure. */
static double cover_of(golden *g, const points *p, const int64_t *picks, int64_t K)
{
    adze_bank *b = NULL;
    double largest = -1.0;
    float *dist = array_of(p->n, sizeof *dist);
    adze_status st = adze_bank_create(&b, K, p->D, NULL);
    if (st == ADZE_OK) st = adze_bank_gather(b, p->x, p->n, picks, K);
    if (st == ADZE_OK) st = adze_bank_seal(b);
    if (st == ADZE_OK) st = adze_bank_query(b, p->x, p->n, 1, dist, NULL, NULL);
    if (succeeded(g, "cover", st))
        for (int64_t i = 0; i < p->n; i++) largest = fmax(largest, sqrt((double)dist[i]));
    adze_bank_destroy(b);
    free(dist);
    return largest;
}

/* `cover` is a value of the case without f32_err: its bound is the rounding of one float32 distance. */
static void check_cover(golden *g, double cover)
{
    const json_t *value = json_object_get(json_object_get(g->root, "values"), "cover");
    golden_check_double(g, "cover", value, &cover, 1, 1e-6 * golden_real(value, "absmax", 0.0) + 1e-7);
}

static void run_kcenter(golden *g)
{
    const char *init = golden_string(g->setup, "init", "");
    const json_t *spec = json_object_get(g->setup, "starts");
    points p = points_of(json_object_get(g->setup, "points"), NULL);
    int64_t K = golden_int(g->setup, "count", 0), n_starts = (int64_t)json_array_size(spec);
    int64_t *picks = array_of(K, sizeof *picks), *starts = array_of(n_starts, sizeof *starts);
    float *start = array_of(p.n, sizeof *start), *rest = array_of(p.n, sizeof *rest);
    for (int64_t i = 0; i < n_starts; i++) starts[i] = at_of(spec, (size_t)i);
    adze_kcenter_opts opts = ADZE_KCENTER_OPTS;
    opts.starts = starts, opts.n_starts = n_starts;
    if (strcmp(init, "norm") == 0) opts.init = ADZE_KCENTER_NORM, opts.n_starts = 0;
    bool known = strcmp(init, "norm") == 0 || strcmp(init, "mean") == 0;
    if (golden_expect(g, "init", known, "'%s'", init) &&
        succeeded(g, "select", adze_kcenter_select(p.x, p.n, p.D, K, &opts, picks, start, rest, NULL))) {
        check_list(g, "picks", list_of(g, "picks"), picks, K);
        golden_check(g, "start", start, p.n);
        golden_check(g, "rest", rest, p.n);
        check_cover(g, cover_of(g, &p, picks, K));
    }
    free(p.x), free(picks), free(starts), free(start), free(rest);
}

static void run_map(golden *g)
{
    const json_t *spec = json_object_get(g->setup, "patch"), *size = json_object_get(g->setup, "size");
    const json_t *shape = json_object_get(spec, "shape"), *set = json_object_get(spec, "set");
    int64_t B = at_of(shape, 0), h = at_of(shape, 1), w = at_of(shape, 2), H = at_of(size, 0), W = at_of(size, 1);
    float *patch = golden_uniform(golden_string(spec, "name", ""), golden_real(spec, "lo", -1.0),
                                  golden_real(spec, "hi", 1.0), B * h * w);
    float *up = array_of(B * H * W, sizeof *up), *map = array_of(B * H * W, sizeof *map);
    float *score = array_of(B, sizeof *score);
    for (size_t i = 0; i < json_array_size(set); i++) {
        const json_t *one = json_array_get(set, i);
        patch[(at_of(one, 0) * h + at_of(one, 1)) * w + at_of(one, 2)] = (float)json_number_value(json_array_get(one, 3));
    }
    if (succeeded(g, "upsample", adze_map_upsample(patch, B, h, w, H, W, NULL, up)) &&
        succeeded(g, "post", adze_map_post(patch, B, h, w, H, W, golden_real(g->setup, "sigma", 4.0), NULL, map))) {
        for (int64_t b = 0; b < B; b++) {
            score[b] = map[b * H * W];
            for (int64_t i = 0; i < H * W; i++) score[b] = fmaxf(score[b], map[b * H * W + i]);
        }
        golden_check(g, "upsampled", up, B * H * W);
        golden_check(g, "map", map, B * H * W);
        golden_check(g, "score", score, B);
    }
    free(patch), free(up), free(map), free(score);
}

static void run_score(golden *g)
{
    points bank = points_of(json_object_get(g->setup, "bank"), NULL);
    points queries = points_of(json_object_get(g->setup, "queries"), &bank);
    int64_t images = golden_int(g->setup, "images", 1), each = queries.n / images, n_support = 0;
    int support = (int)golden_int(g->setup, "support", 9), shown = support < bank.n ? support : (int)bank.n;
    float *dist = array_of(queries.n, sizeof *dist), *values[4];
    int32_t *idx = array_of(queries.n, sizeof *idx), *around = array_of(shown, sizeof *around);
    int64_t *patch = array_of(images, sizeof *patch), *nearest = array_of(images, sizeof *nearest);
    int64_t *all = array_of(images * shown, sizeof *all);
    for (int v = 0; v < 4; v++) values[v] = array_of(images, sizeof *values[v]);
    adze_bank *b = bank_of(g, &bank);
    bool ok = b && succeeded(g, "query", adze_bank_query(b, queries.x, queries.n, 1, dist, idx, NULL));
    for (int64_t i = 0; ok && i < images; i++) {
        adze_bank_reweight r = { 0 };
        ok = succeeded(g, "reweight", adze_bank_reweight_score(b, queries.x + i * each * queries.D, each, dist + i * each,
                                                               idx + i * each, support, &r)) &&
             succeeded(g, "neighbours", adze_bank_neighbours(b, r.nearest, shown, NULL, around));
        values[0][i] = r.score, values[1][i] = r.max, values[2][i] = dist[i * each + r.patch], values[3][i] = r.weight;
        patch[i] = r.patch, nearest[i] = r.nearest;
        for (int j = 0; j < shown; j++) all[n_support++] = around[j];
    }
    if (ok) {
        static const char *const names[] = { "score.reweighted", "score.max", "score.max_squared", "weight" };
        for (int v = 0; v < 4; v++) golden_check(g, names[v], values[v], images);
        check_list(g, "patch", list_of(g, "patch"), patch, images);
        check_list(g, "nearest", list_of(g, "nearest"), nearest, images);
        check_list(g, "support", list_of(g, "support"), all, n_support);
    }
    adze_bank_destroy(b);
    for (int v = 0; v < 4; v++) free(values[v]);
    free(bank.x), free(queries.x), free(dist), free(idx), free(around), free(patch), free(nearest), free(all);
}

bool golden_patchcore(golden *g)
{
    static const struct {
        const char *kind;
        void (*run)(golden *g);
    } kinds[] = { { "patchcore.knn", run_knn },
                  { "patchcore.kcenter", run_kcenter },
                  { "patchcore.map", run_map },
                  { "patchcore.score", run_score } };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(g->kind, kinds[i].kind) == 0) {
            kinds[i].run(g);
            return true;
        }
    return golden_patchcore_model(g);
}
