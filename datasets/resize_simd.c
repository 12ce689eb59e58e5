/* resize_simd.c - the weighted sum of byte rows by AVX2 and AVX-512 VNNI, and the byte transposition that turns the
 * horizontal pass into the same sum. Entry: adze_resize_weigh_avx512().
 *
 * Two taps per multiply-add: bytes of two rows are interleaved, widened to 16 bits, and multiplied by the pair of low
 * halves and the pair of high halves of the weights. Packing back undoes the interleaving, so no shuffle is needed. */
#include "datasets/resize_kernel.h"

#if defined(__x86_64__)
#include <immintrin.h>

enum { HALF_SHIFT = 12, ROUND = 1 << (ADZE_RESIZE_BITS - 1) };

bool adze_resize_has_avx2(void)
{
    return __builtin_cpu_supports("avx2");
}

bool adze_resize_has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}

__attribute__((target("avx2"))) static inline __m256i finish_avx2(__m256i lo, __m256i hi)
{
    return _mm256_srai_epi32(_mm256_add_epi32(lo, _mm256_slli_epi32(hi, HALF_SHIFT)), ADZE_RESIZE_BITS);
}

/* 32 bytes at a time. */
__attribute__((target("avx2"))) static void block_avx2(unsigned char *out, const unsigned char *in, size_t stride,
                                                       const adze_resize_taps *taps)
{
    const __m256i zero = _mm256_setzero_si256();
    __m256i lo[4], hi[4];
    for (int q = 0; q < 4; q++) lo[q] = _mm256_set1_epi32(ROUND), hi[q] = zero;
    for (int64_t t = 0; t < taps->n_taps; t += 2) {
        const unsigned char *row = in + (size_t)t * stride;
        __m256i a = _mm256_loadu_si256((const __m256i *)row);
        __m256i b = t + 1 < taps->n_taps ? _mm256_loadu_si256((const __m256i *)(row + stride)) : zero;
        __m256i k_lo = _mm256_set1_epi32(taps->lo[t / 2]), k_hi = _mm256_set1_epi32(taps->hi[t / 2]);
        __m256i ab[2] = { _mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b) };
        for (int q = 0; q < 4; q++) {
            __m256i x = q & 1 ? _mm256_unpackhi_epi8(ab[q / 2], zero) : _mm256_unpacklo_epi8(ab[q / 2], zero);
            lo[q] = _mm256_add_epi32(lo[q], _mm256_madd_epi16(x, k_lo));
            hi[q] = _mm256_add_epi32(hi[q], _mm256_madd_epi16(x, k_hi));
        }
    }
    for (int q = 0; q < 4; q++) lo[q] = finish_avx2(lo[q], hi[q]);
    __m256i low = _mm256_packs_epi32(lo[0], lo[1]), high = _mm256_packs_epi32(lo[2], lo[3]);
    _mm256_storeu_si256((__m256i *)out, _mm256_packus_epi16(low, high));
}

__attribute__((target("avx2"))) void adze_resize_weigh_avx2(unsigned char *out, const unsigned char *in, size_t stride_bytes,
                                                           const adze_resize_taps *taps, size_t n)
{
    size_t i = 0;
    for (; i + 32 <= n; i += 32) block_avx2(out + i, in + i, stride_bytes, taps);
    if (i < n) adze_resize_weigh_plain(out + i, in + i, stride_bytes, taps, n - i);
}

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))

