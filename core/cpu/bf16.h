/* bf16.h - float32 to bfloat16 and back. Entry: adze_bf16_convert(). */
#ifndef ADZE_CORE_CPU_BF16_H
#define ADZE_CORE_CPU_BF16_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Rounds to bfloat16, nearest even; subnormals to zero, as the instruction reads them; NaN stays NaN. */
static inline uint16_t adze_bf16_round(float x)
{
    union {
        float f;
        uint32_t u;
    } v = { x };
    if ((v.u & 0x7f800000u) == 0) return (uint16_t)(v.u >> 16 & 0x8000u);
    if ((v.u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(v.u >> 16 | 0x40u);
    return (uint16_t)((v.u + 0x7fffu + (v.u >> 16 & 1u)) >> 16);
}

static inline float adze_bf16_value(uint16_t h)
{
    union {
        uint32_t u;
        float f;
    } v = { (uint32_t)h << 16 };
    return v.f;
}

/* Rounds n elements, on OpenMP's threads; the same bits as adze_bf16_round() with and without the instruction for it. */
void adze_bf16_convert(const float *x, int64_t n, uint16_t *y);
/* The same on the calling thread alone. */
void adze_bf16_convert_row(const float *x, int64_t n, uint16_t *y);

/* The second operand of a product, x (K,N), rounded into blocks as oneDNN's layout BA16a64b2a has them: y (N/64, K/32, 16, 64, 2),
 * the last index and the third that of one of 32 rows. x is stored by rows of ld floats, transposed: those of its transpose. K is a
 * multiple of 32 and N of 64. On OpenMP's threads. */
enum { ADZE_BF16_BLOCK_K = 32, ADZE_BF16_BLOCK_N = 64 };
bool adze_bf16_can_pack(int64_t K, int64_t N); /* false without the instruction, too */
void adze_bf16_pack(const float *x, int64_t K, int64_t N, int64_t ld, bool transposed, uint16_t *y);

#ifdef __cplusplus
}
#endif
#endif
