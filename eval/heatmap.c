/* heatmap.c - anomaly maps as pictures. Entry: adze_heatmap_panel().
 *
 * The colours are computed, not copied: in OKLCh lightness rises linearly from 0.20 to 0.96 while the hue turns from
 * blue over red to yellow, with as much chroma as sRGB can show up to 0.17. Digits of the colour bar come from a 5 x 7
 * bitmap below, so that no font is needed. */
#include "eval/heatmap.h"

#include <stdio.h>
#include <string.h>

#include "core/memory.h"

enum { LEVELS = 256, GLYPH_W = 5, GLYPH_H = 7, GAP = 8, BAR_W = 16, LABEL_CHARS = 9, TICKS = 5 };

typedef unsigned char colour_table[LEVELS][3];

void adze_picture_destroy(adze_picture *p)
{
    if (!p) return;
    adze_free(p->rgb);
    *p = (adze_picture){ 0, 0, NULL };
}

static adze_status picture_create(adze_picture *p, int64_t H, int64_t W)
{
    adze_status st = ADZE_OK;
    *p = (adze_picture){ H, W, NULL };
    REQUIRE(H > 0 && W > 0 && H <= (INT64_C(1) << 28) / W, ADZE_EINVAL, "heat-map: %lld x %lld pixels", (long long)H,
            (long long)W);
    REQUIRE(p->rgb = adze_malloc((size_t)(H * W * 3)), ADZE_ENOMEM, "heat-map: %lld host bytes", (long long)(H * W * 3));
    memset(p->rgb, 255, (size_t)(H * W * 3));
done:
    return st;
}

/* OKLab to linear sRGB (Ottosson 2020). */
static void linear_rgb(double L, double C, double hue, double rgb[3])
{
    double a = C * cos(hue), b = C * sin(hue);
    double l = L + 0.3963377774 * a + 0.2158037573 * b, m = L - 0.1055613458 * a - 0.0638541728 * b;
    double s = L - 0.0894841775 * a - 1.2914855480 * b;
    l = l * l * l, m = m * m * m, s = s * s * s;
    rgb[0] = 4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s;
    rgb[1] = -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s;
    rgb[2] = -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s;
}

void adze_heatmap_colour(double t, unsigned char rgb[3])
{
    t = t > 0.0 ? t < 1.0 ? t : 1.0 : 0.0; /* NaN becomes 0 */
    const double pi = 3.14159265358979323846, L = 0.20 + 0.76 * t, hue = (270.0 + 195.0 * t) * pi / 180.0;
    double low = 0.0, high = 0.17, v[3];
    for (int k = 0; k < 24; k++) {
        double C = k == 0 ? high : (low + high) / 2.0;
        linear_rgb(L, C, hue, v);
        bool shown = true;
        for (int c = 0; c < 3; c++) shown = shown && v[c] >= 0.0 && v[c] <= 1.0;
        if (shown) low = C;
        else high = C;
    }
    linear_rgb(L, low, hue, v);
    for (int c = 0; c < 3; c++) {
        double x = v[c] < 0.0 ? 0.0 : v[c] > 1.0 ? 1.0 : v[c];
        x = x <= 0.0031308 ? 12.92 * x : 1.055 * pow(x, 1.0 / 2.4) - 0.055;
        rgb[c] = (unsigned char)(255.0 * x + 0.5);
    }
}

static void fill_table(colour_table table)
{
    for (int i = 0; i < LEVELS; i++) adze_heatmap_colour((double)i / (LEVELS - 1), table[i]);
}

/* Place of v on the scale, clamped to [0,1]. */
static double on_scale(double v, const adze_heatmap_opts *o)
{
    double t = (v - o->low) / (o->high - o->low);
    return t > 0.0 ? t < 1.0 ? t : 1.0 : 0.0;
}

/* The map at pixel (y,x) of an (H,W) picture: nearest, or bilinear with pixel centres at half-integers. */
static double sample(const float *map, int64_t Hm, int64_t Wm, int64_t y, int64_t x, int64_t H, int64_t W, bool nearest)
{
    if (nearest) return map[y * Hm / H * Wm + x * Wm / W];
    double fy = ((double)y + 0.5) * (double)Hm / (double)H - 0.5, fx = ((double)x + 0.5) * (double)Wm / (double)W - 0.5;
    fy = fy < 0.0 ? 0.0 : fy, fx = fx < 0.0 ? 0.0 : fx;
    int64_t y0 = (int64_t)fy, x0 = (int64_t)fx;
    y0 = y0 < Hm - 1 ? y0 : Hm - 1, x0 = x0 < Wm - 1 ? x0 : Wm - 1;
    int64_t y1 = y0 + 1 < Hm ? y0 + 1 : y0, x1 = x0 + 1 < Wm ? x0 + 1 : x0;
    fy -= (double)y0, fx -= (double)x0;
    double top = (1.0 - fx) * map[y0 * Wm + x0] + fx * map[y0 * Wm + x1];
    double bottom = (1.0 - fx) * map[y1 * Wm + x0] + fx * map[y1 * Wm + x1];
    return (1.0 - fy) * top + fy * bottom;
}