/* 64 bytes; `keep` masks the bytes that exist. */
AVX512 static inline void block_avx512(unsigned char *out, const unsigned char *in, size_t stride,
                                       const adze_resize_taps *taps, __mmask64 keep)
{
    const __m512i zero = _mm512_setzero_si512();
    __m512i lo0 = _mm512_set1_epi32(ROUND), lo1 = lo0, lo2 = lo0, lo3 = lo0, hi0 = zero, hi1 = zero, hi2 = zero, hi3 = zero;
    for (int64_t t = 0; t < taps->n_taps; t += 2) {
        const unsigned char *row = in + (size_t)t * stride;
        __m512i a = _mm512_maskz_loadu_epi8(keep, row);
        __m512i b = t + 1 < taps->n_taps ? _mm512_maskz_loadu_epi8(keep, row + stride) : zero;
        __m512i k_lo = _mm512_set1_epi32(taps->lo[t / 2]), k_hi = _mm512_set1_epi32(taps->hi[t / 2]);
        __m512i low = _mm512_unpacklo_epi8(a, b), high = _mm512_unpackhi_epi8(a, b);
        __m512i x0 = _mm512_unpacklo_epi8(low, zero), x1 = _mm512_unpackhi_epi8(low, zero);
        __m512i x2 = _mm512_unpacklo_epi8(high, zero), x3 = _mm512_unpackhi_epi8(high, zero);
        lo0 = _mm512_dpwssd_epi32(lo0, x0, k_lo), hi0 = _mm512_dpwssd_epi32(hi0, x0, k_hi);
        lo1 = _mm512_dpwssd_epi32(lo1, x1, k_lo), hi1 = _mm512_dpwssd_epi32(hi1, x1, k_hi);
        lo2 = _mm512_dpwssd_epi32(lo2, x2, k_lo), hi2 = _mm512_dpwssd_epi32(hi2, x2, k_hi);
        lo3 = _mm512_dpwssd_epi32(lo3, x3, k_lo), hi3 = _mm512_dpwssd_epi32(hi3, x3, k_hi);
    }
    lo0 = _mm512_srai_epi32(_mm512_add_epi32(lo0, _mm512_slli_epi32(hi0, HALF_SHIFT)), ADZE_RESIZE_BITS);
    lo1 = _mm512_srai_epi32(_mm512_add_epi32(lo1, _mm512_slli_epi32(hi1, HALF_SHIFT)), ADZE_RESIZE_BITS);
    lo2 = _mm512_srai_epi32(_mm512_add_epi32(lo2, _mm512_slli_epi32(hi2, HALF_SHIFT)), ADZE_RESIZE_BITS);
    lo3 = _mm512_srai_epi32(_mm512_add_epi32(lo3, _mm512_slli_epi32(hi3, HALF_SHIFT)), ADZE_RESIZE_BITS);
    __m512i low = _mm512_packs_epi32(lo0, lo1), high = _mm512_packs_epi32(lo2, lo3);
    _mm512_mask_storeu_epi8(out, keep, _mm512_packus_epi16(low, high));
}

AVX512 void adze_resize_weigh_avx512(unsigned char *out, const unsigned char *in, size_t stride_bytes,
                                     const adze_resize_taps *taps, size_t n)
{
    size_t i = 0;
    for (; i + 64 <= n; i += 64) block_avx512(out + i, in + i, stride_bytes, taps, ~(__mmask64)0);
    if (i < n) block_avx512(out + i, in + i, stride_bytes, taps, ((__mmask64)1 << (n - i)) - 1);
}

static inline void interleave(const __m128i a[16], __m128i b[16])
{
    for (int r = 0; r < 8; r++) {
        b[2 * r] = _mm_unpacklo_epi8(a[r], a[r + 8]);
        b[2 * r + 1] = _mm_unpackhi_epi8(a[r], a[r + 8]);
    }
}

/* One 16x16 block: each round of interleaving row r with row r+8 turns one bit of the row number into one of the column's. */
static inline void transpose16(unsigned char *dst, size_t dst_stride, const unsigned char *src, size_t src_stride)
{
    __m128i a[16], b[16];
    for (size_t r = 0; r < 16; r++) a[r] = _mm_loadu_si128((const __m128i *)(src + r * src_stride));
    interleave(a, b);
    interleave(b, a);
    interleave(a, b);
    interleave(b, a);
    for (size_t r = 0; r < 16; r++) _mm_storeu_si128((__m128i *)(dst + r * dst_stride), a[r]);
}

void adze_resize_transpose(unsigned char *dst, size_t dst_stride, const unsigned char *src, size_t src_stride, size_t H,
                           size_t W)
{
    for (size_t x = 0; x < W; x += 16)
        for (size_t y = 0; y < H; y += 16)
            transpose16(dst + x * dst_stride + y, dst_stride, src + y * src_stride + x, src_stride);
}
#endif
