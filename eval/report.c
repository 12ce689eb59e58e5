/* report.c - the report as one HTML page. Entry: adze_report_html(), adze_report_write().
 *
 * Nothing on the page is active: no script, no link out. The content-security policy admits pictures from data: URIs and the
 * one style sheet below, named by its SHA-256. So no element may carry a style attribute; drawings are styled by class. */
#include "eval/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/memory.h"
#include "core/sha256.h"
#include "eval/escape.h"
#include "eval/report_chart.h"

static const char style[] =
    ":root{color-scheme:light dark;--ink:#1c2126;--dim:#5b6670;--paper:#fafaf8;--card:#fff;--line:#dfe2e4;"
    "--a:#1f6fb4;--b:#c8540a;--t:#7a3fa0}\n"
    "@media(prefers-color-scheme:dark){:root{--ink:#e4e8eb;--dim:#9aa6b0;--paper:#14171a;--card:#1c2125;--line:#343b41;"
    "--a:#6bb2ee;--b:#f2924a;--t:#c99be8}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,'Segoe UI',Roboto,'DejaVu Sans',"
    "sans-serif;font-variant-numeric:tabular-nums;-webkit-text-size-adjust:100%}\n"
    "main{max-width:80rem;margin:0 auto;padding:1.5rem 1rem 4rem}\n"
    "h1{font-size:1.6rem;line-height:1.25;margin:.5rem 0 0;overflow-wrap:anywhere}\n"
    "h2{font-size:1.2rem;margin:2.25rem 0 .75rem}\n"
    "h3{font-size:1rem;margin:1.5rem 0 .5rem}\n"
    "p{margin:.5rem 0}.dim,figcaption{color:var(--dim)}\n"
    ".tiles{display:grid;grid-template-columns:repeat(4,1fr);gap:.75rem;margin:1.25rem 0}\n"
    ".tile,.card,.shot{background:var(--card);border:1px solid var(--line);border-radius:.5rem}\n"
    ".tile{padding:.7rem .9rem}.tile b{display:block;font-size:1.7rem;font-weight:600;line-height:1.2}\n"
    ".tile span{color:var(--dim);font-size:.85rem}\n"
    ".card{padding:.25rem 1rem}\n"
    "table{border-collapse:collapse;width:100%}\n"
    "th,td{padding:.4rem .5rem;text-align:right;border-bottom:1px solid var(--line)}\n"
    "th{font-size:.85rem;font-weight:600;color:var(--dim);white-space:nowrap}\n"
    "th:first-child,td:first-child{text-align:left;overflow-wrap:anywhere}\n"
    "tbody tr:last-child td{border-bottom:0;font-weight:600}\n"
    "ul{margin:.5rem 0;padding-left:1.25rem}li{margin:.2rem 0;overflow-wrap:anywhere}\n"
    "dl{display:grid;grid-template-columns:max-content 1fr;gap:.25rem 1.25rem;margin:.75rem 0}\n"
    "dt{color:var(--dim)}dd{margin:0;overflow-wrap:anywhere}\n"
    "details{margin:1rem 0;border-top:1px solid var(--line);padding-top:.5rem}\n"
    "summary{cursor:pointer;font-size:1.2rem;font-weight:600;overflow-wrap:anywhere}\n"
    "summary span{font-size:.9rem;font-weight:400;color:var(--dim);margin-left:.5rem}\n"
    "figure{margin:0}.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(17.5rem,1fr));gap:1rem;margin:1rem 0}\n"
    ".chart figcaption{font-size:.95rem;font-weight:600;color:var(--ink)}\n"
    "svg{display:block;width:100%;height:auto}svg text{fill:var(--dim);font-size:11px}svg .n{fill:var(--ink)}\n"
    "path{fill:none}.g{stroke:var(--line);stroke-width:.7}.d{stroke:var(--dim);stroke-width:1;stroke-dasharray:2 4}\n"
    ".x{stroke:var(--dim);stroke-width:1}.t{stroke:var(--t);stroke-width:1.5;stroke-dasharray:5 3}\n"
    ".l{stroke-width:2;stroke-linejoin:round}path.a{stroke:var(--a)}path.b{stroke:var(--b)}\n"
    ".fa{fill:var(--a)}.fb{fill:var(--b)}\n"
    ".legend{font-size:.85rem;display:flex;flex-wrap:wrap;gap:.1rem 1rem;color:var(--dim)}\n"
    ".legend span::before{content:'';display:inline-block;width:.8em;height:.8em;border-radius:2px;margin-right:.4em;"
    "vertical-align:-.05em}.legend .a::before{background:var(--a)}.legend .b::before{background:var(--b)}\n"
    ".shots{display:grid;grid-template-columns:repeat(auto-fill,minmax(20rem,1fr));gap:.75rem}\n"
    ".shot{padding:.5rem}.shot div{display:grid;grid-template-columns:repeat(3,1fr);gap:.35rem}\n"
    ".shot img{display:block;width:100%;height:auto;border-radius:.2rem;background:var(--line)}\n"
    ".shot figcaption{font-size:.85rem;margin-top:.35rem;overflow-wrap:anywhere}.shot b{color:var(--ink)}\n"
    "@media(max-width:40rem){.tiles{grid-template-columns:repeat(2,1fr)}.shots{grid-template-columns:1fr}\n"
    "thead{display:none}table,tbody,tr,td{display:block}.card{padding:.25rem .9rem}\n"
    "tr{display:grid;grid-template-columns:repeat(4,1fr);gap:.3rem .5rem;padding:.7rem 0;border-bottom:1px solid var(--line)}\n"
    "tr:last-child{border-bottom:0}td{padding:0;border:0;text-align:left}td:first-child{grid-column:1/-1;font-weight:600}\n"
    "td[data-l]::before{content:attr(data-l);display:block;font-size:.72rem;font-weight:400;color:var(--dim)}\n"
    "dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:.5rem}}\n"
    "@media print{details{break-inside:avoid}}\n";

