/* isa.h - which instruction set the library's own CPU kernels use. Entry: adze_isa_resolve().
 *
 * Kernels exist in up to four versions; the best one that the machine has is taken unless options name another. The
 * plain C reference is last and always works. Nothing here is remembered: every call asks the CPU (a few cycles). */
#ifndef ADZE_CORE_ISA_H
#define ADZE_CORE_ISA_H

#include <stdbool.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    ADZE_ISA_AUTO = 0,   /* the best one available */
    ADZE_ISA_REFERENCE,  /* plain C */
    ADZE_ISA_AVX2,       /* with FMA */
    ADZE_ISA_AVX512,     /* F, BW, DQ, VL */
    ADZE_ISA_AVX512_BF16 /* and VDPBF16PS, VPDPBUSD */
} adze_isa;

bool adze_isa_available(adze_isa isa);

/* AUTO becomes the best available; a name that this machine lacks is ADZE_EBACKEND. */
adze_status adze_isa_resolve(adze_isa wanted, adze_isa *out);

/* "auto", "reference", "avx2", "avx512", "avx512-bf16" */
const char *adze_isa_name(adze_isa isa);

/* Threads that a kernel option of `wanted` means: 0 = OpenMP's current maximum. */
int adze_threads_resolve(int wanted);

#ifdef __cplusplus
}
#endif
#endif
