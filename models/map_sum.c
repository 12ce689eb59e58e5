/* map_sum.c - levels of a pyramid of maps, enlarged and added. Entry: map_sum_add(). */
#include "models/map_sum.h"

#include "core/map_post.h"

adze_status map_sum_add(double *sum, bool first, const map_level *level, int64_t n, int64_t H, int64_t W, int threads, double *large)
{
    adze_status st = ADZE_OK;
    float *narrow = (float *)large;
    adze_map_opts opts = ADZE_MAP_OPTS;
    opts.align_corners = true;
    opts.threads = threads;
    if (level->f32) TRY(adze_map_upsample(level->f32, n, level->h, level->w, H, W, &opts, narrow));
    else TRY(adze_map_upsample_f64(level->f64, n, level->h, level->w, H, W, &opts, large));
    for (int64_t i = 0; i < n * H * W; i++) sum[i] = (first ? 0.0 : sum[i]) + (level->f32 ? (double)narrow[i] : large[i]);
done:
    return st;
}
