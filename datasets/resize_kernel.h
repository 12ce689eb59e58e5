/* resize_kernel.h - the one inner loop of both resize passes: a weighted sum of byte rows. Private to datasets/.
 *
 *   out[i] = clip8((2^21 + sum_t k[t] * in[t*stride + i]) >> 22),  i = 0..n-1,  t = 0..n_taps-1
 *
 * A weight k has up to 24 bits, a SIMD multiply-add of pairs takes 16: k = hi*4096 + lo, 0 <= lo < 4096, and
 * sum k x = 4096 sum hi x + sum lo x exactly (mod 2^32, and the whole sum fits in 32 bits). */
#ifndef ADZE_DATASETS_RESIZE_KERNEL_H
#define ADZE_DATASETS_RESIZE_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ADZE_RESIZE_BITS = 22 };

/* Weights of one output position; for an odd number of taps a zero weight follows. */
typedef struct {
    int64_t first;    /* first source position */
    int64_t n_taps;   /* at least 1 */
    const int32_t *k; /* n_taps weights, scaled by 2^22 */
    const int32_t *lo, *hi; /* (n_taps+1)/2 pairs of 16-bit halves: low half of the word = even tap */
} adze_resize_taps;

/* `n` bytes; writes out[0..n-1] only, reads in[t*stride + 0..n-1] only. */
typedef void adze_resize_weigh(unsigned char *out, const unsigned char *in, size_t stride_bytes,
                               const adze_resize_taps *taps, size_t n);

void adze_resize_weigh_plain(unsigned char *out, const unsigned char *in, size_t stride_bytes, const adze_resize_taps *taps,
                             size_t n);
#if defined(__x86_64__)
void adze_resize_weigh_avx2(unsigned char *out, const unsigned char *in, size_t stride_bytes, const adze_resize_taps *taps,
                            size_t n);
void adze_resize_weigh_avx512(unsigned char *out, const unsigned char *in, size_t stride_bytes, const adze_resize_taps *taps,
                              size_t n);
bool adze_resize_has_avx2(void);
bool adze_resize_has_avx512(void); /* F, BW, VL, VNNI */
/* dst[x*dst_stride + y] = src[y*src_stride + x] for H rows of W bytes, both multiples of 16. */
void adze_resize_transpose(unsigned char *dst, size_t dst_stride, const unsigned char *src, size_t src_stride, size_t H,
                           size_t W);
#endif

#endif
