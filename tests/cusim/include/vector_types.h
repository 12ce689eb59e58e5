/* vector_types.h - the emulator's CUDA vector types. In C++ the aligned ones move as one access, as ld.v2 and ld.v4 do, so
 * that alignment and sectors per request are seen. */
#ifndef CUSIM_VECTOR_TYPES_H
#define CUSIM_VECTOR_TYPES_H

#ifdef __cplusplus

#define CUSIM_VECTOR1(name, scalar) \
    struct name##1 { scalar x; };   \
    static inline name##1 make_##name##1(scalar x) { return name##1{x}; }
#define CUSIM_VECTOR2(name, scalar)                                                       \
    struct alignas(2 * sizeof(scalar)) name##2 {                                          \
        typedef scalar whole __attribute__((vector_size(2 * sizeof(scalar)), may_alias)); \
        union { struct { scalar x, y; }; whole all; };                                    \
        name##2() = default;                                                              \
        constexpr name##2(scalar a, scalar b) : x(a), y(b) {}                             \
        name##2(const name##2 &o) : all(o.all) {}                                         \
        name##2 &operator=(const name##2 &o) { all = o.all; return *this; }               \
    };                                                                                    \
    static inline name##2 make_##name##2(scalar x, scalar y) { return name##2(x, y); }
#define CUSIM_VECTOR3(name, scalar) \
    struct name##3 { scalar x, y, z; }; \
    static inline name##3 make_##name##3(scalar x, scalar y, scalar z) { return name##3{x, y, z}; }
/* Four scalars of 8 bytes are two accesses of 16. */
#define CUSIM_VECTOR4(name, scalar)                                                                        \
    struct alignas(sizeof(scalar) > 4 ? 16 : 4 * sizeof(scalar)) name##4 {                                 \
        typedef scalar whole __attribute__((vector_size(sizeof(scalar) > 4 ? 16 : 4 * sizeof(scalar)), may_alias)); \
        union { struct { scalar x, y, z, w; }; whole all[sizeof(scalar) > 4 ? 2 : 1]; };                   \
        name##4() = default;                                                                               \
        constexpr name##4(scalar a, scalar b, scalar c, scalar d) : x(a), y(b), z(c), w(d) {}              \
        name##4(const name##4 &o) { *this = o; }                                                           \
        name##4 &operator=(const name##4 &o)                                                               \
        {                                                                                                  \
            all[0] = o.all[0];                                                                             \
            if (sizeof(scalar) > 4) all[sizeof(scalar) > 4] = o.all[sizeof(scalar) > 4];                   \
            return *this;                                                                                  \
        }                                                                                                  \
    };                                                                                                     \
    static inline name##4 make_##name##4(scalar x, scalar y, scalar z, scalar w) { return name##4(x, y, z, w); }

#else

#define CUSIM_VECTOR1(name, scalar) typedef struct name##1 { scalar x; } name##1;
#define CUSIM_VECTOR2(name, scalar) typedef struct name##2 { _Alignas(2 * sizeof(scalar)) scalar x; scalar y; } name##2;
#define CUSIM_VECTOR3(name, scalar) typedef struct name##3 { scalar x, y, z; } name##3;
#define CUSIM_VECTOR4(name, scalar) \
    typedef struct name##4 { _Alignas(sizeof(scalar) > 4 ? 16 : 4 * sizeof(scalar)) scalar x; scalar y, z, w; } name##4;

#endif

#define CUSIM_VECTORS(name, scalar) \
    CUSIM_VECTOR1(name, scalar) CUSIM_VECTOR2(name, scalar) CUSIM_VECTOR3(name, scalar) CUSIM_VECTOR4(name, scalar)
CUSIM_VECTORS(char, signed char)
CUSIM_VECTORS(uchar, unsigned char)
CUSIM_VECTORS(short, short)
CUSIM_VECTORS(ushort, unsigned short)
CUSIM_VECTORS(int, int)
CUSIM_VECTORS(uint, unsigned)
CUSIM_VECTORS(longlong, long long)
CUSIM_VECTORS(ulonglong, unsigned long long)
CUSIM_VECTORS(float, float)
CUSIM_VECTORS(double, double)
#undef CUSIM_VECTORS
#undef CUSIM_VECTOR1
#undef CUSIM_VECTOR2
#undef CUSIM_VECTOR3
#undef CUSIM_VECTOR4

#ifdef __cplusplus
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
#else
typedef struct dim3 { unsigned x, y, z; } dim3;
#endif
#endif
