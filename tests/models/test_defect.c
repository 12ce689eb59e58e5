/* test_defect.c - synthetic defects: drawn by number alone, masks and blends as they should be, built-in textures that differ.
 * The values themselves are checked by the reference cases in tests/golden/destseg. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "models/defect.h"

static const adze_philox stream = { .seed = 5, .stream = ADZE_STREAM_AUGMENT, .item = 3 };

static void draws_are_functions_of_their_number(void **state)
{
    (void)state;
    adze_defect *a = calloc(2, sizeof *a), *b = a + 1;
    for (int64_t i = 0; i < 50; i++) {
        adze_defect_draw(a, stream, i);
        adze_defect_draw(b, stream, i + 1);
        assert_true(a->degrees != b->degrees && a->beta != b->beta && a->turn[0] != b->turn[0]);
        assert_in_range(a->log2_rx, 0, 5);
        assert_in_range(a->log2_ry, 0, 5);
        assert_true(a->degrees >= -90.0 && a->degrees < 90.0 && a->beta >= 0.0 && a->beta < 0.8);
        adze_defect_draw(b, stream, i);
        int64_t corners = ((1 << a->log2_rx) + 1) * ((1 << a->log2_ry) + 1);
        assert_memory_equal(a->turn, b->turn, (size_t)corners * sizeof *a->turn);
        assert_true(a->degrees == b->degrees && a->beta == b->beta);
    }
    assert_true(ADZE_DEFECT_DRAWS >= 4 + ADZE_DEFECT_CORNERS); /* the next item's numbers are others */
    free(a);
}

/* Every size of cells comes about as often as the others: 600 draws of 6 values, within five deviations. */
static void cells_are_uniform(void **state)
{
    (void)state;
    enum { N = 600 };
    int count[2][6] = { { 0 } };
    adze_defect *d = calloc(1, sizeof *d);
    for (int64_t i = 0; i < N; i++) {
        adze_defect_draw(d, stream, i);
        count[0][d->log2_rx]++;
        count[1][d->log2_ry]++;
    }
    double five = 5.0 * sqrt(N * (1.0 / 6.0) * (5.0 / 6.0));
    for (int i = 0; i < 12; i++) assert_true(fabs(count[i / 6][i % 6] - N / 6.0) < five);
    free(d);
}

/* A field turned by nothing stays as it is; a quarter turn moves corner to corner. */
static void rotation_turns_clockwise(void **state)
{
    (void)state;
    enum { S = 32 };
    double *x = calloc(S * S, sizeof *x), *y = calloc(S * S, sizeof *y);
    x[2 * S + 29] = 1.0; /* near the upper right corner */
    adze_perlin_rotate(y, x, S, S, 0.0);
    assert_memory_equal(x, y, S * S * sizeof *x);
    adze_perlin_rotate(y, x, S, S, 90.0);
    assert_true(fabs(y[29 * S + 29] - 1.0) < 1e-12); /* the lower right one */
    free(x), free(y);
}

static void masks_are_where_noise_is_high(void **state)
{
    (void)state;
    enum { S = 64 };
    double *noise = malloc(2 * S * S * sizeof *noise), *rotated = noise + S * S;
    unsigned char *mask = malloc(S * S);
    adze_defect *d = calloc(1, sizeof *d);
    int64_t ones = 0;
    for (int64_t i = 0; i < 20; i++) {
        adze_defect_draw(d, stream, i);
        adze_defect_mask(d, S, S, noise, rotated, mask);
        for (int k = 0; k < S * S; k++) {
            assert_int_equal(mask[k], rotated[k] > 0.5);
            assert_true(fabs(noise[k]) <= 1.5);
            ones += mask[k];
        }
    }
    assert_true(ones > 0 && ones < 20 * S * S / 4); /* defects cover a small part */
    free(noise), free(mask), free(d);
}

static void blends_mix_normalised_values(void **state)
{
    (void)state;
    const unsigned char picture[6] = { 0, 100, 255, 10, 20, 30 }, texture[6] = { 255, 50, 0, 200, 100, 0 }, mask[2] = { 1, 0 };
    const float mean[3] = { 0.5f, 0.4f, 0.3f }, std[3] = { 0.25f, 0.2f, 0.1f };
    float out[6];
    adze_defect_blend(mean, std, picture, texture, mask, 0.25, 2, out);
    for (int c = 0; c < 3; c++) {
        double v = 0.25 * picture[c] / 255.0 + 0.75 * texture[c] / 255.0;
        assert_true(fabs(out[c] - (v - (double)mean[c]) / (double)std[c]) < 1e-5); /* 16 roundings of values below 10 */
        assert_true(out[3 + c] == ((float)picture[3 + c] / 255.0f - mean[c]) / std[c]);
    }
}

static void quarter_masks_look_at_the_inner_pixels(void **state)
{
    (void)state;
    unsigned char mask[8 * 8] = { 0 };
    float out[4];
    mask[0] = mask[3] = 1;                 /* corners of the first cell do not count */
    mask[1 * 8 + 5] = mask[2 * 8 + 6] = 1; /* two of four are enough */
    mask[5 * 8 + 1] = 1;                   /* one is not */
    for (int i = 5; i < 7; i++) mask[i * 8 + 5] = mask[i * 8 + 6] = 1;
    adze_defect_mask_quarter(mask, 8, 8, out);
    assert_true(out[0] == 0.0f && out[1] == 1.0f && out[2] == 0.0f && out[3] == 1.0f);
}

static void textures_repeat_and_differ(void **state)
{
    (void)state;
    enum { S = 48, N = 12 };
    unsigned char *x = malloc(N * S * S * 3), *again = malloc(S * S * 3);
    for (int64_t i = 0; i < N; i++) {
        unsigned char *at = x + i * S * S * 3;
        assert_int_equal(adze_texture_draw(at, S, S, 7, i), ADZE_OK);
        assert_int_equal(adze_texture_draw(again, S, S, 7, i), ADZE_OK);
        assert_memory_equal(at, again, S * S * 3);
        int low = 255, high = 0;
        for (int k = 0; k < S * S * 3; k++) low = at[k] < low ? at[k] : low, high = at[k] > high ? at[k] : high;
        assert_true(high - low > 8);
        for (int64_t j = 0; j < i; j++) assert_memory_not_equal(at, x + j * S * S * 3, S * S * 3);
    }
    free(x), free(again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_are_functions_of_their_number),
        cmocka_unit_test(cells_are_uniform),
        cmocka_unit_test(rotation_turns_clockwise),
        cmocka_unit_test(masks_are_where_noise_is_high),
        cmocka_unit_test(blends_mix_normalised_values),
        cmocka_unit_test(quarter_masks_look_at_the_inner_pixels),
        cmocka_unit_test(textures_repeat_and_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
