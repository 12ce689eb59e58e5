/* cusim_device.h - what kernel code sees: qualifiers, built-in variables, barriers, warp operations, atomics, intrinsics.
 * Everything that other threads of the block can notice goes through the C functions of cusim_entry.h. */
#ifndef CUSIM_DEVICE_H
#define CUSIM_DEVICE_H

#ifdef __cplusplus
#include <math.h>
#include <string.h>

#include <tuple>
#include <type_traits>

#include "cusim_entry.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#ifndef __noinline__
#define __noinline__ __attribute__((noinline))
#endif
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define warpSize 32

/* Reads of the place by assembler: not memory accesses of the kernel, and constant for a thread. */
template <int WORD> static inline unsigned cusim_place_word()
{
    unsigned long v;
    __asm__("movq cusim_self@gottpoff(%%rip), %0\n\tmovq %%fs:(%0), %0\n\tmovl %c1(%0), %k0" : "=&r"(v) : "i"(4 * WORD));
    return (unsigned)v;
}
template <int WORD> static inline uint3 cusim_place_uint3()
{
    return uint3{cusim_place_word<WORD>(), cusim_place_word<WORD + 1>(), cusim_place_word<WORD + 2>()};
}
template <int WORD> static inline dim3 cusim_place_dim3()
{
    return dim3(cusim_place_word<WORD>(), cusim_place_word<WORD + 1>(), cusim_place_word<WORD + 2>());
}
#define threadIdx (cusim_place_uint3<0>())
#define blockIdx (cusim_place_uint3<3>())
#define blockDim (cusim_place_dim3<6>())
#define gridDim (cusim_place_dim3<9>())

template <typename... P, typename... A>
cudaError_t cusim_launch(const char *name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                         A... args)
{
    struct call {
        void (*kernel)(P...);
        std::tuple<std::decay_t<P>...> args;
    } c = {kernel, std::tuple<std::decay_t<P>...>(args...)};
    static_assert((std::is_trivially_copyable_v<std::decay_t<P>> && ...), "kernel arguments are copied as bytes");
    return cusim_launch_kernel(
        name, reinterpret_cast<const void *>(kernel), grid, block, shared_bytes, stream,
        [](const void *p) {
            const call *a = static_cast<const call *>(p);
            std::apply(a->kernel, a->args);
        },
        &c, sizeof c);
}

/* --- barriers --- */

#define CUSIM_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

static inline void __syncthreads(CUSIM_HERE) { cusim_barrier(CUSIM_VOTE_NONE, 0, file, line); }
static inline int __syncthreads_count(int p, CUSIM_HERE) { return cusim_barrier(CUSIM_VOTE_COUNT, p, file, line); }
static inline int __syncthreads_and(int p, CUSIM_HERE) { return cusim_barrier(CUSIM_VOTE_AND, p, file, line); }
static inline int __syncthreads_or(int p, CUSIM_HERE) { return cusim_barrier(CUSIM_VOTE_OR, p, file, line); }
static inline void __syncwarp(unsigned mask = 0xffffffffu, CUSIM_HERE) { cusim_warp(CUSIM_SYNC, mask, 0, 0, 32, file, line); }
static inline void __threadfence() { cusim_fence(); }
static inline void __threadfence_block() { cusim_fence(); }
static inline void __threadfence_system() { cusim_fence(); }

/* --- warp operations --- */