static const char *const heading[ADZE_METRIC_MAIN_COUNT] = { "I-AUROC", "I-AP", "I-F1", "P-AUROC",
                                                              "P-AP",    "P-F1", "AUPRO", "AUPRO-50" };

typedef struct {
    const adze_results *r;
    const adze_report_opts *o;
    adze_text *out;
    size_t pictures_bytes;  /* base64 so far */
    int64_t pictures_over;  /* left out for the limit */
} page;

static void base64(adze_text *out, const unsigned char *p, size_t n)
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char four[4];
    for (size_t i = 0; i < n; i += 3) {
        unsigned v = (unsigned)p[i] << 16 | (i + 1 < n ? (unsigned)p[i + 1] << 8 : 0) | (i + 2 < n ? p[i + 2] : 0u);
        four[0] = digit[v >> 18], four[1] = digit[v >> 12 & 63];
        four[2] = i + 1 < n ? digit[v >> 6 & 63] : '=';
        four[3] = i + 2 < n ? digit[v & 63] : '=';
        adze_text_append_n(out, four, 4);
    }
}

static void percent(adze_text *out, double v)
{
    if (isnan(v)) adze_text_append(out, "–");
    else adze_text_printf(out, "%.1f", 100.0 * v);
}

static void head(page *p)
{
    unsigned char digest[ADZE_SHA256_BYTES];
    adze_sha256 sha;
    adze_sha256_init(&sha);
    adze_sha256_update(&sha, style, sizeof style - 1);
    adze_sha256_final(&sha, digest);
    adze_text_append(p->out, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                             "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; "
                             "style-src 'sha256-");
    base64(p->out, digest, sizeof digest);
    adze_text_append(p->out, "'; base-uri 'none'; form-action 'none'\">\n"
                             "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                             "<meta name=\"referrer\" content=\"no-referrer\">\n<title>");
    adze_escape_html(p->out, p->o->title);
    adze_text_append(p->out, "</title>\n<style>");
    adze_text_append(p->out, style);
    adze_text_append(p->out, "</style>\n</head>\n<body>\n<main>\n<h1>");
    adze_escape_html(p->out, p->o->title);
    adze_text_append(p->out, "</h1>\n<p class=\"dim\">model ");
    adze_escape_html(p->out, p->r->model);
    adze_text_printf(p->out, " · %lld %s</p>\n", (long long)p->r->n_classes, p->r->n_classes == 1 ? "class" : "classes");
}

