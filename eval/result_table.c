/* result_table.c - metrics.json, metrics.md, metrics.csv, metrics.tex and scores.csv. Entry: adze_results_write().
 * The mean is over the classes that have the metric; no class weighs more than another. */
#include "eval/result_table.h"

#include <math.h>
#include <string.h>

#include "core/file.h"
#include "core/memory.h"
#include "eval/escape.h"

double adze_results_mean(const adze_results *r, adze_metric metric, int64_t *n_used)
{
    double sum = 0.0;
    int64_t n = 0;
    for (int64_t c = 0; c < r->n_classes; c++) {
        double v = r->cls[c].metrics->value[metric];
        if (!isnan(v)) sum += v, n++;
    }
    if (n_used) *n_used = n;
    return n > 0 ? sum / (double)n : NAN;
}

static void json_facts(adze_text *out, const adze_fact *fact, int64_t n, const char *indent)
{
    adze_text_append(out, "{");
    for (int64_t i = 0; i < n; i++) {
        adze_text_printf(out, "%s\n%s  ", i > 0 ? "," : "", indent);
        adze_text_json(out, fact[i].key);
        adze_text_append(out, ": ");
        if (fact[i].is_number) adze_text_append(out, fact[i].value);
        else adze_text_json(out, fact[i].value);
    }
    adze_text_printf(out, "%s%s}", n > 0 ? "\n" : "", n > 0 ? indent : "");
}

static void json_pair(adze_text *out, const char *indent, const char *key, double value)
{
    adze_text_printf(out, "%s\"%s\": ", indent, key);
    adze_text_real(out, value);
    adze_text_append(out, ",\n");
}

static void json_notes(adze_text *out, const adze_class_result *c)
{
    const adze_metrics_result *m = c->metrics;
    int n = 0;
    adze_text_append(out, "      \"notes\": {");
    for (int k = 0; k < ADZE_METRIC_COUNT; k++) {
        if (!m->reason[k]) continue;
        adze_text_printf(out, "%s\n        \"%s\": ", n++ > 0 ? "," : "", adze_metric_name((adze_metric)k));
        adze_text_json(out, m->reason[k]);
    }
    if (c->n_notes > 0) {
        adze_text_printf(out, "%s\n        \"limits\": [", n++ > 0 ? "," : "");
        for (int64_t i = 0; i < c->n_notes; i++) {
            adze_text_append(out, i > 0 ? ", " : "");
            adze_text_json(out, c->note[i]);
        }
        adze_text_append(out, "]");
    }
    adze_text_append(out, n > 0 ? "\n      }\n" : "}\n");
}

adze_status adze_results_json(const adze_results *r, adze_text *out)
{
    adze_text_append(out, "{\n  \"model\": ");
    adze_text_json(out, r->model);
    adze_text_append(out, ",\n  \"protocol\": ");
    json_facts(out, r->protocol, r->n_protocol, "  ");
    adze_text_append(out, ",\n  \"classes\": {");
    for (int64_t c = 0; c < r->n_classes; c++) {
        const adze_metrics_result *m = r->cls[c].metrics;
        adze_text_append(out, c > 0 ? ",\n    " : "\n    ");
        adze_text_json(out, r->cls[c].name);
        adze_text_append(out, ": {\n");
        for (int k = 0; k < ADZE_METRIC_COUNT; k++) json_pair(out, "      ", adze_metric_name((adze_metric)k), m->value[k]);
        json_pair(out, "      ", "image_f1_max_threshold", m->image_threshold);
        json_pair(out, "      ", "pixel_f1_max_threshold", m->pixel_threshold);
        json_pair(out, "      ", "map_min", m->map_min);
        json_pair(out, "      ", "map_max", m->map_max);
        adze_text_printf(out,
                         "      \"n_good\": %lld,\n      \"n_bad\": %lld,\n      \"n_vanished\": %lld,\n"
                         "      \"n_without_mask\": %lld,\n      \"n_regions\": %lld,\n",
                         (long long)m->n_good, (long long)m->n_bad, (long long)m->n_vanished,
                         (long long)m->n_without_mask, (long long)m->n_regions);
        json_notes(out, &r->cls[c]);
        adze_text_append(out, "    }");
    }
    adze_text_append(out, r->n_classes > 0 ? "\n  },\n  \"mean\": {\n" : "},\n  \"mean\": {\n");
    for (int k = 0; k < ADZE_METRIC_COUNT; k++)
        json_pair(out, "    ", adze_metric_name((adze_metric)k), adze_results_mean(r, (adze_metric)k, NULL));
    adze_text_printf(out, "    \"n_classes\": %lld\n  }\n}\n", (long long)r->n_classes);
    return adze_text_check(out, "metrics.json");
}

static const char *const heading[ADZE_METRIC_MAIN_COUNT] = { "I-AUROC", "I-AP", "I-F1", "P-AUROC",
                                                              "P-AP",    "P-F1", "AUPRO", "AUPRO-50" };

/* Times 100 with one decimal; `none` where undefined. */
static void percent(adze_text *out, double v, const char *none)
{
    if (isnan(v)) adze_text_append(out, none);
    else adze_text_printf(out, "%.1f", 100.0 * v);
}

