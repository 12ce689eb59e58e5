/* random_rotation.c - a product of Householder reflections of random vectors. Entry: adze_random_rotation().
 *
 * For k = 0 .. n-2: x of n - k normals, d_k = sign(x_0), x_0 += d_k |x|, x scaled so that the reflection is 1 - x x^T;
 * H[:,k:] -= (H[:,k:] x) x^T. d_{n-1} makes the determinant 1; row i of H is multiplied by d_i.
 * Rows of H are independent: a thread takes a few through all reflections while those stream by. Dot products have eight
 * lanes in a fixed order. */
#include "core/random_rotation.h"

#include <inttypes.h>
#include <math.h>

#include "core/memory.h"

#define CLONES __attribute__((noinline, target_clones("avx512f", "avx2", "default")))

enum { ROWS = 8, LANES = 8 };

/* `rows` rows of n: each loses its share along x. */
CLONES static void reflect(double *row, int rows, int64_t stride, const double *x, int64_t n)
{
    for (int i = 0; i < rows; i++) {
        double *h = row + i * stride, lane[LANES] = { 0.0 };
        int64_t k = 0;
        for (; k + LANES <= n; k += LANES)
            for (int l = 0; l < LANES; l++) lane[l] += h[k + l] * x[k + l];
        for (int l = 0; k + l < n; l++) lane[l] += h[k + l] * x[k + l];
        double dot = ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
        for (k = 0; k < n; k++) h[k] -= dot * x[k];
    }
}

/* Where the vector of reflection k begins: those before it have n, n-1, ... numbers. */
static int64_t begin_of(int64_t n, int64_t k) { return k * n - k * (k - 1) / 2; }

void adze_rotation_from_normals(int64_t n, double *x, double *w)
{
    double last = (n - 1) % 2 ? -1.0 : 1.0;
    for (int64_t k = 0; k + 1 < n; k++) {
        double *v = x + begin_of(n, k), length2 = 0.0, first = v[0];
        for (int64_t i = 0; i < n - k; i++) length2 += v[i] * v[i];
        double sign = first < 0.0 ? -1.0 : 1.0;
        v[0] += sign * sqrt(length2);
        double scale = 1.0 / sqrt((length2 - first * first + v[0] * v[0]) / 2.0);
        for (int64_t i = 0; i < n - k; i++) v[i] *= scale;
        last *= sign;
    }
#pragma omp parallel for schedule(dynamic)
    for (int64_t i0 = 0; i0 < n; i0 += ROWS) {
        const int rows = n - i0 < ROWS ? (int)(n - i0) : ROWS;
        for (int64_t i = i0; i < i0 + rows; i++)
            for (int64_t k = 0; k < n; k++) w[i * n + k] = i == k;
        for (int64_t k = 0; k + 1 < n; k++) reflect(w + i0 * n + k, rows, n, x + begin_of(n, k), n - k);
    }
    for (int64_t i = 0; i < n; i++) {
        /* the reflected first number has the sign of the one that was drawn */
        double d = i + 1 < n ? (x[begin_of(n, i)] < 0.0 ? -1.0 : 1.0) : last;
        for (int64_t k = 0; k < n; k++) w[i * n + k] *= d;
    }
}

adze_status adze_random_rotation(adze_philox r, int64_t n, float *w)
{
    adze_status st = ADZE_OK;
    int64_t n_normals = n * (n + 1) / 2 - 1;
    double *x = NULL, *wide = NULL;
    float *draw = NULL;
    REQUIRE(n > 0 && n <= 65536, ADZE_EINVAL, "rotation: %" PRId64 " dimensions, want 1 to 65536", n);
    draw = adze_malloc((size_t)(n_normals + 1) * sizeof *draw);
    x = adze_malloc((size_t)(n_normals + 1) * sizeof *x);
    wide = adze_malloc((size_t)(n * n) * sizeof *wide);
    REQUIRE(draw && x && wide, ADZE_ENOMEM, "rotation: %zu host bytes", (size_t)(n * n) * sizeof *wide);
    adze_philox_fill_normal(r, 0, draw, n_normals);
    for (int64_t i = 0; i < n_normals; i++) x[i] = draw[i];
    adze_rotation_from_normals(n, x, wide);
    for (int64_t i = 0; i < n * n; i++) w[i] = (float)wide[i];
done:
    adze_free(draw);
    adze_free(x);
    adze_free(wide);
    return st;
}
