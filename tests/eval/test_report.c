/* test_report.c - heat-maps, result files and the report from made-up results.
 * test_report PATH writes that report to PATH instead, to be looked at in a browser. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "core/file.h"
#include "core/hash.h"
#include "core/memory.h"
#include "datasets/encode_png.h"
#include "eval/escape.h"
#include "eval/heatmap.h"
#include "eval/report.h"
#include "eval/result_table.h"

enum { SIDE = 64, PIXELS = SIDE * SIDE, CLASSES = 3, IMAGES = 40 };

typedef struct {
    adze_metrics_result metrics[CLASSES];
    adze_image_row image[CLASSES][IMAGES];
    char path[CLASSES][IMAGES][64];
    adze_class_result cls[CLASSES];
    adze_results results;
    unsigned char *png; /* the last picture given, owned */
} scene;

static const char *const names[CLASSES] = { "pcb", "<script>alert(1)</script>&\"'_|", "all good" };
static const adze_fact protocol[] = {
    { "size", "256", true }, { "resize", "bilinear, antialiased", false }, { "labels", "mask after resize", false },
};
static const adze_fact run_facts[] = {
    { "method", "patchcore", false },
    { "backbone", "resnet18, layer2 + layer3", false },
    { "device", "cpu, 2 threads", false },
    { "time", "load 1.2 s, score 8.4 s, metrics 0.1 s", false },
    { "peak memory", "412 MiB", false },
    { "command", "adze eval --model runs/pcb --data <data>/surfaces --out out --save-maps --heatmaps", false },
};
static const char *const run_notes[] = { "Thresholds of best F1 are chosen with the test labels: on a line they will be worse." };

static double noise(uint64_t i)
{
    return (double)(adze_splitmix64(i) >> 40) * 0x1p-24;
}

/* Image i of class c: a disc of defect on every third image (none in the last class), smooth noise around it. */
static void make_image(int c, int i, float *map, unsigned char *mask, unsigned char *rgb)
{
    const uint64_t key = (uint64_t)(c * 1000 + i) << 24;
    const bool bad = i % 3 == 0 && c != 2;
    const double cy = 10 + 44 * noise(key + 1), cx = 10 + 44 * noise(key + 2), r = i == 9 ? 0.0 : 3 + 7 * noise(key + 3);
    const double strength = 0.3 + 1.5 * noise(key + 4);
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) {
            double d2 = (y - cy) * (y - cy) + (x - cx) * (x - cx), fine = noise(key + 100 + (uint64_t)(y * SIDE + x));
            double v = 1.0 + 0.3 * sin(0.2 * y + i) * cos(0.15 * x + c) + 0.25 * fine;
            bool inside = bad && r > 0.0 && d2 <= r * r;
            if (bad) v += strength * exp(-d2 / (2.0 * (r + 2.0) * (r + 2.0)));
            map[y * SIDE + x] = (float)v;
            mask[y * SIDE + x] = inside;
            double base = 90 + 40 * ((x / 8 + y / 8) % 2) + 20 * fine - (inside ? 60 : 0);
            for (int k = 0; k < 3; k++) rgb[3 * (y * SIDE + x) + k] = (unsigned char)(base + 15 * k);
        }
}

static void scene_destroy(scene *s)
{
    if (!s) return;
    adze_free(s->png);
    free(s);
}

static scene *scene_create(void)
{
    scene *s = calloc(1, sizeof *s);
    assert_non_null(s);
    static float map[PIXELS];
    static unsigned char mask[PIXELS], rgb[3 * PIXELS];
    for (int c = 0; c < CLASSES; c++) {
        adze_metrics_opts o = ADZE_METRICS_OPTS;
        o.H = o.W = SIDE, o.max_images = IMAGES;
        adze_metrics *m;
        assert_int_equal(adze_metrics_create(&m, &o), ADZE_OK);
        for (int i = 0; i < IMAGES; i++) {
            make_image(c, i, map, mask, rgb);
            adze_image_row *row = &s->image[c][i];
            row->anomalous = i % 3 == 0 && c != 2;
            snprintf(s->path[c][i], sizeof s->path[c][i], "%s/%s/%03d.png", c == 1 ? "=x<b>" : "pcb/test",
                     row->anomalous ? "scratch" : "good", i);
            row->path = s->path[c][i];
            assert_int_equal(adze_metrics_add(m, row->path, map, mask, row->anomalous, &row->score, &row->label), ADZE_OK);
        }
        assert_int_equal(adze_metrics_finish(m, &s->metrics[c]), ADZE_OK);
        adze_metrics_destroy(m);
        s->cls[c] = (adze_class_result){ .name = names[c], .metrics = &s->metrics[c], .image = s->image[c],
                                         .n_images = IMAGES, .threshold = c == 0 ? 1.9 : NAN };
    }
    s->results = (adze_results){ .model = "patchcore resnet18 runs/pcb", .protocol = protocol, .n_protocol = 3,
                                 .cls = s->cls, .n_classes = CLASSES };
    return s;
}

