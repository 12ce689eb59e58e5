/* golden_real.c - real networks on real pictures: decoding, resizing, normalising, and every feature of the backbone.
 * Entry: golden_real_pictures(). The weights come through checkpoints/: a folder of arrays beside the case, or the small backbone's
 * weights file that `./run setup` makes. Without pictures or weights the case is skipped and said so. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/backbone_tensors.h"
#include "checkpoints/tensor_file.h"
#include "checkpoints/weights.h"
#include "core/context.h"
#include "core/file.h"
#include "core/params.h"
#include "core/plan.h"
#include "datasets/decode.h"
#include "datasets/normalize.h"
#include "datasets/resize.h"
#include "models/backbone.h"
#include "tests/golden/golden.h"

enum { PATH = 4096 };

/* One of the two sources of weights. */
typedef struct {
    adze_tensor_file *folder;
    adze_weights *file;
    adze_backbone_list names; /* of the network, with the names that other files use */
} source;

static void source_close(source *s)
{
    adze_tensor_file_destroy(s->folder);
    adze_weights_close(s->file);
    adze_backbone_list_destroy(&s->names);
}

/* The weights file of the small backbone: where the environment says, else in the caches of the run script. */
static bool small_backbone(const char *name, char path[PATH])
{
    const char *given = getenv("ADZE_TEST_BACKBONE"), *cache = getenv("XDG_CACHE_HOME");
    if (given) snprintf(path, PATH, "%s", given);
    else if (cache && *cache) snprintf(path, PATH, "%s/adze/%s.h5", cache, name);
    else snprintf(path, PATH, ".cache/%s.h5", name);
    return adze_file_exists(path);
}

/* False if there are none here; a damaged file is a failure, not an absence. */
static bool source_open(golden *g, source *s, const adze_backbone_info *net)
{
    char path[PATH];
    const char *folder = golden_string(g->setup, "weights", NULL);
    if (folder) snprintf(path, sizeof path, "%s/%s", g->area_root, folder);
    if (folder ? !adze_folder_exists(path) : !small_backbone(net->name, path)) {
        fprintf(stderr, "golden: %s: SKIPPED, no weights at %s\n", g->file, path);
        return false;
    }
    adze_status st = adze_backbone_tensors(net->name, folder != NULL, &s->names);
    if (st == ADZE_OK) st = folder ? adze_tensor_file_read(&s->folder, path, NULL) : adze_weights_open(&s->file, path);
    if (st != ADZE_OK) golden_expect(g, "weights", false, "%s", adze_error_message());
    return st == ADZE_OK;
}

/* Borrowed until the next call; NULL if there is no such tensor. */
static const adze_stored_tensor *source_find(source *s, const char *name)
{
    const adze_stored_tensor *t = NULL;
    if (s->folder) return adze_tensor_file_find(s->folder, name);
    return adze_weights_find(s->file, name, &t) == ADZE_OK ? t : NULL;
}

static bool pictures_are_here(const golden *g)
{
    size_t i;
    json_t *name;
    json_array_foreach(json_object_get(g->setup, "images"), i, name) {
        char path[PATH];
        snprintf(path, sizeof path, "%s/%s", g->area_root, json_string_value(name));
        if (adze_file_exists(path)) continue;
        fprintf(stderr, "golden: %s: SKIPPED, no picture at %s\n", g->file, path);
        return false;
    }
    return true;
}

/* Whole bytes: the bound of golden_check() is below one. */
static void check_image(golden *g, const char *stage, size_t i, const adze_image *im)
{
    char name[64];
    int64_t n = im->H * im->W * im->C;
    float *x = golden_floats(n);
    snprintf(name, sizeof name, "image%zu.%s", i, stage);
    for (int64_t q = 0; q < n; q++) x[q] = im->data[q];
    golden_check(g, name, x, n);
    free(x);
}

static void read_floats(const json_t *list, float out[3])
{
    for (size_t c = 0; c < 3; c++) out[c] = (float)json_number_value(json_array_get(list, c));
}

