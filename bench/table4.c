/* table4.c - scores of methods on classes as tables. Entry: table4_markdown().
 *
 * The paper has two kinds of spread, and so have we: in the row of a class mean and population deviation over the methods; in the
 * row of means the averages of these over the classes. The deviation over the methods' means, which says more, stands below. */
#include "bench/table4.h"

#include <math.h>

#include "bench/reference_table4.h"
#include "eval/escape.h"

/* What a table shows. */
typedef enum { OURS, PAPER, DIFFERENCE } kind;
enum { IMAGE_AUROC, AUPRO, SCORES };

/* One number, in percent; NaN if there is none. */
static double value(const table4 *t, kind k, int score, int64_t c, int64_t m)
{
    const table4_score *s = &t->score[c * t->n_methods + m];
    double ours = 100.0 * (score == IMAGE_AUROC ? s->image_auroc : s->aupro_strips), paper[SCORES];
    if (k == OURS) return ours;
    if (!reference_table4_find(t->method[m], t->class_name[c], &paper[IMAGE_AUROC], &paper[AUPRO])) return NAN;
    return k == PAPER ? paper[score] : ours - paper[score];
}

typedef struct {
    double mean, deviation;
    int64_t n;
} moments;

static void add(moments *m, double x)
{
    if (isnan(x)) return;
    m->mean += x, m->deviation += x * x, m->n++;
}

static moments finish(moments m)
{
    if (m.n == 0) return (moments){ NAN, NAN, 0 };
    double mean = m.mean / (double)m.n, variance = m.deviation / (double)m.n - mean * mean;
    return (moments){ mean, sqrt(fmax(0.0, variance)), m.n };
}

static moments over_methods(const table4 *t, kind k, int score, int64_t c)
{
    moments sum = { 0.0, 0.0, 0 };
    for (int64_t m = 0; m < t->n_methods; m++) add(&sum, value(t, k, score, c, m));
    return finish(sum);
}

/* Of the classes that have a number. */
static double method_mean(const table4 *t, kind k, int score, int64_t m)
{
    moments sum = { 0.0, 0.0, 0 };
    for (int64_t c = 0; c < t->n_classes; c++) add(&sum, value(t, k, score, c, m));
    return finish(sum).mean;
}

/* To tenths, halves upwards as the paper has it; a billionth is added for halves that binary numbers miss. */
static double tenths(double x)
{
    return floor(10.0 * x + 0.5 + 1e-9) / 10.0;
}

static void append_number(adze_text *out, double x, bool sign)
{
    if (isnan(x)) adze_text_append(out, "-");
    else adze_text_printf(out, sign ? "%+.1f" : "%.1f", tenths(x) + 0.0); /* no -0.0 */
}

/* The paper's number in [0,1], NaN if there is none. */
static double paper_share(const table4 *t, int score, int64_t c, int64_t m)
{
    return round(10.0 * value(t, PAPER, score, c, m)) / 1000.0;
}

static void append_pair(adze_text *out, double image_auroc, double aupro, bool sign)
{
    append_number(out, image_auroc, sign);
    adze_text_append(out, " / ");
    append_number(out, aupro, sign);
    adze_text_append(out, " |");
}

static void append_spread(adze_text *out, const double mean[SCORES], const double deviation[SCORES], bool sign)
{
    for (int s = 0; s < SCORES; s++) {
        append_number(out, mean[s], sign);
        if (!isnan(deviation[s])) adze_text_printf(out, " ± %.1f", tenths(deviation[s]));
        adze_text_append(out, s == IMAGE_AUROC ? " / " : " |\n");
    }
}

static void append_table(adze_text *out, const table4 *t, kind k)
{
    bool sign = k == DIFFERENCE;
    double mean[SCORES], deviation[SCORES];
    moments of_means[SCORES] = { { 0.0, 0.0, 0 } }, of_deviations[SCORES] = { { 0.0, 0.0, 0 } }, between[SCORES] = { { 0.0, 0.0, 0 } };
    adze_text_append(out, "| class |");
    for (int64_t m = 0; m < t->n_methods; m++) adze_text_printf(out, " %s |", t->method[m]);
    adze_text_append(out, " mean ± std |\n|:--|");
    for (int64_t m = 0; m <= t->n_methods; m++) adze_text_append(out, "--:|");
    adze_text_append(out, "\n");
    for (int64_t c = 0; c < t->n_classes; c++) {
        adze_text_append(out, "| ");
        adze_escape_markdown(out, t->class_name[c]);
        adze_text_append(out, " |");
        for (int64_t m = 0; m < t->n_methods; m++) {
            adze_text_append(out, " ");
            append_pair(out, value(t, k, IMAGE_AUROC, c, m), value(t, k, AUPRO, c, m), sign);
        }
        for (int s = 0; s < SCORES; s++) {
            moments x = over_methods(t, k, s, c);
            mean[s] = x.mean, deviation[s] = x.deviation;
            add(&of_means[s], x.mean);
            add(&of_deviations[s], x.deviation);
        }
        adze_text_append(out, " ");
        append_spread(out, mean, deviation, sign);
    }
    adze_text_append(out, "| **mean** |");
    for (int64_t m = 0; m < t->n_methods; m++) {
        double average[SCORES];
        for (int s = 0; s < SCORES; s++) {
            average[s] = method_mean(t, k, s, m);
            add(&between[s], average[s]);
        }
        adze_text_append(out, " ");
        append_pair(out, average[IMAGE_AUROC], average[AUPRO], sign);
    }
    for (int s = 0; s < SCORES; s++) mean[s] = finish(of_means[s]).mean, deviation[s] = finish(of_deviations[s]).mean;
    adze_text_append(out, " ");
    append_spread(out, mean, deviation, sign);
    adze_text_append(out, "\nOver the methods' means:");
    for (int s = 0; s < SCORES; s++) {
        moments x = finish(between[s]);
        adze_text_append(out, s == IMAGE_AUROC ? " I-AUROC " : ", AUPRO ");
        append_number(out, x.mean, sign);
        if (x.n > 0) adze_text_printf(out, " ± %.1f", tenths(x.deviation));
    }
    adze_text_append(out, ".\n");
}

