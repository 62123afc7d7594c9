/* Which instruction sets this machine has, and which of them we may use.
 *
 * A kernel row in csrc/core/kernels.def names what it needs as a set of these bits; a row is
 * eligible if all bits are present and inside the limit. The last eligible row wins.
 */
#ifndef PYQUANT_CPU_H
#define PYQUANT_CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pyquant/status.h"

enum {
    PQ_CPU_AVX2 = 1u << 0, /* AVX2 and the OS saves ymm */
    PQ_CPU_FMA = 1u << 1,
    PQ_CPU_AVX512 = 1u << 2,     /* F + BW + VL + DQ, and the OS saves zmm and masks */
    PQ_CPU_AVX512VNNI = 1u << 3, /* vpdpbusd on zmm (VNNI without VBMI exists: VBMI is not implied) */
    PQ_CPU_NEON = 1u << 4,
    PQ_CPU_DOTPROD = 1u << 5
};

/* Order slow -> fast. "ref" is always eligible. */
typedef enum pq_isa {
    PQ_ISA_REF = 0,
    PQ_ISA_AVX2,
    PQ_ISA_AVX512,
    PQ_ISA_AVX512VNNI,
    PQ_ISA_NEON,
    PQ_ISA_NEONDOT,
    PQ_ISA_COUNT
} pq_isa;

/* Bits present, detected once (cpuid + xgetbv, or getauxval). */
uint32_t pq_cpu_features(void);

/* Bytes of the caches that one core sees: its own level 1 data cache and level 2, and a level 3
 * that it may share. Never 0: where the system does not tell, sizes that most cores have. */
typedef struct pq_cache_sizes {
    size_t l1d, l2, l3;
} pq_cache_sizes;

pq_cache_sizes pq_cpu_caches(void);
/* Test hook: what pq_cpu_caches returns from now on; NULL: the truth again. Results do not depend
 * on it. Not for use while other threads pack or run. */
void pq_cpu_caches_set(const pq_cache_sizes *sizes);

/* "ref", "avx2", "avx512", "avx512vnni", "neon", "neondot". */
const char *pq_isa_name(pq_isa isa);

/* Limits the choice to `name` and what is slower on the same architecture; NULL or "" lifts the
 * limit. PQ_ERR_VALUE for a name that does not exist, PQ_ERR_UNSUPPORTED for an ISA that this
 * machine lacks (the limit then stays as it was). Initial value: the environment variable
 * PYQUANT_ISA, read by the binding and the shim when they load. Affects weights packed and
 * programs loaded afterwards. */
PQ_NODISCARD pq_status pq_isa_limit(const char *name);

/* The highest ISA that is present and allowed. */
pq_isa pq_isa_active(void);

/* True if a kernel of this ISA with these needs may run now. */
bool pq_isa_eligible(pq_isa isa, uint32_t needs);

/* One row of kernels.def, for tests, benchmarks and `pyquant info`. */
typedef struct pq_kernel_row {
    const char *op;
    pq_isa isa;
    uint32_t needs;
    bool eligible;
} pq_kernel_row;

/* Number of rows; fills up to `capacity` of them. */
int pq_kernel_rows(pq_kernel_row *rows, int capacity);

#endif