static adze_status give_picture(void *user, int64_t cls, int64_t image, adze_report_picture_kind kind,
                                const unsigned char **png, size_t *n_bytes)
{
    adze_status st = ADZE_OK;
    scene *s = user;
    static float map[PIXELS];
    static unsigned char mask[PIXELS], rgb[3 * PIXELS];
    adze_picture heat = { 0, 0, NULL };
    adze_heatmap_opts o = ADZE_HEATMAP_OPTS;
    o.low = 0.7, o.high = 2.5, o.min_side = 128;
    make_image((int)cls, (int)image, map, mask, rgb);
    if (kind == ADZE_REPORT_MASK)
        for (int i = 0; i < PIXELS; i++) memset(rgb + 3 * i, mask[i] ? 255 : 0, 3);
    adze_image im = { rgb, SIDE, SIDE, 3 };
    if (kind == ADZE_REPORT_MAP) {
        TRY(adze_heatmap_map(&heat, map, SIDE, SIDE, &o));
        im = (adze_image){ heat.rgb, heat.H, heat.W, 3 };
    }
    adze_free(s->png);
    s->png = NULL;
    TRY(adze_image_encode_png(&im, &s->png, n_bytes));
    *png = s->png;
done:
    adze_picture_destroy(&heat);
    return st;
}

static adze_report_opts report_opts(scene *s)
{
    adze_report_opts o = ADZE_REPORT_OPTS;
    o.title = "PatchCore on <made-up> boards";
    o.fact = run_facts, o.n_facts = 6, o.note = run_notes, o.n_notes = 1, o.picture = give_picture, o.user = s;
    return o;
}

static int occurrences(const char *text, const char *word)
{
    int n = 0;
    for (const char *p = text; (p = strstr(p, word)); p += strlen(word)) n++;
    return n;
}

/* Every element that is opened is closed in order; attribute values are quoted. Void elements stand alone. */
static void assert_well_formed(const char *html)
{
    char open[64][16];
    int depth = 0;
    for (const char *p = strchr(html, '<'); p; p = strchr(p, '<')) {
        char name[16] = "";
        if (strncmp(p, "<!doctype", 9) == 0) {
            p++;
            continue;
        }
        bool closing = p[1] == '/';
        assert_true(sscanf(p + 1 + closing, "%15[a-z0-9]", name) == 1);
        const char *end = p;
        for (bool quoted = false; *end && (quoted || *end != '>'); end++) {
            if (*end == '"') quoted = !quoted;
            assert_true(quoted || end == p || *end != '<');
        }
        assert_true(*end == '>');
        bool is_void = !strcmp(name, "meta") || !strcmp(name, "img") || end[-1] == '/';
        if (closing) {
            assert_true(depth > 0);
            assert_string_equal(open[--depth], name);
        } else if (!is_void) {
            assert_true(depth < 64);
            strcpy(open[depth++], name);
        }
        p = end;
        if (!closing && !strcmp(name, "style")) p = strstr(p, "</style>");
    }
    assert_int_equal(depth, 0);
}

