/* dtype.c - element types of stored tensors. Entry: adze_dtype_to_f32().
 * Elements are copied out byte by byte first: files do not align them. */
#include "checkpoints/dtype.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    size_t n_bytes;
} types[ADZE_DTYPE_COUNT] = {
    [ADZE_DTYPE_F32] = { "f32", 4 },   [ADZE_DTYPE_F64] = { "f64", 8 }, [ADZE_DTYPE_F16] = { "f16", 2 },
    [ADZE_DTYPE_BF16] = { "bf16", 2 }, [ADZE_DTYPE_I64] = { "i64", 8 }, [ADZE_DTYPE_I32] = { "i32", 4 },
    [ADZE_DTYPE_I16] = { "i16", 2 },   [ADZE_DTYPE_I8] = { "i8", 1 },   [ADZE_DTYPE_U64] = { "u64", 8 },
    [ADZE_DTYPE_U32] = { "u32", 4 },   [ADZE_DTYPE_U16] = { "u16", 2 }, [ADZE_DTYPE_U8] = { "u8", 1 },
    [ADZE_DTYPE_BOOL] = { "bool", 1 },
};

size_t adze_dtype_bytes(adze_dtype type) { return types[type].n_bytes; }
const char *adze_dtype_name(adze_dtype type) { return types[type].name; }

static float from_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* binary16 -> float32, exact: a subnormal is its fraction times 2^-24. */
static float from_half(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 1023;
    if (exponent == 31) return from_bits(sign | 0x7f800000u | fraction << 13);
    if (exponent > 0) return from_bits(sign | (exponent + 112) << 23 | fraction << 13);
    float x = (float)fraction * 0x1p-24f;
    return sign ? -x : x;
}

#define CONVERT(T, expression)                    \
    for (int64_t i = 0; i < count; i++) {         \
        T v;                                      \
        memcpy(&v, p + (size_t)i * sizeof v, sizeof v); \
        to[i] = (float)(expression);              \
    }                                             \
    break

void adze_dtype_to_f32(adze_dtype type, const void *from, int64_t count, float *to)
{
    const unsigned char *p = from;
    switch (type) {
    case ADZE_DTYPE_F32: CONVERT(float, v);
    case ADZE_DTYPE_F64: CONVERT(double, v);
    case ADZE_DTYPE_F16: CONVERT(uint16_t, from_half(v));
    case ADZE_DTYPE_BF16: CONVERT(uint16_t, from_bits((uint32_t)v << 16));
    case ADZE_DTYPE_I64: CONVERT(int64_t, v);
    case ADZE_DTYPE_I32: CONVERT(int32_t, v);
    case ADZE_DTYPE_I16: CONVERT(int16_t, v);
    case ADZE_DTYPE_I8: CONVERT(int8_t, v);
    case ADZE_DTYPE_U64: CONVERT(uint64_t, v);
    case ADZE_DTYPE_U32: CONVERT(uint32_t, v);
    case ADZE_DTYPE_U16: CONVERT(uint16_t, v);
    case ADZE_DTYPE_U8: CONVERT(uint8_t, v);
    case ADZE_DTYPE_BOOL: CONVERT(uint8_t, v != 0);
    case ADZE_DTYPE_COUNT: break;
    }
}

bool adze_stored_size(adze_dtype type, int rank, const int64_t *dim, int64_t *count, size_t *n_bytes)
{
    int64_t n = 1, bytes;
    for (int d = 0; d < rank; d++)
        if (dim[d] < 0) return false;
    for (int d = 0; d < rank; d++)
        if (dim[d] == 0) n = 0;
    for (int d = 0; d < rank && n > 0; d++)
        if (__builtin_mul_overflow(n, dim[d], &n)) return false;
    if (__builtin_mul_overflow(n, (int64_t)types[type].n_bytes, &bytes)) return false;
    *count = n;
    *n_bytes = (size_t)bytes;
    return true;
}

const char *adze_stored_shape_text(int rank, const int64_t *dim, char text[ADZE_STORED_SHAPE_TEXT])
{
    int n = snprintf(text, ADZE_STORED_SHAPE_TEXT, "[");
    for (int d = 0; d < rank && d < ADZE_STORED_RANK; d++)
        n += snprintf(text + n, (size_t)(ADZE_STORED_SHAPE_TEXT - n), d > 0 ? ",%lld" : "%lld", (long long)dim[d]);
    snprintf(text + n, (size_t)(ADZE_STORED_SHAPE_TEXT - n), "]");
    return text;
}
