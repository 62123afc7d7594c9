/* The only header through which *_avx512*.c files see intrinsics.
 *
 * Natively it is immintrin.h. Under -DPQ_SIMDE (the emulated test build, AVX2 flags) the names map
 * to SIMDe. SIMDe 0.7.4 lacks some of them; what the kernels use today is there, so nothing is
 * written out here. Emulated kernels are held to their references (`make check SIMDE=1`); a
 * fallback added below needs a test of its own on random vectors.
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
