/* matmul_lt.h - one matrix product of fixed shape by cuBLASLt. Entry: matmul_lt_create().
 *
 *   D (m,n) = epilogue(op(A) op(B) [+ D])      column-major as cuBLAS counts; `batch` of them at fixed distances
 *
 * float32 in memory. Compute type: true float32 (with --deterministic the pedantic one is not needed: one stream and an own
 * workspace repeat bit by bit on one device); tf32 and bf16 by --precision. Of the eight algorithms that the heuristic offers, the
 * first that needs no more than the workspace is timed against the others and kept in the plan cache. */
#ifndef ADZE_CUDA_MATMUL_LT_H
#define ADZE_CUDA_MATMUL_LT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct matmul_lt matmul_lt; /* opaque: owns descriptors */

typedef struct {
    bool transpose_a, transpose_b;
    int64_t m, n, k, batch;
    int64_t lda, ldb, ldd;                    /* distances of columns as stored */
    int64_t stride_a, stride_b, stride_d;     /* distances of the matrices of a batch */
    bool bias;                                /* add a bias (m) to each column */
    bool relu;                                /* ReLU behind the bias, which is there */
    bool accumulate;                          /* add to D, before bias and ReLU */
    bool unaligned;                           /* matrices may start at any float; without it, at multiples of 16 bytes */
} matmul_problem;

/* ADZE_EBACKEND if no algorithm supports it. */
adze_status matmul_lt_create(matmul_lt **out, adze_ctx *ctx, const matmul_problem *problem);
void matmul_lt_destroy(matmul_lt *p);
size_t matmul_lt_workspace_bytes(const matmul_lt *p);
/* All but `part`. */
adze_engine matmul_lt_engine(const matmul_lt *p);
/* Asynchronous; may be captured. */
adze_status matmul_lt_run(const matmul_lt *p, const float *a, const float *b, const float *bias, float *d, void *workspace);

/* The library handle of a context; created at the first use. */
void matmul_lt_close(adze_ctx *ctx);

#ifdef __cplusplus
}
#endif

#endif
