/* heatmap.h - anomaly maps as pictures: colours, overlay, and the panel "original | overlay | map" with a colour bar.
 *
 * The scale [low, high] is given, the same for all pictures of a model, so that colours can be compared. */
#ifndef ADZE_EVAL_HEATMAP_H
#define ADZE_EVAL_HEATMAP_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* An 8-bit RGB picture, rows without padding. Owns `rgb` (adze_picture_destroy). */
typedef struct {
    int64_t H, W;
    unsigned char *rgb; /* (H,W,3) */
} adze_picture;

void adze_picture_destroy(adze_picture *p);

/* Colour of t in [0,1] (clamped): dark blue over red to pale yellow. Lightness rises evenly (OKLab), so the map reads
 * in grey and with any colour blindness. */
void adze_heatmap_colour(double t, unsigned char rgb[3]);

typedef struct {
    double low, high;  /* values of the first and the last colour; low < high */
    double opacity;    /* overlay: share of the colours at the top of the scale, in [0,1]; none at its foot */
    double threshold;  /* pixel threshold whose contour is drawn; NaN = none */
    bool nearest;      /* enlarge the map without interpolation */
    bool own_scale;    /* low and high are this picture's own: marked by a red frame round the colour bar */
    int64_t min_side;  /* tiles are enlarged by a whole factor until their shorter side has at least so many pixels */
} adze_heatmap_opts;
#define ADZE_HEATMAP_OPTS \
    ((adze_heatmap_opts){ .low = 0.0, .high = 1.0, .opacity = 0.75, .threshold = NAN, .min_side = 256 })

/* The map alone in colours, enlarged as the options say; no bar. map (H,W) finite.
 * ADZE_EINVAL: low >= high, or a size that does not fit; ADZE_ENOMEM. */
adze_status adze_heatmap_map(adze_picture *out, const float *map, int64_t H, int64_t W, const adze_heatmap_opts *opts);

/* original | overlay | map | colour bar with numbers.
 *
 *   rgb  (H,W,3) the picture
 *   map  (Hm,Wm), stretched to the picture's size
 *
 * ADZE_EINVAL, ADZE_ENOMEM as above. */
adze_status adze_heatmap_panel(adze_picture *out, const unsigned char *rgb, int64_t H, int64_t W, const float *map,
                               int64_t Hm, int64_t Wm, const adze_heatmap_opts *opts);

#ifdef __cplusplus
}
#endif
#endif