static int64_t factor_for(int64_t H, int64_t W, int64_t min_side)
{
    int64_t side = H < W ? H : W;
    return side > 0 && side < min_side ? (min_side + side - 1) / side : 1;
}

static adze_status check_opts(const adze_heatmap_opts *o, int64_t H, int64_t W)
{
    adze_status st = ADZE_OK;
    const int64_t most = 1 << 16;
    REQUIRE(o->low < o->high && isfinite(o->high - o->low), ADZE_EINVAL, "heat-map: scale [%g, %g], want low < high",
            o->low, o->high);
    REQUIRE(o->opacity >= 0.0 && o->opacity <= 1.0, ADZE_EINVAL, "heat-map: opacity %g, want [0,1]", o->opacity);
    REQUIRE(H > 0 && W > 0 && H <= most && W <= most && o->min_side <= 4096, ADZE_EINVAL,
            "heat-map: %lld x %lld pixels, sides of at least %lld", (long long)H, (long long)W, (long long)o->min_side);
done:
    return st;
}

static const unsigned char *table_colour(const colour_table table, double t)
{
    return table[(int)(t * (LEVELS - 1) + 0.5)];
}

adze_status adze_heatmap_map(adze_picture *out, const float *map, int64_t H, int64_t W, const adze_heatmap_opts *opts)
{
    adze_status st = ADZE_OK;
    colour_table table;
    *out = (adze_picture){ 0, 0, NULL };
    TRY(check_opts(opts, H, W));
    const int64_t f = factor_for(H, W, opts->min_side);
    TRY(picture_create(out, H * f, W * f));
    fill_table(table);
    for (int64_t y = 0; y < out->H; y++)
        for (int64_t x = 0; x < out->W; x++) {
            double v = sample(map, H, W, y, x, out->H, out->W, opts->nearest);
            memcpy(out->rgb + 3 * (y * out->W + x), table_colour(table, on_scale(v, opts)), 3);
        }
done:
    return st;
}

/* Rows of a glyph from top to bottom, five bits each, the leftmost the highest. */
static const struct {
    char c;
    unsigned char row[GLYPH_H];
} glyphs[] = {
    { '0', { 14, 17, 17, 17, 17, 17, 14 } }, { '1', { 4, 12, 4, 4, 4, 4, 14 } },      { '2', { 14, 17, 1, 2, 4, 8, 31 } },
    { '3', { 14, 17, 1, 6, 1, 17, 14 } },    { '4', { 2, 6, 10, 18, 31, 2, 2 } },     { '5', { 31, 16, 30, 1, 1, 17, 14 } },
    { '6', { 14, 16, 16, 30, 17, 17, 14 } }, { '7', { 31, 1, 2, 2, 4, 4, 4 } },       { '8', { 14, 17, 17, 14, 17, 17, 14 } },
    { '9', { 14, 17, 17, 15, 1, 1, 14 } },   { '.', { 0, 0, 0, 0, 0, 12, 12 } },      { '-', { 0, 0, 0, 31, 0, 0, 0 } },
    { '+', { 0, 4, 4, 31, 4, 4, 0 } },       { 'e', { 0, 0, 14, 17, 31, 16, 14 } },
};

/* Black text with its upper left corner at (y,x), each bitmap dot `dot` pixels wide; what lies outside is left out. */
static void draw_text(adze_picture *p, const char *text, int64_t y, int64_t x, int64_t dot)
{
    for (; *text; text++, x += (GLYPH_W + 1) * dot)
        for (size_t g = 0; g < sizeof glyphs / sizeof *glyphs; g++) {
            if (glyphs[g].c != *text) continue;
            for (int64_t i = 0; i < GLYPH_H * dot; i++)
                for (int64_t j = 0; j < GLYPH_W * dot; j++) {
                    bool set = glyphs[g].row[i / dot] >> (GLYPH_W - 1 - j / dot) & 1;
                    if (set && y + i >= 0 && y + i < p->H && x + j >= 0 && x + j < p->W)
                        memset(p->rgb + 3 * ((y + i) * p->W + x + j), 20, 3);
                }
        }
}