static void tiles(page *p)
{
    static const struct {
        adze_metric metric;
        const char *name;
    } shown[] = {
        { ADZE_METRIC_IMAGE_AUROC, "image AUROC" },
        { ADZE_METRIC_IMAGE_F1_MAX, "image F1, best threshold" },
        { ADZE_METRIC_PIXEL_AUROC, "pixel AUROC" },
        { ADZE_METRIC_AUPRO, "AUPRO, exact" },
    };
    adze_text_append(p->out, "<div class=\"tiles\">\n");
    for (size_t k = 0; k < sizeof shown / sizeof *shown; k++) {
        adze_text_append(p->out, "<div class=\"tile\"><b>");
        percent(p->out, adze_results_mean(p->r, shown[k].metric, NULL));
        adze_text_printf(p->out, "</b><span>%s%s</span></div>\n", shown[k].name, p->r->n_classes > 1 ? ", mean" : "");
    }
    adze_text_append(p->out, "</div>\n");
}

static void cell(page *p, const char *label, double v)
{
    adze_text_printf(p->out, "<td data-l=\"%s\">", label);
    percent(p->out, v);
    adze_text_append(p->out, "</td>");
}

static void table(page *p)
{
    adze_text_append(p->out, "<h2>Results by class</h2>\n<div class=\"card\"><table>\n<thead><tr><th>class</th>");
    for (int k = 0; k < ADZE_METRIC_MAIN_COUNT; k++) adze_text_printf(p->out, "<th>%s</th>", heading[k]);
    adze_text_append(p->out, "<th>good</th><th>bad</th></tr></thead>\n<tbody>\n");
    int64_t good = 0, bad = 0;
    for (int64_t c = 0; c < p->r->n_classes; c++) {
        const adze_metrics_result *m = p->r->cls[c].metrics;
        adze_text_append(p->out, "<tr><td>");
        adze_escape_html(p->out, p->r->cls[c].name);
        adze_text_append(p->out, "</td>");
        for (int k = 0; k < ADZE_METRIC_MAIN_COUNT; k++) cell(p, heading[k], m->value[k]);
        adze_text_printf(p->out, "<td data-l=\"good\">%lld</td><td data-l=\"bad\">%lld</td></tr>\n", (long long)m->n_good,
                         (long long)m->n_bad);
        good += m->n_good, bad += m->n_bad;
    }
    adze_text_append(p->out, "<tr><td>mean</td>");
    for (int k = 0; k < ADZE_METRIC_MAIN_COUNT; k++)
        cell(p, heading[k], adze_results_mean(p->r, (adze_metric)k, NULL));
    adze_text_printf(p->out, "<td data-l=\"good, sum\">%lld</td><td data-l=\"bad, sum\">%lld</td></tr>\n", (long long)good,
                     (long long)bad);
    adze_text_append(p->out,
                     "</tbody></table></div>\n<p class=\"dim\">All values times 100. I: per image, P: per pixel. F1 at its best "
                     "threshold. AUPRO is exact, AUPRO-50 the benchmark's estimate from 50 histogram strips. "
                     "– is undefined, see the notes.</p>\n");
}

static void note(page *p, const char *class_name, const char *what, const char *text)
{
    adze_text_append(p->out, "<li>");
    if (class_name) {
        adze_text_append(p->out, "<b>");
        adze_escape_html(p->out, class_name);
        adze_text_append(p->out, "</b>: ");
    }
    if (what) adze_text_printf(p->out, "%s undefined: ", what);
    adze_escape_html(p->out, text);
    adze_text_append(p->out, "</li>\n");
}

/* Reasons are static strings, so neighbours with one reason have one pointer: their names go into one line. */
static void undefined_metrics(page *p, const adze_class_result *c)
{
    for (int k = 0; k < ADZE_METRIC_MAIN_COUNT;) {
        const char *why = c->metrics->reason[k];
        adze_text names = ADZE_TEXT_EMPTY;
        for (int first = k; k < ADZE_METRIC_MAIN_COUNT && c->metrics->reason[k] == why; k++)
            adze_text_printf(&names, "%s%s", k > first ? ", " : "", heading[k]);
        if (names.failed) p->out->failed = true;
        else if (why) note(p, c->name, names.s, why);
        adze_text_destroy(&names);
    }
}

