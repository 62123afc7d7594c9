/* The only header through which *_avx512*.c files see intrinsics.
 *
 * Natively it is immintrin.h. Under -DPQ_SIMDE (the emulated test build, AVX2 flags) the names map
 * to SIMDe, and to plain C below where SIMDe 0.7.4 lacks them. Each wrapper is tested on random
 * vectors against scalar code (csrc/tests/test_simd_avx512.c).
 */
#ifndef PYQUANT_CORE_SIMD_AVX512_H
#define PYQUANT_CORE_SIMD_AVX512_H

#if !defined(PQ_SIMDE)

#include <immintrin.h>

#else

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

#endif
#endif
