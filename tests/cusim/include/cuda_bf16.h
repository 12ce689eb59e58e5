/* cuda_bf16.h - bfloat16 as plain bits; conversions round to nearest even, as the hardware's do. */
#ifndef CUSIM_CUDA_BF16_H
#define CUSIM_CUDA_BF16_H

#ifdef __cplusplus
#include "cuda_runtime.h"

struct __align__(2) __nv_bfloat16 {
    unsigned short bits;
    __nv_bfloat16() = default;
    __nv_bfloat16(float x) { *this = x; }
    __nv_bfloat16 &operator=(float x)
    {
        unsigned u = __float_as_uint(x);
        bits = x != x ? (unsigned short)0x7fff : (unsigned short)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
        return *this;
    }
    operator float() const { return __uint_as_float((unsigned)bits << 16); }
};

struct __align__(4) __nv_bfloat162 {
    __nv_bfloat16 x, y;
    __nv_bfloat162() = default;
    __nv_bfloat162(__nv_bfloat16 a, __nv_bfloat16 b) : x(a), y(b) {}
    __nv_bfloat162(const __nv_bfloat162 &o) { *this = o; }
    __nv_bfloat162 &operator=(const __nv_bfloat162 &o)
    {
        typedef unsigned whole __attribute__((may_alias));
        *reinterpret_cast<whole *>(this) = *reinterpret_cast<const whole *>(&o);
        return *this;
    }
};

static inline __nv_bfloat16 __float2bfloat16(float x) { return __nv_bfloat16(x); }
static inline __nv_bfloat16 __float2bfloat16_rn(float x) { return __nv_bfloat16(x); }
static inline float __bfloat162float(__nv_bfloat16 x) { return (float)x; }
static inline __nv_bfloat162 __floats2bfloat162_rn(float a, float b) { return __nv_bfloat162(__nv_bfloat16(a), __nv_bfloat16(b)); }
static inline __nv_bfloat162 __float22bfloat162_rn(float2 v) { return __floats2bfloat162_rn(v.x, v.y); }
static inline float2 __bfloat1622float2(__nv_bfloat162 v) { return make_float2((float)v.x, (float)v.y); }
static inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x) { return x.bits; }
static inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits)
{
    __nv_bfloat16 h;
    h.bits = bits;
    return h;
}
#endif
#endif
