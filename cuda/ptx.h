/* ptx.h - what has no CUDA C++ spelling: asynchronous copies, matrix products of a warp, matrix loads, named barriers, and
 * the one way in which blocks of a launch may hand data to each other.
 *
 * Under nvcc each function is the PTX instruction of its name; under g++ it calls the emulator, which keeps the lane maps of
 * the PTX manual. Written with g = lane / 4 and t = lane % 4, a register r of 32 bits holding its elements lowest first:
 *
 *   m16n8k16, 16 bit   a[r]: row g + 8 (r & 1), columns 2t + 8 (r / 2) and one more   b[r]: rows 2t + 8r and one more, column g
 *   m16n8k8, tf32      a[r]: row g + 8 (r & 1), column t + 4 (r / 2)                  b[r]: row t + 4r, column g
 *   m16n8k32, 8 bit    a[r]: row g + 8 (r & 1), columns 4t + 16 (r / 2) and three more b[r]: rows 4t + 16r and three more, column g
 *   all                d[i]: row g + 8 (i / 2), column 2t + (i & 1)
 *
 * Every lane of the warp takes part in matrix products and matrix loads. sm_80 and later. */
#ifndef ADZE_CUDA_PTX_H
#define ADZE_CUDA_PTX_H

#include "cuda/launch.h"

#ifdef __cplusplus

#include <stdint.h>

#ifdef ADZE_CUSIM
#define ADZE_PTX_FILE_LINE const char *file = __builtin_FILE(), int line = __builtin_LINE()
#else
static __device__ __forceinline__ uint32_t adze_shared_address(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }
#endif

/* --- asynchronous copies, global to shared: done only after the wait, and seen by other threads only after a barrier --- */

/* BYTES is 4, 8 or 16, and both addresses are multiples of it. Bytes beyond `valid` are filled with zeros and not read. */
template <int BYTES> static __device__ __forceinline__ void adze_cp_async(void *shared, const void *global, int valid = BYTES)
{
    static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "cp.async moves 4, 8 or 16 bytes");
#ifdef ADZE_CUSIM
    cusim_cp_async(shared, global, BYTES, valid);
#else
    if (BYTES == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(adze_shared_address(shared)), "l"(global), "r"(valid)
                     : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(adze_shared_address(shared)), "l"(global), "n"(BYTES),
                     "r"(valid)
                     : "memory");
#endif
}

/* Closes the group of the copies that this thread has begun. */
static __device__ __forceinline__ void adze_cp_async_commit()
{
#ifdef ADZE_CUSIM
    cusim_cp_async_commit();
#else
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

/* Waits until at most PENDING of this thread's groups are under way. */
template <int PENDING> static __device__ __forceinline__ void adze_cp_async_wait()
{
#ifdef ADZE_CUSIM
    cusim_cp_async_wait(PENDING);
#else
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
#endif
}

/* --- matrix loads: N of 1, 2 or 4 matrices of 8 x 8 elements of 16 bits --- */

/* `row` is one row of 16 bytes, of matrix lane / 8, row lane % 8 (lanes from 8 N on: any valid row). r[i] receives of matrix i
 * row g, columns 2t and 2t + 1; transposed: column g, rows 2t and 2t + 1. */
template <int N, bool TRANSPOSED> static __device__ __forceinline__ void adze_ldmatrix_any(uint32_t (&r)[N], const void *row)
{
    static_assert(N == 1 || N == 2 || N == 4, "ldmatrix loads 1, 2 or 4 matrices");
#ifdef ADZE_CUSIM
    cusim_ldmatrix(r, row, N, TRANSPOSED);
#else
    uint32_t p = adze_shared_address(row);
    if constexpr (N == 1 && !TRANSPOSED)
        asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(r[0]) : "r"(p) : "memory");
    else if constexpr (N == 1)
        asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];" : "=r"(r[0]) : "r"(p) : "memory");
    else if constexpr (N == 2 && !TRANSPOSED)
        asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(p) : "memory");
    else if constexpr (N == 2)
        asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(p) : "memory");
    else if constexpr (!TRANSPOSED)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(p)
                     : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(p)
                     : "memory");
#endif
}
template <int N> static __device__ __forceinline__ void adze_ldmatrix(uint32_t (&r)[N], const void *row)
{
    adze_ldmatrix_any<N, false>(r, row);
}
template <int N> static __device__ __forceinline__ void adze_ldmatrix_trans(uint32_t (&r)[N], const void *row)
{
    adze_ldmatrix_any<N, true>(r, row);
}

/* --- matrix products: d += a b --- */

#ifdef ADZE_CUSIM
#define ADZE_PTX_MMA(name, instruction, kind, type, constraint)                                                    \
    static inline void name(type (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) { cusim_mma(kind, d, a, b); }
#else
#define ADZE_PTX_MMA(name, instruction, kind, type, constraint)                                                    \
    static __device__ __forceinline__ void name(type (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])      \
    {                                                                                                              \
        asm volatile(instruction " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                \
                     : "+" constraint(d[0]), "+" constraint(d[1]), "+" constraint(d[2]), "+" constraint(d[3])      \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                          \
    }
#endif
ADZE_PTX_MMA(adze_mma_bf16, "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", CUSIM_MMA_BF16, float, "f")
ADZE_PTX_MMA(adze_mma_f16, "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", CUSIM_MMA_F16, float, "f")
ADZE_PTX_MMA(adze_mma_tf32, "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32", CUSIM_MMA_TF32, float, "f")
ADZE_PTX_MMA(adze_mma_s8, "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32", CUSIM_MMA_S8, int, "r")
#undef ADZE_PTX_MMA

/* float32 to tf32, to nearest, ties away from zero. */
static __device__ __forceinline__ uint32_t adze_to_tf32(float x)
{
#ifdef ADZE_CUSIM
    uint32_t u = __float_as_uint(x);
    return (u & 0x7f800000u) == 0x7f800000u ? u & ~0x1fffu : (u + 0x1000u) & ~0x1fffu;
#else
    uint32_t u;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(u) : "f"(x));
    return u;
#endif
}

/* --- named barriers: `id` 1 to 15, among `threads` threads, a multiple of 32, whole warps --- */

/* Arrives and waits for the others. */
#ifdef ADZE_CUSIM
static inline void adze_bar_sync(int id, int threads, ADZE_PTX_FILE_LINE)
{
    cusim_named_barrier(id, threads, true, file, line);
}
#else
static __device__ __forceinline__ void adze_bar_sync(int id, int threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
#endif

/* Arrives and goes on. */
#ifdef ADZE_CUSIM
static inline void adze_bar_arrive(int id, int threads, ADZE_PTX_FILE_LINE)
{
    cusim_named_barrier(id, threads, false, file, line);
}
#else
static __device__ __forceinline__ void adze_bar_arrive(int id, int threads)
{
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
#endif

/* --- the last block of a launch --- */

/* True in all threads of the block that comes last to this point; it then sees what the other blocks wrote before theirs.
 * `counter` is a global word, 0 before the launch and 0 after it; `blocks` is how many come. Every thread of the block calls
 * it. */
static __device__ __forceinline__ bool adze_last_block(unsigned *counter, unsigned blocks)
{
    __threadfence();
    __syncthreads();
    unsigned last = 0;
    if (threadIdx.x == 0 && threadIdx.y == 0 && threadIdx.z == 0) last = atomicInc(counter, blocks - 1) == blocks - 1;
    last = (unsigned)__syncthreads_or((int)last);
    __threadfence();
#ifdef ADZE_CUSIM
    if (last) cusim_acquire_blocks();
#endif
    return last != 0;
}

#endif
#endif