/* The pictures as the network's input (images,size,size,3), checked on the way. */
static adze_status read_pictures(golden *g, int64_t size, float *x)
{
    adze_status st = ADZE_OK;
    adze_image decoded = { 0 }, resized = { 0 };
    adze_normalize table;
    float mean[3], std[3];
    int64_t pixels = size * size;
    size_t i, n = json_array_size(json_object_get(g->setup, "images"));
    json_t *name;
    read_floats(json_object_get(g->setup, "mean"), mean);
    read_floats(json_object_get(g->setup, "std"), std);
    adze_normalize_init(&table, mean, std);
    float *planes = golden_floats((int64_t)n * 3 * pixels);
    json_array_foreach(json_object_get(g->setup, "images"), i, name) {
        char path[PATH];
        snprintf(path, sizeof path, "%s/%s", g->area_root, json_string_value(name));
        TRY(adze_image_decode_file(&decoded, path, NULL, NULL));
        TRY(adze_image_resize(&resized, &decoded, size, size, ADZE_FILTER_BILINEAR));
        check_image(g, "decoded", i, &decoded);
        check_image(g, "resized", i, &resized);
        adze_normalize_nhwc(&table, resized.data, pixels, x + (int64_t)i * pixels * 3);
        adze_normalize_chw(&table, resized.data, pixels, planes + (int64_t)i * pixels * 3);
        adze_image_destroy(&decoded);
        adze_image_destroy(&resized);
    }
    golden_check(g, "input", planes, (int64_t)n * 3 * pixels);
done:
    adze_image_destroy(&decoded);
    adze_image_destroy(&resized);
    free(planes);
    return st;
}

static adze_status fill(source *s, adze_params *params)
{
    adze_status st = ADZE_OK;
    float *w = NULL;
    for (int i = 0; i < adze_params_count(params); i++) {
        const char *name = adze_params_name(params, i);
        adze_shape shape = adze_params_shape(params, i);
        const adze_stored_tensor *t = source_find(s, name);
        REQUIRE(t && t->count == adze_shape_count(&shape), ADZE_EINPUT, "weight '%s' is missing or of another size", name);
        w = golden_floats(t->count);
        adze_dtype_to_f32(t->type, t->data, t->count, w);
        TRY(adze_params_write(params, i, w));
        free(w);
        w = NULL;
    }
done:
    free(w);
    return st;
}

/* "file.NAME": a tensor as the source has it, by the name that its own file uses. */
static void check_stored(golden *g, source *s, const char *value)
{
    const char *wanted = value + strlen("file."), *name = wanted;
    for (int64_t i = 0; i < s->names.count; i++)
        if (strcmp(s->names.tensor[i].source_name, wanted) == 0) name = s->names.tensor[i].name;
    const adze_stored_tensor *t = source_find(s, name);
    if (!golden_expect(g, value, t != NULL, "is tensor '%s'", name)) return;
    float *w = golden_floats(t->count);
    adze_dtype_to_f32(t->type, t->data, t->count, w);
    golden_check(g, value, w, t->count);
    free(w);
}

/* "layer1" is the output of the stage's last block, "layer1.1" in a ResNet-18. */
static adze_value find_output(const adze_graph *graph, const char *name)
{
    char last[72];
    snprintf(last, sizeof last, "%s.1", name);
    adze_value v = adze_graph_find(graph, name);
    return v != ADZE_NONE ? v : adze_graph_find(graph, last);
}

/* "NAME.imageI": picture I's part of an output, planes first. */
static adze_status check_feature(golden *g, adze_plan *plan, const adze_graph *graph, const char *value)
{
    char name[64];
    const char *dot = strstr(value, ".image");
    int64_t image = dot ? strtol(dot + strlen(".image"), NULL, 10) : 0;
    snprintf(name, sizeof name, "%.*s", dot ? (int)(dot - value) : (int)strlen(value), value);
    adze_value v = find_output(graph, name);
    if (!golden_expect(g, value, v != ADZE_NONE, "is a value of the network")) return ADZE_OK;
    adze_shape s = adze_graph_shape(graph, v);
    int64_t n = adze_shape_count(&s), part = n / s.dim[0];
    float *x = golden_floats(n), *y = golden_floats(n);
    adze_status st = adze_plan_read(plan, v, x);
    if (st == ADZE_OK && s.rank == 4) {
        golden_nhwc_to_nchw(x + image * part, 1, s.dim[3], s.dim[1], s.dim[2], y);
        golden_check(g, value, y, part);
    } else if (st == ADZE_OK) golden_check(g, value, x, n);
    free(x), free(y);
    return st;
}