static void notes(page *p)
{
    size_t before = p->out->n_bytes;
    adze_text_append(p->out, "<h2>Notes and limits</h2>\n<ul>\n");
    size_t empty = p->out->n_bytes;
    for (int64_t i = 0; i < p->o->n_notes; i++) note(p, NULL, NULL, p->o->note[i]);
    for (int64_t c = 0; c < p->r->n_classes; c++) {
        const adze_class_result *cls = &p->r->cls[c];
        undefined_metrics(p, cls);
        for (int64_t i = 0; i < cls->n_notes; i++) note(p, cls->name, NULL, cls->note[i]);
        if (cls->metrics->n_vanished == 0) continue;
        adze_text_append(p->out, "<li><b>");
        adze_escape_html(p->out, cls->name);
        adze_text_printf(p->out, "</b>: the defect of %lld anomalous %s vanished when the mask was resized; the protocol "
                                 "counts %s as good:", (long long)cls->metrics->n_vanished,
                         cls->metrics->n_vanished == 1 ? "image" : "images", cls->metrics->n_vanished == 1 ? "it" : "them");
        for (int64_t i = 0, n = 0; i < cls->n_images; i++) {
            if (!cls->image[i].anomalous || cls->image[i].label) continue;
            adze_text_append(p->out, n++ > 0 ? ", " : " ");
            adze_escape_html(p->out, cls->image[i].path);
        }
        adze_text_append(p->out, "</li>\n");
    }
    if (p->out->n_bytes == empty && !p->out->failed) {
        p->out->n_bytes = before; /* nothing to tell: no heading either */
        p->out->s[before] = 0;
        return;
    }
    adze_text_append(p->out, "</ul>\n");
}

static void facts(page *p, const char *title, const adze_fact *fact, int64_t n)
{
    if (n == 0) return;
    adze_text_printf(p->out, "<h2>%s</h2>\n<div class=\"card\"><dl>\n", title);
    for (int64_t i = 0; i < n; i++) {
        adze_text_append(p->out, "<dt>");
        adze_escape_html(p->out, fact[i].key);
        adze_text_append(p->out, "</dt><dd>");
        adze_escape_html(p->out, fact[i].value);
        adze_text_append(p->out, "</dd>\n");
    }
    adze_text_append(p->out, "</dl></div>\n");
}

static adze_status picture(page *p, int64_t c, int64_t i, adze_report_picture_kind kind, const char *what)
{
    adze_status st = ADZE_OK;
    const unsigned char *png = NULL;
    size_t n = 0;
    TRY(p->o->picture(p->o->user, c, i, kind, &png, &n));
    if (!png) goto done;
    size_t bytes = (n + 2) / 3 * 4;
    if (bytes > p->o->picture_limit_bytes - p->pictures_bytes) {
        p->pictures_over++;
        goto done;
    }
    p->pictures_bytes += bytes;
    adze_text_printf(p->out, "<img alt=\"%s\" src=\"data:image/png;base64,", what);
    base64(p->out, png, n);
    adze_text_append(p->out, "\">");
done:
    return st;
}

static adze_status shot(page *p, int64_t c, int64_t i, double threshold)
{
    adze_status st = ADZE_OK;
    const adze_image_row *row = &p->r->cls[c].image[i];
    adze_text_append(p->out, "<figure class=\"shot\">");
    if (p->o->picture) {
        adze_text_append(p->out, "<div>");
        TRY(picture(p, c, i, ADZE_REPORT_ORIGINAL, "original"));
        TRY(picture(p, c, i, ADZE_REPORT_MASK, "mask"));
        TRY(picture(p, c, i, ADZE_REPORT_MAP, "anomaly map"));
        adze_text_append(p->out, "</div>");
    }
    adze_text_printf(p->out, "<figcaption><b>%.5g</b>%s · ", row->score,
                     isnan(threshold)          ? ""
                     : row->score >= threshold ? " at or above the threshold"
                                               : " below the threshold");
    adze_escape_html(p->out, row->path);
    adze_text_append(p->out, "</figcaption></figure>\n");
done:
    return st;
}

/* The `most` images of one group with the lowest (misses) or highest (false alarms) score; equal scores in list order. Images
 * whose defect vanished belong to neither group. */