/* Five numbers beside the colours; a red frame marks a scale of this picture's own. */
static void draw_bar(adze_picture *p, int64_t x0, int64_t dot, const colour_table table, const adze_heatmap_opts *o)
{
    static const unsigned char red[3] = { 200, 0, 0 };
    const int64_t margin = GLYPH_H * dot / 2 + 1, length = p->H - 2 * margin;
    for (int64_t y = 0; y < length; y++) {
        const unsigned char *c = table_colour(table, 1.0 - (double)y / (double)(length > 1 ? length - 1 : 1));
        for (int64_t x = 0; x < BAR_W; x++) {
            bool frame = o->own_scale && (x < 2 || x >= BAR_W - 2 || y < 2 || y >= length - 2);
            memcpy(p->rgb + 3 * ((margin + y) * p->W + x0 + x), frame ? red : c, 3);
        }
    }
    for (int k = 0; k < TICKS; k++) {
        double t = (double)k / (TICKS - 1);
        char text[32];
        snprintf(text, sizeof text, "%.3g", o->low + t * (o->high - o->low));
        int64_t y = margin + (int64_t)((1.0 - t) * (double)(length - 1));
        for (int64_t x = 0; x < 4; x++) memset(p->rgb + 3 * (y * p->W + x0 + BAR_W + x), 20, 3);
        draw_text(p, text, y - GLYPH_H * dot / 2, x0 + BAR_W + 8, dot);
    }
}

/* +1 where v is at or above the threshold beside a pixel below it, -1 on the other side, else 0. */
static int contour_side(const double *line[3], int64_t x, int64_t W, double threshold)
{
    if (isnan(threshold)) return 0;
    const bool here = line[1][x] >= threshold;
    const double neighbour[4] = { line[0][x], line[2][x], line[1][x > 0 ? x - 1 : x], line[1][x + 1 < W ? x + 1 : x] };
    for (int k = 0; k < 4; k++)
        if ((neighbour[k] >= threshold) != here) return here ? 1 : -1;
    return 0;
}

adze_status adze_heatmap_panel(adze_picture *out, const unsigned char *rgb, int64_t H, int64_t W, const float *map,
                               int64_t Hm, int64_t Wm, const adze_heatmap_opts *opts)
{
    adze_status st = ADZE_OK;
    colour_table table;
    double *lines = NULL;
    *out = (adze_picture){ 0, 0, NULL };
    TRY(check_opts(opts, H, W));
    TRY(check_opts(opts, Hm, Wm));
    const int64_t f = factor_for(H, W, opts->min_side), Ht = H * f, Wt = W * f, dot = Ht >= 192 ? 2 : 1;
    const int64_t bar = 3 * (Wt + GAP), width = bar + BAR_W + 8 + LABEL_CHARS * (GLYPH_W + 1) * dot;
    const unsigned char white[3] = { 255, 255, 255 }, black[3] = { 0, 0, 0 };
    TRY(picture_create(out, Ht, width));
    REQUIRE(lines = adze_malloc((size_t)(3 * Wt) * sizeof *lines), ADZE_ENOMEM, "heat-map: %zu host bytes",
            (size_t)(3 * Wt) * sizeof *lines);
    fill_table(table);
    for (int64_t y = 0; y < Ht; y++) {
        /* rows y-1, y, y+1 of the map, the border repeated, kept in turn */
        for (int64_t k = y == 0 ? -1 : 1; k <= 1; k++) {
            int64_t from = y + k < 0 ? 0 : y + k < Ht ? y + k : Ht - 1;
            double *line = lines + (y + k + 3) % 3 * Wt;
            for (int64_t x = 0; x < Wt; x++) line[x] = sample(map, Hm, Wm, from, x, Ht, Wt, opts->nearest);
        }
        const double *line[3] = { lines + (y + 2) % 3 * Wt, lines + y % 3 * Wt, lines + (y + 1) % 3 * Wt };
        unsigned char *original = out->rgb + 3 * y * out->W, *overlay = original + 3 * (Wt + GAP);
        unsigned char *heat = overlay + 3 * (Wt + GAP);
        for (int64_t x = 0; x < Wt; x++, original += 3, overlay += 3, heat += 3) {
            const unsigned char *from = rgb + 3 * (y / f * W + x / f);
            const double t = on_scale(line[1][x], opts), share = opts->opacity * t;
            const unsigned char *c = table_colour(table, t);
            memcpy(original, from, 3);
            memcpy(heat, c, 3);
            for (int k = 0; k < 3; k++) overlay[k] = (unsigned char)((1.0 - share) * from[k] + share * c[k] + 0.5);
            int side = contour_side(line, x, Wt, opts->threshold);
            if (side != 0) memcpy(overlay, side > 0 ? white : black, 3);
        }
    }
    draw_bar(out, bar, dot, table, opts);
done:
    if (st != ADZE_OK) adze_picture_destroy(out);
    adze_free(lines);
    return st;
}
