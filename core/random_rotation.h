/* random_rotation.h - rotations drawn uniformly (by Haar's measure) from all of SO(n). */
#ifndef ADZE_CORE_RANDOM_ROTATION_H
#define ADZE_CORE_RANDOM_ROTATION_H

#include <stdint.h>

#include "core/philox.h"
#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* w (n,n) row-major: orthogonal with determinant 1; computed in double, rounded once. n(n+1)/2 - 1 normals of `r`, 2 n^3 flops.
 * The same bits with any number of threads and on every instruction set. ADZE_ENOMEM.
 * Source: Stewart, The efficient generation of random orthogonal matrices (SINUM 1980), as scipy's special_ortho_group had it. */
adze_status adze_random_rotation(adze_philox r, int64_t n, float *w);
/* The same from given normals, in double: w (n,n), x (n(n+1)/2 - 1) overwritten. */
void adze_rotation_from_normals(int64_t n, double *x, double *w);

#ifdef __cplusplus
}
#endif
#endif