template <typename T> static inline T cusim_shuffle(cusim_warp_op op, unsigned mask, T value, int lane, int width, const char *file, int line)
{
    static_assert(sizeof(T) <= 8, "a shuffle moves at most 8 bytes");
    uint64_t bits = 0;
    __builtin_memcpy(&bits, &value, sizeof value);
    bits = cusim_warp(op, mask, bits, lane, width, file, line);
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
}
template <typename T> static inline T __shfl_sync(unsigned mask, T value, int lane, int width = 32, CUSIM_HERE)
{
    return cusim_shuffle(CUSIM_SHFL, mask, value, lane, width, file, line);
}
template <typename T> static inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, CUSIM_HERE)
{
    return cusim_shuffle(CUSIM_SHFL_UP, mask, value, (int)delta, width, file, line);
}
template <typename T> static inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, CUSIM_HERE)
{
    return cusim_shuffle(CUSIM_SHFL_DOWN, mask, value, (int)delta, width, file, line);
}
template <typename T> static inline T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, CUSIM_HERE)
{
    return cusim_shuffle(CUSIM_SHFL_XOR, mask, value, lanes, width, file, line);
}
static inline unsigned __ballot_sync(unsigned mask, int p, CUSIM_HERE) { return (unsigned)cusim_warp(CUSIM_BALLOT, mask, p != 0, 0, 32, file, line); }
static inline int __any_sync(unsigned mask, int p, CUSIM_HERE) { return (int)cusim_warp(CUSIM_ANY, mask, p != 0, 0, 32, file, line); }
static inline int __all_sync(unsigned mask, int p, CUSIM_HERE) { return (int)cusim_warp(CUSIM_ALL, mask, p != 0, 0, 32, file, line); }
static inline unsigned __activemask() { return cusim_active_mask(); }
template <typename T> static inline unsigned __match_any_sync(unsigned mask, T value, CUSIM_HERE)
{
    uint64_t bits = 0;
    __builtin_memcpy(&bits, &value, sizeof value);
    return (unsigned)cusim_warp(CUSIM_MATCH_ANY, mask, bits, 0, 32, file, line);
}
template <typename T> static inline unsigned __match_all_sync(unsigned mask, T value, int *all, CUSIM_HERE)
{
    uint64_t bits = 0;
    __builtin_memcpy(&bits, &value, sizeof value);
    unsigned r = (unsigned)cusim_warp(CUSIM_MATCH_ALL, mask, bits, 0, 32, file, line);
    *all = r != 0;
    return r;
}
#define CUSIM_REDUCE(name, type, op)                                                 \
    static inline type name(unsigned mask, type value, CUSIM_HERE)                   \
    {                                                                                \
        return (type)cusim_warp(op, mask, (uint64_t)(int64_t)value, 0, 32, file, line); \
    }
CUSIM_REDUCE(__reduce_add_sync, int, CUSIM_REDUCE_ADD)
CUSIM_REDUCE(__reduce_add_sync, unsigned, CUSIM_REDUCE_ADD)
CUSIM_REDUCE(__reduce_min_sync, int, CUSIM_REDUCE_MIN)
CUSIM_REDUCE(__reduce_max_sync, int, CUSIM_REDUCE_MAX)
CUSIM_REDUCE(__reduce_min_sync, unsigned, CUSIM_REDUCE_UMIN)
CUSIM_REDUCE(__reduce_max_sync, unsigned, CUSIM_REDUCE_UMAX)
CUSIM_REDUCE(__reduce_and_sync, unsigned, CUSIM_REDUCE_AND)
CUSIM_REDUCE(__reduce_or_sync, unsigned, CUSIM_REDUCE_OR)
CUSIM_REDUCE(__reduce_xor_sync, unsigned, CUSIM_REDUCE_XOR)
#undef CUSIM_REDUCE

/* --- atomics: the builtins reach the emulator as __tsan_atomic* calls --- */

#define CUSIM_ATOMIC(type)                                                                                          \
    static inline type atomicAdd(type *p, type v) { return __atomic_fetch_add(p, v, __ATOMIC_RELAXED); }            \
    static inline type atomicSub(type *p, type v) { return __atomic_fetch_sub(p, v, __ATOMIC_RELAXED); }            \
    static inline type atomicAnd(type *p, type v) { return __atomic_fetch_and(p, v, __ATOMIC_RELAXED); }            \
    static inline type atomicOr(type *p, type v) { return __atomic_fetch_or(p, v, __ATOMIC_RELAXED); }              \
    static inline type atomicXor(type *p, type v) { return __atomic_fetch_xor(p, v, __ATOMIC_RELAXED); }            \
    static inline type atomicExch(type *p, type v) { return __atomic_exchange_n(p, v, __ATOMIC_RELAXED); }          \
    static inline type atomicCAS(type *p, type expected, type v)                                                    \
    {                                                                                                               \
        __atomic_compare_exchange_n(p, &expected, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);                    \
        return expected;                                                                                            \
    }                                                                                                               \
    static inline type atomicMin(type *p, type v)                                                                   \
    {                                                                                                               \
        type old = __atomic_load_n(p, __ATOMIC_RELAXED);                                                            \
        while (!__atomic_compare_exchange_n(p, &old, v < old ? v : old, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)); \
        return old;                                                                                                 \
    }                                                                                                               \
    static inline type atomicMax(type *p, type v)                                                                   \
    {                                                                                                               \
        type old = __atomic_load_n(p, __ATOMIC_RELAXED);                                                            \
        while (!__atomic_compare_exchange_n(p, &old, v > old ? v : old, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)); \
        return old;                                                                                                 \
    }