adze_status adze_results_markdown(const adze_results *r, adze_text *out)
{
    adze_text_append(out, "| class |");
    for (int k = 0; k < ADZE_METRIC_MAIN_COUNT; k++) adze_text_printf(out, " %s |", heading[k]);
    adze_text_append(out, " good | bad |\n|:--|");
    for (int k = 0; k < ADZE_METRIC_MAIN_COUNT + 2; k++) adze_text_append(out, "--:|");
    adze_text_append(out, "\n");
    for (int64_t c = 0; c <= r->n_classes; c++) {
        bool mean = c == r->n_classes;
        adze_text_append(out, "| ");
        if (mean) adze_text_append(out, "**mean**");
        else adze_escape_markdown(out, r->cls[c].name);
        adze_text_append(out, " |");
        for (int k = 0; k < ADZE_METRIC_MAIN_COUNT; k++) {
            adze_text_append(out, " ");
            percent(out, mean ? adze_results_mean(r, (adze_metric)k, NULL) : r->cls[c].metrics->value[k], "-");
            adze_text_append(out, " |");
        }
        if (mean) adze_text_append(out, " | |\n");
        else
            adze_text_printf(out, " %lld | %lld |\n", (long long)r->cls[c].metrics->n_good,
                             (long long)r->cls[c].metrics->n_bad);
    }
    return adze_text_check(out, "metrics.md");
}

adze_status adze_results_csv(const adze_results *r, adze_text *out)
{
    adze_text_append(out, "class");
    for (int k = 0; k < ADZE_METRIC_COUNT; k++) adze_text_printf(out, ",%s", adze_metric_name((adze_metric)k));
    adze_text_append(out, ",n_good,n_bad\n");
    for (int64_t c = 0; c <= r->n_classes; c++) {
        bool mean = c == r->n_classes;
        if (mean) adze_text_append(out, "mean");
        else adze_escape_csv(out, r->cls[c].name);
        for (int k = 0; k < ADZE_METRIC_COUNT; k++) {
            double v = mean ? adze_results_mean(r, (adze_metric)k, NULL) : r->cls[c].metrics->value[k];
            adze_text_append(out, ",");
            if (!isnan(v)) adze_text_real(out, v);
        }
        if (mean) adze_text_append(out, ",,\n");
        else
            adze_text_printf(out, ",%lld,%lld\n", (long long)r->cls[c].metrics->n_good,
                             (long long)r->cls[c].metrics->n_bad);
    }
    return adze_text_check(out, "metrics.csv");
}

adze_status adze_results_tex(const adze_results *r, adze_text *out)
{
    adze_text_append(out, "\\begin{tabular}{l");
    for (int k = 0; k < ADZE_METRIC_MAIN_COUNT; k++) adze_text_append(out, "r");
    adze_text_append(out, "}\n\\hline\nclass");
    for (int k = 0; k < ADZE_METRIC_MAIN_COUNT; k++) adze_text_printf(out, " & %s", heading[k]);
    adze_text_append(out, " \\\\\n\\hline\n");
    for (int64_t c = 0; c <= r->n_classes; c++) {
        bool mean = c == r->n_classes;
        if (mean) adze_text_append(out, "\\hline\nmean");
        else adze_escape_tex(out, r->cls[c].name);
        for (int k = 0; k < ADZE_METRIC_MAIN_COUNT; k++) {
            adze_text_append(out, " & ");
            percent(out, mean ? adze_results_mean(r, (adze_metric)k, NULL) : r->cls[c].metrics->value[k], "--");
        }
        adze_text_append(out, " \\\\\n");
    }
    adze_text_append(out, "\\hline\n\\end{tabular}\n");
    return adze_text_check(out, "metrics.tex");
}

adze_status adze_results_scores(const adze_results *r, adze_text *out)
{
    adze_text_append(out, "class,path,label,score\n");
    for (int64_t c = 0; c < r->n_classes; c++)
        for (int64_t i = 0; i < r->cls[c].n_images; i++) {
            const adze_image_row *row = &r->cls[c].image[i];
            adze_escape_csv(out, r->cls[c].name);
            adze_text_append(out, ",");
            adze_escape_csv(out, row->path);
            adze_text_printf(out, ",%d,", row->label);
            adze_text_real(out, row->score);
            adze_text_append(out, "\n");
        }
    return adze_text_check(out, "scores.csv");
}

adze_status adze_results_write(const adze_results *r, const char *dir)
{
    static const struct {
        const char *name;
        adze_status (*write)(const adze_results *r, adze_text *out);
    } files[] = {
        { "metrics.json", adze_results_json }, { "metrics.md", adze_results_markdown },
        { "metrics.csv", adze_results_csv },   { "metrics.tex", adze_results_tex },
        { "scores.csv", adze_results_scores },
    };
    adze_status st = ADZE_OK;
    adze_text text = ADZE_TEXT_EMPTY;
    char *path = NULL;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        text.n_bytes = 0;
        TRY(files[i].write(r, &text));
        adze_free(path);
        REQUIRE(path = adze_path_join(dir, files[i].name), ADZE_ENOMEM, "%s: no memory for the name", files[i].name);
        TRY(adze_file_write(path, text.s, text.n_bytes));
    }
done:
    adze_free(path);
    adze_text_destroy(&text);
    return st;
}
