/* perlin.c - Perlin's gradient noise and its rotation. Entry: adze_perlin_field(), adze_perlin_rotate(). */
#include "models/perlin.h"

#include <math.h>

static double fade(double t)
{
    return t * t * t * (t * (t * 6.0 - 15.0) + 10.0);
}

static double lerp(double x, double y, double w)
{
    return x + w * (y - x);
}

void adze_perlin_field(double *noise, int64_t H, int64_t W, int64_t rx, int64_t ry, const double *gradient)
{
    for (int64_t r = 0; r < H; r++) {
        double at_r = (double)(r * rx) / (double)H, p = floor(at_r), u = at_r - p, fu = fade(u);
        for (int64_t c = 0; c < W; c++) {
            double at_c = (double)(c * ry) / (double)W, q = floor(at_c), v = at_c - q;
            const double *g = gradient + ((int64_t)p * (ry + 1) + (int64_t)q) * 2, *below = g + (ry + 1) * 2;
            double n00 = u * g[0] + v * g[1], n10 = (u - 1.0) * below[0] + v * below[1];
            double n01 = u * g[2] + (v - 1.0) * g[3], n11 = (u - 1.0) * below[2] + (v - 1.0) * below[3];
            noise[r * W + c] = sqrt(2.0) * lerp(lerp(n00, n10, fu), lerp(n01, n11, fu), fade(v));
        }
    }
}

static double at(const double *noise, int64_t H, int64_t W, int64_t y, int64_t x)
{
    return y >= 0 && y < H && x >= 0 && x < W ? noise[y * W + x] : 0.0;
}

void adze_perlin_rotate(double *out, const double *noise, int64_t H, int64_t W, double degrees)
{
    enum { FINE = 1024, STEP = 32 }; /* OpenCV's fixed point: coordinates in 1/1024, then rounded to 1/32 */
    double t = degrees * (M_PI / 180.0), cosine = cos(t), sine = sin(t);
    double cx = (double)(W - 1) / 2.0, cy = (double)(H - 1) / 2.0;
    double shift_x = cx - cosine * cx - sine * cy, shift_y = cy + sine * cx - cosine * cy;
    for (int64_t y = 0; y < H; y++) {
        int64_t row_x = (int64_t)rint(FINE * (sine * (double)y + shift_x)) + FINE / STEP / 2;
        int64_t row_y = (int64_t)rint(FINE * (cosine * (double)y + shift_y)) + FINE / STEP / 2;
        for (int64_t x = 0; x < W; x++) {
            int64_t X = (row_x + (int64_t)rint(FINE * cosine * (double)x)) >> 5, Y = (row_y + (int64_t)rint(FINE * -sine * (double)x)) >> 5;
            int64_t j = X >> 5, i = Y >> 5;
            double fx = (double)(X & (STEP - 1)) / STEP, fy = (double)(Y & (STEP - 1)) / STEP;
            double above = (1.0 - fx) * at(noise, H, W, i, j) + fx * at(noise, H, W, i, j + 1);
            double below = (1.0 - fx) * at(noise, H, W, i + 1, j) + fx * at(noise, H, W, i + 1, j + 1);
            out[y * W + x] = (1.0 - fy) * above + fy * below;
        }
    }
}