static void the_report_is_whole_closed_and_escaped(void **state)
{
    (void)state;
    scene *s = scene_create();
    adze_report_opts o = report_opts(s);
    adze_text a = ADZE_TEXT_EMPTY, b = ADZE_TEXT_EMPTY;
    assert_int_equal(adze_report_html(&s->results, &o, &a), ADZE_OK);
    assert_int_equal(adze_report_html(&s->results, &o, &b), ADZE_OK);
    assert_string_equal(a.s, b.s); /* same bytes */
    assert_well_formed(a.s);
    assert_null(strstr(a.s, "<script"));
    assert_null(strstr(a.s, " style="));
    assert_null(strstr(a.s, "<b>/")); /* a path's own markup */
    assert_null(strstr(a.s, "http:"));
    assert_null(strstr(a.s, "https:"));
    assert_null(strstr(a.s, "href="));
    assert_null(strstr(a.s, "url("));
    assert_null(strstr(a.s, ">nan"));
    assert_null(strstr(a.s, " nan"));
    assert_non_null(strstr(a.s, "&lt;script&gt;alert(1)&lt;/script&gt;&amp;&quot;&#39;_|"));
    assert_non_null(strstr(a.s, "default-src 'none'; img-src data:; style-src 'sha256-"));
    assert_int_equal(occurrences(a.s, "<svg"), 4 * 2 + 1); /* a class without defects has no curves */
    assert_int_equal(occurrences(a.s, "src="), occurrences(a.s, "src=\"data:image/png;base64,"));
    /* 20/3 = 6 misses and 6 false alarms in two classes, false alarms alone in the third; three pictures each */
    assert_int_equal(occurrences(a.s, "<img"), 3 * (6 * 2 + 6 * 2 + 6));
    assert_non_null(strstr(a.s, "vanished when the mask was resized"));
    assert_non_null(strstr(a.s, "I-AUROC, I-AP, I-F1 undefined: no anomalous image"));
    adze_text_destroy(&a), adze_text_destroy(&b);
    scene_destroy(s);
}

static void pictures_stay_within_their_limit(void **state)
{
    (void)state;
    scene *s = scene_create();
    adze_report_opts o = report_opts(s);
    o.picture_limit_bytes = 100000;
    adze_text a = ADZE_TEXT_EMPTY;
    assert_int_equal(adze_report_html(&s->results, &o, &a), ADZE_OK);
    assert_true(a.n_bytes < 100000 + 120000);
    assert_non_null(strstr(a.s, "pictures were left out"));
    assert_well_formed(a.s);
    adze_text_destroy(&a);
    scene_destroy(s);
}

static void json_reads_back_to_the_same_doubles(void **state)
{
    (void)state;
    scene *s = scene_create();
    adze_text t = ADZE_TEXT_EMPTY;
    static const char *const limits[] = { "a \"quoted\" limit\n" };
    s->cls[0].note = limits, s->cls[0].n_notes = 1;
    assert_int_equal(adze_results_json(&s->results, &t), ADZE_OK);
    json_error_t why;
    json_t *root = json_loads(t.s, JSON_REJECT_DUPLICATES, &why);
    assert_non_null(root);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(root, "protocol"), "size")), 256);
    const json_t *classes = json_object_get(root, "classes");
    assert_int_equal(json_object_size(classes), CLASSES);
    for (int c = 0; c < CLASSES; c++) {
        const json_t *one = json_object_get(classes, names[c]), *notes = json_object_get(one, "notes");
        assert_non_null(one);
        for (int k = 0; k < ADZE_METRIC_COUNT; k++) {
            const char *key = adze_metric_name((adze_metric)k);
            const json_t *v = json_object_get(one, key);
            if (isnan(s->metrics[c].value[k])) {
                assert_true(json_is_null(v));
                assert_string_equal(json_string_value(json_object_get(notes, key)), s->metrics[c].reason[k]);
            } else {
                assert_true(json_number_value(v) == s->metrics[c].value[k]);
            }
        }
        assert_int_equal(json_integer_value(json_object_get(one, "n_bad")), s->metrics[c].n_bad);
    }
    int64_t used;
    double mean = adze_results_mean(&s->results, ADZE_METRIC_AUPRO, &used);
    assert_int_equal(used, 2); /* the class without defects has none */
    assert_float_equal(mean, (s->metrics[0].value[ADZE_METRIC_AUPRO] + s->metrics[1].value[ADZE_METRIC_AUPRO]) / 2, 1e-15);
    assert_true(json_number_value(json_object_get(json_object_get(root, "mean"), "aupro")) == mean);
    json_decref(root);
    adze_text_destroy(&t);
    scene_destroy(s);
}

