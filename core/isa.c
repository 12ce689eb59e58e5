/* isa.c - run-time choice of the instruction set. Entry: adze_isa_resolve(). */
#include "core/isa.h"

#include <omp.h>

bool adze_isa_available(adze_isa isa)
{
    switch (isa) {
    case ADZE_ISA_AUTO:
    case ADZE_ISA_REFERENCE: return true;
#if defined(__x86_64__)
    case ADZE_ISA_AVX2: return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case ADZE_ISA_AVX512:
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    case ADZE_ISA_AVX512_BF16:
        return adze_isa_available(ADZE_ISA_AVX512) && __builtin_cpu_supports("avx512bf16") &&
               __builtin_cpu_supports("avx512vnni");
#else
    default: break;
#endif
    }
    return false;
}

adze_status adze_isa_resolve(adze_isa wanted, adze_isa *out)
{
    adze_status st = ADZE_OK;
    REQUIRE(wanted >= ADZE_ISA_AUTO && wanted <= ADZE_ISA_AVX512_BF16, ADZE_EINVAL, "isa: %d is none", (int)wanted);
    REQUIRE(adze_isa_available(wanted), ADZE_EBACKEND, "isa: this machine has no %s", adze_isa_name(wanted));
    *out = wanted;
    if (wanted == ADZE_ISA_AUTO) {
        *out = ADZE_ISA_AVX512_BF16;
        while (!adze_isa_available(*out)) *out = (adze_isa)(*out - 1);
    }
done:
    return st;
}

const char *adze_isa_name(adze_isa isa)
{
    static const char *const names[] = { "auto", "reference", "avx2", "avx512", "avx512-bf16" };
    return isa >= ADZE_ISA_AUTO && isa <= ADZE_ISA_AVX512_BF16 ? names[isa] : "unknown";
}

int adze_threads_resolve(int wanted)
{
    return wanted > 0 ? wanted : omp_get_max_threads();
}
