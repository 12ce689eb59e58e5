/* peak.c - the clock, and the peaks of the machine: arithmetic and copying. */
#include "bench/peak.h"

#include <omp.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "core/isa.h"
#include "core/memory.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { ROUNDS = 2000000, CHAINS = 12, REPEATS = 8, COPY_BYTES = 128 << 20 };

double bench_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Each returns the FLOPs done and keeps a value alive through *sink. */
static double chains_plain(volatile float *sink)
{
    float acc[CHAINS] = { 0 };
    for (int64_t i = 0; i < ROUNDS / 8; i++)
        for (int c = 0; c < CHAINS; c++) acc[c] = acc[c] * 0.5f + 1.0f;
    for (int c = 0; c < CHAINS; c++) *sink += acc[c];
    return 2.0 * CHAINS * (ROUNDS / 8);
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) static double chains_avx2(volatile float *sink)
{
    __m256 acc[CHAINS], half = _mm256_set1_ps(0.5f), one = _mm256_set1_ps(1.0f);
    for (int c = 0; c < CHAINS; c++) acc[c] = one;
    for (int64_t i = 0; i < ROUNDS; i++)
#pragma GCC unroll 12
        for (int c = 0; c < CHAINS; c++) acc[c] = _mm256_fmadd_ps(acc[c], half, one);
    for (int c = 0; c < CHAINS; c++) *sink += _mm256_cvtss_f32(acc[c]);
    return 2.0 * 8 * CHAINS * ROUNDS;
}

__attribute__((target("avx512f"))) static double chains_avx512(volatile float *sink)
{
    __m512 acc[CHAINS], half = _mm512_set1_ps(0.5f), one = _mm512_set1_ps(1.0f);
    for (int c = 0; c < CHAINS; c++) acc[c] = one;
    for (int64_t i = 0; i < ROUNDS; i++)
#pragma GCC unroll 12
        for (int c = 0; c < CHAINS; c++) acc[c] = _mm512_fmadd_ps(acc[c], half, one);
    for (int c = 0; c < CHAINS; c++) *sink += _mm512_cvtss_f32(acc[c]);
    return 2.0 * 16 * CHAINS * ROUNDS;
}

__attribute__((target("avx512bf16,avx512f"))) static double chains_bf16(volatile float *sink)
{
    __m512 acc[CHAINS];
    __m512bh x = (__m512bh)_mm512_set1_epi32(0x3f803f80);
    for (int c = 0; c < CHAINS; c++) acc[c] = _mm512_setzero_ps();
    for (int64_t i = 0; i < ROUNDS; i++)
#pragma GCC unroll 12
        for (int c = 0; c < CHAINS; c++) acc[c] = _mm512_dpbf16_ps(acc[c], x, x);
    for (int c = 0; c < CHAINS; c++) *sink += _mm512_cvtss_f32(acc[c]);
    return 2.0 * 32 * CHAINS * ROUNDS;
}

__attribute__((target("avx512vnni,avx512f"))) static double chains_int8(volatile float *sink)
{
    __m512i acc[CHAINS], x = _mm512_set1_epi8(1);
    for (int c = 0; c < CHAINS; c++) acc[c] = _mm512_setzero_si512();
    for (int64_t i = 0; i < ROUNDS; i++) {
#pragma GCC unroll 12
        for (int c = 0; c < CHAINS; c++) acc[c] = _mm512_dpbusd_epi32(acc[c], x, x);
    }
    for (int c = 0; c < CHAINS; c++) *sink += _mm512_cvtss_f32(_mm512_cvtepi32_ps(acc[c]));
    return 2.0 * 64 * CHAINS * ROUNDS;
}
#endif

double bench_peak_flops(int threads, bench_arithmetic kind)
{
    double (*chains)(volatile float *) = chains_plain;
    double best = 0.0;
#if defined(__x86_64__)
    if (adze_isa_available(ADZE_ISA_AVX2)) chains = chains_avx2;
    if (adze_isa_available(ADZE_ISA_AVX512)) chains = chains_avx512;
    if (kind != BENCH_F32 && adze_isa_available(ADZE_ISA_AVX512_BF16)) chains = kind == BENCH_BF16 ? chains_bf16 : chains_int8;
#else
    (void)kind;
#endif
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        double flops = 0.0, start = bench_seconds();
#pragma omp parallel num_threads(threads) reduction(+ : flops)
        {
            volatile float sink = 0.0f;
            flops += chains(&sink);
        }
        double rate = flops / (bench_seconds() - start);
        best = rate > best ? rate : best;
    }
    return best;
}

double bench_copy_rate(int threads)
{
    double best = 0.0;
    char *from = adze_malloc(COPY_BYTES), *to = adze_malloc(COPY_BYTES);
    if (from && to) memset(from, 1, COPY_BYTES);
    for (int repeat = 0; from && to && repeat <= REPEATS; repeat++) { /* the first one touches the memory */
        double start = bench_seconds();
#pragma omp parallel for num_threads(threads)
        for (int part = 0; part < threads; part++) {
            size_t begin = (size_t)COPY_BYTES / (size_t)threads * (size_t)part;
            memcpy(to + begin, from + begin, (size_t)COPY_BYTES / (size_t)threads);
        }
        double rate = 2.0 * COPY_BYTES / (bench_seconds() - start);
        if (repeat > 0 && rate > best) best = rate;
    }
    adze_free(from);
    adze_free(to);
    return best;
}
