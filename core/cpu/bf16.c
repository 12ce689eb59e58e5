/* bf16.c - arrays of float32 to bfloat16: the operands of products with --precision bf16. Entry: adze_bf16_convert().
 * bytes   read 4 n, write 2 n; the instruction rounds 32 elements at a time, so that memory is the floor */
#include "core/cpu/bf16.h"

#include "core/isa.h"

enum { CHUNK = 1 << 14 }; /* elements per piece of work */

static void convert_plain(const float *x, int64_t n, uint16_t *y)
{
    for (int64_t i = 0; i < n; i++) y[i] = adze_bf16_round(x[i]);
}

#if defined(__x86_64__)
#include <immintrin.h>

__attribute__((target("avx512bf16,avx512f,avx512bw,avx512dq,avx512vl"))) static void convert_bf16(const float *x, int64_t n, uint16_t *y)
{
    int64_t i = 0;
    for (; i + 32 <= n; i += 32)
        _mm512_storeu_si512(y + i, (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + i + 16), _mm512_loadu_ps(x + i)));
    convert_plain(x + i, n - i, y + i);
}
#else
static void convert_bf16(const float *x, int64_t n, uint16_t *y) { convert_plain(x, n, y); }
#endif

typedef void (*converter)(const float *x, int64_t n, uint16_t *y);

static converter best_converter(void) { return adze_isa_available(ADZE_ISA_AVX512_BF16) ? convert_bf16 : convert_plain; }

void adze_bf16_convert(const float *x, int64_t n, uint16_t *y)
{
    const converter convert = best_converter();
#pragma omp parallel for schedule(static) if (n > CHUNK)
    for (int64_t at = 0; at < n; at += CHUNK) convert(x + at, n - at < CHUNK ? n - at : CHUNK, y + at);
}

void adze_bf16_convert_row(const float *x, int64_t n, uint16_t *y) { best_converter()(x, n, y); }