CUSIM_ATOMIC(int)
CUSIM_ATOMIC(unsigned)
CUSIM_ATOMIC(unsigned long long)
#undef CUSIM_ATOMIC
static inline unsigned atomicInc(unsigned *p, unsigned limit)
{
    unsigned old = __atomic_load_n(p, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(p, &old, old >= limit ? 0 : old + 1, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return old;
}

/* Floating-point atomics depend on the order of the threads: a failed check. */
static inline float atomicAdd(float *, float, CUSIM_HERE) { return cusim_float_atomic(file, line), 0.0f; }
static inline double atomicAdd(double *, double, CUSIM_HERE) { return cusim_float_atomic(file, line), 0.0; }

/* --- memory --- */

template <typename T> static inline T __ldg(const T *p) { return *p; }
template <typename T> static inline T __ldcg(const T *p) { return *p; }
template <typename T> static inline T __ldcs(const T *p) { return *p; }
template <typename T> static inline T __ldca(const T *p) { return *p; }
template <typename T> static inline void __stcg(T *p, T v) { *p = v; }
template <typename T> static inline void __stcs(T *p, T v) { *p = v; }

/* --- arithmetic --- */

template <typename To, typename From> static inline To cusim_bits(From v)
{
    static_assert(sizeof(To) == sizeof(From), "same size");
    To r;
    __builtin_memcpy(&r, &v, sizeof r);
    return r;
}
static inline int __float_as_int(float x) { return cusim_bits<int>(x); }
static inline unsigned __float_as_uint(float x) { return cusim_bits<unsigned>(x); }
static inline float __int_as_float(int x) { return cusim_bits<float>(x); }
static inline float __uint_as_float(unsigned x) { return cusim_bits<float>(x); }
static inline long long __double_as_longlong(double x) { return cusim_bits<long long>(x); }
static inline double __longlong_as_double(long long x) { return cusim_bits<double>(x); }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
static inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline unsigned __brev(unsigned x)
{
    unsigned r = 0;
    for (int i = 0; i < 32; i++) r |= (x >> i & 1u) << (31 - i);
    return r;
}
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((unsigned long long)a * b >> 32); }
static inline int __mulhi(int a, int b) { return (int)((long long)a * b >> 32); }
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b)
{
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
static inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector)
{
    unsigned long long both = (unsigned long long)b << 32 | a;
    unsigned r = 0;
    for (int i = 0; i < 4; i++) {
        unsigned s = selector >> (4 * i) & 15u, byte = (unsigned)(both >> (8 * (s & 7))) & 255u;
        if (s & 8) byte = byte & 128u ? 255u : 0u;
        r |= byte << (8 * i);
    }
    return r;
}
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline float __fsqrt_rn(float a) { return sqrtf(a); }
static inline float __frcp_rn(float a) { return 1.0f / a; }
static inline float __frsqrt_rn(float a) { return (float)(1.0 / sqrt((double)a)); }
static inline float rsqrtf(float a) { return (float)(1.0 / sqrt((double)a)); }
static inline double rsqrt(double a) { return 1.0 / sqrt(a); }
static inline float __fdividef(float a, float b) { return a / b; }
/* glibc declares functions of these names. */
#define __expf(a) expf(a)
#define __logf(a) logf(a)
#define __powf(a, b) powf(a, b)
#define __sinf(a) sinf(a)
#define __cosf(a) cosf(a)
static inline float __saturatef(float a) { return a > 1.0f ? 1.0f : a > 0.0f ? a : 0.0f; }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline float __int2float_rn(int a) { return (float)a; }
static inline float __uint2float_rn(unsigned a) { return (float)a; }
static inline int __float2int_rn(float a) { return (int)rintf(a); }
static inline int __float2int_rd(float a) { return (int)floorf(a); }
static inline int __float2int_rz(float a) { return (int)a; }

#define CUSIM_MINMAX(type)                                          \
    static inline type min(type a, type b) { return b < a ? b : a; } \
    static inline type max(type a, type b) { return a < b ? b : a; }
CUSIM_MINMAX(int)
CUSIM_MINMAX(unsigned)
CUSIM_MINMAX(long)
CUSIM_MINMAX(unsigned long)
CUSIM_MINMAX(long long)
CUSIM_MINMAX(unsigned long long)
#undef CUSIM_MINMAX
static inline float min(float a, float b) { return fminf(a, b); }
static inline float max(float a, float b) { return fmaxf(a, b); }
static inline double min(double a, double b) { return fmin(a, b); }
static inline double max(double a, double b) { return fmax(a, b); }

#endif
#endif