static adze_status gallery(page *p, int64_t c, bool misses, int64_t most, double threshold)
{
    adze_status st = ADZE_OK;
    const adze_class_result *cls = &p->r->cls[c];
    int64_t n = 0;
    bool *taken = adze_calloc((size_t)cls->n_images + 1, sizeof *taken);
    REQUIRE(taken, ADZE_ENOMEM, "report: no memory for %lld images", (long long)cls->n_images);
    for (int64_t k = 0; k < most; k++) {
        int64_t best = -1;
        for (int64_t i = 0; i < cls->n_images; i++) {
            const adze_image_row *row = &cls->image[i];
            if (taken[i] || (misses ? !row->label : row->label || row->anomalous)) continue;
            if (best < 0 || (misses ? row->score < cls->image[best].score : row->score > cls->image[best].score)) best = i;
        }
        if (best < 0) break;
        if (n++ == 0)
            adze_text_printf(p->out, "<h3>%s</h3>\n<div class=\"shots\">\n",
                             misses ? "Anomalous images with the lowest scores" : "Good images with the highest scores");
        taken[best] = true;
        TRY(shot(p, c, best, threshold));
    }
    if (n > 0) adze_text_append(p->out, "</div>\n");
done:
    adze_free(taken);
    return st;
}

static adze_status class_section(page *p, int64_t c)
{
    adze_status st = ADZE_OK;
    const adze_class_result *cls = &p->r->cls[c];
    const adze_metrics_result *m = cls->metrics;
    const double threshold = isnan(cls->threshold) ? m->image_threshold : cls->threshold;
    int64_t most = p->o->gallery > 0 ? p->o->gallery : 20 / p->r->n_classes;
    most = most < 2 ? 2 : most;

    adze_text_printf(p->out, "<details%s><summary>", p->r->n_classes <= 4 || c == 0 ? " open" : "");
    adze_escape_html(p->out, cls->name);
    adze_text_printf(p->out, "<span>%lld good, %lld anomalous, %lld regions</span></summary>\n", (long long)m->n_good,
                     (long long)m->n_bad, (long long)m->n_regions);
    adze_text_append(p->out, "<div class=\"charts\">\n");
    adze_chart_histogram(p->out, cls->image, cls->n_images, threshold);
    const adze_chart_series roc[2] = { { &m->image_roc, "a", "images" }, { &m->pixel_roc, "b", "pixels" } };
    const adze_chart_series pr[2] = { { &m->image_pr, "a", "images" }, { &m->pixel_pr, "b", "pixels" } };
    const adze_chart_series pro[1] = { { &m->pro, "b", "mean over regions" } };
    adze_chart_curves(p->out, "ROC", "false-positive rate", "true-positive rate", 1.0, true, roc, 2);
    adze_chart_curves(p->out, "Precision and recall", "recall", "precision", 1.0, false, pr, 2);
    adze_chart_curves(p->out, "PRO", "false-positive rate of pixels", "region overlap", m->limit > 0.0 ? m->limit : 0.3, false,
                      pro, 1);
    adze_text_append(p->out, "</div>\n");
    adze_text_printf(p->out, "<p class=\"dim\">The threshold is %s.</p>\n",
                     !isnan(cls->threshold)  ? "the one in use"
                     : isnan(threshold) ? "undefined" : "that of the best F1, chosen with the test labels");
    TRY(gallery(p, c, true, most, threshold));
    TRY(gallery(p, c, false, most, threshold));
    adze_text_append(p->out, "</details>\n");
done:
    return st;
}

adze_status adze_report_html(const adze_results *r, const adze_report_opts *opts, adze_text *out)
{
    adze_status st = ADZE_OK;
    page p = { .r = r, .o = opts, .out = out };
    head(&p);
    tiles(&p);
    table(&p);
    notes(&p);
    adze_text_append(out, "<h2>Class by class</h2>\n");
    for (int64_t c = 0; c < r->n_classes; c++) TRY(class_section(&p, c));
    if (p.pictures_over > 0)
        adze_text_printf(out, "<p class=\"dim\">%lld pictures were left out: all together may take %zu MiB.</p>\n",
                         (long long)p.pictures_over, opts->picture_limit_bytes >> 20);
    facts(&p, "Run", opts->fact, opts->n_facts);
    facts(&p, "Protocol", r->protocol, r->n_protocol);
    adze_text_append(out, "</main>\n</body>\n</html>\n");
    TRY(adze_text_check(out, "report"));
done:
    return st;
}

adze_status adze_report_write(const adze_results *r, const adze_report_opts *opts, const char *path)
{
    adze_status st = ADZE_OK;
    adze_text text = ADZE_TEXT_EMPTY;
    TRY(adze_report_html(r, opts, &text));
    TRY(adze_file_write(path, text.s, text.n_bytes));
done:
    adze_text_destroy(&text);
    return st;
}
