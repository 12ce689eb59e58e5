/* report_chart.c - curves and histograms as SVG. Entry: adze_chart_curves(), adze_chart_histogram().
 * One drawing is 320 x 240 units, with text of 11 units: legible when the drawing is 300 pixels wide, as on a phone. */
#include "eval/report_chart.h"

#include <math.h>

enum { WIDTH = 320, HEIGHT = 240, LEFT = 46, RIGHT = 310, TOP = 10, BOTTOM = 200, BINS = 24, LABEL = 14 };

static void open_chart(adze_text *out, const char *title)
{
    adze_text_printf(out,
                     "<figure class=\"chart\"><figcaption>%s</figcaption>"
                     "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s\">\n",
                     title, WIDTH, HEIGHT, title);
}

static double x_at(double share)
{
    return LEFT + share * (RIGHT - LEFT);
}

static double y_at(double share)
{
    return BOTTOM - share * (BOTTOM - TOP);
}

static void axis_names(adze_text *out, const char *x_name, const char *y_name)
{
    adze_text_printf(out, "<text class=\"n\" x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", (LEFT + RIGHT) / 2,
                     HEIGHT - 6, x_name);
    adze_text_printf(out,
                     "<text class=\"n\" x=\"10\" y=\"%d\" text-anchor=\"middle\" transform=\"rotate(-90 10 %d)\">%s</text>\n",
                     (TOP + BOTTOM) / 2, (TOP + BOTTOM) / 2, y_name);
}

void adze_chart_curves(adze_text *out, const char *title, const char *x_name, const char *y_name, double x_max,
                       bool diagonal, const adze_chart_series *series, int n_series)
{
    enum { STEPS = 4 };
    int n_drawn = 0;
    for (int s = 0; s < n_series; s++) n_drawn += series[s].curve->n >= 2;
    if (n_drawn == 0) return;
    open_chart(out, title);
    for (int k = 0; k <= STEPS; k++) {
        double t = (double)k / STEPS;
        adze_text_printf(out, "<path class=\"g\" d=\"M%d %.1fH%dM%.1f %dV%d\"/>\n", LEFT, y_at(t), RIGHT, x_at(t), TOP,
                         BOTTOM);
        adze_text_printf(out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.3g</text>", LEFT - 4, y_at(t) + 4.0, t);
        adze_text_printf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"%s\">%.3g</text>\n", x_at(t), BOTTOM + 15,
                         k == STEPS ? "end" : "middle", t * x_max);
    }
    axis_names(out, x_name, y_name);
    if (diagonal) adze_text_printf(out, "<path class=\"d\" d=\"M%d %dL%d %d\"/>\n", LEFT, BOTTOM, RIGHT, TOP);
    for (int s = 0; s < n_series; s++) {
        const adze_curve *c = series[s].curve;
        if (c->n < 2) continue;
        adze_text_printf(out, "<path class=\"l %s\" d=\"", series[s].style);
        for (int i = 0; i < c->n; i++)
            adze_text_printf(out, "%c%.1f %.1f", i == 0 ? 'M' : 'L', x_at(c->x[i] / x_max), y_at(c->y[i]));
        adze_text_append(out, "\"/>\n");
    }
    adze_text_append(out, "</svg>\n<p class=\"legend\">");
    for (int s = 0; s < n_series; s++)
        adze_text_printf(out, "<span class=\"%s\">%s%s</span>", series[s].style, series[s].name,
                         series[s].curve->n < 2 ? " (undefined)" : "");
    adze_text_append(out, "</p></figure>\n");
}

static bool is_bad(const adze_image_row *row)
{
    return row->label != 0 || row->anomalous;
}

static void bar(adze_text *out, const char *style, int bin, double from, double to)
{
    const double width = (double)(RIGHT - LEFT) / BINS;
    if (to - from < 0.05) return;
    adze_text_printf(out, "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>\n", style,
                     LEFT + bin * width + 0.5, from, width - 1.0, to - from);
}

void adze_chart_histogram(adze_text *out, const adze_image_row *image, int64_t n, double threshold)
{
    int64_t count[2][BINS] = { { 0 } }, total[2] = { 0, 0 };
    double low = INFINITY, high = -INFINITY, most = 0.0;
    for (int64_t i = 0; i < n; i++) low = fmin(low, image[i].score), high = fmax(high, image[i].score);
    if (!isnan(threshold)) low = fmin(low, threshold), high = fmax(high, threshold);
    if (n == 0) low = 0.0, high = 1.0;
    const double span = high > low ? high - low : 1.0;
    for (int64_t i = 0; i < n; i++) {
        int bin = (int)((image[i].score - low) / span * BINS);
        count[is_bad(&image[i])][bin < BINS ? bin : BINS - 1]++;
        total[is_bad(&image[i])]++;
    }
    for (int b = 0; b < 2; b++)
        for (int k = 0; k < BINS; k++)
            if (total[b] > 0) most = fmax(most, (double)count[b][k] / (double)total[b]);

    const double middle = (TOP + BOTTOM) / 2.0, half = (BOTTOM - TOP) / 2.0 - LABEL; /* above: the threshold's label */
    open_chart(out, "Image scores");
    for (int k = 0; k < BINS; k++) {
        double good = total[0] > 0 ? (double)count[0][k] / (double)total[0] / most * half : 0.0;
        double bad = total[1] > 0 ? (double)count[1][k] / (double)total[1] / most * half : 0.0;
        bar(out, "fa", k, middle - 0.5 - good, middle - 0.5);
        bar(out, "fb", k, middle + 0.5, middle + 0.5 + bad);
    }
    adze_text_printf(out, "<path class=\"x\" d=\"M%d %.1fH%d\"/>\n", LEFT, middle, RIGHT);
    for (int k = 0; k <= 2; k++)
        adze_text_printf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"%s\">%.5g</text>\n", x_at(k / 2.0), BOTTOM + 15,
                         k == 0 ? "start" : k == 1 ? "middle" : "end", low + k / 2.0 * span);
    adze_text_printf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%.0f %%</text>", LEFT - 5, TOP + LABEL + 8, 100.0 * most);
    adze_text_printf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%.0f %%</text>\n", LEFT - 5, BOTTOM - LABEL, 100.0 * most);
    if (!isnan(threshold)) {
        double x = x_at((threshold - low) / span);
        bool flip = x > (LEFT + RIGHT) / 2.0;
        adze_text_printf(out, "<path class=\"t\" d=\"M%.1f %dV%d\"/>\n", x, TOP, BOTTOM);
        adze_text_printf(out, "<text class=\"n\" x=\"%.1f\" y=\"%d\" text-anchor=\"%s\">threshold %.5g</text>\n",
                         x + (flip ? -5.0 : 5.0), TOP + 9, flip ? "end" : "start", threshold);
    }
    axis_names(out, "score", "share of group");
    adze_text_printf(out,
                     "</svg>\n<p class=\"legend\"><span class=\"a\">good (%lld), upward</span>"
                     "<span class=\"b\">anomalous (%lld), downward</span></p></figure>\n",
                     (long long)total[0], (long long)total[1]);
}
