/* curve.c - thinning curves. Entry: adze_curve_add().
 * A monotone curve in the unit square is at most 2 long in the city-block metric, so steps of 2/STEPS keep at most
 * STEPS + 2 points whatever the data. */
#include "eval/curve.h"

#include <math.h>

enum { STEPS = ADZE_CURVE_POINTS - 4 };

void adze_curve_begin(adze_curve_pen *p, adze_curve *curve, double span, int by_x)
{
    *p = (adze_curve_pen){ .curve = curve, .span = span, .by_x = by_x };
    if (curve) curve->n = 0;
}

static void keep(adze_curve_pen *p)
{
    adze_curve *c = p->curve;
    if (c->n >= ADZE_CURVE_POINTS) return;
    c->x[c->n] = p->x;
    c->y[c->n++] = p->y;
}

void adze_curve_add(adze_curve_pen *p, double x, double y)
{
    p->x = x, p->y = y;
    adze_curve *c = p->curve;
    if (!c) return;
    if (c->n > 0) {
        double far = fabs(x - c->x[c->n - 1]) / p->span;
        if (!p->by_x) far = (far + fabs(y - c->y[c->n - 1])) / 2.0;
        if (far < 1.0 / STEPS) return;
    }
    keep(p);
}

void adze_curve_end(adze_curve_pen *p)
{
    const adze_curve *c = p->curve;
    if (c && c->n > 0 && (c->x[c->n - 1] != p->x || c->y[c->n - 1] != p->y)) keep(p);
}
