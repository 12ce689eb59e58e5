/* kcenter.h - greedy k-center selection (farthest-first traversal) of a coreset. Entry: adze_kcenter_select().
 *
 *   m_i    = start value (see adze_kcenter_init)
 *   repeat   p = argmax m (lowest index on ties), append p, m_i = min(m_i, d(x_i, x_p))
 *
 * The arithmetic is part of the definition, so that picks do not depend on the instruction set, the number of threads or
 * the algorithm: d = sqrt of the sum of float32 squares of float32 differences, element j added to lane j mod 16 in
 * ascending j (each operation rounded, no FMA), lanes folded as l += l+8, l+4, l+2, l+1. The result equals the loop above
 * to the bit, duplicates and exhaustion (all m = 0: row 0 again and again) included.
 *
 * Algorithm: values only fall, so a stale m is an upper bound and a row need not be compared with new picks as long as
 * its m is below the largest m elsewhere. Rows are brought up to date in batches, only when the search reaches their
 * value; a product in float32 or bfloat16 with the error bound of core/knn.h proves for most pairs that the pick
 * changes nothing, the rest get the direct distance.
 *
 * Source: Sener and Savarese, ICLR 2018; PatchCore (Roth et al., CVPR 2022), coreset. */
#ifndef ADZE_CORE_KCENTER_H
#define ADZE_CORE_KCENTER_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/isa.h"
#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    ADZE_KCENTER_MEAN = 0, /* m_i = mean of d(x_i, x_s) over the starts; starts are not picked themselves (approximate greedy) */
    ADZE_KCENTER_NORM,     /* m_i = Euclidean norm of row i of the full distance matrix (exact greedy); no starts */
    ADZE_KCENTER_FIRST     /* m_i = d(x_i, x_s) with one start, not picked itself */
} adze_kcenter_init;

/* Called about ten times a second at most, on the calling thread; false stops the selection. */
typedef bool (*adze_kcenter_progress)(void *arg, int64_t done, int64_t total);

typedef struct {
    adze_kcenter_init init;
    const int64_t *starts; /* (n_starts), borrowed; none for ADZE_KCENTER_NORM */
    int64_t n_starts;
    adze_isa isa;
    int threads;                    /* 0 = OpenMP's maximum */
    adze_kcenter_progress progress; /* NULL: none */
    void *progress_arg;
    const volatile sig_atomic_t *cancel; /* non-zero there stops the selection; NULL: none */
    struct adze_ctx *ctx;                /* runs on its device, if its backend has it; NULL: the cpu */
} adze_kcenter_opts;
#define ADZE_KCENTER_OPTS ((adze_kcenter_opts){ .init = ADZE_KCENTER_MEAN })

typedef struct {
    int64_t batches;
    int64_t filtered; /* (row, pick) pairs settled by the filter or by a direct distance ... */
    int64_t direct;   /* ... and those that took a direct distance */
} adze_kcenter_stats;

/* Picks K of the rows of x (N,d) float32.
 *
 *   picks (K) written, in order
 *   start (N) m before the first pick, rest (N) m after the last; each NULL if not wanted (rest costs a last pass)
 *   stats written; NULL is fine
 *
 *   bytes  16 N + K d 4 (2 with bfloat16) + less than 1 MB beside x, whose rows are borrowed: adze_kcenter_bytes()
 *
 * ADZE_EINVAL for sizes outside 1 <= d <= 65536, 1 <= N < 2^31, 0 <= K, for missing, surplus or out-of-range starts;
 * ADZE_ENUMERIC for NaN, infinity or a row longer than 1e18; ADZE_EINTERRUPTED when stopped; ADZE_ENOMEM;
 * ADZE_EBACKEND if the machine lacks opts->isa. */
adze_status adze_kcenter_select(const float *x, int64_t N, int64_t d, int64_t K, const adze_kcenter_opts *opts,
                                int64_t *picks, float *start, float *rest, adze_kcenter_stats *stats);

/* Scratch bytes of the selection beside x and the results, an upper bound for OpenMP's maximum of threads. SIZE_MAX
 * for sizes that adze_kcenter_select() refuses. */
size_t adze_kcenter_bytes(int64_t N, int64_t d, int64_t K);
/* Memory that the selection takes of the device of `ctx`; 0 where it runs in host memory. */
size_t adze_kcenter_device_bytes(const struct adze_ctx *ctx, int64_t N, int64_t d, int64_t K, int64_t n_starts);

/* floor(ratio * N) with the product in double, as Python's int(ratio * N); at least 1 for N > 0 and ratio > 0. */
int64_t adze_kcenter_count(double ratio, int64_t N);

#ifdef __cplusplus
}
#endif
#endif
