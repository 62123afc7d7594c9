#include "pyquant/cpu.h"

#include <stdatomic.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

#if defined(__x86_64__)

/* XCR0: which registers the operating system saves. A CPU bit without it is of no use. */
static uint64_t read_xcr0(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return ((uint64_t)high << 32) | low;
}

static bool has(uint32_t word, int bit) {
    return (word >> bit & 1u) != 0;
}

static uint32_t detect(void) {
    uint32_t eax, ebx, ecx, edx;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx)) {
        return 0;
    }
    const bool osxsave = has(ecx, 27), avx = has(ecx, 28), fma = has(ecx, 12);
    if (!osxsave || !avx || !__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) {
        return 0;
    }
    enum { XMM_YMM = 0x06, OPMASK_ZMM = 0xe0 };
    const uint64_t xcr0 = read_xcr0();
    uint32_t features = 0;
    if ((xcr0 & XMM_YMM) == XMM_YMM) {
        features |= has(ebx, 5) ? PQ_CPU_AVX2 : 0u;
        features |= fma ? PQ_CPU_FMA : 0u;
        const bool f_dq_bw_vl = has(ebx, 16) && has(ebx, 17) && has(ebx, 30) && has(ebx, 31);
        if ((xcr0 & OPMASK_ZMM) == OPMASK_ZMM && f_dq_bw_vl) {
            features |= PQ_CPU_AVX512;
            features |= has(ecx, 11) ? PQ_CPU_AVX512VNNI : 0u;
        }
    }
    return features;
}

#elif defined(__aarch64__)

static uint32_t detect(void) {
    enum { ASIMD = 1 << 1, ASIMDDP = 1 << 20 }; /* HWCAP bits of the Linux AArch64 ABI */
    const unsigned long hwcap = getauxval(AT_HWCAP);
    return ((hwcap & ASIMD) != 0 ? PQ_CPU_NEON : 0u) | ((hwcap & ASIMDDP) != 0 ? PQ_CPU_DOTPROD : 0u);
}

#else

static uint32_t detect(void) {
    return 0;
}

#endif

/* What the emulated test build can run anywhere: csrc/core/simd_avx512.h, simd_neon.h. */
#if defined(PQ_TEST_SIMDE)
enum { EMULATED = PQ_CPU_AVX512 | PQ_CPU_AVX512VNNI | PQ_CPU_NEON | PQ_CPU_DOTPROD };
#else
enum { EMULATED = 0 };
#endif

uint32_t pq_cpu_features(void) {
    enum { DETECTED = 1u << 30 };
    /* Two threads that race here compute and store the same word: no lock is needed. */
    static atomic_uint cached;
    uint32_t features = atomic_load_explicit(&cached, memory_order_relaxed);
    if (features == 0) {
        features = detect() | EMULATED | DETECTED;
        atomic_store_explicit(&cached, features, memory_order_relaxed);
    }
    return features & ~(uint32_t)DETECTED;
}

static const struct {
    const char *name;
    uint32_t needs;
} isas[PQ_ISA_COUNT] = {
    [PQ_ISA_REF] = {"ref", 0},
    [PQ_ISA_AVX2] = {"avx2", PQ_CPU_AVX2},
    [PQ_ISA_AVX512] = {"avx512", PQ_CPU_AVX512},
    [PQ_ISA_AVX512VNNI] = {"avx512vnni", PQ_CPU_AVX512 | PQ_CPU_AVX512VNNI},
    [PQ_ISA_NEON] = {"neon", PQ_CPU_NEON},
    [PQ_ISA_NEONDOT] = {"neondot", PQ_CPU_NEON | PQ_CPU_DOTPROD},
};

/* One order serves both architectures, because a machine never has an ISA of the other one. */
static atomic_int limit = PQ_ISA_COUNT - 1;

static bool present(uint32_t needs) {
    return (pq_cpu_features() & needs) == needs;
}

const char *pq_isa_name(pq_isa isa) {
    return (unsigned)isa < PQ_ISA_COUNT ? isas[isa].name : "unknown";
}

pq_status pq_isa_limit(const char *name) {
    if (name == NULL || name[0] == '\0') {
        atomic_store(&limit, PQ_ISA_COUNT - 1);
        return PQ_OK;
    }
    for (int isa = 0; isa < PQ_ISA_COUNT; isa++) {
        if (strcmp(name, isas[isa].name) == 0) {
            if (!present(isas[isa].needs)) {
                return PQ_ERR_UNSUPPORTED;
            }
            atomic_store(&limit, isa);
            return PQ_OK;
        }
    }
    return PQ_ERR_VALUE;
}

bool pq_isa_eligible(pq_isa isa, uint32_t needs) {
    /* The ISA's own bits count too: a row that forgets one must not end in SIGILL. */
    return (unsigned)isa < PQ_ISA_COUNT && (int)isa <= atomic_load(&limit) &&
           present(needs | isas[isa].needs);
}

pq_isa pq_isa_active(void) {
    int isa = PQ_ISA_COUNT - 1;
    while (isa > PQ_ISA_REF && !pq_isa_eligible((pq_isa)isa, 0)) {
        isa--;
    }
    return (pq_isa)isa;
}
