/* report_chart.h - the drawings of the report as inline SVG: curves, score histograms. Internal to eval/.
 * Colours and fonts come from the page's style sheet by class name. */
#ifndef ADZE_EVAL_REPORT_CHART_H
#define ADZE_EVAL_REPORT_CHART_H

#include "core/text.h"
#include "eval/result_table.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    const adze_curve *curve;
    const char *style; /* class of the line: "a" or "b" */
    const char *name;
} adze_chart_series;

/* x from 0 to x_max, y from 0 to 1. Series with fewer than two points are left out, and
 * the whole drawing if none remains. `diagonal` draws chance level. */
void adze_chart_curves(adze_text *out, const char *title, const char *x_name, const char *y_name, double x_max,
                       bool diagonal, const adze_chart_series *series, int n_series);

/* Scores of good images upward, of anomalous ones downward, each as share of its own group, and the threshold if it is
 * a number. Images with label 0 that are anomalous by folder count as anomalous here. */
void adze_chart_histogram(adze_text *out, const adze_image_row *image, int64_t n, double threshold);

#ifdef __cplusplus
}
#endif
#endif
