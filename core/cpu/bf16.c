/* bf16.c - arrays of float32 to bfloat16: the operands of products with --precision bf16. Entry: adze_bf16_convert(), adze_bf16_pack().
 * bytes   read 4 n, write 2 n; the instruction rounds 32 elements at a time, so that memory is the floor
 * packing (EPYC 9004, 1 thread, in cache): (768,512) transposed 0.046 ms, oneDNN's reorder 0.16; (512,768) 0.056, 0.114 */
#include "core/cpu/bf16.h"

#include "core/isa.h"

enum { CHUNK = 1 << 14 }; /* elements per piece of work */

static void convert_plain(const float *x, int64_t n, uint16_t *y)
{
    for (int64_t i = 0; i < n; i++) y[i] = adze_bf16_round(x[i]);
}

#if defined(__x86_64__)
#include <immintrin.h>

#define BF16 __attribute__((target("avx512bf16,avx512f,avx512bw,avx512dq,avx512vl")))

BF16 static void convert_bf16(const float *x, int64_t n, uint16_t *y)
{
    int64_t i = 0;
    for (; i + 32 <= n; i += 32)
        _mm512_storeu_si512(y + i, (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + i + 16), _mm512_loadu_ps(x + i)));
    convert_plain(x + i, n - i, y + i);
}

/* 16 rows of 16 pairs, turned. */
BF16 static void turn(__m512i r[16])
{
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]), t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]), r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]), r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) { /* r[4 k + i]: columns i, 4 + i, 8 + i, 12 + i of rows 4 k .. */
        const __m512i a = _mm512_shuffle_i32x4(r[i], r[4 + i], 0x88), b = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0x88);
        const __m512i c = _mm512_shuffle_i32x4(r[i], r[4 + i], 0xdd), d = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0xdd);
        t[i] = _mm512_shuffle_i32x4(a, b, 0x88), t[8 + i] = _mm512_shuffle_i32x4(a, b, 0xdd);
        t[4 + i] = _mm512_shuffle_i32x4(c, d, 0x88), t[12 + i] = _mm512_shuffle_i32x4(c, d, 0xdd);
    }
    for (int i = 0; i < 16; i++) r[i] = t[i];
}

/* One block; x points at its first element. */
BF16 static void pack_block(const float *x, int64_t ld, bool transposed, uint16_t *y)
{
    const __m512i mix = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    for (int n = 0; n < ADZE_BF16_BLOCK_N; n += 16) {
        __m512i r[16];
        for (int i = 0; i < 16; i++) {
            const float *low = transposed ? x + (n + i) * ld : x + 2 * i * ld + n, *high = transposed ? low + 16 : low + ld;
            r[i] = (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(high), _mm512_loadu_ps(low));
            if (!transposed) r[i] = _mm512_permutexvar_epi16(mix, r[i]);
        }
        if (transposed) turn(r);
        for (int i = 0; i < 16; i++) _mm512_storeu_si512(y + (i * ADZE_BF16_BLOCK_N + n) * 2, r[i]);
    }
}
#else
static void convert_bf16(const float *x, int64_t n, uint16_t *y) { convert_plain(x, n, y); }
static void pack_block(const float *x, int64_t ld, bool transposed, uint16_t *y) { (void)x, (void)ld, (void)transposed, (void)y; }
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

bool adze_bf16_can_pack(int64_t K, int64_t N)
{
    return K % ADZE_BF16_BLOCK_K == 0 && N % ADZE_BF16_BLOCK_N == 0 && adze_isa_available(ADZE_ISA_AVX512_BF16);
}

/* A thread follows rows of x: 32 or 64 of them at a time. */
void adze_bf16_pack(const float *x, int64_t K, int64_t N, int64_t ld, bool transposed, uint16_t *y)
{
    enum { BLOCK = ADZE_BF16_BLOCK_K * ADZE_BF16_BLOCK_N };
    const int64_t blocks_k = K / ADZE_BF16_BLOCK_K, blocks_n = N / ADZE_BF16_BLOCK_N;
    const int64_t outer = transposed ? blocks_n : blocks_k, inner = transposed ? blocks_k : blocks_n;
#pragma omp parallel for schedule(static)
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < inner; i++) {
            const int64_t k = transposed ? i : o, n = transposed ? o : i, row = transposed ? n * ADZE_BF16_BLOCK_N : k * ADZE_BF16_BLOCK_K;
            pack_block(x + row * ld + (transposed ? k * ADZE_BF16_BLOCK_K : n * ADZE_BF16_BLOCK_N), ld, transposed, y + (n * blocks_k + k) * BLOCK);
        }
}
