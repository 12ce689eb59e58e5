/* case_tensor.h - the deterministic tensors of the case files, computed from their names (tests/golden/README.md).
 * For the case runners and for benchmarks that check their answers: a process that runs out of memory here ends. */
#ifndef ADZE_TESTS_CASE_TENSOR_H
#define ADZE_TESTS_CASE_TENSOR_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* New memory for n floats (free). */
float *golden_floats(int64_t n);
/* `n` elements in [-1, 1), into new memory (free). */
float *golden_unit(const char *name, int64_t n);
float *golden_uniform(const char *name, double lo, double hi, int64_t n);
/* Weight rule by name (prefix included) and shape. */
float *golden_weight(const char *name, const int64_t *shape, int rank);
uint64_t golden_hash(const char *name, uint64_t i);

#ifdef __cplusplus
}
#endif
#endif