static void tables_round_and_escape(void **state)
{
    (void)state;
    scene *s = scene_create();
    adze_metrics_result *m = &s->metrics[0];
    m->value[ADZE_METRIC_IMAGE_AUROC] = 0.98765;
    adze_text t = ADZE_TEXT_EMPTY;
    assert_int_equal(adze_results_markdown(&s->results, &t), ADZE_OK);
    assert_non_null(strstr(t.s, "| pcb | 98.8 |"));
    assert_non_null(strstr(t.s, "| all good | - | - |"));
    assert_non_null(strstr(t.s, "&lt;script&gt;alert(1)&lt;/script&gt;&amp;\"'\\_\\| |"));
    t.n_bytes = 0;
    assert_int_equal(adze_results_tex(&s->results, &t), ADZE_OK);
    assert_non_null(strstr(t.s, "pcb & 98.8 & "));
    assert_non_null(strstr(t.s, "\\textless{}script"));
    assert_non_null(strstr(t.s, "all good & -- & "));
    t.n_bytes = 0;
    assert_int_equal(adze_results_csv(&s->results, &t), ADZE_OK);
    assert_true(strncmp(t.s, "class,image_auroc,image_ap,", 27) == 0);
    assert_non_null(strstr(t.s, "\npcb,0.98765,"));
    assert_non_null(strstr(t.s, "\n\"<script>alert(1)</script>&\"\"'_|\","));
    t.n_bytes = 0;
    assert_int_equal(adze_results_scores(&s->results, &t), ADZE_OK);
    assert_int_equal(occurrences(t.s, "\n"), 1 + CLASSES * IMAGES);
    assert_non_null(strstr(t.s, ",\"'=x<b>/scratch/000.png\",1,"));
    adze_text_destroy(&t);
    scene_destroy(s);
}