static bool paper_has_any(const table4 *t)
{
    for (int64_t c = 0; c < t->n_classes; c++)
        for (int64_t m = 0; m < t->n_methods; m++)
            if (!isnan(value(t, PAPER, AUPRO, c, m))) return true;
    return false;
}

adze_status table4_markdown(const table4 *t, adze_text *out)
{
    adze_text_append(out, "# One-class methods on ");
    adze_escape_markdown(out, t->data);
    adze_text_append(out, "\n\nI-AUROC / AUPRO times 100: one model per class; AUPRO to a false-positive rate of 0.3 in 50 strips, as the benchmark "
                          "computes it; std over the methods, in the row of means the average of the column.\n\n");
    append_table(out, t, OURS);
    if (paper_has_any(t)) {
        adze_text_append(out, "\n## The paper (MIRAD, Table 4)\n\n");
        append_table(out, t, PAPER);
        adze_text_append(out, "\n## Difference, ours less the paper's\n\n");
        append_table(out, t, DIFFERENCE);
    }
    return adze_text_check(out, "table");
}

adze_status table4_csv(const table4 *t, adze_text *out)
{
    adze_text_append(out, "class,method,image_auroc,aupro,aupro_strips,train_s,eval_s,paper_image_auroc,paper_aupro\n");
    for (int64_t i = 0; i < t->n_classes * t->n_methods; i++) {
        const table4_score *s = &t->score[i];
        const double number[] = { s->image_auroc, s->aupro, s->aupro_strips, s->train_s, s->eval_s,
                                  paper_share(t, IMAGE_AUROC, i / t->n_methods, i % t->n_methods),
                                  paper_share(t, AUPRO, i / t->n_methods, i % t->n_methods) };
        adze_escape_csv(out, t->class_name[i / t->n_methods]);
        adze_text_printf(out, ",%s", t->method[i % t->n_methods]);
        for (size_t k = 0; k < sizeof number / sizeof *number; k++) {
            adze_text_append(out, ",");
            if (!isnan(number[k])) adze_text_real(out, number[k]);
        }
        adze_text_append(out, "\n");
    }
    return adze_text_check(out, "table");
}

static void json_number(adze_text *out, const char *key, double x)
{
    adze_text_printf(out, ", \"%s\": ", key);
    adze_text_real(out, x);
}

adze_status table4_json(const table4 *t, adze_text *out)
{
    adze_text_append(out, "{\n  \"data\": ");
    adze_text_json(out, t->data);
    adze_text_append(out, ",\n  \"cells\": [");
    for (int64_t i = 0; i < t->n_classes * t->n_methods; i++) {
        const table4_score *s = &t->score[i];
        int64_t c = i / t->n_methods, m = i % t->n_methods;
        adze_text_append(out, i > 0 ? ",\n    {\"class\": " : "\n    {\"class\": ");
        adze_text_json(out, t->class_name[c]);
        adze_text_append(out, ", \"method\": ");
        adze_text_json(out, t->method[m]);
        json_number(out, "image_auroc", s->image_auroc);
        json_number(out, "aupro", s->aupro);
        json_number(out, "aupro_strips", s->aupro_strips);
        json_number(out, "train_s", s->train_s);
        json_number(out, "eval_s", s->eval_s);
        json_number(out, "paper_image_auroc", paper_share(t, IMAGE_AUROC, c, m));
        json_number(out, "paper_aupro", paper_share(t, AUPRO, c, m));
        adze_text_append(out, "}");
    }
    adze_text_append(out, "\n  ],\n  \"mean\": {");
    for (int64_t m = 0; m < t->n_methods; m++) {
        adze_text_append(out, m > 0 ? ",\n    " : "\n    ");
        adze_text_json(out, t->method[m]);
        adze_text_append(out, ": {\"image_auroc\": ");
        adze_text_real(out, method_mean(t, OURS, IMAGE_AUROC, m) / 100.0);
        json_number(out, "aupro_strips", method_mean(t, OURS, AUPRO, m) / 100.0);
        json_number(out, "paper_image_auroc", method_mean(t, PAPER, IMAGE_AUROC, m) / 100.0);
        json_number(out, "paper_aupro", method_mean(t, PAPER, AUPRO, m) / 100.0);
        adze_text_append(out, "}");
    }
    adze_text_append(out, "\n  }\n}\n");
    return adze_text_check(out, "table");
}
