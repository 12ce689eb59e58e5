/* pixel_sweep.c - all pixel metrics from the sorted positives and counted negatives. Entry: adze_pixel_sweep().
 *
 * Only positives are sorted, a few per cent of the pixels. The negatives are counted between the distinct scores of the
 * positives and the cuts (rank_count.c), which is all that their ranks are needed for: neither the ROC nor
 * the overlap curve has a corner at a score that only negatives have. */
#include "eval/pixel_sweep.h"

#include <math.h>
#include <stdlib.h>

#include "core/memory.h"
#include "eval/aupro.h"
#include "eval/rank_count.h"
#include "eval/rank_sort.h"

double adze_pixels_first(const adze_pixels *px, bool (*holds)(const void *ctx, double v), const void *ctx)
{
    if (!holds(ctx, px->max)) return INFINITY;
    uint64_t low, high; /* the answer's key lies in [low, high] */
    low = px->float64 ? adze_rank_key_f64(px->min) : adze_rank_key_f32((float)px->min);
    high = px->float64 ? adze_rank_key_f64(px->max) : adze_rank_key_f32((float)px->max);
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        double v = px->float64 ? adze_rank_value_f64(middle) : adze_rank_value_f32((uint32_t)middle);
        if (holds(ctx, v)) high = middle;
        else low = middle + 1;
    }
    return px->float64 ? adze_rank_value_f64(low) : adze_rank_value_f32((uint32_t)low);
}

static double positive_value(const adze_pixels *px, int64_t i)
{
    return px->float64 ? adze_rank_value_f64(px->key[i]) : adze_rank_value_f32((uint32_t)(px->key[i] >> 32));
}

static uint32_t positive_region(const adze_pixels *px, int64_t i)
{
    return px->float64 ? px->region[i] : (uint32_t)px->key[i];
}

static int descending(const void *a, const void *b)
{
    double x = (*(adze_cut *const *)a)->value, y = (*(adze_cut *const *)b)->value;
    return (x < y) - (x > y);
}

/* Distinct values of positives and finite cuts, ascending. `order`: the cuts, descending. Returns their number. */
static int64_t merge_values(const adze_pixels *px, adze_cut *const *order, int64_t n_cuts, double *value)
{
    int64_t m = 0, c = n_cuts - 1, i = 0;
    while (i < px->n_positive || (c >= 0 && isfinite(order[c]->value))) {
        bool from_cut = i >= px->n_positive ||
                        (c >= 0 && order[c]->value < positive_value(px, i)); /* infinity is never less */
        double v = from_cut ? order[c--]->value : positive_value(px, i++);
        if (m == 0 || value[m - 1] != v) value[m++] = v;
    }
    return m;
}

/* 2^96/area, and 2^96 times float32(1/area). */
static void region_weights(const adze_pixels *px, adze_u128 (*w)[2])
{
    for (int64_t k = 0; k < px->n_regions; k++) {
        float rounded = 1.0f / (float)px->area[k];
        w[k][0] = ((adze_u128)1 << ADZE_WEIGHT_BITS) / (adze_u128)px->area[k];
        w[k][1] = (adze_u128)ldexp((double)rounded, ADZE_WEIGHT_BITS); /* 24 bits: an integer */
    }
}

adze_status adze_pixel_sweep(adze_pixels *px, double limit, int threads, adze_cut *cut, int64_t n_cuts,
                             adze_pixel_exact *exact, adze_curve *roc, adze_curve *pr, adze_curve *pro)
{
    adze_status st = ADZE_OK;
    double *value = NULL;
    int64_t *count = NULL;
    adze_u128(*weight)[2] = NULL;
    adze_cut **order = NULL;
    const int64_t P = px->n_positive, N = px->n_negative;
    const bool defined = P > 0 && N > 0;

    REQUIRE(order = adze_malloc((size_t)n_cuts * sizeof *order), ADZE_ENOMEM, "pixel metrics: no memory for %lld cuts",
            (long long)n_cuts);
    for (int64_t c = 0; c < n_cuts; c++) order[c] = &cut[c];
    qsort(order, (size_t)n_cuts, sizeof *order, descending);
    TRY(adze_rank_sort(px->key, px->region, P, px->float64 ? 0 : 32));

    size_t room = (size_t)(P + n_cuts), bytes = room * sizeof *value + (2 * room + 1) * sizeof *count;
    REQUIRE(value = adze_malloc(room * sizeof *value), ADZE_ENOMEM, "pixel metrics: %zu host bytes", bytes);
    int64_t m = merge_values(px, order, n_cuts, value);
    REQUIRE(count = adze_malloc((2 * (size_t)m + 1) * sizeof *count), ADZE_ENOMEM, "pixel metrics: %zu host bytes", bytes);
    TRY(adze_rank_count(px->negative, px->float64, N, value, m, threads, count));
    REQUIRE(weight = adze_malloc((size_t)px->n_regions * sizeof *weight), ADZE_ENOMEM,
            "pixel metrics: no memory for %lld regions", (long long)px->n_regions);
    region_weights(px, weight);

    adze_rank_curve rank;
    adze_aupro area;
    adze_rank_curve_begin(&rank, P, N, roc, pr);
    if (defined) adze_aupro_begin(&area, limit, px->n_regions, N, pro);
    int64_t fp = 0, tp = 0, i = P - 1, c = 0, passed = 0;
    adze_u128 overlap = 0, rounded = 0;
    for (; c < n_cuts && isinf(order[c]->value); c++)
        *order[c] = (adze_cut){ .value = order[c]->value };
    for (int64_t j = m - 1; j >= 0; j--) {
        const int64_t between = count[2 * j + 2], negatives = count[2 * j + 1], before = tp;
        for (; i >= 0 && positive_value(px, i) == value[j]; i--, tp++) {
            const adze_u128 *w = weight[positive_region(px, i)];
            overlap += w[0], rounded += w[1];
        }
        fp += between + negatives;
        for (; c < n_cuts && order[c]->value == value[j]; c++)
            *order[c] = (adze_cut){ value[j], fp, tp, overlap, rounded };
        if (tp == before) {
            passed += between + negatives;
        } else if (defined) {
            adze_rank_curve_step(&rank, value[j], passed + between, negatives, tp - before);
            adze_aupro_step(&area, passed + between, negatives, overlap);
            passed = 0;
        }
    }
    adze_rank_curve_end(&rank, exact->rank, &exact->threshold);
    exact->aupro = defined ? adze_aupro_end(&area) : NAN;
done:
    adze_free(order);
    adze_free(value);
    adze_free(count);
    adze_free(weight);
    return st;
}
