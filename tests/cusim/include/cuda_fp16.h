/* cuda_fp16.h - half precision as plain bits; conversions round to nearest even, as the hardware's do. */
#ifndef CUSIM_CUDA_FP16_H
#define CUSIM_CUDA_FP16_H

#ifdef __cplusplus
#include "cuda_runtime.h"

struct __align__(2) __half {
    unsigned short bits;
    __half() = default;
    __half(float x) { *this = x; }
    __half &operator=(float x)
    {
        _Float16 h = (_Float16)x;
        __builtin_memcpy(&bits, &h, 2);
        return *this;
    }
    operator float() const
    {
        _Float16 h;
        __builtin_memcpy(&h, &bits, 2);
        return (float)h;
    }
};
typedef __half half;

struct __align__(4) __half2 {
    __half x, y;
    __half2() = default;
    __half2(__half a, __half b) : x(a), y(b) {}
    __half2(const __half2 &o) { *this = o; }
    __half2 &operator=(const __half2 &o)
    {
        typedef unsigned whole __attribute__((may_alias));
        *reinterpret_cast<whole *>(this) = *reinterpret_cast<const whole *>(&o);
        return *this;
    }
};
typedef __half2 half2;

static inline __half __float2half(float x) { return __half(x); }
static inline __half __float2half_rn(float x) { return __half(x); }
static inline float __half2float(__half x) { return (float)x; }
static inline __half2 __floats2half2_rn(float a, float b) { return __half2(__half(a), __half(b)); }
static inline __half2 __float22half2_rn(float2 v) { return __floats2half2_rn(v.x, v.y); }
static inline float2 __half22float2(__half2 v) { return make_float2((float)v.x, (float)v.y); }
static inline float __low2float(__half2 v) { return (float)v.x; }
static inline float __high2float(__half2 v) { return (float)v.y; }
static inline __half2 __halves2half2(__half a, __half b) { return __half2(a, b); }
static inline unsigned short __half_as_ushort(__half x) { return x.bits; }
static inline __half __ushort_as_half(unsigned short bits)
{
    __half h;
    h.bits = bits;
    return h;
}
#endif
#endif
