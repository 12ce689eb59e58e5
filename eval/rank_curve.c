/* rank_curve.c - the metrics that depend on ranks alone. Entry: adze_rank_curve_step(), adze_image_metrics().
 *
 *   AUROC  = P(s+ > s-) + P(s+ = s-)/2            pairs counted as integers, one division
 *   AP     = sum over distinct scores of (R_k - R_{k-1}) Prec_k      no trapezoid; equal scores enter together
 *   F1-max = max over distinct scores of 2TP / (2TP + FP + FN) */
#include "eval/rank_curve.h"

#include <math.h>

#include "core/memory.h"
#include "eval/rank_sort.h"

void adze_rank_curve_begin(adze_rank_curve *c, int64_t n_positive, int64_t n_negative, adze_curve *roc, adze_curve *pr)
{
    *c = (adze_rank_curve){ .n_positive = n_positive, .n_negative = n_negative, .threshold = NAN };
    int defined = n_positive > 0 && n_negative > 0;
    adze_curve_begin(&c->roc, roc, 1.0, 0);
    adze_curve_begin(&c->pr, pr, 1.0, 1);
    if (!defined) c->roc.curve = c->pr.curve = NULL;
    adze_curve_add(&c->roc, 0.0, 0.0);
}

void adze_rank_curve_step(adze_rank_curve *c, double score, int64_t passed, int64_t negatives, int64_t positives)
{
    const double P = (double)c->n_positive, N = (double)c->n_negative;
    if (passed > 0) adze_curve_add(&c->roc, (double)(c->fp + passed) / N, (double)c->tp / P);
    c->fp += passed + negatives;
    c->tp += positives;
    int64_t below = c->n_negative - c->fp;
    c->pairs2 += (adze_u128)positives * (adze_u128)(2 * below + negatives);
    double precision = (double)c->tp / (double)(c->tp + c->fp);
    adze_exact_sum_add(&c->ap, (double)positives * precision);
    double f1 = 2.0 * (double)c->tp / (double)(c->tp + c->fp + c->n_positive);
    if (f1 > c->f1_max) c->f1_max = f1, c->threshold = score;
    adze_curve_add(&c->roc, (double)c->fp / N, (double)c->tp / P);
    adze_curve_add(&c->pr, (double)c->tp / P, precision);
}

void adze_rank_curve_end(adze_rank_curve *c, double value[3], double *threshold)
{
    const double P = (double)c->n_positive, N = (double)c->n_negative;
    value[0] = value[1] = value[2] = *threshold = NAN;
    if (c->n_positive == 0 || c->n_negative == 0) return;
    value[0] = (double)c->pairs2 / (2.0 * P * N);
    value[1] = (c->ap.sum + c->ap.error) / P;
    value[2] = c->f1_max;
    *threshold = c->threshold;
    if (c->fp < c->n_negative) adze_curve_add(&c->roc, 1.0, 1.0);
    adze_curve_end(&c->roc);
    adze_curve_end(&c->pr);
}

adze_status adze_image_metrics(const double *score, const int *label, int64_t n, double value[3], double *threshold,
                               adze_curve *roc, adze_curve *pr)
{
    adze_status st = ADZE_OK;
    uint64_t *key = NULL;
    uint32_t *positive = NULL;
    int64_t P = 0;
    if (roc) roc->n = 0;
    if (pr) pr->n = 0;
    REQUIRE(n >= 0, ADZE_EINVAL, "image metrics: %lld scores", (long long)n);
    REQUIRE(key = adze_malloc((size_t)n * sizeof *key), ADZE_ENOMEM, "image metrics: no memory for %lld scores",
            (long long)n);
    REQUIRE(positive = adze_malloc((size_t)n * sizeof *positive), ADZE_ENOMEM, "image metrics: no memory for %lld labels",
            (long long)n);
    for (int64_t i = 0; i < n; i++) {
        REQUIRE(!isnan(score[i]), ADZE_ENUMERIC, "image metrics: score %lld is NaN", (long long)i);
        key[i] = adze_rank_key_f64(score[i]);
        positive[i] = label[i] != 0;
        P += label[i] != 0;
    }
    TRY(adze_rank_sort(key, positive, n, 0));

    adze_rank_curve c;
    adze_rank_curve_begin(&c, P, n - P, roc, pr);
    int64_t passed = 0;
    for (int64_t i = n - 1; i >= 0;) {
        int64_t count[2] = { 0, 0 };
        const uint64_t here = key[i];
        for (; i >= 0 && key[i] == here; i--) count[positive[i]]++;
        if (count[1] == 0) {
            passed += count[0];
            continue;
        }
        adze_rank_curve_step(&c, adze_rank_value_f64(here), passed, count[0], count[1]);
        passed = 0;
    }
    adze_rank_curve_end(&c, value, threshold);
done:
    adze_free(key);
    adze_free(positive);
    return st;
}
