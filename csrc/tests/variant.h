/* Which rows of kernels.def a test can run here: the machine's own, and in the emulated build
 * (SIMDE=1) those of AVX-512 on any machine. */
#ifndef PYQUANT_TESTS_VARIANT_H
#define PYQUANT_TESTS_VARIANT_H

#include "core/dispatch.h"

/* The kernel, or NULL where there is none or it cannot run. */
static inline const void *variant_of(pq_kernel_op op, pq_isa isa) {
#ifdef PQ_TEST_SIMDE
    const bool emulated = isa == PQ_ISA_AVX512 || isa == PQ_ISA_AVX512VNNI;
#else
    const bool emulated = false;
#endif
    return emulated || pq_isa_eligible(isa, 0) ? pq_kernel_find(op, isa) : NULL;
}

#endif
