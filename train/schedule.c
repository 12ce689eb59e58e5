/* schedule.c - learning-rate curves. Entry: adze_schedule_lr(). */
#include "train/schedule.h"

#include <inttypes.h>
#include <math.h>

static const double pi = 3.14159265358979323846;

adze_schedule adze_schedule_benchmark(double lr, int64_t epochs, int64_t per_epoch)
{
    adze_schedule s = ADZE_SCHEDULE(lr);
    int64_t period = epochs * 4 / 5 * per_epoch;
    if (period > 0) {
        s.kind = ADZE_SCHEDULE_STEP;
        s.period = period;
    }
    return s;
}

adze_schedule adze_schedule_meta_epochs(double lr, double decay, int64_t meta, int64_t sub, int64_t per_pass, int64_t warm)
{
    adze_schedule s = ADZE_SCHEDULE(lr);
    s.kind = ADZE_SCHEDULE_STAIRS;
    s.lr_min = lr * decay * decay * decay;
    s.hold = sub * per_pass;
    s.period = meta * s.hold;
    s.warmup = warm * s.hold;
    s.warmup_from = lr / 10.0;
    return s;
}

adze_status adze_schedule_check(const adze_schedule *s)
{
    adze_status st = ADZE_OK;
    REQUIRE(s->kind >= ADZE_SCHEDULE_CONSTANT && s->kind <= ADZE_SCHEDULE_STAIRS, ADZE_EINVAL, "schedule: kind %d is none",
            (int)s->kind);
    REQUIRE(isfinite(s->lr) && s->lr >= 0.0, ADZE_EINVAL, "schedule: learning rate %g, want >= 0", s->lr);
    REQUIRE(isfinite(s->rate) && s->rate >= 0.0, ADZE_EINVAL, "schedule: rate %g, want >= 0", s->rate);
    REQUIRE(isfinite(s->lr_min) && s->lr_min >= 0.0, ADZE_EINVAL, "schedule: smallest rate %g, want >= 0", s->lr_min);
    REQUIRE(s->period > 0 && s->hold > 0, ADZE_EINVAL, "schedule: period %" PRId64 " and hold %" PRId64 ", want both > 0",
            s->period, s->hold);
    REQUIRE(s->warmup >= 0, ADZE_EINVAL, "schedule: warm-up of %" PRId64 " iterations, want >= 0", s->warmup);
    REQUIRE(isfinite(s->warmup_from) && s->warmup_from >= 0.0, ADZE_EINVAL, "schedule: warm-up from %g, want >= 0",
            s->warmup_from);
done:
    return st;
}

static double curve(const adze_schedule *s, int64_t t)
{
    switch (s->kind) {
    case ADZE_SCHEDULE_STEP: return s->lr * pow(s->rate, (double)(t / s->period));
    case ADZE_SCHEDULE_STAIRS: t = t / s->hold * s->hold; /* fall through */
    case ADZE_SCHEDULE_COSINE:
        if (t >= s->period) return s->lr_min;
        return s->lr_min + (s->lr - s->lr_min) * (1.0 + cos(pi * (double)t / (double)s->period)) / 2.0;
    case ADZE_SCHEDULE_CONSTANT: break;
    }
    return s->lr;
}

double adze_schedule_lr(const adze_schedule *s, int64_t t)
{
    int64_t shift = s->delayed ? s->warmup : 0;
    if (t >= s->warmup) return curve(s, t - shift);
    return s->warmup_from + (double)t * (curve(s, s->warmup - shift) - s->warmup_from) / (double)s->warmup;
}
