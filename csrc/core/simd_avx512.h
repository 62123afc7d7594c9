/* The only header through which *_avx512*.c files see intrinsics.
 *
 * Natively it is immintrin.h. Under -DPQ_SIMDE (the emulated test build, AVX2 flags) the names map
 * to SIMDe, and what SIMDe 0.7.4 lacks to simd_avx512_missing.h. Masks are plain unsigned integers:
 * combine them with C's operators, not with _k*.
 *
 * A kernel that needs one more intrinsic: call it; if the emulated build does not know it, one
 * entry in simd_avx512_missing.h; then one row in tests/test_simd_*avx512*.c, which a structure
 * test demands.
 */
#ifndef PYQUANT_CORE_SIMD_AVX512_H
#define PYQUANT_CORE_SIMD_AVX512_H

#if !defined(PQ_SIMDE)

#include <immintrin.h>

#else

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

#include "core/simd_avx512_missing.h"

#endif
#endif