static void escaping_keeps_each_format_intact(void **state)
{
    (void)state;
    static const struct {
        void (*escape)(adze_text *out, const char *s);
        const char *in, *want;
    } cases[] = {
        { adze_text_json, "a\"\\\n\x01\x7F", "\"a\\\"\\\\\\u000a\\u0001\\u007f\"" },
        { adze_text_json, "\xC3\xA9 \xC3 \xED\xA0\x80 \xF0\x9F\x99\x82 \xC0\xAF",
          "\"\xC3\xA9 \xEF\xBF\xBD \xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD \xF0\x9F\x99\x82 \xEF\xBF\xBD\xEF\xBF\xBD\"" },
        { adze_escape_html, "<a href='x'>&\"\x02", "&lt;a href=&#39;x&#39;&gt;&amp;&quot;\xEF\xBF\xBD" },
        { adze_escape_csv, "plain", "plain" },
        { adze_escape_csv, "a,b", "\"a,b\"" },
        { adze_escape_csv, "say \"no\"", "\"say \"\"no\"\"\"" },
        { adze_escape_csv, "=1+2", "\"'=1+2\"" },
        { adze_escape_csv, "+1", "\"'+1\"" },
        { adze_escape_csv, "-1", "\"'-1\"" },
        { adze_escape_csv, "@a", "\"'@a\"" },
        { adze_escape_tex, "50%_\\{#}$&~^", "50\\%\\_\\textbackslash{}\\{\\#\\}\\$\\&\\textasciitilde{}\\textasciicircum{}" },
        { adze_escape_markdown, "a|b*c_`", "a\\|b\\*c\\_\\`" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        adze_text t = ADZE_TEXT_EMPTY;
        cases[i].escape(&t, cases[i].in);
        assert_string_equal(t.s, cases[i].want);
        adze_text_destroy(&t);
    }
    static const double real[] = { 0.0, 0.1, 1.0 / 3.0, 0.3, 1e-300, 123456789.125, -2.5e17 };
    for (size_t i = 0; i < sizeof real / sizeof *real; i++) {
        adze_text t = ADZE_TEXT_EMPTY;
        adze_text_real(&t, real[i]);
        assert_true(strtod(t.s, NULL) == real[i]);
        adze_text_destroy(&t);
    }
}

static void files_are_written_whole(void **state)
{
    (void)state;
    char dir[] = "/tmp/adze-result-XXXXXX";
    assert_non_null(mkdtemp(dir));
    scene *s = scene_create();
    adze_report_opts o = report_opts(s);
    assert_int_equal(adze_results_write(&s->results, dir), ADZE_OK);
    static const char *const files[] = { "metrics.json", "metrics.md", "metrics.csv", "metrics.tex", "scores.csv", "report.html" };
    for (int i = 0; i < 6; i++) {
        char *path = adze_path_join(dir, files[i]);
        if (i == 5) assert_int_equal(adze_report_write(&s->results, &o, path), ADZE_OK);
        assert_true(adze_file_exists(path));
        unlink(path);
        adze_free(path);
    }
    assert_int_equal(rmdir(dir), 0); /* nothing else was left */
    assert_int_equal(adze_results_write(&s->results, dir), ADZE_EIO);
    assert_non_null(strstr(adze_error_message(), "metrics.json"));
    scene_destroy(s);
}

/* Lightness (CIE L*, from linear luminance) must rise with every step of the scale. */
static void colours_rise_in_lightness(void **state)
{
    (void)state;
    double before = -1.0;
    for (int i = 0; i <= 64; i++) {
        unsigned char rgb[3];
        adze_heatmap_colour(i / 64.0, rgb);
        static const double share[3] = { 0.2126, 0.7152, 0.0722 };
        double Y = 0.0;
        for (int k = 0; k < 3; k++) {
            double v = rgb[k] / 255.0;
            Y += share[k] * (v <= 0.04045 ? v / 12.92 : pow((v + 0.055) / 1.055, 2.4));
        }
        assert_true(Y > before);
        before = Y;
    }
    unsigned char a[3], b[3];
    adze_heatmap_colour(NAN, a), adze_heatmap_colour(-5.0, b);
    assert_memory_equal(a, b, 3);
}

static void panels_have_the_same_colours_for_the_same_score(void **state)
{
    (void)state;
    adze_heatmap_opts o = ADZE_HEATMAP_OPTS;
    o.low = 0.0, o.high = 4.0, o.nearest = true, o.min_side = 64;
    float map[16 * 16] = { 0 };
    unsigned char rgb[32 * 16 * 3];
    memset(rgb, 100, sizeof rgb);
    map[0] = 2.0f, map[255] = 9.0f;
    adze_picture p;
    assert_int_equal(adze_heatmap_panel(&p, rgb, 32, 16, map, 16, 16, &o), ADZE_OK);
    assert_int_equal(p.H, 128); /* 16 is enlarged by 4 */
    assert_true(p.W > 3 * 64);
    unsigned char want[3], low[3];
    adze_heatmap_colour(0.5, want), adze_heatmap_colour(0.0, low);
    const unsigned char *heat = p.rgb + 3 * (2 * (64 + 8));
    for (int k = 0; k < 3; k++) assert_true(abs(heat[k] - want[k]) <= 4);
    assert_memory_equal(heat + 3 * 32, low, 3);
    assert_int_equal(p.rgb[0], 100);
    assert_memory_equal(p.rgb + 3 * (64 + 8 + 32), p.rgb, 3); /* at the foot of the scale the picture shows through */
    adze_picture_destroy(&p);

    o.threshold = 1.0; /* the contour appears, white on the inner side */
    assert_int_equal(adze_heatmap_panel(&p, rgb, 32, 16, map, 16, 16, &o), ADZE_OK);
    int white = 0;
    for (int64_t y = 0; y < p.H; y++)
        for (int64_t x = 64 + 8; x < 2 * 64 + 8; x++) white += memcmp(p.rgb + 3 * (y * p.W + x), "\xFF\xFF\xFF", 3) == 0;
    assert_true(white > 10 && white < 64);
    adze_picture_destroy(&p);

    o.low = o.high;
    assert_int_equal(adze_heatmap_panel(&p, rgb, 32, 16, map, 16, 16, &o), ADZE_EINVAL);
    assert_null(p.rgb);
}

static void lost_memory_is_reported_and_leaks_nothing(void **state)
{
    (void)state;
    scene *s = scene_create();
    adze_report_opts o = report_opts(s);
    o.gallery = 1;
    size_t before = adze_memory_live_bytes();
    int64_t n = 1;
    for (;; n++) {
        adze_text t = ADZE_TEXT_EMPTY;
        adze_memory_fail_after(n, false);
        adze_status st = adze_report_html(&s->results, &o, &t);
        if (st == ADZE_OK) st = adze_results_json(&s->results, &t);
        adze_memory_fail_after(0, false);
        adze_text_destroy(&t);
        adze_free(s->png);
        s->png = NULL;
        assert_int_equal(adze_memory_live_bytes(), before);
        if (st == ADZE_OK) break;
        assert_int_equal(st, ADZE_ENOMEM);
        assert_true(n < 2000);
    }
    assert_true(n > 10);
    scene_destroy(s);
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        scene *s = scene_create();
        adze_report_opts o = report_opts(s);
        adze_status st = adze_report_write(&s->results, &o, argv[1]);
        scene_destroy(s);
        if (st != ADZE_OK) fprintf(stderr, "%s\n", adze_error_message());
        return st != ADZE_OK;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_report_is_whole_closed_and_escaped),
        cmocka_unit_test(pictures_stay_within_their_limit),
        cmocka_unit_test(json_reads_back_to_the_same_doubles),
        cmocka_unit_test(tables_round_and_escape),
        cmocka_unit_test(escaping_keeps_each_format_intact),
        cmocka_unit_test(files_are_written_whole),
        cmocka_unit_test(colours_rise_in_lightness),
        cmocka_unit_test(panels_have_the_same_colours_for_the_same_score),
        cmocka_unit_test(lost_memory_is_reported_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
