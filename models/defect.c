/* defect.c - synthetic defects. Entry: adze_defect_draw(), adze_defect_mask(), adze_defect_blend(), adze_texture_draw(). */
#include "models/defect.h"

#include <math.h>

#include "core/memory.h"

/* Gradients of a field from the directions of its corners. */
static void set_gradients(double *gradient, const double *turn, int64_t n)
{
    for (int64_t i = 0; i < n; i++) gradient[2 * i] = cos(2.0 * M_PI * turn[i]), gradient[2 * i + 1] = sin(2.0 * M_PI * turn[i]);
}

void adze_defect_draw(adze_defect *d, adze_philox r, int64_t i)
{
    enum { RX, RY, DEGREES, BETA, TURN };
    uint64_t first = (uint64_t)i * ADZE_DEFECT_DRAWS;
    d->log2_rx = (int)(6.0f * adze_philox_uniform(r, first + RX));
    d->log2_ry = (int)(6.0f * adze_philox_uniform(r, first + RY));
    d->degrees = 180.0 * (double)adze_philox_uniform(r, first + DEGREES) - 90.0;
    d->beta = 0.8 * (double)adze_philox_uniform(r, first + BETA);
    int64_t corners = (((int64_t)1 << d->log2_rx) + 1) * (((int64_t)1 << d->log2_ry) + 1);
    for (int64_t k = 0; k < corners; k++) d->turn[k] = (double)adze_philox_uniform(r, first + TURN + (uint64_t)k);
}

void adze_defect_mask(const adze_defect *d, int64_t H, int64_t W, double *noise, double *rotated, unsigned char *mask)
{
    double gradient[2 * ADZE_DEFECT_CORNERS];
    int64_t rx = (int64_t)1 << d->log2_rx, ry = (int64_t)1 << d->log2_ry;
    set_gradients(gradient, d->turn, (rx + 1) * (ry + 1));
    adze_perlin_field(noise, H, W, rx, ry, gradient);
    adze_perlin_rotate(rotated, noise, H, W, d->degrees);
    for (int64_t i = 0; i < H * W; i++) mask[i] = rotated[i] > ADZE_DEFECT_THRESHOLD;
}

/* Normalising is affine and the weights sum to 1: the blend of normalised bytes is the normalised blend. */
void adze_defect_blend(const float mean[3], const float std[3], const unsigned char *picture, const unsigned char *texture,
                       const unsigned char *mask, double beta, int64_t n_pixels, float *out)
{
    float keep = (float)beta, show = (float)(1.0 - beta), value[3][256];
    for (int c = 0; c < 3; c++)
        for (int v = 0; v < 256; v++) value[c][v] = ((float)v / 255.0f - mean[c]) / std[c];
    for (int64_t i = 0; i < n_pixels; i++)
        for (int c = 0; c < 3; c++) {
            float p = value[c][picture[3 * i + c]];
            out[3 * i + c] = mask[i] ? show * value[c][texture[3 * i + c]] + keep * p : p;
        }
}

void adze_defect_mask_quarter(const unsigned char *mask, int64_t H, int64_t W, float *out)
{
    for (int64_t y = 0; y < H / 4; y++)
        for (int64_t x = 0; x < W / 4; x++) {
            const unsigned char *m = mask + (4 * y + 1) * W + 4 * x + 1;
            out[y * (W / 4) + x] = m[0] + m[1] + m[W] + m[W + 1] >= 2 ? 1.0f : 0.0f;
        }
}

adze_status adze_texture_draw(unsigned char *rgb, int64_t H, int64_t W, uint64_t seed, int64_t number)
{
    enum { COLOR = 0, BEND = 6, FREQUENCY, DIRECTION, CELLS, GRAIN, KIND, TURN = 16, MAX_CELLS = 16, GRAINS = 4096 };
    adze_status st = ADZE_OK;
    adze_philox r = { .seed = seed, .stream = ADZE_STREAM_TEXTURE, .item = (uint32_t)number };
    double turn[(MAX_CELLS + 1) * (MAX_CELLS + 1)], gradient[2 * (MAX_CELLS + 1) * (MAX_CELLS + 1)];
    float u[TURN];
    adze_philox_fill_uniform(r, 0, u, TURN);
    int64_t cells = (int64_t)2 << (int)(4.0f * u[CELLS]), corners = (cells + 1) * (cells + 1);
    double *noise = adze_malloc((size_t)(H * W) * sizeof *noise);
    REQUIRE(noise, ADZE_ENOMEM, "texture: %lld pixels", (long long)(H * W));
    for (int64_t k = 0; k < corners; k++) turn[k] = (double)adze_philox_uniform(r, TURN + (uint64_t)k);
    set_gradients(gradient, turn, corners);
    adze_perlin_field(noise, H, W, cells, cells, gradient);
    double frequency = 4.0 + 60.0 * (double)(u[FREQUENCY] * u[FREQUENCY]), bend = 0.5 * (double)u[BEND];
    double way_y = sin(M_PI * (double)u[DIRECTION]), way_x = cos(M_PI * (double)u[DIRECTION]);
    int kind = (int)(4.0f * u[KIND]);
    for (int64_t y = 0; y < H; y++)
        for (int64_t x = 0; x < W; x++) {
            double n = noise[y * W + x], along = (way_y * (double)y + way_x * (double)x) / (double)W;
            double across = (way_x * (double)y - way_y * (double)x) / (double)W;
            double a = sin(frequency * (along + bend * n)), b = sin(frequency * (across + bend * n));
            /* kinds: clouds, stripes, checks, speckles */
            double w = kind == 0 ? 0.5 + 0.7 * n : kind == 1 ? 0.5 + 0.5 * a : kind == 2 ? (a * b > 0.0) : (n + 0.6 * a * b > 0.2);
            double grain = (double)(adze_philox_uniform(r, GRAINS + (uint64_t)(y * W + x)) - 0.5f) * 64.0 * (double)u[GRAIN];
            w = fmin(fmax(w, 0.0), 1.0);
            for (int c = 0; c < 3; c++) {
                double v = 255.0 * ((1.0 - w) * (double)u[COLOR + c] + w * (double)u[COLOR + 3 + c]) + grain;
                rgb[(y * W + x) * 3 + c] = (unsigned char)fmin(fmax(v, 0.0), 255.0);
            }
        }
done:
    adze_free(noise);
    return st;
}
