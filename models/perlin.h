/* perlin.h - Perlin's gradient noise, and its rotation as OpenCV rotates: where synthetic defects are.
 *
 * Source: Perlin, Improving noise (SIGGRAPH 2002); DeSTSeg's and DRAEM's augmentation; specs/destseg.md 2.1. */
#ifndef ADZE_MODELS_PERLIN_H
#define ADZE_MODELS_PERLIN_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { ADZE_PERLIN_MAX_CELLS = 32 };

/* A field of rx by ry cells: noise (H,W) with about [-1, 1]. gradient (rx+1, ry+1, 2): the unit vectors (row, column) at the
 * corners of the cells. */
void adze_perlin_field(double *noise, int64_t H, int64_t W, int64_t rx, int64_t ry, const double *gradient);
/* `noise` (H,W) turned by `degrees`, clockwise on the screen, about its centre; bilinear, zeros outside. Source coordinates
 * are rounded to 1/32 pixel, as OpenCV's warpAffine does. */
void adze_perlin_rotate(double *out, const double *noise, int64_t H, int64_t W, double degrees);

#ifdef __cplusplus
}
#endif
#endif