static adze_status check_classes(golden *g, adze_plan *plan, const adze_graph *graph)
{
    adze_value v = adze_graph_find(graph, "logits");
    adze_shape s = adze_graph_shape(graph, v);
    float *x = golden_floats(adze_shape_count(&s));
    adze_status st = adze_plan_read(plan, v, x);
    for (int64_t i = 0; st == ADZE_OK && i < s.dim[0]; i++) {
        int64_t best = 0;
        for (int64_t c = 1; c < s.dim[1]; c++)
            if (x[i * s.dim[1] + c] > x[i * s.dim[1] + best]) best = c;
        const json_t *classes = json_object_get(json_object_get(json_object_get(g->root, "values"), "top1"), "class");
        golden_expect(g, "top1", best == json_integer_value(json_array_get(classes, (size_t)i)), "image %d is of class %d",
                      (int)i, (int)best);
    }
    free(x);
    return st;
}

static adze_status run_network(golden *g, source *s, const adze_backbone_info *net, int64_t size, const float *x)
{
    adze_status st = ADZE_OK;
    adze_ctx *ctx = NULL;
    adze_graph *graph = NULL;
    adze_params *params = NULL;
    adze_plan *plan = NULL;
    const char *name;
    json_t *value, *values = json_object_get(g->root, "values");
    int64_t N = (int64_t)json_array_size(json_object_get(g->setup, "images"));
    adze_backbone_opts opts = ADZE_BACKBONE_OPTS;
    opts.folded = s->folder != NULL;
    opts.head = json_object_get(values, "logits") != NULL;
    opts.keep = 1;
    opts.last_tap = opts.head ? net->n_taps - 1 : 0;
    json_object_foreach(values, name, value)
        for (int t = 0; t < net->n_taps; t++)
            if (strncmp(name, net->tap_name[t], strlen(net->tap_name[t])) == 0 && t > opts.last_tap) opts.last_tap = t;
    TRY(golden_context(g, &ctx));
    TRY(adze_graph_create(&graph));
    adze_value input = adze_graph_input(graph, "image", ADZE_SHAPE(N, size, size, 3)), tap[ADZE_BACKBONE_TAPS];
    TRY(adze_backbone_build(graph, net->name, input, &opts, tap, NULL));
    TRY(adze_params_create(&params, ctx, graph));
    TRY(fill(s, params));
    TRY(adze_plan_create(&plan, ctx, graph, params, &ADZE_PLAN_OPTS));
    TRY(adze_plan_write(plan, input, x));
    TRY(adze_plan_run(plan));
    json_object_foreach(values, name, value) {
        if (strcmp(name, "top1") == 0) TRY(check_classes(g, plan, graph));
        else if (strncmp(name, "file.", 5) == 0) check_stored(g, s, name);
        else if (strncmp(name, "image", 5) != 0 && strcmp(name, "input") != 0) TRY(check_feature(g, plan, graph, name));
    }
done:
    adze_plan_destroy(plan);
    adze_params_destroy(params);
    adze_graph_destroy(graph);
    adze_ctx_destroy(ctx);
    return st;
}

bool golden_real_pictures(golden *g)
{
    const adze_backbone_info *net;
    source s = { 0 };
    if (adze_backbone_find(g->kind + strlen("real."), &net) != ADZE_OK) return false;
    if (pictures_are_here(g) && source_open(g, &s, net)) {
        int64_t size = golden_int(g->setup, "size", 256), N = (int64_t)json_array_size(json_object_get(g->setup, "images"));
        float *x = golden_floats(N * size * size * 3);
        adze_status st = read_pictures(g, size, x);
        if (st == ADZE_OK) st = run_network(g, &s, net, size, x);
        if (st != ADZE_OK) golden_expect(g, "run", false, "%s", adze_error_message());
        free(x);
    }
    source_close(&s);
    return true;
}
